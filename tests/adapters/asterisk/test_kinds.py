"""Every kind of call the lab plays, recorded on both versions by a full and by a read-only user: told as it was; cut, with
the link lost, and with neighbours swapped: never confidently wrong. With --whole every place is tried."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest

from adapters.asterisk.calls import CallTracker
from gateway.domain.events import CallAnswered, CallEnded, CallEvent, CallMerged, CallRinging, CallTransferred, to_json
from gateway.domain.ids import CallId
from tests.adapters.asterisk.kinds import HERE, NOON, RECORDINGS, TRUNKS, Pbx, Recording, Timed, calls_of, ends
from tests.conftest import Sample

ACCURACY_S = 0.05
FIELDS = (
    "direction", "caller", "called", "trunk", "extension", "last_extension", "rang", "result", "hung_up_by", "queue",
)  # fmt: skip

pytestmark = pytest.mark.slow
PLACES = [
    pytest.param(recording, marks=pytest.mark.long if recording.folder.name.endswith("-ro") else ())
    for recording in RECORDINGS
]
"""For tests that go through places: a read-only user sees the same calls, as a test here proves, so those are `long`."""


def wrong_with(truth: dict[str, Any], reported: CallEnded) -> list[str]:
    """Every field that is not as it was."""
    said = to_json(reported)
    problems = [f"{name} {said[name]!r}, not {truth[name]!r}" for name in FIELDS if said[name] != truth[name]]
    for name in ("wait_s", "talk_s"):
        was, is_ = truth[name], said[name]
        assert was is None or isinstance(was, float)
        if (was is None) != (is_ is None) or (was is not None and abs(was - is_) > ACCURACY_S):
            problems.append(f"{name} {is_}, not {was}")
    return problems + (["uncertain"] if reported.uncertain else [])


def pair(truths: list[dict[str, Any]], reported: list[CallEnded]) -> list[tuple[dict[str, Any], CallEnded]]:
    """Each truth with the end that fits it best."""
    pairs, left = [], list(reported)
    for truth in truths:
        best = min(left, key=lambda end: len(wrong_with(truth, end)))
        left.remove(best)
        pairs.append((truth, best))
    return pairs


def test_all_four_users_have_every_kind() -> None:
    names = {folder.name: {r.name for r in RECORDINGS if r.folder == folder} for folder in HERE.iterdir()}
    assert set(names) == {"16", "16-ro", "22", "22-ro"}
    assert len({frozenset(kinds) for kinds in names.values()}) == 1
    assert len(names["22"]) >= 60


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_a_kind_is_told_as_it_was(recording: Recording) -> None:
    events = recording.events()
    truths = recording.truth["calls"]
    assert len(ends(events)) == len(truths)
    for truth, reported in pair(truths, ends(events)):
        assert wrong_with(truth, reported) == []
        story = [e for e in events if e.call_id == reported.call_id]
        joined = {
            reported.call_id,
            *(e.call_id for e in events if isinstance(e, CallMerged) and e.into == reported.call_id),
        }
        rung = {n for e in events if isinstance(e, CallRinging) and e.call_id in joined for n in e.extensions}
        assert rung <= set(reported.rang)
        if reported.direction != "outgoing" and reported.caller not in reported.rang:
            assert rung == set(reported.rang)  # an originate may hide whom it calls until the employee has picked up
        rings = [e for e in story if isinstance(e, CallRinging)]
        assert {(ring.direction, ring.caller, ring.called) for ring in rings} <= {
            (reported.direction, reported.caller, reported.called)
        }
        answers = [e for e in story if isinstance(e, CallAnswered)]
        assert [(a.extension, a.wait_s) for a in answers] == (
            [(reported.extension, reported.wait_s)] if reported.result == "answered" else []
        )
        moves = [[e.from_extension, e.to_extension] for e in story if isinstance(e, CallTransferred)]
        assert moves == truth["transfers"]
        assert story[-1] is reported


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if not r.folder.name.endswith("-ro")], ids=str)
def test_a_read_only_user_is_told_the_same(recording: Recording) -> None:
    least = Recording(recording.folder.with_name(recording.folder.name + "-ro"), recording.name)
    full, same = ([replace(end, recording=None, at=NOON) for end in ends(r.events())] for r in (recording, least))
    assert len(full) == len(same)
    for one, other in zip(full, same, strict=True):
        assert one.wait_s == pytest.approx(other.wait_s, abs=ACCURACY_S)
        assert one.talk_s == pytest.approx(other.talk_s, abs=ACCURACY_S)
        assert replace(one, wait_s=None, talk_s=None) == replace(other, wait_s=None, talk_s=None)


# Cut, lost, swapped


def facts(end: CallEnded) -> CallEnded:
    """What a gap must not change: all but times and the name of a file."""
    return replace(end, at=NOON, wait_s=None, talk_s=None, recording=None)


def same(end: CallEnded, real: CallEnded) -> bool:
    """Whether an end is the real one, times within the accuracy."""
    near = all(
        (one is None) == (two is None) and (one is None or two is None or abs(one - two) <= ACCURACY_S)
        for one, two in ((end.wait_s, real.wait_s), (end.talk_s, real.talk_s))
    )
    return near and facts(end) == facts(real)


def check(events: list[CallEvent], real: dict[CallId, CallEnded], where: object) -> None:
    """Every end is right or uncertain, each call has one, and nothing stays open."""
    over: list[CallId] = []
    for event in events:
        assert event.call_id not in over, (where, "told of a call that was over")
        if isinstance(event, CallEnded | CallMerged):
            over.append(event.call_id)
        if isinstance(event, CallEnded) and not event.uncertain:
            assert event.call_id in real, (where, "invented", event)
            assert same(event, real[event.call_id]), (where, event, real[event.call_id])
    assert {event.call_id for event in events} <= set(over), (where, "left open")


def real_ends(recording: Recording, stream: list[Timed]) -> dict[CallId, CallEnded]:
    """The ends of the whole stream."""
    tracking = recording.tracker()
    events = [event for at, message in stream for event in tracking.feed(message, at)]
    events += tracking.tick(stream[-1][0] + timedelta(seconds=1))
    return {end.call_id: end for end in ends(events)}


@pytest.mark.parametrize("recording", PLACES, ids=str)
def test_cut_anywhere_every_open_call_ends_uncertain(recording: Recording, sample: Sample[int]) -> None:
    stream = recording.stream()
    real = real_ends(recording, stream)
    for cut in sample(range(len(stream) + 1)):
        tracking = recording.tracker()
        events = [event for at, message in stream[:cut] for event in tracking.feed(message, at)]
        events += tracking.tick(NOON + timedelta(hours=1))
        open_before = len(tracking)
        closing = tracking.close(NOON + timedelta(hours=1))
        assert len(ends(closing)) <= open_before
        assert all(end.uncertain for end in ends(closing)), cut
        assert len(tracking) == 0
        check(events + closing, real, cut)


@pytest.mark.parametrize("recording", PLACES, ids=str)
def test_a_lost_link_never_makes_a_call_confidently_wrong(
    recording: Recording, sample: Sample[tuple[int, int]]
) -> None:
    stream = recording.stream(*Pbx.ALSO)
    real = real_ends(recording, stream)
    for lost, gap_s in sample(product(range(len(stream)), (1, 5, 30))):
        check(_with_gap(recording, stream, lost, gap_s), real, (lost, gap_s))


def _with_gap(recording: Recording, stream: list[Timed], lost: int, gap_s: float) -> list[CallEvent]:
    """What is told when the link is lost at that message for so long."""
    tracking, pbx = recording.tracker(), Pbx()
    events: list[CallEvent] = []
    lost_at = stream[lost][0]
    back_at = lost_at + timedelta(seconds=gap_s)
    back = next((n for n in range(lost, len(stream)) if stream[n][0] > back_at), len(stream))
    for number, (at, message) in enumerate(stream):
        if number == lost:
            tracking.lost(at)
        if number == back:
            events += _resync(tracking, pbx, events, back_at)
        pbx.receive(message)
        if not lost <= number < back:
            events += tracking.feed(message, at)
    if back == len(stream):
        events += _resync(tracking, pbx, events, back_at)
    end = back_at + timedelta(seconds=60)
    events += tracking.tick(end)
    assert len(tracking) == 0, "a ghost"
    return events


def _resync(tracking: CallTracker, pbx: Pbx, events: list[CallEvent], at: datetime) -> list[CallEvent]:
    return tracking.resync(pbx.snapshot(), [call for call in calls_of(events) if call.open], at)


@pytest.mark.parametrize("recording", PLACES, ids=str)
def test_neighbours_of_one_moment_may_come_in_either_order(recording: Recording, sample: Sample[int]) -> None:
    stream = recording.stream()
    real = real_ends(recording, stream)
    for place in sample(n for n in range(len(stream) - 1) if _independent(stream[n], stream[n + 1])):
        (at, one), (later, two) = stream[place : place + 2]
        swapped = [*stream[:place], (at, two), (later, one), *stream[place + 2 :]]
        found = real_ends(recording, swapped)
        assert set(found) == set(real), place
        assert all(same(found[call_id], real[call_id]) for call_id in real), place


def _independent(one: Timed, two: Timed) -> bool:
    """Whether two messages came in one moment and speak of different channels and bridges."""
    keys = ("Uniqueid", "DestUniqueid", "BridgeUniqueid", "LocalOneUniqueid", "LocalTwoUniqueid")
    ids = [{message[key] for key in keys if message.get(key)} for _, message in (one, two)]
    return two[0] - one[0] <= timedelta(milliseconds=2) and not ids[0] & ids[1] and all(ids)


@pytest.mark.parametrize("name", ["22", "16-ro"])
def test_without_being_told_the_trunks(name: str) -> None:
    for recording in (r for r in RECORDINGS if r.folder.name == name):
        known, unknown = (
            [replace(facts(end), trunk=None) for end in ends(recording.events(trunks))] for trunks in (TRUNKS, ())
        )
        assert unknown == known, str(recording)
