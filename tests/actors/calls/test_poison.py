"""One poisoned event among ten thousand of several companies, on a real PostgreSQL: it alone is set aside, with its cause,
and no actor is restarted for it."""

import random
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.calls.direct_posts import DirectPosts
from actors.calls.tenant_calls import PbxEvents, TenantCalls
from actors.feed import Feed
from actors.runtime.directory import Directory, Slot
from actors.runtime.group_commit import GroupCommit
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import DeadLetter, open_supervisor
from actors.services import Doorbells, Services
from adapters.base import Draft
from gateway.domain.calls import Call
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.events import CallEnded, CallEvent, CallRinging, Direction, Result
from gateway.domain.health import State
from gateway.domain.ids import CallId, IntegrationKey, Kind, TenantId
from gateway.store import call_batches, dead_letters
from gateway.store.journal import PendingPost
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
CRM, CHAT = IntegrationKey("retailcrm"), IntegrationKey("telegram")
NUMBERS = [TenantId(number) for number in ("0367", "0368", "0369", "0370")]
EVENTS = 10_000
LONG = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=9000))
"""Too long for a row of an index, however it is packed: the server says so in its own way (54000)."""


def ringing(call_id: str, caller: str = "+375296254070") -> CallRinging:
    return CallRinging(
        call_id=CallId(call_id), at=AT, direction=Direction.INCOMING, caller=caller, called="+375172000001",
        trunk="trunk-0001", extensions=("150",),
    )  # fmt: skip


def ended(call_id: str) -> CallEnded:
    return CallEnded(
        call_id=CallId(call_id), at=AT + timedelta(seconds=9), direction=Direction.INCOMING, caller="+375296254070",
        called="+375172000001", trunk="trunk-0001", extension=None, last_extension=None, rang=("150",),
        result=Result.MISSED, wait_s=None, talk_s=None, hung_up_by=None,
    )  # fmt: skip


async def no_posts(wanted: object) -> list[PendingPost]:
    return []


def plan(before: Call | None, call: Call, event: CallEvent) -> Sequence[Draft]:
    if call.caller == "poison" and before is None:
        raise ValueError("a planner that fails")
    return [Draft(kind="card", key=f"{call.call_id}:{call.events}", lane=call.call_id, body={})]


def fine(before: Call | None, call: Call, event: CallEvent) -> Sequence[Draft]:
    return plan(None, replace(call, caller=""), event)


async def figures(conn: Connection) -> dict[str, Any]:
    reported = await conn.fetch("SELECT integration_type, count(*) FROM deliveries GROUP BY 1")
    return {
        "events": await conn.fetchval("SELECT count(*) FROM call_events"),
        "open": await conn.fetchval("SELECT count(*) FROM calls WHERE phase = 'ringing'"),
        **{row[0]: row[1] for row in reported},
    }


Poison = Callable[[int], list[CallEvent]]
POISONS: dict[str, tuple[Callable[[int], list[CallEvent]], str]] = {
    "refused": (lambda n: [ringing(f"1.{n}\0"), ended(f"1.{n}")], "BadData: UntranslatableCharacterError"),
    "too long": (lambda n: [ringing(f"1.{n}{LONG}"), ended(f"1.{n}")], "QueryFailed: ProgramLimitExceededError 54000"),
    "planner": (lambda n: [ringing(f"1.{n}", "poison"), ended(f"1.{n}")], "ValueError: a planner that fails"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POISONS)
async def test_one_poisoned_event_never_stops_the_rest(db: Database, name: str, expected_errors: None) -> None:
    poison, cause = POISONS[name]
    directory, set_aside = Directory(), list[DeadLetter]()

    async def record(batch: Sequence[call_batches.CallBatch]) -> list[call_batches.Recorded]:
        return await db.engine(call_batches.record, batch)

    records = GroupCommit[call_batches.CallBatch, call_batches.Recorded]("outbox", record)
    services = cast(
        Services,
        SimpleNamespace(
            recording_files=None,
            db=db,
            records=records,
            directory=directory,
            feed=Feed(),
            bells=Doorbells(),
            public_url="",
            direct_posts=DirectPosts(),
            pending_posts=SimpleNamespace(put=no_posts),
            ownership=SimpleNamespace(instances=1),
        ),
    )
    mailboxes = {number: Mailbox[PbxEvents](2000) for number in NUMBERS}

    async def fill(number: TenantId) -> None:
        calls = EVENTS // len(NUMBERS) // 2
        for n in range(calls):
            bad = number == NUMBERS[1] and n == calls // 2
            events: list[CallEvent] = poison(n) if bad else [ringing(f"1.{n}"), ended(f"1.{n}")]
            for event in events:
                await mailboxes[number].post(PbxEvents("main", (event,), AT))
        await mailboxes[number].wait_idle()

    async with trio.open_nursery() as nursery, open_supervisor(directory, set_aside=set_aside.append) as supervisor:
        supervisor.start(outbox_slot := Slot("system/outbox"), lambda slot: records.run())
        slots = []
        for number, mailbox in mailboxes.items():
            tenant = Tenant(number, "", ZoneInfo("UTC"), "BY", "ru", pbxes=(Connector("main", Kind("asterisk"), {}),))
            actor = TenantCalls(tenant, mailbox, services, {CRM: plan, CHAT: fine})
            slots.append(Slot(f"tenant/{number}", mailbox=mailbox))
            supervisor.start(slots[-1], actor.run)
        with trio.fail_after(60):
            async with trio.open_nursery() as filling:
                for number in NUMBERS:
                    filling.start_soon(fill, number)
        assert [slot.restarts for slot in (outbox_slot, *slots)] == [0] * 5
        assert {slot.health.state for slot in slots} == {State.ONLINE}
        nursery.cancel_scope.cancel()
    stored = await db.engine(figures)
    (dead_letter,) = await db.engine(dead_letters.select_dead_letters, None, None, 10)
    assert (dead_letter.tenant, dead_letter.post) == (NUMBERS[1], False)
    assert cause in dead_letter.trace
    assert set_aside == []
    if name == "planner":
        assert dead_letter.actor == "tenant/0368/integration/retailcrm"
        assert stored == {"events": EVENTS, "open": 0, "retailcrm": EVENTS - 1, "telegram": EVENTS}
    else:
        assert dead_letter.actor == "tenant/0368"
        assert stored == {"events": EVENTS - 1, "open": 0, "retailcrm": EVENTS - 1, "telegram": EVENTS - 1}
        assert not Counter(slot.health.code for slot in slots)["database_away"]
