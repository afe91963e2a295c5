"""Calls told to a strict portal: one call is one record there, whatever happens on the way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt
from adapters.inbound import UNUSED_CALL
from gateway.domain.errors import (
    NotYet,
    RateLimited,
    Rejected,
    Unavailable,
)
from gateway.domain.events import CallTransferred, Direction, Result
from gateway.domain.ids import CallId
from tests.adapters.bitrix24.conftest import CLIENT, answered, ended, ends_of, only, ringing, settings_of
from tests.adapters.conftest import at
from tests.adapters.desk import Desk, Ids
from tests.sandbox.bitrix24 import Bitrix24
from tests.sandbox.web import Fault

Open = Callable[..., Any]
LINK = "https://gw.example/recordings/file/1"


async def test_a_call_from_ring_to_record(portal: Bitrix24, open_desk: Open) -> None:
    contact = portal.add("CONTACT", "8 (029) 111-22-33", owner="19")
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing("1", "150", "151"))
        call = only(portal)
        assert call.cards == ["19", "18"]
        await desk.tell(answered("1", "151"))
        assert call.cards == ["18"]
        moved = CallTransferred(call_id=CallId("1"), at=at(20), from_extension="151", to_extension="152")
        await desk.tell(moved)
        assert call.cards == ["22"]
        await desk.tell(ended("1", extension="151", last_extension="152", rang=("150", "151"), recording=LINK))
    assert call.entity == ("CONTACT", contact)
    assert (ends_of(call)["USER"], ends_of(call)["DURATION"], ends_of(call)["STATUS_CODE"]) == ("22", 55, "200")
    assert call.record == LINK
    assert call.fields["EXTERNAL_CALL_ID"] == "0367-1"
    assert call.fields["CALL_START_DATE"].endswith("+03:00")
    assert not portal.tasks
    assert not portal.entities["LEAD"]
    assert portal.violations == []


async def test_a_card_leaves_those_who_stop_ringing(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing("1", "150"), ringing("1", "151"))
    call = only(portal)
    assert (call.shown, call.cards) == (["19", "18"], ["18"])


@pytest.mark.parametrize(
    ("create", "kinds"),
    [("lead", {"LEAD": 1}), ("contact", {"CONTACT": 1}), ("deal", {"CONTACT": 1, "DEAL": 1}), ("none", {})],
)
async def test_an_unknown_number_becomes_what_is_set(
    portal: Bitrix24, open_desk: Open, create: str, kinds: dict[str, int]
) -> None:
    async with open_desk(settings_of(portal, create=create)) as desk:
        await desk.tell(ringing("1"), ended("1"), ringing("2"), ended("2"))
    assert {kind: len(found) for kind, found in portal.entities.items() if found} == kinds
    assert [call.entity is not None for call in portal.calls.values()] == [bool(kinds)] * 2
    assert portal.violations == []


async def test_two_calls_at_once_of_one_caller_are_one_record(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal, create="contact")) as desk, trio.open_nursery() as nursery:
        for call in "12345":
            nursery.start_soon(desk.tell, ringing(call))
    assert len(portal.entities["CONTACT"]) == 1
    assert len(portal.calls) == 5
    assert portal.violations == []


@pytest.mark.parametrize(
    "stored", ["+375291112233", "375291112233", "80291112233", "8 029 111-22-33", "291112233", "+375 (29) 111-22-33"]
)
async def test_a_client_is_found_however_the_number_is_written(portal: Bitrix24, open_desk: Open, stored: str) -> None:
    number = portal.add("CONTACT", stored)
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing())
    assert only(portal).entity == ("CONTACT", number)


async def test_duplicates_that_exist_already_hide_nobody(portal: Bitrix24, open_desk: Open) -> None:
    for _ in range(25):
        portal.add("LEAD", CLIENT)
    contact = portal.add("CONTACT", CLIENT)
    portal.add("CONTACT", CLIENT)
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing())
    assert only(portal).entity == ("CONTACT", contact)


async def test_a_missed_call_is_a_task_of_the_responsible(portal: Bitrix24, open_desk: Open) -> None:
    contact = portal.add("CONTACT", CLIENT, owner="22")
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing("1", "150", "151"), ended("1", Result.MISSED, rang=("150", "151")))
    assert ends_of(only(portal))["STATUS_CODE"] == "304"
    (task,) = portal.tasks
    assert (task["RESPONSIBLE_ID"], task["UF_CRM_TASK"]) == (22, [f"C_{contact}"])
    assert CLIENT in task["TITLE"]
    assert "150 Анна" in task["DESCRIPTION"]


async def test_without_the_right_to_tasks_it_is_an_activity(portal: Bitrix24, open_desk: Open) -> None:
    portal.scope.remove("task")
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(ringing(), ended("1", Result.MISSED))
        assert len(portal.todos) == 1
    async with open_desk(settings_of(portal, create="none")) as desk:
        with pytest.raises(Rejected, match=r"tasks\.task\.add") as raised:
            await desk.tell(ended("2", Result.MISSED, phone="+375447654321"))
    assert "task" in raised.value.person


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.DROP, Fault.HTTP_503],
)
@pytest.mark.parametrize("faulty", ["telephony.externalcall.register", "telephony.externalcall.finish", "batch", "tasks.task.add",
                                    "crm.contact.add"])  # fmt: skip
async def test_a_fault_doubles_and_loses_nothing(portal: Bitrix24, open_desk: Open, faulty: str, fault: Fault) -> None:
    portal.fault, portal.fault_count, portal.faulty = fault, 2, faulty
    async with open_desk(settings_of(portal, create="contact")) as desk:
        for event in (ringing("1", "150", "151"), answered(), ended("1", Result.MISSED, recording=LINK)):
            for draft in desk.planned(event):
                for number in range(1, 9):
                    try:
                        await desk.client.deliver(desk.attempt(draft, "1", number))
                        break
                    except (Unavailable, RateLimited):
                        continue
                else:
                    raise AssertionError(draft.kind)
    call = only(portal)
    assert call.finished is not None
    assert call.record == LINK
    assert len(portal.entities["CONTACT"]) == len(portal.tasks) == 1
    assert portal.violations == []


async def test_a_ring_whose_answer_was_lost_is_the_same_call_at_its_end(portal: Bitrix24, open_desk: Open) -> None:
    """The ring has expired by the time of the end; another employee has answered meanwhile."""
    portal.fault, portal.fault_count, portal.faulty = Fault.DROP_AFTER, 1, "telephony.externalcall.register"
    async with open_desk(settings_of(portal)) as desk:
        with pytest.raises(Unavailable):
            await desk.tell(ringing("1", "150"))
        await desk.tell(ended("1", extension="151", last_extension="151", rang=("150", "151")))
    assert ends_of(only(portal))["USER"] == "18"
    assert portal.violations == []


async def test_a_required_field_costs_the_record_and_not_the_call(portal: Bitrix24, open_desk: Open) -> None:
    portal.required = {"UF_CRM_1700000000"}
    for create in ("contact", "deal", "lead"):
        async with open_desk(settings_of(portal, create=create)) as desk:
            noted, *_ = await desk.tell(ringing(create), ended(create))
        assert noted.note == "client_not_made"
        assert "UF_CRM_1700000000" in noted.detail
    assert len(portal.calls) == 3
    assert portal.open_calls == []


async def test_nobody_s_call_is_the_default_user_s(portal: Bitrix24, open_desk: Open) -> None:
    """A deleted user, an unknown number, nobody at all."""
    async with open_desk(settings_of(portal, default_user="22", missed_task=False)) as desk:
        desk.users = {"23": "153"}
        first, *_ = await desk.tell(
            ringing("1", "153", "199"), ended("1", extension="153", last_extension="153", rang=("153", "150"))
        )
        await desk.tell(ended("2", Result.MISSED, rang=()))
    assert first.note == "not_exist_codes"
    assert [ends_of(call)["USER"] for call in portal.calls.values()] == ["22", "22"]
    async with open_desk(settings_of(portal, missed_task=False)) as desk:
        await desk.tell(ended("3", Result.MISSED, rang=()))
    assert ends_of(list(portal.calls.values())[-1])["USER"] == "1", "the user of the webhook"


async def test_numbers_of_the_portal_s_own(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal)) as desk:
        desk.users = {}
        first, *_ = await desk.tell(ringing("1", "150", "151", "199"))
    assert (first.note, first.detail) == ("not_exist_codes", "199")
    assert only(portal).cards == ["19", "18"]


async def test_an_outgoing_call(portal: Bitrix24, open_desk: Open) -> None:
    outgoing: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT}
    async with open_desk(settings_of(portal)) as desk:
        await desk.tell(
            replace(ringing(), **outgoing), ended("1", Result.NO_ANSWER, rang=(), extension="150", **outgoing)
        )
    call = only(portal)
    assert (call.fields["TYPE"], call.shown, ends_of(call)["STATUS_CODE"]) == (1, ["19"], "304")
    assert not portal.tasks


async def test_what_is_not_wanted_is_not_sent(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal, show_card=False, missed_task=False, attach_recordings=False)) as desk:
        await desk.tell(ringing(), answered(), ended("1", recording=LINK))
    call = only(portal)
    assert (call.shown, call.record) == ([], "")
    assert call.finished is not None


async def test_a_recording_waits_for_its_file_and_for_the_portal(portal: Bitrix24, open_desk: Open) -> None:
    class Recordings:
        kind = ""

        async def content_type(self, link: str) -> str:
            if not self.kind:
                raise NotYet("the recording is not there yet")
            return self.kind

    recordings = Recordings()
    async with open_desk(settings_of(portal), recordings=recordings) as desk:
        finish, record = desk.planned(ended("1", recording=LINK))

        async def attach() -> None:
            await desk.client.deliver(desk.attempt(record, "1"))

        with pytest.raises(NotYet):
            await attach()  # the call is not finished
        await desk.client.deliver(desk.attempt(finish, "1"))
        with pytest.raises(NotYet):
            await attach()
        recordings.kind, portal.record_status = "audio/mpeg", 404
        with pytest.raises(NotYet):
            await attach()
        portal.record_status = 200
        await attach()
        recordings.kind = "audio/ogg"
        with pytest.raises(Rejected, match="wav and mp3"):
            await attach()
    assert only(portal).record == LINK


async def test_a_recording_is_uploaded_where_its_link_cannot_be_fetched(portal: Bitrix24, open_desk: Open) -> None:
    class Recordings:
        sound: bytes | None = b"RIFF" * 1000

        async def content_type(self, link: str) -> str:
            return "audio/wav"

        async def content(self, link: str, most: int) -> bytes | None:
            return self.sound

    recordings = Recordings()
    async with open_desk(settings_of(portal, recordings_by="upload"), recordings=recordings) as desk:
        finish, record = desk.planned(ended("1", recording=LINK))
        await desk.client.deliver(desk.attempt(finish, "1"))
        attempt = desk.attempt(record, "1")
        await desk.client.deliver(attempt)
        assert only(portal).record == "4000 bytes"
        assert attempt.request.endswith(".wav, 4000 bytes"), "the log has its size and not the sound"
        recordings.sound = None  # larger than what is uploaded
        await desk.client.deliver(desk.attempt(record, "1"))
        assert only(portal).record == LINK


# A call that was requested there -------------------------------------------------------------------------------------


async def requested(desk: Desk, portal: Bitrix24, **body: Any) -> tuple[str, Attempt, Ids]:
    call_id, _ = portal.request_call("19", CLIENT)
    ids = Ids({"call": call_id})
    fields = {"call_id": call_id, "user_id": "19", "at": 0.0, **body}
    return call_id, Attempt(kind=UNUSED_CALL, key="o:unused_call", lane="o", body=fields, ids=ids, users=dict), ids


async def test_a_requested_call_is_not_registered_again(portal: Bitrix24, open_desk: Open) -> None:
    outgoing: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT}
    async with open_desk(settings_of(portal)) as desk:
        _, unused, desk.ids["1"] = await requested(desk, portal)
        await desk.tell(replace(ringing(), **outgoing))
        await desk.client.deliver(unused)
        assert only(portal).finished is None, "it has begun: there is nothing to clean up"
        await desk.tell(ended("1", **outgoing, rang=()))
    assert ends_of(only(portal))["DURATION"] == 55


async def test_a_requested_call_that_never_begins_does_not_hang(portal: Bitrix24, open_desk: Open) -> None:
    async with open_desk(settings_of(portal)) as desk:
        _, unused, _ = await requested(desk, portal, at=4e9)
        with pytest.raises(NotYet):
            await desk.client.deliver(unused)
        await desk.client.deliver(replace(unused, body={**unused.body, "at": 0.0}))
        await desk.client.deliver(replace(unused, body={**unused.body, "at": 0.0}))
        assert ends_of(only(portal))["DURATION"] == 0
        _, refused, _ = await requested(desk, portal, at=4e9, refused="no internal number")
        await desk.client.deliver(refused)
    assert portal.open_calls == []
