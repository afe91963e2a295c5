"""Two instances on one database: one owner a tenant, quick takeover, any of them answers, and nothing is told by both."""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from gateway.domain.shards import SHARDS
from gateway.store.embedded import embedded
from tests.e2e.world import BOT, CHAT
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Telegram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
TENANTS = 8
CALLS = 10
WHOLE = bool(os.environ.get("INSTANCES"))
"""Also the parts that wait for shards to be shared out, which takes most of a minute."""


class Pair:
    """Two installations with one database and one master key."""

    def __init__(self, folder: Path, dsn: str, crm: RetailCrm, telegram_url: str) -> None:
        self.crm = crm
        self.urls: list[str] = []
        self.intakes: list[str] = []
        self.gateways: list[Gateway] = []
        self.folder = folder
        key = folder / "master.key"
        for name in ("one", "two"):
            bind, intake = free_address(0), free_address(0)
            self.urls.append(f"http://{bind}")
            self.intakes.append(f"http://{intake}")
            (folder / name).mkdir()
            self.gateways.append(
                Gateway(
                    {
                        "GATEWAY_DATA_DIR": str(folder / name), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
                        "GATEWAY_DATABASE_URL": dsn, "GATEWAY_MASTER_KEY_FILE": str(key), "GATEWAY_LOG_FORMAT": "json",
                        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_OPERATOR_TOKEN": "operators-token",
                        "GATEWAY_PROVIDER_URLS": json.dumps({"telegram": telegram_url}),
                    },
                    folder / f"{name}.log",
                )
            )  # fmt: skip

    async def apply(self) -> None:
        blocks = [
            {
                "number": f"0{place}", "name": f"Tenant {place}", "token": f"{place}" * 32, "country": "BY",
                "phones": [{"number": "150"}],
                "integrations": {
                    "retailcrm": {"domain": self.crm.base, "api_key": self.crm.api_key},
                    "telegram": {"bot_token": BOT, "notify_chats": [CHAT]},
                },
            }
            for place in range(1, TENANTS + 1)
        ]  # fmt: skip
        write_private(self.folder / "tenants.json", json.dumps({"tenants": blocks}))
        await self.gateways[0].ask("apply", str(self.folder / "tenants.json"))

    async def stats(self, place: int) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            headers = {"Authorization": "Bearer operators-token"}
            answer: dict[str, Any] = (await client.get(f"{self.urls[place]}/stats", headers=headers, timeout=10)).json()
        return answer

    async def shards(self, place: int) -> int:
        return int((await self.stats(place))["ownership"]["shards"])

    async def call(self, place: int, tenant: int, unique_id: str) -> None:
        """One posted call, whichever instance takes it; repeated until it is."""
        fields = {"Token": f"{tenant}" * 32, "UniqueId": unique_id, "CallerIDNum": "+375296254070",
                  "Extensions": ["150"], "CallType": 0}  # fmt: skip
        async with httpx2.AsyncClient(trust_env=False) as client:
            for address, more in (("/dial", {}), ("/hangup", {"CallStatus": "NOANSWER"})):
                while True:
                    try:
                        url = f"{self.intakes[place]}{address}"
                        if (await client.post(url, json={**fields, **more}, timeout=5)).status_code == 200:
                            break
                    except httpx2.HTTPError:
                        place = 1 - place
                    await trio.sleep(0.1)

    async def calls(self, name: str) -> set[str]:
        """Some calls of every tenant, posted to both. Returns their ids."""
        ids = {f"{name}.{tenant}.{number}" for tenant in range(1, TENANTS + 1) for number in range(CALLS)}
        async with trio.open_nursery() as nursery:
            for place, unique_id in enumerate(sorted(ids)):
                nursery.start_soon(self.call, place % 2, int(unique_id.split(".")[1]), unique_id)
        return ids

    def uploads(self) -> Counter[str]:
        return Counter(item.data["externalId"] for item in self.crm.uploads)

    async def wait_uploads(self, ids: set[str], within_s: float) -> None:
        with trio.move_on_after(within_s):
            while not ids <= self.uploads().keys():
                await trio.sleep(0.05)
        assert ids - self.uploads().keys() == set()


@asynccontextmanager
async def open_pair(folder: Path) -> AsyncIterator[Pair]:
    telegram = Telegram({BOT: "june_bot"}, rate_limits=False)
    telegram.add_chat(CHAT, "calls")
    crm = RetailCrm(rate_limits=False)
    async with embedded(folder / "database") as server, trio.open_nursery() as nursery:
        telegram_url = await nursery.start(telegram.serve)
        await nursery.start(crm.serve)
        pair = Pair(folder, server.dsn, crm, telegram_url)
        key = await Gateway({"GATEWAY_DATA_DIR": str(folder)}, folder / "keys.log").ask("keys", "new")
        write_private(folder / "master.key", key + "\n")
        yield pair
        nursery.cancel_scope.cancel()


async def wait_until(condition: Any, within_s: float) -> float:
    """Seconds until `await condition()` was true."""
    began = trio.current_time()
    with trio.fail_after(within_s):
        while not await condition():
            await trio.sleep(0.05)
    return trio.current_time() - began


async def test_the_other_instance_takes_over(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as pair:
        one, two = pair.gateways
        async with one.running() as first:
            await one.wait_ready(first, pair.urls[0])
            await pair.apply()
            async with two.running() as second:
                await two.wait_ready(second, pair.urls[1])
                assert (await pair.shards(0), await pair.shards(1)) == (SHARDS, 0)
                # Whichever takes a post, the owner tells it, at once.
                before = await pair.calls("before")
                await pair.wait_uploads(before, 10)

                first.send_signal(signal.SIGKILL)
                await first.wait()

                async def taken() -> bool:
                    return await pair.shards(1) == SHARDS

                took_s = await wait_until(taken, 8)
                after = await pair.calls("after")
                await pair.wait_uploads(after, 40)
                repeats = sum(count - 1 for count in pair.uploads().values())
                print(
                    f"takeover after kill -9: {took_s:.1f} s; {len(before | after)} calls told, {repeats} uploads repeated"
                )
                assert set(pair.uploads()) == before | after
                assert repeats <= 1

                # A restart gives the shards away at once.
                async with one.running() as again:
                    await one.wait_ready(again, pair.urls[0])
                    second.terminate()

                    async def handed_over() -> bool:
                        return await pair.shards(0) == SHARDS

                    handed_s = await wait_until(handed_over, 15)
                    await second.wait()
                    last = await pair.calls("last")
                    await pair.wait_uploads(last, 20)
                    print(f"taken over {handed_s:.1f} s after SIGTERM")


async def _stopped_owner(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as pair:
        one, two = pair.gateways
        async with one.running() as first:
            await one.wait_ready(first, pair.urls[0])
            await pair.apply()
            async with two.running() as second:
                await two.wait_ready(second, pair.urls[1])

                async def shared() -> bool:
                    return abs(await pair.shards(0) - await pair.shards(1)) <= 2

                print(f"shared out after {await wait_until(shared, 90):.0f} s")
                ids = await pair.calls("before")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pair.calls, "meanwhile")
                    await trio.sleep(0.2)
                    first.send_signal(signal.SIGSTOP)

                    async def taken() -> bool:
                        return await pair.shards(1) == SHARDS

                    print(f"takeover after SIGSTOP: {await wait_until(taken, 10):.1f} s")
                    await trio.sleep(5)
                    first.send_signal(signal.SIGCONT)
                ids |= {unique_id.replace("before", "meanwhile") for unique_id in ids}
                await pair.wait_uploads(ids, 60)
                await trio.sleep(3)
                stats = await pair.stats(0)
                print(f"stale writes refused: {stats['counters'].get('stale_writes_refused', 0)}")
                assert max(pair.uploads().values()) == 1, "nothing was told by both"


if WHOLE:

    async def test_a_stopped_owner_tells_and_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
        await _stopped_owner(tmp_path)
