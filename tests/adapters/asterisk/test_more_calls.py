"""Further kinds of call, recorded from Asterisk 22: one line each says what happened, in the contract's words."""

from datetime import UTC, datetime

import pytest

from adapters.asterisk.calls import CallTracker
from gateway.domain.events import CallEnded, CallMerged, CallRinging, CallTransferred
from tests.adapters.asterisk.captures import HERE, Capture

CLIENT = "+375296254070"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DIRECT, MENU = "+375172000004", "+375172000005"

# name: direction, caller, called, extension, last, rang, result, wait, talk, hung up by
CALLS = {
    "blind-transfer-by-phone": ("incoming", CLIENT, DIRECT, "150", "152", ("150", "152"), "answered", 1.0, 8.0, "caller"),
    "attended-transfer": ("incoming", CLIENT, DIRECT, "150", "152", ("150", "152"), "answered", 1.0, 16.0, "caller"),
    "transfer-while-ringing": ("incoming", CLIENT, DIRECT, "150", "152", ("150", "152"), "answered", 1.0, 16.0, "caller"),
    "pickup": ("incoming", CLIENT, DIRECT, "151", "151", ("150",), "answered", 2.5, 6.0, "caller"),
    "forward-to-mobile": (
        "incoming", CLIENT, "+375172000008", "154", "154", ("154",), "answered", 2.0, 4.0, "caller",
    ),
    "follow-me": ("incoming", CLIENT, "+375172000007", "153", "153", ("150", "153"), "answered", 4.0, 4.0, "caller"),
    "group-with-mobile": (
        "incoming", CLIENT, "+375172000006", "155", "155", ("150", "155"), "answered", 2.0, 4.0, "caller",
    ),
    "menu": ("incoming", CLIENT, MENU, "150", "150", ("150", "151"), "answered", 2.0, 5.0, "caller"),
    "wrong-number": ("outgoing", "150", CLIENT, "150", None, (), "failed", None, None, "callee"),
    "click-employee-silent": ("outgoing", "150", CLIENT, "150", None, ("150",), "cancelled", None, None, "system"),
    "click-client-first": ("outgoing", "150", CLIENT, "150", "150", ("150",), "answered", 4.0, 6.0, "callee"),
    "anonymous": ("incoming", "anonymous", DIRECT, "150", "150", ("150",), "answered", 1.0, 3.0, "caller"),
    "click-without-callerid": ("outgoing", "150", CLIENT, "150", "150", ("150",), "answered", 2.0, 4.0, "callee"),
    "two-calls-joined": ("incoming", CLIENT, DIRECT, "150", "152", ("150", "152"), "answered", 1.0, 12.0, "caller"),
    "group-of-locals": (
        "incoming", CLIENT, "+375172000009", "151", "151", ("150", "151"), "answered", 2.0, 4.0, "caller",
    ),
    "internal-busy": ("internal", "150", "151", None, None, (), "busy", None, None, "callee"),
    "declined": ("incoming", CLIENT, DIRECT, None, None, (), "missed", None, None, "callee"),
    "internal-forward": ("internal", "150", "154", "154", "154", ("154",), "answered", 2.0, 4.0, "caller"),
    "click-then-transfer": ("outgoing", "150", CLIENT, "150", "152", ("150", "152"), "answered", 1.0, 10.0, "callee"),
}  # fmt: skip


def capture(name: str) -> Capture:
    return Capture(HERE / "22-more" / f"{name}.ami.gz")


@pytest.mark.parametrize("with_trunk", [True, False], ids=["trunk", "bare"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_told_as_it_was(name: str, with_trunk: bool) -> None:
    events = capture(name).events() if with_trunk else capture(name).events((), None)
    (ended,) = (e for e in events if isinstance(e, CallEnded))
    *words, wait_s, talk_s, hung_up_by = CALLS[name]
    assert [
        ended.direction,
        ended.caller,
        ended.called,
        ended.extension,
        ended.last_extension,
        ended.rang,
        ended.result,
    ] == words
    assert ended.wait_s == pytest.approx(wait_s, abs=0.05)
    assert ended.talk_s == pytest.approx(talk_s, abs=0.05)
    assert (ended.hung_up_by, ended.uncertain) == (hung_up_by, False)
    if ended.rang:
        assert isinstance(events[0], CallRinging)
        assert events[0].direction is ended.direction
    transfers = [(e.from_extension, e.to_extension) for e in events if isinstance(e, CallTransferred)]
    moved = ended.last_extension not in (None, ended.extension)
    assert transfers == ([(ended.extension, ended.last_extension)] if moved else [])


def test_a_joined_call_has_no_end_of_its_own() -> None:
    events = capture("two-calls-joined").events()
    (merged,) = (e for e in events if isinstance(e, CallMerged))
    assert [e.call_id for e in events if isinstance(e, CallEnded)] == [merged.into]


def test_an_unknown_talk_of_two_outside_legs_is_told_uncertain() -> None:
    """Found by a snapshot after a restart, without a word of it in the database."""
    legs = [
        {"Channel": f"PJSIP/trunk-0001-0000000{n}", "ChannelState": "6", "Uniqueid": f"1.{n}", "Linkedid": "1.1"}
        | {"CallerIDNum": number, "Exten": exten, "Application": application, "BridgeId": "b"}
        for n, number, exten, application in (
            (2, "+375297777777", "", "AppDial"),
            (1, CLIENT, "375172000006", "Dial"),
        )
    ]
    tracking = CallTracker(trunks=("trunk-0001",), country="BY")
    tracking.resync([leg | {"Event": "CoreShowChannel"} for leg in legs], (), NOON)
    (ended,) = tracking.close(NOON)
    assert isinstance(ended, CallEnded)
    assert (ended.direction, ended.caller, ended.result, ended.uncertain) == ("incoming", CLIENT, "answered", True)


def test_channels_that_the_pbx_makes_for_itself_are_no_call() -> None:
    tracking = CallTracker()
    own = {"Channel": "Message/ast_msg_queue", "Uniqueid": "1.1", "Linkedid": "1.1", "ChannelState": "0"}
    reported = tracking.feed(own | {"Event": "Newchannel"}, NOON)
    reported += tracking.feed(own | {"Event": "Hangup", "Cause": "16"}, NOON)
    assert reported == []
    assert len(tracking) == 0
