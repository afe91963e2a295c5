"""Which conversations wait for the AI, or went to a person without it. Works inside one tenant. Read `ai_answers.py` next."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client who waits for the AI."""

    conversation: UUID
    epoch: int
    last_seq: int
    quiet_for_s: float
    """Since the client's last message was stored."""
    waiting_for_s: float
    """Since the first one that has no answer was."""


async def select_waiting(conn: Connection, tenant: TenantId, only: Sequence[UUID] | None = None) -> list[Waiting]:
    """The conversations, or `only` of these, that are the AI's and have a client who waits."""
    rows = await conn.fetch(
        """
        SELECT c.conversation_id, c.epoch, c.last_seq, m.quiet::float8, m.waiting::float8
        FROM conversations c CROSS JOIN LATERAL (
            SELECT extract(epoch FROM clock_timestamp() - max(i.created_at)) AS quiet,
                   extract(epoch FROM clock_timestamp() - min(i.created_at)) AS waiting
            FROM messages i WHERE i.tenant_id = c.tenant_id AND i.conversation_id = c.conversation_id AND i.direction = 'in'
              AND i.seq > coalesce((SELECT max(o.seq) FROM messages o WHERE o.tenant_id = c.tenant_id
                                    AND o.conversation_id = c.conversation_id AND o.direction = 'out' AND o.author <> 'system'), 0)) AS m
        WHERE c.tenant_id = $1 AND c.owner = 'ai' AND c.state = 'open' AND c.waiting_since IS NOT NULL AND m.quiet IS NOT NULL
          AND ($2::uuid[] IS NULL OR c.conversation_id = ANY($2))
        """,
        tenant,
        list(only) if only is not None else None,
    )
    return [Waiting(*row) for row in rows]


async def select_unannounced(conn: Connection, tenant: TenantId, only: Sequence[UUID] | None = None) -> list[UUID]:
    """The conversations, or `only` of these, whose client asked for a person and was not told yet that one comes: nobody has taken
    them."""
    rows = await conn.fetch(
        """
        SELECT c.conversation_id FROM conversations c
        WHERE c.tenant_id = $1 AND c.owner = 'queue' AND c.state = 'open' AND ($2::uuid[] IS NULL OR c.conversation_id = ANY($2))
          AND NOT EXISTS (SELECT FROM ai_hand_overs o WHERE o.tenant_id = c.tenant_id AND o.conversation_id = c.conversation_id
                          AND o.epoch = c.epoch)
          AND (SELECT h.kind FROM conversation_happenings h WHERE h.tenant_id = c.tenant_id AND h.conversation_id = c.conversation_id
               AND h.kind IN ('person_requested', 'taken', 'assigned', 'released', 'closed', 'reopened')
               ORDER BY h.happening_id DESC LIMIT 1) = 'person_requested'
        """,
        tenant,
        list(only) if only is not None else None,
    )
    return [row[0] for row in rows]
