"""What a visitor of a web widget may see: their one conversation, by its place in the channel. Works inside one tenant."""

from uuid import UUID

from gateway.domain.chats import Conversation
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.chat_batches import CONVERSATION, conversation_of
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


async def select_place(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, address: str
) -> Conversation | None:
    """The conversation at an address; None where nothing was written there."""
    row = await conn.fetchrow(
        f"SELECT {CONVERSATION} FROM conversations WHERE tenant_id = $1 AND integration_type = $2 AND address = $3",  # noqa: S608 - constant columns
        tenant,
        integration,
        storable(address),
    )
    return conversation_of(row) if row is not None else None


async def select_unread_tokens(
    conn: Connection, tenant: TenantId, conversation: UUID, up_to: int, most: int
) -> list[str]:
    """The tokens of parts of ours in a conversation, up to the message with this number, that the client has not read yet."""
    rows = await conn.fetch(
        """
        SELECT p.token FROM messages m
        JOIN message_parts p ON p.tenant_id = m.tenant_id AND p.message_id = m.message_id
        WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.seq <= $3 AND m.direction = 'out'
          AND p.token <> '' AND p.status <> 'read'
        ORDER BY m.seq DESC, p.part LIMIT $4
        """,
        tenant,
        conversation,
        up_to,
        most,
    )
    return [row[0] for row in rows]
