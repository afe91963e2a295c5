"""Both listeners filled for real: thousands of streams and half requests of one address, and who comes beside them."""

import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from gateway.listening import listening_socket
from gateway.web.http.hypercorn_server import mount, serve_people
from gateway.web.http.intake import serve_intake
from gateway.web.session.live_streams import PER_SESSION
from tests.web.api.held_gateway import Gateway
from tests.web.http.test_intake import Answers
from tests.web.world import CSRF, JUNE, PASSWORD, World

HALVES, STREAMS = 1500, 1000
QUICK_S = 3.0
"""On a machine that does other things too; what is refused or queued behind a flood takes its deadlines of 10 to 30 s."""


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """Both ends of each connection are in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if before[1] == resource.RLIM_INFINITY else min(8192, before[1])
    if wanted < 2 * HALVES + 500:
        pytest.skip("too few files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def both(world: World, gateway: Gateway) -> AsyncIterator[tuple[int, int]]:
    """The ports of the people's listener and of the intake."""
    people, machines = listening_socket(("127.0.0.1", 0)), listening_socket(("127.0.0.1", 0))
    addresses = gateway.addresses()
    app = world.app_with(mounts=(partial(mount, addresses=addresses),))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_people, app, people, grace_s=0.3, shutdown=trio.Event()))
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(machines))
        await nursery.start(serve_intake, [listener], addresses)
        yield people.getsockname()[1], listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(port: int, data: bytes, within_s: float = 20.0) -> tuple[int, float]:
    """The status of a new connection's request, and how long it took."""
    began = time.monotonic()
    with trio.fail_after(within_s):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            found = await Answers(stream).next()
    assert found is not None
    return found[0], time.monotonic() - began


HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


def sign_in() -> bytes:
    body = f"csrf={CSRF}&email=admin@0367.example&password={PASSWORD.replace(' ', '+')}".encode()
    head = (
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Cookie: form={CSRF}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def open_many(port: int, count: int, data: bytes) -> AsyncIterator[None]:
    """So many connections, each with this much of a request sent."""
    found: list[trio.SocketStream] = []

    async def one() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        found.append(stream)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(data)

    try:
        for start in range(0, count, 100):
            async with trio.open_nursery() as nursery:
                for _ in range(min(100, count - start)):
                    nursery.start_soon(one)
        yield
    finally:
        for stream in found:
            stream.socket.close()


@pytest.mark.long
@pytest.mark.parametrize("half", [b"GET / HT", b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\nx"])
async def test_half_requests_leave_room_for_whole_ones(world: World, gateway: Gateway, half: bytes) -> None:
    async with (
        both(world, gateway) as ports, open_many(ports[0], HALVES, half), open_many(ports[1], HALVES, half),
    ):  # fmt: skip
        for port in ports:
            await ask(port, HEALTH, 100)  # what was opened before it has been accepted by then
            status, took = await ask(port, HEALTH)
            assert (status, took < QUICK_S) == (200, True), took
        status, took = await ask(ports[0], sign_in())
        assert (status, took < QUICK_S) == (303, True), took


@pytest.mark.long
async def test_a_thousand_streams_of_one_cookie_leave_room(world: World, gateway: Gateway) -> None:
    cookie = await world.session(JUNE)
    stream = (
        "GET /t/0367/calls/live HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        f"Cookie: session={cookie}\r\n\r\n"
    ).encode()
    async with both(world, gateway) as ports, open_many(ports[0], STREAMS, stream):
        await ask(ports[0], HEALTH, 100)
        with trio.fail_after(60):
            while len(world.feed._subscriptions.get(JUNE, ())) != PER_SESSION:
                await trio.sleep(0.05)
        for port in ports:
            await ask(port, HEALTH)  # what was opened before it has been accepted by then
            status, took = await ask(port, HEALTH)
            assert (status, took < QUICK_S) == (200, True), took
        status, took = await ask(ports[0], sign_in())
        assert (status, took < QUICK_S) == (303, True), took
        assert len(world.feed._subscriptions[JUNE]) == PER_SESSION
