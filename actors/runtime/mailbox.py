"""A bounded mailbox with a declared overflow policy, whose messages survive a crash of the reader.

The mailbox belongs to the supervised slot and not to the incarnation. What a reader took stays *in hand* until `done()`:
after a crash the next incarnation gets it again, and a message that killed its reader twice is set aside (`died`).
Read `actors.runtime.supervisor` next.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Generic, TypeVar

import trio

T = TypeVar("T")
M = TypeVar("M")

DEATHS_ALLOWED = 1
"""How often a message may crash its reader and still be tried again."""


class Overflow(Enum):
    """What `post` does when the mailbox is full."""

    BLOCK = "the sender waits"
    DROP_OLDEST = "the oldest message is dropped and counted"


class Mailbox(Generic[T]):
    """One reader, many writers, in order."""

    def __init__(self, capacity: int, overflow: Overflow = Overflow.BLOCK) -> None:
        self.capacity = capacity
        self.overflow = overflow
        self.dropped = 0
        self._waiting: deque[T] = deque()
        self._in_hand: list[T] = []
        self._current: object = None
        self._deaths: dict[object, int] = {}
        self._rung = self._woken = False
        self._arrived = trio.Event()
        self._room = trio.Event()
        self._idle = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_hand)

    async def post(self, item: T) -> None:
        """Adds `item`; with BLOCK the sender waits for room."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._waiting) >= self.capacity and self.overflow is Overflow.BLOCK:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        if len(self._waiting) >= self.capacity:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(item)
        self._arrived.set()

    def ring(self) -> None:
        """A doorbell without a message: something durable waits for the reader (`take_rung`). Never blocks."""
        self._rung = True
        self._arrived.set()

    @property
    def rung(self) -> bool:
        """Whether the doorbell rang and was not answered yet."""
        return self._rung

    def wake(self) -> None:
        """Lets `take_all` return: something waits for the reader elsewhere in memory. Never blocks."""
        self._woken = True
        self._arrived.set()

    def take_rung(self) -> bool:
        """Whether the doorbell rang since the last call."""
        rung, self._rung = self._rung, False
        return rung

    async def take_all(self) -> Sequence[T]:
        """Waits for messages or the doorbell, then takes everything that is there: readers work in batches.

        What an earlier reader took and did not finish comes first.
        """
        while not (self._waiting or self._in_hand or self._rung or self._woken):
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint_if_cancelled()
        self._woken = False
        self._in_hand.extend(self._waiting)
        self._waiting.clear()
        self._room.set()
        return tuple(self._in_hand)

    def each(self, taken: Sequence[M]) -> Iterator[M]:
        """Goes through messages, or rows read on their behalf, and notes which one is being handled, so that a crash
        can be blamed on it."""
        for item in taken:
            self._current = item
            yield item
        self._current = None

    def done(self) -> None:
        """Everything taken is dealt with, durably."""
        self._in_hand.clear()
        self._deaths.clear()
        self._current = None
        if not self._waiting:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Until everything posted so far has been dealt with."""
        while len(self):
            if self._idle.is_set():
                self._idle = trio.Event()
            await self._idle.wait()

    def died(self) -> object | None:
        """Called by the supervisor after a crash: the message to set aside, if one has now killed twice."""
        guilty, self._current = self._current, None
        if guilty is None:
            return None
        name = getattr(guilty, "identity", id(guilty))  # what is re-read from the database names itself
        self._deaths[name] = self._deaths.get(name, 0) + 1
        if self._deaths[name] <= DEATHS_ALLOWED:
            return None
        self._in_hand = [item for item in self._in_hand if item is not guilty]
        return guilty
