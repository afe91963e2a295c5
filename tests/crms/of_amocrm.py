"""amoCRM before the suite. Leads have whole sums and no rows, so an order's exact ones are read from its note."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.sandbox.amocrm import AmoCrm, phones_of
from tests.sandbox.web import Fault

_LINE = re.compile(r"^\d+\. (.+): ([\d.,]+)\S* × ([\d.]+) = ", re.MULTILINE)
_ORDER = re.compile(r"Заказ № (\d+)")


def _number(text: str) -> float:
    return float(text.replace(",", "."))


class Account:
    """An account by its long-lived token."""

    def __init__(self) -> None:
        self.account = AmoCrm(limits=False)

    @property
    def base_url(self) -> str:
        return self.account.base

    @property
    def violations(self) -> Sequence[str]:
        return self.account.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": "502", "151": "501", "152": "503"}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.account.serve(task_status=task_status)

    def settings(self) -> Mapping[str, Any]:
        return {
            "subdomain": "june", "access_token": self.account.token, "attach_recordings": False, "missed_task": False,
        }  # fmt: skip

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.account.fault, self.account.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return str(self.account.add("contacts", phone, name=name))

    def delete_client(self, ident: str) -> None:
        del self.account.entities["contacts"][int(ident)]

    def delete_order(self, ident: str) -> None:
        del self.account.entities["leads"][int(ident)]
        for contact in self.account.entities["contacts"].values():
            contact["lead_ids"] = [one for one in contact["lead_ids"] if one != int(ident)]

    def require(self) -> str:
        self.account.required = {"contacts": "LINK", "leads": "LINK"}
        return "LINK"

    def calls(self) -> Sequence[CallSeen]:
        shown: dict[str, dict[str, None]] = {}
        for phone, users in self.account.cards:
            shown.setdefault(phone, {}).update(dict.fromkeys(map(str, users)))
        found = []
        for note in self.account.calls:
            data = note["params"]
            waits = next((w for w in self.account.waiting if w["metadata"]["uniq"] == data["uniq"]), None)
            # In an incoming lead the client is the caller of an incoming call, and whoever was called of another.
            sides = [data["from"], data["phone"]] if "from" in data else [data["phone"]]
            phone = next(one for one in sides if len(one) > 3 and one != "375171234567")
            found.append(
                CallSeen(
                    key=data["uniq"], phone=phone, answered=data["call_status"] == 4 if waits is None else data["duration"] > 0,
                    duration_s=data["duration"], people=(str(note["responsible_user_id"]),), shown=tuple(shown.get(phone.removeprefix("+"), ())),
                )
            )  # fmt: skip
        return found

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(id=str(number), name=str(one["name"]), phones=tuple(phones_of(one)), fields=one)
            for number, one in self.account.entities["contacts"].items()
        ]

    def orders(self) -> Sequence[OrderSeen]:
        found = []
        for number, lead in self.account.entities["leads"].items():
            if (named := _ORDER.search(str(lead["name"]))) is None:
                continue
            texts = [note["params"]["text"] for note in self.account.notes
                     if (note["kind"], note["entity_id"], note["note_type"]) == ("leads", number, "common")]  # fmt: skip
            assert len(texts) <= 1
            text = "".join(texts)
            total = re.search(r"Итого: ([\d.,\s]+)", text)
            exact = _number(re.sub(r"\s", "", total[1])) if total is not None else float(lead["price"])
            assert abs(exact - lead["price"]) <= 0.5
            contacts = [
                str(one["id"]) for one in self.account.entities["contacts"].values() if number in one["lead_ids"]
            ]
            found.append(
                OrderSeen(
                    id=str(number), key=str(UUID(int=2000 + int(named[1]))), client="".join(contacts), stage=str(lead["status_id"]),
                    total=exact, items=tuple((name, _number(count), _number(price)) for name, count, price in _LINE.findall(text)), fields=lead,
                )
            )  # fmt: skip
        return found

    def notes(self) -> Sequence[NoteSeen]:
        return [
            NoteSeen(client=str(one["entity_id"]), text=one["params"]["text"])
            for one in self.account.notes if (one["kind"], one["note_type"]) == ("contacts", "common")
        ]  # fmt: skip


CRM = Crm(
    kind="amocrm", make=Account, versions=True, every_phone=True, stages={"new": "1", "done": "142", "cancelled": "143"},
    stage_rule={
        "when": "order", "to": "status_id", "from": "order.status", "values": {"new": "1", "confirmed": "2", "done": "142"},
    },
    mapped_stages={"new": "1", "confirmed": "2", "done": "142"},
    contact_rule={"when": "contact", "to": "303", "from": "contact.link"},
)  # fmt: skip
