"""Which places of a bookable item are taken, and when. Works inside one tenant.

Whoever books locks the item first (`lock_bookings`), so that two see each other's bookings; that no place is given twice is the
table's own constraint (`booking_slots_once`). A place that is held for a client who has not agreed
yet is given away once its time is over, when somebody wants it (`release_lapsed`). Read `gateway/domain/bookings.py` for the rules.
"""

from collections.abc import Sequence
from uuid import UUID

from gateway.domain.bookings import Span, Taken
from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


async def lock_bookings(conn: Connection, tenant: TenantId, item_id: str) -> None:
    """Nobody else books this item until the transaction ends."""
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('bookings:' || $1 || '/' || $2, 0))", tenant, item_id
    )


async def select_taken(
    conn: Connection, tenant: TenantId, item_id: str, span: Span, *, but: UUID | None = None
) -> list[Taken]:
    """What is taken of an item within a time, but by one order; places whose time to be agreed is over are free."""
    rows = await conn.fetch(
        """
        SELECT p.place, s.starts_at, s.ends_at FROM booking_places p
        JOIN booking_slots s ON s.tenant_id = p.tenant_id AND s.place_key = p.place_key
        WHERE p.tenant_id = $1 AND p.item_id = $2 AND tstzrange(s.starts_at, s.ends_at) && tstzrange($3, $4)
          AND (s.held_until IS NULL OR s.held_until > now()) AND ($5::uuid IS NULL OR s.order_id <> $5)
        """,
        tenant,
        item_id,
        span.start,
        span.end,
        but,
    )
    return [Taken(*row) for row in rows]


async def release_lapsed(
    conn: Connection, tenant: TenantId, item_id: str, span: Span, but: UUID | None = None
) -> list[UUID]:
    """Frees the places within a time that were held for clients who did not agree in time, but those of one order. Returns their
    orders, locked with their conversations: the caller cancels them. One that somebody is at work on keeps its place."""
    rows = await conn.fetch(
        """
        WITH lapsed AS (
            SELECT o.order_id FROM orders o JOIN conversations c ON c.tenant_id = o.tenant_id AND c.conversation_id = o.conversation_id
            WHERE o.tenant_id = $1 AND ($5::uuid IS NULL OR o.order_id <> $5) AND o.order_id IN (
                SELECT s.order_id FROM booking_places p
                JOIN booking_slots s ON s.tenant_id = p.tenant_id AND s.place_key = p.place_key
                WHERE p.tenant_id = $1 AND p.item_id = $2 AND tstzrange(s.starts_at, s.ends_at) && tstzrange($3, $4)
                  AND s.held_until <= now())
            FOR UPDATE OF o SKIP LOCKED FOR KEY SHARE OF c SKIP LOCKED
        )
        DELETE FROM booking_slots s USING lapsed WHERE s.tenant_id = $1 AND s.order_id = lapsed.order_id RETURNING s.order_id
        """,
        tenant,
        item_id,
        span.start,
        span.end,
        but,
    )
    return list(dict.fromkeys(row[0] for row in rows))


async def insert_slots(
    conn: Connection,
    tenant: TenantId,
    order: UUID,
    item_id: str,
    places: Sequence[int],
    span: Span,
    hold_min: int | None,
) -> bool:
    """Gives places of an item to an order for a time; held for `hold_min` minutes, or for good. False, and the caller takes back what
    it did, where one of them is taken."""
    await conn.execute(
        "INSERT INTO booking_places (tenant_id, item_id, place) SELECT $1, $2, unnest($3::int[]) ON CONFLICT DO NOTHING",
        tenant,
        item_id,
        list(places),
    )
    done: str = await conn.execute(
        """
        INSERT INTO booking_slots (tenant_id, place_key, starts_at, ends_at, order_id, held_until)
        SELECT $1, place_key, $4, $5, $6, now() + make_interval(mins => $7) FROM booking_places
        WHERE tenant_id = $1 AND item_id = $2 AND place = ANY($3::int[])
        ON CONFLICT DO NOTHING
        """,
        tenant,
        item_id,
        list(places),
        span.start,
        span.end,
        order,
        hold_min,
    )
    return done == f"INSERT 0 {len(places)}"


async def delete_slots(conn: Connection, tenant: TenantId, order: UUID) -> int:
    """Frees the places of an order. Returns how many there were."""
    done: str = await conn.execute("DELETE FROM booking_slots WHERE tenant_id = $1 AND order_id = $2", tenant, order)
    return int(done.rpartition(" ")[2])


async def keep_slots(conn: Connection, tenant: TenantId, order: UUID) -> int:
    """The places of an order are held for good from now on. Returns how many there are."""
    done: str = await conn.execute(
        "UPDATE booking_slots SET held_until = NULL WHERE tenant_id = $1 AND order_id = $2", tenant, order
    )
    return int(done.rpartition(" ")[2])
