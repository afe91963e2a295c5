"""The manager interface on the wire: bytes to messages, actions to bytes. Pure: never waits, logs or reads the clock.

    banner line -> frame, frame, frame ...         a frame is header lines up to CRLF CRLF

A message is panoramisk's `Message`, whose names are read in any case; of a repeated header all values are joined by a line
break. Frames are cut and looked at as bytes; only events that someone wants are decoded at all, whole, so a character split
across two reads stays whole. The cost of a frame grows with its bytes and with nothing else, and frames, lines and values
have limits: what exceeds them ends the session, because Asterisk sends nothing of the kind.

Read `channels.py` next for what the events mean.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from panoramisk import message as panoramisk

from gateway.domain.errors import LocalProtocolError, RemoteProtocolError

BANNER = b"Asterisk Call Manager"
MAX_BANNER = 256
MAX_FRAME = 64 * 1024
"""Bytes of one message. The longest that is requested is the answer to ListCommands, 15 kB."""
MAX_LINES = 1000
"""Lines of one message."""
MAX_VALUE = 512
"""Characters of a value in an event: Asterisk's names have 80, its numbers 256. More is cut off, so that what is stored of
a call stays small."""

MAX_ACTION_LINE = 1000
MAX_ACTION_LINES = 100

MESSAGE_COST = 700
LINE_COST = 220
"""Bytes that a parsed message and each of its lines take in memory beside its text (CPython 3.11, 64 bit)."""

_END = b"\r\n\r\n"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class AmiMessage(panoramisk.Message):  # type: ignore[misc] # panoramisk has no types
    """panoramisk's message, made and read without its checks: 1.25 times as fast (docs/design-notes.md)."""

    def __init__(self, store: dict[str, tuple[str, str]]) -> None:
        self._store = store
        self.manager = None

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a header, whatever the case of its name."""
        found = self._store.get(key.lower())
        return default if found is None else found[1]

    def __delitem__(self, key: str) -> None:
        del self._store[key.lower()]

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return dict(self) | dict(other)


Message = dict[str, str] | AmiMessage
"""What the tracker reads: a message of the wire, or a plain dict with names as Asterisk writes them."""


def parse(frame: bytes) -> AmiMessage:
    """The headers of one frame. A line without a colon continues the value before it."""
    store: dict[str, tuple[str, str]] = {}
    joined: dict[str, list[str]] = {}
    last = ""
    for line in frame.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(": ")
        if not colon or ":" in name:
            name, colon, value = line.partition(":")
        if colon:
            last = name.lower()
            if last not in store:
                store[last] = (name, value)
                continue
        elif line and last:
            value = line
        else:
            continue
        if last in joined:
            joined[last].append(value)
        else:
            joined[last] = [store[last][1], value]
    for key, values in joined.items():
        store[key] = (store[key][0], "\n".join(values))
    if len(frame) > MAX_VALUE and frame.startswith(b"Event: "):
        for key, (name, value) in store.items():
            if len(value) > MAX_VALUE:
                store[key] = (name, value[:MAX_VALUE])
    return AmiMessage(store)


class Framer:
    """Bytes in, messages out. `wanted` are the events to parse; other events are only counted. Answers always pass.

    `marked` maps an event that is wanted only when its frame holds one of the given texts (VarSet comes by the thousand).
    `times` is how many times as long as a connection allows a message may be: a capture may hold long answers to commands.
    """

    def __init__(
        self,
        wanted: frozenset[bytes] | None = None,
        marked: dict[bytes, tuple[bytes, ...]] | None = None,
        *,
        times: int = 1,
    ) -> None:
        self._max_frame, self._max_lines = MAX_FRAME * times, MAX_LINES * times
        self.banner: str | None = None
        """The first line, once it has come. Set it where a stream begins without."""
        self.frames = 0
        """How many frames came, wanted or not."""
        self.cost = 0
        """Bytes of memory that the messages given out so far took, about."""
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
            if len(frame) > self._max_frame:
                raise too_long(f"a message of {len(frame)} bytes")
            if frame[:1] in b"\r\n":
                frame = frame.lstrip(b"\r\n")
                if not frame:
                    continue
            self.frames += 1
            if self._is_wanted(frame):
                lines = frame.count(b"\n")
                if lines >= self._max_lines:
                    raise too_long(f"a message of {lines} lines")
                self.cost += MESSAGE_COST + len(frame) + LINE_COST * lines
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
        if len(self._buffer) > self._max_frame:
            raise too_long(f"a message without end after {len(self._buffer)} bytes")


def too_long(what: str) -> RemoteProtocolError:
    """The error for a message that Asterisk does not send."""
    return RemoteProtocolError(f"{what}: longer than any of Asterisk's", code="asterisk_too_long", shown="")


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
    """Endless ActionIDs, none twice. Not panoramisk's `IdGenerator`, which never lets go of an instance: one a session."""
    return (f"{prefix}-{number}" for number in count(1))
