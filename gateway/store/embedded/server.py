"""One PostgreSQL server process as our child: started, watched, stopped.

Owns the process. Never decides who may start it: that is the lock's, in
`embedded.py`. Data stays durable (fsync, synchronous_commit and full_page_writes are on); the other settings are small.

    start       leftovers of a killed gateway are stopped or cleared, then `postgres`, then ready
    supervise   started again with backoff when it ends by itself
    stop        SIGINT (fast), then SIGQUIT, then SIGKILL

Read `data_directory.py` next for the data folder.
"""

import logging
import os
import random
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote

import trio

from gateway.store.embedded.binaries import command_prefix
from gateway.store.embedded.data_directory import (
    DATABASE,
    PORT,
    USER,
    Cluster,
    clear_socket,
    run_command,
    server_environment,
    write_access,
)
from gateway.store.postgres.errors import NoServer

READY_S = 120.0
"""Long enough to replay what a crash left in the log."""
FAST_STOP_S = 15.0
HARD_STOP_S = 5.0
START_DELAYS_S = (0.5, 2.0)
BACKOFF_S = (0.2, 30.0)
STEADY_S = 60.0
LOG_LIMIT = 5_000_000
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm may be tiny
    "max_parallel_workers_per_gather": "0",
    "max_worker_processes": "2",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "wal_compression": "on",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The log must not hold what a row or a statement holds.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
}

log = logging.getLogger(__name__)


class Server:
    """The process."""

    def __init__(self, cluster: Cluster, settings: Mapping[str, str]) -> None:
        self.socket = socket = cluster.socket
        self.restarts = 0
        self._binaries = cluster.binaries
        self._account = cluster.account
        self._data = cluster.data
        self._settings = {**_SETTINGS, "unix_socket_directories": str(socket), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    @property
    def dsn(self) -> str:
        """The address of the gateway's database on this server, as the owner of its tables, who is a superuser."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.socket), safe='')}&port={PORT}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, for tests and the log."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Returns when the server answers. What a killed server left behind may need a moment to end, so more than
        one try."""
        for delay in START_DELAYS_S:
            try:
                await self._start()
            except NoServer as error:
                log.warning("PostgreSQL: %s", error.person)
                await trio.sleep(delay)
            else:
                return
        await self._start()

    async def supervise(self) -> NoReturn:
        """Runs until cancelled."""
        first, longest = BACKOFF_S
        delay = first
        while True:
            since = trio.current_time()
            if self._process is not None:
                await _wait_exit(self._process)
                if self._stopping:
                    await trio.sleep_forever()
                log.error("PostgreSQL ended with code %s and is started again", self._process.returncode)
                self.restarts += 1
            if trio.current_time() - since > STEADY_S:
                delay = first
            await trio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, longest)
            try:
                await self._start()
            except NoServer as error:
                log.error("PostgreSQL does not start: %s", error.person)
                self._process = None

    async def stop(self) -> None:
        """Bounded; call it shielded."""
        self._stopping = True
        process = self._process
        if process is not None:
            for number, limit in ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, HARD_STOP_S), (signal.SIGKILL, 5.0)):
                if process.poll() is not None:
                    break
                process.send_signal(number)
                with trio.move_on_after(limit):
                    await _wait_exit(process)
        clear_socket(self.socket)

    async def _start(self) -> None:
        await _stop_leftover(self._data)
        write_access(self._data, self._account)
        clear_socket(self.socket, keep=True)
        # Not in a worker thread: the parent-death signal is about the thread, and Trio's threads end when idle.
        log_path, log_from, process = self._spawn()
        self._process = process
        with trio.move_on_after(READY_S):
            while process.poll() is None:
                if _status(self._data, process.pid) == "ready":
                    return
                await trio.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            await _wait_exit(process)
            raise NoServer(person=f"PostgreSQL did not get ready in {READY_S:.0f} s; see {log_path}.")
        raise NoServer(person=f"PostgreSQL does not start: {_last_line(log_path, log_from)}; see {log_path}.")

    def _spawn(self) -> "tuple[Path, int, subprocess.Popen[bytes]]":
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        prefix = command_prefix(self._account, (self._data, self._binaries.folder), dies_with_us=True)
        log_path = self._data.parent / f"{self._binaries.major}.log"
        with _open_log(log_path) as output:
            log_from = output.seek(0, os.SEEK_END)
            process = subprocess.Popen(  # noqa: S603 - our own words
                [*prefix, self._binaries.postgres, "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=server_environment(),
                start_new_session=True,  # Ctrl-C is for the gateway, which stops us in its own order
            )
        return log_path, log_from, process


def _pid_lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _status(data: Path, pid: int) -> str:
    lines = _pid_lines(data)
    return lines[7].strip() if len(lines) > 7 and lines[0].strip() == str(pid) else ""


async def _stop_leftover(data: Path) -> None:
    """A server that outlived its gateway is stopped: it is not our child and could not be watched."""
    pid = _leftover(data)
    if pid is None:
        return
    log.warning("a PostgreSQL of a gateway that was killed still runs (process %s); stopping it", pid)
    for number, limit in ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, HARD_STOP_S), (signal.SIGKILL, 1.0)):
        with suppress(ProcessLookupError):
            try:
                os.kill(pid, number)
            except PermissionError:
                raise NoServer(person=f"A PostgreSQL of another account (process {pid}) uses {data}.") from None
        with trio.move_on_after(limit):
            await _wait_until(lambda: not _is_server_of(pid, data))
            return


def _leftover(data: Path) -> int | None:
    lines = _pid_lines(data)
    if not lines or not lines[0].strip().isdecimal():
        # Empty or cut short, as a power cut leaves it; `postgres` would refuse to start.
        (data / "postmaster.pid").unlink(missing_ok=True)
        return None
    pid = int(lines[0])
    if _is_server_of(pid, data):
        return pid
    # The id may belong to somebody else by now, and `postgres` would refuse to start. With its parent's id there it
    # knows the file for stale, and still looks whether orphaned backends hold the old shared memory.
    with (data / "postmaster.pid").open("r+", encoding="utf-8") as file:
        file.write("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        file.truncate()
    return None


def _is_server_of(pid: int, data: Path) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        done = run_command(["ps", "-p", str(pid), "-o", "command="])
        return f"-D {data}" in done.stdout
    return b"-D" in words and os.fsencode(data) in words


async def _wait_exit(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None and hasattr(os, "pidfd_open"):
        fd = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)
    await _wait_until(lambda: process.poll() is not None)


async def _wait_until(condition: Callable[[], bool]) -> None:
    """Polls every 50 ms, for what sends no event: another process."""
    while True:
        if condition():
            return
        await trio.sleep(0.05)


def _open_log(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        flags |= os.O_TRUNC
    return os.fdopen(os.open(path, flags, 0o600), "ab")


def _last_line(path: Path, start: int) -> str:
    with suppress(OSError):
        lines = path.read_bytes()[start:].decode("utf-8", "replace").splitlines()
        for line in lines:
            if "FATAL" in line or "setpriv" in line:
                return line.split("FATAL:")[-1].strip()
    return "no reason given"
