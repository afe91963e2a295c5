"""A key made, replaced or revoked, each with its line in the audit: the same for the command, the page and the API.

Each function is one transaction on the engine's connection. A key's text is made by the caller and shown once; only its hash
comes here. Read `gateway/store/api_keys.py` next.
"""

from collections.abc import Sequence
from datetime import datetime

from gateway.domain.api_keys import OLD_LIVES, KeyOwner, hash_of, hint_of
from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.api_keys import ApiKey, insert_api_key, revoke_api_keys, rotate_api_key
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.users import hold_user

CLI = KeyOwner("cli")
"""Of keys that `gateway api-key` makes."""


async def create_key(
    conn: Connection, tenant: TenantId, key: Secret, name: str, scopes: Sequence[str], ends: datetime | None, actor: str,
    owner: KeyOwner = CLI,
) -> str:  # fmt: skip
    """Adds a key. Returns its id. Raises Unavailable where its owner is being removed."""
    text = key.reveal()
    async with conn.transaction():
        await _hold(conn, tenant, owner)
        key_id = await insert_api_key(conn, tenant, hash_of(text), name, scopes, hint_of(text), ends, owner)
        await insert_audit(conn, tenant, actor, "api_key.created", hint_of(text), ", ".join(scopes),
                           new={"name": name, "scopes": list(scopes), "expires_at": ends.isoformat() if ends is not None else None,
                                "owner": owner.name or owner.kind})  # fmt: skip
        return key_id


async def rotate_key(
    conn: Connection, tenant: TenantId, key_id: str, old_hint: str, key: Secret, actor: str, owner: KeyOwner = CLI
) -> ApiKey | None:
    """The new key in the place of another; None where that one is not in force any more, or was replaced already.
    Raises Unavailable where its owner is being removed."""
    text = key.reveal()
    async with conn.transaction():
        await _hold(conn, tenant, owner)
        lives_s = OLD_LIVES.total_seconds()
        new = await rotate_api_key(conn, tenant, key_id, hash_of(text), hint_of(text), lives_s, owner)
        if new is not None:
            await insert_audit(conn, tenant, actor, "api_key.rotated", old_hint, hint_of(text),
                               old={"key": old_hint},
                               new={"key": hint_of(text), "owner": owner.name or owner.kind})  # fmt: skip
        return new


async def _hold(conn: Connection, tenant: TenantId, owner: KeyOwner) -> None:
    """Who removes a person ends their keys: none may be added behind it by what was let in just before."""
    if owner.kind == "person" and not await hold_user(conn, tenant, owner.name):
        raise Unavailable(f"{owner.name} is no longer among the people of tenant {tenant}")


async def revoke_keys(conn: Connection, tenant: TenantId, which: str, actor: str) -> list[str]:
    """Ends the keys in force with this name, hint or id. Returns their hints."""
    async with conn.transaction():
        hints = await revoke_api_keys(conn, tenant, which)
        for hint in hints:
            await insert_audit(
                conn, tenant, actor, "api_key.revoked", hint, old={"revoked": False}, new={"revoked": True}
            )
        return hints
