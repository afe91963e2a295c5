"""Looks once a day at the certificate of our own public address: one that ends soon, or has ended, is trouble for operators.

Only the dates are read, also of a certificate that is not valid: whether outside systems accept it is theirs to say. An address that
cannot be reached from here is no trouble: it may be reachable from outside alone.
"""

import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import trio
from cryptography import x509

from actors.runtime.directory import Slot, utc_now
from gateway.domain.health import State

log = logging.getLogger(__name__)

WARN_BEFORE = timedelta(days=14)
LOOK_S, AGAIN_S = 24 * 3600.0, 3600.0
"""Between two looks, and after one that found nothing."""
TIMEOUT_S = 20.0


def has_certificate(public_url: str) -> bool:
    """Whether there is anything to look at."""
    return urlsplit(public_url).scheme == "https"


async def end_of_certificate(host: str, port: int) -> datetime:
    """When the certificate of a server ends. Raises OSError, ssl.SSLError or trio.BrokenResourceError."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only the dates are read
    raw = await trio.open_tcp_stream(host, port)
    async with raw:
        stream = trio.SSLStream(raw, context, server_hostname=host, https_compatible=True)
        await stream.do_handshake()
        found = stream.getpeercert(binary_form=True)
    if not isinstance(found, bytes):
        raise OSError("the server showed no certificate")
    return x509.load_der_x509_certificate(found).not_valid_after_utc


class CertificateWatch:
    """One for the process. `public_url` is an https address."""

    def __init__(self, public_url: str, *, now: Callable[[], datetime] = utc_now) -> None:
        address = urlsplit(public_url)
        self._host, self._port = address.hostname or "", address.port or 443
        self._now = now

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        while True:
            seen = await self.look(slot)
            await trio.sleep(LOOK_S if seen else AGAIN_S)

    async def look(self, slot: Slot) -> bool:
        """One look. Returns whether the certificate was seen."""
        try:
            with trio.fail_after(TIMEOUT_S):
                ends = await end_of_certificate(self._host, self._port)
        except (OSError, ssl.SSLError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as error:
            slot.report(State.ONLINE, "certificate_not_seen", f"{self._host}:{self._port}: {type(error).__name__}")
            return False
        left, when = ends - self._now(), f"{self._host} {ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if left > WARN_BEFORE:
            slot.report(State.ONLINE, "certificate_valid", when)
        elif left > timedelta():
            slot.report(State.DEGRADED, "certificate_ends_soon", when)
        else:
            slot.report(State.ATTENTION, "certificate_ended", when)
        if left <= WARN_BEFORE:
            log.warning("the certificate of the public address ends soon or has ended", extra={"reason": when})
        return True
