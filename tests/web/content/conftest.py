"""Two companies in a real database."""

from zoneinfo import ZoneInfo

import pytest

from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE = Tenant(TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
MAPLE = Tenant(TenantId("0368"), "Maple", ZoneInfo("Europe/London"), "GB", "en")
WHO = "admin@june.example"


@pytest.fixture
async def two(db: Database) -> Database:
    """The database with both."""

    async def make(conn: Connection) -> None:
        for tenant in (JUNE, MAPLE):
            await conn.execute(
                "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ($1, $2, $3, $4, $5, 'key')",
                tenant.number, tenant.name, str(tenant.timezone), tenant.country, tenant.language,
            )  # fmt: skip

    await db.engine(make)
    return db
