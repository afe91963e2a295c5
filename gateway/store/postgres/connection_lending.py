"""The driver's pool, with the connections in use taken out of it: passed from user to user while nothing went wrong.

Giving a connection back to asyncpg's pool costs as much as a short query: a task, a timeout and a shield each time, for
cleaning that is not needed after work that ended well. So a connection comes from the pool once, and goes back to it to be
cleaned or replaced when its work failed or was cancelled, when it has a transaction open, when it was idle for long, and now
and then. Everything here runs on the loop's thread; whoever waits is served in order. `pool.py` is its one user.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = PoolConnectionProxy
    Pool = asyncpg.Pool

RELEASE_S = 2.0
IDLE_S = 240.0
USES = 1000
"""After so many uses of all connections one goes through the pool, which ends those that have served long enough."""

_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


class ConnectionLending:
    """Gives out up to `limit` connections of one pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, limit: int) -> None:
        self.kept = 0
        """So many idle connections are not given back to the pool, which would close them after a while."""
        self._loop = loop
        self._pool = pool
        self.limit = limit
        self._held = 0
        """Connections out of the pool, in use or idle, and those being opened."""
        self._idle: deque[tuple[Connection, float]] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._uses = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps: set[asyncio.Task[None]] = set()

    @property
    def size(self) -> int:
        """Connections that are open."""
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        """Of these, those that nobody uses."""
        return len(self._idle) + self._pool.get_idle_size()

    async def acquire(self) -> Connection:
        """A connection that was open a moment ago. Raises what connecting raises."""
        while self._idle:
            connection, _ = self._idle.pop()
            if _is_open(connection):
                return connection
            await self._return(connection)
        if self._held < self.limit:
            self._held += 1
        else:
            handed = await self._turn()
            if handed is not None:
                return handed
        try:
            return await self._pool.acquire()
        except BaseException:
            self._free_place()
            raise

    async def _turn(self) -> Connection | None:
        """A connection from another's hand, or None for the right to take one from the pool."""
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on(turn.result())
            raise

    async def release(self, connection: Connection, *, clean: bool) -> None:
        """`clean`: the work ended well. Never raises for a connection that is broken: that is replaced."""
        self._uses += 1
        if clean and self._uses % USES and _is_open(connection) and not connection.is_in_transaction():
            self._hand_on(connection)
        else:
            await self._return(connection)

    def _hand_on(self, connection: Connection | None) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._held -= 1
        else:
            self._idle.append((connection, self._loop.time()))
            if self._sweeper is None and len(self._idle) > self.kept:
                self._sweeper = self._loop.call_later(IDLE_S, self._sweep)

    def _free_place(self) -> None:
        self._hand_on(None)

    async def _return(self, connection: Connection) -> None:
        # A connection that cannot be cleaned is closed by the pool itself and replaced; the result stands.
        try:
            with suppress(*_FAILURES):
                await self._pool.release(connection, timeout=RELEASE_S)
        finally:
            self._free_place()

    def _sweep(self) -> None:
        """Gives back what was idle for long: the pool closes it after a while."""
        self._sweeper = None
        long_ago = self._loop.time() - IDLE_S
        while len(self._idle) > self.kept and self._idle[0][1] <= long_ago:
            task = self._loop.create_task(self._return(self._idle.popleft()[0]))
            self._sweeps.add(task)
            task.add_done_callback(self._sweeps.discard)
        if len(self._idle) > self.kept:
            self._sweeper = self._loop.call_later(IDLE_S / 4, self._sweep)

    async def close(self) -> None:
        """Waits for what is in use, then closes every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.limit = 0
        while self._idle:
            await self._return(self._idle.popleft()[0])
        await self._pool.close()

    def terminate(self) -> None:
        """Closes every connection at once."""
        self._pool.terminate()


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False  # the server ended it, and the driver has taken it back into the pool by itself
