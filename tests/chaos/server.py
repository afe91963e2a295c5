"""A PostgreSQL of the harness's own, as durable as in production, that can be stopped at once and hurt in other ways."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from gateway.domain.errors import GatewayError
from gateway.store.embedded.data_directory import prepare_cluster
from gateway.store.embedded.server import Server
from gateway.store.postgres.pool import OwnConnection, open_session


class OwnServer:
    """One cluster in a folder; the server process is ended and started by the harness alone."""

    def __init__(self, server: Server, data: Path) -> None:
        self._server = server
        self._data = data
        self.panics = 0
        """Failed tries to go on with a full disk."""

    @property
    def dsn(self) -> str:
        """What the gateway gets as its DATABASE_URL."""
        return self._server.dsn

    async def start(self) -> None:
        """Returns when it answers."""
        await self._server.start()

    async def stop_at_once(self) -> None:
        """SIGQUIT: no checkpoint, every connection drops, and the next start recovers from the log."""
        pid = self._server.pid
        with suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGQUIT)
        await self._ended()

    async def _ended(self) -> None:
        with trio.fail_after(20):
            while self._server.running:
                await trio.sleep(0.02)

    async def ask(self, query: str, *values: Any, application_name: str = "chaos") -> list[dict[str, Any]]:
        """Rows, as the superuser. Raises what the gateway's store raises."""

        async def fetch(connection: OwnConnection) -> list[dict[str, Any]]:
            return [dict(row) for row in await connection.fetch(query, *values)]

        async with open_session(self.dsn, application_name=application_name) as session:
            return await session.run(fetch)

    async def terminate_backends(self) -> None:
        """Every connection of the gateway is ended by the server."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'gateway%'"
        with suppress(GatewayError):
            await self.ask(query)

    async def kill_a_backend(self) -> None:
        """kill -9 of one backend of the gateway: the server takes it for corruption and starts itself anew."""
        rows = await self.ask("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'gateway%' LIMIT 1")
        for row in rows:
            with suppress(ProcessLookupError):
                os.kill(row["pid"], signal.SIGKILL)

    async def hold_tables(self, seconds: float) -> None:
        """Everything that touches posts or deliveries waits, until all connections of the gateway's pools do."""

        async def hold(connection: OwnConnection) -> None:
            async with connection.transaction():
                await connection.execute("LOCK TABLE journal, deliveries IN ACCESS EXCLUSIVE MODE")
                await connection.execute("SELECT pg_sleep($1)", seconds)

        async with open_session(self.dsn, application_name="chaos") as session:
            await session.run(hold)

    async def fill_disk(self, seconds: float) -> None:
        """The log cannot grow: the server panics at its next segment, and again after each recovery, until there is
        room. Its folder is closed to it: a full disk of its own would need rights that not every machine gives."""
        with _closed(self._data / "pg_wal"), trio.move_on_after(seconds):
            while True:
                with suppress(GatewayError):
                    await self.ask("SELECT pg_switch_wal(), txid_current()")
                    continue
                self.panics += 1
                await trio.sleep(0.2)
        if not self._server.running:
            await self.start()

    async def wait_answers(self) -> None:
        """Until it takes connections again."""
        with trio.fail_after(60):
            while True:
                if not self._server.running:
                    await self.start()
                with suppress(GatewayError, OSError):
                    await self.ask("SELECT 1")
                    return
                await trio.sleep(0.05)


@contextmanager
def _closed(folder: Path) -> Iterator[None]:
    """Nothing new can be made in the folder; what is there can be used."""
    before = folder.stat()
    if os.geteuid() == 0:
        os.chown(folder, 0, 0)
    folder.chmod(0o555)
    try:
        yield
    finally:
        os.chown(folder, before.st_uid, before.st_gid)
        folder.chmod(before.st_mode & 0o777)


@asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[OwnServer]:
    """A fresh server in a folder, fsync and all; stopped at the end."""
    await trio.Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = await trio.to_thread.run_sync(partial(prepare_cluster, folder, system=True, last_socket=""))
    server = Server(cluster, {"max_connections": "100"})
    try:
        await server.start()
        yield OwnServer(server, cluster.data)
    finally:
        with trio.CancelScope(shield=True):
            await server.stop()
