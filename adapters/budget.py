"""The budget of a remote account, shared by all that speak to it: deliveries, look-ups, tests and jobs.

`adapters.http` takes from it before every request; `actors.delivery.worker` books a place before it leases a delivery.
What a person or a call waits for goes first: background work leaves a quarter of every rate and half of the places free.
Budgets are found by the account's key, as the adapter names it, and an idle one is forgotten. They are this process's own.

Read `gateway/domain/limiter.py` for the arithmetic.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

import trio

from adapters.base import Adapter
from gateway.domain.errors import RateLimited
from gateway.domain.ids import TenantId
from gateway.domain.limiter import Booking, Limiter, Limits
from gateway.domain.secret import Secret

LONGEST_PAUSE_S = 3600.0
"""Seconds; the longest pause the other side can impose: a mistyped header must not silence an account for a year."""
PATIENCE_S = 5.0
BACKGROUND_PATIENCE_S = 120.0
MOST_BUDGETS = 10_000
SHORTEST_SLEEP_S = 1e-6
"""Less may be no time at all to a clock of floating point."""


def account_key(*parts: str | Secret) -> str:
    """A key of an account, made of its parts. One is a credential: only who knows it can share the budget."""
    plain = "\0".join(part.reveal() if isinstance(part, Secret) else part for part in parts)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def account_of(adapter: Adapter, tenant: TenantId, name: str, settings: Any) -> str:
    """The key of an integration's account among all: as the adapter names it, else the integration's own."""
    return f"{adapter.kind}:{adapter.account(settings) or f'{tenant}/{name}'}"


class Budget:
    """One account's."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._limiter = Limiter(limits)
        self._urgent = self._background = 0
        self._waiting: tuple[deque[trio.Event], deque[trio.Event]] = deque(), deque()

    # Rates.

    def book(self, bucket: str) -> Booking:
        """Promises a place; see `leave`."""
        return self._limiter.book(bucket, trio.current_time())

    def cancel(self, booking: Booking) -> None:
        """Gives the promise back."""
        self._limiter.cancel(booking)

    def wait_s(self, bucket: str) -> float:
        """Seconds until a request of the bucket could leave, if it were booked now."""
        return self._limiter.wait_s(bucket, trio.current_time())

    def full(self, patience_s: float) -> dict[str, float]:
        """Buckets in which one would wait for longer, and for how long that is so."""
        return self._limiter.full(trio.current_time(), patience_s)

    def pause(self, seconds: float, bucket: str = "") -> None:
        """Pauses the bucket for so long, everything where it is "": the other side has requested it."""
        self._limiter.pause(trio.current_time() + min(max(seconds, 0.0), LONGEST_PAUSE_S), bucket)

    async def leave(self, booking: Booking, patience_s: float = PATIENCE_S) -> float:
        """Waits for the promised place and takes it. Returns 0; or, where that would take longer, the seconds it would take,
        and the promise is given back."""
        until = trio.current_time() + patience_s
        try:
            while wait := self._limiter.leave(booking, trio.current_time()):
                if trio.current_time() + wait > until:
                    return wait
                await trio.sleep(max(wait, SHORTEST_SLEEP_S))
            return 0.0
        finally:
            self._limiter.cancel(booking)

    async def take(self, bucket: str = "", *, background: bool = False, patience_s: float | None = None) -> None:
        """Waits until one request of the bucket may leave. Raises RateLimited where that takes too long."""
        if background:
            wait = await self._take_background(bucket, BACKGROUND_PATIENCE_S if patience_s is None else patience_s)
        else:
            wait = await self.leave(self.book(bucket), PATIENCE_S if patience_s is None else patience_s)
        if wait:
            raise RateLimited("the account's rate is used up", after_s=wait)

    async def _take_background(self, bucket: str, patience_s: float) -> float:
        until = trio.current_time() + patience_s
        while wait := self._limiter.try_background(bucket, trio.current_time()):
            if trio.current_time() + wait > until:
                return wait
            await trio.sleep(max(wait, SHORTEST_SLEEP_S))
        return 0.0

    # Places.

    @asynccontextmanager
    async def place(self, *, background: bool = False) -> AsyncIterator[None]:
        """One of the requests that may be under way together. Waits for as long as it takes; the deadline is the caller's."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._has_place(background=background):
            self._count(1, background=background)
        else:
            await self._queue(background=background)
        try:
            yield
        finally:
            self._count(-1, background=background)
            self._admit()

    def _has_place(self, *, background: bool) -> bool:
        if background and (self._waiting[False] or self._background >= max(1, self.limits.at_once // 2)):
            return False
        return self._urgent + self._background < self.limits.at_once

    def _count(self, by: int, *, background: bool) -> None:
        if background:
            self._background += by
        else:
            self._urgent += by

    def _admit(self) -> None:
        for background in (False, True):
            queue = self._waiting[background]
            while queue and self._has_place(background=background):
                self._count(1, background=background)
                queue.popleft().set()

    async def _queue(self, *, background: bool) -> None:
        turn = trio.Event()
        self._waiting[background].append(turn)
        entered = False
        try:
            await turn.wait()
            entered = True
        finally:
            if not entered:
                if turn.is_set():
                    self._count(-1, background=background)
                else:
                    self._waiting[background].remove(turn)
                self._admit()

    def idle(self) -> bool:
        """Whether it holds no more than a new one would."""
        return not self._urgent and not self._background and self._limiter.idle(trio.current_time())


class Budgets:
    """All budgets of the process, by key."""

    def __init__(self) -> None:
        self._recent: OrderedDict[str, Budget] = OrderedDict()
        self._live: WeakValueDictionary[str, Budget] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._recent)

    def of(self, key: str, limits: Limits) -> Budget:
        """The account's budget. One that a client still holds is found, however long it has been idle."""
        budget = self._live.get(key)
        if budget is None:
            budget = self._live[key] = Budget(limits)
        self._recent[key] = budget
        self._recent.move_to_end(key)
        while len(self._recent) > 1:
            oldest, held = next(iter(self._recent.items()))
            if not held.idle() and len(self._recent) <= MOST_BUDGETS:
                break
            del self._recent[oldest]
        return budget
