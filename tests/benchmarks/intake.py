"""Posted events made durable, 16 connections, against FastAPI + uvicorn + asyncpg with one insert a request.

Both are real processes and stay up for all rounds; one load generator (`load`) posts to one of them at a time, every body
new. An answer counts when it is 200 `accepted`, which both say only behind the commit.

    ours     `gateway run`: the fast listener, validation, group commit into the journal; and in the same process the
             tenant's actor makes calls of the posts, which competes for the same core
    theirs   `fastapi_service`: one uvicorn worker on uvloop and httptools without an access log, a pool of eight
             connections, the same table and the same validation by pydantic; it makes nothing of the posts
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
async def _peer(dsn: str) -> AsyncIterator[str]:
    """The FastAPI service, up."""
    address = free_address(0)
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.benchmarks.fastapi_service", dsn, TOKEN, address.partition(":")[2]],
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
    found: dict[str, list[Figures]] = {"ours": [], "theirs": []}
    async with (
        installation.running(),
        _peer(await bench.server.new_database()) as theirs,
        open_side("tests.benchmarks.load:post") as load,
    ):
        addresses = {"ours": installation.intake.removeprefix("http://"), "theirs": theirs}
        for number in range(bench.rounds + 1):
            for name in addresses if number % 2 else reversed(addresses):
                figures = await load.round(
                    address=addresses[name], token=TOKEN, connections=CONNECTIONS, seconds=bench.size(2.5, 0.4)
                )
                assert not figures["refused"], f"{name} refused {figures['refused']}"
                if number:
                    found[name].append(figures)
                await trio.sleep(bench.size(1.5, 0.1))  # what the posts have set off comes to an end
    ours, theirs_ = ([figures["rate"] for figures in found[name]] for name in ("ours", "theirs"))
    p99 = [max(figures["p99_ms"] for figures in found[name]) for name in ("ours", "theirs")]
    bench.compare(
        f"durable event posts, {CONNECTIONS} connections", "posts/s", ours, theirs_,
        against="FastAPI, uvicorn, asyncpg", aim=3.0, note=f"worst p99 {p99[0]:.0f} and {p99[1]:.0f} ms",
    )  # fmt: skip
