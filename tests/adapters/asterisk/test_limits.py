"""What one PBX can cost: steps of parsing, memory and time on the loop, each as a count or a ratio and never as seconds."""

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from adapters.asterisk import wire as wire_module
from adapters.asterisk.calls import CallTracker
from adapters.asterisk.pbx_state import MAX_CALLS, MAX_CHANNELS_OF_CALL
from adapters.asterisk.protocol import MAX_FRAME, MAX_LINES, MAX_VALUE, AmiMessage, Framer, Message, parse
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import AdapterSettings
from adapters.registry import adapters
from gateway.domain.errors import GatewayError, RemoteProtocolError
from tests.adapters.asterisk.test_session import (
    BANNER,
    SECRET,
    Office,
    Peer,
    Sink,
    failure,
    office,  # noqa: F401
    session,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def steps_of(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs."""
    lines = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        call()
    finally:
        sys.settrace(None)
    return lines


def cost(n: int, line: bytes) -> float:
    """CPU time of parsing a frame of `n` lines, the least of a few tries: only ratios of it are judged."""
    frame = b"Event: X\r\n" + b"\r\n".join([line] * n)
    tries = []
    for _ in range(7):
        began = time.thread_time()
        parse(frame)
        tries.append(time.thread_time() - began)
    return min(tries)


LINES = [b"Variable: x=1", b"goes on", b"A: 1\r\nB: 2", b":", b"\xff", b"a:"]


@pytest.mark.parametrize("line", LINES)
def test_twice_the_lines_cost_twice_the_steps(line: bytes) -> None:
    def steps(n: int) -> int:
        return steps_of(lambda: parse(b"Event: X\r\n" + b"\r\n".join([line] * n)))

    assert steps(2000) / steps(1000) < 2.1
    assert steps(8000) / steps(1000) < 8.4


@pytest.mark.parametrize("line", LINES)
def test_no_value_is_copied_again_for_each_line_that_joins_it(line: bytes) -> None:
    """16 times the lines: 16 times the time, and 256 times if each line copied all before it."""
    assert cost(64_000, b"x" * 20 + line) / cost(4_000, b"x" * 20 + line) < 64


def test_a_message_has_so_many_lines_and_bytes() -> None:
    framer = Framer()
    framer.feed(BANNER)
    assert len(framer.feed(b"Event: A\r\n" + b"V: 1\r\n" * (MAX_LINES - 2) + b"\r\n")) == 1
    with pytest.raises(RemoteProtocolError, match="lines") as caught:
        framer.feed(b"Event: A\r\n" + b"V: 1\r\n" * MAX_LINES + b"\r\n")
    assert (caught.value.code, caught.value.shown) == ("asterisk_too_long", "")
    for data in (b"Event: A\r\nV: " + b"x" * MAX_FRAME + b"\r\n\r\n", b"Event: A\r\nV: " + b"x" * MAX_FRAME):
        framer = Framer()
        with pytest.raises(RemoteProtocolError, match=r"bytes|without end"):
            framer.feed(BANNER + data)


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
def test_bytes_without_an_end_are_given_up_at_the_limit_however_they_come(piece: int) -> None:
    framer = Framer(frozenset())
    framer.feed(BANNER)
    fed = 0
    with pytest.raises(RemoteProtocolError):
        while fed < 2 * MAX_FRAME:
            framer.feed(b"x" * piece)
            fed += piece
    assert fed <= MAX_FRAME + piece


def test_long_values_of_events_are_cut_and_answers_are_not() -> None:
    long = b"x" * 3000
    assert len(parse(b"Event: Newchannel\r\nChannel: " + long)["Channel"]) == MAX_VALUE
    assert len(parse(b"Response: Success\r\nMessage: " + long)["Message"]) == 3000


def test_messages_are_those_of_panoramisk() -> None:
    from panoramisk.message import Message as Panoramisk

    message = parse(b"Event: Hangup\r\nUniqueid: 1.1\r\nV: 1\r\nV: 2")
    assert isinstance(message, Panoramisk)
    assert (message.get("uniqueid"), message["UNIQUEID"], message.uniqueid, message.get("x")) == (
        "1.1",
        "1.1",
        "1.1",
        None,
    )
    assert message == {"Event": "Hangup", "Uniqueid": "1.1", "V": "1\n2"}
    assert message | {"V": "3"} == {"Event": "Hangup", "Uniqueid": "1.1", "V": "3"}
    assert isinstance(message, AmiMessage)


# Calls


def channel(number: int, link: str, **headers: str) -> Message:
    made = {
        "Event": "Newchannel", "Channel": f"PJSIP/{100 + number % 800}-{number:08x}", "ChannelState": "4",
        "CallerIDNum": "+375296254070", "Exten": "375172000001", "Uniqueid": f"1.{number}", "Linkedid": link,
    }  # fmt: skip
    return made | headers


def many_calls() -> Iterator[Message]:
    for number in range(100_000):
        yield channel(number, f"1.{number}")


def one_call() -> Iterator[Message]:
    for number in range(100_000):
        yield channel(number, "1.0")


def calls_that_wait_for_recordings() -> Iterator[Message]:
    for number in range(100_000):
        made = channel(number, f"1.{number}")
        yield made
        yield made | {"Event": "MixMonitorStart"}
        yield made | {"Event": "Hangup", "Cause": "16"}


def one_bridge() -> Iterator[Message]:
    for number in range(100_000):
        made = channel(number, f"1.{number}")
        yield made
        yield made | {"Event": "BridgeEnter", "BridgeUniqueid": "b", "ChannelState": "6"}


@pytest.mark.parametrize("flood", [many_calls, one_call, calls_that_wait_for_recordings, one_bridge])
@pytest.mark.slow
def test_a_flood_of_calls_is_noticed_before_it_costs_much(flood: Callable[[], Iterator[Message]]) -> None:
    tracker = CallTracker(trunks=("trunk-0001",), country="BY")
    tracemalloc.start()
    try:
        for count, message in enumerate(flood(), 1):  # noqa: B007
            tracker.feed(message, NOW)
            if tracker.is_full:
                break
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert count <= 3 * max(MAX_CALLS, 2 * MAX_CHANNELS_OF_CALL) + 3
    assert grown < 48 << 20
    tracker.lost(NOW)
    tracker.resync([], (), NOW)
    assert (tracker.is_full, len(tracker)) == (False, 0)


def test_a_list_of_channels_that_share_a_bridge_is_joined_up_to_a_size() -> None:
    def steps(n: int) -> int:
        shown = [channel(number, f"1.{number}", BridgeId="b", ChannelState="6") for number in range(n)]
        return steps_of(lambda: CallTracker(country="BY").resync(shown, (), NOW))

    assert steps(4000) / steps(2000) < 2.5


# The session


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (lambda n: b"Response: Success\r\nActionID: other\r\n" + b"a:\r\n" * 900 + b"\r\n", "asterisk_too_much"),
        (lambda n: b"Event: Hangup\r\nUniqueid: 1\r\n\r\n" * 400, "asterisk_too_much"),
        (lambda n: b"Event: CoreShowChannel\r\nUniqueid: %d\r\n\r\n" % n * 400, "asterisk_too_much"),
        (lambda n: b"Event: X\r\n" + b"V: 1\r\n" * 20_000, "asterisk_too_long"),
    ],
    ids=["answers", "events", "list", "message"],
)
@pytest.mark.slow
async def test_an_answer_without_end_ends_the_session_in_words(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    flood: Callable[[int], bytes],
    code: str,
) -> None:
    monkeypatch.setattr(wire_module, "MAX_WAITING", 4 << 20)

    async def serve(peer: Peer) -> None:
        await peer.text_of(BANNER)
        await peer.answer(await peer.action())
        listing = await peer.action()
        await peer.answer(listing)
        number = 0
        while True:
            number += 1
            await peer.text_of(flood(number))

    office.servers = [serve, serve]
    tracemalloc.start()
    try:
        error = await failure(office)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (type(error), error.code) == (RemoteProtocolError, code)
    assert peak < 16 << 20, "what may wait, and some"
    assert (await office.client.test()).code == code


async def test_more_calls_than_any_pbx_has_end_the_session(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        for number in range(100_000):
            made = channel(number, f"1.{number}")
            await peer.text_of("".join(f"{name}: {value}\r\n" for name, value in made.items()).encode() + b"\r\n")

    office.servers = [serve]
    error = await failure(office)
    assert (type(error), error.code) == (RemoteProtocolError, "asterisk_too_many_calls")
    assert office.client.open_calls <= MAX_CALLS + 1000


async def test_others_run_between_the_steps_of_one_read(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
) -> None:
    """One read of the shortest frames that there can be."""
    turns = 0
    sent = trio.Event()

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        for _ in range(4):
            await peer.text_of(b"a\r\n\r\n" * 12_000)
        sent.set()
        await peer.stay()

    async def other() -> None:
        nonlocal turns
        await sent.wait()
        while office.client.frames_seen < 48_000:
            turns += 1
            await trio.lowlevel.checkpoint()

    office.servers = [serve]
    async with session(office, Sink()), trio.open_nursery() as nursery:
        nursery.start_soon(other)
    steps_before_sent = 2
    assert turns >= 240_000 // wire_module.STEP - steps_before_sent > 240_000 // wire_module.READ_SIZE


async def test_nothing_is_sent_before_the_other_end_is_an_asterisk_manager(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
) -> None:
    received: list[bytes] = []

    async def serve(peer: Peer) -> None:
        with trio.move_on_after(3600):
            received.append(bytes(await peer.stream.receive_some()))

    office.servers = [serve, serve]
    await failure(office)
    await office.client.test()
    assert b"".join(received) == b""


# Settings


@pytest.mark.parametrize("kind", sorted(adapters()))
def test_every_time_and_size_that_a_tenant_enters_has_an_upper_bound(kind: str) -> None:
    settings: type[AdapterSettings] = {str(k): a for k, a in adapters().items()}[kind].settings
    for name, info in settings.model_fields.items():
        if info.annotation in (int, float):
            bounds = [bound for rule in info.metadata if (bound := getattr(rule, "le", None)) is not None]
            assert bounds, f"{name} has no upper bound"
            if name.endswith("_s"):
                assert bounds[0] <= 300


@pytest.mark.parametrize(
    ("field", "value"),
    [("login_timeout_s", 61), ("connect_timeout_s", 1e9), ("ping_every_s", 0.01), ("dead_after_s", float("inf")), ("buffer_mib", 4096)],
)  # fmt: skip
def test_settings_beyond_their_bounds_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        AsteriskSettings.model_validate({"host": "pbx", "username": "gateway", "secret": SECRET, field: value})


def test_the_words_of_an_error_are_the_tables_not_the_logs() -> None:
    error = GatewayError("10.0.0.1:22: Connection refused", code="x", shown="10.0.0.1:22")
    assert (str(error), error.shown) == ("10.0.0.1:22: Connection refused", "10.0.0.1:22")
    assert GatewayError("why").shown == "why"
