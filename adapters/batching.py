"""One request for what several deliveries send at the same moment, for outside systems that take a list.

    one(item) -> wait for a place in the account's budget, while others join -> send(items) -> each gets its own outcome

Whoever comes first sends for all that wait by then; what comes meanwhile is the next request. Nothing is held back to fill a
request: alone it leaves at once. Makes no request and judges no answer: `send` does. Read `adapters/amocrm/calls.py` for a user.
"""

import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from gateway.domain.errors import GatewayError, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class _Entry(Generic[T, R]):
    __slots__ = ("item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.outcome: list[R | GatewayError] = []


class Batches(Generic[T, R]):
    """The shared requests of one address. `send` gives an outcome for each item, in their order, or raises for all of them."""

    def __init__(
        self,
        send: Callable[[Sequence[T]], Awaitable[Sequence[R | GatewayError]]],
        take: Callable[[], Awaitable[None]],
        most: int,
    ) -> None:
        self._send = send
        self._take = take
        self.most = most
        """Items in one request; may be changed at any time."""
        self._turn = trio.Lock()
        self._waiting: deque[_Entry[T, R]] = deque()

    async def one(self, item: T) -> R:
        """The outcome of one item. Raises what became of it; Unavailable, and not certain, where whoever sent it for others was
        cancelled."""
        entry = _Entry[T, R](item)
        self._waiting.append(entry)
        try:
            while not entry.outcome:
                async with self._turn:
                    if not entry.outcome:
                        await self._round()
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        found = entry.outcome[0]
        if isinstance(found, GatewayError):
            raise found
        return found

    async def _round(self) -> None:
        """One request for the first that wait."""
        failure: GatewayError | None = None
        try:
            await self._take()
        except GatewayError as error:
            failure = error
        entries = [self._waiting.popleft() for _ in range(min(max(1, self.most), len(self._waiting)))]
        try:
            if failure is None:
                outcomes = await self._send([entry.item for entry in entries])
                for entry, outcome in zip(entries, outcomes, strict=True):
                    entry.outcome.append(outcome)
        except GatewayError as error:
            failure = error
        finally:
            for entry in entries:
                if not entry.outcome:
                    lost = Unavailable("a request for several deliveries was given up", certain=False)
                    entry.outcome.append(copy.copy(failure) if failure is not None else lost)
