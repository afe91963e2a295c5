"""A sandbox portal that knows deals in full: fields, stages, currencies, contacts, companies, and events about what changes.

As strict and as odd as the real one: unknown fields are ignored without a word, a pipeline is changed by `crm.item.update` alone,
`CONTACT_IDS` replaces the whole set, a portal fires an event for its own and for our changes alike. `violations` lists what a
well-behaved client never does; `doubles` finds deals and contacts that were made twice. Read `bitrix24.py` for the rest.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx2
import trio

from tests.sandbox.bitrix24 import Bitrix24, digits
from tests.sandbox.bitrix24_records import Refusal, as_list
from tests.sandbox.web import Fault

PIPELINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "0": ("Продажи", ("NEW", "PREPARATION", "PREPAYMENT", "EXECUTING", "FINAL", "WON", "LOSE")),
    "1": ("Партнёры", ("C1:NEW", "C1:PREPARATION", "C1:PREPAYMENT_INVOICE", "C1:EXECUTING", "C1:FINAL_INVOICE", "C1:WON", "C1:LOSE")),
}  # fmt: skip
FIELDS: Mapping[str, tuple[str, str]] = {
    "ID": ("integer", "ID"), "TITLE": ("string", "Название"), "STAGE_ID": ("crm_status", "Стадия"),
    "CATEGORY_ID": ("crm_category", "Воронка"), "TYPE_ID": ("crm_status", "Тип"), "OPPORTUNITY": ("double", "Сумма"),
    "CURRENCY_ID": ("crm_currency", "Валюта"), "TAX_VALUE": ("double", "Налог"), "COMPANY_ID": ("crm_company", "Компания"),
    "CONTACT_ID": ("crm_contact", "Контакт"), "CONTACT_IDS": ("crm_contact", "Контакты"), "ASSIGNED_BY_ID": ("user", "Ответственный"),
    "BEGINDATE": ("date", "Дата начала"), "CLOSEDATE": ("date", "Дата завершения"), "DATE_CREATE": ("datetime", "Создана"),
    "DATE_MODIFY": ("datetime", "Изменена"), "COMMENTS": ("string", "Комментарий"), "SOURCE_ID": ("crm_status", "Источник"),
    "SOURCE_DESCRIPTION": ("string", "Об источнике"), "ORIGINATOR_ID": ("string", "Внешний источник"),
    "ORIGIN_ID": ("string", "Внешний ключ"), "PARENT_ID_128": ("crm_entity", "Проект"),
    "UF_CRM_SOURCE_ID": ("string", "Номер у партнёра"), "UF_CRM_PARTNER_ID": ("string", "Партнёр"),
    "UF_CRM_TARGET_ID": ("string", "Номер у нас"), "UF_CRM_CONTRACT": ("string", "Договор"),
    "UF_CRM_ESB_CONTRACT": ("string", "Договор"), "UF_CRM_IMPORT_DATE": ("datetime", "Дата импорта"),
    "UF_CRM_KIND": ("enumeration", "Вид"),
}  # fmt: skip
KINDS = (("44", "Розница"), ("45", "Опт"))
READ_ONLY = frozenset({"ID", "DATE_CREATE", "DATE_MODIFY"})
CURRENCIES = (("RUB", "Российский рубль"), ("BYN", "Белорусский рубль"))
FAULTS = (Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.HTTP_503)


class DealPortal(Bitrix24):
    """One portal with deals. `deal(...)` is what a person does there; `updates` are those of deals that came as they were."""

    def __init__(self, secret: str = "", *, domain: str, **more: Any) -> None:
        super().__init__(secret, **more)
        self.domain = domain
        self.read_only = False
        self.every = 0
        """Every so-manieth request has a fault."""
        self.made: Counter[str] = Counter()
        self.pending: list[tuple[str, int]] = []
        """Events that are not sent yet."""
        self.wrote = trio.Event()
        self.writes: Counter[int] = Counter()
        self._now = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
        self.served = 0
        self.methods = {
            **self.methods,
            "crm.deal.add": self._add_deal, "crm.deal.update": self._update_deal, "crm.deal.list": self._list_deals,
            "crm.deal.get": self._get_deal, "crm.deal.contact.items.get": self._contacts_of, "crm.item.update": self._update_item,
            "crm.deal.fields": self._fields, "crm.currency.list": lambda params: [
                {"CURRENCY": code, "FULL_NAME": name} for code, name in CURRENCIES
            ],
            "crm.category.list": lambda params: {"categories": [
                {"id": int(one), "name": name, "isDefault": "Y" if one == "0" else "N"} for one, (name, _) in PIPELINES.items()
            ]},
            "crm.status.list": self._statuses, "crm.contact.add": self._add_party("CONTACT"), "crm.company.add": self._add_party("COMPANY"),
        }  # fmt: skip

    # What people do.

    def deal(self, number: int = 0, *, event: bool = True, **fields: Any) -> int:
        """A person makes a deal, or changes one."""
        deals = self.entities["DEAL"]
        if number:
            self._set(number, fields)
        else:
            number = self._new({"TITLE": "Deal", **fields})
        if event:
            self._fire("ONCRMDEALUPDATE" if deals[number].get("_told") else "ONCRMDEALADD", number)
            deals[number]["_told"] = True
        return number

    def remove(self, kind: str, number: int) -> None:
        """A person removes something."""
        del self.entities[kind][number]

    def merge(self, kind: str, number: int, into: int) -> None:
        """A person merges two: one of them is no more."""
        gone = self.entities[kind].pop(number)
        self.entities[kind][into].setdefault("PHONE", []).extend(gone.get("PHONE", ()))

    def event_body(self, name: str, number: int, ts: int | str = 0, token: str = "") -> bytes:
        """An event as the portal sends it."""
        return urlencode({
            "event": name, "event_handler_id": "9", "data[FIELDS][ID]": str(number), "ts": str(ts),
            "auth[domain]": self.domain, "auth[client_endpoint]": f"https://{self.domain}/rest/", "auth[member_id]": "a223c6",
            "auth[application_token]": token or self.APPLICATION_TOKEN,
        }).encode()  # fmt: skip

    async def send_events(self, url: str) -> None:
        """Until cancelled: each event once, as the real one does."""
        ts = 1_766_000_000
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
            while True:
                await self.wrote.wait()
                self.wrote = trio.Event()
                while self.pending:
                    name, number = self.pending.pop(0)
                    ts += 1
                    headers = {"content-type": "application/x-www-form-urlencoded"}
                    await client.post(url, content=self.event_body(name, number, ts), headers=headers)

    @property
    def doubles(self) -> list[str]:
        """Origins that more than one thing has."""
        found = Counter(
            f"{kind} {item['ORIGIN_ID']}"
            for kind, items in self.entities.items()
            for item in items.values()
            if item.get("ORIGIN_ID")
        )
        return sorted(one for one, times in found.items() if times > 1)

    # Methods.

    def _take_fault(self, method: str) -> Fault:
        self.served += 1
        if self.every and self.served % self.every == 0:
            return FAULTS[(self.served // self.every) % len(FAULTS)]
        return super()._take_fault(method)

    def _new(self, fields: Mapping[str, Any]) -> int:
        self._ids += 1
        category = str(fields.get("CATEGORY_ID") or "0")
        self.entities["DEAL"][self._ids] = {
            "ID": str(self._ids), "CATEGORY_ID": category, "STAGE_ID": PIPELINES[category][1][0], "CURRENCY_ID": "RUB",
            "OPPORTUNITY": "0.00", "ASSIGNED_BY_ID": "1", "COMPANY_ID": None, "_contacts": [],
        }  # fmt: skip
        self._set(self._ids, {name: value for name, value in fields.items() if name != "CATEGORY_ID"})
        return self._ids

    def _set(self, number: int, fields: Mapping[str, Any]) -> None:
        item = self.entities["DEAL"][number]
        for name, value in fields.items():
            if name not in FIELDS or name in READ_ONLY:
                continue
            if name == "CONTACT_IDS":
                item["_contacts"] = [int(one) for one in as_list(value) if str(one)]
            elif name == "STAGE_ID":
                if value in PIPELINES[item["CATEGORY_ID"]][1]:
                    item[name] = value
                else:
                    self.violations.append(f"stage {value} of another pipeline")
            elif name == "CURRENCY_ID" and value not in dict(CURRENCIES):
                self.violations.append(f"currency {value} is unknown")
            elif name == "OPPORTUNITY":
                item[name] = f"{float(value or 0):.2f}"
            else:
                item[name] = (
                    None
                    if value == ""
                    else [str(one) for one in as_list(value)]
                    if isinstance(value, list | dict)
                    else str(value)
                )
        self._now += timedelta(seconds=1)
        item["DATE_MODIFY"] = self._now.isoformat()

    def _fire(self, name: str, number: int) -> None:
        self.pending.append((name, number))
        self.wrote.set()

    def _writable(self) -> None:
        if self.read_only:
            raise Refusal(403, "ACCESS_DENIED", "Доступ запрещён.")

    def _given(self, params: dict[str, Any]) -> dict[str, Any]:
        fields = params.get("fields")
        if not isinstance(fields, dict):
            raise Refusal(400, "", "Parameter 'fields' must be array.")
        return fields

    def _one(self, params: dict[str, Any]) -> int:
        number = int(params.get("id") or params.get("ID") or 0)
        if number not in self.entities["DEAL"]:
            raise Refusal(400, "", "Not found")
        return number

    def _add_deal(self, params: dict[str, Any]) -> int:
        self._writable()
        fields = self._given(params)
        if missing := {name for name in self.required if not fields.get(name)}:
            raise Refusal(400, "", f"Не заполнено обязательное поле {', '.join(sorted(missing))}")
        number = self._new(fields)
        self.entities["DEAL"][number]["_told"] = True
        self.made[str(fields.get("ORIGIN_ID", ""))] += 1
        self._fire("ONCRMDEALADD", number)
        return number

    def _update_deal(self, params: dict[str, Any]) -> bool:
        self._writable()
        number, fields = self._one(params), self._given(params)
        self._set(number, {name: value for name, value in fields.items() if name != "CATEGORY_ID"})
        self.writes[number] += 1
        self._fire("ONCRMDEALUPDATE", number)
        return True

    def _update_item(self, params: dict[str, Any]) -> dict[str, Any]:
        self._writable()
        if str(params.get("entityTypeId")) != "2":
            raise Refusal(400, "NOT_FOUND", "Smart process is not found")
        number, fields = self._one(params), self._given(params)
        item = self.entities["DEAL"][number]
        if (category := str(fields.get("categoryId", ""))) in PIPELINES and category != item["CATEGORY_ID"]:
            item["CATEGORY_ID"] = category
            item["STAGE_ID"] = PIPELINES[category][1][0]
        self._set(number, {"STAGE_ID": fields["stageId"]} if "stageId" in fields else {})
        self.writes[number] += 1
        self._fire("ONCRMDEALUPDATE", number)
        return {"item": {"id": number}}

    def _get_deal(self, params: dict[str, Any]) -> dict[str, Any]:
        item = self.entities["DEAL"][self._one(params)]
        shown = {name: None for name in FIELDS if name != "CONTACT_IDS"}
        shown |= {name: value for name, value in item.items() if name in shown}
        return shown | {"CONTACT_ID": str(item["_contacts"][0]) if item.get("_contacts") else None}

    def _contacts_of(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        ids = self.entities["DEAL"][self._one(params)].get("_contacts", [])
        return [{"CONTACT_ID": one, "SORT": 10 * n, "IS_PRIMARY": "N" if n else "Y"} for n, one in enumerate(ids)]

    def _list_deals(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = dict(params.get("filter") or {})
        since = wanted.pop(">DATE_MODIFY", None)
        found = [
            item for item in self.entities["DEAL"].values()
            if all(str(item.get(name)) == str(value) for name, value in wanted.items())
            and (since is None or datetime.fromisoformat(item["DATE_MODIFY"]) > datetime.fromisoformat(since))
        ]  # fmt: skip
        start = int(params.get("start") or 0)
        page = {"result": [{"ID": one["ID"]} for one in found[start : start + 50]], "total": len(found)}
        return {**page, "next": start + 50} if start + 50 < len(found) else page

    def _batch(self, params: dict[str, Any], *, application: bool) -> dict[str, Any]:
        answer = super()._batch(params, application=application)
        # Lists bear their totals beside them in a batch.
        if isinstance(answer["result"], dict):
            for name, one in answer["result"].items():
                if isinstance(one, dict) and one.keys() >= {"result", "total"}:
                    answer["result"][name] = one["result"]
        return answer

    def _fields(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "type": kind, "isRequired": name in self.required, "isReadOnly": name in READ_ONLY, "isMultiple": name == "CONTACT_IDS",
                "title": name if name.startswith("UF_") else title, **({"formLabel": title} if name.startswith("UF_") else {}),
                **({"items": [{"ID": one, "VALUE": text} for one, text in KINDS]} if kind == "enumeration" else {}),
            }
            for name, (kind, title) in FIELDS.items()
        }  # fmt: skip

    def _statuses(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        entity = str((params.get("filter") or {}).get("ENTITY_ID", ""))
        _, _, pipeline = entity.partition("DEAL_STAGE")
        stages = (
            PIPELINES.get(pipeline.removeprefix("_") or "0", ("", ()))[1] if entity.startswith("DEAL_STAGE") else ()
        )
        return [{"ENTITY_ID": entity, "STATUS_ID": one, "NAME": one.rpartition(":")[2].title()} for one in stages]

    def _add_party(self, kind: str) -> Callable[[dict[str, Any]], int]:
        def add(params: dict[str, Any]) -> int:
            self._writable()
            fields = self._given(params)
            numbers = {digits(dict(one)["VALUE"])[-9:] for one in as_list(fields.get("PHONE", []))}
            for item in self.entities[kind].values():
                if numbers & {digits(one["VALUE"])[-9:] for one in as_list(item.get("PHONE", []))}:
                    self.violations.append(f"a second {kind.lower()} for a number")
            self._ids += 1
            phones = [dict(one) for one in as_list(fields.get("PHONE", []))]
            self.entities[kind][self._ids] = {"ID": str(self._ids), **fields, "PHONE": phones, "ASSIGNED_BY_ID": "1"}
            return self._ids

        return add
