"""Crossings, roles, errors and cancellation, on a real server.

Over 400 lines: one server and its roles serve every case.
"""

import contextvars
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio

from gateway.domain.errors import BadSettings, Unavailable
from gateway.domain.ids import TenantId
from gateway.store.embedded.embedded import as_login
from gateway.store.postgres import asyncio_thread, pool
from gateway.store.postgres.errors import BadData, Busy, Conflict, NotMigrated, QueryFailed, UnsafeRole
from gateway.store.postgres.pool import Connection, Database, OwnConnection, Session, open_database, open_session
from gateway.store.postgres.roles import select_login
from tests.store.database import Postgres, other_database

A, B, NOBODY = TenantId("0367"), TenantId("0368"), TenantId("")


async def run_sql(conn: Connection | OwnConnection, *statements: str) -> None:
    for statement in statements:
        await conn.execute(statement)


async def value_of(conn: Connection | OwnConnection, query: str, *args: object) -> object:
    return await conn.fetchval(query, *args)


async def add_tenant(conn: Connection, tenant: TenantId) -> None:
    await conn.execute(
        "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, $1, 'UTC', 'RU', 'ru', '')",
        tenant,
    )


async def add_phone(conn: Connection, tenant: TenantId, number: str) -> None:
    await conn.execute("INSERT INTO phones (tenant_id, number) VALUES ($1, $2)", tenant, number)


@pytest.fixture
async def tenants(db: Database) -> Database:
    """Two tenants, one phone each."""
    for tenant in (A, B):
        await db.engine(add_tenant, tenant)
        await db.tenant(tenant, add_phone, tenant, "101")
    return db


@pytest.fixture
async def admin(dsn: str) -> AsyncIterator[Session]:
    """The superuser in the same database."""
    async with open_session(dsn) as session:
        yield session


COUNT = "SELECT count(*) FROM phones"


async def test_a_tenant_sees_its_own_rows_and_the_engine_all(tenants: Database) -> None:
    for tenant in (A, B):
        assert await tenants.tenant(tenant, value_of, "SELECT string_agg(tenant_id, ' ') FROM phones") == tenant
    assert await tenants.engine(value_of, COUNT) == 2


async def test_a_tenant_cannot_write_for_another(tenants: Database) -> None:
    with pytest.raises(QueryFailed, match="row-level security"):
        await tenants.tenant(A, add_phone, B, "102")
    assert await tenants.engine(value_of, COUNT) == 2


async def test_without_a_tenant_nothing_is_seen(tenants: Database, admin: Session) -> None:
    await admin.run(run_sql, "SET ROLE gateway_app")
    assert await admin.run(value_of, COUNT) == 0  # a fresh session
    await admin.run(run_sql, "BEGIN", "SELECT set_config('app.tenant', '0367', true)")
    assert await admin.run(value_of, COUNT) == 1
    await admin.run(run_sql, "COMMIT")
    assert await admin.run(value_of, COUNT) == 0  # a used one: the setting is '' now, not NULL
    for _ in range(8):  # pooled ones
        assert await tenants.tenant(A, value_of, COUNT) == 1
        assert await tenants.tenant(NOBODY, value_of, COUNT) == 0


async def test_keys_and_sessions_are_the_engines_alone(tenants: Database) -> None:
    for query in ("SELECT data_key FROM tenants", "SELECT token_hash FROM sessions", "SELECT password_hash FROM users"):
        with pytest.raises(QueryFailed, match="permission denied"):
            await tenants.tenant(A, value_of, query)


async def test_the_roles(db: Database) -> None:
    query = "SELECT current_user::text || ' ' || session_user::text"
    assert await db.tenant(A, value_of, query) == "gateway_app gateway_login"
    assert await db.engine(value_of, query) == "gateway_engine gateway_login"
    # Whatever a borrower did to its session, the next transaction works in the tenant's role.
    await db.tenant(A, run_sql, "RESET ROLE")
    for _ in range(4):
        assert await db.tenant(A, value_of, query) == "gateway_app gateway_login"


async def test_a_failed_unit_of_work_leaves_nothing(tenants: Database) -> None:
    async def fail(conn: Connection) -> None:
        await add_phone(conn, A, "105")
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        await tenants.tenant(A, fail)
    assert await tenants.engine(value_of, COUNT) == 2


async def test_the_engine_commits_each_statement_and_opens_transactions_itself(tenants: Database) -> None:
    async def fail(conn: Connection, together: bool) -> None:
        if together:
            async with conn.transaction():
                await add_phone(conn, A, "106")
                raise KeyError
        await add_phone(conn, A, "107")
        raise KeyError

    for together in (True, False):
        with pytest.raises(KeyError):
            await tenants.engine(fail, together)
    assert await tenants.engine(value_of, "SELECT string_agg(number, ' ' ORDER BY number) FROM phones") == "101 101 107"


async def test_a_savepoint_inside_a_tenants_transaction(tenants: Database) -> None:
    async def work(conn: Connection) -> None:
        await add_phone(conn, A, "108")
        with pytest.raises(ZeroDivisionError):
            async with conn.transaction():
                await add_phone(conn, A, "109")
                raise ZeroDivisionError

    await tenants.tenant(A, work)
    assert await tenants.tenant(A, value_of, "SELECT string_agg(number, ' ' ORDER BY number) FROM phones") == "101 108"


async def test_errors_say_no_value(tenants: Database) -> None:
    with pytest.raises(Conflict) as conflict:
        await tenants.tenant(A, add_phone, A, "101")
    assert conflict.value.constraint == "phones_pkey"
    with pytest.raises(BadData) as checked:
        await tenants.tenant(A, add_phone, A, "hunter2")
    assert checked.value.constraint == "phones_number_check"
    with pytest.raises(BadData) as cast:
        await tenants.tenant(A, value_of, "SELECT 'hunter2'::text::int")
    with pytest.raises(BadData) as argument:
        await tenants.tenant(A, value_of, "SELECT $1::int", "hunter2")
    with pytest.raises(QueryFailed) as bug:
        await tenants.tenant(A, value_of, "SELECT 1 FROM nowhere WHERE x = 'hunter2'")
    assert bug.value.code == "42P01"
    for caught in (conflict, checked, cast, argument, bug):
        text = f"{caught.value!r} {caught.value} {caught.value.person} {caught.value.detail}"
        assert "hunter2" not in text
        assert "101" not in text
        # The driver's own error, whose text has the DETAIL, does not hang on.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


async def test_a_lock_held_elsewhere_is_busy(tenants: Database, admin: Session) -> None:
    await admin.run(run_sql, "BEGIN", "LOCK TABLE phones")
    with pytest.raises(Busy) as caught:
        await tenants.tenant(A, run_sql, "SET LOCAL lock_timeout = '50ms'", "SELECT count(*) FROM phones")
    assert caught.value.certain
    await admin.run(run_sql, "ROLLBACK")


async def test_limits_of_a_statement(db: Database) -> None:
    for setting, expected in (("statement_timeout", "15s"), ("lock_timeout", "2s"), ("application_name", "gateway")):
        assert await db.tenant(A, value_of, "SELECT current_setting($1)", setting) == expected
    with pytest.raises(Unavailable) as caught:
        await db.engine(run_sql, "SET statement_timeout = '30ms'", "SELECT pg_sleep(5)")
    assert caught.value.certain


async def test_a_killed_backend_is_unavailable_and_the_next_call_works(tenants: Database) -> None:
    with pytest.raises(Unavailable) as lost:
        await tenants.tenant(A, _kill_own)
    assert lost.value.certain  # nothing of a transaction that never saw its COMMIT remains
    assert await tenants.tenant(A, value_of, COUNT) == 1
    with pytest.raises(Unavailable) as maybe:
        await tenants.engine(_kill_own)
    assert not maybe.value.certain
    assert await tenants.engine(value_of, COUNT) == 2


async def _kill_own(conn: Connection) -> None:
    os.kill(conn.get_server_pid(), signal.SIGTERM)
    await conn.execute("SELECT pg_sleep(5)")


async def test_idle_backends_killed_behind_our_back(tenants: Database, admin: Session) -> None:
    kill = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE application_name = 'gateway' AND datname = current_database()"""
    for _ in range(5):
        await admin.run(value_of, kill)
        answers: list[object] = []
        for _ in range(3):
            try:
                answers.append(await tenants.tenant(A, value_of, COUNT))
            except Unavailable as error:  # the race for the first query
                answers.append(error.certain)
        assert answers[0] in (1, True)
        assert answers[1:] == [1, 1]


async def test_backends_killed_again_and_again_cost_no_place_in_the_pool(db: Database, admin: Session) -> None:
    """More often than there are places: idle ones, and ones that are in use."""

    async def short(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(0.02)")

    async def use() -> None:
        with suppress(Unavailable):
            await db.engine(short)

    kill = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE application_name = 'gateway' AND datname = current_database()"""
    with trio.fail_after(30):
        for in_use in (False, True) * 8:
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(use)
                if in_use:
                    await trio.sleep(0.01)
                    await admin.run(value_of, kill)
            if not in_use:
                await admin.run(value_of, kill)
                await trio.sleep(0.05)  # until our end has seen it
        await use()
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(db.engine, short)


async def test_a_backend_killed_in_its_commit_may_have_committed(tenants: Database, admin: Session) -> None:
    await admin.run(
        run_sql,
        """CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
           $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$""",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON phones DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()",
    )
    with pytest.raises(Unavailable) as caught:
        await tenants.tenant(A, add_phone, A, "110")
    assert not caught.value.certain
    assert await tenants.tenant(A, value_of, COUNT) == 1


async def test_cancellation_under_load_returns_every_connection(db: Database) -> None:
    chance = random.Random(7)

    async def one(turns: int) -> None:
        for _ in range(turns):
            with trio.move_on_after(chance.uniform(0, 0.012)):
                if chance.random() < 0.5:
                    await db.tenant(A, value_of, "SELECT pg_sleep(0.004)")
                else:
                    await db.engine(value_of, "SELECT pg_sleep(0.004)")

    async with trio.open_nursery() as nursery:
        for _ in range(24):
            nursery.start_soon(one, 10)
    together = 0

    async def meet(conn: Connection) -> None:
        nonlocal together
        together += 1
        while together < 8:
            await conn.execute("SELECT pg_sleep(0.01)")

    # All of both pools can be held at the same moment: nobody leaves before the last has come.
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(db.tenant, A, meet)
                nursery.start_soon(db.engine, meet)
    assert db.connections == {"app": 4, "engine": 4, "idle": 8}


async def test_a_cancelled_scope_starts_nothing(db: Database) -> None:
    called = False

    async def work(conn: Connection) -> None:
        nonlocal called
        called = True

    with trio.CancelScope() as scope:
        scope.cancel()
        await db.engine(work)
    assert scope.cancelled_caught
    assert not called


async def test_cancelling_while_waiting_for_a_connection(db: Database) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(db.tenant, A, value_of, "SELECT pg_sleep(5)")
        await trio.sleep(0.1)
        with trio.move_on_after(0.05) as scope:
            await db.tenant(A, value_of, "SELECT 1")
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    with trio.fail_after(2):
        assert await db.tenant(A, value_of, "SELECT 1") == 1


@pytest.mark.slow
async def test_cancelling_a_frozen_server_is_bounded(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_thread, "CANCEL_AGAIN_S", 0.2)
    monkeypatch.setattr(pool, "RELEASE_S", 0.2)
    stopped: list[int] = []

    async def freeze(conn: Connection) -> None:
        stopped.append(conn.get_server_pid())
        os.kill(stopped[0], signal.SIGSTOP)
        await conn.execute("SELECT 1")

    try:
        with trio.fail_after(3), trio.move_on_after(0.1) as scope:
            await db.tenant(A, freeze)
        assert scope.cancelled_caught
        with trio.fail_after(3):
            assert await db.tenant(A, value_of, "SELECT 1") == 1
    finally:
        os.kill(stopped[0], signal.SIGCONT)


async def test_a_context_variable_crosses(db: Database) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    tenant.set("0367")

    async def work(conn: Connection) -> str:
        return tenant.get()

    assert await db.engine(work) == "0367"


async def _plans(connection: OwnConnection | Connection) -> None:
    await connection.fetch("SELECT $1::text AS planned_once", "x")


async def _planned(connection: Connection) -> tuple[int, int]:
    """The connection's backend, and how often the statement was planned for whatever values."""
    row = await connection.fetchrow(
        "SELECT pg_backend_pid(), (SELECT generic_plans - custom_plans FROM pg_prepared_statements "
        "WHERE statement LIKE '%planned_once' AND statement NOT LIKE '%LIKE%')"
    )
    assert row is not None
    return int(row[0]), int(row[1] or 0)


async def test_kept_connections_have_their_plans_made_and_so_have_those_that_replace_them(
    db: Database, admin: Session
) -> None:
    await db.keep_warm(_plans, 3)
    assert db.connections == {"app": 0, "engine": 3, "idle": 3}
    backend, plans = await db.engine(_planned)
    assert plans > 0
    await admin.run(value_of, f"SELECT pg_terminate_backend({backend})")
    with suppress(Unavailable):
        await db.engine(_planned)
    with trio.fail_after(5):
        backends: set[int] = set()
        while len(backends) < 2:
            async with trio.open_nursery() as nursery:

                async def look() -> None:
                    another, plans = await db.engine(_planned)
                    assert plans > 0
                    backends.add(another)

                for _ in range(4):
                    nursery.start_soon(look)
    assert backend not in backends


async def test_ping_and_counters(db: Database) -> None:
    assert db.queries == 0
    await db.ping()
    before = db.queries
    for _ in range(10):
        await db.tenant(A, value_of, "SELECT 1")
    # BEGIN, the tenant, the query, COMMIT. They are counted a moment later, and a connection that the pool opens meanwhile
    # asks something of its own.
    with trio.fail_after(10):
        while db.queries - before < 40:
            await trio.sleep(0.01)
    await trio.sleep(0.05)
    assert db.queries - before < 50
    connections = db.connections
    assert connections["app"] >= 1
    assert connections["engine"] >= 1
    assert connections["idle"] == connections["app"] + connections["engine"]


async def test_after_the_end(dsn: str) -> None:
    async with open_database(as_login(dsn)) as database:
        await database.ping()
    with pytest.raises(Unavailable):
        await database.ping()


async def test_an_address_nobody_answers_at(dsn: str) -> None:
    async with open_database("postgresql://gateway:hunter2@/x?host=%2Fnonexistent") as database:
        with pytest.raises(Unavailable) as caught:
            await database.ping()
    assert caught.value.certain
    with pytest.raises(Unavailable):
        async with open_database(as_login(other_database(dsn, "missing").replace("test_", "no_"))) as database:
            await database.ping()
    with pytest.raises(BadSettings) as bad:
        async with open_database("postgresql://gateway:hunter2@host:port:/") as database:
            await database.ping()
    for error in (caught.value, bad.value):
        assert "hunter2" not in f"{error!r} {error.person} {error.__context__!r}"


async def test_a_database_without_our_tables_still_has_the_clusters_roles(empty_dsn: str) -> None:
    async with open_database(as_login(empty_dsn)) as database:
        await database.ping()


@pytest.fixture
def altered(postgres: Postgres) -> Iterator[Postgres]:
    """The roles are the cluster's: put back what a test changes."""
    yield postgres
    for role in ("gateway_app", "gateway_engine"):
        postgres.execute(f"ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS")


@pytest.mark.parametrize("role", ["gateway_app", "gateway_engine"])
@pytest.mark.parametrize("power", ["SUPERUSER", "BYPASSRLS"])
async def test_refuses_a_role_above_the_policies(
    altered: Postgres, dsn: str, admin: Session, role: str, power: str
) -> None:
    await admin.run(run_sql, f"ALTER ROLE {role} {power}")
    async with open_database(as_login(dsn)) as database:
        with pytest.raises(UnsafeRole, match=role):
            await database.ping()


async def test_refuses_an_owner(dsn: str, admin: Session) -> None:
    await admin.run(run_sql, "GRANT CREATE ON SCHEMA public TO gateway_app", "ALTER TABLE phones OWNER TO gateway_app")
    async with open_database(as_login(dsn)) as database:
        with pytest.raises(UnsafeRole, match="owner"):
            await database.ping()


async def test_missing_roles_ask_for_migrate(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "APP", "gateway_absent")
    async with open_database(as_login(dsn)) as database:
        with pytest.raises(NotMigrated, match="gateway_absent"):
            await database.ping()


# The user who logs in: RESET ROLE leads there


async def test_reset_role_leads_to_a_plain_login(db: Database) -> None:
    """Whoever gets a statement in is a user who owns nothing, reads nothing and runs no program."""

    async def in_tenant(work: Any, *statements: str) -> None:
        await db.tenant(A, work, *statements)

    for borrow in (in_tenant, db.engine):
        for statement in (
            "COPY (SELECT 1) TO PROGRAM 'true'", "SELECT pg_read_file('PG_VERSION')", "SELECT count(*) FROM tenants",
            "ALTER TABLE phones DISABLE ROW LEVEL SECURITY", "CREATE ROLE another", "CREATE TABLE mine (x int)",
        ):  # fmt: skip
            with pytest.raises(QueryFailed, match=r"permission denied|must be"):
                await borrow(run_sql, "RESET ROLE", statement)
    login = await db.engine(select_login)
    assert (login.name, login.owner, login.makes_any_role, login.problem) == ("gateway_login", False, False, "")


@pytest.fixture
def altered_login(postgres: Postgres) -> Iterator[Postgres]:
    yield postgres
    postgres.execute("ALTER ROLE gateway_login NOSUPERUSER NOBYPASSRLS")
    postgres.execute("REVOKE pg_execute_server_program, pg_read_server_files FROM gateway_login")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER ROLE gateway_login SUPERUSER",
        "ALTER ROLE gateway_login BYPASSRLS",
        "GRANT pg_execute_server_program TO gateway_login",
        "GRANT pg_read_server_files TO gateway_login",
    ],
)
async def test_refuses_a_login_above_the_roles(altered_login: Postgres, dsn: str, admin: Session, change: str) -> None:
    await admin.run(run_sql, change)
    async with open_database(as_login(dsn)) as database:
        with pytest.raises(UnsafeRole, match="the login gateway_login") as refused:
            await database.ping()
    assert "RESET ROLE" in refused.value.person


async def test_refuses_the_owner_who_is_a_superuser(dsn: str) -> None:
    async with open_database(dsn) as database:
        with pytest.raises(UnsafeRole, match="the login gateway is"):
            await database.ping()


async def test_a_login_who_owns_the_tables_is_named(dsn: str, admin: Session) -> None:
    """As with a DATABASE_URL alone, without GATEWAY_DATABASE_OWNER_URL."""
    await admin.run(
        run_sql, "GRANT CREATE ON SCHEMA public TO gateway_login", "ALTER TABLE phones OWNER TO gateway_login"
    )
    async with open_database(as_login(dsn)) as database:
        login = await database.engine(select_login)
    assert (login.owner, "owns the tables" in login.problem) == (True, True)
