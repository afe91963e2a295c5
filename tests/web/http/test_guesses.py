"""Guessing machine credentials: slower for who is wrong, never in the way of who is right."""

from ipaddress import ip_network

import pytest
import trio
import trio.testing

from gateway.web.http import guesses as module
from gateway.web.http.guesses import AT_ONCE, BURST, DELAY_S, EVERY_S, Guesses
from gateway.web.http.routes import Request, Response, problem

WRONG = problem(401, "AUTH_FAILED", "wrong")


def request(peer: str = "203.0.113.7", forwarded_for: str = "") -> Request:
    headers = {"x-forwarded-for": forwarded_for} if forwarded_for else {}
    return Request(method="POST", path="/dial", headers=headers, peer=peer)


async def guess(guesses: Guesses, credential: str = "guess", peer: str = "203.0.113.7") -> Response:
    return guesses.refusal(request(peer), credential) or await guesses.wrong(request(peer), credential, WRONG)


async def test_a_few_mistakes_cost_nothing_and_then_they_come_slowly(autojump_clock: trio.abc.Clock) -> None:
    guesses, began = Guesses(), trio.current_time()
    for _ in range(BURST):
        assert (await guess(guesses)).status == 401
    assert trio.current_time() == began
    for _ in range(100):
        answer = await guess(guesses)
        assert (answer.status, dict(answer.headers)["Retry-After"]) == (429, "1")
    assert trio.current_time() - began >= 100 * EVERY_S - 0.01
    await trio.sleep(BURST * EVERY_S)
    assert (await guess(guesses)).status == 401


@pytest.mark.long
async def test_many_connections_at_once_are_not_quicker(autojump_clock: trio.abc.Clock) -> None:
    """204 guesses a second went unhindered: what matters is how many of them are looked at."""
    guesses, looked, began = Guesses(), 0, trio.current_time()

    async def one() -> None:
        nonlocal looked
        while trio.current_time() - began < 60:
            if guesses.refusal(request(), "guess") is None:
                looked += 1
                await guesses.wrong(request(), "guess", WRONG)
            else:
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(one)
    assert looked <= BURST + 2 * AT_ONCE * (60 / DELAY_S), "8 to 13 a second at most, on whatever number of connections"


async def test_who_is_right_is_never_in_the_queue(autojump_clock: trio.abc.Clock) -> None:
    guesses = Guesses()
    guesses.right("known")
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE + 50):
            nursery.start_soon(guess, guesses)
        await trio.testing.wait_all_tasks_blocked()
        assert guesses.refusal(request(), "guess") is not None
        assert guesses.refusal(request(), "known") is None, "from the same address"
        assert guesses.refusal(request("203.0.113.8"), "new") is None, "from another"
        nursery.cancel_scope.cancel()
    assert guesses.refusal(request(), "new") is None, "who goes away waits no longer"


async def test_the_address_is_the_clients_and_not_the_proxys(autojump_clock: trio.abc.Clock) -> None:
    guesses = Guesses((ip_network("10.0.0.0/8"),))
    assert guesses.source(request("10.0.0.1", "198.51.100.9")) == guesses.source(request("198.51.100.9"))
    assert guesses.source(request("203.0.113.7", "198.51.100.9")) == guesses.source(request("203.0.113.7"))
    assert guesses.source(request("2001:db8::1")) == guesses.source(request("2001:db8::ffff"))


async def test_no_credential_is_no_guess_and_memory_is_bounded(autojump_clock: trio.abc.Clock) -> None:
    guesses = Guesses()
    for _ in range(100):
        assert (await guesses.wrong(request(), None, WRONG)).status == 401
        assert (await guesses.wrong(request(), "", WRONG)).status == 401
    assert len(guesses) == 0
    for number in range(module.MOST_ADDRESSES + 500):
        await guess(guesses, peer=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(guesses) <= module.MOST_ADDRESSES
