"""The address from which this machine connects to another one. Sends nothing: a datagram socket is only given its peer."""

import ipaddress
import socket

import trio

ANYWHERE = "198.51.100.1"
"""A documentation address, used only to find the default route."""


async def local_address_towards(host: str, port: int, *, within_s: float = 1.0) -> str | None:
    """IPv4 alone, which is what manager.conf's masks are about. None where there is no route, no such name, or no time."""
    with trio.move_on_after(within_s):
        try:
            try:
                address = str(ipaddress.IPv4Address(host))
            except ValueError:
                found = await trio.socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_DGRAM)
                address = str(found[0][4][0])
            with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                await probe.connect((address, port or 5038))
                return str(probe.getsockname()[0])
        except (OSError, UnicodeError, IndexError):
            return None
    return None
