"""Calls through the whole product to a strict portal: with faults on the way, and from a click in it to its record."""

import secrets
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import World, open_world
from tests.sandbox.bitrix24 import Bitrix24
from tests.sandbox.web import Fault

pytestmark = pytest.mark.slow
CLIENT = "+375296254070"
USERS = {"19": "150", "18": "151", "22": "152"}
FAULTS = (Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE)


def with_portal(world: World, portal: Bitrix24, hook: str = "", **more: Any) -> dict[str, Any]:
    """The tenant with the portal beside its other systems."""
    block = world.tenant()
    fields = {
        "webhook_url": portal.webhook_url,
        "user_extensions": USERS,
        **({"hook_id": hook} if hook else {}),
        **more,
    }
    block["integrations"]["bitrix24"] = fields
    return block


async def ready(world: World) -> None:
    """Until the gateway tells the portal of calls."""
    with trio.fail_after(20):
        while "bitrix24" not in (await world.get("/integrations/0367"))["integrations"]:
            await trio.sleep(0.1)
    await trio.sleep(0.5)


@pytest.mark.long  # half a minute at the portal's own limits
@pytest.mark.timeout(300)
async def test_thirty_calls_with_faults_are_thirty_records(tmp_path: Path) -> None:
    portal = Bitrix24(limits=False)
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        await nursery.start(portal.serve)
        await world.apply(with_portal(world, portal, attach_recordings=False))
        await ready(world)
        begun: dict[str, float] = {}

        async def call(number: int) -> None:
            fields = {
                "UniqueId": f"900.{number}", "CallerIDNum": f"+3752962540{number // 2:02}", "Extensions": ["150", "151"],
                "CallType": 0,
            }  # fmt: skip
            begun[f"0367-900.{number}"] = portal.clock()
            assert (await world.post("/dial", **fields)).status_code == 200
            await trio.sleep(1.0)
            if number % 3:
                assert (await world.post("/bridge", **fields)).status_code == 200
            assert (await world.post("/hangup", **fields, CallStatus="2" if number % 3 else "0")).status_code == 200

        async def disturb() -> None:
            while True:
                for fault in FAULTS:
                    portal.fault, portal.fault_count = fault, 1
                    await trio.sleep(2.0)

        nursery.start_soon(disturb)
        async with trio.open_nursery() as calls:
            for number in range(30):
                calls.start_soon(call, number)
                await trio.sleep(0.2)
        await world.wait_for(lambda: sum(one.finished is not None for one in portal.calls.values()) >= 30, 120)
        nursery.cancel_scope.cancel()
    externals = [one.fields["EXTERNAL_CALL_ID"] for one in portal.calls.values()]
    assert sorted(externals) == sorted({f"0367-900.{number}" for number in range(30)}), "one record of each"
    assert len(portal.entities["LEAD"]) == 15, "one of each caller"
    assert portal.open_calls == []
    assert portal.violations == []
    waits = sorted(one.at - begun[one.fields["EXTERNAL_CALL_ID"]] for one in portal.calls.values())
    print(
        f"\nring to card: least {waits[0] * 1000:.0f} ms, p50 {waits[15] * 1000:.0f} ms, most {waits[-1] * 1000:.0f} ms"
    )


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_click_in_the_portal_is_one_call_and_one_record(tmp_path: Path) -> None:
    portal, hook = Bitrix24(), secrets.token_urlsafe(32)
    async with trio.open_nursery() as nursery, open_world(tmp_path, tempo=0.2) as world:
        await nursery.start(portal.serve)
        await world.apply(with_portal(world, portal, hook, application_token=portal.APPLICATION_TOKEN))
        await world.wait_link()
        await ready(world)
        address = f"{world.intake}/hooks/bitrix24/{hook}"
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:

            async def send(body: bytes) -> int:
                headers = {"content-type": "application/x-www-form-urlencoded"}
                return (await client.post(address, content=body, headers=headers)).status_code

            with trio.fail_after(20):
                while (
                    await send(b"event=ONAPPTEST&auth[application_token]=" + portal.APPLICATION_TOKEN.encode()) != 200
                ):
                    await trio.sleep(0.1)
            call_id, event = portal.request_call("19", CLIENT)
            assert await send(event.replace(portal.APPLICATION_TOKEN.encode(), b"wrong")) == 403
            assert [await send(event), await send(event)] == [200, 200]
            refused_id, refused = portal.request_call("1", CLIENT)
            assert await send(refused) == 200
            await world.wait_for(lambda: portal.open_calls == [], 60)
        call = portal.calls[call_id].finished
        assert call is not None
        assert (call["STATUS_CODE"], call["USER"]) == ("200", "19")
        assert call["DURATION"] > 0
        never = portal.calls[refused_id].finished
        assert never is not None
        assert never["DURATION"] == 0
        assert "no internal number" in never["FAILED_REASON"]
        assert len(portal.calls) == 2, "nothing was registered a second time"
        assert portal.violations == []
        written = (tmp_path / "gateway.log").read_text()
        assert not [one for one in (portal.secret, hook, portal.APPLICATION_TOKEN) if one in written]
        nursery.cancel_scope.cancel()
