"""PostgreSQL goes away under load, and the gateway is killed right behind its answers: what was answered 200 is there.

The long runs of it, with what they measured printed:

    OUTAGE_S=30 RATE=50 pytest tests/e2e/test_spool.py -s -k away
    KILLS=50 pytest tests/e2e/test_spool.py -s -k killed
"""

import gc
import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from gateway.store.embedded.embedded import Embedded, as_login, embedded
from gateway.store.postgres.pool import OwnConnection, open_session
from tests.e2e.world import World, open_world
from tests.store.database import make_login

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

OUTAGE_S = float(os.environ.get("OUTAGE_S", "3"))
RATE = int(os.environ.get("RATE", "15"))
"""Calls a second; each is four posts."""
KILLS = int(os.environ.get("KILLS", "5"))
AT_ONCE = 20
OPERATOR = "an-operator-token-of-the-test"
PATIENCE_S = 10.0


# The server ------------------------------------------------------------------------------------------------------------


class Postgres:
    """A server beside the gateway, which can be stopped in two ways and comes back."""

    def __init__(self, server: Embedded) -> None:
        assert server._server is not None
        self._process = server._server
        self.dsn = server.dsn

    async def stop(self) -> None:
        """At once, as `pg_ctl stop -m immediate`: connections end, new ones are refused."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGQUIT)
        while self._process.running:
            await trio.sleep(0.01)

    async def start(self) -> None:
        await self._process._start()

    async def freeze(self) -> None:
        """All its processes stand still: nothing is refused and nothing answered."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    async def thaw(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        first = self._process.pid
        assert first is not None
        children = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                children += [int(entry.name)] if parent == first else []
        return [first, *children]

    async def rows(self, query: str) -> list[dict[str, Any]]:
        async def fetch(connection: OwnConnection) -> list[dict[str, Any]]:
            return [dict(row) for row in await connection.fetch(query)]

        async with open_session(self.dsn) as session:
            return await session.run(fetch)


@asynccontextmanager
async def open_town(folder: Path, *, start: bool = True) -> AsyncIterator[tuple[World, Postgres]]:
    """A world whose gateway works on a PostgreSQL of the test's."""
    async with embedded(folder / "server") as server:
        await make_login(server.dsn)
        key = folder / "master.key"
        key.touch(mode=0o600)
        settings: dict[str, Any] = {
            "GATEWAY_DATABASE_URL": as_login(server.dsn), "GATEWAY_DATABASE_OWNER_URL": server.dsn, "GATEWAY_MASTER_KEY_FILE": str(key), "GATEWAY_OPERATOR_TOKEN": OPERATOR,
        }  # fmt: skip
        async with open_world(folder, start=False, **settings) as world:
            key.write_text(await world.gateway.ask("keys", "new") + "\n")
            if not start:
                yield world, Postgres(server)
                return
            async with world.gateway.running() as world.child:
                await world.gateway.wait_ready(world.child, world.url)
                await world.apply(world.tenant())
                yield world, Postgres(server)


# The load --------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Hosts that post calls at a steady rate. A post that is not answered 200 is not repeated."""

    world: World
    answers: Counter[str] = field(default_factory=Counter)
    taken_s: list[tuple[float, float]] = field(default_factory=list)
    """When each post was sent, and how long its answer took."""
    accepted: set[tuple[str, str]] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    """Calls all of whose posts were answered 200."""
    stop: trio.Event = field(default_factory=trio.Event)

    async def run(self, rate: int) -> None:
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        async with (
            httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S, limits=limits) as client,
            trio.open_nursery() as nursery,
        ):
            began, number = trio.current_time(), 0
            while not self.stop.is_set():
                nursery.start_soon(self._call, client, f"300.{number}")
                number += 1
                await trio.sleep_until(began + number / rate)

    async def _call(self, client: httpx2.AsyncClient, unique_id: str) -> None:
        fields: dict[str, Any] = {
            "Token": self.world.token, "UniqueId": unique_id, "CallerIDNum": "375296254070", "Extensions": ["150"],
            "CallType": 0,
        }  # fmt: skip
        good = 0
        for address in ("/start", "/dial", "/bridge", "/hangup"):
            body = fields | ({"CallStatus": "2"} if address == "/hangup" else {})
            sent = trio.current_time()
            try:
                answer = await client.post(f"{self.world.intake}{address}", json=body)
            except httpx2.TransportError as error:
                self.answers[type(error).__name__] += 1
                continue
            self.taken_s.append((sent, trio.current_time() - sent))
            self.answers[f"{answer.status_code} {answer.json().get('status', '')}".strip()] += 1
            if answer.status_code == 200:
                good += 1
                self.accepted.add((address, unique_id))
            await trio.sleep(0.05)
        if good == 4:
            self.ended.add(unique_id)


async def requested(world: World, path: str) -> dict[str, Any]:
    """A page of figures, with its status."""
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.get(f"{world.url}{path}", headers={"Authorization": f"Bearer {OPERATOR}"})
    found: dict[str, Any] = answer.json() | {"code": answer.status_code}
    return found


@dataclass
class Watch:
    """What the gateway says of itself while PostgreSQL is away."""

    world: World
    most: dict[str, float] = field(default_factory=dict)
    ready: Counter[int] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            spool = (await requested(self.world, "/stats"))["spool"]
            self.most = {name: max(value, self.most.get(name, 0)) for name, value in spool.items()}
            ready = await requested(self.world, "/ready")
            self.ready[ready["code"]] += 1
            self.said |= {reason.partition(":")[0] for reason in ready.get("degraded", ())}
            await trio.sleep(0.2)

    async def until_empty(self) -> float:
        """How many seconds it takes from now until nothing waits in the spool."""
        began = trio.current_time()
        with trio.fail_after(120):
            while (await requested(self.world, "/stats"))["spool"]["records"]:
                await trio.sleep(0.02)
        return trio.current_time() - began


def quantiles(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1), "max": round(max(values) * 1000, 1)}


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_posts_are_answered_while_postgresql_is_away(tmp_path: Path, how: str) -> None:
    async with open_town(tmp_path) as (world, postgres):
        load, watch = Load(world), Watch(world)
        away, back = (postgres.stop, postgres.start) if how == "stopped" else (postgres.freeze, postgres.thaw)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run, RATE)
            await trio.sleep(1)
            async with trio.open_nursery() as watched:
                watched.start_soon(watch.run)
                gone_at = trio.current_time()
                await away()
                try:
                    await trio.sleep(OUTAGE_S)
                finally:
                    with trio.CancelScope(shield=True):
                        await back()
                back_at = trio.current_time()
                caught_up_s = await watch.until_empty()
                watched.cancel_scope.cancel()
            await trio.sleep(1)
            load.stop.set()
        rows = await settled(postgres, world, load)
        meanwhile = [took for sent, took in load.taken_s if gone_at <= sent <= back_at]
        uploads = Counter(str(one.data["externalId"]) for one in world.crm.uploads)
        report = {
            "how": how, "away_s": round(back_at - gone_at, 1), "calls/s": RATE, "answers": dict(load.answers),
            "answers meanwhile, ms": quantiles(meanwhile), "spool at most": watch.most, "/ready": dict(watch.ready),
            "degraded": sorted(watch.said), "caught up in s": round(caught_up_s, 2), "rows": sum(rows.values()),
            "calls uploaded": len(uploads), "uploads repeated": len(world.crm.duplicates),
        }  # fmt: skip
        print("\n" + json.dumps(report))
        assert set(load.answers) <= {"200 accepted", "503"}
        assert load.answers["503"] == 0
        assert {key: n for key, n in rows.items() if n > 1} == {}
        assert rows.keys() == load.accepted
        assert load.ended <= uploads.keys()
        assert max(uploads.values()) == 1
        assert max(meanwhile) < 5
        assert watch.most["records"] > 0.5 * 4 * RATE * OUTAGE_S
        assert set(watch.ready) == {200}
        assert "spool" in watch.said
        assert list((tmp_path / "var" / "spool").iterdir()) == []


async def settled(postgres: Postgres, world: World, load: Load) -> Counter[tuple[str, str]]:
    """Waits until every post was dealt with and every whole call uploaded. The journal's rows, counted by post."""
    with trio.fail_after(120):
        while (await postgres.rows("SELECT count(*) AS n FROM journal WHERE done_at IS NULL"))[0]["n"] or not (
            load.ended <= {str(one.data["externalId"]) for one in world.crm.uploads}
        ):
            await trio.sleep(0.2)
    rows = await postgres.rows("SELECT address, unique_id, count(*) AS n FROM journal GROUP BY 1, 2")
    return Counter({(row["address"], row["unique_id"]): row["n"] for row in rows})


# Kills -----------------------------------------------------------------------------------------------------------------


class Volley:
    """Posts at the same time on connections that are open already, and a kill right behind the last answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answered: set[str] = set()
        self.kill_after_s: list[float] = []

    async def fire(self, child: trio.Process, names: list[str]) -> None:
        host, _, port = self.world.intake.removeprefix("http://").partition(":")
        streams = [await trio.open_tcp_stream(host, int(port)) for _ in names]
        last = 0.0

        async def one(stream: trio.SocketStream, name: str) -> None:
            nonlocal last
            body = json.dumps({
                "Token": self.world.token, "UniqueId": name, "CallerIDNum": "375296254070", "Extensions": ["150"], "CallType": 0,
            }).encode()  # fmt: skip
            head = f"POST /dial HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all(head.encode() + body)
            said = b""
            while b"}" not in said:
                said += await stream.receive_some()
            last = time.perf_counter()
            assert said.startswith(b"HTTP/1.1 200 "), said
            self.answered.add(name)
            if self.answered.issuperset(names):
                os.kill(child.pid, signal.SIGKILL)
                self.kill_after_s.append(time.perf_counter() - last)

        with suppress(PermissionError):  # nothing of this machine's other work between answer and kill
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        gc.disable()
        async with trio.open_nursery() as nursery:
            for stream, name in zip(streams, names, strict=True):
                nursery.start_soon(one, stream, name)
        gc.enable()
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        await child.wait()
        for stream in streams:
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("where", ["journal", "spool"])
async def test_what_was_answered_is_there_when_the_gateway_is_killed_right_behind_it(
    tmp_path: Path, where: str
) -> None:
    async with open_town(tmp_path, start=False) as (world, postgres):
        volley = Volley(world)
        kills = KILLS if where == "journal" else max(2, KILLS // 5)
        for number in range(kills):
            async with world.gateway.running() as child:
                await world.gateway.wait_ready(child, world.url)
                if not number:
                    await world.apply(world.tenant())
                    await until(lambda: has_tenant(world))
                if where == "spool":
                    await postgres.stop()
                await volley.fire(child, [f"400.{number}.{place}" for place in range(AT_ONCE)])
            if where == "spool":
                assert list((tmp_path / "var" / "spool").iterdir()) != []
                await postgres.start()
        async with world.gateway.running() as child:
            await world.gateway.wait_ready(child, world.url)
            await until(lambda: nothing_waits(world, postgres))
            rows = {row["unique_id"]: row["n"] for row in await postgres.rows(
                "SELECT unique_id, count(*) AS n FROM journal GROUP BY 1"
            )}  # fmt: skip
        print("\n" + json.dumps({
            "where": where, "kills": kills, "answered 200": len(volley.answered), "rows found": len(volley.answered & rows.keys()),
            "rows twice": sum(n > 1 for n in rows.values()), "killed after the last answer, ms": quantiles(volley.kill_after_s),
            "within 1 ms": sum(after < 0.001 for after in volley.kill_after_s),
        }))  # fmt: skip
        assert len(volley.answered) == kills * AT_ONCE
        assert rows == dict.fromkeys(volley.answered, 1)
        assert sorted(volley.kill_after_s)[len(volley.kill_after_s) // 2] < 0.001


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(60):
        while not await what():
            await trio.sleep(0.1)


async def has_tenant(world: World) -> bool:
    return bool((await requested(world, "/integrations/0367"))["code"] == 200)


async def nothing_waits(world: World, postgres: Postgres) -> bool:
    waiting = (await postgres.rows("SELECT count(*) AS n FROM journal WHERE done_at IS NULL"))[0]["n"]
    return not waiting and not (await requested(world, "/stats"))["spool"]["records"]
