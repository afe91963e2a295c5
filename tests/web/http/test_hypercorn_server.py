"""The hardened listener for people: nothing a client sends ends it, and nothing a client leaves undone holds it.

Over 400 lines: most of them are what clients may send.
"""

import json
import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
import trio
from quart import Response as QuartResponse
from quart_trio import QuartTrio

from gateway.domain.posts import ADDRESSES
from gateway.listening import listening_socket
from gateway.web.http import hypercorn_server
from gateway.web.http.hypercorn_server import mount, serve_people
from gateway.web.http.routes import Address, Request, Response
from tests.web.api.held_gateway import Gateway, event, request_bytes

from .test_intake import Answers

OK = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Site:
    """Where it is served, and how to stop it."""

    port: int
    shutdown: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        async with await self.connect() as stream:
            await stream.send_all(data)
            found = await Answers(stream).next()
        assert found is not None
        return found

    async def alive(self) -> None:
        assert (await self.ask(OK))[0] == 200


@asynccontextmanager
async def served(app: QuartTrio, *, grace_s: float = 0.3, keep_alive_s: float = 5.0) -> AsyncIterator[Site]:
    sock = listening_socket(("127.0.0.1", 0))
    site = Site(sock.getsockname()[1])

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve_people(
            app, sock, grace_s=grace_s, shutdown=site.shutdown, keep_alive_s=keep_alive_s, task_status=task_status
        )
        site.ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield site
        site.shutdown.set()
        with trio.fail_after(grace_s + 2):
            await site.ended.wait()


def an_app(gateway: Gateway, *others: Address) -> QuartTrio:
    app = QuartTrio("people")
    mount(app, gateway.addresses(*others, operator_open=True))

    @app.get("/flood")
    async def flood() -> QuartResponse:
        return QuartResponse(b"x" * 16_000_000)

    @app.get("/live")
    async def live() -> QuartResponse:
        async def events() -> AsyncIterator[str]:
            yield "data: here\n\n"
            await trio.sleep_forever()

        response = QuartResponse(events(), content_type="text/event-stream; charset=utf-8")
        response.timeout = None
        return response

    @app.get("/slow")
    async def slow() -> str:
        await trio.sleep(0.15)
        return "done"

    @app.get("/hang")
    async def hang() -> str:
        await trio.sleep(3600)
        return ""

    @app.post("/unread")
    async def unread() -> str:
        return "not read"

    return app


KILLERS = [
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\ntrailing",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\xff\xff\xff",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: \xff\xfe\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \xe9\r\nConnection: \xe9, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: \xff;\xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x08\x01\x05\x00\x00\x00\x01\x82\x86\x44\x03/\xff\xfe\x41",
    b"PRI * HTTP/2.0\r\n\r\n" + b"\x00" * 100,
    b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: !!!!\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\ntrailing",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%ff%fe?%ff=%fe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nbytes",
    b"\xff /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /health\r\n\r\n",
    b"\r\n\r\n\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    b"GET /health HTTP/1.1\r\nHost: a\r\nCookie: \xff\xfe=\xfd\r\nAccept-Language: \xff\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Type: \xff\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /dial HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
] + [
    b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\nUpgrade: %s\r\n\r\n%s" % parts
    for parts in product(
        (b"GET", b"POST"), (b"/", b"/\xc3\xa9"), (b"a", b"\xe9"), (b"upgrade", b"\xff"), (b"websocket", b"h2c", b"\xff"),
        (b"", b"\x82\x05\x00trailing"),
    )
]  # fmt: skip


@pytest.mark.slow
async def test_no_input_ends_it(gateway: Gateway) -> None:
    assert len(KILLERS) > 120
    async with served(an_app(gateway)) as site:
        for data in KILLERS:
            for eof in (True, False):
                async with await site.connect() as stream:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(data)
                        if eof:
                            await stream.send_eof()
                        with trio.move_on_after(0.02):
                            await stream.receive_some(65536)
            await site.alive()


@pytest.mark.slow
async def test_random_bytes_do_not_end_it(gateway: Gateway) -> None:
    chance = random.Random(5)
    whole = request_bytes(event(), "/dial", "Connection: Upgrade", "Upgrade: websocket")
    async with served(an_app(gateway)) as site:

        async def one(data: bytes) -> None:
            async with await site.connect() as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                    await stream.send_eof()
                    with trio.move_on_after(5):
                        while await stream.receive_some(65536):
                            pass

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    spoiled = bytearray(whole if number % 2 else chance.randbytes(200))
                    for _ in range(chance.randrange(8)):
                        spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
                    nursery.start_soon(one, bytes(spoiled))
            await site.alive()


async def test_a_failing_connection_is_contained(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever else hypercorn has in store: plain errors and groups of them end with their connection."""
    real = hypercorn_server._Http1.handle

    async def fail(self: hypercorn_server._Http1, event: Any) -> None:
        if b"boom" in getattr(event, "data", b""):
            async with trio.open_nursery(strict_exception_groups=True):
                raise KeyError("quoted from the request")
        await real(self, event)

    monkeypatch.setattr(hypercorn_server._Http1, "handle", fail)
    async with served(an_app(gateway)) as site:
        for _ in range(3):
            async with await site.connect() as stream:
                await stream.send_all(b"boom")
                assert bytes(await stream.receive_some()) == b""
            await site.alive()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "connection failed")
    ] * 3
    assert "quoted" not in caplog.text


@pytest.mark.slow
async def test_keep_alive_ends_after_the_first_request(gateway: Gateway) -> None:
    async with served(an_app(gateway), keep_alive_s=0.25) as site, await site.connect() as stream:
        answers = Answers(stream)
        for _ in range(3):
            await stream.send_all(OK)
            assert await answers.status() == 200
            await trio.sleep(0.1)
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await answers.status() == 200
        began = trio.current_time()
        with trio.fail_after(20):
            assert await answers.next() is None
        assert 0.1 < trio.current_time() - began < 10


@pytest.mark.parametrize("data", [b"", b"GET /health HTTP/1.1\r\nHost:"])
async def test_headers_that_do_not_end(gateway: Gateway, data: bytes) -> None:
    async with served(an_app(gateway), keep_alive_s=0.2) as site, await site.connect() as stream:
        await stream.send_all(data)
        with trio.fail_after(2):
            assert bytes(await stream.receive_some()) == b""


async def test_stopping_lets_requests_finish(gateway: Gateway) -> None:
    async with served(an_app(gateway), grace_s=2) as site:
        async with await site.connect() as stream, await site.connect() as idle:
            await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await idle.send_all(OK)
            assert await Answers(idle).status() == 200
            site.shutdown.set()
            found = await Answers(stream).next()
            assert found is not None
            assert (found[0], found[2]) == (200, b"done")
            assert bytes(await idle.receive_some()) == b""
        with trio.fail_after(1):
            await site.ended.wait()
        with pytest.raises(OSError, match="connect"):
            await site.connect()


async def test_a_request_that_comes_while_we_stop_is_answered(gateway: Gateway) -> None:
    async with served(an_app(gateway), grace_s=2) as site:
        async with await site.connect() as kept, await site.connect() as fresh:
            answers = Answers(kept)
            await kept.send_all(OK)
            found = await answers.next()
            assert found is not None
            assert "connection" not in found[1]
            site.shutdown.set()
            await trio.sleep(0.05)
            for stream, reader in ((kept, answers), (fresh, Answers(fresh))):
                await stream.send_all(OK)
                found = await reader.next()
                assert found is not None
                assert (found[0], found[1]["connection"]) == (200, "close")
                assert await reader.next() is None
        with trio.fail_after(0.3):
            await site.ended.wait()


async def test_a_stream_of_events_does_not_hold_up_stopping(gateway: Gateway) -> None:
    async with served(an_app(gateway), grace_s=2) as site, await site.connect() as stream:
        await stream.send_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
        data = b""
        while b"here" not in data:
            data += bytes(await stream.receive_some())
        site.shutdown.set()
        with trio.fail_after(0.3):
            assert bytes(await stream.receive_some()) == b""
            await site.ended.wait()


async def test_more_than_fit_wait_for_their_turn(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercorn_server, "CONNECTIONS", 2)
    async with served(an_app(gateway)) as site:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await site.ask(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))[0])

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(ask)
        assert statuses == [200] * 6


async def test_what_gathered_while_we_were_away_is_answered_beyond_its_share(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypercorn_server, "PER_ADDRESS", 5)
    sock = listening_socket(("127.0.0.1", 0))
    streams = [await trio.open_tcp_stream("127.0.0.1", sock.getsockname()[1]) for _ in range(60)]
    for stream in streams:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: serve_people(
                an_app(gateway), sock, grace_s=1, shutdown=trio.Event(), task_status=task_status
            )
        )
        for stream in streams:
            with trio.fail_after(10):
                assert bytes(await stream.receive_some(12)) == b"HTTP/1.1 200"
            await stream.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/flood", "/hang"])
@pytest.mark.slow
async def test_stopping_is_bounded(gateway: Gateway, path: str) -> None:
    """A client that stops reading, or a page that never answers, holds nothing beyond the grace period."""
    async with served(an_app(gateway), grace_s=0.2) as site, await site.connect() as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await trio.sleep(0.1)
        began = trio.current_time()
        site.shutdown.set()
        with trio.fail_after(20):
            await site.ended.wait()
        assert trio.current_time() - began < 10


async def test_cancelling_is_prompt(gateway: Gateway) -> None:
    sock = listening_socket(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with trio.fail_after(3):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: serve_people(
                    an_app(gateway), sock, grace_s=60, shutdown=trio.Event(), task_status=task_status
                )
            )
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    await stream.aclose()


@pytest.mark.slow
async def test_a_client_that_stops_reading_is_dropped(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypercorn_server, "WRITE_S", 0.2)
    async with served(an_app(gateway)) as site, await site.connect() as stream:
        await stream.send_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await trio.sleep(1)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(50):
                await stream.send_all(b"x" * 65536)
                await trio.sleep(0.01)
        await site.alive()


async def test_an_answer_before_the_body_is_seen_and_ends_the_connection(gateway: Gateway) -> None:
    grace_s = 10.0
    async with served(an_app(gateway), grace_s=grace_s) as site:
        for path, status in (("/dial", 413), ("/unread", 200)):
            size = 3_000_000
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
            async with await site.connect() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(pour, stream, head + b"x" * size)
                answers = Answers(stream)
                assert await answers.status() == status
                with trio.fail_after(2):
                    assert await answers.next() is None
                nursery.cancel_scope.cancel()
        began = trio.current_time()
    assert trio.current_time() - began < grace_s / 2  # no connection is left behind


async def pour(stream: trio.SocketStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(data)


async def test_machine_addresses_on_this_side(gateway: Gateway) -> None:
    async with served(an_app(gateway)) as site:
        for path in ADDRESSES[:4]:
            status, headers, body = await site.ask(request_bytes(event(), path))
            assert (status, json.loads(body)) == (200, {"status": "accepted"})
            assert (headers["content-type"], headers["cache-control"]) == ("application/json", "no-store")
        assert (await site.ask(request_bytes(event(Token="x"))))[0] == 401
        assert (await site.ask(request_bytes(b"{")))[0] == 422
        status, headers, body = await site.ask(request_bytes(b"", method="PUT"))
        assert (status, headers["allow"]) == (405, "post")
        assert json.loads(body)["code"] == "VALIDATION_ERROR"
        assert (await site.ask(request_bytes(b"x" * (256 * 1024 + 1))))[0] == 413
        chunked = b"POST /dial HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        status, headers, body = await site.ask(chunked + b"10000\r\n%s\r\n" % (b"x" * 65536) * 5)
        assert (status, json.loads(body)["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert (await site.ask(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200
        assert (await site.ask(b"GET http://a/health HTTP/1.1\r\nHost: a\r\n\r\n"))[0] == 200
        assert (await site.ask(b"GET /integrations/9%2f9 HTTP/1.1\r\nHost: a\r\n\r\n"))[0] in (403, 404)
        document = json.loads((await site.ask(b"GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"))[2])
        assert "/integrations/{number}" in document["paths"]
        assert b"<html" in (await site.ask(b"GET /api/docs HTTP/1.1\r\nHost: a\r\n\r\n"))[2]


async def test_operators_on_this_side(gateway: Gateway) -> None:
    async with served(an_app(gateway)) as site:
        here = b"GET /integrations/0367 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        assert (await site.ask(here + b"\r\n"))[0] == 200
        for line in (b"X-Forwarded-For: 127.0.0.1", b"Forwarded: for=127.0.0.1", b"X-Real-IP: 127.0.0.1"):
            assert (await site.ask(here + line + b"\r\n\r\n"))[0] == 403
        elsewhere = here.replace(b"Host: 127.0.0.1", b"Host: evil.example")
        assert (await site.ask(elsewhere + b"Remote-Addr: 127.0.0.1\r\n\r\n"))[0] == 403


@pytest.mark.parametrize("share", [0.5, 0.9])
async def test_a_short_body_reaches_no_handler(gateway: Gateway, share: float) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response()

    address = Address(method="POST", path="/hook", handler=handler, summary="")
    async with served(an_app(gateway, address)) as site:
        data = request_bytes(event(), "/hook")
        async with await site.connect() as stream:
            await stream.send_all(data[: int(len(data) * share)])
        await trio.sleep(0.05)
        await site.alive()
        assert (await site.ask(data))[0] == 200
    assert len(seen) == 1


def test_the_socket_is_ours() -> None:
    with listening_socket(("127.0.0.1", 0)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with pytest.raises(OSError, match="in use"):
            listening_socket(("127.0.0.1", sock.getsockname()[1]))
