"""`make bench`: all benchmarks, or one (`BENCH=name`). `--quick` runs each at a tiny size, to see that it runs at all.

Prints a table and leaves it as JSON in `var/bench/`. Ratios, never an absolute promise; read `harness.py` for how.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import trio

from tests.benchmarks.database import open_server
from tests.benchmarks.harness import HEAD, Bench, as_json

FOLDER = Path("var/bench")
BENCHMARKS = (
    "ami_parse",
    "ami_commit",
    "intake",
    "deliveries",
    "latency",
    "bridge",
    "idle_tenants",
    "neighbours",
    "statements",
    "sustained",
    "chats",
)


async def run(names: list[str], *, quick: bool, folder: Path) -> Bench:
    """The named benchmarks, one after the other, on one server."""
    data = folder / "server"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    try:
        async with open_server(data) as server:
            bench = Bench(server, folder, quick)
            print(HEAD, flush=True)
            # Quick figures mean nothing, so there everything runs at once.
            limit = trio.CapacityLimiter(3 if quick else 1)
            async with trio.open_nursery() as nursery:
                for name in names:
                    await limit.acquire_on_behalf_of(name)
                    nursery.start_soon(_one, bench, name, limit)
            return bench
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def _one(bench: Bench, name: str, limit: trio.CapacityLimiter) -> None:
    started = time.monotonic()
    await import_module(f"tests.benchmarks.{name}").run(bench)
    limit.release_on_behalf_of(name)
    print(f"  ({name}: {time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=None, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether it runs at all")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    names = [name.replace("-", "_") for name in arguments.names] or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    started = datetime.now(UTC)
    load = os.getloadavg()[0]
    bench = trio.run(lambda: run(names, quick=arguments.quick, folder=arguments.folder))
    file = arguments.folder / f"{started:%Y%m%dT%H%M%S}{'-quick' if arguments.quick else ''}.json"
    file.write_text(
        as_json(
            bench.results, started=started.isoformat(), quick=arguments.quick, cores=os.cpu_count(),
            python=platform.python_version(), load_before=load,
        )
    )  # fmt: skip
    print(f"{file}; one-minute load before the start {load:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
