"""Second factors as they are stored: a sealed secret, the step of the last code, and hashes of recovery codes, per membership.

The memberships of one person that were in a session when it was set up have the same one. Each statement that accepts a code is
the decision: of two requests with one code, one changes a row. The engine's alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.ids import OPERATOR, TenantId
from gateway.store.audit import insert_audit
from gateway.store.own_account import end_sessions
from gateway.store.postgres.pool import Connection

TABLE, COLUMN = "users", "factor"
_WHOSE = "u.email = $1 AND coalesce(u.tenant_id, '') = ANY($2::text[])"


@dataclass(frozen=True, slots=True)
class Factor:
    """That of one membership."""

    tenant: TenantId | None
    sealed: str
    """Empty where there is none."""
    last_step: int
    recovery_codes: int
    """How many are left."""


def _names(tenants: Sequence[TenantId | None]) -> list[str]:
    return [tenant or "" for tenant in tenants]


async def select_factors(conn: Connection, email: str, tenants: Sequence[TenantId | None]) -> list[Factor]:
    """Those of a person's memberships, operators' first."""
    rows = await conn.fetch(
        f"SELECT u.tenant_id, u.factor, u.factor_step, cardinality(u.recovery_codes) FROM users u WHERE {_WHOSE} "  # noqa: S608 - a constant
        "ORDER BY u.tenant_id NULLS FIRST",
        email,
        _names(tenants),
    )
    return [Factor(*row) for row in rows]


async def use_step(conn: Connection, email: str, tenants: Sequence[TenantId | None], step: int) -> bool:
    """Notes that a code of this step was accepted. False where one of it, or of a later one, was before."""
    done: str = await conn.execute(
        f"UPDATE users u SET factor_step = $3 WHERE {_WHOSE} AND u.factor_step < $3",  # noqa: S608 - a constant
        email,
        _names(tenants),
        step,
    )
    return not done.endswith(" 0")


async def use_recovery_code(
    conn: Connection, email: str, tenants: Sequence[TenantId | None], code_hash: bytes
) -> list[TenantId | None]:
    """Uses a recovery code up. Returns the memberships that had it."""
    rows = await conn.fetch(
        f"UPDATE users u SET recovery_codes = array_remove(u.recovery_codes, $3) "  # noqa: S608 - a constant
        f"WHERE {_WHOSE} AND $3 = ANY(u.recovery_codes) AND u.factor <> '' RETURNING u.tenant_id",
        email,
        _names(tenants),
        code_hash,
    )
    return [row["tenant_id"] for row in rows]


async def store_factor(
    conn: Connection, email: str, sealed: Mapping[TenantId | None, str], step: int, code_hashes: Sequence[bytes]
) -> None:
    """Sets the second factor of memberships; `sealed` by company. An empty text takes it away."""
    for tenant, text in sealed.items():
        await conn.execute(
            "UPDATE users SET factor = $3, factor_step = $4, recovery_codes = $5 "
            "WHERE email = $1 AND (tenant_id = $2 OR ($2::text IS NULL AND tenant_id IS NULL))",
            email,
            tenant,
            text,
            step,
            list(code_hashes),
        )


async def store_recovery_codes(
    conn: Connection, email: str, tenants: Sequence[TenantId | None], code_hashes: Sequence[bytes]
) -> None:
    """New recovery codes in place of the old."""
    await conn.execute(
        f"UPDATE users u SET recovery_codes = $3 WHERE {_WHOSE} AND u.factor <> ''",  # noqa: S608 - a constant
        email,
        _names(tenants),
        list(code_hashes),
    )


async def reset_factor(conn: Connection, tenant: TenantId | None, email: str, by: str) -> bool:
    """Takes the second factor of somebody's membership away, for them who have lost it: its recovery codes go along, its sessions end,
    and the audit says who did it. False where there is none."""
    async with conn.transaction():
        had: str | None = await conn.fetchval(
            "SELECT factor FROM users WHERE (tenant_id = $1 OR ($1::text IS NULL AND tenant_id IS NULL)) AND email = $2 FOR UPDATE",
            tenant,
            email,
        )
        if not had:
            return False
        await store_factor(conn, email, {tenant: ""}, 0, [])
        await end_sessions(conn, email, [tenant])
        await insert_audit(conn, tenant or OPERATOR, by, "user.factor_reset", email)
        return True
