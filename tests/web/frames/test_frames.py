"""Who may hold the softphone, who may connect it, and what its token opens: calls from one number, for as long as the session lives."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from gateway.domain.events import Direction, Result
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.domain.subjects import call_subject
from gateway.store import users
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from gateway.web.frames.session import search_text
from gateway.web.session.tokens import read_token
from tests.web.frames.here import HOOK, KIND, PATH, Here
from tests.web.world import CSRF, JUNE, MAPLE, answered, ended, ringing

CLIENT = "+375296254070"


def policy_of(headers: Any) -> dict[str, str]:
    text = dict(headers)["Content-Security-Policy"]
    return dict(one.split(" ", 1) for one in text.split("; "))


async def test_the_document_is_held_by_the_companys_pages_alone(here: Here) -> None:
    got = await here.raw("GET", PATH, sec_fetch_dest="iframe")
    assert got.status == 200
    policy = policy_of(got.headers)
    assert policy["frame-ancestors"] == "https://june.lightning.force.com https://june.my.salesforce.com"
    assert policy["script-src"] == (
        "'self' https://june.lightning.force.com/support/api/68.0/lightning/opencti_min.js "
        "https://june.my.salesforce.com/support/api/68.0/lightning/opencti_min.js"
    )
    assert policy["default-src"] == "'none'"
    for secret in ("secret-of-the-app", "3MVG9"):
        assert secret not in got.body.decode()
    alone = await here.raw("GET", PATH, sec_fetch_dest="document")
    assert b"<script" not in alone.body
    assert "force.com" not in policy_of(alone.headers)["script-src"]
    connect = await here.raw("GET", f"{PATH}/connect")
    assert policy_of(connect.headers)["frame-ancestors"] == "'none'"
    assert dict(connect.headers)["Cross-Origin-Opener-Policy"] == "unsafe-none"
    for name in (f"{KIND}.js", "softphone.js", "connect.js", "texts.js", "softphone.css"):
        assert (await here.raw("GET", f"/frames-files/0000/{name}")).status == 200
    assert (await here.raw("GET", "/frames-files/0000/settings.py")).status == 404


@pytest.mark.parametrize(
    "url", ["https://crm.june.example", "https://my.salesforce.com.june.example", "http://june.my.salesforce.com",
            "https://june.my.salesforce.com:8443"]
)  # fmt: skip
async def test_an_address_that_is_none_of_the_provider_has_no_softphone(here: Here, url: str) -> None:
    """Its script would run in a page of ours."""
    here.settings["instance_url"] = url
    assert (await here.ask("GET", PATH))[0] == 404


async def test_who_is_not_there(here: Here) -> None:
    for path in (f"/frames/{KIND}/{'x' * 30}", f"/frames/asterisk/{HOOK}", f"/frames/{KIND}/{'x' * 300}/session"):
        assert (await here.ask("GET", path))[0] == 404
    here.enabled = False
    assert (await here.ask("GET", PATH))[0] == 404


async def test_a_person_connects_by_their_own_session(here: Here) -> None:
    agent = await here.world.person(JUNE, "anna@june.example", Role.AGENT, ["150"])
    got = await here.raw("GET", f"{PATH}/session?tenant={JUNE}", cookie=agent)
    assert json.loads(got.body) == {
        "person": "anna@june.example", "company": "June", "extensions": [{"number": "150", "owner": "Анна Кузьмина"}],
    }  # fmt: skip
    assert dict(got.headers)["X-CSRF-Token"] == CSRF
    status, made = await here.connect(agent)
    assert (status, made["extension"]) == (200, "150")
    assert (await here.connect(agent, "151"))[0] == 422, "another's number"
    assert (await here.ask("POST", f"{PATH}/session?tenant={JUNE}", {"extension": "150"}, cookie=agent))[0] == 403, (
        "no CSRF token"
    )
    foreign = {"cookie": agent, "x_csrf_token": CSRF, "sec_fetch_site": "cross-site"}
    assert (await here.ask("POST", f"{PATH}/session?tenant={JUNE}", {"extension": "150"}, **foreign))[0] == 403
    assert (await here.ask("GET", f"{PATH}/session"))[0] == 401
    auditor = await here.world.person(JUNE, "audit@june.example", Role.AUDITOR)
    assert (await here.connect(auditor))[0] == 403
    other = await here.world.session(MAPLE)
    assert (await here.ask("GET", f"{PATH}/session?tenant={MAPLE}", cookie=other))[0] == 403
    assert (await here.ask("GET", f"{PATH}/session?tenant={JUNE}", cookie=other))[0] == 403
    assert (await here.ask("GET", f"{PATH}/session", token=await here.api.new_key("call")))[0] == 403, "no person"
    assert (await here.ask("GET", f"{PATH}/session", token=made["token"]))[0] == 403, "no softphone makes another"


async def test_its_token_opens_calls_from_its_number_and_nothing_else(here: Here) -> None:
    admin = await here.world.session(JUNE)
    _, made = await here.connect(admin)
    token = made["token"]
    status, _ = await here.ask("POST", "/api/v1/calls", {"extension": "150", "phone": CLIENT}, token=token)
    assert status == 200
    assert here.world.placed == [(JUNE, "150", CLIENT, "admin@0367.example")]
    assert (await here.ask("POST", "/api/v1/calls", {"extension": "151", "phone": CLIENT}, token=token))[0] == 403
    for path in ("/api/v1/calls", "/api/v1/integrations", "/api/v1/contacts", "/api/v1/users", "/api/v1/changes"):
        assert (await here.ask("GET", path, token=token))[0] == 403, path
    assert (
        await here.ask("POST", f"/api/v1/calls?tenant={MAPLE}", {"extension": "201", "phone": CLIENT}, token=token)
    )[0] == 403
    assert (await here.callers.identified(token)) is None, "it is none of the API's tokens, wherever else one is taken"
    begin, middle, end = token.split(".")
    forged = f"{begin}.{middle[:-2]}AA.{end}"
    assert (await here.ask("POST", "/api/v1/calls", {"extension": "150", "phone": CLIENT}, token=forged))[0] == 401


async def test_its_token_ends_with_the_session_the_number_and_its_time(here: Here) -> None:
    async def status_of(token: str) -> int:
        return (await here.ask("POST", "/api/v1/calls", {"extension": "150", "phone": CLIENT}, token=token))[0]

    agent = await here.world.person(JUNE, "anna@june.example", Role.AGENT, ["150"])
    _, made = await here.connect(agent)
    assert await status_of(made["token"]) == 200
    await here.world.db.engine(users.describe_user, JUNE, "anna@june.example", Role.AGENT, "", ["151"])
    assert await status_of(made["token"]) == 401
    await here.world.db.engine(users.describe_user, JUNE, "anna@june.example", Role.AGENT, "", ["150"])
    here.clock.now += made["expires_in"] - 1
    assert await status_of(made["token"]) == 200
    here.clock.now += 2
    assert await status_of(made["token"]) == 401
    _, made = await here.connect(agent)
    session = read_token(agent)
    assert session is not None
    await here.world.db.engine(users.delete_session, session.token_hash)
    assert await status_of(made["token"]) == 401


async def test_calls_of_the_number_as_they_happen(here: Here) -> None:
    admin = await here.world.session(JUNE)
    _, made = await here.connect(admin)
    got = await here.raw("GET", f"{PATH}/events", token=made["token"])
    assert got.events is not None
    now = datetime.now(UTC)
    mine = ringing(here.world.call_id(), now, CLIENT, "+375172000001", ["150", "151"])
    other = ringing(here.world.call_id(), now, CLIENT, "+375172000001", ["152"])
    inner = ringing(here.world.call_id(), now, "151", "150", ["150"], direction=Direction.INTERNAL)
    seen: list[Any] = []

    async def tell(*events: Any) -> None:
        await here.world.keep(JUNE, events)
        here.world.feed.publish(JUNE, call_subject(events[0].call_id))

    async def next_call() -> Any:
        with trio.fail_after(10):
            assert got.events is not None
            async for text in got.events:
                if "event: call" in text:
                    return json.loads(text.partition("data: ")[2])
        raise AssertionError("the stream has ended")

    with trio.fail_after(10):
        assert (await anext(got.events)).startswith("retry:")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell, mine)
            seen.append(await next_call())
        await tell(other)
        await tell(inner)
        seen.append(await next_call())
        await tell(mine, answered(mine, "151"))
        seen.append(await next_call())
        await tell(mine, answered(mine, "151"), ended(mine, 30, Result.ANSWERED, "151"))
    await got.events.aclose()  # type: ignore[attr-defined] # a stream
    assert seen == [
        {"id": mine.call_id, "phone": CLIENT, "search": "296254070", "direction": "incoming", "phase": "ringing"},
        {"id": inner.call_id, "phone": "151", "search": "", "direction": "internal", "phase": "ringing"},
        {"id": mine.call_id, "phone": CLIENT, "search": "296254070", "direction": "incoming", "phase": "ended"},
    ]
    assert (await here.ask("GET", f"{PATH}/events", cookie=admin))[0] == 401, "a stream is a softphone's"
    assert (await here.ask("GET", f"{PATH}/events", token=await here.api.new_key("call")))[0] == 403


@pytest.mark.parametrize(("phone", "found"), [(CLIENT, "296254070"), ("anonymous", ""), ("150", ""), ("", "")])
def test_the_digits_that_are_searched_for(phone: str, found: str) -> None:
    assert search_text(phone) == found


@pytest.mark.parametrize(("language", "words"), [("en", "Softphone&#39;s address"), ("ru", "Адрес софтфона")])
async def test_the_integrations_page_shows_its_address(here: Here, language: str, words: str) -> None:
    world = here.world
    sealer = world.cache.sealer(JUNE)
    assert sealer is not None
    sealed = {
        name: sealer.seal(Secret(value), table="integrations", column=name, row=KIND)
        for name, value in (("client_secret", "secret-of-the-app"), ("hook_id", HOOK))
    }
    row = LinkRow(KIND, KIND, True, {"instance_url": "https://june.my.salesforce.com", "client_id": "3MVG9"}, sealed)
    await world.db.engine(upsert_link, INTEGRATIONS, JUNE, row)
    await world.cache.load()
    headers = {"cookie": f"session={await world.session(JUNE)}; language={language}"}
    got = await world.app.test_client().get(f"/t/{JUNE}/integrations/{KIND}", headers=headers)
    page = await got.get_data(as_text=True)
    assert got.status_code == 200
    assert f"http://localhost:8000{PATH}" in page
    assert words in page
    assert "/hooks/" not in page
    assert "secret-of-the-app" not in page
