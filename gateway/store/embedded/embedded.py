"""The embedded PostgreSQL: a server of our own on a Unix socket in DATA_DIR, without any network address.

Owns DATA_DIR/postgres.lock, the data in DATA_DIR/postgres/<major> and the server process. Never speaks to the server:
it reads postmaster.pid instead. `binaries.py` finds the PostgreSQL that is used; read `server.py` next for the process.

    the lock is free     take it, start the server, stop it at the end
    someone holds it     a command attaches to that server; `run` waits for the holder to end

A command that started the server waits at its end for those attached to it; `run` does not, it has to stop in time.
"""

import fcntl
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import trio

from gateway.store.embedded.data_directory import USER, prepare_cluster
from gateway.store.embedded.server import Server
from gateway.store.postgres.errors import NoServer
from gateway.store.postgres.roles import LOGIN

Role = Literal["run", "command"]

POLL_S = 0.1
RUN_WAIT_S = 20.0
"""How long `run` waits for an earlier `run` that is about to end."""
ATTACH_WAIT_S = 60.0
LINGER_S = 300.0
"""How long a command that started the server stays for those attached to it."""

log = logging.getLogger(__name__)


class Embedded:
    """What `embedded` yields: the addresses, and the server to look after where it is ours."""

    def __init__(self, dsn: str, server: Server | None) -> None:
        self.dsn = dsn
        """As the owner of the tables: for `migrate` and partitions."""
        self._server = server

    @property
    def login_dsn(self) -> str:
        """As the plain login that `migrate` makes: for the pools, which work on what people and machines send."""
        return as_login(self.dsn)

    @property
    def ours(self) -> bool:
        """False when attached to a server that another process started."""
        return self._server is not None

    @property
    def running(self) -> bool:
        """Whether the server is up, as far as we know."""
        return self._server is None or self._server.running

    @property
    def restarts(self) -> int:
        """How often the server had to be started again."""
        return 0 if self._server is None else self._server.restarts

    async def supervise(self) -> NoReturn:
        """Runs until cancelled: starts the server again whenever it ends by itself."""
        if self._server is not None:
            await self._server.supervise()
        await trio.sleep_forever()
        raise AssertionError("unreachable")


def as_login(dsn: str) -> str:
    """The address of an embedded server for the plain login instead of the owner."""
    return dsn.replace(f"postgresql://{USER}@", f"postgresql://{LOGIN}@", 1)


@asynccontextmanager
async def embedded(
    data_dir: Path, *, role: Role = "command", system: bool = True, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Embedded]:
    """The embedded server, ready. Raises NoServer with one line for a person. `settings` go on the command line of
    `postgres` above our own."""
    lock = _Lock(data_dir)
    try:
        dsn = await _take_or_attach(lock, role)
        if dsn is not None:
            yield Embedded(dsn, None)
            return
        prepare = partial(prepare_cluster, lock.folder, system=system, last_socket=lock.last_socket())
        server = Server(await trio.to_thread.run_sync(prepare), settings or {})
        lock.emit(_Holder(os.getpid(), role, "starting", "", str(server.socket)))
        try:
            await server.start()
            lock.emit(_Holder(os.getpid(), role, "ready", server.dsn, str(server.socket)))
            yield Embedded(server.dsn, server)
        finally:
            with trio.CancelScope(shield=True):
                if role == "command":
                    await _wait_detached(lock)
                lock.emit(_Holder(os.getpid(), role, "stopping", "", str(server.socket)))
                await server.stop()
                lock.emit(None)
    finally:
        lock.close()


async def _take_or_attach(lock: "_Lock", role: Role) -> str | None:
    """None when the lock is ours now, else the address of the server to use."""
    waited = False
    start = trio.current_time()
    while not lock.take():
        holder = lock.holder()
        if role == "command":
            if holder and holder.state == "ready" and lock.attach():
                # The holder may have begun to stop just before we attached.
                if lock.holder() == holder:
                    return holder.dsn
                lock.detach()
            if trio.current_time() - start > ATTACH_WAIT_S:
                raise NoServer(person=f"The database in {lock.folder} is held by another process and does not answer.")
        elif holder and holder.role == "run" and trio.current_time() - start > RUN_WAIT_S:
            raise NoServer(person=f"Another gateway runs on {lock.folder} (process {holder.pid}).")
        if not waited:
            waited = True
            log.info("waiting for process %s to release %s", holder.pid if holder else "?", lock.path)
        await trio.sleep(POLL_S)
    return None


async def _wait_detached(lock: "_Lock") -> None:
    with trio.move_on_after(LINGER_S):
        while True:
            if lock.close_door():
                return
            await trio.sleep(POLL_S)


@dataclass(frozen=True, slots=True)
class _Holder:
    """What the lock file holds about the process that holds it."""

    pid: int
    role: Role
    state: Literal["starting", "ready", "stopping"]
    dsn: str
    socket: str


class _Lock:
    """Two files: `postgres.lock` is held by whoever runs the server and describes it, `postgres.attached` is held
    in common by those who use it. The kernel drops both locks with the process, however that ends."""

    def __init__(self, data_dir: Path) -> None:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = data_dir.resolve()
            self.path = self.folder / "postgres.lock"
            self._lock = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NoServer(person=f"{data_dir} cannot be used: {error.strerror}.") from None
        self._door = os.open(self.folder / "postgres.attached", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        return _flock(self._lock, fcntl.LOCK_EX)

    def attach(self) -> bool:
        return _flock(self._door, fcntl.LOCK_SH)

    def detach(self) -> None:
        fcntl.flock(self._door, fcntl.LOCK_UN)

    def close_door(self) -> bool:
        """True when nobody is attached, and from then on nobody can."""
        return _flock(self._door, fcntl.LOCK_EX)

    def holder(self) -> _Holder | None:
        try:
            return _Holder(**json.loads(os.pread(self._lock, 4096, 0)))
        except (ValueError, TypeError):
            return None  # being written just now, or never was

    def last_socket(self) -> str:
        """The socket folder of whoever held the lock last and could not clean up."""
        holder = self.holder()
        return holder.socket if holder else ""

    def emit(self, holder: _Holder | None) -> None:
        text = json.dumps(asdict(holder)).encode() if holder else b""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def close(self) -> None:
        os.close(self._door)
        os.close(self._lock)


def _flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
