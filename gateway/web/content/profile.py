"""A company's profile: read, checked, stored, audited."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.profile import Profile
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import select_profile, upsert_profile
from gateway.store.postgres.pool import Connection, Database
from gateway.web.content.problems import problems_of


def read_profile(data: Any, before: str = "") -> Profile:
    """A profile as people and programs write it. Raises Invalid with every problem, by its path behind `before`."""
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise Invalid(tuple(problems_of(error, before))) from None


def shown_profile(tenant: Tenant, profile: Profile) -> dict[str, Any]:
    """As the REST API answers it: with the currency that holds."""
    return {**profile.plain(), "currency": profile.currency_in(tenant.country)}


async def get_profile(db: Database, tenant: Tenant) -> Profile:
    """The profile; an empty one where nothing is entered."""
    return await db.tenant(tenant.number, select_profile, tenant.number)


async def put_profile(db: Database, tenant: Tenant, data: Mapping[str, Any], person: str) -> Profile:
    """Replaces the profile. Raises Invalid, and then nothing has changed."""
    profile = read_profile(data)
    await db.tenant(tenant.number, store_profile, tenant.number, profile, person)
    return profile


async def store_profile(conn: Connection, number: TenantId, profile: Profile, person: str) -> None:
    """Stores it with a line in the audit trail that names the fields; within the caller's transaction."""
    before, after = (await select_profile(conn, number)).plain(), profile.plain()
    changed = [name for name in after if before[name] != after[name]]
    if changed:
        await upsert_profile(conn, number, profile)
        await insert_audit(conn, number, person, "profile.saved", "", ", ".join(changed))
