"""A call as the fold of its events: tables of what each event makes of each state."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.calls import Call, Phase, apply, lost
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

ID = CallId("1795219998.3600")
START = datetime(2026, 11, 21, 0, 13, 18, tzinfo=UTC)
CLIENT, COMPANY = "+375296254070", "+375172000001"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def ringing(second: float, *extensions: str, direction: Direction = Direction.INCOMING, **more: Any) -> CallRinging:
    ours = (
        {"caller": CLIENT, "called": COMPANY}
        if direction is Direction.INCOMING
        else {"caller": "150", "called": CLIENT}
    )
    reported: dict[str, Any] = {"trunk": "trunk-0001", **ours, **more}
    return CallRinging(call_id=ID, at=at(second), direction=direction, extensions=extensions, **reported)


def answered(second: float, extension: str = "150", wait_s: float | None = 4.0) -> CallAnswered:
    return CallAnswered(call_id=ID, at=at(second), extension=extension, wait_s=wait_s)


def transferred(second: float, old: str, new: str) -> CallTransferred:
    return CallTransferred(call_id=ID, at=at(second), from_extension=old, to_extension=new)


def merged(second: float) -> CallMerged:
    return CallMerged(call_id=ID, at=at(second), into=CallId("1.1"))


def ended(second: float, result: Result = Result.ANSWERED, **more: Any) -> CallEnded:
    reported: dict[str, Any] = {
        "direction": Direction.INCOMING, "caller": CLIENT, "called": COMPANY, "trunk": "trunk-0001", "extension": "150",
        "last_extension": "150", "rang": ("150",), "wait_s": 4.0, "talk_s": 20.0, "hung_up_by": HungUpBy.CALLER, **more,
    }  # fmt: skip
    return CallEnded(call_id=ID, at=at(second), result=result, **reported)


def fold(*events: CallEvent) -> Call | None:
    call: Call | None = None
    for event in events:
        call = apply(call, event)
    return call


def folded(*events: CallEvent) -> Call:
    call = fold(*events)
    assert call is not None
    return call


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([ringing(0, "150")], {"phase": Phase.RINGING, "ringing": ("150",), "rang": ("150",), "events": 1, "open": True}),
        ([ringing(0)], {"phase": Phase.RINGING, "ringing": (), "rang": ()}),
        (
            [ringing(0, "150"), ringing(2, "150", "151"), ringing(4, "151")],
            {"ringing": ("151",), "rang": ("150", "151"), "started_at": at(0), "events": 3},
        ),
        ([ringing(0, "150", trunk=None), ringing(1, "150")], {"trunk": "trunk-0001"}),
        ([ringing(0, "150"), ringing(1, "150", trunk=None)], {"trunk": "trunk-0001"}),
        # An outgoing call rings at the client's: no internal number rang.
        ([ringing(0, direction=Direction.OUTGOING)], {"rang": (), "employee": "150", "outside": CLIENT}),
        ([ringing(0, "150", direction=Direction.OUTGOING)], {"ringing": ("150",), "rang": ()}),
        ([ringing(0, "150"), ringing(1, direction=Direction.OUTGOING)], {"direction": Direction.OUTGOING, "rang": ("150",)}),
        (
            [ringing(0, "150", "151"), answered(4, "151")],
            {
                "phase": Phase.TALKING, "ringing": (), "rang": ("150", "151"), "extension": "151",
                "last_extension": "151", "answered_at": at(4), "wait_s": 4.0, "employee": "151", "outside": CLIENT,
            },
        ),
        (
            [ringing(0, "150"), answered(4), transferred(9, "150", "151")],
            {"phase": Phase.TALKING, "extension": "150", "last_extension": "151", "events": 3},
        ),
        (
            [ringing(0, "150"), answered(4), ended(24, last_extension="151", queue="sales", recording="r.wav")],
            {
                "phase": Phase.ENDED, "open": False, "result": Result.ANSWERED, "started_at": at(0),
                "answered_at": at(4), "ended_at": at(24), "talk_s": 20.0, "hung_up_by": HungUpBy.CALLER,
                "last_extension": "151", "queue": "sales", "recording": "r.wav", "ringing": (), "events": 3,
            },
        ),
        # An end whose call was never heard of is a call all the same.
        ([ended(24)], {"phase": Phase.ENDED, "started_at": at(24), "answered_at": None, "events": 1}),
        ([ended(24, uncertain=True)], {"uncertain": True}),
        (
            [ringing(0, "151", direction=Direction.INTERNAL), answered(2, "151"), merged(9)],
            {"phase": Phase.MERGED, "open": False, "merged_into": "1.1", "ended_at": at(9), "ringing": (), "result": None},
        ),
        (
            [ringing(0, "151", direction=Direction.INTERNAL, called="151")],
            {"employee": "150", "outside": "151", "rang": ("151",)},
        ),
    ],
)  # fmt: skip
def test_what_events_make(events: list[CallEvent], expected: dict[str, Any]) -> None:
    call = folded(*events)
    assert {name: getattr(call, name) for name in expected} == expected


LATER = [ringing(30, "152"), answered(30, "152"), transferred(30, "150", "152"), merged(30), ended(30, Result.FAILED)]


@pytest.mark.parametrize("event", LATER, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("end", [ended(24), merged(24)], ids=lambda event: type(event).__name__)
def test_nothing_happens_after_the_end(end: CallEvent, event: CallEvent) -> None:
    call = folded(ringing(0, "150"), end)
    assert apply(call, event) is call


@pytest.mark.parametrize("event", [answered(1), transferred(1, "150", "151"), merged(1)])
def test_a_call_begins_with_a_ring_or_an_end(event: CallEvent) -> None:
    assert fold(event) is None


any_event = st.sampled_from(
    [
        ringing(0, "150"),
        ringing(1, "151"),
        ringing(1, direction=Direction.OUTGOING),
        answered(4),
        transferred(9, "150", "151"),
        merged(12),
        ended(24),
    ]
)


@given(st.lists(any_event, max_size=12))
def test_any_order_keeps_the_promises(events: list[CallEvent]) -> None:
    call: Call | None = None
    for event in events:
        before, call = call, apply(call, event)
        if call is None or call is before:
            continue
        assert call.events == (before.events if before is not None else 0) + 1
        assert set(before.rang if before is not None else ()) <= set(call.rang) or isinstance(event, CallEnded)
        assert call.open == (call.ended_at is None)
        assert len(set(call.rang)) == len(call.rang)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([ringing(0, "150")], {"result": Result.MISSED, "extension": None, "rang": ("150",), "wait_s": None}),
        ([ringing(0, "151", direction=Direction.INTERNAL)], {"result": Result.MISSED, "extension": "150"}),
        ([ringing(0, direction=Direction.OUTGOING)], {"result": Result.NO_ANSWER, "extension": "150", "rang": ()}),
        (
            [ringing(0, "150"), answered(4), transferred(9, "150", "151")],
            {"result": Result.ANSWERED, "extension": "150", "last_extension": "151", "wait_s": 4.0},
        ),
    ],
)
def test_a_lost_call_claims_no_more_than_was_told(events: list[CallEvent], expected: dict[str, Any]) -> None:
    call = folded(*events)
    end = lost(call, at(99))
    assert {name: getattr(end, name) for name in expected} == expected
    assert (end.uncertain, end.talk_s, end.hung_up_by, end.at) == (True, None, None, at(99))
    assert (end.call_id, end.direction, end.caller, end.called, end.trunk) == (
        call.call_id, call.direction, call.caller, call.called, call.trunk
    )  # fmt: skip
    closed = folded(*events, end)
    assert closed.phase is Phase.ENDED
    assert closed.uncertain
