"""Calls told to a strict organisation: one call is one task there, whatever happens on the way."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from gateway.domain.errors import BadSettings, NotYet, RateLimited, Rejected
from gateway.domain.events import CallMerged, Direction, Result
from gateway.domain.ids import CallId
from tests.adapters.bitrix24.conftest import CLIENT, answered, ended, ringing
from tests.adapters.conftest import at
from tests.adapters.salesforce.conftest import only, settings_of
from tests.sandbox.salesforce import ADMIN, ANNA, GLEB, IVAN, OLGA, Salesforce
from tests.sandbox.web import Fault

Open = Callable[..., Any]
LINK = "https://gw.example/recordings/file/1"


async def test_a_call_is_a_task(org: Salesforce, open_desk: Open) -> None:
    contact = org.add("Contact", "8 (029) 111-22-33", owner=IVAN)
    async with open_desk(settings_of(org)) as desk:
        assert await desk.tell(ringing("1", "150", "151"), answered("1", "151")) == []
        await desk.tell(ended("1", extension="151", last_extension="152", rang=("150", "151"), recording=LINK))
    task = only(org)
    assert (task["WhoId"], task["OwnerId"], task["CallType"], task["CallDurationInSeconds"]) == (
        contact,
        OLGA,
        "Inbound",
        55,
    )
    assert (task["Subject"], task["CallDisposition"], task["Status"]) == (
        f"Входящий звонок {CLIENT}",
        "Отвечен",
        "Completed",
    )
    assert (task["GwCallId__c"], task["CallObject"], task["TaskSubtype"]) == ("0367-1", "0367-1", "Call")
    assert task["ActivityDate"] == "2025-11-21"
    assert task["Description"].endswith(f"Запись разговора: {LINK}")
    assert "152" in task["Description"]
    assert org.leads == org.to_do == org.violations == []


@pytest.mark.parametrize(("create", "kinds"), [("lead", {"Lead": 1}), ("contact", {"Contact": 1}), ("none", {})])
async def test_an_unknown_number_becomes_what_is_set(
    org: Salesforce, open_desk: Open, create: str, kinds: dict[str, int]
) -> None:
    """The second call comes before the search knows of the first one's record."""
    async with open_desk(settings_of(org, create=create)) as desk:
        await desk.tell(ended("1"), ended("2"))
    assert {kind: len(found) for kind, found in org.records.items() if found and kind != "Task"} == kinds
    assert [bool(task.get("WhoId")) for task in org.tasks] == [bool(kinds)] * 2
    assert org.violations == []


async def test_two_calls_at_once_of_one_caller_are_one_record(org: Salesforce, open_desk: Open) -> None:
    async with open_desk(settings_of(org)) as desk, trio.open_nursery() as nursery:
        for call in "12345":
            nursery.start_soon(desk.tell, ended(call))
    assert (len(org.leads), len(org.tasks)) == (1, 5)
    assert org.exchanges == 1
    assert org.most_at_once <= 5
    assert org.violations == []


@pytest.mark.parametrize(
    "stored", ["+375291112233", "375291112233", "80291112233", "8 029 111-22-33", "291112233", "+375 (29) 111-22-33"]
)
async def test_a_client_is_found_however_the_number_is_written(org: Salesforce, open_desk: Open, stored: str) -> None:
    number = org.add("Lead", "", MobilePhone=stored)
    async with open_desk(settings_of(org)) as desk:
        await desk.tell(ended())
    assert only(org)["WhoId"] == number


async def test_duplicates_that_exist_already_hide_nobody(org: Salesforce, open_desk: Open) -> None:
    for _ in range(25):
        org.add("Lead", CLIENT)
    org.add("Lead", CLIENT, IsConverted=True)
    contact = org.add("Contact", CLIENT)
    org.add("Contact", CLIENT)
    async with open_desk(settings_of(org)) as desk:
        await desk.tell(ended())
        assert only(org)["WhoId"] == contact
        account = org.add("Account", "+375447654321")
        await desk.tell(ended("2", phone="+375447654321"))
    assert org.tasks[1]["WhatId"] == account
    assert org.violations == []


async def test_a_missed_call_is_a_task_to_call_back(org: Salesforce, open_desk: Open) -> None:
    contact = org.add("Contact", CLIENT, owner=OLGA)
    async with open_desk(settings_of(org)) as desk:
        await desk.tell(ringing("1", "150", "151"), ended("1", Result.MISSED, rang=("150", "151")))
        await desk.tell(ended("2", Result.MISSED, phone="anonymous", rang=()))
    task, hidden = org.tasks
    assert (task["CallDisposition"], task["OwnerId"], task["CallDurationInSeconds"]) == ("Пропущен", IVAN, 0)
    assert "150 Анна, 151 <Олег> & Ко" in task["Description"]
    (to_do,) = org.to_do
    assert (to_do["OwnerId"], to_do["WhoId"], to_do["Status"]) == (OLGA, contact, "Not Started")
    assert CLIENT in to_do["Subject"]
    assert (hidden["Subject"], hidden.get("WhoId"), hidden["OwnerId"]) == ("Входящий звонок номер скрыт", None, ADMIN)


async def test_internal_outgoing_uncertain_and_joined_calls(org: Salesforce, open_desk: Open) -> None:
    inside: dict[str, Any] = {"direction": Direction.INTERNAL, "caller": "150", "called": "151", "rang": ("151",)}
    out: dict[str, Any] = {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT, "rang": ()}
    async with open_desk(settings_of(org)) as desk:
        await desk.tell(
            ended("1", **inside, extension="151", last_extension="151"),
            ended("2", Result.NO_ANSWER, **out, extension="150"), ended("3", Result.MISSED, uncertain=True),
            ringing("4"), answered("4"), CallMerged(call_id=CallId("4"), at=at(35), into=CallId("5")),
        )  # fmt: skip
        quiet = settings_of(org, send_events={"internal": False})
        desk.settings = quiet
        assert desk.planned(ended("6", **inside)) == ()
    internal, outgoing, uncertain, joined = org.tasks
    assert (internal["CallType"], internal["OwnerId"], internal.get("WhoId")) == ("Internal", IVAN, None)
    assert (outgoing["CallType"], outgoing["OwnerId"], outgoing["CallDisposition"]) == ("Outbound", IVAN, "Нет ответа")
    assert "неточно" in uncertain["CallDisposition"]
    assert "Связь с АТС" in uncertain["Description"]
    assert (joined["CallDurationInSeconds"], "переводом" in joined["Description"]) == (30, True)
    assert org.to_do == org.violations == []


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE, Fault.DROP, Fault.HTTP_503],
)
@pytest.mark.parametrize("faulty", ["GET /search", "POST /composite", "POST /sobjects/Lead", "/sobjects/Task"])
@pytest.mark.parametrize("field", ["GwCallId__c", ""])
async def test_a_fault_doubles_and_loses_nothing(
    org: Salesforce, open_desk: Open, faulty: str, fault: Fault, field: str
) -> None:
    org.fault, org.fault_count, org.faulty, org.call_field = fault, 2, faulty, field
    async with open_desk(settings_of(org)) as desk:
        await desk.insist(ended("1", Result.MISSED, recording=LINK), tries=9)
    task = only(org)
    assert LINK in task["Description"]
    assert (len(org.leads), len(org.to_do)) == (1, 1)
    assert task["WhoId"] == org.leads[0]["Id"]
    assert org.violations == []


@pytest.mark.parametrize(("status", "named"), [(200, True), (204, True), (200, False)])
async def test_an_upsert_that_came_twice_is_one_task(
    org: Salesforce, open_desk: Open, status: int, named: bool
) -> None:
    """Whatever this version of the API answers, and whether or not TaskSubtype may be named again."""
    org.upsert_status, org.subtype_on_update = status, not named
    async with open_desk(settings_of(org)) as desk:
        (draft,) = desk.planned(ended("a/1 +?&'\\", recording=None))
        for _ in range(2):
            desk.ids.clear()
            await desk.client.deliver(desk.attempt(draft, "1"))
    assert only(org)["GwCallId__c"] == "0367-a/1 +?&'\\"
    assert org.violations == []


async def test_several_records_of_one_call_are_a_persons_matter(org: Salesforce, open_desk: Open) -> None:
    for _ in range(2):
        org.add("Task", "", Status="Completed", GwCallId__c="0367-1")
    async with open_desk(settings_of(org)) as desk:
        with pytest.raises(Rejected) as raised:
            await desk.tell(ended())
    assert "all but one" in raised.value.person


async def test_without_the_field_tasks_are_looked_for(org: Salesforce, open_desk: Open) -> None:
    settings = settings_of(org)
    org.call_field = ""
    async with open_desk(settings) as desk:
        (draft,) = desk.planned(ended("o'1"))
        note = await desk.client.deliver(desk.attempt(draft, "1"))
        assert note.note == "call_field_missing"
        del desk.ids["1"].stored["task_id"]
        await desk.client.deliver(desk.attempt(draft, "1"))
        tested = await desk.client.test()
    assert only(org)["CallObject"] == "0367-o'1"
    assert [(one.code, one.ok) for one in tested.findings] == [("quota", True), ("call_field", False)]
    assert org.violations == []


async def test_required_fields_and_rules(org: Salesforce, open_desk: Open) -> None:
    """Of a record they cost the record and not the call; of a task they are named."""
    org.required = {"Lead": {"Region__c"}}
    async with open_desk(settings_of(org)) as desk:
        (note,) = await desk.tell(ended("1"))
        assert (note.note, "Region__c" in note.detail) == ("client_not_made", True)
        org.no_access = {"Lead"}
        with pytest.raises(BadSettings) as refused:
            await desk.tell(ended("2"))
        assert "create leads" in refused.value.person
        org.no_access, org.required = set(), {"Task": {"Branch__c"}}
        with pytest.raises(Rejected, match="Branch__c") as raised:
            await desk.tell(ended("3"))
        assert "default value" in raised.value.person
        tested = await desk.client.test()
        assert (tested.ok, "Branch__c" in tested.said("ru")) == (False, True)
    assert len(org.tasks) == 1


@pytest.mark.parametrize("duplicates", ["link", "save"])
async def test_a_duplicate_rule(org: Salesforce, open_desk: Open, duplicates: str) -> None:
    """The rule knows of a record that neither the search nor the query has found."""
    lead = org.add("Lead", "00375291112233")
    org.duplicate_rule = True
    org.records["Lead"][lead]["Phone"], org.records["Lead"][lead]["MobilePhone"] = "", "+375(29)111.22.33"
    org._indexed[lead] = float("inf")
    org.records["Lead"][lead]["CreatedDate"] = "2020-01-01T00:00:00.000+0000"
    async with open_desk(settings_of(org, duplicates=duplicates)) as desk:
        await desk.tell(ended())
    assert (only(org)["WhoId"] == lead) is (duplicates == "link")
    assert len(org.leads) == (1 if duplicates == "link" else 2)


async def test_nobodys_call_is_the_default_users(org: Salesforce, open_desk: Open) -> None:
    """A deleted user, an unknown number, nobody at all."""
    async with open_desk(settings_of(org, default_user=ANNA, missed_task=False)) as desk:
        desk.users = {GLEB: "153"}
        await desk.tell(ended("1", extension="153", last_extension="153", rang=("153",)))
        (second,) = await desk.tell(ended("2", Result.MISSED, rang=("199",)))
        await desk.tell(ended("3", Result.MISSED, rang=()))
        desk.users = {}
        await desk.tell(ended("4"))
    assert (second.note, second.detail) == ("not_exist_codes", "199")
    assert [task["OwnerId"] for task in org.tasks] == [ADMIN, ANNA, ANNA, IVAN]
    assert len(org.leads) == 1


async def test_a_recording_waits_and_leaves_comments_alone(org: Salesforce, open_desk: Open) -> None:
    class Recordings:
        there = False

        async def content_type(self, link: str) -> str:
            if not self.there:
                raise NotYet("the recording is not there yet")
            return "audio/mpeg"

    recordings = Recordings()
    org.custom = {"RecordingUrl__c"}
    async with open_desk(settings_of(org), recordings=recordings) as desk:
        call, record = desk.planned(ended("1", recording=LINK))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))  # the call is not told
        await desk.client.deliver(desk.attempt(call, "1"))
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(record, "1"))
        recordings.there = True
        only(org)["Description"] = "Wants a call on Monday"
        for _ in range(2):
            await desk.client.deliver(desk.attempt(record, "1"))
    assert only(org)["Description"] == f"Wants a call on Monday\nЗапись разговора: {LINK}"
    async with open_desk(settings_of(org, recording_field="RecordingUrl__c")) as desk:
        await desk.tell(ended("2", recording=LINK))
    assert org.tasks[1]["RecordingUrl__c"] == LINK


async def test_the_days_requests(org: Salesforce, open_desk: Open) -> None:
    """Said before they are out; once they are out, deliveries wait and use up no attempt."""
    org.most, org.used = 1000, 950
    async with open_desk(settings_of(org)) as desk:
        (note,) = await desk.tell(ended("1"))
        assert (note.note, note.detail.endswith("/ 1000")) == ("quota_low", True)
        tested = await desk.client.test()
        assert (tested.ok, "1000" in tested.said("en")) == (True, True)
    org.used = 1000
    async with open_desk(settings_of(org)) as desk:
        with pytest.raises(RateLimited) as raised:
            await desk.tell(ended("2"))
        assert raised.value.after_s == 300.0
        with pytest.raises(RateLimited):
            await desk.tell(ended("3"))
    assert org.refused == {"REQUEST_LIMIT_EXCEEDED": 1}, "nothing is asked while the account rests"


async def test_long_names_and_statuses_of_the_organisation(org: Salesforce, open_desk: Open) -> None:
    org.statuses = [
        {"Id": "1", "ApiName": "Открыта", "MasterLabel": "Открыта", "IsClosed": False, "IsDefault": True, "SortOrder": 1},
        {"Id": "2", "ApiName": "Закрыта 🙂", "MasterLabel": "Закрыта", "IsClosed": True, "IsDefault": False, "SortOrder": 2},
    ]  # fmt: skip
    async with open_desk(settings_of(org)) as desk:
        await desk.tell(ended("1", Result.MISSED, phone="+375291112233", queue="🙂" * 300))
        org.no_access = {"TaskStatus"}
    assert (only(org)["Status"], org.to_do[0]["Status"]) == ("Закрыта 🙂", "Открыта")
    async with open_desk(settings_of(org, closed_status="Done")) as desk:
        with pytest.raises(Rejected) as raised:
            await desk.tell(ended("2"))
        assert "correct it in the settings" in raised.value.person
        tested = await desk.client.test()
        assert (tested.ok, "Done" in tested.said("ru")) == (False, True)
