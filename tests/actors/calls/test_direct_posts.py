"""Posts that the tenant's actor commits itself, on a real PostgreSQL: once each, in order, and by way of the journal wherever
the short cut does not fit."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.calls import direct_posts as module
from actors.calls.direct_posts import DirectPosts
from actors.calls.posts import Posts
from actors.calls.tenant_calls import PbxEvents, TenantCalls
from actors.feed import Feed
from actors.runtime.directory import Directory, Slot
from actors.runtime.group_commit import GroupCommit
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import Supervisor, open_supervisor
from actors.services import Doorbells, Services
from adapters.base import Draft
from gateway.domain.calls import Call
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.events import CallEvent
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.posts import parse_post
from gateway.store import call_batches, journal
from gateway.store.call_batches import CallBatch, Recorded
from gateway.store.files.spool import Spool
from gateway.store.journal import PostRow
from gateway.store.postgres.errors import BadData
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

NUMBER = TenantId("0367")
TENANT = Tenant(
    NUMBER, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone("150"), Phone("151")),
    pbxes=(Connector("main", Kind("asterisk"), {}),),
)  # fmt: skip
CRM = IntegrationKey("crm")


def plan(before: Call | None, call: Call, event: CallEvent) -> Sequence[Draft]:
    return [Draft(kind="card", key=f"{call.call_id}:{call.events}", lane=call.call_id, body={})]


def start_plan(call: Call) -> Sequence[Draft]:
    return [Draft(kind="card", key=f"{call.call_id}:{call.events}", lane=call.call_id, body={"called": call.called})]


class World:
    """The actor, the journal and the listeners' way to both."""

    def __init__(self, db: Database, folder: Path, supervisor: Supervisor, directory: Directory) -> None:
        self.db = db
        self.directory = directory
        self.supervisor = supervisor
        self.mailbox = Mailbox[PbxEvents](100)
        self.fails: list[Exception | None] = []
        """What becomes of the next commits: an error raised behind each, or None."""
        self.commits = self.journaled = 0
        self.ownership = SimpleNamespace(instances=1)
        direct = DirectPosts()
        self.posts = Posts(
            self._insert, Spool(folder / "spool", 1 << 20), arrived=lambda _: self.mailbox.ring(),
            set_aside=lambda letter: None, direct=direct,
        )  # fmt: skip
        self.records: GroupCommit[CallBatch, Recorded] = GroupCommit("outbox", self._record)
        self.reads: GroupCommit[Any, Any] = GroupCommit("journal", lambda w: db.engine(journal.select_pending_posts, w))
        self.services = cast(
            Services,
            SimpleNamespace(
                recording_files=None, public_url="", db=db, records=self.records, directory=directory, feed=Feed(),
                bells=Doorbells(), direct_posts=direct, pending_posts=self.reads, ownership=self.ownership,
            ),
        )  # fmt: skip
        self.slot = Slot("")
        self.starters: dict[IntegrationKey, Any] = {}

    async def _record(self, batch: Sequence[CallBatch]) -> list[Recorded]:
        self.commits += 1
        recorded = await self.db.engine(call_batches.record, batch)
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        return recorded

    async def _insert(self, rows: Sequence[PostRow]) -> list[bool]:
        self.journaled += len(rows)
        return await self.db.engine(journal.insert_posts, rows)

    def start(self) -> None:
        self.slot = Slot(f"tenant/{NUMBER}", mailbox=self.mailbox)

        async def run(slot: Slot) -> None:
            await TenantCalls(TENANT, self.mailbox, self.services, {CRM: plan}, None, self.starters).run(slot)

        self.child = self.supervisor.start(self.slot, run)

    async def restart(self) -> None:
        await self.supervisor.stop(self.child)
        self.start()
        await self.quiet()

    def link(self, state: State) -> Slot:
        slot = self.directory.add(Slot(f"tenant/{NUMBER}/pbx/main"))
        slot.report(state)
        return slot

    async def post(self, address: str, unique_id: str = "170.1", **fields: Any) -> bool:
        given = {"UniqueId": unique_id, "CallerIDNum": "375296254070", "Extensions": ["150"], "CallType": 0, **fields}
        parsed = parse_post(address, given, TENANT, datetime.now(UTC))
        row = PostRow(NUMBER, address, unique_id, parsed.digest, parsed.body, parsed.received_at)
        return await self.posts.put(row, parsed)

    async def quiet(self) -> None:
        """Until nothing waits in the journal and the actor has looked."""
        with trio.fail_after(10):
            while (await self.db.engine(waiting)) or self.mailbox.rung or len(self.mailbox):
                await trio.sleep(0.01)
        await trio.sleep(0.05)

    async def stored(self) -> tuple[list[str], list[str]]:
        return await self.db.engine(found)


async def waiting(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM journal WHERE done_at IS NULL"))


async def found(conn: Connection) -> tuple[list[str], list[str]]:
    """Keys of deliveries and posts of the journal, in order."""
    keys = await conn.fetch("SELECT key FROM deliveries ORDER BY delivery_id")
    posts = await conn.fetch("SELECT address || ' ' || unique_id FROM journal ORDER BY journal_id")
    return [row[0] for row in keys], [row[0] for row in posts]


@asynccontextmanager
async def open_world(db: Database, folder: Path) -> AsyncIterator[World]:
    directory = Directory()
    async with trio.open_nursery() as nursery, open_supervisor(directory) as supervisor:
        here = World(db, folder, supervisor, directory)
        await here.posts.spool.open()
        for task in (here.records.run, here.reads.run):
            nursery.start_soon(task)
        nursery.start_soon(here.posts.run, Slot("system/journal"))
        here.posts.usable.set()
        here.start()
        await here.quiet()
        yield here
        nursery.cancel_scope.cancel()


async def test_a_call_of_posts_is_a_commit_a_post_and_touches_no_journal_first(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        for address in ("/start", "/dial", "/bridge", "/hangup"):
            assert await here.post(address, CallStatus="2")
        assert (here.commits, here.journaled) == (4, 0)
        keys, posts = await here.stored()
        assert keys == ["170.1:1", "170.1:2", "170.1:3"]
        assert posts == ["/start 170.1", "/dial 170.1", "/bridge 170.1", "/hangup 170.1"]
        assert not await here.post("/dial", CallStatus="2"), "a repeat is a duplicate"
        assert await here.stored() == (keys, posts)


async def test_an_announced_call_is_shown_and_stored_as_a_call_with_its_first_ring(
    db: Database, tmp_path: Path
) -> None:
    async with open_world(db, tmp_path) as here:
        here.starters[CRM] = start_plan
        await here.restart()
        assert await here.post("/start")
        assert await here.stored() == (["170.1:0"], ["/start 170.1"])
        assert await db.engine(call_count) == 0, "nothing rings yet"
        assert not await here.post("/start"), "a repeat is a duplicate"
        await here.quiet()
        for address in ("/dial", "/bridge", "/hangup"):
            assert await here.post(address, CallStatus="2")
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:0", "170.1:1", "170.1:2", "170.1:3"]
        assert await here.post("/start", StartTime="2026-11-21 10:00:00"), "another one, late"
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:0", "170.1:1", "170.1:2", "170.1:3"]
        await here.restart()
        assert await here.post("/start", StartTime="2026-11-21 10:00:01"), (
            "of a call that this incarnation does not know"
        )
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:0", "170.1:1", "170.1:2", "170.1:3"]


async def call_count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM calls"))


async def test_posts_of_many_calls_at_once_share_commits(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here, trio.open_nursery() as nursery:
        answers: list[bool] = []

        async def one(number: int) -> None:
            for address in ("/dial", "/hangup"):
                answers.append(await here.post(address, f"170.{number}", CallStatus="0"))

        for number in range(40):
            nursery.start_soon(one, number)
        with trio.fail_after(10):
            while len(answers) < 80:
                await trio.sleep(0.01)
        assert all(answers)
        keys, _ = await here.stored()
        assert sorted(keys) == sorted(f"170.{n}:{seq}" for n in range(40) for seq in (1, 2))
        assert here.journaled == 0
        assert here.commits < 20


async def test_a_commit_without_an_answer_is_neither_lost_nor_made_twice(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        here.fails = [Unavailable("the answer was lost", certain=False)]
        assert not await here.post("/dial"), "the journal knows it: the commit had been made"
        await here.quiet()
        assert await here.post("/hangup", CallStatus="0")
        assert (await here.stored())[0] == ["170.1:1", "170.1:2"]


async def test_what_the_database_refuses_goes_by_the_journal(
    db: Database, tmp_path: Path, expected_errors: None
) -> None:
    async with open_world(db, tmp_path) as here:
        here.fails = [BadData("refused")]
        assert await here.post("/dial", "170.2") in (True, False)
        await here.quiet()
        assert here.journaled == 1
        assert (await here.stored())[0] == ["170.2:1"]


@pytest.mark.slow
async def test_a_database_that_hangs_is_left_for_the_spool(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(db, tmp_path) as here:
        thaw = trio.Event()
        record, insert = here._record, here._insert

        async def hang(batch: Sequence[CallBatch]) -> list[Recorded]:
            await thaw.wait()
            return await record(batch)

        async def hang_too(rows: Sequence[PostRow]) -> list[bool]:
            await thaw.wait()
            return await insert(rows)

        here.records._write = hang
        here.posts._insert = hang_too
        with trio.fail_after(module.PATIENCE_S + 2):
            assert await here.post("/dial")
        assert here.posts.spool.records
        thaw.set()
        with trio.fail_after(10):
            while here.posts.spool.records:
                await trio.sleep(0.05)
        await here.quiet()
        assert await here.post("/hangup", CallStatus="0")
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:1", "170.1:2"]


async def test_a_post_waits_in_the_journal_for_ami_and_none_overtakes_it(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        here.link(State.ONLINE)
        assert await here.post("/dial")
        assert await here.post("/hangup", CallStatus="0")
        assert here.journaled == 2
        assert (await here.stored())[0] == []
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:1", "170.1:2"]


async def test_calls_stored_before_a_restart_are_known(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        await here.post("/dial")
        await here.post("/dial", "170.2")
        await here.post("/hangup", "170.2", CallStatus="0")
        await here.restart()
        assert await here.post("/hangup", CallStatus="0")
        assert await here.post("/hangup", "170.2", CallStatus="0", EndTime="2026-11-21 13:00:09"), "refused, journaled"
        await here.quiet()
        assert (await here.stored())[0] == ["170.1:1", "170.2:1", "170.2:2", "170.1:2"]
        assert here.journaled == 1


async def test_with_other_instances_older_posts_of_the_journal_go_first(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        here.ownership.instances = 2
        given = parse_post("/dial", {"UniqueId": "170.1", "Extensions": ["150"]}, TENANT, datetime.now(UTC))
        row = PostRow(NUMBER, "/dial", "170.1", given.digest, given.body, given.received_at)
        await here.db.engine(journal.insert_posts, [row])  # by another instance, whose word has not come yet
        assert await here.post("/hangup", CallStatus="0")
        await here.quiet()
        keys, posts = await here.stored()
        assert posts == ["/dial 170.1", "/hangup 170.1"]
        assert keys == ["170.1:1", "170.1:2"]
        assert await here.post("/dial", "170.3")
        assert here.journaled == 1, "nothing waits: the short cut"


async def test_an_actor_that_is_replaced_leaves_its_posts_to_the_journal(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here, trio.open_nursery() as nursery:
        answers: list[bool] = []

        async def one(number: int) -> None:
            answers.append(await here.post("/dial", f"170.{number}"))

        for number in range(60):
            nursery.start_soon(one, number)
            if number % 20 == 10:
                await here.restart()
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            while len(answers) < 60:
                await trio.sleep(0.01)
        await here.quiet()
        keys, posts = await here.stored()
        assert sorted(keys) == sorted(f"170.{n}:1" for n in range(60))
        assert len(posts) == 60


async def test_a_sender_that_goes_away_harms_nobody(db: Database, tmp_path: Path) -> None:
    async with open_world(db, tmp_path) as here:
        with trio.move_on_after(0):
            await here.post("/dial", "170.1")
        assert await here.post("/dial", "170.2")
        await here.quiet()
        assert await here.post("/dial", "170.3")
        assert "170.3:1" in (await here.stored())[0]
