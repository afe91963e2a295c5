"""What the database's own catalogue says about the walls between tenants, for every table there will ever be."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.store.postgres.pool import Database, OwnConnection, Session, open_session

# Without a tenant in front, each for a reason.
EXCEPTED_INDEXES = {
    "tenants_token",  # tokens are looked up before the tenant is known, and two tenants never share one
    "api_keys_hash",  # likewise
    "logins_transaction",  # a redirect comes back with its state alone
    "sessions_token",  # a session is a person's, who may belong to several companies
    "integrations_client_id",  # likewise
    "integrations_account",  # likewise
    "shards_pkey",
    "instances_pkey",
    "retired_master_keys_pkey",
    "integration_registry_pkey",
    "booking_slots_once",  # two bookings of one place: its number is one company's alone
}
EXCEPTED_TABLES = {
    "schema_migrations",  # the runner's own; neither role may touch it
    "shards", "instances",  # what instances share among themselves; of no tenant, and the engine's alone
    "integration_registry",  # what can be connected: the same for all tenants, and written by the engine alone
    "retired_master_keys",  # ids of the installation's keys; of no tenant, and the engine's alone
}  # fmt: skip


async def rows_of(conn: OwnConnection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await conn.fetch(query)]


@pytest.fixture
async def catalogue(dsn: str) -> AsyncIterator[Session]:
    """A session of the owner."""
    async with open_session(dsn) as session:
        yield session


TABLES = """
    SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
"""


async def test_every_table_has_a_tenant_and_forced_policies(catalogue: Session) -> None:
    tables = await catalogue.run(rows_of, TABLES)
    assert len(tables) > 10
    for name, enabled, forced, has_tenant in tables:
        if name not in EXCEPTED_TABLES:
            assert (has_tenant, enabled, forced) == (True, True, True), name


async def test_policies_have_both_sides_and_compare_the_tenant_once(catalogue: Session) -> None:
    names = {name for name, *_ in await catalogue.run(rows_of, TABLES)} - EXCEPTED_TABLES
    policies = await catalogue.run(
        rows_of, "SELECT tablename, roles::text[], permissive, cmd, qual, with_check FROM pg_policies"
    )
    equality = "(tenant_id = NULLIF(current_setting('app.tenant'::text, true), ''::text))"
    by_role: dict[str, set[object]] = {"gateway_app": set(), "gateway_engine": set()}
    for table, roles, permissive, command, using, check in policies:
        assert isinstance(roles, list)
        assert (len(roles), permissive, command) == (1, "PERMISSIVE", "ALL"), table
        expected = equality if roles == ["gateway_app"] else "true"
        assert (using, check) == (expected, expected), table
        by_role[roles[0]].add(table)
    assert by_role == {"gateway_app": names, "gateway_engine": names}


async def test_the_tenant_stands_first_in_every_index_and_unique_key(catalogue: Session) -> None:
    indexes = await catalogue.run(
        rows_of,
        """
        SELECT i.indexrelid::regclass::text, i.indisunique,
               (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0])
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE c.relnamespace = 'public'::regnamespace
        """,
    )
    for name, _, first in indexes:
        if name not in EXCEPTED_INDEXES and name != "schema_migrations_pkey":
            assert first == "tenant_id", name


async def test_foreign_keys_carry_the_tenant(catalogue: Session) -> None:
    keys = await catalogue.run(
        rows_of,
        """
        SELECT c.conname,
               (SELECT array_agg(a.attname::text) FROM pg_attribute a
                WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)),
               (SELECT array_agg(a.attname::text) FROM pg_attribute a
                WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey))
        FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace
        """,
    )
    for name, ours, theirs in keys:
        assert isinstance(ours, list)
        assert isinstance(theirs, list)
        assert "tenant_id" in ours, name
        assert "tenant_id" in theirs, name


async def test_no_way_round_the_policies(catalogue: Session) -> None:
    definers = await catalogue.run(
        rows_of, "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
    )
    assert definers == []
    views = await catalogue.run(
        rows_of,
        """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'm' OR relkind = 'v'
            AND NOT coalesce('security_invoker=true' = ANY (reloptions), false))
        """,
    )
    assert views == []
    owners = await catalogue.run(
        rows_of,
        """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
            AND pg_get_userbyid(relowner) IN ('gateway_app', 'gateway_engine')
        """,
    )
    assert owners == []


async def test_every_foreign_key_is_found_by_an_index(catalogue: Session) -> None:
    """Else each row removed from the other table reads the whole of this one."""
    unindexed = await catalogue.run(
        rows_of,
        """
        SELECT c.conrelid::regclass::text, c.conname FROM pg_constraint c
        WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.conrelid
              AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
              AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '(% IS NOT NULL)'))
        """,
    )
    assert unindexed == []


async def test_every_table_has_a_key_that_begins_with_its_tenant(catalogue: Session) -> None:
    keyless = await catalogue.run(
        rows_of,
        """
        SELECT c.relname FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL AND i.indkey[0] = a.attnum)
        """,
    )
    assert keyless == []


async def test_functions_find_names_in_our_schema_alone_and_are_nobodys_by_default(catalogue: Session) -> None:
    loose = await catalogue.run(
        rows_of,
        """
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
          AND NOT coalesce('search_path=public, pg_temp' = ANY (p.proconfig), false)
        """,
    )
    assert loose == []
    public = await catalogue.run(
        rows_of,
        """
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND EXISTS (
            SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x WHERE x.grantee = 0)
        """,
    )
    assert public == []


async def test_what_the_roles_may_touch(catalogue: Session) -> None:
    granted = await catalogue.run(
        rows_of,
        """
        SELECT grantee, table_name, privilege_type FROM information_schema.table_privileges
        WHERE table_schema = 'public' AND (grantee = 'PUBLIC' OR table_name = 'schema_migrations'
            OR privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER')) AND grantee <> current_user
        """,
    )
    assert granted == []


async def test_a_table_without_its_policy_would_be_found(db: Database, catalogue: Session) -> None:
    """The test of the tests: a policy dropped is a failure here."""
    await catalogue.run(rows_of, "DROP POLICY tenant ON phones")
    with pytest.raises(AssertionError):
        await test_policies_have_both_sides_and_compare_the_tenant_once(catalogue)
    await catalogue.run(rows_of, "ALTER TABLE phones NO FORCE ROW LEVEL SECURITY")
    with pytest.raises(AssertionError):
        await test_every_table_has_a_tenant_and_forced_policies(catalogue)


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        ("DROP INDEX recordings_address", test_every_foreign_key_is_found_by_an_index),
        ("ALTER TABLE phones DROP CONSTRAINT phones_pkey", test_every_table_has_a_key_that_begins_with_its_tenant),
        ("ALTER FUNCTION job_due RESET search_path",
         test_functions_find_names_in_our_schema_alone_and_are_nobodys_by_default),
        ("GRANT EXECUTE ON FUNCTION job_due TO PUBLIC",
         test_functions_find_names_in_our_schema_alone_and_are_nobodys_by_default),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
         test_functions_find_names_in_our_schema_alone_and_are_nobodys_by_default),
        ("CREATE VIEW v AS SELECT * FROM phones", test_no_way_round_the_policies),
        ("ALTER FUNCTION job_due SECURITY DEFINER", test_no_way_round_the_policies),
        ("ALTER TABLE phones OWNER TO gateway_app", test_no_way_round_the_policies),
        ("CREATE INDEX i ON phones (number)", test_the_tenant_stands_first_in_every_index_and_unique_key),
        ("GRANT TRUNCATE ON phones TO gateway_app", test_what_the_roles_may_touch),
    ],
)  # fmt: skip
async def test_what_is_broken_is_found(catalogue: Session, broken: str, noticed_by: Any) -> None:
    """The test of the tests, for each rule."""
    await noticed_by(catalogue)
    await catalogue.run(rows_of, broken)
    with pytest.raises(AssertionError):
        await noticed_by(catalogue)
