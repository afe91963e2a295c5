"""`/profile`: what the company says of itself to bots."""

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.configuration import Tenant
from gateway.domain.profile import BUSINESS_TYPES, Day, Profile
from gateway.web.content.profile import get_profile, put_profile, shown_profile
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Shown

_EXAMPLE: JsonDict = {
    "business_type": "restaurant", "description": "Pizza from a wood oven", "phone": "+375291112233",
    "address": "Minsk, Lenina 1", "website": "https://june.example", "currency": "BYN",
    "working_hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00"}],
    "holidays": ["2026-12-31", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}],
}  # fmt: skip


class HoursItem(Shown):
    """Some days of the week. Past midnight is over 24: `26:00`."""

    days: list[Day]
    start: str = Field(alias="from")
    end: str = Field(alias="to")


class HolidayItem(Shown):
    """A day with hours of its own."""

    date: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")


class ProfileItem(Shown):
    """The profile. Empty fields are not known."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    business_id: str
    business_name: str
    business_type: str = Field(json_schema_extra={"enum": list(BUSINESS_TYPES)})
    description: str
    phone: str
    address: str
    website: str
    currency: str = Field(description="where none is entered, the country's")
    working_hours: list[HoursItem]
    holidays: list[str | HolidayItem] = Field(description="a day alone is one on which it is closed")


class ProfileBody(Profile):
    """The whole profile: what is left out is empty. What a GET answers may be sent back."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", title="ProfileBody", json_schema_extra={"examples": [_EXAMPLE]}
    )

    business_id: str | None = Field(None, description="not changed here")
    business_name: str | None = Field(None, description="not changed here")


def _item(tenant: Tenant, profile: Profile) -> ProfileItem:
    shown = shown_profile(tenant, profile)
    return ProfileItem.model_validate({"business_id": tenant.number, "business_name": tenant.name, **shown})


def profile(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    async def show(call: Call) -> ProfileItem:
        return _item(call.tenant, await get_profile(deps.db, call.tenant))

    async def put(call: Call) -> ProfileItem:
        body: ProfileBody = call.body
        data = body.model_dump(mode="json", exclude={"business_id", "business_name"})
        return _item(call.tenant, await put_profile(deps.db, call.tenant, data, call.caller.actor))

    return [
        Endpoint(method="GET", path="/profile", operation=show, scopes=("read",), answer=ProfileItem, summary="The business profile"),
        Endpoint(method="PUT", path="/profile", operation=put, scopes=("write",), body=ProfileBody, answer=ProfileItem,
                 summary="Replace the business profile"),
    ]  # fmt: skip
