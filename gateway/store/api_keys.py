"""API keys by their hash. Looking one up crosses tenants, so that is the engine's; pages see everything but the hash.

A key is in force until it is revoked or its time is over. Read `gateway/web/callers/api_keys.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.api_keys import UNKNOWN_OWNER, KeyOwner
from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

_COLUMNS = "tenant_id, key_id::text AS key_id, name, hint, scopes, expires_at, owner_kind, owner"
_LINE = "key_id::text, name, hint, scopes, created_at, used_at, expires_at, rotated_at, revoked_at, owner_kind, owner"
_IN_FORCE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"

_NAMED = "(name = $2 OR hint = $2 OR key_id::text = $2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that is in force."""

    tenant: TenantId
    key_id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    owner: KeyOwner = UNKNOWN_OWNER


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyLine:
    """A key as a list shows it."""

    key_id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None
    owner: KeyOwner = UNKNOWN_OWNER

    def in_force(self, now: datetime) -> bool:
        """Whether it is accepted."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def _key(row: Record | None) -> ApiKey | None:
    if row is None:
        return None
    return ApiKey(
        tenant=TenantId(row["tenant_id"]), key_id=row["key_id"], name=row["name"], hint=row["hint"],
        scopes=tuple(row["scopes"]), expires_at=row["expires_at"], owner=KeyOwner(row["owner_kind"], row["owner"]),
    )  # fmt: skip


def _line(row: Record) -> ApiKeyLine:
    return ApiKeyLine(
        key_id=row[0], name=row[1], hint=row[2], scopes=tuple(row[3]), created_at=row[4], last_used_at=row[5],
        expires_at=row[6], rotated_at=row[7], revoked_at=row[8], owner=KeyOwner(row[9], row[10]),
    )  # fmt: skip


async def insert_api_key(
    conn: Connection, tenant: TenantId, key_hash: bytes, name: str, scopes: Sequence[str], hint: str,
    expires_at: datetime | None = None, owner: KeyOwner = UNKNOWN_OWNER,
) -> str:  # fmt: skip
    """Adds a key. Returns its id."""
    key_id: str = await conn.fetchval(
        "INSERT INTO api_keys (tenant_id, key_hash, name, scopes, hint, expires_at, owner_kind, owner) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING key_id::text",
        tenant,
        key_hash,
        name,
        list(scopes),
        hint,
        expires_at,
        owner.kind,
        storable(owner.name)[:200],
    )
    return key_id


async def select_key_by_hash(conn: Connection, key_hash: bytes) -> ApiKey | None:
    """The key with this hash, if it is in force."""
    return _key(
        await conn.fetchrow(
            f"SELECT {_COLUMNS} FROM api_keys WHERE key_hash = $1 AND {_IN_FORCE}",  # noqa: S608 - constants
            key_hash,
        )
    )


async def select_key_by_id(conn: Connection, tenant: TenantId, key_id: str) -> ApiKey | None:
    """The key with this id, a UUID, if it is in force."""
    return _key(
        await conn.fetchrow(
            f"SELECT {_COLUMNS} FROM api_keys WHERE tenant_id = $1 AND key_id = $2::text::uuid AND {_IN_FORCE}",  # noqa: S608 - constants
            tenant,
            key_id,
        )
    )


async def note_key_uses(conn: Connection, uses: Sequence[tuple[TenantId, str, datetime]]) -> None:
    """Notes when keys were last used; an earlier moment than the stored one changes nothing."""
    await conn.execute(
        """
        UPDATE api_keys k SET used_at = n.at
        FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS n (tenant_id, key_id, at)
        WHERE k.tenant_id = n.tenant_id AND k.key_id = n.key_id::uuid AND (k.used_at IS NULL OR k.used_at < n.at)
        """,
        [tenant for tenant, _, _ in uses],
        [key_id for _, key_id, _ in uses],
        [at for _, _, at in uses],
    )


async def revoke_api_keys(conn: Connection, tenant: TenantId, which: str) -> list[str]:
    """Ends the keys in force with this name, hint or id. Returns their hints."""
    rows = await conn.fetch(
        f"UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND {_NAMED} AND {_IN_FORCE} RETURNING hint",  # noqa: S608 - constants
        tenant,
        which,
    )
    return [row["hint"] for row in rows]


async def revoke_keys_of(conn: Connection, tenant: TenantId, owner: KeyOwner) -> list[str]:
    """Ends the keys in force of one owner. Returns their hints."""
    rows = await conn.fetch(
        f"UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND owner_kind = $2 AND owner = $3 AND {_IN_FORCE} "  # noqa: S608 - constants
        "RETURNING hint",
        tenant,
        owner.kind,
        owner.name,
    )
    return sorted(row["hint"] for row in rows)


async def select_keys_to_rotate(conn: Connection, tenant: TenantId, which: str) -> list[tuple[str, str]]:
    """Ids and hints of the keys in force with this name, hint or id in whose place no other stands yet."""
    rows = await conn.fetch(
        f"SELECT key_id::text, hint FROM api_keys WHERE tenant_id = $1 AND {_NAMED} AND rotated_at IS NULL AND {_IN_FORCE} "  # noqa: S608 - constants
        "ORDER BY created_at",
        tenant,
        which,
    )
    return [(row[0], row[1]) for row in rows]


async def rotate_api_key(
    conn: Connection, tenant: TenantId, key_id: str, key_hash: bytes, hint: str, old_lives_s: float,
    owner: KeyOwner = UNKNOWN_OWNER,
) -> ApiKey | None:  # fmt: skip
    """A new key of the same name, permissions and length of life, of this owner; the old one ends after `old_lives_s` seconds, or
    sooner where it would anyway. None where that key is not in force or was replaced already: of two at once, one succeeds."""
    return _key(
        await conn.fetchrow(
            f"""
            WITH old AS (
                UPDATE api_keys k
                SET rotated_at = now(), expires_at = least(k.expires_at, now() + make_interval(secs => $5))
                FROM (SELECT expires_at FROM api_keys WHERE tenant_id = $1 AND key_id = $2::text::uuid FOR UPDATE) AS before
                WHERE k.tenant_id = $1 AND k.key_id = $2::text::uuid AND k.rotated_at IS NULL AND k.revoked_at IS NULL
                  AND (k.expires_at IS NULL OR k.expires_at > now())
                RETURNING k.name, k.scopes, now() + (before.expires_at - k.created_at) AS expires_at
            )
            INSERT INTO api_keys (tenant_id, key_hash, name, scopes, hint, expires_at, owner_kind, owner)
            SELECT $1, $3, name, scopes, $4, expires_at, $6, $7 FROM old RETURNING {_COLUMNS}
            """,  # noqa: S608 - constants
            tenant,
            key_id,
            key_hash,
            hint,
            old_lives_s,
            owner.kind,
            storable(owner.name)[:200],
        )
    )


async def select_api_keys(
    conn: Connection, tenant: TenantId, after: tuple[datetime, str] | None = None, most: int = 1000
) -> list[ApiKeyLine]:
    """The tenant's keys, newest first; `after` is the time and id of the last one known."""
    rows = await conn.fetch(
        f"""
        SELECT {_LINE} FROM api_keys
        WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR (created_at, key_id) < ($2, $3::text::uuid))
        ORDER BY created_at DESC, key_id DESC LIMIT $4
        """,  # noqa: S608 - constants
        tenant,
        after[0] if after else None,
        after[1] if after else None,
        most,
    )
    return [_line(row) for row in rows]


async def select_ending_keys(conn: Connection, tenant: TenantId) -> list[ApiKeyLine]:
    """Keys in force that will end and in whose place no other stands yet, the first to end first."""
    rows = await conn.fetch(
        f"SELECT {_LINE} FROM api_keys WHERE tenant_id = $1 AND rotated_at IS NULL AND expires_at IS NOT NULL AND {_IN_FORCE} "  # noqa: S608 - constants
        "ORDER BY expires_at LIMIT 100",
        tenant,
    )
    return [_line(row) for row in rows]
