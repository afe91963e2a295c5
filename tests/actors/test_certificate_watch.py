"""The certificate of the public address: its end is seen in time, and an address that cannot be reached is no trouble."""

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actors.certificate_watch import CertificateWatch, end_of_certificate, has_certificate
from actors.notices import installation_troubles
from actors.runtime.directory import Slot
from gateway.domain.health import State

ENDS = datetime(2031, 5, 20, 12, 0, tzinfo=UTC)


def server_context(folder: Path) -> ssl.SSLContext:
    """A server's, with a certificate of its own that ends at ENDS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.example")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(ENDS - timedelta(days=3650)).not_valid_after(ENDS).sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def watch(port: int, now: datetime) -> tuple[Slot, bool]:
    slot = Slot("system/certificate", "certificate")
    return slot, await CertificateWatch(f"https://127.0.0.1:{port}/x", now=lambda: now).look(slot)


async def test_the_end_is_seen_two_weeks_before(tmp_path: Path) -> None:
    context = server_context(tmp_path)

    async def serve(stream: trio.SocketStream) -> None:
        encrypted = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await encrypted.do_handshake()
        assert await encrypted.receive_some() == b"", "nothing is sent"

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        assert await end_of_certificate("127.0.0.1", port) == ENDS
        for before, state, code, kinds in (
            (timedelta(days=14, minutes=1), State.ONLINE, "certificate_valid", []),
            (timedelta(days=14), State.DEGRADED, "certificate_ends_soon", ["certificate"]),
            (timedelta(seconds=1), State.DEGRADED, "certificate_ends_soon", ["certificate"]),
            (timedelta(), State.ATTENTION, "certificate_ended", ["certificate"]),
            (-timedelta(days=400), State.ATTENTION, "certificate_ended", ["certificate"]),
        ):
            slot, seen = await watch(port, ENDS - before)
            assert (seen, slot.health.state, slot.health.code) == (True, state, code)
            assert slot.health.detail == "127.0.0.1 2031-05-20 12:00 UTC"
            assert [one.kind for one in installation_troubles([slot])] == kinds
        nursery.cancel_scope.cancel()


async def _close(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def _talk_plainly(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.aclose()


@pytest.mark.parametrize("serve", [_close, _talk_plainly])
async def test_an_address_that_shows_none_is_no_trouble(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
        slot, seen = await watch(listener.socket.getsockname()[1], ENDS)
        assert (seen, slot.health.state, slot.health.code) == (False, State.ONLINE, "certificate_not_seen")
        assert installation_troubles([slot]) == []
        nursery.cancel_scope.cancel()


async def test_one_that_refuses_connections_neither() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    slot, seen = await watch(port, ENDS)
    assert (seen, slot.health.code) == (False, "certificate_not_seen")


def test_only_https_has_one() -> None:
    assert has_certificate("https://gateway.example")
    assert not has_certificate("http://127.0.0.1:8000")
