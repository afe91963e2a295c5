"""Calls through the whole product to a strict organisation, with faults on the way and a session that ends in the middle."""

import secrets
from pathlib import Path

import pytest
import trio

from tests.e2e.world import open_world
from tests.sandbox.salesforce import ANNA, IVAN, OLGA, Salesforce
from tests.sandbox.web import Fault

pytestmark = pytest.mark.long
CALLS = 8
FAULTS = (Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE)


@pytest.mark.timeout(180)
async def test_calls_with_faults_are_one_task_each(tmp_path: Path) -> None:
    org, hook = Salesforce(), secrets.token_urlsafe(32)
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        await nursery.start(org.serve)
        block = world.tenant()
        block["integrations"]["salesforce"] = {
            "instance_url": org.base, "client_id": org.CLIENT_ID, "client_secret": org.client_secret, "call_field": org.call_field,
            "hook_id": hook, "attach_recordings": False, "missed_task": False,
            "user_extensions": {IVAN: "150", ANNA: "151", OLGA: "152"},
        }  # fmt: skip
        await world.apply(block)
        with trio.fail_after(20):
            while "salesforce" not in (await world.get("/integrations/0367"))["integrations"]:
                await trio.sleep(0.1)
        await trio.sleep(0.5)

        async def call(number: int) -> None:
            fields = {
                "UniqueId": f"900.{number}", "CallerIDNum": f"+3752962540{number // 2:02}", "Extensions": ["150", "151"], "CallType": 0,
            }  # fmt: skip
            assert (await world.post("/dial", **fields)).status_code == 200
            if number % 3:
                assert (await world.post("/bridge", **fields)).status_code == 200
            assert (await world.post("/hangup", **fields, CallStatus="2" if number % 3 else "0")).status_code == 200

        for number in range(CALLS):
            org.fault, org.fault_count = FAULTS[number % len(FAULTS)], 1
            await call(number)
            if number == CALLS // 2:
                await world.wait_for(lambda: org.access, 30)
                org.access = set()
        await world.wait_for(lambda: len(org.tasks) >= CALLS, 60)
        nursery.cancel_scope.cancel()
    assert sorted(one["GwCallId__c"] for one in org.tasks) == sorted(f"0367-900.{number}" for number in range(CALLS))
    assert len(org.leads) == CALLS // 2, "one of each caller"
    assert all(one["WhoId"] for one in org.tasks)
    assert org.exchanges >= 2
    assert org.violations == []
    written = (tmp_path / "gateway.log").read_text()
    assert not [one for one in (org.client_secret, hook, *org.access) if one in written]
