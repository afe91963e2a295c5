"""The links do what their names say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.chaos.proxy import Proxy


async def echo(stream: trio.SocketStream) -> None:
    try:
        while data := await stream.receive_some(100):
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> Proxy:
    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    relay = Proxy(("127.0.0.1", listeners[0].socket.getsockname()[1]))
    await nursery.start(relay.serve)
    return relay


@asynccontextmanager
async def linked(proxy: Proxy) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        await stream.send_all(b"first")
        assert await stream.receive_some(100) == b"first"
        yield stream


async def test_a_cut_is_a_reset_and_the_next_link_works(proxy: Proxy) -> None:
    async with linked(proxy) as stream:
        assert proxy.cut() == 1
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(100)
    async with linked(proxy):
        pass


async def test_a_stall_loses_nothing(proxy: Proxy) -> None:
    async with linked(proxy) as stream:
        proxy.stall()
        await stream.send_all(b"held")
        assert await silent(stream)
        proxy.stall(False)
        assert await stream.receive_some(100) == b"held"


async def test_a_half_open_link_takes_everything_and_says_nothing(proxy: Proxy) -> None:
    async with linked(proxy) as stream:
        assert proxy.half_open() == 1
        for _ in range(3):
            await stream.send_all(b"to nobody")
            assert await silent(stream)
        async with linked(proxy):
            assert len(proxy.pairs) == 2
    with trio.fail_after(2):
        while proxy.pairs:
            await trio.sleep(0.01)


async def test_nobody_behind_it_is_a_reset(nursery: trio.Nursery) -> None:
    relay = Proxy()
    await nursery.start(relay.serve)
    async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(100)


async def silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.03) as scope:
        await stream.receive_some(100)
    return scope.cancelled_caught
