"""The fast listener for machines: HTTP/1.1 on a Trio socket, nothing between the bytes and the table of addresses.

    idle -> head -> body -> answered -> idle     every arrow has its own deadline
      |       |       |
      +-------+-------+--> closed                too slow 408, too large 413 or 431, not HTTP 400

Parsed by httptools (llhttp): 2 µs a request where h11 takes 44. A whole event costs 100 µs of CPU here, 128 in a bare h11
loop without any of the limits; 45 of them are reading, checking and answering the event itself. llhttp refuses
conflicting lengths, folded headers and bare line feeds; what it lets through and we do not is refused in
`_Reader.on_headers_complete`. A request reaches its handler complete or not at all: a truncated body is dropped.

Owns connections and their limits. It never looks into a body and holds no request longer than its own deadlines. Over 400
lines, for a deadline and the bytes it guards are read together. Read `gateway/web/http/hypercorn_server.py` next for the other
one.
"""

import logging
import math
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httptools
import trio

from gateway.listening import has_arrived
from gateway.telemetry import COUNTERS
from gateway.web.http.addresses import Networks
from gateway.web.http.routes import (
    Address,
    Cut,
    Request,
    Response,
    Table,
    answer,
    first_values,
    header_values,
    is_forwarded,
    problem,
    too_large,
)
from gateway.web.http.shares import Shares

log = logging.getLogger(__name__)
_FORM_BYTES = 64 * 1024
"""What the parts of a form add to the size of what they carry."""
PATIENCE_S = 1.0
_Listener = TypeVar("_Listener", bound=trio.abc.Listener[Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for one client, and for all of them."""

    connections: int = 2000
    per_address: int = 500
    busy_per_address: int = 1500
    """Beyond it, connections of that address end that wait for the rest of a request, or for one at all."""
    head_bytes: int = 16 * 1024
    headers: int = 64
    read_bytes: int = 64 * 1024
    head_s: float = 10.0
    """From the first byte of a request (for a new connection: from its acceptance) to the end of its headers."""
    body_s: float = 20.0
    idle_s: float = 60.0
    piece_s: float = 30.0
    stream_s: float = 900.0
    """For bodies that are handed over piece by piece: one piece, and the whole of it."""
    handler_s: float = 30.0
    write_s: float = 10.0
    linger_s: float = 1.0
    """How long a connection that we close is still read, so that the client sees the answer and not a reset."""
    grace_s: float = 8.0
    last_s: float = 0.5
    """Seconds that an idle connection is still read when we stop: its client may be sending the next request just now."""


@dataclass(slots=True)
class _Message:
    """A request as it comes in."""

    number: int
    method: str = ""
    target: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    fed: int = 0
    limit: int = 0
    version: str = "1.1"
    keep_alive: bool = False
    begun: bool = False
    head_done: bool = False
    expects: bool = False
    upgrade: bool = False
    address: Address | None = None
    request: Request | None = None
    refusal: Response | None = None
    """The 404 or 405 that answers it once it is here."""

    @property
    def streams(self) -> bool:
        """Whether its handler takes the body as it comes."""
        return self.head_done and self.address is not None and self.address.stream is not None


class _Refused(Exception):
    """The rest of the connection is not read."""


def _bad(detail: str) -> Response:
    return problem(400, "VALIDATION_ERROR", detail)


class _Reader:
    """Bytes in, whole requests out; the callbacks are httptools' protocol. Knows no clock and no socket."""

    def __init__(self, table: Table, limits: Limits, peer: str) -> None:
        self._table, self._limits, self._peer = table, limits, peer
        self._parser = httptools.HttpRequestParser(self)
        self._resuming = False
        self.current = _Message(0)
        self.ready: deque[_Message] = deque()
        self.refused: Response | None = None
        """The last response before closing, sent after all that is ready."""

    @property
    def phase(self) -> str:
        """`idle`, `head` or `body` of the request that is coming in."""
        if self.current.head_done:
            return "body"
        return "head" if self.current.begun else "idle"

    def feed(self, data: bytes) -> None:
        """Reads on; afterwards see `ready` and `refused`."""
        while data and self.refused is None:
            self.current.fed += len(data)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._decline_upgrade()
                continue
            except httptools.HttpParserCallbackError:
                self.refused = self.refused or _bad("The request is not valid HTTP.")
            except httptools.HttpParserError:
                self.refused = self.refused or _bad("The request is not valid HTTP.")
            break
        message, limits = self.current, self._limits
        if self.refused is None and message.fed > limits.head_bytes:
            if not message.head_done:
                self.refused = problem(431, "PAYLOAD_TOO_LARGE", "The headers are too large.")
            elif message.fed > limits.head_bytes + limits.read_bytes + 8 * max(message.limit, 1024):
                self.refused = too_large(message.limit)  # chunks of almost nothing

    def _decline_upgrade(self) -> None:
        """An offer to speak another protocol (some HTTP clients make one with every POST) is not taken up: a new parser
        continues behind the headers, and is given only how the body ends."""
        framing = next((h for h in self.current.headers if h[0] in ("content-length", "transfer-encoding")), None)
        name, value = framing or ("content-length", "0")
        self._parser = httptools.HttpRequestParser(self)
        self._resuming = True
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{name}: {value}\r\n\r\n".encode("latin-1"))

    def _refuse(self, response: Response) -> None:
        self.refused = response
        raise _Refused

    def on_message_begin(self) -> None:
        self.current.begun = True

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            self.current.target += url
            self._weigh(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.current
        if self._resuming or message.head_done:
            return  # trailers carry nothing for us; `fed` bounds them
        message.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))
        self._weigh(len(name) + len(value) + 4)
        if len(message.headers) > self._limits.headers:
            self._refuse(problem(431, "PAYLOAD_TOO_LARGE", "There are too many headers."))

    def _weigh(self, size: int) -> None:
        self.current.size += size
        if self.current.size > self._limits.head_bytes:
            self._refuse(problem(431, "PAYLOAD_TOO_LARGE", "The headers are too large."))

    def on_headers_complete(self) -> None:
        message, parser = self.current, self._parser
        if self._resuming:
            self._resuming = False
            return
        message.head_done, message.size = True, 0
        message.method = parser.get_method().decode("latin-1")
        message.version = parser.get_http_version()
        message.keep_alive = parser.should_keep_alive()
        message.upgrade = parser.should_upgrade()
        named: dict[str, list[str]] = {}
        for name, value in message.headers:
            named.setdefault(name, []).append(value)
        if message.version not in ("1.0", "1.1") or message.method in ("CONNECT", "PRI"):
            self._refuse(_bad("Only HTTP/1.1 is spoken here."))
        if len(named.get("host", ())) != 1 and (message.version == "1.1" or "host" in named):
            self._refuse(_bad("There must be one Host header."))
        lengths, encodings = named.get("content-length", []), named.get("transfer-encoding", [])
        if encodings and (lengths or message.version == "1.0" or [e.strip().lower() for e in encodings] != ["chunked"]):
            self._refuse(_bad("The length of the body is not clear."))
        if lengths and (len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit())):
            self._refuse(_bad("The length of the body is not clear."))
        self._route(message, named)
        if lengths and int(lengths[0][:20]) > message.limit:
            self._refuse(too_large(message.limit))
        message.expects = bool(encodings or (lengths and int(lengths[0]))) and (
            named.get("expect", [""])[0].lower() == "100-continue" and message.version == "1.1"
        )
        if message.expects and message.refusal is not None:
            self._refuse(message.refusal)

    def _route(self, message: _Message, named: dict[str, list[str]]) -> None:
        target = message.target.decode("latin-1")
        if not target.startswith("/"):
            try:
                parts = urlsplit(target)
            except ValueError:
                parts = urlsplit("")
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "") if parts.scheme else target
        path, _, query = target.partition("#")[0].partition("?")
        found = self._table.find(message.method, path)
        if isinstance(found, Response):
            message.refusal, message.limit = found, self._limits.read_bytes
            return
        message.address, params = found
        message.limit = message.address.body_limit + (_FORM_BYTES if message.address.stream is not None else 0)
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=200) if query else []
        except ValueError:
            self._refuse(_bad("The query is not valid."))
        message.request = Request(
            method=message.method, path=path, params=params, query=first_values(pairs),
            headers=header_values(message.headers), peer=self._peer,
            forwarded=is_forwarded(list(named)),
        )  # fmt: skip

    def on_body(self, body: bytes) -> None:
        message = self.current
        message.size += len(body)
        if message.size > message.limit:
            self._refuse(too_large(message.limit))
        message.body += body

    def on_message_complete(self) -> None:
        message = self.current
        if message.upgrade:
            message.upgrade = False  # only its headers are over
            return
        self.ready.append(message)
        self.current = _Message(message.number + 1)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _rendered(response: Response, *, close: bool, version: str = "1.1", head: bool = False) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Date: {_date(int(time.time()))}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in response.headers if "\r" not in value and "\n" not in value),
    ]
    if close:
        lines.append("Connection: close")
    elif version == "1.0":
        lines.append("Connection: keep-alive")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1", "replace") + (b"" if head else response.body)


class _Connection:
    """One client. Its scope is shielded: the service ends it, at once when idle, within the grace when not."""

    def __init__(self, service: "_Service", stream: trio.abc.HalfCloseableStream, peer: str) -> None:
        self._service, self._stream, self._limits = service, stream, service.limits
        self._reader = _Reader(service.table, service.limits, peer)
        self._deadline, self._stage = math.inf, ("", -1)
        self.scope = trio.CancelScope(shield=True)
        self._waits = True
        self._answered = 0
        self._since = trio.current_time()

    def has_waited(self) -> bool:
        """Whether its client has had time to send what it came for."""
        return trio.current_time() - self._since > PATIENCE_S

    def rank(self) -> int | None:
        """How readily it ends for another from its address: 0 where no request has come whole, 1 where the next one has
        not, 2 where a body comes in that its handler takes piece by piece; None while an answer is on its way, or what
        came is still to be read, as after a restart."""
        if not self._waits or self.has_arrived():
            return None
        return 2 if self._reader.current.streams else 1 if self._answered else 0

    def has_arrived(self) -> bool:
        """Whether a request waits to be read."""
        return isinstance(self._stream, trio.SocketStream) and has_arrived(self._stream.socket)

    async def run(self) -> None:
        """Serves until either side closes."""
        reader, service = self._reader, self._service
        while True:
            while reader.ready:
                message = reader.ready.popleft()
                self._waits = False
                response = await self._answer(message)
                keep_alive = message.keep_alive and not service.closing
                await self._send(response, message=message, close=not keep_alive)
                self._waits, self._answered = True, self._answered + 1
                if not keep_alive:
                    return await self._linger()
            if reader.refused is not None:
                COUNTERS["intake_refused"] += 1
                await self._send(reader.refused, close=True)
                return await self._linger()
            if reader.current.streams:
                if not await self._stream_current():
                    return await self._linger()
                continue
            if service.closed and reader.phase == "idle":
                return None
            if reader.current.expects:
                reader.current.expects = False
                await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            data = await self._receive()
            if data is None:
                reader.refused = problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True)
            elif not data:
                return None  # a request cut short here is dropped
            else:
                reader.feed(data)

    async def _receive(self) -> bytes | None:
        """The next bytes; empty at the end or after an idle wait, None when a request takes too long."""
        reader, limits, service = self._reader, self._limits, self._service
        phase = reader.phase
        if self._stage != (phase, reader.current.number):
            self._stage = (phase, reader.current.number)
            waits = {"head": limits.head_s, "body": limits.body_s, "idle": limits.idle_s}
            first = phase == "idle" and reader.current.number == 0
            self._deadline = trio.current_time() + (limits.head_s if first else waits[phase])
        if phase == "idle":
            service.idle[self] = None
        data: bytes | None = None
        try:
            with trio.move_on_at(self._deadline):
                data = bytes(await self._stream.receive_some(limits.read_bytes))
        finally:
            service.idle.pop(self, None)
        return b"" if data is None and phase == "idle" else data

    async def _answer(self, message: _Message) -> Response:
        if message.refusal is not None or message.address is None or message.request is None:
            return message.refusal or _bad("The request is not valid.")
        if message.streams:
            return await self._streamed(message)
        if message.body:
            message.request = _with_body(message.request, bytes(message.body))
        with trio.move_on_after(self._limits.handler_s):
            return await answer(message.address, message.request)
        COUNTERS["intake_timeouts"] += 1
        log.warning("handler too slow", extra={"address": f"{message.address.method} {message.address.path}"})
        return problem(503, "UNAVAILABLE", "The gateway did not answer in time.", retryable=True, retry_after=5)

    async def _stream_current(self) -> bool:
        """Answers the request whose body is coming in. False where the connection has to end with it."""
        reader, message = self._reader, self._reader.current
        response = await self._streamed(message)
        whole = reader.current is not message
        if whole:
            reader.ready.popleft()  # it: whatever follows stands behind it
        keep_alive = whole and message.keep_alive and not self._service.closing
        await self._send(response, message=message, close=not keep_alive)
        return keep_alive

    async def _streamed(self, message: _Message) -> Response:
        """The answer of a handler that takes the body piece by piece; the client waits while it works."""
        reader, limits = self._reader, self._limits
        assert message.address is not None
        assert message.request is not None

        async def pull() -> bytes:
            while not message.body:
                if reader.current is not message:
                    return b""
                if reader.refused is not None:
                    raise Cut(reader.refused)
                if message.expects:
                    message.expects = False
                    await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
                data: bytes | None = None
                with trio.move_on_after(limits.piece_s):
                    data = bytes(await self._stream.receive_some(limits.read_bytes))
                if not data:
                    late = data is None
                    raise Cut(problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True)
                              if late else _bad("The body is cut short."))  # fmt: skip
                reader.feed(data)
            data = bytes(message.body)
            message.body.clear()
            return data

        with trio.move_on_after(limits.stream_s):
            return await answer(message.address, message.request, pull)
        return problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True)

    async def _send(self, response: Response, *, close: bool, message: _Message | None = None) -> None:
        version, head = (message.version, message.method == "HEAD") if message else ("1.1", False)
        await self._write(_rendered(response, close=close, version=version, head=head))

    async def _write(self, data: bytes) -> None:
        with trio.fail_after(self._limits.write_s):
            await self._stream.send_all(data)

    async def _linger(self) -> None:
        """Our side is closed; what the client still sends is thrown away, for a moment."""
        with trio.move_on_after(self._limits.linger_s):
            await self._stream.send_eof()
            while await self._stream.receive_some(self._limits.read_bytes):
                pass


def _with_body(request: Request, body: bytes) -> Request:
    return Request(
        method=request.method, path=request.path, params=request.params, query=request.query,
        headers=request.headers, body=body, peer=request.peer, forwarded=request.forwarded,
    )  # fmt: skip


class _Service:
    """All connections of the listener."""

    def __init__(self, table: Table, limits: Limits, trusted_proxies: Networks = ()) -> None:
        self.table, self.limits = table, limits
        self._shares: Shares[_Connection] = Shares(
            limits.per_address, limits.busy_per_address, _Connection.rank, trusted_proxies
        )
        self.closing = False
        """Every answer from now on ends its connection."""
        self.closed = False
        """The grace period is over."""
        self.deadline = math.inf
        self.idle: dict[_Connection, None] = {}
        """Those that wait for a request, longest first."""
        self._open: set[_Connection] = set()
        self._left = trio.Event()
        self._full = _rendered(
            problem(503, "UNAVAILABLE", "Too many connections.", retryable=True, retry_after=1), close=True
        )

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One connection from accept to close. Lets out nothing but cancellation of the process."""
        peer = self._prepare(stream)
        connection = _Connection(self, stream, peer)
        connection.scope.deadline = self.deadline
        try:
            with connection.scope:
                if not self._room(connection, peer):
                    with trio.fail_after(self.limits.linger_s):
                        await stream.send_all(self._full)
                    return
                self._open.add(connection)
                await connection.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            COUNTERS["intake_broken"] += 1  # caused by the client: not logged
        except Exception:
            # Reading one client's bytes must never end the listener for the others, whatever we overlooked.
            COUNTERS["handler_failures"] += 1
            log.exception("intake connection failed")
        finally:
            self._open.discard(connection)
            self._shares.leave(connection)
            self._left.set()
            await trio.aclose_forcefully(stream)

    def _prepare(self, stream: trio.abc.HalfCloseableStream) -> str:
        """The peer's address. Sets the kernel's timeout for a client that reads nothing."""
        if not isinstance(stream, trio.SocketStream):
            return ""
        try:
            if stream.socket.family in (socket.AF_INET, socket.AF_INET6):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.limits.write_s * 1000))
                return str(stream.socket.getpeername()[0])
        except OSError:
            pass  # it has gone already; the first read shows it
        return ""

    def _room(self, connection: _Connection, peer: str) -> bool:
        """True while there is room, if need be in place of one that waits: of the same address where that has its share,
        else the one that has been idle longest, else of the address that has the most."""
        given_up = self._shares.enter(connection, peer, _Connection.has_waited) if peer else None
        if given_up is connection:
            COUNTERS["intake_full"] += 1
            return False
        if given_up is None and len(self._open) >= self.limits.connections:
            COUNTERS["intake_full"] += 1
            given_up = next(iter(self.idle), None) or self._shares.make_room(_Connection.has_waited)
            if given_up is None or given_up is connection:
                return False
        if given_up is not None:
            COUNTERS["intake_given_up"] += 1
            self._shares.leave(given_up)
            self.idle.pop(given_up, None)
            self._open.discard(given_up)
            given_up.scope.cancel()
        return True

    async def stop(self) -> None:
        """Requests in hand get the grace period. Idle connections get a moment for the request that may be on its way:
        closed at once, it would be lost to a client that cannot know whether to send it again."""
        self.closing = True
        self.deadline = trio.current_time() + self.limits.grace_s
        for connection in self._open:
            connection.scope.deadline = min(connection.scope.deadline, self.deadline)
        await trio.lowlevel.checkpoint()  # what was accepted last begins here
        with trio.move_on_after(self.limits.last_s):
            while self._open:
                self._left = trio.Event()
                await self._left.wait()
        self.closed = True
        for connection in list(self.idle):
            if not connection.has_arrived():
                connection.scope.cancel()


async def serve_intake(
    listeners: Sequence[_Listener],
    addresses: Sequence[Address],
    limits: Limits | None = None,
    trusted_proxies: Networks = (),
    *,
    task_status: trio.TaskStatus[list[_Listener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the addresses marked `intake` on `listeners`; runs until cancelled, then finishes what is in hand."""
    service = _Service(Table([address for address in addresses if address.intake]), limits or Limits(), trusted_proxies)
    async with trio.open_nursery() as nursery:
        try:
            await trio.serve_listeners(
                service.handle, list(listeners), handler_nursery=nursery, task_status=task_status
            )
        finally:
            with trio.CancelScope(shield=True):
                await service.stop()
