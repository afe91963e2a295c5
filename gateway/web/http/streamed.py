"""An answer that is made while it is being sent: events as a task gives them, for as long as the client listens.

The task ends with the response, however that ends. Read `gateway/web/pages/prompts.py` for one.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import trio
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse as Response

from gateway.web.http.routes import Give

WAITING = 16
"""Texts that may wait for the client."""


class _Body(ResponseBody):
    """Opens a nursery for the task, in the task that sends the response."""

    def __init__(self, work: Callable[[Give], Awaitable[None]]) -> None:
        self._work = work
        self._nursery: Any = None
        self._scope: trio.CancelScope | None = None

    async def __aenter__(self) -> AsyncIterator[bytes]:
        send, receive = trio.open_memory_channel[str](WAITING)

        async def run() -> None:
            async with send:
                await self._work(send.send)

        self._nursery = trio.open_nursery()
        nursery = await self._nursery.__aenter__()
        self._scope = nursery.cancel_scope
        nursery.start_soon(run)
        return _Encoded(receive)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._scope is not None
        self._scope.cancel()
        await self._nursery.__aexit__(exc_type, exc_value, tb)


class _Encoded:
    """The texts as bytes. No generator: one that is left halfway would be closed by whoever collects garbage."""

    def __init__(self, texts: trio.MemoryReceiveChannel[str]) -> None:
        self._texts = texts

    def __aiter__(self) -> "_Encoded":
        return self

    async def __anext__(self) -> bytes:
        return (await self._texts.__anext__()).encode()


def streamed(work: Callable[[Give], Awaitable[None]]) -> Response:
    """Server-sent events, as `work` gives them."""
    response = Response(_Body(work), content_type="text/event-stream; charset=utf-8")
    response.timeout = None
    response.headers["X-Accel-Buffering"] = "no"
    return response
