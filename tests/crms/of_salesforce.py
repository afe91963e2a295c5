"""Salesforce before the suite."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.sandbox.salesforce import ANNA, IVAN, OLGA, PHONES, Salesforce
from tests.sandbox.web import Fault

_LINE = re.compile(r"^(.*): ([0-9.]+) x ([0-9.]+)$", re.MULTILINE)


class Org:
    """An organisation by client credentials, with a field for the id of a call."""

    def __init__(self) -> None:
        self.org = Salesforce()

    @property
    def violations(self) -> Sequence[str]:
        return self.org.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": IVAN, "151": ANNA, "152": OLGA}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.org.serve(task_status=task_status)

    def settings(self) -> Mapping[str, Any]:
        return {
            "instance_url": self.org.base, "client_id": self.org.CLIENT_ID, "client_secret": self.org.client_secret,
            "call_field": self.org.call_field, "order_field": self.org.order_field, "attach_recordings": False, "missed_task": False,
        }  # fmt: skip

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.org.fault, self.org.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return self.org.add("Contact", phone, LastName=name)

    def calls(self) -> Sequence[CallSeen]:
        return [
            CallSeen(
                key=one["GwCallId__c"], phone=_phone_of(one["Subject"]), answered=one["CallDisposition"] in ("Отвечен", "Answered"),
                duration_s=one["CallDurationInSeconds"], people=(one["OwnerId"],),
            )
            for one in self.org.tasks if one.get("CallType")
        ]  # fmt: skip

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(
                id=one["Id"], name=str(one.get("LastName", "")), phones=tuple(one[name] for name in PHONES if one.get(name)), fields=one,
            )
            for kind in ("Lead", "Contact") for one in self.org.records[kind].values()
        ]  # fmt: skip

    def orders(self) -> Sequence[OrderSeen]:
        return [
            OrderSeen(
                id=one["Id"], key=str(one.get("GwOrderId__c", "")), client=str(one.get("ContactId", "")), stage=one["StageName"],
                total=one["Amount"], fields=one,
                items=tuple((name, float(count), float(price)) for name, count, price in _LINE.findall(one.get("Description", ""))),
            )
            for one in self.org.records["Opportunity"].values()
        ]  # fmt: skip

    def notes(self) -> Sequence[NoteSeen]:
        return [
            NoteSeen(client=one["WhoId"], text=one["Description"]) for one in self.org.tasks if not one.get("CallType")
        ]


def _phone_of(subject: str) -> str:
    found = re.search(r"\+[0-9]+", subject)
    return found[0] if found is not None else ""


CRM = Crm(
    kind="salesforce", make=Org, cards=False, versions=True, stages={"new": "Prospecting", "done": "Closed Won", "cancelled": "Closed Lost"},
    stage_rule={
        "when": "order", "to": "StageName", "from": "order.status",
        "values": {"new": "Prospecting", "confirmed": "Negotiation", "done": "Closed Won"},
    },
    mapped_stages={"new": "Prospecting", "confirmed": "Negotiation", "done": "Closed Won"},
    contact_rule={"when": "contact", "to": "Description", "from": "contact.link"},
)  # fmt: skip
