"""Deliveries of one integration: when each is tried, how often, and what becomes of it. The outbox is a fake of a few
lines; where the order of a lane matters it is the real one.

Over 400 lines: one fake outbox and one world serve every case.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio

import actors.delivery.worker
from actors.delivery.clients import Clients
from actors.delivery.handover import ACK_S, ATTEMPT_DEADLINE_S, LEASE_S, LONGEST_WAIT_FOR_RATE_S, Handover
from actors.delivery.worker import (
    ATTENTION_PAUSE_S,
    BREAKER_CAP_S,
    BREAKER_FAILURES,
    BREAKER_PAUSE_S,
    DeliveryActor,
)
from actors.feed import Feed
from actors.runtime.directory import Directory, Slot
from actors.runtime.supervisor import Child, Supervisor, open_supervisor
from actors.services import Doorbells, Services
from adapters.base import Adapter, AdapterSettings, Attempt, Delivered, Limits, Rate, Retry
from adapters.budget import Budgets
from adapters.channel import MESSAGE, Capabilities, ChatChannel
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import (
    BadCredentials,
    Doubtful,
    GatewayError,
    NotYet,
    RateLimited,
    Rejected,
    RemoteProtocolError,
    Replaced,
    Unavailable,
)
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.subjects import call_subject
from gateway.store import call_batches
from gateway.store.call_batches import CallBatch
from gateway.store.outbox import (
    Ack,
    Acked,
    Claim,
    DeliveryRow,
    Outcome,
    claim_deliveries,
    finish_and_claim,
    prolong_delivery,
    release_deliveries,
    select_next_due,
)
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
KIND = IntegrationKey("crm")
TENANT = Tenant(TenantId("0367"), "June", ZoneInfo("UTC"), "BY", "ru")
FAST = Limits(rates={}, at_once=8)
FOREVER = 48 * 3600.0


def now() -> datetime:
    return START + timedelta(seconds=trio.current_time())


@dataclass
class Row:
    """One delivery as the table has it, by Trio's clock."""

    claim: Claim
    run_at: float
    made: Claim
    state: str = "pending"
    lease_until: float | None = None
    outcomes: list[tuple[float, Outcome]] = field(default_factory=list)
    made_at: float = field(default_factory=trio.current_time)

    def left(self) -> dict[str, Any]:
        """What a claim says now of how long it is of use."""
        age, expires_s = trio.current_time() - self.made_at, self.made.expires_s
        return {"expires_s": None if expires_s is None else expires_s - age, "keep_s": self.made.keep_s - age}


class Outbox:
    """The outbox as the actor sees it."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.away = False
        self.prolongs = True
        self.calls = 0
        self.claims = 0

    def add(
        self, lane: str = "", *, expires_s: float | None = None, keep_s: float = FOREVER, bucket: str = "", kind: str = "upload", body: str = "{}"
    ) -> Row:  # fmt: skip
        number = len(self.rows) + 1
        claim = Claim(
            TENANT.number, KIND, number, lane or f"lane {number}", f"key {number}", kind, bucket, call_subject(f"call {number}"), body,
            0, 0, now(), expires_s, keep_s, None,
        )  # fmt: skip
        self.rows.append(Row(claim, trio.current_time(), claim))
        return self.rows[-1]

    async def engine(self, work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self.away:
            raise Unavailable("away", certain=False)
        statements: dict[Callable[..., Any], Callable[..., Any]] = {
            claim_deliveries: self._claim, finish_and_claim: self._finish_and_claim, select_next_due: self._due,
            release_deliveries: self._release, prolong_delivery: self._prolong,
        }  # fmt: skip
        return statements[work](*args)

    def _heads(self) -> list[Row]:
        seen: dict[str, Row] = {}
        for row in self.rows:
            if row.state == "pending":
                seen.setdefault(row.claim.lane, row)
        return list(seen.values())

    def _claim(
        self,
        tenant: TenantId,
        kind: IntegrationKey,
        most: int,
        lease_s: float,
        in_hand: Sequence[int],
        empty: Sequence[str],
        epoch: int | None,
    ) -> list[Claim]:
        at = trio.current_time()
        ready = [r for r in self._heads() if r.run_at <= at and (r.lease_until or 0) <= at]
        ready = sorted((r for r in ready if r.claim.bucket not in empty), key=lambda r: r.run_at)
        self.claims += 1
        taken = [r for r in ready if r.claim.delivery_id not in in_hand][:most]
        for row in taken:
            interrupted = row.lease_until is not None
            row.claim = replace(
                row.claim,
                attempt=row.claim.attempt + 1,
                epoch=row.claim.epoch + 1,
                interrupted=interrupted,
                **row.left(),
            )
            row.lease_until = at + lease_s
        return [row.claim for row in taken]

    def _finish_and_claim(self, acks: Sequence[Ack], lease_s: float) -> list[Acked]:
        (ack,) = acks
        if not self._finish(ack.claim, ack.outcome):
            return [Acked(held=False)]
        at, lane = trio.current_time(), ack.claim.lane
        if not ack.takes_next or ack.outcome.state == "pending":
            return [Acked(held=True)]
        for row in self._heads():
            if row.claim.lane == lane and row.run_at <= at and (row.lease_until or 0) <= at:
                row.claim = replace(row.claim, attempt=row.claim.attempt + 1, epoch=row.claim.epoch + 1, **row.left())
                row.lease_until = at + lease_s
                return [Acked(held=True, following=row.claim)]
        return [Acked(held=True)]

    def _finish(self, claim: Claim, outcome: Outcome) -> bool:
        row = self.rows[claim.delivery_id - 1]
        if row.claim.epoch != claim.epoch or row.state != "pending":
            return False
        at = trio.current_time()
        row.outcomes.append((at, outcome))
        row.state, row.lease_until, row.run_at = outcome.state, None, at + outcome.again_s
        if not outcome.uses_attempt:
            row.claim = replace(row.claim, attempt=row.claim.attempt - 1)
        return True

    def _due(self, tenant: TenantId, kind: IntegrationKey, empty: Sequence[str]) -> float | None:
        heads = [row for row in self._heads() if row.claim.bucket not in empty]
        due = [max(row.run_at, row.lease_until or 0) - trio.current_time() for row in heads]
        return min(due, default=None)

    def _prolong(self, claim: Claim, lease_s: float) -> bool:
        row = self.rows[claim.delivery_id - 1]
        held = self.prolongs and row.claim.epoch == claim.epoch and row.state == "pending"
        if held:
            row.lease_until = trio.current_time() + lease_s
        return held

    def _release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            row = self.rows[claim.delivery_id - 1]
            if row.claim.epoch == claim.epoch and row.state == "pending":
                row.lease_until, row.claim = None, replace(row.claim, attempt=row.claim.attempt - 1)


Answer = Callable[[Attempt], Awaitable[Delivered]]


class Unhurried(Handover):
    """Acks one by one, so that a fake of the outbox need know of no groups."""

    async def ack(self, ack: Ack) -> Acked:
        (acked,) = await self._db.engine(finish_and_claim, [ack], LEASE_S)
        return acked


class World:
    """The actor under a supervisor, an outside system of which every answer is scripted, and a fake outbox."""

    def __init__(self, supervisor: Supervisor, limits: Limits, retry: Retry, db: Any) -> None:
        self.outbox = db
        self.attempts: list[tuple[float, Attempt]] = []
        self.answers: list[Any] = []
        """What each attempt comes to, in turn; then the last one for ever. Seconds: success after so long."""
        self.bells = Doorbells()
        self.adapter = Adapter(
            kind=Kind(KIND),
            title="CRM",
            type="crm",
            settings=AdapterSettings,
            connect=self._connect,
            limits=limits,
            retry=retry,
        )
        self.services = cast(
            Services,
            SimpleNamespace(
                app_of=lambda adapter: None,
                outgoing_files=lambda tenant: None,
                recordings_of=lambda tenant: None,
                feed=Feed(),
                public_url="",
                db=db,
                bells=self.bells,
                clients=Clients(),
                provider_urls={},
                dial=None,
                budgets=Budgets(),
                tokens=lambda *_: None,
                outgoing=Unhurried(db),
            ),
        )
        self.at_once = self.most_at_once = 0
        self._supervisor = supervisor
        self.actor: DeliveryActor
        self.slot: Slot
        self.child: Child

    def start(self, epoch: int | None = None) -> None:
        self.actor = DeliveryActor(TENANT, Linked(KIND, self.adapter), AdapterSettings(), self.services, epoch)
        self.slot = Slot("tenant/0367/integration/crm")
        self.child = self._supervisor.start(self.slot, self.actor.run)

    async def stop(self) -> None:
        await self._supervisor.stop(self.child)

    @asynccontextmanager
    async def _connect(self, link: object, settings: object) -> AsyncIterator["World"]:
        yield self

    async def deliver(self, attempt: Attempt) -> Delivered:
        self.attempts.append((trio.current_time(), attempt))
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0] if self.answers else None
            if isinstance(answer, Exception | Delivered):
                await trio.lowlevel.checkpoint()
                if isinstance(answer, Delivered):
                    return answer
                raise answer
            await trio.sleep(answer or 0.0)
            return Delivered(reference="ref")
        finally:
            self.at_once -= 1

    def add(self, *args: Any, **kwargs: Any) -> Row:
        row: Row = self.outbox.add(*args, **kwargs)
        self.bells.ring(TENANT.number, KIND)
        return row

    @property
    def pauses(self) -> list[float]:
        """Seconds between attempts."""
        times = [at for at, _ in self.attempts]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


@asynccontextmanager
async def world(limits: Limits = FAST, retry: Retry | None = None, db: Any = None) -> AsyncIterator[World]:
    async with open_supervisor(Directory()) as supervisor:
        here = World(supervisor, limits, retry or Retry(), db or Outbox())
        here.start()
        yield here


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes with Trio's."""
    monkeypatch.setattr(actors.delivery.worker, "utc_now", now)


def within(pause: float, wanted: float, *, jitter: float = 0.2, late: float = 0.05) -> bool:
    return wanted * (1 - jitter) - 0.001 <= pause <= wanted * (1 + jitter) + late


@pytest.mark.parametrize(
    ("usual", "state", "code"), [(False, State.DEGRADED, "no_order"), (True, State.ONLINE, "ready")]
)
async def test_a_note_of_what_is_usual_is_no_trouble(
    autojump_clock: trio.abc.Clock, usual: bool, state: State, code: str
) -> None:
    async with world() as here:
        here.answers = [Delivered(note="no_order", usual=usual)]
        row = here.add()
        await trio.sleep(1)
        assert [(outcome.status, outcome.note) for _, outcome in row.outcomes] == [("done", "no_order")]
        assert (here.slot.health.state, here.slot.health.code) == (state, code)


# --- how long it may take


async def test_a_message_with_a_file_has_minutes_and_holds_its_lease(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [100.0]
        row = here.outbox.add(kind=MESSAGE, body='{"to": "7", "file": {"id": "x"}}')
        here.bells.ring(TENANT.number, KIND)
        await trio.sleep(60)
        assert (row.lease_until or 0.0) > 100.0
        await trio.sleep(60)
        assert [outcome.status for _, outcome in row.outcomes] == ["done"]


@pytest.mark.parametrize(
    ("drops_repeats_s", "kind", "status"),
    [(0.0, MESSAGE, "doubtful"), (3000.0, MESSAGE, "done"), (300.0, MESSAGE, "doubtful"), (0.0, "upload", "done")],
)
async def test_a_message_that_was_in_hand_when_the_gateway_was_killed_is_not_sent_again(
    autojump_clock: trio.abc.Clock, drops_repeats_s: float, kind: str, status: str
) -> None:
    async with world() as here:
        await here.stop()
        row = here.outbox.add(kind=kind, body='{"to": "7", "text": "hello"}')
        row.lease_until = trio.current_time() + 20.0  # somebody's who is no more
        await trio.sleep(900.0)
        channel = ChatChannel(
            capabilities=Capabilities(text_limit=100), events=lambda body, settings: [], drops_repeats_s=drops_repeats_s
        )
        here.adapter = replace(here.adapter, chat=channel)
        here.start()
        await trio.sleep(5.0)
        assert [outcome.status for _, outcome in row.outcomes] == [status]
        assert len(here.attempts) == (status == "done")


async def test_a_message_whose_lease_has_passed_on_is_not_sent(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.outbox.prolongs = False
        here.outbox.add(kind=MESSAGE, body='{"to": "7", "file": {"id": "x"}}')
        here.bells.ring(TENANT.number, KIND)
        await trio.sleep(0.5)
        assert here.attempts == []


@pytest.mark.parametrize(("body", "seconds"), [('{"to": "7"}', 12.0), ('{"to": "7", "file": {}}', 120.0)])
async def test_a_message_that_takes_too_long_is_not_repeated(
    body: str, seconds: float, autojump_clock: trio.abc.Clock
) -> None:
    async with world() as here:
        here.answers = [1000.0]
        row = here.outbox.add(kind=MESSAGE, body=body)
        here.bells.ring(TENANT.number, KIND)
        await trio.sleep(3600)
        ((at, outcome),) = row.outcomes
        assert (outcome.status, round(at)) == ("doubtful", seconds)
        assert len(here.attempts) == 1


# --- when it is tried again


@pytest.mark.parametrize(
    "error",
    [Unavailable("500"), Unavailable("cut", certain=False), RemoteProtocolError("nonsense"), ValueError("a bug"), 30.0],
    ids=["500", "uncertain", "protocol", "bug", "timeout"],
)
async def test_what_failed_is_tried_by_the_schedule(
    error: Exception | float, autojump_clock: trio.abc.Clock, expected_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", 1000)
    async with world() as here:
        here.answers = [error]
        row = here.add()
        await trio.sleep(12 * 3600)
        spent = ATTEMPT_DEADLINE_S if isinstance(error, float) else 0.0
        wanted = [0.5, 1, 2, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]
        assert len(here.pauses) >= len(wanted)
        # A pause that ends just beside the actor's own look is taken at that look.
        assert all(within(p - spent, w, late=0.05) for p, w in zip(here.pauses, wanted, strict=False)), here.pauses
        assert [attempt.number for _, attempt in here.attempts] == list(range(1, len(here.attempts) + 1))
        assert row.state == "pending"
        status = "bug" if isinstance(error, ValueError) else "retry"
        assert {outcome.status for _, outcome in row.outcomes} == {status}
        assert here.slot.restarts == 0


async def test_a_moment_the_other_side_named_is_kept(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [Unavailable("later", after_s=7.0), None]
        here.add()
        await trio.sleep(60)
        assert here.pauses == [pytest.approx(7.0, abs=0.05)]


async def test_a_rate_limit_pauses_all_and_uses_no_attempt(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [RateLimited("slow down", after_s=9.0), None]
        first = here.add()
        await trio.sleep(1)
        assert here.slot.health.code == "rate_limited"
        here.add()
        await trio.sleep(7)
        assert len(here.attempts) == 1
        await trio.sleep(5)
        assert [attempt.number for _, attempt in here.attempts] == [1, 1, 1]
        assert here.attempts[1][0] - here.attempts[0][0] == pytest.approx(9.0, abs=0.05)
        assert first.state == "done"


async def test_a_success_under_way_does_not_end_the_pause_that_was_asked_for(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [1.0, RateLimited("slow down", after_s=60.0), None]
        here.add()
        here.add()
        await trio.sleep(5)
        here.add()
        await trio.sleep(50)
        assert len(here.attempts) == 2
        await trio.sleep(10)
        assert len(here.attempts) == 4


async def test_a_rate_limit_without_a_number_waits_about_a_second(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [RateLimited("slow down")] * 20 + [None]
        here.add(expires_s=60)
        await trio.sleep(60)
        assert all(0.5 <= pause <= 1.6 for pause in here.pauses)
        assert here.outbox.rows[0].state == "done", "a rate limit does not use up the quick attempts"


async def test_what_is_not_there_yet_says_nothing_of_the_other_side(autojump_clock: trio.abc.Clock) -> None:
    """Recordings that come late must neither open the breaker nor pause what is behind them."""
    async with world() as here:
        here.answers = [NotYet("not here yet", after_s=1.0)] * 12 + [None] * 2
        row, other = here.add("lane", keep_s=600), here.add("another")
        await trio.sleep(30)
        assert (row.state, other.state) == ("done", "done")
        assert here.slot.health.state is State.ONLINE
        assert len(here.attempts) == 14


@pytest.mark.parametrize(("error", "state"), [(Rejected("no"), "failed"), (Doubtful("who knows"), "doubtful")])
async def test_what_cannot_succeed_is_not_repeated(
    error: GatewayError, state: str, autojump_clock: trio.abc.Clock
) -> None:
    async with world() as here:
        here.answers = [error, None]
        row = here.add("lane")
        behind = here.add("lane")
        await trio.sleep(60)
        assert (row.state, behind.state) == (state, "done"), "and its lane goes on"
        assert len(here.attempts) == 2


async def test_health_follows_what_becomes_of_deliveries(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [Rejected("400: chat not found")]
        for count, (state, code) in enumerate(
            [(State.DEGRADED, "some_deliveries_fail")] * 2 + [(State.ATTENTION, "deliveries_failing")] * 2, 1
        ):
            here.add()
            await trio.sleep(5)
            assert (here.slot.health.state, here.slot.health.code) == (state, code)
            assert here.slot.health.detail == f"{count}/{count}: 400: chat not found"
        here.answers = [None]
        here.add()
        await trio.sleep(5)
        assert here.slot.health.code == "some_deliveries_fail", "one that arrived is no all-clear"
        for _ in range(40):
            here.add()
            await trio.sleep(5)
        assert here.slot.health.state is State.ONLINE


async def test_one_that_needs_a_person_stops_the_integration(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [BadCredentials("401")]
        for _ in range(3):
            here.add()
        await trio.sleep(ATTENTION_PAUSE_S - 1)
        assert len(here.attempts) == 3
        assert here.slot.health.state is State.ATTENTION
        assert here.slot.health.detail == BadCredentials().person
        assert all(row.claim.attempt == 0 for row in here.outbox.rows)
        # Someone corrected the settings: the actor is replaced.
        await here.stop()
        here.answers = [None]
        here.start()
        await trio.sleep(1)
        assert [row.state for row in here.outbox.rows] == ["done"] * 3


async def test_months_of_failures_are_no_crash(autojump_clock: trio.abc.Clock) -> None:
    async with world(retry=Retry(quick_s=(0.5,), slow_s=5.0, cap_s=5.0)) as here:
        here.answers = [Unavailable("500")]
        here.add(keep_s=1e7)
        here.add(keep_s=1e7)
        here.actor._failures = 5000
        here.outbox.rows[0].claim = replace(here.outbox.rows[0].claim, attempt=5000)
        await trio.sleep(3600)
        assert here.slot.restarts == 0
        assert len(here.attempts) > 50


# --- how long


async def test_what_expired_is_not_tried(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.outbox.away = True
        row = here.add(expires_s=60)
        await trio.sleep(61)
        here.outbox.away = False
        await trio.sleep(2)
        assert row.state == "expired"
        assert here.attempts == []
        assert row.outcomes[0][1].uses_attempt is False


async def test_a_retry_that_would_come_too_late_expires_now(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [Unavailable("500", after_s=61.0)]
        row = here.add(expires_s=60)
        await trio.sleep(1)
        assert row.state == "expired"


async def test_what_may_not_be_lost_is_kept_as_long_as_it_says(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", 1000)
    async with world() as here:
        here.answers = [Unavailable("500")]
        row = here.add()
        await trio.sleep(FOREVER + 3600)
        assert row.state == "failed"
        assert row.outcomes[-1][1].error is not None
        assert "kept long enough" in row.outcomes[-1][1].error
        assert FOREVER - 2 * 3600 * 1.2 < row.outcomes[-1][0] <= FOREVER


# --- the breaker


async def test_the_breaker_opens_tries_one_and_closes(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [Unavailable("500")]
        for _ in range(40):
            here.add()
        await trio.sleep(1)
        assert len(here.attempts) <= BREAKER_FAILURES + FAST.at_once
        assert here.slot.health.state is State.OFFLINE
        assert here.slot.health.next_try is not None
        tried = len(here.attempts)
        await trio.sleep(BREAKER_PAUSE_S * 0.8 - 1.1)
        assert len(here.attempts) == tried, "nothing while it is open"
        here.most_at_once = 0
        await trio.sleep(BREAKER_PAUSE_S * 0.4 + 1)
        assert len(here.attempts) == tried + 1, "then one"
        await trio.sleep(BREAKER_PAUSE_S * 2 * 1.2)
        assert len(here.attempts) == tried + 2
        assert here.most_at_once == 1
        here.answers = [None]
        await trio.sleep(BREAKER_CAP_S * 3)
        assert here.slot.health.state is State.ONLINE
        assert all(row.state == "done" for row in here.outbox.rows)


async def test_failures_under_way_when_it_opens_do_not_lengthen_the_pause(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [Unavailable("500")]
        for _ in range(8):
            here.add()
        await trio.sleep(0.1)
        assert len(here.attempts) == 8
        here.answers = [None]
        await trio.sleep(BREAKER_PAUSE_S * 1.2 + 35)
        assert all(row.state == "done" for row in here.outbox.rows)
        assert here.attempts[8][0] <= BREAKER_PAUSE_S * 1.2 + 1


# --- rates


async def test_a_bucket_named_exactly_has_its_own_budget(autojump_clock: trio.abc.Clock) -> None:
    rates = {"": Rate(9, 1), "telephony": Rate(38)}
    async with world(Limits(rates=rates, at_once=64)) as here:
        for _ in range(400):
            here.add(bucket="telephony")
            here.add(bucket="")
        await trio.sleep(10)
        by_bucket = {"telephony": [], "": []}  # type: dict[str, list[float]]
        for at, attempt in here.attempts:
            by_bucket[here.outbox.rows[int(attempt.key.split()[1]) - 1].claim.bucket].append(at)
        assert most_in_a_second(by_bucket["telephony"]) <= 40
        assert most_in_a_second(by_bucket[""]) <= 10
        assert len(by_bucket["telephony"]) >= 36 * 9, "neither takes from the other"
        assert len(by_bucket[""]) >= 8 * 9


def most_in_a_second(times: list[float]) -> int:
    return max(sum(start <= at < start + 1 for at in times) for start in times)


async def test_buckets_of_a_kind_share_the_rate_of_the_whole(autojump_clock: trio.abc.Clock) -> None:
    async with world(Limits(rates={"": Rate(10, 1), "chat": Rate(1, 1)}, at_once=64)) as here:
        for number in range(100):
            here.add(bucket=f"chat:{number % 20}")
        await trio.sleep(4)
        assert 30 <= len(here.attempts) <= 10 * 5, "ten in any second, of which five have begun"
        for chat in range(20):
            own = [at for at, a in here.attempts if (int(a.key.split()[1]) - 1) % 20 == chat]
            assert len(own) <= 4 + 1
        await trio.sleep(30)
        assert all(row.state == "done" for row in here.outbox.rows)


async def test_a_long_wait_for_a_token_is_no_attempt_and_no_line_in_the_log(autojump_clock: trio.abc.Clock) -> None:
    async with world(Limits(rates={"": Rate(1, 10.0)}, at_once=8)) as here:
        for _ in range(3):
            here.add()
        await trio.sleep(60)
        assert [at for at, _ in here.attempts] == [pytest.approx(at, abs=2.2) for at in (0, 10, 20)]
        assert all([outcome.status for _, outcome in row.outcomes] == ["done"] for row in here.outbox.rows)
        assert [attempt.number for _, attempt in here.attempts] == [1, 1, 1]


async def test_a_backlog_without_tokens_is_not_claimed_in_vain_and_holds_up_nobody(
    autojump_clock: trio.abc.Clock,
) -> None:
    """A group of Telegram takes 20 messages a minute; another chat of the same bot is told at once."""
    limits = Limits(rates={"": Rate(30), "chat": Rate(3, 3.0), "group": Rate(20, 60.0)}, at_once=8)
    async with world(limits) as here:
        for _ in range(200):
            here.add(bucket="group:-100")
        await trio.sleep(5)
        assert len(here.attempts) == 20, "twenty in any minute"
        claims, calls = here.outbox.claims, here.outbox.calls
        late: list[float] = []
        for _ in range(60):
            row = here.add(bucket="chat:5")
            requested = trio.current_time()
            await trio.sleep(5)
            late.append(row.outcomes[0][0] - requested)
        assert max(late) < 0.1
        own = [
            at for at, a in here.attempts if here.outbox.rows[int(a.key.split()[1]) - 1].claim.bucket == "group:-100"
        ]
        assert len(own) == pytest.approx(20 + 305 / 3, abs=2), "as fast as the group may be told"
        tokens = 300 / 3 + 60
        assert here.outbox.claims - claims < 4 * tokens
        assert here.outbox.calls - calls < 9 * tokens


async def test_no_more_at_once_than_the_adapter_allows(autojump_clock: trio.abc.Clock) -> None:
    async with world(Limits(rates={}, at_once=3)) as here:
        here.answers = [1.0]
        for _ in range(10):
            here.add()
        await trio.sleep(10)
        assert here.most_at_once == 3
        assert here.attempts[-1][0] == pytest.approx(3.0, abs=0.1), "and each free place is taken at once"


# --- leases, acks and the end


def test_a_lease_outlives_the_longest_attempt() -> None:
    assert LEASE_S >= LONGEST_WAIT_FOR_RATE_S + ATTEMPT_DEADLINE_S + ACK_S


async def test_drain_waits_for_what_is_in_hand_and_no_longer(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [3.0]
        row = here.add()
        await trio.sleep(0.1)
        later = here.add("lane 1")
        began = trio.current_time()
        assert await here.actor.drain(8.0) == []
        assert trio.current_time() - began == pytest.approx(2.9, abs=0.05)
        assert (row.state, later.state) == ("done", "pending")
        await trio.sleep(60)
        assert len(here.attempts) == 1, "nothing more is claimed"


async def test_drain_names_what_was_not_finished_in_time_and_its_lease_is_given_back(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with world() as here:
        here.answers = [14.0]
        row = here.add()
        await trio.sleep(0.1)
        assert await here.actor.drain(2.0) == [row.claim.delivery_id]
        await here.stop()
        assert row.lease_until is None
        assert row.claim.attempt == 0
        assert row.state == "pending"


async def test_an_ack_waits_for_the_database_and_nothing_is_sent_twice(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [1.0]
        row = here.add()
        await trio.sleep(0.5)
        here.outbox.away = True
        await trio.sleep(LEASE_S * 3)
        here.outbox.away = False
        await trio.sleep(5)
        assert row.state == "done"
        assert len(here.attempts) == 1


async def test_an_ack_after_the_lease_passed_to_another_is_refused(autojump_clock: trio.abc.Clock) -> None:
    async with world() as here:
        here.answers = [5.0]
        row = here.add()
        await trio.sleep(1)
        row.claim = replace(row.claim, epoch=row.claim.epoch + 1)
        row.lease_until = trio.current_time() + 1000
        await trio.sleep(30)
        assert row.state == "pending"
        assert row.outcomes == []


async def test_an_instance_that_was_replaced_sends_nothing(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as here:
        ours = SimpleNamespace(serves=lambda tenant, epoch: (tenant, epoch) == (TENANT.number, 2))
        monkeypatch.setattr(here.services, "ownership", ours, raising=False)
        await here.stop()
        here.start(epoch=1)
        row = here.add()
        await trio.sleep(5)
        assert (here.attempts, row.state, {outcome.tried for _, outcome in row.outcomes}) == ([], "pending", {False})
        await here.stop()
        here.start(epoch=2)
        await trio.sleep(5)
        ((_, attempt),) = here.attempts
        assert row.state == "done"
        monkeypatch.setattr(here.services, "ownership", SimpleNamespace(serves=lambda tenant, epoch: False))
        with pytest.raises(Replaced):
            attempt.permit()


async def test_a_lane_that_waits_is_not_asked_for_all_the_time(autojump_clock: trio.abc.Clock) -> None:
    async with world(retry=Retry(quick_s=(600.0,))) as here:
        here.answers = [Unavailable("500"), None]
        here.add("lane")
        here.add("lane")
        await trio.sleep(400)
        assert here.outbox.calls < 60
        await trio.sleep(400)
        assert [row.state for row in here.outbox.rows] == ["done", "done"]


# --- the real outbox


def rows_of_lanes(lanes: int, each: int) -> list[DeliveryRow]:
    return [
        DeliveryRow(
            integration=KIND, lane=f"lane {lane}", key=f"{lane}:{number}", kind="upload", bucket="", subject=call_subject(f"call {lane}"),
            body="{}", latest_only=False, expires_s=None, keep_s=3600.0,
        )
        for number in range(each)
        for lane in range(lanes)
    ]  # fmt: skip


async def stored(connection: Connection, rows: Sequence[DeliveryRow]) -> None:
    await call_batches.record(connection, [CallBatch(TENANT.number, deliveries=list(rows))])


async def pending(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM deliveries WHERE state = 'pending'"))


@pytest.mark.slow
async def test_the_order_of_a_lane_survives_failures(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors.delivery.worker, "utc_now", lambda: datetime.now(UTC))
    monkeypatch.setattr(actors.delivery.worker, "BREAKER_FAILURES", 1000)
    async with world(retry=Retry(quick_s=(0.01,) * 20), db=db) as here:
        errors = [Unavailable("500"), Doubtful("?"), ValueError("bug"), None, 0.01, None, Rejected("no"), None, 0.003]
        here.answers = [errors[(number * 7) % len(errors)] for number in range(400)] + [None]
        monkeypatch.setattr(actors.delivery.worker.log, "error", lambda *args, **kwargs: None)
        await db.engine(stored, rows_of_lanes(lanes=6, each=12))
        here.bells.ring(TENANT.number, KIND)
        with trio.fail_after(20):
            while await db.engine(pending):
                await trio.sleep(0.02)
        for lane in range(6):
            tried = [int(a.key.split(":")[1]) for _, a in here.attempts if a.lane == f"lane {lane}"]
            assert tried == sorted(tried)
            assert set(tried) == set(range(12))
        assert here.most_at_once > 1, "lanes run side by side"
