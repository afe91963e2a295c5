"""Whom a connection works as: the two roles of the gateway, and the user who logs in to enter them.

    login (no superuser, no right to the server's files) --SET ROLE--> gateway_app | gateway_engine (no owner of tables)

`RESET ROLE` leads back to the login, so both are looked at when a connection is made, and one that could do more than
row-level security allows is refused. `pool.py` makes the connections; `migrate.py` makes the roles.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from gateway.domain.errors import GatewayError
from gateway.store.postgres.errors import NotMigrated, UnsafeRole

if TYPE_CHECKING:
    from gateway.store.postgres.pool import Connection, OwnConnection

APP = "gateway_app"
ENGINE = "gateway_engine"
LOGIN = "gateway_login"
"""Who the pools log in as on the embedded server. Neither superuser nor owner: `RESET ROLE` leads to nothing more."""


async def become(connection: "OwnConnection", role: str) -> None:
    """Enters the role for the whole session. Looks whether row-level security holds for it, and whether the user who
    logged in is one to go back to by RESET ROLE."""
    try:
        await connection.execute(f"SET ROLE {role}")
    except (asyncpg.InvalidParameterValueError, asyncpg.InsufficientPrivilegeError):
        failure: GatewayError = NotMigrated(f"the role {role} does not exist or may not be entered")
    else:
        row = await connection.fetchrow(_ROLE_CHECK)
        assert row is not None
        if row["login_above"]:
            raise UnsafeRole(
                f"the login {row['login']} is a superuser, bypasses row-level security or may use the server's files",
                person=f"The database user {row['login']} in GATEWAY_DATABASE_URL is a superuser, bypasses row-level "
                "security or may read, write or run the server's files: RESET ROLE would give all of that to whoever "
                "gets a statement in. Log in as a plain user; see docs/operations.md, PostgreSQL.",
            )
        if row["name"] == role and not row["above"] and not row["owner"]:
            return
        reason = "superuser or BYPASSRLS" if row["above"] else "an owner of tables" if row["owner"] else "not entered"
        failure = UnsafeRole(f"{row['name']} is {reason}")
    raise failure


_ROLE_CHECK = """
    SELECT r.rolname AS name,
           r.rolsuper OR r.rolbypassrls AS above,
           l.rolname AS login,
           l.rolsuper OR l.rolbypassrls OR EXISTS (
               SELECT FROM pg_roles f WHERE f.rolname IN
                   ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
               AND pg_has_role(l.oid, f.oid, 'MEMBER')) AS login_above,
           EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                     AND pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owner
    FROM pg_roles r, pg_roles l WHERE r.rolname = current_user AND l.rolname = session_user
"""

_SELECT_LOGIN = """
    SELECT l.rolname AS name,
           EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                     AND pg_has_role(l.oid, c.relowner, 'MEMBER')) AS owner,
           l.rolcreaterole AND current_setting('server_version_num')::int < 160000 AS makes_any_role
    FROM pg_roles l WHERE l.rolname = session_user
"""


@dataclass(frozen=True, slots=True)
class Login:
    """The user a connection logged in as. That it is no superuser was seen when the connection was made."""

    name: str
    owner: bool
    """Whether it owns tables, or is a member of who does."""
    makes_any_role: bool
    """Whether it has CREATEROLE where that leads to every role but a superuser's, as before PostgreSQL 16."""

    @property
    def problem(self) -> str:
        """What RESET ROLE would lead to, in words; empty where it leads to nothing."""
        if self.makes_any_role:
            return f"{self.name} has CREATEROLE, by which it can get the rights to the server's files on this version"
        return f"{self.name} owns the tables, so that RESET ROLE can change them" if self.owner else ""


async def select_login(connection: "Connection") -> Login:
    """Who the pool has logged in as."""
    row = await connection.fetchrow(_SELECT_LOGIN)
    assert row is not None
    return Login(row["name"], row["owner"], row["makes_any_role"])
