"""Sounds for tests: WAV files of a tone, in the codings that PBXes write."""

import math
import struct
from functools import cache


def tone(seconds: float, rate: int = 8000, loud: float = 0.5) -> list[int]:
    """16-bit samples of 440 Hz that grow louder from nothing."""
    count = int(seconds * rate)
    return [int(32767 * loud * (n / count) * math.sin(2 * math.pi * 440 * n / rate)) for n in range(count)]


def wav(
    seconds: float = 2.0, rate: int = 8000, *, code: int = 1, body: bytes | None = None, more: bytes = b""
) -> bytes:
    """A whole file; `more` are chunks before the samples."""
    if body is None:
        body = struct.pack(f"<{int(seconds * rate)}h", *tone(seconds, rate))
    width = 2 if code == 1 else 1
    fmt = struct.pack("<HHIIHH", code, 1, rate, rate * width, width, width * 8)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + more + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


TURN_S = 1.6


def dialogue(seconds: float, rate: int = 8000) -> bytes:
    """Two voices that take turns, as 16-bit samples: what a call sounds like to somebody who does not know the language."""
    both = _turn(145.0, rate) + _turn(215.0, rate)
    length = 2 * int(seconds * rate)
    return (both * (length // len(both) + 1))[:length]


@cache
def _turn(pitch: float, rate: int) -> bytes:
    samples = []
    for n in range(int(TURN_S * rate)):
        at = n / rate
        syllable = abs(math.sin(math.pi * at * 3.7)) if at < TURN_S - 0.3 else 0.0
        samples.append(int(6000 * syllable * sum(math.sin(2 * math.pi * pitch * k * at) / k for k in (1, 2, 3, 5))))
    return struct.pack(f"<{len(samples)}h", *samples)
