"""Names of people whose messenger does not send them: looked up at once, once each, and shown everywhere, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

import actors.jobs
from actors.chats import naming
from actors.chats.naming import NAMES, naming_jobs
from actors.feed import Feed
from actors.jobs import Jobs
from actors.runtime.directory import Slot
from actors.services import Services
from adapters.base import Adapter, AdapterSettings, Link
from adapters.registry import Linked
from gateway.domain.chats import Person
from gateway.domain.configuration import Tenant, integration
from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store import client_names
from gateway.store.contacts import insert_contact
from gateway.store.conversations import select_conversation
from gateway.store.integration_jobs import JobRow, select_jobs
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("dove")


@dataclass
class Dove:
    """A messenger that names people when it is asked."""

    people: dict[str, Person] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False

    async def person(self, address: str) -> Person:
        self.asked.append(address)
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        if address not in self.people:
            raise Rejected("consent is required")
        return self.people[address]


@dataclass
class Here:
    """A gateway with one company, and the pages that look on."""

    db: Database
    dove: Dove
    changed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        @asynccontextmanager
        async def connect(link: Link, settings: object) -> AsyncIterator[Dove]:
            yield self.dove

        adapter = Adapter(
            kind=Kind("dove"), title="Dove", type="channel", settings=AdapterSettings, connect=connect, client=Dove
        )
        tenant = Tenant(
            JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations=MappingProxyType({KEY: integration(KEY, {})})
        )
        services = SimpleNamespace(
            db=self.db, cache=SimpleNamespace(tenants=lambda: {JUNE: tenant}, tenant=lambda number: tenant), link=_link,
            ownership=SimpleNamespace(epoch_of=lambda number: 1, serves=lambda number, epoch: True),
        )  # fmt: skip
        jobs = Jobs(cast(Services, services), {Kind("dove"): adapter}, naming_jobs(self.db, Feed(self.changed.append)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(jobs.run, Slot("system/jobs"))
            yield
            nursery.cancel_scope.cancel()

    async def begin(self, address: str, name: str = "", contact: str = "") -> UUID:
        """Somebody has written for the first time."""
        return await self.db.engine(_begin, address, name, contact)

    async def named(self, conversation: UUID) -> tuple[str, str, str]:
        """As lists show it: name, user name, the contact's name."""
        seen = await self.db.tenant(JUNE, select_conversation, JUNE, conversation)
        assert seen is not None
        return seen.conversation.name, seen.conversation.username, seen.contact_name

    async def job(self) -> JobRow | None:
        return next((one for one in await self.db.tenant(JUNE, select_jobs, JUNE, KEY) if one.name == NAMES), None)


def _link(tenant: Tenant, linked: Linked, settings: object, *, background: bool) -> Link:
    return Link(tenant=tenant, name=linked.key, base_url=None, dial=cast(Any, None))


async def _begin(conn: Connection, address: str, name: str, contact: str) -> UUID:
    person, made = await insert_contact(conn, JUNE, contact, (), ()), uuid4()
    await conn.execute(
        "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner, name, last_message_at) "
        "VALUES ($1, $2, $3, $4, $5, 'none', $6, now())", JUNE, made, KEY, address, person, name,
    )  # fmt: skip
    return made


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(5):
        while not await found():
            await trio.sleep(0.01)


@pytest.fixture
async def here(db: Database, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(actors.jobs, "LOOK_S", 0.02)
    monkeypatch.setattr(actors.jobs, "FIRST_WITHIN_S", 0.0)

    async def make(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'a:b:c')", JUNE
        )  # fmt: skip
        await upsert_link(conn, INTEGRATIONS, JUNE, LinkRow("dove", "dove", True, {}, {}))

    await db.engine(make)
    return Here(db, Dove())


async def idle(here: Here) -> None:
    """The job is there, and has done what there was."""

    async def is_so() -> bool:
        row = await here.job()
        return row is not None and row.last_done_at is not None

    await until(is_so)


async def test_who_writes_for_the_first_time_is_named_at_once(here: Here) -> None:
    here.dove.people["7"] = Person(name="Anna\n Kuzmina\0", username="anna.k")
    async with here.running():
        await idle(here)
        assert here.dove.asked == []
        conversation = await here.begin("7")

        async def is_named() -> bool:
            return await here.named(conversation) == ("Anna Kuzmina", "anna.k", "Anna Kuzmina")

        await until(is_named)
        assert here.changed == [f"0367 chat {conversation}"], "pages look again"


async def test_each_is_asked_about_once(here: Here) -> None:
    await here.begin("unknown")
    await here.begin("9", name="Boris")
    async with here.running():
        await idle(here)
        await here.begin("8")

        async def asked() -> bool:
            return len(here.dove.asked) == 2

        await until(asked)
        await trio.sleep(0.1)
    assert here.dove.asked == ["unknown", "8"]
    assert here.changed == []


async def test_a_contact_that_people_have_named_keeps_its_name(here: Here) -> None:
    here.dove.people["7"] = Person(username="anna.k")
    conversation, other = await here.begin("7", contact="Mrs Kuzmina"), await here.begin("8")
    here.dove.people["8"] = Person(username="boris")
    async with here.running():
        await idle(here)
    assert await here.named(conversation) == ("", "anna.k", "Mrs Kuzmina")
    assert await here.named(other) == ("", "boris", "boris")


async def test_a_messenger_that_is_away_is_asked_again(here: Here) -> None:
    here.dove.away, here.dove.people["7"] = True, Person(name="Anna")
    conversation = await here.begin("7")
    async with here.running():

        async def failed() -> bool:
            row = await here.job()
            return row is not None and row.problem == "unavailable"

        await until(failed)
        assert await here.named(conversation) == ("", "", "")
        here.dove.away = False
        await here.begin("8")  # whoever writes next makes it due
        await idle(here)
    assert await here.named(conversation) == ("Anna", "", "Anna")


async def test_many_are_named_in_several_runs(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "AT_ONCE", 3)
    for number in range(7):
        here.dove.people[str(number)] = Person(name=f"Person {number}")
        await here.begin(str(number))
    async with here.running():

        async def all_are() -> bool:
            return not await here.db.tenant(JUNE, client_names.select_unnamed, JUNE, KEY, 10)

        await until(all_are)
    assert len(here.dove.asked) == 7


async def test_an_adapter_that_names_nobody_has_no_such_job(here: Here) -> None:
    silent = Adapter(kind=Kind("dove"), title="Dove", type="channel", settings=AdapterSettings, connect=cast(Any, None))
    assert naming_jobs(here.db, Feed())(silent) == []
