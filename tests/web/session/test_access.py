"""Who may open what: every address of the site as every role, and a site that does not start with one undeclared."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from gateway.domain.events import Direction, Result
from gateway.domain.people import Role
from gateway.domain.subjects import call_subject
from gateway.store import users
from gateway.store.audit import select_audit
from gateway.web.session.access import ACCESS, ROLES, Need, Undeclared, declare, declared
from gateway.web.session.live_streams import CHECK_S
from tests.web.pages.test_live import streaming
from tests.web.test_every_address import STREAMS, Place, place
from tests.web.world import CSRF, JUNE, MAPLE, World, answered, ended, ringing

__all__ = ["place"]

AGENT_OPENS = {
    "/t/<number>/calls", "/t/<number>/calls/live", "/t/<number>/alerts", "/t/<number>/calls/<path:call_id>", "/t/<number>/dialling",
    "/t/<number>/dialling/orders", "/t/<number>/", "/t/<number>/overview/day", "/t/<number>/overview/waiting",
    "/t/<number>/missed", "/t/<number>/missed/list", "/t/<number>/search", "/t/<number>/calls.csv",
    "/t/<number>/inbox", "/t/<number>/inbox/list", "/t/<number>/inbox/live", "/t/<number>/inbox/replies", "/t/<number>/customers",
    "/t/<number>/orders", "/t/<number>/orders/part", "/t/<number>/orders/live", "/t/<number>/orders/new",
}  # fmt: skip
AGENT_POSTS = {"/t/<number>/dialling", "/t/<number>/missed/done", "/t/<number>/missed/undo", "/t/<number>/orders/new"}
ENDS = {"/logout", "/operators/act-as", "/operators/act-as/end", "/account/sessions/end-others"}
"""What would end the sessions of this very test."""


async def sessions(world: World) -> dict[str, str | None]:
    """A cookie for everybody there can be."""
    return {
        "nobody": None,
        "stranger": await world.session(MAPLE),
        "admin": await world.session(JUNE),
        "auditor": await world.person(JUNE, "auditor@0367.example", Role.AUDITOR),
        "agent": await world.person(JUNE, "agent@0367.example", Role.AGENT, ["150"]),
        "operator": await world.session(None),
        "acting": await world.session(None, acting=JUNE),
        "acting elsewhere": await world.session(None, acting=MAPLE),
    }


ROLE_OF = {"admin": Role.ADMIN, "auditor": Role.AUDITOR, "agent": Role.AGENT, "acting": Role.ADMIN}


def refusal(who: str, need: Need) -> set[int]:
    """How somebody is refused; empty where they are let in."""
    if need in (Need.NOTHING, Need.OPEN, Need.OWN):
        return set()
    if who == "nobody":
        return {303, 401}
    if need is Need.OPERATOR:
        return set() if who in ("operator", "acting", "acting elsewhere") else {404}
    if need is Need.SIGNED_IN:
        return set()
    if who not in ROLE_OF:
        return {404}
    return set() if ROLE_OF[who] in ROLES[need] else {403}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.long
async def test_every_address_as_every_role(place: Place, method: str) -> None:
    for who, cookie in (await sessions(place.world)).items():
        client = place.app.test_client()
        if cookie is not None:
            client.set_cookie("localhost", "session", cookie)
        for rule in place.rules(method):
            need, path = declared(place.app)[rule.endpoint], str(rule.rule)
            expected = refusal(who, need)
            if need is Need.OWN or (path in STREAMS and not expected) or path in ENDS:
                continue
            headers = {"X-CSRF-Token": CSRF} if method != "GET" and cookie is not None else {}
            answer = await client.open(place.path(rule), method=method, headers=headers)
            where = (who, method, path, answer.status_code)
            if cookie is None and method != "GET":
                assert need is Need.NOTHING or answer.status_code == 403, where  # its form is not ours
            elif expected:
                assert answer.status_code in expected, where
                assert answer.status_code != 303 or "/login" in answer.location, where
            elif need is not Need.OPEN:
                assert answer.status_code not in (401, 403), where


async def test_what_an_agent_and_an_auditor_reach(place: Place) -> None:
    """By hand, beside the table: a line that is wrong there is wrong here."""
    found: dict[str, set[str]] = {}
    known = await sessions(place.world)
    for who in ("agent", "auditor"):
        client = place.app.test_client()
        client.set_cookie("localhost", "session", str(known[who]))
        for method in ("GET", "POST"):
            for rule in place.rules(method):
                path = str(rule.rule)
                if not path.startswith(("/t/", "/operators")):
                    continue
                if path in STREAMS:
                    found.setdefault(f"{who} {method}", set()).add(path)
                    continue
                answer = await client.open(place.path(rule), method=method, headers={"X-CSRF-Token": CSRF})
                if answer.status_code not in (403, 404) or path == "/t/<number>/calls/<path:call_id>":
                    found.setdefault(f"{who} {method}", set()).add(path)
    assert found["agent GET"] == AGENT_OPENS
    assert found["agent POST"] == AGENT_POSTS
    assert "auditor POST" not in found
    assert {
        "/t/<number>/audit",
        "/t/<number>/keys",
        "/t/<number>/integrations/<key>",
        "/t/<number>/deliveries",
    } <= found["auditor GET"]


def _adding(**lines: Need) -> Callable[[QuartTrio], None]:
    def mount(app: QuartTrio) -> None:
        async def page(number: str) -> str:
            return "a page"

        app.add_url_rule("/t/<number>/new", endpoint="new", view_func=page)
        declare(app, lines)

    return mount


async def test_a_site_with_an_undeclared_address_does_not_start(world: World) -> None:
    with pytest.raises(Undeclared, match="new"):
        world.app_with(mounts=(_adding(),))
    with pytest.raises(Undeclared, match=r"without an endpoint.*nowhere"):
        world.app_with(mounts=(_adding(new=Need.READ, nowhere=Need.READ),))
    with pytest.raises(Undeclared, match="twice"):
        world.app_with(mounts=(_adding(new=Need.READ, icon=Need.READ),))


async def test_what_is_mounted_is_guarded_by_its_line(world: World) -> None:
    client = world.app_with(mounts=(_adding(new=Need.CHANGE),)).test_client()
    assert (await client.get("/t/0367/new")).status_code == 303
    for who, status in (("admin", 200), ("auditor", 403), ("agent", 403), ("stranger", 404), ("operator", 404)):
        client.set_cookie("localhost", "session", str((await sessions(world))[who]))
        assert (await client.get("/t/0367/new")).status_code == status, who


def test_every_line_names_a_need_of_people() -> None:
    assert {need for endpoint, need in ACCESS.items() if endpoint.startswith("operators")} == {Need.OPERATOR}
    assert set(ROLES) == {Need.CALLS, Need.DIAL, Need.CHATS, Need.WRITE_CHATS, Need.READ, Need.CHANGE}


# An agent's own calls


async def calls_of_two(world: World) -> dict[str, str]:
    """Calls of 150, of 151, of both, and between colleagues."""
    now, made = datetime.now(UTC), dict[str, str]()
    for name, rang, taker in (
        ("mine", ["150"], "150"),
        ("theirs", ["151"], "151"),
        ("missed", ["150", "152"], None),
        ("taken", ["150", "151"], "151"),
    ):
        a = ringing(world.call_id(), now, f"+37529600000{len(made)}", "100", rang)
        last = ended(a, 20, Result.ANSWERED if taker else Result.MISSED, taker)
        await world.keep(JUNE, [a, *([answered(a, taker)] if taker else []), last])
        made[name] = a.call_id
    a = ringing(world.call_id(), now, "150", "+375296000008", [], direction=Direction.OUTGOING)
    await world.keep(JUNE, [a, ended(a, 5, Result.NO_ANSWER, "150")])
    made["placed"] = a.call_id
    a = ringing(world.call_id(), now, "152", "151", ["151"], direction=Direction.INTERNAL)
    await world.keep(JUNE, [a, ended(a, 5, Result.MISSED)])
    made["colleagues"] = a.call_id
    return made


async def text(client: Any, path: str) -> str:
    return str(await (await client.get(path)).get_data(as_text=True))


async def test_an_agent_sees_the_calls_of_their_numbers(world: World) -> None:
    made, client = await calls_of_two(world), world.app.test_client()
    client.set_cookie("localhost", "session", await world.person(JUNE, "agent@0367.example", Role.AGENT, ["150"]))
    client.set_cookie("localhost", "language", "en")
    page = await text(client, "/t/0367/calls")
    seen = {name for name, call_id in made.items() if f"/calls/{call_id}" in page}
    assert seen == {"mine", "missed", "taken", "placed"}
    for name, call_id in made.items():
        answer = await client.get(f"/t/0367/calls/{call_id}")
        assert answer.status_code == (200 if name in seen else 404), name
        assert "What systems were sent" not in await answer.get_data(as_text=True)
    for query in ("extension=151", "q=+375296000001", "direction=internal", "since=2020-01-01"):
        page = await text(client, f"/t/0367/calls?{query}")
        assert made["theirs"] not in page, query
        assert made["colleagues"] not in page, query
    assert re.findall(r'href="/t/0367/([a-z]+)"', page) == [
        "calls",
        "missed",
        "dialling",
        "inbox",
        "customers",
        "orders",
    ]
    day = (await text(client, "/t/0367/calls")).partition('id="day-figures"')[2].partition("</dl>")[0]
    assert re.findall(r"<dd[^>]*>(?:<span.*?</span>)?([^<]*)</dd>", day)[:4] == ["4", "2", "1", "1"]


async def test_an_agent_without_numbers_sees_no_call(world: World) -> None:
    made, client = await calls_of_two(world), world.app.test_client()
    client.set_cookie("localhost", "session", await world.person(JUNE, "agent@0367.example", Role.AGENT))
    page = await text(client, "/t/0367/calls")
    assert not [name for name, call_id in made.items() if call_id in page]


@pytest.mark.slow
async def test_an_agents_live_feed_is_theirs(world: World) -> None:
    cookie = await world.person(JUNE, "agent@0367.example", Role.AGENT, ["150"])
    mine = ringing(world.call_id(), datetime.now(UTC), "+375296000001", "100", ["150"])
    theirs = ringing(world.call_id(), datetime.now(UTC), "+375296000002", "100", ["151"])
    for first in (mine, theirs):
        await world.keep(JUNE, [first])
    async with streaming(world, cookie) as stream:
        everything = await stream.next()
        assert (mine.call_id in everything["data"], theirs.call_id in everything["data"]) == (True, False)
        for first in (theirs, mine):
            await world.keep(JUNE, [first, ended(first, 5, Result.MISSED)])
            world.feed.publish(JUNE, call_subject(first.call_id))
        assert (await stream.next())["id"] == mine.call_id, "nothing of the other"
        await world.db.engine(users.describe_user, JUNE, "agent@0367.example", Role.AGENT, "", ["151"])
        with trio.fail_after(2 * CHECK_S + 5):
            await stream.ended.wait()


async def test_an_agent_calls_from_their_own_phone(world: World) -> None:
    client = world.app.test_client()
    client.set_cookie("localhost", "session", await world.person(JUNE, "agent@0367.example", Role.AGENT, ["150"]))
    client.set_cookie("localhost", "language", "en")
    form = {"csrf": CSRF, "phone": "+375296254070"}
    page = await text(client, "/t/0367/dialling")
    assert re.findall(r'<option value="(\d+)"', page) == ["150"]
    answer = await client.post("/t/0367/dialling", form={**form, "extension": "151"})
    assert "your own internal numbers" in await text(client, str(answer.location))
    assert world.placed == []
    await client.post("/t/0367/dialling", form={**form, "extension": "150"})
    assert world.placed == [("0367", "150", "+375296254070", "agent@0367.example")]
    audit = await text_of_audit(world)
    assert ("agent@0367.example", "call.refused", "151 -> +375296254070", "not_own_phone") in audit


async def text_of_audit(world: World) -> list[tuple[str, str, str, str]]:
    lines = await world.db.tenant(JUNE, select_audit, JUNE, None, 50)
    return [(line.actor, line.action, line.target, line.detail) for line in lines]


async def test_an_auditor_finds_no_form_that_would_be_refused(place: Place) -> None:
    client = place.app.test_client()
    client.set_cookie("localhost", "session", await place.world.person(JUNE, "auditor@0367.example", Role.AUDITOR))
    own = {"/preferences", "/logout"}
    for rule in place.rules("GET"):
        if not str(rule.rule).startswith("/t/") or str(rule.rule) in STREAMS:
            continue
        page = await text(client, place.path(rule))
        posts = re.findall(r'<form method="post" action="([^"]*)"', page)
        assert set(posts) <= own, rule.rule
