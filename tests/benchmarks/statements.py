"""How many statements PostgreSQL is sent for one posted event and for one call over AMI, BEGIN and COMMIT counted as such.

The real process, one company, everything one at a time so that nothing shares a commit: the most that one costs. What the
process asks on its own account is measured first and taken off. There is no peer; fewer is better.
"""

import json
import time
import urllib.request
from typing import Any

import trio

from tests.benchmarks.harness import Bench, Result, open_side
from tests.benchmarks.paced import OPERATOR, open_companies

MANY = 20
APART_S = 0.25
IDLE_S = 6.0
WINDOWS = 10
"""Of idling at most, until the statements of the start have died away."""
BEHIND_S = 6.5
"""What a post or a call still sets off later: the journal is looked through once more after five seconds."""


async def _queries(url: str) -> int:
    def ask() -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        asked = urllib.request.Request(f"{url}/stats", headers={"Authorization": f"Bearer {OPERATOR}"})
        with direct.open(asked, timeout=5) as answer:
            return json.load(answer)

    return int((await trio.to_thread.run_sync(ask))["database_queries"])


async def _idle(url: str, window_s: float) -> float:
    """Statements a second of a process that does nothing, once they no longer get fewer."""
    found: list[float] = []
    while len(found) < WINDOWS and (len(found) < 2 or found[-1] < 0.8 * found[-2]):
        before, started = await _queries(url), time.perf_counter()
        await trio.sleep(window_s)
        found.append((await _queries(url) - before) / (time.perf_counter() - started))
    return min(found[-2:])


async def run(bench: Bench) -> None:
    """Idle, posts, calls."""
    many, behind_s = bench.size(MANY, 4), bench.size(BEHIND_S, 0.2)
    async with (
        open_companies(bench, "statements", [0.0, 0.0], posting=1) as companies,
        open_side("tests.benchmarks.load:post") as load,
    ):
        company, posting = companies
        url, intake = company.url, company.intake

        idle = 0.0

        async def spent(work: Any) -> float:
            before, started = await _queries(url), time.perf_counter()
            await work()
            await trio.sleep(behind_s)
            return await _queries(url) - before - idle * (time.perf_counter() - started)

        async def posts() -> None:
            await load.round(
                address=intake.removeprefix("http://"), token=posting.token, connections=1, seconds=60.0, most=many,
                every_s=APART_S,
            )  # fmt: skip

        async def calls() -> None:
            await company.pbx.emit(1 / (3 * APART_S), many * 3 * APART_S)

        await posts()
        await trio.sleep(behind_s)
        idle = await _idle(url, bench.size(IDLE_S, 1.0))
        each = {"a posted event": await spent(posts) / many, "a call over AMI, three events": await spent(calls) / many}
    for what, figure in each.items():
        bench.add(
            Result(name=f"statements for {what}", unit="statements", ours=figure, note=f"{idle:.1f} a second when idle")
        )
