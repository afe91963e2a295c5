"""Limits and repeats on a real server, under real concurrency."""

from collections import Counter
from typing import Any

import pytest
import trio

from actors.calls.click_to_call import _admit
from actors.runtime.peers import CHANNEL
from gateway.domain.dialling import Rules
from gateway.domain.ids import TenantId
from gateway.store.audit import delete_old_audit, insert_audit, select_audit
from gateway.store.call_orders import (
    Admitted,
    Limited,
    NewOrder,
    admit,
    delete_old_orders,
    doubt_left_orders,
    finish_order,
    select_orders,
)
from gateway.store.postgres.errors import StoreError
from gateway.store.postgres.pool import Connection, Database, OwnConnection, open_session

A, B = TenantId("0367"), TenantId("0368")


@pytest.fixture
async def store(db: Database) -> Database:
    """A database with two tenants."""

    async def make(conn: Connection) -> None:
        for number in (A, B):
            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
                "VALUES ($1, 'x', 'UTC', 'BY', 'ru', 'k')",
                number,
            )

    await db.engine(make)
    return db


def order(place: int, extension: str = "150", **changes: Any) -> NewOrder:
    fields = {
        "order_id": f"gw-{place}", "call_id": f"gw-{place}", "pbx": "main", "asked_by": "crm", "extension": extension,
        "number": f"+37529{place:07}",
    }  # fmt: skip
    return NewOrder(**{**fields, **changes})


async def run_sql(connection: Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def test_a_cap_holds_whoever_comes_at_once(store: Database) -> None:
    rules = Rules(concurrent=10, per_user_minute=1000, per_user_day=1000)
    found: list[Admitted | Limited] = []

    async def ask(place: int) -> None:
        found.append(await store.tenant(A, admit, A, order(place, str(100 + place)), rules))

    async with trio.open_nursery() as nursery:
        for place in range(200):
            nursery.start_soon(ask, place)
    assert Counter(type(one).__name__ for one in found) == {"Admitted": 10, "Limited": 190}
    assert len(await store.tenant(A, select_orders, A, 500)) == 10


async def test_a_call_that_ended_makes_room(store: Database) -> None:
    rules = Rules(concurrent=1)
    assert isinstance(await store.tenant(A, admit, A, order(1), rules), Admitted)
    assert await store.tenant(A, admit, A, order(2), rules) == Limited("concurrent", 10.0)
    await store.tenant(A, finish_order, A, "gw-1", "refused", "busy")
    assert isinstance(await store.tenant(A, admit, A, order(2), rules), Admitted)
    await store.engine(
        run_sql,
        "INSERT INTO calls (tenant_id, call_id, phase, source, direction, caller, called, ringing, rang, started_at, "
        "uncertain, events) VALUES ('0367', 'gw-2', 'talking', 'main', 'outgoing', '150', '+1', '{}', '{}', now(), "
        "false, 1)",
        "UPDATE call_orders SET asked_at = now() - interval '1 hour'",
    )
    assert isinstance(await store.tenant(A, admit, A, order(3), rules), Limited)
    await store.engine(run_sql, "UPDATE calls SET phase = 'ended'")
    assert isinstance(await store.tenant(A, admit, A, order(3), rules), Admitted)
    assert isinstance(await store.tenant(B, admit, B, order(4), rules), Admitted)


async def test_limits_of_a_person(store: Database) -> None:
    rules = Rules(per_user_minute=2, per_user_day=3)
    for place in (1, 2):
        assert isinstance(await store.tenant(A, admit, A, order(place), rules), Admitted)
    limited = await store.tenant(A, admit, A, order(3), rules)
    assert isinstance(limited, Limited)
    assert limited.limit == "per_user_minute"
    assert 50 < limited.retry_after_s <= 60
    assert isinstance(await store.tenant(A, admit, A, order(3, "151"), rules), Admitted)
    await store.engine(run_sql, "UPDATE call_orders SET asked_at = asked_at - interval '2 minutes'")
    assert isinstance(await store.tenant(A, admit, A, order(4), rules), Admitted)
    await store.engine(run_sql, "UPDATE call_orders SET asked_at = asked_at - interval '2 minutes'")
    limited = await store.tenant(A, admit, A, order(5), rules)
    assert isinstance(limited, Limited)
    assert limited.limit == "per_user_day"


async def test_a_repeat_within_five_seconds_is_the_same_call(store: Database) -> None:
    rules = Rules()
    await store.tenant(A, admit, A, order(1), rules)
    again = order(2, number=order(1).number)
    assert await store.tenant(A, admit, A, again, rules) == Admitted("gw-1", repeated=True)
    await store.tenant(A, finish_order, A, "gw-1", "refused", "Permission denied")
    assert await store.tenant(A, admit, A, again, rules) == Admitted("gw-2")
    await store.engine(run_sql, "UPDATE call_orders SET asked_at = asked_at - interval '6 seconds'")
    assert await store.tenant(A, admit, A, order(3, number=again.number), rules) == Admitted("gw-3")


async def test_what_a_dead_process_left_is_in_doubt(store: Database) -> None:
    await store.tenant(A, admit, A, order(1), Rules())
    assert await store.engine(doubt_left_orders) == 0
    await store.engine(run_sql, "UPDATE call_orders SET asked_at = asked_at - interval '2 minutes'")
    assert await store.engine(doubt_left_orders) == 1
    (line,) = await store.tenant(A, select_orders, A, 10)
    assert (line.state, line.reason, line.outcome) == ("doubtful", "left", "doubtful")
    assert await store.engine(delete_old_orders, 60.0, 10) == 1


async def test_the_trail_is_written_once(store: Database) -> None:
    await store.tenant(A, insert_audit, A, "admin@june.example", "pbx.changed", "main\0", "host")
    (line,) = await store.tenant(A, select_audit, A, None, 10)
    assert (line.actor, line.action, line.target, line.detail) == (
        "admin@june.example",
        "pbx.changed",
        "main\ufffd",
        "host",
    )
    assert await store.tenant(B, select_audit, B, None, 10) == []
    for statement in ("UPDATE audit SET detail = ''", "DELETE FROM audit"):
        with pytest.raises(StoreError):
            await store.tenant(A, run_sql, statement)
        with pytest.raises(StoreError):
            await store.engine(run_sql, statement)


async def test_the_trail_is_pruned_after_a_year_and_not_before(store: Database) -> None:
    for name, days in (("old", 366), ("older", 400), ("young", 363)):
        await store.engine(
            run_sql, "INSERT INTO audit (tenant_id, at, actor, action, target) "
            f"VALUES ('{A}', now() - interval '{days} days', 'cli', 'config.changed', '{name}')",
        )  # fmt: skip
    assert [await store.engine(delete_old_audit, 365 * 86400.0, 1) for _ in range(3)] == [1, 1, 0]
    assert [line.target for line in await store.tenant(A, select_audit, A, None, 10)] == ["young"]
    with pytest.raises(StoreError):
        await store.engine(delete_old_audit, 0.0, 10)


async def _plan(conn: Connection) -> str:
    async with conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        rows = await conn.fetch(
            "EXPLAIN UPDATE call_orders SET state = 'doubtful' WHERE state = 'asked' AND asked_at < clock_timestamp()"
        )
    return "\n".join(row[0] for row in rows)


async def test_orders_that_wait_are_found_by_an_index_of_theirs(store: Database) -> None:
    assert "call_orders_asked" in await store.engine(_plan)


async def test_what_a_pbx_says_of_an_order_can_be_any_bytes(store: Database) -> None:
    assert isinstance(await store.tenant(A, admit, A, order(1), Rules()), Admitted)
    await store.tenant(A, finish_order, A, "gw-\0", "refused", "no\0body")  # an OriginateResponse of no order of ours
    await store.tenant(A, finish_order, A, "gw-1", "refused", "no\0body")
    assert [line.reason for line in await store.tenant(A, select_orders, A, 1)] == ["no\ufffdbody"]


async def test_an_order_for_another_instance_is_announced_with_its_commit_or_not_at_all(
    store: Database, dsn: str
) -> None:
    received: list[object] = []
    async with open_session(dsn) as session:

        async def listen(conn: OwnConnection) -> None:
            await conn.add_listener(CHANNEL, lambda *reported: received.append(reported[-1]))

        async def settle(conn: OwnConnection) -> None:
            await conn.execute("SELECT pg_sleep(0.05)")

        await session.run(listen)
        rules = Rules(per_user_minute=1)
        for announced, place in ((False, 1), (True, 2), (True, 2), (True, 3)):
            hints = [f"0367 gw-{place}"] if announced else []
            await store.tenant(A, _admit, A, order(place, str(100 + place)), rules, hints)
        await store.tenant(A, _admit, A, order(4, "102"), rules, ["0367 gw-4"])  # over the limit
        await session.run(settle)
    assert received == ["0367 gw-2", "0367 gw-3"]


async def test_a_company_has_a_limit_beside_its_people(store: Database) -> None:
    """Two hundred phones of ten calls each were two thousand calls a minute."""
    rules = Rules(per_user_minute=2, per_company_minute=5, concurrent=1000)
    for place in range(5):
        assert isinstance(await store.tenant(A, admit, A, order(place, str(150 + place)), rules), Admitted)
    limited = await store.tenant(A, admit, A, order(6, "160"), rules)
    assert isinstance(limited, Limited)
    assert limited.limit == "per_company_minute"
    assert 50 < limited.retry_after_s <= 60
    assert isinstance(await store.tenant(B, admit, B, order(7), rules), Admitted)
    await store.engine(run_sql, "UPDATE call_orders SET asked_at = asked_at - interval '2 minutes'")
    assert isinstance(await store.tenant(A, admit, A, order(8, "160"), rules), Admitted)
