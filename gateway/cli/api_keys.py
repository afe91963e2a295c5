"""`gateway api-key create`, `rotate` and `revoke`: keys for call services, bots and programs. A key is printed once."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from gateway.domain.api_keys import SCOPES, hint_of, new_key
from gateway.domain.ids import TenantId
from gateway.store.api_keys import select_keys_to_rotate
from gateway.store.postgres.pool import Database
from gateway.store.tenants import select_tenants
from gateway.web.callers.key_changes import create_key, revoke_keys, rotate_key

Say = Callable[..., None]
ACTOR = "cli"


async def create(
    db: Database, tenant: TenantId, name: str, scopes: Sequence[str], days: int | None, text_of: Say
) -> int:
    """Makes a key and prints it; it ends after so many days, or never. Returns the exit code."""
    if not await db.engine(select_tenants, [tenant]):
        text_of(f"no tenant {tenant}; gateway apply makes one")
        return 1
    key = new_key()
    hint = hint_of(key.reveal())
    ends = datetime.now(UTC) + timedelta(days=days) if days is not None else None
    await db.engine(create_key, tenant, key, name or hint, tuple(scopes) or SCOPES[:1], ends, ACTOR)
    print(key.reveal())
    until = f"; ends {ends:%Y-%m-%d}" if ends is not None else ""
    print(f"scopes: {', '.join(scopes or SCOPES[:1])}{until}; shown once; revoke it by {hint}", file=sys.stderr)
    return 0


async def rotate(db: Database, tenant: TenantId, which: str, text_of: Say) -> int:
    """Makes a new key in the place of one, and prints it; the old one lives for a day. Returns the exit code."""
    found = await db.engine(select_keys_to_rotate, tenant, _name_or_hint(which))
    if len(found) != 1:
        if found:
            text_of(f"tenant {tenant} has several such keys: name one of {', '.join(hint for _, hint in found)}")
        else:
            text_of(f"tenant {tenant} has no such key in force that is not replaced already: {which}")
        return 1
    key = new_key()
    ((old, old_hint),) = found
    new = await db.engine(rotate_key, tenant, old, old_hint, key, ACTOR)
    if new is None:
        text_of(f"{old_hint} was revoked or replaced just now")
        return 1
    print(key.reveal())
    until = f"; ends {new.expires_at:%Y-%m-%d}" if new.expires_at is not None else ""
    print(
        f"{new.name}: scopes: {', '.join(new.scopes)}{until}; shown once; {old_hint} still works for a day",
        file=sys.stderr,
    )
    return 0


async def revoke(db: Database, tenant: TenantId, which: str, text_of: Say) -> int:
    """Ends keys by their name, or by their first characters. Returns the exit code."""
    hints = await db.engine(revoke_keys, tenant, _name_or_hint(which), ACTOR)
    if not hints:
        text_of(f"tenant {tenant} has no such key in force: {which}")
        return 1
    for hint in hints:
        print(f"{hint}: revoked")
    return 0


def _name_or_hint(which: str) -> str:
    return which if not which.startswith("gw_live_") else hint_of(which)
