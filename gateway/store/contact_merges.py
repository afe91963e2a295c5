"""Two contacts made one person, and that undone: the contacts of one lead to the other by `root_id`. Works inside one tenant."""

from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


async def merge_contacts(conn: Connection, tenant: TenantId, into: UUID, other: UUID, by: str) -> int | None:
    """Makes one contact of two and returns the merge's number; None where they are one already, or one is not there."""
    merge_id: int | None = await conn.fetchval(
        """
        WITH roots AS (
            SELECT a.root_id AS into_id, b.root_id AS other_id FROM contacts a, contacts b
            WHERE a.tenant_id = $1 AND a.contact_id = $2 AND b.tenant_id = $1 AND b.contact_id = $3 AND a.root_id <> b.root_id
        ), moved AS (
            UPDATE contacts c SET root_id = roots.into_id, updated_at = now() FROM roots
            WHERE c.tenant_id = $1 AND c.root_id = roots.other_id RETURNING c.contact_id
        )
        INSERT INTO contact_merges (tenant_id, into_id, other_id, moved, merged_by)
        SELECT $1, into_id, other_id, (SELECT array_agg(contact_id) FROM moved), $4 FROM roots
        RETURNING merge_id
        """,
        tenant,
        into,
        other,
        by,
    )
    return merge_id


async def unmerge(conn: Connection, tenant: TenantId, into: UUID) -> UUID | None:
    """Undoes the last merge into a person. Returns the contact that is a person of its own again, or None."""
    other: UUID | None = await conn.fetchval(
        """
        WITH last AS (
            SELECT g.merge_id, g.other_id, g.moved FROM contact_merges g
            WHERE g.tenant_id = $1 AND g.undone_at IS NULL
              AND g.into_id = (SELECT root_id FROM contacts WHERE tenant_id = $1 AND contact_id = $2)
            ORDER BY g.merge_id DESC LIMIT 1 FOR UPDATE
        ), undone AS (
            UPDATE contact_merges g SET undone_at = now() FROM last WHERE g.tenant_id = $1 AND g.merge_id = last.merge_id
        ), back AS (
            UPDATE contacts c SET root_id = last.other_id, updated_at = now() FROM last
            WHERE c.tenant_id = $1 AND c.contact_id = ANY(last.moved)
        )
        SELECT other_id FROM last
        """,
        tenant,
        into,
    )
    return other
