"""From a messenger's update to the log line: durable, known again, in order, and never twice, on a real PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.chats.channel_session import ChannelSession
from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.feed import Feed
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells, Services
from adapters.base import Adapter, AdapterSettings
from adapters.budget import Budgets
from adapters.inbound import Inbound, Update, UpdateSink
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadCredentials, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.shards import shard_of
from gateway.store.journal import PostRow, insert_posts
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("pigeon:support")
TENANT = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru")


async def _logs(conn: Connection) -> list[tuple[str, str, str]]:
    rows = await conn.fetch("SELECT integration_type, event_type, request_data FROM integration_logs ORDER BY log_id")
    return [tuple(row) for row in rows]


async def _set_epoch(conn: Connection, epoch: int) -> None:
    await conn.execute("UPDATE shards SET epoch = $2 WHERE shard = $1", shard_of(JUNE), epoch)


async def _tenant(conn: Connection) -> None:
    await conn.execute(
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'a:b:c')",
        JUNE,
    )


@dataclass
class Here:
    db: Database
    bells: Doorbells = field(default_factory=Doorbells)
    slot: Slot = field(default_factory=lambda: Slot("tenant/0367/chats"))
    away: bool = False

    @property
    def inbox(self) -> Inbox:
        async def put(row: PostRow) -> bool:
            if self.away:
                raise Unavailable("away")
            return (await self.db.engine(insert_posts, [row]))[0]

        return Inbox(put, lambda tenant: self.bells.ring(tenant, CHATS))

    @property
    def services(self) -> Services:
        return cast(Services, type("S", (), {
            "db": self.db, "bells": self.bells, "inbox": self.inbox, "provider_urls": {}, "dial": None, "link": Services.link, "outgoing_files": lambda self, tenant: None, "recordings_of": lambda self, tenant: None, "app_of": lambda self, adapter: None, "public_url": "",
            "budgets": Budgets(), "feed": Feed(), "tokens": lambda self, *which: None,
        })())  # fmt: skip

    async def logs(self, count: int) -> list[tuple[str, str, str]]:
        with trio.fail_after(10):
            while len(found := await self.db.engine(_logs)) < count:
                await trio.sleep(0.01)
        return found


@pytest.fixture
async def here(db: Database) -> Here:
    await db.engine(_tenant)
    await db.engine(_set_epoch, 3)
    return Here(db)


@asynccontextmanager
async def reading(here: Here, epoch: int = 3) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        silent = Reads(None, AdapterSettings())
        actor = TenantChats(TENANT, here.services, epoch, {KEY: silent, IntegrationKey("pigeon"): silent})
        nursery.start_soon(actor.run, here.slot)
        yield
        nursery.cancel_scope.cancel()


def sent(*numbers: int) -> list[Update]:
    return [Update(str(number), {"id": number, "text": f"text {number} \0"}) for number in numbers]


async def test_an_update_is_logged_once_and_in_order(here: Here) -> None:
    await here.inbox.store(JUNE, KEY, sent(1, 2), "chats")
    async with reading(here):
        await here.logs(2)
        await here.inbox.store(JUNE, KEY, sent(2, 3, 1), "chats")
        found = await here.logs(3)
        await trio.sleep(0.1)
        assert await here.logs(3) == found
    assert [(key, kind) for key, kind, _ in found] == [(KEY, "incoming")] * 3
    assert ['"id":1' in found[0][2], '"id":2' in found[1][2], '"id":3' in found[2][2]] == [True] * 3


async def test_the_same_id_of_another_integration_is_another_update(here: Here) -> None:
    await here.inbox.store(JUNE, KEY, sent(1), "chats")
    await here.inbox.store(JUNE, IntegrationKey("pigeon"), sent(1), "chats")
    async with reading(here):
        assert {key for key, _, _ in await here.logs(2)} == {KEY, "pigeon"}


async def test_an_actor_of_an_older_epoch_changes_nothing(here: Here) -> None:
    await here.inbox.store(JUNE, KEY, sent(1), "chats")
    async with reading(here, epoch=2):
        with trio.fail_after(10):
            while here.slot.health.code != "another_instance":
                await trio.sleep(0.01)
        assert await here.db.engine(_logs) == []
    async with reading(here):
        assert len(await here.logs(1)) == 1


class Pigeon:
    """A client whose stream brings what a test lays out, and notes what it may confirm."""

    def __init__(self, script: Sequence[Any]) -> None:
        self.script = list(script)
        self.confirmed: list[str] = []

    async def run(self, sink: UpdateSink) -> None:
        while self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            await sink.received(step)
            self.confirmed += [one.id for one in step]
        await trio.sleep_forever()


@asynccontextmanager
async def session(here: Here, pigeon: Pigeon, slot: Slot) -> AsyncIterator[None]:
    @asynccontextmanager
    async def connect(link: Any, settings: Any) -> AsyncIterator[Pigeon]:
        yield pigeon

    inbound = Inbound(verify=lambda call, settings: None, read=lambda body, settings: ())
    adapter = Adapter(
        kind=Kind("pigeon"),
        title="Pigeon",
        type="channel",
        settings=AdapterSettings,
        connect=connect,
        inbound=inbound,
    )
    actor = ChannelSession(TENANT, Linked(KEY, adapter), AdapterSettings(), here.services)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run, slot)
        yield
        nursery.cancel_scope.cancel()


async def test_a_stream_is_confirmed_once_it_is_durable(here: Here) -> None:
    pigeon, slot = Pigeon([sent(1, 2)]), Slot("tenant/0367/integration/pigeon:support/updates")
    here.away = True
    async with reading(here), session(here, pigeon, slot):
        with trio.fail_after(10):
            while slot.health.code != "database_away":
                await trio.sleep(0.01)
        assert pigeon.confirmed == []
        here.away = False
        assert len(await here.logs(2)) == 2
        assert pigeon.confirmed == ["1", "2"]
        assert slot.health.state is State.ONLINE


async def test_a_refused_login_waits_for_a_person(here: Here) -> None:
    slot = Slot("tenant/0367/integration/pigeon:support/updates")
    async with session(here, Pigeon([BadCredentials("401")]), slot):
        with trio.fail_after(5):
            while slot.health.state is not State.ATTENTION:
                await trio.sleep(0.01)
    assert slot.health.code == "bad_credentials"
