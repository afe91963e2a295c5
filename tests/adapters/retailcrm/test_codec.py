"""What RetailCRM is told of a call, told event by event, and what its answers come to.

Over 400 lines: most of them are what is to be said, word for word.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.base import Delivered, Draft
from adapters.retailcrm import ADAPTER, codec
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)
from gateway.domain.ids import CallId
from tests.adapters.conftest import at, attempt_of

ID = CallId("main-1763684000.42")
CLIENT, OURS = "+375291112233", "+375171234567"


def settings(**more: Any) -> RetailcrmSettings:
    return RetailcrmSettings.model_validate(
        {"domain": "https://june.retailcrm.ru", "api_key": "canary-key", "client_id": "canary-client", **more}
    )


def ringing(*extensions: str, second: float = 0, direction: Direction = Direction.INCOMING) -> CallRinging:
    caller, called = (CLIENT, OURS) if direction is Direction.INCOMING else ("150", CLIENT)
    return CallRinging(
        call_id=ID, at=at(second), direction=direction, caller=caller, called=called, trunk="t", extensions=extensions
    )


def ended(result: Result = Result.ANSWERED, second: float = 70, **more: Any) -> CallEnded:
    base: dict[str, Any] = {
        "call_id": ID, "at": at(second), "direction": Direction.INCOMING, "caller": CLIENT, "called": OURS,
        "trunk": "t", "extension": None, "last_extension": None, "rang": ("150", "151"), "result": result,
        "wait_s": None, "talk_s": None, "hung_up_by": HungUpBy.CALLER,
    }  # fmt: skip
    if result is Result.ANSWERED:
        base |= {"extension": "150", "last_extension": "150", "wait_s": 8.6, "talk_s": 61.2}
    return CallEnded(**(base | more))


def outgoing_end(result: Result, **more: Any) -> CallEnded:
    return ended(result, **{"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT, "rang": (), **more})


def reported(tenant: Tenant, *events: CallEvent, **more: Any) -> list[list[Draft]]:
    """The drafts of each event of a call in turn."""
    call: Call | None = None
    drafts = []
    for event in events:
        before, call = call, apply(call, event)
        assert call is not None
        drafts.append(list(codec.plan(settings(**more), tenant, before, call, event)))
    return drafts


def kinds(drafts: list[list[Draft]]) -> list[list[str]]:
    return [[draft.kind for draft in step] for step in drafts]


def test_an_answered_incoming_call_word_for_word(tenant: Tenant) -> None:
    rang, _, end = reported(
        tenant,
        ringing("150", "151"),
        CallAnswered(call_id=ID, at=at(9), extension="150", wait_s=8.6),
        ended(recording="https://gw.example/recordings/file/7f3a"),
    )
    assert [dict(draft.body) for draft in [*rang, *end]] == [
        {
            "event": {
                "phone": CLIENT,
                "type": "in",
                "codes": ["150", "151"],
                "callExternalId": ID,
                "externalPhone": "375171234567",
            }
        },
        {
            "event": {
                "phone": CLIENT,
                "type": "hangup",
                "codes": ["150", "151"],
                "hangupStatus": "answered",
                "callExternalId": ID,
                "externalPhone": "375171234567",
            }
        },
        {
            "calls": [
                {
                    "date": "2025-11-21 03:13:20",
                    "type": "in",
                    "phone": "375291112233",
                    "code": "150",
                    "duration": 61,
                    "durationWaiting": 9,
                    "result": "answered",
                    "externalId": ID,
                    "recordUrl": "https://gw.example/recordings/file/7f3a",
                    "externalPhone": "375171234567",
                }
            ]
        },
    ]
    assert [draft.key for draft in [*rang, *end]] == [f"{ID}:in:150+151", f"{ID}:hangup", f"{ID}:upload"]
    assert [draft.expires_s for draft in [*rang, *end]] == [60, 60, None]
    assert {draft.bucket for draft in [*rang, *end]} == {"telephony"}
    assert {draft.lane for draft in [*rang, *end]} == {""}, "the call itself"
    assert end[1].keep_s == 48 * 3600


def test_only_the_numbers_not_told_yet_are_told(tenant: Tenant) -> None:
    drafts = reported(
        tenant,
        ringing(),
        ringing("150", second=1),
        ringing("150", "151", second=2),
        ringing("151", second=3),
        ringing("151", "152", "153", second=4),
    )
    assert [[draft.key for draft in step] for step in drafts] == [
        [],
        [f"{ID}:in:150"],
        [f"{ID}:in:151"],
        [],
        [f"{ID}:in:152+153"],
    ]


def test_a_number_that_comes_late_is_reported_with_every_phone_that_rings(tenant: Tenant) -> None:
    hidden = replace(ringing("150", "151"), caller="anonymous")
    drafts = reported(tenant, hidden, ringing("150", "151", second=1), ended())
    assert kinds(drafts) == [[], ["in"], ["hangup", "upload"]]
    assert drafts[1][0].body["event"]["codes"] == ["150", "151"]
    assert kinds(reported(tenant, hidden, ended())) == [[], ["in_synthetic", "hangup", "upload"]]


def test_an_outgoing_call(tenant: Tenant) -> None:
    out = Direction.OUTGOING
    drafts = reported(
        tenant,
        ringing("150", direction=out),
        ringing(second=4, direction=out),
        outgoing_end(Result.ANSWERED, extension="150"),
    )
    assert kinds(drafts) == [["out"], [], ["hangup", "upload"]]
    event = drafts[0][0].body["event"]
    assert (drafts[0][0].key, event["codes"], event["phone"]) == (f"{ID}:out:150", ["150"], CLIENT)
    assert "externalPhone" not in event
    assert drafts[2][0].body["event"]["codes"] == ["150"]
    (call,) = drafts[2][1].body["calls"]
    assert (call["type"], call["code"], call["phone"]) == ("out", "150", "375291112233")


@pytest.mark.parametrize(
    "events",
    [
        [ended()],
        [ended(Result.MISSED)],
        [outgoing_end(Result.CANCELLED)],
        [ringing(), ended(Result.MISSED)],
        [replace(ringing("150"), direction=Direction.INTERNAL), ended()],
    ],
)
def test_a_hangup_whose_ringing_was_never_told_tells_it_first(tenant: Tenant, events: list[CallEvent]) -> None:
    last = reported(tenant, *events)[-1]
    first = "out" if "out" in last[0].key else "in"
    assert [draft.kind for draft in last] == [f"{first}_synthetic", "hangup", "upload"]
    assert last[0].body["event"]["codes"] == (["150"] if first == "out" else ["150", "151"])
    assert last[0].key == (f"{ID}:out:150" if first == "out" else f"{ID}:in:150+151")


def test_where_no_phone_ever_rang_only_the_end_is_told(tenant: Tenant) -> None:
    drafts = reported(tenant, ringing(), ended(Result.MISSED, rang=()))
    assert kinds(drafts) == [[], ["hangup", "upload"]]
    assert "code" not in drafts[1][1].body["calls"][0]


def test_the_first_ring_is_reckoned_back_where_it_was_not_seen(tenant: Tenant) -> None:
    (call,) = reported(tenant, ended(second=70, wait_s=9.0, talk_s=61.0))[0][-1].body["calls"]
    assert call["date"] == "2025-11-21 03:13:20"


@pytest.mark.parametrize(
    ("event", "status", "result"),
    [
        (ended(), "answered", "answered"),
        (ended(Result.BUSY), "busy", "busy"),
        (ended(Result.FAILED), "failed", "failed"),
        (ended(Result.MISSED, hung_up_by=HungUpBy.CALLER), "cancel", "no answer"),
        (ended(Result.MISSED, hung_up_by=HungUpBy.SYSTEM), "no answered", "no answer"),
        (ended(Result.MISSED, hung_up_by=None), "no answered", "no answer"),
        (outgoing_end(Result.NO_ANSWER), "no answered", "no answer"),
        (outgoing_end(Result.CANCELLED), "cancel", "no answer"),
        (ended(Result.MISSED, uncertain=True), "failed", "unknown"),
        (ended(uncertain=True), "failed", "unknown"),
    ],
)
def test_results(tenant: Tenant, event: CallEnded, status: str, result: str) -> None:
    *_, hangup, upload = reported(tenant, event)[0]
    assert hangup.body["event"]["hangupStatus"] == status
    assert upload.body["calls"][0]["result"] == result


def test_the_wait_of_an_unanswered_call_lasts_to_its_end(tenant: Tenant) -> None:
    (call,) = reported(tenant, ringing("150"), ended(Result.MISSED, second=24.7))[1][1].body["calls"]
    assert (call["duration"], call["durationWaiting"], call["code"]) == (0, 25, "150")
    assert all(type(call[name]) is int for name in ("duration", "durationWaiting"))


@pytest.mark.parametrize("recording", [None, "", "pending", "/recordings/file/7f3a", "file:///etc/passwd"])
def test_only_a_link_is_a_link(tenant: Tenant, recording: str | None) -> None:
    assert "recordUrl" not in reported(tenant, ended(recording=recording))[0][-1].body["calls"][0]


@pytest.mark.parametrize("called", ["s", "anonymous", "", "150"])
def test_the_company_number_is_left_out_where_it_is_not_known(tenant: Tenant, called: str) -> None:
    for draft in reported(tenant, ended(called=called))[0]:
        body = draft.body.get("event") or draft.body["calls"][0]
        assert "externalPhone" not in body


@pytest.mark.parametrize(
    "event",
    [
        replace(ringing("151"), direction=Direction.INTERNAL),
        ended(direction=Direction.INTERNAL),
        ended(caller="anonymous"),
        ended(caller=""),
    ],
)
def test_internal_calls_and_hidden_numbers_are_not_told(tenant: Tenant, event: CallEvent) -> None:
    assert reported(tenant, event) == [[]]


def test_answers_transfers_and_merges_are_not_told(tenant: Tenant) -> None:
    drafts = reported(
        tenant,
        ringing("150"),
        CallAnswered(call_id=ID, at=at(3), extension="150", wait_s=3),
        CallTransferred(call_id=ID, at=at(9), from_extension="150", to_extension="151"),
        CallMerged(call_id=ID, at=at(11), into=CallId("2")),
    )
    assert kinds(drafts) == [["in"], [], [], []]


@pytest.mark.parametrize("off", ["in", "out", "hangup", "upload"])
def test_each_kind_can_be_switched_off(tenant: Tenant, off: str) -> None:
    drafts = [
        *reported(tenant, ended(), send_events={off: False}),
        *reported(tenant, outgoing_end(Result.BUSY), send_events={off: False}),
    ]
    sent = {draft.kind.removesuffix("_synthetic") for step in drafts for draft in step}
    assert sent == {"in", "out", "hangup", "upload"} - {off}


def test_the_form_holds_json_text_and_the_client_id(tenant: Tenant) -> None:
    hangup, upload = reported(tenant, ended(), send_events={"in": False})[0]
    path, form = codec.request(settings(), attempt_of(hangup))
    assert (path, list(form)) == ("/api/v5/telephony/call/event", ["clientId", "event"])
    assert form["clientId"] == "canary-client"
    assert json.loads(form["event"]) == hangup.body["event"]
    path, form = codec.request(settings(), attempt_of(upload))
    assert (path, list(form)) == ("/api/v5/telephony/calls/upload", ["clientId", "calls"])
    assert json.loads(form["calls"]) == upload.body["calls"]


# Answers -------------------------------------------------------------------------------------------------------------


def no(message: str, errors: Any = None) -> str:
    return json.dumps({"success": False, "errorMsg": message, **({} if errors is None else {"errors": errors})})


@pytest.mark.parametrize(
    ("status", "text", "outcome"),
    [
        (200, '{"success":true}', Delivered()),
        (201, '{"success":true,"info":[]}', Delivered()),
        (200, '{"success":true,"processedCallsCount":1,"duplicateCalls":[]}', Delivered()),
        (200, '{"success":true,"processedCallsCount":0,"duplicateCalls":["main-1763684000.42"]}', Delivered()),
        (400, '{"success":false,"errorMsg":"x","duplicateCalls":["main-1763684000.42"]}', Delivered()),
        (200, '{"success":true,"notExistCodes":[]}', Delivered()),
        (200, '{"success":true,"notExistCodes":["104",105]}', Delivered(note="not_exist_codes", detail="104, 105")),
        (200, '{"success":true,"notExistCodes":null}', Delivered()),
        (403, no('"apiKey" is missing.'), BadCredentials),
        (403, no('Wrong "apiKey" value.'), BadCredentials),
        (400, no('Wrong "apiKey" value.'), BadCredentials),
        (403, no("Access denied."), BadCredentials),
        (403, "", BadCredentials),
        (401, "{}", BadCredentials),
        (404, no("Account does not exist."), BadSettings),
        (404, no("API method not found"), Rejected),
        (404, no("Not found"), Rejected),
        (404, "<!DOCTYPE html><html></html>", BadSettings),
        (405, "<html></html>", BadSettings),
        (405, "", BadSettings),
        (200, "\n <html>welcome</html>", BadSettings),
        (302, "<html>moved</html>", BadSettings),
        (301, "", BadSettings),
        (400, no("Errors in the entity format", ["phone: blank"]), Rejected),
        (200, no("Errors in the entity format", {"phone": "blank"}), Rejected),
        (200, no("Something of its own"), Rejected),
        (400, no("Parameter 'event' is missing"), Rejected),
        (400, "what", Rejected),
        (400, no("Telephony not enabled"), BadSettings),
        (200, no("Telephony not enabled or not supports calls upload"), BadSettings),
        (503, no("Rate limit exceeded"), RateLimited),
        (200, no("Rate limit exceeded"), RateLimited),
        (503, "<html>slow down</html>", RateLimited),
        (503, "", RateLimited),
        (429, "<html></html>", RateLimited),
        (500, no("Internal server error"), Unavailable),
        (502, "<html>Bad gateway</html>", Unavailable),
        (504, "", Unavailable),
        (408, "<html></html>", Unavailable),
        (200, "", Unavailable),
        (200, "[]", Unavailable),
        (200, "null", Unavailable),
        (200, '{"success":tr', Unavailable),
        (200, '{"success":1}', Unavailable),
        (500, '{"success":true}', Unavailable),
        (200, "[" * 100_000, Unavailable),
    ],
)
def test_answers(tenant: Tenant, status: int, text: str, outcome: Delivered | type[GatewayError]) -> None:
    attempt = attempt_of(reported(tenant, ended())[0][-1])
    if isinstance(outcome, Delivered):
        assert codec.read_delivered(status, text, attempt) == outcome
        return
    with pytest.raises(outcome) as raised:
        codec.read_delivered(status, text, attempt)
    if isinstance(raised.value, Unavailable):
        assert raised.value.certain is False


def test_a_refusal_shows_the_errors_of_every_shape(tenant: Tenant) -> None:
    for errors, shown in (
        (["a", "b"], "a; b"),
        ({"phone": "blank", "date": ["bad", "worse"]}, "phone: blank; date: bad; worse"),
        ("oops", "oops"),
        (None, ""),
    ):
        with pytest.raises(Rejected) as raised:
            codec.read_answer(400, no("Validation error", errors))
        assert raised.value.detail == f"400: Validation error{f'; {shown}' if shown else ''}"


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("https://june.retailcrm.ru", "https://june.retailcrm.ru"),
        (" https://June.RetailCRM.ru/ ", "https://june.retailcrm.ru"),
        ("june.retailcrm.ru", "https://june.retailcrm.ru"),
        ("https://june.retailcrm.ru.:8443", "https://june.retailcrm.ru:8443"),
        ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
        ("http://[::1]:9001", "http://[::1]:9001"),
    ],
)
def test_the_domain_is_one_site(given: str, stored: str) -> None:
    assert settings(domain=given).domain == stored


@pytest.mark.parametrize(
    "given",
    [
        "", "https://", "ftp://a.b", "https://u:p@a.b", "https://a.b/path", "https://a.b?x=1", "https://a.b#x",
        "https://a.b\\@c.d", "https://a b", "https://a.b:99999", "https://a.b:x", "https://[::1", "javascript:alert(1)",
        "https://a%2eb",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(ValidationError) as raised:
        settings(domain=given)
    assert [error["loc"] for error in raised.value.errors()] == [("domain",)]


def test_ids_of_users() -> None:
    assert [ADAPTER.user_id(text) for text in ("19", "007")] == ["19", "7"]
    for wrong in ("", "anna", "1 9", "-1", "1" * 19):
        with pytest.raises(ValueError, match="is a number"):
            ADAPTER.user_id(wrong)


def test_a_client_id_is_made_and_cannot_be_guessed() -> None:
    bare = {"domain": "https://a.example", "api_key": "k-example"}
    one, two = (RetailcrmSettings.model_validate(bare).client_id for _ in range(2))
    assert one != two
    assert len(one.reveal()) >= 40


def test_switches_are_spelled_as_in_the_file() -> None:
    made = settings(send_events={"in": False})
    assert made.send_events.in_ is False
    assert made.model_dump(mode="json")["send_events"] == {"in": False, "out": True, "hangup": True, "upload": True}
    with pytest.raises(ValidationError):
        settings(send_events={"inn": False})


def test_legacy_nets_are_nets() -> None:
    assert settings(legacy_client_nets=["203.0.113.0/24", "2001:db8::1"]).legacy_client_nets == (
        "203.0.113.0/24",
        "2001:db8::1/128",
    )
    with pytest.raises(ValidationError):
        settings(legacy_client_nets=["everyone"])
