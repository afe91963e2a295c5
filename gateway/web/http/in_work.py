"""How many requests of one address are worked on at once; further ones wait their turn, first come, first served.

A request is in work from when it is whole until its answer begins: what is half sent, streams, slow readers and answers that are
held up on purpose hold nothing back. Behind trusted proxies each client counts by itself; what comes from a proxy without a
client's address has no limit. Knows no server. Used by `hypercorn_server.py`; read `shares.py` for how many connections an address may have.
"""

from collections.abc import Callable
from contextvars import ContextVar

import trio

from gateway.web.http.addresses import Networks, client_address, is_in, source_of

AT_ONCE = 16
"""Requests of one address: what a browser with several pages opens at once, and more than the database's connections."""

_PLACE: ContextVar[Callable[[], None] | None] = ContextVar("place in work", default=None)


def hold_place(leave: Callable[[], None]) -> None:
    """Notes how this request gives up its place."""
    _PLACE.set(leave)


def leave_place() -> None:
    """Gives up this request's place, for its answer is only held up from here on."""
    if (leave := _PLACE.get()) is not None:
        leave()


class InWork:
    """Requests by the address they come from."""

    def __init__(self, most: int = AT_ONCE, trusted: Networks = ()) -> None:
        self._most, self._trusted = most, trusted
        self._of: dict[str, trio.CapacityLimiter] = {}

    async def enter(self, peer: str, forwarded_for: str) -> Callable[[], None]:
        """Waits until the request may be worked on. What is returned ends it, and may be called again."""
        client = client_address(peer, forwarded_for, self._trusted)
        if is_in(client, self._trusted):
            return _nothing
        source, who = source_of(client), object()
        limiter = self._of.setdefault(source, trio.CapacityLimiter(self._most))
        try:
            await limiter.acquire_on_behalf_of(who)
        except BaseException:
            self._forget(source, limiter)
            raise
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                limiter.release_on_behalf_of(who)
                self._forget(source, limiter)

        return leave

    def _forget(self, source: str, limiter: trio.CapacityLimiter) -> None:
        if not limiter.borrowed_tokens and not limiter.statistics().tasks_waiting and self._of.get(source) is limiter:
            del self._of[source]

    def __len__(self) -> int:
        return len(self._of)


def _nothing() -> None:
    """Where nothing is counted."""
