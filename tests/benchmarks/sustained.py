"""How many calls a second the gateway sustains from end to end: AMI bytes, every commit, every request of the CRMs answered.

The real process, thirty companies (RetailCRM takes 40 requests of telephony a second from one account, and a call is four),
each with a PBX and a CRM that answers at once or after 200 ms. The pace rises by a quarter until rings fall behind: those
of the last second of a step come to the CRM more than a second late, or not at all. The pace before that is the figure; a
step that fails is tried once more. There is no peer to run here: an open Python connector that commits nothing is published
with 35 and 1.7.
"""

import gc
import time
from collections.abc import Sequence

import trio

from tests.benchmarks.harness import Bench, Result
from tests.benchmarks.paced import Company, open_companies

COMPANIES = 30
FIRST, STEP, MOST = 16.0, 1.25, 600.0
SECONDS = 5.0
BEHIND_S = 1.0
PUBLISHED = {"CRM at once": 35.0, "CRM in 200 ms": 1.7}


async def keeps_up(companies: Sequence[Company], pace: float, seconds: float) -> bool:
    """Whether the rings of the last second of a step reach the CRMs within a second."""
    gc.collect()
    async with trio.open_nursery() as nursery:
        for company in companies:
            nursery.start_soon(company.pbx.emit, pace / len(companies), seconds)
    await trio.sleep(BEHIND_S)
    late, newest = (
        0,
        max((at for company in companies for at in company.pbx.sent.values()), default=time.perf_counter()),
    )
    for company in companies:
        for call, at in company.pbx.sent.items():
            arrived = company.crm.first.get(call)
            late += at > newest - 1.0 and (arrived is None or arrived - at > BEHIND_S)
        company.take()
    return not late


async def run(bench: Bench) -> None:
    """Both kinds of CRM, each up to its limit."""
    many, seconds = bench.size(COMPANIES, 2), bench.size(SECONDS, 1.0)
    for name, delay_s in (("CRM at once", 0.0), ("CRM in 200 ms", 0.2)):
        async with open_companies(bench, f"sustained{delay_s:g}", [delay_s] * many) as companies:
            await keeps_up(companies, FIRST / 2, seconds)  # connections are opened, code is warm
            pace, kept, limit = FIRST, 0.0, "not tried further"
            while pace < bench.size(MOST, FIRST * STEP):
                for _ in range(2):
                    if kept_up := await keeps_up(companies, pace, seconds):
                        break
                    await trio.sleep(bench.size(3.0, 0.1))
                if not kept_up:
                    limit = f"behind at {pace:.0f}"
                    break
                pace, kept = pace * STEP, pace
        bench.add(
            Result(
                name=f"calls sustained from end to end, {name}", unit="calls/s", ours=kept,
                note=f"{limit}; published for a connector that commits nothing: {PUBLISHED[name]:g}",
            )
        )  # fmt: skip
