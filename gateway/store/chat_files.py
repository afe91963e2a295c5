r"""Files of messages as rows: those that came and are to be fetched, and those that are to be sent.

    expected -> stored         leased while they are fetched: a claim raises the epoch, an outcome names it
            \-> failed         after the messenger's time for them, or where trying again cannot help

What the bytes are and where they lie is `files/chat_files.py`'s; objects share `recording_blobs` with recordings. Read
`actors/chats/file_fetching.py` for who fetches.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import BlobRow

KEEP_UNSENT_S = 86400.0
"""Seconds for which a file waits to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What is known of a file that has arrived."""

    blob: BlobRow
    kind: str
    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FileFetch:
    """A file leased to be fetched."""

    tenant: TenantId
    file_id: UUID
    conversation: UUID
    integration: IntegrationKey
    kind: str
    name: str
    size: int | None
    """As the messenger says."""
    remote: Mapping[str, Any]
    created_at: datetime
    tries: int
    epoch: int


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A stored file, whose it is, and where it lies."""

    file_id: UUID
    kind: str
    name: str
    content_type: str
    stored_at: datetime
    conversation: UUID | None
    """None until it is sent."""
    created_by: str
    blob: BlobRow


# Fetching


async def claim_file_fetches(conn: Connection, most: int, of_one_tenant: int, lease_s: float) -> list[FileFetch]:
    """Leases what is due, the first of every tenant before the second of any, and at most so many of one tenant."""
    rows = await conn.fetch(
        """
        WITH busy AS (
            SELECT tenant_id, count(*) AS leased FROM chat_files
            WHERE state = 'expected' AND lease_until > now() GROUP BY tenant_id
        ), due AS (
            SELECT tenant_id, file_id, run_at, row_number() OVER (PARTITION BY tenant_id ORDER BY run_at, file_id) AS place
            FROM chat_files WHERE state = 'expected' AND run_at <= now() AND (lease_until IS NULL OR lease_until < now())
        ), picked AS (
            SELECT d.tenant_id, d.file_id FROM due d LEFT JOIN busy b USING (tenant_id)
            WHERE d.place + coalesce(b.leased, 0) <= $2
            ORDER BY d.place + coalesce(b.leased, 0), d.run_at LIMIT $1
        ), claimed AS (
            UPDATE chat_files f
            SET tries = f.tries + 1, epoch = f.epoch + 1, lease_until = now() + make_interval(secs => $3)
            FROM picked p
            WHERE f.tenant_id = p.tenant_id AND f.file_id = p.file_id
              AND f.state = 'expected' AND (f.lease_until IS NULL OR f.lease_until < now())
            RETURNING f.*
        )
        SELECT c.tenant_id, c.file_id, m.conversation_id, c.integration_type, c.kind, c.name, c.size, c.remote::text, c.created_at,
               c.tries, c.epoch
        FROM claimed c JOIN messages m ON m.tenant_id = c.tenant_id AND m.message_id = c.message_id
        """,
        most,
        of_one_tenant,
        lease_s,
    )
    found = []
    for row in rows:
        values = list(row)
        values[7] = json.loads(values[7] or "{}")
        found.append(FileFetch(*values))
    return found


async def release_file_fetches(conn: Connection, leased_before: datetime, lease_s: float) -> None:
    """Gives back what was leased for `lease_s` before that moment, by processes that have died since."""
    await conn.execute(
        "UPDATE chat_files SET lease_until = NULL "
        "WHERE state = 'expected' AND lease_until < $1::timestamptz + make_interval(secs => $2)",
        leased_before,
        lease_s,
    )


async def fail_file_fetch(conn: Connection, fetch: FileFetch, problem: str, again_s: float | None) -> None:
    """The try came to nothing: again in so many seconds, or never (None)."""
    await conn.execute(
        """
        UPDATE chat_files
        SET problem = $4, lease_until = NULL, state = CASE WHEN $5::float8 IS NULL THEN 'failed' ELSE 'expected' END,
            run_at = now() + make_interval(secs => coalesce($5, 0))
        WHERE tenant_id = $1 AND file_id = $2 AND epoch = $3 AND state = 'expected'
        """,
        fetch.tenant,
        fetch.file_id,
        fetch.epoch,
        problem,
        again_s,
    )


async def fill_file(conn: Connection, fetch: FileFetch, content: FileContent) -> bool:
    """The file is here. False where the lease has passed to another, or its message is gone."""
    done: str = await conn.execute(
        """
        UPDATE chat_files
        SET state = 'stored', address = $4, kind = $5, name = $6, content_type = $7, size = $8, stored_at = now(),
            lease_until = NULL, problem = ''
        WHERE tenant_id = $1 AND file_id = $2 AND epoch = $3 AND state = 'expected'
        """,
        fetch.tenant,
        fetch.file_id,
        fetch.epoch,
        *_values(content),
    )
    return done.endswith(" 1")


def _values(content: FileContent) -> tuple[object, ...]:
    return content.blob.address, content.kind, storable(content.name), content.content_type, content.blob.size


# To be sent


async def insert_file(conn: Connection, tenant: TenantId, file_id: UUID, content: FileContent, created_by: str) -> None:
    """A file that somebody added and has not sent yet."""
    await conn.execute(
        """
        INSERT INTO chat_files (tenant_id, file_id, state, address, kind, name, content_type, size, stored_at, created_by)
        VALUES ($1, $2, 'stored', $3, $4, $5, $6, $7, now(), $8)
        """,
        tenant,
        file_id,
        *_values(content),
        storable(created_by),
    )


async def count_unsent(conn: Connection, tenant: TenantId, created_by: str) -> int:
    """How many files of somebody wait to be sent."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM chat_files WHERE tenant_id = $1 AND created_by = $2 AND message_id IS NULL",
        tenant,
        storable(created_by),
    )
    return found


async def delete_unsent_files(conn: Connection, keep_s: float, most: int) -> int:
    """Removes files that were added so many seconds ago and never sent. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM chat_files f
        USING (SELECT tenant_id, file_id FROM chat_files
               WHERE message_id IS NULL AND created_at < now() - make_interval(secs => $1) LIMIT $2) old
        WHERE f.tenant_id = old.tenant_id AND f.file_id = old.file_id AND f.message_id IS NULL
        """,
        keep_s,
        most,
    )
    return int(done.rpartition(" ")[2])


# Reading


async def select_opened_file(conn: Connection, tenant: TenantId, file_id: UUID) -> OpenedFile | None:
    """A stored file of the tenant, or None."""
    row = await conn.fetchrow(
        """
        SELECT f.file_id, f.kind, f.name, f.content_type, f.stored_at, m.conversation_id, f.created_by,
               b.address, b.object, b.file_key, b.size
        FROM chat_files f
        JOIN recording_blobs b ON b.tenant_id = f.tenant_id AND b.address = f.address
        LEFT JOIN messages m ON m.tenant_id = f.tenant_id AND m.message_id = f.message_id
        WHERE f.tenant_id = $1 AND f.file_id = $2 AND f.state = 'stored'
        """,
        tenant,
        file_id,
    )
    if row is None:
        return None
    *line, address, name, file_key, size = row
    line.append(BlobRow(address, name, file_key, size))
    return OpenedFile(*line)


# The janitor's


async def delete_expired_messages(conn: Connection, default_days: int, most: int) -> int:
    """Removes messages past their tenant's retention with their parts and the rows of their files, and what stands beside them, at
    most so many at a time. Conversations and contacts stay. Returns how many."""
    done: str = await conn.execute(
        """
        WITH old AS (
            SELECT x.tenant_id, x.message_id FROM messages x JOIN tenants t USING (tenant_id)
            WHERE x.created_at < now() - make_interval(days => coalesce((t.options -> 'chats' ->> 'keep_days')::int, $1))
            LIMIT $2
        ), beside AS (
            DELETE FROM conversation_happenings h USING old WHERE h.tenant_id = old.tenant_id AND h.message_id = old.message_id
        )
        DELETE FROM messages m USING old WHERE m.tenant_id = old.tenant_id AND m.message_id = old.message_id
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])


async def delete_expired_happenings(conn: Connection, default_days: int, most: int) -> int:
    """Removes notes and what else happened to conversations, past their tenant's retention. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM conversation_happenings h
        USING (SELECT x.tenant_id, x.happening_id FROM conversation_happenings x JOIN tenants t USING (tenant_id)
               WHERE x.at < now() - make_interval(days => coalesce((t.options -> 'chats' ->> 'keep_days')::int, $1))
               LIMIT $2) old
        WHERE h.tenant_id = old.tenant_id AND h.happening_id = old.happening_id
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])


async def delete_unnamed_of(conn: Connection, tenant: TenantId, addresses: Sequence[str]) -> list[str]:
    """Removes those of these stored files that nothing names any more, at once; answers with their objects, which are the caller's
    to delete. Raises BadData where one has just been named again: then the janitor finds the others."""
    rows = await conn.fetch(
        """
        DELETE FROM recording_blobs b
        WHERE b.tenant_id = $1 AND b.address = ANY($2::text[])
          AND NOT EXISTS (SELECT FROM recordings r WHERE r.tenant_id = b.tenant_id AND r.address = b.address)
          AND NOT EXISTS (SELECT FROM chat_files f WHERE f.tenant_id = b.tenant_id AND f.address = b.address)
        RETURNING b.object
        """,
        tenant,
        list(addresses),
    )
    return [row["object"] for row in rows]
