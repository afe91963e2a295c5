"""Who gets which connection, on a pool of fakes; `test_pool.py` has the same over the real driver."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from gateway.store.postgres import connection_lending as module
from gateway.store.postgres.connection_lending import USES, ConnectionLending


class _Connection:
    def __init__(self) -> None:
        self.closed = self.open_transaction = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.open_transaction


class _Pool:
    def __init__(self) -> None:
        self.given: list[_Connection] = []
        self.back: list[_Connection] = []
        self.refuses = False

    async def acquire(self) -> _Connection:
        await asyncio.sleep(0)
        if self.refuses:
            raise OSError("refused")
        self.given.append(_Connection())
        return self.given[-1]

    async def release(self, connection: _Connection, *, timeout: float) -> None:
        await asyncio.sleep(0)
        self.back.append(connection)
        if connection.closed:
            raise OSError("already gone")

    async def close(self) -> None:
        assert len(self.back) == len(self.given)


def _run(story: Callable[[Any, _Pool], Awaitable[None]], limit: int = 1) -> None:
    async def run() -> None:
        pool = _Pool()
        lending = ConnectionLending(asyncio.get_running_loop(), cast(Any, pool), limit)
        await story(lending, pool)
        await lending.close()

    asyncio.run(run())


def test_it_goes_from_hand_to_hand_in_order() -> None:
    async def story(lending: Any, pool: _Pool) -> None:
        served = []

        async def work(number: int) -> None:
            connection = await lending.acquire()
            served.append(number)
            await asyncio.sleep(0)
            await lending.release(connection, clean=True)

        await asyncio.gather(*(work(number) for number in range(5)))
        assert served == [0, 1, 2, 3, 4]
        assert len(pool.given) == 1
        assert pool.back == []

    _run(story)


@pytest.mark.parametrize("how", ["failed", "closed", "in a transaction", "many uses"])
def test_what_needs_care_goes_to_the_pool_and_whoever_waits_gets_another(how: str) -> None:
    async def story(lending: Any, pool: _Pool) -> None:
        first = await lending.acquire()
        waiting = asyncio.create_task(lending.acquire())
        await asyncio.sleep(0)
        first.closed, first.open_transaction = how == "closed", how == "in a transaction"
        if how == "many uses":
            lending._uses = USES - 1
        await lending.release(first, clean=how != "failed")
        second = await waiting
        assert second is not first
        assert pool.back == [first]
        await lending.release(second, clean=True)

    _run(story)


def test_one_that_broke_while_idle_is_not_lent() -> None:
    async def story(lending: Any, pool: _Pool) -> None:
        first = await lending.acquire()
        await lending.release(first, clean=True)
        first.closed = True
        second = await lending.acquire()
        assert second is not first
        await lending.release(second, clean=True)

    _run(story)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_cancelled_waiter_keeps_nothing(moment: str) -> None:
    async def story(lending: Any, pool: _Pool) -> None:
        first = await lending.acquire()
        given_up = asyncio.create_task(lending.acquire())
        patient = asyncio.create_task(lending.acquire())
        await asyncio.sleep(0)
        if moment == "before":
            given_up.cancel()
            await lending.release(first, clean=True)
        else:
            await lending.release(first, clean=True)  # in its hand already, and it is cancelled before it takes a step
            given_up.cancel()
        assert await patient is first
        assert given_up.cancelled() or given_up.cancelling()
        await lending.release(first, clean=True)

    _run(story)


def test_a_failed_connect_frees_its_place() -> None:
    async def story(lending: Any, pool: _Pool) -> None:
        pool.refuses = True
        failed = await asyncio.gather(lending.acquire(), lending.acquire(), return_exceptions=True)
        assert [type(one) for one in failed] == [OSError, OSError]
        pool.refuses = False
        await lending.release(await lending.acquire(), clean=True)

    _run(story)


def test_what_is_idle_for_long_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)

    async def story(lending: Any, pool: _Pool) -> None:
        connection = await lending.acquire()
        await lending.release(connection, clean=True)
        await asyncio.sleep(0.03)
        assert pool.back == [connection]

    _run(story)
