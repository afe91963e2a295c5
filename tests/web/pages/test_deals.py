"""Pages of deals: routes are made, refused with every field, changed and removed; runs are filtered and replayed; tokens are never shown."""

import re

import pytest

from gateway.domain.deal_routes import routes_of, secret_name
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.store.audit import select_audit
from gateway.store.deal_pages import RunFilter, search_runs
from tests.web.conftest import SignIn, submitted
from tests.web.deals import SOURCE, TARGET, TOKEN, connect_portals, fill_deals, fill_runs
from tests.web.world import CSRF, JUNE, MAPLE, World

HOME = f"/t/{JUNE}/deals"
FORM = {
    "csrf": CSRF, "name": "partner-to-main", "source": SOURCE, "target": TARGET, "answer_within_ms": "400", "enabled": "1",
    "event.ONCRMDEALADD": "1", "event.ONCRMDEALUPDATE": "1", "contacts": "1", "domains": "*.example.com", "token": TOKEN,
    "filter": "CATEGORY_ID = 1, 2", "source_field": "", "to": "STAGE_ID", "kind": "values", "from": "STAGE_ID",
    "values": "C1:NEW = NEW\nC1:WON = WON", "otherwise": "keep",
}  # fmt: skip


@pytest.fixture
async def portals(world: World) -> World:
    """A company with two portals that nobody reaches."""
    await connect_portals(world)
    return world


async def test_a_route_is_made_changed_and_removed(portals: World, sign_in: SignIn) -> None:
    client = await sign_in()
    assert "There is no route yet" in await (await client.get(HOME)).get_data(as_text=True)
    page = await submitted(client, f"{HOME}/routes/new", FORM)
    assert "The route partner-to-main is saved" in page
    assert TOKEN not in page
    await portals.cache.load()
    company = portals.cache.tenant(JUNE)
    assert company is not None
    (route,) = routes_of(company.options, company.secrets)
    assert (route.application_token, route.filter, route.company) == (Secret(TOKEN), {"CATEGORY_ID": ("1", "2")}, False)
    assert route.plain()["mapping"] == {
        "STAGE_ID": {"field": "STAGE_ID", "values": {"C1:NEW": "NEW", "C1:WON": "WON"}, "otherwise": "keep"}
    }
    page = await submitted(
        client,
        f"{HOME}/routes/partner-to-main",
        {**FORM, "token": "", "domains": "crm.example.com", "kind": "field", "values": ""},
    )
    assert "crm.example.com" in page
    await portals.cache.load()
    company = portals.cache.tenant(JUNE)
    assert company is not None
    assert company.secrets[secret_name("partner-to-main")] == Secret(TOKEN), "an empty line leaves the token"
    lines = await portals.db.tenant(JUNE, select_audit, JUNE, None, 10)
    assert [one.action for one in lines].count("deals.route_saved") == 2
    assert TOKEN not in repr(lines)
    page = await (await client.get(f"{HOME}/routes/partner-to-main/remove")).get_data(as_text=True)
    assert "Remove the route partner-to-main?" in page
    page = await submitted(client, f"{HOME}/routes/partner-to-main/remove", {"csrf": CSRF})
    assert "is removed" in page
    await portals.cache.load()
    company = portals.cache.tenant(JUNE)
    assert company is not None
    assert (company.options.get("deal_routes"), dict(company.secrets)) == (None, {})


@pytest.mark.parametrize("language", ["en", "ru"])
async def test_every_bad_field_is_named_and_nothing_typed_is_lost(
    portals: World, sign_in: SignIn, language: str
) -> None:
    client = await sign_in(language=language)
    bad = {**FORM, "name": "Bad name", "source": TARGET, "domains": "*", "answer_within_ms": "soon", "filter": "CATEGORY_ID", "from": "no field",
           "source_field": "lower"}  # fmt: skip
    page = await submitted(client, f"{HOME}/routes/new", bad)
    marked = set(re.findall(r'class="problem" id="p-([a-z_]+)-', page))
    assert {"name", "filter", "allowed_domains", "answer_within_ms", "source_field", "mapping"} <= marked
    for typed in ("Bad name", "no field", "C1:WON = WON", "lower"):
        assert typed in page
    assert TOKEN not in page
    company = portals.cache.tenant(JUNE)
    assert company is not None
    assert "deal_routes" not in company.options


async def test_runs_are_filtered_and_replayed(portals: World, sign_in: SignIn) -> None:
    await fill_runs(portals, "partner-to-main")
    client = await sign_in()
    page = await (await client.get(f"{HOME}/runs?state=failed")).get_data(as_text=True)
    assert "the table has no value for this one" in page
    assert "<b>STAGE_ID" not in page
    assert re.findall(r'<tr id="r\d+"', page) == [re.findall(r'<tr id="r\d+"', page)[0]]
    page = await (await client.get(f"{HOME}/runs/replay?state=failed")).get_data(as_text=True)
    assert "Runs that fit: 1" in page
    page = await submitted(client, f"{HOME}/runs/replay", {"csrf": CSRF, "state": "failed"})
    assert "Runs that wait again: 1" in page
    found = await portals.db.tenant(JUNE, search_runs, JUNE, RunFilter(deal=103), None, 5)
    assert [(one.state, one.cause, one.attempt) for one in found] == [("waiting", "", 0)]
    assert await portals.db.tenant(MAPLE, search_runs, MAPLE, RunFilter(), None, 5) == []


async def test_an_auditor_looks_and_changes_nothing(portals: World) -> None:
    await fill_runs(portals, "partner-to-main")
    client = portals.app.test_client()
    client.set_cookie("localhost", "session", await portals.person(JUNE, "audit@june.example", Role.AUDITOR))
    page = await (await client.get(f"{HOME}/runs")).get_data(as_text=True)
    assert "STAGE_ID" not in page, "what a portal said may quote a client"
    assert "/runs/replay" not in page
    for path in ("routes/new", "runs/replay", "routes/partner-to-main/remove"):
        assert (await client.post(f"{HOME}/{path}", form={"csrf": CSRF})).status_code in (403, 404)


async def test_differences_are_shown_and_carried(world: World, sign_in: SignIn) -> None:
    await fill_deals(world, "main")
    rung: list[str] = []
    client = await sign_in()
    page = await (await client.get(f"{HOME}/routes/main")).get_data(as_text=True)
    assert "compared 7, differing 1, missing 1" in page
    assert "Двери" in page
    assert "It is not there at all" in page
    auditor = world.app.test_client()
    auditor.set_cookie("localhost", "session", await world.person(JUNE, "audit@june.example", Role.AUDITOR))
    theirs = await (await auditor.get(f"{HOME}/routes/main")).get_data(as_text=True)
    assert "Двери" not in theirs, "titles of deals may name clients"
    assert theirs.count("***") == 2
    app = world.app_with(ring_posts=rung.append)
    client = app.test_client()
    client.set_cookie("localhost", "session", await world.session(JUNE))
    client.set_cookie("localhost", "language", "en")
    page = await submitted(client, f"{HOME}/routes/main/carry", {"csrf": CSRF, "deal": "109"})
    assert "Deals on their way: 1" in page
    (run,) = await world.db.tenant(JUNE, search_runs, JUNE, RunFilter(deal=109), None, 5)
    assert (run.event, run.domain, run.state) == ("BY_HAND", "partner.example.com", "waiting")
    assert rung == [JUNE]
