"""Sounds for tests: WAV files of a tone, in the codings that PBXes write."""

import math
import struct


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
