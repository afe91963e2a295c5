"""A company's people: list, add, change, remove. Each change is audited and keeps the rules within its own transaction.

    a company that has an admin who can sign in keeps one
    nobody changes their own role

The engine role's alone, like everything of users. The pages and `/api/v1/users` call the same functions; `gateway apply` is the
operator's and uses `users.py`. Refusals are `PeopleRefused`. Read `users.py` for sign-in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.domain.api_keys import KeyOwner
from gateway.domain.ids import TenantId
from gateway.domain.people import LONGEST_NAME, MEMBER_ROLES, MOST_PHONES, PeopleRefused, Role, wrong_with_email
from gateway.store.api_keys import revoke_keys_of
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection, Record
from gateway.store.users import delete_user


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One person of a company as a list shows them."""

    user_id: UUID
    email: str
    role: Role
    name: str
    phones: tuple[str, ...]
    invited: bool
    """Whether they have still to set a password."""
    second_factor: bool
    """Whether they have set one up for this company."""
    created_at: datetime
    seen_at: datetime | None
    """When a session of theirs was last in use, of those that are open."""


_MEMBER = """
    u.user_id, u.email, u.role, u.name, u.phones, u.password_hash = '' AS invited, u.factor <> '' AS second_factor, u.created_at,
    (SELECT max(s.seen_at) FROM sessions s WHERE s.tenant_id = u.tenant_id AND s.email = u.email AND s.scope IS NULL) AS seen_at
"""


def _member(row: Record) -> Member:
    return Member(**{**row, "role": Role(row["role"]), "phones": tuple(row["phones"])})


async def list_members(conn: Connection, tenant: TenantId) -> list[Member]:
    """Everybody of a company, by address."""
    rows = await conn.fetch(f"SELECT {_MEMBER} FROM users u WHERE u.tenant_id = $1 ORDER BY u.email", tenant)  # noqa: S608 - constant columns
    return [_member(row) for row in rows]


async def select_member(conn: Connection, tenant: TenantId, user_id: UUID) -> Member | None:
    """One of them."""
    row = await conn.fetchrow(
        f"SELECT {_MEMBER} FROM users u WHERE u.tenant_id = $1 AND u.user_id = $2",  # noqa: S608 - constant columns
        tenant,
        user_id,
    )
    return _member(row) if row is not None else None


async def select_user_id(conn: Connection, tenant: TenantId | None, email: str) -> UUID | None:
    """The id of whoever signs in with an address in a company, or as an operator; None where nobody does."""
    found: UUID | None = await conn.fetchval(
        "SELECT user_id FROM users WHERE tenant_id IS NOT DISTINCT FROM $1 AND email = lower($2)", tenant, email
    )
    return found


async def add_member(
    conn: Connection, tenant: TenantId, *, email: str, role: Role, by: str, name: str = "", phones: Sequence[str] = ()
) -> Member:
    """Adds somebody who has no password yet: an invitation lets them set one. Raises PeopleRefused."""
    address = email.strip().lower()
    if wrong_with_email(address):
        raise PeopleRefused("email", "email", "must be an e-mail address")
    async with conn.transaction():
        await _check(conn, tenant, role, name, phones)
        user_id: UUID | None = await conn.fetchval(
            "INSERT INTO users (tenant_id, email, password_hash, role, name, phones) VALUES ($1, $2, '', $3, $4, $5) "
            "ON CONFLICT (tenant_id, email) DO NOTHING RETURNING user_id",
            tenant,
            address,
            role,
            name,
            list(phones),
        )
        if user_id is None:
            raise PeopleRefused("taken", "email", "is one of the company's people already")
        await insert_audit(conn, tenant, by, "user.added", address, _described(role, name, phones))
        made = await select_member(conn, tenant, user_id)
        assert made is not None
        return made


async def change_member(
    conn: Connection, tenant: TenantId, user_id: UUID, *, by: str, role: Role | None = None, name: str | None = None,
    phones: Sequence[str] | None = None,
) -> Member | None:  # fmt: skip
    """Changes what is given. None where there is nobody of this id. Raises PeopleRefused."""
    async with conn.transaction():
        admins = await _lock_admins(conn, tenant)
        old = await select_member(conn, tenant, user_id)
        if old is None:
            return None
        new_role, new_name = role or old.role, old.name if name is None else name
        new_phones = old.phones if phones is None else tuple(phones)
        await _check(conn, tenant, new_role, new_name, [one for one in new_phones if one not in old.phones])
        if new_role is not old.role:
            if old.email == by:
                raise PeopleRefused("own_role", "role", "nobody changes their own role; another admin does")
            _keep_one(admins, old.email)
        before = _described(old.role, old.name, old.phones)
        after = _described(new_role, new_name, new_phones)
        if before != after:
            await conn.execute(
                "UPDATE users SET role = $3, name = $4, phones = $5 WHERE tenant_id = $1 AND user_id = $2",
                tenant,
                user_id,
                new_role,
                new_name,
                list(new_phones),
            )
            await insert_audit(conn, tenant, by, "user.changed", old.email, f"{before} -> {after}")
        return await select_member(conn, tenant, user_id)


async def remove_member(conn: Connection, tenant: TenantId, user_id: UUID, *, by: str) -> Member | None:
    """Removes somebody with their sessions, links, what these sessions had begun, and their API keys. What they did stays in the audit.
    Returns who it was, None where there is nobody of this id. Raises PeopleRefused."""
    async with conn.transaction():
        admins = await _lock_admins(conn, tenant)
        old = await select_member(conn, tenant, user_id)
        if old is None:
            return None
        _keep_one(admins, old.email)
        keys = await end_membership(conn, tenant, old.email)
        await insert_audit(conn, tenant, by, "user.removed", old.email, _described(old.role, old.name, old.phones))
        ended = key_ended(old.email)
        for hint in keys:
            await insert_audit(conn, tenant, by, "api_key.revoked", hint, old=ended["old"], new=ended["new"])
        return old


async def end_membership(conn: Connection, tenant: TenantId, email: str) -> list[str]:
    """Removes somebody with everything that lets them in, whatever the rules say. Returns the hints of the API keys that ended with
    them: those that they made, and those that were made by these. Within a transaction."""
    await delete_user(conn, tenant, email)
    # After it: whoever makes a key for them meanwhile holds their row (`users.hold_user`), and is waited for.
    return await revoke_keys_of(conn, tenant, KeyOwner("person", email))


def key_ended(owner: str) -> dict[str, dict[str, Any]]:
    """What the audit says of a key that ended with its owner: `old` and `new`."""
    return {"old": {"revoked": False}, "new": {"revoked": True, "owner_removed": owner}}


async def _lock_admins(conn: Connection, tenant: TenantId) -> frozenset[str]:
    """The admins who can sign in. Nobody else changes any of them until the transaction ends."""
    rows = await conn.fetch(
        "SELECT email FROM users WHERE tenant_id = $1 AND role = 'admin' AND password_hash <> '' ORDER BY email FOR UPDATE",
        tenant,
    )
    return frozenset(row["email"] for row in rows)


def _keep_one(admins: frozenset[str], leaving: str) -> None:
    if admins == {leaving}:
        raise PeopleRefused("last_admin", "role", "is the company's last admin; make another one first")


async def _check(conn: Connection, tenant: TenantId, role: Role, name: str, phones: Sequence[str]) -> None:
    if role not in MEMBER_ROLES:
        raise PeopleRefused("role", "role", f"must be one of {', '.join(MEMBER_ROLES)}")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise PeopleRefused("name", "name", f"must be at most {LONGEST_NAME} characters of one line")
    known = await conn.fetch(
        "SELECT number FROM phones WHERE tenant_id = $1 AND number = ANY($2::text[])", tenant, list(phones)
    )
    if len(phones) > MOST_PHONES or {*phones} - {row["number"] for row in known}:
        raise PeopleRefused("phones", "phones", "must be internal numbers of the company")


def _described(role: Role, name: str, phones: Sequence[str]) -> str:
    parts = [f"role: {role}"]
    parts += [f"name: {name}"] if name else []
    parts += [f"phones: {', '.join(phones)}"] if phones else []
    return "; ".join(parts)
