"""A bot reads its configuration from a running gateway: every change is there within a second, and a read is quick.

READS in the environment is how many reads of each sort are measured: `READS=1000 pytest tests/e2e/test_bot_config.py -s`.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from gateway.domain.catalog import MOST_ITEMS
from tests.e2e.world import BOT, World, open_world

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

READS = int(os.environ.get("READS", "100"))
WITHIN_S = 1.0
CONTENT = "# Role\nYou are the operator of {{business_name}}, {{today}}.\n# Rules\nBe kind.\n# Catalog\n{{catalog}}\n"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An installation with one company and its prompt."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    try:
        async with open_world(
            folder, GATEWAY_API_PER_KEY="10000,20000", GATEWAY_API_PER_ADDRESS="10000,20000"
        ) as world:
            yield world
    finally:
        shutil.rmtree(folder)


def block(world: World, **changes: Any) -> dict[str, Any]:
    content = {
        "profile": {"business_type": "restaurant"},
        "catalog": [{"id": "m", "name": "Margherita", "price": "12.50"}],
        "prompts": [{"name": "Main", "content": CONTENT, "active": True}],
    }  # fmt: skip
    return world.tenant(**{**content, **changes})


Get = Callable[..., Awaitable[httpx2.Response]]


async def until(get: Get, changed: Callable[[httpx2.Response], bool], what: str) -> float:
    """Seconds from now until the answer is the changed one."""
    began = time.perf_counter()
    while not changed(answer := await get()):
        assert time.perf_counter() - began < WITHIN_S, (what, answer.status_code, answer.text[:300])
        await trio.sleep(0.005)
    return time.perf_counter() - began


async def test_a_bot_reads_its_configuration(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await world.apply(block(world))
    key = (await world.gateway.ask("api-key", "create", "0367", "--scope", "bot", "--name", "bot")).split()[-1]
    took: dict[str, float] = {}
    async with httpx2.AsyncClient(base_url=world.url, trust_env=False, timeout=10) as client:

        async def get(tag: str = "", given: str = key) -> httpx2.Response:
            headers = {"Authorization": f"Bearer {given}", **({"If-None-Match": tag} if tag else {})}
            return await client.get("/api/v1/bot-config", headers=headers)

        async def sql(statement: str) -> None:
            await world.look(f"{statement} RETURNING 1")

        await until(get, lambda answer: answer.status_code == 200 and answer.json()["prompt"] is not None, "the first")
        whole = (await get()).json()
        assert whole["prompt"].startswith("# Role\nYou are the operator of June, 20")
        assert "- Margherita — 12.50 BYN" in whole["prompt"]
        assert whole["catalog"][0]["price"] == 12.5
        assert [one["integration"] for one in whole["channels"]] == ["telegram"]
        assert whole["channels"][0]["credentials"] == {"bot_token": BOT}
        assert whole["crm"]["integration"] == "retailcrm"
        assert (await client.get("/api/v1/bot-config", params={"key": key, "api_key": key})).status_code == 401

        # Each change is written straight into the database, as any process may do it, and seen within a second.
        for what, statement, changed in (
            ("switched off", "UPDATE integrations SET enabled = false WHERE integration_type = 'telegram'", lambda a: not a.json()["channels"]),
            ("switched on", "UPDATE integrations SET enabled = true WHERE integration_type = 'telegram'", lambda a: a.json()["channels"]),
            ("disconnected", "DELETE FROM integrations WHERE integration_type = 'retailcrm'", lambda a: a.json()["crm"] is None),
            ("name", "UPDATE tenants SET name = 'July' WHERE tenant_id = '0367'", lambda a: "operator of July" in a.json()["prompt"]),
            ("price", "UPDATE catalog_items SET price = 13.00 WHERE item_id = 'm'", lambda a: "13.00 BYN" in a.json()["prompt"]),
            ("removed", "DELETE FROM catalog_items", lambda a: a.json()["catalog"] == []),
            ("profile", "UPDATE business_profiles SET profile = profile || '{\"business_type\": \"retail\"}'", lambda a: a.json()["business_type"] == "retail"),
            ("inactive", "UPDATE prompt_templates SET is_active = false, active_version = NULL", lambda a: a.json()["prompt"] is None),
        ):  # fmt: skip
            await sql(statement)
            took[what] = await until(get, changed, what)
        await world.apply(block(world, name="July"))
        await until(get, lambda a: a.json()["prompt"] is not None and a.json()["crm"] is not None, "declared again")

        tag = (await get()).headers["etag"]
        for name, header, status in (("200", "", 200), ("304", tag, 304)):
            times = []
            for _ in range(READS):
                began = time.perf_counter()
                answer = await get(header)
                times.append(time.perf_counter() - began)
                assert answer.status_code == status
            took[f"{name} p50"], took[f"{name} p99"] = statistics.median(times), statistics.quantiles(times, n=100)[98]
        items = [
            {"id": f"i{n}", "name": f"Pizza {n}", "price": f"{n}.50", "category": f"Kind {n % 30}"}
            for n in range(MOST_ITEMS - 1)
        ]
        await world.apply(block(world, name="July", catalog=items))
        began = time.perf_counter()
        while len((await get()).json()["catalog"]) < MOST_ITEMS:
            assert time.perf_counter() - began < 5 * WITHIN_S
        took["ten thousand items"] = time.perf_counter() - began
        began = time.perf_counter()
        size = len((await get()).content)
        took[f"reading its {size >> 10} KiB"] = time.perf_counter() - began
        took["and its 304"] = time.perf_counter()
        assert (await get((await get()).headers["etag"])).status_code == 304
        took["and its 304"] = time.perf_counter() - took["and its 304"]

        await world.gateway.ask("api-key", "revoke", "0367", "bot")
        took["revoked"] = await until(get, lambda answer: answer.status_code == 401, "revoked")
    with capsys.disabled():
        if "READS" in os.environ:
            print("\n" + "\n".join(f"{what:24} {seconds * 1000:8.2f} ms" for what, seconds in took.items()))
