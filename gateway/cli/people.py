"""`gateway user add`, `link` and `reset-second-factor`: people who sign in, one-time links, and the way back for who has lost the second
factor."""

from collections.abc import Callable

from gateway.cli.api_keys import ACTOR
from gateway.domain.ids import OPERATOR, TenantId
from gateway.domain.people import Role, wrong_with_email
from gateway.domain.secret import MASK, Secret
from gateway.store import second_factors, tenants, users
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection, Database
from gateway.web.session.passwords import hash_password
from gateway.web.session.tokens import login_link, new_token

Say = Callable[..., None]
EVERY = 100_000
"""Accounts of one address that a command looks through."""


async def add(
    db: Database, tenant: TenantId | None, email: str, password: Secret, text_of: Say, *, role: str | None = None
) -> int:
    """Adds a person, or sets a new password and, where it is given, the role. Returns the exit code."""
    if wrong_with_email(email):
        text_of(f"{email!r} is not an e-mail address")
        return 2
    if tenant is not None and not await db.engine(tenants.select_tenants, [tenant]):
        text_of(f"no tenant {tenant}; gateway apply makes one")
        return 1
    known = await db.engine(users.user_exists, tenant, email)
    chosen = Role(role) if role else None
    action = "user.password_set" if known else "user.added"
    await db.engine(_add, tenant, email, hash_password(password), chosen, action)
    print(f"{email}: {'new password set' if known else 'added'} ({tenant or 'operator'})")
    return 0


async def link(
    db: Database, tenant: TenantId | None, email: str, public_url: str, text_of: Say, *, known: bool = True
) -> int:
    """Prints a link that signs a person in once, within 15 minutes. Returns the exit code.

    With `known` False the tenant was not named: the account with this address is taken where there is only one.
    """
    found = await _account(db, tenant, email, text_of, known=known)
    if found is None:
        return 1
    tenant = found.tenant
    text, token = new_token(tenant)
    await db.engine(_link, tenant, token.token_hash, email)
    print(login_link(public_url, text))
    return 0


async def reset_second_factor(
    db: Database, tenant: TenantId | None, email: str, text_of: Say, *, known: bool = True
) -> int:
    """Takes a person's second factor away, with its recovery codes, and ends their sessions there. `known` as in `link`. Returns the
    exit code."""
    found = await _account(db, tenant, email, text_of, known=known)
    if found is None:
        return 1
    whose = found.tenant or "operator"
    if not await db.engine(second_factors.reset_factor, found.tenant, email, ACTOR):
        text_of(f"{email} ({whose}) has no second factor")
        return 1
    print(f"{email}: second factor taken away, sessions ended ({whose})")
    return 0


async def _account(
    db: Database, tenant: TenantId | None, email: str, text_of: Say, *, known: bool
) -> users.Account | None:
    """The account that is meant; None with a sentence where there is none, or it has to be named."""
    accounts = await db.engine(users.select_accounts, email, EVERY)
    if known:
        found = next((one for one in accounts if one.tenant == tenant), None)
        if found is None:
            text_of(f"no such person: {email} ({tenant or 'operator'}); gateway user add makes one")
        return found
    if len(accounts) > 1:
        theirs = " or ".join(f"--tenant {one.tenant}" if one.tenant else "--operator" for one in accounts)
        text_of(f"{email} has {len(accounts)} accounts: say which by {theirs}")
        return None
    if not accounts:
        text_of(f"no such person: {email}; gateway user add makes one")
        return None
    return accounts[0]


async def _add(
    conn: Connection, tenant: TenantId | None, email: str, password_hash: str, role: Role | None, action: str
) -> None:
    async with conn.transaction():
        await users.upsert_user(conn, tenant, email, password_hash, role)
        new = {"password": MASK, **({"role": role} if role is not None else {})}
        await insert_audit(conn, tenant or OPERATOR, ACTOR, action, email, new=new)


async def _link(conn: Connection, tenant: TenantId | None, token_hash: bytes, email: str) -> None:
    async with conn.transaction():
        await users.insert_login_link(conn, tenant, token_hash, email)
        await insert_audit(conn, tenant or OPERATOR, ACTOR, "user.linked", email)
