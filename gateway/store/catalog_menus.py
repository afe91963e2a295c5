"""Menus that were read from outside systems: the last one of each integration, and which items of the catalog came from it. Works inside
one tenant. Read `gateway/domain/menus.py` for what they mean.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.catalog import Item
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuCounts:
    """How a menu stands, for a list."""

    integration: IntegrationKey
    read_at: datetime | None
    added: int
    changed: int
    removed: int
    """What taking it would have done when it was read or taken last."""

    @property
    def differs(self) -> bool:
        """Whether there is something to take."""
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMenu:
    """One menu."""

    items: Sequence[Item] = ()
    left_out: int = 0
    read_at: datetime | None = None
    taken: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    take_by: str = ""
    """Who has requested that the next reading be taken, while that holds; else empty."""


async def select_menu_counts(conn: Connection, tenant: TenantId) -> list[MenuCounts]:
    """How each menu stands, by integration."""
    rows = await conn.fetch(
        "SELECT integration_type, read_at, added, changed, removed FROM catalog_menus WHERE tenant_id = $1 ORDER BY integration_type",
        tenant,
    )
    return [
        MenuCounts(integration=IntegrationKey(row[0]), read_at=row[1], added=row[2], changed=row[3], removed=row[4]) for row in rows
    ]  # fmt: skip


async def select_menu(conn: Connection, tenant: TenantId, integration: IntegrationKey) -> StoredMenu | None:
    """One; None where none was read or requested yet."""
    row = await conn.fetchrow(
        """
        SELECT items::text, left_out, read_at, taken::text, stopped::text,
               CASE WHEN take_until > now() THEN take_by ELSE '' END AS take_by
        FROM catalog_menus WHERE tenant_id = $1 AND integration_type = $2
        """,
        tenant,
        integration,
    )
    if row is None:
        return None
    items = tuple(Item.model_validate(one) for one in json.loads(row["items"]))
    return StoredMenu(
        items=items, left_out=row["left_out"], read_at=row["read_at"], taken=frozenset(json.loads(row["taken"])),
        stopped=frozenset(json.loads(row["stopped"])), take_by=row["take_by"],
    )  # fmt: skip


async def upsert_menu(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, items: Sequence[Item], left_out: int
) -> None:
    """Stores a menu that was just read."""
    await conn.execute(
        """
        INSERT INTO catalog_menus AS m (tenant_id, integration_type, items, left_out, read_at)
        VALUES ($1, $2, $3::jsonb, $4, clock_timestamp())
        ON CONFLICT (tenant_id, integration_type)
        DO UPDATE SET items = excluded.items, left_out = excluded.left_out, read_at = excluded.read_at
        """,
        tenant,
        integration,
        json.dumps([item.plain() for item in items], ensure_ascii=False),
        left_out,
    )


async def update_menu_state(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, taken: Collection[str], stopped: Collection[str],
    counts: tuple[int, int, int],
) -> None:  # fmt: skip
    """Stores what of the catalog came from a menu, what of it cannot be sold, and what taking it would do."""
    await conn.execute(
        """
        UPDATE catalog_menus SET taken = $3::jsonb, stopped = $4::jsonb, added = $5, changed = $6, removed = $7
        WHERE tenant_id = $1 AND integration_type = $2
        """,
        tenant,
        integration,
        json.dumps(sorted(taken), ensure_ascii=False),
        json.dumps(sorted(stopped), ensure_ascii=False),
        *counts,
    )


async def request_menu(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, actor: str, within_s: float
) -> None:
    """The next reading, if it comes within so many seconds, is taken as it comes."""
    await conn.execute(
        """
        INSERT INTO catalog_menus AS m (tenant_id, integration_type, take_until, take_by)
        SELECT tenant_id, integration_type, now() + make_interval(secs => $4), $3
        FROM integrations WHERE tenant_id = $1 AND integration_type = $2
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET take_until = excluded.take_until, take_by = excluded.take_by
        """,
        tenant,
        integration,
        storable(actor)[:200],
        within_s,
    )


async def end_menu_request(conn: Connection, tenant: TenantId, integration: IntegrationKey) -> None:
    """The request has been met."""
    await conn.execute(
        "UPDATE catalog_menus SET take_until = NULL, take_by = '' WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        integration,
    )
