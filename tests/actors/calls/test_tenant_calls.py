"""A tenant's actor against a store of a few lines: each call is told once, in order, whoever tells it and whatever breaks.

Over 400 lines: one store and one world serve every case.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

import actors.calls.calls_book
import actors.calls.post_reader
import actors.calls.tenant_calls
from actors.calls.calls_book import AMI_GRACE_S, FORGOTTEN_AFTER, POSTED
from actors.calls.direct_posts import DirectPosts
from actors.calls.tenant_calls import PbxEvents, TenantCalls
from actors.feed import Feed
from actors.runtime.directory import Directory, Slot
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import Child, DeadLetter, Supervisor, open_supervisor
from actors.services import Doorbells, Services
from adapters.base import Draft
from gateway.domain.calls import Call, Phase, apply
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)
from gateway.domain.health import State
from gateway.domain.ids import CallId, IntegrationKey, Kind, TenantId
from gateway.domain.posts import parse_post
from gateway.store.call_batches import CallBatch, EventRow
from gateway.store.calls import select_calls, select_open_calls, select_stored_events
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.journal import POSTS_AT_ONCE, PendingPost
from gateway.store.postgres.errors import BadData

START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
CRM, CHAT = IntegrationKey("crm"), IntegrationKey("chat")
NUMBER = TenantId("0367")
MAIN = Connector("main", Kind("asterisk"), {})
BRANCH = Connector("branch", Kind("asterisk"), {})
TENANT = Tenant(
    NUMBER, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone("150"), Phone("151")), pbxes=(MAIN,)
)
CLIENT = "+375296254070"


def now() -> datetime:
    return START + timedelta(seconds=trio.current_time() - _EPOCH[0])


_EPOCH = [0.0]


def plan(before: Call | None, call: Call, event: CallEvent) -> Sequence[Draft]:
    """Rings once for every phone, the end once: as a CRM would have it."""
    match event:
        case CallRinging():
            known = before.rang if before is not None else ()
            codes = [code for code in event.extensions if code not in known]
            keys = [f"{call.call_id}:ring:{'+'.join(codes)}"] if codes else []
        case CallEnded():
            keys = [f"{call.call_id}:end"]
        case _:
            keys = []
    if call.caller == "poison":
        raise ValueError("a planner that fails")
    return [Draft(kind=key.split(":")[1], key=key, lane=call.call_id, body={}) for key in keys]


def fine(before: Call | None, call: Call, event: CallEvent) -> Sequence[Draft]:
    """Another integration: told of each call once."""
    return [Draft(kind="card", key=call.call_id, lane=call.call_id, body={})] if before is None else []


@dataclass
class Store:
    """The database as the actor sees it: `record` refuses what it has, as the real statement does."""

    calls: dict[str, tuple[str, Call]] = field(default_factory=dict)
    events: dict[tuple[str, int], str] = field(default_factory=dict)
    bodies: dict[tuple[str, int], str] = field(default_factory=dict)
    deliveries: dict[str, Any] = field(default_factory=dict)
    posts: dict[int, PendingPost] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    away: bool = False
    fails_after_commit: int = 0
    commit_s: float = 0.0
    puts: int = 0
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    refuses: Callable[[EventRow], bool] = lambda row: False
    """Which events the database would not take."""

    async def tenant(self, number: TenantId, work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        if work is select_open_calls:
            return [(source, call) for source, call in self.calls.values() if call.open]
        if work is select_calls:
            return [self.calls[call_id] for call_id in args[1] if call_id in self.calls]
        if work is select_stored_events:
            return [(call_id, body) for (call_id, _), body in self.bodies.items() if call_id in args[1]]
        raise AssertionError(work)

    async def read(self, wanted: tuple[TenantId, int]) -> list[PendingPost]:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        waiting = [post for key, post in sorted(self.posts.items()) if key not in self.done and key > wanted[1]]
        return waiting[:POSTS_AT_ONCE]

    async def engine(self, work: Callable[..., Any], rows: Sequence[DeadLetterRow], version: str) -> None:
        await trio.lowlevel.checkpoint()
        assert work is insert_dead_letters
        self.dead_letters += rows
        self.done |= {row.journal_id for row in rows if row.journal_id is not None}

    async def put(self, recording: CallBatch) -> frozenset[IntegrationKey]:
        self.puts += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away", certain=False)
        if any(self.refuses(row) for row in recording.events):
            raise BadData("CharacterNotInRepertoireError")
        await trio.sleep(self.commit_s)
        for call_id, (source, call) in recording.calls.items():
            if call_id not in self.calls or self.calls[call_id][1].events < call.events:
                self.calls[call_id] = (source, call)
        for event in recording.events:
            self.events.setdefault((event.call_id, event.seq), event.event)
            self.bodies.setdefault((event.call_id, event.seq), event.body)
        new = [row for row in recording.deliveries if row.key not in self.deliveries]
        self.deliveries |= {row.key: row for row in new}
        self.done |= {journal_id for journal_id, _ in recording.posts_done}
        if self.fails_after_commit:
            self.fails_after_commit -= 1
            raise Unavailable("the answer was lost", certain=False)
        return frozenset(row.integration for row in new)

    def call(self, call_id: str) -> Call:
        return self.calls[call_id][1]

    @property
    def open(self) -> list[str]:
        return [call_id for call_id, (_, call) in self.calls.items() if call.open]

    @property
    def reported(self) -> list[str]:
        """The keys of all deliveries, in order."""
        return list(self.deliveries)


class World:
    """The actor under a supervisor, and what stands around it."""

    def __init__(
        self, supervisor: Supervisor, directory: Directory, store: Store, tenant: Tenant, planners: Any
    ) -> None:
        self.planners = planners
        self.store = store
        self.tenant = tenant
        self.dead_letters: list[DeadLetter] = []
        self.mailbox = Mailbox[PbxEvents](100)
        self._supervisor = supervisor
        self._journal = 0
        self._pbxes: dict[str, Slot] = {}
        self.directory = directory
        self.services = cast(
            Services,
            SimpleNamespace(
                recording_files=None,
                public_url="",
                db=store,
                records=store,
                directory=directory,
                feed=Feed(),
                bells=Doorbells(),
                direct_posts=DirectPosts(),
                pending_posts=SimpleNamespace(put=store.read),
                ownership=SimpleNamespace(instances=1),
            ),
        )
        self.slot = Slot("")
        self.child: Child

    def start(self, tenant: Tenant | None = None) -> None:
        self.tenant = tenant or self.tenant
        self.slot = Slot(f"tenant/{NUMBER}", mailbox=self.mailbox)
        self.child = self._supervisor.start(self.slot, self._run)

    async def _run(self, slot: Slot) -> None:
        await TenantCalls(self.tenant, self.mailbox, self.services, self.planners).run(slot)

    async def replace(self, tenant: Tenant | None = None) -> None:
        await self._supervisor.stop(self.child)
        self.start(tenant)

    def link(self, state: State, name: str = "main") -> None:
        """The state of a PBX link."""
        if name not in self._pbxes:
            self._pbxes[name] = self.directory.add(Slot(f"tenant/{NUMBER}/pbx/{name}"))
        self._pbxes[name].report(state)

    async def receive(self, *events: CallEvent, source: str = "main") -> None:
        await self.mailbox.post(PbxEvents(source, events, now()))

    def post(self, address: str, unique_id: str = "170.1", **fields: Any) -> PendingPost:
        given = {"UniqueId": unique_id, "CallerIDNum": "375296254070", "Extensions": ["150"], "CallType": 0, **fields}
        parsed = parse_post(address, given, self.tenant, now())
        self._journal += 1
        row = PendingPost(self._journal, address, unique_id, parsed.body, now())
        self.store.posts[self._journal] = row
        self.mailbox.ring()
        return row

    async def settled(self) -> None:
        """Until everything told or posted is kept; posts that wait for AMI have had their time."""
        await trio.sleep(AMI_GRACE_S * 2 + 0.5)
        assert len(self.mailbox) == 0


@asynccontextmanager
async def world(tenant: Tenant = TENANT, store: Store | None = None, planners: Any = None) -> AsyncIterator[World]:
    _EPOCH[0] = trio.current_time()
    directory = Directory()
    dead_letters: list[DeadLetter] = []
    async with open_supervisor(directory, set_aside=dead_letters.append) as supervisor:
        here = World(supervisor, directory, store or Store(), tenant, planners or {CRM: plan})
        here.dead_letters = dead_letters
        here.start()
        await trio.sleep(0.01)
        yield here


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes with Trio's."""
    monkeypatch.setattr(actors.calls.tenant_calls, "utc_now", now)


def ringing(call_id: str = "170.1", *extensions: str, caller: str = CLIENT) -> CallRinging:
    return CallRinging(
        call_id=CallId(call_id), at=now(), direction=Direction.INCOMING, caller=caller, called="+375172000001",
        trunk="trunk-0001", extensions=extensions or ("150",),
    )  # fmt: skip


def answered(call_id: str = "170.1") -> CallAnswered:
    return CallAnswered(call_id=CallId(call_id), at=now(), extension="150", wait_s=1.0)


def ended(call_id: str = "170.1", *rang: str) -> CallEnded:
    return CallEnded(
        call_id=CallId(call_id), at=now(), direction=Direction.INCOMING, caller=CLIENT, called="+375172000001",
        trunk="trunk-0001", extension="150", last_extension="150", rang=rang or ("150",), result=Result.ANSWERED,
        wait_s=1.0, talk_s=2.0, hung_up_by=HungUpBy.CALLER,
    )  # fmt: skip


# --- folding and routing


async def test_events_become_a_call_and_its_deliveries_in_order(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        rung = here.services.bells.listen(NUMBER, CRM)
        with here.services.feed.subscribe(NUMBER) as page:
            await here.receive(ringing())
            await here.receive(answered(), ended())
            await here.settled()
            assert (await page.changed())[0] == [("call", "170.1")]
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]
        assert [here.store.events["170.1", seq] for seq in (1, 2, 3)] == ["call_ringing", "call_answered", "call_ended"]
        assert here.store.call("170.1").phase is Phase.ENDED
        assert rung.is_set()


async def test_a_batch_is_one_commit_and_a_repeat_is_none(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        for number in range(20):
            await here.receive(ringing(f"170.{number}"))
        await here.settled()
        assert here.store.puts == 1
        await here.receive(ringing("170.3"), ringing("170.4"))
        await here.settled()
        assert here.store.puts == 1, "a ring that changes nothing is nothing new"
        assert len(here.store.events) == 20


async def test_an_ended_call_hears_nothing_more(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await here.receive(ringing(), ended(), ringing(), answered(), ended())
        await here.settled()
        assert len(here.store.events) == 2
        assert here.store.open == []


# --- crashes and restarts


async def test_a_batch_is_heard_again_after_a_crash(
    autojump_clock: trio.abc.Clock, expected_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as here:
        put, calls = here.store.put, []

        async def crash_once(recording: CallBatch) -> frozenset[IntegrationKey]:
            calls.append(recording)
            if len(calls) == 1:
                raise RuntimeError("a bug before the commit")
            return await put(recording)

        monkeypatch.setattr(here.store, "put", crash_once)
        await here.receive(ringing(), answered(), ended())
        await trio.sleep(5)
        assert here.slot.restarts == 1
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]
        assert len(here.mailbox) == 0


async def test_what_the_owner_before_has_told_is_not_told_again(autojump_clock: trio.abc.Clock) -> None:
    """Two hear a PBX while a tenant passes from one instance to another; each stamps events by its own clock."""

    def later(event: CallEvent, seconds: float = 0.02) -> CallEvent:
        return replace(event, at=event.at + timedelta(seconds=seconds))

    def moved() -> CallTransferred:
        return CallTransferred(call_id=CallId("170.1"), at=now(), from_extension="150", to_extension="151")

    async with world() as here:
        known: list[CallEvent] = []
        for event in (ringing(), answered(), moved(), ringing("170.2"), ended("170.2", "150")):
            known.append(event)
            await here.receive(event)
            await trio.sleep(3)
        reported, stored = here.store.reported, len(here.store.events)
        await here._supervisor.stop(here.child)
        # The other instance has heard all of it, and more.
        new = ringing("170.3")
        await here.receive(*(later(event) for event in known), new)
        here.start()
        await here.settled()
        assert here.store.reported == [*reported, "170.3:ring:150"]
        assert len(here.store.events) == stored + 1
        assert here.store.calls["170.1"][1].last_extension == "151"
        # What comes after it is heard as ever: the same phone may ring again.
        await here.receive(replace(moved(), from_extension="151", to_extension="150"))
        await here.receive(replace(moved(), from_extension="150", to_extension="151"))
        await here.settled()
        assert len(here.store.events) == stored + 3


@pytest.mark.parametrize("before", [(), ("ringing",)])
async def test_a_crash_behind_the_commit_tells_nothing_twice(
    autojump_clock: trio.abc.Clock, before: tuple[str, ...], expected_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as here:
        if before:
            await here.receive(ringing("170.1", "150"))
            await here.receive(ringing("170.1", "150", "151"))
            await here.settled()
        put, calls = here.store.put, []

        async def crash_once(recording: CallBatch) -> frozenset[IntegrationKey]:
            calls.append(recording)
            kinds = await put(recording)
            if len(calls) == 1:
                raise RuntimeError("a bug behind the commit")
            return kinds

        monkeypatch.setattr(here.store, "put", crash_once)
        events = (answered(), ended("170.1", "150", "151"))
        await here.receive(*events if before else (ringing("170.1", "150", "151"), *events))
        await trio.sleep(5)
        reported = dict(here.store.deliveries)
        await here.receive(ringing("170.9"))
        await here.settled()
        assert here.store.reported == [*reported, "170.9:ring:150"]
        assert sum(key.endswith(":end") for key in reported) == 1
        assert [key for key in reported if ":ring:" in key] in (
            [f"170.1:ring:{'150+151'}"],
            ["170.1:ring:150", "170.1:ring:151"],
        )
        assert here.store.open == ["170.9"]


async def test_a_lost_answer_to_a_commit_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with world(store=Store(fails_after_commit=3)) as here:
        await here.receive(ringing(), answered())
        await here.receive(ended())
        await here.settled()
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]
        assert len(here.store.events) == 3


async def test_an_actor_replaced_in_the_middle_of_a_commit_leaves_no_ghost(autojump_clock: trio.abc.Clock) -> None:
    """Its successor would otherwise begin from the state before, and tell the same again."""
    async with world(store=Store(commit_s=0.5)) as here:
        await here.receive(ringing("170.1", "150"))
        await trio.sleep(1)
        await here.receive(ringing("170.1", "150", "151"))
        await trio.sleep(1)
        await here.receive(answered(), ended("170.1", "150", "151"))
        await trio.sleep(0.1)
        await here.replace()
        await here.settled()
        assert here.store.open == []
        assert here.store.reported == ["170.1:ring:150", "170.1:ring:151", "170.1:end"]
        assert len(here.store.events) == 4


async def test_a_planner_that_fails_costs_its_own_integration_one_event(
    autojump_clock: trio.abc.Clock, expected_errors: None
) -> None:
    async with world(planners={CRM: plan, CHAT: fine}) as here:
        await here.receive(ringing("170.1"))
        await here.receive(ringing("170.2", caller="poison"))
        await here.receive(ringing("170.3"))
        await here.settled()
        assert here.slot.restarts == 0
        assert set(here.store.calls) == {"170.1", "170.2", "170.3"}, "the call itself is kept"
        assert here.store.reported == ["170.1:ring:150", "170.1", "170.2", "170.3:ring:150", "170.3"], (
            "and CHAT is told"
        )
        (dead_letter,) = here.store.dead_letters
        assert dead_letter.actor == "tenant/0367/integration/crm"
        assert '"170.2"' in dead_letter.message
        assert "ValueError: a planner that fails" in dead_letter.trace


@pytest.mark.parametrize("place", [1, 2, 3], ids=["ring", "answer", "end"])
async def test_an_event_that_the_database_refuses_is_set_aside_and_its_call_ends_uncertain(
    autojump_clock: trio.abc.Clock, expected_errors: None, place: int
) -> None:
    poison = "170.7", ("call_ringing", "call_answered", "call_ended")[place - 1]
    store = Store(refuses=lambda row: (row.call_id, row.event) == poison and 'uncertain": true' not in row.body)
    async with world(store=store) as here:
        for number in range(20):
            await here.receive(ringing(f"170.{number}"), answered(f"170.{number}"), ended(f"170.{number}"))
        await here.settled()
        assert (here.slot.restarts, here.slot.health.state) == (0, State.ONLINE)
        (dead_letter,) = store.dead_letters
        assert dead_letter.trace == "BadData: CharacterNotInRepertoireError"
        assert poison[1] in dead_letter.message
        assert store.open == []
        assert len(store.calls) == 20
        assert [call_id for call_id in store.calls if store.call(call_id).uncertain] == ["170.7"]
        assert sorted(key for key in store.reported if key.endswith(":end")) == sorted(
            f"170.{n}:end" for n in range(20)
        )
        assert store.puts < 25, "found by halves"


async def test_an_event_that_cannot_be_folded_is_set_aside(
    autojump_clock: trio.abc.Clock, expected_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(call: Call | None, event: CallEvent) -> Call | None:
        if isinstance(event, CallEnded) and not event.uncertain and event.call_id == "170.1":
            raise ZeroDivisionError
        return apply(call, event)

    monkeypatch.setattr(actors.calls.calls_book, "apply", broken)
    async with world() as here:
        await here.receive(ringing("170.1"), ended("170.1"), ringing("170.2"), ended("170.2"))
        await here.settled()
        assert here.slot.restarts == 0
        assert here.store.open == []
        assert (here.store.call("170.1").uncertain, here.store.call("170.2").uncertain) == (True, False)
        (dead_letter,) = here.store.dead_letters
        assert "ZeroDivisionError" in dead_letter.trace


@pytest.mark.parametrize("how", ["planner", "database", "reading"])
async def test_a_poison_post_gets_one_letter_and_its_neighbours_are_kept(
    autojump_clock: trio.abc.Clock, expected_errors: None, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def failing(*args: Any) -> Any:
        if args[1]["UniqueId"] == "170.2":
            raise RuntimeError("a bug")
        return parse_post(*args)

    store = Store(refuses=lambda row: how == "database" and row.call_id == "170.2")
    if how == "reading":
        monkeypatch.setattr(actors.calls.post_reader, "parse_post", failing)
    async with world(store=store) as here:
        here.post("/dial", "170.1")
        poison = here.post("/dial", "170.2", CallerIDNum="poison" if how == "planner" else "375296254070")
        here.post("/dial", "170.3")
        await trio.sleep(20)
        assert here.slot.restarts == 0
        assert set(store.calls) == {"170.1", "170.3"} | ({"170.2"} if how == "planner" else set())
        (dead_letter,) = store.dead_letters
        assert dead_letter.journal_id == (None if how == "planner" else poison.journal_id)
        assert store.done == {1, 2, 3}
        assert here.dead_letters == []


async def test_it_starts_from_what_the_database_knows(autojump_clock: trio.abc.Clock) -> None:
    store = Store()
    for event in (ringing("170.1"), answered("170.1")):
        call = apply(store.calls["170.1"][1] if store.calls else None, event)
        assert call is not None
        store.calls["170.1"] = ("main", call)
    async with world(store=store) as here:
        await here.receive(ended())
        await here.settled()
        assert here.store.call("170.1").events == 3
        assert here.store.reported == ["170.1:end"]


# --- the database away


async def test_the_database_away_loses_nothing_and_keeps_the_order(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.store.away = True
        await here.receive(ringing())
        await trio.sleep(3)
        assert here.slot.health.code == "database_away"
        for number in range(2, 30):
            await here.receive(ringing(f"170.{number}"), ended(f"170.{number}"))
        await here.receive(answered(), ended())
        here.post("/dial", "171.1")
        await trio.sleep(60)
        assert here.store.reported == []
        here.store.away = False
        await trio.sleep(20)
        wanted = [key for n in range(2, 30) for key in (f"170.{n}:ring:150", f"170.{n}:end")]
        assert [key for key in here.store.reported if key[:3] == "170"] == ["170.1:ring:150", *wanted, "170.1:end"]
        assert "171.1:ring:150" in here.store.reported
        assert here.slot.health.state is State.ONLINE


async def test_it_waits_for_the_database_at_the_start(autojump_clock: trio.abc.Clock) -> None:
    async with world(store=Store(away=True)) as here:
        await here.receive(ringing())
        await trio.sleep(30)
        assert here.slot.health.state is State.OFFLINE
        here.store.away = False
        await trio.sleep(10)
        assert here.store.reported == ["170.1:ring:150"]
        assert here.slot.restarts == 0


async def test_reading_posts_again_after_an_outage_is_reported(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.store.away = True
        here.mailbox.ring()
        await trio.sleep(2)
        assert here.slot.health.state is State.DEGRADED
        here.store.away = False
        await trio.sleep(2)
        assert here.slot.health.state is State.ONLINE


# --- posts


async def test_posts_alone_tell_a_call_once(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        for address in ("/start", "/dial", "/bridge"):
            here.post(address)
        here.post("/dial", Extensions=["150", "151"])
        here.post("/hangup", CallStatus="2")
        here.post("/hangup", CallStatus="2", EndTime="2026-11-21 13:00:09")
        await here.settled()
        assert here.store.reported[0] == "170.1:ring:150"
        assert here.store.reported[-1] == "170.1:end"
        assert len(here.store.reported) <= 3
        assert here.store.done == set(here.store.posts)
        assert here.store.calls["170.1"][0] == POSTED


async def test_a_hangup_without_its_dial_tells_the_ring_first(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.post("/hangup", CallStatus="0")
        await here.settled()
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]


async def test_posts_are_told_at_once_while_no_link_is_up(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.link(State.OFFLINE)
        here.post("/dial")
        await trio.sleep(AMI_GRACE_S / 10)
        assert here.store.reported == ["170.1:ring:150"]


async def test_posts_wait_a_moment_for_ami_while_a_link_is_up_and_then_tell(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.link(State.ONLINE)
        here.post("/start")
        here.post("/dial")
        await trio.sleep(AMI_GRACE_S * 0.9)
        here.post("/bridge")
        assert here.store.reported == []
        await trio.sleep(AMI_GRACE_S * 0.2)
        assert here.store.reported == ["170.1:ring:150"]
        assert here.store.call("170.1").phase is Phase.TALKING, "and those of the same call no longer wait"
        here.post("/hangup", CallStatus="2")
        await trio.sleep(0.1)
        assert here.store.reported[-1] == "170.1:end"


AMI: dict[str, Callable[[str], CallEvent]] = {"ring": ringing, "answer": answered, "end": ended}
ORDERS = [
    ["post /dial", "ring", "post /hangup", "end"],
    ["ring", "post /dial", "end", "post /hangup"],
    ["post /start", "post /dial", "post /bridge", "ring", "answer", "post /hangup", "end"],
    ["ring", "answer", "end", "post /start", "post /dial", "post /bridge", "post /hangup"],
    ["post /dial", "post /hangup", "ring", "answer", "end"],
    ["ring", "post /hangup", "answer", "end"],
]


@pytest.mark.parametrize("pbxes", [(MAIN,), (MAIN, BRANCH)], ids=["one PBX", "two PBXes"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pause", [0.0, 0.2])
async def test_ami_wins_in_every_order_within_the_grace(
    autojump_clock: trio.abc.Clock, order: list[str], pbxes: tuple[Connector, ...], pause: float
) -> None:
    prefix = "main-" if len(pbxes) > 1 else ""
    async with world(replace(TENANT, pbxes=pbxes)) as here:
        here.link(State.ONLINE)
        for what in order:
            if what.startswith("post "):
                here.post(what[5:], Extensions=["150", "151"], CallStatus="2")
            else:
                await here.receive(AMI[what](f"{prefix}170.1"))
            await trio.sleep(pause)
        await here.settled()
        assert here.store.reported == [f"{prefix}170.1:ring:150", f"{prefix}170.1:end"]
        assert {source for source, _ in here.store.calls.values()} == {"main"}
        assert here.store.done == set(here.store.posts), "the posts are noted"
        assert here.store.open == []


@pytest.mark.parametrize("pbxes", [(MAIN,), (MAIN, BRANCH)], ids=["one PBX", "two PBXes"])
@pytest.mark.parametrize("ends", ["post", "ami"])
async def test_a_call_that_posts_told_and_ami_tells_later_is_one_call(
    autojump_clock: trio.abc.Clock, pbxes: tuple[Connector, ...], ends: str
) -> None:
    """The link came up in the middle of a call."""
    prefix = "main-" if len(pbxes) > 1 else ""
    async with world(replace(TENANT, pbxes=pbxes)) as here:
        here.post("/dial")
        await here.settled()
        here.link(State.ONLINE)
        await here.receive(ringing(f"{prefix}170.1"), answered(f"{prefix}170.1"))
        await here.settled()
        if ends == "post":
            here.post("/hangup", CallStatus="2")
            await here.settled()
        await here.receive(ended(f"{prefix}170.1"))
        await here.settled()
        here.post("/hangup", CallStatus="2", EndTime="2026-11-21 13:00:09")
        await here.settled()
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]
        assert list(here.store.calls) == ["170.1"]


@pytest.mark.parametrize("pbxes", [(MAIN,), (MAIN, BRANCH)], ids=["one PBX", "two PBXes"])
async def test_posts_about_a_long_call_of_ami_tell_nothing(
    autojump_clock: trio.abc.Clock, pbxes: tuple[Connector, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than what is remembered about calls that are over."""
    prefix = "main-" if len(pbxes) > 1 else ""
    async with world(replace(TENANT, pbxes=pbxes)) as here:
        await here.receive(ringing(f"{prefix}170.1"), answered(f"{prefix}170.1"))
        await here.settled()
        monkeypatch.setattr(actors.calls.calls_book, "TTLCache", lambda **_: _Forgetful())
        await here.replace()
        here.post("/hangup", CallStatus="2")
        await here.settled()
        assert here.store.open == [f"{prefix}170.1"]
        await here.receive(ended(f"{prefix}170.1"))
        await here.settled()
        assert here.store.reported == [f"{prefix}170.1:ring:150", f"{prefix}170.1:end"]


class _Forgetful(dict[str, CallId]):
    """As if every entry were too old."""

    def __setitem__(self, key: str, value: CallId) -> None:
        return


async def test_posts_about_calls_told_before_a_restart_tell_nothing_again(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await here.receive(ringing("170.1"), ended("170.1"))
        here.post("/dial", "170.2")
        here.post("/hangup", "170.2", CallStatus="2")
        await here.settled()
        reported = here.store.reported
        await here.replace()
        here.post("/hangup", "170.1", CallStatus="2")
        here.post("/hangup", "170.2", CallStatus="2", EndTime="2026-11-21 13:00:09")
        await here.settled()
        assert here.store.reported == reported
        assert here.store.open == []


async def test_a_post_committed_behind_others_is_found(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here._journal = 5
        here.post("/dial", "170.6")
        await trio.sleep(0.1)
        here._journal = 1
        late = here.post("/dial", "170.2")
        here.mailbox.take_rung()  # nobody rang for it: its sender's connection was gone
        await trio.sleep(actors.calls.post_reader.LOOK_BACK_S + 1)
        assert late.journal_id in here.store.done
        assert set(here.store.calls) == {"170.6", "170.2"}


async def test_more_posts_than_one_reading_holds_keep_their_order(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        for number in range(1200):
            here.post("/dial", f"170.{number}")
        await trio.sleep(5)
        assert here.store.reported == [f"170.{number}:ring:150" for number in range(1200)]


async def test_more_held_posts_than_one_reading_holds(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.link(State.ONLINE)
        for number in range(1200):
            here.post("/dial", f"170.{number}")
        await here.settled()
        assert here.store.reported == [f"170.{number}:ring:150" for number in range(1200)]


# --- calls that nobody ends


async def test_a_forgotten_posted_call_ends_uncertain(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.post("/dial")
        await here.settled()
        await trio.sleep(FORGOTTEN_AFTER.total_seconds() + 120)
        call = here.store.call("170.1")
        assert call.uncertain
        assert call.phase is Phase.ENDED
        assert here.store.reported == ["170.1:ring:150", "170.1:end"]


async def test_the_call_of_a_pbx_that_was_taken_out_ends_uncertain(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await here.receive(ringing())
        await here.settled()
        await here.replace(replace(TENANT, pbxes=(BRANCH,)))
        await here.settled()
        assert here.store.call("170.1").uncertain
        assert here.store.open == []


async def test_the_call_of_a_pbx_that_stays_is_left_open(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        await here.receive(ringing())
        await here.settled()
        await here.replace(replace(TENANT, name="July"))
        await trio.sleep(FORGOTTEN_AFTER.total_seconds() * 2)
        assert here.store.open == ["170.1"]
