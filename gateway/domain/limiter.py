"""Rate limits of an outside system: so many requests in any window of time, in all and for each named bucket.

    book -> (wait) -> leave         what is delivered as calls ring: a place in the window is promised, then taken
    try_background                  jobs: only where a quarter of every window stays free, and never ahead of a booking

`leave` judges by the moments at which requests really left, so that never more than a rate's count leave in any window,
however late a waiter wakes up. Pure: `now` is an argument. `adapters.budget` waits.
"""

import math
from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

MOST_WINDOWS = 1000
"""Buckets that are remembered; those that nothing left from lately are forgotten first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `per_s` seconds."""

    count: int
    per_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates of an outside system. A bucket picks its rate by the part before a colon, so "telephony" is one
    bucket and "chat:55501" is one of many with the rate of "chat"; "" is the whole, which every bucket counts to that has
    no rate under its very name. `at_once` requests are under way together."""

    rates: Mapping[str, Rate] = field(default_factory=lambda: {"": Rate(10)})
    at_once: int = 8


@dataclass(slots=True, eq=False)
class Booking:
    """A promise: from `at` on (the clock's seconds) a request of the bucket may leave, if nothing was late or paused."""

    bucket: str
    at: float
    places: list[tuple["Window", float]]
    """In each rate it counts to, the moment that is promised there."""


class Window:
    """One rate: when requests left lately, and when others were promised to."""

    __slots__ = ("booked", "gone", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.gone: deque[float] = deque(maxlen=rate.count)
        self.booked: list[float] = []

    def free_at(self, now: float) -> float:
        """The first moment, from `now` on, at which one more fits behind what has left and what is promised."""
        ahead = self.rate.count - len(self.booked)
        if ahead <= 0:
            return max(now, self.booked[-ahead] + self.rate.per_s)  # the one `count` places ahead
        return now if len(self.gone) < ahead else max(now, self.gone[-ahead] + self.rate.per_s)

    def leave_at(self, now: float) -> float:
        """The first moment at which one may really leave, promises aside."""
        if len(self.gone) < self.rate.count:
            return now
        return max(now, self.gone[0] + self.rate.per_s)

    def room_for_background(self, now: float) -> float:
        """Seconds until one may leave that gives way to others; 0 for at once."""
        count, per_s = self.rate.count, self.rate.per_s
        spare = math.ceil(count / 4) if count > 1 else 0
        recent = [at for at in self.gone if at + per_s > now]
        most = count - spare - len(self.booked)
        if len(recent) < most:
            return max(0.0, self.free_at(now) - now)
        if most <= 0 or len(recent) - most >= len(recent):
            return per_s / 2
        return recent[len(recent) - most] + per_s - now

    def idle(self, now: float) -> bool:
        """Whether it holds no more than a new one would."""
        return not self.booked and (not self.gone or self.gone[-1] + self.rate.per_s <= now)


class Limiter:
    """All rates of one remote account."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._paused: dict[str, float] = {}

    def book(self, bucket: str, now: float) -> Booking:
        """Promises the first free place in the bucket's rate and that of the whole."""
        start = max(now, self._paused_until(bucket))
        places = [(window, window.free_at(start)) for window in self._windows_of(bucket, now)]
        for window, at in places:
            insort(window.booked, at)
        return Booking(bucket, max([start, *(at for _, at in places)]), places)

    def cancel(self, booking: Booking) -> None:
        """Gives a promise back. One that was used or given back already gives nothing."""
        for window, at in booking.places:
            window.booked.remove(at)
        booking.places = []

    def leave(self, booking: Booking, now: float) -> float:
        """0 where the request may leave now, and then it has. Else seconds to wait before the next try."""
        at = max(
            [booking.at, self._paused_until(booking.bucket), *(window.leave_at(now) for window, _ in booking.places)]
        )
        if at > now:
            return at - now
        for window, _ in booking.places:
            window.gone.append(now)
        self.cancel(booking)
        return 0.0

    def try_background(self, bucket: str, now: float) -> float:
        """For what can wait: 0 where it may leave now, and then it has. Else seconds to wait before the next try."""
        windows = tuple(self._windows_of(bucket, now))
        wait = max([0.0, self._paused_until(bucket) - now, *(window.room_for_background(now) for window in windows)])
        if not wait:
            for window in windows:
                window.gone.append(now)
        return wait

    def wait_s(self, bucket: str, now: float) -> float:
        """Seconds until a request of the bucket could leave, if it were booked now."""
        start = max(now, self._paused_until(bucket))
        return max([start, *(window.free_at(start) for window in self._windows_of(bucket, now))]) - now

    def full(self, now: float, patience_s: float) -> dict[str, float]:
        """Known buckets in which one would wait for longer than `patience_s`, and for how long it is until it would not."""
        waits = {name: self.wait_s(name, now) - patience_s for name in list(self._windows)}
        return {name: wait for name, wait in waits.items() if wait > 0}

    def pause(self, until: float, bucket: str = "") -> None:
        """Pauses the bucket until then, everything where it is "": the other side has requested it."""
        self._paused[bucket] = max(until, self._paused.get(bucket, until))

    def idle(self, now: float) -> bool:
        """Whether it holds no more than a new one would."""
        return all(until <= now for until in self._paused.values()) and all(
            window.idle(now) for window in self._windows.values()
        )

    def _paused_until(self, bucket: str) -> float:
        if not self._paused:
            return -math.inf
        return max(self._paused.get("", -math.inf), self._paused.get(bucket, -math.inf))

    def _windows_of(self, bucket: str, now: float) -> Iterator[Window]:
        rates = self.limits.rates
        for name in (bucket, "") if bucket and bucket not in rates else (bucket,):
            rate = rates.get(name) or rates.get(name.partition(":")[0])
            if rate is None:
                continue
            window = self._windows.get(name)
            if window is None:
                self._forget(now)
                window = self._windows[name] = Window(rate)
            yield window

    def _forget(self, now: float) -> None:
        if len(self._windows) >= MOST_WINDOWS:
            for name in [name for name, window in self._windows.items() if window.idle(now)]:
                del self._windows[name]
        self._paused = {name: until for name, until in self._paused.items() if until > now}


class RequestBudget(Protocol):
    """The rate limit of one remote account in this process (`adapters.budget`)."""

    async def take(self, bucket: str = "", *, background: bool = False, patience_s: float | None = None) -> None:
        """Waits until one request of the bucket may leave. Raises RateLimited where that takes too long."""
        ...

    def place(self, *, background: bool = False) -> AbstractAsyncContextManager[None]:
        """One of the requests that may be under way together. Waits; the deadline is the caller's."""
        ...

    def pause(self, seconds: float, bucket: str = "") -> None:
        """Pauses the bucket for so long, everything where it is "": the other side has requested it."""
        ...
