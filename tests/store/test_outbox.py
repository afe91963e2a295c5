"""The outbox on a real server: kept once, claimed in the order of its lanes, acknowledged by whoever holds the lease.

Long, because every case needs the same few rows and statements.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from gateway.domain.calls import Call, Phase
from gateway.domain.events import Direction
from gateway.domain.ids import CallId, IntegrationKey, TenantId
from gateway.domain.subjects import call_subject
from gateway.store import call_batches, outbox
from gateway.store.call_batches import CallBatch, EventRow
from gateway.store.calls import select_calls, select_open_calls
from gateway.store.journal import PostRow, insert_posts, select_pending_posts
from gateway.store.outbox import DeliveryRow, Outcome, storable
from gateway.store.postgres.pool import Connection, Database

A, B = TenantId("0367"), TenantId("0368")
CRM, CHAT = IntegrationKey("retailcrm"), IntegrationKey("telegram")
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
DONE = Outcome(state="done", status="done")
AGAIN = Outcome(state="pending", status="retry", again_s=0.0)


def call(events: int = 1, call_id: str = "1.1", **changes: Any) -> Call:
    known = Call(
        call_id=CallId(call_id), phase=Phase.RINGING, direction=Direction.INCOMING, caller="+375296254070", called="150",
        trunk=None, started_at=AT, ringing=("150", "151"), rang=("150", "151"), events=events,
    )  # fmt: skip
    return replace(known, **changes)


def event(seq: int = 1, call_id: str = "1.1", name: str = "call_ringing") -> EventRow:
    return EventRow(call_id, seq, name, AT, "{}")


def delivery(key: str, lane: str = "1.1", integration: IntegrationKey = CRM, **changes: Any) -> DeliveryRow:
    row = DeliveryRow(
        integration=integration, lane=lane, key=key, kind="upload", bucket="", subject=call_subject("1.1"), body="{}", latest_only=False,
        expires_s=None, keep_s=48 * 3600.0,
    )  # fmt: skip
    return replace(row, **changes)


def recording(tenant: TenantId = A, *, calls: Sequence[Call] = (), **parts: Any) -> CallBatch:
    return CallBatch(tenant, calls={one.call_id: ("main", one) for one in calls}, **parts)


def reported(*keys: str, **changes: Any) -> CallBatch:
    return recording(deliveries=[delivery(key, **changes) for key in keys])


async def rows(connection: Connection, query: str, *args: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(query, *args)]


async def run_sql(connection: Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def states(db: Database) -> dict[str, str]:
    return dict(await db.engine(rows, "SELECT key, state FROM deliveries ORDER BY delivery_id"))


async def claim(
    db: Database, most: int = 10, integration: IntegrationKey = CRM, lease_s: float = 20.0, **more: Any
) -> list[str]:
    return [one.key for one in await db.engine(outbox.claim_deliveries, A, integration, most, lease_s, **more)]


# --- keeping


async def test_a_recording_is_kept_whole_and_comes_back_as_it_was(db: Database) -> None:
    whole = call(
        3, phase=Phase.TALKING, ringing=(), extension="150", last_extension="151", answered_at=AT, wait_s=1.5,
        queue="sales", recording="https://x/1.wav", uncertain=False, trunk="trunk-0001",
    )  # fmt: skip
    (post,) = await posted(db, "1.1")
    kinds = await db.engine(
        call_batches.record,
        [recording(calls=[whole], events=[event()], deliveries=[delivery("a"), delivery("b", integration=CHAT)],
                   posts_done=[(post, AT)])],
    )  # fmt: skip
    assert kinds == [{CRM, CHAT}]
    assert await db.tenant(A, select_open_calls, A) == [("main", whole)]
    assert await db.tenant(A, select_calls, A, ["1.1", "2.2"]) == [("main", whole)]
    assert await db.engine(select_pending_posts, [(A, 0)]) == [[]]


async def posted(db: Database, *unique_ids: str) -> list[int]:
    await db.engine(insert_posts, [PostRow(A, "/dial", one, one.encode(), "{}", AT) for one in unique_ids])
    (posts,) = await db.engine(select_pending_posts, [(A, 0)])
    return [post.journal_id for post in posts]


async def test_the_same_recording_twice_changes_nothing(db: Database) -> None:
    part = recording(calls=[call()], events=[event()], deliveries=[delivery("a")])
    await db.engine(call_batches.record, [part])
    assert await db.engine(call_batches.record, [part]) == [frozenset()]
    assert await db.engine(rows, "SELECT count(*) FROM call_events") == [(1,)]
    assert await states(db) == {"a": "pending"}


async def test_an_older_state_of_a_call_is_refused(db: Database) -> None:
    await db.engine(
        call_batches.record, [recording(calls=[call(3, caller="new")], events=[event(3, name="call_answered")])]
    )
    await db.engine(
        call_batches.record, [recording(calls=[call(2, caller="old")], events=[event(3, name="call_ringing")])]
    )
    await db.engine(call_batches.record, [recording(calls=[call(3, caller="same")])])
    ((_, known),) = await db.tenant(A, select_open_calls, A)
    assert (known.events, known.caller) == (3, "new")
    assert await db.engine(rows, "SELECT event FROM call_events") == [("call_answered",)]


async def test_one_call_in_two_recordings_of_one_commit(db: Database) -> None:
    """An actor and its successor may both stand in one group."""
    older = recording(calls=[call(1)], events=[event(1)], deliveries=[delivery("a")])
    newer = recording(calls=[call(2, caller="new")], events=[event(1), event(2)], deliveries=[delivery("a")])
    for order in ([older, newer], [newer, older]):
        await db.engine(call_batches.record, order)
        ((_, known),) = await db.tenant(A, select_open_calls, A)
        assert (known.events, known.caller) == (2, "new")
    assert await states(db) == {"a": "pending"}


async def test_tenants_of_one_commit_do_not_mix(db: Database) -> None:
    kinds = await db.engine(
        call_batches.record,
        [
            recording(A, calls=[call(1)], deliveries=[delivery("a")]),
            recording(B, calls=[call(2)], deliveries=[delivery("a", integration=CHAT)]),
        ],
    )
    assert kinds == [{CRM}, {CHAT}]
    assert [known.events for _, known in await db.tenant(B, select_open_calls, B)] == [2]
    assert [known.events for _, known in await db.tenant(A, select_open_calls, A)] == [1]


@pytest.mark.parametrize("bad", ["a\0b", "a\ud800b", "\0"])
async def test_text_that_no_database_keeps_is_kept_as_well_as_may_be(db: Database, bad: str) -> None:
    """What the outside says may hold anything; one such text must not stop its tenant."""
    assert "\0" not in storable(bad)
    strange = call(1, caller=bad, called=bad, trunk=bad, ringing=(bad,), rang=(bad,), extension=bad, queue=bad)
    await db.engine(
        call_batches.record,
        [recording(calls=[strange], events=[replace(event(), body=bad)], deliveries=[delivery(bad, body=bad)])],
    )
    (taken,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    failed = Outcome(state="failed", status="failed", request=bad, response=bad, error=bad, note=bad, reference=bad)
    assert await db.engine(outbox.finish_delivery, taken, failed)
    assert list((await states(db)).values()) == ["failed"]


def test_ordinary_text_is_left_alone() -> None:
    for text in ("", "Анна 👋", "150", None):
        assert storable(text) == text


# --- cards


def card(key: str, lane: str = "card") -> DeliveryRow:
    return delivery(key, lane, CHAT, latest_only=True)


async def test_a_newer_card_overtakes_one_that_nobody_tried(db: Database) -> None:
    await db.engine(call_batches.record, [recording(deliveries=[card("1"), card("other", "else"), card("2")])])
    assert await states(db) == {"other": "pending", "2": "pending"}, "of one batch the newest alone is written"
    await db.engine(call_batches.record, [recording(deliveries=[card("3")])])
    assert await states(db) == {"other": "pending", "2": "superseded", "3": "pending"}


async def test_a_card_that_was_tried_is_not_overtaken(db: Database) -> None:
    await db.engine(call_batches.record, [recording(deliveries=[card("1")])])
    (first,) = await db.engine(outbox.claim_deliveries, A, CHAT, 1, 20.0)
    await db.engine(call_batches.record, [recording(deliveries=[card("2")])])
    assert await states(db) == {"1": "pending", "2": "pending"}
    assert await claim(db, integration=CHAT) == [], "the lane is taken"
    await db.engine(outbox.finish_delivery, first, replace(DONE, reference="message 7"))
    (second,) = await db.engine(outbox.claim_deliveries, A, CHAT, 1, 20.0)
    assert (second.key, second.reference) == ("2", "message 7")


async def test_a_card_kept_twice_does_not_overtake_itself_or_its_successor(db: Database) -> None:
    """The answer to a commit was lost, and it was made again."""
    await db.engine(call_batches.record, [recording(deliveries=[card("1")])])
    await db.engine(call_batches.record, [recording(deliveries=[card("1")])])
    assert await states(db) == {"1": "pending"}
    await db.engine(call_batches.record, [recording(deliveries=[card("2")])])
    await db.engine(call_batches.record, [recording(deliveries=[card("1")])])
    assert await states(db) == {"1": "superseded", "2": "pending"}


# --- claiming


async def test_only_the_oldest_of_a_lane_is_claimed(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a1", lane="a"), reported("a2", lane="a"), reported("b1", lane="b")])
    assert await claim(db) == ["a1", "b1"]
    assert await claim(db) == []


async def test_a_lane_waits_for_its_oldest_and_its_neighbours_do_not(db: Database) -> None:
    await db.engine(
        call_batches.record,
        [reported("a1", lane="a"), reported("a2", lane="a"), reported("b1", lane="b"), reported("b2", lane="b")],
    )
    first, second = await db.engine(outbox.claim_deliveries, A, CRM, 10, 20.0)
    await db.engine(outbox.finish_delivery, first, replace(AGAIN, again_s=60.0))
    await db.engine(outbox.finish_delivery, second, DONE)
    assert await claim(db) == ["b2"]
    due = await db.engine(outbox.select_next_due, A, CRM)
    assert due is not None
    assert 15 < due < 21, "a2 is due and not ready: what counts is the end of b2's lease"


async def test_two_claimers_never_get_the_same(db: Database) -> None:
    await db.engine(call_batches.record, [reported(*(str(n) for n in range(200)))])
    await db.engine(run_sql, "UPDATE deliveries SET lane = key")
    got: list[str] = []

    async def take() -> None:
        while taken := await claim(db, 7):
            got.extend(taken)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(take)
    assert sorted(got, key=int) == [str(n) for n in range(200)]


async def test_a_row_that_another_transaction_holds_is_skipped(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a", lane="a"), reported("b", lane="b")])
    held, go = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def hold(connection: Connection) -> None:
        import asyncio

        async with connection.transaction():
            await connection.execute("SELECT FROM deliveries WHERE key = 'a' FOR UPDATE")
            token.run_sync_soon(held.set)
            while not go.is_set():
                await asyncio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.engine, hold)
        await held.wait()
        assert await claim(db) == ["b"]
        go.set()
    assert await claim(db) == ["a"]


async def test_what_is_in_hand_is_not_claimed_again_by_its_holder(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a", lane="a"), reported("b", lane="b")])
    taken = await db.engine(outbox.claim_deliveries, A, CRM, 10, -1.0)
    assert await claim(db, in_hand=[taken[0].delivery_id]) == ["b"]


async def test_an_attempt_is_counted_when_it_is_claimed(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a")])
    for attempt in (1, 2, 3):
        (taken,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, -1.0)  # its process died at once
        assert (taken.attempt, taken.epoch) == (attempt, attempt)


async def test_whoever_claims_after_a_lease_that_ended_by_itself_knows_it(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a"), reported("b")])

    async def taken(lease_s: float = 20.0) -> outbox.Claim:
        (found,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, lease_s)
        return found

    first = await taken(-1.0)
    assert not first.interrupted
    second = await taken()
    assert second.interrupted
    await db.engine(outbox.release_deliveries, [second])
    third = await taken(-1.0)
    assert (third.interrupted, third.attempt) == (True, 2), "giving it back untried does not make it unsent"
    assert await db.engine(outbox.finish_delivery, third, AGAIN)
    fourth = await taken()
    assert not fourth.interrupted, "whoever had it has said what became of it"
    (acked,) = await db.engine(outbox.finish_and_claim, [outbox.Ack(fourth, DONE, takes_next=True)], -1.0)
    assert acked.following is not None
    assert (acked.following.key, acked.following.interrupted) == ("b", False)


async def test_an_ack_names_the_lease_it_holds(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a")])
    (old,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, -1.0)
    (new,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    assert not await db.engine(outbox.finish_delivery, old, DONE)
    assert await states(db) == {"a": "pending"}
    assert await db.engine(outbox.finish_delivery, new, DONE)
    assert not await db.engine(outbox.finish_delivery, new, DONE), "once"
    assert await db.engine(rows, "SELECT count(*) FROM integration_logs") == [(1,)]


async def test_a_lease_that_is_given_back_uses_no_attempt_and_an_old_one_changes_nothing(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a")])
    (old,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    await db.engine(outbox.release_deliveries, [old])
    (new,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    assert (new.attempt, new.epoch) == (1, 2)
    await db.engine(outbox.release_deliveries, [old])
    assert await claim(db) == []


async def test_an_outcome_writes_its_log_unless_nobody_was_asked(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a")])
    (taken,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    waits = Outcome(state="pending", status="waiting", uses_attempt=False, tried=False)
    await db.engine(outbox.finish_delivery, taken, waits)
    assert await db.engine(rows, "SELECT count(*) FROM integration_logs") == [(0,)]
    (taken,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    assert taken.attempt == 1
    await db.engine(
        outbox.finish_delivery, taken, replace(AGAIN, request="q", response="r", error="500", duration_ms=7)
    )
    assert await db.engine(
        rows, "SELECT enterprise_number, status, request_data, response_data, error_message, attempt, duration_ms "
              "FROM integration_logs"
    ) == [("0367", "retry", "q", "r", "500", 1, 7)]  # fmt: skip


async def test_whoever_is_due_is_named_once_and_only_while_switched_on(db: Database) -> None:
    tenant = "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ('0367', '', 'UTC', 'BY', 'ru', '')"
    link = "INSERT INTO integrations (tenant_id, integration_type, enabled) VALUES ('0367', '{}', {})"
    await db.engine(run_sql, tenant, link.format("retailcrm", "true"), link.format("telegram", "false"))
    assert await db.engine(outbox.select_due) == []
    await db.engine(
        call_batches.record, [reported("a", lane="a"), reported("b", lane="b"), reported("c", integration=CHAT)]
    )
    assert await db.engine(outbox.select_due) == [(A, CRM)]
    await claim(db)
    assert await db.engine(outbox.select_due) == []


# --- time


async def test_what_is_too_late_is_dropped_with_a_line_in_the_log(db: Database) -> None:
    await db.engine(
        call_batches.record,
        [recording(deliveries=[
            delivery("late", "1", expires_s=-1.0), delivery("old", "2", keep_s=-1.0), delivery("fresh", "3"),
            delivery("held", "4", expires_s=-1.0),
        ])],
    )  # fmt: skip
    await db.engine(run_sql, "UPDATE deliveries SET lease_until = now() + interval '1 minute' WHERE key = 'held'")
    assert await db.engine(outbox.expire_deliveries, 1) == 1
    assert await db.engine(outbox.expire_deliveries, 10) == 1
    assert await states(db) == {"late": "expired", "old": "failed", "fresh": "pending", "held": "pending"}
    assert await db.engine(rows, "SELECT status FROM integration_logs ORDER BY log_id") == [("expired",), ("failed",)]


async def test_how_long_something_is_of_use_is_the_databases_to_say(db: Database) -> None:
    """It was heard some time before it is written, and is claimed some time after that."""
    received = delivery("a", expires_s=60.0, keep_s=600.0, received_at_s=time.monotonic() - 20)
    written = await db.engine(call_batches.record_and_claim, [recording(deliveries=[received])], {(A, CRM, "a")}, 0.0)
    (leased,) = written.claims
    assert leased.expires_s == pytest.approx(40, abs=5)
    await db.engine(run_sql, "UPDATE deliveries SET expires_at = expires_at - interval '10 seconds'")
    (claimed,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, 20.0)
    assert claimed.expires_s == pytest.approx(30, abs=5)
    assert claimed.keep_s == pytest.approx(580, abs=5)


async def test_an_ack_after_the_expiry_is_refused(db: Database) -> None:
    await db.engine(call_batches.record, [reported("a", expires_s=-1.0)])
    (taken,) = await db.engine(outbox.claim_deliveries, A, CRM, 1, -1.0)
    assert await db.engine(outbox.expire_deliveries, 10) == 1
    assert not await db.engine(outbox.finish_delivery, taken, DONE)


async def test_old_rows_go_in_batches_and_a_reference_in_use_stays(db: Database) -> None:
    await db.engine(
        call_batches.record, [recording(deliveries=[card("1", "old"), card("2", "used"), card("3", "new")])]
    )
    for taken in await db.engine(outbox.claim_deliveries, A, CHAT, 10, 20.0):
        await db.engine(outbox.finish_delivery, taken, replace(DONE, reference=f"message of {taken.lane}"))
    await db.engine(
        run_sql,
        "UPDATE deliveries SET finished_at = now() - interval '15 days' WHERE lane IN ('old', 'used')",
        "UPDATE lane_references SET updated_at = now() - interval '15 days' WHERE lane = 'old'",
    )
    assert await db.engine(outbox.delete_old_deliveries, 14 * 86400.0, 1) == 1
    assert await db.engine(outbox.delete_old_deliveries, 14 * 86400.0, 10) == 1
    assert await states(db) == {"3": "done"}
    assert await db.engine(rows, "SELECT lane FROM lane_references ORDER BY lane") == [("new",), ("used",)]


async def test_pending_deliveries_are_counted(db: Database) -> None:
    assert await db.engine(outbox.count_pending) == {"pending": 0, "oldest_pending_s": 0}
    await db.engine(call_batches.record, [reported("a", lane="a"), reported("b", lane="b")])
    (taken, _) = await db.engine(outbox.claim_deliveries, A, CRM, 10, 20.0)
    await db.engine(outbox.finish_delivery, taken, DONE)
    assert await db.engine(outbox.count_pending) == {"pending": 1, "oldest_pending_s": 0}
