"""Conversations that went to people: why, with which summary, and until when the client is told what happens next. One row for each
stretch in which they wait, which is an epoch of the conversation. Works inside one tenant."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverRow:
    """One of them."""

    conversation: UUID
    epoch: int
    cause: str
    reason: str = ""
    summary: str = ""
    at: datetime | None = None
    overdue_at: datetime | None = None


async def insert_hand_over(conn: Connection, tenant: TenantId, row: HandOverRow, timeout_s: float) -> bool:
    """Notes one. False where this stretch has one already."""
    done: str = await conn.execute(
        """
        INSERT INTO ai_hand_overs (tenant_id, conversation_id, epoch, cause, reason, summary, due_at)
        VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7)) ON CONFLICT DO NOTHING
        """,
        tenant,
        row.conversation,
        row.epoch,
        row.cause,
        storable(row.reason)[:500],
        storable(row.summary)[:2000],
        timeout_s,
    )
    return done.endswith(" 1")


async def select_overdue(conn: Connection, tenant: TenantId) -> list[tuple[UUID, int]]:
    """The conversations that nobody took in time, each with its epoch, of those whose client was not told."""
    rows = await conn.fetch(
        """
        SELECT o.conversation_id, o.epoch FROM ai_hand_overs o
        JOIN conversations c ON c.tenant_id = o.tenant_id AND c.conversation_id = o.conversation_id AND c.epoch = o.epoch
        WHERE o.tenant_id = $1 AND o.overdue_at IS NULL AND o.due_at <= now() AND c.owner = 'queue' AND c.state = 'open'
        ORDER BY o.due_at LIMIT 100
        """,
        tenant,
    )
    return [(row[0], row[1]) for row in rows]


async def mark_overdue(conn: Connection, tenant: TenantId, conversation: UUID, epoch: int) -> bool:
    """Notes that the client is told. False where somebody has done so."""
    done: str = await conn.execute(
        "UPDATE ai_hand_overs SET overdue_at = now() WHERE tenant_id = $1 AND conversation_id = $2 AND epoch = $3 AND overdue_at IS NULL",
        tenant,
        conversation,
        epoch,
    )
    return done.endswith(" 1")


async def select_hand_overs(
    conn: Connection, tenant: TenantId, conversation: UUID, most: int = 20
) -> list[HandOverRow]:
    """The newest of a conversation, oldest first."""
    rows = await conn.fetch(
        """
        SELECT conversation_id, epoch, cause, reason, summary, at, overdue_at FROM ai_hand_overs
        WHERE tenant_id = $1 AND conversation_id = $2 ORDER BY epoch DESC LIMIT $3
        """,
        tenant,
        conversation,
        most,
    )
    return [
        HandOverRow(
            conversation=row[0], epoch=row[1], cause=row[2], reason=row[3], summary=row[4], at=row[5], overdue_at=row[6]
        )
        for row in reversed(rows)
    ]  # fmt: skip


async def delete_expired_hand_overs(conn: Connection, default_days: int, most: int) -> int:
    """Removes those past their tenant's retention of messages. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM ai_hand_overs o
        USING (SELECT x.tenant_id, x.conversation_id, x.epoch FROM ai_hand_overs x JOIN tenants t USING (tenant_id)
               WHERE x.at < now() - make_interval(days => coalesce((t.options -> 'chats' ->> 'keep_days')::int, $1))
               LIMIT $2) old
        WHERE o.tenant_id = old.tenant_id AND o.conversation_id = old.conversation_id AND o.epoch = old.epoch
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])
