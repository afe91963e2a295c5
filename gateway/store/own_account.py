"""What somebody changes of themselves: the password, and which of their sessions go on. The engine's alone.

A person is seen here as the memberships that a session opened. Read `gateway/web/pages/account.py` next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.audit import OPERATORS, insert_audit
from gateway.store.postgres.pool import Connection

_WHOSE = "email = $1 AND coalesce(tenant_id, '') = ANY($2::text[])"


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A signed-in browser as its person's list shows it."""

    token_hash: bytes
    device: str
    address: str
    created_at: datetime
    seen_at: datetime


async def list_sessions(
    conn: Connection, email: str, tenants: Sequence[TenantId | None], idle_s: float, absolute_s: float
) -> list[OpenSession]:
    """Those of these memberships, the last in use first."""
    rows = await conn.fetch(
        f"SELECT token_hash, max(device), max(address), min(created_at), max(seen_at) AS seen_at FROM sessions WHERE {_WHOSE} "  # noqa: S608 - a constant
        "AND scope IS NULL AND seen_at > now() - make_interval(secs => $3) AND created_at > now() - make_interval(secs => $4) "
        "GROUP BY token_hash ORDER BY 5 DESC LIMIT 200",
        email,
        [tenant or "" for tenant in tenants],
        idle_s,
        absolute_s,
    )
    return [OpenSession(*row) for row in rows]


async def end_sessions(
    conn: Connection,
    email: str,
    tenants: Sequence[TenantId | None],
    *,
    only: bytes | None = None,
    but: bytes | None = None,
) -> list[bytes]:
    """Ends one session of these memberships, or all but one. Returns which."""
    rows = await conn.fetch(
        f"DELETE FROM sessions WHERE {_WHOSE} AND scope IS NULL AND ($3::bytea IS NULL OR token_hash = $3) "  # noqa: S608 - a constant
        "AND ($4::bytea IS NULL OR token_hash <> $4) RETURNING token_hash",
        email,
        [tenant or "" for tenant in tenants],
        only,
        but,
    )
    return list({row["token_hash"] for row in rows})


async def set_passwords(
    conn: Connection, email: str, hashes: Mapping[TenantId | None, str], keep: bytes | None, action: str, by: str
) -> list[bytes]:
    """New passwords of memberships: every other session of theirs ends, every link is used up, each company is noted.
    Returns the sessions that ended."""
    async with conn.transaction():
        for tenant, password_hash in hashes.items():
            await conn.execute(
                "UPDATE users SET password_hash = $3 "
                "WHERE email = $1 AND (tenant_id = $2 OR ($2::text IS NULL AND tenant_id IS NULL))",
                email,
                tenant,
                password_hash,
            )
            await insert_audit(conn, tenant or OPERATORS, by, action, email)
        await conn.execute(
            f"UPDATE login_links SET used_at = now() WHERE {_WHOSE} AND used_at IS NULL",  # noqa: S608 - a constant
            email,
            [tenant or "" for tenant in hashes],
        )
        return await end_sessions(conn, email, [*hashes], but=keep)


async def select_demand(conn: Connection, tenant: TenantId) -> bool:
    """Whether the company demands a second factor."""
    found = await conn.fetchval(
        "SELECT options #>> '{security,require_second_factor}' = 'true' FROM tenants WHERE tenant_id = $1", tenant
    )
    return bool(found)


async def set_demand(conn: Connection, tenant: TenantId, demanded: bool, by: str) -> None:
    """Demands a second factor of the company's people, or no longer."""
    async with conn.transaction():
        await conn.execute(
            """
            UPDATE tenants SET options = CASE WHEN $2 THEN jsonb_set(options, '{security}', '{"require_second_factor": true}')
                                              ELSE options - 'security' END
            WHERE tenant_id = $1
            """,
            tenant,
            demanded,
        )
        await insert_audit(
            conn, tenant, by, "security.changed", "require_second_factor", "true" if demanded else "false"
        )
