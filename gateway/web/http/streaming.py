"""Addresses whose bodies are too large to be held, before Quart: it would gather them in memory as fast as they come.

Here a handler pulls the next piece when it has dealt with the last, and the client waits meanwhile. Every piece, and the
whole, has a deadline; what is longer than the address allows is not read on. Used by `gateway/web/api/uploads.py`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import trio

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

PIECE_S = 30.0
STREAM_S = 900.0
"""A body that is read piece by piece: for one piece, and for all of it."""
_FRAMING = 1 << 16
"""What the parts of a form add to the size of what they carry."""


def streaming(asgi: Callable[..., Awaitable[None]], addresses: Sequence[Address]) -> Callable[..., Awaitable[None]]:
    """Takes requests whose bodies are streamed before Quart does: it would gather them in memory as fast as they come."""
    streamed = Table([address for address in addresses if address.stream is not None])

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        found = streamed.find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if found is None or isinstance(found, Response):
            await asgi(scope, receive, send)  # none of ours, or another method of the path
            return
        address, params = found
        body = _Body(scope, receive, address.body_limit)
        response = await body.answered_by(address, params)
        headers = {
            "content-type": response.content_type, "content-length": str(len(response.body)),
            "cache-control": "no-store", "x-content-type-options": "nosniff", **dict(response.headers),
            **({} if body.read else {"connection": "close"}),
        }  # fmt: skip
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(body.drain)
            await send({"type": "http.response.start", "status": response.status, "headers": raw})
            await send({"type": "http.response.body", "body": response.body, "more_body": False})
            nursery.cancel_scope.cancel()

    return app


class _Body:
    """The body of one request, handed over on demand."""

    def __init__(self, scope: Any, receive: Callable[[], Awaitable[Any]], limit: int) -> None:
        self._scope, self._receive, self._limit = scope, receive, limit
        self._size = 0
        self.headers = header_values(
            [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        )
        length = self.headers.get("content-length", "")
        self._expected = int(length[:20]) if length.isascii() and length.isdigit() else None
        self.read = False
        """True once all of it was taken: only then may another request follow on the connection."""

    async def pull(self) -> bytes:
        """The next piece."""
        while not self.read:
            with trio.move_on_after(PIECE_S):
                message = await self._receive()
                if message["type"] != "http.request":
                    raise Cut(problem(400, "VALIDATION_ERROR", "The body is cut short."))
                piece = bytes(message.get("body", b""))
                self.read, self._size = not message.get("more_body"), self._size + len(piece)
                if self._size > self._limit + _FRAMING:
                    raise Cut(too_large(self._limit))
                if piece:
                    return piece
                continue
            raise Cut(problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True))
        if self._expected is not None and self._size != self._expected:
            raise Cut(problem(400, "VALIDATION_ERROR", "The body is cut short."))
        return b""

    async def drain(self) -> None:
        """Throws away what still comes, until cancelled: behind a full queue the answer could not be sent."""
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                await trio.sleep_forever()

    async def answered_by(self, address: Address, params: Mapping[str, str]) -> Response:
        """What the address answers."""
        if self._expected is not None and self._expected > self._limit + _FRAMING:
            return too_large(self._limit)
        client = self._scope.get("client")
        request = Request(
            method=self._scope["method"], path=self._scope["path"], params=params, headers=self.headers,
            query=first_values(parse_qsl(self._scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)),
            peer=client[0] if client else "", forwarded=is_forwarded(list(self.headers)),
        )  # fmt: skip
        with trio.move_on_after(STREAM_S):
            return await answer(address, request, self.pull)
        return problem(408, "VALIDATION_ERROR", "The request came too slowly.", retryable=True)
