"""One tenant's calls: hears PBX sessions and posted events, keeps the state of every open call, and makes each event
durable together with the deliveries it causes.

    Told (a PBX session)  ----+
                              +--> fold (domain.calls) --> route (domain.routing) --> one commit (actors.runtime.group_commit)
    journal (posted events) --+

A batch is whatever waits; it leaves the mailbox only when it is committed. Where AMI tells a call, posts about it are
noted and tell nothing: a post waits `AMI_GRACE_S` for AMI's word while a PBX link is up. One event that cannot be dealt
with is set aside as a dead letter: a planner that fails costs its own integration that event; an event that cannot be
folded or kept makes its call end `uncertain`, and the rest of the batch goes on. This actor speaks to no outside system.
Over 400 lines: hearing and keeping share one state. Read `actors.delivery.worker` next.
"""

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import trio
from cachetools import TTLCache

from actors.calls.batch import Batch, Received
from actors.runtime.directory import Slot, utc_now
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import Crash, contained
from actors.services import Services
from adapters.base import Draft
from gateway import __version__
from gateway.domain.calls import Call, apply, lost
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.events import NAMES, CallEnded, CallEvent, CallMerged, Result, to_json
from gateway.domain.health import State
from gateway.domain.ids import CallId, Kind
from gateway.domain.posted import reported
from gateway.domain.posts import Invalid, parse_post
from gateway.domain.recording_links import expects_posted, keep_days
from gateway.domain.routing import Planner, route
from gateway.store.call_batches import CallBatch, EventRow, ExpectedRow, Refusal
from gateway.store.calls import select_calls, select_open_calls, select_stored_events
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.journal import PendingPost, select_pending_posts
from gateway.store.outbox import DeliveryRow, storable
from gateway.store.postgres.errors import StoreError
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

T = TypeVar("T")

POSTED = "post"
"""The source of calls that posted events tell; a PBX's calls carry its name."""

MAILBOX_ROOM = 2000
AMI_GRACE_S = 1.0
POSTS_AT_ONCE = 500
FORGOTTEN_AFTER = timedelta(hours=4)
"""A posted call of which nothing more was heard for so long ends uncertain."""
LOOK_FOR_FORGOTTEN_S = 60.0
RETRY_CAP_S = 5.0
MIX_S = 2.0
"""A PBX closes and mixes its file after the hangup; before that there is nothing to fetch."""
COMMIT_PATIENCE_S = 5.0
"""How long a commit under way is waited for, also by an actor that is being stopped."""
SAME_WITHIN_S = 1.0
_STAMPS = frozenset({"at", "wait_s", "talk_s", "uncertain"})
"""What may differ in one event that two have heard."""
LOOK_BACK_S = 5.0
"""After news the journal is read once more from its beginning: a post may be committed behind one that was read."""


@dataclass(frozen=True, slots=True)
class PbxEvents:
    """What a PBX session heard, in order."""

    source: str
    events: tuple[CallEvent, ...]
    received_at: datetime


@dataclass(slots=True)
class _Held:
    post: PendingPost
    until: float


class TenantCalls:
    """Runs under supervision; `mailbox` is its address and outlives it."""

    def __init__(
        self,
        tenant: Tenant,
        mailbox: Mailbox[PbxEvents],
        services: Services,
        planners: Mapping[Kind, Planner[Draft]],
        epoch: int | None = None,
    ) -> None:
        self.tenant = tenant
        self.mailbox = mailbox
        self._services = services
        self._planners = planners
        self._epoch = epoch
        self._path = f"tenant/{tenant.number}"
        self._pbx_names = {pbx.name for pbx in tenant.pbxes if pbx.enabled}
        self._reset()

    def _reset(self) -> None:
        self._calls: dict[CallId, tuple[str, Call]] = {}
        self._received: dict[CallId, datetime] = {}
        self._ami: TTLCache[str, CallId] = TTLCache(maxsize=20_000, ttl=3600)
        """Uniqueid of a call's first channel -> the call, for every call that AMI told lately."""
        self._ended: TTLCache[CallId, bool] = TTLCache(maxsize=20_000, ttl=3600)
        self._holed: TTLCache[CallId, bool] = TTLCache(maxsize=20_000, ttl=4 * 3600)
        """Calls of which an event was set aside: how they end is uncertain."""
        self._stored: dict[CallId, list[dict[str, Any]]] = {}
        """Call -> its events that were kept before, while messages are heard that came before this actor."""
        self._held: list[_Held] = []
        self._read_up_to = 0
        self._look_back_at: float | None = None
        self._look_for_forgotten_at = 0.0

    async def run(self, slot: Slot) -> None:
        """Until cancelled. Starts from what the database knows."""
        with bound(tenant=self.tenant.number):
            self._reset()
            began = utc_now()
            for source, call in await self._read(slot, select_open_calls):
                self._remember(source, call)
            slot.report(State.ONLINE)
            self.mailbox.ring()
            fresh = True
            while True:
                taken: Sequence[PbxEvents] = ()
                with trio.move_on_after(self._pause_s()):
                    taken = await self.mailbox.take_all()
                if taken and (fresh or taken[0].received_at < began):
                    await self._read_before(slot, taken)
                elif self._stored:
                    self._stored = {}
                fresh = False
                batch = Batch(self.tenant.number, self._epoch)
                for message in self.mailbox.each(taken):
                    for event in message.events:
                        self._receive(Received(message.source, event, message.received_at), batch)
                await self._receive_posts(slot, batch)
                self._end_forgotten(batch)
                await self._keep(slot, batch)
                self.mailbox.done()

    def _pause_s(self) -> float:
        """Until the next post that waits for AMI is due, or the look back; at most a minute."""
        now = trio.current_time()
        due = [held.until for held in self._held] + ([self._look_back_at] if self._look_back_at is not None else [])
        return max(0.0, min((at - now for at in due), default=60.0))

    async def _read_before(self, slot: Slot, taken: Sequence[PbxEvents]) -> None:
        """What is known of the calls of messages that came before this actor: an earlier incarnation may have kept some
        of it and not lived to say so, or the instance that owned the tenant before has heard the same."""
        ids = {event.call_id for message in taken for event in message.events}
        ids = {one for one in ids if storable(one) == one}  # of no other can anything be known
        if unknown := ids - self._calls.keys():
            for source, call in await self._read(slot, select_calls, unknown):
                self._remember(source, call)
        self._stored = {}
        for call_id, body in await self._read(slot, select_stored_events, ids) if ids else ():
            self._stored.setdefault(call_id, []).append(json.loads(body))

    def _was_stored(self, event: CallEvent) -> bool:
        """Whether this very event is among those kept before; two who heard it may have stamped it a little apart."""
        if not (stored := self._stored.get(event.call_id)):
            return False
        new = to_json(event)
        return any(
            all(one.get(name) == value for name, value in new.items() if name not in _STAMPS)
            and abs((datetime.fromisoformat(one["at"]) - event.at).total_seconds()) <= SAME_WITHIN_S
            for one in stored
        )

    async def _read(
        self, slot: Slot, select: Callable[..., Awaitable[list[tuple[Any, T]]]], *ids: Iterable[str]
    ) -> list[tuple[Any, T]]:
        """Rows from the database, however long it is away."""
        number = self.tenant.number
        pause = 0.2
        while True:
            try:
                return await self._services.db.tenant(number, select, number, *map(list, ids))
            except Unavailable:
                slot.report(State.OFFLINE, "database_away")
                await trio.sleep(pause)
                pause = min(pause * 2, RETRY_CAP_S)

    def _remember(self, source: str, call: Call) -> None:
        """A call as the database knows it."""
        if not call.open:
            self._ended[call.call_id] = True
        elif call.call_id not in self._calls:
            self._calls[call.call_id] = (source, call)
            self._received[call.call_id] = utc_now()
        if source != POSTED:
            self._ami[self._bare(source, call.call_id)] = call.call_id

    def _bare(self, source: str, call_id: CallId) -> str:
        return call_id.removeprefix(f"{source}-")

    # One event.

    def _own_id(self, source: str, call_id: CallId) -> CallId:
        """The id under which a call is known: one that posts have begun to tell keeps theirs, without the PBX's name."""
        bare = CallId(self._bare(source, call_id))
        reported_by, _ = self._calls.get(bare, ("", None))
        return bare if call_id not in self._calls and (reported_by == POSTED or bare in self._ended) else call_id

    def _receive(self, received: Received, batch: Batch) -> None:
        """Folds and routes one event. A bug in that costs this event alone, and its call the certainty of its end."""
        crash = contained(lambda: self._fold(received, batch))
        if crash is None:
            return
        batch.dead_letters.append(self._dead_letter(received, crash.trace))
        if (end := self._hole(received)) is not None:
            self._receive(end, batch)

    def _fold(self, received: Received, batch: Batch) -> None:
        source, event = received.source, received.event
        if (own_id := self._own_id(source, event.call_id)) != event.call_id:
            source, event = POSTED, replace(event, call_id=own_id)
        if event.call_id in self._ended or (self._stored and self._was_stored(event)):
            return
        if event.call_id in self._holed and isinstance(event, CallEnded):
            event = replace(event, uncertain=True)
        known = self._calls.get(event.call_id)
        source_before, before = known or (source, None)
        call = apply(before, event)
        if call is None or (before is not None and replace(call, events=before.events) == before):
            return
        by_ami = source != POSTED
        if not by_ami:
            source = source_before
        name = NAMES[type(event)]
        body = json.dumps(to_json(event), ensure_ascii=False)
        linked, said, expected = self._with_link(source, call, event, received.received_at)
        # Nothing below fails: an event is heard whole or not at all.
        if by_ami:
            self._ami[self._bare(source, event.call_id)] = event.call_id
        batch.received.append(received)
        batch.before.setdefault(call.call_id, known)
        recording = batch.recording
        recording.calls[call.call_id] = (source, call)
        recording.events.append(EventRow(call.call_id, call.events, name, event.at, body))
        if expected is not None:
            recording.expected.append(expected)
        self._route(received, before, linked, said, batch)
        COUNTERS[f"events_{name}"] += not batch.again
        if call.open:
            self._calls[call.call_id] = (source, call)
            self._received[call.call_id] = utc_now()
        else:
            self._forget(call.call_id)

    def _route(self, received: Received, before: Call | None, call: Call, event: CallEvent, batch: Batch) -> None:
        """Asks every integration's planner. One that fails is not told of this event, and the others are."""
        for kind, planner in self._planners.items():

            def rows(kind: Kind = kind, planner: Planner[Draft] = planner) -> list[DeliveryRow]:
                drafts = route({kind: planner}, before, call, event)
                return [_delivery(kind, draft, call.call_id, received.received_at) for _, draft in drafts]

            planned = contained(rows)
            if not isinstance(planned, Crash):
                batch.recording.deliveries.extend(planned)
            elif not batch.again:
                log.error("a planner failed", extra={"integration": kind, "call": call.call_id, "trace": planned.trace})
                dead_letter = self._dead_letter(replace(received, post=None), planned.trace)
                batch.dead_letters.append(replace(dead_letter, actor=f"{self._path}/integration/{kind}"))

    def _forget(self, call_id: CallId) -> None:
        self._calls.pop(call_id, None)
        self._received.pop(call_id, None)
        self._ended[call_id] = True

    def _with_link(
        self, source: str, call: Call, event: CallEvent, received_at: datetime
    ) -> tuple[Call, CallEvent, ExpectedRow | None]:
        """Call and event as outside systems are told of them: where a recording is expected, with our link in place of
        the PBX's own name for it. The link is the same whenever it is made again; its file comes later, or never."""
        recording_files, posted = self._services.recording_files, source == POSTED
        if recording_files is None or not isinstance(event, CallEnded):
            return call, event, None
        due = posted and event.result is Result.ANSWERED and expects_posted(self.tenant)
        if event.recording is None and not due:
            return call, event, None
        number, reported = self.tenant.number, event.recording or ""
        signer = recording_files.signer(number)
        has_address = re.match("https?://", reported) is not None
        row = ExpectedRow(
            recording_id=signer.recording_id(call.call_id), call_id=call.call_id,
            pbx="" if posted or has_address else source, reported="" if has_address else reported,
            url=recording_files.seal_url(number, reported) if has_address else None, begins_at=call.started_at, ended_at=event.at,
            run_at=received_at + timedelta(seconds=MIX_S) if has_address or not posted else None,
        )  # fmt: skip
        until = event.at + timedelta(days=keep_days(self.tenant))
        link = signer.link(self._services.public_url, row.recording_id, until)
        return replace(call, recording=link), replace(event, recording=link), row

    def _end_forgotten(self, batch: Batch) -> None:
        """Ends calls that nobody will tell the end of: posts that stopped coming, a PBX that was taken out. Looks through
        all of them, so it does once a minute."""
        if trio.current_time() < self._look_for_forgotten_at:
            return
        self._look_for_forgotten_at = trio.current_time() + LOOK_FOR_FORGOTTEN_S
        now = utc_now()
        for call_id, (source, call) in list(self._calls.items()):
            orphan = (
                source not in self._pbx_names if source != POSTED else now - self._received[call_id] > FORGOTTEN_AFTER
            )
            if orphan:
                self._receive(Received(source, lost(call, now), now), batch)

    # Posted events.

    async def _receive_posts(self, slot: Slot, batch: Batch) -> None:
        now = trio.current_time()
        ripe_ids = {h.post.unique_id for h in self._held if h.until <= now or self._ami_reported(h.post.unique_id)}
        ripe = [held.post for held in self._held if held.post.unique_id in ripe_ids]
        self._held = [held for held in self._held if held.post.unique_id not in ripe_ids]
        new = await self._new_posts(slot, now)
        if not ripe and not new:
            return
        await self._recall(new)
        waiting = {held.post.unique_id for held in self._held}
        patient = self._ami_may_report()
        for post in self.mailbox.each(ripe):
            self._receive_post(post, batch)
        for post in self.mailbox.each(new):
            if post.unique_id in waiting or (patient and self._fresh(post)):
                self._held.append(_Held(post, now + AMI_GRACE_S))
                waiting.add(post.unique_id)
            else:
                self._receive_post(post, batch)

    async def _new_posts(self, slot: Slot, now: float) -> list[PendingPost]:
        back = self._look_back_at is not None and now >= self._look_back_at
        rung = self.mailbox.take_rung()
        if not (rung or back):
            return []
        if back:
            self._look_back_at, self._read_up_to = None, 0
        elif self._look_back_at is None:
            self._look_back_at = now + LOOK_BACK_S
        number = self.tenant.number
        try:
            posts = await self._services.db.tenant(
                number, select_pending_posts, number, self._read_up_to, POSTS_AT_ONCE
            )
        except Unavailable:
            slot.report(State.DEGRADED, "database_away")
            await trio.sleep(0.5)
            self.mailbox.ring()
            return []
        if posts:
            self._read_up_to = posts[-1].journal_id
        if len(posts) == POSTS_AT_ONCE:
            self.mailbox.ring()
        if slot.health.state is State.DEGRADED:
            slot.report(State.ONLINE)
        held = {held.post.journal_id for held in self._held}
        return [post for post in posts if post.journal_id not in held]

    def _ami_reported(self, unique_id: str) -> bool:
        """Whether a PBX tells this call, or has told it."""
        if unique_id in self._ami:
            return True
        ids = [CallId(unique_id), *(CallId(f"{pbx}-{unique_id}") for pbx in self._pbx_names)]
        return any(self._calls[call_id][0] != POSTED for call_id in ids if call_id in self._calls)

    def _fresh(self, post: PendingPost) -> bool:
        """A post waits for AMI once: when its call is unknown and it has just come."""
        if self._ami_reported(post.unique_id):
            return False
        return CallId(post.unique_id) not in self._calls and utc_now() - post.received_at < timedelta(
            seconds=AMI_GRACE_S
        )

    def _ami_may_report(self) -> bool:
        slots = self._services.directory.below(f"{self._path}/pbx")
        return any(slot.health.state is State.ONLINE for slot in slots)

    async def _recall(self, posts: Sequence[PendingPost]) -> None:
        """Looks up calls that posts speak of and memory does not hold: told before a restart, or by AMI long ago."""
        wanted = (
            {p.unique_id for p in posts if storable(p.unique_id) == p.unique_id}
            - self._ami.keys()
            - self._calls.keys()
            - self._ended.keys()
        )
        if not wanted:
            return
        ids = [*wanted, *(f"{pbx}-{unique_id}" for pbx in self._pbx_names for unique_id in wanted)]
        number = self.tenant.number
        try:
            found = await self._services.db.tenant(number, select_calls, number, ids)
        except Unavailable:
            return  # the record statement refuses what was told already
        for source, call in found:
            self._remember(source, call)

    def _receive_post(self, row: PendingPost, batch: Batch) -> None:
        crash = contained(lambda: self._read_post(row, batch))
        if crash is not None:
            batch.dead_letters.append(self._dead_letter(row, crash.trace))

    def _read_post(self, row: PendingPost, batch: Batch) -> None:
        batch.recording.posts_done.append((row.journal_id, row.received_at))
        if self._ami_reported(row.unique_id):
            COUNTERS["posts_told_by_ami"] += 1
            return
        call_id = CallId(row.unique_id)
        if call_id in self._ended:
            return
        try:
            post = parse_post(row.address, json.loads(row.body), self.tenant, row.received_at)
        except Invalid:
            log.error("a post that was accepted is not valid under today's settings", extra={"call": call_id})
            return
        _, call = self._calls.get(call_id, (POSTED, None))
        for event in reported(call, post, self.tenant):
            self._receive(Received(POSTED, event, row.received_at, row.journal_id), batch)

    # Keeping.

    async def _keep(self, slot: Slot, batch: Batch) -> None:
        """Commits the batch. Where the database refuses it, its halves, until what is guilty stands alone."""
        if batch.dead_letters:
            await self._until_answered(
                slot, lambda: self._services.db.engine(insert_dead_letters, batch.dead_letters, __version__)
            )
        recording = batch.recording
        if not recording:
            return
        try:
            kinds = await self._record(slot, recording)
        except StoreError as refusal:
            await self._keep_apart(slot, batch, refusal)
            return
        for kind in kinds:
            self._services.bells.ring(self.tenant.number, kind)
        for call_id in recording.calls:
            self._services.feed.publish(self.tenant.number, CallId(call_id))

    async def _keep_apart(self, slot: Slot, batch: Batch, refusal: StoreError) -> None:
        self._take_back(batch)
        received = batch.received
        if not received:
            raise refusal
        if len(received) == 1:
            await self._set_aside(slot, received[0], refusal)
        else:
            middle = len(received) // 2
            for half in received[:middle], received[middle:]:
                await self._keep(slot, self._received_again(*half))
        if batch.recording.posts_done:
            rest = Batch(self.tenant.number, self._epoch)
            rest.recording.posts_done = batch.recording.posts_done
            await self._keep(slot, rest)

    def _received_again(self, *received: Received) -> Batch:
        batch = Batch(self.tenant.number, self._epoch, again=True)
        for one in received:
            self._receive(one, batch)
        return batch

    def _take_back(self, batch: Batch) -> None:
        """Every call as it was before this batch."""
        for call_id, known in batch.before.items():
            self._ended.pop(call_id, None)
            if known is not None:
                self._calls[call_id] = known
                self._received[call_id] = utc_now()
            else:
                self._calls.pop(call_id, None)
                self._received.pop(call_id, None)

    async def _set_aside(self, slot: Slot, received: Received, refusal: StoreError) -> None:
        log.error("an event is set aside", extra={"call": received.event.call_id, "reason": str(refusal)[:200]})
        dead_letter = self._dead_letter(received, f"{type(refusal).__name__}: {refusal}")
        await self._until_answered(
            slot, lambda: self._services.db.engine(insert_dead_letters, [dead_letter], __version__)
        )
        if (end := self._hole(received)) is None:
            return
        batch = self._received_again(end)
        try:
            await self._record(slot, batch.recording)
        except StoreError as again:
            log.error("a call cannot even be ended", extra={"call": received.event.call_id, "reason": str(again)[:200]})

    def _hole(self, received: Received) -> Received | None:
        """Notes that a call lacks an event. Where that was its last, the end to hear instead, once."""
        call_id = self._own_id(received.source, received.event.call_id)
        again = call_id in self._holed
        self._holed[call_id] = True
        if not isinstance(received.event, CallEnded | CallMerged) or call_id not in self._calls:
            return None
        source, call = self._calls[call_id]
        end = lost(call, received.event.at)
        if again and received.event == end:
            self._forget(call_id)
            return None
        return Received(source, end, received.received_at)

    def _dead_letter(self, message: Received | PendingPost, trace: str) -> DeadLetterRow:
        COUNTERS["messages_set_aside"] += 1
        if isinstance(message, PendingPost):
            text = f"POST {message.address} {message.unique_id}\n{message.body}"
            return DeadLetterRow(self.tenant.number, self._path, text, trace, message.journal_id)
        text = json.dumps(to_json(message.event), ensure_ascii=False, default=str)
        return DeadLetterRow(self.tenant.number, self._path, text, trace, message.post)

    async def _record(self, slot: Slot, recording: CallBatch) -> frozenset[Kind]:
        """Commits a recording; for which integrations it holds something. Raises StoreError where it is refused."""
        kinds = await self._until_answered(slot, lambda: self._services.records.put(recording))
        if isinstance(kinds, Refusal):
            # Another instance serves the tenant. This actor is about to be stopped, and what it knows counts no more.
            COUNTERS["stale_writes_refused"] += 1
            log.warning("a stale write was refused: the tenant is another instance's")
            slot.report(State.STOPPED, "another_instance")
            await trio.sleep_forever()
            raise AssertionError
        return kinds

    async def _until_answered(self, slot: Slot, write: Callable[[], Awaitable[T]]) -> T:
        """Writes, however long the database is away: nothing is told before it is durable, nothing is dropped.

        A write under way is waited for even by an actor that is being replaced: its successor shall not begin from
        the state before it. Trying the same again is safe.
        """
        pause = 0.1
        answers: list[T] = []
        while not answers:
            with trio.move_on_after(COMMIT_PATIENCE_S, shield=True), suppress(Unavailable):
                answers.append(await write())
            if not answers:
                slot.report(State.DEGRADED, "database_away")
                await trio.sleep(pause)
                pause = min(pause * 2, RETRY_CAP_S)
        slot.report(State.ONLINE)
        return answers[0]


def _delivery(kind: Kind, draft: Draft, call_id: CallId, received_at: datetime) -> DeliveryRow:
    return DeliveryRow(
        integration=kind,
        lane=draft.lane,
        key=draft.key,
        kind=draft.kind,
        bucket=draft.bucket,
        call_id=call_id,
        body=json.dumps(draft.body, ensure_ascii=False),
        latest_only=draft.latest_only,
        expires_s=draft.expires_s,
        keep_s=draft.keep_s,
        received_at_s=time.monotonic() - max(0.0, (utc_now() - received_at).total_seconds()),
    )
