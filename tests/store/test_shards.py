"""Leases on a real server: taken once, renewed, passed on, and every write of a former owner refused."""

import asyncio

import trio

from gateway.domain.ids import TenantId
from gateway.domain.shards import SHARDS, fair_share, shard_of
from gateway.store import call_batches, outbox, shards
from gateway.store.postgres.pool import Connection, Database
from tests.store.test_outbox import CRM, call, delivery, event, recording

A, B = TenantId("0367"), TenantId("0368")


async def run_sql(connection: Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def own(db: Database, me: str) -> int:
    """Everything becomes this instance's; the epoch of A."""
    await db.engine(shards.renew, me)
    taken = await db.engine(shards.seek, me, SHARDS)
    return taken[shard_of(A)]


async def pass_on(db: Database) -> None:
    await db.engine(run_sql, "UPDATE shards SET expires_at = now() - interval '1 second'")


def test_shards_are_the_same_everywhere_and_fairly_shared() -> None:
    assert shard_of(A) == shard_of(TenantId(str(A)))
    spread = [shard_of(TenantId(str(number))) for number in range(20_000)]
    assert set(spread) == set(range(SHARDS))
    assert [fair_share(n) for n in (0, 1, 2, 3, 256, 300)] == [256, 256, 128, 86, 1, 1]


async def test_a_shard_has_one_owner_and_its_epoch_only_rises(db: Database) -> None:
    assert await own(db, "one") == 1
    assert await db.engine(shards.seek, "two", SHARDS) == {}
    found = await db.engine(shards.renew, "two")
    assert (found.held, found.instances) == ({}, 2)
    await pass_on(db)
    # Whom the database did not hear from still owns what nobody took.
    assert len((await db.engine(shards.renew, "one")).held) == SHARDS
    await pass_on(db)
    taken = await db.engine(shards.seek, "two", 100)
    assert len(taken) == 100
    assert set(taken.values()) == {2}
    assert len((await db.engine(shards.renew, "one")).held) == SHARDS - 100


async def test_a_late_resignation_lets_go_of_nothing_newer(db: Database) -> None:
    await own(db, "one")
    await pass_on(db)
    taken = await db.engine(shards.seek, "two", SHARDS)
    assert await db.engine(shards.resign, "one", dict.fromkeys(taken, 1)) == 0
    assert await db.engine(shards.resign, "two", dict(list(taken.items())[:10])) == 10
    assert len(await db.engine(shards.seek, "one", SHARDS)) == 10


async def test_an_heir_is_named_gets_ready_and_owns(db: Database) -> None:
    epoch = await own(db, "one")
    assert await db.engine(shards.offer, "one", [1, 2, 3]) == 0, "nobody else is there"
    await db.engine(shards.renew, "two")
    await db.engine(shards.renew, "three")
    assert await db.engine(shards.offer, "one", list(range(100))) == 100
    coming = {name: (await db.engine(shards.renew, name)).coming for name in ("two", "three")}
    assert [len(found) for found in coming.values()] == [50, 50]
    assert (await db.engine(shards.renew, "one")).ready == frozenset()
    await db.engine(shards.accept, "two", sorted(coming["two"]))
    await db.engine(shards.accept, "two", sorted(coming["three"]))
    assert (await db.engine(shards.renew, "one")).ready == coming["two"]
    # Whoever stops inherits nothing; what was to be its own is free for those who seek.
    await db.engine(shards.begin_to_leave, "three")
    assert await db.engine(shards.resign, "one", dict.fromkeys(range(100), epoch)) == 100
    found = await db.engine(shards.renew, "two")
    assert (found.held.keys(), set(found.held.values())) == (coming["two"], {epoch + 1})
    assert (found.coming, found.instances) == (frozenset(), 2)
    assert (await db.engine(shards.seek, "two", SHARDS)).keys() == coming["three"]
    assert await db.engine(shards.resign, "one", dict.fromkeys(range(100), epoch)) == 0, "of an old term nothing goes"


async def test_an_offer_can_be_taken_back(db: Database) -> None:
    await own(db, "one")
    await db.engine(shards.renew, "two")
    await db.engine(shards.offer, "one", [1, 2, 3])
    await db.engine(shards.withdraw, "two")
    assert (await db.engine(shards.renew, "two")).coming == {1, 2, 3}, "nobody takes back another's"
    await db.engine(shards.withdraw, "one")
    assert (await db.engine(shards.renew, "two")).coming == frozenset()


async def test_who_has_least_is_given_most(db: Database) -> None:
    await own(db, "one")
    for name in ("two", "three"):
        await db.engine(shards.renew, name)
    await db.engine(run_sql, "UPDATE shards SET owner = 'two' WHERE shard < 60")
    await db.engine(shards.offer, "one", list(range(100, 180)))
    coming = [len((await db.engine(shards.renew, name)).coming) for name in ("two", "three")]
    assert coming == [10, 70]


async def test_many_seek_at_once_and_none_gets_what_another_has(db: Database) -> None:
    taken: list[int] = []

    async def seek(me: str) -> None:
        taken.extend(await db.engine(shards.seek, me, 60))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(seek, f"instance-{number}")
    assert len(taken) == len(set(taken))
    owners = await db.engine(shards.select_owners)
    assert sum(owner.shards for owner in owners) == SHARDS


async def test_a_stale_write_is_refused_in_its_own_statement(db: Database) -> None:
    epoch = await own(db, "one")
    part = recording(calls=[call()], events=[event()], deliveries=[delivery("a")], epoch=epoch)
    assert await db.engine(call_batches.record, [part]) == [{CRM}]
    await pass_on(db)
    later = await own(db, "two")
    assert later == epoch + 1
    stale = recording(calls=[call(2)], events=[event(2)], deliveries=[delivery("b")], epoch=epoch)
    fresh = recording(calls=[call(3)], events=[event(3)], deliveries=[delivery("c")], epoch=later)
    other = recording(B, calls=[call(1)], deliveries=[delivery("d")], epoch=later)
    assert await db.engine(call_batches.record, [stale]) == [call_batches.Refusal.STALE]
    assert await db.engine(call_batches.record, [stale, fresh, other]) == [call_batches.Refusal.STALE, {CRM}, {CRM}]
    stored = await db.engine(_keys)
    assert stored == ["a", "c", "d"]
    assert await db.engine(outbox.claim_deliveries, A, CRM, 5, 20.0, (), (), epoch) == []
    assert len(await db.engine(outbox.claim_deliveries, A, CRM, 5, 20.0, (), (), later)) == 1


async def _keys(connection: Connection) -> list[str]:
    return [row[0] for row in await connection.fetch("SELECT key FROM deliveries ORDER BY key")]


async def test_a_takeover_waits_for_a_write_under_way(db: Database) -> None:
    epoch = await own(db, "one")
    await pass_on(db)
    order: list[str] = []

    async def write(connection: Connection) -> None:
        async with connection.transaction():
            part = recording(calls=[call()], events=[event()], epoch=epoch)
            assert await call_batches.record(connection, [part]) == [frozenset()]
            db_thread_locked.set_result(None)
            await asyncio.sleep(0.3)
        order.append("written")

    db_thread_locked: asyncio.Future[None]

    async def prepare(connection: Connection) -> None:
        nonlocal db_thread_locked
        db_thread_locked = asyncio.get_running_loop().create_future()

    await db.engine(prepare)

    async def wait_locked(connection: Connection) -> None:
        await db_thread_locked

    async def take() -> None:
        await db.engine(wait_locked)
        # Locked rows are passed over, and what is taken later has the next epoch.
        taken = await db.engine(shards.seek, "two", SHARDS)
        assert shard_of(A) not in taken
        order.append("sought")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.engine, write)
        nursery.start_soon(take)
    assert order == ["sought", "written"]
    assert (await db.engine(shards.seek, "two", SHARDS))[shard_of(A)] == epoch + 1
