"""What CRMs are sent of clients, chats and orders: the drafts that are the same for all of them, mapped fields and all. Sends nothing.

    contact   {client, fields}                             one for each state of what is known
    note      {client, client_fields, title, text, token}  of a chat that is closed or handed over
    order     {client, client_fields, order, fields}       of each version of an order

A CRM's planners are these, or begin with them. All drafts of one client share a lane, so that the client is looked for by one of them
at a time. `client_of` reads a body back. Ids of a client are remembered under `client_subject`, whatever the draft is about.
Read `actors/crm/plans.py` for who plans, `adapters/mapping.py` for the fields.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.base import Attempt, Draft
from adapters.crm_settings import CrmSettings
from adapters.mapping import mapped
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ChatFacts, ClientFacts, LineAuthor, OrderFacts
from gateway.domain.currency import minor_digits
from gateway.domain.order_texts import order_text
from gateway.domain.orders import Order, delivery_text, exact_quantity
from gateway.domain.subjects import Subject

CONTACT, NOTE, ORDER = "contact", "note", "order"
"""Kinds of drafts."""
KEEP_S = 48 * 3600.0
CLIENT_ID = "contact"
"""The name under which a client's record in the CRM is remembered."""
VERSION = "version"
"""The name under which the version that was delivered last is remembered."""
LONGEST_NOTE = 6000
"""Characters of a note; the oldest lines go first."""
LONGEST_NAME = 100
"""Characters of a name that every CRM takes."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "closed": "Chat in {channel} closed", "handed_over": "Chat in {channel} handed over to a person", "by": "By: {who}",
        "when": "{began} – {ended}, messages: {count}", "summary": "Summary: {text}", "last": "Last messages:", "client": "Client",
        "ai": "AI", "employee": "Employee", "system": "System", "open": "The whole chat: {link}", "nobody": "Client of {channel}",
        "order": "Order no. {number}", "booking": "Booking no. {number}", "request": "Request no. {number}",
    },
    "ru": {
        "closed": "Чат в {channel} закрыт", "handed_over": "Чат в {channel} передан сотруднику", "by": "Закрыл: {who}",
        "when": "{began} – {ended}, сообщений: {count}", "summary": "Кратко: {text}", "last": "Последние сообщения:", "client": "Клиент",
        "ai": "ИИ", "employee": "Сотрудник", "system": "Система", "open": "Весь чат: {link}", "nobody": "Клиент из {channel}",
        "order": "Заказ № {number}", "booking": "Бронирование № {number}", "request": "Заявка № {number}",
    },
}  # fmt: skip


def plan_contact(settings: CrmSettings, tenant: Tenant, client: ClientFacts) -> Sequence[Draft]:
    """The client, once there is something to find them by."""
    if not client.reachable:
        return ()
    body = {"client": client_body(client), "fields": mapped(settings.mapping, "contact", client, tenant)}
    return (Draft(kind=CONTACT, key=f"{_lane(client)}:{_digest(body)}", lane=_lane(client), body=body, keep_s=KEEP_S),)


def plan_chat(settings: CrmSettings, tenant: Tenant, chat: ChatFacts) -> Sequence[Draft]:
    """A note of the client. One whose chat knows neither phone nor e-mail is made by the name, so that the note has its place."""
    text, title = note_text(tenant, chat)
    body = {
        "client": client_body(_named(chat.client, tenant, chat)), "title": title, "text": text, "token": f"chat {chat.id} {chat.stretch}",
        "client_fields": {
            **mapped(settings.mapping, "contact", chat.client, tenant), **mapped(settings.mapping, "chat", chat, tenant),
        },
    }  # fmt: skip
    return (
        Draft(
            kind=NOTE, key=f"chat {chat.id} {chat.stretch} {chat.cause}", lane=_lane(chat.client), body=body, keep_s=KEEP_S
        ),
    )  # fmt: skip


def plan_order(settings: CrmSettings, tenant: Tenant, before: Order | None, facts: OrderFacts) -> Sequence[Draft]:
    """The order as it stands; a change of nothing that a CRM is told of is not sent."""
    order = facts.order
    fields = mapped(settings.mapping, "order", facts, tenant)
    if before is not None:
        earlier = replace(facts, order=before)
        same = {**order_body(tenant, earlier), "version": order.version} == order_body(tenant, facts)
        if same and mapped(settings.mapping, "order", earlier, tenant) == fields:
            return ()
    body = {
        "client": client_body(facts.client), "client_fields": mapped(settings.mapping, "contact", facts.client, tenant),
        "order": order_body(tenant, facts), "fields": fields,
    }  # fmt: skip
    key = f"order {order.id} {order.version}"
    return (Draft(kind=ORDER, key=key, lane=_lane(facts.client), body=body, keep_s=KEEP_S),)


def client_body(client: ClientFacts) -> dict[str, Any]:
    """A client as drafts hold them."""
    return {
        "id": client.id, "name": client.name[:LONGEST_NAME], "phones": list(client.phones), "emails": list(client.emails), "link": client.link,
    }  # fmt: skip


def client_of(body: Mapping[str, Any]) -> ClientFacts:
    """The client of a draft."""
    one = body["client"]
    return ClientFacts(
        id=one["id"], name=one["name"], phones=tuple(one["phones"]), emails=tuple(one["emails"]), link=one["link"]
    )


def client_subject(client: ClientFacts) -> Subject:
    """Whose external ids are a client's, whatever the delivery is about."""
    return Subject("contact", client.id)


def order_body(tenant: Tenant, facts: OrderFacts) -> dict[str, Any]:
    """An order as drafts hold it. Amounts are texts, exact; times ISO 8601 in the company's zone."""
    order = facts.order
    starts = order.starts_at.astimezone(tenant.timezone).isoformat(timespec="seconds") if order.starts_at else None
    return {
        "id": str(order.id), "number": order.number, "kind": order.kind, "status": order.status, "version": order.version,
        "title": _WORDS[tenant.language][order.kind].format(number=order.number), "total": f"{order.total:f}", "currency": order.currency,
        "digits": minor_digits(order.currency),
        "lines": [
            {"id": line.catalog_id, "name": line.name, "quantity": exact_quantity(line.quantity), "price": f"{line.price:f}"} for line in order.lines
        ],
        "text": order_text(order, tenant.timezone, tenant.language), "comment": order.comment, "delivery": delivery_text(order.delivery),
        "starts_at": starts, "party": order.party, "phone": order.call_phone or "", "link": facts.link, "channel": str(facts.channel),
        "created_at": order.created_at.astimezone(tenant.timezone).isoformat(timespec="seconds"),
    }  # fmt: skip


async def is_overtaken(attempt: Attempt) -> bool:
    """Whether a later version of the order is there already: one that failed and is sent again must not take it back."""
    known = await attempt.known(VERSION)
    return known is not None and int(known) > int(attempt.body["order"]["version"])


async def is_there(attempt: Attempt) -> None:
    """Notes that the CRM has the order in this version."""
    await attempt.remember(VERSION, str(attempt.body["order"]["version"]))


def note_text(tenant: Tenant, chat: ChatFacts) -> tuple[str, str]:
    """What a note says of a chat, and its first line: who, where, when, what was said last, and where to read the rest."""
    words = _WORDS[tenant.language]
    title = words[chat.cause].format(channel=chat.channel)
    began, ended = (
        moment.astimezone(tenant.timezone).strftime("%d.%m.%Y %H:%M") for moment in (chat.began_at, chat.ended_at)
    )
    head = [title, words["when"].format(began=began, ended=ended, count=chat.messages)]
    if chat.employee:
        head.append(words["by"].format(who=chat.employee))
    if chat.summary:
        head.append(words["summary"].format(text=chat.summary))
    tail = [words["open"].format(link=chat.link)] if chat.link else []
    room = LONGEST_NOTE - sum(len(one) + 1 for one in (*head, *tail, words["last"]))
    lines: list[str] = []
    for line in reversed(chat.lines):
        said = f"{line.at.astimezone(tenant.timezone):%H:%M} {_author(words, line.author)}: {line.text}"
        if (room := room - len(said) - 1) < 0:
            break
        lines.insert(0, said)
    return "\n".join([*head, *([words["last"], *lines] if lines else []), *tail]), title


def _author(words: Mapping[str, str], author: LineAuthor) -> str:
    return words[author]


def _named(client: ClientFacts, tenant: Tenant, chat: ChatFacts) -> ClientFacts:
    """The client with some name: what the messenger calls them, or where they come from."""
    name = client.name or chat.username or _WORDS[tenant.language]["nobody"].format(channel=chat.channel)
    return replace(client, name=name)


def _lane(client: ClientFacts) -> str:
    return f"contact {client.id}"


def _digest(body: Mapping[str, Any]) -> str:
    plain = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:32]
