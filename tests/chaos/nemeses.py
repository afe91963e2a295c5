"""What goes wrong. A nemesis returns when it has let go; getting over it is the product's business, and is timed.

The gateway lives as under systemd: whenever it has died it is started again. The run owns every process here and
strikes it by its own id.
"""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.chaos.plan import Strike
from tests.chaos.traffic import Hosts
from tests.sandbox.product import STOP_S
from tests.sandbox.web import Fault

if TYPE_CHECKING:
    from tests.chaos.stage import Instance, Stage

BURST = 10.0
STEP_S = 3600.0


class Life:
    """The gateway, one process after another, all of them into one log."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self.child: trio.Process | None = None
        self.starts = 0
        self.pids: dict[int, float] = {}
        """Every process, and since when."""
        self.died: list[int | None] = []
        """Exit codes of those that ended without being told to."""
        self.last_code: int | None = None
        """That of the one that was told to."""

    async def start(self) -> None:
        """A new process. Does not wait for it to be ready."""
        with self._log.open("ab") as out:
            self.child = await trio.lowlevel.open_process(
                [sys.executable, "-m", "tests.chaos.stepped", "run"], env=dict(self._environment),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        self.pids[self.child.pid] = trio.current_time()

    async def kill(self) -> None:
        """SIGKILL."""
        assert self.child is not None
        self.child.kill()
        await self.child.wait()

    def memory_kib(self) -> int:
        """How much of it is in memory now."""
        assert self.child is not None
        lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    async def keep(self) -> None:
        """Until cancelled: what died by itself is started again, as systemd would."""
        while True:
            child = self.child
            if child is not None and child.poll() not in (None, -signal.SIGKILL):
                self.died.append(child.returncode)
                await trio.sleep(0.5)
                if child is self.child:
                    await self.start()
            await trio.sleep(0.1)

    async def stop(self) -> None:
        """SIGTERM; after a while SIGKILL."""
        child, self.child = self.child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGCONT)
        if child.poll() is None:
            child.terminate()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(STOP_S) as patience:
                await child.wait()
            if patience.cancelled_caught:
                child.kill()
                await child.wait()
        self.last_code = child.returncode


class Clock:
    """The wall clock of `stepped.py`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0.0)

    def set(self, ahead_s: float) -> None:
        """By how much the gateway's clock is ahead."""
        if not self.file.exists():
            self.file.write_bytes(struct.pack("d", ahead_s))
        with self.file.open("r+b") as held:
            held.write(struct.pack("d", ahead_s))


class Nemeses:
    """Everything that can be struck."""

    def __init__(self, stage: "Stage", hosts: Hosts) -> None:
        self.stage = stage
        self.hosts = hosts
        self.server, self.crm, self.pbx_link = stage.server, stage.crm, stage.pbx_link

    def struck(self, strike: Strike) -> "Instance":
        """Which instance a strike hits, where it hits one of them."""
        return self.stage.instances[int(strike.draw * 1000) % len(self.stage.instances)]

    async def strike(self, strike: Strike) -> None:
        """Does it, and returns when it is over."""
        await getattr(self, f"_{strike.name}")(strike)

    async def _kill(self, strike: Strike) -> None:
        life = self.struck(strike).life
        await life.kill()
        await life.start()

    async def _kill_at_200(self, strike: Strike) -> None:
        """In the moment in which a post was answered 200."""
        with trio.move_on_after(10):
            await self.hosts.wait_200()
        await self._kill(strike)

    async def _postgres_stop(self, strike: Strike) -> None:
        await self.server.stop_at_once()
        await trio.sleep(strike.length_s)
        await self.server.start()

    async def _pause(self, strike: Strike) -> None:
        child = self.struck(strike).life.child
        assert child is not None
        os.kill(child.pid, signal.SIGSTOP)
        try:
            await trio.sleep(strike.length_s)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)

    async def _backends_terminated(self, strike: Strike) -> None:
        with trio.move_on_after(strike.length_s):
            while True:
                await self.server.terminate_backends()
                await trio.sleep(0.3)

    async def _backend_killed(self, strike: Strike) -> None:
        await self.server.kill_a_backend()
        await self.server.wait_answers()

    async def _pool_exhausted(self, strike: Strike) -> None:
        await self.server.hold_tables(strike.length_s)

    async def _disk_full(self, strike: Strike) -> None:
        await self.server.fill_disk(strike.length_s)
        await self.server.wait_answers()

    async def _crm_hang(self, strike: Strike) -> None:
        """Obeys and answers after half a minute, or, when it is over, never."""
        self.crm.hang_s = 30.0
        await self._crm_fault(Fault.HANG, strike.length_s)
        self._cut_crm()

    def _cut_crm(self) -> None:
        for instance in self.stage.instances:
            instance.crm_link.cut()

    async def _crm_reset(self, strike: Strike) -> None:
        """Obeys, and hangs up instead of answering."""
        await self._crm_fault(Fault.DROP_AFTER, strike.length_s)

    async def _crm_fault(self, fault: Fault, seconds: float) -> None:
        self.crm.fault = fault
        try:
            await trio.sleep(seconds)
        finally:
            self.crm.fault = Fault.NONE

    async def _crm_cut(self, strike: Strike) -> None:
        self._cut_crm()

    async def _crm_half_open(self, strike: Strike) -> None:
        self.struck(strike).crm_link.half_open()

    async def _hosts_cut(self, strike: Strike) -> None:
        self.struck(strike).hosts_link.cut()

    async def _pbx_cut(self, strike: Strike) -> None:
        self.pbx_link.cut()

    async def _pbx_stall(self, strike: Strike) -> None:
        self.pbx_link.stall()
        try:
            await trio.sleep(strike.length_s)
        finally:
            self.pbx_link.stall(False)

    async def _pbx_half_open(self, strike: Strike) -> None:
        self.pbx_link.half_open()

    async def _load(self, strike: Strike) -> None:
        self.hosts.hurry = BURST
        try:
            await trio.sleep(strike.length_s)
        finally:
            self.hosts.hurry = 1.0

    async def _clock_step(self, strike: Strike) -> None:
        clock = self.struck(strike).clock
        clock.set(STEP_S if strike.draw < 0.5 else -STEP_S)
        try:
            await trio.sleep(strike.length_s)
        finally:
            clock.set(0.0)
