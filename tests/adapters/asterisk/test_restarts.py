"""A gateway that is killed twice in one call goes on from what the database knows: never confidently wrong.

What a gap hid must outlive the process that found it: the second tracker knows nothing of the first one's doubts but what
the open calls bear.
"""

from datetime import timedelta

import pytest

from gateway.domain.calls import Call
from gateway.domain.events import CallEnded, CallEvent
from tests.adapters.asterisk.kinds import RECORDINGS, Pbx, Recording, Timed, calls_of, ends
from tests.adapters.asterisk.test_kinds import real_ends
from tests.conftest import Sample

GAP = timedelta(seconds=1)
NEAR_S = 1.0
KNOWN = {
    "queue-agent-transfers-blind": "the PBX still shows the caller in the queue that an agent has taken him from",
    "group-rang-then-busy": "of two reasons the gap hides one",
    "outgoing-rang-then-busy": "of two reasons the gap hides one",
}
"""Kinds in which two deaths at the worst moments still leave something wrong."""


def killed(recording: Recording, stream: list[Timed], deaths: tuple[int, ...]) -> list[CallEvent]:
    """What is told when the process dies at these messages and a new one is there a second later each time."""
    tracking, pbx = recording.tracker(), Pbx()
    events: list[CallEvent] = []
    back_at = None
    for number, (at, message) in enumerate(stream):
        if number in deaths:
            tracking, back_at = recording.tracker(), at + GAP
        if back_at is not None and at > back_at:
            events += tracking.resync(pbx.snapshot(), open_calls(events), back_at)
            back_at = None
        pbx.receive(message)
        if back_at is None:
            events += tracking.feed(message, at)
    end = stream[-1][0] + timedelta(seconds=60)
    if back_at is not None:
        events += tracking.resync(pbx.snapshot(), open_calls(events), end)
    return events + tracking.tick(end + timedelta(seconds=1))


def open_calls(events: list[CallEvent]) -> list[Call]:
    return [call for call in calls_of(events) if call.open]


def near(one: float | None, two: float | None) -> bool:
    return one == two if one is None or two is None else abs(one - two) <= NEAR_S


def agree(reported: CallEnded, real: CallEnded) -> bool:
    """Who, which way, how it ended, how long."""
    facts = (reported.direction, reported.result, reported.extension) == (real.direction, real.result, real.extension)
    return facts and near(reported.wait_s, real.wait_s) and near(reported.talk_s, real.talk_s)


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if r.name not in KNOWN and "-ro" not in str(r)], ids=str)
def test_killed_twice_in_one_call_it_is_right_or_uncertain(
    recording: Recording, sample: Sample[tuple[int, int]]
) -> None:
    stream = recording.stream(*Pbx.ALSO)
    real = real_ends(recording, stream)
    deaths: list[tuple[int, int]] = []
    for first in range(len(stream)):
        later = [n for n in range(first + 1, len(stream)) if stream[n][0] > stream[first][0] + GAP]
        deaths += [(first, second) for second in later[:: max(len(later) // 4, 1)]]
    for first, second in sample(deaths):
        for end in ends(killed(recording, stream, (first, second))):
            assert end.uncertain or agree(end, real[end.call_id]), (first, second, end, real[end.call_id])


@pytest.mark.parametrize("recording", [r for r in RECORDINGS if "-ro" not in str(r)], ids=str)
def test_a_caller_found_in_a_queue_is_of_that_queue(recording: Recording, sample: Sample[int]) -> None:
    stream = recording.stream(*Pbx.ALSO)
    real = real_ends(recording, stream)
    for death in sample(range(len(stream))):
        for end in ends(killed(recording, stream, (death,))):
            assert end.uncertain or end.queue == real[end.call_id].queue, (death, end)
