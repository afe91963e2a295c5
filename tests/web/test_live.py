"""The stream of live calls: rows as they happen, whole tables after a loss, an end with the session."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from actors.feed import MOST_PENDING
from gateway.domain.events import Result
from gateway.domain.ids import CallId
from gateway.store import users
from gateway.web.pages import live
from gateway.web.pages.live import sse
from tests.web.conftest import SignIn
from tests.web.world import HASHED, JUNE, MAPLE, World, answered, ended, ringing


@asynccontextmanager
async def streaming(client: Any, path: str = "/t/0367/calls/live") -> AsyncIterator[Any]:
    """The open stream; `await anext_event()` gives its next event."""
    async with client.request(path, headers={"Accept": "text/event-stream"}) as connection:
        await connection.send_complete()

        async def next_event() -> dict[str, str]:
            with trio.fail_after(5):
                text = (await connection.receive()).decode()
            fields: dict[str, str] = {}
            for line in text.splitlines():
                name, _, value = line.partition(": ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
            return fields

        yield next_event
        await connection.disconnect()


async def test_rows_come_as_calls_change(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    first = ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "100", ["150"])
    await world.keep(JUNE, [first])
    async with streaming(client) as next_event:
        everything = await next_event()
        assert everything["event"] == "all"
        assert 'id="live-5.5"' in everything["data"]
        await world.keep(JUNE, [first, answered(first, "150")])
        world.feed.publish(JUNE, first.call_id)
        row = await next_event()
        assert (row["event"], row["id"]) == ("call", "5.5")
        assert "+375 29 111-00-00" in row["data"]
        assert "Talking" in row["data"]
        await world.keep(JUNE, [first, answered(first, "150"), ended(first, 9, Result.ANSWERED, "150")])
        world.feed.publish(JUNE, first.call_id)
        gone, over = await next_event(), await next_event()
        assert (gone["event"], gone["id"]) == ("gone", "5.5")
        assert (over["event"], over["id"]) == ("ended", "5.5")
        assert 'id="call-5.5"' in over["data"]


async def test_nothing_of_another_company_comes_by(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for tenant, number in ((JUNE, "+375291110000"), (MAPLE, "+442079460999")):
        await world.keep(tenant, [ringing(CallId("5.5"), datetime.now(UTC), number, "100", [])])
    async with streaming(client) as next_event:
        assert "7946" not in (await next_event())["data"]
        world.feed.publish(MAPLE, CallId("5.5"))
        world.feed.publish(JUNE, CallId("5.5"))
        row = await next_event()
        assert "+375 29 111-00-00" in row["data"]
        assert "7946" not in row["data"]


async def test_a_page_that_fell_behind_gets_everything(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    await world.keep(JUNE, [ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "100", ["150"])])
    async with streaming(client) as next_event:
        await next_event()
        for number in range(MOST_PENDING + 1):
            world.feed.publish(JUNE, CallId(f"x.{number}"))
        event = await next_event()
        assert event["event"] == "all"
        assert 'id="live-5.5"' in event["data"]


async def test_a_quiet_stream_says_that_it_lives(
    world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    async with streaming(await sign_in()) as next_event:
        await next_event()
        assert await next_event() == {"": "still here"}


async def test_the_stream_ends_with_the_session(world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(live, "SESSION_CHECK_S", 0.0)
    client = await sign_in()
    async with client.request("/t/0367/calls/live") as connection:
        await connection.send_complete()
        await connection.receive()
        await world.db.engine(users.upsert_user, JUNE, "admin@0367.example", HASHED)
        with trio.fail_after(5), pytest.raises(trio.EndOfChannel):
            while True:
                await connection.receive()


async def test_a_client_that_leaves_frees_its_subscription(world: World, sign_in: SignIn) -> None:
    async with streaming(await sign_in()) as next_event:
        await next_event()
        assert world.feed._subscriptions
    assert not world.feed._subscriptions


def test_what_goes_over_the_wire() -> None:
    assert sse("call", "<tr>\n</tr>\n", "a\nb") == "event: call\nid: ab\ndata: <tr>\ndata: </tr>\n\n"
    assert sse("gone", "", "1") == "event: gone\nid: 1\ndata: \n\n"
