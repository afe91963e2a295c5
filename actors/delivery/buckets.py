"""A rate of an outside system, kept by whoever delivers to it. Knows neither what is sent nor to whom; `actors.delivery.worker` is its
one user."""

import trio

from adapters.base import Rate


class Bucket:
    """A token bucket that can go into debt: `take` says how long to wait for the token it gave."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.tokens = rate.burst
        self.at = trio.current_time()

    def take(self) -> float:
        now = trio.current_time()
        self.tokens = min(self.rate.burst, self.tokens + (now - self.at) * self.rate.per_second)
        self.at = now
        self.tokens -= 1
        return max(0.0, -self.tokens / self.rate.per_second)

    def give_back(self) -> None:
        self.tokens += 1

    def dry_for(self, patience_s: float) -> float:
        """Seconds until a token taken then would be given within `patience_s`; nothing is spent."""
        tokens = min(self.rate.burst, self.tokens + (trio.current_time() - self.at) * self.rate.per_second)
        return max(0.0, (1 - tokens) / self.rate.per_second - patience_s)
