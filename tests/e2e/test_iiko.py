"""A restaurant through the whole product: its menu becomes the catalog, an order goes to the till and comes back with its way."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import trio

from tests.e2e.test_api import API, new_key
from tests.e2e.world import open_world
from tests.sandbox.iiko import ORGANIZATION, PIZZA, SOUP, TERMINAL_GROUP, Iiko

pytestmark = pytest.mark.long


@pytest.mark.timeout(180)
async def test_menu_order_and_its_way(tmp_path: Path) -> None:
    cloud = Iiko()
    async with (
        trio.open_nursery() as nursery,
        open_world(tmp_path, GATEWAY_PUBLIC_URL="https://gateway.example") as world,
    ):
        await nursery.start(cloud.serve)
        block = world.tenant()
        block["integrations"]["iiko"] = {
            "api_login": cloud.API_LOGIN, "url": cloud.base, "organization_id": ORGANIZATION, "terminal_group_id": TERMINAL_GROUP,
        }  # fmt: skip
        await world.apply(block)
        headers = {"X-API-Key": await new_key(world, "read", "write", "chat")}
        async with httpx2.AsyncClient(
            base_url=f"{world.url}{API}", headers=headers, trust_env=False, timeout=10
        ) as client:

            async def until(path: str, field: str, wanted: object) -> None:
                with trio.fail_after(40):
                    while (await client.get(path)).json().get(field) != wanted:
                        await trio.sleep(0.1)

            await until(f"/catalog/{SOUP}", "price", 12.5)
            await world.wait_for(lambda: bool(cloud.webhook["webHooksUri"]))
            ordered = {
                "contact": {"name": "Анна", "phones": ["+375291112233"]}, "delivery": {"street": "Ленина", "house": "5"},
                "items": [{"catalog_id": SOUP, "quantity": 2}],
            }  # fmt: skip
            made = await client.post("/orders", json=ordered)
            assert made.status_code == 201, made.text
            order = made.json()["id"]
            await world.wait_for(lambda: [one.creation for one in cloud.orders.values()] == ["Success"])
            assert list(cloud.orders) == [order]
            assert [one["phone"] for one in cloud.guests] == ["+375291112233"]

            async def told(body: bytes, sent: dict[str, str]) -> int:
                path = urlsplit(cloud.webhook["webHooksUri"]).path
                return (await client.post(f"{world.intake}{path}", content=body, headers=sent)).status_code

            body, sent = cloud.move(order, "OnWay")
            assert await told(body, {**sent, "authorization": "Bearer another"}) == 403
            assert [await told(body, sent), await told(body, sent)] == [200, 200]
            await until(f"/orders/{order}", "status", "in_progress")
            cloud.stop(PIZZA)
            cloud.stop(SOUP)
            assert await told(*cloud.event("StopListUpdate", {})) == 200
            await until(f"/catalog/{SOUP}", "available", False)
            cloud.products[0]["sizePrices"][0]["price"]["currentPrice"] = 15
            assert (await client.post("/integrations/iiko/jobs/menu")).status_code == 202
            await until(f"/catalog/{SOUP}", "price", 15.0)
        assert cloud.requests["/api/1/deliveries/create"] == 1
        assert cloud.violations == []
        log = (tmp_path / "gateway.log").read_text()
        for secret in (cloud.API_LOGIN, str(cloud.webhook["authToken"]), *cloud.tokens):
            assert secret not in log
        nursery.cancel_scope.cancel()
