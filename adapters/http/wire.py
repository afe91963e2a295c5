"""HTTP/1.1 on one connection, and the few connections that a client holds: the lean way for what adapters send.

    acquire -> write (head and body) -> head -> piece, piece, ... b"" -> release

llhttp (`httptools`) reads: half the CPU of h11. Every reader is bounded: bytes and
number of headers, interim answers, and a piece at a time for whoever counts the body. A connection goes back only after an
answer of the announced length; anything else closes it. An idle one is used again for as long as the other side's
keep-alive allows, and only while nothing has come on it.

Knows no secrets, policies or errors of ours but `Unavailable` and `LocalProtocolError`. Read `client.py` next.
"""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httptools
import trio

from adapters.http.bodies import Upload
from adapters.http.connecting import usable
from gateway.domain.errors import LocalProtocolError, Unavailable

HEAD_LIMIT = 65_536
"""Bytes of an answer's status line, headers and interim answers."""
MOST_HEADERS = 200
PIECE = 65_536

BROKEN = "the connection broke"
NOT_HTTP = "the connection was closed, or what came was not HTTP"
SILENT = "no answer in time"


class Stale(Exception):
    """A connection that had rested was closed before anything of the answer came."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers, by name in small letters; what comes more than once is joined."""

    status: int
    headers: Mapping[str, str]


class _Answer:
    """What the parser found so far. Callbacks never raise: the parser would wrap it."""

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpResponseParser(self)
        # Line ends without a carriage return, and what comes after the last answer, do no harm to a client.
        self.parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_data_after_close=True)
        self.fields: list[tuple[bytes, bytes]] = []
        self.status = 0
        self.head_done = self.done = self.reusable = self.more = False
        self.pieces: list[bytes] = []

    def on_message_begin(self) -> None:
        self.more = self.more or self.done

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.fields) <= MOST_HEADERS and not self.more:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if not self.more and status >= 200:
            self.status, self.head_done = status, True
        elif status == 101:
            self.more = True

    def on_body(self, data: bytes) -> None:
        if not self.more:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if not self.head_done:
            self.fields.clear()  # an interim answer
        elif not self.more:
            self.done, self.reusable = True, self.parser.should_keep_alive()


class Wire:
    """One connection. Whoever has it sends one request and reads one answer at a time."""

    def __init__(self, stream: trio.abc.Stream, read_s: float) -> None:
        self._stream = stream
        self._read_s = read_s
        self._answer = _Answer()
        self._ends_by_close = self._half = False
        self.fresh = True
        """Whether it has carried no request before this one."""
        self.rests_until = float("-inf")

    async def write(self, head: bytes, parts: Sequence[bytes | Upload], permit: Callable[[], None]) -> None:
        """A request. `permit` is called before each part leaves, and raises where it must not any more."""
        self._answer = _Answer()
        rest = list(parts)
        if rest and isinstance(rest[0], bytes) and len(rest[0]) <= PIECE:
            head += rest[0]  # one packet
            del rest[0]
        permit()
        await self._send(head, first=True)
        for part in rest:
            if isinstance(part, bytes):
                for start in range(0, len(part), PIECE):
                    permit()
                    await self._send(part[start : start + PIECE])
            else:
                await self._send_file(part, permit)

    async def _send_file(self, file: Upload, permit: Callable[[], None]) -> None:
        left = file.size
        pieces: Any = file.pieces()
        if not hasattr(pieces, "aclose"):
            pieces = _closable(pieces)
        async with aclosing(pieces):
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                permit()
                await self._send(piece)
        if left:
            raise LocalProtocolError("a file is not as long as announced")

    async def _send(self, data: bytes, *, first: bool = False) -> None:
        sent = failed = False
        with trio.move_on_after(self._read_s):
            try:
                await self._stream.send_all(data)
                sent = True
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                failed = True
        if failed and first and not self.fresh:
            raise Stale
        # An answer may have come before the whole request was taken: such as a refusal of its size.
        self._half = self._half or failed
        if failed and not await self._peek():
            raise Unavailable(BROKEN, certain=False)
        if not sent and not failed:
            raise Unavailable("the request was not taken in time", certain=False)

    async def _peek(self) -> bool:
        """Whether an answer's head is there already."""
        try:
            await self.head()
        except Unavailable:
            return False
        return True

    async def head(self) -> Head:
        """Status and headers, once something of the answer has come. Raises Stale, Unavailable."""
        taken = 0
        answer = self._answer
        while not answer.head_done:
            data = await self._receive()
            if not data and not taken and not self.fresh:
                raise Stale
            taken += len(data)
            if not data or not self._feed(data) or (answer.more and not answer.head_done):
                raise Unavailable(NOT_HTTP, certain=False)
            if len(answer.fields) > MOST_HEADERS or (taken > HEAD_LIMIT and not answer.head_done):
                raise Unavailable("an answer with too many headers", certain=False)
        headers: dict[str, str] = {}
        for name, value in answer.fields:
            key, text = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        self._ends_by_close = "content-length" not in headers and "transfer-encoding" not in headers
        return Head(answer.status, headers)

    async def piece(self) -> bytes:
        """The next bytes of the body; empty at its end."""
        answer = self._answer
        while not answer.pieces and not answer.done:
            data = await self._receive()
            if not data and self._ends_by_close:
                answer.done = True
            elif not data or not self._feed(data):
                raise Unavailable(NOT_HTTP, certain=False)
        piece = b"".join(answer.pieces)
        answer.pieces.clear()
        return piece

    def _feed(self, data: bytes) -> bool:
        try:
            self._answer.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return self._answer.done
        return True

    async def _receive(self) -> bytes:
        try:
            with trio.move_on_after(self._read_s):
                return bytes(await self._stream.receive_some(PIECE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
        raise Unavailable(SILENT, certain=False)

    def rest(self, keepalive_s: float) -> bool:
        """Whether it may be used again after this answer, and until when."""
        answer = self._answer
        if not (answer.done and answer.reusable) or answer.more or answer.pieces or self._half:
            return False
        for name, value in answer.fields:
            if name.lower() == b"keep-alive":
                for part in value.split(b","):
                    key, _, seconds = part.strip().partition(b"=")
                    if key.lower() == b"timeout" and seconds.isdigit() and len(seconds) < 6:
                        keepalive_s = min(keepalive_s, int(seconds) - 1.0)
        self.fresh = False
        self.rests_until = trio.current_time() + keepalive_s
        return keepalive_s > 0

    def usable(self) -> bool:
        """Whether a resting connection may be used again."""
        return trio.current_time() < self.rests_until and usable(self._stream)

    async def aclose(self) -> None:
        """At once, without a TLS close_notify: no request is under way."""
        await trio.aclose_forcefully(self._stream)


async def _closable(pieces: Any) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece


class Wires:
    """The connections of one client: those that rest, the one used last first. How many are in use is the caller's."""

    def __init__(self, connect: Callable[[], Awaitable[trio.abc.Stream]], *, read_s: float, keepalive_s: float) -> None:
        self._connect = connect
        self._read_s = read_s
        self._keepalive_s = keepalive_s
        self.resting: list[Wire] = []
        self._closed = False

    @asynccontextmanager
    async def wire(self, *, fresh: bool = False) -> AsyncIterator[Wire]:
        """A connection for one request and its answer. Whatever is wrong with it afterwards, it is closed."""
        wire = None if fresh else await self._rested()
        if wire is None:
            wire = Wire(await self._connect(), self._read_s)
        rests = False
        try:
            yield wire
            rests = wire.rest(self._keepalive_s) and not self._closed
        finally:
            if rests:
                self.resting.append(wire)
            else:
                await wire.aclose()

    async def _rested(self) -> Wire | None:
        while self.resting:
            wire = self.resting.pop()
            if wire.usable():
                return wire
            await wire.aclose()
        return None

    async def aclose(self) -> None:
        """Closes what rests; what is in use is closed by its user."""
        self._closed = True
        while self.resting:
            await self.resting.pop().aclose()


class Unpacker:
    """The body of an answer that is compressed, never more than `limit` bytes of it. One without a known encoding passes as
    it is."""

    def __init__(self, encoding: str, limit: int) -> None:
        encoding = encoding.strip().lower()
        self._packed = zlib.decompressobj(47) if encoding in ("gzip", "x-gzip", "deflate") else None
        self._left = self._most = limit
        self.cut = False

    def feed(self, data: bytes) -> bytes:
        """What these bytes stand for; `cut`: there is more than the limit, packed or not. Raises Unavailable for what
        is damaged."""
        self._most -= len(data)
        if self._packed is not None:
            try:
                data = self._packed.decompress(data, self._left + 1)
            except zlib.error:
                raise Unavailable("the answer's compression is damaged", certain=False) from None
        if len(data) > self._left or self._most < 0:
            self.cut = True
            data = data[: self._left]
        self._left -= len(data)
        return data

    def finish(self) -> None:
        """The body has ended. Raises Unavailable where its compression had not."""
        if self._packed is not None and not self._packed.eof and not self.cut:
            raise Unavailable("the answer's compression is damaged", certain=False)
