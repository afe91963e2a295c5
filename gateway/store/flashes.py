"""What a page has to show once after a redirect, by session: results of buttons, and forms that were not accepted.

The engine role's alone, like sessions. A row lives for `LIVES_S` seconds. Read `gateway/web/session/flash.py` next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

LIVES_S = 600.0
MOST = 20
"""Rows of one session; older ones go."""

_SESSION = "(f.tenant_id = $1 OR ($1::text IS NULL AND f.tenant_id IS NULL)) AND f.token_hash = $2"


@dataclass(frozen=True, slots=True)
class FlashRow:
    """One of them. `sealed` maps names to sealed secrets."""

    kind: str
    body: Mapping[str, Any]
    sealed: Mapping[str, str]


async def insert_flash(
    conn: Connection, tenant: TenantId | None, token_hash: bytes, flash_id: str, row: FlashRow
) -> None:
    """Adds one; beyond `MOST` of the session the oldest are dropped."""
    await conn.execute(
        f"""
        WITH old AS (
            DELETE FROM flashes f WHERE {_SESSION} AND f.flash_id IN (
                SELECT f.flash_id FROM flashes f WHERE {_SESSION} ORDER BY f.created_at DESC OFFSET {MOST - 1})
        )
        INSERT INTO flashes (tenant_id, token_hash, flash_id, kind, body, sealed)
        VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb)
        """,  # noqa: S608 - constants
        tenant,
        token_hash,
        flash_id,
        row.kind,
        storable(json.dumps(row.body, ensure_ascii=False).replace("\\u0000", "")),
        json.dumps(dict(row.sealed)),
    )


async def select_flash(conn: Connection, tenant: TenantId | None, token_hash: bytes, flash_id: str) -> FlashRow | None:
    """The one with this id, while it lives and belongs to the session."""
    row = await conn.fetchrow(
        f"""
        SELECT f.kind, f.body::text AS body, f.sealed::text AS sealed FROM flashes f
        WHERE {_SESSION} AND f.flash_id = $3 AND f.created_at > now() - make_interval(secs => $4)
        """,  # noqa: S608 - a constant
        tenant,
        token_hash,
        flash_id,
        LIVES_S,
    )
    return FlashRow(row["kind"], json.loads(row["body"]), json.loads(row["sealed"])) if row is not None else None


async def delete_flash(conn: Connection, tenant: TenantId | None, token_hash: bytes, flash_id: str) -> None:
    """Removes one."""
    await conn.execute(
        f"DELETE FROM flashes f WHERE {_SESSION} AND f.flash_id = $3",  # noqa: S608 - a constant
        tenant,
        token_hash,
        flash_id,
    )


async def delete_old_flashes(conn: Connection, keep_s: float, most: int) -> int:
    """Removes up to `most` older than `keep_s`, of any session. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM flashes WHERE ctid IN (
            SELECT ctid FROM flashes WHERE created_at < now() - make_interval(secs => $1) LIMIT $2)
        """,
        keep_s,
        most,
    )
    return int(done.rpartition(" ")[2])
