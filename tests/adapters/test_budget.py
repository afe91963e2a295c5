"""An account's budget among many who wait: turns, patience, cancellation, and budgets that are forgotten."""

import gc

import pytest
import trio

from adapters.base import Attempt, Limits, Rate
from adapters.budget import Budget, Budgets, account_key
from adapters.http import Http, Timeouts
from gateway.domain.errors import RateLimited
from gateway.domain.secret import Secret
from tests.adapters.conftest import Remote, Reply

TIMES = Timeouts(connect_s=2, read_s=2, whole_s=5)


async def test_many_tasks_keep_to_the_rate(autojump_clock: trio.abc.Clock) -> None:
    budget = Budget(Limits(rates={"": Rate(5)}))
    left: list[float] = []

    async def one() -> None:
        await budget.take(patience_s=60)
        left.append(trio.current_time())

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(23):
            nursery.start_soon(one)
    assert [round(at - start, 3) for at in left] == [float(n // 5) for n in range(23)]


async def test_whoever_would_wait_for_too_long_is_told_how_long(autojump_clock: trio.abc.Clock) -> None:
    budget = Budget(Limits(rates={"": Rate(1, 60.0)}))
    await budget.take()
    with pytest.raises(RateLimited) as raised:
        await budget.take()
    assert raised.value.after_s == pytest.approx(60, abs=0.1)
    assert not budget._limiter.idle(trio.current_time())
    await trio.sleep(60)
    assert budget.idle(), "nothing is left of what was given up"


async def test_a_cancelled_wait_gives_its_promise_and_its_place_back(autojump_clock: trio.abc.Clock) -> None:
    budget = Budget(Limits(rates={"": Rate(1, 4.0)}, at_once=1))
    await budget.take()
    with trio.move_on_after(1):
        await budget.take()
    assert budget.wait_s("") == pytest.approx(3.0)
    async with budget.place():
        with trio.move_on_after(1):
            async with budget.place():
                raise AssertionError("there is one place")
    async with budget.place():
        pass
    assert not budget._waiting[0]


async def test_jobs_give_way(autojump_clock: trio.abc.Clock) -> None:
    """A hundred jobs ask first; a ring of the same account is not held up by them."""
    budget = Budget(Limits(rates={"": Rate(8)}, at_once=4))
    rings: list[float] = []
    jobs = 0

    async def job() -> None:
        nonlocal jobs
        await budget.take(background=True, patience_s=600)
        async with budget.place(background=True):
            await trio.sleep(0.5)
            jobs += 1

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(job)
        await trio.sleep(3)
        for _ in range(10):
            requested = trio.current_time()
            await budget.take()
            async with budget.place():
                rings.append(trio.current_time() - requested)
            await trio.sleep(0.7)
    assert max(rings) < 0.01
    assert jobs == 100


def test_an_account_is_shared_by_who_knows_it_and_forgotten_when_idle() -> None:
    async def main() -> None:
        budgets, limits = Budgets(), Limits(rates={"": Rate(1)})
        key = account_key("crm", "https://a.example", Secret("key"))
        assert account_key("crm", "https://a.example", Secret("other")) != key
        assert "key" not in key
        held = budgets.of(key, limits)
        await held.take()
        assert budgets.of(key, limits) is held
        for number in range(100):
            budgets.of(f"other {number}", limits)
        assert budgets.of(key, limits) is held, "what has left lately is remembered"
        await trio.sleep(2)
        for number in range(100):
            budgets.of(f"other {number}", limits)
        assert len(budgets) <= 2
        assert budgets.of(key, limits) is held, "and what a client holds is found again"
        known = id(held)
        del held
        await trio.sleep(2)
        budgets.of("x", limits)
        gc.collect()
        assert len(budgets._live) <= 2
        assert known

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_two_clients_of_one_account_share_it_and_an_answer_pauses_both(remote: Remote) -> None:
    budget = Budget(Limits(rates={"": Rate(2, 30.0)}))
    remote.replies = [
        Reply(200, b"{}"),
        Reply(200, b"{}"),
        Reply(200, b"{}"),
        Reply(429, b"", (("retry-after", "40"),)),
    ]
    first = Http(remote.url, dial=None, timeouts=TIMES, budget=budget)
    second = Http(remote.url, dial=None, timeouts=TIMES, budget=budget)
    async with first, second:
        await first.send("GET", "/1")
        await second.send("GET", "/2")
        with pytest.raises(RateLimited):
            await first.send("GET", "/3")
        assert len(remote.seen) == 2
        paid = Attempt(kind="k", key="1", lane="c", body={}, paid=True)
        await first.send("GET", "/4", attempt=paid)
        assert not paid.paid
        paid.paid = True
        await second.send("GET", "/5", attempt=paid)
    assert 39 < budget.wait_s("") <= 40
