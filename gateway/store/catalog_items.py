"""The items of each company's catalog, in order. Thousands are written by one statement, so that they are one change.

A trigger raises the tenant's version with every change. Read `gateway/domain/catalog.py` for what is valid.
"""

import json
from collections.abc import Sequence
from typing import Any

from gateway.domain.catalog import Item
from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection

ITEM_COLUMNS = (
    "item_id, name, description, price, currency, category, image_url, available, attributes::text, sort_order"
)
"""Of an item, in the order of `item_of`."""
_ORDER = "sort_order, lower(name), item_id"
ORDERS = {
    "order": _ORDER, "name": "lower(name), item_id", "category": "lower(coalesce(category, '')), lower(name), item_id",
    "price": "price, lower(name), item_id", "id": "item_id",
}  # fmt: skip
"""How a page may be ordered, by name."""


def item_of(row: Any) -> Item:
    """An item of a row. Rows are valid: they were validated when they were written."""
    (item_id, name, description, price, currency, category, image_url, available, attributes, sort_order) = row
    return Item.model_construct(
        id=item_id, name=name, description=description, price=price, currency=currency, category=category,
        image_url=image_url, available=available, attributes=json.loads(attributes), sort_order=sort_order,
    )  # fmt: skip


async def lock_catalog(conn: Connection, tenant: TenantId) -> None:
    """Nobody else changes this catalog until the transaction ends, so that items are counted exactly."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('catalog:' || $1, 0))", tenant)


async def count_items(conn: Connection, tenant: TenantId, search: str = "") -> int:
    """How many items there are, or how many have a text in their name, category or id."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM catalog_items WHERE tenant_id = $1 AND ($2 = '' OR "
        "position(lower($2) IN lower(name || ' ' || coalesce(category, '') || ' ' || item_id)) > 0)",
        tenant,
        search,
    )
    return found


async def select_items(
    conn: Connection,
    tenant: TenantId,
    *,
    limit: int | None = None,
    offset: int = 0,
    search: str = "",
    order: str = "order",
) -> list[Item]:
    """Items in one of ORDERS, all of them without a limit; `search` as `count_items` has it."""
    rows = await conn.fetch(
        f"""
        SELECT {ITEM_COLUMNS} FROM catalog_items WHERE tenant_id = $1 AND ($2 = '' OR
            position(lower($2) IN lower(name || ' ' || coalesce(category, '') || ' ' || item_id)) > 0)
        ORDER BY {ORDERS[order]} LIMIT $3 OFFSET $4
        """,  # noqa: S608 - constant columns and orders
        tenant,
        search,
        limit,
        offset,
    )
    return [item_of(row) for row in rows]


async def select_items_after(
    conn: Connection, tenant: TenantId, after: tuple[int, str, str] | None, limit: int
) -> list[Item]:
    """Items in order behind the one with this `sort_order`, name and id: a page of a list that goes on."""
    order, name, item_id = after if after is not None else (None, None, None)
    rows = await conn.fetch(
        f"""
        SELECT {ITEM_COLUMNS} FROM catalog_items
        WHERE tenant_id = $1 AND ($2::integer IS NULL OR (sort_order, lower(name), item_id) > ($2, lower($3), $4))
        ORDER BY {_ORDER} LIMIT $5
        """,  # noqa: S608 - constant columns
        tenant,
        order,
        name,
        item_id,
        limit,
    )
    return [item_of(row) for row in rows]


async def select_catalog_json(conn: Connection, tenant: TenantId) -> str:
    """All items in order, as the JSON that bots get: prices are numbers with their currency's digits."""
    found: str = await conn.fetchval(
        f"""
        SELECT coalesce(json_agg(json_build_object(
            'id', item_id, 'business_id', tenant_id, 'name', name, 'description', description, 'price', price,
            'currency', currency, 'category', category, 'image_url', image_url, 'available', available,
            'attributes', attributes, 'sort_order', sort_order) ORDER BY {_ORDER}), '[]')::text
        FROM catalog_items WHERE tenant_id = $1
        """,  # noqa: S608 - constant order
        tenant,
    )
    return found


async def select_item(conn: Connection, tenant: TenantId, item_id: str) -> Item | None:
    """One item."""
    row = await conn.fetchrow(
        f"SELECT {ITEM_COLUMNS} FROM catalog_items WHERE tenant_id = $1 AND item_id = $2",  # noqa: S608 - constant columns
        tenant,
        item_id,
    )
    return item_of(row) if row is not None else None


async def select_items_by_id(conn: Connection, tenant: TenantId, ids: Sequence[str]) -> dict[str, Item]:
    """Those of these ids that there are, by id."""
    rows = await conn.fetch(
        f"SELECT {ITEM_COLUMNS} FROM catalog_items WHERE tenant_id = $1 AND item_id = ANY($2::text[])",  # noqa: S608 - constant columns
        tenant,
        list(ids),
    )
    return {item.id: item for item in map(item_of, rows)}


async def select_item_ids(conn: Connection, tenant: TenantId) -> set[str]:
    """The ids of all items."""
    return {row[0] for row in await conn.fetch("SELECT item_id FROM catalog_items WHERE tenant_id = $1", tenant)}


async def upsert_items(conn: Connection, tenant: TenantId, items: Sequence[Item]) -> int:
    """Inserts or updates items, each with its currency; equal ones stay as they are. Returns how many changed."""
    done: str = await conn.execute(
        """
        INSERT INTO catalog_items AS c (tenant_id, item_id, name, description, price, currency, category, image_url,
                                        available, attributes, sort_order)
        SELECT $1, i.id, i.name, i.description, i.price::numeric, i.currency, i.category, i.image_url, i.available,
               i.attributes, i.sort_order
        FROM jsonb_to_recordset($2::jsonb) AS i (id text, name text, description text, price text, currency text,
            category text, image_url text, available boolean, attributes jsonb, sort_order integer)
        ON CONFLICT (tenant_id, item_id) DO UPDATE SET
            name = excluded.name, description = excluded.description, price = excluded.price,
            currency = excluded.currency, category = excluded.category, image_url = excluded.image_url,
            available = excluded.available, attributes = excluded.attributes, sort_order = excluded.sort_order,
            updated_at = now()
        WHERE (c.name, c.description, c.price::text, c.currency, c.category, c.image_url, c.available, c.attributes,
               c.sort_order)
            IS DISTINCT FROM (excluded.name, excluded.description, excluded.price::text, excluded.currency,
                excluded.category, excluded.image_url, excluded.available, excluded.attributes, excluded.sort_order)
        """,
        tenant,
        json.dumps([item.plain() for item in items], ensure_ascii=False),
    )
    return int(done.rpartition(" ")[2])


async def delete_items(conn: Connection, tenant: TenantId, ids: Sequence[str]) -> int:
    """Removes items. Returns how many there were."""
    done: str = await conn.execute(
        "DELETE FROM catalog_items WHERE tenant_id = $1 AND item_id = ANY ($2::text[])", tenant, list(ids)
    )
    return int(done.rpartition(" ")[2])
