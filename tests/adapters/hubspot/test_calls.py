"""Calls told to a strict account: one call is one record there, whatever happens on the way."""

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from adapters.hubspot import records, writing
from adapters.hubspot.requests import associated
from gateway.domain.errors import NotYet, Rejected, Unavailable
from gateway.domain.events import CallMerged, CallTransferred, Direction, Result
from gateway.domain.ids import CallId
from tests.adapters.bitrix24.conftest import answered, ended, ringing
from tests.adapters.conftest import at
from tests.adapters.hubspot.conftest import CLIENT, only, settings_of
from tests.sandbox.hubspot import OUTCOMES, HubSpot
from tests.sandbox.web import Fault

Open = Callable[..., Any]
LINK = "https://gw.example/recordings/file/1?signature=canary-of-a-signature"
OUTGOING: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT}


async def test_a_call_with_its_contact_owner_and_recording(account: HubSpot, open_desk: Open) -> None:
    contact = account.add_contact("8 (029) 111-22-33", owner="103")
    async with open_desk(settings_of(account)) as desk:
        moved = CallTransferred(call_id=CallId("1"), at=at(20), from_extension="150", to_extension="151")
        noted = await desk.tell(
            ringing("1", "150", "151"),
            answered(),
            moved,
            ended("1", last_extension="151", rang=("150", "151"), recording=LINK),
        )
    call = only(account)
    assert [one.note for one in noted] == ["", ""]
    assert call.contacts == [contact]
    got = call.properties
    assert got["hubspot_owner_id"] == "102", "who talked last"
    assert (got["hs_call_direction"], got["hs_call_status"], got["hs_call_duration"]) == (
        "INBOUND",
        "COMPLETED",
        "55000",
    )
    assert (got["hs_call_from_number"], got["hs_call_to_number"]) == (CLIENT, "+375171234567")
    assert got["hs_call_disposition"] == OUTCOMES["Connected"]
    assert got["hs_timestamp"] == "1763684000000"
    assert got["gw_call_id"] == "0367-1"
    assert got["hs_call_recording_url"] == LINK
    assert "&lt;Олег&gt; &amp; Ко" in got["hs_call_body"], "names are no HTML"
    assert account.all("tasks") == []
    assert account.violations == []


async def test_a_missed_call_names_those_that_rang_and_is_a_task_of_the_owner(
    account: HubSpot, open_desk: Open
) -> None:
    contact = account.add_contact(CLIENT, owner="103")
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ringing("1", "150", "151"), ended("1", Result.MISSED, rang=("150", "151")))
    call, task = only(account), only(account, "tasks")
    assert (call.properties["hs_call_status"], call.properties["hubspot_owner_id"]) == ("NO_ANSWER", "101")
    assert "150 Анна, 151" in call.properties["hs_call_body"]
    assert call.properties["hs_call_title"].startswith("Пропущенный")
    assert (task.properties["hubspot_owner_id"], task.contacts) == ("103", [contact])
    assert CLIENT in task.properties["hs_task_subject"]
    assert int(task.properties["hs_timestamp"]) == round((at(60).timestamp() + 3600) * 1000)


@pytest.mark.parametrize(
    ("has", "wanted", "status"),
    [
        (True, "auto", "MISSED"),
        (False, "auto", "NO_ANSWER"),
        (True, "NO_ANSWER", "NO_ANSWER"),
        (False, "MISSED", "NO_ANSWER"),
    ],
)
async def test_the_status_of_a_missed_call(
    account: HubSpot, open_desk: Open, has: bool, wanted: str, status: str
) -> None:
    if has:
        account.properties["calls"]["hs_call_status"]["options"] += ("MISSED",)
    async with open_desk(settings_of(account, missed_status=wanted)) as desk:
        await desk.tell(ended("1", Result.MISSED))
    assert only(account).properties["hs_call_status"] == status


@pytest.mark.parametrize(
    ("result", "status", "outcome"),
    [(Result.NO_ANSWER, "NO_ANSWER", "No answer"), (Result.BUSY, "BUSY", "Busy"), (Result.CANCELLED, "CANCELED", ""),
     (Result.FAILED, "FAILED", ""), (Result.ANSWERED, "COMPLETED", "Connected")],
)  # fmt: skip
async def test_an_outgoing_call(account: HubSpot, open_desk: Open, result: Result, status: str, outcome: str) -> None:
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(replace(ringing(), **OUTGOING), ended("1", result, rang=(), extension="150", **OUTGOING))
    got = only(account).properties
    assert (got["hs_call_direction"], got["hs_call_status"], got["hubspot_owner_id"]) == ("OUTBOUND", status, "101")
    assert got["hs_call_to_number"] == CLIENT
    assert got.get("hs_call_disposition", "") == OUTCOMES.get(outcome, "")
    assert account.all("tasks") == []
    assert account.violations == []


async def test_a_recording_waits_for_its_file_and_its_link_stands_in_no_log(account: HubSpot, open_desk: Open) -> None:
    class Recordings:
        there = False

        async def content_type(self, link: str) -> str:
            if not self.there:
                raise NotYet("the recording is not there yet")
            return "audio/wav"

    recordings = Recordings()
    async with open_desk(settings_of(account, recordings="notes"), recordings=recordings) as desk:
        finish, record = desk.planned(ended("1", recording=LINK))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))
        await desk.client.deliver(desk.attempt(finish, "1"))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))
        recordings.there = True
        for _ in range(2):
            attempt = desk.attempt(record, "1")
            await desk.client.deliver(attempt)
        assert "canary" not in attempt.request + attempt.response
        account.objects["calls"][only(account).id].properties["hs_call_body"] += "<br>by hand"
        await desk.client.deliver(desk.attempt(record, "1"))
    notes = only(account).properties["hs_call_body"]
    assert notes.count('<a href="https://gw.example/recordings') == 1
    assert notes.endswith("by hand")
    assert notes.startswith("Сотрудник")


async def test_what_is_not_told(account: HubSpot, open_desk: Open) -> None:
    internal: dict[str, Any] = {"direction": Direction.INTERNAL, "caller": "150", "called": "151"}
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(
            replace(ringing("1"), **internal), ended("1", **internal), ringing("2", phone="anonymous"), ended("2", phone="anonymous"),
            ringing("3"), answered("3"),
        )  # fmt: skip
        off = settings_of(account, send_events={"upload": False})
    async with open_desk(off) as desk:
        await desk.tell(ringing("4"), ended("4", recording=LINK))
    assert account.requests.total() == 0


async def test_what_is_not_wanted_is_not_sent(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account, create="none", missed_task=False, recordings="none")) as desk:
        await desk.tell(ended("1", Result.MISSED, recording=LINK))
    assert only(account).contacts == []
    assert not account.all("contacts")
    assert "hs_call_source" not in only(account).properties


async def test_an_uncertain_end_says_so(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(ringing(), ended("1", Result.MISSED, uncertain=True))
    assert "Неточно" in only(account).properties["hs_call_body"]
    assert account.all("tasks") == []


async def test_a_consultation_with_somebody_outside(account: HubSpot, open_desk: Open) -> None:
    async with open_desk(settings_of(account)) as desk:
        await desk.tell(
            replace(ringing("2"), **OUTGOING),
            answered("2"),
            CallMerged(call_id=CallId("2"), at=at(30), into=CallId("1")),
        )
    assert (only(account).properties["hs_call_duration"], only(account).properties["hubspot_owner_id"]) == (
        "25000",
        "101",
    )


# Repeats and faults ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.DROP, Fault.HTTP_503],
)
@pytest.mark.parametrize(
    "faulty",
    ["POST calls", "POST contacts", "POST tasks", "POST contacts/search", "PATCH calls", "GET properties/calls"],
)
async def test_a_fault_doubles_and_loses_nothing(account: HubSpot, open_desk: Open, faulty: str, fault: Fault) -> None:
    account.lag_s = 0.0
    account.fault, account.fault_count, account.faulty = fault, 2, faulty
    async with open_desk(settings_of(account)) as desk:
        for draft in desk.planned(ended("1", Result.MISSED, recording=LINK)):
            await desk.deliver(draft, "1")
    assert only(account).properties["hs_call_recording_url"] == LINK
    assert len(account.all("contacts")) == len(account.all("tasks")) == 1
    assert only(account).contacts == [only(account, "contacts").id]
    assert account.violations == []


@pytest.mark.parametrize(("unique", "field"), [(True, "gw_call_id"), (False, "gw_call_id"), (False, "")])
async def test_a_lost_answer_is_found_again(
    account: HubSpot, open_desk: Open, monkeypatch: pytest.MonkeyPatch, unique: bool, field: str
) -> None:
    """By the unique property at once; by a search once it can see it; by time and numbers."""
    later = 0.0
    monkeypatch.setattr(writing, "time", SimpleNamespace(time=lambda: time.time() + later))
    account.unique_calls, account.lag_s, account.clock = unique, 20.0, lambda: time.monotonic() + later
    account.fault, account.fault_count, account.faulty = Fault.DROP_AFTER, 1, "POST calls"
    async with open_desk(settings_of(account, call_field=field, search_lag_s=30)) as desk:
        (finish,) = desk.planned(ended("1"))
        with pytest.raises(Unavailable):
            await desk.client.deliver(desk.attempt(finish, "1"))
        if not unique:
            with pytest.raises(NotYet) as raised:
                await desk.client.deliver(desk.attempt(finish, "1", 2))
            assert 25 < (raised.value.after_s or 0) <= 30
            later = 31.0
        for number in (3, 4):
            await desk.client.deliver(desk.attempt(finish, "1", number))
        assert desk.ids["1"].stored["call"] == only(account).id
    assert account.violations == []


@pytest.mark.parametrize("traced", [True, False])
async def test_calls_that_end_together_go_together(account: HubSpot, open_desk: Open, traced: bool) -> None:
    """One of them has a field that is not there: it goes again without it, the others once."""
    account.limits, account.trace_results = False, traced
    for number in range(10):
        account.add_contact(f"+37529111220{number}")
    notes: dict[int, str] = {}
    shown: dict[int, str] = {}
    async with open_desk(settings_of(account)) as desk:
        await desk.client.schema.current()
        account.requests.clear()

        async def one(number: int) -> None:
            (finish,) = desk.planned(ended(f"c{number}", phone=f"+37529111220{number}"))
            fields = {"no_such_property": "1"} if number == 3 else {}
            attempt = desk.attempt(replace(finish, body={**finish.body, "fields": fields}), f"c{number}")
            notes[number] = (await desk.client.deliver(attempt)).detail
            shown[number] = attempt.request

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)
    assert len(account.all("calls")) == 10
    assert 0 < account.requests["POST calls/batch"] + account.requests["POST calls"] < 10
    assert [number for number, note in notes.items() if note] == [3]
    assert notes[3] == "no_such_property"
    assert all(f"0367-c{number}" in text for number, text in shown.items()), "each attempt shows its own part"
    assert account.violations == []


async def test_a_batch_that_is_refused_as_a_whole_goes_one_by_one(account: HubSpot, open_desk: Open) -> None:
    account.limits = False
    number = account.add_contact(CLIENT)
    async with open_desk(settings_of(account)) as desk:
        await desk.client.schema.current()
        inputs = []
        for call in "123":
            (finish,) = desk.planned(ended(call))
            wanted = {
                "properties": {"hs_timestamp": f"176368400000{call}"},
                "associations": associated("calls", number),
            }
            inputs.append(records._Input(desk.attempt(finish, call), "same" if call < "3" else "other", wanted))
        inputs[1].wanted["properties"].pop("hs_timestamp")
        outcomes = await desk.client._records._send(inputs)
    assert [isinstance(one, Rejected) for one in outcomes] == [False, True, False]
    assert len(account.all("calls")) == 2
