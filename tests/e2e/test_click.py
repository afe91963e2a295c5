"""Click-to-call from the request to the CRM's card, and what is refused on the way."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import World, open_world

pytestmark = pytest.mark.slow
CLIENT_ID = "c7e1-unguessable-id-of-this-connection-0123456789"
PHONE = "+375296254070"


def with_click(world: World, **rules: Any) -> dict[str, Any]:
    """The tenant with a known client id, and rules."""
    block = world.tenant()
    block["integrations"]["retailcrm"]["client_id"] = CLIENT_ID
    if rules:
        block["click_to_call"] = rules
    return block


async def make_call(world: World, **fields: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        query = {"clientId": CLIENT_ID, "userId": "19", "phone": PHONE, **fields}
        return await client.get(f"{world.url}/retailcrm/make-call", params=query, timeout=10)


async def settle(world: World) -> None:
    await world.wait_link()
    with trio.fail_after(10):
        while (await make_call(world, phone="not a number")).status_code != 422:
            await trio.sleep(0.05)


async def test_a_click_rings_the_employee_and_is_one_outgoing_call_at_the_crm(tmp_path: Path) -> None:
    async with open_world(tmp_path, tempo=0.2) as world:
        await world.apply(with_click(world))
        await settle(world)
        answer = await make_call(world)
        assert answer.status_code == 200
        assert answer.json()["status"] == "accepted"
        again = await make_call(world)
        assert again.json() == answer.json()
        await world.wait_for(lambda: world.crm.uploads)
        await trio.sleep(0.3)
        out, hangup = (event.data for event in world.crm.events)
        assert out == out | {"type": "out", "phone": PHONE, "codes": ["150"], "callExternalId": answer.json()["id"]}
        assert hangup["hangupStatus"] == "answered"
        (upload,) = (item.data for item in world.crm.uploads)
        assert upload == upload | {"type": "out", "code": "150", "phone": PHONE[1:], "result": "answered"}


REFUSED = (
    ({"clientId": "wrong"}, 401, "AUTH_FAILED"),
    ({"clientId": "0367"}, 401, "AUTH_FAILED"),
    ({"userId": "77"}, 400, "VALIDATION_ERROR"),
    ({"code": "999"}, 400, "VALIDATION_ERROR"),
    ({"phone": "+79161234567"}, 403, "FORBIDDEN"),
    ({"phone": "+3759021234567"}, 403, "FORBIDDEN"),
    ({"phone": ""}, 422, "VALIDATION_ERROR"),
)
NASTY = (
    "\r\nAction: Command\r\n",
    "\n",
    "\r",
    "\0",
    "&Local/151@inoffice",
    ",151",
    "|151",
    "${EXTEN}",
    ";id",
    "@trunk",
    "/n",
)
"""What a value may hold that is more than a number to a PBX."""


@pytest.mark.long
async def test_what_may_not_be_dialled_is_refused_and_says_why(tmp_path: Path) -> None:
    async with open_world(tmp_path, tempo=0.02) as world:
        await world.apply(with_click(world))
        await settle(world)
        for fields, status, code in REFUSED:
            answer = await make_call(world, **fields)
            assert (answer.status_code, answer.json()["code"]) == (status, code), fields
        for nasty in NASTY:
            for field in ("phone", "code"):
                for value in (nasty, PHONE + nasty, nasty + PHONE, "150" + nasty):
                    answer = await make_call(world, **{field: value})
                    assert answer.status_code in (400, 422), (field, value)
        assert not [action for action in world.pbx.actions if action.get("action") == "Originate"]
        audited = await world.look(
            "SELECT count(*) FROM audit WHERE action = 'call.refused' AND detail IN ('not_allowed', 'premium')"
        )
        assert audited == 2


@pytest.mark.long
async def test_a_thousand_requests_at_once_ring_as_often_as_the_cap_allows(tmp_path: Path) -> None:
    async with open_world(tmp_path, tempo=3.0) as world:
        await world.apply(with_click(world, concurrent=10, per_user_minute=1000, per_user_day=10_000))
        await settle(world)
        statuses: list[int] = []
        codes = list(world.pbx.extensions)

        async def ask(client: httpx2.AsyncClient, place: int) -> None:
            query = {"clientId": CLIENT_ID, "code": codes[place % len(codes)], "phone": f"+37529625{place:04}"}
            statuses.append(
                (await client.get(f"{world.intake}/retailcrm/make-call", params=query, timeout=60)).status_code
            )

        async with (
            httpx2.AsyncClient(trust_env=False, limits=httpx2.Limits(max_connections=50)) as client,
            trio.open_nursery() as nursery,
        ):
            for place in range(1000):
                nursery.start_soon(ask, client, place)
        assert sorted(statuses) == [200] * 10 + [429] * 990
        await world.wait_for(lambda: len(originates(world)) == 10)
        await trio.sleep(0.5)
        assert len(originates(world)) == 10


def originates(world: World) -> list[Any]:
    return [action for action in world.pbx.actions if action.get("action") == "Originate"]


@pytest.mark.long
async def test_a_call_service_calls_by_its_key_alone(tmp_path: Path) -> None:
    async with open_world(tmp_path, tempo=0.02) as world:
        await world.apply(with_click(world))
        await settle(world)
        key = (await world.gateway.ask("api-key", "create", "0367", "--name", "dialler")).split()[0]

        async def call(client_id: str, code: str = "151") -> httpx2.Response:
            async with httpx2.AsyncClient(trust_env=False) as client:
                query = {"code": code, "phone": PHONE, "clientId": client_id}
                return await client.get(f"{world.url}/api/makecallexternal", params=query, timeout=10)

        assert (await call(key)).status_code == 200
        assert (await call(world.token)).status_code == 401
        assert (await call("gw_live_nonsense")).status_code == 401
        await world.gateway.ask("api-key", "revoke", "0367", "dialler")
        assert (await call(key, "152")).status_code == 401
        log = (tmp_path / "gateway.log").read_text()
        assert key not in log
        assert CLIENT_ID not in log
