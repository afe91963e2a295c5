"""The stream of live calls: rows as they happen, whole tables after a loss, an end with the session."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from actors.feed import MOST_PENDING
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId
from gateway.domain.subjects import call_subject
from gateway.store import users
from gateway.web.pages import live
from gateway.web.pages.live import sse
from gateway.web.session import live_streams
from tests.web.world import CSRF, HASHED, JUNE, MAPLE, World, answered, ended, ringing


class Stream:
    """One open stream, as a server would see it: quart's test client cannot leave before the end."""

    def __init__(self, cookie: str, path: str = "/t/0367/calls/live", query: str = "") -> None:
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
            "headers": [(b"host", b"localhost"), (b"accept", b"text/event-stream"),
                        (b"cookie", f"session={cookie}; language=en".encode())],
        }  # fmt: skip
        self.started = trio.Event()
        self.ended = trio.Event()
        self.headers: dict[str, str] = {}
        self._left = trio.Event()
        self._requested = False
        self._send, self._receive = trio.open_memory_channel[str](100)

    async def receive(self) -> dict[str, Any]:
        if not self._requested:
            self._requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.started.set()
        elif message.get("body"):
            await self._send.send(message["body"].decode())
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended.set()

    async def next(self, *, figures: bool = False) -> dict[str, str]:
        """The next event; those with the figures of the day are passed over unless they are wanted."""
        while True:
            with trio.fail_after(5):
                text = await self._receive.receive()
            fields: dict[str, str] = {}
            for line in filter(None, text.splitlines()):
                name, _, value = line.partition(": ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            if figures or fields.get("event") != "figures":
                return fields

    def leave(self) -> None:
        """The client goes away."""
        self._left.set()


@asynccontextmanager
async def streaming(
    world: World, cookie: str | None = None, path: str = "/t/0367/calls/live", query: str = ""
) -> AsyncIterator[Stream]:
    """A stream of the first company's calls, left at the block's end."""
    stream = Stream(cookie or await world.session(JUNE), path, query)
    async with trio.open_nursery() as nursery:
        app: Any = world.app
        nursery.start_soon(app, stream.scope, stream.receive, stream.send)
        yield stream
        stream.leave()


async def test_rows_come_as_calls_change(world: World) -> None:
    first = ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "100", ["150"])
    await world.keep(JUNE, [first])
    async with streaming(world) as stream:
        everything = await stream.next()
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert everything["event"] == "all"
        assert 'id="live-5.5"' in everything["data"]
        await world.keep(JUNE, [first, answered(first, "150")])
        world.feed.publish(JUNE, call_subject(first.call_id))
        row = await stream.next()
        assert (row["event"], row["id"]) == ("call", "5.5")
        assert "+375 29 111-00-00" in row["data"]
        assert "Talking" in row["data"]
        await world.keep(JUNE, [first, answered(first, "150"), ended(first, 9, Result.ANSWERED, "150")])
        world.feed.publish(JUNE, call_subject(first.call_id))
        gone, over = await stream.next(), await stream.next()
        assert (gone["event"], gone["id"]) == ("gone", "5.5")
        assert (over["event"], over["id"]) == ("ended", "5.5")
        assert 'id="call-5.5"' in over["data"]


async def test_nothing_of_another_company_comes_by(world: World) -> None:
    for tenant, number in ((JUNE, "+375291110000"), (MAPLE, "+442079460999")):
        await world.keep(tenant, [ringing(CallId("5.5"), datetime.now(UTC), number, "100", [])])
    async with streaming(world) as stream:
        assert "7946" not in (await stream.next())["data"]
        world.feed.publish(MAPLE, call_subject("5.5"))
        world.feed.publish(JUNE, call_subject("5.5"))
        row = await stream.next()
        assert "+375 29 111-00-00" in row["data"]
        assert "7946" not in row["data"]


async def test_a_page_that_fell_behind_gets_everything(world: World) -> None:
    await world.keep(JUNE, [ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "100", ["150"])])
    async with streaming(world) as stream:
        await stream.next()
        for number in range(MOST_PENDING + 1):
            world.feed.publish(JUNE, call_subject(f"x.{number}"))
        event = await stream.next()
        assert event["event"] == "all"
        assert 'id="live-5.5"' in event["data"]


async def test_a_quiet_stream_says_that_it_lives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    async with streaming(world) as stream:
        await stream.next()
        assert await stream.next() == {"": "still here"}


async def test_the_stream_ends_with_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(live_streams, "CHECK_S", 0.0)
    async with streaming(world) as stream:
        await stream.next()
        await world.db.engine(users.upsert_user, JUNE, "admin@0367.example", HASHED)
        with trio.fail_after(5):
            await stream.ended.wait()


async def test_streams_end_at_once_when_somebody_signs_out(world: World) -> None:
    cookie = await world.session(JUNE)
    client = world.app.test_client()
    client.set_cookie("localhost", "session", cookie)
    async with streaming(world, cookie) as one, streaming(world, cookie) as two, streaming(world) as other:
        for stream in (one, two, other):
            await stream.next()
        assert (await client.post("/logout", form={"csrf": CSRF})).status_code == 303
        with trio.fail_after(2):
            await one.ended.wait()
            await two.ended.wait()
        await trio.sleep(0.05)
        assert not other.ended.is_set(), "another session's goes on"


@pytest.mark.parametrize("key", ["PER_SESSION", "PER_TENANT", "PER_ADDRESS", "IN_ALL"])
async def test_the_oldest_stream_ends_for_a_newer_one(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(live_streams, key, 2)
    cookie = await world.session(JUNE)
    async with streaming(world, cookie) as first:
        await first.next()
        async with streaming(world, cookie) as second:
            await second.next()
            async with streaming(world, cookie) as third:
                await third.next()
                assert await first.next() == {"retry": "60000"}
                with trio.fail_after(2):
                    await first.ended.wait()
                assert not second.ended.is_set()


async def test_a_client_that_leaves_frees_its_subscription(world: World) -> None:
    async with streaming(world) as stream:
        await stream.next()
        assert world.feed._subscriptions
    assert not world.feed._subscriptions


def test_what_goes_over_the_wire() -> None:
    assert sse("call", "<tr>\n</tr>\n", "a\nb") == "event: call\nid: ab\ndata: <tr>\ndata: </tr>\n\n"
    assert sse("gone", "", "1") == "event: gone\nid: 1\ndata: \n\n"


async def test_the_figures_of_the_day_grow_with_the_table_and_add_up(world: World) -> None:
    async with streaming(world) as stream:
        events = [await stream.next(figures=True), await stream.next(figures=True)]
        assert [event["event"] for event in events] == ["all", "figures"]
        at = datetime.now(UTC)
        for place, (direction, result) in enumerate(
            ((Direction.INCOMING, Result.ANSWERED), (Direction.INCOMING, Result.MISSED), (Direction.INCOMING, Result.BUSY),
             (Direction.OUTGOING, Result.NO_ANSWER), (Direction.INTERNAL, Result.MISSED))
        ):  # fmt: skip
            caller, called = ("150", "+375291110000") if direction is Direction.OUTGOING else ("+375291110000", "100")
            call = ringing(CallId(f"6.{place}"), at, caller, called, ["150"], direction=direction)
            await world.keep(JUNE, [call, ended(call, 9, result, "150" if result is Result.ANSWERED else None)])
            world.feed.publish(JUNE, call_subject(call.call_id))
            assert [(await stream.next(figures=True))["event"] for _ in range(3)] == [
                "gone",
                "ended",
                "figures",
            ] or place
        page = await (await sign_in_to(world)).get("/t/0367/calls")
        figures = (await page.get_data(as_text=True)).partition('<dl class="figures">')[2].partition("</dl>")[0]
        numbers = [int(one) for one in re.findall(r"(?:<dd[^>]*>|</span>)(\d+)<", figures)]
        assert numbers == [4, 1, 2, 1]
        assert numbers[0] == sum(numbers[1:])


async def sign_in_to(world: World) -> Any:
    client = world.app.test_client()
    client.set_cookie("localhost", "session", await world.session(JUNE))
    return client
