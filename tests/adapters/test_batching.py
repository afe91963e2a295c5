"""Requests that several share: each gets its own outcome, whatever becomes of the others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.batching import Batches
from gateway.domain.errors import GatewayError, RateLimited, Rejected, Unavailable


@dataclass
class Far:
    """The other side: numbers come back doubled, odd ones are refused where it is told so."""

    asked: list[list[int]] = field(default_factory=list)
    error: GatewayError | None = None
    busy: GatewayError | None = None
    hold: trio.Event | None = None
    odd_refused: bool = False

    async def send(self, items: Sequence[int]) -> Sequence[int | GatewayError]:
        self.asked.append(list(items))
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return [Rejected(f"{item} is odd") if self.odd_refused and item % 2 else 2 * item for item in items]

    async def take(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.busy is not None:
            raise self.busy

    def batches(self, most: int = 50) -> Batches[int, int]:
        return Batches(self.send, self.take, most)


async def all_of(batches: Batches[int, int], items: Sequence[int]) -> dict[int, int | GatewayError]:
    """What became of each, all at once."""
    found: dict[int, int | GatewayError] = {}

    async def one(item: int) -> None:
        try:
            found[item] = await batches.one(item)
        except GatewayError as error:
            found[item] = error

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(one, item)
    return found


async def test_what_comes_together_leaves_together() -> None:
    far = Far()
    assert await all_of(far.batches(), range(7)) == {item: 2 * item for item in range(7)}
    assert sorted(map(len, far.asked)) == [7]
    assert await far.batches().one(9) == 18


async def test_never_more_than_the_most() -> None:
    far = Far()
    assert len(await all_of(far.batches(3), range(8))) == 8
    assert sorted(map(len, far.asked)) == [2, 3, 3]


async def test_each_has_its_own_outcome() -> None:
    found = await all_of(Far(odd_refused=True).batches(), range(4))
    assert (found[0], found[2]) == (0, 4)
    assert [str(found[item]) for item in (1, 3)] == ["1 is odd", "3 is odd"]


@pytest.mark.parametrize("error", [Unavailable("away", certain=False), RateLimited("slow", after_s=2.0)])
async def test_what_fails_for_all_is_each_one_s_own_error(error: RateLimited | Unavailable) -> None:
    for far in (Far(error=error), Far(busy=error)):
        found = await all_of(far.batches(), range(3))
        assert len({id(one) for one in found.values()}) == 3
        for one in found.values():
            assert isinstance(one, type(error))
            assert (one.after_s, one.certain, one.detail) == (error.after_s, error.certain, error.detail)
        assert len(far.asked) == (1 if far.busy is None else 0)


async def test_whoever_sends_for_others_may_be_cancelled() -> None:
    far = Far(hold=trio.Event())
    batches = far.batches()
    outcomes: list[str] = []
    scopes = {item: trio.CancelScope() for item in range(3)}

    async def one(item: int) -> None:
        with scopes[item]:
            try:
                outcomes.append(f"{item}: {await batches.one(item)}")
            except Unavailable as error:
                outcomes.append(f"{item}: certain={error.certain}")

    async with trio.open_nursery() as nursery:
        for item in range(3):
            nursery.start_soon(one, item)
        await wait_all_tasks_blocked()
        leader = far.asked[0][0]
        scopes[leader].cancel()
        await wait_all_tasks_blocked()
        assert sorted(outcomes) == [f"{item}: certain=False" for item in range(3) if item != leader]
    assert len(far.asked) == 1


async def test_whoever_waits_and_is_cancelled_is_not_sent() -> None:
    far = Far(hold=trio.Event())
    assert far.hold is not None
    batches = far.batches(1)
    scope = trio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await batches.one(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.one, 1)
        await wait_all_tasks_blocked()
        nursery.start_soon(cancelled)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        far.hold.set()
    assert far.asked == [[1]]
