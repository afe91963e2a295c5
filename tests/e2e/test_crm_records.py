"""Clients, orders and calls through the whole product to a portal that a person has connected on our pages; and disconnected again."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import trio

from tests.e2e.test_api import new_key
from tests.e2e.test_bitrix24 import CLIENT, USERS, ready
from tests.e2e.world import World, open_world
from tests.sandbox.bitrix24 import Bitrix24

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]
ITEM = {"id": "cake", "name": "Торт «Июнь»", "price": "12.50", "currency": "BYN"}
RULE = {"when": "contact", "to": "UF_CRM_LINK", "from": "contact.link"}


def token_of(page: str) -> str:
    """What a form of a page is sent with."""
    return re.search(r'name="csrf" value="([^"]+)"', page)[1]  # type: ignore[index] # every page has one


async def test_connected_by_our_pages_a_portal_gets_everything_and_is_let_go(tmp_path: Path) -> None:
    portal = Bitrix24(limits=False)
    async with trio.open_nursery() as nursery, open_world(tmp_path) as world:
        await nursery.start(portal.serve)
        portal.redirect_uri = f"{world.url}/oauth/bitrix24/callback"
        block: dict[str, Any] = world.tenant()
        block["integrations"] = {
            "bitrix24": {
                "portal": portal.base, "client_id": portal.CLIENT_ID, "client_secret": portal.CLIENT_SECRET, "auth_server": portal.base,
                "user_extensions": USERS, "attach_recordings": False, "mapping": [RULE],
            }
        }  # fmt: skip
        block["catalog"] = {"items": [ITEM]} if isinstance(block.get("catalog"), dict) else [ITEM]
        await world.apply(block)
        await ready(world)
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=10) as browser:
            await _signed_in(world, browser)
            await _connected(world, portal, browser)
            await _ordered(world, portal)
            fields = {"UniqueId": "900.1", "CallerIDNum": CLIENT, "Extensions": ["150"], "CallType": 0}
            assert (await world.post("/dial", **fields)).status_code == 200
            assert (await world.post("/hangup", **fields, CallStatus="0")).status_code == 200
            await world.wait_for(lambda: [one for one in portal.calls.values() if one.finished], 30)
            await world.wait_for(lambda: len(portal.events) == 2, 30)
            page = (await browser.get(f"{world.url}/t/0367/integrations/bitrix24/disconnect")).text
            gone = await browser.post(
                f"{world.url}/t/0367/integrations/bitrix24/disconnect", data={"csrf": token_of(page), "sure": "1"}
            )
            assert gone.status_code == 303
            assert portal.events == set(), "what was bound is taken back"
        assert len(portal.entities["CONTACT"]) == 1
        assert portal.entities["LEAD"] == {}, "whoever ordered is known when they call"
        assert portal.violations == []
        written = (tmp_path / "gateway.log").read_text()
        assert not [one for one in (portal.CLIENT_SECRET, portal.access, portal.refresh) if one in written]
        nursery.cancel_scope.cancel()


async def _signed_in(world: World, browser: httpx2.AsyncClient) -> None:
    await world.gateway.ask("user", "add", "a@june.example", "--tenant", "0367", stdin="a long password\n")
    link = await world.gateway.ask("user", "link", "a@june.example", "--tenant", "0367")
    address = f"{world.url}{link[link.index('/login') :].strip()}"
    for _ in range(5):
        answer = await browser.get(address)
        if answer.status_code not in (302, 303):
            break
        address = f"{world.url}{urlsplit(answer.headers['location']).path}"
    assert answer.status_code == 200


async def _connected(world: World, portal: Bitrix24, browser: httpx2.AsyncClient) -> None:
    """One button on our page, there, and back."""
    start = await browser.get(f"{world.url}/oauth/bitrix24/start?integration=bitrix24&tenant=0367")
    home = f"{world.url}{urlsplit(start.headers['location']).path}"
    page = (await browser.get(home)).text
    begun = await browser.post(home, data={"csrf": token_of(page)})
    where = begun.headers["location"]
    if urlsplit(where).netloc != urlsplit(portal.base).netloc:
        shown = (await browser.get(where if "://" in where else f"{world.url}{where}")).text
        where = re.search(r'href="([^"]*/oauth/authorize/[^"]*)"', shown)[1].replace("&amp;", "&")  # type: ignore[index] # the button
    back = (await browser.get(where)).headers["location"]
    assert back.startswith(portal.redirect_uri)
    done = await browser.get(back)
    assert (done.status_code, portal.exchanges) == (303, 1), done.text[:500]
    assert (await browser.get(back)).status_code == 410, "a code is good once"


async def _ordered(world: World, portal: Bitrix24) -> None:
    """By a program, made and moved."""
    headers = {"Authorization": f"Bearer {await new_key(world, 'chat', 'read')}"}
    async with httpx2.AsyncClient(trust_env=False, base_url=f"{world.url}/api/v1", headers=headers, timeout=10) as api:
        order = {
            "kind": "order",
            "contact": {"name": "Вера", "phones": [CLIENT]},
            "items": [{"catalog_id": "cake", "quantity": 2}],
        }
        made = await api.post("/orders", json=order)
        assert made.status_code == 201, made.text
        await world.wait_for(lambda: portal.entities["DEAL"] and portal.rows, 30)
        ((number, deal),) = portal.entities["DEAL"].items()
        assert (float(deal["OPPORTUNITY"]), deal["STAGE_ID"]) == (25.0, "NEW")
        assert portal.rows[number][0]["PRODUCT_NAME"] == "Торт «Июнь»"
        (contact,) = portal.entities["CONTACT"].values()
        assert contact["UF_CRM_LINK"].startswith(f"{world.url}/t/0367/customers/")
        moved = await api.patch(f"/orders/{made.json()['id']}", json={"status": "done"})
        assert moved.status_code == 200, moved.text
        await world.wait_for(lambda: deal["STAGE_ID"] == "WON", 30)
