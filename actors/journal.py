"""Group commit: whatever gathers while the last commit is in flight goes with the next one.

`GroupCommit` is used twice: for posted events on their way into the journal, and for what tenants' actors recorded. An
item is answered only when it is durable. A group that the database refuses is tried item by item, so that one bad item
fails alone. Read `actors.tenant` next.
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from gateway.domain.errors import Unavailable
from gateway.store.errors import BadData
from gateway.telemetry import HISTOGRAMS

log = logging.getLogger(__name__)

I = TypeVar("I")  # noqa: E741 - item
R = TypeVar("R")


class _Waiting(Generic[I, R]):
    __slots__ = ("answer", "done", "error", "given_up", "item")

    def __init__(self, item: I) -> None:
        self.item = item
        self.done = trio.Event()
        self.answer: R | None = None
        self.error: Exception | None = None
        self.given_up = False


class GroupCommit(Generic[I, R]):
    """Writes items in groups. `write` makes one group durable and answers for each item, in order."""

    def __init__(
        self, name: str, write: Callable[[Sequence[I]], Awaitable[Sequence[R]]], *, most: int = 500, room: int = 10_000
    ) -> None:
        self.name = name
        self._write = write
        self._most = most
        self._room = room
        self._waiting: deque[_Waiting[I, R]] = deque()
        self._arrived = trio.Event()

    async def put(self, item: I) -> R:
        """Waits until `item` is durable. Raises Unavailable when it could not be made so (or nobody can tell).

        Cancelled before its turn, the item is not written; cancelled later, it may be.
        """
        if len(self._waiting) >= self._room:
            raise Unavailable(f"{self.name}: too many items wait for the database")
        waiting: _Waiting[I, R] = _Waiting(item)
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

    async def _commit(self, group: list[_Waiting[I, R]]) -> None:
        started = time.perf_counter()
        try:
            answers = await self._write([waiting.item for waiting in group])
        except Unavailable as error:
            for waiting in group:
                waiting.error = Unavailable(error.detail, certain=False)
                waiting.done.set()
            return
        except BadData as error:
            if len(group) == 1:
                group[0].error = error
                group[0].done.set()
                return
            for waiting in group:
                await self._commit([waiting])
            return
        HISTOGRAMS[f"{self.name}_commit"].observe(time.perf_counter() - started)
        for waiting, answer in zip(group, answers, strict=True):
            waiting.answer = answer
            waiting.done.set()
