"""Calls through the whole product to a strict HubSpot account: with faults on the way, and no secret in the log."""

import json
from pathlib import Path

import pytest
import trio

from tests.e2e.world import open_world
from tests.sandbox.hubspot import HubSpot
from tests.sandbox.web import Fault

pytestmark = pytest.mark.long
USERS = {"101": "150", "102": "151", "103": "152"}
FAULTS = (Fault.DROP_AFTER, Fault.HTTP_500, Fault.NONE)


@pytest.mark.timeout(180)
async def test_six_calls_with_faults_are_six_records(tmp_path: Path) -> None:
    account = HubSpot(token="pat-eu1-canary-of-a-token", limits=False)
    async with trio.open_nursery() as nursery:
        base = await nursery.start(account.serve)
        async with open_world(tmp_path, GATEWAY_PROVIDER_URLS=json.dumps({"hubspot": base})) as world:
            block = world.tenant()
            fields = {"api_key": account.token, "user_extensions": USERS, "search_lag_s": 1}
            await world.apply(block | {"integrations": {"hubspot": fields}})
            with trio.fail_after(20):
                while "hubspot" not in (await world.get("/integrations/0367"))["integrations"]:
                    await trio.sleep(0.1)
            await world.wait_for(lambda: "gw_call_id" in account.properties["calls"], 30)

            async def call(number: int) -> None:
                event = {
                    "UniqueId": f"900.{number}", "CallerIDNum": f"+3752962540{number // 2:02}", "Extensions": ["150", "151"],
                    "CallType": 0,
                }  # fmt: skip
                assert (await world.post("/dial", **event)).status_code == 200
                if number % 3:
                    assert (await world.post("/bridge", **event)).status_code == 200
                account.fault, account.fault_count = FAULTS[number % len(FAULTS)], 1
                assert (await world.post("/hangup", **event, CallStatus="2" if number % 3 else "0")).status_code == 200

            async with trio.open_nursery() as calls:
                for number in range(6):
                    calls.start_soon(call, number)
                    await trio.sleep(0.1)
            await world.wait_for(lambda: len(account.all("calls")) >= 6 and len(account.all("tasks")) >= 2, 90)
        nursery.cancel_scope.cancel()
    keys = sorted(one.properties["gw_call_id"] for one in account.all("calls"))
    assert keys == sorted(f"0367-900.{number}" for number in range(6)), "one record of each"
    assert len(account.all("contacts")) == 3, "one of each caller"
    assert all(one.contacts for one in account.all("calls"))
    assert account.violations == []
    assert account.token not in (tmp_path / "gateway.log").read_text()
