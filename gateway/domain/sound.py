"""Recordings cut into pieces that a server for transcription takes: one file for each channel, cut where it is quiet.

    WAV (PCM, A-law, µ-law)   each channel as 16-bit WAV of its own; silence is left out, equal channels are one
    MP3                       cut between frames; its channels stay together
    anything else             as it is, where it is small enough

Pure and blocking: a piece takes some tens of milliseconds. Broken files are normal input. Read `audio.py` for a file's type,
`actors/ai/transcribing.py` for who sends the pieces.
"""

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.audio import ALAW, MULAW, Format, extension, read_format

PIECE_S = 300.0
"""Of one piece. Servers limit files to 25 MB, some of them also to 25 minutes."""
PIECE_BYTES = 6_000_000
"""Of one file that is sent."""
WHOLE_BYTES = 24_000_000
"""Of a file that cannot be cut."""
HEAD_BYTES = 65_536
"""Where the samples of a WAV file have to begin."""
CUT_WITHIN_S = 15.0
"""Before the end of a piece, where the quietest moment is looked for."""
_WINDOW_S = 0.1
SILENCE = 150
"""Of 32767: a channel that is nowhere louder holds no speech. Noise of a line is some tens."""
UNSPLIT = 0
"""The channel of sound that is not apart."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file to be sent: the sound of a channel, counted from 1, or of all of them (`UNSPLIT`)."""

    channel: int
    content: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recording. `parts` is empty where there is only silence. `size` is what it takes of the file, in bytes."""

    parts: tuple[Part, ...]
    seconds: float
    size: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Where a WAV file's samples lie, in bytes."""

    format: Format
    start: int
    size: int

    @property
    def piece_size(self) -> int:
        """Bytes that make one piece."""
        frames = int(min(PIECE_S, PIECE_BYTES / 2 / self.format.rate) * self.format.rate)
        return frames * self.format.frame


def find_samples(head: bytes, size: int) -> Samples | None:
    """The samples of a WAV file of `size` bytes; None for any other file, and for codings that are not read here."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, form = 12, None
    while at + 8 <= len(head):
        name, length = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        at += 8
        if name == b"data":
            # A writer that died, or that did not know the length, leaves a wrong one.
            return Samples(form, at, max(0, min(length, size - at))) if form is not None else None
        if name == b"fmt ":
            form = read_format(head[at : at + length])
            if form is None:
                return None
        at += length + (length & 1)
    return None


def cut_wav(form: Format, data: bytes, *, last: bool) -> Piece:
    """A piece of the samples. All of `data` where it is the last; else up to a quiet moment near its end."""
    frames = len(data) // form.frame
    channels = [_channel(form, data[: frames * form.frame], number) for number in range(form.frame // form.width)]
    if not last:
        frames = _quiet(channels, form.rate)
        channels = [one[: 2 * frames] for one in channels]
    same = len(channels) > 1 and all(one == channels[0] for one in channels[1:])
    if same or len(channels) == 1:
        found = [(UNSPLIT, channels[0])] if channels else []
    else:
        found = list(enumerate(channels, 1))
    parts = tuple(
        Part(number, _wav(samples, form.rate), "sound.wav") for number, samples in found if _loudest(samples) > SILENCE
    )
    return Piece(parts, frames / form.rate, frames * form.frame)


def _channel(form: Format, data: bytes, number: int) -> bytes:
    """One channel's samples as 16 bits, little-endian."""
    at, width, frame = number * form.width, form.width, form.frame
    if width > 1:  # of 24 and 32 bits the two upper bytes
        low, high = data[at + width - 2 :: frame], data[at + width - 1 :: frame]
    else:
        lows, highs = _TABLES[form.code if form.code in _TABLES else _UNSIGNED]
        one = data[at::frame]
        low, high = one.translate(lows), one.translate(highs)
    made = bytearray(2 * len(high))
    made[0::2], made[1::2] = low[: len(high)], high
    return bytes(made)


def _alaw(code: int) -> int:
    positive, code = code & 0x80, code ^ 0x55
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    size = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return size if positive else -size


def _mulaw(code: int) -> int:
    code = ~code & 0xFF
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    size = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return -size if code & 0x80 else size


_UNSIGNED = 0


def _tables(samples: Sequence[int]) -> tuple[bytes, bytes]:
    """The lower and the upper byte of each code's sample."""
    return bytes(one & 0xFF for one in samples), bytes((one >> 8) & 0xFF for one in samples)


_TABLES = {
    ALAW: _tables([_alaw(code) for code in range(256)]),
    MULAW: _tables([_mulaw(code) for code in range(256)]),
    _UNSIGNED: _tables([(code - 128) << 8 for code in range(256)]),
}


def _values(samples: bytes) -> "array[int]":
    values = array("h", samples)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _loudest(samples: bytes) -> int:
    values = _values(samples)
    return max(max(values), -min(values)) if values else 0


def _quiet(channels: Sequence[bytes], rate: int) -> int:
    """The frame near the end where it is quietest in all channels; the latest of equal ones."""
    frames, window = len(channels[0]) // 2, max(1, int(_WINDOW_S * rate))
    first = max(window, frames - int(CUT_WITHIN_S * rate))
    if frames - first < window:
        return frames
    best, found = None, frames
    for at in range(first, frames - window + 1, window):
        loud = max(_loudest(one[2 * at : 2 * (at + window)]) for one in channels)
        if best is None or loud <= best:
            best, found = loud, at + window // 2
    return found


def _wav(samples: bytes, rate: int) -> bytes:
    fmt = b"".join(
        value.to_bytes(size, "little") for value, size in ((1, 2), (1, 2), (rate, 4), (2 * rate, 4), (2, 2), (16, 2))
    )
    head = b"WAVEfmt " + len(fmt).to_bytes(4, "little") + fmt + b"data" + len(samples).to_bytes(4, "little")
    return b"RIFF" + (len(head) + len(samples)).to_bytes(4, "little") + head + samples


# Files of other kinds


def whole(data: bytes, content_type: str, seconds: float) -> Piece:
    """A file as it is."""
    return Piece((Part(UNSPLIT, data, f"sound.{extension(content_type)}"),), seconds, len(data))


_KBIT = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)
_LAYER_3, _MPEG_1, _MPEG_2, _MPEG_25 = 1, 3, 2, 0


def cut_mp3(data: bytes, *, last: bool) -> Piece | None:
    """The whole frames at the beginning, as many as make a piece. With `last` all that is left, where it is short enough. None where
    there are no frames of layer III."""
    at, seconds, begun = _behind_tag(data), 0.0, False
    while at + 4 <= len(data) and at <= PIECE_BYTES and seconds < PIECE_S:
        frame = _frame(data, at)
        if frame is None:
            following = data.find(b"\xff", at + 1)
            if following < 0:
                break
            at = following
            continue
        if at + frame[0] > len(data):
            break
        begun = True
        at += frame[0]
        seconds += frame[1]
    if not begun:
        return None
    size = len(data) if last and len(data) - at < 4096 else at
    return Piece((Part(UNSPLIT, data[:size], "sound.mp3"),), seconds, size)


def _behind_tag(data: bytes) -> int:
    """Where the sound begins: players put names and pictures before it."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for one in data[6:10]:
        size = size << 7 | one & 0x7F
    return min(len(data), 10 + size)


def _frame(data: bytes, at: int) -> tuple[int, float] | None:
    """Bytes and seconds of the frame that begins there."""
    if data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    kbit, rate, padding = data[at + 2] >> 4, data[at + 2] >> 2 & 3, data[at + 2] >> 1 & 1
    if layer != _LAYER_3 or version not in (_MPEG_1, _MPEG_2, _MPEG_25) or not 1 <= kbit <= 14 or rate == 3:
        return None
    hertz = _RATES[rate] >> {_MPEG_1: 0, _MPEG_2: 1, _MPEG_25: 2}[version]
    bits, samples = (_KBIT, 1152) if version == _MPEG_1 else (_KBIT_LOW, 576)
    return samples // 8 * bits[kbit - 1] * 1000 // hertz + padding, samples / hertz
