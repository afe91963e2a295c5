"""The rest of a sandbox portal's CRM: changes of contacts and deals, product rows, comments of timelines, fields and stages.

Spelled out as the REST reference has them: unknown fields are ignored without a word, a pipeline is not changed by `crm.deal.update`,
comments hold BB code. Read `bitrix24.py` first.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sandbox.bitrix24 import Bitrix24


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, said: str = "") -> None:
        super().__init__(said)
        self.status, self.code, self.said = status, code, said


def as_list(value: Any) -> list[Any]:
    """A list, or a map as PHP makes of one; a single value is a list of itself."""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else [value]


STAGES: tuple[tuple[str, str, str, str], ...] = (
    ("DEAL_STAGE", "NEW", "Новая", ""), ("DEAL_STAGE", "PREPARATION", "Подготовка", ""), ("DEAL_STAGE", "EXECUTING", "В работе", ""),
    ("DEAL_STAGE", "WON", "Успех", "S"), ("DEAL_STAGE", "LOSE", "Провал", "F"),
    ("DEAL_STAGE_1", "C1:NEW", "Новая", ""), ("DEAL_STAGE_1", "C1:WON", "Успех", "S"), ("DEAL_STAGE_1", "C1:LOSE", "Провал", "F"),
    ("STATUS", "NEW", "Не обработан", ""), ("STATUS", "CONVERTED", "Качественный", "S"), ("SOURCE", "CALL", "Звонок", ""),
)  # fmt: skip
"""List, value, title, meaning."""
_OWN: Mapping[str, Mapping[str, Any]] = {
    "UF_CRM_LINK": {"type": "url", "title": "UF_CRM_LINK", "formLabel": "Ссылка"},
    "UF_CRM_RESULT": {
        "type": "enumeration", "title": "UF_CRM_RESULT", "formLabel": "Итог звонка",
        "items": [{"ID": "12", "VALUE": "Пропущен"}, {"ID": "13", "VALUE": "Отвечен"}],
    },
    "UF_CRM_PHOTOS": {"type": "file", "title": "UF_CRM_PHOTOS", "formLabel": "Фото", "isMultiple": True},
}  # fmt: skip
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "ID": {"type": "integer", "title": "ID", "isReadOnly": True}, "SOURCE_ID": {"type": "crm_status", "statusType": "SOURCE", "title": "Источник"},
    "COMMENTS": {"type": "string", "title": "Комментарий"}, "ASSIGNED_BY_ID": {"type": "user", "title": "Ответственный"},
    "OPENED": {"type": "char", "title": "Доступен всем"}, "ORIGIN_ID": {"type": "string", "title": "ORIGIN"},
    "ORIGINATOR_ID": {"type": "string", "title": "ORIGINATOR"},
}  # fmt: skip
FIELDS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "LEAD": {
        **_FIELDS, "TITLE": {"type": "string", "title": "Название"}, "STATUS_ID": {"type": "crm_status", "statusType": "STATUS", "title": "Стадия"},
        "NAME": {"type": "string", "title": "Имя"}, "PHONE": {"type": "crm_multifield", "title": "Телефон", "isMultiple": True}, **_OWN,
    },
    "CONTACT": {
        **_FIELDS, "NAME": {"type": "string", "title": "Имя"}, "LAST_NAME": {"type": "string", "title": "Фамилия"},
        "PHONE": {"type": "crm_multifield", "title": "Телефон", "isMultiple": True},
        "EMAIL": {"type": "crm_multifield", "title": "E-mail", "isMultiple": True}, **_OWN,
    },
    "DEAL": {
        **_FIELDS, "TITLE": {"type": "string", "title": "Название"}, "STAGE_ID": {"type": "crm_status", "statusType": "DEAL_STAGE", "title": "Стадия"},
        "CATEGORY_ID": {"type": "crm_category", "title": "Воронка"}, "OPPORTUNITY": {"type": "double", "title": "Сумма"},
        "CURRENCY_ID": {"type": "crm_currency", "title": "Валюта"}, "CONTACT_IDS": {"type": "crm_contact", "title": "Контакты", "isMultiple": True},
        "COMPANY_ID": {"type": "crm_company", "title": "Компания"}, "LEAD_ID": {"type": "crm_lead", "title": "Лид"}, **_OWN,
    },
}  # fmt: skip


def check_fields(portal: "Bitrix24", kind: str, fields: Mapping[str, Any]) -> None:
    """What the real one swallows and nobody would want."""
    for name in fields.keys() - FIELDS.get(kind, fields).keys():
        portal.violations.append(f"{kind} has no field {name}: it would be ignored")
    for name, lists in (
        ("STAGE_ID", ("DEAL_STAGE", "DEAL_STAGE_1")),
        ("STATUS_ID", ("STATUS",)),
        ("SOURCE_ID", ("SOURCE",)),
    ):
        if name in fields and fields[name] not in {value for one, value, _, _ in STAGES if one in lists}:
            portal.violations.append(f"{name} {fields[name]!r} is no value of its list")
    if kind == "DEAL":
        for number in as_list(fields.get("CONTACT_IDS", [])):
            if int(number) not in portal.entities["CONTACT"]:
                portal.violations.append(f"a deal of a contact that is not there: {number}")
    if len(str(fields.get("TITLE", ""))) > 255 or len(str(fields.get("NAME", ""))) > 255:
        portal.violations.append("a name of more than 255 characters")
    if re.search(r"\[/?\w+\]", str(fields.get("COMMENTS", ""))):
        portal.violations.append("BB code of a client in a comment")


def records_methods(portal: "Bitrix24") -> dict[str, Callable[[dict[str, Any]], Any]]:
    """The methods by name."""

    def updates(kind: str) -> Callable[[dict[str, Any]], bool]:
        def update(params: dict[str, Any]) -> bool:
            found = portal.entities[kind].get(int(params.get("id") or 0))
            if found is None:
                raise Refusal(400, "", "Not found")
            fields = dict(params.get("fields") or {})
            check_fields(portal, kind, fields)
            if "CATEGORY_ID" in fields:
                portal.violations.append("crm.deal.update cannot change the pipeline")
            for name in ("PHONE", "EMAIL"):
                if name in fields:
                    known = [one["VALUE"] for one in found.get(name, ())]
                    if any(one["VALUE"] in known for one in fields[name]):
                        portal.violations.append(f"a second {name} of the same value")
                    fields[name] = [*found.get(name, ()), *fields[name]]
            found.update(fields)
            return True

        return update

    def set_rows(params: dict[str, Any]) -> bool:
        number = int(params.get("id") or 0)
        if number not in portal.entities["DEAL"]:
            raise Refusal(400, "", "Deal not found")
        rows = as_list(params.get("rows", []))
        if any(
            not row.get("PRODUCT_NAME") or float(row.get("PRICE", -1)) < 0 or float(row.get("QUANTITY", 0)) <= 0
            for row in rows
        ):
            raise Refusal(400, "", "Wrong product row")
        portal.rows[number] = [dict(row) for row in rows]
        return True

    def add_comment(params: dict[str, Any]) -> int:
        fields = params.get("fields") or {}
        kind, number = str(fields.get("ENTITY_TYPE", "")).upper(), int(fields.get("ENTITY_ID") or 0)
        if not fields.get("COMMENT"):
            raise Refusal(400, "", "Empty comment message.")
        if number not in portal.entities.get(kind, {}):
            raise Refusal(400, "OWNER_NOT_FOUND", "Owner was not found")
        if re.search(r"\[/?\w+\]", fields["COMMENT"]):
            portal.violations.append("BB code of a client in a comment")
        portal.comments.append({"ID": str(len(portal.comments) + 1), **fields})
        return len(portal.comments)

    def list_comments(params: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = params.get("filter") or {}
        return [
            {"ID": one["ID"], "COMMENT": one["COMMENT"]} for one in reversed(portal.comments)
            if str(one["ENTITY_ID"]) == str(wanted.get("ENTITY_ID")) and one["ENTITY_TYPE"] == wanted.get("ENTITY_TYPE")
        ]  # fmt: skip

    def statuses(params: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = (params.get("filter") or {}).get("ENTITY_ID")
        return [
            {"ID": str(place), "ENTITY_ID": name, "STATUS_ID": value, "NAME": title, "SORT": str(10 * place), "SEMANTICS": meaning or None}
            for place, (name, value, title, meaning) in enumerate(STAGES, 1) if wanted in (None, name)
        ]  # fmt: skip

    def fields_of(kind: str) -> Callable[[dict[str, Any]], Any]:
        return lambda params: {
            name: {"isRequired": name in portal.required, "isReadOnly": False, "isMultiple": False, **one} for name, one in FIELDS[kind].items()
        }  # fmt: skip

    return {
        **{f"crm.{kind.lower()}.update": updates(kind) for kind in ("LEAD", "CONTACT", "DEAL")},
        **{f"crm.{kind.lower()}.fields": fields_of(kind) for kind in FIELDS},
        "crm.deal.productrows.set": set_rows, "crm.timeline.comment.add": add_comment, "crm.timeline.comment.list": list_comments,
        "crm.status.list": statuses,
        "crm.category.list": lambda params: {"categories": [{"id": 0, "name": "Общая"}, {"id": 1, "name": "Опт"}]},
    }  # fmt: skip
