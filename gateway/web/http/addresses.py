"""The client's address of a request behind trusted proxies, and the part of it that identifies one client. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]


def client_address(peer: str, forwarded_for: str, trusted: Networks) -> str:
    """The client's address: the socket's, or behind trusted proxies the last hop that is not one of them."""
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    while is_in(peer, trusted) and hops:
        peer = hops.pop()
    return peer


def is_in(address: str, networks: Networks) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)


def network_of(address: str, *, bits4: int = 24, bits6: int = 64) -> str:
    """The network around an address: what one attacker has plenty of counts as one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return "unknown"
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip_network(f"{ip}/{bits4 if ip.version == 4 else bits6}", strict=False))


def source_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 host has to itself."""
    return network_of(address, bits4=32)
