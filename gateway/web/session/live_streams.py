"""Streams that stay open: how many a session, a company and an address may have, and their end with the session.

    opened -> goes on while its session lives -> ended: signed out, session gone, or a newer one took its place

Beyond a limit the oldest stream of the same session, company or address ends, and its browser is to reconnect later. Signing
out ends a session's streams at once; a session ended by another process (a new password, a person removed) is checked for
every CHECK_S, once for all streams of one session. Read `gateway/web/pages/live.py` for what is streamed.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

PER_SESSION, PER_TENANT, PER_ADDRESS, IN_ALL = 12, 300, 100, 600
CHECK_S = 5.0
LATER_MS = 60_000
"""Seconds until a browser whose stream ended for a newer one reconnects."""


@dataclass(frozen=True, slots=True)
class Most:
    """How many may be open."""

    per_session: int
    per_tenant: int
    per_address: int
    in_all: int


@dataclass(eq=False)
class LiveStream:
    """One open stream."""

    keys: tuple[tuple[str, object, int], ...]
    token_hash: bytes
    ended: trio.Event = field(default_factory=trio.Event)
    for_newer: bool = False
    """Whether it ended because too many are open."""


class LiveStreams:
    """All of one app."""

    def __init__(self, most: Most | None = None) -> None:
        self._most = most
        self._open: dict[LiveStream, None] = {}
        self._by: dict[tuple[str, object], dict[LiveStream, None]] = {}
        self._looked: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, token_hash: bytes, tenant: str, source: str) -> Iterator[LiveStream]:
        """A stream for as long as the block lasts; it has to end soon once `ended` is set."""
        most = self._most or Most(PER_SESSION, PER_TENANT, PER_ADDRESS, IN_ALL)
        keys = (("session", token_hash, most.per_session), ("tenant", tenant, most.per_tenant),
                ("address", source, most.per_address), ("all", "", most.in_all))  # fmt: skip
        for kind, value, limit in keys:
            of = self._by.get((kind, value), {})
            while len(of) >= limit:
                oldest = next(iter(of))
                oldest.for_newer = True
                self._end(oldest)
        stream = LiveStream(keys, token_hash)
        self._open[stream] = None
        for kind, value, _ in keys:
            self._by.setdefault((kind, value), {})[stream] = None
        try:
            yield stream
        finally:
            self._end(stream)

    def end_session(self, token_hash: bytes) -> None:
        """The session is over: so are its streams."""
        for stream in list(self._by.get(("session", token_hash), ())):
            self._end(stream)

    async def go_on(
        self, stream: LiveStream, alive: Callable[[], Awaitable[bool]], every_s: float | None = None
    ) -> bool:
        """Whether the stream may send more. Reads its session if the last check is older than `every_s` (CHECK_S)."""
        if stream.ended.is_set():
            return False
        now = trio.current_time()
        if now - self._looked.setdefault(stream.token_hash, now) >= (CHECK_S if every_s is None else every_s):
            self._looked[stream.token_hash] = now  # the other streams of this session share this check
            if not await alive():
                self.end_session(stream.token_hash)
                return False
        return not stream.ended.is_set()

    def _end(self, stream: LiveStream) -> None:
        stream.ended.set()
        if stream not in self._open:
            return
        del self._open[stream]
        for kind, value, _ in stream.keys:
            of = self._by[kind, value]
            del of[stream]
            if not of:
                del self._by[kind, value]
                if kind == "session":
                    self._looked.pop(stream.token_hash, None)
