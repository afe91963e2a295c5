"""Posts of machines, stored before anything is made of them. A repeat is recognised by its digest.

The journal is partitioned by the day of receipt (`postgres/partitions.py`), so digests have a table of their own, written in the same
statement. Read `gateway.store.outbox` next: `record` marks a post done in the transaction that stores its result.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection

CALLS, DEALS = "calls", "deals"
"""The streams of posted call events, and of events about deals. An event about a deal is a repeat for an hour alone: a portal may
send the very same again on another day."""
POSTS_AT_ONCE = 500
"""How many posts of one tenant one reading brings."""


@dataclass(frozen=True, slots=True)
class PostRow:
    """What was posted, on its way into the journal."""

    tenant: TenantId
    address: str
    unique_id: str
    digest: bytes
    body: str
    received_at: datetime
    stream: str = CALLS
    """Who processes it: `calls`, `chats` or `deals`."""


@dataclass(frozen=True, slots=True)
class PendingPost:
    """A posted event that nothing has been made of yet."""

    journal_id: int
    address: str
    unique_id: str
    body: str
    received_at: datetime

    @property
    def identity(self) -> tuple[str, int]:
        """What tells this post from others across two readings."""
        return "post", self.journal_id


async def insert_posts(conn: Connection, rows: Sequence[PostRow]) -> list[bool]:
    """Stores posts in one statement; for each, in order, whether it was new. Durable when this returns."""
    stored = await conn.fetch(
        """
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::timestamptz[],
                                 $7::text[])
                 WITH ORDINALITY AS r (tenant_id, address, unique_id, digest, body, received_at, stream, place)
        ), firsts AS (
            SELECT DISTINCT ON (tenant_id, digest) * FROM given ORDER BY tenant_id, digest, place
        ), fresh AS (
            INSERT INTO journal_digests (tenant_id, digest, received_at)
            SELECT tenant_id, digest, received_at FROM firsts
            ON CONFLICT (tenant_id, digest) DO UPDATE SET received_at = excluded.received_at
            WHERE journal_digests.received_at <= excluded.received_at - interval '1 hour'
              AND EXISTS (SELECT FROM firsts f WHERE f.tenant_id = excluded.tenant_id AND f.digest = excluded.digest
                          AND f.stream = 'deals')
            RETURNING tenant_id, digest
        ), kept AS (
            INSERT INTO journal (tenant_id, address, unique_id, digest, body, received_at, stream)
            SELECT r.tenant_id, r.address, r.unique_id, r.digest, r.body, r.received_at, r.stream
            FROM firsts r JOIN fresh USING (tenant_id, digest)
            ORDER BY r.place
        )
        SELECT tenant_id, digest FROM fresh
        """,
        [row.tenant for row in rows],
        [row.address for row in rows],
        [row.unique_id for row in rows],
        [row.digest for row in rows],
        [row.body for row in rows],
        [row.received_at for row in rows],
        [row.stream for row in rows],
    )
    new = {(record["tenant_id"], record["digest"]) for record in stored}
    answers: list[bool] = []
    for row in rows:
        answers.append((row.tenant, row.digest) in new)
        new.discard((row.tenant, row.digest))  # the second of two equal posts in one group is the repeat
    return answers


async def select_pending_posts(
    conn: Connection, wanted: Sequence[tuple[TenantId, int]], most: int = POSTS_AT_ONCE, stream: str = CALLS
) -> list[list[PendingPost]]:
    """For each (tenant, journal id): the tenant's posts of a stream behind that id that wait for their actor, oldest first,
    at most `most`. One statement for all; reads across tenants, so it is the engine's."""
    rows = await conn.fetch(
        """
        SELECT w.place, j.journal_id, j.address, j.unique_id, j.body, j.received_at
        FROM json_to_recordset($1::json) AS w (place int, tenant_id text, behind bigint)
        CROSS JOIN LATERAL (SELECT * FROM journal p
                            WHERE p.tenant_id = w.tenant_id AND p.stream = $3 AND p.journal_id > w.behind
                              AND p.done_at IS NULL
                            ORDER BY p.journal_id LIMIT $2) AS j
        ORDER BY w.place, j.journal_id
        """,
        json.dumps([{"place": n, "tenant_id": one, "behind": behind} for n, (one, behind) in enumerate(wanted)]),
        most,
        stream,
    )
    found: list[list[PendingPost]] = [[] for _ in wanted]
    for place, *row in rows:
        found[place].append(PendingPost(*row))
    return found


async def select_tenants_with_posts(conn: Connection) -> list[TenantId]:
    """Tenants with posts that wait, for the first look after a start."""
    rows = await conn.fetch("SELECT DISTINCT tenant_id FROM journal WHERE done_at IS NULL")
    return [TenantId(row[0]) for row in rows]


async def delete_old_rest(conn: Connection, older_than_s: float, most: int) -> int:
    """Removes posts long dealt with that no day's partition holds, at most `most` at a time. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM journal_rest j USING (
            SELECT tenant_id, journal_id FROM journal_rest
            WHERE done_at IS NOT NULL AND received_at < now() - make_interval(secs => $1) LIMIT $2
        ) old
        WHERE j.tenant_id = old.tenant_id AND j.journal_id = old.journal_id
        """,
        older_than_s,
        most,
    )
    return int(done.rpartition(" ")[2])


async def delete_old_digests(conn: Connection, older_than_s: float, most: int) -> int:
    """Forgets posts of which no repeat is expected any more, at most `most` at a time. Returns how many."""
    done: str = await conn.execute(
        """
        WITH RECURSIVE owners AS (  -- tenants by the index, those that are no more too
            SELECT min(tenant_id) AS tenant_id FROM journal_digests
            UNION ALL
            SELECT (SELECT min(d.tenant_id) FROM journal_digests d WHERE d.tenant_id > o.tenant_id)
            FROM owners o WHERE o.tenant_id IS NOT NULL
        ), old AS (
            SELECT d.tenant_id, d.digest FROM owners o CROSS JOIN LATERAL (
                SELECT * FROM journal_digests x
                WHERE x.tenant_id = o.tenant_id AND x.received_at < now() - make_interval(secs => $1)
                ORDER BY x.received_at LIMIT $2
            ) d LIMIT $2
        )
        DELETE FROM journal_digests d USING old WHERE d.tenant_id = old.tenant_id AND d.digest = old.digest
        """,
        older_than_s,
        most,
    )
    return int(done.rpartition(" ")[2])
