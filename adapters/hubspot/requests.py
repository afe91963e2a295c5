"""The requests of HubSpot's CRM: where each goes and what stands in it. Pure. Names and values as HubSpot writes them.

All values of properties are texts on the wire. `associations` is required when something is made, so an empty list stands where there
are none. Read `codec.py` for the answers.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from typing import Any

from adapters.hubspot.codec import identifier, items, mapping, properties, text
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.events import Direction, Result
from gateway.domain.ids import utc_from_text
from gateway.domain.numbers import outside, spellings

OBJECTS = "/crm/v3/objects"
"""One prefix for all: HubSpot moves to dated ones."""
PROPERTIES = "/crm/v3/properties"
CALLS, CONTACTS, TASKS, NOTES, DEALS, ITEMS = "calls", "contacts", "tasks", "notes", "deals", "line_items"
OWNERS, DETAILS, OUTCOMES, PIPELINES = (
    "/crm/v3/owners", "/account-info/v3/details", "/calling/v1/dispositions", "/crm/v3/pipelines/deals",
)  # fmt: skip
GROUP = "telephony_gateway"
"""The group of the properties that we make."""
TO_CONTACT = {CALLS: 194, TASKS: 204, NOTES: 202, DEALS: 3}
"""Association types that HubSpot defines, from something to a contact."""
ITEM_TO_DEAL = 20
OWNER, START = "hubspot_owner_id", "hs_timestamp"
CONTACT_PROPERTIES = ("firstname", "lastname", "phone", "mobilephone", "email", OWNER)
MOST_FOUND = 100
_MOST_VALUES = 20
_STATUS = {
    Result.ANSWERED: "COMPLETED",
    Result.MISSED: "NO_ANSWER",
    Result.NO_ANSWER: "NO_ANSWER",
    Result.BUSY: "BUSY",
    Result.CANCELLED: "CANCELED",
    Result.FAILED: "FAILED",
}
_OUTCOME = {
    Result.ANSWERED: "connected",
    Result.BUSY: "busy",
    Result.NO_ANSWER: "no answer",
    Result.MISSED: "no answer",
}
LONGEST_TITLE, LONGEST_TEXT = 250, 60_000
OUR_SKU = "gw-"


def path(kind: str, number: str = "") -> str:
    """The address of a kind of objects, or of one of them."""
    return f"{OBJECTS}/{kind}/{number}" if number else f"{OBJECTS}/{kind}"


def associated(kind: str, contact: str) -> list[dict[str, Any]]:
    """With whom it is; nobody is an empty list."""
    if not contact:
        return []
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": TO_CONTACT[kind]}]
    return [{"to": {"id": contact}, "types": types}]


# Calls -------------------------------------------------------------------------------------------------------------------


def call(
    body: Mapping[str, Any], settings: HubSpotSettings, *, owner: str, contact: str, missed_status: str,
    outcomes: Mapping[str, str], fields: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A call that is over. Durations are milliseconds here."""
    result, incoming = Result(body["result"]), body["direction"] == Direction.INCOMING
    phone, ours = str(body["phone"]), str(body["ours"])
    outcome = "" if body["missed"] and result is Result.CANCELLED else outcomes.get(_OUTCOME.get(result, ""), "")
    given = {
        START: milliseconds(body["started"]),
        "hs_call_direction": "INBOUND" if incoming else "OUTBOUND",
        "hs_call_duration": str(int(body["talk_ms"])),
        "hs_call_from_number": phone if incoming else ours,
        "hs_call_to_number": ours if incoming else phone,
        "hs_call_status": missed_status if body["missed"] else _STATUS[result],
        "hs_call_disposition": outcome,
        "hs_call_title": str(body["title"])[:LONGEST_TITLE],
        "hs_call_body": str(body["text"])[:LONGEST_TEXT],
        OWNER: owner,
        **({"hs_call_source": "INTEGRATIONS_PLATFORM"} if settings.recordings == "link" else {}),
        **as_texts(fields),
    }
    return {
        "properties": {name: value for name, value in given.items() if value},
        "associations": associated(CALLS, contact),
    }


def with_link(notes: str, link: str, language: str) -> str:
    """The notes of a call with the link to its recording, once."""
    if escape(link) in notes:
        return notes
    title = "Запись разговора" if language == "ru" else "Recording"
    return "<br>".join(filter(None, (notes, f'<a href="{escape(link)}">{title}</a>')))


def milliseconds(moment: str) -> str:
    """A moment of an event as HubSpot counts it: milliseconds since 1970."""
    return str(round(utc_from_text(moment).astimezone(UTC).timestamp() * 1000))


def calls_by_key(name: str, key: str) -> dict[str, Any]:
    """The call with our id, where only a search can find it."""
    return _search([[_filter(name, "EQ", key)]], (name,))


def calls_at(body: Mapping[str, Any]) -> dict[str, Any]:
    """The calls of one moment."""
    wanted = (START, "hs_call_from_number", "hs_call_to_number")
    return _search([[_filter(START, "EQ", milliseconds(body["started"]))]], wanted, limit=MOST_FOUND)


def same_call(record: Any, body: Mapping[str, Any]) -> bool:
    """Whether a call of the same moment is this one, by its numbers."""
    found, incoming = properties(record), body["direction"] == Direction.INCOMING
    return text(found.get("hs_call_from_number" if incoming else "hs_call_to_number")) == str(body["phone"])


# Contacts ----------------------------------------------------------------------------------------------------------------


def contacts_of(phone: str, country: str) -> dict[str, Any]:
    """Whose number it is. HubSpot's searchable numbers hold digits without the country's code, or what it could make of a free
    text, so their end is compared; the free texts are compared with every spelling but those with a plus, which find nothing."""
    spelled = spellings(phone, country)
    plain = [one for one in spelled if one.isascii() and one.isdigit()]
    shortest = min(plain, key=len, default="")
    groups = [
        [_filter(name, "CONTAINS_TOKEN", f"*{shortest}")]
        for name in ("hs_searchable_calculated_phone_number", "hs_searchable_calculated_mobile_number")
        if len(shortest) >= 3
    ]
    values = [one.lower() for one in spelled if "+" not in one][:_MOST_VALUES]
    groups += [
        [{"propertyName": name, "operator": "IN", "values": values}] for name in ("phone", "mobilephone") if values
    ]
    return _search(groups, CONTACT_PROPERTIES, limit=MOST_FOUND)


def best(found: Sequence[Any], phone: str, country: str) -> Mapping[str, Any] | None:
    """The contact to take of those that a search found: of those whose number it really is, the first that was made."""
    matching = [
        mapping(one) for one in found
        if identifier(mapping(one).get("id"))
        and any(has_number(text(properties(one).get(name)), phone, country) for name in ("phone", "mobilephone"))
    ]  # fmt: skip
    return min(matching, key=lambda one: int(identifier(one.get("id"))), default=None)


def has_number(written: str, phone: str, country: str) -> bool:
    """Whether a free text is this number: the end of it may be another country's."""
    plain = {re.sub(r"\D", "", one) for one in spellings(phone, country)}
    parts = re.split(r"[,;]|ext|доб", written, flags=re.IGNORECASE)
    return any(re.sub(r"\D", "", one) in plain or outside(one, country) == phone for one in parts if one.strip())


def contact(phone: str, owner: str, settings: HubSpotSettings, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A client of whom only the number is known."""
    given = {
        "firstname": phone,
        "phone": phone,
        OWNER: owner,
        "lifecyclestage": settings.lifecycle_stage,
        **as_texts(fields),
    }
    return {"properties": {name: value for name, value in given.items() if value}, "associations": []}


def contacts_with(email: str) -> dict[str, Any]:
    """Whose e-mail it is."""
    return _search([[_filter("email", "EQ", email.lower())]], CONTACT_PROPERTIES)


def client(facts: ClientFacts, owner: str, settings: HubSpotSettings, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A client of chats or orders."""
    given = {
        "firstname": facts.name or next(iter(facts.phones), ""), "phone": next(iter(facts.phones), ""), "mobilephone": second(facts),
        "email": next(iter(facts.emails), ""), OWNER: owner, "lifecyclestage": settings.lifecycle_stage, **as_texts(fields),
    }  # fmt: skip
    return {"properties": {name: value for name, value in given.items() if value}, "associations": []}


def second(facts: ClientFacts) -> str:
    """A client's second number."""
    return facts.phones[1] if len(facts.phones) > 1 else ""


def filled(there: Mapping[str, Any], facts: ClientFacts, fields: Mapping[str, Any]) -> dict[str, str]:
    """What is known here and missing there, and the mapped fields. A contact that bears its number for a name gets the name."""
    found: dict[str, str] = {}
    name = text(there.get("firstname"))
    nameless = not text(there.get("lastname")) and (not name or not re.search(r"[^\d\s()+.-]", name))
    if facts.name and nameless and name != facts.name:
        found["firstname"] = facts.name
    for place, value in (("phone", next(iter(facts.phones), "")), ("email", next(iter(facts.emails), ""))):
        if value and not text(there.get(place)):
            found[place] = value
    return {**found, **as_texts(fields)}


def as_texts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Mapped values as HubSpot takes them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in fields.items()}


# Notes and deals ---------------------------------------------------------------------------------------------------------


def note(body: str, moment_ms: str, owner: str, contact: str) -> dict[str, Any]:
    """A note of a contact: plain text, as HTML."""
    given = {START: moment_ms, "hs_note_body": in_html(body)[:LONGEST_TEXT], OWNER: owner}
    return {
        "properties": {name: value for name, value in given.items() if value},
        "associations": associated(NOTES, contact),
    }


def in_html(text_: str) -> str:
    """Plain text as HubSpot's notes hold it."""
    return "<br>".join(escape(line) for line in text_.splitlines())


def notes_since(contact: str, moment_ms: str) -> dict[str, Any]:
    """Notes of a contact since a moment."""
    filters = [_filter("associations.contact", "EQ", contact), _filter("hs_createdate", "GTE", moment_ms)]
    return _search([filters], ("hs_note_body",), limit=MOST_FOUND)


def deal(
    order: Mapping[str, Any], *, stage: str, pipeline: str, currency: str, fields: Mapping[str, Any]
) -> dict[str, str]:
    """The properties of an order's deal."""
    given = {
        "dealname": str(order["title"])[:LONGEST_TITLE], "amount": str(order["total"]), "pipeline": pipeline, "dealstage": stage,
        "deal_currency_code": currency, "description": "\n".join(filter(None, (order["text"], order["link"])))[:LONGEST_TEXT],
        **as_texts(fields),
    }  # fmt: skip
    return {name: value for name, value in given.items() if value}


def deals_named(title: str, moment_ms: str) -> dict[str, Any]:
    """Deals of a name since a moment."""
    return _search(
        [[_filter("dealname", "EQ", title[:LONGEST_TITLE]), _filter("createdate", "GTE", moment_ms)]], ("dealname",)
    )


def items_of(deal_id: str) -> str:
    """Where the items of a deal are listed."""
    return f"/crm/v4/objects/{DEALS}/{deal_id}/associations/{ITEMS}"


def item(line: Mapping[str, Any], deal_id: str = "") -> dict[str, Any]:
    """A position of an order. `hs_sku` tells ours from those that people add."""
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": ITEM_TO_DEAL}]
    values = {
        "name": str(line["name"])[:LONGEST_TITLE], "quantity": str(line["quantity"]), "price": str(line["price"]),
        "hs_sku": f"{OUR_SKU}{line['id']}"[:LONGEST_TITLE],
    }  # fmt: skip
    return {"properties": values, "associations": [{"to": {"id": deal_id}, "types": types}]}


def same_item(there: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a position that is there is this one; HubSpot may write numbers in another way."""
    found, ours = properties(there), wanted["properties"]
    return all(
        text(found.get(name)) == ours[name]
        if name in ("name", "hs_sku")
        else number_of(found.get(name)) == number_of(ours[name])
        for name in ours
    )


def number_of(value: Any) -> float | None:
    """A number, however it is written."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


# Tasks -------------------------------------------------------------------------------------------------------------------


def task(body: Mapping[str, Any], owner: str, contact: str) -> dict[str, Any]:
    """To call back. Its time is when it is due."""
    given = {
        START: milliseconds(body["due"]), "hs_task_subject": str(body["title"])[:LONGEST_TITLE],
        "hs_task_body": str(body["text"])[:LONGEST_TEXT], "hs_task_status": "NOT_STARTED", "hs_task_type": "CALL",
        "hs_task_priority": "HIGH", OWNER: owner,
    }  # fmt: skip
    return {
        "properties": {name: value for name, value in given.items() if value},
        "associations": associated(TASKS, contact),
    }


def tasks_titled(title: str) -> dict[str, Any]:
    """A task by its title, which has the number and the second of the call."""
    return _search([[_filter("hs_task_subject", "EQ", title[:LONGEST_TITLE])]], ("hs_task_subject",))


# Properties --------------------------------------------------------------------------------------------------------------


def group(language: str) -> dict[str, Any]:
    """The group of our properties."""
    return {"name": GROUP, "label": "Телефония" if language == "ru" else "Telephony", "displayOrder": -1}


def own_property(name: str, kind: str, language: str, *, unique: bool) -> dict[str, Any]:
    """A property of ours."""
    labels = {
        CALLS: {"en": "Id in the phone system", "ru": "Идентификатор в телефонии"},
        CONTACTS: {"en": "Number of the first call", "ru": "Номер первого звонка"},
        DEALS: {"en": "Id of the order in the gateway", "ru": "Идентификатор заказа в шлюзе"},
    }
    label = labels[kind].get(language, labels[kind]["en"])
    return {
        "name": name, "label": label, "type": "string", "fieldType": "text", "groupName": GROUP, "formField": False,
        **({"hasUniqueValue": True} if unique else {}),
    }  # fmt: skip


# Searches ----------------------------------------------------------------------------------------------------------------


def _filter(name: str, operator: str, value: str) -> dict[str, Any]:
    return {"propertyName": name, "operator": operator, "value": value}


def _search(groups: Sequence[Sequence[Mapping[str, Any]]], wanted: Sequence[str], limit: int = 10) -> dict[str, Any]:
    return {
        "filterGroups": [{"filters": list(filters)} for filters in groups], "properties": list(wanted), "limit": limit,
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
    }  # fmt: skip


def found(answer: Mapping[str, Any]) -> list[Any]:
    """What a search or a list holds."""
    return items(answer.get("results"))
