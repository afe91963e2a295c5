"""The PBX's clock: set while a call is on, and events that come late. Recorded with `timestampevents = yes`."""

from datetime import timedelta

import pytest

from adapters.asterisk.calls import CallTracker
from adapters.asterisk.protocol import Message
from gateway.domain.events import CallEnded
from tests.adapters.asterisk.kinds import HERE, RECORDINGS, TRUNKS, Recording, Timed, ends, recordings_in
from tests.adapters.asterisk.test_kinds import pair, same, wrong_with
from tests.conftest import Sample

STAMPED = recordings_in(HERE.with_name("stamped"))
HOUR_S = 3600.0


def reported(recording: Recording, stream: list[Timed]) -> list[CallEnded]:
    tracking = recording.tracker()
    events = [event for at, message in stream for event in tracking.feed(message, at)]
    return ends(events + tracking.close(stream[-1][0] + timedelta(minutes=1)))


def shifted(message: Message, seconds: float) -> Message:
    return message | {"Timestamp": f"{float(message['Timestamp']) + seconds:.6f}"}


@pytest.mark.parametrize("recording", STAMPED, ids=str)
def test_with_the_clock_of_the_pbx_it_is_told_as_it_was(recording: Recording) -> None:
    assert STAMPED
    for truth, end in pair(recording.truth["calls"], ends(recording.events())):
        assert wrong_with(truth, end) == []
        assert abs(end.at.timestamp() - truth["ended_at"]) < 0.1, "the very time of day"


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S, 30.0, -30.0])
@pytest.mark.parametrize("recording", STAMPED, ids=str)
def test_a_clock_that_is_set_in_the_middle_changes_no_duration(
    recording: Recording, seconds: float, sample: Sample[int]
) -> None:
    stream = recording.stream()
    (real,) = reported(recording, stream)
    for place in sample(range(len(stream))):
        set_here = [
            (at, shifted(message, seconds) if number >= place else message)
            for number, (at, message) in enumerate(stream)
        ]
        (end,) = reported(recording, set_here)
        assert same(end, real), place


@pytest.mark.parametrize("recording", STAMPED, ids=str)
def test_an_event_that_comes_late_changes_no_duration(recording: Recording, sample: Sample[int]) -> None:
    stream = recording.stream()
    (real,) = reported(recording, stream)
    for place in sample(range(len(stream))):
        late = [(at + timedelta(seconds=17 if number >= place else 0), m) for number, (at, m) in enumerate(stream)]
        (end,) = reported(recording, late)
        assert same(end, real), place


def test_after_the_last_call_the_new_clock_counts() -> None:
    recording = STAMPED[0]
    stream = recording.stream()
    middle = len(stream) // 2
    tracking = recording.tracker()
    for number, (at, message) in enumerate(stream):
        tracking.feed(shifted(message, HOUR_S if number > middle else 0), at)
    begun = stream[-1][0] + timedelta(seconds=5)
    new = shifted(stream[0][1], HOUR_S + (begun - stream[0][0]).total_seconds())
    tracking.feed(new | {"Uniqueid": "9.9", "Linkedid": "9.9"}, begun)
    assert tracking.last_at is not None
    assert tracking.last_at.timestamp() == pytest.approx(float(new["Timestamp"]))


def test_two_pbxes_of_one_tenant_may_give_the_same_ids() -> None:
    """A hospital's two PBXes, installed in one second: every Uniqueid is the same, no call is mistaken."""
    recording = next(r for r in RECORDINGS if str(r) == "22/attended-phone")
    stream = recording.stream()
    trackers = {prefix: CallTracker(trunks=TRUNKS, country="BY", prefix=prefix) for prefix in ("main-", "branch-")}
    events = {prefix: [] for prefix in trackers}  # type: dict[str, list[object]]
    for at, message in stream:
        for prefix, tracking in trackers.items():
            events[prefix] += tracking.feed(message, at)
    (one,), (two,) = ([e for e in found if isinstance(e, CallEnded)] for found in events.values())
    link = next(m["Linkedid"] for _, m in stream)
    assert (one.call_id, two.call_id) == (f"main-{link}", f"branch-{link}")
    assert one.result == two.result == "answered"
