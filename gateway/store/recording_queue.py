"""Background work on recordings: fetching, joining loose ones to their calls, retention.

Retries of a fetch are leased like deliveries: a claim raises the epoch, an outcome names it. The janitor's statements work
in batches. Read `recordings.py` before it and `actors/calls/recordings.py`, which does the work, after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Fetch:
    """A recording leased to be fetched."""

    tenant: TenantId
    recording_id: UUID
    call_id: str
    pbx: str
    reported: str
    url: str | None
    begins_at: datetime
    asked_at: datetime
    attempt: int
    epoch: int


# Fetching


async def claim_fetches(conn: Connection, most: int, of_one_tenant: int, lease_s: float) -> list[Fetch]:
    """Leases what is due, the first of every tenant before the second of any, and at most so many of one tenant."""
    rows = await conn.fetch(
        """
        WITH busy AS (
            SELECT tenant_id, count(*) AS leased FROM recordings
            WHERE state = 'fetching' AND lease_until > now() GROUP BY tenant_id
        ), due AS (
            SELECT tenant_id, recording_id, run_at,
                   row_number() OVER (PARTITION BY tenant_id ORDER BY run_at, recording_id) AS place
            FROM recordings
            WHERE state IN ('expected', 'fetching') AND run_at <= now() AND (lease_until IS NULL OR lease_until < now())
        ), picked AS (
            SELECT d.tenant_id, d.recording_id FROM due d LEFT JOIN busy b USING (tenant_id)
            WHERE d.place + coalesce(b.leased, 0) <= $2
            ORDER BY d.place + coalesce(b.leased, 0), d.run_at LIMIT $1
        )
        UPDATE recordings r
        SET state = 'fetching', attempt = r.attempt + 1, epoch = r.epoch + 1,
            lease_until = now() + make_interval(secs => $3)
        FROM picked p
        WHERE r.tenant_id = p.tenant_id AND r.recording_id = p.recording_id
          AND r.state IN ('expected', 'fetching') AND (r.lease_until IS NULL OR r.lease_until < now())
        RETURNING r.tenant_id, r.recording_id, r.call_id, r.pbx, r.told, r.url, r.begins_at, r.asked_at, r.attempt, r.epoch
        """,
        most,
        of_one_tenant,
        lease_s,
    )
    return [Fetch(*row) for row in rows]


async def database_clock(conn: Connection) -> datetime:
    """The time of the database's clock, by which leases end."""
    now: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return now


async def release_fetches(conn: Connection, leased_before: datetime, lease_s: float) -> None:
    """Gives back what was leased for `lease_s` before that moment, by processes that have died since."""
    await conn.execute(
        "UPDATE recordings SET lease_until = NULL "
        "WHERE state = 'fetching' AND lease_until < $1::timestamptz + make_interval(secs => $2)",
        leased_before,
        lease_s,
    )


async def fail_fetch(conn: Connection, fetch: Fetch, problem: str, detail: str, again_s: float | None) -> None:
    """The try came to nothing: again in so many seconds, or never (None) until a person requests it."""
    await conn.execute(
        """
        UPDATE recordings
        SET problem = $4, detail = $5, lease_until = NULL,
            state = CASE WHEN $6::float8 IS NULL THEN 'failed' ELSE 'fetching' END,
            run_at = now() + make_interval(secs => $6)
        WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'fetching'
        """,
        fetch.tenant,
        fetch.recording_id,
        fetch.epoch,
        problem,
        storable(detail)[:500],
        again_s,
    )


async def wait_to_be_sent(conn: Connection, fetch: Fetch) -> None:
    """Nobody knows where the file could be fetched: it is to be sent to us."""
    await conn.execute(
        """
        UPDATE recordings SET state = 'expected', run_at = NULL, lease_until = NULL
        WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'fetching'
        """,
        fetch.tenant,
        fetch.recording_id,
        fetch.epoch,
    )


async def give_up_waiting(conn: Connection, after_s: float, most: int) -> int:
    """Marks recordings that were to be sent to us and never came. One that comes later is taken all the same."""
    done: str = await conn.execute(
        """
        UPDATE recordings r SET state = 'failed', problem = 'never_came'
        FROM (SELECT tenant_id, recording_id FROM recordings
              WHERE state = 'expected' AND run_at IS NULL AND asked_at < now() - make_interval(secs => $1) LIMIT $2) late
        WHERE r.tenant_id = late.tenant_id AND r.recording_id = late.recording_id AND r.state = 'expected'
        """,
        after_s,
        most,
    )
    return int(done.rpartition(" ")[2])


# Loose ones


@dataclass(frozen=True, slots=True)
class Join:
    """A loose recording and the call it belongs to."""

    tenant: TenantId
    recording_id: UUID
    call_id: str
    """As it was sent."""
    known_as: str
    """The call's."""


async def select_joins(conn: Connection, younger_than_s: float, most: int) -> list[Join]:
    """Loose recordings whose call has become known, by its id or with the name of a PBX before it."""
    rows = await conn.fetch(
        """
        SELECT r.tenant_id, r.recording_id, r.call_id, c.call_id
        FROM recordings r
        CROSS JOIN LATERAL (
            SELECT known.call_id FROM calls known
            WHERE known.tenant_id = r.tenant_id
              AND known.call_id IN (SELECT r.call_id UNION ALL
                                    SELECT p.name || '-' || r.call_id FROM pbxes p WHERE p.tenant_id = r.tenant_id)
            ORDER BY known.call_id <> r.call_id, known.call_id LIMIT 1
        ) c
        WHERE r.loose AND r.state IN ('stored', 'failed') AND r.kept_from > now() - make_interval(secs => $1) LIMIT $2
        """,
        younger_than_s,
        most,
    )
    return [Join(TenantId(row[0]), *row[1:]) for row in rows]


async def join_recording(conn: Connection, join: Join, new_id: UUID) -> None:
    """Gives a loose recording to its call: into the recording that was announced there, else as one of its own."""
    async with conn.transaction():
        await conn.execute(
            """
            WITH moved AS (
                SELECT * FROM recordings WHERE tenant_id = $1 AND recording_id = $2 AND loose AND state = 'stored'
                  AND $3::text <> $4::text FOR UPDATE
            )
            UPDATE recordings r
            SET state = 'stored', address = m.address, content_type = m.content_type, file_name = m.file_name,
                duration_s = m.duration_s, peaks = m.peaks, stored_at = m.stored_at, run_at = NULL, lease_until = NULL,
                epoch = r.epoch + 1, problem = '', detail = ''
            FROM moved m
            WHERE r.tenant_id = $1 AND r.recording_id = $5 AND r.call_id = $4 AND r.state <> 'stored'
            """,
            join.tenant, join.recording_id, join.call_id, join.known_as, new_id,
        )  # fmt: skip
        await conn.execute(
            """
            DELETE FROM recordings r WHERE r.tenant_id = $1 AND r.recording_id = $2 AND r.loose
              AND EXISTS (SELECT FROM recordings o WHERE o.tenant_id = $1 AND o.call_id = $3 AND o.address = r.address
                          AND o.recording_id <> r.recording_id)
            """,
            join.tenant, join.recording_id, join.known_as,
        )  # fmt: skip
        await conn.execute(
            """
            UPDATE recordings r SET loose = false, call_id = $3,
                recording_id = CASE WHEN EXISTS (SELECT FROM recordings o WHERE o.tenant_id = $1 AND o.recording_id = $4)
                                    THEN r.recording_id ELSE $4 END
            WHERE r.tenant_id = $1 AND r.recording_id = $2 AND r.loose
            """,
            join.tenant, join.recording_id, join.known_as, new_id,
        )  # fmt: skip


# The janitor's


async def delete_expired(conn: Connection, default_days: int, most: int) -> int:
    """Removes recordings past their tenant's retention, at most so many at a time. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM recordings r
        USING (SELECT x.tenant_id, x.recording_id FROM recordings x JOIN tenants t USING (tenant_id)
               WHERE x.kept_from < now() - make_interval(
                   days => coalesce((t.options -> 'recordings' ->> 'keep_days')::int, $1))
               LIMIT $2) old
        WHERE r.tenant_id = old.tenant_id AND r.recording_id = old.recording_id
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])


async def delete_unnamed_blobs(conn: Connection, unused_s: float, most: int) -> list[str]:
    """Removes stored files that no recording and no message names any more; answers with their objects, which are the caller's to
    delete."""
    rows = await conn.fetch(
        """
        DELETE FROM recording_blobs b
        USING (SELECT x.tenant_id, x.address FROM recording_blobs x
               WHERE x.used_at < now() - make_interval(secs => $1)
                 AND NOT EXISTS (SELECT FROM recordings r WHERE r.tenant_id = x.tenant_id AND r.address = x.address)
                 AND NOT EXISTS (SELECT FROM chat_files f WHERE f.tenant_id = x.tenant_id AND f.address = x.address)
               LIMIT $2) unnamed
        WHERE b.tenant_id = unnamed.tenant_id AND b.address = unnamed.address
          AND b.used_at < now() - make_interval(secs => $1)  -- looked at again where somebody came to name it meanwhile
        RETURNING b.object
        """,
        unused_s,
        most,
    )
    return [row["object"] for row in rows]


async def select_known_objects(conn: Connection, objects: Sequence[tuple[str, str]]) -> set[str]:
    """Which of these objects, (tenant, name) each, a row names."""
    rows = await conn.fetch(
        """
        SELECT b.object FROM recording_blobs b
        JOIN unnest($1::text[], $2::text[]) AS o (tenant_id, object) USING (tenant_id, object)
        """,
        [tenant for tenant, _ in objects],
        [name for _, name in objects],
    )
    return {row["object"] for row in rows}
