"""Bodies that are taken as they come, on both listeners: never held, bounded, and no worse for what clients do."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from gateway.listening import listening_socket
from gateway.web.http.hypercorn_server import mount, serve_people
from gateway.web.http.intake import Limits, serve_intake
from gateway.web.http.routes import Address, Pull, Request, Response, answer_json

from .test_intake import Answers

LIMIT = 4 << 20
LIMITS = Limits(piece_s=0.5, linger_s=0.2, grace_s=0.3)


class Taker:
    """A handler that digests what comes, as slowly as it is told to."""

    def __init__(self) -> None:
        self.pause_s = 0.0
        self.pieces: list[int] = []
        self.early = False

    async def take(self, request: Request, pull: Pull) -> Response:
        if self.early:
            return answer_json({"early": True}, 401)
        digest = hashlib.sha256()
        while piece := await pull():
            self.pieces.append(len(piece))
            digest.update(piece)
            await trio.sleep(self.pause_s)
        return answer_json({"digest": digest.hexdigest()})


async def whole(request: Request) -> Response:
    return answer_json({"size": len(request.body)})


def addresses(taker: Taker) -> list[Address]:
    return [
        Address(
            method="POST", path="/take", handler=whole, stream=taker.take, body_limit=LIMIT, intake=True, summary=""
        ),
        Address(method="POST", path="/whole", handler=whole, intake=True, summary=""),
    ]


@asynccontextmanager
async def intake(taker: Taker) -> AsyncIterator[Callable[[], Any]]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(
            lambda task_status: serve_intake(listeners, addresses(taker), LIMITS, task_status=task_status)
        )
        port = listeners[0].socket.getsockname()[1]
        yield partial(trio.open_tcp_stream, "127.0.0.1", port)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def people(taker: Taker) -> AsyncIterator[Callable[[], Any]]:
    app = QuartTrio(__name__)
    mount(app, addresses(taker))
    sock = listening_socket(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: serve_people(app, sock, grace_s=0.2, shutdown=trio.Event(), task_status=task_status)
        )
        yield partial(trio.open_tcp_stream, "127.0.0.1", port)
        nursery.cancel_scope.cancel()


both = pytest.mark.parametrize("serve", [intake, people])


def head(length: int | None, path: str = "/take", *lines: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join((f"POST {path} HTTP/1.1", "Host: x", framing, *lines, "\r\n")).encode()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@both
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_a_body_comes_through_and_the_connection_goes_on(serve: Any, size: int) -> None:
    taker, data = Taker(), bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    async with serve(taker) as connect, await connect() as stream:
        answers = Answers(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, head(size) + data + head(3, "/whole") + b"abc" + head(size) + data)
            for _ in range(2):
                first = await answers.next()
                assert first is not None
                assert (first[0], sha(data) in first[2].decode()) == (200, True)
                if _ == 0:
                    second = await answers.next()
                    assert second is not None
                    assert b"3" in second[2]
    assert max(taker.pieces, default=0) <= 64 * 1024 + 16


@both
async def test_chunks(serve: Any) -> None:
    async with serve(Taker()) as connect, await connect() as stream:
        await stream.send_all(head(None) + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        answer = await Answers(stream).next()
        assert answer is not None
        assert sha(b"hello world") in answer[2].decode()


@both
async def test_a_slow_taker_holds_the_client_and_not_the_memory(serve: Any) -> None:
    taker = Taker()
    taker.pause_s = 10.0
    sent = 0
    async with serve(taker) as connect, await connect() as stream:
        await stream.send_all(head(LIMIT))
        with trio.move_on_after(0.7):
            while sent < LIMIT:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        assert len(taker.pieces) <= 2
        assert sent < LIMIT, "what the kernel and a short queue hold, and no more"


@both
@pytest.mark.parametrize("length", [LIMIT + (1 << 20), None])
async def test_too_much(serve: Any, length: int | None) -> None:
    async with serve(Taker()) as connect, await connect() as stream:
        await stream.send_all(head(length))
        with trio.move_on_after(5), pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError, TimeoutError)):
            async with trio.open_nursery() as nursery:

                async def flood() -> None:
                    while length is None:
                        await stream.send_all(b"10000\r\n" + b"x" * 65536 + b"\r\n")

                nursery.start_soon(flood)
                answer = await Answers(stream).next()
                assert answer is not None
                assert answer[0] == 413
                nursery.cancel_scope.cancel()
            raise TimeoutError


@both
async def test_an_early_answer_ends_the_connection(serve: Any) -> None:
    taker = Taker()
    taker.early = True
    async with serve(taker) as connect, await connect() as stream:
        await stream.send_all(head(1_000_000) + b"x" * 1000)
        answers = Answers(stream)
        answer = await answers.next()
        assert answer is not None
        assert (answer[0], answer[1]["connection"]) == (401, "close")
        assert await answers.next() is None


@both
async def test_a_body_cut_short_is_nobody_s(serve: Any) -> None:
    async with serve(Taker()) as connect, await connect() as stream:
        await stream.send_all(head(1000) + b"x" * 500)
        await stream.send_eof()
        answer = await Answers(stream).next()
        assert answer is None or answer[0] == 400


async def test_a_body_that_stops_coming() -> None:
    async with intake(Taker()) as connect, await connect() as stream:
        await stream.send_all(head(1000) + b"x" * 500)
        answer = await Answers(stream).next()
        assert answer is not None
        assert answer[0] == 408


async def test_who_asks_first_is_told_to_go_on() -> None:
    async with intake(Taker()) as connect, await connect() as stream:
        await stream.send_all(head(4, "/take", "Expect: 100-continue"))
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"data")
        answer = await Answers(stream).next()
        assert answer is not None
        assert sha(b"data") in answer[2].decode()
