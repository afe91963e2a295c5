"""Calls through the whole product to a strict account: with faults on the way and at its limit, and connected through our pages."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio

from tests.e2e.test_crm_records import _signed_in, token_of
from tests.e2e.world import World, open_world
from tests.sandbox.amocrm import AmoCrm
from tests.sandbox.web import Fault

pytestmark = pytest.mark.slow
USERS = {"502": "150", "501": "151", "503": "152"}
FAULTS = (Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE)


def with_account(world: World, account: AmoCrm, **more: Any) -> dict[str, Any]:
    """The tenant with the account beside its other systems."""
    block = world.tenant()
    block["integrations"]["amocrm"] = {
        "subdomain": "june", "access_token": account.token, "user_extensions": USERS, "attach_recordings": False, **more,
    }  # fmt: skip
    return block


async def ready(world: World) -> None:
    """Until the gateway delivers to the account."""
    with trio.fail_after(20):
        while "amocrm" not in (await world.get("/integrations/0367"))["integrations"]:
            await trio.sleep(0.1)


async def call(world: World, number: int, phone: str, *, answered: bool, ring_s: float = 0.3) -> None:
    """One posted call."""
    fields = {"UniqueId": f"900.{number}", "CallerIDNum": phone, "Extensions": ["150", "151"], "CallType": 0}
    assert (await world.post("/dial", **fields)).status_code == 200
    await trio.sleep(ring_s)
    if answered:
        assert (await world.post("/bridge", **fields)).status_code == 200
    assert (await world.post("/hangup", **fields, CallStatus="2" if answered else "0")).status_code == 200


def told(account: AmoCrm) -> list[str]:
    """The calls that are there."""
    return sorted(str(note["params"]["uniq"]) for note in account.calls)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_calls_with_faults_are_as_many_records(tmp_path: Path) -> None:
    account = AmoCrm(limits=False)
    async with trio.open_nursery() as nursery:
        base = await nursery.start(account.serve)
        urls = json.dumps({"amocrm": base, "telegram": "http://127.0.0.1:9"})
        async with open_world(tmp_path, GATEWAY_PROVIDER_URLS=urls) as world:
            await world.apply(with_account(world, account))
            await ready(world)

            async def disturb() -> None:
                while True:
                    for fault in FAULTS:
                        account.fault, account.fault_count = fault, 1
                        await trio.sleep(2.0)

            nursery.start_soon(disturb)
            async with trio.open_nursery() as calls:
                for number in range(12):
                    phone = f"+3752962540{number // 2:02}"
                    calls.start_soon(partial(call, world, number, phone, answered=bool(number % 3)))
                    await trio.sleep(0.2)
            await world.wait_for(lambda: len(told(account)) >= 12 and len(account.tasks) >= 4, 120)
            nursery.cancel_scope.cancel()
    assert told(account) == sorted(f"0367-900.{number}" for number in range(12)), "one record of each"
    assert len(account.entities["contacts"]) == 6, "one of each caller"
    assert account.cards
    assert account.violations == []


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_many_calls_at_the_account_s_limit(tmp_path: Path) -> None:
    account, count = AmoCrm(), 60
    for number in range(count):
        account.add("contacts", f"+3752962500{number:02}")
    async with trio.open_nursery() as nursery:
        base = await nursery.start(account.serve)
        urls = json.dumps({"amocrm": base, "telegram": "http://127.0.0.1:9"})
        async with open_world(tmp_path, GATEWAY_PROVIDER_URLS=urls) as world:
            await world.apply(with_account(world, account, show_card=False))
            await ready(world)
            begun, few = trio.current_time(), trio.CapacityLimiter(6)

            async def one(number: int) -> None:
                async with few:
                    await call(world, number, f"+3752962500{number:02}", answered=True, ring_s=0.0)

            async with trio.open_nursery() as calls:
                for number in range(count):
                    calls.start_soon(one, number)
            await world.wait_for(lambda: len(told(account)) >= count, 60)
            print(
                f"\n{count} calls in {trio.current_time() - begun:.1f} s, {len(account.batches)} requests of {account.batches}"
            )
            nursery.cancel_scope.cancel()
    assert told(account) == sorted(f"0367-900.{number}" for number in range(count))
    assert len(account.batches) < count / 2
    assert account.violations == []
    written = (tmp_path / "gateway.log").read_text()
    assert account.token not in written


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_connected_by_our_pages_it_gets_a_call(tmp_path: Path) -> None:
    account = AmoCrm()
    async with trio.open_nursery() as nursery:
        base = await nursery.start(account.serve)
        urls = json.dumps({"amocrm": base, "telegram": "http://127.0.0.1:9"})
        async with open_world(tmp_path, GATEWAY_PROVIDER_URLS=urls) as world:
            account.redirect_uri = f"{world.url}/oauth/amocrm/callback"
            keys = {"access_token": "", "client_id": account.CLIENT_ID, "client_secret": account.CLIENT_SECRET}
            await world.apply(with_account(world, account, **keys))
            await ready(world)
            async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=10) as browser:
                await _signed_in(world, browser)
                start = await browser.get(f"{world.url}/oauth/amocrm/start?integration=amocrm&tenant=0367")
                home = f"{world.url}{urlsplit(start.headers['location']).path}"
                begun = await browser.post(home, data={"csrf": token_of((await browser.get(home)).text)})
                where = begun.headers["location"]
                if urlsplit(where).netloc != urlsplit(base).netloc:
                    shown = (await browser.get(where if "://" in where else f"{world.url}{where}")).text
                    where = re.search(r'href="([^"]*/oauth[?][^"]*)"', shown)[1].replace("&amp;", "&")  # type: ignore[index] # the button
                back = (await browser.get(where)).headers["location"]
                done = await browser.get(back)
                assert (done.status_code, account.exchanges) == (303, 1), done.text[:500]
                assert (await browser.get(back)).status_code == 410, "a code is good once"
            account.access.clear()  # it ends over there: the call's first request trades it
            await call(world, 1, "+375296254070", answered=True)
            await world.wait_for(lambda: told(account) == ["0367-900.1"], 60)
            nursery.cancel_scope.cancel()
    assert account.exchanges == 2
    assert account.violations == []
    written = (tmp_path / "gateway.log").read_text()
    assert not [one for one in (account.CLIENT_SECRET, account.refresh, *account.access) if one in written]
