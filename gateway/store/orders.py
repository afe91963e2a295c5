"""Orders, bookings and requests with their items: lists, one, and what is written of them. Works inside one tenant.

Whoever changes an order locks its row first (`lock_order`). The contact shown is the person that the order's contact leads to; an agent
(`only`) sees their own orders, those of conversations that they may see, and of persons with such a conversation where an order has
none. Read
`booking_slots.py` for the times of bookings, `actors/orders/ordering.py` for who writes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.orders import Line, Order
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class External:
    """What an order is in an outside system."""

    integration: IntegrationKey
    id: str | None
    state: str | None
    """Of the newest delivery about it; None where there is none (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOrder:
    """An order as lists show it."""

    order: Order
    root: UUID
    """The person."""
    contact_name: str
    phones: tuple[str, ...]
    channel: IntegrationKey | None
    external: tuple[External, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter:
    """Which orders are looked for; what is None does not narrow."""

    status: str | None = None
    kind: str | None = None
    contact: UUID | None = None
    """A person: with everything that was merged into them."""
    conversation: UUID | None = None
    q: str = ""
    """The number of an order, or a part of the client's name or phone."""
    only: str | None = None
    """An agent, as an owner of conversations."""


_COLUMNS = """o.order_id, o.number, o.kind, o.status, o.contact_id, o.conversation_id, o.total, o.currency, o.starts_at, o.duration_min,
    o.party, o.comment, o.delivery::text AS delivery, o.call_phone, o.call_at, o.created_by, o.created_at, o.updated_at, o.version,
    o.agreed_at, o.said_after,
    (SELECT json_agg(json_build_array(i.catalog_id, i.name, i.quantity::text, i.price::text) ORDER BY i.place)
     FROM order_items i WHERE i.tenant_id = o.tenant_id AND i.order_id = o.order_id)::text AS lines"""


def _order(row: Record) -> Order:
    found = json.loads(row["lines"]) if row["lines"] is not None else []
    return Order(
        id=row["order_id"], number=row["number"], kind=row["kind"], status=row["status"], contact=row["contact_id"],
        conversation=row["conversation_id"], total=row["total"], currency=row["currency"], starts_at=row["starts_at"],
        duration_min=row["duration_min"], party=row["party"], comment=row["comment"],
        delivery=json.loads(row["delivery"]) if row["delivery"] is not None else None, call_phone=row["call_phone"],
        call_at=row["call_at"], created_by=row["created_by"], created_at=row["created_at"], updated_at=row["updated_at"],
        version=row["version"], agreed_at=row["agreed_at"], said_after=row["said_after"],
        lines=tuple(Line(item, name, Decimal(quantity), Decimal(price)) for item, name, quantity, price in found),
    )  # fmt: skip


_SEEN = f"""
SELECT {_COLUMNS}, p.root_id, coalesce(nullif(r.name, ''), nullif(c.name, ''), c.username, '') AS contact_name,
       c.integration_type AS channel,
       ARRAY(SELECT DISTINCT n.phone FROM contact_phones n
             JOIN contacts m ON m.tenant_id = n.tenant_id AND m.contact_id = n.contact_id
             WHERE n.tenant_id = o.tenant_id AND m.root_id = p.root_id ORDER BY n.phone) AS phones,
       (SELECT json_agg(json_build_array(
            k.integration_type,
            (SELECT x.external_id FROM external_ids x
             WHERE x.tenant_id = o.tenant_id AND x.integration_type = k.integration_type AND x.subject_kind = 'order'
               AND x.subject_id = o.order_id::text ORDER BY x.name <> 'order', x.created_at LIMIT 1),
            (SELECT d.state FROM deliveries d
             WHERE d.tenant_id = o.tenant_id AND d.integration_type = k.integration_type AND d.subject_kind = 'order'
               AND d.subject_id = o.order_id::text ORDER BY d.delivery_id DESC LIMIT 1)) ORDER BY k.integration_type)
        FROM (SELECT x.integration_type FROM external_ids x
              WHERE x.tenant_id = o.tenant_id AND x.subject_kind = 'order' AND x.subject_id = o.order_id::text
              UNION
              SELECT d.integration_type FROM deliveries d
              WHERE d.tenant_id = o.tenant_id AND d.subject_kind = 'order' AND d.subject_id = o.order_id::text) AS k)::text AS external
FROM {{}} o
JOIN contacts p ON p.tenant_id = o.tenant_id AND p.contact_id = o.contact_id
JOIN contacts r ON r.tenant_id = p.tenant_id AND r.contact_id = p.root_id
LEFT JOIN conversations c ON c.tenant_id = o.tenant_id AND c.conversation_id = o.conversation_id"""  # noqa: S608 - constant columns

_MAY_SEE = """({only}::text IS NULL OR o.created_by = {only}
       OR (o.conversation_id IS NOT NULL AND EXISTS (
           SELECT FROM conversations v WHERE v.tenant_id = o.tenant_id AND v.conversation_id = o.conversation_id
           AND v.owner IN ('queue', 'none', {only})))
       OR (o.conversation_id IS NULL AND EXISTS (
           SELECT FROM contacts a JOIN contacts b ON b.tenant_id = a.tenant_id AND b.root_id = a.root_id
           JOIN conversations v ON v.tenant_id = b.tenant_id AND v.contact_id = b.contact_id
           WHERE a.tenant_id = o.tenant_id AND a.contact_id = o.contact_id AND v.owner IN ('queue', 'none', {only}))))"""


def _seen(row: Record) -> SeenOrder:
    outside = json.loads(row["external"]) if row["external"] is not None else []
    return SeenOrder(
        order=_order(row), root=row["root_id"], contact_name=row["contact_name"], phones=tuple(row["phones"]), channel=row["channel"],
        external=tuple(External(IntegrationKey(key), ident, state) for key, ident, state in outside),
    )  # fmt: skip


async def select_orders(
    conn: Connection, tenant: TenantId, wanted: OrderFilter, most: int, before: int | None = None
) -> list[SeenOrder]:
    """Those that match, the newest first, with numbers under `before`."""
    # The page is chosen before anything is joined, so that a list costs what its page does.
    rows = await conn.fetch(
        f"""
        WITH page AS MATERIALIZED (
            SELECT * FROM orders o
            WHERE o.tenant_id = $1
              AND ($2::text IS NULL OR o.status = $2) AND ($3::text IS NULL OR o.kind = $3)
              AND ($4::uuid IS NULL OR o.contact_id IN (
                  SELECT a.contact_id FROM contacts a JOIN contacts b ON b.tenant_id = a.tenant_id AND b.root_id = a.root_id
                  WHERE a.tenant_id = $1 AND b.contact_id = $4))
              AND ($5::uuid IS NULL OR o.conversation_id = $5)
              AND ($6 = '' OR o.number::text = ltrim($6, '#№ ')
                   OR EXISTS (SELECT FROM contacts a JOIN contacts b ON b.tenant_id = a.tenant_id AND b.root_id = a.root_id
                              WHERE a.tenant_id = $1 AND a.contact_id = o.contact_id AND (
                                  strpos(lower(b.name), lower($6)) > 0
                                  OR EXISTS (SELECT FROM contact_phones n WHERE n.tenant_id = b.tenant_id
                                             AND n.contact_id = b.contact_id AND strpos(n.phone, $6) > 0))))
              AND {_MAY_SEE.format(only="$7")}
              AND ($8::integer IS NULL OR o.number < $8)
            ORDER BY o.number DESC LIMIT $9
        )
        {_SEEN.format("page")} ORDER BY o.number DESC
        """,  # noqa: S608 - constants
        tenant,
        wanted.status,
        wanted.kind,
        wanted.contact,
        wanted.conversation,
        storable(wanted.q),
        wanted.only,
        before,
        most,
    )
    return [_seen(row) for row in rows]


async def select_order(conn: Connection, tenant: TenantId, order: UUID, only: str | None = None) -> SeenOrder | None:
    """One, or None."""
    row = await conn.fetchrow(
        _SEEN.format("orders") + " WHERE o.tenant_id = $1 AND o.order_id = $2 AND " + _MAY_SEE.format(only="$3"),
        tenant,
        order,
        only,
    )
    return _seen(row) if row is not None else None


async def select_orders_of_conversation(
    conn: Connection, tenant: TenantId, conversation: UUID, most: int
) -> list[Order]:
    """The newest that were made in a conversation, newest first."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM orders o WHERE o.tenant_id = $1 AND o.conversation_id = $2 ORDER BY o.number DESC LIMIT $3",  # noqa: S608 - constant columns
        tenant,
        conversation,
        most,
    )
    return [_order(row) for row in rows]


async def find_items(conn: Connection, tenant: TenantId, texts: Sequence[str]) -> dict[str, list[str]]:
    """Which items of the catalog people mean by what they typed, an id or a name: the ids of each, those that are available first."""
    rows = await conn.fetch(
        """
        SELECT t.text, i.item_id FROM unnest($2::text[]) AS t (text)
        JOIN catalog_items i ON i.tenant_id = $1 AND (i.item_id = t.text OR lower(i.name) = lower(t.text))
        ORDER BY t.text, i.item_id <> t.text, NOT i.available, i.item_id
        """,
        tenant,
        [storable(text) for text in texts],
    )
    found: dict[str, list[str]] = {}
    for text, item in rows:
        found.setdefault(text, []).append(item)
    return found


async def count_orders(conn: Connection, tenant: TenantId, only: str | None = None) -> Mapping[str, int]:
    """How many there are in each status that has any."""
    rows = await conn.fetch(
        f"SELECT o.status, count(*) FROM orders o WHERE o.tenant_id = $1 AND {_MAY_SEE.format(only='$2')} GROUP BY o.status",  # noqa: S608 - constants
        tenant,
        only,
    )
    return {row[0]: row[1] for row in rows}


async def lock_order(conn: Connection, tenant: TenantId, order: UUID) -> Order | None:
    """One, locked until the transaction ends; None where there is none."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM orders o WHERE o.tenant_id = $1 AND o.order_id = $2 FOR UPDATE OF o",  # noqa: S608 - constant columns
        tenant,
        order,
    )
    return _order(row) if row is not None else None


async def delete_expired_orders(conn: Connection, default_days: int, most: int) -> int:
    """Removes orders that are done or cancelled, past what their tenant says; without that they stay. Returns how many. The engine's."""
    done: str = await conn.execute(
        """
        DELETE FROM orders o
        USING (SELECT x.tenant_id, x.order_id FROM orders x JOIN tenants t USING (tenant_id)
               WHERE x.status IN ('done', 'cancelled')
                 AND x.updated_at < now() - make_interval(days => (t.options -> 'orders' ->> 'keep_days')::int) LIMIT $1) old
        WHERE o.tenant_id = old.tenant_id AND o.order_id = old.order_id
        """,
        most,
    )
    return int(done.rpartition(" ")[2])


async def next_number(conn: Connection, tenant: TenantId) -> int:
    """The number of the order that this transaction makes; nobody else gets one until it ends."""
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('orders:' || $1, 0))", tenant)
    found: int = await conn.fetchval("SELECT coalesce(max(number), 0) + 1 FROM orders WHERE tenant_id = $1", tenant)
    return found


async def insert_order(conn: Connection, tenant: TenantId, made: Order) -> None:
    """A new one with its items."""
    await conn.execute(
        """
        INSERT INTO orders (tenant_id, order_id, number, kind, status, contact_id, conversation_id, total, currency, starts_at,
                            duration_min, party, comment, delivery, call_phone, call_at, created_by, created_at, updated_at, version,
                            agreed_at, said_after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::jsonb, $15, $16, $17, $18, $19, $20, $21, $22)
        """,
        tenant, made.id, made.number, made.kind, made.status, made.contact, made.conversation, made.total, made.currency,
        made.starts_at, made.duration_min, made.party, storable(made.comment), _json(made), storable(made.call_phone), made.call_at,
        storable(made.created_by), made.created_at, made.updated_at, made.version, made.agreed_at, made.said_after,
    )  # fmt: skip
    await _insert_lines(conn, tenant, made.id, made.lines)


async def update_order(conn: Connection, tenant: TenantId, changed: Order, *, lines: bool) -> None:
    """Stores what can change, of an order that is locked; its items too where they changed (`lines`)."""
    await conn.execute(
        """
        UPDATE orders SET status = $3, total = $4, currency = $5, starts_at = $6, duration_min = $7, party = $8, comment = $9,
               delivery = $10::jsonb, call_at = $11, updated_at = $12, version = $13, agreed_at = $14, said_after = $15, changed_at = clock_timestamp()
        WHERE tenant_id = $1 AND order_id = $2
        """,
        tenant, changed.id, changed.status, changed.total, changed.currency, changed.starts_at, changed.duration_min, changed.party,
        storable(changed.comment), _json(changed), changed.call_at, changed.updated_at, changed.version, changed.agreed_at,
        changed.said_after,
    )  # fmt: skip
    if lines:
        await conn.execute("DELETE FROM order_items WHERE tenant_id = $1 AND order_id = $2", tenant, changed.id)
        await _insert_lines(conn, tenant, changed.id, changed.lines)


def _json(order: Order) -> str | None:
    return json.dumps(order.delivery, ensure_ascii=False) if order.delivery is not None else None


async def _insert_lines(conn: Connection, tenant: TenantId, order: UUID, lines: Sequence[Line]) -> None:
    if lines:
        await conn.execute(
            """
            INSERT INTO order_items (tenant_id, order_id, place, catalog_id, name, quantity, price)
            SELECT $1, $2, r.place, r.catalog_id, r.name, r.quantity, r.price
            FROM unnest($3::text[], $4::text[], $5::numeric[], $6::numeric[]) WITH ORDINALITY AS r (catalog_id, name, quantity, price, place)
            """,
            tenant,
            order,
            [line.catalog_id for line in lines],
            [line.name for line in lines],
            [line.quantity for line in lines],
            [line.price for line in lines],
        )
