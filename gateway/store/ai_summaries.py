"""What was left out of a conversation for the AI, in short: one text a conversation, up to one of its messages. Works inside one
tenant."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation up to a message, in short."""

    seq: int
    """The last message that is part of it."""
    text: str
    made_by: Literal["model", "digest"]


async def select_summary(conn: Connection, tenant: TenantId, conversation: UUID) -> Summary | None:
    """A conversation's."""
    row = await conn.fetchrow(
        "SELECT seq, text, made_by FROM ai_summaries WHERE tenant_id = $1 AND conversation_id = $2",
        tenant,
        conversation,
    )
    return Summary(*row) if row is not None else None


async def put_summary(conn: Connection, tenant: TenantId, conversation: UUID, summary: Summary) -> None:
    """Stores one in the place of one that reaches less far."""
    await conn.execute(
        """
        INSERT INTO ai_summaries AS s (tenant_id, conversation_id, seq, text, made_by) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, conversation_id) DO UPDATE
        SET seq = excluded.seq, text = excluded.text, made_by = excluded.made_by, made_at = now() WHERE s.seq < excluded.seq
        """,
        tenant,
        conversation,
        summary.seq,
        storable(summary.text),
        summary.made_by,
    )


async def delete_expired_summaries(conn: Connection, default_days: int, most: int) -> int:
    """Removes those past their tenant's retention of messages. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM ai_summaries s
        USING (SELECT x.tenant_id, x.conversation_id FROM ai_summaries x JOIN tenants t USING (tenant_id)
               WHERE x.made_at < now() - make_interval(days => coalesce((t.options -> 'chats' ->> 'keep_days')::int, $1))
               LIMIT $2) old
        WHERE s.tenant_id = old.tenant_id AND s.conversation_id = old.conversation_id
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])
