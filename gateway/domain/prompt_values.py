"""The values of a prompt's placeholders: from the tenant, its profile, its catalog, and the prompt's own variables. Pure.

A value that the profile does not have is the variable's default, or nothing. Read `gateway/domain/prompts.py` for how they
are filled in.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from gateway.domain.catalog import Item, catalog_text
from gateway.domain.configuration import Tenant
from gateway.domain.profile import Profile, hours_text
from gateway.domain.prompts import AT_READING, MENU_KEYS, PROFILE_KEYS, Variable

_WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ru": ("понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"),
}


def values_of(
    tenant: Tenant, profile: Profile, items: Iterable[Item], variables: Sequence[Variable]
) -> dict[str, str | None]:
    """Every placeholder that such a prompt may have. None stands for what is filled in at reading."""
    known: dict[str, str | None] = {
        "business_name": tenant.name,
        "business_type": profile.business_type,
        "description": profile.description,
        "phone": profile.phone,
        "address": profile.address,
        "website": profile.website,
        "working_hours": hours_text(profile, tenant.language),
        "language": tenant.language,
        "timezone": str(tenant.timezone),
        "currency": profile.currency_in(tenant.country),
    }
    known |= dict.fromkeys(MENU_KEYS, catalog_text(items))
    known |= {variable.key: variable.default_value for variable in variables if not known.get(variable.key)}
    known |= dict.fromkeys(AT_READING)
    assert {*PROFILE_KEYS, *MENU_KEYS} <= known.keys()
    return known


def at_reading(key: str, tenant: Tenant, now: datetime) -> str:
    """`today` ("2026-11-28, Saturday") and `now` ("2026-11-28 23:30") in the tenant's time zone."""
    local = now.astimezone(tenant.timezone)
    if key == "today":
        return f"{local:%Y-%m-%d}, {_WEEKDAYS[tenant.language][local.weekday()]}"
    return f"{local:%Y-%m-%d %H:%M}"
