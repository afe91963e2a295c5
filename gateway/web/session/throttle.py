"""How fast passwords may be tried: token buckets per account, per network and for the whole installation.

Over the limit an attempt first waits and then, where it would wait for too long, is refused with the time to come back; nobody
is ever locked out. A network from which an account has signed in has an account bucket of its own, and so has a known device:
strangers who try that account's password elsewhere do not slow its owner down. Memory is bounded: the least recently used
buckets are dropped. No clock and no waiting here. Read `gateway/web/session/auth.py` next.
"""

from collections import OrderedDict
from dataclasses import dataclass

MOST_BUCKETS = 10_000
LONGEST_DELAY_S = 4.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`burst` attempts at once, then one every `every_s`."""

    burst: float
    every_s: float


ACCOUNT = Pace(5, 5.0)
NETWORK = Pace(20, 1.0)
EVERYONE = Pace(100, 0.1)


class _Buckets:
    """Levels by key; a level below zero is a debt that later attempts wait for."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: str, now: float) -> float:
        """How long an attempt of now would have to wait."""
        return max(0.0, (1.0 - self._level(key, now)) * self._pace.every_s)

    def take(self, key: str, now: float, tokens: float = 1.0) -> None:
        level = min(self._pace.burst, self._level(key, now) - tokens)
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        while len(self._levels) > MOST_BUCKETS:
            self._levels.popitem(last=False)

    def _level(self, key: str, now: float) -> float:
        level, then = self._levels.get(key, (self._pace.burst, now))
        return min(self._pace.burst, level + (now - then) / self._pace.every_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Seconds to wait before the attempt, or until a refused one may be repeated."""

    delay_s: float = 0.0
    refused_s: float | None = None


class Throttle:
    """One for the process. `now` is a monotonic clock's."""

    def __init__(self) -> None:
        self._accounts = _Buckets(ACCOUNT)
        self._networks = _Buckets(NETWORK)
        self._everyone = _Buckets(EVERYONE)
        self._known: OrderedDict[str, None] = OrderedDict()

    def attempt(self, account: str, network: str, now: float, device: str | None = None) -> Verdict:
        """What an attempt of now must do; one that is not refused is counted. A known device has a bucket of its own and
        waits for nobody else's attempts."""
        if device is not None:
            own = f"{account} device {device}"
            wait = self._accounts.wait_s(own, now)
            if wait > LONGEST_DELAY_S:
                return Verdict(refused_s=wait)
            self._accounts.take(own, now)
            return Verdict(delay_s=wait)
        where = self._account_key(account, network)
        wait = max(
            self._accounts.wait_s(where, now), self._networks.wait_s(network, now), self._everyone.wait_s("", now)
        )
        if wait > LONGEST_DELAY_S:
            return Verdict(refused_s=wait)
        for buckets, key in ((self._accounts, where), (self._networks, network), (self._everyone, "")):
            buckets.take(key, now)
        return Verdict(delay_s=wait)

    def succeeded(self, account: str, network: str, now: float, device: str | None = None) -> None:
        """Gives the attempt back and remembers the network for this account."""
        if device is not None:
            self._accounts.take(f"{account} device {device}", now, -1.0)
            return
        self._accounts.take(self._account_key(account, network), now, -1.0)
        self._networks.take(network, now, -1.0)
        self._known[f"{account} {network}"] = None
        self._known.move_to_end(f"{account} {network}")
        while len(self._known) > MOST_BUCKETS:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._accounts) + len(self._networks) + len(self._known)

    def _account_key(self, account: str, network: str) -> str:
        known = f"{account} {network}"
        return known if known in self._known else f"{account} *"
