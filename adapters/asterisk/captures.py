"""What people hand over as a capture of an AMI stream, made into the bytes that Asterisk sent. Pure.

Read are: a stream as it came; what telnet, PuTTY or `script` wrote before it and after it; line ends that an editor or a
download changed (LF, CR, CR CR LF); UTF-16 as PowerShell writes it; a capture that begins in the middle of a message.
Anything else is refused with a sentence. Read `replay.py` next.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from adapters.asterisk.protocol import BANNER
from gateway.domain.errors import RemoteProtocolError

_BANNER = re.compile(re.escape(BANNER) + rb"[^\r\n]{0,100}\r?\n")
_FIRST = re.compile(rb"(?:\A[\r\n]*|\r\n\r\n)(?=(?:Event|Response): )")
_MESSAGE = re.compile(rb"^(?:Event|Response): ", re.MULTILINE)
_LONE_LF = re.compile(rb"(?<!\r)\n")
_PCAP = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")


@dataclass(frozen=True, slots=True)
class Capture:
    """A stream as Asterisk sent it."""

    data: bytes
    sessions: tuple[tuple[int, int, bool], ...]
    """Where each connection begins and ends, and whether its banner is there."""
    offsets: tuple[int, ...]
    """Where the reads begin that the index names."""


def read_capture(raw: bytes, offsets: list[int], covered: int) -> Capture:
    """`offsets` are those of the index, and `covered` is how many bytes it describes. Raises RemoteProtocolError for what
    is no capture, in words for a person."""
    if not raw.strip():
        raise RemoteProtocolError("this is not an AMI capture: the file is empty")
    if raw.startswith(_PCAP):
        raise RemoteProtocolError(
            "this is a packet capture and not an AMI capture: take the stream out of it first, such as by "
            "tshark -r FILE -q -z follow,tcp,raw,0"
        )
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw = raw.decode("utf-16", "replace").encode()
    if b"\0" in raw:
        raise RemoteProtocolError("this is not an AMI capture: the file holds binary data")
    convert = _line_ends(raw)
    data = convert(raw)
    if covered == len(raw) and convert is not _same and convert is not _doubled:
        edges = [0, *(offset for offset in offsets if 0 < offset < len(raw)), len(raw)]
        places, at = {0: 0}, 0
        for begin, end in pairwise(edges):
            at += len(convert(raw[begin:end]))
            places[end] = at
        offsets = [places.get(offset, offset) for offset in offsets]
    starts = [found.start() for found in _BANNER.finditer(data)]
    sessions = [(start, stop, True) for start, stop in pairwise([*starts, len(data)])]
    before = data[: starts[0]] if starts else data
    first = _FIRST.search(before)
    if first is not None:
        sessions.insert(0, (first.end(), len(before), False))
    if not sessions:
        raise RemoteProtocolError("this is not an AMI capture: neither Asterisk's banner nor an event is in it")
    if not _MESSAGE.search(data):
        raise RemoteProtocolError("this AMI capture holds a banner and not one message that can be read")
    return Capture(data, tuple(sessions), tuple(offsets))


def _line_ends(raw: bytes) -> Callable[[bytes], bytes]:
    """What makes the line ends of this file those of Asterisk."""
    crlf = raw.count(b"\r\n")
    lf = raw.count(b"\n") - crlf
    if raw.count(b"\r\r\n") > crlf / 2:
        return _doubled
    if lf > crlf:
        return _from_lf
    if not crlf and not lf:
        return _from_cr
    return _same


def _same(data: bytes) -> bytes:
    return data


def _doubled(data: bytes) -> bytes:
    return data.replace(b"\r\r\n", b"\r\n")


def _from_lf(data: bytes) -> bytes:
    return _LONE_LF.sub(b"\r\n", data)


def _from_cr(data: bytes) -> bytes:
    return data.replace(b"\r", b"\r\n")
