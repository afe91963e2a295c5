"""Guessing of machine credentials (tokens of posts, client ids, API keys, the operators' token, links of modules), slowed by
address.

    right credential                     answered at once, however many wrong ones came from there
    wrong, within the burst              401 at once
    wrong, beyond it                     429 with Retry-After, up to DELAY_S late
    AT_ONCE of an address wait so        429 without a look at the credential, unless it was right before

Only failures count. The last line bounds the rate: a wrong credential answered at once could be tried on a thousand
connections. Memory is bounded: the least recently used entries are dropped. Only hashes are held. Used by
`gateway/web/api/machine.py`.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

import trio

from gateway.telemetry import COUNTERS
from gateway.web.http.addresses import client_address, source_of
from gateway.web.http.in_work import leave_place
from gateway.web.http.routes import Request, Response, problem

BURST = 10
EVERY_S = 0.5
DELAY_S = 5.0
AT_ONCE = 32
MOST_ADDRESSES = 10_000
MOST_RIGHT = 100_000


class Guesses:
    """One for the process, for both listeners."""

    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._trusted = trusted_proxies
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._waiting: Counter[str] = Counter()
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def floods(self, source: str, credential: str | None) -> bool:
        """Whether this source tries too many at once for another one to be looked at."""
        known = credential is not None and _digest(credential) in self._right
        if self._waiting[source] < AT_ONCE or known:
            return False
        COUNTERS["guesses_refused"] += 1
        return True

    def right(self, credential: str | None) -> None:
        """The credential was a good one."""
        if credential:
            digest = _digest(credential)
            self._right[digest] = None
            self._right.move_to_end(digest)
            while len(self._right) > MOST_RIGHT:
                self._right.popitem(last=False)

    async def failed(self, source: str) -> float:
        """Counts a wrong credential, and holds its answer up where this source has sent many. Returns for how long: 0
        where the answer is the usual one."""
        now = trio.current_time()
        level, then = self._levels.get(source, (float(BURST), now))
        level = min(float(BURST), level + (now - then) / EVERY_S)
        wait = min(DELAY_S, max(0.0, (1.0 - level) * EVERY_S))
        self._levels[source] = (max(level - 1.0, -DELAY_S / EVERY_S), now)
        self._levels.move_to_end(source)
        while len(self._levels) > MOST_ADDRESSES:
            self._levels.popitem(last=False)
        if wait:
            COUNTERS["guesses_slowed"] += 1
            self._waiting[source] += 1
            leave_place()
            try:
                await trio.sleep(wait)
            finally:
                self._waiting[source] -= 1
                if not self._waiting[source]:
                    del self._waiting[source]
        return wait

    # The same for requests to machine addresses.

    def refusal(self, request: Request, credential: str | None) -> Response | None:
        """The answer where this address tries too many at once; None where the credential may be looked at."""
        return _too_many(DELAY_S) if self.floods(self.source(request), credential) else None

    async def wrong(self, request: Request, credential: str | None, response: Response) -> Response:
        """The answer to a wrong credential: the given one, or late and 429. None at all is no guess."""
        wait = await self.failed(self.source(request)) if credential else 0.0
        return _too_many(wait) if wait else response

    def source(self, request: Request) -> str:
        """The key under which an address is counted."""
        return source_of(self.client(request))

    def client(self, request: Request) -> str:
        """The client's address."""
        return client_address(request.peer, request.headers.get("x-forwarded-for", ""), self._trusted)

    def __len__(self) -> int:
        return len(self._levels) + len(self._waiting) + len(self._right)


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()


def _too_many(wait_s: float) -> Response:
    return problem(
        429,
        "RATE_LIMITED",
        "Too many wrong credentials come from this address.",
        retryable=True,
        retry_after=max(1, round(wait_s)),
    )
