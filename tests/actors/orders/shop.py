"""A company with a catalog and clients who write to it, for the tests of orders: on a real PostgreSQL, without a messenger."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from actors.ai.tool import Bound, Outcome
from actors.ai.tools import all_tools
from actors.feed import Feed
from actors.orders.making import By, make
from actors.orders.ordering import Ordered, Ordering
from gateway.domain.ai import AiBlock
from gateway.domain.catalog import Item
from gateway.domain.chats import AI, CLIENT, OWNER_AI, Conversation, NewMessage
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.orders import NewOrder, Order
from gateway.domain.profile import Profile
from gateway.store import contacts, conversations, messages
from gateway.store.audit import AuditLine, select_audit
from gateway.store.business_profiles import upsert_profile
from gateway.store.catalog_items import upsert_items
from gateway.store.orders import OrderFilter, SeenOrder, lock_order, select_order, select_orders
from gateway.store.postgres.pool import Connection, Database

JUNE, MAY = TenantId("0367"), TenantId("0368")
NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
"""Tuesday noon in Minsk."""
ANNA = "human:7c9e6679-7425-40de-944b-e07fc1f90ae7"
WEEK = {"working_hours": [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "10:00", "to": "22:00"}]}
GOODS: tuple[Mapping[str, Any], ...] = (
    {"id": "pizza", "name": "Margherita", "price": "12.50"},
    {"id": "tea", "name": "Tea", "price": "3.00"},
    {"id": "off", "name": "Borscht", "price": "5.00", "available": False},
    {
        "id": "table",
        "name": "Table",
        "price": "0.00",
        "attributes": {"capacity": 1, "duration_min": 90, "slot_min": 30, "seats": 4},
    },
    {"id": "class", "name": "Class", "price": "20.00", "attributes": {"capacity": 5, "capacity_unit": "people"}},
    {"id": "visit", "name": "Visit", "price": "0.00"},
)
COMPANY = "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, $1, 'Europe/Minsk', 'BY', 'ru', 'a:' || $1 || ':c')"


@dataclass
class Shop:
    """A company, and what was announced of it."""

    db: Database
    number: TenantId = JUNE
    options: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = NOW
    changed: list[str] = field(default_factory=list)
    ai: AiBlock = field(default_factory=AiBlock)

    def __post_init__(self) -> None:
        self.ordering = Ordering(db=self.db, feed=Feed(self.changed.append), now=lambda: self.now)

    @property
    def tenant(self) -> Tenant:
        return Tenant(self.number, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", options=self.options)

    async def open(self, goods: tuple[Mapping[str, Any], ...] = GOODS, profile: Mapping[str, Any] = WEEK) -> "Shop":
        """Stores the company, its profile and its catalog."""

        async def work(conn: Connection) -> None:
            await conn.execute(COMPANY, self.number)

        await self.db.engine(work)
        await self.db.tenant(self.number, upsert_profile, self.number, Profile.model_validate(profile))
        await self.stock(*goods)
        return self

    async def stock(self, *goods: Mapping[str, Any]) -> None:
        items = [Item.model_validate({"currency": "BYN", **one}) for one in goods]
        await self.db.tenant(self.number, upsert_items, self.number, items)

    async def client(self, name: str = "Ivan", *phones: str, owner: str = OWNER_AI) -> Conversation:
        """Somebody who has written once."""
        person = await self.db.tenant(self.number, contacts.insert_contact, self.number, name, phones, ())
        made = Conversation(
            id=uuid4(), integration=IntegrationKey("telegram"), address=str(uuid4()), contact=person, owner=owner
        )
        assert await self.db.tenant(self.number, conversations.insert_conversation, self.number, made)
        await self.says(made, "hello")
        return made

    async def says(self, chat: Conversation, text: str, *, ours: bool = False, status: Any = "sent") -> None:
        """A message of the client, or of ours."""

        async def work(conn: Connection) -> None:
            known = await conversations.lock_conversation(conn, self.number, chat.id)
            assert known is not None
            message = NewMessage(
                id=uuid4(), conversation=chat.id, seq=known.last_seq + 1, direction="out" if ours else "in", author=AI if ours else CLIENT,
                text=text, at=self.now, status=status if ours else None,
            )  # fmt: skip
            await messages.insert_message(conn, self.number, message, known.integration, known.address, ())
            await conversations.update_conversation(
                conn, self.number, replace(known, last_seq=message.seq, last_message_at=self.now)
            )

        await self.db.tenant(self.number, work)

    async def calls(self, chat: Conversation, name: str, **arguments: Any) -> Outcome:
        """The model calls a tool in a conversation. Raises Refused."""
        tool = all_tools()[name]
        given = tool.arguments.model_validate(arguments)

        async def work(conn: Connection) -> Outcome:
            known = await conversations.lock_conversation(conn, self.number, chat.id)
            assert known is not None
            bound = Bound(
                tenant=self.tenant, conversation=known, person=chat.contact, settings=self.ai, language="en", key=str(uuid4()),
                now=self.now,
            )  # fmt: skip
            return await tool.run(conn, bound, given)

        return await self.db.tenant(self.number, work)

    async def by_client(self, chat: Conversation, **wish: Any) -> Order:
        """An order that waits for its client's word."""
        new = NewOrder(contact=chat.contact, conversation=chat.id, **wish)
        applied = await self.db.tenant(
            self.number, make, self.tenant, new, By(author=AI, actor=AI, now=self.now, said_after=0)
        )
        return applied.order

    async def orders(self, chat: Conversation, **wish: Any) -> Ordered:
        """An order that somebody of the company enters."""
        new = NewOrder(contact=chat.contact, conversation=chat.id, **wish)
        return await self.ordering.create(self.tenant, new, author=ANNA, actor="anna@june.example")

    async def all(self, **wanted: Any) -> list[SeenOrder]:
        return await self.db.tenant(self.number, select_orders, self.number, OrderFilter(**wanted), 1000)

    async def one(self, ident: UUID) -> Order:
        found = await self.db.tenant(self.number, lock_order, self.number, ident)
        assert found is not None
        return found

    async def seen(self, ident: UUID, only: str | None = None) -> SeenOrder | None:
        return await self.db.tenant(self.number, select_order, self.number, ident, only)

    async def audit(self) -> list[AuditLine]:
        return await self.db.tenant(self.number, select_audit, self.number, None, 1000)

    async def beside(self, chat: Conversation) -> list[tuple[str, str, str]]:
        found = await self.db.tenant(self.number, conversations.select_happenings, self.number, chat.id)
        return [(one.kind, one.author, one.text) for one in found]
