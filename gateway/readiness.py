"""Notifications to systemd: datagrams to NOTIFY_SOCKET, and nothing at all without one.

    starting   EXTEND_TIMEOUT_USEC while the loop turns: a database that is away, or a long migration, is waited for
    serving    READY=1 once; then WATCHDOG=1 for as long as `Vitals` finds nothing wrong
    stopping   STOPPING=1

A STATUS line goes along whenever it has changed. See sd_notify(3). The socket's address comes from systemd alone. Read
`gateway.vitals` for what withholds the watchdog, and `gateway.app` for when each phase begins.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import NoReturn

import trio

log = logging.getLogger(__name__)

EXTEND_S = 30.0
"""How long a start may be silent: longer, and the loop is stuck."""
SPEAK_EVERY_S = 5.0


def notify_systemd(*lines: str) -> None:
    """Sends one datagram, such as `tell_systemd("READY=1", "STATUS=serving")`. Never raises and never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(" ".join(line.split()) for line in lines).encode(), address)
    except OSError as error:
        log.warning("systemd could not be notified", extra={"reason": error.strerror})


def watchdog_s() -> float | None:
    """Seconds between watchdog messages, or None. The half of WATCHDOG_USEC, as sd_notify(3) advises."""
    text = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 2_000_000 if text.isdecimal() and for_us else None


class Notifier:
    """Notifies systemd for as long as the process lives. `status` is a line for a person, `ailment` why the process
    should not live on, empty while all is well; both are called anew each time."""

    def __init__(self) -> None:
        self.status: Callable[[], str] = lambda: "starting"
        self.ailment: Callable[[], str] = str
        self._serving = self._stopping = False
        self._said = ""
        self._ill = ""

    async def run(self) -> NoReturn:
        """Until cancelled. The event loop itself sends each notification, so a stuck loop sends none."""
        watchdog = watchdog_s()
        while True:
            if self._serving and not self._stopping:
                self._feed(watchdog)
            elif not self._stopping:
                self._notify(f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}")
            await trio.sleep(min(watchdog or SPEAK_EVERY_S, SPEAK_EVERY_S))

    def ready(self) -> None:
        """The gateway serves. From now on systemd expects watchdog messages."""
        self._serving = True
        self._notify("READY=1")

    def stopping(self) -> None:
        """The gateway finishes the work in progress."""
        self._stopping = True
        notify_systemd("STOPPING=1", "STATUS=finishing what is in hand")

    def _feed(self, watchdog: float | None) -> None:
        ill = self.ailment()
        if ill != self._ill and ill:
            log.error("watchdog not fed", extra={"reason": ill})
        self._ill = ill
        if ill:
            notify_systemd(f"STATUS=stuck, to be started again: {ill}")
            self._said = ""
        else:
            self._notify(*(["WATCHDOG=1"] if watchdog is not None else []))

    def _notify(self, *lines: str) -> None:
        status = self.status()
        news = [f"STATUS={status}"] if status != self._said else []
        self._said = status
        if lines or news:
            notify_systemd(*lines, *news)
