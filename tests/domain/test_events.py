"""Events as JSON: what one line looks like, and that nothing is lost on the way there and back."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.events import (
    NAMES,
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
    from_json,
    to_json,
)
from gateway.domain.ids import CallId, utc_from_text, utc_text

AT = datetime(2026, 11, 21, 0, 13, 18, 948_000, UTC)
ID = CallId("1795219998.3600")

# Numbers and names are whatever a PBX sends, beyond ASCII too; surrogates never leave the decoder.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | texts
numbers = st.lists(texts, max_size=4).map(tuple)
seconds = st.none() | st.floats(0, 1e6, allow_nan=False)
moments = st.integers(0, 4_102_444_800_000).map(lambda ms: datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms))
ids = texts.map(CallId)
sides = {"direction": st.sampled_from(Direction), "caller": texts, "called": texts, "trunk": maybe}
events: st.SearchStrategy[CallEvent] = st.one_of(
    st.builds(CallRinging, call_id=ids, at=moments, extensions=numbers, **sides),
    st.builds(CallAnswered, call_id=ids, at=moments, extension=maybe, wait_s=seconds),
    st.builds(CallTransferred, call_id=ids, at=moments, from_extension=maybe, to_extension=maybe),
    st.builds(CallMerged, call_id=ids, at=moments, into=ids),
    st.builds(
        CallEnded, call_id=ids, at=moments, extension=maybe, last_extension=maybe, rang=numbers,
        result=st.sampled_from(Result), wait_s=seconds, talk_s=seconds, hung_up_by=st.none() | st.sampled_from(HungUpBy),
        queue=maybe, recording=maybe, uncertain=st.booleans(), **sides,
    ),
)  # fmt: skip


@given(events)
def test_there_and_back(event: CallEvent) -> None:
    text = json.dumps(to_json(event), ensure_ascii=False)
    assert "\n" not in text
    assert from_json(json.loads(text)) == event


FIELDS: list[tuple[CallEvent, dict[str, Any]]] = [
    (
        CallRinging(
            call_id=ID, at=AT, direction=Direction.INCOMING, caller="+375296254070", called="+375172000001",
            trunk="trunk-0001", extensions=("150", "151"),
        ),
        {
            "event": "call_ringing", "call_id": ID, "at": "2026-11-21T00:13:18.948Z", "direction": "incoming",
            "caller": "+375296254070", "called": "+375172000001", "trunk": "trunk-0001", "extensions": ["150", "151"],
        },
    ),
    (
        CallAnswered(call_id=ID, at=AT, extension="150", wait_s=4.02),
        {"event": "call_answered", "call_id": ID, "at": "2026-11-21T00:13:18.948Z", "extension": "150", "wait_s": 4.02},
    ),
    (
        CallTransferred(call_id=ID, at=AT, from_extension="150", to_extension="151"),
        {
            "event": "call_transferred", "call_id": ID, "at": "2026-11-21T00:13:18.948Z", "from_extension": "150",
            "to_extension": "151",
        },
    ),
    (
        CallMerged(call_id=ID, at=AT, into=CallId("1.1")),
        {"event": "call_merged", "call_id": ID, "at": "2026-11-21T00:13:18.948Z", "into": "1.1"},
    ),
    (
        CallEnded(
            call_id=ID, at=AT, direction=Direction.OUTGOING, caller="150", called="+375296254070", trunk=None,
            extension="150", last_extension="150", rang=(), result=Result.NO_ANSWER, wait_s=None, talk_s=None,
            hung_up_by=HungUpBy.CALLER,
        ),
        {
            "event": "call_ended", "call_id": ID, "at": "2026-11-21T00:13:18.948Z", "direction": "outgoing",
            "caller": "150", "called": "+375296254070", "trunk": None, "extension": "150", "last_extension": "150",
            "rang": [], "result": "no_answer", "wait_s": None, "talk_s": None, "hung_up_by": "caller", "queue": None,
            "recording": None, "uncertain": False,
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("event", "line"), FIELDS, ids=[NAMES[type(event)] for event, _ in FIELDS])
def test_the_fields_and_their_order(event: CallEvent, line: dict[str, Any]) -> None:
    assert to_json(event) == line
    assert list(to_json(event)) == list(line)
    assert from_json(line) == event


def test_every_event_has_a_name_of_its_own() -> None:
    assert {type(event) for event, _ in FIELDS} == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"event": "call_started"},
        {"event": "call_merged", "call_id": "1", "at": "yesterday", "into": "2"},
        {"event": "call_merged", "call_id": "1", "at": "2026-11-21T00:13:18", "into": "2"},  # no zone
        to_json(FIELDS[4][0]) | {"result": "lost"},
        to_json(FIELDS[4][0]) | {"direction": "sideways"},
    ],
)
def test_what_is_no_event(line: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        from_json(line)


def test_unknown_fields_are_left_alone() -> None:
    event, line = FIELDS[1]
    assert from_json(line | {"of_a_later_version": 1}) == event


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (AT, "2026-11-21T00:13:18.948Z"),
        (AT.replace(microsecond=0), "2026-11-21T00:13:18.000Z"),
        (AT.replace(microsecond=999_999), "2026-11-21T00:13:18.999Z"),  # cut, never rounded into the future
        (AT.astimezone(timezone(timedelta(hours=3))), "2026-11-21T00:13:18.948Z"),
    ],
)
def test_time_is_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert utc_text(moment) == text
    assert utc_from_text(text) <= moment
    assert to_json(replace(FIELDS[3][0], at=moment))["at"] == text
