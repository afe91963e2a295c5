"""A PBX that reports nothing is told from one where nobody calls; what listens on a port is told to nobody."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trio.testing import MockClock

from adapters import base
from adapters.asterisk.event_rights import LINE, LOG_IN_AGAIN_S, EventRights
from adapters.asterisk.session import TEST_S, AsteriskClient
from adapters.asterisk.settings import AsteriskSettings
from adapters.asterisk.versions import asterisk_version, described, is_newer
from adapters.base import Link
from gateway.domain.errors import BadSettings, Unavailable
from gateway.domain.events import CallEnded
from gateway.domain.health import State
from tests.adapters.asterisk.test_session import (
    BANNER,
    SECRET,
    TENANT,
    Dial,
    Office,
    Peer,
    Sink,
    failure,
    office,  # noqa: F401
    session,
    stream_of,
)

SHOWN = "Channel: PJSIP/trunk-0001-{0:08x}\r\nChannelState: 6\r\nUniqueid: 1.{0}\r\nLinkedid: 1.{0}"
NO_EVENTS = (State.ATTENTION, "asterisk_no_events")
ONLINE = (State.ONLINE, "asterisk_online")


class Switchboard:
    """A PBX whose list of channels is what the test says, and which sends what the test says."""

    def __init__(self, channels: Sequence[str] = (), *, allowed: str = "", probe: bool = True) -> None:
        self.channels = list(channels)
        self.allowed = allowed
        self.probe = probe
        self.originates: list[dict[str, str]] = []
        self.logins = 0
        self.peer: Peer | None = None

    async def serve(self, peer: Peer) -> None:
        self.peer = peer
        await peer.text_of(BANNER)
        while True:
            action = await peer.action()
            match action["Action"]:
                case "CoreShowChannels":
                    await peer.answer(action)
                    for shown in self.channels:
                        await self.event("CoreShowChannel", f"ActionID: {action['ActionID']}", shown)
                    await self.event("CoreShowChannelsComplete", f"ActionID: {action['ActionID']}")
                case "ListCommands":
                    await peer.text_of(
                        f"Response: Success\r\nActionID: {action['ActionID']}\r\n{self.allowed}\r\n\r\n".encode()
                    )
                case "Originate":
                    self.originates.append(action)
                    await peer.answer(action)
                    if self.probe:
                        await self.event(
                            "OriginateResponse", "Privilege: call,all", f"ActionID: {action['ActionID']}",
                            "Response: Failure", "Reason: 0",
                        )  # fmt: skip
                case other:
                    self.logins += other == "Login"
                    await peer.answer(action)

    async def event(self, name: str, *lines: str) -> None:
        assert self.peer is not None
        await self.peer.text_of("\r\n".join((f"Event: {name}", *lines, "", "")).encode())


async def test_calls_without_an_event_are_reported_with_the_line_to_paste(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
) -> None:
    details: list[str] = []
    pbx = Switchboard([SHOWN.format(1)])
    office.servers = [pbx.serve] * 10

    def report(state: State, code: str, detail: str) -> None:
        details.append(detail)
        office.health.append((state, code))

    office.client._link = replace(office.link, report=report)
    async with session(office, Sink()):
        await trio.sleep(35)
        assert office.health[-1] == ONLINE, "one call that lasts proves nothing"
        pbx.channels = [SHOWN.format(2)]
        await trio.sleep(15)
        assert (office.health[-1], details[-1]) == (NO_EVENTS, LINE)
        await trio.sleep(3 * LOG_IN_AGAIN_S)
        assert pbx.logins >= 3, "rights are read at the login"
        assert office.health[-1] == NO_EVENTS
        assert [state for state, _ in office.health].count(State.CONNECTING) == 1
        assert office.client.gaps == 0
        await office.peers[-1].text_of(stream_of("22/01"))
        await trio.sleep(1)
        assert office.health[-1] == ONLINE
        logins = pbx.logins
        await trio.sleep(3 * LOG_IN_AGAIN_S)
        assert pbx.logins == logins


async def test_nobody_is_accused_where_nobody_calls(autojump_clock: MockClock, office: Office) -> None:  # noqa: F811
    pbx = Switchboard(["Channel: Message/ast_msg_queue\r\nUniqueid: 1.1"])
    office.servers = [pbx.serve]
    async with session(office, Sink()):
        await trio.sleep(1800)
        pbx.channels = []
        await trio.sleep(1800)
    assert office.health[-1] == ONLINE
    assert pbx.logins == 1


async def test_nobody_is_accused_where_events_come(autojump_clock: MockClock, office: Office) -> None:  # noqa: F811
    """Also when the list runs ahead of its events."""
    pbx = Switchboard()
    office.servers = [pbx.serve]
    sink = Sink()
    async with session(office, sink):
        await trio.sleep(9.9)
        pbx.channels = [SHOWN.format(1)]
        await trio.sleep(1)
        await office.peers[-1].text_of(stream_of("22/01"))
        await trio.sleep(1)
        pbx.channels = []
        await trio.sleep(600)
        asked = [a["Action"] for a in office.peers[-1].actions].count("CoreShowChannels")
        await trio.sleep(600)
        assert [a["Action"] for a in office.peers[-1].actions].count("CoreShowChannels") == asked, "it is proven"
    assert NO_EVENTS not in office.health
    assert isinstance(sink.events[-1], CallEnded)


def test_the_proof_needs_a_change_and_a_list_after_it() -> None:
    rights = EventRights([])
    assert [rights.listed(set()), rights.listed({"1"}), rights.listed({"1"})] == [False, False, True]
    rights = EventRights([])
    rights.listed({"1"})
    rights.saw_event()
    assert not rights.listed({"1"})
    assert not rights.listed({"2"})


@pytest.mark.parametrize("banner", [b"Asterisk Call Manager/1.1\r\n", b"Asterisk Call Manager/1.3\r\n"])
async def test_an_asterisk_that_is_too_old(autojump_clock: MockClock, office: Office, banner: bytes) -> None:  # noqa: F811
    async def serve(peer: Peer) -> None:
        await peer.text_of(banner)
        await peer.stay()

    office.servers = [serve, serve]
    error = await failure(office)
    assert (type(error), error.code, error.shown) == (BadSettings, "asterisk_too_old", banner.decode().strip())
    tested = await office.client.test()
    assert (tested.ok, tested.code, tested.detail) == (False, "asterisk_too_old", banner.decode().strip())


async def test_events_without_linkedid_are_too_old_whatever_the_banner_says(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.log_in()
        await peer.text_of(b"Event: Newchannel\r\nChannel: SIP/1-1\r\nUniqueid: 1.1\r\n\r\n")
        await peer.stay()

    office.servers = [serve]
    assert (await failure(office)).code == "asterisk_too_old"


def test_versions() -> None:
    known = {"1.0": 11, "1.3": 11, "2.10.6": 13, "3.2.0": 14, "5.0.4": 16, "11.0.0": 22, "12.0.0": 23, "13.0": 24}
    assert {v: asterisk_version(f"Asterisk Call Manager/{v}") for v in known} == known
    assert asterisk_version("Asterisk Call Manager") is None
    assert described("Asterisk Call Manager/11.0.0") == "Asterisk Call Manager/11.0.0 (Asterisk 22)"
    assert [is_newer(f"Asterisk Call Manager/{v}") for v in ("12.1", "13.0", "x")] == [False, True, False]


# The connection test

ORIGINATE = "Originate: Originate a call.  (Priv: originate,all)"


@pytest.mark.parametrize(
    ("allowed", "probe", "code", "finding"),
    [
        (ORIGINATE, True, "asterisk_ok", "events"),
        (ORIGINATE, False, "asterisk_no_events", ""),
        ("Ping: Keepalive command.  (Priv: <none>)", False, "asterisk_ok", "events_unknown"),
    ],
)
async def test_the_test_says_whether_events_reach_this_user(
    autojump_clock: MockClock,
    office: Office,  # noqa: F811
    allowed: str,
    probe: bool,
    code: str,
    finding: str,
) -> None:
    pbx = Switchboard(allowed=allowed, probe=probe)
    office.servers = [pbx.serve]
    tested = await office.client.test()
    assert tested.code == code
    assert (finding in [one.code for one in tested.findings]) == bool(finding)
    if code == "asterisk_no_events":
        assert tested.detail == LINE == "read = call,cdr,agent,reporting"
    for originate in pbx.originates:
        assert originate["Channel"].partition("/")[0] == "Gateway-test", "a technology that no Asterisk has"
        assert not {"Context", "Exten"} & originate.keys()


# What listens there


async def answers(stream: trio.abc.Stream, data: bytes, stays: bool) -> None:
    await stream.send_all(data)
    if stays:
        await trio.sleep_forever()


OTHERS: dict[str, tuple[bytes, bool]] = {
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", True),
    "smtp": (b"220 mail.example ESMTP Postfix\r\n", True),
    "http": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", False),
    "redis": (b"-ERR unknown command 'Action:'\r\n", True),
    "binary": (b"\x00" * 100, True),
    "silent": (b"", True),
    "closes": (b"", False),
    "half a banner": (b"Asterisk Call Man", True),
    "long line": (b"Asterisk Call Manager" + b"x" * 5000, True),
}


async def found_at(
    port: int, *, tls: bool = False, connect_timeout_s: float = 10.0
) -> tuple[base.Tested, float, Unavailable]:
    """What a test and a session say of a port, and how long the test took."""
    settings = AsteriskSettings(host="127.0.0.1", port=port, username="gateway", secret=SECRET, tls=tls)

    class Here(Dial):
        async def resolve(self, host: str, port: int) -> str:
            return host

    client = AsteriskClient(Link(TENANT, "main", None, Here()), settings)
    began = trio.current_time()
    tested = await client.test()
    took_s = trio.current_time() - began
    with pytest.raises(Unavailable) as caught:
        await client.run(Sink())
    return tested, took_s, caught.value


@pytest.mark.parametrize("other", [*OTHERS, "closed", "filtered", "tls at none"])
async def test_whatever_else_listens_is_one_answer_at_one_time(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    async def in_thread(function: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return function()

    monkeypatch.setattr(trio.to_thread, "run_sync", in_thread)  # virtual time does not wait for threads
    data, stays = OTHERS.get(other, (b"SSH-2.0-OpenSSH_9.6\r\n", True))

    async def opened(host: str, port: int) -> trio.abc.Stream:
        if other == "closed":
            raise ConnectionRefusedError(111, "Connection refused")
        if other == "filtered":
            await trio.sleep_forever()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(_serve, theirs)
        return ours

    async def _serve(stream: trio.abc.Stream) -> None:
        try:
            await answers(stream, data, stays)
            await stream.aclose()
        except trio.BrokenResourceError:
            pass

    monkeypatch.setattr(trio, "open_tcp_stream", opened)
    tested, took_s, error = await found_at(22, tls=other == "tls at none")
    assert tested == base.Tested(ok=False, code="asterisk_no_manager", detail="127.0.0.1:22")
    assert took_s == pytest.approx(TEST_S)
    assert (error.code, error.shown) == ("asterisk_no_manager", "127.0.0.1:22")
    assert not {"SSH", "Postfix", "HTTP", "ERR", "efused"} & set(error.shown.split())


def self_signed(folder: Path) -> ssl.SSLContext:
    """The server side of a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbx.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    (folder / "pbx.pem").write_bytes(made.public_bytes(pem) + key.private_bytes(pem, *plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pbx.pem")
    return context


@pytest.mark.slow
@pytest.mark.parametrize(
    ("banner", "code"), [(BANNER, "asterisk_certificate"), (b"220 mail\r\n", "asterisk_no_manager")]
)
async def test_a_certificate_is_spoken_of_only_where_an_asterisk_manager_has_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, banner: bytes, code: str
) -> None:
    context = self_signed(tmp_path)
    received: list[bytes] = []

    async def serve(plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
        try:
            await stream.send_all(banner)
            received.append(bytes(await stream.receive_some()))
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    monkeypatch.setattr("adapters.asterisk.session.TEST_S", 2.0)
    port = listeners[0].socket.getsockname()[1]
    settings = AsteriskSettings(host="127.0.0.1", port=port, username="gateway", secret=SECRET, tls=True)

    class Here(Dial):
        async def resolve(self, host: str, port: int) -> str:
            return host

    tested = await AsteriskClient(Link(TENANT, "main", None, Here()), settings).test()
    assert (tested.ok, tested.code) == (False, code)
    assert b"".join(received) == b"", "nothing is sent over it"
