"""Jobs of integrations on a real database: who runs them, when again, and what a lease is worth."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

import actors.jobs
from actors.jobs import LEASE_S, Jobs, _next_s
from actors.runtime.directory import Slot
from actors.services import Services
from adapters.base import Adapter, AdapterSettings, Link
from adapters.jobs import Job, JobContext, JobResult
from adapters.registry import Linked
from gateway.domain.configuration import Tenant, integration
from gateway.domain.errors import BadCredentials, RateLimited, Rejected, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store.integration_jobs import (
    JobRow,
    claim_jobs,
    finish_job,
    hasten_job,
    release_job,
    select_jobs,
    store_wanted_jobs,
)
from gateway.store.integration_logs import select_recent_logs
from gateway.store.postgres.errors import QueryFailed
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, delete_link, set_link_enabled, upsert_link
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, MAY = TenantId("0367"), TenantId("0368")
SHOP, DEPOT = IntegrationKey("shop"), IntegrationKey("shop:depot")
NAMES = ["shop/menu", "shop/goodbye"]


class Settings(AdapterSettings):
    address: str = "somewhere"
    pages: int = 1


@dataclass
class Shop:
    """An outside system whose every answer is scripted, and its adapter."""

    answers: list[Any] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    contexts: list[JobContext] = field(default_factory=list)
    began: trio.Event = field(default_factory=trio.Event)
    go_on: trio.Event = field(default_factory=trio.Event)
    at_once: int = 0
    most_at_once: int = 0

    @asynccontextmanager
    async def connect(self, link: Link, settings: object) -> AsyncIterator["Shop"]:
        yield self

    async def run(self, client: "Shop", context: JobContext) -> JobResult | None:
        assert client is self
        self.ran.append(f"{context.tenant.number} {context.key} {context.attempt.kind}")
        self.contexts.append(context)
        context.attempt.request = "GET /menu"
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            answer = self.answers.pop(0) if self.answers else None
            if answer == "wait":
                self.began.set()
                await self.go_on.wait()
                return None
            if isinstance(answer, Exception):
                raise answer
            await trio.sleep(0.02)
            return cast("JobResult | None", answer)
        finally:
            self.at_once -= 1

    @property
    def adapter(self) -> Adapter:
        return Adapter(
            kind=Kind("shop"), title="Shop", type="crm", settings=Settings, connect=self.connect,
            jobs=(Job("menu", 3600.0, self.run), Job("goodbye", 3600.0, self.run, first_s=7200.0, while_off=True)),
        )  # fmt: skip


class Instance:
    """One gateway's jobs: which tenants are its own, and the configuration as it knows it."""

    def __init__(self, db: Database, shop: Shop, mine: set[TenantId] | None = None) -> None:
        self.mine = mine if mine is not None else {JUNE, MAY}
        self.known: dict[TenantId, Tenant] = {}
        ownership = SimpleNamespace(
            epoch_of=lambda number: 1 if number in self.mine else None,
            serves=lambda number, epoch: number in self.mine,
        )
        cache = SimpleNamespace(tenants=lambda: self.known, tenant=lambda number: self.known.get(number))
        services = SimpleNamespace(db=db, cache=cache, ownership=ownership, link=link)
        self.jobs = Jobs(cast(Services, services), {Kind("shop"): shop.adapter})
        self.slot = Slot("system/jobs")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.jobs.run, self.slot)
            yield
            nursery.cancel_scope.cancel()


def link(tenant: Tenant, linked: Linked, settings: object, *, background: bool) -> Link:
    assert background
    return Link(tenant=tenant, name=linked.key, base_url=None, dial=cast(Any, None))


def tenant(number: TenantId, keys: Mapping[IntegrationKey, Mapping[str, Any]], version: int = 1) -> Tenant:
    links = {key: integration(key, settings) for key, settings in keys.items()}
    return Tenant(number, "June", ZoneInfo("UTC"), "BY", "ru", integrations=MappingProxyType(links), version=version)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.jobs, "LOOK_S", 0.05)
    monkeypatch.setattr(actors.jobs, "FIRST_WITHIN_S", 0.0)


@pytest.fixture
async def two(db: Database) -> Database:
    """Two tenants with a shop each."""

    async def make(conn: Connection) -> None:
        for number in (JUNE, MAY):
            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
                "VALUES ($1, 'x', 'UTC', 'BY', 'en', 'key')", number,
            )  # fmt: skip
            await upsert_link(conn, INTEGRATIONS, number, LinkRow("shop", "shop", True, {}, {}))

    await db.engine(make)
    return db


async def jobs(db: Database, number: TenantId = JUNE, key: IntegrationKey = SHOP) -> dict[str, JobRow]:
    return {row.name: row for row in await db.tenant(number, select_jobs, number, key)}


async def until(found: Callable[[], Awaitable[bool] | bool]) -> None:
    with trio.fail_after(5):
        while True:
            is_so = found()
            if is_so if isinstance(is_so, bool) else await is_so:
                return
            await trio.sleep(0.01)


def here(db: Database, shop: Shop, **more: Any) -> Instance:
    made = Instance(db, shop, **more)
    made.known = {JUNE: tenant(JUNE, {SHOP: {"pages": 7}}), MAY: tenant(MAY, {SHOP: {}})}
    return made


async def test_a_new_job_runs_soon_and_then_by_its_period(two: Database) -> None:
    shop = Shop()
    one = here(two, shop, mine={JUNE})
    one.known[JUNE] = replace(one.known[JUNE], user_extensions={SHOP: {"anna-k": "150"}, DEPOT: {"1": "2"}})
    async with one.running():
        await until(lambda: bool(shop.ran))

        async def done() -> bool:
            return (await jobs(two))["menu"].last_done_at is not None

        await until(done)
        await trio.sleep(0.3)
    assert shop.ran == ["0367 shop menu"]
    context = shop.contexts[0]
    assert (context.settings.pages, context.key, context.link.name) == (7, SHOP, SHOP)
    assert (context.tenant.integrations, context.tenant.user_extensions) == ({}, {SHOP: {"anna-k": "150"}})
    row = (await jobs(two))["menu"]
    assert row.last_done_at is not None
    assert (row.problem, row.attempts) == ("", 0)
    assert 3200 < (row.due_at - row.last_done_at).total_seconds() < 4000
    assert (await jobs(two))["goodbye"].last_done_at is None
    assert await jobs(two, MAY) == {}, "another instance's"
    (line,) = await two.tenant(JUNE, select_recent_logs, JUNE, SHOP, None, 9)
    assert (line.event_type, line.status, line.request) == ("menu", "done", "GET /menu")
    assert one.slot.health.state is State.ONLINE


@pytest.mark.parametrize(
    ("answer", "problem", "pause"),
    [
        (Unavailable("away"), "unavailable", (24, 36)),
        (RateLimited("slow", after_s=300.0), "rate_limited", (300, 300)),
        (BadCredentials("401"), "bad_credentials", (24, 36)),
        (JobResult(problem="rejected", detail="no"), "rejected", (24, 36)),
        (JobResult(after_s=5.0), "", (5, 5)),
        (ValueError("a bug"), "bug", (24, 36)),
    ],
)
async def test_what_a_run_comes_to(
    two: Database, answer: Any, problem: str, pause: tuple[float, float], expected_errors: None
) -> None:
    shop = Shop(answers=[answer])
    async with here(two, shop, mine={JUNE}).running():
        await until(lambda: bool(shop.ran))

        async def over() -> bool:
            row = (await jobs(two))["menu"]
            return row.last_done_at is not None or bool(row.problem)

        await until(over)
        row = (await jobs(two))["menu"]
        now = (await two.engine(_now)).timestamp()
    assert (row.problem, row.attempts) == (problem, 1 if problem else 0)
    assert pause[0] - 2 <= row.due_at.timestamp() - now <= pause[1] + 1


async def _now(conn: Connection) -> Any:
    return await conn.fetchval("SELECT now()")


def test_backoff_doubles_up_to_a_cap_and_refusals_rest_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)
    job = Job("menu", 3600.0, Shop().run)
    away, refused = JobResult(problem="unavailable"), JobResult(problem="bad_credentials")
    assert [_next_s(job, n, away, None) for n in (1, 2, 5, 6, 99)] == [30, 60, 480, 900, 900]
    assert [_next_s(job, n, refused, None) for n in (1, 6, 99)] == [30, 960, 86_400]
    assert _next_s(job, 1, away, 120.0) == 120.0
    assert _next_s(job, 1, JobResult(), None) == 3600.0


async def test_asked_for_now_it_runs_now_also_while_it_runs(two: Database) -> None:
    shop = Shop(answers=["wait"])
    one = here(two, shop, mine={JUNE})
    async with one.running():
        with trio.fail_after(5):
            await shop.began.wait()
        assert await one.jobs.soon(JUNE, SHOP, "menu")
        shop.go_on.set()
        await until(lambda: len(shop.ran) == 2)
        await trio.sleep(0.3)
        assert len(shop.ran) == 2
        assert await one.jobs.soon(JUNE, SHOP, "menu")
        await until(lambda: len(shop.ran) == 3)
        assert not await one.jobs.soon(JUNE, SHOP, "nothing")


async def test_switched_off_only_goodbyes_run_and_gone_is_forgotten(two: Database) -> None:
    shop = Shop()
    one = here(two, shop, mine={JUNE})
    await two.engine(set_link_enabled, INTEGRATIONS, JUNE, SHOP, False)
    async with one.running():

        async def written() -> bool:
            return len(await jobs(two)) == 2

        await until(written)
        await trio.sleep(0.2)
        assert shop.ran == []
        assert await one.jobs.soon(JUNE, SHOP, "goodbye")
        await until(lambda: bool(shop.ran))
        assert shop.ran == ["0367 shop goodbye"]
        await two.engine(set_link_enabled, INTEGRATIONS, JUNE, SHOP, True)
        await until(lambda: len(shop.ran) == 2)
        await two.engine(delete_link, INTEGRATIONS, JUNE, SHOP)
        assert await jobs(two) == {}
        await trio.sleep(0.2)
    assert shop.ran == ["0367 shop goodbye", "0367 shop menu"]
    assert one.slot.health.state is State.ONLINE


async def test_a_second_integration_of_the_kind_has_jobs_of_its_own(two: Database) -> None:
    shop = Shop()
    one = here(two, shop, mine={JUNE})
    async with one.running():
        await until(lambda: bool(shop.ran))
        await two.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow(DEPOT, "shop", True, {}, {}))
        one.known[JUNE] = tenant(JUNE, {SHOP: {}, DEPOT: {"pages": "many"}}, version=2)

        async def refused() -> bool:
            row = (await jobs(two, JUNE, DEPOT)).get("menu")
            return row is not None and row.problem == "bad_settings"

        await until(refused)
    assert shop.ran == ["0367 shop menu"]


async def test_two_instances_run_a_job_once_and_a_stop_gives_it_back(two: Database) -> None:
    shop = Shop(answers=["wait"])
    first, second = here(two, shop, mine={JUNE}), here(two, shop, mine={JUNE})
    async with second.running():
        async with first.running():
            with trio.fail_after(5):
                await shop.began.wait()
            await trio.sleep(0.3)
            assert len(shop.ran) == 1
            second.mine.clear()  # whichever runs it: only its own stop frees the lease
            first.mine.clear()
        await trio.sleep(0.1)
    assert (await jobs(two))["menu"].attempts == 0
    third = here(two, shop)
    async with third.running():
        await until(lambda: shop.ran.count("0367 shop menu") == 2)


async def test_few_at_once_and_one_tenant_takes_not_all(two: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.jobs, "AT_ONCE", 3)
    keys = [IntegrationKey(f"shop:{number}") for number in range(8)]
    shop = Shop()
    one = here(two, shop)
    for key in keys:
        await two.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow(key, "shop", True, {}, {}))
    one.known[JUNE] = tenant(JUNE, {key: {} for key in keys})
    async with one.running():
        await until(lambda: len(shop.ran) == 9)
    assert 2 <= shop.most_at_once <= 3
    assert "0368 shop menu" in shop.ran[:3]


async def test_a_stale_lease_changes_nothing(two: Database) -> None:
    await two.engine(store_wanted_jobs, [JUNE], here(two, Shop()).jobs._wanted(tenant(JUNE, {SHOP: {}})))
    (slow,) = await two.engine(claim_jobs, [JUNE], NAMES, [], 5, 0.0)
    (quick,) = await two.engine(claim_jobs, [JUNE], NAMES, [], 5, LEASE_S)
    assert (quick.epoch, quick.attempts) == (slow.epoch + 1, 2)
    assert await two.engine(claim_jobs, [JUNE], NAMES, [], 5, LEASE_S) == []
    assert not await two.engine(finish_job, slow, 1.0, "unavailable", "late")
    await two.engine(release_job, slow)
    assert await two.engine(claim_jobs, [JUNE], NAMES, [], 5, LEASE_S) == [], "the lease of the second is held still"
    assert await two.engine(finish_job, quick, 60.0, "unavailable", "no\0answer")
    row = (await jobs(two))["menu"]
    assert (row.problem, row.detail, row.attempts, row.last_done_at) == ("unavailable", "no\ufffdanswer", 2, None)


async def test_rows_are_the_tenants_own(two: Database) -> None:
    await two.engine(store_wanted_jobs, [JUNE], here(two, Shop()).jobs._wanted(tenant(JUNE, {SHOP: {}})))
    assert await two.tenant(MAY, select_jobs, JUNE, SHOP) == []
    assert not await two.tenant(MAY, hasten_job, JUNE, SHOP, "menu")
    assert await two.tenant(JUNE, hasten_job, JUNE, SHOP, "menu")
    with pytest.raises(QueryFailed):
        await two.tenant(JUNE, _delete)
    # What no adapter offers any more is removed.
    await two.engine(store_wanted_jobs, [JUNE], [])
    assert await jobs(two) == {}


async def _delete(conn: Connection) -> None:
    await conn.execute("DELETE FROM integration_jobs")


async def test_a_job_of_a_tenant_that_passed_on_is_left_to_its_owner(two: Database) -> None:
    shop = Shop(answers=[Rejected("never sent")])
    one = here(two, shop, mine={JUNE})
    cast(Any, one.jobs._services.ownership).serves = lambda number, epoch: False
    async with one.running():
        await trio.sleep(0.3)
    assert shop.ran == []
    row = (await jobs(two))["menu"]
    assert (row.problem, row.attempts) == ("", 0)
