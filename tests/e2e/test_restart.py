"""Restarts behind the socket, under load and with live calls: no request fails, and no call is told wrong.

RESTARTS and RATE in the environment make the long run: `RESTARTS=100 RATE=300 pytest tests/e2e/test_restart.py -s`.
"""

import json
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.store.postgres.pool import OwnConnection, open_session
from tests.e2e.load import Load
from tests.e2e.world import World, open_world
from tests.sandbox.pbx import SimulatedPbx
from tests.systemd_harness import Unit, sandbox_is_possible

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

RESTARTS = int(os.environ.get("RESTARTS", "5"))
RATE = int(os.environ.get("RATE", "100"))
LIVE_CALLS = 20
LIFE_S = (0.5, 1.5)
"""How long a gateway lives once its PBX link is up, and as long as it takes to answer what had gathered."""
KINDS = (
    "incoming_answered",
    "outgoing_answered",
    "incoming_missed_gave_up",
    "internal_answered",
    "incoming_queue_answered",
)
FIELDS = ("direction", "caller", "called", "extension", "last_extension", "result", "hung_up_by")
"""What is compared of a call that is told as certain."""
EDGE_S = 0.25
"""What the PBX says so shortly before the link ends may not have been taken in."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, for the socket of the embedded server must fit below it."""
    made = Path(tempfile.mkdtemp(prefix="gw-"))
    yield made
    shutil.rmtree(made)


def unit_of(world: World, **more: Any) -> Unit:
    """The service with its sockets, in place of what the world would start."""
    environment = {key: value for key, value in world.gateway.environment.items() if key.startswith("GATEWAY_")}
    return Unit(world.folder, environment, **more)


@dataclass
class Watched:
    """When the PBX had nobody to tell, and when it said something of which call."""

    pbx: SimulatedPbx
    gaps: list[tuple[float, float]] = field(default_factory=list)
    spoken: dict[str, list[float]] = field(default_factory=dict)
    bridged: dict[str, list[float]] = field(default_factory=dict)

    def listen(self) -> None:
        self.pbx.listen(self._receive)

    def _receive(self, at: float, message: bytes) -> None:
        if message.startswith((b"Event: Newexten", b"Event: VarSet", b"Event: CEL", b"Event: Cdr")):
            return
        for line in message.split(b"\r\n"):
            if b"Linkedid: " in line:
                call_id = line.partition(b": ")[2].decode()
                self.spoken.setdefault(call_id, []).append(at)
                if message.startswith(b"Event: BridgeEnter"):
                    self.bridged.setdefault(call_id, []).append(at)

    def linked(self) -> bool:
        return any(link.events for link in self.pbx.links)

    async def run(self) -> None:
        """Until cancelled: notes gaps."""
        while True:
            while self.linked():
                await trio.sleep(0.002)
            began = self.pbx.now()
            while not self.linked():
                await trio.sleep(0.002)
            self.gaps.append((began, self.pbx.now()))

    def lasted_over(self, call_id: str) -> int:
        """How many gaps fell into the call."""
        times = self.spoken[call_id]
        return sum(times[0] < began and ended < times[-1] for began, ended in self.gaps)

    def in_talk(self, call_id: str) -> bool:
        """Whether two people were talking in the call at the beginning of each gap that fell into it."""
        times, bridged = self.spoken[call_id], self.bridged.get(call_id, [])
        return len(bridged) > 1 and all(
            bridged[1] < began for began, ended in self.gaps if times[0] < ended and began < times[-1]
        )

    def touched(self, call_id: str) -> bool:
        """Whether something happened in the call while nobody listened, or so shortly before that it may be lost."""
        return any(began - EDGE_S < at < ended for at in self.spoken[call_id] for began, ended in self.gaps)


async def caught_up(load: Load) -> None:
    """Until what had gathered is answered: restarted without a pause, the service would answer nobody, and rightly."""
    with trio.move_on_after(60):
        while load.waiting > RATE / 4:
            await trio.sleep(0.02)
        return
    raise AssertionError(f"{load.waiting} requests wait after 60 s: this machine cannot serve {RATE} a second")


async def rows(connection: OwnConnection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(query)]


async def requested(world: World, query: str) -> list[dict[str, Any]]:
    dsn = json.loads((world.folder / "var" / "postgres.lock").read_text())["dsn"]
    async with open_session(dsn) as session:
        return await session.run(rows, query)


def share(values: list[float], part: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * part))], 3)


async def test_restarts_fail_no_request_and_tell_no_call_wrong(folder: Path) -> None:
    rng = random.Random(4)
    async with open_world(folder, start=False) as world, unit_of(world).listening() as unit:
        world.pbx.tempo = 1.0
        phones = [str(number) for number in range(200, 200 + 2 * LIVE_CALLS)]
        world.pbx.extensions = {phone: f"Owner {phone}" for phone in phones}
        posts = secrets.token_urlsafe(32)
        only_crm = {"retailcrm": world.tenant()["integrations"]["retailcrm"] | {"user_extensions": {}}}
        mine = world.tenant(phones=[{"number": phone} for phone in phones], integrations=only_crm)
        theirs = {
            "number": "0500",
            "name": "Posts",
            "country": "BY",
            "timezone": "UTC",
            "language": "en",
            "token": posts,
            "phones": [{"number": "150"}, {"number": "151"}],
        }
        await world.apply(mine, theirs)
        watched = Watched(world.pbx)
        load = Load(posts, (unit.people.getsockname()[1], unit.machines.getsockname()[1]), RATE)
        stop = trio.Event()

        async def talk(number: int) -> None:
            people = {"employee": phones[2 * number], "colleague": phones[2 * number + 1]}
            turn = random.Random(number)
            while not stop.is_set():
                times = {"ring_s": turn.uniform(2, 6), "talk_s": turn.uniform(5, 40), "patience_s": turn.uniform(4, 12)}
                group = (people["employee"], people["colleague"])
                await world.pbx.play(turn.choice(KINDS), **people, **times, group=group)

        await unit.start()
        await world.wait_for(watched.linked)
        watched.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.run)
            async with trio.open_nursery() as work:
                work.start_soon(load.run, stop)
                for number in range(LIVE_CALLS):
                    work.start_soon(talk, number)
                codes = []
                for _ in range(RESTARTS):
                    await trio.sleep(rng.uniform(*LIFE_S))
                    await caught_up(load)
                    codes.append(await unit.stop())
                    await unit.start()
                    await world.wait_for(watched.linked, 20)
                stop.set()
                with trio.fail_after(120):  # the last calls end by themselves
                    while work.child_tasks:
                        await trio.sleep(0.1)
            with trio.fail_after(60):
                while await requested(
                    world, "SELECT 1 FROM calls WHERE source = 'main' AND phase IN ('ringing', 'talking')"
                ):
                    await trio.sleep(0.2)
            reported = {
                row["call_id"]: row for row in await requested(world, "SELECT * FROM calls WHERE source = 'main'")
            }
            (stored,) = await requested(world, "SELECT count(*) AS posts FROM journal WHERE tenant_id = '0500'")
            nursery.cancel_scope.cancel()
        errors = [line for line in unit.log.read_text().splitlines() if '"ERROR"' in line]
        gaps = [ended - began for began, ended in watched.gaps]
        truths = {truth["linkedid"]: truth for truth in world.pbx.truths}
        certain = {call_id for call_id in reported.keys() & truths.keys() if not reported[call_id]["uncertain"]}
        wrong = [
            (truths[call_id]["kind"], name, truths[call_id][name], reported[call_id][name])
            for call_id in certain
            for name in FIELDS
            if reported[call_id][name] != truths[call_id][name]
        ]
        over = [call_id for call_id in truths if watched.lasted_over(call_id)]
        untouched = [call_id for call_id in over if not watched.touched(call_id)]
        proven = [call_id for call_id in untouched if watched.in_talk(call_id)]
        print(json.dumps({
            "restarts": RESTARTS, "requests": load.sent, "rate": RATE, "answers": dict(load.answers),
            "failed": dict(load.failures), "kept connections ended before an answer, sent again": load.raced,
            "slowest answer s": round(load.slowest_s, 2), "posts kept": stored["posts"], "posts accepted": load.accepted,
            "start to ready s": {"p50": share(unit.starts_s, 0.5), "p99": share(unit.starts_s, 0.99)},
            "AMI gap s": {"p50": share(gaps, 0.5), "p99": share(gaps, 0.99), "gaps": len(gaps)},
            "calls": len(truths), "told": len(reported), "wrong": wrong,
            "uncertain": len(reported) - len(certain), "unknown": len(truths.keys() - reported.keys()),
            "lasted over a restart": len(over), "of them told as certain": len(certain.intersection(over)),
            "nothing happened in the gaps": len(untouched), "of these told as certain": len(certain.intersection(untouched)),
            "and in talk all the time": len(proven), "of these certain": len(certain.intersection(proven)),
        }, indent=1))  # fmt: skip
        assert codes == [0] * RESTARTS
        assert dict(load.failures) == {}
        assert stored["posts"] == load.accepted, "what was accepted is kept, once"
        assert unit.strangers == 0
        assert errors == []
        assert wrong == []
        assert reported.keys() <= truths.keys(), "no call was invented"
        assert set(proven) <= certain, "the channels after the restart prove them"


@pytest.mark.parametrize("sandboxed", [False, True], ids=["plain", "sandboxed"])
async def test_the_service_under_its_unit(folder: Path, *, sandboxed: bool) -> None:
    """The embedded server, a PBX, a post and a page: within the unit's sandbox as far as it can be built here."""
    missing = sandbox_is_possible() if sandboxed else ""
    if missing:
        pytest.skip(missing)
    async with open_world(folder, start=False) as world, unit_of(world, sandboxed=sandboxed).listening() as unit:
        await unit.start()
        world.url, world.intake = (f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (unit.people, unit.machines))
        assert unit.child is not None
        await world.apply(world.tenant())
        await world.wait_for(lambda: bool(world.pbx.links))
        truth = await world.pbx.play("incoming_answered", employee="150")
        await world.wait_for(lambda: any(str(one.data["externalId"]) == truth["linkedid"] for one in world.crm.uploads))
        answer = await world.post("/start", UniqueId="1.1", CallerIDNum="150", Extensions=["151"], CallType=2)
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
        assert (await world.get("/ready"))["status"] == "ready"
        status = status_of(unit.child.pid)
        if sandboxed:
            assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapEff"], 16)) == ("1", "2", 0)
        ours = {os.stat(sock.fileno()).st_ino for sock in (unit.people, unit.machines)}
        assert held(unit.child.pid) >= ours
        below = children(unit.child.pid)
        assert below
        assert all(not held(pid) & ours for pid in below), "no child may keep a socket of ours"
        with trio.fail_after(30):
            while "WATCHDOG=1" not in unit.reported or not any(
                "PBXes online: 1 of 1" in line for line in unit.reported
            ):
                unit.receive()
                await trio.sleep(0.05)
        assert await unit.stop() == 0
        assert "STOPPING=1" in unit.reported
        assert unit.strangers == 0
        assert not [line for line in unit.log.read_text().splitlines() if '"ERROR"' in line]


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def held(pid: int) -> set[int]:
    """The inodes that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(entry.stat().st_ino)
    return found


def children(pid: int) -> list[int]:
    """All processes below one."""
    direct = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [further for one in direct for further in children(one)]
