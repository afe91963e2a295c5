"""Field mapping in amoCRM: how a rule's `to` becomes a field of a request, and which fields an account has. Pure.

    name, price, status_id ...     a field of the record itself
    123456                         a field that the account's people have made, by its id
    EMAIL, POSITION ...            one by its code

Rules for clients and chats write into contacts, rules for orders into leads, rules for calls into what becomes of an unknown number.
Read `adapters/mapping.py` for the rules, `requests.py` for where they stand.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapters.abilities import CrmField, FieldType, FieldValue
from adapters.amocrm.codec import embedded, identifier, items, mapping, text

_OWN: Mapping[str, Mapping[str, tuple[str, FieldType]]] = {
    "contacts": {"name": ("Name", "text"), "responsible_user_id": ("Responsible user (id)", "number")},
    "leads": {
        "name": ("Name", "text"), "price": ("Price", "number"), "responsible_user_id": ("Responsible user (id)", "number"),
        "pipeline_id": ("Pipeline (id)", "number"), "loss_reason_id": ("Reason of the loss (id)", "number"),
    },
}  # fmt: skip
_NUMBERS = frozenset({"price", "status_id", "pipeline_id", "responsible_user_id", "loss_reason_id"})
_TYPES: Mapping[str, FieldType] = {
    "text": "text", "textarea": "text", "url": "text", "streetaddress": "text", "multitext": "text", "numeric": "number",
    "monetary": "number", "checkbox": "flag", "select": "choice", "multiselect": "choice", "radiobutton": "choice", "date": "time",
    "date_time": "time", "birthday": "time",
}  # fmt: skip


def written(fields: Mapping[str, Any], known: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Mapped values as a request has them, beside custom fields that stand in it already."""
    own: dict[str, Any] = {}
    custom = [dict(one) for one in known]
    for name, value in fields.items():
        if name.isascii() and name.isdigit():
            custom.append({"field_id": int(name), "values": [{"value": value}]})
        elif name.isascii() and name.isupper():
            custom.append({"field_code": name, "values": [{"value": value}]})
        else:
            own[name] = _number(value) if name in _NUMBERS else str(value)
    return {**own, **({"custom_fields_values": custom} if custom else {})}


def _number(value: Any) -> Any:
    """A whole number, as the record's own fields want it; what is none stays, and is refused by its name."""
    try:
        return round(float(value))
    except (ValueError, TypeError, OverflowError):
        return value


def fields_in(
    kind: str, customs: Sequence[Mapping[str, Any]], pipelines: Sequence[Mapping[str, Any]]
) -> list[CrmField]:
    """The fields of contacts or leads, the record's own first."""
    found = [CrmField(name=name, title=title, type=sort) for name, (title, sort) in _OWN[kind].items()]
    if kind == "leads":
        found.append(CrmField(name="status_id", title="Stage", type="choice", values=_stages(pipelines)))
    for one in customs:
        number, code = identifier(one.get("id")), text(one.get("code"))
        if number and code != "PHONE":
            values = tuple(
                FieldValue(text(value.get("value")), text(value.get("value")))
                for value in map(mapping, items(one.get("enums")))
            )
            sort = _TYPES.get(text(one.get("type")), "other")
            found.append(
                CrmField(
                    name=number,
                    title=text(one.get("name")) or number,
                    type=sort,
                    required=one.get("is_required") is True or bool(items(one.get("required_statuses"))),
                    values=values if sort == "choice" else (),
                )
            )
    return found


def _stages(pipelines: Sequence[Mapping[str, Any]]) -> tuple[FieldValue, ...]:
    """The stages of all pipelines. Won and lost are the same in each, and stand there once."""
    found: dict[str, FieldValue] = {}
    for pipeline in pipelines:
        for status in embedded(pipeline, "statuses"):
            if (number := identifier(status.get("id"))) and identifier(status.get("type")) != INCOMING:
                alone = number in (WON, LOST)
                title = text(status.get("name")) or number
                found.setdefault(
                    number, FieldValue(number, title if alone else f"{text(pipeline.get('name'))}: {title}")
                )
    return tuple(found.values())


def first_stage(pipelines: Sequence[Mapping[str, Any]], pipeline: str) -> str:
    """The first stage of a pipeline, of the main one where none is named; empty where there is none."""
    for one in pipelines:
        if identifier(one.get("id")) == pipeline if pipeline else one.get("is_main") is True:
            for status in sorted(embedded(one, "statuses"), key=lambda each: int(identifier(each.get("sort")) or 0)):
                if identifier(status.get("id")) not in ("", WON, LOST) and identifier(status.get("type")) != INCOMING:
                    return identifier(status.get("id"))
    return ""


WON, LOST = "142", "143"
"""Stages of every pipeline."""
INCOMING = "1"
"""The type of the stage of incoming leads, into which nothing can be moved."""
