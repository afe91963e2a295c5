"""Supervision under the autojump clock: a crash stays in its actor, the budget is kept, nothing is left behind."""

import itertools
import types
from collections.abc import Awaitable, Generator
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from actors.runtime.directory import Directory, Slot
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import DeadLetter, RestartPolicy, open_supervisor
from gateway.domain.health import State

pytestmark = pytest.mark.usefixtures("expected_errors")


async def test_a_crash_is_restarted_and_neighbours_miss_nothing(autojump_clock: trio.abc.Clock) -> None:
    ticks, lives = [], []

    async def neighbour(slot: Slot) -> None:
        while True:
            ticks.append(trio.current_time())
            await trio.sleep(1)

    async def crasher(slot: Slot) -> None:
        lives.append(trio.current_time())
        await trio.sleep(3)
        raise ValueError("a bug")

    async with open_supervisor(Directory(), RestartPolicy(intensity=100, cap_s=5)) as supervisor:
        supervisor.start(Slot("neighbour"), neighbour)
        supervisor.start(Slot("crasher"), crasher)
        await trio.sleep(59.5)
    assert len(ticks) == 60
    assert len(lives) > 5
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert max(gaps) == pytest.approx(1)


async def test_too_many_crashes_park_the_actor_and_restart_brings_it_back(autojump_clock: trio.abc.Clock) -> None:
    lives = []

    async def crasher(slot: Slot) -> None:
        lives.append(trio.current_time())
        raise ValueError("a bug")

    async with open_supervisor(Directory(), RestartPolicy(intensity=5, window_s=30, park_s=600)) as supervisor:
        slot = Slot("crasher")
        supervisor.start(slot, crasher)
        await trio.sleep(120)
        assert slot.health.state is State.FAILED
        assert slot.health.code == "parked"
        assert slot.health.next_try is not None
        assert len(lives) == 6  # the first life and five restarts
        assert slot.restart is not None
        slot.restart()
        await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert len(lives) == 7
        await trio.sleep(800)
        assert len(lives) > 12  # the slow timer


async def test_backoff_grows_with_full_jitter_and_starts_over_after_health(autojump_clock: trio.abc.Clock) -> None:
    policy = RestartPolicy()
    for failures in range(12):
        delays = [policy.delay(failures) for _ in range(200)]
        assert 0 <= min(delays) <= max(delays) <= min(policy.cap_s, policy.base_s * 2**failures)
    assert max(policy.delay(20) for _ in range(200)) > 20


async def test_a_group_of_exceptions_restarts_but_cancellation_passes_through(autojump_clock: trio.abc.Clock) -> None:
    lives = 0

    async def nested(slot: Slot) -> None:
        nonlocal lives
        lives += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(_fail)

    async with open_supervisor(Directory()) as supervisor:
        child = supervisor.start(Slot("nested"), nested)
        await trio.sleep(20)
        assert lives > 1
        await supervisor.stop(child)
        assert child.stopped.is_set()


async def _fail() -> None:
    await trio.sleep(0.1)
    raise KeyError("inside a nursery of the actor")


async def test_an_interrupt_is_not_a_crash(autojump_clock: trio.abc.Clock) -> None:
    async def interrupted(slot: Slot) -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_supervisor(Directory()) as supervisor:
            supervisor.start(Slot("interrupted"), interrupted)
            await trio.sleep(1)
    assert caught.group_contains(KeyboardInterrupt)


async def test_a_message_that_kills_twice_is_set_aside_once(autojump_clock: trio.abc.Clock) -> None:
    dead_letters: list[DeadLetter] = []
    dealt = []
    mailbox = Mailbox[int](100)

    async def reader(slot: Slot) -> None:
        while True:
            for number in mailbox.each(await mailbox.take_all()):
                if number == 13:
                    raise ValueError("poison")
                dealt.append(number)
            mailbox.done()

    async with open_supervisor(Directory(), set_aside=dead_letters.append) as supervisor:
        slot = Slot("tenant/1", mailbox=mailbox)
        supervisor.start(slot, reader)
        for number in range(20):
            await mailbox.post(number)
        await trio.sleep(60)
        assert slot.health.state is not State.FAILED
    assert [dead_letter.message for dead_letter in dead_letters] == [13]
    assert set(dealt) == set(range(20)) - {13}


async def test_stopping_one_child_leaves_its_neighbours(autojump_clock: trio.abc.Clock) -> None:
    directory = Directory()
    async with open_supervisor(directory) as supervisor:
        children = [supervisor.start(Slot(f"tenant/{number}"), _for_ever) for number in range(3)]
        await wait_all_tasks_blocked()
        await supervisor.stop(children[1])
        assert [slot.path for slot in directory.below("tenant")] == ["tenant/0", "tenant/2"]


async def _for_ever(slot: Slot) -> None:
    slot.report(State.ONLINE)
    await trio.sleep_forever()


async def test_nothing_is_left_after_fifty_children(autojump_clock: trio.abc.Clock) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    directory = Directory()
    async with open_supervisor(directory) as supervisor:
        for number in range(50):
            supervisor.start(Slot(f"tenant/{number}"), _for_ever)
        await wait_all_tasks_blocked()
        assert len(directory) == 50
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert len(directory) == 0


class Boom(Exception):
    """Thrown on purpose."""


@types.coroutine
def throwing_at(place: int, work: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Runs `work` and throws Boom into it at its `place`-th await."""
    steps, value, error = work.__await__(), None, None
    count = 0
    while True:
        try:
            trap = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            return end.value
        try:
            value, error = (yield trap), None
        except BaseException as caught:
            value, error = None, caught
        count += 1
        if count == place:
            value, error = None, Boom()


@pytest.mark.parametrize("place", range(1, 25))
async def test_a_throw_at_any_await_of_one_actor_costs_its_neighbours_nothing(
    place: int, autojump_clock: trio.abc.Clock
) -> None:
    mailbox = Mailbox[int](10)
    dealt: list[int] = []
    ticks = 0

    async def work(slot: Slot) -> None:
        while True:
            with trio.move_on_after(5):
                taken = await mailbox.take_all()
                for number in mailbox.each(taken):
                    await trio.sleep(0.01)
                    await trio.lowlevel.checkpoint()
                    dealt.append(number)
                mailbox.done()

    first = True

    async def victim(slot: Slot) -> None:
        nonlocal first
        if first:
            first = False
            await throwing_at(place, work(slot))
        else:
            await work(slot)

    async def neighbour(slot: Slot) -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.sleep(0.1)

    async with open_supervisor(Directory()) as supervisor:
        supervisor.start(Slot("victim", mailbox=mailbox), victim)
        supervisor.start(Slot("neighbour"), neighbour)
        for number in range(8):
            await mailbox.post(number)
            await trio.sleep(1)
        await trio.sleep(32)
    assert set(dealt) == set(range(8)), "every message was dealt with, by this incarnation or the next"
    assert ticks == pytest.approx(400, abs=1)
