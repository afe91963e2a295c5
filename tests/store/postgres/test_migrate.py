"""The migration runner: once each, in order, never backwards, alone. Long, because each change of data has a case here."""

from functools import partial
from pathlib import Path

import pytest
import trio

from gateway.store.postgres import migrate as runner
from gateway.store.postgres.errors import (
    Busy,
    ChangedMigration,
    NotMigrated,
    OldGatewayRuns,
    QueryFailed,
    TooNew,
    UnsafeRole,
)
from gateway.store.postgres.migrate import check_schema, migrate, read_migrations, schema_version
from gateway.store.postgres.pool import OwnConnection, open_session
from tests.store.database import Postgres


async def value_of(conn: OwnConnection, query: str) -> object:
    return await conn.fetchval(query)


async def run_sql(conn: OwnConnection, query: str) -> None:
    await conn.execute(query)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two small migrations."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE a (x int); CREATE TABLE b (x int);")
    (tmp_path / "0002_second.sql").write_text("INSERT INTO a VALUES (1);")
    (tmp_path / "README").write_text("not a migration")
    return tmp_path


async def test_each_file_is_applied_once(empty_dsn: str, files: Path) -> None:
    assert await schema_version(empty_dsn) == 0
    with pytest.raises(NotMigrated, match="2 migrations"):
        await check_schema(empty_dsn, files)
    assert await migrate(empty_dsn, files) == ["0001_first", "0002_second"]
    assert await migrate(empty_dsn, files) == []
    (files / "0003_third.sql").write_text("INSERT INTO a SELECT x + 1 FROM a")
    assert await migrate(empty_dsn, files) == ["0003_third"]
    assert await schema_version(empty_dsn) == 3
    await check_schema(empty_dsn, files)
    async with open_session(empty_dsn) as session:
        assert await session.run(value_of, "SELECT array_agg(x) FROM a") == [1, 2]


async def test_a_newer_schema_is_refused(empty_dsn: str, files: Path) -> None:
    await migrate(empty_dsn, files)
    (files / "0002_second.sql").unlink()
    for refused in (migrate, check_schema):
        with pytest.raises(TooNew, match="version 2"):
            await refused(empty_dsn, files)


async def test_a_changed_file_is_refused(empty_dsn: str, files: Path) -> None:
    await migrate(empty_dsn, files)
    (files / "0001_first.sql").write_text("CREATE TABLE c (x int);")
    (files / "0003_third.sql").write_text("CREATE TABLE d (x int);")
    with pytest.raises(ChangedMigration, match="0001_first"):
        await migrate(empty_dsn, files)
    assert await schema_version(empty_dsn) == 2


async def test_a_failing_file_changes_nothing(empty_dsn: str, files: Path) -> None:
    (files / "0003_third.sql").write_text("CREATE TABLE c (x int); SELECT 1 FROM nowhere;")
    with pytest.raises(QueryFailed, match="0003_third") as caught:
        await migrate(empty_dsn, files)
    assert "changed nothing" in caught.value.person
    assert await schema_version(empty_dsn) == 2
    async with open_session(empty_dsn) as session:
        assert await session.run(value_of, "SELECT to_regclass('c')") is None


async def test_several_at_once_apply_each_file_once(empty_dsn: str, files: Path) -> None:
    applied: list[str] = []

    async def one() -> None:
        applied.extend(await migrate(empty_dsn, files))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert sorted(applied) == ["0001_first", "0002_second"]


async def test_a_migration_elsewhere_that_does_not_end(
    empty_dsn: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOCK_WAIT_S", 0.3)
    async with open_session(empty_dsn) as session:
        await session.run(value_of, f"SELECT pg_advisory_lock({runner.LOCK_KEY})")
        with pytest.raises(Busy):
            await migrate(empty_dsn, files)


@pytest.mark.slow
async def test_a_busy_table_is_tried_again(empty_dsn: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "BUSY_PAUSE_S", 0.05)
    await migrate(empty_dsn, files)
    (files / "0003_third.sql").write_text("SET LOCAL lock_timeout = '50ms'; ALTER TABLE a ADD y int;")
    async with open_session(empty_dsn) as session, trio.open_nursery() as nursery:
        await session.run(run_sql, "BEGIN; LOCK TABLE a")
        nursery.start_soon(migrate, empty_dsn, files)
        await trio.sleep(0.3)
        await session.run(run_sql, "ROLLBACK")
    assert await schema_version(empty_dsn) == 3


@pytest.mark.parametrize("name", ["0001_again.sql", "0004_gap.sql", "3_short.sql", "later.sql"])
def test_names_and_numbers_out_of_line(files: Path, name: str) -> None:
    (files / name).write_text("")
    with pytest.raises(ValueError, match="migration"):
        read_migrations(files)


async def test_the_real_files(dsn: str) -> None:
    known = read_migrations()
    assert known
    assert await migrate(dsn) == []
    assert await schema_version(dsn) == known[-1].version
    await check_schema(dsn)


async def test_roles_of_the_cluster(postgres: Postgres, empty_dsn: str, files: Path) -> None:
    await migrate(empty_dsn, files)
    async with open_session(empty_dsn) as session:
        query = """SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles
                   WHERE rolname LIKE 'gateway\\_%' AND NOT (rolsuper OR rolbypassrls OR rolcanlogin)"""
        assert await session.run(value_of, query) == "gateway_app gateway_engine"
        await session.run(run_sql, "ALTER ROLE gateway_app LOGIN")
        try:
            with pytest.raises(UnsafeRole, match="gateway_app"):
                await migrate(empty_dsn, files)
        finally:
            await session.run(run_sql, "ALTER ROLE gateway_app NOLOGIN")


@pytest.mark.parametrize("may_create", [True, False])
async def test_an_owner_who_is_no_superuser(
    empty_dsn: str, files: Path, monkeypatch: pytest.MonkeyPatch, may_create: bool
) -> None:
    """As on a real server: a plain user makes and enters the roles, or is told what a superuser has to do."""
    app = f"test_app_{may_create}".lower()
    monkeypatch.setattr(runner, "APP", app)
    monkeypatch.setattr(runner, "ENGINE", app)
    power = "CREATEROLE" if may_create else "NOCREATEROLE"
    async with open_session(empty_dsn) as session:
        await session.run(run_sql, f"CREATE ROLE plain {power}; GRANT CREATE ON SCHEMA public TO plain")
        try:
            await session.run(run_sql, "SET SESSION AUTHORIZATION plain")
            if may_create:
                for _ in range(2):
                    await runner._make_role(session, app)
                await session.run(run_sql, f"SET ROLE {app}")
            else:
                with pytest.raises(NotMigrated) as caught:
                    await runner._make_role(session, app)
                assert f"CREATE ROLE {app} NOLOGIN" in caught.value.person
        finally:
            await session.run(run_sql, "RESET SESSION AUTHORIZATION; DROP OWNED BY plain")
            await session.run(run_sql, f"DROP ROLE IF EXISTS {app}; DROP ROLE plain")


async def test_two_databases_of_one_cluster_make_the_roles_at_once(
    postgres: Postgres, dsn: str, empty_dsn: str
) -> None:
    role = "test_raced"
    for _ in range(5):
        async with open_session(dsn) as one, open_session(empty_dsn) as other:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run, runner._create_role, role)
                nursery.start_soon(other.run, runner._create_role, role)
            await one.run(run_sql, f"DROP ROLE {role}")


async def test_the_owner_lets_the_pools_user_in(empty_dsn: str, files: Path) -> None:
    """Of a database of one's own: the login was made by a person, the roles by `migrate`; repeated and at once it does no harm."""
    async with open_session(empty_dsn) as session:
        await session.run(run_sql, "CREATE ROLE test_pools LOGIN")
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(partial(migrate, empty_dsn, files, login="test_pools"))
            query = "SELECT pg_has_role('test_pools', 'gateway_app', 'MEMBER') AND NOT rolsuper FROM pg_roles WHERE rolname = 'test_pools'"
            assert await session.run(value_of, query)
            with pytest.raises(NotMigrated) as caught:
                await migrate(empty_dsn, files, login="nobody_here")
            assert "GRANT gateway_app, gateway_engine TO nobody_here" in caught.value.person
        finally:
            await session.run(run_sql, "DROP ROLE test_pools")


async def test_a_folder_of_before_gets_its_login(empty_dsn: str, files: Path) -> None:
    """The embedded server's: made once, whatever there was."""
    for _ in range(2):
        await migrate(empty_dsn, files, login="test_login", make_login=True)
    async with open_session(empty_dsn) as session:
        query = "SELECT rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolinherit) FROM pg_roles WHERE rolname = 'test_login'"
        assert await session.run(value_of, query)
        await session.run(run_sql, "DROP ROLE test_login")


BEFORE = 9
"""The last version whose gateways write `deliveries.call_id`."""

ROWS = """
    INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key)
        VALUES ('0367', 'June', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:x'), ('0368', 'May', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:y');
    INSERT INTO integrations (tenant_id, integration_type, settings) VALUES
        ('0367', 'retailcrm', '{"domain": "https://a"}'), ('0367', 'telegram', '{}'), ('0368', 'telegram', '{}');
    INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, call_id, body, state, keep_until) VALUES
        ('0367', 'retailcrm', '1.1', '1.1:in', 'call_event', '1.1', '{}', 'pending', now() + interval '1 day'),
        ('0368', 'telegram', '2.2:5', '2.2:card', 'card', '2.2', '{}', 'done', now());
    INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data, status, call_id)
        VALUES ('0367', 'retailcrm', 'call_event', 'a', 'b', 'done', '1.1'), ('0367', 'retailcrm', 'status', 'a', 'b', 'done', NULL);
    INSERT INTO journal (tenant_id, address, unique_id, digest, body) VALUES ('0367', 'dial', '1.1', 'x', '{}');
"""


def of_version(folder: Path, last: int) -> Path:
    """The real migrations up to one."""
    folder.mkdir(exist_ok=True)
    for migration in read_migrations():
        if migration.version <= last:
            (folder / f"{migration}.sql").write_text(migration.sql, "utf-8")
    return folder


@pytest.fixture
async def before_keys(empty_dsn: str, tmp_path: Path) -> str:
    """A database of the version before keys and subjects, with rows in it."""
    await migrate(empty_dsn, of_version(tmp_path / "old", BEFORE))
    async with open_session(empty_dsn) as session:
        # The owner is walled in too, until a policy lets it: rows are written as the engine writes them.
        await session.run(run_sql, "SET ROLE gateway_engine")
        await session.run(run_sql, ROWS)
    return empty_dsn


async def test_what_was_stored_before_keys_and_subjects_is_as_it_was(before_keys: str) -> None:
    assert len(await migrate(before_keys)) == len(read_migrations()) - BEFORE

    async def stored(conn: OwnConnection) -> list[list[object]]:
        await conn.execute("SET ROLE gateway_engine")
        queries = (
            "SELECT tenant_id, integration_type FROM integrations ORDER BY 1, 2",
            "SELECT integration_type, lane, subject_kind, subject_id, state FROM deliveries ORDER BY delivery_id",
            "SELECT event_type, subject_kind, subject_id FROM integration_logs ORDER BY log_id",
            "SELECT stream, unique_id FROM journal",
        )
        return [[tuple(row) for row in await conn.fetch(query)] for query in queries]

    async with open_session(before_keys) as session:
        assert await session.run(stored) == [
            [("0367", "retailcrm"), ("0367", "telegram"), ("0368", "telegram")],
            [("retailcrm", "1.1", "call", "1.1", "pending"), ("telegram", "2.2:5", "call", "2.2", "done")],
            [("call_event", "call", "1.1"), ("status", "call", None)],
            [("calls", "1.1")],
        ]


async def test_while_an_older_gateway_runs_nothing_is_changed(
    before_keys: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "STOP_WAIT_S", 0.3)
    note = "SET ROLE gateway_engine; INSERT INTO instances (instance) VALUES ('old-one')"
    async with open_session(before_keys) as session:
        await session.run(run_sql, note)
    with pytest.raises(OldGatewayRuns) as refused:
        await migrate(before_keys)
    assert "old-one" in refused.value.person
    assert await schema_version(before_keys) == BEFORE
    async with open_session(before_keys) as session:
        await session.run(run_sql, "SET ROLE gateway_engine; DELETE FROM instances")
    assert await migrate(before_keys)
    # And the other way round: older code refuses the newer schema.
    with pytest.raises(TooNew):
        await check_schema(before_keys, of_version(tmp_path / "old", BEFORE))


BEFORE_MAP = 15
"""The last version whose gateways look for the map of internal numbers in settings."""

MAPS = """
    INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key)
        VALUES ('0367', 'June', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:x'), ('0368', 'May', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:y');
    INSERT INTO integrations (tenant_id, integration_type, settings) VALUES
        ('0367', 'retailcrm', '{"domain": "https://a", "user_extensions": {"19": "150", "22": null, "23": "", "24": 152}}'),
        ('0367', 'retailcrm:shop', '{"user_extensions": {}}'), ('0367', 'telegram', '{"bot": 1}'),
        ('0368', 'retailcrm', '{"user_extensions": {"anna-k": "150"}}'), ('0368', 'retailcrm:odd', '{"user_extensions": 7}');
    INSERT INTO modules (tenant_id, integration_type, state, version, told_version) VALUES ('0367', 'retailcrm', 'active', 3, 3);
"""


async def test_the_map_moves_out_of_settings_and_nobody_is_told(empty_dsn: str, tmp_path: Path) -> None:
    await migrate(empty_dsn, of_version(tmp_path / "old", BEFORE_MAP))
    async with open_session(empty_dsn) as session:
        await session.run(run_sql, "SET ROLE gateway_engine")
        await session.run(run_sql, MAPS)
    assert await migrate(empty_dsn)

    async def stored(conn: OwnConnection) -> list[list[object]]:
        await conn.execute("SET ROLE gateway_engine")
        queries = (
            "SELECT tenant_id, integration_type, user_id, extension FROM user_extensions ORDER BY 1, 2, 3",
            "SELECT integration_type, settings::text FROM integrations WHERE tenant_id = '0367' ORDER BY 1",
            "SELECT version, told_version FROM modules",
        )
        return [[tuple(row) for row in await conn.fetch(query)] for query in queries]

    async with open_session(empty_dsn) as session:
        maps, settings, modules = await session.run(stored)
    assert maps == [
        ("0367", "retailcrm", "19", "150"), ("0367", "retailcrm", "22", None), ("0367", "retailcrm", "23", None),
        ("0367", "retailcrm", "24", "152"), ("0368", "retailcrm", "anna-k", "150"),
    ]  # fmt: skip
    assert settings == [("retailcrm", '{"domain": "https://a"}'), ("retailcrm:shop", "{}"), ("telegram", '{"bot": 1}')]
    assert modules == [(3, 3)]


BEFORE_ROLES = 17
"""The last version whose people have no roles."""

PEOPLE = """
    INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key)
        VALUES ('0367', 'June', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:x'), ('0368', 'May', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:y');
    INSERT INTO users (tenant_id, email, password_hash, language) VALUES
        (NULL, 'op@gateway.example', 'h0', 'en'), (NULL, 'both@june.example', 'h1', NULL), ('0367', 'both@june.example', 'h2', 'ru'),
        ('0368', 'both@june.example', 'h3', NULL), ('0367', 'anna@june.example', 'h4', NULL);
    INSERT INTO sessions (tenant_id, token_hash, email, csrf, scope, registration) VALUES
        (NULL, 'a', 'op@gateway.example', 'c0', NULL, NULL), ('0367', 'b', 'anna@june.example', 'c1', NULL, NULL),
        ('0367', 'm', 'retailcrm', 'c2', 'retailcrm', 1);
    INSERT INTO login_links (tenant_id, token_hash, email, expires_at) VALUES ('0367', 'l', 'anna@june.example', now() + interval '1 hour');
"""


async def test_everybody_who_could_sign_in_still_can(empty_dsn: str, tmp_path: Path) -> None:
    await migrate(empty_dsn, of_version(tmp_path / "old", BEFORE_ROLES))
    async with open_session(empty_dsn) as session:
        await session.run(run_sql, "SET ROLE gateway_engine")
        await session.run(run_sql, PEOPLE)
    assert await migrate(empty_dsn)

    async def stored(conn: OwnConnection) -> list[list[object]]:
        await conn.execute("SET ROLE gateway_engine")
        queries = (
            "SELECT tenant_id, email, password_hash, language, role, name, phones FROM users ORDER BY password_hash",
            "SELECT tenant_id, token_hash, email, csrf, scope, acting_as FROM sessions ORDER BY csrf",
            "SELECT tenant_id, token_hash, email FROM login_links",
            "SELECT count(DISTINCT user_id) FROM users",
        )
        return [[tuple(row) for row in await conn.fetch(query)] for query in queries]

    async with open_session(empty_dsn) as session:
        people, sessions, links, ids = await session.run(stored)
    assert people == [
        (None, "op@gateway.example", "h0", "en", "operator", "", []), (None, "both@june.example", "h1", None, "operator", "", []),
        ("0367", "both@june.example", "h2", "ru", "admin", "", []), ("0368", "both@june.example", "h3", None, "admin", "", []),
        ("0367", "anna@june.example", "h4", None, "admin", "", []),
    ]  # fmt: skip
    assert sessions == [
        (None, b"a", "op@gateway.example", "c0", None, None), ("0367", b"b", "anna@june.example", "c1", None, None),
        ("0367", b"m", "retailcrm", "c2", "retailcrm", None),
    ]  # fmt: skip
    assert links == [("0367", b"l", "anna@june.example")]
    assert ids == [(5,)]


KEYS = """
    INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key)
        VALUES ('0367', 'June', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:x'), ('0368', 'May', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:y');
    INSERT INTO api_keys (tenant_id, key_hash, name, scopes, hint) VALUES
        ('0367', 'a', 'annas', '{read}', 'gw_live_a'), ('0367', 'b', 'replaced', '{read}', 'gw_live_b'),
        ('0367', 'c', 'command', '{read}', 'gw_live_c'), ('0367', 'd', 'by key', '{read}', 'gw_live_d'),
        ('0367', 'e', 'forgotten', '{read}', 'gw_live_e'), ('0368', 'f', 'of another', '{read}', 'gw_live_a');
    INSERT INTO audit (tenant_id, actor_kind, actor, action, target, detail) VALUES
        ('0367', 'person', 'anna@june.example', 'api_key.created', 'gw_live_a', 'read'),
        ('0367', 'person', 'anna@june.example', 'api_key.created', 'gw_live_0', 'read'),
        ('0367', 'operator', 'op@gateway.example', 'api_key.rotated', 'gw_live_0', 'gw_live_b'),
        ('0367', 'cli', 'cli', 'api_key.created', 'gw_live_c', 'read'),
        ('0367', 'key', 'gw_live_a', 'api_key.created', 'gw_live_d', 'read'),
        ('0367', 'person', 'eve@june.example', 'api_key.revoked', 'gw_live_e', '');
"""


async def test_keys_of_before_are_of_whom_the_audit_names(empty_dsn: str, tmp_path: Path) -> None:
    (owners,) = [one.version for one in read_migrations() if str(one).endswith("_owners_of_api_keys")]
    await migrate(empty_dsn, of_version(tmp_path / "old", owners - 1))
    async with open_session(empty_dsn) as session:
        await session.run(run_sql, "SET ROLE gateway_engine")
        await session.run(run_sql, KEYS)
    assert await migrate(empty_dsn)

    async def stored(conn: OwnConnection) -> list[tuple[object, ...]]:
        await conn.execute("SET ROLE gateway_engine")
        return [
            tuple(row) for row in await conn.fetch("SELECT name, owner_kind, owner FROM api_keys ORDER BY key_hash")
        ]

    async with open_session(empty_dsn) as session:
        assert await session.run(stored) == [
            ("annas", "person", "anna@june.example"), ("replaced", "operator", "op@gateway.example"), ("command", "cli", ""),
            ("by key", "", ""), ("forgotten", "", ""), ("of another", "", ""),
        ]  # fmt: skip
