"""The PostgreSQL of the benchmarks: the gateway's embedded one with its own durable settings, one database a side.

Everyone works on the same server; peers get a database of their own with the gateway's schema in it.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from gateway.store.embedded.embedded import embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import OwnConnection, Session, open_session
from gateway.store.postgres.roles import LOGIN

TEMPLATE = "template_bench"


@dataclass
class Server:
    """The server, and its databases."""

    dsn: str
    _admin: Session
    _one_at_a_time: trio.Lock = field(default_factory=trio.Lock)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def execute(self, statement: str) -> None:
        """As the superuser, in the database `postgres`."""
        async with self._one_at_a_time:
            await self._admin.run(_execute, statement)

    async def new_database(self) -> str:
        """The address of a migrated database."""
        name = f"bench_{next(self._numbers)}"
        await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return self.dsn.replace("/gateway?", f"/{name}?")

    async def in_database(self, dsn: str, statement: str) -> Any:
        """One statement there; its first value."""
        async with open_session(dsn) as session:
            return await session.run(_value, statement)


async def _execute(connection: OwnConnection, statement: str) -> None:
    await connection.execute(statement)


async def _value(connection: OwnConnection, statement: str) -> Any:
    return await connection.fetchval(statement)


@asynccontextmanager
async def open_server(folder: Path) -> AsyncIterator[Server]:
    """The server with a migrated template, for as long as the context lasts."""
    async with embedded(folder) as running, open_session(running.dsn.replace("/gateway?", "/postgres?")) as admin:
        server = Server(running.dsn, admin)
        await server.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
        await server.execute(f"CREATE DATABASE {TEMPLATE}")
        await migrate(running.dsn.replace("/gateway?", f"/{TEMPLATE}?"), login=LOGIN, make_login=True)
        yield server
