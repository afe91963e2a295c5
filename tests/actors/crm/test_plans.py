"""What CRMs are sent of clients, chats and orders is committed with what it is about, or not at all; on a real PostgreSQL."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from actors.ai.handing_over import HandingOver
from actors.chats.conversing import Conversing
from actors.chats.inbox import Inbox
from actors.chats.tenant_chats import Reads, TenantChats
from actors.crm.plans import CrmPlans
from actors.feed import Feed
from actors.orders.ordering import Ordered, Ordering
from actors.runtime.directory import Slot
from actors.services import CHATS, Doorbells
from adapters.base import AdapterSettings
from adapters.registry import integrations
from gateway.domain.ai import AiBlock
from gateway.domain.configuration import Tenant, integration
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.orders import OrderChange, Wanted
from gateway.domain.shards import shard_of
from gateway.store import contacts
from gateway.store.conversations import lock_conversation
from gateway.store.journal import PostRow, insert_posts
from gateway.store.personal_data import erase_person
from gateway.store.postgres.pool import Connection
from tests.actors.chats.pigeons import ADAPTER as PIGEON
from tests.actors.chats.pigeons import CHANNEL, KEY, KIND, happened, update, wrote
from tests.actors.orders.shop import ANNA, JUNE, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

RETAIL, BITRIX = IntegrationKey("retailcrm"), IntegrationKey("bitrix24:main")
ACCOUNT = {"domain": "https://june.retailcrm.ru", "api_key": "k"}
PORTAL = {"webhook_url": "https://june.bitrix24.ru/rest/1/abcdefgh/"}
PIZZA = Wanted("pizza")


@dataclass
class CrmShop(Shop):
    """With two CRMs."""

    account: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self.woken: list[IntegrationKey] = []
        self.crm = CrmPlans(
            public_url="https://gw.example", wake=lambda number, key: self.woken.append(key),
            adapters=lambda: {**integrations(), KIND: PIGEON},
        )  # fmt: skip
        feed = Feed(self.changed.append)
        self.ordering = Ordering(db=self.db, feed=feed, now=lambda: self.now, crm=self.crm)
        self.conversing = Conversing(
            db=self.db, feed=feed, wake=lambda number, key: None, now=lambda: self.now, crm=self.crm
        )

    @property
    def tenant(self) -> Tenant:
        links = (
            integration(RETAIL, {**ACCOUNT, **(self.account or {})}), integration(BITRIX, {**PORTAL, **(self.account or {})}),
            integration("retailcrm:off", ACCOUNT, enabled=False), integration("retailcrm:wrong", {"domain": "x"}),
        )  # fmt: skip
        return replace(super().tenant, integrations={one.key: one for one in links})

    async def planned(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The deliveries there are, in order."""

        async def work(conn: Connection) -> list[dict[str, Any]]:
            rows = await conn.fetch(
                "SELECT integration_type, kind, lane, subject_kind, body FROM deliveries WHERE tenant_id = $1 ORDER BY delivery_id",
                JUNE,
            )
            return [{**dict(row), "body": json.loads(row["body"])} for row in rows if kind in (None, row["kind"])]

        return await self.db.engine(work)


@pytest.fixture
async def shop(db: Any) -> CrmShop:
    made = CrmShop(db)
    await made.open()
    return made


def to(rows: list[dict[str, Any]]) -> list[str]:
    return [row["integration_type"] for row in rows]


async def test_an_order_and_its_deliveries_are_one_commit(shop: CrmShop) -> None:
    chat = await shop.client("Ivan", "+375291112233")
    made = await shop.orders(chat, kind="order", wanted=(PIZZA,))
    rows = await shop.planned("order")
    assert to(rows) == [BITRIX, RETAIL] == shop.woken, "not those that are off or set up wrongly"
    body, order = rows[0]["body"], made.seen.order
    assert (rows[0]["subject_kind"], rows[0]["lane"]) == ("order", f"contact {chat.contact}")
    assert body["client"]["phones"] == ["+375291112233"]
    assert body["order"]["total"] == "12.50"
    assert body["order"]["link"] == f"https://gw.example/t/0367/orders/{order.id}"
    await shop.ordering.change(shop.tenant, order.id, OrderChange(status="done"), author=ANNA, actor="anna")
    assert [row["body"]["order"]["status"] for row in await shop.planned("order")] == ["new", "new", "done", "done"]
    await shop.ordering.change(shop.tenant, order.id, OrderChange(status="done"), author=ANNA, actor="anna")
    assert len(await shop.planned("order")) == 4, "nothing has changed"


async def test_an_order_that_is_not_stored_is_told_to_nobody(shop: CrmShop) -> None:
    chat = await shop.client()

    async def crash(conn: Connection, ordered: Ordered) -> None:
        raise RuntimeError("the transaction ends here")

    from gateway.domain.orders import NewOrder

    new = NewOrder(kind="order", contact=chat.contact, conversation=chat.id, wanted=(PIZZA,))
    with pytest.raises(RuntimeError):
        await shop.ordering.create(shop.tenant, new, author=ANNA, actor="anna", then=crash)
    assert await shop.planned() == []
    assert shop.woken == []


async def test_a_tool_of_the_ai_names_the_orders_and_clients_that_changed(shop: CrmShop) -> None:
    chat = await shop.client("")
    made = await shop.calls(chat, "create_order", items=[{"catalog_id": "pizza", "quantity": 1}])
    ((before, after),) = made.orders
    assert before is None
    assert after.conversation == chat.id
    saved = await shop.calls(chat, "save_contact", phone="+375291112233")
    assert saved.contacts == (chat.contact,)


@pytest.mark.parametrize("off", ["sync_orders", "sync_contacts"])
async def test_what_is_switched_off_is_not_sent(shop: CrmShop, off: str) -> None:
    shop.account = {off: False}
    chat = await shop.client("Ivan", "+375291112233")
    await shop.orders(chat, kind="order", wanted=(PIZZA,))
    await shop.conversing.close(shop.tenant, chat.id, ANNA)
    kinds = {row["kind"] for row in await shop.planned()}
    assert kinds == {"order", "note"} - {"order" if off == "sync_orders" else "note"}


async def test_a_closed_chat_is_a_note_once(shop: CrmShop) -> None:
    chat = await shop.client("Ivan", "+375291112233")
    await shop.says(chat, "Have you a cake?")
    await shop.conversing.close(shop.tenant, chat.id, ANNA)
    await shop.conversing.close(shop.tenant, chat.id, ANNA)
    rows = await shop.planned()
    assert (to(rows), [row["kind"] for row in rows]) == ([BITRIX, RETAIL], ["note", "note"])
    assert "Have you a cake?" in rows[0]["body"]["text"]
    assert f"https://gw.example/t/0367/inbox/{chat.id}" in rows[0]["body"]["text"]
    assert rows[0]["subject_kind"] == "chat"


async def test_a_chat_that_is_handed_over_has_the_summary_of_the_ai(shop: CrmShop) -> None:
    chat = await shop.client("Ivan", "+375291112233")
    handing = HandingOver(tenant=shop.tenant, settings=AiBlock(), conversing=shop.conversing)

    async def work(conn: Connection) -> list[IntegrationKey]:
        known = await lock_conversation(conn, JUNE, chat.id)
        assert known is not None
        return await handing.hand_over(conn, known, "model", "", "wants a cake for Saturday")

    assert set(await shop.db.tenant(JUNE, work)) >= {BITRIX, RETAIL}
    assert [one for one in await shop.db.tenant(JUNE, work) if one in (BITRIX, RETAIL)] == [], "once"
    rows = await shop.planned("note")
    assert to(rows) == [BITRIX, RETAIL]
    assert "wants a cake for Saturday" in rows[0]["body"]["text"]


async def test_a_phone_that_becomes_known_is_told_with_the_update(shop: CrmShop) -> None:
    await shop.db.engine(_epoch)
    bells = Doorbells()

    async def put(row: PostRow) -> bool:
        return (await shop.db.engine(insert_posts, [row]))[0]

    inbox = Inbox(put, lambda number: bells.ring(number, CHATS))
    services: Any = type("S", (), {"db": shop.db, "bells": bells, "feed": Feed(), "conversing": shop.conversing})()
    bare = replace(shop.tenant, integrations={})
    actor = TenantChats(bare, services, 3, {KEY: Reads(CHANNEL, AdapterSettings())}, crms=shop.tenant.integrations)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run, Slot("tenant/0367/chats"))
        await inbox.store(JUNE, KEY, [update(1, wrote(1, "hello", person={"name": "Vera"}))], "chats")
        await _folded(shop)
        assert await shop.planned() == [], "a name alone finds nobody"
        await inbox.store(JUNE, KEY, [update(2, happened("PhoneShared", phone="+375291112233"))], "chats")
        await _folded(shop)
        rows = await shop.planned()
        assert (to(rows), {row["kind"] for row in rows}) == ([BITRIX, RETAIL], {"contact"})
        assert rows[0]["body"]["client"]["phones"] == ["+375291112233"]
        await inbox.store(JUNE, KEY, [update(3, happened("PhoneShared", phone="+375291112233"))], "chats")
        await _folded(shop)
        assert len(await shop.planned()) == 2, "nothing new"
        nursery.cancel_scope.cancel()


async def test_who_is_changed_by_hand_is_told_of_only_where_they_wrote(shop: CrmShop) -> None:
    chat = await shop.client("Ivan", "+375291112233")
    stranger = await shop.db.tenant(JUNE, contacts.insert_contact, JUNE, "Olga", ("+375291112244",), ())
    for contact in (chat.contact, stranger):
        await shop.db.tenant(JUNE, shop.crm.contact_of_chats, shop.tenant, contact)
    rows = await shop.planned()
    assert {row["body"]["client"]["name"] for row in rows} == {"Ivan"}


async def test_whoever_is_erased_leaves_nothing_to_deliver(shop: CrmShop) -> None:
    chat = await shop.client("Ivan", "+375291112233")
    await shop.orders(chat, kind="order", wanted=(PIZZA,))
    await shop.conversing.close(shop.tenant, chat.id, ANNA)
    await shop.db.tenant(JUNE, shop.crm.contact_of_chats, shop.tenant, chat.contact)
    assert {row["kind"] for row in await shop.planned()} == {"order", "note", "contact"}
    assert await shop.db.engine(erase_person, JUNE, chat.contact, "anna") is not None
    assert await shop.planned() == []


async def _epoch(conn: Connection) -> None:
    await conn.execute("UPDATE shards SET epoch = 3 WHERE shard = $1", shard_of(JUNE))


async def _pending(conn: Connection, tenant: TenantId) -> int:
    found: int = await conn.fetchval("SELECT count(*) FROM journal WHERE tenant_id = $1 AND done_at IS NULL", tenant)
    return found


async def _folded(shop: CrmShop) -> None:
    with trio.fail_after(10):
        while await shop.db.engine(_pending, JUNE):
            await trio.sleep(0.01)
