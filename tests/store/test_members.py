"""A company's people in the store: the rules that hold whoever asks, also at the same moment."""

from functools import partial
from uuid import uuid4

import pytest
import trio

from gateway.domain.api_keys import KeyOwner, new_key
from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.people import PeopleRefused, Role
from gateway.store import members, users
from gateway.store.api_keys import insert_api_key, select_api_keys
from gateway.store.audit import select_audit
from gateway.store.postgres.pool import Connection, Database
from gateway.store.tenants import TenantRow, upsert_phone, upsert_tenant
from gateway.web.callers.key_changes import create_key

A, B = TenantId("0367"), TenantId("0368")
BY = "first@june.example"


@pytest.fixture
async def company(db: Database) -> Database:
    """Two companies, each with an admin who can sign in; the first with two numbers."""

    async def fill(conn: Connection) -> None:
        for number in (A, B):
            await upsert_tenant(
                conn, TenantRow(number, "June", "UTC", "BY", "en", None, f"x:{number}:abcdefgh", {}, 0, (), (), ())
            )
            await users.upsert_user(conn, number, BY, "hash")
        for phone in ("150", "151"):
            await upsert_phone(conn, A, phone, "", [])

    await db.engine(fill)
    return db


async def member(db: Database, email: str, tenant: TenantId = A) -> members.Member:
    return next(one for one in await db.engine(members.list_members, tenant) if one.email == email)


async def refused(db: Database, work: object) -> str:
    with pytest.raises(PeopleRefused) as caught:
        await db.engine(work)  # type: ignore[arg-type]
    return caught.value.code


async def test_people_are_added_changed_and_removed(company: Database) -> None:
    add = partial(members.add_member, tenant=A, by=BY)
    anna = await company.engine(partial(add, email=" Anna@June.example", role=Role.AGENT, name="Anna", phones=["150"]))
    assert (anna.email, anna.role, anna.phones, anna.invited) == ("anna@june.example", Role.AGENT, ("150",), True)
    assert await company.engine(users.select_accounts, "anna@june.example")
    for code, given in (
        ("taken", {"email": "anna@june.example", "role": Role.AGENT}), ("email", {"email": "anna", "role": Role.AGENT}),
        ("role", {"email": "x@june.example", "role": Role.OPERATOR}), ("phones", {"email": "x@june.example", "role": Role.AGENT, "phones": ["199"]}),
        ("name", {"email": "x@june.example", "role": Role.AGENT, "name": "a\nb"}),
    ):  # fmt: skip
        assert await refused(company, partial(add, **given)) == code
    changed = await company.engine(
        partial(members.change_member, tenant=A, user_id=anna.user_id, by=BY, phones=["151"])
    )
    assert changed is not None
    assert (changed.phones, changed.name) == (("151",), "Anna")
    assert await company.engine(partial(members.change_member, tenant=B, user_id=anna.user_id, by=BY, name="x")) is None
    assert await company.engine(partial(members.remove_member, tenant=B, user_id=anna.user_id, by=BY)) is None
    assert await company.engine(partial(members.remove_member, tenant=A, user_id=uuid4(), by=BY)) is None
    await company.engine(partial(members.remove_member, tenant=A, user_id=anna.user_id, by=BY))
    assert [one.email for one in await company.engine(members.list_members, A)] == [BY]
    lines = await company.tenant(A, select_audit, A, None, 9)
    assert [(line.action, line.target) for line in reversed(lines)] == [
        (f"user.{word}", "anna@june.example") for word in ("added", "changed", "removed")
    ]
    assert lines[1].detail == "role: agent; name: Anna; phones: 150 -> role: agent; name: Anna; phones: 151"


async def test_the_last_admin_stays_and_nobody_changes_their_own_role(company: Database) -> None:
    first = await member(company, BY)
    change = partial(members.change_member, tenant=A, user_id=first.user_id)
    assert await refused(company, partial(change, by=BY, role=Role.AUDITOR)) == "own_role"
    assert await refused(company, partial(change, by="x@june.example", role=Role.AUDITOR)) == "last_admin"
    assert (
        await refused(company, partial(members.remove_member, tenant=A, user_id=first.user_id, by="x@june.example"))
        == "last_admin"
    )
    # An admin who was invited and cannot sign in yet is not one that a company could be left with.
    await company.engine(partial(members.add_member, tenant=A, email="new@june.example", role=Role.ADMIN, by=BY))
    assert (
        await refused(company, partial(members.remove_member, tenant=A, user_id=first.user_id, by=BY)) == "last_admin"
    )
    await company.engine(users.upsert_user, A, "new@june.example", "hash")
    assert await company.engine(partial(members.remove_member, tenant=A, user_id=first.user_id, by=BY))


async def test_two_admins_who_remove_each_other_leave_one(company: Database) -> None:
    await company.engine(users.upsert_user, A, "second@june.example", "hash")
    outcomes: list[str] = []

    async def remove(email: str, by: str) -> None:
        one = await member(company, email)
        try:
            await company.engine(partial(members.remove_member, tenant=A, user_id=one.user_id, by=by))
            outcomes.append("removed")
        except PeopleRefused as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove, BY, "second@june.example")
        nursery.start_soon(remove, "second@june.example", BY)
    assert sorted(outcomes) == ["last_admin", "removed"]
    assert len(await company.engine(members.list_members, A)) == 1


async def test_who_is_removed_leaves_no_session_link_or_draft(company: Database) -> None:
    async def fill(conn: Connection) -> None:
        await users.upsert_user(conn, A, "second@june.example", "hash")
        for tenant in (A, B):
            await users.insert_session(conn, tenant, b"s" * 32, BY, "csrf")
        await users.insert_login_link(conn, A, b"l" * 32, BY)
        await conn.execute(
            "INSERT INTO flashes (tenant_id, token_hash, flash_id, kind, body) VALUES ('0367', $1, 'x', 'form', '{}')",
            b"s" * 32,
        )
        await conn.execute(
            "INSERT INTO logins (tenant_id, integration_type, transaction_hash, session_hash, expires_at) "
            "VALUES ('0367', 'telegram', $1, $2, now() + interval '1 hour')", b"t" * 32, b"s" * 32,
        )  # fmt: skip

    async def left(conn: Connection) -> list[int]:
        return [await conn.fetchval(f"SELECT count(*) FROM {table}") for table in ("login_links", "flashes", "logins")]

    await company.engine(fill)
    first = await member(company, BY)
    await company.engine(partial(members.remove_member, tenant=A, user_id=first.user_id, by="second@june.example"))
    assert await company.engine(left) == [0, 0, 0]
    session = await company.engine(users.select_session, A, b"s" * 32, 60.0, 60.0)
    assert session is not None, "the other company's membership goes on"
    assert [one.tenant for one in session.memberships] == [B]
    assert session.membership(A) is None


async def key(db: Database, name: str, owner: KeyOwner, tenant: TenantId = A) -> str:
    return await db.engine(insert_api_key, tenant, name.encode(), name, ["read"], f"gw_live_{name}", None, owner)


async def in_force(db: Database, tenant: TenantId = A) -> set[str]:
    lines = await db.tenant(tenant, select_api_keys, tenant)
    return {one.name for one in lines if one.revoked_at is None}


async def test_who_is_removed_takes_their_api_keys_along_and_nobody_elses(company: Database) -> None:
    second = "second@june.example"
    await company.engine(users.upsert_user, A, second, "hash")
    for name, owner in (("theirs", KeyOwner("person", BY)), ("other", KeyOwner("person", second)), ("cli", KeyOwner("cli")),
                        ("operator", KeyOwner("operator", BY)), ("old", KeyOwner()), ("outside", KeyOwner("outside", BY))):  # fmt: skip
        await key(company, name, owner)
    await key(company, "elsewhere", KeyOwner("person", BY), B)
    first = await member(company, BY)
    await company.engine(partial(members.remove_member, tenant=A, user_id=first.user_id, by=second))
    assert await in_force(company) == {"other", "cli", "operator", "old", "outside"}
    assert await in_force(company, B) == {"elsewhere"}
    lines = await company.tenant(A, select_audit, A, None, 9)
    assert [(one.action, one.target, one.actor) for one in lines] == [
        ("api_key.revoked", "gw_live_theirs", second), ("user.removed", BY, second),
    ]  # fmt: skip
    assert lines[0].new == {"revoked": True, "owner_removed": BY}


async def test_no_key_is_made_for_somebody_who_was_removed(company: Database) -> None:
    """A request that was let in before is either done first, and its key ends, or comes too late."""
    await company.engine(users.upsert_user, A, "second@june.example", "hash")
    first, late = await member(company, BY), new_key()
    refused: list[str] = []

    async def make() -> None:
        try:
            await company.engine(create_key, A, late, "late", ["read"], None, BY, KeyOwner("person", BY))
        except Unavailable as error:
            refused.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        nursery.start_soon(
            company.engine, partial(members.remove_member, tenant=A, user_id=first.user_id, by="second@june.example")
        )
    assert await in_force(company) == set()
    refused.clear()
    await make()
    assert len(refused) == 1
    assert await in_force(company) == set()
