"""Where a tenant's addresses may lead: the policy, and the dialer that applies it to names on every connect.

A name is resolved once per connect and the same address that was judged is dialled (`connecting.py`), while TLS and the
Host header stay with the name: a name that changes between the look-up and the connect (DNS rebinding) gains nothing.
No connection may be made to an address that was not judged.

Opens no connection. Read `connecting.py` next.
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import trio

from gateway.domain.errors import BadSettings, Unavailable
from gateway.domain.reasons import reason

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

WEB_PORTS = frozenset({443, 8443})
"""The ports an address outside the allowed nets may be requested on, by https alone."""

_REFUSED: tuple[tuple[IPNetwork, str], ...] = tuple(
    (ip_network(net), why)
    for net, why in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "metadata",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved",
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "reserved",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarking",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
        "::1/128": "loopback",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
        "2001::/23": "reserved",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32": "documentation",
        "3fff::/20": "documentation",
    }.items()
)
_LOOK_UP = {socket.EAI_NONAME: "no_such_name", socket.EAI_NODATA: "no_such_name", socket.EAI_AGAIN: "names_away"}
_GLOBAL_V6 = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def _canonical(address: IPAddress) -> IPAddress:
    """An IPv4 address written as IPv6 is judged, and compared, as the IPv4 address it is."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _hidden_v4(address: IPAddress) -> IPv4Address | None:
    """The IPv4 address that a translated IPv6 address leads to in the end."""
    if isinstance(address, IPv6Address):
        if address in _SIX_TO_FOUR:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_local(address: IPAddress) -> bool:
    """True for an address of this machine: the kernel lets one bind to its own addresses and to no others."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class AddressPolicy:
    """Which addresses tenants may make us connect to. Built by the composition root, from settings and listeners."""

    allowed: tuple[IPNetwork, ...] = ()
    own: frozenset[tuple[IPAddress, int]] = frozenset()

    def inside(self, address: IPAddress) -> bool:
        """True within the nets that the operator has opened."""
        return any(net.version == address.version and address in net for net in self.allowed)

    def _is_own(self, address: IPAddress, port: int) -> bool:
        listening = [at for at, own_port in self.own if own_port == port]
        return address in listening or (any(at.is_unspecified for at in listening) and _is_local(address))

    def refusal(self, address: IPAddress, port: int) -> str | None:
        """Why this address is forbidden, in a word; None where it is not."""
        address = _canonical(address)
        if self._is_own(address, port):
            return "our own listener"
        if address.is_unspecified:
            return "this host"
        if self.inside(address):
            return None
        if (hidden := _hidden_v4(address)) is not None:
            return self.refusal(hidden, port)
        for net, why in _REFUSED:
            if net.version == address.version and address in net:
                return why
        if isinstance(address, IPv6Address) and address not in _GLOBAL_V6:
            return "reserved"
        return None

    def web_refusal(self, address: IPAddress, port: int, *, tls: bool) -> str | None:
        """The same for an HTTP request: outside the allowed nets only https, on its usual ports."""
        if (why := self.refusal(address, port)) is not None:
            return why
        if self.inside(_canonical(address)) or (tls and port in WEB_PORTS):
            return None
        return f"port {port}" if tls else "plain http"


class SafeDialer:
    """The `Dialer` of the whole program: looks names up, and hands out only addresses that the policy allows.

    `own` lists our listeners and database as (address, port), never to be reached whatever else is allowed; an
    unspecified address (`0.0.0.0`, `::`) stands for every address of this machine. `keep_off` adds one that is known
    only once it is open.
    """

    def __init__(
        self, *, allowed_private_nets: Iterable[IPNetwork | str] = (), own: Iterable[tuple[str, int]] = ()
    ) -> None:
        self.policy = AddressPolicy(tuple(ip_network(net) for net in allowed_private_nets))
        for address, port in own:
            self.keep_off(address, port)

    def keep_off(self, address: str, port: int) -> None:
        """From now on (address, port) is ours and forbidden."""
        entry = (_canonical(ip_address(address)), port)
        self.policy = AddressPolicy(self.policy.allowed, self.policy.own | {entry})

    async def resolve(self, host: str, port: int) -> str:
        """The first address of `host` that may be dialled, on any port, by whatever protocol."""
        found = await _look_up(host, port)
        return _pass(host, [(a, self.policy.refusal(a, port)) for a in found])[0]

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        """Every address of `host` that an HTTP request may be sent to."""
        found = await _look_up(host, port)
        return _pass(host, [(a, self.policy.web_refusal(a, port, tls=tls)) for a in found])


def _pass(host: str, judged: Sequence[tuple[IPAddress, str | None]]) -> list[str]:
    if allowed := [str(address) for address, why in judged if why is None]:
        return allowed
    # The address stays out of the text: what inner names resolve to is not the tenant's to learn.
    reasons = sorted({why for _, why in judged if why is not None})
    raise BadSettings(
        reason("forbidden", host=host[:100], why=", ".join(reasons)),
        person="The address leads to a place that may not be connected to. Enter another address in the settings.",
    )


async def _look_up(host: str, port: int) -> list[IPAddress]:
    """Both A and AAAA, in the system's order. Numeric spellings such as `0x7f.1` come out as what they mean."""
    name, failure = host.rstrip("."), None
    try:
        if not name.isprintable() or not name or " " in name:
            raise UnicodeError
        rows = await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        failure = reason(_LOOK_UP.get(error.errno or 0, "no_look_up"), host=host[:100])
    except ValueError:  # what cannot be a name: such as an empty or overlong label
        raise BadSettings(reason("not_a_name", host=repr(host[:100]))) from None
    if failure is not None:
        raise Unavailable(failure)
    return list(dict.fromkeys(ip_address(row[4][0]) for row in rows))
