"""What a browser may notify its person of: calls at their own numbers, and troubles for those who see them; nothing else."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.chats import human
from gateway.domain.events import Direction, Result
from gateway.domain.health import State
from gateway.domain.ids import CallId
from gateway.domain.people import Role
from gateway.domain.subjects import call_subject
from gateway.web.pages import alerts, live
from tests.web.chats import connect, conversation_with, receives
from tests.web.conftest import SignIn
from tests.web.pages.test_inbox import wrote
from tests.web.pages.test_live import Stream, streaming
from tests.web.world import JUNE, World, answered, ended, ringing

PATH = "/t/0367/alerts"


def told(event: dict[str, str]) -> Any:
    return json.loads(event["data"])


async def agent(world: World) -> str:
    return await world.person(JUNE, "ivan@june.example", Role.AGENT, ["151"])


async def beginning(stream: Stream) -> dict[str, str]:
    """The first event that says something: before it comes how soon to reconnect."""
    assert "retry" in await stream.next()
    return await stream.next()


async def test_a_call_at_ones_own_number_rings_and_is_missed(world: World) -> None:
    first = ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "100", ["150", "151"])
    other = ringing(CallId("5.6"), datetime.now(UTC), "+375291110001", "100", ["150"])
    await world.keep(JUNE, [first])
    await world.keep(JUNE, [other])
    async with streaming(world, await agent(world), PATH) as stream:
        rings = await beginning(stream)
        assert rings["event"] == "alert"
        assert told(rings) == {
            "key": "ringing 5.5", "tag": "5.5", "title": "Incoming call: +375 29 111-00-00", "body": "151", "href": "/t/0367/calls/5.5",
        }  # fmt: skip
        await world.keep(JUNE, [other, ended(other, 9, Result.MISSED)])
        world.feed.publish(JUNE, call_subject(other.call_id))  # a colleague's: nothing is said of it
        await world.keep(JUNE, [first, ended(first, 9, Result.MISSED)])
        world.feed.publish(JUNE, call_subject(first.call_id))
        missed = await stream.next()
        assert (missed["event"], told(missed)["key"], told(missed)["title"]) == (
            "alert", "missed 5.5", "Missed call: +375 29 111-00-00",
        )  # fmt: skip
        over = await stream.next()
        assert (over["event"], over["id"], over["data"]) == ("over", "5.5", "")


async def test_one_that_was_answered_is_over(world: World) -> None:
    first = ringing(CallId("5.5"), datetime.now(UTC), "152", "151", ["151"], direction=Direction.INTERNAL, trunk=None)
    await world.keep(JUNE, [first])
    async with streaming(world, await agent(world), PATH) as stream:
        assert told(await beginning(stream))["title"] == "Incoming call: 152 Ольга Мороз"
        await world.keep(JUNE, [first, answered(first, "151")])
        world.feed.publish(JUNE, call_subject(first.call_id))
        over = await stream.next()
        assert (over["event"], over["id"]) == ("over", "5.5")


@pytest.mark.parametrize(
    ("direction", "rang"), [(Direction.OUTGOING, ["151"]), (Direction.INCOMING, ["150"]), (Direction.INCOMING, [])]
)
async def test_others_calls_and_ones_own_outgoing_ones_are_no_news(
    world: World, sign_in: SignIn, direction: Direction, rang: list[str]
) -> None:
    first = ringing(CallId("5.5"), datetime.now(UTC), "+375291110000", "151", rang, direction=direction)
    call = await world.keep(JUNE, [first])
    client = await sign_in()
    assert client
    who: Any = type("Who", (), {"tenant": world.cache.tenant(JUNE)})()
    assert alerts.alert_of(who, call, frozenset({"151"})) is None
    call = await world.keep(JUNE, [first, ended(first, 3, Result.MISSED)])
    assert alerts.alert_of(who, call, frozenset({"151"})) is None


async def test_troubles_are_for_those_who_see_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "TROUBLES_S", 0.0)
    slot = world.directory.get("tenant/0367/integration/retailcrm")
    assert slot is not None
    slot.report(State.ONLINE, "ready")
    async with streaming(world, None, PATH) as stream:
        first = await beginning(stream)
        assert (first["event"], told(first)) == ("troubles", [])
        slot.report(State.ATTENTION, "bad_credentials")
        world.feed.publish(JUNE, call_subject("none"))
        (one,) = told(await stream.next())
        assert one == {
            "key": "retailcrm error bad_credentials", "tag": "trouble retailcrm", "title": "RetailCRM: Error",
            "body": "The other side refused the user, the password or the key.", "href": "/t/0367/integrations/retailcrm",
        }  # fmt: skip


async def test_an_agent_hears_of_no_troubles(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "TROUBLES_S", 0.0)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.0)
    slot = world.directory.get("tenant/0367/integration/retailcrm")
    assert slot is not None
    slot.report(State.ATTENTION, "bad_credentials")
    async with streaming(world, await agent(world), PATH) as stream:
        world.feed.publish(JUNE, call_subject("none"))
        found = [await stream.next(), await stream.next(), await stream.next()]
        assert {"": "still here"} in found
        assert not [one for one in found if one.get("event")]


async def test_a_client_who_waits_is_news_once_for_those_who_may_answer(world: World) -> None:
    await connect(world)
    token = await agent(world)
    async with streaming(world, token, PATH) as stream, streaming(world, None, PATH) as of_admin:
        assert "retry" in await stream.next()
        await beginning(of_admin)
        await receives(world, wrote("Есть столик?", person={"name": "Anna"}))
        for one in (stream, of_admin):
            event = await one.next()
            found = told(event)
            chat = await conversation_with(world, "7")
            assert (event["event"], found["title"], found["body"]) == ("alert", "A client waits: Anna", "Есть столик?")
            assert (found["href"], found["tag"], found["sound"]) == (f"/t/0367/inbox/{chat}", str(chat), "chat")
        await receives(world, wrote("Алло?", number=2, at=5.0))
        assert told(await stream.next())["key"] == found["key"], "the browser shows each key once"
        tenant = world.cache.tenant(JUNE)
        assert tenant is not None
        conversing = world.deps.conversing
        assert conversing is not None
        await conversing.take(tenant, chat, human("a-colleague"))  # theirs now: the agent hears no more of it
        await receives(world, wrote("Вы тут?", number=3, at=9.0))
        await conversing.send(tenant, chat, author=human("a-colleague"), text="Да")
        over = await stream.next()
        assert (over["event"], over["id"]) == ("over", str(chat))


async def test_an_auditor_hears_of_no_chat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.0)
    await connect(world)
    auditor = await world.person(JUNE, "audit@june.example", Role.AUDITOR)
    async with streaming(world, auditor, PATH) as stream:
        await receives(world, wrote("Есть столик?"))
        found = [await stream.next() for _ in range(4)]
        assert not [one for one in found if one.get("event") == "alert"]


async def test_the_account_page_has_the_switch(sign_in: SignIn) -> None:
    for language, words in (("en", "Notifications in this browser"), ("ru", "Уведомления в этом браузере")):
        client = await sign_in(language=language)
        page = await (await client.get("/account/security")).get_data(as_text=True)
        assert words in page
        assert 'id="alerts-switch" hidden' in page
        calls = await (await client.get("/t/0367/calls")).get_data(as_text=True)
        assert 'data-alerts="/t/0367/alerts"' in calls
        assert "admin@" not in calls.partition("data-choice=")[2].partition(">")[0]
