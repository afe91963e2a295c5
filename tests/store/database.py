"""A real PostgreSQL for tests: one embedded server a session, a database of its own for every test.

The server runs as the gateway runs it, in a thread with a Trio loop of its own; only its fsync is off and its data in
memory where there is room. A test's database is a copy of one that was migrated once. Another test package gets the fixtures by importing them in its
conftest.
"""

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from gateway.store.embedded.embedded import as_login, embedded
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import Database, OwnConnection, Session, open_database, open_session
from gateway.store.postgres.roles import LOGIN
from tests.loop_thread import LoopThread

TEMPLATE = "template_migrated"
FOLDER = "gateway-test-"


def other_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    return dsn.replace("/gateway?", f"/{name}?")


async def make_login(dsn: str) -> None:
    """The plain user whom a gateway logs in as where the server is beside it. `dsn` is a superuser's."""
    async with open_session(dsn) as session:
        await session.run(_execute, f"CREATE ROLE {LOGIN} LOGIN")


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where there is room: a new database is some 300 files, 10 ms there and up to 0.4 s on disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1_000_000_000
    base = memory if roomy else Path(tempfile.gettempdir())
    for old in base.glob(f"{FOLDER}*"):
        _remove_abandoned(old)
    # It has its name, by which other runs look for what was abandoned, only while it is locked.
    unnamed = Path(tempfile.mkdtemp(prefix="new-", dir=base))
    folder = unnamed.with_name(FOLDER + unnamed.name.removeprefix("new-"))
    with (unnamed / "in_use").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        unnamed.rename(folder)
        yield folder
        shutil.rmtree(folder)


def _remove_abandoned(folder: Path) -> None:
    """What a killed test run left."""
    with suppress(OSError), (folder / "in_use").open("r") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


class Postgres(LoopThread):
    """The session's server. Its methods are for the test's thread, outside Trio."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.dsn = ""
        self._numbers = itertools.count(1)
        super().__init__("test postgres", self._opened_server)

    def execute(self, statement: str) -> None:
        """As the superuser, in the database `postgres`."""
        self.do(self._admin.run, _execute, statement)

    def new_database(self, template: str = TEMPLATE) -> str:
        """Its address."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return other_database(self.dsn, name)

    def drop_database(self, dsn: str) -> None:
        name = dsn.split("?")[0].rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @asynccontextmanager
    async def _opened_server(self) -> AsyncIterator[None]:
        async with embedded(self.data_dir, settings={"fsync": "off", "max_wal_size": "64MB"}) as server:
            self.dsn = server.dsn
            async with open_session(other_database(server.dsn, "postgres")) as admin:
                self._admin: Session = admin
                await admin.run(_execute, f"CREATE DATABASE {TEMPLATE}")
                await migrate(other_database(server.dsn, TEMPLATE), login=LOGIN, make_login=True)
                yield


async def _execute(connection: OwnConnection, statement: str) -> None:
    await connection.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server itself."""
    with quick_folder() as folder:
        server = Postgres(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def dsn(postgres: Postgres) -> Iterator[str]:
    """A migrated database that nobody has used: its address for the owner, who is a superuser; `as_login` makes the other."""
    address = postgres.new_database()
    yield address
    postgres.drop_database(address)


@pytest.fixture
def empty_dsn(postgres: Postgres) -> Iterator[str]:
    """A database without a schema."""
    address = postgres.new_database("template1")
    yield address
    postgres.drop_database(address)


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """An open `Database` on a migrated database."""
    async with open_database(as_login(dsn), size=4, engine_size=4) as database:
        yield database
