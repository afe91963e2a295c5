"""What a file of sound is, from its bytes: its type, and for WAV how long it lasts and how loud it is over time.

Pure and streaming: `Waveform` is fed the pieces as they come and keeps only what it has not looked at yet. It looks at
samples in plain PCM, A-law and µ-law; of anything else it returns None. Broken files are normal input.
"""

import sys
from array import array
from dataclasses import dataclass

PEAKS = 600
_LOOKED_AT = 2000
"""Samples looked at for one peak: of a long recording every so-many-th."""

_TYPES = {
    "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg",
    "gsm": "audio/x-gsm", "m4a": "audio/mp4", "flac": "audio/flac",
}  # fmt: skip
UNKNOWN = "application/octet-stream"
PLAYABLE = frozenset({"audio/wav", "audio/mpeg", "audio/ogg", "audio/mp4", "audio/flac"})
"""What browsers play."""

_EXTENSIONS = {
    "audio/wav": "wav", "audio/mpeg": "mp3", "audio/ogg": "ogg", "audio/x-gsm": "gsm", "audio/mp4": "m4a",
    "audio/flac": "flac",
}  # fmt: skip


def sniffed(head: bytes) -> str | None:
    """The type that the first bytes show, or None."""
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"OggS":
        return "audio/ogg"
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    if head[:3] == b"ID3" or (len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "audio/mpeg"
    return None


def content_type(head: bytes, name: str) -> str:
    """By the bytes, else by the name's ending; never what the sender claims."""
    return sniffed(head) or _TYPES.get(name.rpartition(".")[2].lower(), UNKNOWN)


def extension(kind: str) -> str:
    """The ending of a file of this type."""
    return _EXTENSIONS.get(kind, "bin")


PCM, ALAW, MULAW, _EXTENSIBLE = 1, 6, 7, 0xFFFE


def _alaw(code: int) -> int:
    code ^= 0x55
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    size = (mantissa << 4) + 8 if exponent == 0 else ((mantissa << 4) + 0x108) << (exponent - 1)
    return min(255, size >> 7)


def _mulaw(code: int) -> int:
    code = ~code & 0xFF
    exponent, mantissa = (code & 0x70) >> 4, code & 0x0F
    return min(255, ((((mantissa << 3) + 0x84) << exponent) - 0x84) >> 7)


_LOUDNESS = {ALAW: bytes(map(_alaw, range(256))), MULAW: bytes(map(_mulaw, range(256)))}


@dataclass(slots=True)
class Format:
    """How samples are written: bytes of one sample (`width`), and of one of every channel (`frame`)."""

    code: int
    rate: int
    frame: int
    width: int


class Waveform:
    """Fed a whole file in pieces; afterwards `duration_s` and `peaks` hold what was found, or None and nothing."""

    def __init__(self) -> None:
        self.duration_s: float | None = None
        self._buffer = bytearray()
        self._format: Format | None = None
        self._state = "riff"
        self._skip = 0
        self._declared = 0
        self._seen = 0
        self._bucket = 0
        self._loudest = bytearray()

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._state in ("done", "none"):
            return
        self._buffer += data
        while self._step():
            pass

    @property
    def peaks(self) -> bytes | None:
        """At most 600 bytes; None where the samples could not be read."""
        if self._state == "data":
            self._measure(whole=True)
        if self._format is None or not self._loudest:
            return None
        if self._declared >= 0xFFFF0000 or self._seen < self._declared:
            self.duration_s = self._seen / self._format.frame / self._format.rate
        return bytes(self._loudest[:PEAKS])

    def _step(self) -> bool:
        """Takes one thing off the buffer; False where more has to come first."""
        buffer = self._buffer
        match self._state:
            case "riff":
                if len(buffer) < 12:
                    return False
                # RIFX would be the other byte order, and nobody records in it.
                self._state = "chunk" if buffer[:4] == b"RIFF" and buffer[8:12] == b"WAVE" else "none"
                del buffer[:12]
            case "skip":
                gone = min(self._skip, len(buffer))
                del buffer[:gone]
                self._skip -= gone
                if self._skip:
                    return False
                self._state = "chunk"
            case "chunk":
                return self._chunk()
            case "data":
                self._measure(whole=False)
                return False
            case _:
                buffer.clear()
                return False
        return True

    def _chunk(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        name, size = bytes(buffer[:4]), int.from_bytes(buffer[4:8], "little")
        if name == b"fmt ":
            if not 16 <= size <= 256:
                self._state = "none"
                return True
            if len(buffer) < 8 + size:
                return False
            self._format = read_format(bytes(buffer[8 : 8 + size]))
            if self._format is None:
                self._state = "none"
                return True
            self._state, self._skip = "skip", size + (size & 1)
            del buffer[:8]
        elif name == b"data":
            del buffer[:8]
            if self._format is None:
                self._state = "none"
                return True
            self._declared = size
            self.duration_s = size / self._format.frame / self._format.rate if size < 0xFFFF0000 else None
            frames = max(1, size // self._format.frame)
            self._bucket = max(1, -(-frames // PEAKS)) * self._format.frame
            self._state = "data"
        else:
            self._state, self._skip = "skip", size + (size & 1)
            del buffer[:8]
        return True

    def _measure(self, *, whole: bool) -> None:
        form = self._format
        assert form is not None
        left = (self._declared - self._seen) // form.frame * form.frame
        while len(self._loudest) < PEAKS and left > 0:
            size = min(self._bucket, left)
            if len(self._buffer) < size:
                if not whole:
                    return
                size = len(self._buffer) - len(self._buffer) % form.frame
                if not size:
                    break
            self._loudest.append(_loudness(form, bytes(self._buffer[:size])))
            del self._buffer[:size]
            self._seen += size
            left -= size
        self._state = "done"
        self._buffer.clear()


def read_format(body: bytes) -> Format | None:
    """A chunk `fmt `; None where the samples are of a kind that is not looked at."""
    code, channels = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
    rate, width = int.from_bytes(body[4:8], "little"), int.from_bytes(body[14:16], "little") // 8
    if code == _EXTENSIBLE and len(body) >= 26:
        code = int.from_bytes(body[24:26], "little")
    fits = (code == PCM and width in (1, 2, 3, 4)) or (code in _LOUDNESS and width == 1)
    if not fits or not 1 <= channels <= 8 or not 1000 <= rate <= 400_000:
        return None
    return Format(code, rate, channels * width, width)


def _loudness(form: Format, data: bytes) -> int:
    """The loudest sample, 0 to 255, among those looked at."""
    if form.code in _LOUDNESS:
        return max(data[:: max(1, len(data) // _LOOKED_AT)].translate(_LOUDNESS[form.code]))
    if form.width == 1:  # eight bits are unsigned
        looked = data[:: max(1, len(data) // _LOOKED_AT)]
        return min(255, max(max(looked) - 128, 128 - min(looked)) * 2)
    if form.width == 2:
        samples = array("h", data[: len(data) // 2 * 2])
        if sys.byteorder == "big":
            samples.byteswap()
        some = samples[:: max(1, len(samples) // _LOOKED_AT)]
        return min(255, max(max(some), -min(some)) >> 7)
    # Of 24 and 32 bits the top byte is enough.
    step = form.width * max(1, len(data) // form.width // _LOOKED_AT)
    tops = [top - 256 if top > 127 else top for top in data[form.width - 1 :: step]]
    return min(255, max(max(tops), -min(tops)) * 2)
