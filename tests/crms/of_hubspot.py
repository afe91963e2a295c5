"""HubSpot before the suite."""

from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.sandbox.hubspot import HubSpot
from tests.sandbox.web import Fault


class Account:
    """An account by its private app. New records are found after a while."""

    def __init__(self) -> None:
        self.account = HubSpot(limits=False, lag_s=0.2)

    @property
    def violations(self) -> Sequence[str]:
        return self.account.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": "101", "151": "102", "152": "103"}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.account.serve(task_status=task_status)

    @property
    def base_url(self) -> str:
        """Where it is: its address stands in no setting."""
        return self.account.base

    def settings(self) -> Mapping[str, Any]:
        return {"api_key": self.account.token, "search_lag_s": 1}

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.account.fault, self.account.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return self.account.add_contact(phone, firstname=name)

    def delete_client(self, ident: str) -> None:
        self.account.objects["contacts"][ident].archived = True

    def delete_order(self, ident: str) -> None:
        self.account.objects["deals"][ident].archived = True

    def require(self) -> str:
        self.account.properties["deals"]["jobtitle"] = {"type": "string"}
        self.account.required = {"jobtitle"}
        return "jobtitle"

    def calls(self) -> Sequence[CallSeen]:
        found = []
        for one in self.account.all("calls"):
            got = one.properties
            incoming = got["hs_call_direction"] == "INBOUND"
            found.append(
                CallSeen(
                    key=got["gw_call_id"], phone=got["hs_call_from_number" if incoming else "hs_call_to_number"],
                    answered=got["hs_call_status"] == "COMPLETED", duration_s=int(got["hs_call_duration"]) // 1000,
                    people=(got["hubspot_owner_id"],) if "hubspot_owner_id" in got else (),
                )
            )  # fmt: skip
        return found

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(
                id=one.id, name=one.properties.get("firstname", ""), fields=one.properties,
                phones=tuple(number for name in ("phone", "mobilephone") if (number := one.properties.get(name))),
            )
            for one in self.account.all("contacts")
        ]  # fmt: skip

    def orders(self) -> Sequence[OrderSeen]:
        return [
            OrderSeen(
                id=one.id, key=one.properties.get("gw_order_id", ""), client=next(iter(one.contacts), ""), fields=one.properties,
                stage=one.properties["dealstage"], total=float(one.properties["amount"]),
                items=tuple(
                    (item.properties["name"], float(item.properties["quantity"]), float(item.properties["price"]))
                    for item in self.account.all("line_items") if one.id in item.deals
                ),
            )
            for one in self.account.all("deals")
        ]  # fmt: skip

    def notes(self) -> Sequence[NoteSeen]:
        return [
            NoteSeen(client=next(iter(one.contacts), ""), text=unescape(one.properties["hs_note_body"].replace("<br>", "\n")))
            for one in self.account.all("notes")
        ]  # fmt: skip


CRM = Crm(
    kind="hubspot", make=Account, cards=False, every_phone=True, versions=True,
    stages={"new": "appointmentscheduled", "done": "closedwon", "in_progress": "appointmentscheduled", "cancelled": "closedlost"},
    stage_rule={
        "when": "order", "to": "dealstage", "from": "order.status",
        "values": {"new": "appointmentscheduled", "confirmed": "contractsent", "done": "closedwon"},
    },
    mapped_stages={"new": "appointmentscheduled", "confirmed": "contractsent", "done": "closedwon"},
    contact_rule={"when": "contact", "to": "jobtitle", "from": "contact.link"},
)  # fmt: skip
