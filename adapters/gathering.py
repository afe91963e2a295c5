"""Several deliveries as one request: while one is under way, those that come meanwhile wait, and go together after it.

Nobody waits for company: alone, an item goes at once. Of this process alone. Read `adapters/hubspot/records.py` for a use.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from gateway.domain.errors import GatewayError, Unavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T, R]):
    item: T
    woken: trio.Event = field(default_factory=trio.Event)
    results: list[R] = field(default_factory=list)
    error: GatewayError | None = None

    @property
    def over(self) -> bool:
        return bool(self.results) or self.error is not None


class Gathering(Generic[T, R]):
    """`send(items)` is one request: what became of each item, by its place: a result or the error it was refused with. What it raises
    is everybody's. At most `most` items go together."""

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[Mapping[int, R | GatewayError]]], most: int) -> None:
        self._send = send
        self._most = most
        self._waiting: list[_Waiting[T, R]] = []
        self._sending = False

    async def add(self, item: T) -> R:
        """What became of the item. Raises what it was refused with; Unavailable, not certain, where whoever sent it was cancelled."""
        mine: _Waiting[T, R] = _Waiting(item)
        self._waiting.append(mine)
        try:
            while not mine.over:
                if not self._sending:
                    await self._send_some(mine)
                else:
                    await mine.woken.wait()
                    mine.woken = trio.Event()
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            self._wake_next()
        if mine.error is not None:
            raise mine.error
        return mine.results[0]

    async def _send_some(self, mine: _Waiting[T, R]) -> None:
        """Sends what waits, `mine` first."""
        others = [one for one in self._waiting if one is not mine][: self._most - 1]
        together = [mine, *others]
        self._waiting = [one for one in self._waiting if one not in together]
        self._sending = True
        try:
            outcome = await self._send([one.item for one in together])
            for place, one in enumerate(together):
                _settle(one, outcome.get(place) or _lost("the answer does not say what became of it"))
        except GatewayError as error:
            for one in together:
                _settle(one, copy(error))
        finally:
            self._sending = False
            for one in together:
                if not one.over:  # cancelled while it was under way
                    one.error = _lost("whoever sent it was cancelled")
                one.woken.set()

    def _wake_next(self) -> None:
        if not self._sending and self._waiting:
            self._waiting[0].woken.set()


def _lost(why: str) -> Unavailable:
    return Unavailable(why, certain=False)


def _settle(one: _Waiting[T, R], outcome: R | GatewayError) -> None:
    if isinstance(outcome, GatewayError):
        one.error = outcome
    else:
        one.results.append(outcome)
