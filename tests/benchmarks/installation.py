"""`gateway run` as a process of its own, on a database of the benchmarks' server, with tenants from a file.

As it is in production: default settings, logs at INFO into a file, a master key of its own.
"""

import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from gateway.store.embedded.embedded import as_login
from tests.benchmarks.harness import Bench
from tests.sandbox.product import Gateway, free_address, write_private

READY_S = 120.0


@dataclass
class Installation:
    """The commands of one installation, and its process where it runs."""

    gateway: Gateway
    folder: Path
    url: str
    intake: str
    child: trio.Process | None = None

    async def apply(self, tenants: Sequence[Mapping[str, Any]]) -> None:
        """`gateway apply` of these."""
        file = self.folder / "tenants.json"
        write_private(file, json.dumps({"tenants": tenants}))
        await self.gateway.ask("apply", str(file))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[float]:
        """Yields how many seconds it took from the start of the process until `/ready` said so."""
        started = time.perf_counter()
        async with self.gateway.running() as self.child:
            await self.gateway.wait_ready(self.child, self.url)
            yield time.perf_counter() - started

    def rss(self) -> int:
        """The process's resident memory in bytes."""
        assert self.child is not None
        pages = Path(f"/proc/{self.child.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def new_installation(bench: Bench, name: str, **settings: str) -> Installation:
    """Installed, migrated and empty; not running."""
    folder = bench.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    bind, intake = free_address(0), free_address(0)
    dsn = await bench.server.new_database()
    environment = {
        "GATEWAY_DATA_DIR": str(folder), "GATEWAY_DATABASE_URL": as_login(dsn), "GATEWAY_DATABASE_OWNER_URL": dsn,
        "GATEWAY_MASTER_KEY_FILE": str(folder / "master.key"), "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake,
        "GATEWAY_ALLOWED_PRIVATE_NETS": "127.0.0.0/8", "GATEWAY_LOG_FORMAT": "json", **settings,
    }  # fmt: skip
    gateway = Gateway(environment, folder / "gateway.log")
    write_private(folder / "master.key", await gateway.ask("keys", "new"))
    return Installation(gateway, folder, f"http://{bind}", f"http://{intake}")
