"""Saved replies of a company: a shortcut and a text. Works inside one tenant. Read `gateway/web/pages/saved_replies.py` next."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

MOST = 500
"""Saved replies of one company."""


@dataclass(frozen=True, slots=True)
class SavedReply:
    """One of them."""

    id: UUID
    shortcut: str
    text: str
    changed_by: str
    changed_at: datetime


async def select_saved_replies(conn: Connection, tenant: TenantId) -> list[SavedReply]:
    """All, by shortcut."""
    rows = await conn.fetch(
        "SELECT reply_id, shortcut, text, changed_by, changed_at FROM saved_replies WHERE tenant_id = $1 ORDER BY lower(shortcut) LIMIT $2",
        tenant,
        MOST,
    )
    return [SavedReply(*row) for row in rows]


async def select_saved_reply(conn: Connection, tenant: TenantId, reply: UUID) -> SavedReply | None:
    """One, or None."""
    row = await conn.fetchrow(
        "SELECT reply_id, shortcut, text, changed_by, changed_at FROM saved_replies WHERE tenant_id = $1 AND reply_id = $2",
        tenant,
        reply,
    )
    return SavedReply(*row) if row is not None else None


async def upsert_saved_reply(
    conn: Connection, tenant: TenantId, reply: UUID, shortcut: str, text: str, by: str
) -> bool:
    """Stores one. False where there are MOST of them already. Raises Conflict for a shortcut that another one has."""
    row = await conn.fetchval(
        """
        INSERT INTO saved_replies (tenant_id, reply_id, shortcut, text, changed_by)
        SELECT $1, $2, $3, $4, $5
        WHERE (SELECT count(*) FROM saved_replies WHERE tenant_id = $1 AND reply_id <> $2) < $6
        ON CONFLICT (tenant_id, reply_id) DO UPDATE
        SET shortcut = EXCLUDED.shortcut, text = EXCLUDED.text, changed_by = EXCLUDED.changed_by, changed_at = now()
        RETURNING 1
        """,
        tenant,
        reply,
        storable(shortcut),
        storable(text),
        by,
        MOST,
    )
    return row is not None


async def delete_saved_reply(conn: Connection, tenant: TenantId, reply: UUID) -> str | None:
    """Removes one. Returns its shortcut; None where there was none."""
    shortcut: str | None = await conn.fetchval(
        "DELETE FROM saved_replies WHERE tenant_id = $1 AND reply_id = $2 RETURNING shortcut", tenant, reply
    )
    return shortcut
