"""The manager interface on the wire: bytes to messages, actions to bytes. Pure: never waits, logs or reads the clock.

    banner line -> frame, frame, frame ...         a frame is header lines up to CRLF CRLF

A message is a plain dict, because it is the hot path (90 k messages/s against 67 k with a case-insensitive class): names
are as Asterisk writes them, of a repeated header all values are joined by a line break. Frames are cut and looked at as
bytes; only events that someone wants are decoded at all, whole, so a character split across two reads stays whole.

Read `channels.py` next for what the events mean.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import count

from gateway.domain.errors import LocalProtocolError, RemoteProtocolError

Message = dict[str, str]

BANNER = b"Asterisk Call Manager"
MAX_BANNER = 256
MAX_LINE = 64 * 1024
MAX_FRAME = 4 * 1024 * 1024
"""A frame of this size is a very long answer to a command; anything longer is not Asterisk."""

MAX_ACTION_LINE = 1000
MAX_ACTION_LINES = 100

_END = b"\r\n\r\n"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def parse(frame: bytes) -> Message:
    """The headers of one frame. A line without a colon goes on with the value before it."""
    message: Message = {}
    last = ""
    for line in frame.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            if line and last:
                message[last] += "\n" + line
            continue
        if value[:1] == " ":
            value = value[1:]
        if name in message:
            message[name] += "\n" + value
        else:
            message[name] = value
        last = name
    return message


class Framer:
    """Bytes in, messages out. `wanted` are the events to parse; other events are only counted. Answers always pass.

    `marked` maps an event that is wanted only when its frame holds one of the given texts (VarSet comes by the thousand).
    """

    def __init__(
        self, wanted: frozenset[bytes] | None = None, marked: dict[bytes, tuple[bytes, ...]] | None = None
    ) -> None:
        self.banner: str | None = None
        self.frames = 0
        """How many frames came, wanted or not."""
        self._wanted = wanted
        self._marked = marked or {}
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """The messages that `data` completes, in order. Raises RemoteProtocolError for what cannot be Asterisk."""
        buffer = self._buffer
        buffer += data
        if self.banner is None and not self._read_banner():
            return []
        end = buffer.rfind(_END, max(0, self._searched - 3))
        if end < 0:
            self._searched = len(buffer)
            self._check_rest()
            return []
        whole = bytes(buffer[:end])
        del buffer[: end + len(_END)]
        self._searched = len(buffer)
        self._check_rest()
        messages: list[Message] = []
        for frame in whole.split(_END):
            if len(frame) > MAX_LINE:
                _check_frame(frame)
            if frame[:1] in b"\r\n":
                frame = frame.lstrip(b"\r\n")
                if not frame:
                    continue
            self.frames += 1
            if self._is_wanted(frame):
                messages.append(parse(frame))
        return messages

    def _is_wanted(self, frame: bytes) -> bool:
        if self._wanted is None or not frame.startswith(b"Event: "):
            return True
        stop = frame.find(b"\r\n", 7)
        name = frame[7:] if stop < 0 else frame[7:stop]
        if name in self._wanted:
            return True
        marks = self._marked.get(name)
        return marks is not None and any(mark in frame for mark in marks)

    def _read_banner(self) -> bool:
        buffer = self._buffer
        seen = bytes(buffer[: len(BANNER)])
        if not BANNER.startswith(seen) and not seen.startswith(BANNER):
            raise RemoteProtocolError("the server is not an Asterisk manager")
        end = buffer.find(b"\n", 0, MAX_BANNER)
        if end < 0:
            if len(buffer) >= MAX_BANNER:
                raise RemoteProtocolError("the server is not an Asterisk manager: its first line has no end")
            return False
        self.banner = bytes(buffer[:end]).decode("utf-8", "replace").strip()
        del buffer[: end + 1]
        return True

    def _check_rest(self) -> None:
        size = len(self._buffer)
        if size > MAX_FRAME:
            raise RemoteProtocolError("a message without end")
        if size > MAX_LINE and b"\n" not in self._buffer[-MAX_LINE:]:
            raise RemoteProtocolError("a line without end")


def _check_frame(frame: bytes) -> None:
    if len(frame) > MAX_FRAME or max(map(len, frame.split(b"\n"))) > MAX_LINE:
        raise RemoteProtocolError("a message longer than any of Asterisk's")


def encode_action(name: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """One action as bytes. Raises LocalProtocolError for anything that could reach the PBX as something else: a control
    character in a name or value, a line or an action longer than Asterisk reads. The message never holds the value."""
    lines: list[bytes] = []
    for header, value in (("Action", name), *headers):
        if not _HEADER.fullmatch(header):
            raise LocalProtocolError("the name of a header is letters, digits, '-' and '_'")
        if _CONTROL.search(value):
            raise LocalProtocolError(f"a control character in {header}")
        try:
            line = f"{header}: {value}".encode()
        except UnicodeEncodeError:
            raise LocalProtocolError(f"half a character in {header}") from None
        if len(line) >= MAX_ACTION_LINE:
            raise LocalProtocolError(f"{header} is too long")
        lines.append(line)
    if len(lines) > MAX_ACTION_LINES:
        raise LocalProtocolError("too many headers in one action")
    return b"\r\n".join(lines) + _END


def action_ids(prefix: str = "gw") -> Iterator[str]:
    """Endless ActionIDs, none twice."""
    return (f"{prefix}-{number}" for number in count(1))
