"""Shares of connections: who opens too many ends their own."""

from ipaddress import ip_network

from gateway.web.http.shares import Shares


class Connections:
    def __init__(self, most: int = 3, most_busy: int = 5, trusted: str = "10.0.0.0/8") -> None:
        self.ranks: dict[str, int | None] = {}
        self.shares: Shares[str] = Shares(most, most_busy, self.ranks.__getitem__, (ip_network(trusted),))

    def enter(self, name: str, peer: str = "203.0.113.7", rank: int | None = 0) -> str | None:
        self.ranks[name] = rank
        return self.shares.enter(name, peer)


def test_the_oldest_that_waits_ends_for_a_newer_one_of_its_address() -> None:
    here = Connections()
    assert [here.enter(name) for name in ("a", "b", "c")] == [None] * 3
    assert here.enter("other", "203.0.113.8") is None
    assert [here.enter(name) for name in ("d", "e")] == ["a", "b"]
    here.shares.leave("c")
    here.shares.leave("c")
    assert here.enter("f") is None
    assert len(here.shares) == 4


def test_half_requests_end_before_idle_ones_and_busy_ones_never() -> None:
    here = Connections()
    here.enter("busy", rank=None)
    here.enter("idle", rank=1)
    here.enter("half", rank=0)
    assert here.enter("next", rank=None) == "half"
    assert here.enter("last", rank=None) == "idle"
    assert [here.enter(name, rank=None) for name in ("more", "most")] == [None, None]
    assert here.enter("too much", rank=None) == "too much"
    assert len(here.shares) == 5


def test_a_proxy_has_no_share_and_an_ipv6_host_one() -> None:
    here = Connections()
    assert [here.enter(f"p{n}", "10.0.0.1") for n in range(9)] == [None] * 9
    assert [here.enter(f"v{n}", f"2001:db8::{n}") for n in range(4)] == [None, None, None, "v0"]


def test_room_is_made_by_whoever_has_most() -> None:
    here = Connections(most=100)
    for n in range(5):
        here.enter(f"a{n}", "203.0.113.7", rank=None if n < 2 else 0)
    here.enter("b", "203.0.113.8")
    assert [here.shares.make_room() for _ in range(5)] == ["a2", "a3", "a4", "b", None]


def test_nobody_loses_a_place_before_their_request_can_have_come() -> None:
    here = Connections(most=100)
    for name in ("old", "young"):
        here.enter(name)
    assert here.shares.make_room(lambda name: name == "old") == "old"
    assert here.shares.make_room(lambda name: name == "old") is None
