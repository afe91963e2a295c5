"""The session against a PBX of a few lines on memory streams: time is virtual, and nothing touches the network.

Over 400 lines: one PBX serves every case.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, memory_stream_pair

from adapters import base
from adapters.asterisk import ADAPTER
from adapters.asterisk.session import AsteriskClient, connect
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import Arrival, CallSink, Link, StreamsCalls
from adapters.spills import Spills
from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RemoteProtocolError, Unavailable
from gateway.domain.events import CallAnswered, CallEnded, CallEvent, CallRinging, Direction, Result
from gateway.domain.health import State
from gateway.domain.ids import CallId, Kind, TenantId
from tests.adapters.asterisk.captures import capture

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
SECRET = "a-very-secret-word"
SETTINGS = AsteriskSettings(host="pbx.example", username="gateway", secret=SECRET, trunks=("trunk-0001",))
TENANT = Tenant(TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru")

Server = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The PBX's end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.actions: list[dict[str, str]] = []
        self._rest = b""

    async def text_of(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def action(self) -> dict[str, str]:
        """The next action of the client."""
        while b"\r\n\r\n" not in self._rest:
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._rest += data
        raw, self._rest = self._rest.split(b"\r\n\r\n", 1)
        action = dict(line.split(": ", 1) for line in raw.decode().split("\r\n"))
        self.actions.append(action)
        return action

    async def answer(self, action: dict[str, str], response: str = "Success") -> None:
        await self.text_of(f"Response: {response}\r\nActionID: {action['ActionID']}\r\nMessage: x\r\n\r\n".encode())

    async def log_in(self, snapshot: Sequence[str] = (), meanwhile: bytes = b"") -> None:
        """Banner, login and the list of channels."""
        await self.text_of(BANNER)
        await self.answer(await self.action())
        listing = await self.action()
        assert listing["Action"] == "CoreShowChannels"
        await self.text_of(meanwhile)
        await self.answer(listing)
        for channel in snapshot:
            await self.text_of(
                f"Event: CoreShowChannel\r\nActionID: {listing['ActionID']}\r\n{channel}\r\n\r\n".encode()
            )
        done = f"Event: CoreShowChannelsComplete\r\nActionID: {listing['ActionID']}\r\n\r\n"
        await self.text_of(done.encode())

    async def stay(self) -> None:
        """Answers pings until the client goes."""
        while True:
            await self.answer(await self.action())

    async def hang_up(self) -> None:
        await self.stream.aclose()


class Sink:
    """A gateway that keeps what it is told."""

    def __init__(self, calls: Sequence[Call] = ()) -> None:
        self.batches: list[tuple[CallEvent, ...]] = []
        self.calls = calls
        self.over = trio.Event()
        """A call has ended."""
        self.arrivals: list[Arrival] = []
        self.answers: list[tuple[str, str]] = []

    @property
    def events(self) -> list[CallEvent]:
        return [event for batch in self.batches for event in batch]

    async def emit(self, events: Sequence[CallEvent]) -> None:
        await trio.lowlevel.checkpoint()
        self.batches.append(tuple(events))
        if any(isinstance(event, CallEnded) for event in events):
            self.over.set()

    def arrived(self, arrival: Arrival) -> None:
        self.arrivals.append(arrival)

    def order_answered(self, order_id: str, failure: str) -> None:
        self.answers.append((order_id, failure))

    async def open_calls(self) -> Sequence[Call]:
        return self.calls


class Dial:
    """A dialer that allows everything, or says why not."""

    def __init__(self, refusal: GatewayError | None = None) -> None:
        self.refusal = refusal

    async def resolve(self, host: str, port: int) -> str:
        if self.refusal is not None:
            raise self.refusal
        return "192.0.2.1"

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        raise NotImplementedError


class Office:
    """A client whose connections end at the given servers, one after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, tenant: Tenant = TENANT) -> None:
        self.health: list[tuple[State, str]] = []
        self.peers: list[Peer] = []
        self.servers: list[Server] = []
        self._nursery = nursery
        self.link = Link(tenant, "main", None, Dial(), lambda state, code, detail: self.health.append((state, code)))
        self.client = AsteriskClient(self.link, SETTINGS)
        monkeypatch.setattr(trio, "open_tcp_stream", self._open)

    async def _open(self, host: str, port: int) -> trio.abc.Stream:
        assert (host, port) == ("192.0.2.1", 5038)
        ours, theirs = memory_stream_pair()
        peer = Peer(theirs)
        self.peers.append(peer)

        async def serve() -> None:
            with suppress(trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
                await self.servers.pop(0)(peer)

        self._nursery.start_soon(serve)
        return ours


@pytest.fixture
async def office(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Office:
    return Office(monkeypatch, nursery)


@asynccontextmanager
async def session(office: Office, sink: CallSink) -> AsyncIterator[None]:
    """Runs a session for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.client.run, sink)
        yield
        nursery.cancel_scope.cancel()


def stream_of(name: str) -> bytes:
    """A recording without its banner and login answer."""
    return capture(name).data.partition(b"\r\n\r\n")[2]


async def failure(office: Office, sink: Sink | None = None) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await office.client.run(sink or Sink())
    assert SECRET not in f"{caught.value!s} {caught.value.detail} {caught.value!r}"
    return caught.value


def test_the_adapter_is_a_pbx_that_streams_and_tests_itself() -> None:
    assert (ADAPTER.kind, ADAPTER.is_pbx) == (Kind("asterisk"), True)
    client = AsteriskClient(Link(TENANT, "main", None, Dial()), SETTINGS)
    assert isinstance(client, StreamsCalls)
    assert isinstance(client, base.Testable)


async def test_connect_opens_nothing() -> None:
    async with connect(Link(TENANT, "main", None, Dial()), SETTINGS) as client:
        assert client.sessions == 0


async def test_a_call_is_told_as_it_happens(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(stream_of("22/01"))
        await peer.stay()

    office.servers = [serve]
    sink = Sink()
    async with session(office, sink):
        await trio.sleep(1)
        assert [type(e) for e in sink.events] == [CallRinging, CallRinging, CallAnswered, CallEnded]
        assert len(sink.batches) == 1, "what one read gave is one batch"
        assert office.client.open_calls == 0
        assert office.client.frames_seen > 100
        assert office.client.last_event_at is not None
        assert office.client.lag_s is None
    login = office.peers[0].actions[0]
    assert (login["Username"], login["Secret"], login["Events"]) == ("gateway", SECRET, "on")
    assert office.health == [(State.CONNECTING, "asterisk_connecting"), (State.ONLINE, "asterisk_online")]
    assert (office.client.sessions, office.client.gaps) == (1, 1)


async def test_a_refused_login(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.text_of(BANNER)
        await peer.answer(await peer.action(), "Error")
        await peer.hang_up()

    office.servers = [serve]
    assert isinstance(await failure(office), BadCredentials)
    assert office.client.gaps == 0


@pytest.mark.parametrize("hello", [b"", BANNER])
async def test_a_silent_peer_before_login(autojump_clock: MockClock, office: Office, hello: bytes) -> None:
    async def serve(peer: Peer) -> None:
        await peer.text_of(hello)
        await trio.sleep_forever()

    office.servers = [serve]
    begun = trio.current_time()
    assert isinstance(await failure(office), Unavailable)
    assert trio.current_time() - begun == pytest.approx(SETTINGS.login_timeout_s)


async def test_a_peer_that_falls_silent_is_dead_after_a_while(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        for _ in range(3):
            await peer.answer(await peer.action())
        await trio.sleep_forever()

    office.servers = [serve]
    begun = trio.current_time()
    assert isinstance(await failure(office), Unavailable)
    last_heard = 3 * SETTINGS.ping_every_s
    assert last_heard + SETTINGS.dead_after_s <= trio.current_time() - begun <= last_heard + 25
    assert {a["Action"] for a in office.peers[0].actions[2:]} == {"Ping", "CoreShowChannels"}


async def test_pings_keep_a_quiet_session(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.stay()

    office.servers = [serve]
    async with session(office, Sink()):
        await trio.sleep(3600)
    assert len(office.peers[0].actions) > 700


async def test_an_endless_line_after_the_banner(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.text_of(BANNER + b"x" * 200_000)
        await trio.sleep_forever()

    office.servers = [serve, serve]
    error = await failure(office)
    assert (type(error), error.code) == (RemoteProtocolError, "asterisk_too_long")
    assert (await office.client.test()).code == "asterisk_too_long"


async def test_an_endless_line_in_a_session(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        while True:
            await peer.text_of(b"x" * 10_000)

    office.servers = [serve]
    assert isinstance(await failure(office), RemoteProtocolError)


async def test_the_last_words_are_heard_before_the_end(autojump_clock: MockClock, office: Office) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(stream_of("22/01"))
        await peer.hang_up()

    office.servers = [serve]
    sink = Sink()
    assert isinstance(await failure(office, sink), Unavailable)
    assert isinstance(sink.events[-1], CallEnded)


async def test_a_full_buffer_gives_the_session_up(autojump_clock: MockClock, office: Office) -> None:
    class Stuck(Sink):
        async def emit(self, events: Sequence[CallEvent]) -> None:
            await trio.sleep_forever()

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(stream_of("22/01"))
        while True:
            await peer.text_of(b"Event: X\r\nValue: " + b"x" * 50_000 + b"\r\n\r\n")

    office.client._settings = SETTINGS.model_copy(update={"buffer_mib": 1})
    office.servers = [serve]
    error = await failure(office, Stuck())
    assert isinstance(error, Unavailable)
    assert "buffer" in error.detail


class Late(Sink):
    """A tenant that takes nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.free = trio.Event()

    async def emit(self, events: Sequence[CallEvent]) -> None:
        await self.free.wait()
        await super().emit(events)


async def test_what_a_late_tenant_does_not_take_goes_to_the_disk_and_is_told_whole(
    office: Office, tmp_path: Path
) -> None:
    # Real time: threads write the disk.
    data = stream_of("22/01")
    noise = b"Event: X\r\nValue: " + b"x" * 50_000 + b"\r\n\r\n"
    sent = trio.Event()

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        cut = data.index(b"Event: HangupRequest")
        await peer.text_of(data[:cut])
        for _ in range(200):
            await peer.text_of(noise)
            await trio.sleep(0.001)
        await peer.text_of(data[cut:])
        sent.set()
        await peer.stay()

    spills = Spills(tmp_path, 100 << 20)
    office.client._settings = SETTINGS.model_copy(update={"buffer_mib": 1})
    office.client._link = replace(office.client._link, spills=spills)
    office.servers = [serve]
    sink = Late()
    async with session(office, sink):
        with trio.fail_after(20):
            await sent.wait()
            assert spills.used > 0
            unread = office.client.figures()["unread_bytes"]
            assert isinstance(unread, int)
            assert unread > 8 << 20
            sink.free.set()
            await sink.over.wait()
        assert [type(e) for e in sink.events] == [CallRinging, CallRinging, CallAnswered, CallEnded]
        assert office.client.behind_s > 0
        assert not any(event.uncertain for event in sink.events if isinstance(event, CallEnded))
    assert (spills.used, office.client.figures()["unread_bytes"]) == (0, 0)


async def test_a_pbx_whose_events_are_late_is_not_well(
    autojump_clock: MockClock, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)
    monkeypatch.setattr(office.client._clock, "now", lambda: began + timedelta(seconds=trio.current_time()))

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        for frame in stream_of("22/01").split(b"\r\n\r\n"):
            await peer.text_of(frame + b"\r\n\r\n")
        await peer.stay()

    office.servers = [serve]
    sink = Late()
    async with session(office, sink):
        await trio.sleep(30)
        assert sink.events == []
        sink.free.set()
        await sink.over.wait()
        await trio.sleep(5)
    assert office.health[1:] == [
        (State.ONLINE, "asterisk_online"), (State.DEGRADED, "asterisk_behind"), (State.ONLINE, "asterisk_online"),
    ]  # fmt: skip
    assert office.client.behind_s == 0


@pytest.mark.parametrize("end", ["closed", "silent"])
async def test_a_link_that_ends_while_we_are_behind_is_heard_to_its_end(
    autojump_clock: MockClock, office: Office, end: str
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        for frame in stream_of("22/01").split(b"\r\n\r\n"):
            await peer.text_of(frame + b"\r\n\r\n")
        if end == "closed":
            await peer.hang_up()
        await trio.sleep_forever()

    office.servers = [serve]
    sink = Late()

    async def free() -> None:
        await trio.sleep(100)
        assert sink.events == []
        sink.free.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(free)
        error = await failure(office, sink)
    assert isinstance(error, Unavailable)
    assert ("closed the connection" if end == "closed" else "not a byte for 15 s") in error.detail
    assert [type(e) for e in sink.events] == [CallRinging, CallRinging, CallAnswered, CallEnded]


async def test_a_reconnect_resyncs(autojump_clock: MockClock, office: Office) -> None:
    data = stream_of("22/01")
    cut = data.index(b"Event: HangupRequest")

    async def first(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(data[:cut])
        await peer.hang_up()

    async def second(peer: Peer) -> None:
        await peer.log_in()
        await peer.stay()

    office.servers = [first, second]
    sink = Sink()
    assert isinstance(await failure(office, sink), Unavailable)
    assert [type(e) for e in sink.events] == [CallRinging, CallRinging, CallAnswered]
    async with session(office, sink):
        await trio.sleep(1)
    ended = sink.events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.result, ended.extension, ended.uncertain) == (Result.ANSWERED, "150", True)
    assert (office.client.sessions, office.client.gaps) == (2, 2)


async def test_a_call_that_lasts_over_a_reconnect_is_not_uncertain(autojump_clock: MockClock, office: Office) -> None:
    data = stream_of("22/01")
    cut = data.index(b"Event: HangupRequest")
    bridge = "9624cbf1-b663-421d-a402-1e74ae519644"
    shown = [
        f"Channel: PJSIP/{name}\r\nChannelState: 6\r\nUniqueid: 1795219998.{n}\r\nLinkedid: 1795219998.3600\r\nBridgeId: {bridge}"
        for n, name in ((3600, "trunk-0001-000004b0"), (3601, "150-000004b1"))
    ]

    async def first(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(data[:cut])
        await peer.hang_up()

    async def second(peer: Peer) -> None:
        await peer.log_in(shown, meanwhile=data[cut:])
        await peer.stay()

    office.servers = [first, second]
    sink = Sink()
    await failure(office, sink)
    async with session(office, sink):
        await trio.sleep(1)
    ended = sink.events[-1]
    assert isinstance(ended, CallEnded)
    assert (ended.result, ended.uncertain) == (Result.ANSWERED, False)


async def test_after_a_restart_calls_of_the_database_are_ended_or_gone_on_with(
    autojump_clock: MockClock, office: Office
) -> None:
    open_call = Call(
        call_id=CallId("1795219998.1"), phase=Phase.RINGING, direction=Direction.INCOMING, caller="+375296254070",
        called="+375172000001", trunk="trunk-0001", started_at=datetime(2026, 11, 21, tzinfo=UTC), ringing=("150",),
        rang=("150",),
    )  # fmt: skip

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.stay()

    office.servers = [serve]
    sink = Sink([open_call])
    async with session(office, sink):
        await trio.sleep(1)
    (ended,) = sink.events
    assert isinstance(ended, CallEnded)
    assert (ended.call_id, ended.result, ended.uncertain) == (open_call.call_id, Result.MISSED, True)


async def test_events_a_broken_session_could_not_tell_are_told_by_the_next(
    autojump_clock: MockClock, office: Office
) -> None:
    class Failing(Sink):
        async def emit(self, events: Sequence[CallEvent]) -> None:
            if not self.batches:
                self.batches.append(())
                raise Unavailable("the tenant is restarting")
            await super().emit(events)

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(stream_of("22/01"))
        await peer.stay()

    async def quiet(peer: Peer) -> None:
        await peer.log_in()
        await peer.stay()

    office.servers = [serve, quiet]
    sink = Failing()
    await failure(office, sink)
    async with session(office, sink):
        await trio.sleep(1)
    assert [type(e) for e in sink.events] == [CallRinging, CallRinging, CallAnswered, CallEnded]


async def test_a_recorded_call_ends_without_its_cdr(autojump_clock: MockClock, office: Office) -> None:
    data = stream_of("22/10")
    frames = [f for f in data.split(b"\r\n\r\n") if b"Event: Cdr" not in f and b"Event: VarSet" not in f]

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(b"\r\n\r\n".join(frames))
        await peer.stay()

    office.servers = [serve]
    sink = Sink()
    async with session(office, sink):
        await sink.over.wait()


async def test_several_pbxes_have_their_name_in_the_call_id(
    monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    pbx = partial(Connector, kind=Kind("asterisk"), settings={})
    tenant = Tenant(TenantId("1"), "June", ZoneInfo("UTC"), "BY", "ru", pbxes=(pbx("main"), pbx("branch")))
    office = Office(monkeypatch, nursery, tenant)

    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(stream_of("22/01"))
        await peer.stay()

    office.servers = [serve]
    sink = Sink()
    async with session(office, sink):
        await trio.sleep(1)
    assert {e.call_id for e in sink.events} == {"main-1795219998.3600"}


async def test_the_connection_test(autojump_clock: MockClock, office: Office) -> None:
    async def good(peer: Peer) -> None:
        await peer.log_in()
        await peer.stay()

    async def refusing(peer: Peer) -> None:
        await peer.text_of(BANNER)
        await peer.answer(await peer.action(), "Error")

    async def no_list(peer: Peer) -> None:
        await peer.text_of(BANNER)
        await peer.answer(await peer.action())
        await peer.answer(await peer.action(), "Error")

    async def gone(peer: Peer) -> None:
        await peer.hang_up()

    office.servers = [good, refusing, no_list, gone]
    codes = [(await office.client.test()).code for _ in range(4)]
    assert codes == ["asterisk_ok", "asterisk_refused", "asterisk_no_list", "asterisk_no_manager"]


async def test_a_connection_that_nobody_takes(
    autojump_clock: MockClock, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(host: str, port: int) -> trio.abc.Stream:
        raise ConnectionRefusedError(111, "Connector refused")

    async def slow(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    for opener in (refused, slow):
        monkeypatch.setattr(trio, "open_tcp_stream", opener)
        assert isinstance(await failure(office), Unavailable)
    link = Link(TENANT, "main", None, Dial(BadSettings("a private address")))
    with pytest.raises(BadSettings):
        await AsteriskClient(link, SETTINGS).run(Sink())


def test_lines_may_have_any_name() -> None:
    names = ("North line", "Северная линия", "DAHDI/33", "DAHDI/i2", "101@acme", "i2", "office/main")
    read = AsteriskSettings(host="pbx", username="gateway", secret=SECRET, trunks=(*names, " i2 "))
    assert read.trunks == names


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "http://pbx"),
        ("host", ""),
        ("port", 0),
        ("username", "a\r\nSecret: b"),
        ("secret", "a\nb"),
        ("secret", ""),
        ("trunks", ["a,b"]),
        ("trunks", ["a&b"]),
        ("trunks", ["a\nb"]),
        ("trunks", [" "]),
        ("trunks", ["a" * 81]),
        ("originate_context", "a,b"),
        ("recording_url", "http://169.254.169.254/{file}"),
        ("recording_url", "https://[fe80::1]/{file}"),
        ("recording_url", "https://a..b/{file}"),
    ],
)
def test_bad_settings_are_refused_without_showing_secrets(field: str, value: object) -> None:
    good = {"host": "pbx", "username": "gateway", "secret": SECRET}
    with pytest.raises(ValueError) as refused:
        AsteriskSettings.model_validate(good | {field: value})
    assert field in str(refused.value)
    assert SECRET not in str(refused.value)


async def test_what_no_call_is_made_of_is_noted() -> None:
    client = AsteriskClient(Link(TENANT, "main", None, None), SETTINGS)  # type: ignore[arg-type]
    made = {"Uniqueid": "1.1", "Linkedid": "1.1", "Channel": "Message/ast_msg_queue", "ChannelState": "6"}
    now = datetime.now(UTC)
    assert client._tracker.feed({"Event": "Newchannel", **made}, now) == []
    assert client._tracker.feed({"Event": "Hangup", **made}, now) == []
    noted = client.figures()["ignored"]
    assert isinstance(noted, tuple)
    assert [(one.what, one.code) for one in noted] == [("1.1", "no_person")]
