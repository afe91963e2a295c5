"""Missed calls: who waits, what takes a client off the list, and what the queries cost a company with many calls."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.calls import Call, Phase
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId, TenantId
from gateway.store import missed_calls as store
from gateway.store.call_batches import CallBatch, EventRow, record
from gateway.store.postgres.pool import Connection, Database

JUNE, MAPLE = TenantId("0367"), TenantId("0368")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=7)
CLIENT, OTHER = "+375291110001", "+375291110002"


async def ended(
    db: Database, call_id: str, minute: float, *, client: str = CLIENT, result: Result = Result.MISSED,
    direction: Direction = Direction.INCOMING, tenant: TenantId = JUNE, rang: tuple[str, ...] = ("150",),
) -> None:  # fmt: skip
    """A call that began so many minutes after noon and is over."""
    at = NOON + timedelta(minutes=minute)
    caller, called = (client, "+375172000001") if direction is Direction.INCOMING else ("150", client)
    call = Call(
        call_id=CallId(call_id), phase=Phase.ENDED, direction=direction, caller=caller, called=called, trunk=None,
        started_at=at, ended_at=at + timedelta(seconds=20), result=result, rang=rang, events=1,
        extension="150" if result is Result.ANSWERED and direction is Direction.INCOMING else None,
    )  # fmt: skip
    batch = CallBatch(tenant)
    batch.calls[call_id] = ("main", call)
    batch.events.append(EventRow(call_id, 1, "call_ended", at, "{}"))
    await db.engine(record, [batch])


async def waiting(db: Database, tenant: TenantId = JUNE, only: tuple[str, ...] | None = None) -> list[tuple[str, int]]:
    """Client and number of calls of those who wait, in order."""
    found, clients = await db.tenant(tenant, store.select_waiting, tenant, LONG_AGO, 100, only)
    assert clients == len(found)
    return [(one.client, one.times) for one in found]


async def test_whoever_waits_longest_comes_first_once_for_all_their_calls(db: Database) -> None:
    await ended(db, "1", 0)
    await ended(db, "2", 5, client=OTHER, result=Result.BUSY)
    await ended(db, "3", 10)
    await ended(db, "4", 11, direction=Direction.INTERNAL)
    await ended(db, "5", 12, client="+375291110003", result=Result.ANSWERED)
    found, clients = await db.tenant(JUNE, store.select_waiting, JUNE, LONG_AGO, 1)
    assert clients == 2
    (one,) = found
    assert (one.client, one.times, one.call_id, one.since, one.last_at) == (
        CLIENT, 2, "3", NOON, NOON + timedelta(minutes=10)
    )  # fmt: skip
    assert await waiting(db) == [(CLIENT, 2), (OTHER, 1)]
    assert await waiting(db, MAPLE) == []
    later, _ = await db.tenant(JUNE, store.select_waiting, JUNE, NOON + timedelta(minutes=1), 100)
    assert [(one.client, one.times) for one in later] == [(OTHER, 1), (CLIENT, 1)]


@pytest.mark.parametrize("direction", [Direction.INCOMING, Direction.OUTGOING])
async def test_a_later_answered_call_takes_the_client_off(db: Database, direction: Direction) -> None:
    await ended(db, "0", -5, direction=direction, result=Result.ANSWERED)
    await ended(db, "1", 0)
    assert await waiting(db) == [(CLIENT, 1)], "an earlier call does not"
    await ended(db, "2", 1, direction=Direction.OUTGOING, result=Result.NO_ANSWER)
    await ended(db, "3", 2, client=OTHER, direction=direction, result=Result.ANSWERED)
    assert await waiting(db) == [(CLIENT, 1)], "nor does one that was not answered, or somebody else's"
    await ended(db, "4", 3, direction=direction, result=Result.ANSWERED)
    assert await waiting(db) == []
    (line,) = await db.tenant(JUNE, store.select_settled, JUNE, LONG_AGO, 9)
    assert (line.call_id, line.reached_by, line.reached_direction, line.reached_employee, line.actor) == (
        "1", "4", direction, "150", None
    )  # fmt: skip
    await ended(db, "5", 9)
    assert await waiting(db) == [(CLIENT, 1)], "and who calls in vain after it waits again"


async def test_hidden_numbers_are_never_one_client_and_never_reached(db: Database) -> None:
    await ended(db, "1", 0, client="anonymous")
    await ended(db, "2", 1, client="anonymous")
    await ended(db, "3", 2, client="anonymous", result=Result.ANSWERED)
    assert await waiting(db) == [("anonymous", 1), ("anonymous", 1)]
    assert await db.tenant(JUNE, store.mark_done, JUNE, "2", LONG_AGO, "a@x.by") == "anonymous"
    assert await waiting(db) == [("anonymous", 1)]


async def test_a_mark_covers_the_earlier_calls_of_the_client_and_is_undone_as_one(db: Database) -> None:
    await ended(db, "1", 0)
    await ended(db, "2", 1, client=OTHER)
    await ended(db, "3", 2)
    assert await db.tenant(JUNE, store.mark_done, JUNE, "3", LONG_AGO, "a@x.by") == CLIENT
    assert await db.tenant(JUNE, store.mark_done, JUNE, "3", LONG_AGO, "b@x.by") is None, "marked already"
    assert await waiting(db) == [(OTHER, 1)]
    settled = await db.tenant(JUNE, store.select_settled, JUNE, LONG_AGO, 9)
    assert [(line.call_id, line.actor) for line in settled] == [("3", "a@x.by"), ("1", "a@x.by")]
    await ended(db, "4", 3)
    assert (CLIENT, 1) in await waiting(db), "a later call in vain is a new one"
    assert await db.tenant(JUNE, store.undo_done, JUNE, "1") == CLIENT
    assert await waiting(db) == [(CLIENT, 3), (OTHER, 1)]
    assert await db.tenant(JUNE, store.undo_done, JUNE, "1") is None


async def test_only_missed_calls_of_the_company_can_be_marked(db: Database) -> None:
    await ended(db, "1", 0, result=Result.ANSWERED)
    await ended(db, "2", 0, tenant=MAPLE)
    for call_id in ("1", "2", "none", "\u202e"):
        assert await db.tenant(JUNE, store.mark_done, JUNE, call_id, LONG_AGO, "a@x.by") is None
    assert await db.tenant(MAPLE, store.mark_done, MAPLE, "2", LONG_AGO, "m@x.by") == CLIENT
    assert await db.tenant(JUNE, store.undo_done, JUNE, "2") is None

    async def stranger(conn: Connection) -> int:
        count: int = await conn.fetchval("SELECT count(*) FROM missed_calls_done")
        return count

    assert (await db.tenant(JUNE, stranger), await db.tenant(MAPLE, stranger)) == (0, 1)


async def test_an_employees_missed_calls_are_those_that_rang_at_their_numbers(db: Database) -> None:
    await ended(db, "1", 0, rang=("150", "151"))
    await ended(db, "2", 1, client=OTHER, rang=("152",))
    assert await waiting(db, only=("151",)) == [(CLIENT, 1)]
    assert await waiting(db, only=()) == []
    assert await db.tenant(JUNE, store.mark_done, JUNE, "2", LONG_AGO, "a@x.by", ("151",)) is None
    assert await db.tenant(JUNE, store.mark_done, JUNE, "2", LONG_AGO, "a@x.by", ("152",)) == OTHER
    assert await db.tenant(JUNE, store.undo_done, JUNE, "2", ("151",)) is None
    figures = await db.tenant(JUNE, store.select_missed_figures, JUNE, LONG_AGO, NOON, ("151",))
    assert (figures.missed, figures.open) == (1, 1)


async def test_figures_add_up(db: Database) -> None:
    await ended(db, "0", -60)
    await ended(db, "1", 0)
    await ended(db, "2", 1, client=OTHER)
    await ended(db, "3", 2, client="+375291110003")
    await ended(db, "4", 3, client=OTHER, direction=Direction.OUTGOING, result=Result.ANSWERED)
    await db.tenant(JUNE, store.mark_done, JUNE, "3", LONG_AGO, "a@x.by")
    figures = await db.tenant(JUNE, store.select_missed_figures, JUNE, LONG_AGO, NOON)
    assert (figures.missed, figures.reached, figures.done, figures.open) == (3, 1, 1, 1)
    assert (figures.waiting, figures.oldest) == (2, NOON - timedelta(minutes=60))
    none = await db.tenant(MAPLE, store.select_missed_figures, MAPLE, LONG_AGO, NOON)
    assert (none.missed, none.waiting, none.oldest) == (0, 0, None)


MANY = """
    INSERT INTO calls (tenant_id, call_id, phase, source, direction, caller, called, ringing, rang, started_at, result, uncertain, events)
    SELECT '0367', 'm.' || n, 'ended', 'main', CASE n % 3 WHEN 0 THEN 'outgoing' ELSE 'incoming' END,
           CASE n % 3 WHEN 0 THEN '150' ELSE '+37529' || (n * 7919 % 900000) END,
           CASE n % 3 WHEN 0 THEN '+37529' || (n * 7919 % 900000) ELSE '+375172000001' END, '{}', '{150}',
           '2026-11-21T12:00Z'::timestamptz - n * interval '2 minutes', CASE n % 10 WHEN 1 THEN 'missed' ELSE 'answered' END, false, 1
    FROM generate_series(1, 60000) n
"""


async def test_many_calls_are_read_by_the_indexes_beneath_the_policies(db: Database) -> None:
    async def fill(conn: Connection) -> None:
        await conn.execute(MANY)

    async def plan(conn: Connection) -> str:
        rows = await conn.fetch(f"EXPLAIN {store._WAITING}", JUNE, datetime(2026, 11, 15, tzinfo=UTC), 6, None)
        return "\n".join(row[0] for row in rows)

    await db.engine(fill)
    text = await db.tenant(JUNE, plan)
    assert "calls_missed" in text
    assert "calls_client" in text
    assert "Seq Scan on calls" not in text
    assert "Anti Join" not in text
