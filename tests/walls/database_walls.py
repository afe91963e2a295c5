"""The walls of the database as checks that can be run on any table, and the ways in which each is dropped.

    policy    whatever was granted, a page's connection sees and writes the rows of its own company
    force     the owner of a table is walled in too, unless a superuser
    rights    what each role may do, column by column, is what `rights.txt` states

All of them work in the transaction they are given, which the caller rolls back.
"""

import re
from collections.abc import Iterator
from importlib.resources import files

import asyncpg

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import OwnConnection
from gateway.store.postgres.roles import APP, ENGINE
from tests.walls.rows import Companies

OWNER = "walls_plain_owner"
DAY = re.compile(r"journal_\d{8}")
"""The parts of the journal are named by days, so that no list can hold them."""

EVERY_TABLE = """
    SELECT c.relname FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
"""
"""Of companies, the parts of those in partitions too: each has policies of its own."""


WRITTEN = """
    SELECT a.attname FROM pg_attribute a
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
"""


async def every_table(conn: OwnConnection) -> list[str]:
    """Names of all tables with a tenant; of the journal's days one."""
    names = [row[0] for row in await conn.fetch(EVERY_TABLE)]
    days = [name for name in names if DAY.fullmatch(name)]
    return [name for name in names if name not in days[1:]]


async def _count(conn: OwnConnection, table: str, number: TenantId) -> int:
    return int(await conn.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", number))


async def _as_page(conn: OwnConnection, tenant: str) -> None:
    await conn.execute("SELECT set_config('app.tenant', $1, true), set_config('role', $2, true)", tenant, APP)


async def check_policies(conn: OwnConnection, table: str, of: Companies) -> None:
    """A page of A, were it granted everything, works with A's rows alone; without a company with none; the engine sees all."""
    a, b = of.a.number, of.b.number
    there = {number: await _count(conn, table, number) for number in (a, b)}
    assert all(there.values()), f"{table} has no sample row: add it to tests/walls/rows.py"
    await conn.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP}, {ENGINE}")
    await conn.execute(
        f"ALTER TABLE {table} DISABLE TRIGGER USER"
    )  # one may be refused something before the table is asked
    await _as_page(conn, a)
    assert await _count(conn, table, a) == there[a], f"{table}: a page does not see its own rows"
    assert await conn.fetchval(f"SELECT count(*) FROM {table}") == there[a], f"{table}: a page sees more than its own"
    assert await conn.execute(f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = '{b}'") == "UPDATE 0", table
    assert await conn.execute(f"DELETE FROM {table} WHERE tenant_id = '{b}'") == "DELETE 0", table
    # Copies of own rows under the other's number: refused by the policy, not by a key or a check.
    names = [row[0] for row in await conn.fetch(WRITTEN, table)]
    copied = ", ".join(f"'{b}'" if name == "tenant_id" else name for name in names)
    copy = (
        f"INSERT INTO {table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE SELECT {copied} FROM {table} "
        f"WHERE tenant_id = '{a}' LIMIT 1"
    )
    refused = False
    try:
        async with conn.transaction():
            await conn.execute(copy)
    except asyncpg.InsufficientPrivilegeError as error:
        refused = f'row-level security policy for table "{table}"' in str(error)
    except asyncpg.PostgresError:
        refused = False
    assert refused, f"{table}: a page could add rows to another company"
    await _as_page(conn, "")
    assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0, f"{table}: a page without a company sees rows"
    await conn.execute("RESET ROLE")
    await conn.execute(f"SET LOCAL ROLE {ENGINE}")
    for number, count in there.items():
        assert await _count(conn, table, number) == count, f"{table}: the engine does not see every company"
    await conn.execute("RESET ROLE")


async def check_force(conn: OwnConnection, table: str, of: Companies) -> None:
    """A plain user who came to own the table sees nothing."""
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", OWNER):
        await conn.execute(f"CREATE ROLE {OWNER} NOLOGIN NOSUPERUSER NOBYPASSRLS")
    await conn.execute(f"ALTER TABLE {table} OWNER TO {OWNER}")
    await conn.execute(f"SET LOCAL ROLE {OWNER}")
    seen = await conn.fetchval(f"SELECT count(*) FROM {table}")
    await conn.execute("RESET ROLE")
    assert seen == 0, f"{table}: its owner sees {seen} rows"


RIGHTS = """
    SELECT what, coalesce(r.rolname, 'PUBLIC') AS grantee, privilege, columns FROM (
        SELECT c.relname::text AS what, x.grantee, x.privilege_type AS privilege, '' AS columns
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND x.grantee <> c.relowner
        UNION ALL
        SELECT c.relname::text, x.grantee, x.privilege_type, string_agg(a.attname, ', ' ORDER BY a.attname)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
        CROSS JOIN LATERAL aclexplode(a.attacl) x
        WHERE c.relnamespace = 'public'::regnamespace AND x.grantee <> c.relowner GROUP BY 1, 2, 3
        UNION ALL
        SELECT p.proname || '()', x.grantee, x.privilege_type, ''
        FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
        WHERE p.pronamespace = 'public'::regnamespace AND x.grantee <> p.proowner
    ) granted LEFT JOIN pg_roles r ON r.oid = granted.grantee
    ORDER BY 1, 2, 4, 3
"""


async def rights(conn: OwnConnection) -> list[str]:
    """What anybody but the owner may do, a line for each object, role and list of columns."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for what, grantee, privilege, columns in await conn.fetch(RIGHTS):
        lines.setdefault((what, grantee, columns), []).append(privilege)
    return [
        f"{what} | {grantee} | {', '.join(sorted(privileges))}{f' ({columns})' if columns else ''}"
        for (what, grantee, columns), privileges in lines.items()
    ]


def rights_stated() -> list[str]:
    """The lines of `rights.txt`."""
    text = files("tests.walls").joinpath("rights.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


async def check_rights(conn: OwnConnection) -> None:
    """No more and no less than is stated."""
    there, stated = await rights(conn), rights_stated()
    more, less = sorted(set(there) - set(stated)), sorted(set(stated) - set(there))
    assert (more, less) == ([], []), (
        "rights differ from tests/walls/rights.txt; once somebody has judged each of them, "
        f"`python -m tests.walls.rights` writes the file anew.\ngranted beyond it: {more}\nmissing: {less}"
    )


# How the walls are dropped ---------------------------------------------------------------------------------------------


def table_mutations(table: str) -> Iterator[tuple[str, str]]:
    """Each way to drop a wall of a table: what it is called, and the statement."""
    yield f"{table}: policy tenant dropped", f"DROP POLICY tenant ON {table}"
    yield f"{table}: policy tenant sees everything", f"ALTER POLICY tenant ON {table} USING (true)"
    yield f"{table}: policy tenant writes everything", f"ALTER POLICY tenant ON {table} WITH CHECK (true)"
    unset = "coalesce(NULLIF(current_setting('app.tenant', true), ''), tenant_id)"
    yield (
        f"{table}: policy tenant opens without a company",
        f"ALTER POLICY tenant ON {table} USING (tenant_id = {unset})",
    )
    yield f"{table}: policy engine dropped", f"DROP POLICY engine ON {table}"
    yield f"{table}: policy engine holds for pages", f"ALTER POLICY engine ON {table} TO {ENGINE}, {APP}"
    yield f"{table}: a further policy for everybody", f"CREATE POLICY more ON {table} USING (true)"
    yield f"{table}: row security off", f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
    yield f"{table}: row security not forced", f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"


_MISSING = """
    SELECT c.relname, g.role, p.privilege FROM pg_class c
    CROSS JOIN unnest(ARRAY['gateway_app', 'gateway_engine', 'PUBLIC']) AS g (role)
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (privilege)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND (g.role = 'PUBLIC' OR NOT has_table_privilege(g.role, c.oid, p.privilege))
    ORDER BY 1, 2, 3
"""
_MISSING_COLUMNS = """
    SELECT c.relname, a.attname, p.privilege FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p (privilege)
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND has_any_column_privilege('gateway_app', c.oid, p.privilege)
      AND NOT has_column_privilege('gateway_app', c.oid, a.attnum, p.privilege)
    ORDER BY 1, 2, 3
"""
_FUNCTIONS = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"


async def right_mutations(conn: OwnConnection) -> list[tuple[str, str]]:
    """Every right that is not given, given; every one that is given, taken away."""
    found = [
        (f"{table}: {privilege} for {role}", f"GRANT {privilege} ON {table} TO {role}")
        for table, role, privilege in await conn.fetch(_MISSING)
        if not DAY.fullmatch(table)
    ]
    found += [
        (f"{table}: {privilege} of {column} for {APP}", f"GRANT {privilege} ({column}) ON {table} TO {APP}")
        for table, column, privilege in await conn.fetch(_MISSING_COLUMNS)
        if not DAY.fullmatch(table)
    ]
    found += [
        (f"{function}: EXECUTE for PUBLIC", f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
        for (function,) in await conn.fetch(_FUNCTIONS)
    ]
    for line in await rights(conn):
        what, grantee, given = line.split(" | ")
        if not what.endswith("()") and not DAY.fullmatch(what):
            kind = "SEQUENCE " if given == "USAGE" else ""
            privileges, _, columns = given.partition(" (")
            listed = f" ({columns}" if columns else ""
            each = ", ".join(f"{one}{listed}" for one in privileges.split(", "))
            found.append((f"{what}: {given} taken from {grantee}", f"REVOKE {each} ON {kind}{what} FROM {grantee}"))
    return found
