"""How many connections one address may have, and which one ends when it opens more. One of these for each listener.

    waits   a request that has not come whole yet, or none at all: ends for a newer connection, oldest first
    busy    an answer is being made or sent: never ended for another; an address may have more of these, up to a limit

A client that half-opens a thousand connections ends only its own, and a sign-in from the same address still gets through.
Connections by a trusted proxy have no share of their own; only the whole listener's limit applies. Knows no socket and no
HTTP. Used by `hypercorn_server.py` and `intake.py`.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.web.http.addresses import Networks, is_in, source_of

T = TypeVar("T")


class Shares(Generic[T]):
    """Connections by the address they come from, oldest first. `rank` orders which one ends: the lowest number
    first, None for one that is busy."""

    def __init__(self, most: int, most_busy: int, rank: Callable[[T], int | None], trusted: Networks = ()) -> None:
        self._most, self._most_busy, self._rank, self._trusted = most, most_busy, rank, trusted
        self._of: dict[str, dict[T, None]] = {}
        self._source: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._source)

    def enter(self, connection: T, peer: str, waited: Callable[[T], bool] = lambda connection: True) -> T | None:
        """Counts a new connection. Returns the one to end in its place where the address has its share already and one of
        its connections has `waited` long enough, or it has as many as may be busy: the new one itself where all others are."""
        source = "" if is_in(peer, self._trusted) else source_of(peer)
        of = self._of.setdefault(source, {})
        given_up = None
        if source and len(of) >= self._most:
            given_up = self._readiest(of, waited)
            if given_up is None and len(of) >= self._most_busy:
                given_up = self._readiest(of, lambda connection: True)
            if given_up is not None:
                self.leave(given_up)
                of = self._of.setdefault(source, {})
            elif len(of) >= self._most_busy:
                return connection
        of[connection] = None
        self._source[connection] = source
        return given_up

    def leave(self, connection: T) -> None:
        """It has ended."""
        source = self._source.pop(connection, None)
        if source is not None:
            of = self._of[source]
            del of[connection]
            if not of:
                del self._of[source]

    def make_room(self, waited: Callable[[T], bool] = lambda connection: True) -> T | None:
        """Of the address that has the most, the one to end where the listener is full; None where all are busy, or none
        has `waited` long enough for its client to be at fault."""
        for of in sorted(self._of.values(), key=len, reverse=True):
            if (found := self._readiest(of, waited)) is not None:
                self.leave(found)
                return found
        return None

    def _readiest(self, of: dict[T, None], waited: Callable[[T], bool]) -> T | None:
        best: tuple[int, T] | None = None
        for connection in of:
            if not waited(connection):
                break  # those after it are younger
            rank = self._rank(connection)
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, connection)
                if rank == 0:
                    break
        return best[1] if best is not None else None
