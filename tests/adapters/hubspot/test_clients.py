"""Clients, notes and deals beyond what the suite of all CRMs tries (`tests/crms/`): rights, what people have entered, fields."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from adapters.base import Attempt, Draft
from adapters.hubspot import ADAPTER
from gateway.domain.errors import Rejected, Unavailable
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.desk import Desk, Ids
from tests.adapters.hubspot.conftest import only, settings_of
from tests.crms.facts import chat, client, order
from tests.sandbox.hubspot import HubSpot
from tests.sandbox.web import Fault

Open = Callable[..., Any]
PHONE = "+375296254070"


async def deliver(desk: Desk, drafts: Sequence[Draft], ids: Ids | None = None, number: int = 1) -> list[str]:
    """What is noted of each."""
    held = ids or desk.ids.setdefault("order", Ids())
    return [
        (
            await desk.client.deliver(
                Attempt(kind=one.kind, key=one.key, lane=one.lane, body=one.body, ids=held, number=number)
            )
        ).detail
        for one in drafts
    ]


def planned(desk: Desk, before: Any, facts: Any) -> Sequence[Draft]:
    assert ADAPTER.plan_order is not None
    return ADAPTER.plan_order(desk.settings, desk.tenant, before, facts)


async def test_without_the_right_to_deals_telephony_goes_on(account: HubSpot, open_desk: Open) -> None:
    account.scopes = [one for one in account.scopes if ".deals." not in one]
    async with open_desk(settings_of(account)) as desk:
        with pytest.raises(Rejected) as raised:
            await deliver(desk, planned(desk, None, order(client())))
        assert "crm.objects.deals.read" in raised.value.person
        await desk.tell(ended())
    assert only(account)


async def test_without_the_right_to_positions_the_description_says_it_all(account: HubSpot, open_desk: Open) -> None:
    account.scopes = [one for one in account.scopes if "line_items" not in one]
    async with open_desk(settings_of(account)) as desk:
        assert await deliver(desk, planned(desk, None, order(client()))) == [""]
    deal = only(account, "deals").properties
    assert "Торт «Июнь»" in deal["description"]
    assert (deal["amount"], deal["pipeline"]) == ("25.50", "default")
    assert account.all("line_items") == []


async def test_what_people_have_done_in_a_deal_stays(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        made = order(client())
        await deliver(desk, planned(desk, None, made))
        deal = only(account, "deals")
        deal.properties["dealstage"] = "contractsent"
        account.add("line_items", name="Скидка", quantity="1", price="-1")
        account.all("line_items")[-1].deals = [deal.id]
        changed = replace(
            made,
            order=replace(
                made.order, version=2, status="confirmed", lines=made.order.lines[:1], total=Decimal("24.00")
            ),
        )
        await deliver(desk, planned(desk, made.order, changed))
    assert (deal.properties["dealstage"], deal.properties["amount"]) == ("contractsent", "24.00")
    assert sorted(one.properties["name"] for one in account.all("line_items")) == ["Скидка", "Торт «Июнь»"]


async def test_a_deal_that_somebody_deleted_is_made_anew(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        made = order(client())
        await deliver(desk, planned(desk, None, made))
        only(account, "deals").archived = True
        after = replace(made, order=replace(made.order, version=2, status="done"))
        await deliver(desk, planned(desk, made.order, after))
    assert only(account, "deals").properties["dealstage"] == "closedwon"


@pytest.mark.parametrize("field", ["gw_order_id", ""])
async def test_a_deal_whose_answer_was_lost_is_found_again(account: HubSpot, open_desk: Open, field: str) -> None:
    account.lag_s = 0.0
    async with open_desk(settings_of(account, deal_field=field)) as desk:
        drafts = planned(desk, None, order(client()))
        await deliver(desk, drafts)
        ids = desk.ids["order"]
        del ids.stored["deal"], ids.stored["deal_items"]
        await deliver(desk, drafts, number=2)
    assert ids.stored["deal"] == only(account, "deals").id
    assert len(account.all("line_items")) == 2


async def test_what_is_missing_is_filled_in_and_nothing_replaced(account: HubSpot, open_desk: Open) -> None:
    number = account.add_contact(PHONE, firstname=PHONE)
    other = account.add("contacts", firstname="Вера", email="vera@june.example")
    async with open_desk(settings_of(account)) as desk:
        assert ADAPTER.plan_contact is not None
        facts = client(emails=("vera@june.example",))
        await deliver(desk, ADAPTER.plan_contact(desk.settings, desk.tenant, facts))
    got = account.objects["contacts"][number].properties
    assert got["firstname"] == "Вера Лис", "a number is no name"
    assert "email" not in got, "it is another contact's"
    assert account.objects["contacts"][other].properties["firstname"] == "Вера"


async def test_a_client_is_found_by_the_e_mail(account: HubSpot, open_desk: Open) -> None:
    number = account.add("contacts", firstname="Вера", email="vera@june.example")
    async with open_desk(settings_of(account)) as desk:
        assert ADAPTER.plan_contact is not None
        facts = client(phones=(), emails=("Vera@june.example",))
        await deliver(desk, ADAPTER.plan_contact(desk.settings, desk.tenant, facts))
        account.objects["contacts"][number].archived = True
        await deliver(desk, ADAPTER.plan_contact(desk.settings, desk.tenant, replace(facts, name="V")), Ids())
    assert only(account, "contacts").properties["email"] == "Vera@june.example"


async def test_a_note_is_html_of_plain_text(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        assert ADAPTER.plan_chat is not None
        await deliver(
            desk, ADAPTER.plan_chat(desk.settings, desk.tenant, chat(client(), summary="<script>x</script> & co"))
        )
    body = only(account, "notes").properties["hs_note_body"]
    assert "&lt;script&gt;x&lt;/script&gt; &amp; co" in body
    assert "<br>" in body


async def test_fields_for_the_page(account: HubSpot, open_desk: Open) -> None:
    account.properties["calls"]["choice"] = {"type": "enumeration", "options": ("a", "b"), "label": "Choice"}
    async with open_desk(settings_of(account)) as desk:
        found = await desk.client.fields()
        assert set(found) == {"call", "contact", "order", "chat"}
        choice = next(one for one in found["call"] if one.name == "choice")
        assert (choice.title, choice.type, [one.value for one in choice.values]) == ("Choice", "choice", ["a", "b"])
        stage = next(one for one in found["order"] if one.name == "dealstage")
        assert [one.title for one in stage.values] == [
            "Appointment scheduled",
            "Contract sent",
            "Closed won",
            "Closed lost",
        ]
        assert not [one for one in found["contact"] if one.name.startswith("hs_searchable")], "they cannot be written"
    account.scopes = [one for one in account.scopes if ".deals." not in one]
    async with open_desk(settings_of(account)) as desk:
        assert set(await desk.client.fields()) == {"call", "contact", "chat"}


async def test_a_call_s_summary_is_a_note_and_stands_in_no_log(account: HubSpot, open_desk: Open) -> None:
    class Recordings:
        async def content_type(self, link: str) -> str:
            return "audio/wav"

        async def summary(self, recording_id: str) -> str:
            return "Клиент хочет торт & свечу\nк субботе"

    account.lag_s = 0.0
    async with open_desk(settings_of(account), recordings=Recordings()) as desk:
        await desk.tell(ended("1"))
        assert ADAPTER.plan_summary is not None
        (draft,) = ADAPTER.plan_summary(desk.settings, desk.tenant, desk.calls["1"], "r-1")
        attempt = desk.attempt(draft, "1")
        for fault in (Fault.DROP_AFTER, Fault.NONE):
            account.fault, account.fault_count = fault, 1
            try:
                await desk.client.deliver(attempt)
            except Unavailable:
                continue
        await desk.client.deliver(desk.attempt(draft, "1"))
    note = only(account, "notes")
    assert note.contacts == [only(account, "contacts").id]
    assert "торт &amp; свечу<br>к субботе" in note.properties["hs_note_body"]
    assert "торт" not in attempt.request + attempt.response + str(draft.body)
    assert account.violations == []
