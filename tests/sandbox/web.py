"""A very small HTTP/1.1 server for the sandboxes: h11 on Trio streams, a routing table, nothing else.

It owns framing, keep-alive and size bounds. It never guesses: a body cut before its Content-Length, or a request h11
refuses, never reaches a handler. `Fault` lists how a sandbox can be told to misbehave; the sandboxes act on it.
Read `retailcrm.py` next.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import trio

MAX_BODY = 1 << 20
MAX_HEAD = 32 << 10
IDLE_S = 75.0


class Fault(StrEnum):
    """How a sandbox misbehaves, set from a test."""

    NONE = "none"
    HTML = "html"
    """The page of an account or server that is not there: text/html, 404 for GET and 405 for POST."""
    EMPTY = "empty"
    """200 with no body at all."""
    SUCCESS_FALSE = "success_false"
    """200 whose JSON says that it failed."""
    HANG = "hang"
    """The request is obeyed, the answer comes after `hang_s`."""
    DROP = "drop"
    """The connection ends after the body was read; the request is not obeyed."""
    DROP_AFTER = "drop_after"
    """The request is obeyed, and the connection ends before the answer."""
    HTTP_500 = "http_500"
    HTTP_503 = "http_503"


class Drop(Exception):
    """Raised by a handler to end the connection without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One whole request. Header names are lower case; `query` keeps order and repeats."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    at: float
    """Monotonic seconds at the moment the body was complete."""
    wall: float
    """Seconds since the epoch at that moment."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """What the `{name}` segments of the route matched."""

    @property
    def content_type(self) -> str:
        """The media type, lower case, without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]
Routes = Mapping[tuple[str, str], Handler]


def as_json(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """An answer in JSON."""
    return Response(status, json.dumps(value, ensure_ascii=False).encode(), "application/json", headers)


def as_html(page: str, status: int = 200) -> Response:
    """An answer in HTML. The pages of the sandboxes hold no script and load nothing."""
    safe = (("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"), ("Cache-Control", "no-store"))
    return Response(status, page.encode(), "text/html; charset=utf-8", safe)


def matched(pattern: str, path: str) -> dict[str, str] | None:
    """The `{name}` segments of `pattern` as they stand in `path`, or None where they differ."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    parts: dict[str, str] = {}
    for want, got in zip(wanted, given, strict=True):
        before, brace, name = want.partition("{")
        if not brace:
            if want != got:
                return None
        elif got.startswith(before) and len(got) > len(before):
            parts[name.removesuffix("}")] = unquote(got[len(before) :])
        else:
            return None
    return parts


class Site:
    """Serves a routing table of (method, path) to handlers; `{name}` in a path matches the rest of a segment."""

    def __init__(self, routes: Routes, otherwise: Handler, most: int = MAX_BODY) -> None:
        self.routes = routes
        self.otherwise = otherwise
        self.most = most
        """Bytes of a body."""
        self.refused = 0
        """Requests that never became one: cut bodies, bad framing, too large."""
        self.connections = 0
        self.base = ""
        """The base URL, once it serves."""

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled on a loopback port (0: a free one) and starts with its base URL."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        address = listeners[0].socket.getsockname()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._connection, listeners)
            self.base = f"http://127.0.0.1:{address[1]}"
            task_status.started(self.base)

    async def _connection(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        try:
            while await self._exchange(conn, stream):
                conn.start_next_cycle()
        except Drop:
            pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.connections -= 1
            await trio.aclose_forcefully(stream)

    async def _exchange(self, conn: h11.Connection, stream: trio.SocketStream) -> bool:
        """One request and its answer; whether the connection goes on."""
        try:
            request = await self._receive(conn, stream)
        except h11.RemoteProtocolError as error:
            self.refused += 1
            if conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(conn, stream, Response(error.error_status_hint, b"", "text/plain"))
            return False
        if request is None:
            return False
        await self._send(conn, stream, await self._handle(request))
        return bool(conn.our_state is h11.DONE and conn.their_state is h11.DONE)

    async def _receive(self, conn: h11.Connection, stream: trio.SocketStream) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                if conn.they_are_waiting_for_100_continue:
                    await stream.send_all(conn.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                with trio.move_on_after(IDLE_S) as scope:
                    conn.receive_data(await stream.receive_some(65536))
                if scope.cancelled_caught:
                    return None
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.most:
                    raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                target = urlsplit(head.target.decode("ascii", "replace"))
                return Request(
                    method=head.method.decode("ascii"),
                    path=target.path,
                    query=tuple(parse_qsl(target.query, keep_blank_values=True)),
                    headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
                    body=bytes(body),
                    at=time.monotonic(),
                    wall=time.time(),
                )
            else:
                return None

    async def _handle(self, request: Request) -> Response:
        for (method, pattern), handler in self.routes.items():
            if method in (request.method, "*") and (parts := matched(pattern, request.path)) is not None:
                fields = {name: getattr(request, name) for name in request.__slots__}
                return await handler(Request(**{**fields, "parts": parts}))
        return await self.otherwise(request)

    async def _send(self, conn: h11.Connection, stream: trio.SocketStream, response: Response) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        data = conn.send(h11.Response(status_code=response.status, headers=headers)) or b""
        data += conn.send(h11.Data(data=response.body)) or b""
        data += conn.send(h11.EndOfMessage()) or b""
        await stream.send_all(data)
