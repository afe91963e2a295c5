"""The requests of amoCRM's API, version 4: what stands in each. Pure. Names and values as the account writes them.

`uniq` is ours: `NUMBER-CALL`. It stands in the call, in its note and in an incoming lead, and by it a call is found again whose
answer was lost. Elements bear a `request_id`, by which the answer's are matched. Read `codec.py` for the answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from adapters.amocrm.codec import PAGE, embedded, identifier, items, mapping, text
from adapters.amocrm.settings import AmoSettings
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.numbers import spellings

API = "/api/v4"
CALLS, SIP, UNSORTED = f"{API}/calls", f"{API}/leads/unsorted/sip", f"{API}/leads/unsorted"
ACCOUNT, USERS, TASKS, PIPELINES = f"{API}/account", f"{API}/users", f"{API}/tasks", f"{API}/leads/pipelines"
NOTIFY = "/api/v2/events"
CONTACTS, COMPANIES, LEADS = "contacts", "companies", "leads"
TYPES = (CONTACTS, COMPANIES)
"""Where a number is looked for, the best first. Leads have no number of their own."""
_SINGULAR = {"contact": CONTACTS, "company": COMPANIES, "lead": LEADS}


@dataclass(frozen=True, slots=True)
class Entity:
    """Something in the account: `contacts`, `companies` or `leads`, and its id."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"

    @classmethod
    def read(cls, stored: str | None) -> "Entity | None":
        """The inverse of `str`; None where nothing is stored."""
        kind, _, number = (stored or "").partition(":")
        return cls(kind, number) if kind in _SINGULAR.values() and number.isdigit() else None


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody found, and who is responsible."""

    entity: Entity
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Employee:
    """Whose call it is: a user's id where it is known, and the name that is shown where it is not."""

    user_id: str = ""
    name: str = ""

    def fields(self) -> dict[str, Any]:
        """Of a call."""
        owner = {"responsible_user_id": int(self.user_id)} if self.user_id else {}
        shown: int | str = int(self.user_id) if self.user_id and not self.name else self.name
        return {**owner, **({"call_responsible": shown} if shown else {})}


def path(address: str, **query: Any) -> str:
    """An address with a query; names with brackets are given as `filter__entity_id`."""
    pairs = [(_bracketed(name), str(value)) for name, value in query.items() if value != ""]
    return f"{address}?{urlencode(pairs)}" if pairs else address


def _bracketed(name: str) -> str:
    first, *rest = name.rstrip("_").split("__")
    return first + "".join(f"[{part}]" for part in rest)


def digits(value: Any) -> str:
    """The digits of a number, however it is written."""
    return "".join(c for c in text(value) if c in "0123456789")


# Calls -------------------------------------------------------------------------------------------------------------------


def params(body: Mapping[str, Any], uniq: str, settings: AmoSettings, *, at_once: bool) -> dict[str, Any]:
    """What a call is, wherever it stands."""
    link = body.get("link", "") if at_once else ""
    return {
        "uniq": uniq, "duration": int(body["duration"]), "source": settings.source, "phone": body["phone"],
        "call_status": int(body["status"]), **({"call_result": body["result"]} if body.get("result") else {}),
        **({"link": link} if link else {}),
    }  # fmt: skip


def call(body: Mapping[str, Any], uniq: str, employee: Employee, settings: AmoSettings) -> dict[str, Any]:
    """A call for whom the account finds by the number."""
    return {
        "direction": "inbound" if body["incoming"] else "outbound", "created_at": int(body["started"]), "request_id": uniq,
        **params(body, uniq, settings, at_once=settings.link_at_once), **employee.fields(),
    }  # fmt: skip


def note(
    body: Mapping[str, Any], uniq: str, employee: Employee, entity: Entity, settings: AmoSettings
) -> dict[str, Any]:
    """The same call as a note of somebody whom we found or made."""
    fields = employee.fields()
    shown = {"call_responsible": fields.pop("call_responsible")} if "call_responsible" in fields else {}
    return {
        "entity_id": int(entity.id), "note_type": note_type(body), "created_at": int(body["started"]), "request_id": uniq,
        **fields, "params": {**params(body, uniq, settings, at_once=settings.link_at_once), **shown},
    }  # fmt: skip


def note_type(body: Mapping[str, Any]) -> str:
    """How a call is called among notes."""
    return "call_in" if body.get("incoming", True) else "call_out"


def with_link(found: Mapping[str, Any], link: str) -> dict[str, Any]:
    """The change of a note: all that it has, and the recording."""
    return {
        "id": int(identifier(found.get("id"))), "note_type": text(found.get("note_type")),
        "params": {**mapping(found.get("params")), "link": link},
    }  # fmt: skip


def notes_of(entity: Entity, number: int = 1) -> str:
    """A page of somebody's notes of calls, the latest first. Where filters are not enabled all notes come."""
    address = f"{API}/{entity.type}/{entity.id}/notes"
    return (
        path(address, limit=PAGE, page=number, order__id="desc")
        + "&filter%5Bnote_type%5D%5B0%5D=call_in&filter%5Bnote_type%5D%5B1%5D=call_out"
    )


def latest_calls(kind: str, since: int, number: int = 1) -> str:
    """A page of all notes of calls of one kind of record, the latest first. `since`: seconds since the epoch."""
    address = path(f"{API}/{kind}/notes", limit=PAGE, page=number, order__id="desc", filter__updated_at__from=since)
    return address + "&filter%5Bnote_type%5D%5B0%5D=call_in&filter%5Bnote_type%5D%5B1%5D=call_out"


def entity_of(answer: Mapping[str, Any]) -> Entity | None:
    """Whom the account has given a call to."""
    kind, number = text(answer.get("entity_type")), identifier(answer.get("entity_id"))
    kind = _SINGULAR.get(kind, kind)
    return Entity(kind, number) if kind in _SINGULAR.values() and number else None


def notification(phone: str, users: Sequence[str]) -> dict[str, Any]:
    """The card on the screens of these users."""
    return {"add": [{"type": "phone_call", "phone_number": digits(phone), "users": [int(user) for user in users]}]}


# Clients -----------------------------------------------------------------------------------------------------------------


def queries(phone: str, country: str, *, missed: bool = False) -> tuple[str, ...]:
    """What is searched for, one after the other, until somebody is found. `missed`: the account has not matched the last 10 digits,
    and only other digits are left."""
    found = [one.removeprefix("+") for one in spellings(phone, country)]
    if missed:
        found = [digits(one) for one in found if digits(one)[-10:] != digits(phone)[-10:]]
    return tuple(dict.fromkeys(one for one in found if one))


def same(value: Any, phone: str, country: str) -> bool:
    """Whether a number as somebody wrote it down is this one: a spelling of it, or its last 10 digits, as the account compares."""
    written = digits(value)
    wanted = {digits(one) for one in spellings(phone, country)}
    return bool(written) and (written in wanted or (len(written) >= 10 and written[-10:] == digits(phone)[-10:]))


def clients_in(answer: Any, kind: str, phone: str, country: str) -> list[Client]:
    """Those of a search's answer whose number it is: the first that was made first."""
    found = []
    for one in embedded(answer, kind):
        if (number := identifier(one.get("id"))) and any(same(value, phone, country) for value in phones_of(one)):
            found.append(Client(Entity(kind, number), identifier(one.get("responsible_user_id"))))
    return sorted(found, key=lambda client: int(client.entity.id))


def values_of(one: Mapping[str, Any], code: str) -> list[Any]:
    """What stands in a custom field of somebody."""
    return [
        mapping(value).get("value")
        for field in items(one.get("custom_fields_values"))
        if text(mapping(field).get("field_code")) == code
        for value in items(mapping(field).get("values"))
    ]


def phones_of(one: Mapping[str, Any]) -> list[Any]:
    """Somebody's numbers as they were written down."""
    return values_of(one, "PHONE")


def person(client: ClientFacts, request_id: str) -> dict[str, Any]:
    """A client of chats or orders."""
    known = [_values(code, values) for code, values in (("PHONE", client.phones), ("EMAIL", client.emails)) if values]
    name = client.name or next(iter((*client.phones, *client.emails)), "")
    return {"name": name, **({"custom_fields_values": known} if known else {}), "request_id": request_id}


def lacking(stored: Mapping[str, Any], client: ClientFacts, country: str) -> list[dict[str, Any]]:
    """Custom fields with the numbers and addresses that a record lacks, beside those that it has: a change replaces all of a field."""
    found = []
    numbers, addresses = phones_of(stored), [text(one).lower() for one in values_of(stored, "EMAIL")]
    phones = [one for one in client.phones if not any(same(value, one, country) for value in numbers)]
    emails = [one for one in client.emails if one.lower() not in addresses]
    for code, more in (("PHONE", phones), ("EMAIL", emails)):
        if more:
            kept = [
                dict(mapping(value))
                for field in items(stored.get("custom_fields_values"))
                if text(mapping(field).get("field_code")) == code
                for value in items(mapping(field).get("values"))
            ]
            found.append({"field_code": code, "values": [*kept, *_values(code, more)["values"]]})
    return found


def _values(code: str, values: Sequence[str]) -> dict[str, Any]:
    return {"field_code": code, "values": [{"value": value, "enum_code": "WORK"} for value in values]}


def order(one: Mapping[str, Any], client: Entity | None, settings: AmoSettings) -> dict[str, Any]:
    """An order as a lead: its sum in whole units, as leads have it."""
    linked = {"_embedded": {client.type: [{"id": int(client.id)}]}} if client is not None else {}
    return {
        "name": one["title"], "price": round(float(one["total"])), **_pipeline(settings), **linked, "request_id": one["id"],
    }  # fmt: skip


def plain_note(entity: Entity, said: str, number: str = "") -> dict[str, Any]:
    """A note in words; the change of one, where its number is named."""
    place = {"id": int(number)} if number else {"entity_id": int(entity.id), "request_id": entity.id}
    return {**place, "note_type": "common", "params": {"text": said}}


def plain_notes_of(entity: Entity, number: int = 1) -> str:
    """A page of somebody's notes in words, the latest first."""
    address = f"{API}/{entity.type}/{entity.id}/notes"
    return path(address, limit=PAGE, page=number, order__id="desc") + "&filter%5Bnote_type%5D%5B0%5D=common"


def contact(phone: str, owner: str, request_id: str) -> dict[str, Any]:
    """A client of whom only the number is known."""
    return {
        "name": phone, **({"responsible_user_id": int(owner)} if owner else {}), "custom_fields_values": [_phone(phone)],
        "request_id": request_id,
    }  # fmt: skip


def lead(phone: str, owner: str, request_id: str, settings: AmoSettings) -> dict[str, Any]:
    """A lead with its contact, made at once."""
    made = contact(phone, owner, request_id)
    made.pop("request_id")
    return {
        "name": phone, **({"responsible_user_id": int(owner)} if owner else {}), **_pipeline(settings),
        "_embedded": {"contacts": [made]}, "request_id": request_id,
    }  # fmt: skip


def _phone(phone: str) -> dict[str, Any]:
    return {"field_code": "PHONE", "values": [{"value": phone, "enum_code": "WORK"}]}


def _pipeline(settings: AmoSettings) -> dict[str, Any]:
    return {"pipeline_id": int(settings.pipeline_id)} if settings.pipeline_id else {}


# Incoming leads ----------------------------------------------------------------------------------------------------------


def unsorted(
    body: Mapping[str, Any], uniq: str, employee: Employee, settings: AmoSettings, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """A call of somebody unknown among the incoming leads: both numbers, and the call itself. It cannot be changed later, so the
    link to the recording stands in it at once."""
    client, ours = digits(body["phone"]), digits(body["ours"]) or text(body["ours"])
    caller, callee = (client, ours) if body["incoming"] else (ours, client)
    shown = employee.fields().get("call_responsible")
    metadata = {
        "from": caller, "phone": callee, "called_at": int(body["started"]), "duration": int(body["duration"]),
        "link": body.get("link", ""), "service_code": settings.source, "uniq": uniq, "is_call_event_needed": True,
        **({"call_responsible": shown} if shown else {}),
    }  # fmt: skip
    return {
        "request_id": uniq, "source_name": settings.source, "source_uid": uniq, **_pipeline(settings), "created_at": int(body["started"]),
        "metadata": metadata,
        "_embedded": {
            "leads": [{"name": body["phone"], **fields}],
            "contacts": [{"name": body["phone"], "custom_fields_values": [_phone(body["phone"])]}],
        },
    }  # fmt: skip


def unsorted_page(number: int) -> str:
    """A page of the incoming leads that are calls, the latest first."""
    return path(UNSORTED, limit=PAGE, page=number, order__created_at="desc") + "&filter%5Bcategory%5D%5B0%5D=sip"


def entity_in(waiting: Mapping[str, Any]) -> Entity | None:
    """The lead of an incoming lead, else its contact."""
    return _first(waiting, LEADS) or _first(waiting, CONTACTS)


def contact_in(one: Mapping[str, Any]) -> Entity | None:
    """The contact of a lead or of an incoming lead."""
    return _first(one, CONTACTS)


def _first(one: Mapping[str, Any], kind: str) -> Entity | None:
    numbers = (identifier(each.get("id")) for each in embedded(one, kind))
    return next((Entity(kind, number) for number in numbers if number), None)


def is_of(waiting: Mapping[str, Any], phone: str, country: str) -> bool:
    """Whether an incoming lead is this client's."""
    metadata = mapping(waiting.get("metadata"))
    return any(same(metadata.get(side), phone, country) for side in ("from", "phone"))


# Tasks -------------------------------------------------------------------------------------------------------------------


def task(
    body: Mapping[str, Any], responsible: str, entity: Entity | None, uniq: str, settings: AmoSettings
) -> dict[str, Any]:
    """To call back."""
    linked = {"entity_id": int(entity.id), "entity_type": entity.type} if entity is not None else {}
    return {
        "text": body["text"], "complete_till": int(body["due"]), "task_type_id": int(settings.task_type), "request_id": uniq,
        **({"responsible_user_id": int(responsible)} if responsible else {}), **linked,
    }  # fmt: skip


def tasks_of(entity: Entity | None) -> str:
    """Tasks among which one of ours would be, the latest first."""
    about = {"filter__entity_type": entity.type, "filter__entity_id": entity.id} if entity is not None else {}
    return path(TASKS, limit=PAGE, order__created_at="desc", **about)
