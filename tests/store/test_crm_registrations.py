"""Modules on a real server: who may see the key, what ends a session, and what waits to be told."""

import pytest

from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store import crm_registrations, users
from gateway.store.postgres.errors import QueryFailed
from gateway.store.postgres.pool import Connection, Database
from gateway.store.user_extensions import replace_map, select_map

A, B = TenantId("0367"), TenantId("0368")
KIND, HASH = IntegrationKey("crm"), b"h" * 32
LONG = 86400.0


@pytest.fixture
async def two(db: Database) -> Database:
    """Two tenants, each with an integration and its map."""

    async def make(conn: Connection) -> None:
        for tenant in (A, B):
            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
                "VALUES ($1, 'x', 'UTC', 'BY', 'en', 'key')", tenant,
            )  # fmt: skip
            await conn.execute(
                "INSERT INTO integrations (tenant_id, integration_type) VALUES ($1, $2)", tenant, KIND,
            )  # fmt: skip
            await replace_map(conn, tenant, KIND, {"19": "150", "22": None})

    await db.engine(make)
    return db


async def register(db: Database, tenant: TenantId = A, key: str = "sealed") -> crm_registrations.RegistrationRow:
    await db.engine(crm_registrations.begin_registration, tenant, KIND, key, unread=False)
    return await db.tenant(tenant, crm_registrations.select_registration, tenant, KIND)


async def test_the_key_is_the_engines_alone(two: Database) -> None:
    await register(two)
    found = await two.engine(crm_registrations.select_link_key, A, KIND)
    assert found is not None
    assert found[:2] == ("sealed", 1)
    with pytest.raises(QueryFailed):
        await two.tenant(A, crm_registrations.select_link_key, A, KIND)
    with pytest.raises(QueryFailed):
        await two.tenant(A, crm_registrations.begin_registration, A, KIND, "mine", unread=False)
    assert await two.tenant(B, crm_registrations.select_registration, A, KIND) == crm_registrations.RegistrationRow()
    assert await two.tenant(B, select_map, A, KIND) is None
    with pytest.raises(QueryFailed):
        await two.tenant(B, replace_map, A, KIND, {"1": "2"})
    assert await two.tenant(A, select_map, A, KIND) == {"19": "150", "22": None}


async def test_registrations_and_what_is_to_be_told(two: Database) -> None:
    row = await register(two)
    assert (row.state, row.registration, row.pending) == ("active", 1, True)
    await two.engine(crm_registrations.note_sent, A, KIND, row.version, ["22"])
    row = await two.tenant(A, crm_registrations.select_registration, A, KIND)
    assert (row.pending, list(row.unknown_users)) == (False, ["22"])
    assert not row.pending
    await two.engine(crm_registrations.note_problem, A, KIND, "unavailable", "no\0answer")
    await two.tenant(A, replace_map, A, KIND, {"19": "151"})
    row = await two.tenant(A, crm_registrations.select_registration, A, KIND)
    assert (row.pending, row.problem, row.problem_detail) == (True, "unavailable", "no\ufffdanswer")
    await two.engine(crm_registrations.note_sent, A, KIND, row.version - 1, [])
    assert (await two.tenant(A, crm_registrations.select_registration, A, KIND)).pending, (
        "an older telling proves nothing of a newer"
    )
    assert (await register(two)).registration == 2


async def test_a_session_lives_as_long_as_its_registration(two: Database) -> None:
    async def session() -> users.Session | None:
        return await two.engine(users.select_module_session, A, HASH, Kind(KIND), LONG, LONG)

    await register(two)
    await two.engine(users.insert_module_session, A, HASH, KIND, 1, "csrf")
    found = await session()
    assert found is not None
    assert (found.tenant, found.scope, found.csrf) == (A, KIND, "csrf")
    assert await two.engine(users.select_session, A, HASH, LONG, LONG) is None
    assert await two.engine(users.select_module_session, B, HASH, Kind(KIND), LONG, LONG) is None
    assert await two.engine(users.select_module_session, A, HASH, Kind("other"), LONG, LONG) is None
    await two.engine(users.insert_module_session, A, b"i" * 32, KIND, 7, "csrf")
    assert await two.engine(users.select_module_session, A, b"i" * 32, Kind(KIND), LONG, LONG) is None
    assert await two.engine(crm_registrations.end_registration, A, KIND, "inactive")
    assert await session() is None
    assert await two.engine(crm_registrations.select_link_key, A, KIND) is None
    assert not await two.engine(crm_registrations.end_registration, A, KIND, "inactive")


async def test_switched_off_there_is_told_already(two: Database) -> None:
    await register(two)
    assert await two.engine(crm_registrations.end_registration, A, KIND, "inactive", reported=True)
    row = await two.tenant(A, crm_registrations.select_registration, A, KIND)
    assert (row.state, row.pending) == ("inactive", False)
    assert await two.engine(crm_registrations.end_registration, A, KIND, "deleted")
    await two.engine(crm_registrations.delete_registration, A, KIND)
    assert await two.tenant(A, crm_registrations.select_registration, A, KIND) == crm_registrations.RegistrationRow()
    assert not await two.engine(crm_registrations.end_registration, A, KIND, "deleted")


async def test_statuses(two: Database) -> None:
    await two.tenant(A, crm_registrations.upsert_status, A, KIND, "19", "busy", "anna@june.example", reported=False)
    assert await two.engine(crm_registrations.select_untold_statuses, A, KIND, 60.0) == [("19", "busy")]
    await two.engine(crm_registrations.mark_status_sent, A, KIND, "19", "free")
    assert await two.engine(crm_registrations.select_untold_statuses, A, KIND, 60.0) == [("19", "busy")], (
        "it is another by now"
    )
    await two.engine(crm_registrations.mark_status_sent, A, KIND, "19", "busy")
    assert await two.engine(crm_registrations.select_untold_statuses, A, KIND, 60.0) == []
    line = (await two.tenant(A, crm_registrations.select_statuses, A, KIND))["19"]
    assert (line.status, line.changed_by, line.reported) == ("busy", "anna@june.example", True)
    assert await two.tenant(B, crm_registrations.select_statuses, A, KIND) == {}


async def test_statuses_of_strangers_are_bounded(two: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crm_registrations, "MOST_STATUSES", 3)

    async def received(user: str, status: str = "free", tenant: TenantId = A) -> bool:
        return await two.tenant(tenant, crm_registrations.upsert_received_status, tenant, KIND, user, status)

    assert [await received(user) for user in ("1", "2", "3", "4", "5")] == [True, True, True, False, False]
    assert await received("2", "busy"), "who is known already may change"
    assert await received("19"), "and whoever has a number of ours is always kept"
    assert await received("4", tenant=B), "each tenant has room of its own"
    found = await two.tenant(A, crm_registrations.select_statuses, A, KIND)
    assert {user: line.status for user, line in found.items()} == {"1": "free", "2": "busy", "3": "free", "19": "free"}


async def test_a_deleted_module_goes_with_its_integration(two: Database) -> None:
    for tenant in (A, B):
        await register(two, tenant)
        assert await two.engine(crm_registrations.end_registration, tenant, KIND, "deleted")
    assert await two.engine(crm_registrations.delete_left_registrations) == 0, "the other side has yet to hear of it"

    async def remove(conn: Connection) -> None:
        await conn.execute("DELETE FROM integrations WHERE tenant_id = $1", A)

    await two.engine(remove)
    assert await two.engine(crm_registrations.delete_left_registrations) == 1
    assert await two.tenant(A, crm_registrations.select_registration, A, KIND) == crm_registrations.RegistrationRow()
    assert (await two.tenant(B, crm_registrations.select_registration, B, KIND)).pending
