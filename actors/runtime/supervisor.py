"""One-for-one supervision: every child lives in a cancel scope of its own, and its crash stops there.

    run -> crashed -> wait (full jitter) -> run again
              |
              +-> too many crashes in the window -> parked (FAILED) -> slow timer, new settings or Restart -> run again

A nursery is one-for-all by nature, so a crash is caught inside the child's slot and never reaches the nursery. Being
offline is no crash: actors reconnect by themselves, and the supervisor sees only bugs. Nothing starts a task that
outlives its caller except through here. This is one of the two modules where `except Exception` is legal.
Read `actors.reconciler` next.
"""

import logging
import random
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import trio

from actors.runtime.directory import Directory, Slot, utc_now
from gateway.domain.health import State
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Restart budget and delays. The n-th restart in a row waits uniform(0, min(cap_s, base_s * 2**n))."""

    intensity: int = 5
    window_s: float = 30.0
    base_s: float = 0.5
    cap_s: float = 30.0
    healthy_after_s: float = 60.0
    park_s: float = 600.0

    def delay(self, failures: int) -> float:
        """Seconds before the next start after `failures` crashes in a row."""
        return random.uniform(0, min(self.cap_s, self.base_s * 2**failures))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that killed its reader twice, with what happened."""

    path: str
    message: object
    traceback: str


@dataclass(frozen=True, slots=True)
class Crash:
    """A contained bug: its type, and where it happened."""

    name: str
    trace: str


def contained(work: Callable[[], T]) -> T | Crash:
    """What `work` returns, or its crash: for work on one item whose failure must not affect the others."""
    try:
        return work()
    except Exception as error:
        return Crash(type(error).__name__, "".join(traceback.format_exception(error)))


async def outcome_of(work: Callable[[], Awaitable[T]]) -> T | Exception:
    """The same for asynchronous work: what it returns, or what it raised."""
    try:
        return await work()
    except Exception as error:
        return error


Run = Callable[[Slot], Awaitable[None]]
SetAside = Callable[[DeadLetter], None]


class Child:
    """One supervised actor."""

    def __init__(self, slot: Slot, run: Run) -> None:
        self.slot = slot
        self.run = run
        self.scope = trio.CancelScope()
        self.stopped = trio.Event()
        self._wanted = trio.Event()
        self._incarnation: trio.CancelScope | None = None

    def restart(self) -> None:
        """A fresh incarnation at once: ends the living one, a delay or a park."""
        self._wanted.set()
        if self._incarnation is not None:
            self._incarnation.cancel()


class Supervisor:
    """Starts, restarts, parks and stops children. Made by `open_supervisor`."""

    def __init__(self, nursery: trio.Nursery, directory: Directory, policy: RestartPolicy, set_aside: SetAside) -> None:
        self._nursery = nursery
        self._directory = directory
        self._policy = policy
        self._set_aside = set_aside
        self._children: dict[str, Child] = {}

    def start(self, slot: Slot, run: Run) -> Child:
        """Starts `run(slot)` under supervision. Raises ValueError when the slot's path is taken."""
        child = Child(self._directory.add(slot), run)
        slot.restart = child.restart
        self._children[slot.path] = child
        self._nursery.start_soon(self._live, child, name=slot.path)
        return child

    async def stop(self, child: Child, *, within_s: float = 10.0) -> None:
        """Cancels the child and waits for it; a child that is late is logged and waited for all the same."""
        child.scope.cancel()
        with trio.move_on_after(within_s):
            await child.stopped.wait()
            return
        log.error("actor is slow to stop", extra={"actor": child.slot.path})
        await child.stopped.wait()

    async def _live(self, child: Child) -> None:
        slot, crashes = child.slot, deque[float]()
        failures = 0
        try:
            with child.scope, bound(actor=slot.path):
                while True:
                    child._wanted = trio.Event()
                    started = trio.current_time()
                    crash = await self._incarnation(child)
                    if crash is None:
                        if child._wanted.is_set():
                            continue
                        return
                    now = trio.current_time()
                    failures = 0 if now - started >= self._policy.healthy_after_s else failures + 1
                    crashes.append(now)
                    while crashes and crashes[0] <= now - self._policy.window_s:
                        crashes.popleft()
                    slot.restarts += 1
                    COUNTERS["actor_restarts"] += 1
                    parked = len(crashes) > self._policy.intensity
                    if parked:
                        crashes.clear()
                        failures = 0
                    await self._wait(child, crash, parked, failures)
        finally:
            slot.report(State.STOPPED)
            slot.restart = None
            self._directory.remove(slot)
            self._children.pop(slot.path, None)
            child.stopped.set()

    async def _incarnation(self, child: Child) -> BaseException | None:
        """One life. Returns the crash, or None for an end that was meant."""
        crash: BaseException | None = None
        child.slot.report(State.STARTING)
        try:
            with trio.CancelScope() as child._incarnation:
                await child.run(child.slot)
        except* Exception as group:
            crash = group.exceptions[0] if len(group.exceptions) == 1 else group
        finally:
            child._incarnation = None
        if crash is not None:
            # The scope may hold what a handler logged about a customer: the type and the place are enough for a log line.
            text = "".join(traceback.format_exception(crash))
            log.error("actor crashed", extra={"actor": child.slot.path, "crash": type(crash).__name__, "trace": text})
            guilty = child.slot.mailbox.died() if child.slot.mailbox is not None else None
            if guilty is not None:
                COUNTERS["messages_set_aside"] += 1
                self._set_aside(DeadLetter(child.slot.path, guilty, text))
        return crash

    async def _wait(self, child: Child, crash: BaseException, parked: bool, failures: int) -> None:
        pause = self._policy.park_s if parked else self._policy.delay(failures)
        child.slot.report(
            State.FAILED if parked else State.DEGRADED,
            "parked" if parked else "restarting",
            type(crash).__name__,
            next_try=utc_now() + timedelta(seconds=pause),
        )
        if parked:
            log.error("actor parked", extra={"actor": child.slot.path, "seconds": pause})
        with trio.move_on_after(pause):
            await child._wanted.wait()


def _only_logged(dead_letter: DeadLetter) -> None:
    log.error("message set aside", extra={"actor": dead_letter.path, "trace": dead_letter.traceback})


@asynccontextmanager
async def open_supervisor(
    directory: Directory, policy: RestartPolicy | None = None, set_aside: SetAside = _only_logged
) -> AsyncIterator[Supervisor]:
    """A supervisor for the duration of the block. Leaving it cancels every child and waits for the last one."""
    async with trio.open_nursery() as nursery:
        yield Supervisor(nursery, directory, policy or RestartPolicy(), set_aside)
        nursery.cancel_scope.cancel()
