"""HubSpot's own client before the sandbox: it sends what HubSpot takes and reads what HubSpot answers, so the two agree where they can."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hubspot import HubSpot as Sdk
from hubspot.crm.contacts import Filter, FilterGroup, PublicObjectSearchRequest
from hubspot.crm.objects import (
    BatchInputSimplePublicObjectBatchInputForCreate,
    SimplePublicObjectBatchInputForCreate,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.objects.exceptions import ApiException

from gateway.domain.events import Result
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.hubspot.conftest import CLIENT, only, settings_of
from tests.sandbox.hubspot import HubSpot

pytestmark = pytest.mark.slow  # the library takes a second to load


def called(number: int, **more: str) -> dict[str, str]:
    """A call's properties."""
    return {"hs_timestamp": str(1_763_684_000_000 + number), "hs_call_direction": "INBOUND", **more}


def drive(sdk: Any, contact: str, written: str) -> dict[str, Any]:
    """What somebody does with an account, one request after the other."""
    found: dict[str, Any] = {}
    calls, kind = sdk.crm.objects.basic_api, "calls"
    found["read"] = calls.get_by_id(
        kind, written, properties=["hs_call_duration", "gw_call_id", "hubspot_owner_id"]
    ).properties
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}]
    wanted = SimplePublicObjectInputForCreate(
        properties=called(1), associations=[{"to": {"id": contact}, "types": types}]
    )
    made = calls.create(kind, wanted)
    found["made"] = made.id
    calls.update(kind, made.id, SimplePublicObjectInput(properties={"hs_call_status": "COMPLETED"}))
    several = [
        SimplePublicObjectBatchInputForCreate(properties=called(2), associations=[], object_write_trace_id="a"),
        SimplePublicObjectBatchInputForCreate(
            properties=called(3, no_such="1"), associations=[], object_write_trace_id="b"
        ),
    ]
    batch = sdk.crm.objects.batch_api.create(kind, BatchInputSimplePublicObjectBatchInputForCreate(inputs=several))
    found["batch"] = (batch.status, len(batch.results), batch.num_errors, batch.errors[0].context)
    for name, properties in (("unknown", called(4, no_such="1")), ("owner", called(5, hubspot_owner_id="9"))):
        with pytest.raises(ApiException) as raised:
            calls.create(kind, SimplePublicObjectInputForCreate(properties=properties, associations=[]))
        found[name] = raised.value.status
    filters = [
        Filter(property_name="hs_searchable_calculated_phone_number", operator="CONTAINS_TOKEN", value="*291112233")
    ]
    search = PublicObjectSearchRequest(filter_groups=[FilterGroup(filters=filters)], properties=["phone"], limit=5)
    found["search"] = [one.id for one in sdk.crm.contacts.search_api.do_search(search).results]
    found["owners"] = [one.id for one in sdk.crm.owners.get_all()]
    found["stages"] = [
        one.id for pipeline in sdk.crm.pipelines.pipelines_api.get_all("deals").results for one in pipeline.stages
    ]
    found["unique"] = sdk.crm.properties.core_api.get_by_name(kind, "gw_call_id").has_unique_value
    calls.archive(kind, made.id)
    return found


async def test_hubspot_s_own_client_agrees(account: HubSpot, open_desk: Callable[..., Any]) -> None:
    account.lag_s = 0.0
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended("1", Result.ANSWERED))
    call, contact = only(account), only(account, "contacts")
    sdk = Sdk(access_token=account.token, host=account.base)
    found = await trio.to_thread.run_sync(drive, sdk, contact.id, call.id)
    assert {name: found["read"][name] for name in ("hs_call_duration", "gw_call_id", "hubspot_owner_id")} == {
        "hs_call_duration": "55000", "gw_call_id": "0367-1", "hubspot_owner_id": "101",
    }  # fmt: skip
    assert account.objects["calls"][found["made"]].contacts == [contact.id]
    assert account.objects["calls"][found["made"]].archived
    assert found["batch"] == ("COMPLETE", 1, 1, {"objectWriteTraceId": ["b"]})
    assert (found["unknown"], found["owner"]) == (400, 400)
    assert found["search"] == [contact.id]
    assert contact.properties["phone"] == CLIENT
    assert found["owners"] == ["101", "102", "103"]
    assert found["stages"][0] == "appointmentscheduled"
    assert found["unique"] is True
    wrong = Sdk(access_token="pat-eu1-wrong", host=account.base)
    with pytest.raises(ApiException) as raised:
        await trio.to_thread.run_sync(wrong.crm.objects.basic_api.get_by_id, "calls", call.id)
    assert raised.value.status == 401
    assert account.violations == []
