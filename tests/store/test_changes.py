"""What is new since a snapshot: exactly once each, however late a transaction commits."""

import json
from datetime import timedelta
from typing import Any

import trio

from gateway.domain.ids import TenantId
from gateway.store.changes import Horizon, Place, select_call_changes, select_horizon
from gateway.store.postgres.pool import Connection, Database
from tests.store.test_call_orders import A, B, store

__all__ = ["store"]


async def add(conn: Connection, call_id: str, seq: int = 1, of: TenantId = A) -> None:
    await conn.execute(
        "INSERT INTO call_events (tenant_id, call_id, seq, event, at, body) VALUES ($1, $2, $3, 'call_ringing', now(), $4)",
        of, call_id, seq, json.dumps({"call_id": call_id}),
    )  # fmt: skip


async def between(
    store: Database, seen: Horizon, until: Horizon, after: Place | None = None, most: int = 100
) -> list[str]:
    return [one.place.call_id for one in await store.tenant(A, select_call_changes, A, seen, until, after, most)]


async def now(store: Database) -> Horizon:
    return await store.tenant(A, select_horizon, A)


async def test_each_event_between_two_snapshots_once(store: Database) -> None:
    first = await now(store)
    await store.engine(add, "1")
    second = await now(store)
    await store.engine(add, "2")
    await store.engine(add, "2", 2)
    await store.engine(add, "theirs", 1, B)
    third = await now(store)
    await store.engine(add, "3")
    assert await between(store, first, second) == ["1"]
    assert await between(store, second, third) == ["2", "2"]
    assert await between(store, first, third) == ["1", "2", "2"]
    assert await between(store, third, third) == []


async def test_page_by_page(store: Database) -> None:
    first = await now(store)
    for number in range(7):
        await store.engine(add, str(number))
    last, found, after = await now(store), list[str](), None
    while page := await store.tenant(A, select_call_changes, A, first, last, after, 3):
        found += [one.place.call_id for one in page]
        after = page[-1].place
    assert found == list("0123456")


async def test_what_commits_late_comes_late_and_not_never(store: Database) -> None:
    """Its time and number are older than those of what was seen before it."""
    seen, begun, go_on, horizons = await now(store), trio.Event(), trio.Event(), list[Any]()
    token = trio.lowlevel.current_trio_token()

    async def late(conn: Connection) -> None:
        async with conn.transaction():
            await add(conn, "late")
            token.run_sync_soon(begun.set)
            for _ in range(500):
                if go_on.is_set():
                    return
                await conn.execute("SELECT pg_sleep(0.01)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.engine, late)
        await begun.wait()
        await store.engine(add, "early")
        horizons.append(await now(store))
        go_on.set()
    horizons.append(await now(store))
    assert await between(store, seen, horizons[0]) == ["early"]
    assert await between(store, horizons[0], horizons[1]) == ["late"]


async def test_what_was_rolled_back_is_nothing(store: Database) -> None:
    seen = await now(store)

    async def undone(conn: Connection) -> None:
        transaction = conn.transaction()
        await transaction.start()
        await add(conn, "undone")
        await transaction.rollback()

    await store.engine(undone)
    assert await between(store, seen, await now(store)) == []


async def test_transactions_grow_and_the_search_is_by_an_index(store: Database) -> None:
    first = await now(store)
    await store.engine(add, "1")
    second = await now(store)
    assert second.next_transaction > first.next_transaction
    assert second.at >= first.at
    assert await between(store, Horizon(first.snapshot, second.at + timedelta(hours=1), 0), second) == [], (
        "out of reach"
    )
