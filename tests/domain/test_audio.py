"""What a file of sound is, whole or in whatever pieces it comes, and whatever is wrong with it."""

import math
import random
import struct

import pytest

from gateway.domain.audio import PEAKS, Waveform, content_type, sniffed
from tests.sound import tone, wav


def measured(data: bytes, piece: int) -> tuple[float | None, bytes | None]:
    wave = Waveform()
    for at in range(0, len(data), piece):
        wave.feed(data[at : at + piece])
    peaks = wave.peaks
    return wave.duration_s, peaks


@pytest.mark.parametrize("piece", [1, 7, 4096, 1 << 20])
def test_a_tone_that_grows_louder_grows_from_left_to_right(piece: int) -> None:
    duration, peaks = measured(wav(0.5 if piece == 1 else 2.0), piece)
    assert duration == pytest.approx(0.5 if piece == 1 else 2.0)
    assert peaks is not None
    assert 500 <= len(peaks) <= PEAKS
    assert peaks[0] < 5
    assert 115 <= max(peaks[-20:]) <= 130, "half as loud as can be"


def test_pieces_make_no_difference() -> None:
    data = wav(1.0, more=b"LIST" + struct.pack("<I", 5) + b"notes\0")
    assert len({measured(data, piece) for piece in (1, 3, 44, 45, 999, len(data))}) == 1


def test_the_codings_of_telephony() -> None:
    def mulaw(sample: int) -> int:
        sign, size = (0x80, -sample) if sample < 0 else (0, sample)
        size = min(size, 32635) + 0x84
        exponent = int(math.log2(size)) - 7
        return ~(sign | (exponent << 4) | ((size >> (exponent + 3)) & 0x0F)) & 0xFF

    body = bytes(mulaw(sample) for sample in tone(1.0))
    duration, peaks = measured(wav(rate=8000, code=7, body=body), 1000)
    linear = measured(wav(1.0), 1000)[1]
    assert duration == pytest.approx(1.0)
    assert peaks is not None
    assert linear is not None
    assert all(abs(a - b) <= 8 for a, b in zip(peaks, linear, strict=True)), (
        "as loud as the same sound in linear samples"
    )
    quiet = measured(wav(code=6, body=b"\xd5" * 8000), 1000)[1]
    loud = measured(wav(code=6, body=b"\xaa" * 8000), 1000)[1]
    assert quiet is not None
    assert loud is not None
    assert max(quiet) <= 1
    assert min(loud) >= 250


def test_a_length_that_nobody_filled_in_is_found_out() -> None:
    data = bytearray(wav(1.0))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    duration, _ = measured(bytes(data), 4096)
    assert duration is None or duration == pytest.approx(1.0)
    cut = wav(2.0)[: 44 + 16000]
    assert measured(cut, 4096)[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\x10\0\0\0" + b"x" * 16,
        b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + b"\0" * 16, b"ID3 something else",
        wav(body=b"", seconds=0), b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xffx",
    ],
)  # fmt: skip
def test_what_is_no_sound_has_no_waveform(data: bytes) -> None:
    for piece in (1, 1000):
        assert measured(data, piece)[1] is None


def test_noise_never_breaks_it() -> None:
    rng = random.Random(5)
    for _ in range(300):
        data = bytearray(wav(0.02))
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(min(len(data), 60))] = rng.randrange(256)
        measured(bytes(data), rng.randrange(1, 500))


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "x", "audio/wav"), (b"OggS\0", "x.mp3", "audio/ogg"), (b"ID3\4", "", "audio/mpeg"),
        (b"\xff\xfb\x90\0", "", "audio/mpeg"), (b"\xd0\1", "call.GSM", "audio/x-gsm"), (b"fLaC", "", "audio/flac"),
        (b"<!doctype html>", "call", "application/octet-stream"), (b"<svg>", "a.svg", "application/octet-stream"),
        (b"", "", "application/octet-stream"),
    ],
)  # fmt: skip
def test_types(head: bytes, name: str, kind: str) -> None:
    assert content_type(head, name) == kind


def test_a_page_is_no_sound() -> None:
    assert sniffed(b"<html><body>404") is None
