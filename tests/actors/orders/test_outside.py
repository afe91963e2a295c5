"""Orders that an outside system moves: forward alone, those alone that it was sent, once."""

from dataclasses import replace
from uuid import UUID

import pytest

from actors.crm.plans import CrmPlans
from actors.orders.outside import OutsideOrders
from adapters.inbound import SENT_ORDER, OrderNews
from gateway.domain.ids import IntegrationKey
from gateway.domain.orders import NewOrder, OrderStatus, Wanted
from gateway.domain.subjects import Subject
from gateway.store.external_ids import insert_external_ids
from gateway.store.postgres.pool import Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from gateway.telemetry import COUNTERS
from tests.actors.orders.shop import ANNA, JUNE, MAY, NOW, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

TILL = IntegrationKey("till")


class Counter:
    """A company whose orders a till moves."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.outside = OutsideOrders(db=shop.db, feed=shop.ordering.feed, crm=CrmPlans(), now=lambda: NOW)

    async def order(self, *, sent: bool = True, chat: bool = True) -> UUID:
        client = await self.shop.client("Ivan", "+375296254070")
        new = NewOrder(
            kind="order", contact=client.contact, conversation=client.id if chat else None, wanted=(Wanted("pizza"),)
        )
        made = await self.shop.ordering.create(self.shop.tenant, new, author=ANNA, actor="anna@june.example")
        ident = made.seen.order.id
        if sent:
            await self.shop.db.engine(
                insert_external_ids, JUNE, TILL, Subject("order", str(ident)), {SENT_ORDER: str(ident)}
            )
        return ident

    async def told(self, order: UUID | str, *statuses: OrderStatus) -> OrderStatus:
        news = [OrderNews(order_id=str(order), status=one) for one in statuses]
        await self.outside.follow(self.shop.tenant, TILL, news)
        return (await self.shop.one(UUID(str(order)))).status


@pytest.fixture
async def counter(db: Database) -> Counter:
    shop = await Shop(db).open()
    await db.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow(TILL, "till", True, {}, {}))
    return Counter(shop)


@pytest.mark.parametrize("chat", [True, False])
async def test_an_order_goes_forward_alone(counter: Counter, chat: bool) -> None:
    order = await counter.order(chat=chat)
    assert await counter.told(order, "confirmed") == "confirmed"
    assert await counter.told(order, "confirmed", "in_progress", "confirmed") == "in_progress"
    version = (await counter.shop.one(order)).version
    assert await counter.told(order, "in_progress") == "in_progress"
    assert (await counter.shop.one(order)).version == version, "news that come twice change nothing"
    assert await counter.told(order, "done", "cancelled", "in_progress") == "done"
    moved = [one for one in await counter.shop.audit() if one.action == "order.changed"]
    assert {one.actor for one in moved} == {TILL}
    assert len(moved) == 3
    assert f"{JUNE} order {order}" in counter.shop.changed
    assert await counter.told(await counter.order(), "cancelled") == "cancelled"


async def test_only_what_was_sent_there_is_moved(counter: Counter) -> None:
    ignored = COUNTERS["order_news_ignored"]
    order = await counter.order(sent=False)
    assert await counter.told(order, "cancelled") == "new"
    for odd in ("no-uuid", str(UUID(int=1))):
        await counter.outside.follow(counter.shop.tenant, TILL, [OrderNews(order_id=odd, status="done")])
    mine = await counter.order()
    other = replace(counter.shop.tenant, number=MAY)
    await counter.outside.follow(other, TILL, [OrderNews(order_id=str(mine), status="done")])
    await counter.outside.follow(
        counter.shop.tenant, IntegrationKey("till:other"), [OrderNews(order_id=str(mine), status="done")]
    )
    assert (await counter.shop.one(mine)).status == "new"
    assert COUNTERS["order_news_ignored"] == ignored + 5
