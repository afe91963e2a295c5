"""The search for calls: what is found by what, in whose name, and by which index."""

from gateway.domain.events import Direction, Result
from gateway.domain.numbers import beginnings
from gateway.store import search
from gateway.store.missed_calls import CLIENT
from gateway.store.postgres.pool import Connection, Database
from tests.store.test_missed_calls import JUNE, MANY, MAPLE, ended


async def found(db: Database, text: str, only: tuple[str, ...] | None = None) -> list[str]:
    """Ids of what is found for something that was typed in Belarus."""
    calls = await db.tenant(JUNE, search.find_calls, JUNE, text, beginnings(text, "BY"), 50, only)
    return [call.call_id for call in calls]


async def test_numbers_are_found_whole_by_their_beginning_and_by_a_part(db: Database) -> None:
    await ended(db, "7.1", 0, client="+375296254070")
    await ended(db, "7.2", 1, client="+375296254071", direction=Direction.OUTGOING, result=Result.ANSWERED)
    await ended(db, "7.3", 2, client="+79161234567", rang=("152",))
    await ended(db, "7.4", 3, client="+375296254070", tenant=MAPLE)
    assert await found(db, "+375296254070") == ["7.1"]
    for beginning in ("+3752962", "3752962", "80296254", "0296254", "296254", "80296254"):
        assert await found(db, beginning) == ["7.2", "7.1"], beginning
    assert await found(db, "54071") == ["7.2"]
    assert await found(db, "7.3") == ["7.3"]
    assert await found(db, "916123") == ["7.3"]
    assert await found(db, "916123", ("152",)) == ["7.3"]
    assert await found(db, "916123", ("150",)) == []
    assert await found(db, "0296254", ("150",)) == ["7.2", "7.1"]
    for nothing in ("%", "_", "\\", "9999", "' OR true --", "+37529625407_"):
        assert await found(db, nothing) == [], nothing


async def test_beyond_the_newest_calls_beginnings_are_found_and_parts_are_not(db: Database) -> None:
    async def fill(conn: Connection) -> None:
        await conn.execute(MANY)

    await ended(db, "old", -60 * 24 * 365, client="+447700900123")
    assert await found(db, "0900123") == ["old"]
    await db.engine(fill)
    assert await found(db, "+4477009") == ["old"]
    assert await found(db, "4477009") == ["old"]
    assert await found(db, "old") == ["old"], "a whole call id"
    assert await found(db, "0900123") == []


async def test_a_beginning_is_a_range_of_the_index_beneath_the_policies(db: Database) -> None:
    async def fill(conn: Connection) -> None:
        await conn.execute(MANY)

    async def plan(conn: Connection) -> str:
        rows = await conn.fetch(
            f"""
            EXPLAIN SELECT c.call_id FROM unnest(ARRAY['+37529625']) AS b (beginning), LATERAL (
                SELECT c.call_id FROM calls c WHERE c.tenant_id = '0367' AND c.phase = 'ended' AND c.direction <> 'internal'
                AND {CLIENT.format("c")} >= b.beginning COLLATE "C" AND {CLIENT.format("c")} < (b.beginning || 'x') COLLATE "C"
                ORDER BY {CLIENT.format("c")} DESC, c.started_at DESC LIMIT 500) c
            """
        )
        return "\n".join(row[0] for row in rows)

    await db.engine(fill)
    text = await db.tenant(JUNE, plan)
    assert "calls_client" in text
    condition = next(line for line in text.splitlines() if "Index Cond" in line)
    assert ">=" in condition
    assert "beginning" in condition
