"""Field mapping tried on what there really is: which fields a CRM would get of a call, a client, an order or a chat. Sends nothing.

Used by the page of fields and by REST. Read `adapters/mapping.py` for the rules, `plans.py` for the facts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from actors.crm.plans import CrmPlans
from adapters.abilities import CrmField
from adapters.mapping import MappingRule, mapped
from gateway.domain.configuration import Tenant
from gateway.domain.crm_sources import Facts, Value, When, value_of
from gateway.store.call_pages import Filters as CallFilters
from gateway.store.call_pages import search_calls, select_call
from gateway.store.contacts import search_contacts, select_contact
from gateway.store.conversations import Filters, select_conversation, select_conversations
from gateway.store.orders import OrderFilter, select_order, select_orders
from gateway.store.postgres.pool import Connection

LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Written:
    """What one rule would write."""

    rule: MappingRule
    source: Value | None
    """The source's value; None where it is not known."""
    value: Value | None
    """What the CRM would get; None: nothing."""
    problem: str = ""
    """`no_field`: the CRM has no such field; `no_value`: no such value in its list; empty: none, or its fields are not known."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What would be written of one thing."""

    subject: str
    """What it is known by: the call's id, the order's number, a name."""
    written: Sequence[Written]


async def trial(
    conn: Connection, crm: CrmPlans, tenant: Tenant, rules: Sequence[MappingRule], when: When, ident: str,
    fields: Sequence[CrmField] | None = None,
) -> Trial | None:  # fmt: skip
    """What rules would write of a thing, or of the newest where `ident` is empty; None where there is no such thing. With the CRM's
    `fields`, what it would not take is named."""
    found = await _facts(conn, crm, tenant, when, ident.strip()[:LONGEST_ID])
    if found is None:
        return None
    subject, facts = found
    values = mapped(rules, when, facts, tenant)
    known = {one.name: one for one in fields} if fields is not None else None
    return Trial(
        subject,
        [
            Written(
                rule, value_of(when, rule.from_, facts, tenant), values.get(rule.to), _problem(rule, values, known)
            )
            for rule in rules if rule.when == when
        ],
    )  # fmt: skip


def _problem(rule: MappingRule, values: Mapping[str, Value], known: Mapping[str, CrmField] | None) -> str:
    if known is None:
        return ""
    field = known.get(rule.to)
    if field is None:
        return "no_field"
    allowed = {one.value for one in field.values}
    return "no_value" if allowed and rule.to in values and str(values[rule.to]) not in allowed else ""


async def _facts(conn: Connection, crm: CrmPlans, tenant: Tenant, when: When, ident: str) -> tuple[str, Facts] | None:
    number, uuid = tenant.number, _uuid(ident)
    match when:
        case "call":
            if ident:
                found = await select_call(conn, number, ident)
                return (ident, found[1]) if found is not None else None
            calls = await search_calls(conn, number, CallFilters(), most=1)
            return (calls[0].call_id, calls[0]) if calls else None
        case "contact":
            if uuid is not None:
                contact = await select_contact(conn, number, uuid)
                people = [contact] if contact is not None else []
            else:
                people = await search_contacts(conn, number, ident, 1, texts=False)
            return (people[0].name, crm.client_facts(tenant, people[0])) if people else None
        case "order":
            if uuid is not None:
                seen = await select_order(conn, number, uuid)
                orders = [seen] if seen is not None else []
            else:
                orders = await select_orders(conn, number, OrderFilter(q=ident), 1)
            return (
                (str(orders[0].order.number), await crm.order_facts(conn, tenant, orders[0].order)) if orders else None
            )
    if uuid is not None:
        one = await select_conversation(conn, number, uuid)
        chats = [one] if one is not None else []
    else:
        chats = await select_conversations(conn, number, Filters(q=ident, texts=False), 1)
    facts = await crm.chat_facts(conn, tenant, chats[0].conversation) if chats else None
    return (chats[0].contact_name, facts) if facts is not None else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None
