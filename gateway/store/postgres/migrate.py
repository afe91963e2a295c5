"""The schema: numbered files `migrations/NNNN_name.sql`, forward only, each applied once in a transaction of its own.

Owns the table schema_migrations and the roles gateway_app and gateway_engine. Works as the owner of the
tables on a short connection of its own; the gateway itself logs in as another user, where there is one, and works in the
two roles alone. Never goes back and never repairs:
a newer schema or a changed file is refused. Read the SQL in `migrations/` next.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import trio

from gateway.store.postgres.errors import (
    Busy,
    ChangedMigration,
    Conflict,
    NotMigrated,
    OldGatewayRuns,
    QueryFailed,
    StoreError,
    TooNew,
    UnsafeRole,
)
from gateway.store.postgres.pool import OwnConnection, Session, open_session
from gateway.store.postgres.roles import APP, ENGINE

LOCK_KEY = 0x67_61_74_65_77_61_79  # "gateway"
LOCK_WAIT_S = 60.0
LOCK_POLL_S = 0.2
BUSY_TRIES = 15
"""How often a file is tried that could not get its locks within the session's lock_timeout: waiting longer would
hold up everyone behind it."""
BUSY_PAUSE_S = 1.0
GRANT_TRIES = 5
ALONE = "-- needs: no gateway of an older version"
"""Stands in a file after which code from before it would write what is not there any more."""
STOPPED_S = 15.0
"""A gateway that was not seen for so long does not run: it notes that it lives every second or two."""
STOP_WAIT_S = 20.0
"""How long the end of others is waited for: one that was killed has left its note behind."""

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


def read_migrations(directory: Traversable | None = None) -> list[Migration]:
    """The files in order. Raises ValueError for a name or number that is out of line: our own mistake."""
    found = []
    for file in (directory or files("migrations")).iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise ValueError(f"a migration is called NNNN_name.sql, not {file.name}")
        content = file.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        found.append(Migration(int(match[1]), match[2], content.decode("utf-8"), checksum))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are numbered 0001, 0002, ... without gaps")
    return found


async def migrate(
    dsn: str, directory: Traversable | None = None, *, login: str | None = None, make_login: bool = False
) -> list[str]:
    """Brings the schema up to date; the names of what was applied. Several at the same time wait for each other.

    `login` is the user whom the pools log in as, where it is another one: it may enter both roles from then on, and owns
    nothing. `make_login`, on the embedded server, makes it, without a password.
    """
    known = read_migrations(directory)
    async with open_session(dsn) as session:
        for role in (APP, ENGINE):
            await _make_role(session, role)
        if login is not None:
            await _let_in(session, login, make_login=make_login)
        await _lock(session)
        await session.run(_create_table)
        pending = _pending(known, await session.run(_select_applied))
        if any(ALONE in migration.sql for migration in pending):
            await _wait_alone(session)
        for migration in pending:
            await _apply(session, migration)
            log.info("migration %s applied", migration)
    return [str(migration) for migration in pending]


async def check_schema(dsn: str, directory: Traversable | None = None) -> None:
    """Raises NotMigrated, TooNew or ChangedMigration unless the schema is exactly the code's."""
    known = read_migrations(directory)
    async with open_session(dsn, application_name="gateway check") as session:
        pending = _pending(known, await session.run(_select_applied))
    if pending:
        raise NotMigrated(f"{len(pending)} migrations are missing, the first is {pending[0]}")


async def schema_version(dsn: str) -> int:
    """The number of the last migration applied, 0 for an empty database."""
    async with open_session(dsn, application_name="gateway check") as session:
        applied = await session.run(_select_applied)
    return max((version for version, _ in applied), default=0)


def _pending(known: Sequence[Migration], applied: Sequence[tuple[int, str]]) -> list[Migration]:
    checksums = {migration.version: migration for migration in known}
    for version, checksum in applied:
        migration = checksums.get(version)
        if migration is None:
            raise TooNew(f"the schema has version {version}, the code knows {len(known)}")
        if migration.checksum != checksum:
            raise ChangedMigration(f"migration {migration} is not the one that was applied")
    return list(known[len(applied) :])


async def _lock(session: Session) -> None:
    with trio.move_on_after(LOCK_WAIT_S):
        while True:
            if await session.run(_try_lock):
                return
            await trio.sleep(LOCK_POLL_S)
    raise Busy(f"another migration has been running for {LOCK_WAIT_S:.0f} s")


async def _wait_alone(session: Session) -> None:
    with trio.move_on_after(STOP_WAIT_S):
        while True:
            if not await session.run(_running_instances):
                return
            await trio.sleep(LOCK_POLL_S)
    running = ", ".join(await session.run(_running_instances))
    raise OldGatewayRuns(f"instances {running} run", person=f"A gateway of an older version still runs on this database ({running}). "
                         "Stop it first: this version changes tables that it writes to. Nothing was changed.")  # fmt: skip


async def _apply(session: Session, migration: Migration) -> None:
    for left in reversed(range(BUSY_TRIES)):
        try:
            await session.run(_run_file, migration)
        except Busy:
            if not left:
                raise
            await trio.sleep(BUSY_PAUSE_S)
        except StoreError as error:
            person = f"Migration {migration} failed and changed nothing: {error.detail}"
            raise QueryFailed(f"{migration}: {error.detail}", person=person) from None
        else:
            return


async def _make_role(session: Session, role: str) -> None:
    """Roles belong to the cluster: another database's gateway may have made this one, or be about to."""
    try:
        await session.run(_create_role, role)
    except QueryFailed as error:
        if error.code != "42501":
            raise
        raise NotMigrated(
            error.detail,
            person=f"The database user may not make or enter the role {role}. As a superuser: "
            f"CREATE ROLE {role} NOLOGIN; GRANT {role} TO the user in GATEWAY_DATABASE_URL.",
        ) from None
    if not await session.run(_role_is_safe, role):
        raise UnsafeRole(f"{role} is a superuser, bypasses row-level security or can log in")


async def _let_in(session: Session, login: str, *, make_login: bool) -> None:
    """Lets the pools' user enter the roles. Of several instances at once each may be the one that does it."""
    for left in reversed(range(GRANT_TRIES)):
        if make_login:
            await session.run(_create_login, login)
        if await session.run(_may_enter, login):
            return
        try:
            await session.run(_grant_roles, login)
        except (QueryFailed, Conflict) as error:
            if left and getattr(error, "code", "") not in ("42501", "42704"):
                await trio.sleep(0.05)  # "tuple concurrently updated"
                continue
            raise NotMigrated(
                error.detail,
                person=f"The user {login} in GATEWAY_DATABASE_URL may not enter the roles. As a superuser: "
                f"GRANT {APP}, {ENGINE} TO {login}.",
            ) from None


# On the loop's thread


async def _create_role(conn: OwnConnection, role: str) -> None:
    await conn.execute(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)
    # Since PostgreSQL 16 membership alone does not mean that the role can be entered.
    privilege = "SET" if conn.get_server_version().major >= 16 else "MEMBER"
    await conn.execute(f"""
        DO $$ BEGIN
            FOR attempt IN 1..5 LOOP
                EXIT WHEN pg_has_role(current_user, '{role}', '{privilege}');
                BEGIN
                    GRANT {role} TO CURRENT_USER;
                EXCEPTION WHEN internal_error OR unique_violation THEN  -- "tuple concurrently updated"
                    PERFORM pg_sleep(0.05);
                END;
            END LOOP;
        END $$
    """)


async def _create_login(conn: OwnConnection, login: str) -> None:
    await conn.execute(f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN
                CREATE ROLE {login} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$
    """)


async def _may_enter(conn: OwnConnection, login: str) -> bool | None:
    """None where there is no such user."""
    query = "SELECT pg_has_role(oid, $2, 'MEMBER') AND pg_has_role(oid, $3, 'MEMBER') FROM pg_roles WHERE rolname = $1"
    found: bool | None = await conn.fetchval(query, login, APP, ENGINE)
    return found


async def _grant_roles(conn: OwnConnection, login: str) -> None:
    quoted: str = await conn.fetchval("SELECT quote_ident($1)", login)
    await conn.execute(f"GRANT {APP}, {ENGINE} TO {quoted}")


async def _role_is_safe(conn: OwnConnection, role: str) -> bool:
    query = "SELECT NOT (rolsuper OR rolbypassrls OR rolcanlogin) FROM pg_roles WHERE rolname = $1"
    return bool(await conn.fetchval(query, role))


async def _try_lock(conn: OwnConnection) -> bool:
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY))


async def _running_instances(conn: OwnConnection) -> list[str]:
    if await conn.fetchval("SELECT to_regclass('instances')") is None:
        return []
    query = "SELECT instance FROM instances WHERE seen_at > clock_timestamp() - make_interval(secs => $1) ORDER BY 1"
    return [str(row[0]) for row in await conn.fetch(query, STOPPED_S)]


async def _create_table(conn: OwnConnection) -> None:
    await conn.execute("""
        CREATE TABLE IF NOT EXISTS schema_migrations (
            version     integer PRIMARY KEY,
            name        text NOT NULL,
            checksum    text NOT NULL,
            applied_at  timestamptz NOT NULL DEFAULT now()
        )
    """)


async def _select_applied(conn: OwnConnection) -> list[tuple[int, str]]:
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return []
    rows = await conn.fetch("SELECT version, checksum FROM schema_migrations ORDER BY version")
    return [(row["version"], row["checksum"]) for row in rows]


async def _run_file(conn: OwnConnection, migration: Migration) -> None:
    async with conn.transaction():
        await conn.execute(migration.sql)
        await conn.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
