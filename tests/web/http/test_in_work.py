"""Requests in work at once: one address's wait for each other and for nobody else; an answer that has begun holds no place."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
import trio
from quart import Response as QuartResponse
from quart import request as quart_request
from quart_trio import QuartTrio

from gateway.web.http.in_work import AT_ONCE, InWork, leave_place
from tests.web.http.test_hypercorn_server import served
from tests.web.http.test_intake import Answers

PROXIES = (ip_network("10.0.0.0/8"),)


async def entered(in_work: InWork, peer: str, forwarded_for: str = "") -> bool:
    """Whether one more request would be worked on at once."""
    with trio.move_on_after(0.01):
        await in_work.enter(peer, forwarded_for)
        return True
    return False


async def test_one_address_waits_for_itself_alone() -> None:
    in_work = InWork(2)
    first = await in_work.enter("192.0.2.1", "")
    await in_work.enter("192.0.2.1", "10.9.9.9")
    assert not await entered(in_work, "192.0.2.1", "198.51.100.1"), "who is no proxy names itself in vain"
    assert await entered(in_work, "192.0.2.2")
    assert await entered(in_work, "2001:db8::1")
    assert await entered(in_work, "2001:db8::2")
    assert not await entered(in_work, "2001:db8::3"), "one IPv6 host has a /64 to itself"
    first()
    first()
    assert await entered(in_work, "192.0.2.1")
    assert not await entered(in_work, "192.0.2.1")


async def test_behind_a_proxy_each_client_counts_and_the_proxy_does_not() -> None:
    in_work = InWork(1, PROXIES)
    await in_work.enter("10.0.0.1", "198.51.100.1")
    assert not await entered(in_work, "10.0.0.1", "198.51.100.1")
    assert not await entered(in_work, "10.0.0.2", "203.0.113.9, 198.51.100.1")
    assert await entered(in_work, "10.0.0.1", "198.51.100.2")
    for _ in range(50):
        assert await entered(in_work, "10.0.0.1")


async def test_turns_come_in_order_and_nothing_is_left_behind() -> None:
    in_work, order = InWork(1), list[int]()
    leave = await in_work.enter("192.0.2.1", "")

    async def one(place: int) -> None:
        done = await in_work.enter("192.0.2.1", "")
        order.append(place)
        done()

    async with trio.open_nursery() as nursery:
        for place in range(5):
            nursery.start_soon(one, place)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01):
            await in_work.enter("192.0.2.1", "")
        leave()
    assert order == [0, 1, 2, 3, 4]
    assert len(in_work) == 0


def an_app(gate: trio.Event, seen: list[str]) -> QuartTrio:
    app = QuartTrio("busy")

    @app.get("/slow")
    async def slow() -> QuartResponse:
        seen.append("in")
        await gate.wait()
        return QuartResponse(b"done")

    @app.get("/quick")
    async def quick() -> QuartResponse:
        return QuartResponse(b"quick")

    @app.post("/held")
    async def held() -> QuartResponse:
        await quart_request.get_data()
        seen.append("in")
        leave_place()
        await gate.wait()
        return QuartResponse(b"late")

    @app.get("/stream")
    async def stream() -> QuartResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b": begun\n\n"
            await gate.wait()

        made = QuartResponse(events(), content_type="text/event-stream")
        made.timeout = None
        return made

    return app


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.mark.slow
async def test_many_requests_of_one_address_leave_a_newcomer_their_turn() -> None:
    """All of them come by real sockets; those of the newcomer from another address of the loopback."""
    gate, seen, done = trio.Event(), list[str](), list[int]()
    async with served(an_app(gate, seen)) as site, trio.open_nursery() as nursery:

        async def one() -> None:
            async with await site.connect() as stream:
                await stream.send_all(get("/slow"))
                found = await Answers(stream).next()
                assert found is not None
                done.append(found[0])

        for _ in range(200):
            nursery.start_soon(one)
        with trio.fail_after(10):
            while len(seen) < AT_ONCE:
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert len(seen) == AT_ONCE, "the others wait"
        with trio.fail_after(2):
            async with await trio.open_tcp_stream("127.0.0.1", site.port, local_address="127.0.0.2") as stream:
                await stream.send_all(get("/quick"))
                found = await Answers(stream).next()
        assert found is not None
        assert (found[0], found[2]) == (200, b"quick")
        gate.set()
    assert done == [200] * 200


@pytest.mark.slow
async def test_streams_that_have_begun_hold_no_place() -> None:
    gate = trio.Event()
    async with served(an_app(gate, [])) as site, trio.open_nursery() as nursery:
        begun: list[bytes] = []

        async def listen() -> None:
            async with await site.connect() as stream:
                await stream.send_all(get("/stream"))
                text = b""
                while b"begun" not in text:
                    text += await stream.receive_some()
                begun.append(text)
                await gate.wait()

        for _ in range(3 * AT_ONCE):
            nursery.start_soon(listen)
        with trio.fail_after(10):
            while len(begun) < 3 * AT_ONCE:
                await trio.sleep(0.01)
            assert (await site.ask(get("/quick")))[0] == 200
        gate.set()


@pytest.mark.slow
async def test_who_reads_nothing_and_who_leaves_hold_no_place() -> None:
    gate, seen = trio.Event(), list[str]()
    async with served(an_app(gate, seen)) as site:
        left = [await site.connect() for _ in range(2 * AT_ONCE)]
        for stream in left:
            await stream.send_all(get("/slow"))
        with trio.fail_after(10):
            while len(seen) < AT_ONCE:
                await trio.sleep(0.01)
        for stream in left:
            await stream.aclose()
        gate.set()
        with trio.fail_after(10):
            assert (await site.ask(get("/quick")))[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"x", b"xx"], ids=["half sent", "held up on purpose"])
async def test_what_is_half_sent_or_held_up_holds_no_place(sent: bytes) -> None:
    gate, seen = trio.Event(), list[str]()
    async with served(an_app(gate, seen)) as site, trio.open_nursery() as nursery:

        async def one() -> None:
            async with await site.connect() as stream:
                await stream.send_all(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n" + sent)
                await gate.wait()

        for _ in range(3 * AT_ONCE):
            nursery.start_soon(one)
        with trio.fail_after(5):
            while len(sent) == 2 and len(seen) < 3 * AT_ONCE:
                await trio.sleep(0.01)
            assert (await site.ask(get("/quick")))[0] == 200
        gate.set()
