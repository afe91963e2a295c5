"""Two instances on one database: one owner a tenant, quick takeover, any of them answers, and nothing is told by both."""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from gateway.domain.shards import SHARDS
from gateway.store.embedded.embedded import as_login, embedded
from gateway.store.postgres.pool import OwnConnection, open_session
from tests.e2e.test_restart import FIELDS, KINDS, Watched
from tests.e2e.world import BOT, CHAT
from tests.sandbox.pbx import SimulatedPbx
from tests.sandbox.product import Gateway, free_address, write_private
from tests.sandbox.retailcrm import RetailCrm
from tests.sandbox.telegram import Telegram
from tests.store.database import make_login

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]
TENANTS = 8
CALLS = 10
TALKS, PASSES = 6, int(os.environ.get("PASSES", "3"))
WHOLE = bool(os.environ.get("INSTANCES"))
"""Also the parts that wait for shards to be shared out, which takes most of a minute."""


class Pair:
    """Two installations with one database and one master key."""

    def __init__(self, folder: Path, dsn: str, crm: RetailCrm, telegram_url: str) -> None:
        self.crm = crm
        self.dsn = dsn
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
                        "GATEWAY_DATABASE_URL": as_login(dsn), "GATEWAY_DATABASE_OWNER_URL": dsn, "GATEWAY_MASTER_KEY_FILE": str(key), "GATEWAY_LOG_FORMAT": "json",
                        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_OPERATOR_TOKEN": "operators-token-of-the-test",
                        "GATEWAY_PROVIDER_URLS": json.dumps({"telegram": telegram_url}),
                    },
                    folder / f"{name}.log",
                )
            )  # fmt: skip

    async def apply(self, **more: Any) -> None:
        """`more` is for the first tenant."""
        blocks: list[dict[str, Any]] = [
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
        blocks[0] |= more
        write_private(self.folder / "tenants.json", json.dumps({"tenants": blocks}))
        await self.gateways[0].ask("apply", str(self.folder / "tenants.json"))

    async def stats(self, place: int) -> dict[str, Any]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            headers = {"Authorization": "Bearer operators-token-of-the-test"}
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
        await make_login(server.dsn)
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


async def _calls_of_the_pbx(connection: OwnConnection) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch("SELECT * FROM calls WHERE source = 'main'")]


async def test_a_tenant_passes_on_without_a_gap(tmp_path: Path) -> None:
    """Calls ring, are answered and end while their tenant goes from one instance to the other and back. The next owner
    listens to the PBX before the last one lets go; both hear the same, one tells it."""
    async with open_pair(tmp_path) as pair, trio.open_nursery() as nursery:
        pbx = SimulatedPbx(tempo=1.0, seed=7)
        port = await nursery.start(pbx.serve)
        phones = [str(number) for number in range(200, 200 + 2 * TALKS)]
        pbx.extensions = {phone: f"Owner {phone}" for phone in phones}
        watched = Watched(pbx)
        turn = random.Random(7)
        stop = trio.Event()

        async def talk(place: int) -> None:
            while not stop.is_set():
                await pbx.play(
                    turn.choice(KINDS), employee=phones[2 * place], colleague=phones[2 * place + 1],
                    group=(phones[2 * place], phones[2 * place + 1]), ring_s=turn.uniform(0.3, 1.5),
                    talk_s=turn.uniform(0.5, 4), patience_s=turn.uniform(1, 2),
                )  # fmt: skip

        async with AsyncExitStack() as stack:
            owner = await stack.enter_async_context(pair.gateways[0].running())
            await pair.gateways[0].wait_ready(owner, pair.urls[0])
            await pair.apply(
                phones=[{"number": phone} for phone in phones],
                pbxes=[{
                    "name": "main", "host": "127.0.0.1", "port": port, "username": pbx.username, "secret": pbx.secret,
                    "trunks": [pbx.trunk],
                }],
            )  # fmt: skip
            with trio.fail_after(20):
                while not watched.linked():
                    await trio.sleep(0.05)
            watched.listen()
            nursery.start_soon(watched.run)
            async with trio.open_nursery() as talks:
                for place in range(TALKS):
                    talks.start_soon(talk, place)
                for number in range(1, PASSES + 1):
                    heir = await stack.enter_async_context(pair.gateways[number % 2].running())
                    await pair.gateways[number % 2].wait_ready(heir, pair.urls[number % 2])
                    await trio.sleep(3)
                    owner.terminate()
                    await owner.wait()
                    owner = heir
                stop.set()
            await trio.sleep(3)
            reported = {row["call_id"]: row for row in await open_session_and(pair.dsn, _calls_of_the_pbx)}
        truths = {truth["linkedid"]: truth for truth in pbx.truths}
        certain = {call_id for call_id in reported if not reported[call_id]["uncertain"]}
        wrong = [
            (truths[call_id]["kind"], name, truths[call_id][name], reported[call_id][name])
            for call_id in certain
            for name in FIELDS
            if reported[call_id][name] != truths[call_id][name]
        ]
        ends = Counter(item.data["externalId"] for item in pair.crm.uploads)
        print(
            f"{PASSES} hand-overs, {len(truths)} calls, {len(truths.keys() - reported.keys())} not told, {len(wrong)} wrong, "
            f"{len(reported) - len(certain)} uncertain, {len(watched.gaps)} gaps of AMI, {sum(ends.values()) - len(ends)} repeats"
        )
        assert watched.gaps == [], "there is always somebody who listens"
        assert reported.keys() == truths.keys()
        assert wrong == []
        assert all(call["phase"] in ("ended", "merged") for call in reported.values())
        assert len(reported) - len(certain) <= len(reported) * 0.1
        assert set(ends.values()) == {1}, "one upload a call"
        nursery.cancel_scope.cancel()


async def open_session_and(dsn: str, work: Any) -> Any:
    async with open_session(dsn) as session:
        return await session.run(work)


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


async def test_any_instance_answers_for_the_owner(tmp_path: Path) -> None:
    """Beside the owner: who is responsible and the redirect, a click, pages that move, and the health of what runs."""
    async with open_pair(tmp_path) as pair, trio.open_nursery() as nursery:
        pbx = SimulatedPbx(tempo=1.0, seed=7)
        port = await nursery.start(pbx.serve)
        async with AsyncExitStack() as stack:
            for place, gateway in enumerate(pair.gateways):
                child = await stack.enter_async_context(gateway.running())
                await gateway.wait_ready(child, pair.urls[place])
            crm = {"domain": pair.crm.base, "api_key": pair.crm.api_key, "client_id": "a-client-id-of-the-crm-module"}
            await pair.apply(
                language="en",
                phones=[{"number": number} for number in ("150", "151", "152")],
                integrations={"retailcrm": crm | {"user_extensions": {"19": "150"}}},
                pbxes=[{
                    "name": "main", "host": "127.0.0.1", "port": port, "username": pbx.username, "secret": pbx.secret,
                    "trunks": [pbx.trunk], "originate_context": "inoffice",
                }],
            )  # fmt: skip
            with trio.fail_after(20):
                while not any(link.events for link in pbx.links):
                    await trio.sleep(0.05)
            assert (await pair.shards(0), len(pbx.links)) == (SHARDS, 1)
            client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, follow_redirects=True))
            await pair.gateways[1].ask("user", "add", "a@example.com", "--tenant", "01", stdin="a long password\n")
            link = await pair.gateways[1].ask("user", "link", "a@example.com", "--tenant", "01")
            assert (await client.get(pair.urls[1] + link[link.index("/login") :])).status_code == 200

            page = (await client.get(f"{pair.urls[1]}/t/01/pbxes/main")).text
            assert "Last event" in page
            assert ">Active<" in page, "what the owner knows of its session"
            click = {"clientId": crm["client_id"], "userId": "19", "phone": "+375296254071"}
            answer = await client.get(f"{pair.intakes[1]}/retailcrm/make-call", params=click)
            assert answer.json()["status"] == "accepted"

            received: list[str] = []

            async def watch() -> None:
                async with client.stream("GET", f"{pair.urls[1]}/t/01/calls/live", timeout=60) as stream:
                    async for line in stream.aiter_lines():
                        received.append(line)

            nursery.start_soon(watch)
            pair.crm.managers["375296254070"] = {"manager": {"id": 19, "code": "152"}, "customer": None}
            nursery.start_soon(
                partial(
                    pbx.play,
                    "incoming_missed_timeout",
                    employee="150",
                    colleague="151",
                    client="+375296254070",
                    ring_s=6,
                )
            )
            with trio.fail_after(10):
                while not any("call" in line for line in received if line.startswith("event:")):
                    await trio.sleep(0.02)
            (unique_id,) = {channel.linkedid for channel in pbx.channels.values() if channel.num.endswith("296254070")}
            began = trio.current_time()
            question = {"Token": "1" * 32, "UniqueId": unique_id, "phone": "+375296254070"}
            answer = await client.post(f"{pair.intakes[1]}/retailcrm/api/smart-redirect", json=question)
            print(f"smart redirect by way of the owner: {(trio.current_time() - began) * 1000:.0f} ms")
            assert answer.json() == {"extension": "152", "redirected": True}
            with trio.fail_after(20):
                while not any(item.data["externalId"] == unique_id for item in pair.crm.uploads):
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
