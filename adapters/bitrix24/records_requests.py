"""The requests for clients of chats, notes and orders, and what a portal's lists of fields and stages mean. Pure.

Texts of clients stand in comments of the portal, which reads BB code in them: `plain` takes its power away. Read `records.py` for when.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.abilities import CrmField, FieldType, FieldValue
from adapters.bitrix24.codec import identifier, items, mapping, text
from adapters.bitrix24.requests import Entity, common
from adapters.bitrix24.settings import Bitrix24Settings
from gateway.domain.crm_facts import ClientFacts

UPDATE = {kind: f"crm.{kind.lower()}.update" for kind in ("LEAD", "CONTACT", "COMPANY", "DEAL")}
FIELDS = {kind: f"crm.{kind.lower()}.fields" for kind in ("LEAD", "CONTACT", "DEAL")}
SET_ROWS, STATUSES, CATEGORIES = "crm.deal.productrows.set", "crm.status.list", "crm.category.list"
ADD_COMMENT, COMMENTS = "crm.timeline.comment.add", "crm.timeline.comment.list"
GONE = ("not found", "owner was not found", "is not defined or invalid")
"""What refusals say of a record that is not there any more."""
STAGE, STATUS, CATEGORY = "STAGE_ID", "STATUS_ID", "CATEGORY_ID"
LONGEST_TITLE = 250
_OURS = frozenset({"ID", "ORIGIN_ID", "ORIGINATOR_ID", "CONTACT_ID", "CONTACT_IDS", "COMPANY_ID", "PHONE", "EMAIL"})
"""Fields that are ours to write: no rule may."""
_TYPES: Mapping[str, FieldType] = {
    "string": "text", "text": "text", "url": "text", "char": "flag", "boolean": "flag", "integer": "number", "double": "number",
    "money": "number", "date": "time", "datetime": "time", "enumeration": "choice", "crm_status": "choice", "crm_category": "choice",
}  # fmt: skip


def plain(said: str) -> str:
    """A text in which nothing is BB code."""
    return said.replace("[", "&#91;")


# Clients and notes -------------------------------------------------------------------------------------------------------


def contact_fields(client: ClientFacts, fields: Mapping[str, Any], fresh: Sequence[str]) -> dict[str, Any]:
    """A contact's fields; of phones and addresses those that are `fresh` there: a value without an id is added to the others."""
    phones = [{"VALUE": one, "VALUE_TYPE": "WORK"} for one in client.phones if one in fresh]
    emails = [{"VALUE": one, "VALUE_TYPE": "WORK"} for one in client.emails if one in fresh]
    name = client.name or next(iter((*client.phones, *client.emails)), "")
    return {
        "NAME": name, **({"PHONE": phones} if phones else {}), **({"EMAIL": emails} if emails else {}), **fields,
    }  # fmt: skip


def added(fields: Mapping[str, Any], settings: Bitrix24Settings, origin: str) -> dict[str, Any]:
    """Something that is made; what a rule of mapping says stands before our own defaults."""
    return {
        "fields": {"OPENED": "Y", **common(settings.default_user, settings, origin), **fields},
        "params": {"REGISTER_SONET_EVENT": "Y"},
    }


def update(number: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Something that changes."""
    return {"id": int(number), "fields": dict(fields), "params": {"REGISTER_SONET_EVENT": "N"}}


def comment(entity: Entity, said: str) -> dict[str, Any]:
    """A note in a timeline."""
    return {"fields": {"ENTITY_ID": int(entity.id), "ENTITY_TYPE": entity.type.lower(), "COMMENT": said}}


def comments(entity: Entity) -> dict[str, Any]:
    """The newest notes of a timeline."""
    return {
        "filter": {"ENTITY_ID": int(entity.id), "ENTITY_TYPE": entity.type.lower()}, "order": {"ID": "DESC"}, "select": ["ID", "COMMENT"],
    }  # fmt: skip


# Orders ------------------------------------------------------------------------------------------------------------------


def deal_fields(
    order: Mapping[str, Any], entity: Entity, name: str, fields: Mapping[str, Any], stage: str
) -> dict[str, Any]:
    """A deal of an order."""
    number = int(entity.id)
    known: Mapping[str, dict[str, Any]] = {
        "CONTACT": {"CONTACT_IDS": [number]}, "COMPANY": {"COMPANY_ID": number}, "LEAD": {"LEAD_ID": number},
    }  # fmt: skip
    whose = known.get(entity.type, {})
    title = f"{order['title']} · {name}" if name else str(order["title"])
    return {"TITLE": title[:LONGEST_TITLE], **whose, **_amounts(order), **({STAGE: stage} if stage else {}), **fields}


def deal_changes(order: Mapping[str, Any], fields: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What changes of it. The pipeline stays: this method cannot change it."""
    changed = {name: value for name, value in fields.items() if name != CATEGORY}
    return {**_amounts(order), **({STAGE: stage} if stage else {}), **changed}


def _amounts(order: Mapping[str, Any]) -> dict[str, Any]:
    said = "\n".join(one for one in (order["text"], order["link"]) if one)
    return {
        "OPPORTUNITY": order["total"],
        "CURRENCY_ID": order["currency"],
        "COMMENTS": plain(said).replace("\n", "<br>"),
    }


def rows(order: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The product rows of a deal."""
    return [
        {"PRODUCT_NAME": line["name"], "QUANTITY": line["quantity"], "PRICE": float(line["price"])} for line in order["lines"]
    ]  # fmt: skip


def digest(made: Sequence[Mapping[str, Any]]) -> str:
    """By which rows are compared."""
    return hashlib.sha256(json.dumps(made, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def stages(category: str) -> dict[str, Any]:
    """The stages of a pipeline; empty or 0: of the first."""
    return {"filter": {"ENTITY_ID": stage_list(category)}, "order": {"SORT": "ASC"}}


def stage_list(category: str) -> str:
    """The name of a pipeline's list of stages."""
    return f"DEAL_STAGE_{category}" if category not in ("", "0") else "DEAL_STAGE"


def kinds_of_stages(listed: Sequence[Any]) -> dict[str, str]:
    """The first stage, that of success (S) and that of failure (F)."""
    found: dict[str, str] = {}
    for one in listed:
        stage, name = mapping(one), text(mapping(one).get("STATUS_ID"))
        extra = mapping(stage.get("EXTRA"))
        meaning = text(stage.get("SEMANTICS")) or text(stage.get("STAGE_SEMANTIC_ID")) or text(extra.get("SEMANTICS"))
        kind = {"S": "S", "success": "S", "F": "F", "failure": "F"}.get(meaning, "first")
        if name:
            found.setdefault(kind, name)
    return found


# Fields ------------------------------------------------------------------------------------------------------------------


def fields_of(answer: Any, statuses: Mapping[str, Sequence[FieldValue]]) -> list[CrmField]:
    """The fields of `crm.*.fields` that can be written. `statuses`: the portal's lists by their name."""
    found = []
    for name, given in mapping(answer).items():
        one = mapping(given)
        if name in _OURS or one.get("isReadOnly") is True or one.get("isMultiple") is True:
            continue
        title = next((said for key in ("formLabel", "listLabel", "title") if (said := text(one.get(key)))), name)
        values = [
            FieldValue(identifier(mapping(item).get("ID")), text(mapping(item).get("VALUE"))) for item in items(one.get("items"))
        ]  # fmt: skip
        values += statuses.get(CATEGORY if name == CATEGORY else text(one.get("statusType")), ())
        found.append(
            CrmField(
                name=str(name)[:100], title=title, type=_TYPES.get(text(one.get("type")), "other"), required=one.get("isRequired") is True,
                values=tuple(value for value in values if value.value),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (not one.required, not one.name.startswith("UF_"), one.title.casefold()))


def statuses_of(answer: Any) -> dict[str, list[FieldValue]]:
    """All of the portal's lists, by name, in their order."""
    found: dict[str, list[FieldValue]] = {}
    for one in sorted(map(mapping, items(answer)), key=lambda one: int(identifier(one.get("SORT")) or 0)):
        value, name = text(one.get("STATUS_ID")), text(one.get("ENTITY_ID"))
        if value and name:
            found.setdefault(name, []).append(FieldValue(value, text(one.get("NAME")) or value))
    return found


def with_pipelines(
    lists: Mapping[str, Sequence[FieldValue]], categories: Sequence[Any]
) -> dict[str, Sequence[FieldValue]]:
    """The lists with the stages of all pipelines as one, and the pipelines as another."""
    names = {identifier(one.get("id")) or "0": text(one.get("name")) for one in map(mapping, categories)}
    every = list(lists.get("DEAL_STAGE", ()))
    for number, name in names.items():
        if number != "0":
            every += [FieldValue(one.value, f"{name}: {one.title}") for one in lists.get(stage_list(number), ())]
    return {
        **lists,
        "DEAL_STAGE": every,
        CATEGORY: [FieldValue(number, name or number) for number, name in names.items()],
    }
