"""Calls told to a strict account: one call is one record there, whatever happens on the way.

Long, because every case needs the same account and desk.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.amocrm.client import NOTE_TRIES
from adapters.amocrm.plan import plan_summary
from adapters.budget import Budget
from gateway.domain.errors import NotYet, Rejected, Unavailable
from gateway.domain.events import CallTransferred, Direction, Result
from gateway.domain.ids import CallId
from gateway.domain.limiter import Limits, Rate
from tests.adapters.amocrm.conftest import CLIENT, only, settings_of
from tests.adapters.bitrix24.conftest import answered, ended, ringing
from tests.adapters.conftest import at
from tests.sandbox.amocrm import AmoCrm
from tests.sandbox.web import Fault

Open = Callable[..., Any]
LINK = "https://gw.example/recordings/file/1"
CALLS, SIP, CONTACTS = "/api/v4/calls", "/api/v4/leads/unsorted/sip", "/api/v4/contacts"


async def test_a_call_from_ring_to_record(account: AmoCrm, open_desk: Open) -> None:
    contact = account.add("contacts", "8 (029) 111-22-33", "+375 29 111-22-33", owner=502)
    lead = account.link(contact)
    async with open_desk() as desk:
        moved = CallTransferred(call_id=CallId("1"), at=at(20), from_extension="151", to_extension="152")
        await desk.tell(ringing("1", "150", "151"), answered("1", "151"), moved)
        await desk.tell(ended("1", extension="151", last_extension="152", rang=("150", "151"), recording=LINK))
    assert account.cards == [("375291112233", (502, 501)), ("375291112233", (503,))], "a transfer moves the card"
    call = only(account)
    assert (call["kind"], call["entity_id"], call["note_type"]) == ("leads", lead, "call_in"), (
        "as the account has matched it"
    )
    assert (call["params"]["uniq"], call["params"]["duration"], call["params"]["call_status"]) == ("0367-1", 55, 4)
    assert (call["params"]["link"], call["params"]["phone"], call["responsible_user_id"]) == (LINK, CLIENT, 503)
    assert call["created_at"] == int(at().timestamp())
    assert (account.tasks, account.waiting, account.violations) == ([], [], [])


async def test_a_card_comes_to_those_who_begin_to_ring(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        await desk.tell(ringing("1", "150"), ringing("1", "150", "151"), answered("1", "152"))
    assert [users for _, users in account.cards] == [(502,), (501,), (503,)]


@pytest.mark.parametrize(("out", "cards"), [(False, []), (True, [("375291112233", (502,))])])
async def test_a_card_of_an_outgoing_call_is_a_matter_of_setting(
    account: AmoCrm, open_desk: Open, out: bool, cards: list[tuple[str, tuple[int, ...]]]
) -> None:
    dialled: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT}
    async with open_desk(settings_of(account, send_events={"out": out})) as desk:
        await desk.tell(replace(ringing(), **dialled), replace(ringing(), **dialled))
    assert account.cards == cards


@pytest.mark.parametrize(
    ("create", "made"),
    [("unsorted", (0, 1, 1)), ("lead", (1, 1, 0)), ("contact", (1, 0, 0)), ("none", (0, 0, 0))],
)
async def test_an_unknown_number_becomes_what_is_set(
    account: AmoCrm, open_desk: Open, create: str, made: tuple[int, int, int]
) -> None:
    async with open_desk(settings_of(account, create=create)) as desk:
        await desk.tell(ended("1", recording=LINK), ended("2"))
    assert (len(account.contacts), len(account.entities["leads"]), len(account.waiting)) == made
    assert len(account.calls) == (2 if create != "none" else 0)
    assert {call["params"]["uniq"] for call in account.calls} == ({"0367-1", "0367-2"} if create != "none" else set())
    if create in ("lead", "contact"):
        assert account.contacts[0]["responsible_user_id"] == 502, "whoever has talked"
        assert account.calls[0]["params"]["link"] == LINK
    assert account.violations == []


async def test_an_incoming_lead_has_both_numbers_and_the_call(account: AmoCrm, open_desk: Open) -> None:
    outgoing: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": "+375447654321"}
    async with open_desk() as desk:
        await desk.tell(ended("1", recording=LINK))
        await desk.tell(
            replace(ringing("2"), **outgoing), ended("2", Result.BUSY, rang=(), extension="150", **outgoing)
        )
    first, second = account.waiting
    data = first["metadata"]
    assert (data["from"], data["phone"], data["uniq"]) == ("375291112233", "375171234567", "0367-1")
    assert (data["duration"], data["link"], data["call_responsible"]) == (55, LINK, 502)
    assert (second["metadata"]["from"], second["metadata"]["phone"]) == ("150", "375447654321")
    assert account.entities["contacts"][second["_embedded"]["contacts"][0]["id"]]["name"] == "+375447654321"


async def test_a_call_after_an_incoming_lead_was_accepted_is_the_client_s(account: AmoCrm, open_desk: Open) -> None:
    async with open_desk() as desk:
        await desk.tell(ended("1"))
        account.accept(account.waiting[0]["uid"])
        await desk.tell(ended("2"))
    assert len(account.contacts) == 1
    assert account.waiting == []
    assert account.calls[1]["kind"] == "leads"
    assert account.violations == []


@pytest.mark.parametrize("create", ["unsorted", "lead", "contact"])
async def test_one_caller_twice_at_once_is_one_record(account: AmoCrm, open_desk: Open, create: str) -> None:
    account.lag_s = 60.0
    async with open_desk(settings_of(account, create=create)) as desk, trio.open_nursery() as nursery:
        for call in "12345":
            nursery.start_soon(desk.tell, ended(call))
    assert len(account.entities["contacts"]) == 1
    assert len(account.calls) == 5
    assert account.violations == []


@pytest.mark.parametrize(
    "stored", ["+375291112233", "375291112233", "80291112233", "8 029 111-22-33", "291112233", "+375 (29) 111-22-33"]
)
@pytest.mark.parametrize("kind", ["contacts", "companies"])
async def test_a_client_is_found_however_the_number_is_written(
    account: AmoCrm, open_desk: Open, kind: str, stored: str
) -> None:
    number = account.add(kind, "+375447654321", stored)
    account.matches = kind == "contacts"
    async with open_desk(settings_of(account, search="rest" if account.matches else "every")) as desk:
        await desk.tell(ended())
    assert (only(account)["kind"], only(account)["entity_id"]) == (kind, number)
    assert account.violations == []


async def test_of_duplicates_the_first_is_taken(account: AmoCrm, open_desk: Open) -> None:
    first = account.add("contacts", "80291112233")
    account.add("contacts", "80291112233")
    async with open_desk() as desk:
        await desk.tell(ended())
    assert only(account)["entity_id"] == first


async def test_a_missed_call_is_a_task_of_the_responsible(account: AmoCrm, open_desk: Open) -> None:
    contact = account.add("contacts", CLIENT, owner=503)
    async with open_desk() as desk:
        await desk.tell(ringing("1", "150", "151"), ended("1", Result.MISSED, rang=("150", "151")))
        await desk.tell(ended("2", Result.MISSED, phone="+375447654321", rang=("151",)))
        await desk.tell(ended("3", Result.MISSED, rang=(), uncertain=True))
    known, unknown, uncertain = account.calls
    assert known["params"]["call_status"] == 6
    assert known["params"]["call_result"] == "Пропущен. Звонило у: 150 Анна, 151 <Олег> & Ко."
    assert uncertain["params"]["call_result"].startswith("Связь с АТС прерывалась")
    first, second = account.tasks
    assert (first["responsible_user_id"], first["entity_id"], first["entity_type"]) == (503, contact, "contacts")
    assert CLIENT in first["text"]
    assert "150 Анна" in first["text"]
    assert (second["entity_type"], second["entity_id"]) == ("leads", unknown["entity_id"])
    assert account.violations == []


FAULTS = [Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.DROP, Fault.HTTP_503]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("faulty", [CALLS, SIP, "/api/v4/tasks", "/api/v4/leads/unsorted"])
async def test_a_fault_doubles_and_loses_nothing(account: AmoCrm, open_desk: Open, faulty: str, fault: Fault) -> None:
    account.fault, account.fault_count, account.faulty = fault, 2, faulty
    async with open_desk() as desk:
        await desk.insist(ringing("1", "150", "151"), answered(), ended("1", Result.MISSED, recording=LINK))
        await desk.insist(ended("2"))
    assert sorted(call["params"]["uniq"] for call in account.calls) == ["0367-1", "0367-2"]
    assert (len(account.waiting), len(account.tasks)) == (1, 1)
    assert account.violations == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("create", "faulty"),
    [
        ("contact", CONTACTS),
        ("contact", f"POST {CONTACTS}"),
        ("contact", "/api/v4/contacts/notes"),
        ("lead", "/api/v4/leads/complex"),
        ("known", CALLS),
    ],
)
async def test_a_fault_at_a_client_doubles_nothing(
    account: AmoCrm, open_desk: Open, create: str, faulty: str, fault: Fault
) -> None:
    account.fault, account.fault_count, account.faulty = fault, 2, faulty
    if create == "known":
        account.link(account.add("contacts", CLIENT))
    async with open_desk(settings_of(account, create="contact" if create == "known" else create)) as desk:
        await desk.insist(ended("1", recording=LINK))
    assert only(account)["params"]["link"] == LINK
    assert len(account.contacts) == 1
    assert account.violations == []


async def test_a_repeat_that_the_account_refuses_is_there(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    account.refuses_repeats = True
    account.fault, account.fault_count, account.faulty = Fault.DROP_AFTER, 1, CALLS
    async with open_desk(settings_of(account, repeats="refused")) as desk:
        await desk.insist(ended())
    assert only(account)["params"]["uniq"] == "0367-1"
    assert account.requests["GET /api/v4/contacts"] == 0, "nothing is looked through"


async def test_an_account_without_filters_is_looked_through(account: AmoCrm, open_desk: Open) -> None:
    contact = account.add("contacts", CLIENT)
    account.filters = False
    for number in range(260):
        account.notes.append({"id": 9000 + number, "kind": "contacts", "entity_id": contact, "note_type": "common",
                              "params": {"text": "x"}, "responsible_user_id": 500})  # fmt: skip
    async with open_desk() as desk:
        finish, record = desk.planned(ended("1", recording=LINK))
        await desk.client.deliver(desk.attempt(finish, "1"))
        account.notes.sort(key=lambda note: note["note_type"])
        await desk.client.deliver(desk.attempt(record, "1"))
    assert only(account)["params"]["link"] == LINK


async def test_a_required_field_costs_the_record_and_not_the_call(account: AmoCrm, open_desk: Open) -> None:
    account.required = {"contacts": "CITY", "leads": "SOURCE"}
    for index, create in enumerate(("contact", "lead")):
        async with open_desk(settings_of(account, create=create)) as desk:
            noted, *_ = await desk.tell(ended(create, phone=f"+37529111223{index}"))
        assert noted.note == "client_not_made"
        assert "This field is missing" in noted.detail
    assert (len(account.calls), len(account.waiting)) == (2, 2)


async def test_a_deleted_user_costs_the_name_and_not_the_call(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    async with open_desk(settings_of(account, create="contact")) as desk:
        desk.users = {"504": "150", "999": "151"}
        await desk.tell(ended("1", Result.MISSED), ended("2", extension="151", last_extension="151"))
        await desk.tell(ended("3", phone="+375447654321"))
    assert [call["params"]["call_responsible"] for call in account.calls] == ["150 Анна", "151 <Олег> & Ко", "150 Анна"]
    assert [task["responsible_user_id"] for task in account.tasks] == [500]
    assert len(account.contacts) == 2


async def test_nobody_s_call_is_the_default_user_s(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT)
    async with open_desk(settings_of(account, default_user="503")) as desk:
        noted, *_ = await desk.tell(ended("1", extension="199", last_extension="199"))
        desk.users = {}
        await desk.tell(ended("2", extension="150", last_extension="150"))
    assert (noted.note, noted.detail) == ("not_exist_codes", "199")
    assert [call["responsible_user_id"] for call in account.calls] == [503, 502], "a number of the account's own"
    assert account.calls[0]["params"]["call_responsible"] == "199"


async def test_what_is_not_told(account: AmoCrm, open_desk: Open) -> None:
    internal: dict[str, Any] = {"direction": Direction.INTERNAL, "caller": "150", "called": "151"}
    async with open_desk() as desk:
        assert desk.planned(replace(ringing("1"), **internal)) == ()
        assert desk.planned(ended("1", **internal)) == ()
        assert desk.planned(ended("2", phone="anonymous")) == ()
    quiet = settings_of(account, show_card=False, missed_task=False, attach_recordings=False)
    async with open_desk(quiet) as desk:
        await desk.tell(ringing(), answered(), ended("1", Result.MISSED, recording=LINK))
    assert (account.cards, account.tasks, only(account)["params"]["link"]) == ([], [], "")
    async with open_desk(settings_of(account, send_events={"in": False, "upload": False}, missed_task=False)) as desk:
        await desk.tell(ringing("3"), ended("3"))
    assert len(account.calls) == 1


async def test_names_as_people_write_them(account: AmoCrm, open_desk: Open) -> None:
    account.add("contacts", CLIENT, name="x" * 300 + "🙂")
    async with open_desk() as desk:
        tenant = desk.tenant
        phones = (replace(tenant.phones[0], owner="Ы" * 300 + "🙂"), *tenant.phones[1:])
        desk.tenant, desk.users = replace(tenant, phones=phones), {}
        account.users[502]["phone_number"] = None
        await desk.tell(ended())
    assert len(only(account)["params"]["call_responsible"]) == 100


async def test_a_recording_waits_for_its_file(account: AmoCrm, open_desk: Open) -> None:
    class Recordings:
        there = False

        async def content_type(self, link: str) -> str:
            if not self.there:
                raise NotYet("the recording is not there yet")
            return "audio/mpeg"

    account.add("contacts", CLIENT)
    recordings = Recordings()
    async with open_desk(recordings=recordings) as desk:
        finish, record = desk.planned(ended("1", recording=LINK))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))  # the call is not finished
        await desk.client.deliver(desk.attempt(finish, "1"))
        assert "link" not in only(account)["params"]
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))
        recordings.there = True
        for _ in range(2):
            await desk.client.deliver(desk.attempt(record, "1"))
        assert only(account)["params"]["link"] == LINK
        assert only(account)["params"]["duration"] == 55, "what stood there stays"
        account.notes.clear()
        desk.ids["1"].stored.pop("linked")
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))
        with pytest.raises(Rejected):
            await desk.client.deliver(desk.attempt(record, "1", NOTE_TRIES))
    async with open_desk(settings_of(account, link_at_once=True)) as desk:
        await desk.tell(ended("2", recording=LINK))
    assert only(account)["params"]["link"] == LINK


class Summaries:
    """The recordings of a company, as far as summaries go."""

    async def content_type(self, link: str) -> str:
        return "audio/mpeg"

    async def summary(self, recording_id: str) -> str:
        return "Клиент хочет торт.\nЖдёт звонка."


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.DROP_AFTER])
async def test_a_summary_is_one_note_and_stands_in_no_log(account: AmoCrm, open_desk: Open, fault: Fault) -> None:
    async with open_desk(recordings=Summaries()) as desk:
        (finish,) = desk.planned(ended("1"))
        (draft,) = plan_summary(desk.settings, desk.tenant, desk.calls["1"], "r-1")
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(draft, "1"))
        await desk.client.deliver(desk.attempt(finish, "1"))
        account.fault, account.fault_count, account.faulty = fault, 1, "POST /api/v4/leads/notes"
        logged = ""
        for number in (1, 2, 3):
            attempt = desk.attempt(draft, "1", number)
            try:
                await desk.client.deliver(attempt)
            except Unavailable:
                continue
            finally:
                logged += attempt.request + attempt.response
    (note,) = [one for one in account.notes if one["note_type"] == "common"]
    assert note["params"]["text"].endswith("Клиент хочет торт.\nЖдёт звонка.")
    assert CLIENT in note["params"]["text"]
    assert "торт" not in logged
    assert account.violations == []


# Calls that share a request -------------------------------------------------------------------------------------------


def paced() -> Budget:
    """The account's budget, at its limits."""
    return Budget(Limits(rates={"": Rate(7, 1.2)}, at_once=50))


async def test_calls_at_once_share_a_request(account: AmoCrm, open_desk: Open) -> None:
    account.limits = True
    clients = [f"+37529{number:07}" for number in range(120)]
    for phone in clients:
        account.add("contacts", phone)
    async with open_desk(budget=paced()) as desk, trio.open_nursery() as nursery:
        for number, phone in enumerate(clients):
            nursery.start_soon(desk.tell, ended(str(number), phone=phone))
    told = {call["params"]["uniq"]: call["entity_id"] for call in account.calls}
    theirs = {str(one["custom_fields_values"][0]["values"][0]["value"]): one["id"] for one in account.contacts}
    assert told == {f"0367-{number}": theirs[phone] for number, phone in enumerate(clients)}, "matched by request_id"
    assert len(account.batches) <= 4
    assert max(account.batches) == 50
    assert account.violations == []


async def test_one_that_is_refused_costs_the_others_nothing(account: AmoCrm, open_desk: Open) -> None:
    for number in range(6):
        account.add("contacts", f"+37529111223{number}")
    account.users[502]["active"], account.limits = False, True
    attempts = []

    async def tell(desk: Any, number: int) -> None:
        (draft,) = desk.planned(ended(str(number), phone=f"+37529111223{number}", extension="150" if number == 3 else "151",
                                      last_extension="150" if number == 3 else "151"))  # fmt: skip
        attempts.append(desk.attempt(draft, str(number)))
        await desk.client.deliver(attempts[-1])

    async with open_desk(budget=paced()) as desk, trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(tell, desk, number)
    assert len(account.calls) == 6
    by_uniq = {call["params"]["uniq"]: call for call in account.calls}
    assert by_uniq["0367-3"]["params"]["call_responsible"] == "150 Анна"
    assert all("/api/v4/calls" in attempt.request and attempt.response for attempt in attempts), "each has its log"
    assert account.violations == []


async def test_a_batch_that_is_too_heavy_is_halved(account: AmoCrm, open_desk: Open) -> None:
    account.heaviest = 4
    for number in range(16):
        account.add("contacts", f"+3752911122{number:02}")

    async def tell(desk: Any, number: int) -> None:
        (draft,) = desk.planned(ended(str(number), phone=f"+3752911122{number:02}"))
        for turn in range(1, 9):
            try:
                await desk.client.deliver(desk.attempt(draft, str(number), turn))
                return
            except Unavailable:
                continue
        raise AssertionError(number)

    async with open_desk() as desk, trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(tell, desk, number)
    assert len({call["params"]["uniq"] for call in account.calls}) == 16
    assert account.violations == []
