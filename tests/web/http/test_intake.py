"""The fast listener: whole requests only, limits everywhere, and nothing a client does ends it.

Over 400 lines: most of them are what clients may send.
"""

import json
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing

from gateway.web.http.intake import Limits, serve_intake
from gateway.web.http.routes import Address, Request, Response, answer_json
from tests.web.api.held_gateway import Gateway, event, request_bytes

Client = trio.SocketStream
QUICK = Limits(head_s=0.2, body_s=0.2, idle_s=0.3, write_s=0.3, handler_s=0.3, linger_s=0.2, grace_s=0.3)


class MemoryListener(trio.abc.Listener[trio.StapledStream[Any, Any]]):
    """Connections without a kernel, for the autojump clock."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.StapledStream[Any, Any]](100)

    async def accept(self) -> trio.StapledStream[Any, Any]:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()

    async def connect(self) -> trio.StapledStream[Any, Any]:
        ours, theirs = trio.testing.memory_stream_pair()
        await self._send.send(theirs)
        return ours


@asynccontextmanager
async def memory_intake(addresses: list[Address], limits: Limits | None = None) -> AsyncIterator[MemoryListener]:
    limits = limits or Limits(linger_s=0.02)
    async with trio.open_nursery() as nursery:
        listener = MemoryListener()
        await nursery.start(lambda task_status: serve_intake([listener], addresses, limits, task_status=task_status))
        yield listener
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def intake(addresses: list[Address], limits: Limits | None = None) -> AsyncIterator[Callable[[], Any]]:
    """Serves on loopback; yields `connect`."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(lambda task_status: serve_intake(listeners, addresses, limits, task_status=task_status))
        yield lambda: trio.testing.open_stream_to_socket_listener(listeners[0])
        nursery.cancel_scope.cancel()


class Answers:
    """Reads answers off a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._data = stream, b""

    async def _until(self, enough: Callable[[], bool]) -> bool:
        while not enough():
            data = bytes(await self._stream.receive_some(65536))
            if not data:
                return False
            self._data += data
        return True

    async def next(self, *, bodiless: bool = False) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body; None at the end of the stream."""
        with trio.fail_after(10):
            if not await self._until(lambda: b"\r\n\r\n" in self._data):
                assert self._data == b""
                return None
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            length = 0 if bodiless or first.startswith("HTTP/1.1 1") else int(headers["content-length"])
            assert await self._until(lambda: len(self._data) >= length)
            body, self._data = self._data[:length], self._data[length:]
        return int(first.split()[1]), headers, body

    async def status(self) -> int | None:
        found = await self.next()
        return found[0] if found else None


def an_address(handler: Callable[[Request], Any], path: str = "/dial", **more: Any) -> Address:
    return Address(method="POST", path=path, handler=handler, summary="", intake=True, **more)


async def exchange(connect: Callable[[], Any], data: bytes) -> tuple[int, dict[str, str], bytes]:
    async with await connect() as stream:
        await stream.send_all(data)
        found = await Answers(stream).next()
    assert found is not None
    return found


async def alive(connect: Callable[[], Any]) -> None:
    assert (await exchange(connect, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200


async def test_an_event(gateway: Gateway) -> None:
    async with intake(gateway.addresses()) as connect, await connect() as stream:
        answers = Answers(stream)
        for said in ("accepted", "duplicate"):
            await stream.send_all(request_bytes(event()))
            found = await answers.next()
            assert found is not None
            status, headers, body = found
            assert (status, json.loads(body)) == (200, {"status": said})
            assert headers["content-type"] == "application/json"
            assert "connection" not in headers
            assert headers["date"].endswith("gmt")


async def test_byte_by_byte(gateway: Gateway) -> None:
    async with memory_intake(gateway.addresses()) as listener:
        stream = await listener.connect()
        for number in ("1", "2"):
            for byte in request_bytes(event(number)):
                await stream.send_all(bytes([byte]))
        answers = Answers(stream)
        assert [await answers.status(), await answers.status()] == [200, 200]
    assert [post.unique_id for post in gateway.journaled] == ["1", "2"]


@pytest.mark.parametrize("cut", [1, 7, 100, 1000])
async def test_pipelining_keeps_order(gateway: Gateway, cut: int) -> None:
    data = b"".join(request_bytes(event(str(number))) for number in range(20)) + request_bytes(b"{") * 2
    async with memory_intake(gateway.addresses()) as listener:
        stream = await listener.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_cut, stream, data, cut)
            answers = Answers(stream)
            assert [await answers.status() for _ in range(22)] == [200] * 20 + [422] * 2
    assert [post.unique_id for post in gateway.journaled] == [str(number) for number in range(20)]


async def send_cut(stream: Any, data: bytes, cut: int) -> None:
    for place in range(0, len(data), cut):
        await stream.send_all(data[place : place + cut])


async def test_chunked(gateway: Gateway) -> None:
    body = json.dumps(event()).encode()
    head = b"POST /dial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + 9]), body[i : i + 9]) for i in range(0, len(body), 9))
    data = head + chunks + b"0\r\nTrailer: UniqueId\r\n\r\n"
    async with intake(gateway.addresses()) as connect:
        assert (await exchange(connect, data))[0] == 200
        async with await connect() as stream:
            await stream.send_all(data + request_bytes(event("2")))
            answers = Answers(stream)
            assert [await answers.status(), await answers.status()] == [200, 200]


async def test_expect_continue(gateway: Gateway) -> None:
    data = request_bytes(event(), "/dial", "Expect: 100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    async with intake(gateway.addresses()) as connect:
        async with await connect() as stream:
            answers = Answers(stream)
            await stream.send_all(head + b"\r\n\r\n")
            assert await answers.status() == 100
            await stream.send_all(body)
            assert await answers.status() == 200
        refused = head.replace(b"/dial", b"/nowhere") + b"\r\n\r\n"
        status, headers, _ = await exchange(connect, refused)
        assert (status, headers["connection"]) == (404, "close")


async def test_offers_of_other_protocols_are_not_taken_up(gateway: Gateway) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    async with intake(gateway.addresses()) as connect, await connect() as stream:
        answers = Answers(stream)
        await stream.send_all(request_bytes(event("1"), "/dial", *lines) + request_bytes(event("2")))
        assert [await answers.status(), await answers.status()] == [200, 200]
        chunked = (
            b"POST /dial HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await stream.send_all(chunked + b"2\r\n{}\r\n0\r\n\r\n")
        assert await answers.status() == 401
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert await answers.status() == 200
    assert [post.unique_id for post in gateway.journaled] == ["1", "2"]


async def test_head_and_keep_alive(gateway: Gateway) -> None:
    async with intake(gateway.addresses()) as connect:
        async with await connect() as stream:
            answers = Answers(stream)
            await stream.send_all(b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n")
            found = await answers.next(bodiless=True)
            assert found is not None
            assert int(found[1]["content-length"]) > 0
            await stream.send_all(b"GET http://a/health?x=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            found = await answers.next()
            assert found is not None
            assert found[1]["connection"] == "keep-alive"
            await stream.send_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.0\r\n\r\n")
            assert [await answers.status(), await answers.status(), await answers.status()] == [404, 200, None]
        status, headers, _ = await exchange(connect, b"GET /dial HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (status, headers["allow"], headers["connection"]) == (405, "post", "close")


SMUGGLED = {
    "both": ("Content-Length: 3", "Transfer-Encoding: chunked"),
    "both, other order": ("Transfer-Encoding: chunked", "Content-Length: 3"),
    "two lengths": ("Content-Length: 3", "Content-Length: 4"),
    "two equal lengths": ("Content-Length: 3", "Content-Length: 3"),
    "list of lengths": ("Content-Length: 3, 3",),
    "signed": ("Content-Length: +3",),
    "negative": ("Content-Length: -3",),
    "hex": ("Content-Length: 0x3",),
    "huge": ("Content-Length: 99999999999999999999999",),
    "empty": ("Content-Length:",),
    "space before colon": ("Content-Length : 3",),
    "folded": ("X: a", " Content-Length: 3"),
    "bare line feed": ("X: a\nContent-Length: 3",),
    "carriage return": ("X: a\rContent-Length: 3",),
    "nul": ("X: a\x00b", "Content-Length: 3"),
    "unknown coding": ("Transfer-Encoding: gzip",),
    "two codings": ("Transfer-Encoding: gzip, chunked",),
    "chunked twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked not last": ("Transfer-Encoding: chunked, identity",),
    "vertical tab": ("Transfer-Encoding:\x0bchunked",),
    "two hosts": ("Host: b", "Content-Length: 0"),
    "no name": (": x", "Content-Length: 0"),
    "no colon": ("nonsense", "Content-Length: 0"),
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
async def test_smuggling_is_refused(lines: tuple[str, ...]) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response()

    data = "\r\n".join(("POST /dial HTTP/1.1", "Host: a", *lines, "\r\n")).encode("latin-1")
    async with memory_intake([an_address(handler)]) as listener:
        stream = await listener.connect()
        await stream.send_all(data + b"abc" + b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        answers = Answers(stream)
        assert await answers.status() in (400, 413)
        assert await answers.status() is None
    assert seen == []


@pytest.mark.parametrize(
    "first",
    [
        b"POST /dial\r\n", b"POST /dial HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n", b"POST /dial HTTP/0.9\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GIBBERISH /dial HTTP/1.1\r\n", b"POST /di\x00al HTTP/1.1\r\n", b"POST /dial HTTP/1.1\n",
    ],
)  # fmt: skip
async def test_not_http(gateway: Gateway, first: bytes) -> None:
    async with memory_intake(gateway.addresses()) as listener:
        stream = await listener.connect()
        await stream.send_all(first + b"Host: a\r\nContent-Length: 0\r\n\r\n")
        answers = Answers(stream)
        assert await answers.status() in (400, 405)
        assert await answers.status() is None


async def test_no_host(gateway: Gateway) -> None:
    async with intake(gateway.addresses()) as connect:
        assert (await exchange(connect, b"GET /health HTTP/1.1\r\n\r\n"))[0] == 400


async def test_large_bodies_are_refused_before_they_are_read(gateway: Gateway) -> None:
    limit = 256 * 1024
    async with intake(gateway.addresses()) as connect:
        head = b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        status, headers, body = await exchange(connect, head % (limit + 1))
        assert (status, json.loads(body)["code"], headers["connection"]) == (413, "PAYLOAD_TOO_LARGE", "close")
        # A client that sends it all without looking still sees the answer, not a reset.
        assert (await exchange(connect, head % (limit + 1) + b"x" * (limit + 1)))[0] == 413
        chunked = b"POST /dial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await exchange(connect, chunked + b"10000\r\n%s\r\n" % (b"x" * 65536) * 5))[0] == 413
        assert (await exchange(connect, chunked + b"f" * 17 + b"\r\nx"))[0] == 400
        just = json.dumps(event(Mood="")).encode()
        just = just.replace(b'"Mood": ""', b'"Mood": "%s"' % (b"x" * (limit - len(just))))
        assert len(just) == limit
        assert (await exchange(connect, request_bytes(just)))[0] == 200
        status, _, _ = await exchange(connect, request_bytes(just + b" "))
        assert status == 413


@pytest.mark.parametrize(
    "data",
    [
        b"POST /" + b"a" * 100_000,
        b"POST /dial HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 65 + b"\r\n",
        b"POST /dial HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000,
        b"POST /dial HTTP/1.1\r\nHost: a\r\n" + b"y" * 100_000,
        b"POST /dial HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100_000,
    ],
)
@pytest.mark.parametrize("cut", [1000, 10**6])
async def test_large_heads_are_refused(gateway: Gateway, data: bytes, cut: int) -> None:
    async with intake(gateway.addresses()) as connect, await connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send_what_it_takes, stream, data, cut)
        assert await Answers(stream).status() == 431
        nursery.cancel_scope.cancel()


async def send_what_it_takes(stream: Client, data: bytes, cut: int) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await send_cut(stream, data, cut)


async def test_tiny_chunks_are_not_for_ever(gateway: Gateway) -> None:
    data = (
        b"POST /dial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1;%s\r\nx\r\n" % (b"e" * 90) * 40_000
    )
    async with intake(gateway.addresses()) as connect, await connect() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send_what_it_takes, stream, data, 65536)
        assert await Answers(stream).status() == 413
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_short_body_reaches_no_handler(gateway: Gateway, share: float, reset: bool) -> None:
    data = request_bytes(event())
    async with intake(gateway.addresses()) as connect:
        stream = await connect()
        await stream.send_all(data[: int(len(data) * share)])
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await alive(connect)
    assert gateway.journaled == []


async def test_a_client_that_hangs_up_after_sending_is_heard(gateway: Gateway) -> None:
    async with intake(gateway.addresses()) as connect, await connect() as stream:
        await stream.send_all(request_bytes(event()))
        await stream.send_eof()
        assert await Answers(stream).status() == 200
    assert len(gateway.journaled) == 1


async def test_slow_heads_and_bodies(gateway: Gateway, autojump_clock: trio.testing.MockClock) -> None:
    data = request_bytes(event())
    head_end = data.index(b"\r\n\r\n")
    async with memory_intake(gateway.addresses(), Limits()) as listener:
        for place, status, within in ((0, None, 10), (20, 408, 20), (head_end + 10, 408, 20)):
            stream, began = await listener.connect(), trio.current_time()
            await stream.send_all(data[:place])
            with trio.fail_after(within + 3):
                found = b""
                while not found.endswith(b"}"):
                    chunk = bytes(await stream.receive_some())
                    if not chunk:
                        break
                    found += chunk
            assert (b" 408 " in found) is (status == 408)
            assert trio.current_time() - began <= within + 1
    assert gateway.journaled == []


async def test_slow_loris(gateway: Gateway, autojump_clock: trio.testing.MockClock) -> None:
    """One byte a second holds nothing beyond the deadline."""
    async with memory_intake(gateway.addresses(), Limits()) as listener:
        stream, began = await listener.connect(), trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            for byte in request_bytes(event()):
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)
        assert trio.current_time() - began < 15


async def test_idle_keep_alive_ends(gateway: Gateway, autojump_clock: trio.testing.MockClock) -> None:
    async with memory_intake(gateway.addresses(), Limits()) as listener:
        stream = await listener.connect()
        for number in range(3):
            await stream.send_all(request_bytes(event(str(number))))
            began = trio.current_time()
            data = bytes(await stream.receive_some())
            assert data.startswith(b"HTTP/1.1 200")
            await trio.sleep(50)
        assert bytes(await stream.receive_some()) == b""
        assert 59 < trio.current_time() - began < 61


@pytest.mark.usefixtures("expected_errors")
@pytest.mark.slow
async def test_handlers_that_hang_or_fail(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async def fail(request: Request) -> Response:
        raise RuntimeError("a bug with a secret")

    async with intake([an_address(hang, "/hang"), an_address(fail, "/fail")], QUICK) as connect:
        for path, expected in (("/hang", 503), ("/fail", 500)):
            status, _, body = await exchange(connect, request_bytes({}, path))
            assert status == expected
            assert b"secret" not in body
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


@pytest.mark.slow
async def test_a_client_that_stops_reading_is_dropped() -> None:
    async def flood(request: Request) -> Response:
        return Response(body=b"x" * 8_000_000)

    async with intake([an_address(flood)], QUICK) as connect, await connect() as stream:
        await stream.send_all(request_bytes({}))
        await trio.sleep(1.2)  # longer than write_s, and TCP_USER_TIMEOUT for what the kernel holds
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await stream.send_all(b"x" * 65536)
                await trio.sleep(0.01)


async def test_room_is_made_by_the_longest_idle(gateway: Gateway) -> None:
    async with intake(gateway.addresses(), Limits(connections=3)) as connect:
        streams = [await connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await Answers(stream).status() == 200
        await alive(connect)
        with trio.fail_after(2):
            assert bytes(await streams[0].receive_some()) == b""
        for stream in streams:
            await stream.aclose()


async def test_no_room(gateway: Gateway) -> None:
    async with intake(gateway.addresses(), Limits(connections=1)) as connect:
        async with await connect() as busy:
            await busy.send_all(b"POST /dial HTTP/1.1\r\n")
            await trio.sleep(0.05)
            async with await connect() as stream:
                found = await Answers(stream).next()
            assert found is not None
            assert (found[0], found[1]["connection"]) == (503, "close")
        await trio.sleep(0.05)
        await alive(connect)


async def test_what_gathered_while_we_were_away_is_answered_beyond_its_share(gateway: Gateway) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(60)]
    for stream in streams:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    async with trio.open_nursery() as nursery:
        limits = Limits(per_address=5, busy_per_address=100)
        await nursery.start(
            lambda task_status: serve_intake([listener], gateway.addresses(), limits, task_status=task_status)
        )
        for stream in streams:
            assert await Answers(stream).status() == 200
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_stopping_finishes_what_is_in_hand(gateway: Gateway) -> None:
    began, go_on = trio.Event(), trio.Event()

    async def slow(request: Request) -> Response:
        began.set()
        await go_on.wait()
        return answer_json({"status": "done"})

    async with trio.open_nursery() as outer:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listeners[0].socket.getsockname()
        serving = trio.CancelScope()
        ended = trio.Event()

        async def serve(task_status: trio.TaskStatus[Any]) -> None:
            with serving:
                await serve_intake(listeners, [an_address(slow)], Limits(grace_s=5), task_status=task_status)
            ended.set()

        await outer.start(serve)
        stream, idle = [await trio.testing.open_stream_to_socket_listener(listeners[0]) for _ in range(2)]
        await stream.send_all(request_bytes({}))
        await began.wait()
        serving.cancel()
        with trio.fail_after(1):
            assert bytes(await idle.receive_some()) == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(*address)
        go_on.set()
        found = await Answers(stream).next()
        assert found is not None
        assert (found[0], found[1]["connection"]) == (200, "close")
        await stream.aclose()
        with trio.fail_after(2):
            await ended.wait()
        await idle.aclose()


async def test_a_request_that_comes_while_we_stop_is_answered(gateway: Gateway) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as outer:
        serving, ended = trio.CancelScope(), trio.Event()

        async def serve(task_status: trio.TaskStatus[Any]) -> None:
            with serving:
                await serve_intake(listeners, gateway.addresses(), Limits(last_s=0.3), task_status=task_status)
            ended.set()

        await outer.start(serve)
        kept, fresh, idle = [await trio.testing.open_stream_to_socket_listener(listeners[0]) for _ in range(3)]
        answers = Answers(kept)
        await kept.send_all(request_bytes(event()))
        found = await answers.next()
        assert found is not None
        assert "connection" not in found[1]
        serving.cancel()
        await trio.sleep(0.05)
        for stream, reader in ((kept, answers), (fresh, Answers(fresh))):
            await stream.send_all(request_bytes(event()))
            found = await reader.next()
            assert found is not None
            assert (found[0], found[1]["connection"]) == (200, "close")
            assert await reader.next() is None
            await stream.aclose()
        with trio.fail_after(1):
            assert bytes(await idle.receive_some()) == b""
            await ended.wait()
        await idle.aclose()


@pytest.mark.slow
async def test_stopping_is_bounded() -> None:
    async def flood(request: Request) -> Response:
        return Response(body=b"x" * 8_000_000)

    async def hang(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    began = trio.current_time()
    async with intake([an_address(flood), an_address(hang, "/hang")], Limits(grace_s=0.3)) as connect:
        streams = [await connect() for _ in range(3)]
        for stream, data in zip(streams, (request_bytes({}), request_bytes({}, "/hang"), b"POST "), strict=True):
            await stream.send_all(data)
        await trio.sleep(0.05)
    assert trio.current_time() - began < 10
    for stream in streams:
        await stream.aclose()


async def test_killed_connections(gateway: Gateway) -> None:
    chance = random.Random(7)
    data = b"".join(request_bytes(event(str(number))) for number in range(5))
    async with intake(gateway.addresses()) as connect:

        async def kill(cut: int) -> None:
            stream = await connect()
            await send_what_it_takes(stream, data[:cut], 400)
            if cut % 2:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(kill, chance.randrange(len(data)))
        await alive(connect)
    assert {post.unique_id for post in gateway.journaled} <= set("01234")


@pytest.mark.slow
async def test_random_bytes(gateway: Gateway) -> None:
    chance = random.Random(11)
    whole = request_bytes(event(), "/dial", "Connection: upgrade", "Upgrade: h2c")
    async with memory_intake(gateway.addresses(), QUICK) as listener:
        for number in range(2000):
            if number % 2:
                data = chance.randbytes(chance.randrange(1, 300))
            else:
                spoiled = bytearray(whole)
                for _ in range(chance.randrange(1, 8)):
                    spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
                data = bytes(spoiled)
            stream = await listener.connect()
            await stream.send_all(data)
            await stream.send_eof()
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass
        stream = await listener.connect()
        await stream.send_all(request_bytes(event("last")))
        assert await Answers(stream).status() == 200


async def test_log_lines_cannot_be_forged(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with intake(gateway.addresses()) as connect:
        await exchange(connect, request_bytes(event(Token="x\r\nERROR forged"), "/dial?token=hunter2"))
        await exchange(connect, request_bytes(event(), "/%0d%0aERROR"))
    assert "forged" not in caplog.text
    assert "hunter2" not in caplog.text
