"""Database calls through the bridge (Trio to asyncpg's thread and back) against asyncpg without one.

32 tasks each ask for one row by key, over and over, on 8 connections of the same server.

    ours            `Database.engine` from Trio tasks: two threads, one crossing there and back a call
    plain asyncio   an asyncpg pool on asyncio's own loop, one thread
    uvloop          the same on uvloop

Fair to the peers: their pools skip the reset that asyncpg sends after each use, as ours does, and they have no roles to
enter. trio-asyncio, the other way for Trio, is not measured: it patches asyncio for the whole process and hung in four of
six runs when it was (0.25 of plain asyncio then), so it is not installed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import trio
import uvloop

from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import Connection, open_database
from tests.benchmarks.harness import Bench, alternate

HERE = "tests.benchmarks.bridge"
TASKS, CONNECTIONS = 32, 8
QUERY = "SELECT version FROM tenant_versions WHERE tenant_id = $1"


async def _ask(connection: Connection, number: str) -> object:
    return await connection.fetchval(QUERY, number)


def ours(dsn: str, calls: int) -> dict[str, float]:
    """One round from Trio."""

    async def run() -> tuple[float, float]:
        async with open_database(as_login(dsn), size=1, engine_size=CONNECTIONS) as db:

            async def ask(many: int) -> None:
                for number in range(many):
                    await db.engine(_ask, str(number))

            await _all(partial(ask, 20))
            started, cpu = time.perf_counter(), time.process_time()
            await _all(partial(ask, calls // TASKS))
            return time.perf_counter() - started, time.process_time() - cpu

    seconds, cpu = trio.run(run)
    return {"seconds": seconds, "cpu": cpu}


async def _all(task: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(task)


async def _keep(connection: object) -> None:
    """Instead of the reset after each use."""


async def _in_asyncio(dsn: str, calls: int) -> tuple[float, float]:
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, reset=_keep) as pool:

        async def ask(many: int) -> None:
            for number in range(many):
                async with pool.acquire() as connection:
                    await connection.fetchval(QUERY, str(number))

        await asyncio.gather(*(ask(20) for _ in range(TASKS)))
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(ask(calls // TASKS) for _ in range(TASKS)))
        return time.perf_counter() - started, time.process_time() - cpu


def plain(dsn: str, calls: int) -> dict[str, float]:
    """One round on asyncio's own loop."""
    seconds, cpu = asyncio.run(_in_asyncio(dsn, calls))
    return {"seconds": seconds, "cpu": cpu}


def on_uvloop(dsn: str, calls: int) -> dict[str, float]:
    """One round on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seconds, cpu = runner.run(_in_asyncio(dsn, calls))
    return {"seconds": seconds, "cpu": cpu}


async def run(bench: Bench) -> None:
    """The comparison, by rate; the note has the client's CPU a call."""
    dsn = await bench.server.new_database()
    calls = bench.size(9_600, 640)
    names = [f"{HERE}:{side}" for side in ("ours", "plain", "on_uvloop")]
    found = await alternate(names, bench.rounds, lambda _: {"dsn": dsn, "calls": calls})
    rates = [[calls / figures["seconds"] for figures in found[name]] for name in names]
    cpu = [min(figures["cpu"] for figures in found[name]) / calls * 1e6 for name in names]
    bench.compare(
        "database calls through the bridge", "calls/s", rates[0], rates[1], against="asyncpg on plain asyncio",
        aim=1.0, note=f"CPU {cpu[0]:.0f} and {cpu[1]:.0f} µs a call",
    )  # fmt: skip
    bench.compare(
        "database calls through the bridge", "calls/s", rates[0], rates[2], against="asyncpg on uvloop", aim=None,
        note=f"CPU {cpu[0]:.0f} and {cpu[2]:.0f} µs a call",
    )  # fmt: skip
