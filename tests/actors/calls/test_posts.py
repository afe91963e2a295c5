"""Where a post goes when PostgreSQL is there, slow, away or back again, and that none overtakes another."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from actors.calls import posts as module
from actors.calls.posts import Posts
from actors.runtime.directory import Slot
from actors.runtime.supervisor import DeadLetter
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.files.spool import Spool
from gateway.store.journal import PostRow
from gateway.store.postgres.errors import BadData, QueryFailed

A = TenantId("0367")
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def reports_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY_S", 0.02)


def post(name: str) -> PostRow:
    return PostRow(A, "/dial", name, f"digest of {name}".encode(), "{}", AT)


class Journal:
    """PostgreSQL as far as posts know it: kept in order, each digest once."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.groups: list[int] = []
        self.error: Exception | None = None
        self.frozen: trio.Event | None = None
        self.takes_s = 0.01
        self.bad: set[str] = set()

    async def insert(self, rows: Sequence[PostRow]) -> list[bool]:
        await trio.sleep(self.takes_s)
        while self.frozen is not None:
            await self.frozen.wait()
        if self.error is not None:
            raise self.error
        if self.bad & {row.unique_id for row in rows}:
            raise BadData("bad")
        self.groups.append(len(rows))
        answers = []
        for row in rows:
            answers.append(row.unique_id not in self.stored)
            if answers[-1]:
                self.stored.append(row.unique_id)
        return answers

    def freeze(self) -> Callable[[], None]:
        frozen = self.frozen = trio.Event()

        def thaw() -> None:
            self.frozen = None
            frozen.set()

        return thaw


class House:
    """The actor with its spool on a disk."""

    def __init__(self, folder: Path, journal: Journal, limit: int = 1 << 20) -> None:
        self.journal = journal
        self.rung: Counter[TenantId] = Counter()
        self.dead_letters: list[DeadLetter] = []
        self.slot = Slot("system/journal")
        self.spool = Spool(folder / "spool", limit)
        self.posts = Posts(
            journal.insert,
            self.spool,
            arrived=lambda tenant: self.rung.update([tenant]),
            set_aside=self.dead_letters.append,
        )
        self.answers: dict[str, object] = {}

    async def put(self, name: str) -> object:
        try:
            self.answers[name] = await self.posts.put(post(name))
        except (Unavailable, BadData) as error:
            self.answers[name] = error
        return self.answers[name]

    async def put_all(self, names: Sequence[str], every_s: float = 0.0) -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self.put, name)
                if every_s:
                    await trio.sleep(every_s)
                else:
                    await wait_all_tasks_blocked()


@asynccontextmanager
async def open_house(folder: Path, journal: Journal, limit: int = 1 << 20) -> AsyncIterator[House]:
    house = House(folder, journal, limit)
    await house.spool.open()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.posts.run, house.slot)
        house.posts.usable.set()
        yield house
        nursery.cancel_scope.cancel()


async def until(what: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not what():
            await trio.sleep(0.01)


async def test_with_postgresql_there_the_disk_is_not_touched(tmp_path: Path) -> None:
    journal = Journal()
    async with open_house(tmp_path, journal) as house:
        await house.put_all([str(number) for number in range(50)])
        assert await house.put("7") is False
    assert journal.stored == [str(number) for number in range(50)]
    assert list((tmp_path / "spool").iterdir()) == []
    assert house.slot.health.state is State.ONLINE


@pytest.mark.parametrize("how", [Unavailable("refused"), QueryFailed("no such table")])
async def test_posts_are_taken_while_postgresql_is_away_and_replayed_in_order(tmp_path: Path, how: Exception) -> None:
    journal = Journal()
    names = [str(number) for number in range(60)]
    async with open_house(tmp_path, journal) as house:
        await house.put_all(names[:10])
        journal.error = how
        await house.put_all(names[10:50], every_s=0.002)
        assert set(house.answers.values()) == {True}
        assert house.spool.records == 40
        assert await house.put("44") is False, "it stands in the spool"
        await until(lambda: house.slot.health.detail.startswith("40 ("))
        assert (house.slot.health.state, house.slot.health.code) == (State.DEGRADED, "spooling")
        journal.error = None
        await house.put_all(names[50:], every_s=0.002)
        await until(lambda: not house.spool.records)
        await until(lambda: house.slot.health.state is State.ONLINE)
        assert await house.put("3") is False
    assert journal.stored == names
    assert house.rung[A] > 0


@pytest.mark.slow
async def test_a_server_that_hangs_is_waited_for_a_second_and_not_longer(tmp_path: Path) -> None:
    journal = Journal()
    async with open_house(tmp_path, journal) as house:
        thaw = journal.freeze()
        started = trio.current_time()
        await house.put_all(["1", "2"])
        hung = trio.current_time() - started
        assert 0.9 < hung < 10
        started = trio.current_time()
        assert await house.put("3") is True
        assert trio.current_time() - started < hung / 2, "from now on the spool at once"
        thaw()  # the group that hung is committed after all, and once
        await until(lambda: not house.spool.records)
    assert journal.stored == ["1", "2", "3"]


@pytest.mark.slow
async def test_none_overtakes_what_waits_under_steady_load(tmp_path: Path) -> None:
    journal = Journal()
    names = [str(number) for number in range(600)]
    async with open_house(tmp_path, journal) as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.put_all, names, 0.002)
        for _ in range(3):
            await trio.sleep(0.1)
            journal.error = Unavailable("away")
            await trio.sleep(0.1)
            journal.error = None
        await until(lambda: len(house.answers) == len(names) and not house.spool.records)
    assert set(house.answers.values()) == {True}
    assert journal.stored == names


async def test_the_next_start_replays_what_a_killed_process_left(tmp_path: Path) -> None:
    journal = Journal()
    journal.error = Unavailable("away")
    async with open_house(tmp_path, journal) as house:
        await house.put_all(["1", "2", "3"])
    assert journal.stored == []
    async with open_house(tmp_path, journal) as house:
        assert house.spool.records == 3
        await house.put_all(["4"])
        journal.error = None
        await until(lambda: not house.spool.records)
    assert journal.stored == ["1", "2", "3", "4"]
    assert house.rung[A] > 0


async def test_a_spool_that_is_full_refuses_and_says_so(tmp_path: Path, expected_errors: None) -> None:
    journal = Journal()
    journal.error = Unavailable("away")
    async with open_house(tmp_path, journal, limit=1000) as house:
        for number in range(30):
            await house.put(str(number))
        taken = [name for name, answer in house.answers.items() if answer is True]
        assert 3 < len(taken) < 20
        assert all(isinstance(answer, Unavailable) for name, answer in house.answers.items() if name not in taken)
        assert "GATEWAY_SPOOL_MIB" in house.posts.refusing
        await until(lambda: house.slot.health.code == "spool_refuses")
        journal.error = None
        await until(lambda: not house.spool.records)
        assert await house.put("later") is True
        assert house.posts.refusing == ""
        await until(lambda: house.slot.health.state is State.ONLINE)
    assert journal.stored == [*taken, "later"]


async def test_neither_postgresql_nor_a_disk(tmp_path: Path, expected_errors: None) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o700)
    journal = Journal()
    async with open_house(tmp_path, journal) as house:
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").write_text("a file")
        journal.error = Unavailable("away")
        assert isinstance(await house.put("1"), Unavailable)
        journal.error = None
        assert await house.put("1") is True, "PostgreSQL is asked each time while nothing waits in the spool"


@pytest.mark.usefixtures("expected_errors")
async def test_a_post_that_fits_no_column_is_set_aside_and_holds_nobody_up(tmp_path: Path) -> None:
    journal = Journal()
    async with open_house(tmp_path, journal) as house:
        journal.bad = {"2"}
        await house.put_all(["1", "2", "3"])
        assert isinstance(house.answers["2"], BadData), "with PostgreSQL there it is told to the sender"
        journal.error = Unavailable("away")
        journal.bad = {"5"}
        await house.put_all(["4", "5", "6"])
        journal.error = None
        await until(lambda: not house.spool.records)
    assert journal.stored == ["1", "3", "4", "6"]
    assert [dead_letter.message for dead_letter in house.dead_letters] == [post("5")]


@pytest.mark.slow
async def test_a_sender_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    journal = Journal()
    async with open_house(tmp_path, journal) as house:
        journal.freeze()
        with trio.move_on_after(0.2):
            await house.put("1")
        assert await house.put("2") is True


async def test_nothing_is_replayed_before_the_schema_is_known(tmp_path: Path, autojump_clock: MockClock) -> None:
    journal = Journal()
    house = House(tmp_path, journal)
    await house.spool.append([post("1")])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.posts.run, house.slot)
        await trio.sleep(60)
        assert journal.groups == []
        autojump_clock.autojump_threshold, autojump_clock.rate = math.inf, 1.0  # the disk takes real time
        house.posts.usable.set()
        await until(lambda: not house.spool.records)
        nursery.cancel_scope.cancel()
    assert journal.stored == ["1"]
