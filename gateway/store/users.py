"""People, their sessions and one-time login links. Tokens and passwords stand here as hashes alone.

The engine role's alone: `gateway_app` sees neither sessions nor links, so every function wants a connection of
`Database.engine`. A user without a tenant is an operator of the installation. A session is known by its token and has a row for
each membership that it opened, so a person goes from company to company in one. A session with a scope belongs to no person:
a module's link opened it, and it ends with that registration. A little over 400 lines, for accounts, sessions and links end
together. It decides nothing about passwords or cookies: read
`members.py` for a company's people, `gateway/web/session/auth.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.people import Acting, Membership, Role
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

MOST_ACCOUNTS = 20
"""Memberships of one person that a sign-in looks at; each costs every sign-in of the installation a comparison."""

_SAME_TENANT = "({0}.tenant_id = $1 OR ($1::text IS NULL AND {0}.tenant_id IS NULL))"
"""`IS NOT DISTINCT FROM` would not use the index."""


@dataclass(frozen=True, slots=True)
class Account:
    """One person in one tenant, or an operator (`tenant` None)."""

    tenant: TenantId | None
    email: str
    password_hash: str
    """Empty for somebody who was invited and has set no password yet."""
    language: str | None
    role: Role = Role.ADMIN
    name: str = ""
    phones: tuple[str, ...] = ()


_ACCOUNT = "tenant_id, email, password_hash, language, role, name, phones"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser."""

    tenant: TenantId | None
    """The company that its pages begin with; None for an operator."""
    email: str
    csrf: str
    language: str | None
    """The language its person chose, if they ever did."""
    created_at: datetime
    scope: IntegrationKey | None = None
    """The one module whose pages it may see; None for a person's session."""
    memberships: tuple[Membership, ...] = ()
    """What its person is, in each company that the session opened, operators first. A module's session has none."""
    acting: Acting | None = None
    """The company that its operator acts as at present."""

    @property
    def operator(self) -> bool:
        """Whether its person is an operator of the installation."""
        return self.membership(None) is not None

    def membership(self, tenant: TenantId | None) -> Membership | None:
        """What its person is in a company; an operator who acts as it is its admin."""
        if self.acting is not None and tenant == self.acting.tenant:
            return Membership(tenant=tenant, role=Role.ADMIN)
        return next((one for one in self.memberships if one.tenant == tenant), None)


def _account(row: Record) -> Account:
    tenant = row["tenant_id"]
    return Account(
        TenantId(tenant) if tenant is not None else None, row["email"], row["password_hash"], row["language"],
        Role(row["role"]), row["name"], tuple(row["phones"]),
    )  # fmt: skip


async def select_accounts(conn: Connection, email: str, most: int = MOST_ACCOUNTS) -> list[Account]:
    """The accounts with this e-mail address, operators first, then by tenant."""
    rows = await conn.fetch(
        f"SELECT {_ACCOUNT} FROM users WHERE email = lower($1) ORDER BY tenant_id NULLS FIRST LIMIT $2",  # noqa: S608 - constant columns
        email,
        most,
    )
    return [_account(row) for row in rows]


async def select_sign_in(conn: Connection, email: str, most: int = MOST_ACCOUNTS) -> tuple[list[Account], int]:
    """The accounts with this e-mail address, and the most that any address of the installation has (at most `most`): so
    many passwords are compared at every sign-in, that its time reveals nothing of the address."""
    at_most: int = await conn.fetchval(
        "SELECT coalesce(max(n), 1) FROM (SELECT count(*) AS n FROM users GROUP BY email ORDER BY n DESC LIMIT 1) many"
    )
    return await select_accounts(conn, email, most), min(at_most, most)


async def select_all_accounts(conn: Connection) -> list[Account]:
    """Every account of the installation."""
    rows = await conn.fetch(
        f"SELECT {_ACCOUNT} FROM users ORDER BY tenant_id NULLS FIRST, email"  # noqa: S608 - constant columns
    )
    return [_account(row) for row in rows]


async def has_users(conn: Connection) -> bool:
    """Whether anybody at all can sign in."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM users)"))


async def upsert_user(
    conn: Connection, tenant: TenantId | None, email: str, password_hash: str, role: Role | None = None
) -> None:
    """Adds a person or sets a new password; what was signed in with the old one is signed out. A role that is not given
    stays as it is; that of somebody new is admin, or operator without a tenant."""
    await conn.execute(
        f"""
        WITH signed_out AS (
            DELETE FROM sessions s WHERE {_SAME_TENANT.format("s")} AND s.email = lower($2)
        )
        INSERT INTO users AS u (tenant_id, email, password_hash, role)
        VALUES ($1, lower($2), $3, coalesce($4, CASE WHEN $1 IS NULL THEN 'operator' ELSE 'admin' END))
        ON CONFLICT (tenant_id, email) DO UPDATE SET password_hash = excluded.password_hash, role = coalesce($4, u.role)
        """,  # noqa: S608 - a constant
        tenant,
        email,
        password_hash,
        role,
    )


async def describe_user(
    conn: Connection, tenant: TenantId, email: str, role: Role, name: str, phones: Sequence[str]
) -> None:
    """Sets what the tenant file gives of a person who exists, their password apart."""
    await conn.execute(
        "UPDATE users SET role = $3, name = $4, phones = $5 WHERE tenant_id = $1 AND email = $2",
        tenant,
        email,
        role,
        name,
        list(phones),
    )


async def delete_user(conn: Connection, tenant: TenantId | None, email: str) -> None:
    """Removes a person's membership with its sessions and links, and what these sessions had begun and not saved."""
    await conn.execute(
        f"""
        WITH signed_out AS (
            DELETE FROM sessions s WHERE {_SAME_TENANT.format("s")} AND s.email = lower($2) RETURNING s.token_hash
        ), unlinked AS (
            DELETE FROM login_links l WHERE {_SAME_TENANT.format("l")} AND l.email = lower($2)
        ), undrafted AS (
            DELETE FROM flashes f WHERE f.token_hash IN (SELECT token_hash FROM signed_out)
        ), ended AS (
            DELETE FROM logins l WHERE l.tenant_id = $1 AND l.session_hash IN (SELECT token_hash FROM signed_out)
        )
        DELETE FROM users u WHERE {_SAME_TENANT.format("u")} AND u.email = lower($2)
        """,  # noqa: S608 - a constant
        tenant,
        email,
    )


async def update_language(conn: Connection, token_hash: bytes, language: str) -> None:
    """Remembers the choice of a session's person."""
    await conn.execute(
        "UPDATE users u SET language = $2 FROM sessions s WHERE s.token_hash = $1 AND s.email = u.email "
        "AND (s.tenant_id = u.tenant_id OR (s.tenant_id IS NULL AND u.tenant_id IS NULL))",
        token_hash,
        language,
    )


async def insert_session(
    conn: Connection,
    tenant: TenantId | None,
    token_hash: bytes,
    email: str,
    csrf: str,
    address: str = "",
    device: str = "",
) -> None:
    """Opens a session of one membership. `device` is what the browser calls itself."""
    await conn.execute(
        "INSERT INTO sessions (tenant_id, token_hash, email, csrf, address, device) VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        token_hash,
        email,
        csrf,
        storable(address)[:100],
        storable(device)[:300],
    )


async def select_session(
    conn: Connection, tenant: TenantId | None, token_hash: bytes, idle_s: float, absolute_s: float
) -> Session | None:
    """The session with this token, unless it was idle for too long, is too old, or its person is gone. `tenant` is the
    company to begin with, where the session has it."""
    rows = await conn.fetch(
        """
        SELECT s.tenant_id, s.email, s.csrf, s.created_at, s.acting_as, s.acting_reason, s.acting_until,
               s.acting_until > now() AS acting, u.language, u.role, u.name, u.phones, u.factor <> '' AS has_factor,
               coalesce(t.options #>> '{security,require_second_factor}' = 'true', false) AS must_have_factor
        FROM sessions s
        JOIN users u ON u.email = s.email AND (u.tenant_id = s.tenant_id OR (u.tenant_id IS NULL AND s.tenant_id IS NULL))
        LEFT JOIN tenants t ON t.tenant_id = s.tenant_id
        WHERE s.token_hash = $1 AND s.scope IS NULL
          AND s.seen_at > now() - make_interval(secs => $2) AND s.created_at > now() - make_interval(secs => $3)
        ORDER BY s.tenant_id NULLS FIRST
        """,
        token_hash,
        idle_s,
        absolute_s,
    )
    if not rows:
        return None
    home = next((row for row in rows if row["tenant_id"] == tenant), rows[0])
    acting = next((row for row in rows if row["acting"]), None)
    return Session(
        home["tenant_id"], home["email"], home["csrf"], home["language"], home["created_at"],
        memberships=tuple(
            Membership(tenant=row["tenant_id"], role=Role(row["role"]), name=row["name"], phones=tuple(row["phones"]),
                       has_factor=row["has_factor"], must_have_factor=row["must_have_factor"])
            for row in rows
        ),
        acting=Acting(TenantId(acting["acting_as"]), acting["acting_reason"], acting["acting_until"]) if acting else None,
    )  # fmt: skip


async def begin_acting(
    conn: Connection, token_hash: bytes, tenant: TenantId, reason: str, for_s: float
) -> datetime | None:
    """Lets an operator's session act as a company, in place of any other. Returns until when; None for another's session."""
    until: datetime | None = await conn.fetchval(
        "UPDATE sessions SET acting_as = $2, acting_reason = $3, acting_until = now() + make_interval(secs => $4) "
        "WHERE token_hash = $1 AND tenant_id IS NULL AND scope IS NULL RETURNING acting_until",
        token_hash,
        tenant,
        reason,
        for_s,
    )
    return until


async def end_acting(conn: Connection, token_hash: bytes) -> None:
    """Ends it."""
    await conn.execute(
        "UPDATE sessions SET acting_as = NULL, acting_reason = '', acting_until = NULL "
        "WHERE token_hash = $1 AND acting_as IS NOT NULL",
        token_hash,
    )


async def insert_module_session(
    conn: Connection, tenant: TenantId, token_hash: bytes, scope: IntegrationKey, registration: int, csrf: str
) -> None:
    """Opens a session that sees one module's pages and ends with its registration."""
    await conn.execute(
        "INSERT INTO sessions (tenant_id, token_hash, email, csrf, scope, registration) VALUES ($1, $2, $3, $4, $3, $5)",
        tenant,
        token_hash,
        scope,
        csrf,
        registration,
    )


async def select_module_session(
    conn: Connection, tenant: TenantId, token_hash: bytes, kind: Kind, idle_s: float, absolute_s: float
) -> Session | None:
    """The session with this token for the pages of this kind of module, unless it is too old or idle, or its registration has ended."""
    row = await conn.fetchrow(
        """
        SELECT s.email, s.csrf, s.created_at, s.scope FROM sessions s
        JOIN modules m ON m.tenant_id = s.tenant_id AND m.integration_type = s.scope
                      AND m.registration = s.registration AND m.state = 'active'
        WHERE s.tenant_id = $1 AND s.token_hash = $2 AND split_part(s.scope, ':', 1) = $3
          AND s.seen_at > now() - make_interval(secs => $4) AND s.created_at > now() - make_interval(secs => $5)
        """,
        tenant,
        token_hash,
        kind,
        idle_s,
        absolute_s,
    )
    return (
        Session(tenant, row["email"], row["csrf"], None, row["created_at"], IntegrationKey(row["scope"]))
        if row is not None
        else None
    )


async def touch_session(conn: Connection, token_hash: bytes, every_s: float = 60.0) -> None:
    """Notes that the session is in use, at most once in `every_s`."""
    await conn.execute(
        "UPDATE sessions SET seen_at = now() WHERE token_hash = $1 AND seen_at < now() - make_interval(secs => $2)",
        token_hash,
        every_s,
    )


async def delete_session(conn: Connection, token_hash: bytes) -> None:
    """Signs out, of every company that the session opened."""
    await conn.execute("DELETE FROM sessions WHERE token_hash = $1", token_hash)


async def carry_session(
    conn: Connection, old: bytes, new: bytes, email: str, csrf: str, tenants: Sequence[TenantId | None]
) -> None:
    """Moves memberships of the same person that an older session of this browser had, and `tenants` does not name, to a new
    token: who signs in to another of their companies keeps the first. Nothing is carried of anybody else's."""
    await conn.execute(
        "UPDATE sessions SET token_hash = $2, csrf = $4, acting_as = NULL, acting_reason = '', acting_until = NULL "
        "WHERE token_hash = $1 AND email = $3 AND scope IS NULL AND NOT coalesce(tenant_id, '') = ANY($5::text[])",
        old,
        new,
        email,
        csrf,
        [tenant or "" for tenant in tenants],
    )


async def delete_stale_sessions(conn: Connection, idle_s: float = 12 * 3600.0, absolute_s: float = 7 * 86400.0) -> None:
    """Removes sessions that nobody can use any more, and links a month after their end: until then they say what they were."""
    await conn.execute(
        """
        WITH unlinked AS (DELETE FROM login_links WHERE expires_at < now() - interval '30 days')
        DELETE FROM sessions
        WHERE seen_at < now() - make_interval(secs => $1) OR created_at < now() - make_interval(secs => $2)
        """,
        idle_s,
        absolute_s,
    )


@dataclass(frozen=True, slots=True)
class Link:
    """A one-time link as it is now. `state` is good, used or expired."""

    email: str
    purpose: str
    """sign_in, invitation or reset."""
    state: str


async def insert_login_link(
    conn: Connection,
    tenant: TenantId | None,
    token_hash: bytes,
    email: str,
    live_s: float = 900.0,
    purpose: str = "sign_in",
) -> None:
    """Stores a one-time link for a person who exists; `user_exists` checks that. Of invitations and resets the last holds."""
    if purpose != "sign_in":
        await conn.execute(
            f"UPDATE login_links l SET used_at = now() WHERE {_SAME_TENANT.format('l')} AND l.email = lower($2) "  # noqa: S608 - a constant
            "AND l.purpose <> 'sign_in' AND l.used_at IS NULL",
            tenant,
            email,
        )
    await conn.execute(
        "INSERT INTO login_links (tenant_id, token_hash, email, expires_at, purpose) "
        "VALUES ($1, $2, lower($3), now() + make_interval(secs => $4), $5)",
        tenant,
        token_hash,
        email,
        live_s,
        purpose,
    )


async def select_link(conn: Connection, tenant: TenantId | None, token_hash: bytes) -> Link | None:
    """A link, whatever has become of it; None for one that never was, or whose person is gone."""
    row = await conn.fetchrow(
        f"""
        SELECT l.email, l.purpose, CASE WHEN l.used_at IS NOT NULL THEN 'used' WHEN l.expires_at < now() THEN 'expired' ELSE 'good' END
        FROM login_links l JOIN users u ON u.email = l.email AND {_SAME_TENANT.format("u")}
        WHERE {_SAME_TENANT.format("l")} AND l.token_hash = $2
        """,  # noqa: S608 - a constant
        tenant,
        token_hash,
    )
    return Link(*row) if row is not None else None


async def take_login_link(
    conn: Connection, tenant: TenantId | None, token_hash: bytes, *, password: bool = False
) -> str | None:
    """Uses a link up and returns whose it was; None for one that is unknown, used, too old, or whose person is gone. A link
    that lets set a `password` does not sign in, and the other way round."""
    email: str | None = await conn.fetchval(
        f"""
        WITH taken AS (
            UPDATE login_links l SET used_at = now() WHERE {_SAME_TENANT.format("l")} AND l.token_hash = $2
              AND l.used_at IS NULL AND (l.purpose <> 'sign_in') = $3
            RETURNING l.email, l.expires_at
        )
        SELECT t.email FROM taken t JOIN users u ON u.email = t.email AND {_SAME_TENANT.format("u")}
        WHERE t.expires_at > now()
        """,  # noqa: S608 - a constant
        tenant,
        token_hash,
        password,
    )
    return email


async def user_exists(conn: Connection, tenant: TenantId | None, email: str) -> bool:
    """Whether there is such a person."""
    return bool(
        await conn.fetchval(
            f"SELECT count(*) FROM users u WHERE {_SAME_TENANT.format('u')} AND u.email = lower($2)",  # noqa: S608 - a constant
            tenant,
            email,
        )
    )


async def hold_user(conn: Connection, tenant: TenantId, email: str) -> bool:
    """Whether there is such a person; nobody removes them until the transaction ends."""
    return bool(
        await conn.fetchval(
            "SELECT true FROM users WHERE tenant_id = $1 AND email = $2 FOR KEY SHARE",
            tenant,
            email,
        )
    )
