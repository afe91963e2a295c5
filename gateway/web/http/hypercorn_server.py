"""The listener for people: Quart on hypercorn's Trio worker, hardened, and the machine addresses as Quart routes.

Owns what keeps that server alive: hypercorn 0.18 lets one malformed request end the process, waits for ever for a client
that stops reading, and forgets its keep-alive timeout under quart-trio. Here each connection contains its own failures,
every write has a deadline, and stopping is bounded by the grace period whatever clients do. Only HTTP/1.1 is spoken;
offers of HTTP/2 and WebSocket are not taken up. `tests/web/http/test_hypercorn_server.py` replays each of these.

Over 400 lines, for a connection, its deadlines and its place among the others are read together. It decides nothing about
requests: pages are the app's, machine addresses `gateway/web/api/machine.py`'s; read that first.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response as StreamResponse
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    ConnectionState,
    Scope,
)
from hypercorn.utils import parse_socket_addr, wrap_app
from quart import Quart
from quart import Response as QuartResponse
from quart import request as quart_request
from werkzeug.exceptions import RequestEntityTooLarge

from gateway.listening import Bounded, has_arrived
from gateway.telemetry import COUNTERS
from gateway.web.http import routes
from gateway.web.http.addresses import Networks
from gateway.web.http.in_work import InWork, hold_place
from gateway.web.http.routes import (
    Address,
    Request,
    Response,
    answer,
    first_values,
    header_values,
    is_forwarded,
    problem,
    too_large,
)
from gateway.web.http.shares import Shares
from gateway.web.http.streamed import streamed
from gateway.web.http.streaming import streaming
from gateway.web.session.access import Need, declare

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 30.0
"""Seconds after which an idle connection, or one whose request headers do not end, is closed."""
WRITE_S = 20.0
"""Seconds that a client may read nothing of the response."""
LAST_S = 0.5
"""Seconds that an idle connection is still read when we stop: its client may be sending the next request just now."""
BODY_S = 30.0
LINGER_S = 1.0
_READ_BYTES = 64 * 1024
CONNECTIONS = 2000
"""Beyond these, one that waits for its request ends for a new one, of the address that has the most; where none does, new
ones wait in the kernel's queue: after a restart more may have gathered there."""
PATIENCE_S = 1.0
"""A connection so young does not end where the whole listener is full: its request may be on its way."""
PER_ADDRESS, BUSY_PER_ADDRESS = 256, 1200
"""Of these, one address's. Beyond it, its connections end that wait for the rest of a request, or for one at all; so
many may be busy with an answer."""
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _NotSpokenError(Exception):
    """The request is not one of HTTP/1.0 or 1.1 as we read it."""


class _Http1(H11Protocol):
    """Without the ways out of HTTP/1.1: no HTTP/2 preface, no h2c, no WebSocket."""

    endless = False
    """The answer is a stream of events, which ends only with its connection."""

    @property
    def in_hand(self) -> bool:
        """Whether a request has begun and its answer is not out."""
        return self.stream is not None or self.connection.their_state is not h11.IDLE

    answered = 0
    """Answers that have begun."""

    async def stream_send(self, event: StreamEvent) -> None:
        self.answered += isinstance(event, StreamResponse)
        if isinstance(event, StreamResponse):
            self.endless = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in event.headers)
        await super().stream_send(event)

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except _NotSpokenError:
            await self._send_error_response(400)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in (b"1.0", b"1.1"):
            raise _NotSpokenError

    async def _create_stream(self, request: h11.Request) -> None:
        stored = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method, target=_target(request.target), headers=stored, http_version=request.http_version
            )
        )


def _target(given: bytes) -> bytes:
    """Path and query. Proxies may send a whole URL; anything else that is no path would fail deep inside the app."""
    if given == b"*" or (given.startswith(b"/") and given.isascii()):
        return given
    try:
        parts = urlsplit(given.decode("ascii"))
    except ValueError:
        raise _NotSpokenError from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise _NotSpokenError
    return ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode()


class _Server(TCPServer):
    """One connection. What goes wrong in it ends here, and it ends when its last answer is out."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._scope, self._handing = trio.CancelScope(), trio.CancelScope()
        self._closing, self._gone = False, False
        self._http1: _Http1 | None = None
        self._since = trio.current_time()

    async def run(self) -> None:
        stream = cast("trio.SocketStream", self.stream)
        try:
            client = parse_socket_addr(stream.socket.family, stream.socket.getpeername())
            server = parse_socket_addr(stream.socket.family, stream.socket.getsockname())
            with self._scope:
                async with TaskGroup() as group:
                    self._task_group = group
                    http1 = _Http1(
                        self.app, self.config, self.context, cast("Any", group), ConnectionState(self.state), False,
                        client, server, self.protocol_send,
                    )  # fmt: skip
                    self.protocol = cast("Any", http1)
                    self._http1 = http1
                    await self.idle_task.restart(cast("Any", group), self._idle_timeout)
                    await self._read_data()
        except* OSError:
            pass  # the client's doing
        except* Exception as errors:
            # hypercorn fails in many ways on what clients send; one client must never end the server for the others.
            # `except*` lets cancellation through. Texts of the errors may quote the request, so only kinds are logged.
            COUNTERS["connection_failures"] += 1
            log.warning("connection failed", extra={"cause": ", ".join(_kinds(errors))})
        finally:
            await trio.aclose_forcefully(stream)

    async def _idle_timeout(self) -> None:
        with trio.move_on_after(self.config.keep_alive_timeout):
            await self.context.terminated.wait()
        # The request may have come in this very turn of the loop, with this task on its way already.
        assert self._http1 is not None
        stopped = self.context.terminated.is_set()
        if stopped and (self._http1.in_hand or has_arrived(cast("trio.SocketStream", self.stream).socket)):
            return
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()

    def rank(self) -> int | None:
        """How readily this connection ends for another from its address: 0 where no request has come whole, 1 where the
        next one has not; None while an answer is on its way, or what came is still to be read, as after a restart."""
        http1 = self._http1
        if http1 is not None and (http1.connection.their_state not in (h11.IDLE, h11.SEND_BODY) or http1.endless):
            return None
        if has_arrived(cast("trio.SocketStream", self.stream).socket):
            return None
        if http1 is None:
            return 0
        return 1 if http1.answered else 0

    def has_waited(self) -> bool:
        """Whether its client has had time to send what it came for."""
        return trio.current_time() - self._since > PATIENCE_S

    def give_up(self) -> None:
        """Ends it for another."""
        self._scope.cancel()

    def end_if_endless(self) -> None:
        """Ends a page's stream of events, which would last as long as the page; browsers ask for it again."""
        if self._http1 is not None and self._http1.endless:
            self._scope.cancel()

    async def _read_data(self) -> None:
        while True:
            try:
                data = bytes(await self.stream.receive_some(_READ_BYTES))
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                data = b""
            if not self._closing:
                # Left when the answer is out: a handler that did not want the whole body would hold us here for ever.
                with trio.CancelScope() as self._handing:
                    await self.protocol.handle(RawData(data) if data else Closed())
            if not data:
                break
        if self._closing:
            self._scope.cancel()
        # The client has gone: nothing is left to time, and the connection ends with its handler.
        self._gone = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._finish()
        elif not self._gone:
            await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        async with self.send_lock:
            try:
                # Shielded, for half a chunk would spoil the stream; the deadline is what bounds the shield.
                with trio.CancelScope(shield=True), trio.fail_after(WRITE_S):
                    await self.stream.send_all(data)
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except trio.TooSlowError:
                COUNTERS["clients_not_reading"] += 1
                await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())

    async def _finish(self) -> None:
        """Our side is closed. What the client still sends is thrown away for a moment, or it would see a reset in
        place of the answer."""
        if self._closing:
            return
        self._closing = True
        self._scope.deadline = trio.current_time() + LINGER_S
        await self.idle_task.stop()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            await self.stream.send_eof()
        await self.protocol.handle(Closed())
        self._handing.cancel()


def _kinds(errors: BaseExceptionGroup[BaseException]) -> list[str]:
    kinds = []
    for error in errors.exceptions:
        inner = _kinds(error) if isinstance(error, BaseExceptionGroup) else [type(error).__name__]
        kinds += [kind for kind in inner if kind not in kinds]
    return kinds


def _shielding_send(app: ASGIFramework, in_work: InWork) -> ASGIFramework:
    """Shields hypercorn's end of a response. quart-trio cancels its sender as soon as the last byte is reported sent,
    before hypercorn has marked the connection idle, which starts the keep-alive timeout. And begins no more requests of one
    address than are to be in work at once."""

    async def shielded(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = header_values(
            [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        )
        begun, places = False, list[Callable[[], None]]()

        async def enter() -> None:
            peer = scope["client"][0] if scope["client"] else ""
            places.append(await in_work.enter(peer, headers.get("x-forwarded-for", "")))
            if begun:
                leave()  # answered meanwhile, before its body was whole

        def leave() -> None:
            nonlocal begun
            begun = True
            for place in places:
                place()

        async def receive_whole() -> ASGIReceiveEvent:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and not places and not begun:
                await enter()
            return message

        async def send_whole(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                leave()
            with trio.CancelScope(shield=True):
                await send(message)

        hold_place(leave)
        try:
            if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
                await enter()
            await app(scope, receive_whole, send_whole)
        finally:
            leave()

    return shielded


def _config(keep_alive_s: float, grace_s: float) -> Config:
    config = Config()
    config.alpn_protocols = ["http/1.1"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = cast("Any", keep_alive_s)
    config.shutdown_timeout = cast("Any", max(grace_s, 1.0))
    return config


async def serve_people(
    app: Quart,
    sock: socket.socket,
    *,
    grace_s: float,
    shutdown: trio.Event,
    keep_alive_s: float = KEEP_ALIVE_S,
    last_s: float = LAST_S,
    trusted_proxies: Networks = (),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves `app` on a listening TCP socket until `shutdown` is set or it is cancelled; closes the socket. Requests in
    hand at `shutdown`, and those that idle connections send within `last_s`, are answered with `Connection: close`. They
    may finish within `grace_s`; then their connections are cut. Streams of events end at once."""
    # Accepted sockets inherit it: the kernel gives up on a client that takes nothing, even after we have closed.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_S * 1000))
    config, context, state = _config(keep_alive_s, grace_s), WorkerContext(None), cast("Any", {})
    in_work = InWork(trusted=trusted_proxies)
    wrapped = wrap_app(_shielding_send(cast("ASGIFramework", app), in_work), config.wsgi_max_body_size, "asgi")
    lifespan = Lifespan(wrapped, config, state)
    servers: dict[trio.SocketStream, _Server] = {}
    shares: Shares[_Server] = Shares(PER_ADDRESS, BUSY_PER_ADDRESS, _Server.rank, trusted_proxies)
    changed = trio.Event()

    async def serve_connection(stream: trio.SocketStream) -> None:
        nonlocal changed
        server = servers[stream] = _Server(wrapped, config, context, state, cast("Any", stream))
        try:
            given_up = shares.enter(server, _peer_of(stream), _Server.has_waited)
            if given_up is not None:
                COUNTERS["connections_given_up"] += 1
                given_up.give_up()
            if given_up is server:
                await trio.aclose_forcefully(stream)
            else:
                await server.run()
        finally:
            shares.leave(server)
            del servers[stream]
            changed.set()
            changed = trio.Event()

    async def room() -> None:
        while len(servers) >= CONNECTIONS:
            if (given_up := shares.make_room(_Server.has_waited)) is not None:
                COUNTERS["connections_given_up"] += 1
                given_up.give_up()
            else:
                COUNTERS["connections_waited"] += 1
            with trio.move_on_after(PATIENCE_S):
                await changed.wait()

    async def all_gone() -> None:
        await trio.lowlevel.checkpoint()  # what was accepted last begins here
        while servers:
            for server in servers.values():
                server.end_if_endless()
            await changed.wait()

    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as connections:
            try:
                listener = Bounded(trio.SocketListener(trio.socket.from_stdlib_socket(sock)), room)
                async with trio.open_nursery() as accepting:
                    await accepting.start(_serve_listener, serve_connection, listener, connections)
                    task_status.started()
                    await shutdown.wait()
                    accepting.cancel_scope.cancel()
                config.keep_alive_max_requests = 0  # from here on each response is marked as the last
                with trio.move_on_after(grace_s):
                    with trio.move_on_after(last_s):
                        await all_gone()
                    await context.terminated.set()
                    await all_gone()
            finally:
                if servers:
                    log.info("connections cut", extra={"connections": len(servers)})
                for stream in servers:
                    stream.socket.close()  # at once, and shielded writes end with it
                connections.cancel_scope.cancel()
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


def _peer_of(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""  # it has gone already; the first read shows it


async def _serve_listener(
    handler: Callable[[trio.SocketStream], Awaitable[object]],
    listener: Bounded,
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[Any],
) -> None:
    await trio.serve_listeners(handler, [listener], handler_nursery=nursery, task_status=task_status)


# Machine addresses as routes ------------------------------------------------------------------------------------------


async def _body(limit: int) -> bytes | Response:
    """The body, whole, or the answer to one that is too long, too slow or cut short."""
    expected = quart_request.content_length
    if expected is not None and expected > limit:
        return too_large(limit)
    chunks, size = [], 0
    with trio.move_on_after(BODY_S):
        try:
            async for chunk in quart_request.body:
                size += len(chunk)
                if size > limit:
                    return too_large(limit)
                chunks.append(chunk)
        except RequestEntityTooLarge:
            return too_large(limit)
        if expected is not None and size != expected:
            return problem(400, "VALIDATION_ERROR", "The body is cut short.")
        return b"".join(chunks)
    return problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True)


async def _served(methods: dict[str, Address], params: dict[str, str]) -> Response:
    method = "GET" if quart_request.method == "HEAD" else quart_request.method
    address = methods.get(method)
    if address is None:
        allowed = ", ".join(sorted({*methods, *(("HEAD",) if "GET" in methods else ())}))
        return problem(405, "VALIDATION_ERROR", "The address does not take this method.", headers=(("Allow", allowed),))
    body = await _body(address.body_limit)
    if isinstance(body, Response):
        return body
    headers = routes.header_values([(name.lower(), value) for name, value in quart_request.headers.items()])
    client = quart_request.scope.get("client")
    return await answer(
        address,
        Request(
            method=quart_request.method, path=quart_request.path, params=params,
            query=first_values(list(quart_request.args.items(multi=True))), headers=headers, body=body,
            peer=client[0] if client else "", forwarded=is_forwarded(list(headers)),
        ),
    )  # fmt: skip


def mount(app: Quart, addresses: Sequence[Address]) -> None:
    """Offers every address as a route of `app`, calling the same handlers. A path in the table is the table's alone:
    its other methods answer 405 as a problem."""
    paths: dict[str, dict[str, Address]] = {}
    for address in addresses:
        paths.setdefault(address.path, {})[address.method] = address
    app.asgi_app = streaming(app.asgi_app, addresses)  # type: ignore[method-assign, assignment] # Quart has no other place to wrap it
    for path, methods in paths.items():
        rule = path.replace("{", "<").replace("}", ">")
        endpoint = f"machine:{path.replace('.', '_')}"
        app.add_url_rule(
            rule, endpoint=endpoint, view_func=_view(methods), methods=[*_METHODS], provide_automatic_options=False
        )
        declare(app, {endpoint: Need.OWN})


def _view(methods: dict[str, Address]) -> Callable[..., Awaitable[QuartResponse]]:
    async def view(**params: str) -> QuartResponse:
        response = await _served(methods, params)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **dict(response.headers)}
        if response.work is not None:
            live = streamed(response.work)
            live.headers.update(headers)
            return live
        lasting = response.events if response.events is not None else response.pieces
        body: Any = response.body if lasting is None else lasting
        made = QuartResponse(body, response.status, headers, content_type=response.content_type)
        if "Content-Length" in headers:
            made.headers["Content-Length"] = headers["Content-Length"]  # of a file whose bytes a HEAD leaves out
        if lasting is not None:
            made.timeout = None
        return made

    return view
