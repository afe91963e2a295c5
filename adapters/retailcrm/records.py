"""Customers of chats, their notes and orders in RetailCRM: builds requests, reads answers. Pure.

What we make bears an `externalId` of ours: a second one is refused there, and an attempt whose answer was lost finds what it has made.
A rule of mapping names a field by its path: `customFields.colour`. Answers are judged by `codec.read_answer`; a right of the key that is
missing costs the delivery and not the integration. Read `syncing.py` for how requests are sent.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from adapters.abilities import CrmField, FieldType, FieldValue
from adapters.retailcrm.codec import read_answer
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.crm_sources import When
from gateway.domain.errors import BadCredentials, Rejected
from gateway.domain.numbers import outside, spellings

CUSTOMERS, ORDERS, NOTES = "/api/v5/customers", "/api/v5/orders", "/api/v5/customers/notes"
STATUSES, CUSTOM, DICTIONARIES = (
    "/api/v5/reference/statuses",
    "/api/v5/custom-fields",
    "/api/v5/custom-fields/dictionaries",
)
LONGEST_NAME = 100
_PAGE = 100
_GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "done": ("complete", ("complete",)), "cancelled": ("cancel", ("cancel-other",)), "new": ("new", ("new",)),
}  # fmt: skip
"""Our status -> the group of statuses there, and those of it that are preferred."""
_TYPES: Mapping[str, FieldType] = {
    "boolean": "flag", "date": "time", "datetime": "time", "integer": "number", "numeric": "number", "dictionary": "choice",
    "string": "text", "text": "text", "email": "text",
}  # fmt: skip
_OWN: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "customer": (("lastName", "Last name", "Фамилия"), ("source.source", "Source", "Источник"), ("managerId", "Manager's id", "Id менеджера")),
    "order": (
        ("managerComment", "Manager's comment", "Комментарий оператора"), ("customerComment", "Client's comment", "Комментарий клиента"),
        ("orderMethod", "Order method's code", "Код способа оформления"), ("orderType", "Order type's code", "Код типа заказа"),
        ("managerId", "Manager's id", "Id менеджера"),
    ),
}  # fmt: skip


def read(status: int, text: str) -> Mapping[str, Any]:
    """The object answered. Raises what a refusal means; a right that is missing is Rejected."""
    try:
        return read_answer(status, text)
    except BadCredentials as error:
        if "access denied" not in error.detail.lower():
            raise
        raise Rejected(
            error.detail,
            person="The API key of RetailCRM has no access to customers, orders or reference books: give it in RetailCRM, or switch off what is sent of them.",
        ) from None


def origin(kind: str, ident: str) -> str:
    """The external id of a contact's or an order's record."""
    return f"gateway-{kind}-{ident}"


def form(name: str, value: Mapping[str, Any], settings: RetailcrmSettings, *, by: str = "") -> dict[str, str]:
    """A form with one object as JSON."""
    beside = {**({"site": settings.site} if settings.site else {}), **({"by": by} if by else {})}
    return {name: json.dumps(value, ensure_ascii=False, separators=(",", ":")), **beside}


def put(record: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A record with mapped fields at their paths."""
    for path, value in fields.items():
        *steps, name = path.split(".")
        place = record
        for step in steps:
            inner = place.get(step)
            place[step] = place = dict(inner) if isinstance(inner, Mapping) else {}
        place[name] = value
    return record


# Customers ---------------------------------------------------------------------------------------------------------------


def searches(client: ClientFacts, country: str) -> Iterable[str]:
    """The addresses at which a client is looked for, by phone in every form that digits can have, then by e-mail."""
    asked: dict[str, None] = {}
    for phone in client.phones:
        for one in spellings(phone, country):
            if (digits := "".join(c for c in one if c.isdigit())) == one.removeprefix("+"):
                asked[f"{CUSTOMERS}?{urlencode({'filter[name]': digits, 'limit': 20})}"] = None
    for email in client.emails:
        asked[f"{CUSTOMERS}?{urlencode({'filter[email]': email, 'limit': 20})}"] = None
    return asked


def best(answer: Mapping[str, Any], client: ClientFacts, country: str) -> str:
    """The id of the first customer of a page who has one of these numbers or addresses; the filter itself proves nothing."""
    emails = {one.casefold() for one in client.emails}
    found = []
    for one in _list(answer.get("customers")):
        phones = {outside(str(_map(phone).get("number", "")), country) for phone in _list(one.get("phones"))}
        mine = phones & set(client.phones) or str(one.get("email") or "").casefold() in emails - {""}
        if mine and (number := identifier(one.get("id"))):
            found.append(int(number))
    return str(min(found)) if found else ""


def customer(client: ClientFacts, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A customer's record."""
    name = client.name or next(iter((*client.phones, *client.emails)), "")
    record: dict[str, Any] = {
        "firstName": name[:LONGEST_NAME], "phones": [{"number": one} for one in client.phones],
        **({"email": client.emails[0]} if client.emails else {}),
    }  # fmt: skip
    return put(record, fields)


def by_external(path: str, external: str) -> str:
    """Where a record is read by its external id."""
    return f"{path}/{quote(external, safe='')}?by=externalId"


def edit_path(path: str, ident: str) -> str:
    """Where a record is changed."""
    return f"{path}/{quote(ident, safe='')}/edit"


# Notes and orders --------------------------------------------------------------------------------------------------------


def note(customer_id: str, text: str) -> dict[str, Any]:
    """A note at a customer."""
    return {"text": text, "customer": {"id": int(customer_id)}}


def notes_path(customer_id: str) -> str:
    """The newest notes of a customer."""
    return f"{NOTES}?{urlencode({'filter[customerIds][]': customer_id, 'limit': 20})}"


def noted(answer: Mapping[str, Any], text: str) -> bool:
    """Whether a note says just this."""
    return any(
        " ".join(str(one.get("text", "")).split()) == " ".join(text.split()) for one in _list(answer.get("notes"))
    )


def order(body: Mapping[str, Any], status: str, *, customer_id: str = "") -> dict[str, Any]:
    """An order's record: new ones with their customer, changed ones without."""
    made, client = body["order"], body["client"]
    said = "\n".join(one for one in (made["title"], made["text"], made["link"]) if one)
    record: dict[str, Any] = {
        "items": [
            {"productName": line["name"], "quantity": line["quantity"], "initialPrice": float(line["price"])} for line in made["lines"]
        ],
        "customerComment": made["comment"], "managerComment": said,
        **({"delivery": {"address": {"text": made["delivery"]}}} if made["delivery"] else {}),
        **({"status": status} if status else {}),
    }  # fmt: skip
    if customer_id:
        record |= {
            "externalId": origin("order", made["id"]), "customer": {"id": int(customer_id)}, "firstName": client["name"][:LONGEST_NAME],
            **({"phone": client["phones"][0]} if client["phones"] else {}), **({"email": client["emails"][0]} if client["emails"] else {}),
        }  # fmt: skip
    return put(record, body["fields"])


def status_of(answer: Mapping[str, Any], ours: str) -> str:
    """The status of an account for ours; empty where it has none of that sort, or ours is between the first and the last."""
    group, preferred = _GROUPS.get(ours, ("", ()))
    codes = [str(one.get("code", "")) for one in _statuses(answer) if one.get("group") == group]
    return next((one for one in (*preferred, *codes) if one in codes), "")


def is_gone(error: Rejected) -> bool:
    """Whether a refusal says that what is named is not there (any more)."""
    return any(said in error.detail.lower() for said in ("not found", "does not exist"))


def is_there_already(error: Rejected) -> bool:
    """Whether a refusal says that the external id is taken."""
    return "externalid" in error.detail.lower()


# Fields ------------------------------------------------------------------------------------------------------------------


def custom_path(entity: str) -> str:
    """The custom fields of customers or orders."""
    return f"{CUSTOM}?{urlencode({'filter[entity]': entity, 'limit': _PAGE})}"


def fields_of(
    language: str, customers: Mapping[str, Any], orders: Mapping[str, Any], dictionaries: Mapping[str, Any], statuses: Mapping[str, Any]
) -> dict[When, Sequence[CrmField]]:  # fmt: skip
    """Everything that field mapping can write into."""
    lists = {
        str(one.get("code")): tuple(
            FieldValue(str(item.get("code", "")), str(item.get("name", ""))) for item in _list(one.get("elements"))
        )
        for one in _list(dictionaries.get("customDictionaries"))
    }
    states = tuple(FieldValue(str(one.get("code", "")), str(one.get("name", ""))) for one in _statuses(statuses))
    status = CrmField(name="status", title="Статус" if language == "ru" else "Status", type="choice", values=states)
    customer = [*_custom(customers, lists), *_own("customer", language)]
    return {"order": [status, *_custom(orders, lists), *_own("order", language)], "contact": customer, "chat": customer}


def _custom(answer: Mapping[str, Any], lists: Mapping[str, tuple[FieldValue, ...]]) -> list[CrmField]:
    return [
        CrmField(
            name=f"customFields.{one['code']}", title=str(one.get("name") or one["code"]), type=_TYPES.get(str(one.get("type")), "other"),
            required=one.get("required") is True, values=lists.get(str(one.get("dictionary")), ()),
        )
        for one in _list(answer.get("customFields")) if one.get("code") and one.get("type") != "multiselect_dictionary"
    ]  # fmt: skip


def _own(entity: str, language: str) -> list[CrmField]:
    return [CrmField(name=name, title=ru if language == "ru" else en) for name, en, ru in _OWN[entity]]


def _statuses(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = answer.get("statuses")
    listed = list(found.values()) if isinstance(found, Mapping) else _list(found)
    return sorted(
        (one for one in map(_map, listed) if one.get("active") is not False), key=lambda one: int(identifier(one.get("ordering")) or 0)
    )  # fmt: skip


def identifier(value: Any) -> str:
    """The id of a record: digits, or nothing."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text if text.isascii() and text.isdigit() and len(text) <= 18 else ""


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
