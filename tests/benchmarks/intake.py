"""Posted events made durable, 16 connections, against FastAPI + uvicorn + asyncpg with one insert a request.

Both are real processes and stay up for all rounds; one load generator (`load`) posts to one of them at a time: each
call rings and is hung up, every body new. An answer counts when it is 200 `accepted`, which both say only behind the commit.

    ours     `gateway run`: the fast listener and validation; the tenant's actor makes calls of the posts and commits
             each with its call and event, in groups
    alone    the same listener, validation and group commit without the rest of the gateway (`intake_service`): like for
             like with the peer, since that makes nothing of the posts
    theirs   `fastapi_service`: one uvicorn worker on uvloop and httptools without an access log, a pool of eight
             connections, a table of the same columns and the same validation by pydantic
    whole    the same, writing post, call and event in one transaction: the fair peer of `ours`, without deliveries,
             without order and with fewer columns
"""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from tests.benchmarks.harness import Bench, Figures, open_side
from tests.benchmarks.installation import new_installation
from tests.sandbox.product import free_address

TOKEN = "a-token-for-the-benchmarks-of-32-characters"
CONNECTIONS = 16


@asynccontextmanager
async def _service(module: str, dsn: str, *more: str) -> AsyncIterator[str]:
    """One of the two services, up."""
    address = free_address(0)
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", f"tests.benchmarks.{module}", dsn, TOKEN, address.partition(":")[2], *more],
        stdin=subprocess.DEVNULL,
    )
    try:
        with trio.fail_after(20):
            while True:
                with suppress(OSError):
                    await (await trio.open_tcp_stream("127.0.0.1", int(address.partition(":")[2]))).aclose()
                    break
                await trio.sleep(0.05)
        yield address
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


async def run(bench: Bench) -> None:
    """The comparison."""
    installation = await new_installation(bench, "intake")
    tenant = {
        "number": "0367", "name": "June", "token": TOKEN, "timezone": "Europe/Minsk", "country": "BY", "language": "ru",
        "phones": [{"number": "150"}, {"number": "151"}],
    }  # fmt: skip
    await installation.apply([tenant])
    found: dict[str, list[Figures]] = {"ours": [], "alone": [], "theirs": [], "whole": []}
    async with (
        installation.running(),
        _service("intake_service", await bench.server.new_database()) as alone,
        _service("fastapi_service", await bench.server.new_database()) as theirs,
        _service("fastapi_service", await bench.server.new_database(), "whole") as whole,
        open_side("tests.benchmarks.load:post") as load,
    ):
        addresses = {
            "ours": installation.intake.removeprefix("http://"),
            "alone": alone,
            "theirs": theirs,
            "whole": whole,
        }
        for number in range(bench.size(0, 1), bench.rounds + 1):
            for name in addresses if number % 2 else reversed(addresses):
                figures = await load.round(
                    address=addresses[name], token=TOKEN, connections=CONNECTIONS, seconds=bench.size(1.5, 0.3)
                )
                assert not figures["refused"], f"{name} refused {figures['refused']}"
                if number:
                    found[name].append(figures)
                await trio.sleep(bench.size(0.7, 0.1))  # what the posts have set off comes to an end
    rates = {name: [figures["rate"] for figures in rounds] for name, rounds in found.items()}
    p99 = {name: max(figures["p99_ms"] for figures in rounds) for name, rounds in found.items()}
    for name, peer, what, against, aim in (
        ("ours", "theirs", "gateway run, calls made of them", "FastAPI, one insert", 3.0),
        ("ours", "whole", "the same", "FastAPI, post, call and event in one transaction", 1.5),
        ("alone", "theirs", "intake alone", "FastAPI, one insert", 3.0),
    ):
        bench.compare(
            f"durable posts, {CONNECTIONS} connections, {what}", "posts/s", rates[name], rates[peer], against=against,
            aim=aim, note=f"worst p99 {p99[name]:.0f} and {p99[peer]:.0f} ms",
        )  # fmt: skip
