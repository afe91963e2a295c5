"""Who writes, where a messenger's updates do not say it: the conversations to be named, and their names. Works inside one tenant."""

from dataclasses import dataclass
from uuid import UUID

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A conversation whose client has no name yet."""

    conversation: UUID
    address: str


async def select_unnamed(conn: Connection, tenant: TenantId, integration: IntegrationKey, most: int) -> list[Unnamed]:
    """Those of an integration that the messenger has not been asked about, the newest first."""
    rows = await conn.fetch(
        """
        SELECT conversation_id, address FROM conversations
        WHERE tenant_id = $1 AND integration_type = $2 AND name = '' AND username = '' AND named_at IS NULL
        ORDER BY last_message_at DESC NULLS LAST LIMIT $3
        """,
        tenant,
        integration,
        most,
    )
    return [Unnamed(*row) for row in rows]


async def name_client(conn: Connection, tenant: TenantId, conversation: UUID, name: str, username: str) -> None:
    """What the messenger says of a client, both empty where it says nothing; a contact that has a name stays as it is."""
    await conn.execute(
        """
        WITH named AS (
            UPDATE conversations SET name = $3, username = $4, named_at = now(), changed_at = clock_timestamp()
            WHERE tenant_id = $1 AND conversation_id = $2 AND name = '' AND username = '' RETURNING contact_id
        )
        UPDATE contacts c SET name = coalesce(nullif($3, ''), $4), updated_at = now() FROM named n
        WHERE c.tenant_id = $1 AND c.contact_id = n.contact_id AND c.name = '' AND $3 || $4 <> ''
        """,
        tenant,
        conversation,
        storable(name),
        storable(username),
    )
