"""`gateway user add` and `gateway user link`: people who sign in, and one-time links for them."""

from collections.abc import Callable

from gateway.domain.ids import TenantId
from gateway.domain.people import Role, wrong_with_email
from gateway.domain.secret import Secret
from gateway.store import tenants, users
from gateway.store.postgres.pool import Database
from gateway.web.session.passwords import hash_password
from gateway.web.session.tokens import login_link, new_token

Say = Callable[..., None]


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
    await db.engine(users.upsert_user, tenant, email, hash_password(password), Role(role) if role else None)
    print(f"{email}: {'new password set' if known else 'added'} ({tenant or 'operator'})")
    return 0


async def link(
    db: Database, tenant: TenantId | None, email: str, public_url: str, text_of: Say, *, known: bool = True
) -> int:
    """Prints a link that signs a person in once, within 15 minutes. Returns the exit code.

    With `known` False the tenant was not named: the account with this address is taken where there is only one.
    """
    if not known:
        accounts = await db.engine(users.select_accounts, email)
        if len(accounts) > 1:
            theirs = " or ".join(f"--tenant {one.tenant}" if one.tenant else "--operator" for one in accounts)
            text_of(f"{email} has {len(accounts)} accounts: say which by {theirs}")
            return 1
        if not accounts:
            text_of(f"no such person: {email}; gateway user add makes one")
            return 1
        tenant = accounts[0].tenant
    if not await db.engine(users.user_exists, tenant, email):
        text_of(f"no such person: {email} ({tenant or 'operator'}); gateway user add makes one")
        return 1
    text, token = new_token(tenant)
    await db.engine(users.insert_login_link, tenant, token.token_hash, email)
    print(login_link(public_url, text))
    return 0
