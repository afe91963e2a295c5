"""Clients, chats and orders in a strict account: each is there once, whatever happens on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from adapters.amocrm.fields import written
from adapters.base import Draft
from adapters.crm_drafts import plan_chat, plan_contact
from gateway.domain.crm_facts import ChatFacts, ChatLine, ClientFacts
from gateway.domain.errors import RateLimited, Rejected, Unavailable
from tests.adapters.amocrm.conftest import CLIENT, settings_of
from tests.adapters.bitrix24.conftest import ended
from tests.adapters.desk import Desk
from tests.sandbox.amocrm import AmoCrm, phones_of
from tests.sandbox.web import Fault

Open = Callable[..., Any]
ANNA = ClientFacts(
    id="c-1", name="Анна", phones=(CLIENT,), emails=("anna@client.example",), link="https://gw.example/c/1"
)
NAMELESS = ClientFacts(id="c-2")
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def chat(client: ClientFacts = ANNA, stretch: int = 7) -> ChatFacts:
    """A conversation that somebody has closed."""
    return ChatFacts(
        id="chat-1", stretch=stretch, cause="closed", integration="telegram", channel="Telegram", username="anna_k", began_at=NOON,
        ended_at=NOON + timedelta(minutes=stretch), messages=3, lines=(ChatLine(at=NOON, author="client", text="Здравствуйте 🙂"),),
        link="https://gw.example/inbox/1", client=client,
    )  # fmt: skip


def drafts_of(desk: Desk, facts: ClientFacts | ChatFacts) -> Sequence[Draft]:
    if isinstance(facts, ClientFacts):
        return plan_contact(desk.settings, desk.tenant, facts)
    return plan_chat(desk.settings, desk.tenant, facts)


def order_draft(
    status: str = "new", version: int = 1, fields: Mapping[str, Any] | None = None, total: str = "25.60"
) -> Draft:
    """An order, as the common planner makes it."""
    client = {
        "id": ANNA.id,
        "name": ANNA.name,
        "phones": list(ANNA.phones),
        "emails": list(ANNA.emails),
        "link": ANNA.link,
    }
    order = {
        "id": "o-12", "number": 12, "kind": "order", "status": status, "version": version, "title": "Заказ № 12", "total": total,
        "text": f"Заказ № 12:\n1. Пицца: 2 × 12.80\nВерсия {version}", "link": "https://gw.example/orders/12",
    }  # fmt: skip
    return Draft(
        kind="order", key=f"order o-12 {version}", lane="contact c-1",
        body={"client": client, "client_fields": {}, "order": order, "fields": dict(fields or {})},
    )  # fmt: skip


async def deliver(desk: Desk, draft: Draft, tries: int = 8) -> Any:
    """Until it succeeds."""
    for number in range(1, tries + 1):
        try:
            return await desk.client.deliver(desk.attempt(draft, draft.key.split()[0] + draft.lane, number))
        except (Unavailable, RateLimited):
            continue
    raise AssertionError(draft.kind)


@pytest.mark.parametrize("known", ["", "8 029 111-22-33", "anna@client.example"])
async def test_a_client_is_found_before_one_is_made(account: AmoCrm, open_desk: Open, known: str) -> None:
    if "@" in known:
        account.add(
            "contacts", custom_fields_values=[{"field_code": "EMAIL", "values": [{"value": "Anna@client.example"}]}]
        )
    elif known:
        account.add("contacts", known, name="Анна Павловна")
    async with open_desk() as desk:
        for facts in (ANNA, chat(), replace(ANNA, name="Анна К.")):
            for draft in drafts_of(desk, facts):
                await deliver(desk, draft)
    (contact,) = account.contacts
    values = {
        field["field_code"]: [one["value"] for one in field["values"]]
        for field in contact["custom_fields_values"]
        if field["values"]
    }
    assert {code: len(numbers) for code, numbers in values.items()} == (
        {"PHONE": 1, "EMAIL": 1} if not known else {"EMAIL": 1} if "@" in known else {"PHONE": 1}
    ), "what its people have entered stays"
    assert contact["name"] == {"": "Анна", "8 029 111-22-33": "Анна Павловна"}.get(known, "x"), "a name there stays"
    (note,) = account.notes
    assert (note["entity_id"], note["note_type"]) == (contact["id"], "common")
    assert "Здравствуйте 🙂" in note["params"]["text"]
    assert account.violations == []


async def test_one_of_ours_gets_numbers_that_become_known(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        for facts in (ANNA, replace(ANNA, phones=(*ANNA.phones, "+375447654321"), emails=())):
            for draft in drafts_of(desk, facts):
                await deliver(desk, draft)
    (contact,) = account.contacts
    assert [phones_of(contact), len(contact["custom_fields_values"])] == [[CLIENT, "+375447654321"], 2]


async def test_a_client_whose_call_waits_among_incoming_leads(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        await desk.tell(ended())
    async with open_desk() as desk:
        for draft in drafts_of(desk, chat()):
            await deliver(desk, draft)
    assert len(account.entities["contacts"]) == 1
    assert account.violations == []


async def test_a_call_and_a_chat_at_once_are_one_client(account: AmoCrm, open_desk: Open) -> None:
    account.lag_s = 60.0
    async with open_desk(settings_of(account, create="lead")) as desk, trio.open_nursery() as nursery:
        nursery.start_soon(desk.tell, ended())
        for draft in drafts_of(desk, ANNA):
            nursery.start_soon(deliver, desk, draft)
    assert len(account.contacts) == 1
    assert account.violations == []


FAULTS = [Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.DROP]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("client", [ANNA, NAMELESS], ids=["anna", "nameless"])
async def test_a_fault_doubles_no_client_and_no_note(
    account: AmoCrm, open_desk: Open, client: ClientFacts, fault: Fault
) -> None:
    async with open_desk() as desk:
        for faulty in ("POST /api/v4/contacts", "/api/v4/contacts", "/api/v4/contacts/notes"):
            account.fault, account.fault_count, account.faulty = fault, 2, faulty
            for draft in drafts_of(desk, chat(client, stretch=len(faulty))):
                await deliver(desk, draft)
    assert len(account.contacts) == 1
    assert len(account.notes) == 3
    assert account.violations == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_order_is_one_lead_and_moves(account: AmoCrm, open_desk: Open, fault: Fault) -> None:
    async with open_desk() as desk:
        for draft, faulty in (
            (order_draft(), "POST /api/v4/leads"), (order_draft("confirmed", 2, total="30"), "/api/v4/leads/notes"), (order_draft("done", 3), ""),
        ):  # fmt: skip
            account.fault, account.fault_count, account.faulty = fault if faulty else Fault.NONE, 2, faulty
            await deliver(desk, draft)
            if draft.body["order"]["version"] == 2:
                assert [lead["status_id"] for lead in account.entities["leads"].values()] == [1], (
                    "it stays where people put it"
                )
    (lead,) = account.entities["leads"].values()
    assert (lead["name"], lead["price"], lead["status_id"]) == ("Заказ № 12", 26, 142)
    assert account.contacts[0]["lead_ids"] == [lead["id"]]
    (note,) = account.notes
    assert "Версия 3" in note["params"]["text"]
    assert "https://gw.example/orders/12" in note["params"]["text"]
    assert account.violations == []


async def test_mapped_fields(account: AmoCrm, open_desk: Open) -> None:
    rules = [
        {"when": "contact", "to": "303", "from": "contact.name"},
        {"when": "call", "to": "402", "from": "call.result", "default": "Звонок", "values": {"missed": "Звонок"}},
    ]
    async with open_desk(settings_of(account, create="lead", mapping=rules)) as desk:
        await desk.tell(ended("1", phone="+375447654321"))
        for draft in drafts_of(desk, ANNA):
            await deliver(desk, draft)
        await deliver(desk, order_draft(fields={"401": "Минск", "status_id": "2", "price": "99.4"}))
        refused = await deliver(desk, order_draft("confirmed", 2, {"999": "x"}))
    called, ordered = account.entities["leads"].values()
    assert called["custom_fields_values"] == [{"field_id": 402, "values": [{"value": "Звонок"}]}]
    assert (ordered["status_id"], ordered["price"]) == (2, 99)
    assert ordered["custom_fields_values"] == [{"field_id": 401, "values": [{"value": "Минск"}]}]
    (anna,) = [one for one in account.contacts if one["name"] == "Анна"]
    assert {"field_id": 303, "values": [{"value": "Анна"}]} in anna["custom_fields_values"]
    assert (refused.note, "field_id" in refused.detail) == ("fields_not_written", True)


@pytest.mark.parametrize("create", ["lead", "contact", "unsorted"])
async def test_a_mapped_field_that_is_not_taken_costs_the_field(account: AmoCrm, open_desk: Open, create: str) -> None:
    rules = [{"when": "call", "to": "777", "from": "call.phone"}]
    async with open_desk(settings_of(account, create=create, mapping=rules)) as desk:
        noted, *_ = await desk.tell(ended())
    assert (noted.note, len(account.calls)) == ("fields_not_written", 1)
    assert len(account.waiting) == (create == "unsorted")
    assert account.violations == []


async def test_fields_to_choose_from(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        found = await desk.client.fields()
    assert set(found) == {"call", "contact", "order", "chat"}
    by_name = {field.name: field for field in found["order"]}
    assert [value.value for value in by_name["402"].values] == ["Telegram", "Звонок"]
    assert (by_name["402"].type, by_name["402"].title) == ("choice", "Канал")
    assert next((value.value, value.title) for value in by_name["status_id"].values) == (
        "1",
        "Воронка: Первичный контакт",
    )
    assert by_name["status_id"].values[-1].title == "Закрыто и не реализовано"
    assert {"name", "303", "302"} <= {field.name for field in found["contact"]}
    assert "301" not in {field.name for field in found["contact"]}, "numbers are ours to write"


async def test_a_missing_right_stops_no_calls(account: AmoCrm, open_desk: Open) -> None:
    account.no_rights = {"contacts"}
    async with open_desk() as desk:
        for draft in drafts_of(desk, ANNA):
            with pytest.raises(Rejected) as raised:
                await deliver(desk, draft)
        assert "contacts" in raised.value.person
    account.no_rights = {"leads"}
    async with open_desk(settings_of(account, create="none")) as desk:
        with pytest.raises(Rejected):
            await deliver(desk, order_draft())
    assert account.entities["leads"] == {}


async def test_what_was_deleted_there_is_made_anew(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        await deliver(desk, order_draft())
        account.entities["contacts"].clear()
        for draft in drafts_of(desk, ANNA):
            await deliver(desk, draft)
        account.entities["leads"].clear()
        for version in (2, 3):
            await deliver(desk, order_draft("done", version))
    (contact,), (lead,) = account.contacts, account.entities["leads"].values()
    assert (contact["lead_ids"], lead["status_id"]) == ([lead["id"]], 142)
    assert [note["entity_id"] for note in account.notes if note["entity_id"] == lead["id"]] == [lead["id"]]


async def test_an_order_that_is_opened_again_leaves_its_end(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        for version, (status, stage) in enumerate(
            (("done", 142), ("in_progress", 1), ("confirmed", 1), ("cancelled", 143)), 1
        ):
            await deliver(desk, order_draft(status, version))
            (lead,) = account.entities["leads"].values()
            assert lead["status_id"] == stage, status
        await deliver(desk, order_draft("done", 1))
    assert lead["status_id"] == 143, "an older version that is sent again takes nothing back"


def test_how_values_are_written() -> None:
    assert written({"price": "12.6", "status_id": "x", "name": 7, "401": True, "EMAIL": "a@b.example"}) == {
        "price": 13, "status_id": "x", "name": "7",
        "custom_fields_values": [
            {"field_id": 401, "values": [{"value": True}]}, {"field_code": "EMAIL", "values": [{"value": "a@b.example"}]},
        ],
    }  # fmt: skip
