"""The mailbox: bounded, in order, and nothing in hand is lost by a crash."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.runtime.mailbox import Mailbox, Overflow


async def test_messages_come_in_order_and_in_batches() -> None:
    box = Mailbox[int](10)
    for number in range(3):
        await box.post(number)
    assert list(await box.take_all()) == [0, 1, 2]


async def test_a_full_mailbox_makes_the_sender_wait_until_the_reader_took(autojump_clock: trio.abc.Clock) -> None:
    box = Mailbox[int](2)
    await box.post(1)
    await box.post(2)
    posted = []

    async def third() -> None:
        await box.post(3)
        posted.append(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(third)
        await wait_all_tasks_blocked()
        assert posted == []
        assert list(await box.take_all()) == [1, 2]
        box.done()
    assert posted == [3]
    assert list(await box.take_all()) == [3]


async def test_drop_oldest_drops_and_counts() -> None:
    box = Mailbox[int](2, Overflow.DROP_OLDEST)
    for number in range(5):
        await box.post(number)
    assert list(await box.take_all()) == [3, 4]
    assert box.dropped == 3


async def test_what_was_not_finished_comes_again_first() -> None:
    box = Mailbox[int](10)
    await box.post(1)
    assert list(await box.take_all()) == [1]
    await box.post(2)
    assert list(await box.take_all()) == [1, 2]
    box.done()
    with trio.move_on_after(0) as scope:
        await box.take_all()
    assert scope.cancelled_caught


async def test_the_doorbell_wakes_the_reader_without_a_message() -> None:
    box = Mailbox[int](1)
    box.ring()
    assert list(await box.take_all()) == []
    assert box.take_rung()
    assert not box.take_rung()


async def test_a_message_that_kills_twice_is_set_aside_and_its_neighbours_stay() -> None:
    box = Mailbox[str](10)
    for word in ("good", "bad", "later"):
        await box.post(word)

    async def read() -> list[str]:
        seen = []
        for word in box.each(await box.take_all()):
            if word == "bad":
                raise ValueError(word)
            seen.append(word)
        box.done()
        return seen

    with pytest.raises(ValueError):
        await read()
    assert box.died() is None
    with pytest.raises(ValueError):
        await read()
    assert box.died() == "bad"
    assert await read() == ["good", "later"]


async def test_wait_idle_returns_when_everything_is_dealt_with() -> None:
    box = Mailbox[int](10)
    await box.post(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.wait_idle)
        await wait_all_tasks_blocked()
        await box.take_all()
        box.done()
    assert len(box) == 0
