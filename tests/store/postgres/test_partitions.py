"""The journal's days on a real server: made ahead, dropped whole, behind the same walls, and made of what was there."""

import shutil
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import trio

import migrations
from gateway.domain.ids import TenantId
from gateway.store.embedded.embedded import as_login
from gateway.store.journal import PostRow, insert_posts, select_pending_posts
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.partitions import AHEAD, keep_days
from gateway.store.postgres.pool import Connection, Database, OwnConnection, Session, open_database, open_session

A = TenantId("0367")
DAY = timedelta(days=1)
KEEP_S = 14 * 86400.0


@pytest.fixture
async def owner(dsn: str) -> AsyncIterator[Session]:
    async with open_session(dsn) as session:
        yield session


def post(name: str, at: datetime) -> PostRow:
    return PostRow(A, "/dial", name, name.encode(), "{}", at)


async def value(conn: OwnConnection, query: str) -> object:
    return await conn.fetchval(query)


async def run_sql(conn: Connection, query: str) -> None:
    await conn.execute(query)


async def place_of(owner: Session, name: str) -> object:
    """The table that holds a post. Asked as a superuser."""
    return await owner.run(value, f"SELECT tableoid::regclass::text FROM journal WHERE unique_id = '{name}'")


async def with_tenant(db: Database) -> None:
    await db.engine(
        run_sql,
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
        "VALUES ('0367', 'June', 'UTC', 'BY', 'ru', 'x')",
    )


async def test_days_are_made_ahead_and_only_once(dsn: str, owner: Session, db: Database) -> None:
    now = datetime.now(UTC)
    made, dropped = await keep_days(dsn, KEEP_S, now=now)
    assert made == [now.date() + ahead * DAY for ahead in range(4, AHEAD + 1)], "the migration made the first"
    assert dropped == []
    assert await keep_days(dsn, KEEP_S, now=now) == ([], [])
    await db.engine(insert_posts, [post("today", now), post("later", now + 6 * DAY)])
    assert await place_of(owner, "today") == f"journal_{now:%Y%m%d}"
    assert await place_of(owner, "later") == f"journal_{now + 6 * DAY:%Y%m%d}"


async def test_what_had_fallen_beside_the_days_moves_into_its_own(dsn: str, owner: Session, db: Database) -> None:
    at = datetime(2031, 5, 6, 23, 59, 59, tzinfo=UTC)
    await db.engine(insert_posts, [post("early", at - DAY), post("lost", at), post("late", at + DAY)])
    assert await place_of(owner, "lost") == "journal_rest"
    made, _ = await keep_days(dsn, KEEP_S, now=at)
    assert made[0] == date(2031, 5, 6)
    assert [await place_of(owner, name) for name in ("early", "lost", "late")] == [
        "journal_rest", "journal_20310506", "journal_20310507",
    ]  # fmt: skip
    assert [p.unique_id for p in (await db.engine(select_pending_posts, [(A, 0)]))[0]] == ["early", "lost", "late"]
    assert await db.engine(insert_posts, [post("lost", at)]) == [False]


async def test_a_day_is_dropped_whole_once_nothing_in_it_waits(
    dsn: str, owner: Session, db: Database, caplog: pytest.LogCaptureFixture, expected_errors: None
) -> None:
    await with_tenant(db)
    now = datetime.now(UTC)
    await db.engine(insert_posts, [post("1", now), post("2", now + DAY)])
    later = now + 14 * DAY
    assert (await keep_days(dsn, KEEP_S, now=later))[1] == [], "it ended less than the retention ago"
    assert "posts wait longer" not in caplog.text
    assert (await keep_days(dsn, KEEP_S, now=later + DAY))[1] == []
    assert "posts wait longer" in caplog.text
    await db.engine(run_sql, "UPDATE journal SET done_at = now() WHERE unique_id = '1'")
    assert (await keep_days(dsn, KEEP_S, now=later + DAY))[1] == [now.date()]
    assert [p.unique_id for p in (await db.engine(select_pending_posts, [(A, 0)]))[0]] == ["2"]
    assert await db.engine(insert_posts, [post("1", later)]) == [False], "a repeat is known for as long as its digest"


async def test_posts_of_a_tenant_that_is_gone_hold_no_day(dsn: str, db: Database) -> None:
    now = datetime.now(UTC)
    await db.engine(insert_posts, [post("1", now)])
    assert (await keep_days(dsn, KEEP_S, now=now + 16 * DAY))[1][:1] == [now.date()]


async def test_a_tenant_sees_its_rows_in_no_other_way_than_through_the_journal(dsn: str, owner: Session) -> None:
    await keep_days(dsn, KEEP_S)
    query = """
        SELECT count(*) FROM information_schema.table_privileges
        WHERE table_name ~ '^journal_' AND (grantee = 'gateway_app' OR table_name <> 'journal_rest'
              AND table_name <> 'journal_digests' AND grantee = 'gateway_engine')
    """
    assert await owner.run(value, query) == 0


async def test_the_rows_of_an_older_version_come_along(empty_dsn: str, tmp_path: Path) -> None:
    """What stood in the undivided journal is found again, and so is a repeat of it."""
    files = Path(migrations.__file__).parent
    for file in sorted(files.glob("000[1-4]_*.sql")):
        shutil.copy(file, tmp_path)
    await migrate(empty_dsn, tmp_path)
    now = datetime.now(UTC).replace(microsecond=0)
    old = [("old", now - 300 * DAY), ("week", now - 7 * DAY), ("new", now)]
    async with open_database(as_login(empty_dsn), size=1, engine_size=1) as db:
        for name, at in old:
            await db.engine(
                run_sql,
                "INSERT INTO journal (tenant_id, address, unique_id, digest, body, received_at) "
                f"VALUES ('0367', '/dial', '{name}', '{name}', '{{}}', '{at.isoformat()}')",
            )
        await db.engine(run_sql, "UPDATE journal SET done_at = now() WHERE unique_id = 'week'")
        assert (await migrate(empty_dsn))[0] == "0005_journal_partitions"
        async with open_session(empty_dsn) as owner:
            assert await place_of(owner, "old") == "journal_rest"
            assert await place_of(owner, "week") == f"journal_{now - 7 * DAY:%Y%m%d}"
        assert await db.engine(insert_posts, [post(name, now) for name, _ in old]) == [False, False, False]
        assert await db.engine(insert_posts, [post("more", now)]) == [True]
        (waiting,) = await db.engine(select_pending_posts, [(A, 0)])
        assert [(p.unique_id, p.journal_id) for p in waiting] == [("old", 1), ("new", 3), ("more", 4)]


async def test_two_instances_may_do_it_at_the_same_time(dsn: str, db: Database) -> None:
    now = datetime.now(UTC)
    for turn in range(3):
        at = now + 20 * DAY * turn
        found: list[tuple[list[date], list[date]]] = []

        async def turn_of_one(at: datetime = at, found: list[tuple[list[date], list[date]]] = found) -> None:
            found.append(await keep_days(dsn, KEEP_S, now=at))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(turn_of_one)
        for days in ([day for made, _ in found for day in made], [day for _, gone in found for day in gone]):
            assert len(days) == len(set(days)), "each day was made and dropped by one of them"
