"""Delivers for one integration: claims what is due, makes one attempt at each, records the outcome.

    claim (lease) -> attempt -> done | retry later | expired | failed | doubtful
                        |
                        +-> NeedsAttention: the integration waits for a person; nothing more is claimed

A delivery written while there is room is leased by the commit that writes it and handed over (`actors.delivery.handover`); a
claim finds the rest. Both preserve the order within a lane; lanes run in parallel up to the adapter's limit. An attempt is
counted when it is claimed, so a delivery that kills the process still runs out of attempts. A delivery that exceeds the
account's budget is released untried, and its bucket is left out of claims until there is room; other buckets go on. Breaker:
after `BREAKER_FAILURES` failures in a row nothing is claimed for a while, then one at a time. This is one of the two modules
where `except Exception` is legal: a bug in an adapter costs its delivery, not the integration. Over 400 lines: claiming,
trying and judging an outcome share what is in hand. Read `adapters.base` next.
"""

import json
import logging
import random
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import copy_context
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Any

import trio

from actors.delivery.external_ids import ExternalIds, UnstoredIds
from actors.delivery.handover import ACK_S, ATTEMPT_DEADLINE_S, FILE_DEADLINE_S, LEASE_S, LONGEST_WAIT_FOR_RATE_S
from actors.delivery.recent import RecentOutcomes
from actors.runtime.directory import Slot, utc_now
from actors.services import Services
from adapters.base import AdapterSettings, Attempt, Delivered, Delivers, Link
from adapters.budget import account_of
from adapters.channel import MESSAGE
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import (
    Doubtful,
    Expired,
    GatewayError,
    NeedsAttention,
    NotYet,
    Permanent,
    ProtocolError,
    RateLimited,
    Replaced,
    Retryable,
    Unavailable,
)
from gateway.domain.health import State
from gateway.domain.limiter import Booking
from gateway.store.outbox import (
    Ack,
    Claim,
    Outcome,
    claim_deliveries,
    prolong_delivery,
    release_deliveries,
    select_next_due,
)
from gateway.telemetry import COUNTERS, HISTOGRAMS, bound

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 300.0
"""Without a bell. `actors.housekeeping.wake_due` rings for what is due, with one statement for all integrations."""
BREAKER_FAILURES = 5
BREAKER_PAUSE_S = 5.0
BREAKER_CAP_S = 20.0
"""A ring is useful for a minute. A longer pause would let rings expire that a recovered CRM could still show."""
ATTENTION_PAUSE_S = 300.0


class Behind(Enum):
    """What is known of a lane behind the delivery in hand."""

    UNKNOWN = "nothing was written behind it since it came in hand"
    WRITTEN = "something was: its ack leases it, or else somebody has to look"
    MORE = "there may be more, and the next ack finds that out"


class DeliveryActor:
    """Runs under supervision, one for each integration that receives deliveries."""

    def __init__(
        self, tenant: Tenant, linked: Linked, settings: AdapterSettings, services: Services, epoch: int | None = None
    ) -> None:
        self.tenant = tenant
        self.key = linked.key
        self.adapter = linked.adapter
        self.settings = settings
        self.services = services
        self.epoch = epoch
        account = account_of(linked.adapter, tenant.number, linked.key, settings)
        self._budget = services.budgets.of(account, linked.adapter.limits)
        self._unstored_ids = UnstoredIds()
        self._given_back = False
        """Whether the last claim held what the account's budget had no place for."""
        self._failures = 0
        self._recent = RecentOutcomes()
        self._closed_until = 0.0
        self._bell = trio.Event()
        """Set by news of something due and whenever an attempt is over: one thing to wait for, and no task for it."""
        self._idle = trio.Event()
        self._in_hand: dict[int, Claim] = {}
        self._since: dict[int, float] = {}
        """When each was taken, by Trio's clock."""
        self._lanes: dict[str, Behind] = {}
        """Lanes with a delivery in hand -> what is known of others behind it."""
        self._reserved = self._asking = 0
        """Places reserved for what is about to be written, and those that the claim under way may fill."""
        self._caught_up = False
        """Whether the last claim left nothing that was ready."""
        self._behind = True
        """Whether something may wait behind what is in hand."""
        self._begin: Callable[[Claim, Booking | None], None] | None = None
        self._draining = trio.Event()
        self.last_success: float | None = None

    # The loop.

    async def run(self, slot: Slot) -> None:
        """Until cancelled; then leases of what was not tried are given back."""
        number, key = self.tenant.number, self.key
        slot.figures = self.figures
        link = Link(
            tenant=self.tenant, name=key, base_url=self.services.provider_urls.get(self.adapter.kind), dial=self.services.dial,
            report=slot.report, budget=self._budget, tokens=self.services.tokens(number, key),
            app=self.services.app_of(self.adapter), files=self.services.outgoing_files(number), public_url=self.services.public_url,
            provider_urls=self.services.provider_urls, recordings=self.services.recordings_of(number),
        )  # fmt: skip
        with bound(tenant=number, integration=key), ExitStack() as lent:
            if missing := self.adapter.missing(self.settings, link.app):
                slot.report(State.STARTING, missing)
                await trio.sleep_forever()  # until the settings change; what is to be delivered waits
            async with self.adapter.connect(link, self.settings) as client:
                assert isinstance(client, Delivers)
                lent.enter_context(self.services.clients.lend(slot.path, client))
                slot.report(State.ONLINE, "ready")
                try:
                    async with trio.open_nursery() as nursery:
                        # A claim is handed over from another task; its log lines are this actor's.
                        ours = copy_context()
                        self._begin = lambda claim, booking: ours.run(
                            nursery.start_soon, self._deliver, slot, client, claim, booking
                        )
                        try:
                            with self.services.outgoing.takes(number, key, self):
                                while True:
                                    self._bell = self.services.bells.listen(number, key)
                                    if not await self._start(await self._claim(slot)):
                                        await self._wait()
                        finally:
                            self._begin = None
                finally:
                    self.services.bells.forget(number, key)
                    await self._release(self._in_hand.values())

    def reserve(self, bucket: str) -> bool:
        """A place for a delivery that is about to be written, where it would be the next to be claimed anyway. See
        `actors.delivery.handover`."""
        if self._begin is None or not self._caught_up or not self._may_claim() or self._room() - self._asking <= 0:
            return False
        if self._budget.wait_s(bucket) > LONGEST_WAIT_FOR_RATE_S:
            return False
        self._reserved += 1
        return True

    async def take(self, claims: Sequence[Claim], reserved: int) -> None:
        """Starts the deliveries that were leased as they were written."""
        self._reserved -= reserved
        if self._begin is None or self._draining.is_set():
            await self._release(claims)
        elif claims:
            await self._start(claims)
        if self._behind:
            self._bell.set()  # the reserved places may now be used by others

    def follows(self, lane: str) -> bool:
        """Notes that something was written behind what is in hand of this lane. False where nothing is."""
        if lane not in self._lanes:
            return False
        self._lanes[lane] = Behind.WRITTEN
        return True

    async def _start(self, claims: Sequence[Claim]) -> int:
        """Starts those that may be sent now, and releases the others together. Returns how many were started."""
        ready, dry = self._with_places(claims)
        for claim, booking in ready:
            if self._begin is not None:
                self._begin(claim, booking)
            elif booking is not None:
                self._budget.cancel(booking)
        await self._release(dry)
        return len(ready)

    def figures(self) -> dict[str, Any]:
        """What pages and monitors show."""
        return {"in_flight": len(self._in_hand)}

    async def drain(self, within_s: float) -> list[int]:
        """Stops claiming and waits for what is in hand. Returns the ids that were not finished in time."""
        self._draining.set()
        with trio.move_on_after(within_s):
            while self._in_hand:
                if self._idle.is_set():
                    self._idle = trio.Event()
                await self._idle.wait()
        return list(self._in_hand)

    def _room(self) -> int:
        held = len(self._in_hand) + self._reserved
        # Half open: one at a time until one succeeds.
        return (1 if self._failures >= BREAKER_FAILURES else self.adapter.limits.at_once) - held

    def _may_claim(self) -> bool:
        return not self._draining.is_set() and trio.current_time() >= self._closed_until

    async def _claim(self, slot: Slot) -> list[Claim]:
        room = self._room()
        if room <= 0 or not self._may_claim():
            self._caught_up, self._behind = False, True
            return []
        claims: list[Claim] | None = None
        self._asking = room
        # Shielded: a claim cut short may be committed all the same, and nobody would hold its leases.
        with trio.move_on_after(ACK_S, shield=True), suppress(Unavailable):
            claims = await self.services.db.engine(
                claim_deliveries, self.tenant.number, self.key, room, LEASE_S, list(self._in_hand),
                list(self._dry()), self.epoch,
            )  # fmt: skip
        self._asking = 0
        if claims is None:
            self._close(1.0)
            self._caught_up, self._behind = False, True
            return []
        self._caught_up, self._behind = len(claims) < room, bool(claims or self._in_hand)
        if self._draining.is_set():  # it began during the claim; nothing more is started
            await self._release(claims)
            return []
        return claims

    async def _wait(self) -> None:
        """For new work, a free place, the end of a pause, or the next delivery's time."""
        now = trio.current_time()
        full = len(self._in_hand) >= self.adapter.limits.at_once
        if now < self._closed_until:
            pause = self._closed_until - now
        elif full or self._draining.is_set():
            pause = LOOK_AGAIN_S
        else:
            pause = await self._next_due_s()
        with trio.move_on_after(pause):
            await self._bell.wait()

    async def _next_due_s(self) -> float:
        try:
            dry = self._dry()
            due = await self.services.db.engine(select_next_due, self.tenant.number, self.key, list(dry))
        except Unavailable:
            return 1.0
        # A lane behind one in flight is due but not ready: its turn is announced by `_bell`.
        floor = 0.2 if self._in_hand or self._given_back else 0.02
        next_due = LOOK_AGAIN_S if due is None else min(LOOK_AGAIN_S, max(due, floor))
        return min([next_due, *(max(wait, 0.02) for wait in dry.values())])

    async def _release(self, claims: Collection[Claim]) -> None:
        if not claims:
            return
        with trio.move_on_after(2, shield=True):
            try:
                await self.services.db.engine(release_deliveries, list(claims))
            except Unavailable:
                log.warning("leases end by themselves", extra={"deliveries": [claim.delivery_id for claim in claims]})

    # One delivery.

    async def _deliver(self, slot: Slot, client: Delivers, claim: Claim, booking: Booking | None) -> None:
        with bound(**{claim.subject.kind: claim.subject.id}):
            outcome = await self._outcome(slot, client, claim, booking)
            COUNTERS[f"deliveries_{outcome.status}"] += 1
            HISTOGRAMS["delivery_attempt"].observe(outcome.duration_ms / 1000)
            if outcome.tried:
                log.info("delivery", extra={"kind": claim.kind, "outcome": outcome.status, "attempt": claim.attempt})
            following = await self._record(claim, outcome)
            if claim.kind == MESSAGE and outcome.tried:
                self.services.feed.publish(self.tenant.number, claim.subject)  # its message shows another status now
            self._in_hand.pop(claim.delivery_id, None)
            self._since.pop(claim.delivery_id, None)
            behind = self._lanes.pop(claim.lane, Behind.UNKNOWN)
            if following is not None:
                await self.take([following], 0)
                if claim.lane in self._lanes:
                    self._lanes[claim.lane] = behind
            if outcome.state == "pending" or (following is None and (self._behind or behind is Behind.WRITTEN)):
                self._bell.set()
            if not self._in_hand:
                self._idle.set()

    def _takes_next(self, lane: str) -> bool:
        """Whether the ack is to lease what follows. If so it finds all that was written behind it until now."""
        known = self._lanes.get(lane, Behind.UNKNOWN) is not Behind.UNKNOWN
        if not known or not self._may_claim() or self._failures >= BREAKER_FAILURES:
            return False
        self._lanes[lane] = Behind.MORE
        return True

    async def _record(self, claim: Claim, outcome: Outcome) -> Claim | None:
        """Stores the ack, however long the database is away: what was sent must be recorded as sent. Cancelled, it still tries
        for a moment. Returns what follows in the lane, where that was leased with it."""
        recorded, following = False, None
        try:
            while not recorded:
                with trio.move_on_after(ACK_S, shield=True), suppress(Unavailable):
                    takes_next = self._takes_next(claim.lane)
                    acked = await self.services.outgoing.ack(Ack(claim, outcome, takes_next, self.epoch))
                    if not acked.held:
                        log.warning("the lease had passed on", extra={"delivery": claim.delivery_id})
                    recorded, following = True, acked.following
                if not recorded:
                    self.follows(claim.lane)  # what the lost response may have leased is found by a later claim
                    await trio.sleep(0.2)
        finally:
            if not recorded:
                log.error("an attempt could not be recorded: it is repeated", extra={"delivery": claim.delivery_id})
        return following

    def _may_be_there(self, claim: Claim) -> bool:
        """Whether a client may have read it already: whoever tried before did not live to say."""
        if not claim.interrupted or claim.kind != MESSAGE:
            return False
        known_s = self.adapter.chat.drops_repeats_s if self.adapter.chat is not None else 0.0
        return (utc_now() - claim.created_at).total_seconds() >= known_s

    def _users(self) -> Mapping[str, str | None]:
        tenant = self.services.cache.tenant(self.tenant.number)
        return tenant.user_extensions.get(self.key, {}) if tenant is not None else {}

    async def _outcome(self, slot: Slot, client: Delivers, claim: Claim, booking: Booking | None) -> Outcome:
        if self._may_be_there(claim):
            if booking is not None:
                self._budget.cancel(booking)
            ended = Doubtful("the gateway ended while this was sent")
            return self._failed(slot, claim, ended, {"code": ended.problem_code})
        if booking is None:
            return Outcome(state="expired", status="expired", error=str(Expired()), uses_attempt=False)
        if late_s := await self._budget.leave(booking, LONGEST_WAIT_FOR_RATE_S):
            return Outcome(state="pending", status="waiting", again_s=late_s, uses_attempt=False, tried=False)
        attempt = Attempt(
            kind=claim.kind, key=claim.key, lane=claim.lane, body=json.loads(claim.body), number=claim.attempt,
            reference=claim.reference, permit=self._permit, bucket=claim.bucket, paid=True, users=self._users,
            ids=ExternalIds(self.services.db, claim, self._unstored_ids),
        )  # fmt: skip
        started = time.perf_counter()
        error: Exception | None = None
        delivered = Delivered()
        deadline_s = ATTEMPT_DEADLINE_S
        try:
            if attempt.kind == MESSAGE and "file" in attempt.body:
                deadline_s = FILE_DEADLINE_S
                await self._prolong(claim)
            with trio.fail_after(deadline_s):
                self._permit()
                delivered = await client.deliver(attempt)
        except Replaced:
            return Outcome(state="pending", status="waiting", again_s=1.0, uses_attempt=False, tried=False)
        except trio.TooSlowError:
            # What a client may have read already is not repeated.
            late = "no answer before the deadline"
            error = Doubtful(late) if attempt.kind == MESSAGE else Unavailable(late, certain=False)
        except Exception as caught:
            error = caught
        took_ms = int((time.perf_counter() - started) * 1000)
        fields: dict[str, Any] = {"request": attempt.request, "response": attempt.response, "duration_ms": took_ms}
        if error is None:
            self._succeeded(slot, delivered)
            note = f"{delivered.note}: {delivered.detail}" if delivered.detail else delivered.note
            return Outcome(
                state="done", status="done", reference=delivered.reference, note=note, external_id=delivered.external_id,
                **fields,
            )  # fmt: skip
        fields["code"] = error.problem_code if isinstance(error, GatewayError) else GatewayError.problem_code
        outcome = self._failed(slot, claim, error, fields)
        if outcome.state != "pending":
            # The breaker counts a refusal as a response: the latest outcomes show that side's health.
            self._recent.add(trio.current_time(), outcome.error)
            found, known = self._recent.verdict(trio.current_time()), slot.health
            if found is not None and known.state is not State.OFFLINE and known.code != "needs_attention":
                slot.report(found.state, found.code, found.detail)
        return outcome

    async def _prolong(self, claim: Claim) -> None:
        """Raises Replaced where the lease has passed to another, Unavailable."""
        if not await self.services.db.engine(prolong_delivery, claim, FILE_DEADLINE_S + ACK_S):
            raise Replaced

    def _permit(self) -> None:
        """Raises Replaced where another instance may own the tenant by now: the owner will send it."""
        if self.epoch is not None and not self.services.ownership.serves(self.tenant.number, self.epoch):
            raise Replaced

    def _with_places(self, claims: Collection[Claim]) -> tuple[list[tuple[Claim, Booking | None]], list[Claim]]:
        """Those that may be sent soon, each with its place in the account's budget, or without one where it has expired;
        they are in hand from here on. Then the others."""
        ready, dry = list[tuple[Claim, Booking | None]](), list[Claim]()
        for claim in claims:
            self._since[claim.delivery_id] = trio.current_time()
            booking = None if self._expired(claim) else self._budget.book(claim.bucket)
            if booking is not None and booking.at - trio.current_time() > LONGEST_WAIT_FOR_RATE_S:
                self._budget.cancel(booking)
                dry.append(claim)
                del self._since[claim.delivery_id]
            else:
                self._in_hand[claim.delivery_id] = claim
                self._lanes[claim.lane] = Behind.UNKNOWN
                ready.append((claim, booking))
        self._given_back = bool(dry)
        COUNTERS["deliveries_waiting"] += len(dry)
        return ready, dry

    def _expired(self, claim: Claim) -> bool:
        """Whether it has expired, by Trio's clock, which nobody can set."""
        held_s = trio.current_time() - self._since[claim.delivery_id]
        return claim.expires_s is not None and held_s > claim.expires_s

    def _dry(self) -> dict[str, float]:
        """Buckets whose budget is used up, and for how many seconds."""
        return self._budget.full(LONGEST_WAIT_FOR_RATE_S)

    def _succeeded(self, slot: Slot, delivered: Delivered) -> None:
        self._failures = 0
        self.last_success = trio.current_time()
        self._recent.add(self.last_success, None)
        found = self._recent.verdict(self.last_success)
        if found is not None:
            slot.report(found.state, found.code, found.detail)
            return
        if delivered.note and not delivered.usual:
            slot.report(State.DEGRADED, delivered.note, delivered.detail)
        else:
            slot.report(State.ONLINE, "ready")

    def _failed(self, slot: Slot, claim: Claim, error: Exception, fields: dict[str, Any]) -> Outcome:
        text = str(error)
        match error:
            case RateLimited():
                pause = error.after_s or random.uniform(0.5, 1.5)
                if error.bucket:  # its budget is paused; the others go on
                    return self._again(claim, pause, "rate_limited", text, fields, uses_attempt=False)
                self._close(pause)
                slot.report(State.DEGRADED, "rate_limited", text, next_try=utc_now() + timedelta(seconds=pause))
                return self._again(claim, pause, "rate_limited", text, fields, uses_attempt=False)
            case NotYet():
                waits = self._again(claim, error.after_s, "waiting", text, fields)
                return replace(waits, tried=bool(fields["request"]))
            case Retryable() | ProtocolError():
                if trio.current_time() >= self._closed_until:
                    self._failures += 1  # attempts under way when the breaker opened do not count again
                if self._failures >= BREAKER_FAILURES:
                    doubled = BREAKER_PAUSE_S * 2 ** min(self._failures - BREAKER_FAILURES, 16)
                    pause = min(BREAKER_CAP_S, doubled) * random.uniform(0.8, 1.2)
                    self._close(pause)
                    slot.report(State.OFFLINE, "unavailable", text, next_try=utc_now() + timedelta(seconds=pause))
                else:
                    slot.report(State.DEGRADED, "unavailable", text)
                after = error.after_s if isinstance(error, Retryable) else None
                return self._again(claim, after, "retry", text, fields)
            case NeedsAttention():
                self._close(ATTENTION_PAUSE_S)
                next_try = utc_now() + timedelta(seconds=ATTENTION_PAUSE_S)
                slot.report(State.ATTENTION, "needs_attention", error.person, next_try=next_try)
                # Due at once for the next actor, with corrected settings; until then this one claims nothing.
                return self._again(claim, 0.0, "attention", text, fields, uses_attempt=False)
            case Doubtful():
                return Outcome(state="doubtful", status="doubtful", error=text, **fields)
            case Permanent():
                self._failures = 0
                return Outcome(state="failed", status="failed", error=text, **fields)
            case _:
                trace = "".join(traceback.format_exception(error))
                log.error("a delivery crashed its adapter", extra={"delivery": claim.delivery_id, "trace": trace})
                COUNTERS["delivery_bugs"] += 1
                return self._again(claim, None, "bug", type(error).__name__, fields)

    def _close(self, pause: float) -> None:
        self._closed_until = max(self._closed_until, trio.current_time() + pause)

    def _again(
        self, claim: Claim, after_s: float | None, status: str, text: str, fields: dict[str, Any], *,
        uses_attempt: bool = True,
    ) -> Outcome:  # fmt: skip
        """A retry by the adapter's schedule, unless the delivery would have expired or be too old by then."""
        retry = self.adapter.retry
        tried = claim.attempt - 1 if uses_attempt else 0
        if tried < len(retry.quick_s):
            pause = retry.quick_s[tried]
        elif claim.expires_s is not None:
            pause = retry.live_s
        else:
            pause = min(retry.cap_s, retry.slow_s * 2 ** min(tried - len(retry.quick_s), 32))
        pause = after_s if after_s is not None else pause * random.uniform(0.8, 1.2)
        age_s = trio.current_time() - self._since[claim.delivery_id] + pause
        if claim.expires_s is not None and age_s > claim.expires_s:
            return Outcome(state="expired", status="expired", error=text, uses_attempt=uses_attempt, **fields)
        if age_s > claim.keep_s:
            return Outcome(state="failed", status="failed", error=f"kept long enough: {text}", **fields)
        return Outcome(state="pending", status=status, error=text, again_s=pause, uses_attempt=uses_attempt, **fields)
