"""Commits what an actor made of a batch, however long the database is away. Bisects a batch that the database refuses.

    batch --> one commit --> committed
                        +--> refused: the batch is rolled back, its items applied again by halves until the refused
                        |    item stands alone; that one becomes a dead letter
                        +--> known or stale: the owner of the batch decides

Independent of calls: `Book` defines how a batch is rolled back and made again. Read
`actors.runtime.group_commit` next.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import trio

from actors.runtime.directory import Slot
from gateway import __version__
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.postgres.errors import StoreError
from gateway.store.postgres.pool import Database

log = logging.getLogger(__name__)

RETRY_CAP_S = 5.0
COMMIT_PATIENCE_S = 5.0
"""Seconds to wait for a commit under way, also in an actor that is being stopped."""

B = TypeVar("B")
Item = TypeVar("Item")
T = TypeVar("T")


class Book(Protocol[B, Item]):
    """The state that batches change: the part of it that a keeper needs."""

    def items(self, batch: B) -> Sequence[Item]:
        """The items of the batch, in order."""

    def letters(self, batch: B) -> Sequence[DeadLetterRow]:
        """Dead letters for items that could not be applied."""

    def rest(self, batch: B) -> B | None:
        """The part of the batch to commit even if its items are refused, or None."""

    def take_back(self, batch: B, now: datetime) -> None:
        """The state as it was before the batch."""

    def again(self, received: Iterable[Item], now: datetime) -> B:
        """A batch of items that were taken back."""

    def hole(self, received: Item) -> Item | None:
        """What is to be applied in place of an item that was set aside, or None."""

    def dead_letter(self, message: Item, trace: str) -> DeadLetterRow:
        """The dead letter for an item that the database refuses."""


class Keeper(Generic[B, Item]):
    """One for each incarnation of an actor. `commit` makes a batch durable and does what follows from that."""

    def __init__(
        self,
        slot: Slot,
        db: Database,
        book: Book[B, Item],
        commit: Callable[[B], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._slot = slot
        self._db = db
        self._book = book
        self._commit = commit
        self._now = now

    async def keep(self, batch: B) -> None:
        """Commits the batch. Where the database refuses it, commits its halves, until the refused item stands alone."""
        await self._insert(self._book.letters(batch))
        if not batch:
            return
        try:
            await self._commit(batch)
        except StoreError as refusal:
            await self._keep_apart(batch, refusal)

    async def _keep_apart(self, batch: B, refusal: StoreError) -> None:
        self._book.take_back(batch, self._now())
        items, rest = self._book.items(batch), self._book.rest(batch)
        if not items:
            raise refusal
        if len(items) == 1:
            await self._set_aside(items[0], refusal)
        else:
            middle = len(items) // 2
            for half in items[:middle], items[middle:]:
                await self.keep(self._book.again(half, self._now()))
        if rest is not None:
            await self.keep(rest)

    async def _set_aside(self, item: Item, refusal: StoreError) -> None:
        dead_letter = self._book.dead_letter(item, f"{type(refusal).__name__}: {refusal}")
        log.error("an event is set aside", extra={"reason": str(refusal)[:200]})
        await self._insert([dead_letter])
        if (end := self._book.hole(item)) is None:
            return
        try:
            await self._commit(self._book.again([end], self._now()))
        except StoreError as again:
            log.error("a call cannot even be ended", extra={"reason": str(again)[:200]})

    async def _insert(self, letters: Sequence[DeadLetterRow]) -> None:
        if letters:
            await self.until_answered(lambda: self._db.engine(insert_dead_letters, letters, __version__))

    async def until_answered(
        self, write: Callable[[], Awaitable[T]], *, on_failure: Callable[[], None] | None = None
    ) -> T:
        """Writes, however long the database is away: nothing is notified before it is durable, nothing is dropped.

        A write under way is waited for even by an actor that is being replaced: its successor must not start from
        the state before it. Trying the same again is safe. `on_failure` is called after each try without an answer.
        """
        pause = 0.1
        answers: list[T] = []
        while not answers:
            with trio.move_on_after(COMMIT_PATIENCE_S, shield=True), suppress(Unavailable):
                answers.append(await write())
            if not answers:
                if on_failure is not None:
                    on_failure()
                self._slot.report(State.DEGRADED, "database_away")
                await trio.sleep(pause)
                pause = min(pause * 2, RETRY_CAP_S)
        self._slot.report(State.ONLINE)
        return answers[0]
