"""What ten companies at one call a second each notice while an eleventh makes a hundred a second, on the same process.

The measure is theirs: from the AMI bytes to the first byte at their own CRM (see `latency`), before and during. Rounds of
calm and of noise alternate.
"""

import statistics

import trio

from tests.benchmarks.harness import Bench, Result, quantile
from tests.benchmarks.paced import measure, open_companies

COMPANIES, TIMES = 10, 100


async def run(bench: Bench) -> None:
    """Calm, noise, calm, noise..."""
    many, rounds, seconds = bench.size(COMPANIES, 2), bench.size(3, 1), bench.size(8.0, 1.0)
    calm: list[list[float]] = []
    noisy: list[list[float]] = []
    settle = bench.size(1.2, 0.3)
    async with open_companies(bench, "neighbours", [0.0] * (many + 1)) as (loud, *quiet):
        await measure([loud, *quiet], 2, bench.size(1.5, 0.5), settle)
        for _ in range(rounds):
            calm.append((await measure(quiet, 1, seconds, settle))[0])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loud.pbx.emit, bench.size(TIMES, 10), seconds)
                noisy.append((await measure(quiet, 1, seconds, settle))[0])
            loud.take()
            await trio.sleep(bench.size(3.0, 0.2))
    for q, aim in ((0.5, None), (0.99, 1.2)):
        before, during = ([quantile(latencies, q) for latencies in rows] for rows in (calm, noisy))
        times = [b / a for a, b in zip(before, during, strict=True)]
        bench.add(
            Result(
                name=f"neighbours of a company at {TIMES}x, p{q * 100:.0f}", unit="ms", ours=statistics.median(during),
                theirs=statistics.median(before), against="themselves before", ratios=tuple(1 / t for t in times),
                aim=f"<= {aim:g}x" if aim else "", reached=statistics.median(times) <= aim if aim else None,
                rounds=rounds, note=f"{statistics.median(times):.2f} times as long",
            )
        )  # fmt: skip
