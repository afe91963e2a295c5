"""Group commit: what gathers goes together, and one bad item, one absent database or one gone waiter harms nobody else."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors.runtime.group_commit import GroupCommit
from gateway.domain.errors import Unavailable
from gateway.store.postgres.errors import BadData, NotMigrated, QueryFailed, StoreError


class Writer:
    """Keeps items; a group takes a while."""

    def __init__(self, takes_s: float = 1.0) -> None:
        self.takes_s = takes_s
        self.groups: list[list[int]] = []
        self.stored: list[int] = []
        self.error: Exception | None = None
        self.bad: set[int] = set()
        self.refusal: Exception = BadData("bad")

    async def write(self, items: Sequence[int]) -> list[str]:
        self.groups.append(list(items))
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        if self.bad & set(items):
            raise self.refusal
        self.stored += items
        return [f"kept {item}" for item in items]


@asynccontextmanager
async def commits(writer: Writer, *, most: int = 500, room: int = 10_000) -> AsyncIterator[GroupCommit[int, str]]:
    group = GroupCommit[int, str]("test", writer.write, most=most, room=room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.run)
        yield group
        nursery.cancel_scope.cancel()


class Puts:
    """Many waiters and what each was answered."""

    def __init__(self) -> None:
        self.answers: dict[int, object] = {}

    async def put(self, group: GroupCommit[int, str], item: int) -> None:
        try:
            self.answers[item] = await group.put(item)
        except (Unavailable, StoreError) as error:
            self.answers[item] = error


async def put_all(group: GroupCommit[int, str], items: Sequence[int]) -> dict[int, object]:
    puts = Puts()
    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(puts.put, group, item)
            await wait_all_tasks_blocked()
    return puts.answers


async def test_what_gathers_during_a_commit_goes_with_the_next(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    async with commits(writer) as group:
        answers = await put_all(group, range(50))
    assert writer.groups == [[0], list(range(1, 50))]
    assert answers == {item: f"kept {item}" for item in range(50)}


async def test_a_group_has_a_limit_and_the_order_stays(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    async with commits(writer, most=10) as group:
        await put_all(group, range(35))
    assert [len(one) for one in writer.groups] == [1, 10, 10, 10, 4]
    assert writer.stored == list(range(35))


async def test_one_bad_item_fails_alone(autojump_clock: trio.abc.Clock, expected_errors: None) -> None:
    writer = Writer()
    writer.bad = {7}
    async with commits(writer) as group:
        answers = await put_all(group, range(20))
    assert isinstance(answers.pop(7), BadData)
    assert answers == {item: f"kept {item}" for item in range(20) if item != 7}


async def test_a_database_that_is_away_is_told_to_all_as_uncertain(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    async with commits(writer) as group:
        writer.error = Unavailable("away")
        answers = await put_all(group, range(5))
        assert all(isinstance(error, Unavailable) and not error.certain for error in answers.values())
        writer.error = None
        assert await group.put(99) == "kept 99"


@pytest.mark.parametrize("error", [QueryFailed("a bug", code="42601"), NotMigrated("no schema")])
async def test_a_statement_that_is_wrong_blames_no_item_and_stops_nobody(
    autojump_clock: trio.abc.Clock, expected_errors: None, error: Exception
) -> None:
    writer = Writer()
    async with commits(writer) as group:
        writer.error = error
        answers = await put_all(group, range(5))
        assert all(isinstance(answer, Unavailable) and not answer.certain for answer in answers.values())
        writer.error = None
        assert await group.put(99) == "kept 99"


@pytest.mark.parametrize(
    "error",
    [
        BadData("22021"),
        QueryFailed("index row too large", code="54000"),
        QueryFailed("RAISE", code="P0001"),
        TypeError("a bug"),
    ],
)
async def test_whatever_the_reason_one_bad_item_fails_alone(
    autojump_clock: trio.abc.Clock, expected_errors: None, error: Exception
) -> None:
    writer = Writer()
    writer.bad, writer.refusal = {70}, error
    async with commits(writer) as group:
        answers = await put_all(group, range(200))
    refused = answers.pop(70)
    assert isinstance(refused, StoreError)
    assert answers == {item: f"kept {item}" for item in range(200) if item != 70}
    assert writer.stored == [item for item in range(200) if item != 70], "in order"
    assert len(writer.groups) <= 2 + 2 * 8, "found by halves"


async def test_a_waiter_that_is_gone_before_its_turn_leaves_nothing(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    async with commits(writer) as group, trio.open_nursery() as nursery:
        nursery.start_soon(group.put, 1)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.5):
            await group.put(2)
        await group.put(3)
    assert writer.stored == [1, 3]


async def test_a_waiter_that_is_gone_during_the_commit_harms_nobody(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    async with commits(writer) as group:
        with trio.move_on_after(0.5):
            await group.put(1)
        assert await group.put(2) == "kept 2"
    assert writer.stored == [1, 2]


async def test_a_full_queue_says_so_at_once(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer(takes_s=100)
    async with commits(writer, room=3) as group, trio.open_nursery() as nursery:
        for item in range(4):
            nursery.start_soon(group.put, item)
            await wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await group.put(5)
        nursery.cancel_scope.cancel()


async def test_the_stop_answers_the_group_in_hand(autojump_clock: trio.abc.Clock) -> None:
    writer = Writer()
    puts = Puts()
    async with trio.open_nursery() as nursery, commits(writer) as group:
        nursery.start_soon(puts.put, group, 1)
        await trio.sleep(0.5)
    assert isinstance(puts.answers[1], Unavailable)
