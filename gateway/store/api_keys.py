"""API keys by their hash. Looking one up crosses tenants, so that is the engine's; pages see everything but the hash."""

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is in force."""

    tenant: TenantId
    hint: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyLine:
    """A key as a list shows it."""

    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


async def insert_api_key(
    conn: Connection, tenant: TenantId, key_hash: bytes, name: str, scopes: tuple[str, ...], hint: str
) -> None:
    """Adds a key."""
    await conn.execute(
        "INSERT INTO api_keys (tenant_id, key_hash, name, scopes, hint) VALUES ($1, $2, $3, $4, $5)",
        tenant,
        key_hash,
        name,
        list(scopes),
        hint,
    )


async def use_api_key(conn: Connection, key_hash: bytes) -> ApiKey | None:
    """The key with this hash, if it is in force; that it was used is noted once a minute."""
    row = await conn.fetchrow(
        "SELECT tenant_id, hint, scopes, used_at IS NULL OR used_at < now() - interval '1 minute' AS stale "
        "FROM api_keys WHERE key_hash = $1 AND revoked_at IS NULL",
        key_hash,
    )
    if row is None:
        return None
    if row["stale"]:
        await conn.execute(
            "UPDATE api_keys SET used_at = now() WHERE tenant_id = $1 AND key_hash = $2", row["tenant_id"], key_hash
        )
    return ApiKey(TenantId(row["tenant_id"]), row["hint"], tuple(row["scopes"]))


async def revoke_api_keys(conn: Connection, tenant: TenantId, which: str) -> list[str]:
    """Ends the keys with this name or hint. Returns their hints."""
    rows = await conn.fetch(
        "UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND (name = $2 OR hint = $2) "
        "AND revoked_at IS NULL RETURNING hint",
        tenant,
        which,
    )
    return [row["hint"] for row in rows]


async def select_api_keys(conn: Connection, tenant: TenantId) -> list[ApiKeyLine]:
    """Every key of the tenant, newest first."""
    rows = await conn.fetch(
        "SELECT name, hint, scopes, created_at, used_at, revoked_at FROM api_keys WHERE tenant_id = $1 "
        "ORDER BY created_at DESC",
        tenant,
    )
    return [ApiKeyLine(row[0], row[1], tuple(row[2]), row[3], row[4], row[5]) for row in rows]
