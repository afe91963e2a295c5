"""Deliveries leased as they are written, and acks in groups, on a real outbox; what becomes of a claim is `test_delivery.py`'s."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

import actors.delivery.worker
from actors.delivery.handover import Handover
from adapters.base import Limits, Rate, Retry
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey
from gateway.store import call_batches, outbox
from gateway.store.call_batches import CallBatch, Refusal
from gateway.store.outbox import Ack, Acked, Claim, DeliveryRow, Outcome
from gateway.store.postgres.pool import Connection, Database
from tests.actors.delivery.test_worker import KIND, TENANT, World, pending, rows_of_lanes, world
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

DONE = Outcome(state="done", status="done")


class Taker:
    def __init__(self, room: int, epoch: int | None = None) -> None:
        self.room, self.epoch = room, epoch
        self.got: list[tuple[list[str], int]] = []
        self.claims: list[Claim] = []

    def reserve(self, bucket: str) -> bool:
        self.room -= 1
        return self.room >= 0

    async def take(self, claims: Sequence[Claim], reserved: int) -> None:
        self.got.append(([claim.key for claim in claims], reserved))
        self.claims += claims

    def follows(self, lane: str) -> bool:
        return any(claim.lane == lane for claim in self.claims)


def reported(*rows: DeliveryRow) -> CallBatch:
    return CallBatch(TENANT.number, deliveries=list(rows))


def row(key: str, lane: str, **changes: Any) -> DeliveryRow:
    (made,) = rows_of_lanes(1, 1)
    return replace(made, key=key, lane=lane, **changes)


async def claim(db: Database) -> list[str]:
    return [one.key for one in await db.engine(outbox.claim_deliveries, TENANT.number, KIND, 10, 20.0)]


async def test_the_first_of_each_lane_is_leased_as_far_as_there_is_room(db: Database) -> None:
    outgoing, taker = Handover(db), Taker(2)
    with outgoing.takes(TENANT.number, KIND, taker):
        answers = await outgoing.record([reported(row("a1", "a"), row("a2", "a"), row("b1", "b"), row("c1", "c"))])
    assert answers == [{KIND}], "c1 has to be claimed; a2 comes with the ack of a1"
    assert taker.got == [(["a1", "b1"], 2)]
    assert await claim(db) == ["c1"]
    acks = [Ack(taker.claims[0], DONE, takes_next=True), Ack(replace(taker.claims[1], epoch=0), DONE, takes_next=True)]
    first, second = await db.engine(outbox.finish_and_claim, acks, 20.0)
    assert (first.held, second) == (True, Acked(held=False))
    assert first.following is not None
    assert (first.following.key, first.following.attempt, first.following.epoch) == ("a2", 1, 1)
    assert await claim(db) == []


async def test_what_stands_behind_one_in_hand_rings_for_nobody(db: Database) -> None:
    outgoing, taker = Handover(db), Taker(8)
    with outgoing.takes(TENANT.number, KIND, taker):
        assert await outgoing.record([reported(row("a1", "a"), row("a2", "a"))]) == [frozenset()]
        assert await outgoing.record([reported(row("a3", "a"))]) == [frozenset()]
        assert await outgoing.record([reported(row("b1", "b", integration=IntegrationKey("x")))]) == [{"x"}]
    (claimed,) = taker.claims
    for key in ("a2", "a3"):
        (acked,) = await db.engine(
            outbox.finish_and_claim, [Ack(claimed, replace(DONE, reference="message 7"), takes_next=True)], 20.0
        )
        assert acked.following is not None
        assert (acked.following.key, acked.following.reference) == (key, "message 7")
        claimed = acked.following
    again = replace(DONE, state="pending", again_s=60.0)
    (acked,) = await db.engine(outbox.finish_and_claim, [Ack(claimed, again, takes_next=True)], 20.0)
    assert acked == Acked(held=True)


async def test_nothing_follows_for_another_epoch_or_one_that_is_not_due(db: Database) -> None:
    outgoing, taker = Handover(db), Taker(8)
    with outgoing.takes(TENANT.number, KIND, taker):
        await outgoing.record([reported(row("a1", "a"), row("a2", "a"), row("b1", "b"), row("b2", "b"))])
    await db.engine(later, "b2")
    a1, b1 = taker.claims
    acks = [Ack(a1, DONE, takes_next=True, epoch=99), Ack(b1, DONE, takes_next=True)]
    assert await db.engine(outbox.finish_and_claim, acks, 20.0) == [Acked(held=True), Acked(held=True)]
    assert await claim(db) == ["a2"]


async def later(conn: Connection, key: str) -> None:
    await conn.execute("UPDATE deliveries SET run_at = now() + interval '1 hour' WHERE key = $1", key)


async def test_what_is_leased_is_rung_for_nobody_and_has_all_of_a_claim(db: Database) -> None:
    outgoing, taker = Handover(db), Taker(8)
    first = row("1", "lane", latest_only=True, body='{"x": "\0"}')
    with outgoing.takes(TENANT.number, KIND, taker):
        assert await outgoing.record([reported(first)]) == [frozenset()]
        await db.engine(outbox.finish_delivery, taker.claims[0], replace(DONE, reference="message 7"))
        await outgoing.record([reported(row("2", "lane", latest_only=True))])
        assert await outgoing.record([reported(row("2", "lane", latest_only=True))]) == [frozenset()], (
            "a repeat is no news"
        )
    assert taker.got == [(["1"], 1), (["2"], 1), ([], 1)]
    one, two = taker.claims
    assert (one.body, one.reference, two.reference) == ('{"x": "\ufffd"}', None, "message 7")
    await db.engine(outbox.release_deliveries, [two])
    (again,) = await db.engine(outbox.claim_deliveries, TENANT.number, KIND, 10, 20.0)
    assert again == replace(two, epoch=again.epoch, keep_s=again.keep_s)


async def test_a_lane_with_something_pending_keeps_its_order(db: Database) -> None:
    outgoing, taker = Handover(db), Taker(8)
    await outgoing.record([reported(row("old", "lane"))])
    with outgoing.takes(TENANT.number, KIND, taker):
        assert await outgoing.record([reported(row("new", "lane"))]) == [{KIND}]
    assert taker.got == [([], 1)]
    assert await claim(db) == ["old"]


async def test_nothing_is_leased_for_another_epoch_and_places_come_back_after_a_failure() -> None:
    class Away:
        async def engine(self, *args: Any) -> Any:
            raise Unavailable("away", certain=False)

    outgoing: Handover = Handover(Away())  # type: ignore[arg-type]
    ours, theirs = Taker(8), Taker(8, epoch=3)
    takes = outgoing.takes
    with (
        takes(TENANT.number, KIND, ours),
        takes(TENANT.number, IntegrationKey("x"), theirs),
        pytest.raises(Unavailable),
    ):
        await outgoing.record([reported(row("a", "a"), row("b", "b", integration=IntegrationKey("x")))])
    assert (ours.got, theirs.got, theirs.room) == ([([], 1)], [], 8)


class _Real:
    """The actor on the real outbox, told of what is written by way of the commit."""

    def __init__(self, here: World, db: Database) -> None:
        self.here, self.db = here, db
        self.outgoing = here.services.outgoing

    async def write(self, *rows: DeliveryRow) -> None:
        for kinds in await self.outgoing.record([reported(*rows)]):
            assert not isinstance(kinds, Refusal)
            for kind in kinds:
                self.here.bells.ring(TENANT.number, kind)

    async def all_done(self) -> None:
        with trio.fail_after(20):
            while await self.db.engine(pending):
                await trio.sleep(0.02)


async def statements(connection: Connection) -> list[tuple[str, int, int]]:
    rows = await connection.fetch("SELECT key, attempt, epoch FROM deliveries ORDER BY delivery_id")
    return [(row[0], row[1], row[2]) for row in rows]


async def test_an_idle_actor_is_handed_what_is_new_and_claims_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = 0
    ask = outbox.claim_deliveries

    async def counted(*args: Any) -> list[Claim]:
        nonlocal claims
        claims += 1
        return await ask(*args)

    monkeypatch.setattr(actors.delivery.worker, "utc_now", lambda: datetime.now(UTC))
    monkeypatch.setattr(actors.delivery.worker, "claim_deliveries", counted)
    async with world(db=db) as here:
        real = _Real(here, db)
        with trio.fail_after(5):
            while not here.actor.reserve(""):
                await trio.sleep(0.01)
        await here.actor.take([], 1)
        before = claims
        for number in range(5):
            await real.write(row(f"{number}", f"{number}"))
            await real.all_done()
        assert claims == before
        assert await db.engine(statements) == [(f"{number}", 1, 1) for number in range(5)]
        for number in range(5):
            await real.write(*(row(f"{number}{mark}", f"lane {number}") for mark in "abc"))
            await real.all_done()
        assert claims == before, "those behind come with the acks"
        done = [(key, attempt) for key, attempt, _ in await db.engine(statements)][5:]
        assert done == [(f"{number}{mark}", 1) for number in range(5) for mark in "abc"]
        assert [a.key for _, a in here.attempts][5:] == [key for key, _ in done]


async def test_a_dry_bucket_keeps_no_place(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.delivery.worker, "utc_now", lambda: datetime.now(UTC))
    async with world(limits=Limits(rates={"g": Rate(1, 100.0)}, at_once=8), db=db) as here:
        real = _Real(here, db)
        await real.write(row("first", "first", bucket="g"))
        await real.all_done()
        assert not here.actor.reserve("g")
        with trio.fail_after(5):
            while not here.actor.reserve(""):
                await trio.sleep(0.01)
        await here.actor.take([], 1)


@pytest.mark.slow
async def test_lanes_keep_their_order_whichever_way_they_come(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.delivery.worker, "utc_now", lambda: datetime.now(UTC))
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", 1000)
    async with world(retry=Retry(quick_s=(0.01,) * 20), limits=Limits(rates={}, at_once=3), db=db) as here:
        real, dice = _Real(here, db), random.Random(7)
        here.answers = [dice.choice([Unavailable("500"), None, None, 0.01, 0.002]) for _ in range(300)] + [None]
        for one in rows_of_lanes(lanes=6, each=12):
            await real.write(one)
            await trio.sleep(dice.choice([0, 0, 0.002]))
        await real.all_done()
        for lane in range(6):
            tried = [int(a.key.split(":")[1]) for _, a in here.attempts if a.lane == f"lane {lane}"]
            assert tried == sorted(tried)
            assert set(tried) == set(range(12))
        assert here.most_at_once == 3


async def test_a_claim_that_comes_while_draining_is_given_back(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.delivery.worker, "utc_now", lambda: datetime.now(UTC))
    async with world(db=db) as here:
        with trio.fail_after(5):
            while not here.actor.reserve(""):
                await trio.sleep(0.01)
        written = await db.engine(
            call_batches.record_and_claim, [reported(row("a", "a"))], {(TENANT.number, KIND, "a")}, 20.0
        )
        assert await here.actor.drain(1) == []
        await here.actor.take(written.claims, 1)
        assert here.attempts == []
        assert await db.engine(statements) == [("a", 0, 1)]
