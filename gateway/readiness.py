"""What systemd is told: datagrams to NOTIFY_SOCKET, and nothing at all without one.

See sd_notify(3). The socket's address comes from systemd alone. Read `gateway.app` for when each is sent.
"""

import logging
import os
import socket

log = logging.getLogger(__name__)


def tell_systemd(*lines: str) -> None:
    """Sends one datagram, such as `tell_systemd("READY=1", "STATUS=serving")`. Never raises and never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        log.warning("systemd could not be told", extra={"reason": error.strerror})


def watchdog_s() -> float | None:
    """How often systemd wants a sign of life, in seconds, or None. The half of WATCHDOG_USEC, as sd_notify(3) advises."""
    text = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 2_000_000 if text.isdecimal() and for_us else None
