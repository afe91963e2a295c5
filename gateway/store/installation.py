"""The installation as its operators see it: how much is stored, and what waits where. The engine role's alone.

Read `gateway/web/pages/installation.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes in the database, and of recordings and files of chats."""

    database: int | None
    """None where the database's user may not ask."""
    recordings: int
    recording_bytes: int
    tables: Sequence[tuple[str, int]]
    """The largest tables with their indexes; partitions count for their table."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Deliveries of one integration that wait, or with an empty `integration` posts of the company that wait in the journal."""

    tenant: TenantId
    integration: str
    waiting: int
    oldest: datetime


async def select_storage(conn: Connection, tables: int = 8) -> Storage:
    """How much is stored."""
    row = await conn.fetchrow(
        """
        SELECT CASE WHEN has_database_privilege(current_database(), 'CONNECT') THEN pg_database_size(current_database()) END,
               (SELECT count(*) FROM recordings WHERE state = 'stored') + (SELECT count(*) FROM chat_files WHERE state = 'stored'),
               (SELECT coalesce(sum(size), 0)::bigint FROM recording_blobs)
        """
    )
    assert row is not None
    rows = await conn.fetch(
        """
        SELECT coalesce(pg_partition_root(c.oid), c.oid)::regclass::text AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes
        FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
        GROUP BY 1 ORDER BY bytes DESC, name LIMIT $1
        """,
        tables,
    )
    return Storage(row[0], row[1], row[2], [(one["name"], one["bytes"]) for one in rows])


async def select_queues(conn: Connection, most: int = 200) -> list[Queue]:
    """What waits, by company and integration, the oldest first. Reads the indexes of what is pending alone."""
    rows = await conn.fetch(
        """
        SELECT tenant_id, integration_type, count(*) AS waiting, min(created_at) AS oldest
        FROM deliveries WHERE state = 'pending' GROUP BY 1, 2
        UNION ALL
        SELECT tenant_id, '', count(*), min(received_at) FROM journal WHERE done_at IS NULL GROUP BY 1
        ORDER BY oldest, tenant_id, integration_type LIMIT $1
        """,
        most,
    )
    return [Queue(*row) for row in rows]
