"""PostgreSQL for a Trio program: asyncpg on one uvloop thread.

Owns the connections and the translation of the driver's errors; with `connection_lending.py`, which gives out the
connections, the only module that imports the driver. Never holds SQL about our tables: that is in the aggregate modules
beside it. A crossing is one unit of work: `db.tenant` is a transaction inside one tenant, `db.engine` a connection of the
role that sees all of them.

Read `roles.py` next for whom a connection works as, `asyncio_thread.py` for how a call crosses over, `errors.py` for what comes back instead of a result.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import asyncpg
import trio
import uvloop
from asyncpg.pool import PoolConnectionProxy

from gateway.domain.errors import BadSettings, GatewayError, Unavailable
from gateway.domain.ids import TenantId
from gateway.store.postgres.asyncio_thread import AsyncioThread, open_asyncio_thread
from gateway.store.postgres.connection_lending import ConnectionLending
from gateway.store.postgres.errors import BadData, Busy, Conflict, QueryFailed
from gateway.store.postgres.roles import APP, ENGINE, become

if TYPE_CHECKING:
    Record: TypeAlias = asyncpg.Record
    Connection: TypeAlias = PoolConnectionProxy[Record]
    OwnConnection: TypeAlias = asyncpg.Connection[Record]
    _Pool: TypeAlias = asyncpg.Pool[Record]
else:
    Record = asyncpg.Record
    Connection = PoolConnectionProxy
    OwnConnection = asyncpg.Connection

P = ParamSpec("P")
T = TypeVar("T")
Warm: TypeAlias = Callable[["Connection | OwnConnection"], Awaitable[None]]

QUEUE_TRIES, QUEUE_PAUSE_S = 50, 0.02
CONNECT_S = 5.0
COMMAND_S = 20.0
"""The client's own limit, above the server's: it ends the wait for a server that is frozen."""
STATEMENT_S = 15.0
LOCK_S = 2.0
IDLE_IN_TRANSACTION_S = 30.0
RELEASE_S = 2.0

_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

_UNAVAILABLE_CODES = frozenset({
    "25006",  # read-only: a standby answers
    "25P03",  # idle in transaction for too long
    "40001", "40P01",  # serialization, deadlock
    "57014",  # statement_timeout
})  # fmt: skip
_UNAVAILABLE_CLASSES = frozenset({
    "08",  # connection
    "28", "3D",  # login or database refused: both pass when a person has put them right
    "53",  # resources, the full disk among them
    "57",  # shutdown
    "58",  # the server's own system errors
})  # fmt: skip
_LOST_CLASSES = frozenset({"08", "57"})


class Database:
    """Two small pools on one thread. Made by `open_database`."""

    def __init__(
        self, thread: AsyncioThread, dsn: str, app: ConnectionLending, engine: ConnectionLending, counter: "_Counter",
        warming: "list[Warm]",
    ) -> None:  # fmt: skip
        self.thread = thread
        self._warming = warming
        self._dsn = dsn
        self._app = app
        self._engine = engine
        self._counter = counter

    async def tenant(
        self,
        tenant_id: TenantId,
        work: Callable[Concatenate[Connection, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """One transaction that sees one tenant's rows. An Unavailable with `certain=False` may have committed."""
        return await self.thread.run(self._in_tenant, tenant_id, work, *args, **kwargs)

    async def engine(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """A connection that sees every tenant's rows, and no transaction: each statement commits by itself unless
        `work` opens `connection.transaction()`."""
        return await self.thread.run(self._in_engine, work, *args, **kwargs)

    async def alone(
        self,
        application_name: str,
        work: Callable[Concatenate[OwnConnection, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """A connection of its own in the engine's role, outside the pools, dropped when `work` ends."""

        async def with_connection() -> T:
            connection = await _connect(self._dsn, role=ENGINE, application_name=application_name)
            try:
                return await work(connection, *args, **kwargs)
            finally:
                connection.terminate()

        return await self.thread.run(_translated, with_connection)

    async def keep_warm(self, work: "Warm", many: int) -> None:
        """Opens `many` of the engine's connections, runs `work` on each, and from now on on every one that is opened: it
        makes the plans of the statements that somebody waits for, so that the first call of a quiet hour pays for none.
        As many stay open. Raises what the database raises."""
        self._warming[:] = [work]
        many = self._engine.kept = min(many, self._engine.limit)
        await self.thread.run(self._warm_up, work, many)

    async def ping(self) -> None:
        """Raises Unavailable, NotMigrated or UnsafeRole unless both roles can work."""
        await self.engine(_select_1)
        await self.thread.run(self._ping_app)

    @property
    def queries(self) -> int:
        """Statements since the start, BEGIN and COMMIT among them."""
        return self._counter.queries

    @property
    def connections(self) -> dict[str, int]:
        """Open connections by role; `idle` are those of both that nobody uses."""
        return {
            "app": self._app.size,
            "engine": self._engine.size,
            "idle": self._app.idle + self._engine.idle,
        }

    # On the loop's thread

    async def _in_tenant(
        self,
        tenant_id: str,
        work: Callable[Concatenate[Connection, P], Awaitable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        connection = None
        committing = clean = False
        try:
            connection = await _usable(self._app.acquire())
            async with connection.transaction():
                # The role was entered when the connection was made. A second time here: whatever an earlier
                # borrower did to the session, this transaction works in the tenant's role.
                await connection.execute(_ENTER_TENANT, tenant_id, APP)
                result = await work(connection, *args, **kwargs)
                committing = True
            clean = True
            return result
        except _DRIVER_ERRORS as error:
            failure = _translate(error, certain=not committing)
        finally:
            if connection is not None:
                await self._app.release(connection, clean=clean)
        raise failure

    async def _in_engine(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        connection = None
        clean = False
        try:
            connection = await _usable(self._engine.acquire())
            result = await work(connection, *args, **kwargs)
            clean = True
            return result
        except _DRIVER_ERRORS as error:
            failure = _translate(error, certain=connection is None)
        finally:
            if connection is not None:
                await self._engine.release(connection, clean=clean)
        raise failure

    async def _warm_up(self, work: "Warm", many: int) -> None:
        async def and_the_rest(connection: Connection) -> None:
            await work(connection)
            await self._warm_up(work, many - 1)  # while this one is in use, so that the next is another

        if many > 0:
            await self._in_engine(and_the_rest)

    async def _ping_app(self) -> None:
        await self._in_tenant("", _select_1)


_ENTER_TENANT = "SELECT set_config('app.tenant', $1, true), set_config('role', $2, true)"


class Session:
    """One connection as the user the address names, for migrations. Made by `open_session`."""

    def __init__(self, thread: AsyncioThread, connection: OwnConnection) -> None:
        self._thread = thread
        self._connection = connection

    async def run(
        self, work: Callable[Concatenate[OwnConnection, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`work` on the connection. A cancelled or failed `work` leaves its session locks in place."""
        return await self._thread.run(_translated, lambda: work(self._connection, *args, **kwargs))


async def _connect_patiently(*args: Any, **kwargs: Any) -> Any:
    """A connection of the driver. Where the queue of a Unix socket is full, connect(2) answers EAGAIN at once instead of waiting
    as it does for TCP: then a moment later again. Raises as the driver does."""
    for left in reversed(range(QUEUE_TRIES)):
        try:
            return await asyncpg.connect(*args, **kwargs)
        except BlockingIOError:
            if not left:
                raise
            await asyncio.sleep(QUEUE_PAUSE_S)
    raise AssertionError


@asynccontextmanager
async def open_database(dsn: str, *, size: int = 8, engine_size: int = 4) -> AsyncIterator[Database]:
    """Nothing is connected before the first call: `ping` checks whether the database can be worked with."""
    counter = _Counter()
    warming: list[Warm] = []

    async def new_pool(role: str, limit: int) -> "_Pool":
        async def prepare(connection: OwnConnection) -> None:
            await become(connection, role)
            if role == ENGINE:
                for work in warming:
                    await work(connection)
            connection.add_query_logger(counter.count)

        return await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=limit,
            max_queries=1_000_000,
            statement_cache_size=300,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=300.0,
            init=prepare,
            reset=_keep_session,
            connect=_connect_patiently,
            timeout=CONNECT_S,
            command_timeout=COMMAND_S,
            server_settings=_server_settings("gateway") | (_ENGINE_SETTINGS if role == ENGINE else {}),
        )

    async with open_asyncio_thread(uvloop.new_event_loop, name="database") as thread:
        lenders: list[ConnectionLending] = []
        try:
            for role, limit in ((APP, size), (ENGINE, engine_size)):
                pool = await thread.run(_translated, lambda role=role, limit=limit: new_pool(role, limit))
                lenders.append(ConnectionLending(thread.loop, pool, limit))
            yield Database(thread, dsn, lenders[0], lenders[1], counter, warming)
        finally:
            await _shielded(thread, _close_lenders, lenders)


@asynccontextmanager
async def open_session(dsn: str, *, application_name: str = "gateway migrate") -> AsyncIterator[Session]:
    """A thread and a connection of its own, without a role change and without a limit on a statement's time."""
    async with open_asyncio_thread(uvloop.new_event_loop, name=application_name) as thread:
        connection = await thread.run(
            _translated, lambda: _connect(dsn, role=None, application_name=application_name, statement_s=0)
        )
        try:
            yield Session(thread, connection)
        finally:
            await _shielded(thread, _close_connection, connection)


async def _shielded(thread: AsyncioThread, close: Callable[[T], Awaitable[None]], what: T) -> None:
    with trio.CancelScope(shield=True):
        await thread.run(close, what)


async def _close_lenders(lenders: list[ConnectionLending]) -> None:
    for lending in lenders:
        try:
            await asyncio.wait_for(lending.close(), RELEASE_S)
        except _DRIVER_ERRORS:
            lending.terminate()


async def _close_connection(connection: OwnConnection) -> None:
    try:
        await connection.close(timeout=RELEASE_S)
    except _DRIVER_ERRORS:
        connection.terminate()


async def _connect(
    dsn: str, *, role: str | None, application_name: str, statement_s: float = STATEMENT_S
) -> OwnConnection:
    connection: OwnConnection = await _usable(
        asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            command_timeout=COMMAND_S if statement_s else None,
            server_settings=_server_settings(application_name, statement_s),
        )
    )
    if role is not None:
        try:
            await become(connection, role)
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _usable(connecting: Awaitable[T]) -> T:
    """The driver reads the address when it connects, and quotes it, password and all, where it makes no sense."""
    try:
        return await connecting
    except ValueError:
        failure = BadSettings("the database's address is not usable", person="GATEWAY_DATABASE_URL is not usable.")
    raise failure


def _server_settings(application_name: str, statement_s: float = STATEMENT_S) -> dict[str, str]:
    return {
        "application_name": application_name,
        "statement_timeout": f"{statement_s * 1000:.0f}",
        "lock_timeout": f"{LOCK_S * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S * 1000:.0f}",
        "timezone": "UTC",
        "jit": "off",  # our statements are short: compiling one costs more than running it
    }


_ENGINE_SETTINGS = {
    # The engine's statements are few, short and look rows up by keys: each is planned once a connection.
    "plan_cache_mode": "force_generic_plan",
    # Whatever statistics show of a table that is nearly empty or of a JSON argument.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
}


async def _keep_session(connection: OwnConnection) -> None:
    """Instead of the driver's reset query, which costs a round trip a release. The driver has rolled back what was
    open; a committed session-wide SET would stay, and the store's functions use `set_config(..., true)` alone."""


async def _select_1(connection: Connection) -> None:
    await connection.execute("SELECT 1")


async def _translated(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except _DRIVER_ERRORS as error:
        failure = _translate(error, certain=False)
    # Outside the handler: the driver's text, DETAIL included, must not hang on as the context.
    raise failure


def _translate(error: Exception, *, certain: bool) -> Exception:
    """Our error for the driver's. `certain` is about a lost connection: a refused statement has done nothing."""
    if isinstance(error, asyncpg.PostgresError):
        return _translate_answer(error, certain=certain)
    if isinstance(error, asyncpg.DataError):
        where = re.search(r"query argument \$\d+", str(error))
        return BadData(where.group() if where else "query argument")
    if isinstance(error, asyncpg.InterfaceError) and "clos" not in str(error):
        return error  # misuse of the driver: a bug
    return Unavailable(f"database: {type(error).__name__}", certain=certain)


def _translate_answer(error: asyncpg.PostgresError, *, certain: bool) -> GatewayError:
    code = error.sqlstate or ""
    constraint = getattr(error, "constraint_name", None) or ""
    if code in ("23505", "23P01"):
        return Conflict(constraint)
    if code.startswith(("22", "23")):
        return BadData(f"{type(error).__name__} {constraint}".strip(), constraint=constraint)
    if code == "55P03":
        return Busy("database: lock timeout")
    if code in _UNAVAILABLE_CODES or code[:2] in _UNAVAILABLE_CLASSES:
        answered = code[:2] not in _LOST_CLASSES or code == "57014"
        return Unavailable(f"database: {type(error).__name__} {code}", certain=certain or answered)
    # The first line alone: DETAIL and HINT may quote rows.
    return QueryFailed(f"{type(error).__name__} {code}: {error.args[0] if error.args else ''}", code=code)


class _Counter:
    """Counts what the query logger shows it. Touched by the loop's thread alone, read by anyone."""

    def __init__(self) -> None:
        self.queries = 0

    def count(self, query: object) -> None:
        self.queries += 1
