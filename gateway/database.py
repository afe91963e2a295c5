"""Where the database is: a server of our own, or the one that the settings name, and as whom one logs in there.

    pool     what people and machines send is worked on by a plain login: no superuser, on our own server no owner either
    owner    migrations and the journal's days, each on a short connection of its own

Starts the embedded server where it is ours. Read `gateway/store/postgres/pool.py` for what a login may not be.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import trio

from gateway.settings import Settings
from gateway.store.embedded.embedded import Role, embedded
from gateway.store.postgres.migrate import migrate


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one database. They hold passwords, so they never print."""

    pool: str = field(repr=False)
    owner: str = field(repr=False)
    ours: bool = False
    """Whether the server is our own, where the login is ours to make."""

    async def migrate(self) -> list[str]:
        """Brings the schema up to date, as its owner; the names of what was applied."""
        login = unquote(urlsplit(self.pool).username or "") if self.pool != self.owner else ""
        return await migrate(self.owner, login=login or None, make_login=self.ours)


@asynccontextmanager
async def database_server(
    settings: Settings, role: Role = "command"
) -> AsyncIterator[tuple[Addresses, Callable[[], Awaitable[Any]]]]:
    """The addresses, and what keeps the server alive where it is ours. Raises NoServer with one line for a person."""
    if settings.database_url is not None:
        pool = settings.database_url.reveal()
        owner = settings.database_owner_url.reveal() if settings.database_owner_url is not None else pool
        yield Addresses(pool, owner), trio.sleep_forever
        return
    async with embedded(settings.data_dir, role=role) as server:
        yield Addresses(server.login_dsn, server.dsn, ours=True), server.supervise
