"""`gateway api-key create` and `gateway api-key revoke`: keys for call services and bots. A key is printed once."""

import sys
from collections.abc import Callable, Sequence

from gateway.domain.api_keys import SCOPES, hash_of, hint_of, new_key
from gateway.domain.ids import TenantId
from gateway.store.api_keys import insert_api_key, revoke_api_keys
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import select_tenants

Say = Callable[..., None]
ACTOR = "cli"


async def create(db: Database, tenant: TenantId, name: str, scopes: Sequence[str], text_of: Say) -> int:
    """Makes a key and prints it. Returns the exit code."""
    if not await db.engine(select_tenants, [tenant]):
        text_of(f"no tenant {tenant}; gateway apply makes one")
        return 1
    key = new_key()
    hint = hint_of(key.reveal())
    await db.engine(_create, tenant, hash_of(key.reveal()), name or hint, tuple(scopes) or SCOPES[:1], hint)
    print(key.reveal())
    print(f"scopes: {', '.join(scopes or SCOPES[:1])}; shown once; revoke it by {hint}", file=sys.stderr)
    return 0


async def revoke(db: Database, tenant: TenantId, which: str, text_of: Say) -> int:
    """Ends keys by their name, or by their first characters. Returns the exit code."""
    hints = await db.engine(_revoke, tenant, which)
    if not hints:
        text_of(f"tenant {tenant} has no such key in force: {which}")
        return 1
    for hint in hints:
        print(f"{hint}: revoked")
    return 0


async def _create(
    conn: Connection, tenant: TenantId, key_hash: bytes, name: str, scopes: tuple[str, ...], hint: str
) -> None:
    async with conn.transaction():
        await insert_api_key(conn, tenant, key_hash, name, scopes, hint)
        await insert_audit(
            conn, tenant, ACTOR, "api_key.created", hint, ", ".join(scopes), new={"name": name, "scopes": scopes}
        )


async def _revoke(conn: Connection, tenant: TenantId, which: str) -> list[str]:
    async with conn.transaction():
        hints = await revoke_api_keys(conn, tenant, which if not which.startswith("gw_live_") else hint_of(which))
        for hint in hints:
            await insert_audit(
                conn, tenant, ACTOR, "api_key.revoked", hint, old={"revoked": False}, new={"revoked": True}
            )
        return hints
