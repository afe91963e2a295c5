"""Bytes in, messages out; actions out, and never more than one."""

import re
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.asterisk.calls import MARKED, WANTED
from adapters.asterisk.protocol import MAX_ACTION_LINE, MAX_FRAME, Framer, Message, action_ids, encode_action, parse
from gateway.domain.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from tests.adapters.asterisk.captures import SCENARIOS, Capture

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
SMALL = [c for c in SCENARIOS if c.path.stat().st_size < 31_000]


def messages(*chunks: bytes, framer: Framer | None = None) -> list[Message]:
    framer = framer or Framer()
    return [message for chunk in chunks for message in framer.feed(chunk)]


def test_banner_is_no_message_of_its_own() -> None:
    framer = Framer()
    assert messages(BANNER + b"Response: Success\r\nActionID: 1\r\n\r\n", framer=framer) == [
        {"Response": "Success", "ActionID": "1"}
    ]
    assert framer.banner == "Asterisk Call Manager/11.0.0"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"Event: A\r\nValue: ", {"Event": "A", "Value": ""}),
        (b"Event: A\r\nValue:", {"Event": "A", "Value": ""}),
        (b"Event: A\r\nValue: a: b", {"Event": "A", "Value": "a: b"}),
        (b"Event: A\r\nV: 1\r\nV: 2", {"Event": "A", "V": "1\n2"}),
        (b"Response: Follows\r\nOutput: one\r\ntwo", {"Response": "Follows", "Output": "one\ntwo"}),
        (b"Response: Error\r\nMessage: No Contacts found\n", {"Response": "Error", "Message": "No Contacts found\n"}),
        ("Event: A\r\nName: Анна".encode(), {"Event": "A", "Name": "Анна"}),
        (b"Event: A\r\nName: \xff", {"Event": "A", "Name": "�"}),
    ],
)
def test_parse(frame: bytes, message: Message) -> None:
    assert parse(frame) == message
    assert messages(BANNER + frame + b"\r\n\r\n") == [message]


def test_empty_frames_and_stray_line_ends_are_skipped() -> None:
    assert messages(BANNER + b"\r\n\r\n\r\n\r\n\nEvent: A\r\n\r\n") == [{"Event": "A"}]


def test_only_wanted_events_are_parsed_and_answers_always() -> None:
    framer = Framer(frozenset((b"Hangup",)), {b"VarSet": (b"Variable: RECORDING",)})
    stream = (
        BANNER + b"Event: Newexten\r\n\r\nEvent: Hangup\r\n\r\nEvent: HangupRequest\r\n\r\nResponse: Success\r\n\r\n"
        b"Event: VarSet\r\nVariable: X\r\n\r\nEvent: VarSet\r\nVariable: RECORDING\r\n\r\n"
    )
    assert messages(stream, framer=framer) == [
        {"Event": "Hangup"},
        {"Response": "Success"},
        {"Event": "VarSet", "Variable": "RECORDING"},
    ]
    assert framer.frames == 6


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01", b"Asterisk Call Center"]
)
def test_a_server_that_is_not_asterisk(start: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        messages(start)


def test_a_banner_without_end() -> None:
    with pytest.raises(RemoteProtocolError):
        messages(b"Asterisk Call Manager" + b"x" * 300)


def test_a_line_without_end() -> None:
    with pytest.raises(RemoteProtocolError):
        messages(BANNER, *[b"x" * 1000] * (MAX_FRAME // 1000 + 2))
    with pytest.raises(RemoteProtocolError):
        messages(BANNER + b"Event: " + b"x" * MAX_FRAME + b"\r\n\r\n")


def test_a_message_without_end() -> None:
    with pytest.raises(RemoteProtocolError):
        messages(BANNER, *[b"Output: " + b"x" * 60_000 + b"\r\n"] * 100)


@pytest.mark.parametrize("capture", SMALL, ids=str)
def test_every_capture_byte_by_byte(capture: Capture) -> None:
    data = capture.data
    assert messages(*[data[i : i + 1] for i in range(len(data))], framer=Framer(WANTED, MARKED)) == messages(
        data, framer=Framer(WANTED, MARKED)
    )


STREAM = next(c for c in SMALL if "00-session" in str(c)).data
STREAM += next(c for c in SMALL if "05b" in str(c)).data.partition(b"\r\n")[2]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_any_cutting_gives_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert messages(*[STREAM[a:b] for a, b in pairwise(edges)]) == messages(STREAM)


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_nonsense_is_a_protocol_error_at_worst(chunks: list[bytes], banner: bool) -> None:
    with suppress(ProtocolError):
        messages(BANNER if banner else b"", *chunks)


@given(st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"Event: A", b":", b"x", b"\r\n\r\n"]), max_size=60), st.data())
def test_line_ends_in_any_order_and_cutting(parts: list[bytes], data: st.DataObject) -> None:
    stream = BANNER + b"".join(parts) + b"\r\n\r\n"
    cut = data.draw(st.integers(0, len(stream)))
    whole = [m for m in messages(stream) if m]
    assert [m for m in messages(stream[:cut], stream[cut:]) if m] == whole


# Actions


def as_asterisk_reads(data: bytes) -> list[list[tuple[str, str]]]:
    """Asterisk's own way of reading: a line ends at any LF, a CR before it is dropped, an empty line ends the action."""
    actions: list[list[tuple[str, str]]] = []
    lines: list[tuple[str, str]] = []
    for raw in data.split(b"\n"):
        line = raw.removesuffix(b"\r").decode()
        if line:
            name, _, value = line.partition(": ")
            lines.append((name, value))
        elif lines:
            actions.append(lines)
            lines = []
    return actions


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=60)), max_size=5), st.text(max_size=20))
def test_an_action_is_refused_or_exactly_one(headers: list[tuple[str, str]], name: str) -> None:
    try:
        data = encode_action(name, headers)
    except LocalProtocolError:
        return
    assert as_asterisk_reads(data) == [[("Action", name), *headers]]
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", data)


@pytest.mark.parametrize(
    "value", ["a\r\nAction: Command", "a\nb", "a\rb", "\x00", "\x7f", "\ud800", "я" * (MAX_ACTION_LINE // 2)]
)
def test_dangerous_values_are_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(LocalProtocolError) as refused:
        encode_action("Originate", [("Exten", value)])
    assert value not in str(refused.value)


@pytest.mark.parametrize("name", ["", "A B", "A:", "A\r\nB", "1", "я"])
def test_dangerous_names_are_refused(name: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_action("Ping", [(name, "x")])


def test_an_action_has_at_most_a_hundred_lines() -> None:
    assert encode_action("Originate", [("Variable", "a=b")] * 99)
    with pytest.raises(LocalProtocolError):
        encode_action("Originate", [("Variable", "a=b")] * 100)


def test_action_ids_are_never_the_same() -> None:
    ids = action_ids("x")
    assert [next(ids), next(ids)] == ["x-1", "x-2"]
