"""Statuses on the pages: a warning on every page until it is gone, over a restart too; and what disconnecting leaves."""

import html
import re
from typing import Any

import pytest
from hypothesis import strategies as st

from gateway.domain.configuration import integration
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from gateway.domain.statuses import Standing
from gateway.store.audit import select_audit
from gateway.store.integration_logs import insert_log
from gateway.store.integration_states import keep_last_successes, mark_tested, select_known
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, set_link_enabled
from gateway.web.pages.change_settings import save_settings
from gateway.web.statuses import connections_of, status_json
from gateway.web.translations import words
from tests.properties import holds
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

CRM = IntegrationKey("retailcrm")
PATHS = ("calls", "keys", "audit", "dialling", "integrations", "deliveries", "extensions")


async def page(client: Any, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200, path
    return html.unescape(await answer.get_data(as_text=True))


async def logged(world: World, status: str) -> None:
    await world.db.engine(
        insert_log, JUNE, CRM, "call_event", request="", response="", status=status, error=None, duration_ms=1
    )


async def mark(world: World, passed: bool = True) -> None:
    await world.db.engine(mark_tested, JUNE, CRM, passed=passed)


def report(world: World, state: State, code: str = "ready") -> None:
    slot = world.directory.get("tenant/0367/integration/retailcrm")
    assert slot is not None
    slot.report(state, code)


def warned(text: str) -> list[str]:
    """The titles of the warnings on a page."""
    return re.findall(r'class="trouble[^"]*"><a href="[^"]*">([^<]*)</a>', text)


async def test_a_refusal_is_shown_on_every_page_after_a_restart_until_it_is_gone(world: World, sign_in: SignIn) -> None:
    await mark(world)
    report(world, State.ONLINE)
    client = await sign_in()
    assert warned(await page(client, "/t/0367/calls")) == []
    await logged(world, "attention")
    report(world, State.ONLINE)  # a new process knows nothing of it
    for path in PATHS:
        text = await page(client, f"/t/0367/{path}")
        assert warned(text) == ["RetailCRM"], path
        assert "Error." in text
    assert 'data-poll="/t/0367/troubles"' in text, "and it comes and goes without a reload"
    assert warned(await page(client, "/t/0367/troubles")) == ["RetailCRM"]
    assert "Test passed." in await submitted(client, "/t/0367/integrations/retailcrm/test", {"csrf": CSRF})
    assert warned(await page(client, "/t/0367/calls")) == []


async def test_what_has_not_connected_yet_is_pending(world: World, sign_in: SignIn) -> None:
    report(world, State.ONLINE)
    await mark(world, passed=False)
    client = await sign_in()
    text = await page(client, "/t/0367/integrations")
    assert "Has not connected yet." in text
    await logged(world, "done")
    assert warned(await page(client, "/t/0367/integrations")) == []


async def test_programs_get_the_same(world: World) -> None:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    report(world, State.ATTENTION, "bad_credentials")
    (crm,) = [one for one in await connections_of(world.deps, tenant) if not one.is_pbx]
    shown = status_json(crm.status, words("en"), crm.kind)
    assert (shown["status"], shown["code"]) == ("error", "bad_credentials")
    assert shown["message"] == "The other side refused the user, the password or the key."
    assert shown["what_to_do"].startswith("Enter a valid key")
    assert shown["since"].endswith("Z")


async def test_a_last_success_outlives_its_log(world: World) -> None:
    await logged(world, "done")

    async def forget(conn: Connection) -> None:
        await keep_last_successes(conn, 0.0)
        await conn.execute("DELETE FROM integration_logs")

    before = (await world.db.tenant(JUNE, select_known, JUNE))[CRM].synced_at
    await world.db.engine(forget)
    assert (await world.db.tenant(JUNE, select_known, JUNE))[CRM].synced_at == before is not None


async def test_what_is_switched_off_is_saved_without_a_test(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    sent = {"csrf": CSRF, "domain": "https://nowhere.example", "api_key": "another-key", "client_id": "***"}
    assert "Not saved" in await submitted(client, "/t/0367/integrations/retailcrm/settings", sent)
    await world.db.engine(set_link_enabled, INTEGRATIONS, JUNE, CRM, False)
    await world.cache.load(JUNE, anew=True)
    assert "Saved." in await submitted(client, "/t/0367/integrations/retailcrm/settings", sent)
    assert (await world.db.tenant(JUNE, select_known, JUNE))[CRM].worked_at is None


async def test_kinds_of_systems_stand_apart(world: World, sign_in: SignIn) -> None:
    text = await page(await sign_in(), "/t/0367/integrations")
    parts = [text.index(f'id="{one}"') for one in ("pbxes", "crms", "channels")]
    assert parts == sorted(parts)
    assert parts[1] < text.index("/t/0367/integrations/retailcrm", parts[1]) < parts[2]
    assert text.index("/t/0367/integrations/telegram", parts[1]) > parts[2]


@pytest.mark.slow
@pytest.mark.long
async def test_error_and_pending_are_shown_with_a_warning(world: World, sign_in: SignIn) -> None:
    """Feature: modular-bot-integrations, Property 13: an integration in error or pending is shown with a warning on the pages of
    its company, and no other is."""
    client = await sign_in()
    report_of = st.tuples(st.sampled_from(list(State)), st.sampled_from(["ready", "unavailable", "needs_attention"]))
    log = st.lists(st.sampled_from(["done", "retry", "failed", "attention"]), max_size=6)

    async def shown(example: Any) -> None:
        (state, code), statuses, passed, enabled, path = example
        await world.db.engine(_forget_states)
        await mark(world, passed)
        await world.db.engine(set_link_enabled, INTEGRATIONS, JUNE, CRM, enabled)
        for status in statuses:
            await logged(world, status)
        report(world, state, code)
        tenant = world.cache.tenant(JUNE)
        assert tenant is not None
        (crm,) = [one for one in await connections_of(world.deps, tenant) if not one.is_pbx]
        text = await page(client, f"/t/0367/{path}")
        warns = crm.status.standing in (Standing.ERROR, Standing.PENDING) or crm.status.troubled
        assert (warned(text) == ["RetailCRM"]) is warns
        if crm.status.standing in (Standing.ERROR, Standing.PENDING):
            assert f"{words('en')('status.' + crm.status.standing)}.</strong>" in text

    await holds(shown, st.tuples(report_of, log, st.booleans(), st.booleans(), st.sampled_from(PATHS)))


async def _forget_states(conn: Connection) -> None:
    await conn.execute("DELETE FROM integration_states")
    await conn.execute("DELETE FROM integration_logs")


async def rows_of(conn: Connection, key: str) -> list[str]:
    """The tables that still hold something of an integration, but for what it did."""
    found = []
    for table in (
        "integrations",
        "user_extensions",
        "integration_states",
        "integration_tokens",
        "modules",
        "external_ids",
    ):
        query = f"SELECT count(*) FROM {table} WHERE tenant_id = '0367' AND integration_type = $1"
        if await conn.fetchval(query, key):
            found.append(table)
    return found


@pytest.mark.slow
@pytest.mark.long
async def test_disconnecting_takes_it_off_the_list(world: World, sign_in: SignIn) -> None:
    """Feature: modular-bot-integrations, Property 2: an integration that is disconnected is no longer in the list of active ones,
    whatever it is called and whether it was on."""
    client, master = await sign_in(), world.deps.master
    assert master is not None
    assert world.deps.modules is not None

    async def gone(example: Any) -> None:
        name, enabled, token = example
        key = IntegrationKey(f"telegram:{name}")
        from adapters.registry import adapters

        settings = adapters()[integration(key, {}).kind].settings.model_validate({"bot_token": Secret(token)})
        await save_settings(world.db, master, INTEGRATIONS, JUNE, integration(key, {}), settings, "anna@june.example")
        await world.db.engine(set_link_enabled, INTEGRATIONS, JUNE, key, enabled)
        await world.cache.load(JUNE, anew=True)
        href = f"/t/0367/integrations/{key}"
        assert f'href="{href}"' in await page(client, "/t/0367/integrations")
        sure = await page(client, f"{href}/disconnect")
        assert 'name="sure"' in sure
        asked = await client.post(f"{href}/disconnect", form={"csrf": CSRF})
        assert asked.location == f"{href}/disconnect", "never without the question"
        done = await submitted(client, f"{href}/disconnect", {"csrf": CSRF, "sure": "1"})
        assert f'href="{href}"' not in done
        assert await world.db.engine(rows_of, key) == []
        tenant = world.cache.tenant(JUNE)
        assert tenant is not None
        assert key not in tenant.integrations
        matrix = world.cache.enablement(JUNE)
        assert matrix is not None
        assert not matrix["integrations"].get(key)

    names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
    tokens = st.from_regex(r"[1-9][0-9]{0,9}:[A-Za-z0-9_-]{1,40}", fullmatch=True)
    await holds(gone, st.tuples(names, st.booleans(), tokens))


async def test_disconnecting_a_crm_leaves_nothing_of_it(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    text = await submitted(client, "/t/0367/integrations/retailcrm/disconnect", {"csrf": CSRF, "sure": "1"})
    assert "RetailCRM was disconnected." in html.unescape(text)
    assert await world.db.engine(rows_of, CRM) == []
    line, *_ = await world.db.tenant(JUNE, select_audit, JUNE, None, 1)
    assert (line.action, line.target) == ("integration.disconnected", CRM)
    assert (
        await client.post("/t/0367/integrations/retailcrm/disconnect", form={"csrf": CSRF, "sure": "1"})
    ).status_code == 404
