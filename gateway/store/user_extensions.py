"""Internal numbers of the users of outside systems: one map for each integration, in rows of `user_extensions`.

A user whose number was taken away has a row without one. A trigger makes the caches read the tenant again, and raises the
version that the outside system is to be notified of. Read `actors/crm/registration_changes.py` next.
"""

from collections.abc import Mapping

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.postgres.pool import Connection


async def select_map(
    conn: Connection, tenant: TenantId, key: IntegrationKey, *, lock: bool = False
) -> dict[str, str | None] | None:
    """The map as it is stored, users whose number was taken away among them; None where the integration is not set up.
    `lock` keeps it from changing until the transaction ends."""
    found = await conn.fetchval(
        "SELECT true FROM integrations WHERE tenant_id = $1 AND integration_type = $2 "  # noqa: S608 - FOR UPDATE or nothing
        f"{'FOR UPDATE' if lock else ''}",
        tenant,
        key,
    )
    if not found:
        return None
    rows = await conn.fetch(
        "SELECT user_id, extension FROM user_extensions WHERE tenant_id = $1 AND integration_type = $2 "
        "ORDER BY length(user_id), user_id",
        tenant,
        key,
    )
    return {row["user_id"]: row["extension"] for row in rows}


async def replace_map(
    conn: Connection, tenant: TenantId, key: IntegrationKey, extensions: Mapping[str, str | None]
) -> None:
    """Stores a whole map; equal rows stay as they are."""
    await conn.execute(
        """
        WITH wanted AS (
            SELECT * FROM unnest($3::text[], $4::text[]) AS w (user_id, extension)
        ), gone AS (
            DELETE FROM user_extensions e
            WHERE e.tenant_id = $1 AND e.integration_type = $2 AND e.user_id NOT IN (SELECT user_id FROM wanted)
        )
        INSERT INTO user_extensions AS e (tenant_id, integration_type, user_id, extension)
        SELECT $1, $2, user_id, extension FROM wanted
        ON CONFLICT (tenant_id, integration_type, user_id) DO UPDATE
        SET extension = excluded.extension, updated_at = now() WHERE e.extension IS DISTINCT FROM excluded.extension
        """,
        tenant,
        key,
        list(extensions),
        list(extensions.values()),
    )
