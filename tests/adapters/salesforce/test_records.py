"""What the suite of all CRMs does not ask: orders without a field of their own, of leads, deleted ones; the fields of the organisation."""

from collections.abc import Callable
from typing import Any

import pytest

from adapters.base import Attempt
from adapters.salesforce.client import SalesforceClient
from adapters.salesforce.plan import plan
from gateway.domain.calls import apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected
from tests.adapters.bitrix24.conftest import CLIENT, ended
from tests.adapters.desk import Ids
from tests.adapters.salesforce.conftest import settings_of
from tests.sandbox.salesforce import Salesforce
from tests.sandbox.web import Fault

Open = Callable[..., Any]


def body(status: str = "new", phone: str = CLIENT, **more: Any) -> dict[str, Any]:
    """A draft of an order."""
    return {
        "client": {"id": "c1", "name": "Vera", "phones": [phone] if phone else [], "emails": ["Vera@June.example"], "link": ""},
        "client_fields": {}, "fields": {},
        "order": {
            "id": "0001", "number": 7, "status": status, "version": 1, "title": "Order no. 7", "total": "25.50",
            "lines": [{"name": "Cake", "quantity": "2", "price": "12.00"}], "delivery": "", "comment": "", "link": "", "starts_at": None,
            "created_at": "2026-05-04T10:20:30+03:00", **more,
        },
    }  # fmt: skip


async def deliver(client: SalesforceClient, ids: Ids, fields: Any, number: int = 1, kind: str = "order") -> None:
    await client.deliver(Attempt(kind=kind, key="1", lane="", body=fields, number=number, ids=ids))


async def test_an_order_without_a_field_of_its_own(org: Salesforce, open_desk: Open) -> None:
    """Its answer is lost; then somebody deletes it; then a right is missing."""
    settings = settings_of(org, order_field="GwOrderId__c")
    org.order_field = ""
    ids = Ids()
    async with open_desk(settings) as desk:
        org.fault, org.fault_count, org.faulty = Fault.DROP_AFTER, 1, "POST /sobjects/Opportunity"
        with pytest.raises(Exception, match="closed"):
            await deliver(desk.client, ids, body())
        await deliver(desk.client, ids, body(), 2)
        (made,) = org.records["Opportunity"].values()
        assert (made["Name"], made["Amount"], made["CloseDate"]) == ("Order no. 7 (0367)", 25.5, "2026-05-04")
        org.records["Opportunity"].clear()
        await deliver(desk.client, ids, body("done"))
        (made,) = org.records["Opportunity"].values()
        assert made["StageName"] == "Closed Won"
        org.no_access = {"Opportunity"}
        with pytest.raises(Rejected):
            await deliver(desk.client, Ids(), body())
    assert len(org.records["Contact"]) == 1
    assert org.violations == []


async def test_an_order_of_a_lead_names_nobody(org: Salesforce, open_desk: Open) -> None:
    lead = org.add("Lead", "", Email="vera@june.example")
    ids = Ids()
    async with open_desk(settings_of(org)) as desk:
        await deliver(desk.client, ids, body(phone=""))
    (made,) = org.records["Opportunity"].values()
    assert made.get("ContactId") is None
    assert f"Lead:{lead}" in ids.stored.values()
    assert not org.records["Contact"]


async def test_fields_and_stages_to_choose_from(org: Salesforce, open_desk: Open) -> None:
    org.required = {"Task": {"Branch__c"}}
    async with open_desk(settings_of(org)) as desk:
        found = await desk.client.fields()
    assert set(found) == {"call", "contact", "chat", "order"}
    calls = {one.name: one for one in found["call"]}
    assert calls["Branch__c"].required
    assert [one.value for one in calls["Status"].values] == ["Not Started", "Completed"]
    assert "WhoId" not in calls
    orders = {one.name: one for one in found["order"]}
    assert [one.value for one in orders["StageName"].values][-1] == "Closed Lost"


async def test_rules_fill_the_fields_of_a_call(org: Salesforce, open_desk: Open, tenant: Tenant) -> None:
    org.required = {"Task": {"Branch__c"}}
    rule = {
        "when": "call",
        "to": "Branch__c",
        "from": "call.result",
        "values": {"answered": "Talked"},
        "default": "Other",
    }
    async with open_desk(settings_of(org, mapping=[rule])) as desk:
        await desk.tell(ended())
        event = ended("2")
        call = apply(None, event)
        assert call is not None
        assert plan(desk.settings, tenant, None, call, event)[0].body["fields"] == {"Branch__c": "Talked"}
    assert [one["Branch__c"] for one in org.tasks] == ["Talked"]
