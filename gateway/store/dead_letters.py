"""Dead letters: what no actor could deal with, stored with its cause until a person has looked.

A dead letter about a post names the post's row in the journal, which is marked as dealt with in the same statement;
to retry the post is to unmark it. Any other is text. Only operators see them: every function works across tenants. Read
`gateway/web/pages/dead_letters.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

LONGEST = 20_000
"""Characters of a message or a trace that are stored; of a trace the last ones, which show what happened."""


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter to be stored. `actor` is the path of whoever could not deal with it."""

    tenant: TenantId
    actor: str
    message: str
    trace: str
    journal_id: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as a person reads it."""

    tenant: TenantId
    letter_id: int
    actor: str
    message: str
    trace: str
    version: str
    created_at: datetime
    post: bool
    """Whether its post is still in the journal and can be processed again."""


async def insert_dead_letters(conn: Connection, rows: Sequence[DeadLetterRow], version: str) -> None:
    """Stores dead letters and marks their posts as dealt with. A post has one: the latest."""
    await conn.execute(
        """
        WITH sent AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
                          WITH ORDINALITY AS r (tenant_id, actor, message, trace, journal_id, place)
        ), done AS (
            UPDATE journal j SET done_at = now() FROM sent
            WHERE j.tenant_id = sent.tenant_id AND j.journal_id = sent.journal_id AND j.done_at IS NULL
        )
        INSERT INTO dead_letters (tenant_id, actor, message, trace, version, journal_id)
        SELECT tenant_id, actor, message, trace, $6, journal_id FROM (
            SELECT *, row_number() OVER (PARTITION BY tenant_id, journal_id ORDER BY place DESC) AS again FROM sent
        ) latest
        WHERE journal_id IS NULL OR again = 1 ORDER BY place
        ON CONFLICT (tenant_id, journal_id) WHERE journal_id IS NOT NULL
        DO UPDATE SET actor = excluded.actor, message = excluded.message, trace = excluded.trace,
                      version = excluded.version, created_at = now()
        """,
        [row.tenant for row in rows],
        [storable(row.actor) for row in rows],
        [storable(row.message)[:LONGEST] for row in rows],
        [storable(row.trace)[-LONGEST:] for row in rows],
        [row.journal_id for row in rows],
        version,
    )


async def select_dead_letters(conn: Connection, tenant: TenantId | None, before: int | None, most: int) -> list[Letter]:
    """The newest dead letters of one tenant or of all; older than `before` where it is given."""
    rows = await conn.fetch(
        """
        SELECT d.tenant_id, d.letter_id, d.actor, d.message, d.trace, d.version, d.created_at,
               EXISTS (SELECT FROM journal j WHERE j.tenant_id = d.tenant_id AND j.journal_id = d.journal_id
                                               AND j.done_at IS NOT NULL)
        FROM dead_letters d
        WHERE ($1::text IS NULL OR d.tenant_id = $1) AND ($2::bigint IS NULL OR d.letter_id < $2)
        ORDER BY d.letter_id DESC LIMIT $3
        """,
        tenant,
        before,
        most,
    )
    return [Letter(*row) for row in rows]


async def count_dead_letters(conn: Connection) -> int:
    """How many there are, of all tenants."""
    return int(await conn.fetchval("SELECT count(*) FROM dead_letters") or 0)


async def delete_dead_letter(conn: Connection, tenant: TenantId, letter_id: int) -> str | None:
    """Removes a dead letter that a person has dealt with. Returns its actor's path; None where there is none such."""
    actor: str | None = await conn.fetchval(
        "DELETE FROM dead_letters WHERE tenant_id = $1 AND letter_id = $2 RETURNING actor", tenant, letter_id
    )
    return actor


async def replay_post(conn: Connection, tenant: TenantId, letter_id: int) -> str | None:
    """Lets the post be processed again and removes its dead letter. Returns the post's call id, or None where there is
    no post (any more). The caller notifies the tenant."""
    unique_id: str | None = await conn.fetchval(
        """
        WITH again AS (
            UPDATE journal j SET done_at = NULL FROM dead_letters d
            WHERE d.tenant_id = $1 AND d.letter_id = $2 AND j.tenant_id = $1 AND j.journal_id = d.journal_id
            RETURNING j.unique_id
        ), gone AS (
            DELETE FROM dead_letters WHERE tenant_id = $1 AND letter_id = $2 AND EXISTS (SELECT FROM again)
        )
        SELECT unique_id FROM again
        """,
        tenant,
        letter_id,
    )
    return unique_id


async def delete_old_dead_letters(conn: Connection, older_than_s: float, most: int) -> int:
    """Removes dead letters past their time, at most `most` at once. Returns how many."""
    return int(
        await conn.fetchval(
            """
            WITH old AS (
                SELECT tenant_id, letter_id FROM dead_letters
                WHERE created_at < now() - make_interval(secs => $1) LIMIT $2
            ), gone AS (
                DELETE FROM dead_letters d USING old
                WHERE d.tenant_id = old.tenant_id AND d.letter_id = old.letter_id RETURNING 1
            )
            SELECT count(*) FROM gone
            """,
            older_than_s,
            most,
        )
        or 0
    )
