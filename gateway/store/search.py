"""Calls for the search box: by call id, by a whole number or its beginning, and by a part of a number among the newest calls.

Bounded, however many calls a company has: whole numbers and beginnings are ranges of the index `calls_client`, and a part is
looked for in the newest PARTS_OF calls alone. Works inside one tenant. Read `gateway/web/pages/search.py` next.
"""

from collections.abc import Sequence

from gateway.domain.calls import Call
from gateway.domain.ids import TenantId
from gateway.store.calls import COLUMNS, OF, call_from_row
from gateway.store.missed_calls import CLIENT
from gateway.store.postgres.pool import Connection

PARTS_OF = 5000
_RANGE = 500
"""Calls of one beginning that are looked at."""
_HIGHEST = "\U0010ffff"


async def find_calls(
    conn: Connection,
    tenant: TenantId,
    text: str,
    beginnings: Sequence[str],
    most: int,
    only: Sequence[str] | None = None,
) -> list[Call]:
    """The newest calls that `text` may mean; `beginnings` are those of the numbers. Of the calls of these internal numbers
    where `only` is given."""
    rows = await conn.fetch(
        f"""
        WITH found AS (
            SELECT call_id FROM calls WHERE tenant_id = $1 AND call_id = $2
            UNION
            SELECT call_id FROM unnest($3::text[]) AS b (beginning), LATERAL (
                SELECT c.call_id FROM calls c
                WHERE c.tenant_id = $1 AND c.phase = 'ended' AND c.direction <> 'internal'
                  AND {CLIENT.format("c")} >= b.beginning COLLATE "C" AND {CLIENT.format("c")} < (b.beginning || $7) COLLATE "C"
                ORDER BY {CLIENT.format("c")} DESC, c.started_at DESC LIMIT {_RANGE}
            ) of_beginning
            UNION
            SELECT call_id FROM (
                SELECT call_id, caller, called FROM calls WHERE tenant_id = $1 ORDER BY started_at DESC LIMIT {PARTS_OF}
            ) newest
            WHERE position($4 IN caller) > 0 OR position($4 IN called) > 0 OR position($4 IN call_id) > 0
        )
        SELECT {COLUMNS} FROM calls
        WHERE tenant_id = $1 AND phase = 'ended' AND call_id IN (SELECT call_id FROM found) AND {OF.format("$5")}
        ORDER BY started_at DESC, call_id DESC LIMIT $6
        """,  # noqa: S608 - constants
        tenant,
        text,
        list(beginnings),
        text,
        list(only) if only is not None else None,
        most,
        _HIGHEST,
    )
    return [call_from_row(row) for row in rows]
