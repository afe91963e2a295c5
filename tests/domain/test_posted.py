"""What posted events tell of their calls, as a fold: order, repeats, late ones and missing ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.events import CallAnswered, CallEnded, CallEvent, CallRinging, Direction, HungUpBy, Result
from gateway.domain.ids import Kind, TenantId
from gateway.domain.posted import reported
from gateway.domain.posts import parse_post

NOW = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
TENANT = Tenant(
    number=TenantId("0367"), name="June", timezone=ZoneInfo("Europe/Minsk"), country="BY", language="ru",
    phones=(Phone("150"), Phone("151"), Phone("152")),
)  # fmt: skip
CLIENT = "+375291234567"
IN = {"CallerIDNum": "80291234567", "Extensions": ["150"], "CallType": 0, "Trunk": "trunk-0001"}
OUT = {"CallerIDNum": "150", "ConnectedLineNum": "80291234567", "CallType": 1}

PbxEvents = tuple[float, str, dict[str, Any]]


def fold(*posts: PbxEvents, tenant: Tenant = TENANT) -> tuple[Call | None, list[CallEvent]]:
    """Posts as (seconds since NOW, step, fields)."""
    call: Call | None = None
    events: list[CallEvent] = []
    for seconds, step, fields in posts:
        at = NOW + timedelta(seconds=seconds)
        for event in reported(call, parse_post(f"/{step}", {"UniqueId": "7.1", **fields}, tenant, at), tenant):
            events.append(event)
            call = apply(call, event)
    return call, events


def ended(*posts: PbxEvents, tenant: Tenant = TENANT) -> CallEnded:
    _, events = fold(*posts, tenant=tenant)
    assert isinstance(events[-1], CallEnded)
    assert sum(isinstance(event, CallEnded) for event in events) == 1
    assert isinstance(events[0], CallRinging)
    return events[-1]


def test_an_answered_call() -> None:
    bridge = {"CallerIDNum": "80291234567", "ConnectedLineNum": "151"}
    call, events = fold(
        (0, "start", IN), (1, "dial", IN), (1.2, "dial", {**IN, "Extensions": "150,151"}), (6, "bridge", bridge),
        (96, "hangup", {**IN, "CallStatus": 2}),
    )  # fmt: skip
    ringing, again, answered, over = events
    assert isinstance(ringing, CallRinging)
    assert (ringing.call_id, ringing.direction, ringing.caller) == ("7.1", Direction.INCOMING, CLIENT)
    assert (ringing.extensions, ringing.trunk) == (("150",), "trunk-0001")
    assert isinstance(again, CallRinging)
    assert again.extensions == ("150", "151")
    assert isinstance(answered, CallAnswered)
    assert (answered.extension, answered.wait_s) == ("151", 5.0)
    assert isinstance(over, CallEnded)
    assert (over.result, over.extension, over.last_extension) == (Result.ANSWERED, "151", "151")
    assert (over.rang, over.wait_s, over.talk_s) == (("150", "151"), 5.0, 90.0)
    assert call is not None
    assert not call.open


def test_start_and_bridge_alone_tell_nothing() -> None:
    assert fold((0, "start", IN), (1, "bridge", IN)) == (None, [])


def test_repeats_and_late_events_tell_nothing() -> None:
    whole: list[PbxEvents] = [(0, "dial", IN), (2, "bridge", {"ConnectedLineNum": "150"}), (9, "hangup", IN)]
    _, events = fold(*whole, *((20, step, fields) for _, step, fields in whole))
    assert len(events) == 3
    _, events = fold((0, "dial", IN), (0, "dial", IN), (2, "bridge", IN), (3, "bridge", IN))
    assert len(events) == 2


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_ends_once(order: tuple[int, ...]) -> None:
    whole: list[PbxEvents] = [(0, "start", IN), (1, "dial", IN), (2, "bridge", IN), (3, "hangup", IN)]
    _, events = fold(*(whole[place] for place in order))
    assert [type(event) for event in events].count(CallEnded) == 1
    assert isinstance(events[0], CallRinging)
    assert isinstance(events[-1], CallEnded)


@pytest.mark.parametrize(
    ("status", "incoming", "outgoing", "by"),
    [
        ("BUSY", Result.BUSY, Result.BUSY, HungUpBy.CALLEE),
        ("NOANSWER", Result.MISSED, Result.NO_ANSWER, HungUpBy.SYSTEM),
        ("CANCEL", Result.MISSED, Result.CANCELLED, HungUpBy.CALLER),
        ("CONGESTION", Result.FAILED, Result.FAILED, HungUpBy.SYSTEM),
        ("CHANUNAVAIL", Result.FAILED, Result.FAILED, HungUpBy.SYSTEM),
        (0, Result.MISSED, Result.NO_ANSWER, HungUpBy.SYSTEM),
        (None, Result.MISSED, Result.NO_ANSWER, None),
    ],
)
def test_results(status: Any, incoming: Result, outgoing: Result, by: HungUpBy | None) -> None:
    for fields, result in ((IN, incoming), (OUT, outgoing)):
        over = ended((0, "dial", fields), (20, "hangup", {**fields, "CallStatus": status}))
        assert (over.result, over.wait_s, over.talk_s, over.hung_up_by) == (result, None, None, by)
        assert over.last_extension is None


def test_a_hangup_whose_dial_was_never_seen() -> None:
    _, events = fold((100, "hangup", {**IN, "StartTime": "2026-11-21 10:00:00", "EndTime": "2026-11-21 10:01:30"}))
    ringing, over = events
    assert isinstance(ringing, CallRinging)
    assert (ringing.at, ringing.extensions) == (NOW, ("150",))
    assert isinstance(over, CallEnded)
    assert (over.at, over.result, over.rang) == (NOW + timedelta(seconds=90), Result.MISSED, ("150",))


def test_answered_by_status_alone() -> None:
    times = {"StartTime": "2026-11-21 10:00:05", "EndTime": "2026-11-21 10:01:35"}
    over = ended((0, "dial", IN), (95, "hangup", {**IN, **times, "CallStatus": "ANSWER"}))
    assert (over.result, over.extension, over.wait_s, over.talk_s) == (Result.ANSWERED, "150", 5.0, 90.0)
    alone = ended((95, "hangup", {**IN, **times, "CallStatus": "2"}))
    assert (alone.result, alone.extension, alone.wait_s, alone.talk_s) == (Result.ANSWERED, "150", 0.0, 90.0)


def test_a_host_whose_clock_is_far_off() -> None:
    start, end = {"StartTime": "2024-01-01 10:00:00"}, {"EndTime": "2024-01-01 10:01:30"}
    over = ended((0, "dial", {**IN, **start}), (5, "bridge", IN), (95, "hangup", {**IN, **start, **end}))
    assert (over.result, over.wait_s, over.talk_s) == (Result.ANSWERED, 0.0, 90.0)
    ahead = {"StartTime": "2027-01-01 10:00:00", "EndTime": "2027-01-01 10:01:30"}
    over = ended((0, "dial", {**IN, **ahead}), (5, "bridge", IN), (95, "hangup", {**IN, **ahead}))
    assert (over.at, over.wait_s, over.talk_s) == (NOW + timedelta(seconds=95), 5.0, 90.0)


@pytest.mark.parametrize(
    ("fields", "direction", "caller", "called"),
    [
        (IN, Direction.INCOMING, CLIENT, ""),
        ({**IN, "ConnectedLineNum": "80172001020"}, Direction.INCOMING, CLIENT, "+375172001020"),
        ({**IN, "Trunk": "375172001020"}, Direction.INCOMING, CLIENT, "+375172001020"),
        ({**IN, "ConnectedLineNum": "150"}, Direction.INCOMING, CLIENT, "150"),
        ({**IN, "CallerIDNum": "<unknown>"}, Direction.INCOMING, "anonymous", ""),
        (OUT, Direction.OUTGOING, "150", CLIENT),
        ({**OUT, "CallerIDNum": "375172001020", "Extensions": [151]}, Direction.OUTGOING, "151", CLIENT),
        ({"CallerIDNum": 150, "ConnectedLineNum": 151, "CallType": "2"}, Direction.INTERNAL, "150", "151"),
        ({"CallerIDNum": "150", "ConnectedLineNum": "151"}, Direction.INTERNAL, "150", "151"),
        ({"CallerIDNum": "150", "Extensions": "151"}, Direction.INTERNAL, "150", "151"),
        ({"CallerIDNum": "150", "ConnectedLineNum": "80291234567"}, Direction.OUTGOING, "150", CLIENT),
        ({"CallerIDNum": "80291234567", "ConnectedLineNum": "150"}, Direction.INCOMING, CLIENT, "150"),
        ({"CallerIDNum": "103", "Extensions": "150", "Trunk": "trunk-0001"}, Direction.INCOMING, "103", ""),
        ({"CallerIDNum": "155", "Extensions": "150"}, Direction.INTERNAL, "155", "150"),
        ({"CallerIDNum": "155", "Extensions": "SIP/150", "Trunk": "SIP/155"}, Direction.INTERNAL, "155", "150"),
        ({"CallerIDNum": "150", "ConnectedLineNum": "155"}, Direction.INTERNAL, "150", "155"),
        ({"CallerIDNum": "150", "ConnectedLineNum": "103", "Trunk": "gsm"}, Direction.OUTGOING, "150", "103"),
        ({**IN, "CallerIDNum": "+375291234567;cpc=ordinary"}, Direction.INCOMING, CLIENT, ""),
        ({**IN, "CallerIDNum": "sip:+375291234567@10.0.0.1;user=phone"}, Direction.INCOMING, CLIENT, ""),
        ({**IN, "ConnectedLineNum": "+375172001020;npdi;rn=+37529"}, Direction.INCOMING, CLIENT, "+375172001020"),
        ({**OUT, "ConnectedLineNum": "80291234567;phone-context=x"}, Direction.OUTGOING, "150", CLIENT),
        ({**OUT, "ConnectedLineNum": "980291234567"}, Direction.OUTGOING, "150", CLIENT),
        ({**OUT, "CallerIDNum": "150;cpc=ordinary"}, Direction.OUTGOING, "150", CLIENT),
        ({}, Direction.INCOMING, "anonymous", ""),
    ],
)
def test_directions(fields: dict[str, Any], direction: Direction, caller: str, called: str) -> None:
    _, (ringing,) = fold((0, "dial", fields))
    assert isinstance(ringing, CallRinging)
    assert (ringing.direction, ringing.caller, ringing.called) == (direction, caller, called)


@pytest.mark.parametrize(
    ("given", "ringing"),
    [
        ("PJSIP/150&PJSIP/151", ("150", "151")),
        ("PJSIP/150&PJSIP/151,30,tr", ("150", "151")),
        (["SIP/150&SIP/151", "152"], ("150", "151", "152")),
        ("150&151", ("150", "151")),
        ("Local/150@from-internal/n&Local/151@from-internal/n", ("150", "151")),
        ("PJSIP/150/sip:150@10.0.0.5:5060&PJSIP/151-00000012", ("150", "151")),
        ("PJSIP/150&PJSIP/80291112233@provider", ("150",)),
        ("SIP/150&SIP/provider/80291112233&DAHDI/g1/80291112233", ("150",)),
        ("DAHDI/7&DAHDI/12&SIP/anna-soft", ("153", "154")),
    ],
)
def test_dial_strings(given: Any, ringing: tuple[str, ...]) -> None:
    phones = (*TENANT.phones, Phone("153", endpoints=("DAHDI/7",)), Phone("154", endpoints=("anna-soft",)))
    _, (first,) = fold((0, "dial", {**IN, "Extensions": given}), tenant=replace(TENANT, phones=phones))
    assert isinstance(first, CallRinging)
    assert first.extensions == ringing


def test_the_prefix_of_the_pbx_is_no_part_of_the_clients_number() -> None:
    pbx = Connector("main", Kind("asterisk"), {"dial_prefix": "77"})
    fields = {**OUT, "ConnectedLineNum": "7780291234567"}
    _, (first,) = fold((0, "dial", fields), tenant=replace(TENANT, pbxes=(pbx,)))
    assert isinstance(first, CallRinging)
    assert first.called == CLIENT


def test_outgoing() -> None:
    over = ended((0, "dial", OUT), (8, "bridge", OUT), (68, "hangup", OUT))
    assert (over.direction, over.extension, over.last_extension, over.rang) == (Direction.OUTGOING, "150", "150", ())
    assert (over.wait_s, over.talk_s) == (8.0, 60.0)
    _, (ringing,) = fold((0, "dial", OUT), (1, "dial", OUT))
    assert isinstance(ringing, CallRinging)
    assert ringing.extensions == ()


def test_internal() -> None:
    fields = {"CallerIDNum": "150", "ConnectedLineNum": "151"}
    over = ended((0, "dial", fields), (3, "bridge", fields), (13, "hangup", fields))
    assert (over.extension, over.rang, over.wait_s, over.talk_s) == ("151", ("151",), 3.0, 10.0)


@pytest.mark.parametrize(
    "bridge",
    [
        {"ConnectedLineNum": "151"},
        {"CallerIDNum": "151", "ConnectedLineNum": "80291234567"},
        {"CallerIDNum": "80291234567", "Extensions": ["151"]},
        {"ConnectedLineNum": "PJSIP/151-0000001a"},
    ],
)
def test_who_picked_up(bridge: dict[str, Any]) -> None:
    _, events = fold((0, "dial", {**IN, "Extensions": "150,151"}), (3, "bridge", bridge))
    assert isinstance(events[-1], CallAnswered)
    assert events[-1].extension == "151"


def test_a_colleague_picks_up_whose_phone_did_not_ring() -> None:
    over = ended((0, "dial", IN), (3, "bridge", {"ConnectedLineNum": "152"}), (9, "hangup", IN))
    assert (over.extension, over.rang) == ("152", ("150", "152"))


def test_nobody_is_invented() -> None:
    over = ended((0, "dial", {**IN, "Extensions": "150,151"}), (9, "hangup", {"CallStatus": "ANSWER"}))
    assert (over.result, over.extension) == (Result.ANSWERED, None)
