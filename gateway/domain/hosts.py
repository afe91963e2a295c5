"""What can be no host to connect to, whatever the network: names that no name server takes, addresses that are nobody's server.

Whether one that can be may be connected to, the dialer decides on every connect (`adapters/http/addresses.py`). Pure.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
_LONGEST = 253
_METADATA = frozenset({IPv4Address("168.63.129.16"), IPv6Address("fd00:ec2::254")})
"""Of clouds, beside those that are link-local."""

IMPOSSIBLE = (
    "this cannot be the name of a server: letters, digits and hyphens with dots between them are expected",
    "так сервер называться не может: нужны буквы, цифры и дефисы, между ними точки",
)
NOBODYS = (
    "this address is no server's: it is link-local, a cloud's metadata, multicast or unspecified",
    "по этому адресу сервера быть не может: он действует в одном сегменте сети, служебный адрес облака, групповой или нулевой",
)


def host_problem(host: str) -> tuple[str, str] | None:
    """What is wrong with a name or literal address, in English and Russian; None where nothing is."""
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        name = host.removesuffix(".")
        labels = name.split(".")
        # What is digits alone at its end is read as an address by some and as a name by nobody.
        right = len(name) <= _LONGEST and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
        return None if right else IMPOSSIBLE
    address = (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
    nobodys = address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA
    return NOBODYS if nobodys else None


def host_of_origin(origin: str) -> str:
    """`name[:port]` of `https://name[:port]`, in lower case; empty for what is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
