"""The PBX's own lists of channels, as it gave them in the middle of calls: they run ahead of its events by milliseconds.

Every list is taken as the answer after a reconnect. Recorded by `python -m tests.lab.play --record DIR --lists 0.3`.
"""

from datetime import timedelta

import pytest

from adapters.asterisk.protocol import Message
from gateway.domain.events import CallEvent
from tests.adapters.asterisk.kinds import HERE, Pbx, Recording, Timed, calls_of, recordings_in
from tests.adapters.asterisk.test_kinds import check, real_ends

LISTED = recordings_in(HERE.with_name("lists"))
LISTS = (b"CoreShowChannel", b"CoreShowChannelsComplete")


def lists_in(stream: list[Timed]) -> list[tuple[int, list[Message]]]:
    """Where each list ends, and its channels."""
    found: list[tuple[int, list[Message]]] = []
    channels: list[Message] = []
    for number, (_, message) in enumerate(stream):
        if message["Event"] == "CoreShowChannel":
            channels.append(message)
        elif message["Event"] == "CoreShowChannelsComplete":
            found.append((number, channels))
            channels = []
    return found


@pytest.mark.parametrize("recording", LISTED, ids=str)
def test_a_gap_that_ends_with_a_real_list(recording: Recording) -> None:
    stream = recording.stream(*LISTS)
    real = real_ends(recording, stream)
    lists = lists_in(stream)
    assert lists
    for place, channels in lists:
        at = stream[place][0]
        for gap_s in (0.0, 0.01, 0.3, 1.0, 5.0, 30.0):
            tracking = recording.tracker()
            received = [(t, m) for t, m in stream[:place] if gap_s == 0.0 or t < at - timedelta(seconds=gap_s)]
            events: list[CallEvent] = [event for t, m in received for event in tracking.feed(m, t)]
            tracking.lost(received[-1][0] if received else at)
            events += tracking.resync(channels, [call for call in calls_of(events) if call.open], at)
            events += [event for t, m in stream[place + 1 :] for event in tracking.feed(m, t)]
            events += tracking.tick(stream[-1][0] + timedelta(minutes=1))
            assert len(tracking) == 0, "a ghost"
            check(events, real, (place, gap_s))


def test_the_simulated_lists_look_as_the_real_ones() -> None:
    """But for what is on its way: a real list may know already what no event has told yet."""
    compared = different = 0
    for recording in LISTED:
        pbx, stream = Pbx(), recording.stream(*LISTS, *Pbx.ALSO)
        answers = dict(lists_in(stream))
        for place, (_, message) in enumerate(stream):
            if place not in answers:
                if not message["Event"].startswith("CoreShow"):
                    pbx.receive(message)
                continue
            simulated = {channel["Uniqueid"]: channel for channel in pbx.snapshot()}
            for channel in answers[place]:
                shown = simulated.get(channel["Uniqueid"], {})
                names = set(channel) - {"Duration", "ConnectedLineName", "CallerIDName", "Priority", "ActionID"}
                compared += len(names)
                different += sum(channel[name] != shown.get(name) for name in names)
    assert compared > 500
    assert different < compared / 20
