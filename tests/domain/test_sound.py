"""Recordings cut into pieces: channels apart, in every coding, at quiet moments; MP3 between frames; broken files are no crash."""

import struct

import pytest

from gateway.domain import sound
from gateway.domain.audio import ALAW, MULAW, PCM, Format
from gateway.domain.sound import Samples, cut_mp3, cut_wav, find_samples
from tests.sound import wav

FRAME = b"\xff\xfb\x90\x00" + bytes(413)  # MPEG 1, layer III, 128 kbit/s at 44.1 kHz: 417 bytes, 26 ms


def samples(piece: sound.Piece, place: int = 0) -> tuple[int, ...]:
    content = piece.parts[place].content
    assert content[:4] == b"RIFF"
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    return struct.unpack(f"<{(len(content) - 44) // 2}h", content[44:])


@pytest.mark.parametrize(
    ("form", "data", "expected"),
    [
        (Format(PCM, 8000, 2, 2), struct.pack("<3h", 1000, -32768, 7), (1000, -32768, 7)),
        (Format(PCM, 8000, 1, 1), bytes([128, 255, 0]), (0, 32512, -32768)),
        (Format(PCM, 8000, 3, 3), b"\x09\xe8\x03\x09\x00\x80", (1000, -32768)),
        (Format(PCM, 8000, 4, 4), b"\x09\x09\xe8\x03", (1000,)),
        (Format(ALAW, 8000, 1, 1), bytes([0xD5, 0x55, 0xAA, 0x2A]), (8, -8, 32256, -32256)),
        (Format(MULAW, 8000, 1, 1), bytes([0xFF, 0x80, 0x00]), (0, 32124, -32124)),
    ],
)
def test_every_coding_becomes_sixteen_bits(form: Format, data: bytes, expected: tuple[int, ...]) -> None:
    assert samples(cut_wav(form, data, last=True)) == expected


def test_channels_are_apart_and_silence_is_left_out() -> None:
    loud, quiet = (3000, -3000, 2000), (10, -10, 5)
    both = struct.pack("<6h", *(one for pair in zip(loud, quiet, strict=True) for one in pair))
    piece = cut_wav(Format(PCM, 8000, 4, 2), both + b"\1", last=True)
    assert [(part.channel, samples(piece)) for part in piece.parts] == [(1, loud)]
    assert (piece.size, piece.seconds) == (12, 3 / 8000)
    assert cut_wav(Format(PCM, 8000, 4, 2), b"", last=True).parts == ()


def test_a_piece_ends_where_it_is_quiet() -> None:
    second, pause = struct.pack("<8000h", *([3000, -3000] * 4000)), bytes(8000)
    data = second * 10 + pause + second * 3
    piece = cut_wav(Format(PCM, 8000, 2, 2), data, last=False)
    assert 10.0 <= piece.seconds <= 10.5
    assert piece.size == len(samples(piece)) * 2


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (wav(1.0), 16_000),
        (wav(1.0, more=b"LIST" + struct.pack("<I", 5) + b"xxxxx\0"), 16_000),
        (wav(1.0, code=6, body=bytes(8000)), 8000),
        (wav(1.0)[:1044], 1000),
        (wav(1.0).replace(struct.pack("<I", 16_000), b"\xff\xff\xff\xff"), 16_000),
        (wav(1.0, code=49, body=bytes(650)), None),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", None),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"ID3\4", None),
        (b"", None),
    ],
)
def test_where_the_samples_lie(data: bytes, found: int | None) -> None:
    samples = find_samples(data, len(data))
    assert (samples.size if samples is not None else None) == found


def test_pieces_stay_below_what_servers_take() -> None:
    for rate in (8000, 16_000, 48_000, 192_000):
        size = Samples(Format(PCM, rate, 4, 2), 44, 0).piece_size
        assert size % 4 == 0
        assert size / 2 <= sound.PIECE_BYTES


def test_mp3_is_cut_between_frames() -> None:
    tagged = b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + FRAME * 1000
    whole = cut_mp3(tagged, last=True)
    assert whole is not None
    assert (whole.size, round(whole.seconds, 2)) == (len(tagged), 26.12)
    long = cut_mp3(FRAME * 14_000, last=True)
    assert long is not None
    assert long.size % len(FRAME) == 0
    assert long.seconds == pytest.approx(sound.PIECE_S, abs=0.03)
    assert long.size < len(FRAME) * 14_000
    torn = cut_mp3(b"noise\xff\xff" + FRAME * 3 + FRAME[:100], last=False)
    assert torn is not None
    assert torn.size == 7 + 3 * len(FRAME)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xfb", b"no frames at all" * 9, b"\xff" * 5000, b"ID3\4\0\0\x7f\x7f\x7f\x7f"]
)
def test_what_holds_no_frames(data: bytes) -> None:
    assert cut_mp3(data, last=True) is None
