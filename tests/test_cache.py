"""The configuration in memory on a real database: fresh by four nets, and never waited for.

Over 400 lines: one database and one cache serve every case.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

import gateway.cache
from gateway.app import CHANNEL, Gateway
from gateway.cache import ConfigurationCache
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.secret import Secret
from gateway.store import tenants as store
from gateway.store.postgres.listen import Listener
from gateway.store.postgres.pool import Connection, Database, OwnConnection, open_session
from gateway.store.secrets.seal import MasterKeys, new_data_key, new_master_key, parse_master_keys
from gateway.store.tenants import INTEGRATIONS, PBXES, LinkRow, TenantRow, upsert_link, upsert_phone, upsert_tenant
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

A, B, NOBODY = TenantId("0367"), TenantId("0368"), TenantId("9999")
CRM, CHAT = IntegrationKey("retailcrm"), IntegrationKey("telegram")
MASTER = parse_master_keys(new_master_key())


async def add_tenant(connection: Connection, number: TenantId, master: MasterKeys = MASTER) -> None:
    wrapped = master.wrap(number, new_data_key())
    sealer = master.sealer(number, wrapped)
    row = TenantRow(
        tenant=number, name=f"Tenant {number}", timezone="Europe/Minsk", country="BY", language="ru",
        token_hash=f"hash {number}".encode(), data_key=wrapped, options={"a": 1}, version=0, phones=(), pbxes=(),
        integrations=(),
    )  # fmt: skip
    await upsert_tenant(connection, row)
    await upsert_phone(connection, number, "150", "Anna", ["150", "soft"])
    secret = sealer.seal(Secret("s3cret"), table="pbxes", column="secret", row="main")
    await upsert_link(connection, PBXES, number, LinkRow("main", "asterisk", True, {"host": "pbx"}, {"secret": secret}))
    key = sealer.seal(Secret("k3y"), table="integrations", column="api_key", row=CRM)
    await upsert_link(
        connection, INTEGRATIONS, number, LinkRow(CRM, CRM, True, {"domain": "https://x"}, {"api_key": key})
    )


async def run_sql(connection: Connection | OwnConnection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


SWITCH = "UPDATE integrations SET enabled = {} WHERE tenant_id = '0367' AND integration_type = 'retailcrm'"


class Counted:
    """The database, with a count of what was read, a gate before every answer, and an end of its life."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.loads: list[Sequence[TenantId] | None] = []
        self.gate: trio.Event | None = None
        self.away = False

    async def engine(self, work: Any, *args: Any) -> Any:
        if self.away:
            await trio.lowlevel.checkpoint()
            raise Unavailable("away")
        answer = await self.db.engine(work, *args)
        if work is store.select_tenants:
            self.loads.append(args[0])
            if self.gate is not None:
                await self.gate.wait()
        return answer


class World:
    def __init__(self, db: Database, dsn: str) -> None:
        self.db = Counted(db)
        self.dsn = dsn
        self.at = 1000.0
        self.cache = ConfigurationCache(
            cast(Database, self.db), MASTER, kinds=(Kind(CRM), Kind(CHAT)), clock=self.clock
        )

    def clock(self) -> float:
        self.at += 1e-6
        return self.at

    async def plainly(self, *statements: str) -> None:
        """As `psql` would do it."""
        async with open_session(self.dsn, application_name="psql") as session:
            await session.run(run_sql, *statements)

    def on(self) -> bool:
        tenant = self.cache.tenant(A)
        return tenant is not None and CRM in tenant.integrations and tenant.integrations[CRM].enabled

    async def until(self, what: Any, within_s: float) -> float:
        """How long it took."""
        started = time.monotonic()
        with trio.fail_after(within_s):
            while not what():
                await trio.sleep(0.005)
        return time.monotonic() - started


@pytest.fixture
async def world(db: Database, dsn: str) -> World:
    await db.engine(add_tenant, A)
    await db.engine(add_tenant, B)
    here = World(db, dsn)
    await here.cache.load()
    here.db.loads.clear()
    return here


@asynccontextmanager
async def listening(world: World) -> AsyncIterator[Listener]:
    """The cache and its LISTEN connection, as the gateway runs them."""
    listener = Listener(world.db.db, [CHANNEL], heartbeat_s=1.0, dead_after_s=3.0)
    app = cast(Gateway, SimpleNamespace(cache=world.cache))

    async def notified(channel: str, payload: str) -> None:
        await Gateway.notified(app, channel, payload)

    async def reset() -> None:
        await Gateway.reset(app)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.run)
        nursery.start_soon(listener.serve_notifications, notified, reset)
        await world.until(lambda: listener.connected, 5)
        await world.until(lambda: world.db.loads, 5)
        yield listener
        nursery.cancel_scope.cancel()


# --- what it holds


async def test_a_snapshot_holds_the_whole_tenant_with_its_secrets_opened(world: World) -> None:
    tenant = world.cache.tenant(A)
    assert tenant is not None
    assert (tenant.name, tenant.country, str(tenant.timezone)) == ("Tenant 0367", "BY", "Europe/Minsk")
    assert tenant.phones[0].devices == ("150", "soft")
    assert tenant.pbxes[0].settings["secret"].reveal() == "s3cret"
    assert tenant.integrations[CRM].settings["api_key"].reveal() == "k3y"
    assert "s3cret" not in repr(tenant)
    assert tenant.version > 0
    assert set(world.cache.tenants()) == {A, B}
    assert len(world.cache) == 2


async def test_a_token_finds_its_tenant(world: World) -> None:
    found = world.cache.by_token(b"hash 0368")
    assert found is not None
    assert found.number == B
    assert world.cache.by_token(b"hash 9999") is None
    await world.plainly("UPDATE tenants SET token_hash = 'new' WHERE tenant_id = '0368'")
    await world.cache.invalidate(B)
    assert world.cache.by_token(b"hash 0368") is None
    assert world.cache.by_token(b"new") is not None


async def test_the_enablement_matrix_has_its_form(world: World) -> None:
    world.at += 12.5
    answer = world.cache.enablement(A)
    assert answer is not None
    assert list(answer) == ["enterprise_number", "integrations", "cached_at", "age_seconds"]
    assert answer["enterprise_number"] == "0367"
    assert answer["integrations"] == {"retailcrm": True, "telegram": False}
    assert answer["cached_at"].endswith("Z")
    assert answer["age_seconds"] == pytest.approx(12.5, abs=0.1)
    assert world.cache.enablement(NOBODY) is None


async def test_hits_misses_and_invalidations_are_counted(world: World) -> None:
    for number in (A, A, B, NOBODY):
        world.cache.tenant(number)
    assert await world.cache.invalidate(A)
    assert not await world.cache.invalidate(NOBODY)
    stats = world.cache.stats
    assert (stats.hits, stats.misses, stats.invalidations) == (3, 1, 2)
    assert stats.loads == 3
    assert stats.last_full_refresh is not None


async def test_a_row_that_makes_no_sense_costs_its_tenant_alone(world: World, expected_errors: None) -> None:
    other = parse_master_keys(new_master_key())
    await world.db.db.engine(add_tenant, TenantId("0369"), other)
    await world.plainly("UPDATE tenants SET timezone = 'Mars/Base', name = 'changed' WHERE tenant_id = '0368'")
    await world.plainly("UPDATE tenants SET name = 'July' WHERE tenant_id = '0367'")
    await world.cache.load()
    tenants = world.cache.tenants()
    assert set(tenants) == {A, B}
    assert tenants[A].name == "July"
    assert tenants[B].name == "Tenant 0368", "the last good copy stays"


# --- loads


async def test_many_misses_make_one_load(world: World) -> None:
    number = TenantId("0369")
    await world.db.db.engine(add_tenant, number)
    found: list[Any] = []

    async def find() -> None:
        found.append(await world.cache.find(number))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(find)
    assert len(found) == 50
    assert all(tenant is not None and tenant.number == number for tenant in found)
    assert world.db.loads == [[number]]


async def test_an_unknown_number_is_looked_up_once(world: World) -> None:
    for _ in range(5):
        assert await world.cache.find(NOBODY) is None
    assert world.db.loads == [[NOBODY]]


async def test_those_who_wait_for_a_load_that_fails_are_told(world: World) -> None:
    world.db.away = True
    errors = 0

    async def find() -> None:
        nonlocal errors
        try:
            await world.cache.find(NOBODY)
        except Unavailable:
            errors += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(find)
    assert errors == 5
    assert not world.cache._unknown, "nobody can tell whether there is such a tenant"


async def test_an_invalidation_does_not_take_a_load_that_began_before(world: World) -> None:
    world.db.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.load, A)
        await world.until(lambda: world.db.loads, 5)
        await world.plainly(SWITCH.format("false"))
        nursery.start_soon(world.cache.invalidate, A)
        await trio.sleep(0.02)
        world.db.gate.set()
    assert not world.on()


async def test_a_load_that_ends_late_brings_nothing_old_back(world: World) -> None:
    new = TenantId("0369")
    gate = world.db.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.load)
        await world.until(lambda: world.db.loads, 5)
        world.db.gate = None
        await world.plainly(SWITCH.format("false"), "DELETE FROM tenants WHERE tenant_id = '0368'")
        await world.db.db.engine(add_tenant, new)
        for number in (A, B, new):
            await world.cache.invalidate(number)
        gate.set()
    assert not world.on()
    assert set(world.cache.tenants()) == {A, new}


async def test_a_smaller_version_that_was_committed_later_is_news(world: World) -> None:
    """Two changes at once: the one that drew the smaller number may be the last to commit."""
    await world.plainly(
        SWITCH.format("false"), "UPDATE tenant_versions SET version = version - 3 WHERE tenant_id = '0367'"
    )
    await world.cache.invalidate(A)
    assert not world.on()


async def test_a_swap_is_atomic(world: World) -> None:
    before = world.cache.tenants()
    await world.plainly(
        "UPDATE tenants SET name = 'new' WHERE tenant_id = '0367'", SWITCH.format("false"),
        "UPDATE phones SET owner = 'new' WHERE tenant_id = '0367'",
    )  # fmt: skip
    world.db.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.load)
        await world.until(lambda: world.db.loads, 5)
        assert world.cache.tenants() == before
        world.db.gate.set()
    tenant = world.cache.tenants()[A]
    assert (tenant.name, tenant.phones[0].owner, tenant.integrations[CRM].enabled) == ("new", "new", False)
    assert before[A].name == "Tenant 0367", "a reader keeps the snapshot it took"


# --- fresh


@pytest.mark.slow
async def test_a_notification_changes_the_copy_in_less_than_a_second(world: World) -> None:
    async with listening(world):
        for on in (False, True, False):
            await world.plainly(SWITCH.format(on))
            assert await world.until(lambda on=on: world.on() is on, 5) < 1.0
        await world.plainly("DELETE FROM tenants WHERE tenant_id = '0368'")
        assert await world.until(lambda: B not in world.cache.tenants(), 5) < 1.0
        assert world.cache.tenant(B) is None
        await world.db.db.engine(add_tenant, TenantId("0370"))
        assert await world.until(lambda: TenantId("0370") in world.cache.tenants(), 5) < 1.0


@pytest.mark.slow
async def test_a_change_is_known_when_the_listen_connection_was_killed_first(world: World) -> None:
    async with listening(world) as listener:
        await world.plainly(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gateway listen' "
            "AND datname = current_database()",
            SWITCH.format("false"),
        )
        assert await world.until(lambda: not world.on(), 8) < 5.0
        await world.until(lambda: listener.connected, 8)


@pytest.mark.slow
async def test_the_poll_alone_finds_a_change(world: World) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.run)
        await world.plainly(SWITCH.format("false"))
        assert await world.until(lambda: not world.on(), 8) < 5.0
        nursery.cancel_scope.cancel()


async def test_an_entry_that_is_old_is_answered_from_and_read_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.cache, "POLL_S", 3600.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.run)
        await world.plainly(SWITCH.format("false"))
        world.cache.tenant(A)
        await trio.sleep(0.05)
        assert world.db.loads == []
        world.at += world.cache.ttl_s + 1
        assert world.on(), "the old copy answers at once"
        await world.until(lambda: not world.on(), 5)
        assert world.db.loads[0] == [A]
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_while_the_database_is_away_the_copy_stays_and_nobody_waits(world: World) -> None:
    async with listening(world):
        world.db.away = True
        world.at += world.cache.ttl_s * 10
        world.cache.notified(None)
        world.cache.notified(A)
        await trio.sleep(0.1)
        started = time.perf_counter()
        for _ in range(1000):
            assert world.cache.tenant(A) is not None
            assert world.cache.by_token(b"hash 0368") is not None
            assert world.cache.enablement(A) is not None
        assert time.perf_counter() - started < 0.5
        with pytest.raises(Unavailable):
            await world.cache.invalidate(A)
        await world.plainly(SWITCH.format("false"))
        world.db.away = False
        assert await world.until(lambda: not world.on(), 8) < 5.0


async def test_a_change_rings_and_a_reading_without_news_of_one_tenant_does_not(world: World) -> None:
    await world.cache.changed()
    rung = 0

    async def count() -> None:
        nonlocal rung
        while True:
            await world.cache.changed()
            rung += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await world.cache.load(A)
        await trio.sleep(0.01)
        assert rung == 0
        await world.plainly(SWITCH.format("false"))
        await world.cache.load(A)
        await trio.sleep(0.01)
        assert rung == 1
        nursery.cancel_scope.cancel()


async def test_equal_rows_make_equal_snapshots(world: World) -> None:
    """What runs is compared with the snapshot: a full refresh must not replace every actor."""
    before = world.cache.tenants()
    await world.cache.load()
    after = world.cache.tenants()
    assert after == before
    assert after[A] is not before[A]
    assert replace(after[A], name="other") != before[A]


async def test_client_ids_of_before_are_claimed_once(db: Database, expected_errors: None) -> None:
    """Two companies could enter the same id; the last one read then had the other's calls placed."""

    kind = Kind("retailcrm")

    async def give(connection: Connection, number: TenantId, text: str) -> None:
        (row,) = await store.select_tenants(connection, [number])
        sealed = MASTER.sealer(number, row.data_key).seal(
            Secret(text), table="integrations", column="client_id", row=CRM
        )
        await upsert_link(connection, INTEGRATIONS, number, LinkRow(CRM, "retailcrm", True, {}, {"client_id": sealed}))

    for number, text in ((A, "the same"), (B, "the same"), (TenantId("0369"), "its own")):
        await db.engine(add_tenant, number)
        await db.engine(give, number, text)
    cache = ConfigurationCache(db, MASTER, caller_fields={kind: "client_id"})
    await cache.load()
    for _ in range(2):
        await cache.claim_client_ids()
        await cache.load()
        for secret, owner in ((b"the same", A), (b"its own", "0369")):
            found = cache.by_caller(kind, hashlib.sha256(secret).digest())
            assert found is not None
            assert found[0].number == owner
