"""The two listening sockets: handed over by systemd (sd_listen_fds(3)), or opened here.

    named people or machines               it is that one's
    at the address, or port, of a setting  it is that setting's
    one of two, and the other is known     it is the other; where neither is, the first is for people

A socket that was handed over wins over `GATEWAY_BIND` and `GATEWAY_INTAKE_BIND`. It is never shut down here, only our copy
of it is closed: systemd keeps its own, and what clients begin meanwhile waits in the kernel's queue for the next of us.
No child of ours gets either socket. Nothing here speaks to a client: `gateway.web.http.hypercorn_server` and `gateway.web.http.intake` do.
"""

import logging
import os
import select
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass

import trio

from gateway.settings import Address, SettingsError

log = logging.getLogger(__name__)

FIRST_FD = 3
MOST_FDS = 16
BACKLOG = 4096
"""What the kernel cuts to net.core.somaxconn."""
PEOPLE, MACHINES = "people", "machines"


@dataclass(frozen=True, slots=True)
class Listening:
    """Both sockets, listening and not blocking."""

    people: socket.socket
    machines: socket.socket

    @property
    def bind(self) -> Address:
        """Where people connect to."""
        return address_of(self.people)

    @property
    def intake_bind(self) -> Address:
        """Where machines connect to."""
        return address_of(self.machines)

    def close(self) -> None:
        """Closes our copies. What systemd holds goes on listening."""
        self.people.close()
        self.machines.close()


def address_of(sock: socket.socket) -> Address:
    """Host and port that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return str(host), int(port)


def listening_sockets(
    bind: Address, intake_bind: Address, environment: MutableMapping[str, str] = os.environ, first_fd: int = FIRST_FD
) -> Listening:
    """Takes what systemd hands over and opens what it does not. Raises SettingsError for a socket that nobody would
    serve, OSError with the address in its text where one cannot be opened."""
    wanted = {PEOPLE: bind, MACHINES: intake_bind}
    given = _handed_over(environment, first_fd)
    found: dict[str, socket.socket] = {}
    try:
        found |= _assigned(given, wanted)
        for role, address in wanted.items():
            if role not in found:
                found[role] = listening_socket(address)
                continue
            at = address_of(found[role])
            log.info("listening socket from systemd", extra={"listener": role, "address": shown(at)})
            if at != address:
                log.warning(
                    "systemd's socket is used in place of the setting",
                    extra={"listener": role, "address": shown(at), "setting": shown(address)},
                )
    except (OSError, SettingsError):
        for sock in (*found.values(), *(sock for _, sock in given)):
            sock.close()
        raise
    return Listening(found[PEOPLE], found[MACHINES])


def listening_socket(address: Address) -> socket.socket:
    """A bound, listening TCP socket. Raises OSError with the address in its text."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{shown(address)}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


def has_arrived(sock: socket.socket | trio.socket.SocketType) -> bool:
    """Whether something waits to be read from a connection, be it its end. Does not read, and does not wait."""
    if sock.fileno() < 0:
        return True  # closed here
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Bounded(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts when `room` returns. What comes meanwhile waits in the kernel's queue."""

    def __init__(self, listener: trio.SocketListener, room: Callable[[], Awaitable[None]]) -> None:
        self._listener, self._room = listener, room

    async def accept(self) -> trio.SocketStream:
        """The next connection."""
        await self._room()
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Closes our copy of the socket."""
        await self._listener.aclose()


def shown(address: Address) -> str:
    """HOST:PORT, as settings write it."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _handed_over(environment: MutableMapping[str, str], first_fd: int) -> list[tuple[str, socket.socket]]:
    """Name and socket of each, in the order of the unit. The variables are taken out: they are about this process."""
    pid, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    fds = range(first_fd, first_fd + min(int(count), MOST_FDS))
    for fd in fds:
        with suppress(OSError):
            os.set_inheritable(fd, False)  # before anything can start a child
    named = names.split(":") if names else []
    found: list[tuple[str, socket.socket]] = []
    problems: list[str] = []
    for number, fd in enumerate(fds):
        name = named[number] if number < len(named) else ""
        sock = _listening(fd)
        if sock is None:
            problems.append(f"systemd handed over file descriptor {fd} ({name}), which is no listening TCP socket")
        else:
            found.append((name, sock))
    if problems:
        for _, sock in found:
            sock.close()
        raise SettingsError(problems)
    return found


def _listening(fd: int) -> socket.socket | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return None
    tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        return None
    sock.setblocking(False)
    return sock


def _assigned(given: list[tuple[str, socket.socket]], wanted: dict[str, Address]) -> dict[str, socket.socket]:
    """Who serves which. One that nobody would serve lets its clients wait for ever, so it stops the start."""
    found: dict[str, socket.socket] = {}
    problems: list[str] = []
    left: list[socket.socket] = []
    for name, sock in given:
        if name not in wanted:
            left.append(sock)
        elif name in found:
            problems.append(f"systemd handed over two sockets named {name}: {shown(address_of(sock))} is too many")
        else:
            found[name] = sock
    for part in (slice(0, 2), slice(1, 2)):  # the whole address, then the port alone
        for role, address in wanted.items():
            fits = [sock for sock in left if address_of(sock)[part] == address[part]]
            if role not in found and len(fits) == 1:
                found[role] = fits[0]
                left.remove(fits[0])
    if len(given) == len(wanted) and not problems:
        found |= dict(zip((role for role in wanted if role not in found), left, strict=True))
        left = []
    problems += [
        f"systemd handed over a socket at {shown(address_of(sock))} that is neither {PEOPLE} nor {MACHINES}: "
        "name it with FileDescriptorName=, or give it the address of GATEWAY_BIND or GATEWAY_INTAKE_BIND"
        for sock in left
    ]
    if problems:
        raise SettingsError(problems)
    return found
