"""LISTEN: hints that something changed, on a connection of its own.

Owns that connection, its heartbeat and a bounded inbox. Never reads what changed: a hint makes the cache look, and
`on_reset` makes it read everything. Read `gateway.cache` next.

    connected      LISTEN, then on_reset: nothing that was committed before it is missed
    notification   on_notify(channel, payload), in order
    overflow       the inbox is emptied, on_reset
    silence        no heartbeat of our own for `dead_after_s`: the connection is dropped, reconnect
    lost           reconnect with full jitter
"""

import asyncio
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import trio

from gateway.domain.errors import Retryable
from gateway.store.postgres.pool import Database, OwnConnection

HEARTBEAT_S = 5.0
DEAD_AFTER_S = 12.0
INBOX = 1000
BACKOFF_S = (0.2, 10.0)
STEADY_S = 60.0

OnNotify = Callable[[str, str], Awaitable[None]]
OnReset = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)


class Listener:
    """Runs `serve_notifications`; its attributes are for /stats."""

    def __init__(
        self,
        db: Database,
        channels: Sequence[str],
        *,
        heartbeat_s: float = HEARTBEAT_S,
        dead_after_s: float = DEAD_AFTER_S,
        inbox: int = INBOX,
    ) -> None:
        self._db = db
        self._channels = tuple(channels)
        self._heartbeat_s = heartbeat_s
        self._dead_after_s = dead_after_s
        self._limit = inbox
        self.connected = False
        self.last_heartbeat: float | None = None
        """`time.time()` of the last sign of life."""
        self.connects = 0
        self.overflows = 0

    async def serve_notifications(self, on_notify: OnNotify, on_reset: OnReset) -> NoReturn:
        """Runs until cancelled. A callback that raises Retryable is made good by a later on_reset; any other
        exception is a bug and comes out of here."""
        inbox = _Inbox(self._limit)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_connected, inbox)
            await self._hand_over(inbox, on_notify, on_reset)
        raise AssertionError("unreachable")

    async def _keep_connected(self, inbox: "_Inbox") -> None:
        first, longest = BACKOFF_S
        limit = first
        while True:
            since = trio.current_time()
            try:
                await self._db.alone("gateway listen", self._listen, inbox)
            except Retryable as error:
                log.warning("the LISTEN connection is lost: %s", error)
            finally:
                self.connected = False
            limit = first if trio.current_time() - since > STEADY_S else min(limit * 2, longest)
            await trio.sleep(random.uniform(0, limit))

    async def _hand_over(self, inbox: "_Inbox", on_notify: OnNotify, on_reset: OnReset) -> None:
        first, longest = BACKOFF_S
        limit = first
        while True:
            hints = await inbox.wait_hints()
            try:
                if hints is None:
                    await on_reset()
                else:
                    for channel, payload in hints:
                        await on_notify(channel, payload)
            except Retryable as error:
                log.warning("what changed could not be read: %s", error)
                limit = min(limit * 2, longest)
                await trio.sleep(random.uniform(0, limit))
                inbox.reset()
            else:
                limit = first

    # On the loop's thread

    async def _listen(self, connection: OwnConnection, inbox: "_Inbox") -> None:
        """Returns when the connection is gone or silent."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        own = f"gateway_heartbeat_{uuid.uuid4().hex}"
        received = time.monotonic()

        def notified(_connection: object, _pid: int, channel: str, payload: object) -> None:
            nonlocal received
            received = time.monotonic()
            self.last_heartbeat = time.time()
            if channel != own and not inbox.put(channel, str(payload)):
                self.overflows += 1

        for channel in (own, *self._channels):
            await connection.add_listener(channel, notified)
        self.connected = True
        self.connects += 1
        self.last_heartbeat = time.time()
        inbox.reset()
        while not ended.is_set():
            # Bounded by the client: a stopped backend answers nothing at all.
            left = received + self._dead_after_s - time.monotonic()
            if left <= 0:
                log.warning("the LISTEN connection has been silent for %.0f s", self._dead_after_s)
                return
            try:
                await connection.execute("SELECT pg_notify($1, '')", own, timeout=left)
            except TimeoutError:
                continue
            try:
                await asyncio.wait_for(ended.wait(), self._heartbeat_s)
            except TimeoutError:
                continue


class _Inbox:
    """Filled on the loop's thread, emptied on Trio's. When full it drops its hints and requests a reset."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._hints: deque[tuple[str, str]] = deque()
        self._reset = False
        self._reported = False
        self._token = trio.lowlevel.current_trio_token()
        self._filled = trio.Event()

    def put(self, channel: str, payload: str) -> bool:
        """False when that was one too many."""
        with self._guard:
            fits = len(self._hints) < self._limit
            if self._reset:
                pass  # everything will be read anyway
            elif fits:
                self._hints.append((channel, payload))
            else:
                self._hints.clear()
                self._reset = True
            self._wake()
        return fits

    def reset(self) -> None:
        with self._guard:
            self._hints.clear()
            self._reset = True
            self._wake()

    async def wait_hints(self) -> list[tuple[str, str]] | None:
        """What came since the last time, in order; None for a reset."""
        await self._filled.wait()
        with self._guard:
            self._filled = trio.Event()
            self._reported = False
            reset, self._reset = self._reset, False
            hints = list(self._hints)
            self._hints.clear()
        return None if reset else hints

    def _wake(self) -> None:
        if not self._reported:
            self._reported = True
            try:
                self._token.run_sync_soon(lambda: self._filled.set())
            except trio.RunFinishedError:
                log.debug("a notification after the end")
