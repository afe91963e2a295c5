"""Removing an integration with all that is only its own: settings, map, tokens, jobs, ids, what waits to be delivered.

What it did stays: its log, its deliveries that are over, the audit. Read `actors/crm/disconnecting.py` next.
"""

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, delete_link, lock_link, shown_link


async def delete_integration(conn: Connection, tenant: TenantId, key: IntegrationKey, who: str) -> bool:
    """In one transaction, with a line in the audit. False where there is none. What waits is dropped: the next integration of
    this key may lead to another account."""
    async with conn.transaction():
        known = await lock_link(conn, INTEGRATIONS, tenant, key)
        if known is None:
            return False
        was = shown_link(known)
        del was["enabled"]  # it was switched off for this
        await conn.execute(
            """
            UPDATE deliveries SET state = 'expired', finished_at = now(), lease_until = NULL, note = 'disconnected'
            WHERE tenant_id = $1 AND integration_type = $2 AND state = 'pending'
            """,
            tenant,
            key,
        )
        for statement in (
            "DELETE FROM external_ids WHERE tenant_id = $1 AND integration_type = $2",
            "DELETE FROM lane_references WHERE tenant_id = $1 AND integration_type = $2",
            "DELETE FROM user_statuses WHERE tenant_id = $1 AND integration_type = $2",
            "DELETE FROM logins WHERE tenant_id = $1 AND integration_type = $2",
            "DELETE FROM sessions WHERE tenant_id = $1 AND scope = $2",
        ):
            await conn.execute(statement, tenant, key)
        await delete_link(conn, INTEGRATIONS, tenant, key)
        # After the map, whose removal raises the version of a registration.
        await conn.execute("DELETE FROM modules WHERE tenant_id = $1 AND integration_type = $2", tenant, key)
        await insert_audit(conn, tenant, who, "integration.disconnected", key, old=was)
        return True
