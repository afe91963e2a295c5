"""Comparisons of both sides of a route: how far one has come, and which deals differ. Read `actors/deals/comparing.py` next."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.deal_runs import Pair
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class Comparison:
    """The last one of a route. `finished_at` is None while it is under way."""

    route: str
    started_at: datetime
    finished_at: datetime | None
    behind: int
    compared: int
    differing: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class FoundDifference:
    """A deal that is not the same on both sides; `target_id` is None where it is not there at all."""

    route: str
    deal_id: int
    target_id: int | None
    fields: Sequence[Mapping[str, str]]
    """Each with `field`, `wanted` and `there`."""
    found_at: datetime | None = None


async def select_comparisons(conn: Connection, tenant: TenantId) -> dict[str, Comparison]:
    """By route."""
    rows = await conn.fetch(
        """
        SELECT c.route, c.started_at, c.finished_at, c.behind, c.compared,
               count(d.*) FILTER (WHERE d.target_deal_id IS NOT NULL)::int, count(d.*) FILTER (WHERE d.target_deal_id IS NULL AND d.route IS NOT NULL)::int
        FROM deal_comparisons c LEFT JOIN deal_differences d USING (tenant_id, route)
        WHERE c.tenant_id = $1 GROUP BY c.tenant_id, c.route ORDER BY c.route
        """,
        tenant,
    )
    return {row[0]: Comparison(*tuple(row)) for row in rows}


async def begin_comparison(conn: Connection, tenant: TenantId, route: str) -> None:
    """A new one: what the last one found is forgotten."""
    await conn.execute("DELETE FROM deal_differences WHERE tenant_id = $1 AND route = $2", tenant, route)
    await conn.execute(
        """
        INSERT INTO deal_comparisons (tenant_id, route) VALUES ($1, $2)
        ON CONFLICT (tenant_id, route) DO UPDATE SET started_at = now(), finished_at = NULL, behind = 0, compared = 0
        """,
        tenant,
        route,
    )


async def select_link_page(
    conn: Connection, tenant: TenantId, pair: Pair, behind: int, most: int
) -> list[tuple[int, int]]:
    """Links in the order of the source's ids, behind one of them."""
    rows = await conn.fetch(
        "SELECT source_deal_id, target_deal_id FROM deal_links "
        "WHERE tenant_id = $1 AND source = $2 AND target = $3 AND source_deal_id > $4 ORDER BY source_deal_id LIMIT $5",
        tenant,
        *pair,
        behind,
        most,
    )
    return [(row[0], row[1]) for row in rows]


async def note_compared(
    conn: Connection, tenant: TenantId, route: str, behind: int, compared: int, differing: Sequence[FoundDifference], *, over: bool
) -> None:  # fmt: skip
    """How far a comparison has come, with what was found on the way. `over`: that is the end of it."""
    async with conn.transaction():
        await conn.execute(
            """
            INSERT INTO deal_differences (tenant_id, route, source_deal_id, target_deal_id, fields)
            SELECT $1, $2, r.deal, r.target, r.fields
            FROM json_to_recordset($3::json) AS r (deal bigint, target bigint, fields jsonb)
            ON CONFLICT (tenant_id, route, source_deal_id) DO UPDATE
            SET target_deal_id = excluded.target_deal_id, fields = excluded.fields, found_at = now()
            """,
            tenant,
            route,
            json.dumps([
                {"deal": one.deal_id, "target": one.target_id, "fields": [
                    {name: storable(value) for name, value in field.items()} for field in one.fields
                ]}
                for one in differing
            ]),
        )  # fmt: skip
        await conn.execute(
            "UPDATE deal_comparisons SET behind = $3, compared = compared + $4, "
            "finished_at = CASE WHEN $5 THEN now() ELSE finished_at END WHERE tenant_id = $1 AND route = $2",
            tenant,
            route,
            behind,
            compared,
            over,
        )


async def select_differences(conn: Connection, tenant: TenantId, route: str | None, most: int) -> list[FoundDifference]:
    """What the last comparisons found, the newest deals first."""
    rows = await conn.fetch(
        "SELECT route, source_deal_id, target_deal_id, fields::text, found_at FROM deal_differences "
        "WHERE tenant_id = $1 AND ($2::text IS NULL OR route = $2) ORDER BY source_deal_id DESC LIMIT $3",
        tenant,
        route,
        most,
    )
    return [FoundDifference(row[0], row[1], row[2], json.loads(row[3]), row[4]) for row in rows]


async def forget_route(conn: Connection, tenant: TenantId, route: str) -> None:
    """Of a route that is removed. Its runs and links stay."""
    await conn.execute("DELETE FROM deal_differences WHERE tenant_id = $1 AND route = $2", tenant, route)
    await conn.execute("DELETE FROM deal_comparisons WHERE tenant_id = $1 AND route = $2", tenant, route)
