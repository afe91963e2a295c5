"""Deliveries to CRMs about clients, chats and orders: planned within the transaction that changes these, as calls plan theirs.

    a client's phone becomes known     contacts --+
    a chat is closed or handed over    chat ------+--> planners of the company's CRMs --> deliveries, in the same commit
    an order is made or changes        orders ----+

Every method takes the caller's connection and returns the integrations that have something to deliver: to be woken once it is committed.
Contacts no outside system. Read `adapters/crm_drafts.py` for what is sent, `actors/delivery/worker.py` for how.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from adapters.base import Adapter, AdapterSettings, Draft
from adapters.registry import integrations
from gateway.domain.chats import AI, CLIENT, SYSTEM, Conversation, is_human
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.crm_facts import ChatCause, ChatFacts, ChatLine, ClientFacts, LineAuthor, OrderFacts
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of, titled
from gateway.domain.orders import Order
from gateway.domain.subjects import Subject
from gateway.domain.text import texts_of
from gateway.store.contacts import Contact, select_contact
from gateway.store.conversations import select_conversation, select_conversations_of_contact, select_happenings
from gateway.store.messages import StoredMessage, insert_deliveries, select_messages
from gateway.store.outbox import DeliveryRow
from gateway.store.postgres.pool import Connection

log = logging.getLogger(__name__)

MOST_LINES = 30
"""Messages that a note may hold."""
LONGEST_LINE = 300
"""Characters of each."""
OrderChanged = tuple[Order | None, Order]
"""An order before, None where it was made, and after."""


@dataclass(frozen=True, slots=True)
class Crm:
    """One CRM of a company, switched on and with valid settings."""

    key: IntegrationKey
    adapter: Adapter
    settings: Any


@dataclass(frozen=True, kw_only=True)
class CrmPlans:
    """One for the process."""

    public_url: str = ""
    """What links of ours begin with; empty where it is not known."""
    wake: Callable[[TenantId, IntegrationKey], None] = lambda tenant, key: None
    """Tells the delivery actor of an integration that there is something to deliver, wherever it lives."""
    adapters: Callable[[], Mapping[Kind, Adapter]] = field(default=integrations)

    def crms(self, tenant: Tenant) -> list[Crm]:
        """A company's, by key. `tenant` as the configuration has it, with its integrations."""
        found = []
        for key, link in sorted(tenant.integrations.items()):
            adapter = self.adapters().get(kind_of(key))
            plans = adapter is not None and any((adapter.plan_contact, adapter.plan_chat, adapter.plan_order))
            if adapter is None or not plans or not link.enabled:
                continue
            if (settings := _settings(adapter.settings, _Same(link))) is not None:
                found.append(Crm(key, adapter, settings))
        return found

    def woken(self, tenant: Tenant, keys: Collection[IntegrationKey]) -> None:
        """What was planned is committed."""
        for key in keys:
            self.wake(tenant.number, key)

    async def contacts(self, conn: Connection, tenant: Tenant, contacts: Collection[UUID]) -> list[IntegrationKey]:
        """Of these contacts something has become known."""
        crms = [one for one in self.crms(tenant) if one.adapter.plan_contact is not None and one.settings.sync_contacts]
        rows = list[DeliveryRow]()
        for ident in sorted(contacts) if crms else ():
            if (client := await self._client(conn, tenant, ident)) is None:
                continue
            for one in crms:
                assert one.adapter.plan_contact is not None
                drafts = one.adapter.plan_contact(one.settings, tenant, client)
                rows += _rows(one.key, Subject("contact", client.id), drafts)
        return await _stored(conn, tenant.number, rows)

    async def contact_of_chats(self, conn: Connection, tenant: Tenant, contact: UUID) -> list[IntegrationKey]:
        """The same for somebody whom people have changed by hand: of those who never wrote, CRMs are told nothing."""
        if not await select_conversations_of_contact(conn, tenant.number, contact):
            return []
        return await self.contacts(conn, tenant, [contact])

    async def chat(
        self, conn: Connection, tenant: Tenant, chat: Conversation, cause: ChatCause, *, summary: str = "", employee: str = ""
    ) -> list[IntegrationKey]:  # fmt: skip
        """A conversation was closed by somebody, or handed over. One without a message is nobody's business."""
        crms = [one for one in self.crms(tenant) if one.adapter.plan_chat is not None and one.settings.sync_contacts]
        if not crms or not chat.last_seq:
            return []
        facts = await self._chat(conn, tenant, chat, cause, summary, employee)
        rows = list[DeliveryRow]()
        for one in crms if facts is not None else ():
            assert facts is not None
            assert one.adapter.plan_chat is not None
            rows += _rows(one.key, Subject("chat", str(chat.id)), one.adapter.plan_chat(one.settings, tenant, facts))
        return await _stored(conn, tenant.number, rows)

    async def orders(self, conn: Connection, tenant: Tenant, changed: Sequence[OrderChanged]) -> list[IntegrationKey]:
        """Orders were made or have changed."""
        crms = [one for one in self.crms(tenant) if one.adapter.plan_order is not None and one.settings.sync_orders]
        rows = list[DeliveryRow]()
        for before, after in changed if crms else ():
            facts = await self._order(conn, tenant, after)
            for one in crms:
                assert one.adapter.plan_order is not None
                drafts = one.adapter.plan_order(one.settings, tenant, before, facts)
                rows += _rows(one.key, Subject("order", str(after.id)), drafts)
        return await _stored(conn, tenant.number, rows)

    # Facts.

    async def _client(self, conn: Connection, tenant: Tenant, contact: UUID) -> ClientFacts | None:
        found = await select_contact(conn, tenant.number, contact)
        return self.client_facts(tenant, found) if found is not None else None

    def client_facts(self, tenant: Tenant, found: Contact) -> ClientFacts:
        """A contact as CRMs are told of it."""
        return ClientFacts(
            id=str(found.id), name=found.name, phones=tuple(one.phone for one in found.phones), emails=found.emails,
            link=self._link(tenant, f"customers/{found.id}"),
        )  # fmt: skip

    async def order_facts(self, conn: Connection, tenant: Tenant, order: Order) -> OrderFacts:
        """An order as CRMs are told of it."""
        return await self._order(conn, tenant, order)

    async def _order(self, conn: Connection, tenant: Tenant, order: Order) -> OrderFacts:
        client = await self._client(conn, tenant, order.contact) or ClientFacts(id=str(order.contact))
        seen = (
            await select_conversation(conn, tenant.number, order.conversation)
            if order.conversation is not None
            else None
        )
        channel = self._channel(tenant, seen.conversation.integration) if seen is not None else ""
        return OrderFacts(order=order, client=client, link=self._link(tenant, f"orders/{order.id}"), channel=channel)

    async def chat_facts(
        self, conn: Connection, tenant: Tenant, chat: Conversation, cause: ChatCause = "closed"
    ) -> ChatFacts | None:
        """A conversation as CRMs are told of it; None where its client is gone."""
        return await self._chat(conn, tenant, chat, cause, "", "")

    async def _chat(
        self, conn: Connection, tenant: Tenant, chat: Conversation, cause: ChatCause, summary: str, employee: str
    ) -> ChatFacts | None:
        number = tenant.number
        client = await self._client(conn, tenant, chat.contact)
        last = await select_messages(conn, number, chat.id, MOST_LINES, before=chat.last_seq + 1)
        first = await select_messages(conn, number, chat.id, 1)
        if client is None or not last:
            return None
        again = await select_happenings(conn, number, chat.id, ["reopened"], 1)
        began = again[-1].at if again else first[0].at
        lines = tuple(_line(one) for one in last if one.at >= began)
        return ChatFacts(
            id=str(chat.id), stretch=chat.last_seq, cause=cause, integration=chat.integration,
            channel=self._channel(tenant, chat.integration), username=chat.username, began_at=began,
            ended_at=last[-1].at, messages=chat.last_seq, employee=employee, summary=summary, lines=lines,
            link=self._link(tenant, f"inbox/{chat.id}"), client=client,
        )  # fmt: skip

    def _channel(self, tenant: Tenant, key: IntegrationKey) -> str:
        adapter = self.adapters().get(kind_of(key))
        return texts_of(titled(adapter.title, key) if adapter is not None else key)[tenant.language]

    def _link(self, tenant: Tenant, place: str) -> str:
        return f"{self.public_url.rstrip('/')}/t/{tenant.number}/{place}" if self.public_url else ""


class _Same:
    """A connection of a snapshot, equal to itself alone: its settings hold maps and cannot be hashed."""

    def __init__(self, link: Connector) -> None:
        self.link = link

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.link is other.link

    def __hash__(self) -> int:
        return id(self.link)


@lru_cache(maxsize=1000)
def _settings(model: type[AdapterSettings], same: _Same) -> AdapterSettings | None:
    """Valid settings, read once for each version of the configuration."""
    try:
        return model.model_validate(dict(same.link.settings))
    except ValidationError:
        return None


def _line(message: StoredMessage) -> ChatLine:
    author: LineAuthor = "employee"
    if message.author in (CLIENT, AI, SYSTEM):
        author = "client" if message.author == CLIENT else "ai" if message.author == AI else "system"
    elif not is_human(message.author) and message.direction == "in":
        author = "client"
    files = " ".join(f"[{one.name or one.kind}]" for one in message.files)
    text = " ".join(f"{message.text} {files}".split())
    return ChatLine(
        at=message.at, author=author, text=text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"
    )


def _rows(key: IntegrationKey, subject: Subject, drafts: Sequence[Draft]) -> Iterator[DeliveryRow]:
    for draft in drafts:
        yield DeliveryRow(
            integration=key, lane=draft.lane or str(subject), key=draft.key, kind=draft.kind, bucket=draft.bucket, subject=subject,
            body=json.dumps(dict(draft.body), ensure_ascii=False), latest_only=False, expires_s=draft.expires_s, keep_s=draft.keep_s,
        )  # fmt: skip


async def _stored(conn: Connection, number: TenantId, rows: Sequence[DeliveryRow]) -> list[IntegrationKey]:
    if rows:
        await insert_deliveries(conn, number, rows)
    return list(dict.fromkeys(row.integration for row in rows))
