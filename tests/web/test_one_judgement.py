"""One judgement of trouble: pages, programs, notices, the operators' list and what bots get say the same of one case."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trio

from actors.connections import CALM_S, FRESH_S, SlotAt, WaitingForPerson, connections_of
from actors.notices import messages_about
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.statuses import Known, Outcome, Standing
from gateway.store.integration_logs import insert_log
from gateway.store.integration_states import mark_tested, select_known_of
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import set_integration_name
from gateway.web.pages.operators import tenant_lines
from gateway.web.statuses import warnings_of
from tests.web.rest.conftest import make_api
from tests.web.world import JUNE, MAPLE, World

CRM = IntegrationKey("retailcrm")
PATH = "tenant/0367/integration/retailcrm"


@dataclass(frozen=True)
class Case:
    """What an actor says and what is stored, and what all must make of it."""

    state: State | None = State.ONLINE
    code: str = "ready"
    logged: tuple[str, ...] = ()
    """Oldest first."""
    problem: str = ""
    """Of a job's last run."""
    standing: Standing = Standing.ACTIVE
    shown_code: str = "ready"
    notice: str | None = None
    bots_get_it: bool = True
    warns: bool = True


CASES = {
    "well": Case(warns=False),
    "works, with problems": Case(State.DEGRADED, "rate_limited", shown_code="rate_limited"),
    "its key was refused": Case(State.ATTENTION, "bad_credentials", standing=Standing.ERROR, shown_code="bad_credentials",
                                notice="error", bots_get_it=False),
    "refused before a restart": Case(logged=("attention",), standing=Standing.ERROR, shown_code="needs_attention",
                                     notice="error", bots_get_it=False),
    "away": Case(State.OFFLINE, "unavailable", standing=Standing.ERROR, shown_code="unavailable", notice="error"),
    "away before a restart": Case(logged=("retry",) * 5, standing=Standing.ERROR, shown_code="unavailable", notice="error"),
    "everything is rejected": Case(logged=("failed",) * 3, standing=Standing.ERROR, shown_code="deliveries_failing", notice="error"),
    "a job found what a person has to do": Case(problem="token_ends", shown_code="token_ends"),
    "a job was not answered": Case(problem="unavailable", warns=False),
    "connects again": Case(State.CONNECTING, "", shown_code="", warns=False),
    "does not run": Case(None, standing=Standing.PENDING, shown_code="not_running", notice="pending"),
}  # fmt: skip


def waiting_for_person(world: World) -> WaitingForPerson:
    async def slots(number: TenantId) -> SlotAt:
        return world.directory.get

    async def known(number: TenantId) -> Mapping[IntegrationKey, Known]:
        return (await world.db.engine(select_known_of, [number])).get(number, {})

    return WaitingForPerson(slots=slots, known=known)


async def _job_found(conn: Connection, problem: str) -> None:
    await conn.execute(
        "INSERT INTO integration_jobs (tenant_id, integration_type, name, due_at, problem) VALUES ($1, $2, 'number', now(), $3)",
        JUNE, CRM, problem,
    )  # fmt: skip


async def arrange(world: World, case: Case) -> None:
    await world.db.engine(mark_tested, JUNE, CRM, passed=True)
    for status in case.logged:
        await world.db.engine(
            insert_log, JUNE, CRM, "call_event", request="", response="", status=status, error=None, duration_ms=1
        )
    if case.problem:
        await world.db.engine(_job_found, case.problem)
    slot = world.directory.get(PATH)
    assert slot is not None
    if case.state is None:
        world.directory.remove(slot)
    else:
        slot.report(case.state, case.code)


@pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))
async def test_all_say_the_same_of_one_case(world: World, case: Case) -> None:
    await arrange(world, case)
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    known = await world.db.engine(select_known_of, [JUNE, MAPLE])
    (crm,) = [one for one in connections_of(tenant, world.directory.get, known[JUNE]) if not one.is_pbx]
    assert (crm.status.standing, crm.status.code, crm.status.warns) == (case.standing, case.shown_code, case.warns)
    # Every page of the company.
    shown = (await warnings_of(world.deps, tenant)).troubles
    assert [(one.name, one.status.code) for one in shown] == ([(CRM, case.shown_code)] if case.warns else [])
    # Programs.
    api = make_api(world)
    api.key = await api.new_key()
    item = (await api.ask("GET", "/integrations/retailcrm")).json
    assert (item["status"], item["code"]) == (case.standing, case.shown_code)
    # Messages about trouble.
    assert [one.kind for one in messages_about([crm])] == ([case.notice] if case.notice else [])
    # The operators' list.
    (line,) = tenant_lines([tenant], world.directory.below(), known)
    assert line.standing is case.standing
    assert [(one.name, one.status.code) for one in line.troubles] == ([(CRM, case.shown_code)] if case.warns else [])
    # What bots get.
    assert ((await waiting_for_person(world)(tenant)) == frozenset()) is case.bots_get_it


async def test_a_company_s_own_actor_in_trouble_is_seen_by_operators(world: World) -> None:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    await arrange(world, CASES["well"])
    slot = world.directory.get("tenant/0367")
    assert slot is not None
    known = await world.db.engine(select_known_of, [JUNE])
    (line,) = tenant_lines([tenant], world.directory.below(), known)
    assert (line.standing, line.troubled, line.own) == (Standing.ACTIVE, False, [])
    slot.report(State.FAILED, "parked")
    (line,) = tenant_lines([tenant], world.directory.below(), known)
    assert (line.standing, [one.path for one in line.own]) == (Standing.ERROR, ["tenant/0367"])


async def test_a_given_name_stands_in_warnings_and_messages(world: World) -> None:
    await arrange(world, CASES["its key was refused"])
    assert await world.db.tenant(JUNE, set_integration_name, JUNE, CRM, "Main shop") == ""
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    (trouble,) = (await warnings_of(world.deps, tenant)).troubles
    assert trouble.title == "Main shop"
    assert [one.title for one in messages_about([trouble])] == ["Main shop"]


async def test_bots_read_what_is_stored_seldom_and_health_always(world: World) -> None:
    tenant = world.cache.tenant(JUNE)
    assert tenant is not None
    await arrange(world, CASES["well"])
    reads, stored, away = 0, {CRM: Known(tested_at=datetime.now(UTC) - timedelta(hours=1))}, False

    async def slots(number: TenantId) -> SlotAt:
        return world.directory.get

    async def known(number: TenantId) -> Mapping[IntegrationKey, Known]:
        nonlocal reads
        reads += 1
        if away:
            raise Unavailable("gone")
        return stored

    ask = WaitingForPerson(slots=slots, known=known)
    for _ in range(100):
        assert await ask(tenant) == frozenset()
    assert reads == 1
    slot = world.directory.get(PATH)
    assert slot is not None
    slot.report(State.ATTENTION, "bad_credentials")
    assert await ask(tenant) == {CRM}, "at once"
    slot.report(State.ONLINE, "ready")
    assert (await ask(tenant), reads) == (frozenset(), 1)
    assert FRESH_S < 1 < CALM_S, "an error that is over is noticed within a second"
    stored = {CRM: Known(recent=[Outcome("attention", datetime.now(UTC))])}
    ask = WaitingForPerson(slots=slots, known=known)
    assert await ask(tenant) == {CRM}
    away = True
    held = ask._stored[JUNE]
    ask._stored[JUNE] = type(held)(trio.current_time() - 1, held.known)
    assert await ask(tenant) == {CRM}, "the last reading stays"
    assert await WaitingForPerson(slots=slots, known=known)(tenant) == frozenset(), (
        "and without one, health alone counts"
    )
