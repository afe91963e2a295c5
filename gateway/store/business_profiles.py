"""What each company says of itself: one row a tenant, none until something is entered.

A trigger raises the tenant's version with every change. Read `gateway/domain/profile.py` for what is valid.
"""

import json

from gateway.domain.ids import TenantId
from gateway.domain.profile import Profile
from gateway.store.postgres.pool import Connection


async def select_profile(conn: Connection, tenant: TenantId) -> Profile:
    """The profile; an empty one where there is no row."""
    found: str | None = await conn.fetchval("SELECT profile::text FROM business_profiles WHERE tenant_id = $1", tenant)
    return Profile.model_validate_json(found) if found is not None else Profile()


async def upsert_profile(conn: Connection, tenant: TenantId, profile: Profile) -> None:
    """Stores the whole profile; an equal one stays as it is."""
    await conn.execute(
        """
        INSERT INTO business_profiles AS p (tenant_id, profile) VALUES ($1, $2::jsonb)
        ON CONFLICT (tenant_id) DO UPDATE SET profile = excluded.profile, updated_at = now()
        WHERE p.profile IS DISTINCT FROM excluded.profile
        """,
        tenant,
        json.dumps(profile.plain(), ensure_ascii=False),
    )


async def delete_profile(conn: Connection, tenant: TenantId) -> None:
    """Removes the profile."""
    await conn.execute("DELETE FROM business_profiles WHERE tenant_id = $1", tenant)
