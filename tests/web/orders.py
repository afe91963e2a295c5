"""Orders for the tests and pictures of pages: one of each kind, in each state, with everything that can stand in one."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from actors.orders.making import By, make
from actors.orders.ordering import Ordering
from gateway.domain.chats import AI
from gateway.domain.orders import NewOrder, OrderChange, Wanted
from gateway.store.postgres.pool import Connection
from tests.web.chats import Chats, author
from tests.web.world import JUNE, World

OUTSIDE = """
INSERT INTO external_ids (tenant_id, integration_type, subject_kind, subject_id, name, external_id)
VALUES ('0367', 'retailcrm', 'order', $1, 'order', '1542C')
"""


@dataclass(frozen=True, slots=True)
class Orders:
    """The orders of `fill_orders`."""

    order: UUID
    """With a client of a chat, changed, and known to a CRM."""
    booking: UUID
    request: UUID
    """To call back."""


async def fill_orders(world: World, chats: Chats, item: str) -> Orders:
    """Orders of this item of the catalog, of the clients of the chats."""
    company = world.cache.tenant(JUNE)
    assert company is not None
    ordering = Ordering(db=world.db, feed=world.feed)
    who, actor, now = await author(world, f"admin@{JUNE}.example"), f"admin@{JUNE}.example", datetime.now(UTC)
    pizza = (Wanted(item, Decimal(2)),)

    async def create(new: NewOrder) -> UUID:
        return (await ordering.create(company, new, author=who, actor=actor)).seen.order.id

    def of(chat: UUID, **more: object) -> NewOrder:
        return NewOrder(contact=UUID(int=0), conversation=chat, **more)  # type: ignore[arg-type] # fields of an order

    order = await create(of(chats.anna, kind="order", wanted=pizza, delivery="№ 15", comment="10 × 2"))
    await ordering.change(company, order, OrderChange(status="confirmed", comment="10 × 3"), author=who, actor=actor)
    day, times = now.date(), list[datetime]()
    while not times:
        day += timedelta(days=1)
        times = list((await ordering.free_times(company, item, day)).free)
    booking = await create(of(chats.anna, kind="booking", wanted=(Wanted(item),), starts_at=times[0], party=4))
    request = await create(
        of(
            chats.boris,
            kind="request",
            comment="№ 15 → 16:00",
            call_phone="+375291002002",
            call_at=now + timedelta(hours=3),
        )
    )
    new = of(chats.anna, kind="order", wanted=pizza)
    by = By(author=AI, actor=AI, now=now, said_after=1)
    await world.db.tenant(JUNE, make, company, replace(new, contact=chats.contact), by)
    for status in ("in_progress", "done", "cancelled"):
        ident = await create(NewOrder(kind="order", contact=chats.contact, wanted=pizza))
        await ordering.change(company, ident, OrderChange(status=status), author=who, actor=actor)

    async def outside(conn: Connection) -> None:
        await conn.execute(OUTSIDE, str(order))

    await world.db.engine(outside)
    return Orders(order, booking, request)
