"""Customers: found by what is known of them, one history of chats and calls, edited, merged and told apart again."""

import re
from typing import Any
from uuid import UUID

import pytest

from gateway.domain.people import Role
from gateway.store import contacts
from gateway.store.audit import select_audit
from tests.web.chats import connect, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import as_person, text_of, wrote
from tests.web.world import CSRF, JUNE, MAPLE, World, play

HOME = f"/t/{JUNE}/customers"


@pytest.fixture
async def two(world: World) -> tuple[UUID, UUID]:
    """Somebody who wrote, and an entry of the same person made by hand."""
    await connect(world)
    await receives(world, wrote("the red one, please", person={"name": "Anna"}))
    (anna,) = await world.db.tenant(JUNE, contacts.search_contacts, JUNE, "", 10)
    other = await world.db.tenant(
        JUNE, contacts.insert_contact, JUNE, "Anna K.", ["+375291002004"], ["anna@june.example"]
    )
    return anna.id, other


def names(page: str) -> list[str]:
    return re.findall(r'class="row-link" href="[^"]*">([^<]*)<', page)


@pytest.mark.slow
async def test_a_customer_is_found_by_what_is_known(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    client = await sign_in()
    for q, found in (
        ("", ["Anna K.", "Anna"]), ("ANNA", ["Anna K.", "Anna"]), ("29 100-20-04", ["Anna K."]), ("june.example", ["Anna K."]),
        ("red one", ["Anna"]), ("nobody", []), ("%25", []), ("%00", ["Anna K.", "Anna"]),
    ):  # fmt: skip
        assert sorted(names(await text_of(client, f"{HOME}?q={q}"))) == sorted(found), q
    olga = await as_person(world, "olga@june.example", Role.AUDITOR)
    assert names(await text_of(olga, f"{HOME}?q=red one")) == [], "a search would tell what a text holds"
    assert sorted(names(await text_of(olga, HOME))) == ["Anna", "Anna K."]
    assert names(await text_of(await sign_in(MAPLE), f"/t/{MAPLE}/customers")) == []


async def test_an_agent_finds_those_whom_they_talk_with(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    agent = await as_person(world, "ivan@june.example", Role.AGENT)
    assert names(await text_of(agent, HOME)) == ["Anna"]
    await text_of(agent, f"{HOME}/{two[1]}", 404)
    assert "the red one" in await text_of(agent, f"{HOME}/{two[0]}")
    chat = f"/t/{JUNE}/inbox/{await conversation_with(world, '7')}"
    await submitted(await sign_in(), f"{chat}/take", {"csrf": CSRF})
    assert names(await text_of(agent, HOME)) == []
    for path in ("", "/edit", "/merge"):
        await text_of(agent, f"{HOME}/{two[0]}{path}", 404)
    for path in ("/edit", "/merge", "/unmerge"):
        assert (
            await agent.post(f"{HOME}/{two[0]}{path}", form={"csrf": CSRF, "other": str(two[1])})
        ).status_code == 404
    assert (await agent.get(f"{HOME}/new")).status_code == 403


@pytest.mark.slow
async def test_one_history_of_chats_and_calls_in_pages(
    world: World, two: tuple[UUID, UUID], sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.web.pages.customer_history.PAGE", 3)
    calls = await play(world)
    client = await sign_in()
    await receives(
        world, {"event": "PhoneShared", "phone": calls[5].outside, "address": "7"},
        *(wrote(f"album {n}", number=n, at=5.0) for n in range(10, 16)), wrote("before the call", number=20, at=-3000.0),
    )  # fmt: skip
    found, path = list[str](), f"{HOME}/{two[0]}"
    while path:
        page = await text_of(client, path)
        found += re.findall(r"album \d\d|red one|before the call|/calls/[\d.]+", page)
        onward = re.search(r'href="(\?before=\d+)"', page)
        path = f"{HOME}/{two[0]}{onward[1]}" if onward else ""
    assert found == [
        *(f"album {n}" for n in range(15, 9, -1)), "red one", f"/calls/{calls[5].call_id}", "before the call",
    ]  # fmt: skip
    agent = await as_person(world, "ivan@june.example", Role.AGENT)
    assert "/calls/" not in (await text_of(agent, f"{HOME}/{two[0]}")).partition("<main")[2], (
        "others' calls are not theirs"
    )
    olga = await as_person(world, "olga@june.example", Role.AUDITOR)
    page = await text_of(olga, f"{HOME}/{two[0]}")
    assert "album" not in page
    assert "***" in page


@pytest.mark.slow
async def test_two_entries_become_one_and_two_again(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    client, (anna, other) = await sign_in(), two
    page = await text_of(client, f"{HOME}/{anna}/merge?q=anna")
    assert f"other={other}" in page
    assert "Are Anna and Anna K. one person?" in await text_of(client, f"{HOME}/{anna}/merge?other={other}")
    page = await submitted(client, f"{HOME}/{anna}/merge", {"csrf": CSRF, "other": str(other)})
    assert "one customer now" in page
    assert "+375 29 100-20-04" in page
    assert names(await text_of(client, HOME)) == ["Anna"]
    page = await submitted(client, f"{HOME}/{anna}/merge", {"csrf": CSRF, "other": str(other)})
    assert "one customer already" in page
    page = await submitted(client, f"{HOME}/{anna}/unmerge", {"csrf": CSRF})
    assert "two again" in page
    assert "+375 29 100-20-04" not in page
    page = await submitted(client, f"{HOME}/{anna}/unmerge", {"csrf": CSRF})
    assert "Nothing was merged" in page
    assert sorted(names(await text_of(client, HOME))) == ["Anna", "Anna K."]
    for other_id in (str(UUID(int=1)), "x", ""):
        assert (await client.post(f"{HOME}/{anna}/merge", form={"csrf": CSRF, "other": other_id})).status_code == 404
    trail = await world.db.tenant(JUNE, select_audit, JUNE, None, 10)
    assert [line.action for line in trail] == ["contact.unmerged", "contact.merged"]


@pytest.mark.slow
async def test_a_customer_is_entered_and_changed(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    client = await sign_in()
    form: dict[str, Any] = {
        "csrf": CSRF,
        "name": "Boris",
        "phones": "80291234567\n+375 29 765-43-21",
        "emails": "B@june.example",
    }
    page = await submitted(client, f"{HOME}/new", form)
    for text in ("Boris", "+375 29 123-45-67", "+375 29 765-43-21", "b@june.example"):
        assert text in page
    for wrong, why in (
        ({"name": "", "phones": "", "emails": ""}, "Enter a name"), ({"phones": "12 monkeys"}, "no telephone number"),
        ({"emails": "nobody"}, "no e-mail address"), ({"name": "x" * 201}, "One line of at most"), ({"name": "a\nb"}, "One line of at most"),
    ):  # fmt: skip
        sent = {**form, **wrong}
        page = await submitted(client, f"{HOME}/new", sent)
        assert why in page, wrong
        assert sent["phones"].split("\n")[0] in page, "nothing that was typed is lost"
    page = await submitted(
        client, f"{HOME}/{two[0]}/edit", {"csrf": CSRF, "name": "Anna Maria", "phones": "+375291002009", "emails": ""}
    )
    assert "Anna Maria" in page
    assert "+375 29 100-20-09" in page
    (line,) = [
        one for one in await world.db.tenant(JUNE, select_audit, JUNE, None, 10) if one.action == "contact.changed"
    ]
    assert line.old == {"name": "Anna", "phones": []}
    assert line.new == {"name": "Anna Maria", "phones": ["+375291002009"]}


async def test_a_missed_call_is_answered_in_the_chat(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    calls = await play(world)
    missed = calls[6]
    await receives(world, {"event": "PhoneShared", "phone": missed.outside, "address": "7"}, ago_s=5.0)
    chat = f"/t/{JUNE}/inbox/{await conversation_with(world, '7')}"
    client = await sign_in()
    for path in ("/missed", "/", "/overview/waiting", f"/calls/{missed.call_id}"):
        page = await text_of(client, f"/t/{JUNE}{path}")
        assert page.count(f'href="{chat}#reply"') == 1, path
    assert f'href="{chat}' not in await text_of(client, f"/t/{JUNE}/calls/{calls[5].call_id}")
    await submitted(client, f"{chat}/take", {"csrf": CSRF})
    agent = world.app.test_client()
    agent.set_cookie("localhost", "session", await world.person(JUNE, "ivan@june.example", Role.AGENT, ["150"]))
    assert f'href="{chat}' not in await text_of(agent, f"/t/{JUNE}/missed"), "a conversation that is not theirs"


async def test_the_overview_counts_who_waits(world: World, two: tuple[UUID, UUID], sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, f"/t/{JUNE}/overview/day")
    assert re.search(r"1 <span>client waits", page)
    assert "part=unanswered" in page
    chat = f"/t/{JUNE}/inbox/{await conversation_with(world, '7')}"
    await submitted(client, f"{chat}/take", {"csrf": CSRF})
    agent = await as_person(world, "ivan@june.example", Role.AGENT)
    assert re.search(r"0 <span>clients wait", await text_of(agent, f"/t/{JUNE}/overview/day"))
    assert "clients wait" not in await text_of(await sign_in(MAPLE), f"/t/{MAPLE}/overview/day"), (
        "no chats are set up there"
    )
