"""Registrations and maps as jobs: what each comes to, and what makes it due; a CRM that only has numbers of its users."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

import actors.crm.registration
from actors.crm.registration import Registrations, Synced, SyncResult
from actors.crm.registration_jobs import NOT_REGISTERED_S, registration_jobs
from actors.delivery.clients import Clients
from adapters.abilities import HeldExtensions, RegistrationPlace
from adapters.base import Adapter, AdapterSettings, Attempt, Link
from adapters.jobs import Job, JobContext, JobResult
from adapters.registry import Linked, adapters
from gateway.domain.configuration import Tenant, integration
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.posts import Invalid
from gateway.store import crm_registrations as store
from gateway.store.integration_jobs import JobRow, claim_jobs, finish_job, select_jobs
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from gateway.store.user_extensions import replace_map
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE = TenantId("0367")
KIND = IntegrationKey(
    next(kind for kind, adapter in adapters().items() if len(registration_jobs(cast(Any, None))(adapter)) == 3)
)
LINKED = Linked(KIND, adapters()[Kind(KIND)])
TENANT = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations={KIND: integration(KIND, {})})


@dataclass
class Fake:
    """Registrations that answer as scripted."""

    state: str = "active"
    reported: SyncResult = field(default_factory=lambda: SyncResult(True))
    untold: list[tuple[str, str]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def db(self) -> Any:
        return self

    async def tenant(self, number: TenantId, work: Any, *args: Any) -> Any:
        assert work is store.select_untold_statuses
        return self.untold

    async def stored(self, number: TenantId, linked: Linked) -> Any:
        return SimpleNamespace(row=SimpleNamespace(state=self.state))

    async def repeat(self, number: TenantId, linked: Linked) -> SyncResult:
        self.asked.append(f"repeat {linked.key}")
        return self.reported

    async def sync(self, number: TenantId, linked: Linked, who: str) -> Synced:
        self.asked.append(f"sync {linked.key}{who}")
        return Synced((), {}, (), self.reported)

    async def send_status(self, number: TenantId, linked: Linked, user: str, status: str) -> SyncResult:
        self.sent.append(f"{user} {status}")
        return self.reported


def jobs_of(fake: Any) -> dict[str, Job]:
    return {job.name: job for job in registration_jobs(cast(Registrations, fake))(LINKED.adapter)}


async def run(fake: Fake, name: str) -> JobResult | None:
    link = Link(tenant=TENANT, name=KIND, base_url=None, dial=cast(Any, None))
    attempt = Attempt(kind=name, key="", lane="", body={})
    context = JobContext(tenant=TENANT, key=KIND, settings=None, link=link, attempt=attempt)
    return await jobs_of(fake)[name].run(None, context)


def test_who_has_which() -> None:
    assert set(jobs_of(Fake())) == {"registration", "extensions", "statuses"}
    bare = Adapter(kind=Kind("x"), title="X", type="crm", settings=AdapterSettings, connect=cast(Any, None))
    assert registration_jobs(cast(Any, None))(bare) == []
    assert {name for name, job in jobs_of(Fake()).items() if job.while_off} == {"registration", "statuses"}


AWAY = SyncResult(False, "unavailable", "no answer")


async def test_what_a_run_comes_to() -> None:
    assert await run(Fake(), "registration") == JobResult()
    assert await run(Fake(reported=AWAY), "registration") == JobResult(problem="unavailable", detail="no answer")
    assert await run(Fake(reported=AWAY), "extensions") == JobResult(problem="unavailable", detail="no answer")
    assert await run(Fake(reported=SyncResult(False, "switched_off_there")), "extensions") == JobResult()
    idle = Fake(state="inactive")
    assert await run(idle, "extensions") == JobResult(after_s=NOT_REGISTERED_S)
    assert idle.asked == []


async def test_statuses_that_were_not_received() -> None:
    fake = Fake(untold=[("19", "busy"), ("18", "free")])
    assert await run(fake, "statuses") == JobResult()
    assert fake.sent == ["19 busy", "18 free"]
    fake.reported = AWAY
    result = await run(fake, "statuses")
    assert result is not None
    assert result.problem == "unavailable"
    fake.reported = SyncResult(False, "rejected")
    assert await run(fake, "statuses") == JobResult(), "what was refused for good is not sent again"


# What makes them due


@pytest.fixture
async def june(db: Database) -> Database:
    """A tenant with one integration."""

    async def make(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
            "VALUES ($1, 'x', 'UTC', 'BY', 'en', 'key')", JUNE,
        )  # fmt: skip
        await upsert_link(conn, INTEGRATIONS, JUNE, LinkRow(KIND, KIND, True, {}, {}))

    await db.engine(make)
    return db


async def row(db: Database, name: str) -> JobRow | None:
    return next((one for one in await db.tenant(JUNE, select_jobs, JUNE, KIND) if one.name == name), None)


async def due_in_s(db: Database, name: str) -> float:
    async def now(conn: Connection) -> Any:
        return await conn.fetchval("SELECT now()")

    found = await row(db, name)
    assert found is not None
    return float((found.due_at - await db.engine(now)).total_seconds())


async def test_a_change_that_is_committed_is_due_even_if_its_process_ends_then(june: Database) -> None:
    await june.engine(store.begin_registration, JUNE, KIND, "key", unread=False)
    assert 25 < await due_in_s(june, "registration") <= 30
    named = [f"{KIND}/registration"]

    async def pull(conn: Connection) -> None:
        await conn.execute("UPDATE integration_jobs SET due_at = now(), attempts = 7")

    await june.engine(pull)
    (claim,) = await june.engine(claim_jobs, [JUNE], named, named, 9, 60.0)
    # While it runs the map changes: whatever it came to, it runs once more, and soon.
    await june.tenant(JUNE, replace_map, JUNE, KIND, {"19": "150"})
    assert await june.engine(finish_job, claim, 86_400.0, "rejected", "no")
    assert 25 < await due_in_s(june, "registration") <= 30
    found = await row(june, "registration")
    assert found is not None
    assert found.attempts == 0
    # What the other side knows makes nothing due.
    known = await june.tenant(JUNE, store.select_registration, JUNE, KIND)
    await june.engine(store.note_sent, JUNE, KIND, known.version, [])
    await june.engine(pull)
    await june.engine(store.note_problem, JUNE, KIND, "unavailable", "")
    assert await due_in_s(june, "registration") <= 0


async def test_a_status_is_due_until_the_other_side_knows_it(june: Database) -> None:
    await june.tenant(JUNE, store.upsert_status, JUNE, KIND, "19", "busy", "anna@june.example", reported=True)
    assert await row(june, "statuses") is None
    await june.tenant(JUNE, store.upsert_status, JUNE, KIND, "19", "free", "anna@june.example", reported=False)
    assert 25 < await due_in_s(june, "statuses") <= 30


# A CRM that has numbers of its users and registers nobody


class Numbers:
    """Its client: ids have letters."""

    held: Mapping[str, str] = {}
    away: GatewayError | None = None

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        return HeldExtensions(extensions=dict(Numbers.held))

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        if Numbers.away is not None:
            raise Numbers.away
        Numbers.held = dict(extensions)
        return HeldExtensions(extensions=Numbers.held)


@asynccontextmanager
async def connect(link: Link, settings: object) -> AsyncIterator[Numbers]:
    yield Numbers()


NUMBERS = Adapter(
    kind=Kind("numbers"), title="Numbers", type="crm", settings=AdapterSettings, connect=connect, client=Numbers
)


async def test_a_map_without_a_registration(june: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.crm.registration, "integrations", lambda: {Kind("numbers"): NUMBERS})
    key, linked = IntegrationKey("numbers"), Linked(IntegrationKey("numbers"), NUMBERS)
    await june.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow("numbers", "numbers", True, {}, {}))
    tenant = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations={key: integration(key, {})})

    async def load(number: TenantId, *, anew: bool = False) -> None: ...

    cache = SimpleNamespace(tenant=lambda number: tenant, load=load)
    known = Registrations(june, cast(Any, cache), Clients(), cast(Any, None), {}, "https://gw.example")
    assert known.set_up(tenant) == [linked]
    Numbers.held, Numbers.away = {}, Unavailable("away")
    saved = await known.save(JUNE, linked, {"anna-k": "150", "5f3a": "151"}, "admin")
    assert (saved.reported.saved, saved.reported.code) == (False, "unavailable")
    assert (await known.stored(JUNE, linked)).row.pending
    Numbers.away = None
    assert (await known.repeat(JUNE, linked)).saved
    assert Numbers.held == {"anna-k": "150", "5f3a": "151"}
    # What changes over there is put right by the comparison.
    Numbers.held = {"anna-k": "999"}
    assert (await known.sync(JUNE, linked, "")).reported.saved
    assert Numbers.held == {"anna-k": "150", "5f3a": "151"}
    reading = await known.read(JUNE, linked)
    assert reading.held is not None
    assert (reading.problem, reading.held.extensions) == ("", Numbers.held)
    with pytest.raises(Invalid):
        await known.save(JUNE, linked, {"a b": "152"}, "admin")
    with pytest.raises(Invalid):
        await known.set_status(JUNE, linked, "anna-k", "busy", "admin")
