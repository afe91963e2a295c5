"""Whose number it is: found in every form, made once, and what becomes of a call whose contact is refused or gone."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from gateway.domain.errors import Rejected
from gateway.domain.events import Result
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.hubspot.conftest import CLIENT, only, settings_of
from tests.sandbox.hubspot import HubSpot

Open = Callable[..., Any]


@pytest.mark.parametrize("place", ["phone", "mobilephone"])
@pytest.mark.parametrize(
    "stored",
    ["+375291112233", "375291112233", "80291112233", "8 029 111-22-33", "291112233", "+375 (29) 111-22-33", "Anna: 8 (029) 111-22-33",
     "+375291112233 ext. 5"],
)  # fmt: skip
async def test_a_client_is_found_however_the_number_is_written(
    account: HubSpot, open_desk: Open, place: str, stored: str
) -> None:
    number = account.add("contacts", **{place: stored})
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended())
    assert only(account).contacts == [number]
    assert len(account.all("contacts")) == 1


async def test_the_end_of_a_number_may_be_another_country_s(account: HubSpot, open_desk: Open) -> None:
    account.add_contact("+48291112233")
    account.add_contact("+1 329 111 2233")
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended())
    made = account.all("contacts")[-1]
    assert made.properties["phone"] == CLIENT
    assert only(account).contacts == [made.id]


async def test_duplicates_that_exist_already_hide_nobody(account: HubSpot, open_desk: Open) -> None:
    for stored in ("+48291112233",) * 30:
        account.add_contact(stored)
    first = account.add_contact(CLIENT, firstname="x" * 300 + "🙂")
    account.add_contact("8 029 1112233")
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended())
    assert only(account).contacts == [first]


@pytest.mark.parametrize("field", ["gw_phone", ""])
async def test_one_caller_is_one_contact_although_no_search_sees_it_yet(
    account: HubSpot, open_desk: Open, field: str
) -> None:
    account.lag_s, account.limits = 3600.0, False
    async with open_desk(settings_of(account, contact_field=field)) as desk:
        async with trio.open_nursery() as nursery:
            for call in "12345":
                nursery.start_soon(desk.tell, ended(call))
        await desk.tell(ended("6"))
    made = only(account, "contacts")
    assert (made.properties["phone"], made.properties["hubspot_owner_id"]) == (CLIENT, "101")
    assert {one.contacts[0] for one in account.all("calls")} == {made.id}
    assert account.violations == []


async def test_another_process_makes_no_second_contact(account: HubSpot, open_desk: Open) -> None:
    """Its own memory is empty, and no search sees the contact yet."""
    account.lag_s = 3600.0
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended("1"))
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended("2", called="+375171234568"))
    assert len(account.all("contacts")) == 1
    assert account.violations == []


async def test_a_contact_that_is_gone_meanwhile_is_made_anew(account: HubSpot, open_desk: Open) -> None:
    number = account.add_contact(CLIENT)
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ended("1"))
        account.objects["contacts"][number].archived = True
        await desk.tell(ended("2", called="+375171234568"))
        made = only(account, "contacts")
        assert account.all("calls")[-1].contacts == [made.id]
        made.archived = True  # it holds its unique number in the recycle bin
        await desk.tell(ended("3", called="+375171234569"))
    assert account.all("calls")[-1].contacts == [only(account, "contacts").id]
    assert len(account.all("calls")) == 3


async def test_a_required_property_costs_the_contact_and_not_the_call(account: HubSpot, open_desk: Open) -> None:
    account.required = {"jobtitle"}
    async with open_desk(settings_of(account)) as desk:
        (noted,) = await desk.tell(ended())
    assert (noted.note, "jobtitle" in noted.detail) == ("client_not_made", True)
    assert only(account).contacts == []


@pytest.mark.parametrize("named", [True, False])
async def test_a_deleted_owner_costs_the_owner_and_not_the_call(account: HubSpot, open_desk: Open, named: bool) -> None:
    account.names_properties = named
    async with open_desk(settings_of(account)) as desk:
        (noted, *_) = await desk.tell(ended("1", Result.MISSED, rang=("153",)))
    assert (noted.note, noted.detail) == ("fields_refused", "hubspot_owner_id")
    assert "hubspot_owner_id" not in only(account).properties
    assert only(account).contacts == [only(account, "contacts").id]
    assert len(account.all("tasks")) == 1


async def test_nobody_s_call_is_the_default_owner_s(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account, default_owner="103")) as desk:
        (noted,) = await desk.tell(ended("1", extension="199", last_extension="199"))
    assert only(account).properties["hubspot_owner_id"] == "103"
    assert (noted.note, noted.detail) == ("not_exist_codes", "199")


async def test_mapped_fields_are_written(account: HubSpot, open_desk: Open) -> None:
    mapping = [
        {
            "when": "call",
            "to": "hs_activity_type",
            "from": "call.result",
            "values": {"missed": "Missed call"},
            "default": "Call",
        },
        {"when": "contact", "to": "lifecyclestage", "from": "contact.phone", "values": {}, "default": "lead"},
    ]
    async with open_desk(settings_of(account, mapping=mapping)) as desk:
        (noted, *_) = await desk.tell(ended("1", Result.MISSED))
    assert only(account).properties["hs_activity_type"] == "Missed call"
    assert (noted.note, noted.detail) == ("fields_refused", "lifecyclestage")
    assert only(account).contacts == [only(account, "contacts").id]


async def test_who_is_responsible(account: HubSpot, open_desk: Open) -> None:
    account.add_contact("8 029 111-22-33", owner="103")
    account.add_contact("+375291112244")
    async with open_desk(settings_of(account)) as desk:
        found = await desk.client.responsible(CLIENT)
        assert found is not None
        assert found.user_id == "103"
        assert await desk.client.responsible("+375291112244") is None
        assert await desk.client.responsible("+375447654321") is None


async def test_people(account: HubSpot, open_desk: Open) -> None:
    account.owners |= {
        str(n): {"id": str(n), "firstName": "x" * 300 + "🙂", "email": f"u{n}@june.example"} for n in range(200, 320)
    }
    async with open_desk(settings_of(account)) as desk:
        users = await desk.client.users()
        assert len(users) == 124
        assert [user.user_id for user in users if not user.active] == ["104"]
        assert next(user for user in users if user.user_id == "102").groups == ("Sales",)
        held = await desk.client.save_extensions(None, {"101": "150", "9999": "151"})
    assert (held.extensions, held.unknown_users) == ({"101": "150"}, ("9999",))


async def test_a_call_that_is_refused_is_refused(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        (finish,) = desk.planned(ended())
        account.properties["calls"]["hs_timestamp"] = {"type": "number", "fixed": True}
        with pytest.raises(Rejected, match="hs_timestamp"):
            await desk.client.deliver(desk.attempt(finish, "1"))
