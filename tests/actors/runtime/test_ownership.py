"""Leases in one process: what is trusted and for how long, handing over in the right order, and offers that come to nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.runtime.directory import Slot
from actors.runtime.ownership import HEIR_WITHIN_S, HOLD_S, MARGIN_S, TTL_S, Ownership
from gateway.domain.errors import Unavailable
from gateway.domain.shards import SHARDS
from gateway.store import shards as store


class Table:
    """The leases of one instance, as its statements see them."""

    def __init__(self) -> None:
        self.held = dict.fromkeys(range(SHARDS), 1)
        self.instances = 2
        self.ready: frozenset[int] = frozenset()
        self.coming: frozenset[int] = frozenset()
        self.offered: frozenset[int] = frozenset()
        self.done: list[str] = []
        self.answers_after_s = 0.0
        self.away: Callable[[Any], bool] = lambda work: False

    async def engine(self, work: Any, me: str, *args: Any, **more: Any) -> Any:
        began = dict(self.held)
        await trio.sleep(self.answers_after_s)
        if self.away(work):
            raise Unavailable("away")
        if work is store.renew:
            return store.Round(began, self.instances, self.coming, self.ready)
        self.done.append(work.__name__)
        if work is store.offer:
            self.offered = frozenset(args[0])
            return len(self.offered)
        if work is store.withdraw:
            self.offered = frozenset()
        if work is store.resign:
            self.held = {shard: epoch for shard, epoch in self.held.items() if shard not in args[0]}
            return len(args[0])
        return {}


def one(table: Table) -> Ownership:
    return Ownership(table, "one")  # type: ignore[arg-type]


async def test_trust_is_counted_from_the_start_of_a_renewal(autojump_clock: MockClock) -> None:
    table = Table()
    table.instances, table.answers_after_s = 1, 1.5
    ownership = one(table)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ownership.run, Slot("ownership"))
        await ownership.first_round.wait()
        table.away = lambda work: True
        assert ownership.trusted
        await trio.sleep(TTL_S - MARGIN_S - 1.5 - 0.1)
        assert ownership.trusted
        await trio.sleep(0.2)
        assert not ownership.trusted
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("heir_is_ready", [True, False])
async def test_the_heir_is_ready_before_anything_stops(autojump_clock: MockClock, heir_is_ready: bool) -> None:
    table = Table()
    ownership = one(table)
    order: list[tuple[str, float]] = []

    async def let_go(leaving: frozenset[int]) -> None:
        assert leaving == table.offered
        assert all(ownership._held.get(shard) for shard in leaving), "still ours, and renewed"
        order.append(("let go", trio.current_time()))
        await trio.sleep(TTL_S * 2)  # actors take their time; the lease does not end for that
        assert ownership.trusted

    ownership.let_go = let_go
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ownership.run, Slot("ownership"))
        with trio.fail_after(HOLD_S + 5):
            while not table.offered:
                await trio.sleep(0.1)
        order.append(("offered", trio.current_time()))
        first = table.offered
        await trio.sleep(2)
        assert order[-1][0] == "offered", "nothing stops before the heir is ready"
        if heir_is_ready:
            table.ready = table.offered
            ownership.nudge()
        await trio.sleep(HEIR_WITHIN_S + TTL_S * 2 + 1)
        (_, offered_at), (_, gone_at) = order[:2]
        assert gone_at - offered_at == pytest.approx(2.0 if heir_is_ready else HEIR_WITHIN_S, abs=0.3)
        assert not set(ownership.held) & first
        assert table.done[:2] == ["offer", "resign"]
        nursery.cancel_scope.cancel()


async def test_an_offer_that_came_to_nothing_is_taken_back(autojump_clock: MockClock) -> None:
    table = Table()
    table.away = lambda work: work is store.resign
    ownership = one(table)
    gone: list[frozenset[int]] = []

    async def let_go(leaving: frozenset[int]) -> None:
        gone.append(leaving)

    ownership.let_go = let_go
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ownership.run, Slot("ownership"))
        with trio.fail_after(HOLD_S + HEIR_WITHIN_S + 5):
            while not gone:
                await trio.sleep(0.1)
        table.instances = 1
        await trio.sleep(HEIR_WITHIN_S + 5)
        assert "withdraw" in table.done
        assert table.offered == frozenset()
        assert len(ownership.held) == SHARDS
        nursery.cancel_scope.cancel()


async def test_what_comes_is_prepared_once_and_accepted(autojump_clock: MockClock) -> None:
    table = Table()
    table.held, table.coming = {}, frozenset({1, 2})
    ownership = one(table)
    prepared: list[frozenset[int]] = []

    async def prepare(coming: frozenset[int]) -> None:
        prepared.append(coming)
        await trio.sleep(1)

    ownership.prepare = prepare
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ownership.run, Slot("ownership"))
        await trio.sleep(5)
        assert prepared == [{1, 2}]
        assert table.done.count("accept") == 1
        table.coming = frozenset({2, 3})
        await trio.sleep(5)
        assert prepared == [{1, 2}, {3}]
        nursery.cancel_scope.cancel()


async def test_a_stop_waits_for_the_others_and_not_for_ever(autojump_clock: MockClock) -> None:
    table = Table()
    ownership = one(table)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ownership.run, Slot("ownership"))
        await ownership.first_round.wait()
        await trio.sleep(2)
        began = trio.current_time()
        await ownership.begin_to_leave(3.0)
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.1)
        assert (table.done, len(table.offered)) == (["begin_to_leave", "offer"], SHARDS)
        await trio.sleep(10)
        assert "withdraw" not in table.done
        assert "seek" not in table.done
        await ownership.resign()
        assert table.done[2:] == ["resign", "leave"]
        nursery.cancel_scope.cancel()
