"""The gateway is killed again and again in the middle of its work: what it answered 200 is told, and no call stays open.

KILLS and CALLS in the environment make the long run: `KILLS=10 CALLS=1000 pytest tests/e2e/test_kill.py -s`.
"""

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from gateway.store.postgres.pool import OwnConnection, open_session
from tests.e2e.world import World, open_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("KILLS", "3"))
CALLS = int(os.environ.get("CALLS", "150"))
PBX_CALLS = int(os.environ.get("PBX_CALLS", "40"))
LIFE_S = (0.4, 1.6)
"""How long a gateway lives between its readiness and its death."""
SENDERS = 12
KINDS = (
    "incoming_answered",
    "outgoing_answered",
    "incoming_missed_gave_up",
    "internal_answered",
    "incoming_queue_answered",
)


@dataclass
class Hosts:
    """Asterisk hosts that post calls. Every other one tries again until it is answered, the others never do."""

    world: World
    answered: set[str] = field(default_factory=set)
    """Calls whose hangup was answered 200."""
    abandoned: set[str] = field(default_factory=set)
    """Calls of which something was never answered."""
    answers: Counter[str] = field(default_factory=Counter)

    async def run(self, calls: int) -> None:
        numbers = iter(range(calls))
        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(self._sender, numbers)

    async def _sender(self, numbers: Any) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            for number in numbers:
                await self._call(client, f"200.{number}", patient=number % 2 == 0)

    async def _call(self, client: httpx2.AsyncClient, unique_id: str, *, patient: bool) -> None:
        fields: dict[str, Any] = {
            "Token": self.world.token, "UniqueId": unique_id, "CallerIDNum": "375296254070", "Extensions": ["150"],
            "CallType": 0,
        }  # fmt: skip
        for address in ("/start", "/dial", "/bridge", "/hangup"):
            body = fields | ({"CallStatus": "2"} if address == "/hangup" else {})
            while not (done := await self._post(client, address, body)) and patient:
                await trio.sleep(0.05)
            if not done:
                self.abandoned.add(unique_id)
            elif address == "/hangup":
                self.answered.add(unique_id)
            await trio.sleep(0.02)

    async def _post(self, client: httpx2.AsyncClient, address: str, body: dict[str, Any]) -> bool:
        try:
            answer = await client.post(f"{self.world.intake}{address}", json=body)
        except httpx2.TransportError as error:
            self.answers[type(error).__name__] += 1
            return False
        self.answers[f"{answer.status_code} {answer.json().get('status', '')}".strip()] += 1
        return bool(answer.status_code == 200)


async def live_and_die(world: World, kills: int, rng: random.Random) -> None:
    """Lives that end by SIGKILL."""
    for _ in range(kills):
        async with started(world) as child:
            await trio.sleep(rng.uniform(*LIFE_S))
            child.kill()
            await child.wait()


@asynccontextmanager
async def started(world: World) -> AsyncIterator[trio.Process]:
    async with world.gateway.running() as child:
        await world.gateway.wait_ready(child, world.url)
        yield child


async def rows(connection: OwnConnection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(query)]


async def requested(world: World, query: str) -> list[dict[str, Any]]:
    dsn = json.loads((world.folder / "var" / "postgres.lock").read_text())["dsn"]
    async with open_session(dsn) as session:
        return await session.run(rows, query)


async def until_nothing_waits(world: World) -> None:
    """Until every post was dealt with and the CRM was told everything; a dead process's leases have to end first."""
    query = (
        "SELECT (SELECT count(*) FROM journal WHERE done_at IS NULL) AS posts, "
        "(SELECT count(*) FROM deliveries WHERE state = 'pending' AND integration_type = 'retailcrm') AS deliveries"
    )
    with trio.fail_after(120):
        while any((await requested(world, query))[0].values()):
            await trio.sleep(0.2)


async def test_what_was_answered_is_told_however_often_the_gateway_is_killed(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with open_world(tmp_path, start=False) as world:
        world.pbx.tempo = 0.1
        async with started(world):
            await world.apply(world.tenant())
        hosts = Hosts(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hosts.run, CALLS)
            await live_and_die(world, KILLS, rng)
            # The last life hears the rest of the hosts' calls, and finishes.
            async with started(world):
                while nursery.child_tasks:
                    await trio.sleep(0.05)
                await until_nothing_waits(world)
                open_calls = await requested(world, "SELECT call_id FROM calls WHERE phase IN ('ringing', 'talking')")
        uploads = Counter(str(one.data["externalId"]) for one in world.crm.uploads)
        lost = hosts.answered - uploads.keys()
        report = {
            "kills": KILLS, "calls": CALLS, "answers": dict(hosts.answers), "hangups answered": len(hosts.answered),
            "lost": len(lost), "uploads repeated": len(world.crm.duplicates), "told again": sum(world.crm.repeats.values()),
        }  # fmt: skip
        print(json.dumps(report))
        assert lost == set()
        assert {call_id: n for call_id, n in uploads.items() if n > 1} == {}
        assert {row["call_id"] for row in open_calls} <= hosts.abandoned


@pytest.mark.long
async def test_the_calls_of_a_pbx_are_told_right_or_as_uncertain(tmp_path: Path) -> None:
    rng = random.Random(2)
    async with open_world(tmp_path, start=False) as world:
        world.pbx.tempo = 0.1
        async with started(world):
            await world.apply(world.tenant())
        phones = [str(number) for number in range(150, 156)]
        world.pbx.extensions = {phone: f"Owner {phone}" for phone in phones}

        async def play_all() -> None:
            kinds = itertools.cycle(KINDS)
            async with trio.open_nursery() as calls:
                for number in range(PBX_CALLS):
                    # Paced by what the gateways live, not by how long a machine takes to start them.
                    while not world.pbx.links:
                        await trio.sleep(0.01)
                    people = {"employee": phones[number % 6], "colleague": phones[(number + 3) % 6]}
                    calls.start_soon(partial(world.pbx.play, next(kinds), **people))
                    await trio.sleep(KILLS * 2.2 / PBX_CALLS)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_all)
            await live_and_die(world, KILLS, rng)
            async with started(world):
                while nursery.child_tasks:
                    await trio.sleep(0.05)
                await world.wait_link()
                await until_nothing_waits(world)
                with trio.fail_after(60):
                    while await requested(world, "SELECT 1 FROM calls WHERE phase IN ('ringing', 'talking')"):
                        await trio.sleep(0.1)
                reported = {row["call_id"]: row for row in await requested(world, "SELECT * FROM calls")}
                await until_nothing_waits(world)
        truths = {truth["linkedid"]: truth for truth in world.pbx.truths}
        wrong = [
            (truth["kind"], truth["result"], dict(reported[call_id])["result"])
            for call_id, truth in truths.items()
            if call_id in reported
            and not reported[call_id]["uncertain"]
            and reported[call_id]["result"] != truth["result"]
        ]
        uncertain = sum(row["uncertain"] for row in reported.values())
        print(json.dumps({"kills": KILLS, "calls": len(truths), "told": len(reported), "uncertain": uncertain}))
        assert wrong == []
        assert set(reported) <= set(truths), "no call was invented"
        assert len(reported) > len(truths) / 3
        uploads = Counter(str(one.data["externalId"]) for one in world.crm.uploads)
        assert uploads.keys() == {i for i, row in reported.items() if row["direction"] != "internal"}
        assert max(uploads.values()) == 1
