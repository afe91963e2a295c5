"""A call through the whole product from a click in a strict portal to its record. Calls with faults on the way: `tests/crms/test_calls.py`."""

import secrets
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import World, open_world
from tests.sandbox.bitrix24 import Bitrix24

pytestmark = pytest.mark.slow
CLIENT = "+375296254070"
USERS = {"19": "150", "18": "151", "22": "152"}


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
