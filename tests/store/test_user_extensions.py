"""Maps of users to internal numbers on a real server: one statement, one word to the caches, nothing of another tenant."""

import pytest

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import crm_registrations, tenants
from gateway.store.postgres.errors import QueryFailed
from gateway.store.postgres.pool import Connection, Database
from gateway.store.user_extensions import replace_map, select_map

A, B = TenantId("0367"), TenantId("0368")
CRM, SHOP = IntegrationKey("crm"), IntegrationKey("crm:shop")


@pytest.fixture
async def two(db: Database) -> Database:
    """Two tenants with two integrations each."""

    async def make(conn: Connection) -> None:
        for tenant in (A, B):
            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
                "VALUES ($1, 'x', 'UTC', 'BY', 'en', 'key')", tenant,
            )  # fmt: skip
            for key in (CRM, SHOP):
                await conn.execute(
                    "INSERT INTO integrations (tenant_id, integration_type) VALUES ($1, $2)", tenant, key
                )

    await db.engine(make)
    return db


async def version(db: Database, tenant: TenantId = A) -> int:
    return (await db.engine(tenants.select_versions))[tenant]


async def test_a_map_is_replaced_as_a_whole(two: Database) -> None:
    await two.tenant(A, replace_map, A, CRM, {"19": "150", "anna-k": "151", "22": None})
    assert await two.tenant(A, select_map, A, CRM) == {"19": "150", "22": None, "anna-k": "151"}
    await two.tenant(A, replace_map, A, CRM, {"19": "151", "anna-k": "150"})
    assert await two.tenant(A, select_map, A, CRM, lock=True) == {"19": "151", "anna-k": "150"}
    assert await two.tenant(A, select_map, A, SHOP) == {}
    assert await two.tenant(A, select_map, A, IntegrationKey("other")) is None
    (row,) = await two.engine(tenants.select_tenants, [A])
    assert row.user_extensions == {"crm": {"19": "151", "anna-k": "150"}}


async def test_a_change_is_noted_once_and_equal_rows_are_none(two: Database) -> None:
    await two.engine(crm_registrations.begin_registration, A, CRM, "key", unread=False)
    before, elsewhere = await version(two), await version(two, B)
    whole = {str(user): str(100 + user) for user in range(300)}
    await two.tenant(A, replace_map, A, CRM, whole)
    after = await version(two)
    assert after > before
    row = await two.tenant(A, crm_registrations.select_registration, A, CRM)
    await two.tenant(A, replace_map, A, CRM, whole)
    assert await version(two) == after
    assert (await two.tenant(A, crm_registrations.select_registration, A, CRM)).version == row.version == 2
    assert await version(two, B) == elsewhere


async def test_another_tenants_map_is_neither_seen_nor_changed(two: Database) -> None:
    await two.tenant(A, replace_map, A, CRM, {"19": "150"})
    assert await two.tenant(B, select_map, A, CRM) is None
    with pytest.raises(QueryFailed):
        await two.tenant(B, replace_map, A, CRM, {"1": "2"})


async def test_a_map_goes_with_its_integration(two: Database) -> None:
    await two.tenant(A, replace_map, A, CRM, {"19": "150"})
    await two.engine(tenants.delete_link, tenants.INTEGRATIONS, A, CRM)
    (row,) = await two.engine(tenants.select_tenants, [A])
    assert row.user_extensions == {}
