"""What a tenant costs that does nothing: memory of the real process, and how long the start takes with 10,000 of them.

A tenant has two phones and two integrations, RetailCRM and Telegram (its actor, two delivery actors, its snapshot). They
are declared by `gateway apply` before the clock starts. Bytes a tenant are the resident memory with many tenants, less
that with few, by the difference in number; the time is from the start of the process until `/ready` says yes, database
already up. There is no peer.
"""

import statistics
from typing import Any

import trio

from tests.benchmarks.harness import Bench
from tests.benchmarks.installation import Installation, new_installation

FEW, MANY = 100, 10_000
SETTLE_S = 3.0
AT_ONCE = 2500
"""Tenants in one file."""


def _tenant(number: int) -> dict[str, Any]:
    return {
        "number": f"{number:05}", "name": f"Company {number}", "token": f"{number:05}-a-token-of-more-than-32-characters",
        "timezone": "Europe/Minsk", "country": "BY", "language": "ru",
        "phones": [{"number": "150", "owner": "Anna"}, {"number": "151", "owner": "Boris"}],
        "integrations": {
            "retailcrm": {"domain": "https://bench.retailcrm.ru", "api_key": "bench", "user_extensions": {"19": "150"}},
            "telegram": {"bot_token": f"{700000000 + number}:sandbox-bot-token-0123456789abcdef", "notify_chats": [-100]},
        },
    }  # fmt: skip


async def _started(installation: Installation, settle_s: float) -> tuple[float, int]:
    async with installation.running() as seconds:
        await trio.sleep(settle_s)
        return seconds, installation.rss()


async def run(bench: Bench) -> None:
    """Few, then many."""
    few, many = bench.size((FEW, MANY), (2, 30))
    settle_s = bench.size(SETTLE_S, 0.2)
    installation = await new_installation(bench, "idle")
    await installation.apply([_tenant(number) for number in range(few)])
    _, small = await _started(installation, settle_s)
    for start in range(few, many, AT_ONCE):
        await installation.apply([_tenant(number) for number in range(start, min(many, start + AT_ONCE))])
    runs = [await _started(installation, settle_s)]
    each = [(large - small) / (many - few) / 1000 for _, large in runs]
    bench.ceiling(
        "an idle tenant with two integrations", "kB", statistics.median(each), 50.0, rounds=len(runs),
        note=f"resident {small / 1e6:.0f} MB with {few}, {runs[0][1] / 1e6:.0f} MB with {many}",
    )  # fmt: skip
    bench.ceiling(
        f"start with {many:,} tenants", "s", statistics.median(seconds for seconds, _ in runs), 15.0, rounds=len(runs),
        note=", ".join(f"{seconds:.1f}" for seconds, _ in runs),
    )  # fmt: skip
