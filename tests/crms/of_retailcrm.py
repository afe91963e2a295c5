"""RetailCRM before the suite."""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.web import Fault


class Account:
    """An account by its key."""

    def __init__(self) -> None:
        self.crm = RetailCrm(rate_limits=False)

    @property
    def violations(self) -> Sequence[str]:
        return self.crm.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": "19", "151": "18", "152": "22"}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.crm.serve(task_status=task_status)

    def settings(self) -> Mapping[str, Any]:
        return {"domain": self.crm.base, "api_key": self.crm.api_key}

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.crm.fault, self.crm.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return str(self.crm.add_customer(phone, name))

    def delete_client(self, ident: str) -> None:
        self.crm.customers[:] = [one for one in self.crm.customers if str(one["id"]) != ident]

    def delete_order(self, ident: str) -> None:
        del self.crm.orders[int(ident)]

    def deny(self) -> None:
        self.crm.denied = ("/api/v5/customers", "/api/v5/orders", "/api/v5/reference", "/api/v5/custom-fields")

    def require(self) -> str:
        self.crm.required = "customFields.link"
        return "customFields.link"

    def calls(self) -> Sequence[CallSeen]:
        users = self.people
        shown: dict[str, dict[str, None]] = {}
        for one in self.crm.events:
            if one.data["type"] != "hangup":
                shown.setdefault(one.data["callExternalId"], {}).update(
                    dict.fromkeys(users[code] for code in one.data.get("codes", ()))
                )
        return [
            CallSeen(
                key=one.data["externalId"], phone=one.data["phone"], answered=one.data["result"] == "answered",
                duration_s=one.data["duration"], people=(users[one.data["code"]],) if "code" in one.data else (),
                shown=tuple(shown.get(one.data["externalId"], ())),
            )
            for one in self.crm.uploads
        ]  # fmt: skip

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(
                id=str(one["id"]), name=one.get("firstName", ""), phones=tuple(phone["number"] for phone in one.get("phones", ())), fields=one
            )
            for one in self.crm.customers
        ]  # fmt: skip

    def orders(self) -> Sequence[OrderSeen]:
        return [
            OrderSeen(
                id=str(number), key=one.get("externalId", ""), client=str(one.get("customer", {}).get("id", "")), stage=one.get("status", ""),
                total=sum(item["initialPrice"] * item["quantity"] for item in one.get("items", ())), fields=one,
                items=tuple((item["productName"], float(item["quantity"]), float(item["initialPrice"])) for item in one.get("items", ())),
            )
            for number, one in self.crm.orders.items()
        ]  # fmt: skip

    def notes(self) -> Sequence[NoteSeen]:
        return [NoteSeen(client=str(one["customer"]["id"]), text=one["text"]) for one in self.crm.notes]


CRM = Crm(
    kind="retailcrm", make=Account, makes_callers=False, every_phone=True, versions=True, stages={"new": "new", "done": "complete", "cancelled": "cancel-other"},
    stage_rule={
        "when": "order", "to": "status", "from": "order.status",
        "values": {"new": "new", "confirmed": "client-confirmed", "done": "complete"},
    },
    mapped_stages={"new": "new", "confirmed": "client-confirmed", "done": "complete"},
    contact_rule={"when": "contact", "to": "customFields.link", "from": "contact.link"},
)  # fmt: skip
