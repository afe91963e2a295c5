"""Group commit: whatever gathers while the last commit is in flight goes with the next one.

`GroupCommit` is used for posted events on their way into the journal, for what tenants' actors recorded, for acks, and for
reading what waits in the journal. An item is answered only when it is durable. A refused group is halved until the
refused item fails alone; its owner gets the reason, and the others are committed. Read `actors.calls.tenant_calls` next.
"""

import logging
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from actors.runtime.supervisor import outcome_of
from gateway.domain.errors import NeedsAttention, Unavailable
from gateway.store.postgres.errors import BadData, StoreError, blames_data
from gateway.telemetry import COUNTERS, HISTOGRAMS

log = logging.getLogger(__name__)

Item = TypeVar("Item")
R = TypeVar("R")


class _Waiting(Generic[Item, R]):
    __slots__ = ("answer", "done", "error", "given_up", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = trio.Event()
        self.answer: R | None = None
        self.error: Exception | None = None
        self.given_up = False


class GroupCommit(Generic[Item, R]):
    """Writes items in groups. `write` makes one group durable and answers for each item, in order."""

    def __init__(
        self, name: str, write: Callable[[Sequence[Item]], Awaitable[Sequence[R]]], *, most: int = 500,
        room: int = 10_000, metric: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self._metric = metric or f"{name}_commit"
        self._write = write
        self._most = most
        self._room = room
        self._waiting: deque[_Waiting[Item, R]] = deque()
        self._arrived = trio.Event()

    async def put(self, item: Item) -> R:
        """Waits until `item` is durable. Raises Unavailable when it could not be stored or the outcome is unknown, StoreError
        when this very item is refused: a retry is useless.

        Cancelled before its turn, the item is not written; cancelled later, it may be.
        """
        if len(self._waiting) >= self._room:
            raise Unavailable(f"{self.name}: too many items wait for the database")
        waiting: _Waiting[Item, R] = _Waiting(item)
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            await waiting.done.wait()
        finally:
            waiting.given_up = not waiting.done.is_set()
        if waiting.error is not None:
            raise waiting.error
        return waiting.answer  # type: ignore[return-value] # set together with done

    async def run(self) -> None:
        """Commits groups until cancelled. What is in hand then is finished by the writer or reported as uncertain."""
        while True:
            if not self._waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
            taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            group = [waiting for waiting in taken if not waiting.given_up]
            if not group:
                continue
            try:
                await self._commit(group)
            finally:
                for waiting in group:
                    if not waiting.done.is_set():
                        waiting.error = Unavailable(f"{self.name}: stopped", certain=False)
                        waiting.done.set()

    async def _commit(self, group: list[_Waiting[Item, R]]) -> None:
        started = time.perf_counter()
        outcome = await outcome_of(lambda: self._write([waiting.item for waiting in group]))
        if not isinstance(outcome, Exception):
            HISTOGRAMS[self._metric].observe(time.perf_counter() - started)
            for waiting, answer in zip(group, outcome, strict=True):
                waiting.answer = answer
                waiting.done.set()
        elif isinstance(outcome, Unavailable | NeedsAttention):
            self._answer_all(group, Unavailable(outcome.detail, certain=False))
        elif len(group) > 1:
            middle = len(group) // 2
            await self._commit(group[:middle])
            await self._commit(group[middle:])
        else:
            self._answer_all(group, self._refusal(outcome))

    def _answer_all(self, group: Sequence[_Waiting[Item, R]], error: Exception) -> None:
        for waiting in group:
            waiting.error = error
            waiting.done.set()

    def _refusal(self, error: Exception) -> Exception:
        """The error for the owner of an item that failed alone."""
        COUNTERS[f"{self.name}_refused"] += 1
        reason = str(error)[:200] if isinstance(error, StoreError) else type(error).__name__
        if blames_data(error):
            log.error("an item cannot be committed", extra={"group": self.name, "reason": reason})
            if isinstance(error, StoreError):
                return error
            return BadData("".join(traceback.format_exception(error)))
        # Our statement or schema is wrong: no item is dropped for that.
        log.error("nothing can be committed", extra={"group": self.name, "reason": reason})
        return Unavailable(f"{self.name}: {type(error).__name__}", certain=False)
