"""The requests for clients of chats, notes and orders, and what an organisation's fields and stages mean. Pure.

Read `records.py` for when.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.abilities import CrmField, FieldType, FieldValue
from adapters.salesforce.codec import LONGEST_NAME, items, mapping, select, soql, text
from adapters.salesforce.requests import ACCOUNT, CONTACT, LONGEST_TEXT, PHONES, Client, query
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts

STAGES = select(("ApiName", "IsClosed", "IsWon"), "OpportunityStage", "IsActive = true", "SortOrder")
_LONGEST_TITLE = 120
"""Of an opportunity's name."""
_OURS = frozenset({"Id", "WhoId", "WhatId", "CallObject", "ContactId", "OwnerId"})
"""Fields that are ours to write: no rule may."""
_TYPES: Mapping[str, FieldType] = {
    "string": "text", "textarea": "text", "url": "text", "phone": "text", "email": "text", "picklist": "choice", "multipicklist": "choice",
    "boolean": "flag", "int": "number", "double": "number", "currency": "number", "percent": "number", "date": "time", "datetime": "time",
}  # fmt: skip


# Clients and notes -------------------------------------------------------------------------------------------------------


def contact(client: ClientFacts, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A contact. A rule of mapping goes before our own fields."""
    name = " ".join(client.name.split()) or next(iter((*client.phones, *client.emails)), "-")
    phones = dict(zip(PHONES[CONTACT], client.phones, strict=False))
    emails = {"Email": client.emails[0][:80]} if client.emails else {}
    return {"LastName": name[:LONGEST_NAME], **phones, **emails, **fields}


def named(kind: str, name: tuple[str, str], since: str) -> str:
    """The path that finds what was made under a name since a moment."""
    field, value = name
    return query(select(("Id",), kind, f"{field} = {soql(value)} AND CreatedDate >= {since}", "CreatedDate", 2))


def note(body: Mapping[str, Any], our_id: str, client: Client, status: str) -> dict[str, Any]:
    """What was said in a chat, as a task that is done."""
    return {
        "Subject": str(body["title"])[:255], "Status": status, "Priority": "Normal", "Description": str(body["text"])[:LONGEST_TEXT],
        "CallObject": our_id[:255], **client.links(),
    }  # fmt: skip


# Orders ------------------------------------------------------------------------------------------------------------------


def order(
    one: Mapping[str, Any], client: Client, tenant: Tenant, fields: Mapping[str, Any], stage: str, lines: str
) -> dict[str, Any]:  # fmt: skip
    """An opportunity. A lead can be no part of one: its page of ours stands in the description."""
    links = {CONTACT: {"ContactId": client.id}, ACCOUNT: {"AccountId": client.id}}.get(client.type, {})
    return {
        "Name": f"{one['title']} ({tenant.number})"[:_LONGEST_TITLE], "StageName": stage, "CloseDate": close_date(one),
        "Amount": float(one["total"]), "Description": lines, **links, **fields,
    }  # fmt: skip


def order_changes(one: Mapping[str, Any], fields: Mapping[str, Any], stage: str, lines: str) -> dict[str, Any]:
    """What has changed of it. `lines` and `stage` are left alone where they are empty."""
    return {
        "Amount": float(one["total"]), "CloseDate": close_date(one), **({"Description": lines} if lines else {}),
        **({"StageName": stage} if stage else {}), **fields,
    }  # fmt: skip


def close_date(one: Mapping[str, Any]) -> str:
    """The day for which it is ordered, else the one on which it was."""
    return str(one["starts_at"] or one["created_at"])[:10]


def order_text(one: Mapping[str, Any]) -> str:
    """What is ordered, line by line, and how it is delivered."""
    lines = [f"{line['name']}: {line['quantity']} x {line['price']}" for line in one["lines"]]
    found = [*lines, one["delivery"], one["comment"], one["link"]]
    return "\n".join(str(part) for part in found if part)[:LONGEST_TEXT]


def digest(lines: str) -> str:
    """By what one description is told from another."""
    return hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()[:32]


def kinds_of_stages(listed: Sequence[Any]) -> Mapping[str, str]:
    """The first stage that is open, won and lost."""
    found: dict[str, str] = {}
    for one in map(mapping, listed):
        kind = "open" if one.get("IsClosed") is not True else "won" if one.get("IsWon") is True else "lost"
        if name := text(one.get("ApiName")):
            found.setdefault(kind, name)
    return found


# Fields ------------------------------------------------------------------------------------------------------------------


def crm_fields(described: Any) -> list[CrmField]:
    """The fields of an object that a rule may write."""
    found = []
    for one in map(mapping, items(mapping(described).get("fields"))):
        name = text(one.get("name"))
        kind = _TYPES.get(text(one.get("type")), "other")
        if (
            not re.fullmatch(r"\w{1,100}", name)
            or name in _OURS
            or one.get("createable") is not True
            or kind == "other"
        ):
            continue
        values = [
            mapping(value) for value in items(one.get("picklistValues")) if mapping(value).get("active") is not False
        ]
        found.append(
            CrmField(
                name=name, title=text(one.get("label")) or name, type=kind,
                required=one.get("nillable") is False and one.get("defaultedOnCreate") is not True and kind != "flag",
                values=tuple(
                    FieldValue(text(value.get("value")), text(value.get("label")) or text(value.get("value"))) for value in values
                ),
            )
        )  # fmt: skip
    return found
