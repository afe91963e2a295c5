"""Where tenants may make us connect to: the corpus of addresses, and names that change their mind."""

import socket
from ipaddress import ip_address
from typing import Any

import pytest
import trio

from adapters.base import Dialer
from adapters.http import AddressPolicy, Http, SafeDialer, Timeouts
from gateway.domain.errors import BadSettings, GatewayError, Unavailable

PUBLIC = "93.184.216.34"
TIMEOUTS = Timeouts(connect_s=1, read_s=1, whole_s=2)

FORBIDDEN = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:a9fe:a9fe::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
]
ALLOWED = [
    "93.184.216.34",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::",
]


class Names(trio.abc.HostnameResolver):
    """A resolver that answers from a table; a list of answers is used up one by one."""

    def __init__(self, table: dict[str, list[list[str]]]) -> None:
        self.table = table
        self.requested: list[Any] = []

    async def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        self.requested.append(host)
        answers = self.table.get(host.decode() if isinstance(host, bytes) else host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
            for a in found
        ]  # fmt: skip

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("never asked")


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were really connected to; nothing leaves the machine."""
    seen: list[str] = []

    async def open_tcp_stream(host: str, port: int) -> Any:
        seen.append(host)
        raise OSError("refused")

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    return seen


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_inner_address_is_reached(address: str) -> None:
    assert AddressPolicy().refusal(ip_address(address), 443) is not None


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are(address: str) -> None:
    assert AddressPolicy().refusal(ip_address(address), 443) is None


@pytest.mark.parametrize(
    ("address", "port", "tls", "passes"),
    [
        (PUBLIC, 443, True, True),
        (PUBLIC, 8443, True, True),
        (PUBLIC, 443, False, False),
        (PUBLIC, 80, False, False),
        (PUBLIC, 22, True, False),
        ("10.1.2.3", 80, False, True),
        ("10.1.2.3", 9001, True, True),
        ("::ffff:10.1.2.3", 80, False, True),
        ("10.2.0.1", 443, True, False),
        ("fd00::5", 80, False, True),
    ],
)
def test_ports_and_plain_http_are_for_the_nets_the_operator_opened(
    address: str, port: int, tls: bool, passes: bool
) -> None:
    policy = SafeDialer(allowed_private_nets=["10.1.0.0/16", "fd00::/64"]).policy
    assert (policy.web_refusal(ip_address(address), port, tls=tls) is None) is passes


@pytest.mark.parametrize(
    ("own", "address", "refused"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.9", False),
        ("0.0.0.0", "127.0.0.9", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("0.0.0.0", "10.255.255.1", False),
        ("203.0.113.7", "203.0.113.7", True),
    ],
)
async def test_our_own_listeners_are_never_reached(own: str, address: str, refused: bool) -> None:
    dialer = SafeDialer(allowed_private_nets=["0.0.0.0/0", "::/0"], own=[(own, 8000)])
    assert (dialer.policy.refusal(ip_address(address), 8000) is not None) is refused
    assert dialer.policy.refusal(ip_address(address), 8001) is None
    if refused:
        with pytest.raises(BadSettings):
            await dialer.resolve(address, 8000)


async def test_a_listener_that_opens_later_is_kept_off_too() -> None:
    dialer = SafeDialer(allowed_private_nets=["127.0.0.0/8"])
    assert await dialer.resolve("127.0.0.1", 9000) == "127.0.0.1"
    dialer.keep_off("127.0.0.1", 9000)
    with pytest.raises(BadSettings):
        await dialer.resolve("127.0.0.1", 9000)
    assert await dialer.resolve("127.0.0.1", 9001) == "127.0.0.1"


async def test_the_unspecified_address_is_this_machine_whatever_is_allowed() -> None:
    dialer = SafeDialer(allowed_private_nets=["0.0.0.0/0"])
    with pytest.raises(BadSettings):
        await dialer.resolve("0.0.0.0", 5038)


@pytest.mark.parametrize(
    "url",
    [
        "https://0x7f.1",
        "https://0177.0.0.1",
        "https://127.1",
        "https://2130706433",
        "https://127.0.0.1.",
        "https://[::ffff:10.0.0.1]",
        "https://[64:ff9b::a00:1]",
        "https://[2002:7f00:1::]",
        "https://[fe80::1]",
        "https://inner.example",
        "https://inner.example.",
        "https://внутри.example",
        "http://outer.example",
        "https://outer.example:25",
        "https://user:pw@outer.example",
        "https://outer.example@inner.example",
        "ftp://outer.example",
        "https://" + "a" * 70 + ".example",
    ],
)
async def test_odd_spellings_lead_nowhere(url: str, dialled: list[str]) -> None:
    inner = [["10.0.0.1"]]
    idn = "внутри.example".encode("idna").decode()
    trio.socket.set_custom_hostname_resolver(Names({"inner.example": inner, "outer.example": [[PUBLIC]], idn: inner}))
    async with Http(url, dial=SafeDialer(), timeouts=TIMEOUTS) as http:
        with pytest.raises(BadSettings):
            await http.send("GET", "/")
    assert dialled == []


async def test_a_name_that_changes_its_mind_gains_nothing(dialled: list[str]) -> None:
    names = Names({"crm.example": [[PUBLIC], ["127.0.0.1"], ["::ffff:127.0.0.1", PUBLIC]]})
    trio.socket.set_custom_hostname_resolver(names)
    async with Http("https://crm.example", dial=SafeDialer(), timeouts=TIMEOUTS) as http:
        with pytest.raises(Unavailable) as first:
            await http.send("GET", "/")
        assert first.value.certain
        assert dialled == [PUBLIC], "the address that was judged is the one that is dialled"
        assert len(names.requested) == 1, "one look-up for one connect"
        with pytest.raises(BadSettings) as second:
            await http.send("GET", "/")
        assert "127.0.0.1" not in str(second.value)
        with pytest.raises(Unavailable):
            await http.send("GET", "/")
    assert dialled == [PUBLIC, PUBLIC]


async def test_every_allowed_address_is_tried_and_no_other(dialled: list[str]) -> None:
    found = ["2606:4700::1111", "10.0.0.1", PUBLIC]
    trio.socket.set_custom_hostname_resolver(Names({"crm.example": [found]}))
    async with Http("https://crm.example", dial=SafeDialer(), timeouts=TIMEOUTS) as http:
        with pytest.raises(Unavailable):
            await http.send("GET", "/")
    assert dialled == ["2606:4700::1111", PUBLIC]


async def test_an_address_that_swallows_packets_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[str] = []

    async def open_tcp_stream(host: str, port: int) -> Any:
        seen.append(host)
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    found = ["fd00::1", "fd00::2", "10.0.0.1"]
    dialer = SafeDialer(allowed_private_nets=["fd00::/8", "10.0.0.0/8"])
    trio.socket.set_custom_hostname_resolver(Names({"crm.example": [found]}))
    async with Http("http://crm.example", dial=dialer, timeouts=Timeouts(connect_s=3, read_s=1, whole_s=9)) as h:
        with pytest.raises(Unavailable) as raised:
            await h.send("GET", "/")
    assert seen == found
    assert raised.value.certain
    assert trio.current_time() == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("nowhere.example", Unavailable),
        ("", BadSettings),
        (".", BadSettings),
        ("a..b", BadSettings),
        ("a\0b", BadSettings),
    ],
)
async def test_names_that_are_none(host: str, error: type[GatewayError]) -> None:
    trio.socket.set_custom_hostname_resolver(Names({}))
    with pytest.raises(error):
        await SafeDialer().resolve(host, 5038)


async def test_a_pbx_may_be_on_any_port_of_a_public_address_or_an_opened_net() -> None:
    trio.socket.set_custom_hostname_resolver(
        Names({"pbx.example": [["10.0.0.9", PUBLIC]], "lan.example": [["10.9.0.1"]]})
    )
    dialer: Dialer = SafeDialer(allowed_private_nets=["10.9.0.0/16"])
    assert await dialer.resolve("pbx.example", 5038) == PUBLIC
    assert await dialer.resolve("lan.example", 5038) == "10.9.0.1"
