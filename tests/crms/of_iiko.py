"""The restaurant cloud before the suite, under its first name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.crms.facts import CAKE, CANDLE
from tests.sandbox.iiko import ORGANIZATION, TERMINAL_GROUP, Iiko, product
from tests.sandbox.web import Fault

NAMES = {CAKE: "Торт «Июнь»", CANDLE: "Свеча"}


class Cloud:
    """An account by its login."""

    def __init__(self) -> None:
        self.crm = Iiko()
        self.crm.looks = 0
        self.crm.products += [product(ident, name, {None: 1}) for ident, name in NAMES.items()]

    @property
    def violations(self) -> Sequence[str]:
        return self.crm.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": "19", "151": "18", "152": "22"}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.crm.serve(task_status=task_status)

    def settings(self) -> Mapping[str, Any]:
        return {
            "api_login": self.crm.API_LOGIN, "url": self.crm.base, "organization_id": ORGANIZATION, "terminal_group_id": TERMINAL_GROUP,
        }  # fmt: skip

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.crm.fault, self.crm.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return self.crm.add_guest(phone, name)

    def deny(self) -> None:
        self.crm.missing = {"guests", "orders"}

    def calls(self) -> Sequence[CallSeen]:
        return []

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(id=one["id"], name=one["name"], phones=(one["phone"],), fields=one) for one in self.crm.guests
        ]

    def orders(self) -> Sequence[OrderSeen]:
        return [
            OrderSeen(
                id=one.id, key=one.id, client=str(one.fields["customer"].get("id", "")), stage=one.status,
                total=sum(item["amount"] * item["price"] for item in one.fields["items"]), fields=one.fields,
                items=tuple((NAMES[item["productId"]], float(item["amount"]), float(item["price"])) for item in one.fields["items"]),
            )
            for one in self.crm.orders.values()
            if "customer" in one.fields
        ]  # fmt: skip

    def notes(self) -> Sequence[NoteSeen]:
        """What of chats stands in the comments of orders."""
        return [
            NoteSeen(client=one.fields["customer"]["id"], text=said)
            for one in self.crm.orders.values() for said in one.comments if re.search("Чат в ", said)
        ]  # fmt: skip


CRM = Crm(
    kind="iiko", make=Cloud, calls=False, makes_callers=False, cards=False, notes=False, changes_items=False, fault_every_s=0.4,
    stages={"cancelled": "Cancelled"}, contact_rule={"when": "contact", "to": "userData", "from": "contact.link"},
)  # fmt: skip
