"""What systemd is to `gateway run`, where no systemd runs: two sockets that outlive it, NOTIFY_SOCKET, restarts.

    sandboxed    what can be had without systemd: the account "nobody" in a user namespace, no capabilities, the file system
                 read-only but for the data, /proc with processes alone, and what `systemd_exec.py` adds: no new privileges,
                 no memory both writable and executable, the unit's system calls and address families
    not so       PrivateTmp, PrivateDevices, ProtectHome, RestrictNamespaces, RestrictSUIDSGID, control groups

`python -m tests.systemd_harness [pytest's arguments]` runs the suite, or a part of it, by `systemd-run` with the unit's own
settings, where systemd is PID 1. Read `tests/e2e/test_restart.py` for what is proven with it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.readme_tables import ROOT

READY_S = 60.0
STOP_S = 60.0
SHIM = Path(__file__).with_name("systemd_exec.py")


def unit_values(name: str, key: str) -> list[str]:
    """The values of a setting of one of our units, in order."""
    lines = (ROOT / "systemd" / name).read_text("utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def allowed_calls() -> list[str]:
    """The names behind SystemCallFilter= of gateway.service, by systemd-analyze's own table."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C"},
    )  # fmt: skip
    groups: dict[str, list[str]] = {}
    current: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            current = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.lstrip().startswith("#"):
            current.append(line.strip())

    def names(of: str) -> set[str]:
        return set[str]().union(*map(names, groups[of])) if of.startswith("@") else {of}

    found: set[str] = set()
    for value in unit_values("gateway.service", "SystemCallFilter"):
        sets = set().union(*(names(group) for group in value.lstrip("~").split()))
        found = found - sets if value.startswith("~") else found | sets
    return sorted(found)


def sandbox_is_possible() -> str:
    """Empty where this machine lets us build the sandbox, else what is missing. Without root it is what a process can do
    to itself; as root, whom PostgreSQL does not serve, it begins with namespaces."""
    for program in ("unshare", "systemd-analyze"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return ""
    tried = subprocess.run(
        _namespaces(Path(tempfile.gettempdir()), "true"), capture_output=True, text=True, timeout=30, check=False
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def _namespaces(data: Path, *program: str) -> list[str]:
    """The program as an account without privileges that owns what we own, in a file system that is read-only elsewhere."""
    if os.geteuid() != 0:
        return list(program)
    mounts = (
        'mount --bind "$0" "$0" && mount -o remount,bind,ro / && '
        "mount -t proc -o subset=pid,hidepid=invisible proc /proc && "
        'exec unshare --user --map-user=65534 --map-group=65534 "$@"'
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, str(data), *program]


class Unit:
    """One service with its sockets, which stay open for as long as `listening` lasts."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, sandboxed: bool = False) -> None:
        self.folder, self.environment, self.sandboxed = folder, dict(environment), sandboxed
        self.log = folder / "gateway.log"
        self.child: trio.Process | None = None
        self.reported: list[str] = []
        """What the service said, a line each, since it was started."""
        self.strangers = 0
        """Datagrams of other processes than the one that was started: NotifyAccess=main would drop them."""
        self.starts_s: list[float] = []
        """From the start of the process to READY=1."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Unit"]:
        """Opens the sockets, as a .socket unit does. What runs at the end is stopped."""
        with (
            socket.create_server(("127.0.0.1", 0), backlog=4096) as people,
            socket.create_server(("127.0.0.1", 0), backlog=4096) as machines,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify,
        ):
            self.people, self.machines = people, machines
            notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._notify = notify
            notify.bind(f"\0gateway-test-{os.getpid()}-{id(self)}")
            try:
                yield self
            finally:
                with trio.CancelScope(shield=True):
                    await self.stop()

    async def start(self) -> None:
        """Starts the service and waits for READY=1. Raises AssertionError with the log's end where that does not come."""
        began = time.monotonic()
        self.reported = []
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")},
            **self.environment,
            "LISTEN_FDS": "2", "LISTEN_FDNAMES": "people:machines", "WATCHDOG_USEC": "2000000",
            "NOTIFY_SOCKET": "@" + self._notify.getsockname()[1:].decode(),
        }  # fmt: skip
        fds = (self.people.fileno(), self.machines.fileno())
        program = self._program(fds)
        with self.log.open("ab") as out:
            self.child = await trio.lowlevel.open_process(
                program, env=environment, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        with trio.move_on_after(READY_S):
            while "READY=1" not in self.reported and self.child.poll() is None:
                self.receive()
                await trio.sleep(0.005)
        if "READY=1" not in self.reported:
            raise AssertionError(f"not ready; exit {self.child.poll()}\n{self.log.read_text()[-3000:]}")
        self.starts_s.append(time.monotonic() - began)

    def _program(self, fds: tuple[int, ...]) -> list[str]:
        rules = self.folder / "sandbox.json"
        program = [
            sys.executable, "-ISE", str(SHIM), ",".join(map(str, fds)), str(rules) if self.sandboxed else "-", "--",
            sys.executable, "-m", "gateway", "run",
        ]  # fmt: skip
        if not self.sandboxed:
            return program
        (families,) = unit_values("gateway.service", "RestrictAddressFamilies")
        numbers = [int(getattr(socket, name)) for name in families.split()]
        rules.write_text(json.dumps({"calls": allowed_calls(), "families": numbers}))
        data = Path(self.environment["GATEWAY_DATA_DIR"])
        data.mkdir(mode=0o700, exist_ok=True)
        return _namespaces(data, *program)

    def receive(self) -> None:
        """Takes what the service has said."""
        while True:
            try:
                data, ancillary, _, _ = self._notify.recvmsg(4096, 64)
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = int.from_bytes(value[:4], sys.byteorder)
                    self.strangers += self.child is not None and pid != self.child.pid
            self.reported += data.decode().splitlines()

    async def stop(self, number: int = signal.SIGTERM) -> int | None:
        """Stops the service as `systemctl stop` does. Returns its exit code."""
        child, self.child = self.child, None
        if child is None:
            return None
        if child.poll() is None:
            os.kill(child.pid, number)
        with trio.move_on_after(STOP_S) as patience:
            await child.wait()
        if patience.cancelled_caught:
            child.kill()
            await child.wait()
        self.receive()
        return child.returncode


NOT_OF_THE_SANDBOX = frozenset((
    "Type", "NotifyAccess", "ExecStart", "User", "Group", "StateDirectory", "StateDirectoryMode", "WorkingDirectory",
    "Environment", "EnvironmentFile", "LoadCredential", "TimeoutStartSec", "WatchdogSec", "TimeoutStopSec", "KillMode",
    "Restart", "RestartSec", "OOMPolicy",
))  # fmt: skip
"""Settings of [Service] that say what runs, not what it may do."""


def sandbox_properties() -> list[str]:
    """The sandbox of gateway.service, as systemd-run takes it. Folders that tests write to are opened again."""
    section = (
        (ROOT / "systemd" / "gateway.service").read_text("utf-8").partition("[Service]")[2].partition("[Install]")[0]
    )
    lines = [line for line in section.splitlines() if "=" in line and not line.startswith("#")]
    stored = [line for line in lines if line.partition("=")[0] not in NOT_OF_THE_SANDBOX]
    return [word for line in stored for word in ("-p", line)]


def main(arguments: list[str]) -> int:
    """Runs pytest within the unit's sandbox, as the account that owns this folder."""
    if not Path("/run/systemd/system").is_dir():
        print("systemd is not PID 1 here; tests/e2e/test_restart.py approximates its sandbox instead")
        return 1
    owner = ROOT.stat().st_uid
    command = [
        "systemd-run", "--pipe", "--wait", "--collect", *sandbox_properties(), "-p", f"User={owner}",
        "-p", f"WorkingDirectory={ROOT}", "-p", "ProtectHome=no", "-p", f"ReadWritePaths={ROOT}",
        sys.executable, "-m", "pytest", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
