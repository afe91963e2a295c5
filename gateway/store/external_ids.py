"""Ids that outside systems gave to what deliveries have made there, by integration, subject and name.

An id is stored by whoever holds the delivery's lease alone: the epoch of the claim stands in the statement. Read
`actors/delivery/external_ids.py` next.
"""

from collections.abc import Mapping

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.subjects import Subject
from gateway.store.outbox import Claim, storable
from gateway.store.postgres.pool import Connection

LONGEST = 500
"""Characters of an external id."""


async def select_external_ids(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, subject: Subject
) -> dict[str, str]:
    """All ids of one subject in one outside system, by name."""
    rows = await conn.fetch(
        "SELECT name, external_id FROM external_ids "
        "WHERE tenant_id = $1 AND integration_type = $2 AND subject_kind = $3 AND subject_id = $4",
        tenant,
        integration,
        *subject,
    )
    return {row["name"]: row["external_id"] for row in rows}


async def upsert_external_id(conn: Connection, claim: Claim, subject: Subject, name: str, external_id: str) -> bool:
    """Stores an id of a subject for whoever has a delivery in hand; a later one takes the place of an earlier. False, and nothing
    stored, where the delivery's lease has passed to another."""
    stored = await conn.fetchval(
        """
        WITH held AS (
            SELECT FROM deliveries
            WHERE tenant_id = $1 AND delivery_id = $2 AND epoch = $3 AND state = 'pending' FOR SHARE
        )
        INSERT INTO external_ids (tenant_id, integration_type, subject_kind, subject_id, name, external_id)
        SELECT $1, $4, $5, $6, $7, $8 FROM held
        ON CONFLICT (tenant_id, integration_type, subject_kind, subject_id, name)
        DO UPDATE SET external_id = excluded.external_id, created_at = now()
        RETURNING true
        """,
        claim.tenant,
        claim.delivery_id,
        claim.epoch,
        claim.integration,
        *subject,
        storable(name),
        storable(external_id)[:LONGEST],
    )
    return bool(stored)


async def insert_external_ids(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, subject: Subject, ids: Mapping[str, str]
) -> None:
    """Stores ids that came before any delivery of their subject; those that are there already stay as they are."""
    await conn.execute(
        """
        INSERT INTO external_ids (tenant_id, integration_type, subject_kind, subject_id, name, external_id)
        SELECT $1, $2, $3, $4, r.name, r.external_id FROM unnest($5::text[], $6::text[]) AS r (name, external_id)
        ON CONFLICT DO NOTHING
        """,
        tenant,
        integration,
        *subject,
        [storable(name) for name in ids],
        [storable(value)[:LONGEST] for value in ids.values()],
    )


async def delete_old_external_ids(conn: Connection, older_than_s: float, most: int) -> int:
    """Removes the ids of calls that nothing is delivered about any more, at most `most` at a time. Returns how many. Those of
    contacts, chats, orders and deals stay: they are met again."""
    done: str = await conn.execute(
        """
        DELETE FROM external_ids WHERE ctid IN (
            SELECT ctid FROM external_ids
            WHERE subject_kind = 'call' AND created_at < now() - make_interval(secs => $1) LIMIT $2)
        """,
        older_than_s,
        most,
    )
    return int(done.rpartition(" ")[2])
