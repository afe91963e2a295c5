"""The tracker against what really happened, and against streams that are cut, thinned and shuffled.

Over 400 lines: the streams are made by the same few helpers.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.asterisk.call_events import RECORDING_WAIT
from adapters.asterisk.call_state import TOGETHER
from adapters.asterisk.calls import MARKED, MAX_CHANNELS, WANTED, CallTracker
from adapters.asterisk.protocol import Framer, Message
from adapters.asterisk.replay import replay
from gateway.domain.calls import Call, Phase, apply
from gateway.domain.configuration import Phone
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
from tests.adapters.asterisk.captures import (
    COUNTRY,
    LOADS,
    SCENARIOS,
    TRUNKS,
    Capture,
    capture,
    expected,
    moment,
    reported,
)

ACCURACY_S = 0.05
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE_CALL = [c for c in SCENARIOS if c.truth["calls"]]


def ends(events: Iterable[CallEvent]) -> list[CallEnded]:
    return [event for event in events if isinstance(event, CallEnded)]


def tracker(**options: object) -> CallTracker:
    return CallTracker(trunks=TRUNKS, country=COUNTRY, **options)  # type: ignore[arg-type]


def messages(recording: Capture) -> list[Message]:
    return [m for m in Framer(WANTED, MARKED).feed(recording.data) if "Event" in m]


def feed(tracking: CallTracker, stream: Sequence[Message], start: datetime = NOON) -> list[CallEvent]:
    """Plays messages, 10 ms apart."""
    events: list[CallEvent] = []
    for number, message in enumerate(stream):
        events += tracking.feed(message, start + timedelta(seconds=number / 100))
    return events + tracking.tick(start + timedelta(seconds=len(stream) / 100 + 1))


# What happened


@pytest.mark.parametrize("with_trunk", [True, False], ids=["trunk", "bare"])
@pytest.mark.parametrize("recording", SCENARIOS, ids=str)
def test_every_recording_is_told_as_it_was(recording: Capture, with_trunk: bool) -> None:
    truth = recording.truth["calls"]
    events = recording.events() if with_trunk else recording.events((), None)
    calls = ends(events)
    assert [reported(call) for call in calls] == [expected(call) for call in truth]
    for call, real in zip(calls, truth, strict=True):
        for name in ("wait_s", "talk_s"):
            assert getattr(call, name) == pytest.approx(real.get(name), abs=ACCURACY_S), name
        begun = next((e.at for e in events if isinstance(e, CallRinging)), None)
        if begun is not None:
            really = real.get("employee_ring_at") or real.get("ring_start")
            lasted = (moment(real["ended_at"]) - moment(really)).total_seconds()
            assert (call.at - begun).total_seconds() == pytest.approx(lasted, abs=ACCURACY_S)


@pytest.mark.parametrize("recording", LOADS, ids=str)
def test_every_call_of_a_load_run(recording: Capture) -> None:
    calls = ends(recording.events())
    assert len({call.call_id for call in calls}) == len(calls) == recording.truth["placed"]
    if "sip" in str(recording):
        assert {(c.direction, c.result, c.extension, c.rang) for c in calls} == {
            (Direction.INCOMING, Result.ANSWERED, "150", ("150", "151"))
        }
        assert all(c.talk_s == pytest.approx(3.0, abs=0.1) and not c.uncertain for c in calls)


def test_story_of_a_ring_group() -> None:
    ringing, both, answered, ended = capture("22/01").events()
    assert isinstance(ringing, CallRinging)
    assert (ringing.extensions, both) == (("150",), replace(ringing, extensions=("150", "151"), at=both.at))
    assert isinstance(answered, CallAnswered)
    assert answered.extension == "150"
    assert isinstance(ended, CallEnded)
    assert str(ringing.at)[:19] == "2026-11-21 00:13:18"


def test_click_to_call_is_outgoing_from_its_first_ring() -> None:
    for name in ("22/07-", "22/07b", "22/07d", "16/07-", "16/07b", "16/07d"):
        events = capture(name).events()
        first = events[0]
        assert isinstance(first, CallRinging)
        assert (first.direction, first.caller, first.called, first.extensions) == (
            Direction.OUTGOING, "150", "+375296254070", ("150",),
        )  # fmt: skip
        assert [e.extension for e in events if isinstance(e, CallAnswered)] == ["150"]


def test_transfer_in_the_talk() -> None:
    for name in ("22/08b", "16/08b"):
        transfers = [e for e in capture(name).events() if isinstance(e, CallTransferred)]
        assert [(t.from_extension, t.to_extension) for t in transfers] == [("150", "152")]
        assert ends(capture(name).events())[0].last_extension == "152"


def test_recording() -> None:
    names = {ends(capture(f"{version}/10").events())[0].recording for version in (22, 16)}
    assert all(name is not None and name.startswith("in-375172000002-80291112233-") for name in names)


@pytest.mark.parametrize("recording", SCENARIOS, ids=str)
def test_an_account_without_dialplan_events_tells_the_same(recording: Capture) -> None:
    frames = recording.data.split(b"\r\n\r\n")
    thin = b"\r\n\r\n".join(f for f in frames if b"\r\nPrivilege: dialplan" not in f)
    full = [replace(e, at=NOON) for e in replay(recording.data, None, TRUNKS, COUNTRY)]
    same = [replace(e, at=NOON) for e in replay(thin, None, TRUNKS, COUNTRY)]
    assert same == full


def test_the_recording_is_waited_for_only_where_there_is_one() -> None:
    stream = [m for m in messages(capture("22/10")) if m["Event"] != "VarSet"]
    hangups = [n for n, m in enumerate(stream) if m["Event"] == "Hangup"]
    tracking = tracker()
    for message in stream[: hangups[-1] + 1]:
        assert not ends(tracking.feed(message, NOON))
    due = tracking.next_deadline
    assert due == NOON + RECORDING_WAIT
    (ended,) = ends(tracking.feed(stream[hangups[-1] + 1], NOON))
    assert ended.recording is not None
    assert tracking.next_deadline is None

    tracking = tracker()
    for message in stream[: hangups[-1] + 1]:
        tracking.feed(message, NOON)
    assert not tracking.tick(NOON)
    (ended,) = ends(tracking.tick(due))
    assert (ended.recording, ended.uncertain, ended.at) == (None, False, NOON)


def test_the_time_of_the_pbx_counts_where_it_tells() -> None:
    stream = [m | {"Timestamp": f"{1795219998 + n / 10:.6f}"} for n, m in enumerate(messages(capture("22/01")))]
    tracking = tracker()
    events = [e for m in stream for e in tracking.feed(m, NOON)]
    (ended,) = ends(events)
    assert ended.wait_s is not None
    assert ended.wait_s > 0.3
    assert str(ended.at)[:10] == "2026-11-21"
    assert tracking.lag_s == pytest.approx(NOON.timestamp() - 1795219998, abs=60)
    assert not ends(tracker().feed(stream[0] | {"Timestamp": "soon"}, NOON))


def test_phones_and_prefix() -> None:
    phones = (Phone("201", endpoints=("150",)), Phone("202", endpoints=("PJSIP/151", "spare")))
    events = feed(tracker(phones=phones, prefix="main-"), messages(capture("22/01")))
    (ended,) = ends(events)
    assert (ended.extension, ended.rang) == ("201", ("201", "202"))
    assert ended.call_id == "main-1795219998.3600"


# Gaps


class Pbx:
    """What a PBX would answer to CoreShowChannels after the messages so far."""

    def __init__(self) -> None:
        self.channels: dict[str, Message] = {}

    def receive(self, message: Message) -> None:
        uniqueid = message.get("Uniqueid", "")
        match message["Event"]:
            case "Newchannel":
                self.channels[uniqueid] = dict(message)
            case "Newstate" if uniqueid in self.channels:
                self.channels[uniqueid]["ChannelState"] = message["ChannelState"]
            case "DialState" if message["DestUniqueid"] in self.channels and message["DialStatus"] == "RINGING":
                self.channels[message["DestUniqueid"]]["ChannelState"] = "5"
            case "BridgeEnter" if uniqueid in self.channels:
                self.channels[uniqueid]["BridgeId"] = message["BridgeUniqueid"]
            case "BridgeLeave" if self.channels.get(uniqueid, {}).get("BridgeId") == message["BridgeUniqueid"]:
                del self.channels[uniqueid]["BridgeId"]
            case "DialBegin" if message["DestUniqueid"] in self.channels:
                self.channels[message["DestUniqueid"]]["Application"] = "AppDial"
            case "Hangup":
                self.channels.pop(uniqueid, None)

    def snapshot(self) -> list[Message]:
        return [m | {"Event": "CoreShowChannel"} for m in self.channels.values()]

    @property
    def rings(self) -> bool:
        return any(m["ChannelState"] == "5" for m in self.channels.values())


def fold(events: Iterable[CallEvent]) -> dict[CallId, Call]:
    calls: dict[CallId, Call] = {}
    for event in events:
        if (call := apply(calls.get(event.call_id), event)) is not None:
            calls[event.call_id] = call
    return calls


def steps(recording: Capture) -> tuple[list[Message], range]:
    stream = messages(recording)
    return stream, range(len(stream) + 1)


CUT = [c for c in ONE_CALL if str(c)[:5] in ("22/01", "22/02", "22/07", "22/08", "22/09", "16/04", "16/07")]


@pytest.mark.parametrize("recording", CUT, ids=str)
def test_a_stream_cut_anywhere_ends_its_call_once(recording: Capture) -> None:
    stream, cuts = steps(recording)
    for cut in cuts:
        tracking = tracker()
        events = feed(tracking, stream[:cut])
        over = bool(ends(events))
        calls = ends(events + tracking.close(NOON + timedelta(minutes=1)))
        assert len(calls) == (1 if any(m["Event"] == "Newchannel" for m in stream[:cut]) else 0)
        assert [c.uncertain for c in calls] == [not over] * len(calls)
        assert len(tracking) == 0


@pytest.mark.parametrize("recording", CUT, ids=str)
def test_a_gap_in_which_nothing_happened_hides_nothing(recording: Capture) -> None:
    stream, cuts = steps(recording)
    (real,) = ends(feed(tracker(), stream))
    for cut in cuts:
        tracking, pbx = tracker(), Pbx()
        for message in stream[:cut]:
            pbx.receive(message)
        events = feed(tracking, stream[:cut])
        now = NOON + timedelta(seconds=cut / 100)
        tracking.lost(now)
        calls = fold(events).values()
        events += tracking.resync(pbx.snapshot(), [c for c in calls if c.open], now)
        events += feed(tracking, stream[cut:], now)
        (ended,) = ends(events)
        unseen = bool(pbx.channels) and not pbx.rings and not any(c.phase is Phase.TALKING for c in calls)
        if pbx.channels and real.hung_up_by is HungUpBy.SYSTEM and real.at - now <= TOGETHER:
            unseen = True  # somebody may have asked to hang up in the gap
        assert ended == replace(real, uncertain=unseen), cut


@pytest.mark.parametrize("recording", CUT, ids=str)
def test_a_gap_without_a_snapshot_in_which_nothing_happened(recording: Capture) -> None:
    stream, cuts = steps(recording)
    (real,) = ends(feed(tracker(), stream))
    for cut in cuts:
        tracking = tracker()
        events = feed(tracking, stream[:cut])
        tracking.lost(NOON)
        events += feed(tracking, stream[cut:], NOON + timedelta(seconds=cut / 100))
        (ended,) = ends(events)
        assert replace(ended, uncertain=False) == real, cut


@pytest.mark.parametrize("recording", CUT, ids=str)
def test_a_gap_never_makes_a_call_confidently_wrong(recording: Capture) -> None:
    stream, cuts = steps(recording)
    (real,) = ends(feed(tracker(), stream))
    for lost_at in cuts[::3]:
        for found_at in cuts[lost_at::4]:
            tracking, pbx = tracker(), Pbx()
            for message in stream[:found_at]:
                pbx.receive(message)
            events = feed(tracking, stream[:lost_at])
            tracking.lost(NOON + timedelta(seconds=lost_at / 100))
            back = NOON + timedelta(seconds=found_at / 100)
            events += tracking.resync(pbx.snapshot(), [c for c in fold(events).values() if c.open], back)
            events += feed(tracking, stream[found_at:], back)
            events += tracking.close(NOON + timedelta(minutes=1))
            calls = ends(events)
            assert len(calls) <= 1
            assert len(tracking) == 0
            if any(isinstance(e, CallRinging) for e in events):
                assert calls
            for call in calls:
                same = (call.result, call.extension, call.rang, call.caller, call.called) == (
                    real.result, real.extension, real.rang, real.caller, real.called,
                )  # fmt: skip
                assert call.uncertain or same, (lost_at, found_at)


@pytest.mark.parametrize("recording", CUT, ids=str)
def test_a_restart_goes_on_with_what_was_told(recording: Capture) -> None:
    stream, cuts = steps(recording)
    (real,) = ends(feed(tracker(), stream))
    for cut in cuts:
        pbx = Pbx()
        for message in stream[:cut]:
            pbx.receive(message)
        events = feed(tracker(), stream[:cut])
        open_calls = [c for c in fold(events).values() if c.open]
        after = tracker()
        events += after.resync(pbx.snapshot(), open_calls, NOON + timedelta(seconds=cut / 100))
        events += feed(after, stream[cut:], NOON + timedelta(seconds=cut / 100))
        calls = ends(events + after.close(NOON + timedelta(minutes=1)))
        if open_calls:
            (call,) = calls
            assert call.call_id == real.call_id
            assert (call.direction, call.caller, call.called) == (real.direction, real.caller, real.called)
            assert call.uncertain or (call.result, call.extension) == (real.result, real.extension)
        assert len(calls) <= 1


def test_calls_that_vanished_in_a_gap_end_uncertain_and_once() -> None:
    stream = messages(capture("22/01"))
    talking = next(n for n, m in enumerate(stream) if m["Event"] == "HangupRequest")
    tracking = tracker()
    events = feed(tracking, stream[:talking])
    lost_at = NOON + timedelta(seconds=5)
    tracking.lost(lost_at)
    open_calls = [c for c in fold(events).values() if c.open]
    (ended,) = ends(tracking.resync([], open_calls, NOON + timedelta(hours=1)))
    assert (ended.uncertain, ended.result, ended.at, ended.hung_up_by) == (True, Result.ANSWERED, lost_at, None)
    assert not ends(tracking.resync([], open_calls, NOON + timedelta(hours=1)))
    assert not ends(feed(tracking, stream[talking:]))

    (ended,) = ends(tracker().resync([], open_calls, NOON))
    assert (ended.uncertain, ended.result, ended.extension, ended.talk_s) == (True, Result.ANSWERED, "150", None)


def test_a_reconnect_within_a_recording() -> None:
    recording = capture("22/01")
    data, banner = recording.data, b"Asterisk Call Manager/11.0.0\r\n"
    cut = data.index(b"Event: HangupRequest")
    (ended,) = ends(replay(data[:cut] + banner + data[cut:], None, TRUNKS, COUNTRY))
    assert (ended.result, ended.uncertain) == (Result.ANSWERED, False)
    answered = data.index(b"Event: DialEnd")
    (ended,) = ends(replay(data[:answered] + banner + data[cut:], None, TRUNKS, COUNTRY))
    assert ended.uncertain
    empty = b"Event: CoreShowChannelsComplete\r\nEventList: Complete\r\n\r\n"
    (ended,) = ends(replay(data[:cut] + banner + empty, None, TRUNKS, COUNTRY))
    assert (ended.result, ended.uncertain) == (Result.ANSWERED, True)


# Joined calls


def test_calls_that_a_bridge_joins_become_one() -> None:
    def shown(uniqueid: str, name: str, **more: str) -> Message:
        return {"Channel": name, "Uniqueid": uniqueid, "Linkedid": uniqueid, "ChannelState": "6", **more}

    def call(first: Message, second: Message) -> list[Message]:
        link = first["Linkedid"]
        dest = {"Dest" + key: value for key, value in second.items()} | {"DestLinkedid": link}
        second = second | {"Linkedid": link}
        return [
            first | {"Event": "Newchannel", "ChannelState": "4"},
            second | {"Event": "Newchannel", "ChannelState": "0"},
            first | dest | {"Event": "DialBegin", "ChannelState": "4", "DialString": "x"},
            second | {"Event": "Newstate", "ChannelState": "5"},
            second | {"Event": "Newstate", "ChannelState": "6"},
            second | {"Event": "BridgeEnter", "BridgeUniqueid": "b" + link},
            first | {"Event": "BridgeEnter", "BridgeUniqueid": "b" + link},
        ]

    client = shown("1.1", "PJSIP/trunk-0001-1", CallerIDNum="+375296254070", Exten="375172000004")
    smart_redirect = shown("1.2", "PJSIP/150-2", CallerIDNum="150")
    asking = shown("2.1", "PJSIP/150-3", CallerIDNum="150", Exten="152")
    requested = shown("2.2", "PJSIP/152-4", CallerIDNum="152")
    stream = [
        *call(client, smart_redirect),
        *call(asking, requested),
        client | {"Event": "BridgeLeave", "BridgeUniqueid": "b1.1"},
        client | {"Event": "BridgeEnter", "BridgeUniqueid": "b2.1"},
        *({"Event": "Hangup", "Uniqueid": uniqueid, "Cause": "16"} for uniqueid in ("1.2", "2.1")),
        client | {"Event": "HangupRequest"},
        *({"Event": "Hangup", "Uniqueid": uniqueid, "Cause": "16"} for uniqueid in ("1.1", "2.2")),
    ]
    events = feed(tracker(), stream)
    assert [e.into for e in events if isinstance(e, CallMerged)] == ["1.1"]
    assert [e.call_id for e in events if isinstance(e, CallMerged)] == ["2.1"]
    (ended,) = ends(events)
    assert (ended.call_id, ended.extension, ended.last_extension) == ("1.1", "150", "152")
    assert (ended.direction, ended.rang, ended.hung_up_by) == (Direction.INCOMING, ("150", "152"), HungUpBy.CALLER)
    transfers = [e for e in events if isinstance(e, CallTransferred)]
    assert [(t.call_id, t.from_extension, t.to_extension) for t in transfers] == [("1.1", "150", "152")]


# Invariants


def check(events: Sequence[CallEvent]) -> None:
    counts = Counter(e.call_id for e in events if isinstance(e, CallEnded))
    assert not counts or max(counts.values()) == 1
    over: set[CallId] = set()
    for event in events:
        assert event.call_id not in over, "nothing is told of a call that is over"
        if isinstance(event, CallEnded | CallMerged):
            over.add(event.call_id)
        if isinstance(event, CallEnded):
            answered = event.result is Result.ANSWERED
            assert (event.talk_s is not None) == (event.wait_s is not None) == answered
            assert event.talk_s is None or event.talk_s >= 0
    for event in events:
        assert event.call_id in over, "every call that was told of has an end"


MIXED = [messages(capture(name)) for name in ("22/01", "22/04", "22/07-", "22/08b", "22/09", "16/06")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0, 1), st.booleans())
def test_shuffled_and_thinned_streams_keep_the_invariants(random: object, keep: float, shuffle: bool) -> None:
    import random as module

    assert isinstance(random, module.Random)
    stream = [m for messages_ in MIXED for m in messages_ if random.random() < keep]
    if shuffle:
        random.shuffle(stream)
    tracking = tracker()
    events: list[CallEvent] = []
    for number, message in enumerate(stream):
        now = NOON + timedelta(seconds=number / 100)
        if random.random() < 0.02:
            tracking.lost(now)
            shown = [m for m in stream[:number] if m["Event"] == "Newchannel" and random.random() < 0.5]
            events += tracking.resync(shown, [], now) if random.random() < 0.5 else []
        events += tracking.feed(message, now)
    events += tracking.close(NOON + timedelta(hours=1))
    check(events)
    assert len(tracking) == 0


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                [
                    "Channel",
                    "Uniqueid",
                    "Linkedid",
                    "ChannelState",
                    "DestChannel",
                    "DestUniqueid",
                    "DestLinkedid",
                    "BridgeUniqueid",
                    "Exten",
                    "BridgeNumChannels",
                    "DialStatus",
                    "Timestamp",
                    "Newname",
                    "Cause",
                ]
            ),
            st.sampled_from(
                ["1.1", "1.2", "2.1", "PJSIP/150-1", "Local/150@a-1;1", "Local/150@a-1;2", "6", "5", "x", ""]
            ),
        ).flatmap(lambda m: st.sampled_from(sorted(WANTED)).map(lambda e: {**m, "Event": e.decode()})),
        max_size=40,
    )
)
def test_nonsense_never_raises(stream: list[Message]) -> None:
    tracking = tracker()
    check(feed(tracking, stream) + tracking.close(NOON + timedelta(hours=1)))


@pytest.mark.slow
def test_memory_is_bounded() -> None:
    tracking = tracker()
    told_ends = 0
    for number in range(MAX_CHANNELS + 500):
        link = f"1795219998.{number}"
        message = {
            "Event": "Newchannel", "Channel": f"PJSIP/trunk-0001-{number:08x}", "Uniqueid": link, "Linkedid": link,
            "ChannelState": "4", "CallerIDNum": "+375296254070", "Exten": "375172000001",
        }  # fmt: skip
        told_ends += len(ends(tracking.feed(message, NOON + timedelta(seconds=number))))
    assert len(tracking) == MAX_CHANNELS
    assert told_ends == 500
