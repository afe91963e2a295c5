"""The client: what it makes of trouble on the wire, its limits, and the secrets it keeps."""

import base64
import gzip
import logging
import ssl
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.base import Attempt
from adapters.http import BODY_LIMIT, SHOWN_LIMIT, Http, SafeDialer, Timeouts, connecting
from gateway.domain.errors import BadSettings, GatewayError, LocalProtocolError, Replaced, Unavailable
from gateway.domain.secret import Secret
from tests.adapters.conftest import Remote, Reply, as_json
from tests.adapters.http.test_addresses import Names

QUICK = Timeouts(connect_s=0.5, read_s=0.1, whole_s=0.25)
CALM = Timeouts(connect_s=2, read_s=2, whole_s=5)
TOKEN = "7001002000:Canary-se_cret/+ü&"
"""As awkward as a secret can be; every spelling of it must be masked."""


def new_attempt() -> Attempt:
    return Attempt(kind="k", key="1", lane="c", body={})


def client(remote: Remote | str, timeouts: Timeouts = CALM, at_once: int = 8) -> Http:
    url = remote if isinstance(remote, str) else remote.url
    return Http(url, dial=None, timeouts=timeouts, secrets=[Secret(TOKEN)], at_once=at_once)


def everything_of(error: BaseException | None) -> Iterator[str]:
    """All that a log, a page or a debugger would show of an exception and of those it hangs on."""
    while error is not None:
        yield from traceback.format_exception(error)
        yield f"{error!r} {error} {vars(error)}"
        yield from everything_of(error.__cause__)
        error = error.__context__


async def unused_port() -> str:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"


async def test_an_answer_and_what_is_written_down(remote: Remote) -> None:
    remote.replies = [as_json({"ok": TOKEN}), Reply(404, b"a\0b")]
    attempt = new_attempt()
    async with client(remote) as http:
        answer = await http.send("POST", "/x", form={"clientId": TOKEN, "event": "{}"}, attempt=attempt)
        assert (answer.status, answer.cut, attempt.status) == (200, False, 200)
        assert remote.seen[0].form() == {"clientId": TOKEN, "event": "{}"}
        assert attempt.request == f"POST {remote.url}/x\nclientId=***\nevent={{}}"
        assert attempt.response == '{"ok": "***"}'
        await http.send("POST", "/y", payload={"a": 1}, attempt=attempt)
    assert attempt.request.endswith(f'\n\nPOST {remote.url}/y\n{{"a": 1}}')
    assert (attempt.status, attempt.response) == (404, "a\ufffdb")
    assert remote.connections == 1
    assert "accept-encoding" in remote.seen[0].headers
    assert remote.seen[0].headers["accept-encoding"] == "identity"


async def test_nothing_is_opened_before_first_use_and_all_is_closed_after(remote: Remote) -> None:
    async with client(remote) as http:
        assert http._wires is None
    async with client(remote) as http:
        remote.replies = [Reply()]
        await http.send("GET", "/")
        held = http._wires
        assert held is not None
        assert len(held.resting) == 1
    assert held.resting == []


async def test_a_header_that_is_no_ascii_is_ours_to_refuse(remote: Remote) -> None:
    async with client(remote) as http:
        with pytest.raises(LocalProtocolError) as caught:
            await http.send("GET", "/", headers={"x-api-key": "ключ"})
    assert "ключ" not in repr(caught.value)
    assert caught.value.__context__ is None
    assert remote.connections == 0


async def slow(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(100):
        await stream.send_all(b".")
        await trio.sleep(0.02)


async def huge(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
    while True:
        await stream.send_all(b"x" * 262_144)


async def broken_off(stream: trio.SocketStream) -> None:
    await stream.send_all(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"tok": "' + TOKEN.encode())


async def nonsense(stream: trio.SocketStream) -> None:
    await stream.send_all(f"{TOKEN} is not HTTP\r\n\r\n".encode())


@pytest.mark.parametrize(
    "reply", [Reply(hang=True), Reply(drop=True), Reply(raw=slow), Reply(raw=broken_off), Reply(raw=nonsense)]
)
async def test_trouble_after_the_request_was_sent_leaves_a_doubt(remote: Remote, reply: Reply) -> None:
    remote.replies = [reply]
    attempt = new_attempt()
    async with client(remote, QUICK) as http:
        with pytest.raises(Unavailable) as raised:
            await http.send("POST", f"/bot{TOKEN}/x", payload={"t": TOKEN}, attempt=attempt)
    assert raised.value.certain is False
    assert raised.value.__context__ is None
    shown = [*everything_of(raised.value), attempt.request, attempt.response, repr(attempt)]
    assert not any("Canary" in text for text in shown)
    assert attempt.request == f'POST {remote.url}/bot***/x\n{{"t": "***"}}'


@pytest.mark.parametrize("url", ["refused", "https"])
async def test_no_connection_is_certain(remote: Remote, url: str) -> None:
    address = await unused_port() if url == "refused" else remote.url.replace("http:", "https:")
    attempt = new_attempt()
    async with client(address) as http:
        with pytest.raises(Unavailable) as raised:
            await http.send("POST", f"/bot{TOKEN}/x", attempt=attempt)
    assert raised.value.certain is True
    assert not any("Canary" in text for text in everything_of(raised.value))
    assert attempt.request.startswith("POST")
    assert attempt.status is None


async def test_waiting_for_a_free_connection_ends_and_is_certain(remote: Remote, nursery: trio.Nursery) -> None:
    remote.replies = [Reply(hang=True)]
    async with client(remote, QUICK, at_once=1) as http:
        failures: list[GatewayError] = []

        async def one() -> None:
            try:
                await http.send("GET", "/")
            except GatewayError as error:
                failures.append(error)

        async with trio.open_nursery() as inner:
            inner.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            http._timeouts = Timeouts(connect_s=0.5, read_s=0.5, whole_s=0.05)
            inner.start_soon(one)
    assert [isinstance(f, Unavailable) and f.certain for f in failures] == [True, False]
    assert len(remote.seen) == 1


async def test_a_cancelled_request_gives_its_place_back(remote: Remote) -> None:
    remote.replies = [Reply(hang=True), Reply(hang=True), Reply(200, b"ok")]
    async with client(remote, CALM, at_once=1) as http:
        for _ in range(2):
            with trio.move_on_after(0.02):
                await http.send("GET", "/")
        assert (await http.send("GET", "/")).text == "ok"


async def test_a_huge_answer_is_cut(remote: Remote) -> None:
    remote.replies = [Reply(raw=huge)]
    attempt = new_attempt()
    async with client(remote) as http:
        answer = await http.send("GET", "/", attempt=attempt)
    assert answer.cut
    assert len(answer.text) == BODY_LIMIT
    assert len(attempt.response) == SHOWN_LIMIT + 1


async def test_a_compressed_answer_is_not_blown_up(remote: Remote) -> None:
    packed = gzip.compress(b"0" * 50_000_000)
    remote.replies = [Reply(200, packed, (("content-encoding", "gzip"),))]
    async with client(remote) as http:
        answer = await http.send("GET", "/")
    assert (len(answer.raw), answer.cut) == (BODY_LIMIT, True)


async def test_a_redirect_is_an_answer(remote: Remote) -> None:
    remote.replies = [Reply(302, b"", (("location", "http://169.254.169.254/latest"), ("set-cookie", "a=b")))] * 2
    async with client(remote) as http:
        assert (await http.send("GET", "/")).status == 302
        await http.send("GET", "/")
    assert [seen.target for seen in remote.seen] == ["/", "/"]
    assert "cookie" not in remote.seen[1].headers


async def test_what_cannot_be_written_as_http(remote: Remote) -> None:
    async with client(remote) as http:
        with pytest.raises(LocalProtocolError) as raised:
            await http.send("GET", "/", headers={"x-key": f"{TOKEN[:20]}\r\nx: y"})
    assert not any("Canary" in text for text in everything_of(raised.value))


@pytest.mark.parametrize("url", ["https://u:Canary-1@a.example", "gopher://a.example", "https://", "nothing"])
async def test_addresses_that_are_none(url: str) -> None:
    async with Http(url, dial=None, timeouts=CALM) as http:
        with pytest.raises(BadSettings) as raised:
            await http.send("GET", "/")
    assert not any("Canary" in text for text in everything_of(raised.value))


async def test_no_log_line_holds_a_url(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    remote.replies = [Reply(200, b"ok")]
    async with client(remote) as http:
        await http.send("GET", "/bot7001002000:Canary/getMe")
    assert "Canary" not in caplog.text


@pytest.mark.parametrize(
    "spelling",
    [
        TOKEN,
        "7001002000%3ACanary-se_cret%2F%2B%C3%BC%26",
        "7001002000%3acanary".replace("canary", "Canary") + "-se_cret%2f%2b%c3%bc%26",
        "7001002000:Canary-se_cret/+\\u00fc&",
        "7001002000:Canary-se_cret/+ü&amp;",
    ],
)
def test_every_spelling_of_a_secret_is_masked_and_before_the_cut(spelling: str) -> None:
    http = client("http://127.0.0.1:9")
    assert http.shown(f"<{spelling}>") == "<***>"
    assert "7001002000" not in http.shown("x" * (SHOWN_LIMIT - 10) + spelling)
    assert TOKEN not in repr(http)


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server side of a certificate for crm.example, whose maker the client trusts for this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crm.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("crm.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    trusting = ssl.create_default_context(cadata=pem)
    monkeypatch.setattr(connecting, "_new_tls_context", lambda: trusting)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _load(served, pem, key.private_bytes(serialization.Encoding.PEM, *plain).decode())
    return served


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)


@pytest.mark.parametrize(("host", "trusted"), [("crm.example.", True), ("other.example", False)])
async def test_tls_keeps_the_name_while_the_checked_address_is_dialled(
    authority: ssl.SSLContext, nursery: trio.Nursery, host: str, trusted: bool
) -> None:
    remote = Remote()
    names: list[str | None] = []
    authority.sni_callback = lambda _, name, __: names.append(name)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            await remote.serve(stream)  # type: ignore[arg-type]
        except (trio.BrokenResourceError, ssl.SSLError):
            return

    listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, authority)
    port = listeners[0].transport_listener.socket.getsockname()[1]
    trio.socket.set_custom_hostname_resolver(Names({host.rstrip("."): [["127.0.0.1"]]}))
    remote.replies = [Reply(200, b"ok")]
    dialer = SafeDialer(allowed_private_nets=["127.0.0.0/8"])
    async with Http(f"https://{host}:{port}", dial=dialer, timeouts=CALM) as http:
        if trusted:
            assert (await http.send("GET", "/")).text == "ok"
            assert remote.seen[0].headers["host"] == f"crm.example:{port}"
        else:
            with pytest.raises(Unavailable) as raised:
                await http.send("GET", "/")
            assert raised.value.certain
    assert names == [host.rstrip(".")]


async def test_the_context_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connecting.tls_context() is connecting.tls_context()
    assert connecting.tls_context().verify_mode is ssl.CERT_REQUIRED
    assert connecting.tls_context().check_hostname


def test_the_token_of_these_tests_would_be_seen() -> None:
    """The canary proves something only if it can be found where it is not masked."""
    assert any("Canary" in text for text in everything_of(Unavailable(TOKEN)))
    assert "Canary" not in base64.b64encode(TOKEN.encode()).decode()


@pytest.mark.parametrize(("allowed", "body"), [(0, "{}"), (1, "x" * 200_000)])
async def test_what_may_not_be_sent_any_more_does_not_arrive(remote: Remote, allowed: int, body: str) -> None:
    """Before anything of it leaves, and before each further part of a large one does."""
    requested = 0

    def permit() -> None:
        nonlocal requested
        requested += 1
        if requested > allowed:
            raise Replaced

    async with client(remote) as http:
        attempt = Attempt(kind="k", key="1", lane="c", body={}, permit=permit)
        with pytest.raises(Replaced):
            await http.send("POST", "/x", form={"event": body}, attempt=attempt)
        assert requested == allowed + 1
        assert remote.seen == []
        await http.send("POST", "/y", form={"event": "{}"}, attempt=new_attempt())
    assert [seen.target for seen in remote.seen] == ["/y"]
