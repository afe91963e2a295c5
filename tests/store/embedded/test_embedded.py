"""The embedded server: both kinds of binaries, who starts it, and what a killed gateway leaves behind.

Long, because every test starts a real server and shares how that is watched.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from gateway.domain.errors import Unavailable
from gateway.store.embedded import binaries as binaries_module
from gateway.store.embedded import embedded as embedded_module
from gateway.store.embedded import server as server_module
from gateway.store.embedded.binaries import WHEEL_ONLY, Binaries, choose_binaries, find_binaries
from gateway.store.embedded.embedded import Embedded, embedded
from gateway.store.postgres.errors import NoServer
from gateway.store.postgres.migrate import migrate
from gateway.store.postgres.pool import Connection, OwnConnection, open_database, open_session
from gateway.store.postgres.roles import LOGIN
from tests.store.database import quick_folder

SYSTEM = [binaries for binaries in find_binaries() if binaries.system]
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


async def value_of(conn: Connection | OwnConnection, query: str) -> object:
    return await conn.fetchval(query)


async def ask(dsn: str, query: str) -> object:
    async with open_session(dsn) as session:
        return await session.run(value_of, query)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A DATA_DIR with the wheel's database in it, made once."""

    async def make(folder: Path) -> None:
        async with embedded(folder, system=False):
            pass

    with quick_folder() as folder:
        trio.run(make, folder / "var")
        yield folder / "var"


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """A copy of it, with the same owners."""
    with quick_folder() as folder:
        subprocess.run(["cp", "-a", str(made), str(folder)], check=True)
        yield folder / "var"


def pid_of(data_dir: Path) -> int:
    return int(next((data_dir / "postgres").glob("*/postmaster.pid")).read_text().split()[0])


def uids_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[:4]


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def temporary_socket(dsn: str) -> Path:
    (socket,) = (path for path in Path(tempfile.gettempdir()).glob("gateway-postgres-*") if path.name in dsn)
    return socket


def moved(data_dir: Path, target: Path) -> Path:
    target.parent.mkdir(exist_ok=True)
    return data_dir.rename(target)


def has_restarted(server: Embedded, times: int) -> bool:
    return server.restarts == times


def gone(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


@asynccontextmanager
async def supervised(data_dir: Path) -> AsyncIterator[Embedded]:
    async with embedded(data_dir, role="run") as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.supervise)
        yield server
        nursery.cancel_scope.cancel()


class Worker:
    """A gateway process; `hear` waits for its first line."""

    def __init__(self, data_dir: Path, role: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.embedded.embedded_worker", str(data_dir), role],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: list[str] | None = None

    def receive(self) -> list[str]:
        if self._said is None:
            assert self.process.stdout is not None
            self._said = self.process.stdout.readline().split(maxsplit=1)
        return self._said

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def worker() -> Iterator[Callable[[Path, str], Worker]]:
    workers: list[Worker] = []

    def start(data_dir: Path, role: str) -> Worker:
        workers.append(Worker(data_dir, role))
        return workers[-1]

    yield start
    for one in workers:
        one.end()


@pytest.mark.parametrize("system", [True, False] if SYSTEM else [False])
async def test_both_kinds_start_stop_and_keep_what_was_written(tmp_path: Path, system: bool) -> None:
    data_dir = tmp_path / "var"
    async with embedded(data_dir, system=system) as server:
        assert server.ours
        assert server.running
        await ask(server.dsn, "CREATE TABLE kept AS SELECT 42 AS x")
        assert await ask(server.dsn, "SELECT lower('ЖЁ')") == "жё"
    assert gone_from(data_dir)
    async with embedded(data_dir, system=system) as server:
        assert await ask(server.dsn, "SELECT x FROM kept") == 42
        settings = "SELECT string_agg(current_setting(s), ' ') FROM unnest($$ %s $$::text[]) s"
        durable = settings % "{fsync, synchronous_commit, full_page_writes, listen_addresses}"
        assert await ask(server.dsn, durable) == "on on on "
        found = await ask(server.dsn, "SELECT string_agg(type || ' ' || auth_method, ' ') FROM pg_hba_file_rules")
        assert found == "local peer local peer"
    assert gone_from(data_dir)
    assert (data_dir / "postgres").stat().st_mode & 0o777 == 0o700


def gone_from(data_dir: Path) -> bool:
    return not list((data_dir / "postgres").glob("*/postmaster.pid")) and not list(
        (data_dir / "postgres/run").iterdir()
    )


async def test_the_variable_hides_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WHEEL_ONLY, "1")
    assert find_binaries()
    assert not any(binaries.system for binaries in find_binaries())


async def test_it_never_runs_as_root_and_works_under_a_private_folder(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    async with embedded(data_dir) as server:
        uids = uids_of(pid_of(data_dir))
        assert "0" not in uids
        assert len(set(uids)) == 1
        assert os.geteuid() in (0, int(uids[0]))
        assert await ask(server.dsn, "SELECT current_user::text") == "gateway"


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of our own alone with a copy of the wheel in it, which is the only PostgreSQL to be found."""
    wheel = next(iter(binaries_module._wheel_folders())).parent
    with quick_folder() as folder:
        folder.chmod(0o700)
        package = folder / "home/site" / wheel.parent.name
        package.mkdir(parents=True, mode=0o700)
        libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
        for source, target in ((wheel, package), (libraries, package.parent)):
            subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        monkeypatch.setattr(binaries_module, "_wheel_folders", lambda: [package / wheel.name / "bin"])
        yield folder / "home"


async def test_a_database_is_made_with_binaries_in_a_private_folder(private: Path) -> None:
    """As of a clone in /root: the account that root gives the server can search neither its binaries nor DATA_DIR."""
    async with embedded(private / "var", system=False) as server:
        pid = pid_of(private / "var")
        assert program_of(pid).is_relative_to(private)
        assert "0" not in uids_of(pid)
        assert await ask(server.dsn, "SELECT current_user::text") == "gateway"


def test_what_lets_the_account_through_a_private_folder() -> None:
    override, read_search, setpcap = 1 << 1, 1 << 2, 1 << 8
    for permitted, name in ((read_search | override, "dac_read_search"), (override, "dac_override")):
        rights = binaries_module._search_rights(permitted | setpcap)
        assert f"--ambient-caps=+{name}" in rights
        assert "--securebits=+no_setuid_fixup" in rights
    for permitted in (0, setpcap, override):
        with pytest.raises(NoServer, match="chmod 711"):
            binaries_module._search_rights(permitted)


async def test_data_of_a_version_that_is_not_installed_is_refused(data_dir: Path) -> None:
    (old,) = (data_dir / "postgres").glob("*/PG_VERSION")
    old.parent.rename(data_dir / "postgres" / "14")
    with pytest.raises(NoServer) as caught:
        async with embedded(data_dir):
            pass
    assert "PostgreSQL 14" in caught.value.person


def test_which_binaries_are_chosen(tmp_path: Path) -> None:
    candidates = [Binaries(tmp_path, 15, True), Binaries(tmp_path, 18, False), Binaries(tmp_path, 16, False)]
    assert choose_binaries(candidates, [], tmp_path).major == 15
    assert choose_binaries(candidates, [18, 15], tmp_path).major == 18
    with pytest.raises(NoServer, match="17"):
        choose_binaries(candidates, [17, 18], tmp_path)
    with pytest.raises(NoServer, match="install"):
        choose_binaries([], [], tmp_path)


async def test_a_path_too_long_for_a_socket(data_dir: Path) -> None:
    deep = moved(data_dir, data_dir.parent / ("d" * 60) / ("e" * 60))
    async with embedded(deep) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
        async with embedded(deep) as attached:
            assert not attached.ours
            assert attached.dsn == server.dsn
        socket = temporary_socket(server.dsn)
        assert socket.stat().st_mode & 0o777 == 0o700
    assert not socket.exists()


async def test_a_path_with_odd_characters(data_dir: Path) -> None:
    odd = moved(data_dir, data_dir.parent / "with space, comma & 'quote' ?x=1%20#")
    async with embedded(odd) as server:
        assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoServer, match="file"):
        async with embedded(tmp_path / "file" / "var"):
            pass


async def test_a_server_that_does_not_start_says_why(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "START_DELAYS_S", ())
    with pytest.raises(NoServer) as caught:
        async with embedded(data_dir, settings={"shared_buffers": "nonsense"}):
            pass
    assert "shared_buffers" in caught.value.person
    assert "\n" not in caught.value.person
    async with embedded(data_dir):
        pass


@pytest.mark.usefixtures("expected_errors")
async def test_a_server_that_dies_is_started_again_and_the_pool_goes_on(data_dir: Path) -> None:
    async with supervised(data_dir) as server, open_session(server.dsn):
        await migrate(server.dsn, login=LOGIN, make_login=True)
        async with open_database(server.login_dsn) as db:
            for turn, number in enumerate((signal.SIGKILL, signal.SIGQUIT, signal.SIGINT), 1):
                assert await db.engine(value_of, "SELECT 1") == 1
                os.kill(pid_of(data_dir), number)
                await until(partial(has_restarted, server, turn))
                answer: object = None
                with trio.fail_after(10):
                    while answer is None:
                        try:
                            answer = await db.engine(value_of, "SELECT 1")
                        except Unavailable:
                            await trio.sleep(0.02)
                assert server.running


async def test_the_lock_is_attached_to_by_commands_and_waited_for_by_run(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    async def run() -> None:
        async with embedded(data_dir, role="run") as server:
            assert server.ours
            order.append("run")

    async with trio.open_nursery() as nursery, embedded(data_dir) as command:
        async with embedded(data_dir) as other:
            assert (command.ours, other.ours) == (True, False)
            assert await ask(other.dsn, "SELECT 1") == 1
        nursery.start_soon(run)
        await trio.sleep(0.3)
        order.append("command ends")
    assert order == ["command ends", "run"]
    monkeypatch.setattr(embedded_module, "RUN_WAIT_S", 0.2)
    async with embedded(data_dir, role="run"):
        with pytest.raises(NoServer, match="Another gateway"):
            async with embedded(data_dir, role="run"):
                pass


async def test_a_command_stays_for_those_attached(data_dir: Path) -> None:
    attached, go, answered = trio.Event(), trio.Event(), False

    async def attach() -> None:
        nonlocal answered
        async with embedded(data_dir) as server:
            assert not server.ours
            attached.set()
            await go.wait()
            await trio.sleep(0.2)
            answered = await ask(server.dsn, "SELECT 1") == 1

    async with trio.open_nursery() as nursery, embedded(data_dir) as holder:
        assert holder.ours
        nursery.start_soon(attach)
        await attached.wait()
        go.set()
    assert answered
    assert gone_from(data_dir)


async def test_two_processes_race_for_the_lock(data_dir: Path, worker: Callable[[Path, str], Worker]) -> None:
    workers = [worker(data_dir, "command") for _ in range(3)]
    said = sorted([(await trio.to_thread.run_sync(one.receive))[0] for one in workers])
    assert said == ["attached", "attached", "ours"]
    assert len({one.receive()[1] for one in workers}) == 1
    for one in workers:
        one.leave()
    for one in workers:
        assert await trio.to_thread.run_sync(one.process.wait) == 0
    assert gone_from(data_dir)


async def test_after_kill_minus_9_the_server_ends_and_the_next_gateway_starts(
    data_dir: Path, worker: Callable[[Path, str], Worker]
) -> None:
    killed = worker(data_dir, "run")
    kind, pid = await trio.to_thread.run_sync(killed.receive)
    assert kind == "ours"
    killed.process.kill()
    if shutil.which("setpriv"):
        await until(lambda: gone(int(pid)))
    async with embedded(data_dir, role="run") as server:
        assert await ask(server.dsn, "SELECT 1") == 1


async def test_a_server_left_running_is_stopped_and_replaced(
    data_dir: Path, worker: Callable[[Path, str], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = worker(data_dir, "run")
    _, pid = await trio.to_thread.run_sync(killed.receive)
    os.kill(int(pid), signal.SIGSTOP)  # cannot follow its parent's death yet
    killed.process.kill()
    await trio.to_thread.run_sync(killed.process.wait)
    assert not gone(int(pid))
    async with trio.open_nursery() as nursery:

        async def wake() -> None:
            await trio.sleep(0.3)
            os.kill(int(pid), signal.SIGCONT)

        nursery.start_soon(wake)
        async with embedded(data_dir, role="run") as server:
            assert gone(int(pid))
            assert await ask(server.dsn, "SELECT 1") == 1


@pytest.fixture
def bystander() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process.pid
    assert process.poll() is None
    process.kill()
    process.wait()


async def test_a_stale_pid_file_even_with_the_id_of_somebody_else(data_dir: Path, bystander: int) -> None:
    async with embedded(data_dir):
        (file,) = (data_dir / "postgres").glob("*/postmaster.pid")
        text = file.read_text()
    rest = text.splitlines()[1:]
    for stale in ([str(bystander), *rest], ["4000000", *rest], ["rubbish"], []):
        file.write_text("\n".join(stale) + "\n" * bool(stale))
        async with embedded(data_dir) as server:
            assert await ask(server.dsn, "SELECT 1") == 1


async def test_stop_is_quick_and_cancellation_safe(data_dir: Path) -> None:
    with trio.move_on_after(0.4) as scope:
        async with embedded(data_dir):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert gone_from(data_dir)
    start = time.monotonic()
    async with embedded(data_dir) as server, open_session(server.dsn):
        pass
    assert time.monotonic() - start < 5
