"""What people and programs do to orders: each in one transaction, then shown to the pages that are open. On any instance.

Used by `gateway/web/rest/orders.py` and the pages of orders. Read `making.py` for what is judged and stored.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from uuid import UUID

from actors.crm.plans import CrmPlans
from actors.feed import Feed
from actors.orders.making import Applied, By, NotThere, Times, change, make, times_of
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.orders import NewOrder, OrderChange
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.store import contacts, conversations
from gateway.store.conversations import lock_conversation
from gateway.store.orders import SeenOrder, select_order
from gateway.store.postgres.pool import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """Whoever orders, as a program or a person enters them: found by their numbers and addresses before they are made."""

    name: str = ""
    phones: Sequence[str] = ()
    """E.164."""
    emails: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of it."""

    seen: SeenOrder
    corrected: tuple[tuple[str, str], ...] = ()


Then = Callable[[Connection, Ordered], Awaitable[None]]
Committed = tuple[Ordered, Applied, Sequence[IntegrationKey]]
"""What a transaction gives: what came of it, what it shows on, and the integrations that have something to deliver."""


async def _nothing_more(conn: Connection, ordered: Ordered) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One for the process."""

    db: Database
    feed: Feed
    crm: CrmPlans = field(default_factory=CrmPlans)
    """What CRMs are sent of it."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def create(
        self, tenant: Tenant, new: NewOrder, *, author: str, actor: str, person: NewPerson | None = None, only: str | None = None,
        then: Then = _nothing_more,
    ) -> Ordered:  # fmt: skip
        """Makes an order for a contact, or for a `person` in its place; for that of the conversation where there is one. `then` is part
        of the transaction. An agent (`only`) orders for those whom they may see. Raises Invalid, Unavailable."""

        async def work(conn: Connection) -> Committed:
            wanted = replace(new, contact=await self._contact(conn, tenant, new, person, only))
            applied = await make(conn, tenant, wanted, By(author=author, actor=actor, now=self.now()))
            return await self._done(conn, tenant, applied, then)

        return self._show(tenant, *await self.db.tenant(tenant.number, work))

    async def change(
        self, tenant: Tenant, order: UUID, wish: OrderChange, *, author: str, actor: str, expected_version: int | None = None,
        only: str | None = None,
    ) -> Ordered:  # fmt: skip
        """Changes an order that the caller (an agent: `only`) may see. Raises NotThere, Stale, Invalid, Unavailable."""

        async def work(conn: Connection) -> Committed:
            seen = await select_order(conn, tenant.number, order, only)
            if seen is None:
                raise NotThere
            if seen.order.conversation is not None:
                await lock_conversation(conn, tenant.number, seen.order.conversation)
            by = By(author=author, actor=actor, now=self.now())
            applied = await change(conn, tenant, order, wish, by, expected_version=expected_version)
            return await self._done(conn, tenant, applied, _nothing_more)

        return self._show(tenant, *await self.db.tenant(tenant.number, work))

    async def free_times(self, tenant: Tenant, item: str, day: date, party: int | None = None) -> Times:
        """The free times of an item on a day of the company's zone. Raises Invalid, Unavailable."""
        return await self.db.tenant(tenant.number, times_of, tenant, item, day, self.now(), party)

    async def _contact(
        self, conn: Connection, tenant: Tenant, new: NewOrder, person: NewPerson | None, only: str | None
    ) -> UUID:  # fmt: skip
        number = tenant.number
        if new.conversation is not None:
            known = await lock_conversation(conn, number, new.conversation)
            if known is None or (only is not None and known.owner not in ("queue", "none", only)):
                raise Invalid((("conversation", Bilingual("there is no such conversation", "такого диалога нет")),))
            return known.contact
        if person is None:
            found = await contacts.select_contact(conn, number, new.contact)
            if found is None or (only is not None and not await _sees(conn, number, found.id, only)):
                raise Invalid((("contact", Bilingual("there is no such contact", "такого контакта нет")),))
            return found.id
        if (same := await contacts.find_contact(conn, number, person.phones, person.emails)) is not None:
            return same
        return await contacts.insert_contact(conn, number, person.name, person.phones, person.emails)

    async def _done(self, conn: Connection, tenant: Tenant, applied: Applied, then: Then) -> Committed:
        seen = await select_order(conn, tenant.number, applied.order.id)
        assert seen is not None
        ordered = Ordered(seen, applied.corrected)
        woken = await self.crm.orders(conn, tenant, applied.orders)
        await then(conn, ordered)
        return ordered, applied, woken

    def _show(self, tenant: Tenant, ordered: Ordered, applied: Applied, woken: Sequence[IntegrationKey]) -> Ordered:
        for subject in applied.subjects:
            self.feed.publish(tenant.number, subject)
        self.crm.woken(tenant, woken)
        return ordered


async def _sees(conn: Connection, number: TenantId, contact: UUID, only: str) -> bool:
    """Whether an agent sees a conversation of a person."""
    chats = await conversations.select_conversations_of_contact(conn, number, contact)
    return any(one.conversation.owner in ("queue", "none", only) for one in chats)
