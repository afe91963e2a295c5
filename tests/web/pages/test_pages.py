"""Every page in both languages, the wall between companies, escaping, filters, and what the buttons do.

Over 400 lines: the same world and the same rules for every page.
"""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from markupsafe import escape

from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId, IntegrationKey
from gateway.domain.secret import Secret
from gateway.store import call_pages, integration_logs, outbox
from gateway.store.audit import select_audit
from gateway.store.call_pages import Filters
from gateway.store.postgres.pool import Connection
from gateway.web.pages.calls import read_filters, read_place
from gateway.web.session.access import ROLES, Need, declared
from tests.web.conftest import SignIn, plain, submitted
from tests.web.world import CSRF, JUNE, MAPLE, SECRET_KEY, World, answered, ended, play, ringing

NASTY = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "'-alert(1)-'", "{{7*7}}", "</textarea><b>",
    "javascript:alert(1)", "<svg/onload=alert(1)>", "\u202egnp.exe", "&lt;i&gt;",
)  # fmt: skip


async def text_of(response: Any) -> str:
    return str(await response.get_data(as_text=True))


def pages_of(tenant: str, call_id: str) -> list[str]:
    home = f"/t/{tenant}"
    return [
        f"{home}/calls", f"{home}/calls?q=375&direction=incoming&since=2020-01-01", f"{home}/calls/{call_id}",
        f"{home}/integrations", f"{home}/integrations/retailcrm", f"{home}/integrations/telegram", f"{home}/pbxes/main",
        f"{home}/pbxes/new", f"{home}/dialling", f"{home}/dialling?phone=%2B375296254070", f"{home}/audit", f"{home}/keys",
        f"{home}/extensions", f"{home}/deliveries", f"{home}/deliveries?state=failed&since=2020-01-01&call={call_id}",
        f"{home}/deliveries/replay", f"{home}/missed", f"{home}/", f"{home}/overview/day", f"{home}/overview/waiting",
        f"{home}/search", f"{home}/search?q=a",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ru"])
async def test_every_page_in_both_languages(world: World, sign_in: SignIn, language: str) -> None:
    calls = await play(world)
    client = await sign_in(None, language, JUNE)
    pages = [
        *pages_of("0367", calls[5].call_id), "/operators/tenants", "/operators/tenants?sort=name", "/operators/tenants/new",
        "/operators/installation", "/operators/actors", "/operators/actors/picture", "/operators/letters", "/operators/audit",
        "/operators/act-as", "/operators/act-as?tenant=0367",
    ]  # fmt: skip
    for path in pages:
        response = await client.get(path)
        page = await text_of(response)
        assert response.status_code == 200, path
        assert SECRET_KEY not in page, path
        if "picture" not in path and "/overview/" not in path:
            assert f'<html lang="{language}"' in page
            assert ("Выйти" if language == "ru" else "Sign out") in page
    for path in ("/login", "/nowhere"):
        assert f'<html lang="{language}"' in await text_of(
            await world.app.test_client().get(path, headers={"Accept-Language": language})
        )


ROUTES = (
    ("GET", "/"), ("GET", "/overview/day"), ("GET", "/overview/waiting"), ("GET", "/calls"), ("GET", "/calls/live"), ("GET", "/alerts"), ("GET", "/calls/{call}"), ("GET", "/integrations"),
    ("GET", "/integrations/retailcrm"), ("GET", "/integrations/another"), ("POST", "/integrations/retailcrm/jobs"), ("GET", "/integrations/retailcrm/login"), ("POST", "/integrations/retailcrm/login"), ("POST", "/integrations/retailcrm/test"),
    ("POST", "/integrations/retailcrm/switch"), ("POST", "/integrations/retailcrm/settings"), ("GET", "/pbxes/main"),
    ("GET", "/pbxes/new"), ("POST", "/pbxes/new"), ("POST", "/pbxes/main/settings"), ("POST", "/pbxes/main/test"),
    ("POST", "/pbxes/main/switch"), ("POST", "/pbxes/main/remove"), ("GET", "/dialling"), ("POST", "/dialling"),
    ("GET", "/audit"), ("GET", "/audit.csv"), ("GET", "/notify"), ("POST", "/notify"), ("POST", "/notify/test"), ("GET", "/keys"), ("POST", "/keys"), ("GET", "/keys/revoke"), ("POST", "/keys/revoke"), ("GET", "/keys/rotate"), ("POST", "/keys/rotate"),
    ("GET", "/troubles"), ("GET", "/integrations/cards"), ("GET", "/integrations/retailcrm/health"),
    ("GET", "/integrations/retailcrm/module/delete"), ("GET", "/pbxes/main/health"), ("GET", "/pbxes/main/remove"),
    ("GET", "/dialling/orders"), ("GET", "/phones/remove"), ("GET", "/integrations/retailcrm/disconnect"),
    ("POST", "/integrations/retailcrm/disconnect"),
    ("GET", "/search"), ("GET", "/calls.csv"), ("GET", "/deliveries/list.csv"), ("GET", "/missed"), ("GET", "/missed/list"), ("POST", "/missed/done"), ("POST", "/missed/undo"),
    ("POST", "/integrations/retailcrm/module"), ("GET", "/extensions"), ("POST", "/extensions/retailcrm/save"),
    ("POST", "/extensions/retailcrm/sync"), ("POST", "/phones"), ("POST", "/phones/remove"),
    ("GET", "/deliveries"), ("GET", "/deliveries/replay"), ("POST", "/deliveries/replay"),
    ("GET", "/people"), ("POST", "/people"), ("POST", "/people/second-factor"), ("GET", f"/people/{UUID(int=8)}"),
    ("POST", f"/people/{UUID(int=8)}"), ("POST", f"/people/{UUID(int=8)}/link"), ("POST", f"/people/{UUID(int=8)}/second-factor"),
    ("GET", f"/people/{UUID(int=8)}/remove"), ("POST", f"/people/{UUID(int=8)}/remove"),
    ("POST", f"/recordings/{UUID(int=7)}/link"), ("POST", f"/recordings/{UUID(int=7)}/retry"),
)  # fmt: skip


async def test_the_wall_between_companies(world: World, sign_in: SignIn) -> None:
    await play(world)
    theirs = await play(world, MAPLE)
    client = await sign_in(JUNE)
    secret = theirs[1].call_id
    foreign: list[str] = []
    missing: list[str] = []
    for method, path in ROUTES:
        for number, seen in (("0368", foreign), ("9999", missing)):
            address = f"/t/{number}{path.format(call=secret)}"
            form = {"csrf": CSRF}
            response = await (client.get(address) if method == "GET" else client.post(address, form=form))
            page = await text_of(response)
            assert response.status_code == 404, path
            assert "Maple" not in page
            assert "20 7946" not in page
            seen.append(re.sub(r'nonce="[^"]+"', "", page.replace(number, "")))
    assert foreign == missing
    assert (await client.get(f"/t/0367/calls/{secret}")).status_code == 404
    for path in ("/operators/tenants", "/operators/actors", "/operators/actors/picture", "/operators/letters",
                 "/operators/tenants/new", "/operators/tenants/0367/created", "/operators/installation"):  # fmt: skip
        assert (await client.get(path)).status_code == 404
    assert (await client.post("/operators/tenants/new", form={"csrf": CSRF})).status_code == 404
    for path in ("dismiss", "replay"):
        form = {"csrf": CSRF, "tenant": "0367", "letter": "1"}
        assert (await client.post(f"/operators/letters/{path}", form=form)).status_code == 404
    refused = await client.post("/operators/actors/restart", form={"csrf": CSRF, "path": "tenant/0368"})
    assert refused.status_code == 404
    assert world.restarted == []
    assert world.tested == []


async def test_every_route_is_behind_the_wall(world: World) -> None:
    """A route that someone adds is a company's, an operator's, or open to everyone on purpose: this is the whole list of those.
    What a person of one company gets of another's is tried for every route in `tests/walls`."""
    needs = declared(world.app)
    open_to_all = set()
    for rule in world.app.url_map.iter_rules():
        need = needs[str(rule.endpoint)]
        if rule.rule.startswith("/t/"):
            assert need in ROLES, rule.rule
        elif rule.rule.startswith("/operators/"):
            assert need is Need.OPERATOR, rule.rule
        elif rule.rule.startswith("/account/"):
            assert need is Need.SIGNED_IN, rule.rule
        elif rule.rule.startswith("/retailcrm-admin/"):
            # By a module's link, which opens that module alone: tests/web/pages/test_extensions.py
            assert need is Need.OWN, rule.rule
        else:
            open_to_all.add(rule.rule)
    assert open_to_all == {
        "/", "/oauth/<kind>/start", "/oauth/<kind>/callback", "/login", "/login/once", "/login/code", "/welcome", "/logout",
        "/preferences", "/static/<name>", "/icons/<kind>.svg",
    }  # fmt: skip


async def test_the_same_id_in_both_companies_is_two_calls(world: World, sign_in: SignIn) -> None:
    at = datetime.now(UTC)
    for tenant, caller in ((JUNE, "+375291110000"), (MAPLE, "+442079460999")):
        a = ringing(CallId("7.7"), at, caller, "100", ["150"])
        await world.keep(tenant, [a, ended(a, 5, Result.MISSED)])
    page = await text_of(await (await sign_in(JUNE)).get("/t/0367/calls/7.7"))
    assert "+375 29 111-00-00" in page
    assert "7946" not in page


async def test_without_a_session_every_page_leads_to_sign_in(world: World) -> None:
    client = world.app.test_client()
    response = await client.get("/t/0368/calls?q=1")
    assert (response.status_code, response.location) == (303, "/login?next=%2Ft%2F0368%2Fcalls%3Fq%3D1")
    assert (await client.get("/operators/tenants")).status_code == 303
    assert (await client.get("/t/0367/calls/live", headers={"Accept": "text/event-stream"})).status_code == 401
    assert (await client.get("/operators/actors/picture", headers={"X-Fragment": "1"})).status_code == 401


@pytest.mark.parametrize("nasty", NASTY)
async def test_names_and_numbers_are_escaped(world: World, sign_in: SignIn, nasty: str) -> None:
    async def rename(conn: Connection) -> None:
        await conn.execute("UPDATE phones SET owner = $1 WHERE tenant_id = '0367'", nasty)
        await conn.execute("UPDATE tenants SET name = $1 WHERE tenant_id = '0367'", nasty)

    await world.db.engine(rename)
    await world.cache.load()
    a = ringing(CallId(f"1.1-{nasty}"), datetime.now(UTC), nasty, "100", ["150"], trunk=nasty)
    draft = {"integration": IntegrationKey("retailcrm"), "kind": nasty}
    await world.keep(JUNE, [a, answered(a, "150"), ended(a, 9, Result.ANSWERED, "150", queue=nasty)], [draft])
    b = ringing(CallId("2.2"), datetime.now(UTC), nasty, "100", ["150"])
    await world.keep(JUNE, [b])
    outcome = outbox.Outcome(state="failed", status=nasty, request=nasty, response=nasty, error=nasty, note=nasty)
    await world.deliver(JUNE, "retailcrm", outcome)
    slot = world.directory.get("tenant/0367/pbx/main")
    assert slot is not None
    slot.report(slot.health.state, nasty, nasty)
    client = await sign_in(None, acting=JUNE)
    for path in [
        *pages_of("0367", quote(a.call_id)),
        "/operators/tenants",
        "/operators/actors",
        f"/t/0367/calls?q={quote(nasty)}",
    ]:
        response = await client.get(path)
        page = await text_of(response)
        assert response.status_code == 200, path
        if "/calls" in path:
            assert str(escape(nasty)) in page
        if html.escape(nasty) != nasty:
            for raw in ("<script>alert", "<img src=x", "<svg/onload", "</textarea><b>", '&lt;i&gt;"'):
                assert raw not in page, path


async def test_filters_and_pages(world: World, sign_in: SignIn) -> None:
    now = datetime.now(UTC).replace(microsecond=123456)
    for number in range(55):
        # Two calls begin in the same microsecond: the page's end must not lose one of them.
        at = now - timedelta(minutes=number // 2)
        a = ringing(CallId(f"8.{number:03d}"), at, f"+3752911100{number:02d}", "100", ["150"])
        await world.keep(JUNE, [a, ended(a, 5, Result.MISSED)])
    client = await sign_in()
    first = await text_of(await client.get("/t/0367/calls"))
    older = html.unescape(first.split('href="?after=')[1].split('"')[0])
    second = await text_of(await client.get(f"/t/0367/calls?after={older}"))
    ids = [f"8.{number:03d}" for number in range(55)]
    on_first = {one for one in ids if f'id="call-{one}"' in first}
    on_second = {one for one in ids if f'id="call-{one}"' in second}
    assert (len(on_first), len(on_second)) == (50, 5)
    assert on_first | on_second == set(ids)
    found = await text_of(await client.get("/t/0367/calls?q=29%20111-00-07"))
    assert "8.007" in found
    assert "8.008" not in found


async def test_searches(world: World) -> None:
    calls = await play(world)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None

    async def found(**sent: str) -> list[int]:
        filters = read_filters(sent, tenant)
        rows = await world.db.tenant(JUNE, call_pages.search_calls, JUNE, filters)
        places = {call.call_id: place for place, call in enumerate(calls)}
        return sorted(places[call.call_id] for call in rows)

    assert await found() == list(range(8))
    assert await found(q="8 029 100-20-04") == [5]
    assert await found(q="1002004") == [5]
    assert await found(q=calls[3].call_id) == [3]
    assert await found(q="ольга") == [5, 7]
    assert await found(q="100%") == []
    assert await found(direction="internal") == [4]
    assert await found(direction="nonsense") == list(range(8))
    assert await found(result="missed") == [0, 6]
    assert await found(trunk="trunk-0002") == [3]
    assert await found(extension="152") == [5, 7]
    assert await found(uncertain="1") == [6]
    assert await found(since="2999-01-01") == []
    assert await found(until="2999-01-01") == list(range(8))
    assert await found(since="99999-99-99") == list(range(8))


def test_places_that_make_no_sense_are_the_beginning() -> None:
    for text in (None, "", "x", "x~1", "1~", "9" * 40 + "~1", "-" + "9" * 30 + "~1"):
        assert read_place(text) is None
    assert not Filters()


async def test_a_call_tells_everything(world: World, sign_in: SignIn) -> None:
    calls = await play(world)
    client = await sign_in()
    page = await text_of(await client.get(f"/t/0367/calls/{calls[5].call_id}"))
    for part in ("+375 29 100-20-04", "Answered by 150 Анна Кузьмина, after 0:06", "Passed from 150 Анна Кузьмина to 151",
                 "Ended: answered, talk 3:09", "sales", "+0:06.2", "POST /api/v5/telephony/call/event"):  # fmt: skip
        assert part in page, part
    assert (await client.get("/t/0367/calls/none")).status_code == 404
    assert (await client.get("/t/0367/calls/a%00b")).status_code in (400, 404)


async def test_a_call_id_may_hold_anything_an_address_can(world: World, sign_in: SignIn) -> None:
    a = ringing(CallId("odd id/with?#%25"), datetime.now(UTC), "+375291110000", "100", ["150"])
    await world.keep(JUNE, [a, ended(a, 5, Result.MISSED)])
    client = await sign_in()
    page = await text_of(await client.get("/t/0367/calls"))
    link = html.unescape(page.split('class="row-link" href="')[1].split('"')[0])
    assert (await client.get(link)).status_code == 200


async def test_the_switch_and_the_test(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    home = "/t/0367/integrations/retailcrm"
    response = await client.post(f"{home}/switch", form={"csrf": CSRF, "enabled": "0"})
    assert (response.status_code, plain(response.location)) == (303, home)
    assert await world.db.tenant(JUNE, integration_logs.select_switches, JUNE) == {"retailcrm": False}
    assert await world.db.tenant(MAPLE, integration_logs.select_switches, MAPLE) == {"retailcrm": True}
    (line,) = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    assert (line.action, line.target, line.detail) == ("config.changed", "retailcrm", "enabled: false")
    assert "Switch on" in await text_of(await client.get(home))
    assert (await client.post("/t/0367/integrations/telegram/switch", form={"csrf": CSRF})).status_code == 404
    page = await submitted(client, f"{home}/test", {"csrf": CSRF})
    assert world.tested == [(JUNE, IntegrationKey("retailcrm"))]
    assert "Test passed." in page
    assert "shops: &lt;main&gt;" in page
    assert (await client.post("/t/0367/integrations/nothing/test", form={"csrf": CSRF})).status_code == 404


async def again(world: World) -> Tenant:
    """June's configuration as it is now."""
    await world.cache.load()
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    return tenant


async def test_two_companies_never_have_one_client_id(world: World, sign_in: SignIn) -> None:
    form = {
        "csrf": CSRF, "domain": "https://0367.crm.example", "api_key": "***", "client_id": "a-client-id-of-june-0123456789",
    }  # fmt: skip
    home = "/t/{}/integrations/retailcrm/settings"
    assert (await (await sign_in(JUNE)).post(home.format(JUNE), form=form)).status_code == 303
    maple = await sign_in(MAPLE)
    form["domain"] = "https://0368.crm.example"
    page = await submitted(maple, home.format(MAPLE), form)
    assert "cannot be used: leave the field empty" in page
    assert form["client_id"] not in page
    short = await submitted(maple, home.format(MAPLE), {**form, "client_id": "x" * 23})
    assert "must be at least 24 characters" in short
    # What is stored already stays, however short it is; and one's own may be saved again.
    assert (await maple.post(home.format(MAPLE), form={**form, "client_id": "***"})).status_code == 303
    assert (
        await (await sign_in(JUNE)).post(home.format(JUNE), form={**form, "domain": "https://0367.crm.example"})
    ).status_code == 303


async def test_the_set_up_form_keeps_secrets_and_names_problems(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    home = "/t/0367/integrations/retailcrm/settings"
    form = {
        "csrf": CSRF, "domain": "https://new.crm.example", "api_key": "***", "client_id": "***", "send_events.in": "1",
        "legacy_client_nets": "", "connect_timeout_s": "2.5",
    }  # fmt: skip
    page = await submitted(client, home, {**form, "domain": "ftp://x/y"})
    assert "an address like" in page
    assert SECRET_KEY not in page
    # A stored key does not follow its address to another one: neither saved there, nor tested there.
    for language, words in (("en", "Enter it again"), ("ru", "Введите заново")):
        page = await submitted(await sign_in(JUNE, language), home, form)
        assert words in page
        assert SECRET_KEY not in page
        assert "https://new.crm.example" in page
    await submitted(client, home.replace("settings", "test"), form)
    tenant = await again(world)
    assert tenant.integrations[IntegrationKey("retailcrm")].settings["domain"] == "https://0367.crm.example"
    client_id = tenant.integrations[IntegrationKey("retailcrm")].settings["client_id"]
    same = {**form, "domain": "https://0367.crm.example/"}
    assert "Saved." in await submitted(client, home, same)
    kept = (await again(world)).integrations[IntegrationKey("retailcrm")].settings
    assert (kept["api_key"], kept["client_id"]) == (Secret(SECRET_KEY), client_id)
    assert "Saved." in await submitted(client, home, {**form, "api_key": "a-key-of-the-new-account"})
    line, _ = await world.db.tenant(JUNE, select_audit, JUNE, None, 9)
    assert (line.action, line.target) == ("config.changed", "retailcrm")
    assert {"domain"} <= set(line.detail.split(", "))
    assert SECRET_KEY not in line.detail
    await world.cache.load()
    loaded = world.cache.tenant(JUNE)
    assert loaded is not None
    stored = loaded.integrations[IntegrationKey("retailcrm")]
    assert stored.enabled
    assert stored.settings["domain"] == "https://new.crm.example"
    assert stored.settings["api_key"] == Secret("a-key-of-the-new-account")
    assert stored.settings["client_id"] != client_id  # it makes itself: the new account gets one of its own
    assert loaded.user_extensions[stored.key] == {"19": "150"}
    assert stored.settings["send_events"] == {"in": True, "out": False, "hangup": False, "upload": False}
    assert stored.settings["connect_timeout_s"] == 2.5
    other = world.cache.tenant(MAPLE)
    assert other is not None
    assert other.integrations[IntegrationKey("retailcrm")].settings["domain"] == "https://0368.crm.example"


@pytest.mark.parametrize("before", ["9" * 19, "9" * 5000, "\u0664\u0662", "-1", "x"])
async def test_a_mark_that_is_none_begins_the_list_anew(world: World, sign_in: SignIn, before: str) -> None:
    client = await sign_in()
    for page in ("audit", "integrations/retailcrm"):
        assert (await client.get(f"/t/0367/{page}", query_string={"before": before})).status_code == 200


async def test_a_first_set_up_switches_on(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    home = "/t/0367/integrations/telegram/settings"
    assert "Required." in await submitted(client, home, {"csrf": CSRF, "bot_token": "***"})
    token = "123456789:AAEabcdefghijklmnop"
    form = {"csrf": CSRF, "bot_token": token, "notify_chats": "-1001\n-1002"}
    assert "Saved." in await submitted(client, home, form)
    loaded = world.cache.tenant(JUNE)
    assert loaded is not None
    stored = loaded.integrations[IntegrationKey("telegram")]
    assert (stored.enabled, list(stored.settings["notify_chats"])) == (True, [-1001, -1002])
    assert stored.settings["bot_token"] == Secret(token)


async def test_operators_restart_what_is_stuck(world: World, sign_in: SignIn) -> None:
    client = await sign_in(None)
    page = await text_of(await client.get("/operators/actors"))
    assert "tenant/<wbr>0368" in page
    assert "Maple &lt;i&gt;Ltd" in page
    response = await client.post("/operators/actors/restart", form={"csrf": CSRF, "path": "tenant/0368/pbx/main"})
    assert plain(response.location) == "/operators/actors"
    assert world.restarted == ["tenant/0368/pbx/main"]
    missing = await client.post("/operators/actors/restart", form={"csrf": CSRF, "path": "tenant/none"})
    assert missing.status_code == 404
    found = await text_of(await client.get("/operators/tenants?q=maple"))
    assert "/operators/act-as?tenant=0368" in found
    assert "/operators/act-as?tenant=0367" not in found


async def test_choices_are_kept(world: World, sign_in: SignIn) -> None:
    client = await sign_in(JUNE, "en")
    form = {"csrf": CSRF, "language": "ru", "next": "/t/0367/integrations"}
    response = await client.post("/preferences", form=form)
    assert response.location == "/t/0367/integrations"
    await client.post("/preferences", form={"csrf": CSRF, "theme": "dark"})
    page = await text_of(await client.get("/t/0367/calls"))
    assert '<html lang="ru" data-theme="dark">' in page
    other_browser = await sign_in(JUNE, "en")
    assert '<html lang="ru"' in await text_of(await other_browser.get("/t/0367/calls"))


async def test_a_company_without_anything(world: World, sign_in: SignIn) -> None:
    async def remove(conn: Connection) -> None:
        for table in ("phones", "pbxes", "integrations"):
            await conn.execute(f"DELETE FROM {table} WHERE tenant_id = '0367'")

    await world.db.engine(remove)
    await world.cache.load()
    for slot in world.directory.below("tenant/0367"):
        world.directory.remove(slot)
    client = await sign_in(None, acting=JUNE)
    for path in ("/t/0367/calls", "/t/0367/integrations", "/t/0367/integrations/retailcrm", "/operators/tenants"):
        assert (await client.get(path)).status_code == 200
    assert (await client.get("/t/0367/pbxes/main")).status_code == 404


async def test_static_files_come_from_memory(world: World) -> None:
    client = world.app.test_client()
    page = await text_of(await client.get("/login"))
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]
    response = await client.get(html.unescape(address))
    assert response.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in response.headers["Cache-Control"]
    for path in ("/static/none.css", "/static/../app.py", "/static/%2e%2e%2fapp.py"):
        assert (await client.get(path)).status_code == 404


async def test_the_database_away_is_a_page(world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.domain.errors import Unavailable

    client = await sign_in()

    async def away(*_: object) -> None:
        raise Unavailable("down")

    monkeypatch.setattr(world.db, "engine", away)
    response = await client.get("/t/0367/calls")
    assert response.status_code == 503
    assert "The database does not answer" in await text_of(response)


async def test_a_bug_is_a_page_without_its_cause(
    world: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, expected_errors: None
) -> None:
    client = await sign_in()

    async def broken(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(world.db, "tenant", broken)
    world.app.testing = False
    response = await client.get("/t/0367/calls")
    assert response.status_code == 500
    assert "secret detail" not in await text_of(response)


async def test_figures_of_the_day(world: World) -> None:
    now = datetime.now(UTC)
    a = ringing(world.call_id(), now, "+375291110000", "100", ["150"])
    await world.keep(JUNE, [a, answered(a, "150"), ended(a, 64, Result.ANSWERED, "150")])
    b = ringing(world.call_id(), now, "+375291110001", "100", ["150"])
    await world.keep(JUNE, [b, ended(b, 20, Result.MISSED)])
    c = ringing(world.call_id(), now, "150", "151", ["151"], direction=Direction.INTERNAL)
    await world.keep(JUNE, [c, ended(c, 20, Result.MISSED)])
    figures = await world.db.tenant(JUNE, call_pages.select_day_figures, JUNE, now - timedelta(minutes=1))
    assert (figures.calls, figures.answered, figures.missed) == (2, 1, 1)
    assert (figures.wait_s, figures.talk_s) == (4.0, 60.0)


async def test_an_internal_call_shows_both_people_while_they_talk(world: World, sign_in: SignIn) -> None:
    call = ringing(world.call_id(), datetime.now(UTC), "150", "151", ["151"], direction=Direction.INTERNAL, trunk=None)
    await world.keep(JUNE, [call, answered(call, "151")])
    row = (
        (await text_of(await (await sign_in()).get("/t/0367/calls")))
        .partition('<tr id="live-')[2]
        .partition("</tr>")[0]
    )
    told, by = row.partition('class="c-employee"')[::2]
    assert (">151<" in told, ">150<" in told, ">150<" in by, ">151<" in by) == (True, False, True, False)


async def test_old_logs_go(world: World) -> None:
    await play(world)
    assert await world.db.engine(integration_logs.delete_old_logs, 3600.0, 10) == 0
    assert await world.db.engine(integration_logs.delete_old_logs, -5.0, 3) == 3


async def test_too_large_a_form_is_a_page(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    response = await client.post("/logout", form={"csrf": CSRF, "x": "x" * 300_000})
    assert response.status_code == 413
    assert "request is too large" in await text_of(response)


async def test_only_looking_never_changes_and_never_hangs(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    for path in ("/t/0367/calls", "/t/0367/calls/live", "/t/0367/integrations"):
        assert (await client.head(path)).status_code == 200
    for path in ("/logout", "/preferences", "/t/0367/integrations/retailcrm/switch"):
        assert (await client.get(path)).status_code == 405
