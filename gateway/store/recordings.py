"""Recordings as rows: whose they are, where their sound lies, and what is still to be fetched.

A row is made at the hangup in the statement that ends the call (`call_batches.record`), or by an upload that came first.
A recording whose call is not known yet is loose and joins its call later. The caller owns the transaction where a function
states it. File keys and addresses to fetch from are sealed. Read `recording_queue.py` for fetching and retention,
`files/recording_files.py` for the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

COLUMNS = (
    "recording_id, call_id, state, problem, detail, attempt, run_at, address, content_type, file_name, duration_s, peaks, "
    "stored_at, kept_from, pbx <> '' OR url IS NOT NULL AS fetched"
)


@dataclass(frozen=True, slots=True)
class RecordingLine:
    """One recording as a page shows it."""

    recording_id: UUID
    call_id: str
    state: str
    problem: str
    detail: str
    attempt: int
    run_at: datetime | None
    address: str | None
    content_type: str
    file_name: str
    duration_s: float | None
    peaks: bytes | None
    stored_at: datetime | None
    kept_from: datetime
    fetched: bool
    """Whether we fetch it ourselves; otherwise it is sent to us."""


@dataclass(frozen=True, slots=True)
class BlobRow:
    """Where a sound lies, and its sealed key."""

    address: str
    object: str
    file_key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is known of a file that has arrived."""

    blob: BlobRow
    content_type: str
    file_name: str
    duration_s: float | None
    peaks: bytes | None


def _line(row: Record) -> RecordingLine:
    return RecordingLine(*row)


# Reading


async def select_recording(conn: Connection, tenant: TenantId, recording: UUID) -> RecordingLine | None:
    """One recording of the tenant."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM recordings WHERE tenant_id = $1 AND recording_id = $2",  # noqa: S608 - constant columns
        tenant,
        recording,
    )
    return _line(row) if row is not None else None


async def select_opened(
    conn: Connection, tenant: TenantId, recording: UUID
) -> tuple[RecordingLine, BlobRow | None] | None:
    """The same with where its sound lies."""
    line = await select_recording(conn, tenant, recording)
    if line is None or line.address is None:
        return (line, None) if line is not None else None
    return line, await select_blob(conn, tenant, line.address)


async def select_owner(conn: Connection, recording: UUID) -> TenantId | None:
    """Whose recording this is, for sessions: a person may belong to several companies."""
    found = await conn.fetchval("SELECT tenant_id FROM recordings WHERE recording_id = $1", recording)
    return TenantId(found) if found is not None else None


async def select_call_recordings(conn: Connection, tenant: TenantId, call_id: str) -> list[RecordingLine]:
    """All of one call, the one that was announced first."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM recordings WHERE tenant_id = $1 AND call_id = $2 "  # noqa: S608 - constant columns
        "ORDER BY asked_at, recording_id LIMIT 20",
        tenant,
        call_id,
    )
    return [_line(row) for row in rows]


async def select_recorded(conn: Connection, tenant: TenantId, call_ids: Sequence[str]) -> set[str]:
    """Which of these calls can be listened to."""
    rows = await conn.fetch(
        "SELECT DISTINCT call_id FROM recordings WHERE tenant_id = $1 AND call_id = ANY($2::text[]) AND state = 'stored'",
        tenant,
        list(call_ids),
    )
    return {row["call_id"] for row in rows}


async def select_blob(conn: Connection, tenant: TenantId, address: str) -> BlobRow | None:
    """Where the sound with this address lies."""
    row = await conn.fetchrow(
        "SELECT address, object, file_key, size FROM recording_blobs WHERE tenant_id = $1 AND address = $2",
        tenant,
        address,
    )
    return BlobRow(*row) if row is not None else None


# A file has arrived; within a transaction of the caller


async def name_blob(conn: Connection, tenant: TenantId, blob: BlobRow, *, fresh: bool) -> BlobRow | None:
    """Reserves the sound for a recording about to name it, so that the janitor leaves it. Returns the row in force: ours,
    or that of an equal sound that was stored before. With `fresh` False: None where the sound is gone."""
    row = await conn.fetchrow(
        """
        WITH known AS (
            UPDATE recording_blobs SET used_at = now() WHERE tenant_id = $1 AND address = $2 AND object = $3
            RETURNING address, object, file_key, size
        ), new AS (
            INSERT INTO recording_blobs AS b (tenant_id, address, object, file_key, size)
            SELECT $1, $2, $3, $4, $5 WHERE $6
            ON CONFLICT (tenant_id, address) DO UPDATE SET used_at = now()
            RETURNING b.address, b.object, b.file_key, b.size
        )
        SELECT * FROM new UNION ALL SELECT * FROM known LIMIT 1
        """,
        tenant,
        blob.address,
        blob.object,
        blob.file_key,
        blob.size,
        fresh,
    )
    return BlobRow(*row) if row is not None else None


async def replace_blob(conn: Connection, tenant: TenantId, blob: BlobRow) -> None:
    """The sound lies elsewhere from now on: its object was lost and has come again."""
    await conn.execute(
        "UPDATE recording_blobs SET object = $3, file_key = $4, used_at = now() WHERE tenant_id = $1 AND address = $2",
        tenant,
        blob.address,
        blob.object,
        blob.file_key,
    )


async def select_known_call(conn: Connection, tenant: TenantId, ids: Sequence[str]) -> str | None:
    """The first of these ids that is a call's."""
    found: str | None = await conn.fetchval(
        "SELECT call_id FROM calls WHERE tenant_id = $1 AND call_id = ANY($2::text[]) "
        "ORDER BY array_position($2::text[], call_id) LIMIT 1",
        tenant,
        list(ids),
    )
    return found


async def select_for_arrival(
    conn: Connection, tenant: TenantId, call_ids: Sequence[str]
) -> list[tuple[UUID, str, str | None]]:
    """(id, state, address) of the recordings of these calls, locked."""
    rows = await conn.fetch(
        "SELECT recording_id, state, address FROM recordings WHERE tenant_id = $1 AND call_id = ANY($2::text[]) "
        "ORDER BY asked_at, recording_id FOR UPDATE",
        tenant,
        list(call_ids),
    )
    return [(row[0], row[1], row[2]) for row in rows]


_CONTENT = """
    state = 'stored', address = $3, content_type = $4, file_name = $5, duration_s = $6, peaks = $7, stored_at = now(),
    run_at = NULL, lease_until = NULL, epoch = epoch + 1, problem = '', detail = ''
"""


async def fill_recording(
    conn: Connection, tenant: TenantId, recording: UUID, content: Content, epoch: int | None = None
) -> bool:
    """The file of a recording that waited for it is here. False where the lease of `epoch` has passed to another."""
    done: str = await conn.execute(
        f"""
        UPDATE recordings SET {_CONTENT}
        WHERE tenant_id = $1 AND recording_id = $2 AND state <> 'stored' AND ($8::bigint IS NULL OR epoch = $8)
        """,  # noqa: S608 - constant columns
        tenant,
        recording,
        *_values(content),
        epoch,
    )
    return done.endswith(" 1")


async def insert_recording(
    conn: Connection, tenant: TenantId, recording: UUID, call_id: str, content: Content, *, loose: bool
) -> bool:
    """A recording that nobody announced. False where there is one with this id."""
    done: str = await conn.execute(
        """
        INSERT INTO recordings (tenant_id, recording_id, state, address, content_type, file_name, duration_s, peaks,
                                stored_at, call_id, loose)
        VALUES ($1, $2, 'stored', $3, $4, $5, $6, $7, now(), $8, $9)
        ON CONFLICT (tenant_id, recording_id) DO NOTHING
        """,
        tenant,
        recording,
        *_values(content),
        call_id,
        loose,
    )
    return done.endswith(" 1")


def _values(content: Content) -> tuple[object, ...]:
    return (
        content.blob.address, content.content_type, storable(content.file_name), content.duration_s, content.peaks,
    )  # fmt: skip


# Requested by an address, or once more


async def select_urls(conn: Connection, tenant: TenantId, call_id: str) -> list[tuple[UUID, str, str | None]]:
    """(id, state, sealed address to fetch from) of a call's recordings, locked."""
    rows = await conn.fetch(
        "SELECT recording_id, state, url FROM recordings WHERE tenant_id = $1 AND call_id = $2 "
        "ORDER BY asked_at, recording_id FOR UPDATE",
        tenant,
        call_id,
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def set_url(conn: Connection, tenant: TenantId, recording: UUID, url: str) -> None:
    """From now on a recording that is not here yet is fetched from there."""
    await conn.execute(
        """
        UPDATE recordings
        SET url = $3, state = 'expected', asked_at = now(), run_at = now(), attempt = 0, problem = '', detail = '',
            lease_until = NULL, epoch = epoch + 1
        WHERE tenant_id = $1 AND recording_id = $2 AND state <> 'stored'
        """,
        tenant,
        recording,
        url,
    )


async def insert_expected(
    conn: Connection, tenant: TenantId, recording: UUID, call_id: str, url: str, *, loose: bool
) -> None:
    """A recording that is to be fetched though nobody announced it at a hangup."""
    await conn.execute(
        """
        INSERT INTO recordings (tenant_id, recording_id, call_id, state, url, run_at, loose)
        VALUES ($1, $2, $3, 'expected', $4, now(), $5) ON CONFLICT (tenant_id, recording_id) DO NOTHING
        """,
        tenant,
        recording,
        call_id,
        url,
        loose,
    )


async def retry_failed(conn: Connection, tenant: TenantId, recording: UUID) -> bool:
    """Begins anew with one that was given up. False for any other."""
    done: str = await conn.execute(
        """
        UPDATE recordings SET state = 'expected', asked_at = now(), run_at = now(), attempt = 0, problem = '', detail = ''
        WHERE tenant_id = $1 AND recording_id = $2 AND state = 'failed'
        """,
        tenant,
        recording,
    )
    return done.endswith(" 1")


async def retry_recording(conn: Connection, tenant: TenantId, recording: UUID) -> bool:
    """Begins anew with one that failed. False where there is none."""
    done: str = await conn.execute(
        """
        UPDATE recordings
        SET state = 'expected', asked_at = now(), problem = '', detail = '', attempt = 0, lease_until = NULL,
            run_at = CASE WHEN pbx <> '' OR url IS NOT NULL THEN now() END
        WHERE tenant_id = $1 AND recording_id = $2 AND state IN ('failed', 'fetching')
        """,
        tenant,
        recording,
    )
    return done.endswith(" 1")
