"""How often one key and one address may call: so many a second on average, and so many at once.

A rate of 50 a second with bursts of 200 is at most 200 in any 4 s. Counted for this process alone; memory is bounded, the
least recently seen are forgotten. The window itself is `gateway/domain/limiter.py`'s.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from gateway.domain.limiter import Rate, Window

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a rate after a request, as the headers RateLimit-* say it."""

    limit: int
    remaining: int
    reset_s: float
    """Until all of it is there again."""
    wait_s: float = 0.0
    """Until one more may come; 0 where this one was allowed."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """RateLimit-Limit, -Remaining and -Reset (seconds)."""
        return (
            ("RateLimit-Limit", str(self.limit)), ("RateLimit-Remaining", str(self.remaining)),
            ("RateLimit-Reset", str(math.ceil(self.reset_s))),
        )  # fmt: skip


@dataclass
class CallLimits:
    """All of the process. `per_key` and `per_address` are bursts over the time in which they are earned again."""

    per_key: Rate = field(default_factory=lambda: Rate(200, 4.0))
    per_address: Rate = field(default_factory=lambda: Rate(400, 4.0))
    clock: Callable[[], float] = trio.current_time
    _windows: OrderedDict[tuple[str, str], Window] = field(default_factory=OrderedDict)

    def key(self, name: str) -> Allowance:
        """One request by a key, a session or a token's subject."""
        return self._take(("key", name), self.per_key)

    def address(self, source: str) -> Allowance:
        """One request from an address."""
        return self._take(("address", source), self.per_address)

    def _take(self, place: tuple[str, str], rate: Rate) -> Allowance:
        now = self.clock()
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = Window(rate)
        self._windows.move_to_end(place)
        while len(self._windows) > MOST:
            self._windows.popitem(last=False)
        gone = window.gone
        while gone and gone[0] + rate.per_s <= now:
            gone.popleft()
        wait = window.leave_at(now) - now
        if not wait:
            gone.append(now)
        return Allowance(rate.count, rate.count - len(gone), gone[-1] + rate.per_s - now, wait)
