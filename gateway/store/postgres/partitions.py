"""The journal's days: partitions made ahead of time and dropped when their time is over.

Works as the owner of the tables on a connection of its own, like `migrate`: the gateway's two roles own nothing and no
function gives them the owner's rights. A day in which a post still waits for its tenant stays, and is logged. Rows
beside the days (`journal_rest`) and digests are the engine's: see `journal.delete_old_rest`. Read
`migrations/0005_journal_partitions.sql` next.
"""

import logging
import re
from datetime import UTC, date, datetime, timedelta

from gateway.store.postgres.pool import OwnConnection, open_session
from gateway.store.postgres.roles import ENGINE

AHEAD = 7
"""Days that are made before they begin, so that a gateway which was away for some days finds its own."""

_NAME = re.compile(r"journal_(\d{8})")

log = logging.getLogger(__name__)


async def keep_days(dsn: str, keep_s: float, *, now: datetime | None = None) -> tuple[list[date], list[date]]:
    """Makes the days up to a week from now and drops those that ended `keep_s` ago. Returns both, for the log.

    Raises Unavailable, also when a lock could not be had soon: the next turn does it.
    """
    at = (now or datetime.now(UTC)).astimezone(UTC)
    today, last = at.date(), (at - timedelta(seconds=keep_s)).date()
    async with open_session(dsn, application_name="gateway housekeeping") as session:
        wanted = [today + timedelta(days=ahead) for ahead in range(AHEAD + 1)]
        made = [day for day in wanted if await session.run(_make_day, day)]
        dropped = []
        for day in await session.run(_select_days):
            if day < last and await session.run(_drop_day, day):
                dropped.append(day)
    return made, dropped


async def _make_day(conn: OwnConnection, day: date) -> bool:
    if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", _name_of(day)):
        return False
    async with conn.transaction():
        # Every instance does this. Attaching takes the same lock; an advisory one would not do, because what the session
        # remembers of the catalogue is renewed by a lock on a table alone.
        await conn.execute("LOCK TABLE ONLY journal IN SHARE UPDATE EXCLUSIVE MODE")
        return bool(await conn.fetchval("SELECT make_journal_day($1)", day))


async def _select_days(conn: OwnConnection) -> list[date]:
    rows = await conn.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'journal'::regclass"
    )
    found = [_NAME.fullmatch(row["relname"]) for row in rows]
    return sorted(datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date() for match in found if match)


async def _drop_day(conn: OwnConnection, day: date) -> bool:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    async with conn.transaction():
        # Locked first, days and all, so that nothing comes in between the look and the end.
        await conn.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        if not await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", _name_of(day)):
            return False  # another instance was faster
        await conn.execute(f"SET LOCAL ROLE {ENGINE}")  # the owner sees no tenant's rows
        waiting = await conn.fetchval(
            """
            SELECT count(*) FROM journal j WHERE received_at >= $1 AND received_at < $2 AND done_at IS NULL
            AND EXISTS (SELECT FROM tenants t WHERE t.tenant_id = j.tenant_id)
            """,
            begin,
            begin + timedelta(days=1),
        )
        await conn.execute("RESET ROLE")
        if waiting:
            log.error("posts wait longer than posts are stored", extra={"day": str(day), "posts": waiting})
            return False
        await conn.execute(f"DROP TABLE {_name_of(day)}")
    return True


def _name_of(day: date) -> str:
    return f"journal_{day:%Y%m%d}"
