"""The units under systemd's own judges, the sockets it hands over, and what it is told: no systemd runs here."""

import fcntl
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trio

from actors.runtime.directory import Directory, Slot
from gateway.domain.health import State
from gateway.listening import Listening, address_of, listening_sockets, shown
from gateway.readiness import SPEAK_EVERY_S, Notifier, watchdog_s
from gateway.settings import SettingsError, read_settings
from gateway.vitals import DATABASE_S, READER_S, Vitals
from tests.readme_tables import ROOT

UNITS = ROOT / "systemd"
MOST_EXPOSED = 15
"""In tenths, as --threshold takes it."""


def unit(name: str) -> list[tuple[str, str]]:
    """The settings of a unit in order; sections do not matter here."""
    lines = (UNITS / name).read_text("utf-8").splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if re.match(r"[A-Z]\w+=", line)]


def values(name: str, key: str) -> list[str]:
    return [value for one, value in unit(name) if one == key]


# The units


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units where the program is the one under test; what else they name need not be there to be judged."""
    program = str(Path(sys.executable).with_name("gateway"))
    for file in UNITS.iterdir():
        if file.suffix in (".service", ".socket"):
            text = file.read_text("utf-8").replace("/opt/gateway/.venv/bin/gateway", program)
            (tmp_path / file.name).write_text(text, "utf-8")
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )  # fmt: skip


@pytest.mark.slow
def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    names = ["gateway.service", "gateway.socket", "gateway@june.service", "gateway@june.socket"]
    done = analyze("verify", *(f"./{name}" for name in names), folder=installed)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gateway.service", "gateway@june.service"])
def test_exposure(installed: Path, name: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", f"./{name}", folder=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.splitlines()[-1])


def test_an_instance_is_the_one_service_by_another_name() -> None:
    renamed = {
        "Description": ("Telephony gateway", "Telephony gateway %i"),
        "Requires": ("gateway.socket", "gateway@%i.socket"),
        "After": ("gateway.socket", "gateway@%i.socket"),
        "Also": ("gateway.socket", "gateway@%i.socket"),
        "User": ("gateway", "gateway-%i"),
        "Group": ("gateway", "gateway-%i"),
        "StateDirectory": ("gateway", "gateway-%i"),
        "WorkingDirectory": ("/var/lib/gateway", "/var/lib/gateway-%i"),
        "Environment": ("/var/lib/gateway", "/var/lib/gateway-%i"),
        "EnvironmentFile": ("gateway.env", "%i.env"),
        "LoadCredential": ("/etc/gateway/master.key", "/etc/gateway/%i.key"),
    }
    expected = [
        (key, value.replace(*renamed[key]) if key in renamed else value) for key, value in unit("gateway.service")
    ]
    assert unit("gateway@.service") == expected
    one, instance = unit("gateway.socket"), unit("gateway@.socket")
    assert [key for key, _ in one] == [key for key, _ in instance]


def test_what_the_gateway_relies_on() -> None:
    service = dict(unit("gateway.service"))
    assert (service["Type"], service["KillMode"], service["NotifyAccess"]) == ("notify", "mixed", "main")
    assert service["ExecStart"].endswith("/gateway run")
    assert service["LoadCredential"].startswith("master.key:")
    assert service["Requires"] == "gateway.socket"
    assert int(service["WatchdogSec"]) > 2 * SPEAK_EVERY_S
    assert service["StartLimitIntervalSec"] == dict(unit("gateway.socket"))["TriggerLimitIntervalSec"] == "0"


def test_the_socket_unit_and_the_environment_name_the_same_addresses() -> None:
    lines = (UNITS / "gateway.env.example").read_text("utf-8").splitlines()
    settings = read_settings(dict(line.split("=", 1) for line in lines if line and not line.startswith("#")))
    assert values("gateway.socket", "ListenStream") == [shown(settings.bind), shown(settings.intake_bind)]


# Sockets that are handed over

FIRST = 700
PEOPLE, MACHINES = ("127.0.0.1", 1), ("127.0.0.1", 2)
"""Settings that no socket of a test has."""


@contextmanager
def handed_over(*names: str, listen: bool = True) -> Iterator[list[tuple[str, int]]]:
    """Listening sockets at FIRST and on, as systemd leaves them: inheritable. Yields their addresses."""
    with ExitStack() as stack:
        addresses = []
        for number in range(len(names)):
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            if listen:
                sock.listen()
            assert fcntl.fcntl(sock, fcntl.F_DUPFD, FIRST + number) == FIRST + number
            os.set_inheritable(FIRST + number, True)
            addresses.append(address_of(sock))
        try:
            yield addresses
        finally:
            for number in range(len(names)):
                with suppress(OSError):
                    os.close(FIRST + number)


def environment(names: str, count: int, pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "HOME": "/"}


@contextmanager
def taken(
    names: str, count: int, people: tuple[str, int] = PEOPLE, machines: tuple[str, int] = MACHINES
) -> Iterator[Listening]:
    given = environment(names, count)
    listening = listening_sockets(people, machines, given, FIRST)
    try:
        assert given == {"HOME": "/"}, "no child is told"
        yield listening
    finally:
        listening.close()


def test_sockets_are_known_by_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with handed_over("a", "b") as (first, second), taken("machines:people", 2) as listening:
        assert (listening.machines.fileno(), listening.people.fileno()) == (FIRST, FIRST + 1)
        assert (listening.intake_bind, listening.bind) == (first, second)
        for sock in (listening.people, listening.machines):
            assert not os.get_inheritable(sock.fileno())
            assert not sock.getblocking()
    said = [(record.getMessage(), vars(record)["listener"], vars(record)["address"]) for record in caplog.records]
    assert ("systemd's socket is used in place of the setting", "people", shown(second)) in said


def test_sockets_are_known_by_address(caplog: pytest.LogCaptureFixture) -> None:
    names = "gateway.socket:gateway.socket"
    with handed_over("a", "b") as (first, second), taken(names, 2, second, first) as listening:
        assert (listening.bind, listening.intake_bind) == (second, first)
    assert not caplog.records
    with handed_over("a", "b") as (first, second), taken(names, 2, ("0.0.0.0", second[1]), MACHINES) as listening:
        assert listening.bind == second, "the port tells as much"


def test_two_that_nothing_tells_apart_are_people_and_machines() -> None:
    with handed_over("a", "b") as addresses, taken("", 2) as listening:
        assert [listening.bind, listening.intake_bind] == addresses


def test_one_may_be_ours() -> None:
    with handed_over("a") as (first,), taken("machines", 1, ("127.0.0.1", 0)) as listening:
        assert listening.intake_bind == first
        assert listening.bind not in (first, PEOPLE)


def test_what_is_for_another_process_is_left_alone() -> None:
    with handed_over("a"):
        given = environment("people", 1, os.getpid() + 1)
        listening = listening_sockets(("127.0.0.1", 0), ("127.0.0.1", 0), given, FIRST)
        assert FIRST not in (listening.people.fileno(), listening.machines.fileno())
        listening.close()
        assert os.get_inheritable(FIRST)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("other", "neither people nor machines"),
        ("people:people", "two sockets named people"),
        ("people:machines:third", "neither people nor machines"),
    ],
)
def test_a_socket_that_nobody_would_serve_stops_the_start(names: str, problem: str) -> None:
    given = names.split(":")
    with handed_over(*given), pytest.raises(SettingsError, match=problem):
        listening_sockets(PEOPLE, MACHINES, environment(names, len(given)), FIRST)


def test_what_does_not_listen_stops_the_start() -> None:
    with handed_over("a", listen=False), pytest.raises(SettingsError, match="no listening TCP socket"):
        listening_sockets(PEOPLE, MACHINES, environment("people", 1), FIRST)
    with pytest.raises(SettingsError, match="no listening TCP socket"):
        listening_sockets(PEOPLE, MACHINES, environment("people", 1), FIRST)


# What systemd is told


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What came on NOTIFY_SOCKET since the last look, a datagram each."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))

        def look() -> list[str]:
            found = []
            while True:
                try:
                    found.append(sock.recv(4096).decode())
                except BlockingIOError:
                    return found

        yield look


async def test_the_life_of_a_service(
    received: Callable[[], list[str]], nursery: trio.Nursery, autojump_clock: trio.abc.Clock, expected_errors: None
) -> None:
    assert watchdog_s() == 15
    status, ailment = "waiting: the\ndatabase", ""
    systemd = Notifier()
    systemd.status, systemd.ailment = lambda: status, lambda: ailment
    nursery.start_soon(systemd.run)
    await trio.sleep(2 * SPEAK_EVERY_S + 1)
    extend = "EXTEND_TIMEOUT_USEC=30000000"
    assert received() == [f"{extend}\nSTATUS=waiting: the database", extend, extend]
    status = "serving"
    systemd.ready()
    assert received() == ["READY=1\nSTATUS=serving"]
    await trio.sleep(2 * SPEAK_EVERY_S)
    assert received() == ["WATCHDOG=1", "WATCHDOG=1"]
    ailment = "stuck"
    await trio.sleep(SPEAK_EVERY_S)
    assert received() == ["STATUS=stuck, to be started again: stuck"]
    ailment = ""
    await trio.sleep(SPEAK_EVERY_S)
    assert received() == ["WATCHDOG=1\nSTATUS=serving"]
    systemd.stopping()
    assert received() == ["STOPPING=1\nSTATUS=finishing what is in hand"]
    await trio.sleep(10 * SPEAK_EVERY_S)
    assert received() == []


async def test_a_database_that_is_away_is_no_reason_to_die(autojump_clock: trio.abc.Clock) -> None:
    vitals = Vitals(Directory())
    for away in (False, True):
        for _ in range(10):
            vitals.database_tried(away=away)
            await trio.sleep(DATABASE_S / 2)
            assert vitals.ailment() == ""
    await trio.sleep(DATABASE_S)
    assert "no round trip to the database" in vitals.ailment()
    vitals.database_tried(away=True)
    assert vitals.ailment() == ""


async def test_a_reader_that_reads_nothing_is_one_unless_it_cannot(autojump_clock: trio.abc.Clock) -> None:
    directory = Directory()
    vitals = Vitals(directory)
    slot = directory.add(Slot("tenant/0367/pbx/main", figures=lambda: {"frames_seen": frames}))
    directory.add(Slot("tenant/0367"))
    slot.report(State.ONLINE)
    frames = 0

    async def live(seconds: float, *, away: bool = False, reading: bool = False) -> str:
        nonlocal frames
        for _ in range(int(seconds / SPEAK_EVERY_S)):
            vitals.database_tried(away=away)
            frames += reading
            found = vitals.ailment()
            await trio.sleep(SPEAK_EVERY_S)
        return found

    assert await live(3 * READER_S, reading=True) == ""
    assert "tenant/0367/pbx/main" in await live(READER_S + 20)
    assert await live(10, reading=True) == ""
    assert await live(3 * READER_S, away=True) == "", "it waits for a commit"
    assert await live(READER_S / 2) == "", "and gets its time anew"
    slot.report(State.OFFLINE)
    assert await live(3 * READER_S) == "", "a PBX that is off is a state"
