"""Calls of one client, whichever side called: ranges of the index `calls_client`. Works inside one tenant.

Read `gateway/store/contacts.py` for whose numbers they are.
"""

from collections.abc import Sequence
from datetime import datetime

from gateway.domain.calls import Call
from gateway.domain.ids import TenantId
from gateway.store.calls import COLUMNS, OF, call_from_row
from gateway.store.missed_calls import CLIENT
from gateway.store.postgres.pool import Connection


async def select_client_calls(
    conn: Connection, tenant: TenantId, numbers: Sequence[str], most: int, before: datetime | None = None,
    only: Sequence[str] | None = None,
) -> list[Call]:  # fmt: skip
    """The calls with these outside numbers that have ended, newest first, behind `before`; of the calls of an agent's internal
    numbers where `only` is given."""
    rows = await conn.fetch(
        f"""
        SELECT DISTINCT ON (started_at, call_id) {COLUMNS}
        FROM unnest($2::text[]) AS n (number), LATERAL (
            SELECT {COLUMNS} FROM calls c
            WHERE c.tenant_id = $1 AND c.phase = 'ended' AND c.direction <> 'internal' AND {CLIENT.format("c")} = n.number COLLATE "C"
              AND ($4::timestamptz IS NULL OR c.started_at < $4) AND {OF.format("$5")}
            ORDER BY c.started_at DESC LIMIT $3
        ) of_number
        ORDER BY started_at DESC, call_id DESC LIMIT $3
        """,  # noqa: S608 - constants
        tenant,
        list(numbers),
        most,
        before,
        list(only) if only is not None else None,
    )
    return [call_from_row(row) for row in rows]
