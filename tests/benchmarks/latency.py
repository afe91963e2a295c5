"""From the AMI bytes that make the phones ring to the first byte of the CRM's request, everything committed in between.

The real process: session, tracker, tenant's actor, group commit, claim, HTTP over kept connections. Five calls a second
are one company's, fifty are ten companies' (RetailCRM takes 40 requests of telephony a second from one account, and a
call is three). The CRM answers at once, or takes 200 ms for each answer.

There is no peer to run here: the figure beside ours is the published one of open connectors that commit nothing before
they tell (the best in Python: p50 6.4 ms, p99 17.7 ms at 5 calls/s).
"""

from tests.benchmarks.harness import Bench, Result, quantile
from tests.benchmarks.paced import measure, open_companies

AIMS = {5: (2.0, 10.0), 50: (5.0, 50.0)}
COMPANIES = 10
WARM_S = 30.0
"""What comes before is apart: connections are opened, modules and plans are cold, tables are empty and without statistics."""


async def run(bench: Bench) -> None:
    """Both paces with both CRMs, in turn."""
    many, rounds = bench.size(COMPANIES, 2), bench.size(4, 1)
    found: dict[tuple[int, str], list[float]] = {}
    missing: dict[tuple[int, str], int] = {}
    settle = bench.size(1.2, 0.3)
    async with open_companies(bench, "latency", [0.0] * many + [0.2] * many) as companies:
        halves = {"CRM at once": companies[:many], "CRM in 200 ms": companies[many:]}
        first: list[float] = []
        for half in halves.values():
            first += (await measure(half, 0.5, bench.size(WARM_S, 0.6), settle))[0]
        for number in range(rounds):
            for name, half in halves.items() if number % 2 else reversed(halves.items()):
                for pace, some in ((5, half[:1]), (50, half)):
                    latencies, lost = await measure(some, 5, bench.size(20 if pace == 5 else 3, 0.6), settle)
                    found.setdefault((pace, name), []).extend(latencies)
                    missing[pace, name] = missing.get((pace, name), 0) + lost
    bench.add(
        Result(
            name="AMI to CRM, the first minute, p50", unit="ms", ours=quantile(first, 0.5),
            note=f"p99 {quantile(first, 0.99):.0f}; {len(first)} calls, not in what follows",
        )
    )  # fmt: skip
    for (pace, name), latencies in sorted(found.items()):
        said = f"{len(latencies)} calls, {missing[pace, name]} not told" + (
            "; connectors 6.4 and 17.7" if pace == 5 else ""
        )
        for q, aim in zip((0.5, 0.99), AIMS[pace], strict=True):
            what = f"AMI to CRM, {pace} calls/s, {name}, p{q * 100:.0f}"
            bench.ceiling(what, "ms", quantile(latencies, q), aim, rounds=rounds, note=said)
