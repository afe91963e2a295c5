"""Hosts that can be none."""

import pytest

from gateway.domain.hosts import IMPOSSIBLE, NOBODYS, host_problem


@pytest.mark.parametrize(
    "host",
    ["pbx.june.example", "pbx", "pbx_1", "PBX.example.", "атс.рф", "xn--80aa.example", "3com.example", "10.0.0.5", "127.0.0.1",
     "192.0.2.10", "[2001:db8::7]", "2001:db8::7", "a" * 63 + ".example"],
)  # fmt: skip
def test_a_host_that_can_be_one(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(
    "host",
    ["", ".", "a..b", ".example", "-pbx.example", "pbx-.example", "pbx!.example", "a" * 64, ".".join(["a" * 60] * 5), "256.1.1.1",
     "1.2.3", "pbx example", "pbx;drop", "host:5038"],
)  # fmt: skip
def test_an_impossible_one(host: str) -> None:
    assert host_problem(host) == IMPOSSIBLE


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "169.254.1.1", "168.63.129.16", "0.0.0.0", "224.0.0.1", "::", "fe80::1", "fe80::1%eth0", "[ff02::1]",
     "::ffff:169.254.169.254", "fd00:ec2::254"],
)  # fmt: skip
def test_an_address_that_is_no_servers(host: str) -> None:
    assert host_problem(host) == NOBODYS
