"""Bitrix24 before the suite."""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tests.crms.crm import CallSeen, ClientSeen, Crm, NoteSeen, OrderSeen
from tests.sandbox.bitrix24 import Bitrix24
from tests.sandbox.web import Fault


class Portal:
    """A portal by its webhook."""

    def __init__(self) -> None:
        self.portal = Bitrix24(limits=False)

    @property
    def violations(self) -> Sequence[str]:
        return self.portal.violations

    @property
    def people(self) -> Mapping[str, str]:
        return {"150": "19", "151": "18", "152": "22"}

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.portal.serve(task_status=task_status)

    def settings(self) -> Mapping[str, Any]:
        return {"webhook_url": self.portal.webhook_url, "attach_recordings": False, "missed_task": False}

    def disturb(self, fault: Fault, times: int = 1) -> None:
        self.portal.fault, self.portal.fault_count = fault, times

    def add_client(self, phone: str, name: str) -> str:
        return str(self.portal.add("CONTACT", phone, NAME=name))

    def delete_client(self, ident: str) -> None:
        del self.portal.entities["CONTACT"][int(ident)]

    def delete_order(self, ident: str) -> None:
        del self.portal.entities["DEAL"][int(ident)]
        self.portal.rows.pop(int(ident), None)

    def require(self) -> str:
        self.portal.required = {"UF_CRM_LINK"}
        return "UF_CRM_LINK"

    def calls(self) -> Sequence[CallSeen]:
        return [
            CallSeen(
                key=one.fields["EXTERNAL_CALL_ID"], phone=one.fields["PHONE_NUMBER"], answered=one.finished["STATUS_CODE"] == "200",
                duration_s=one.finished["DURATION"], people=(one.finished["USER"],), shown=tuple(one.shown),
            )
            for one in self.portal.calls.values() if one.finished is not None
        ]  # fmt: skip

    def clients(self) -> Sequence[ClientSeen]:
        return [
            ClientSeen(
                id=str(number), name=str(item.get("NAME", "")), phones=tuple(one["VALUE"] for one in item.get("PHONE", ())), fields=item
            )
            for kind in ("LEAD", "CONTACT") for number, item in self.portal.entities[kind].items()
        ]  # fmt: skip

    def orders(self) -> Sequence[OrderSeen]:
        return [
            OrderSeen(
                id=str(number), key=str(item.get("ORIGIN_ID", "")), client=str(next(iter(item.get("CONTACT_IDS", ())), "")),
                stage=str(item.get("STAGE_ID", "")), total=float(item.get("OPPORTUNITY", 0)), fields=item,
                items=tuple((row["PRODUCT_NAME"], float(row["QUANTITY"]), float(row["PRICE"])) for row in self.portal.rows.get(number, ())),
            )
            for number, item in self.portal.entities["DEAL"].items()
        ]  # fmt: skip

    def notes(self) -> Sequence[NoteSeen]:
        return [NoteSeen(client=str(one["ENTITY_ID"]), text=one["COMMENT"]) for one in self.portal.comments]


CRM = Crm(
    kind="bitrix24", make=Portal, every_phone=True, versions=True, stages={"new": "NEW", "done": "WON", "cancelled": "LOSE"},
    stage_rule={
        "when": "order", "to": "STAGE_ID", "from": "order.status", "values": {"new": "NEW", "confirmed": "EXECUTING", "done": "WON"},
    },
    mapped_stages={"new": "NEW", "confirmed": "EXECUTING", "done": "WON"},
    contact_rule={"when": "contact", "to": "UF_CRM_LINK", "from": "contact.link"},
)  # fmt: skip
