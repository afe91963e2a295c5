"""One tenant's open calls, and what an event does to them: pure state, no database, no clock, no task.

    event --> fold (domain.calls) --> route (domain.routing) --> rows of a batch (actors.calls.batch)

Owns the rules by which AMI and posts about one call become one call: where AMI reports a call, posts about it are noted and
add nothing, and a post waits `AMI_GRACE_S` for AMI while a PBX link is up. An event that cannot be folded is set aside, and its
call ends `uncertain`. A planner that fails costs its integration that one event. Times are arguments: `now` is UTC, `at` is
Trio's clock. Read `actors.calls.tenant_calls` next, which runs it.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from cachetools import TTLCache

from actors.calls.batch import Batch, Received
from actors.calls.expected_recordings import ExpectedRecordings
from actors.runtime.supervisor import Crash, contained
from adapters.base import Draft
from gateway.domain.calls import Call, apply, lost
from gateway.domain.configuration import Tenant
from gateway.domain.events import NAMES, CallEnded, CallEvent, CallMerged, to_json
from gateway.domain.ids import CallId, IntegrationKey
from gateway.domain.posted import announced, reported
from gateway.domain.posts import Post
from gateway.domain.routing import Planner, route
from gateway.domain.subjects import Subject, call_subject
from gateway.store.call_batches import EventRow
from gateway.store.dead_letters import DeadLetterRow
from gateway.store.journal import PendingPost
from gateway.store.outbox import DeliveryRow, storable
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

POSTED = "post"
"""The source of calls that posts report; a PBX's calls carry its name."""

AMI_GRACE_S = 1.0
FORGOTTEN_AFTER = timedelta(hours=4)
"""A posted call of which nothing more was received for so long ends uncertain."""
SAME_WITHIN_S = 1.0
_STAMPS = frozenset({"at", "wait_s", "talk_s", "uncertain"})
"""Fields that may differ when two instances have received the same event."""


Starter = Callable[[Call], Sequence[Draft]]
"""An integration's plan for an announced call, with its settings and tenant filled in."""


@dataclass(slots=True)
class _Held:
    post: PendingPost
    until: float


class CallsBook:
    """One for each incarnation of a tenant's actor."""

    def __init__(
        self,
        tenant: Tenant,
        planners: Mapping[IntegrationKey, Planner[Draft]],
        recordings: ExpectedRecordings,
        epoch: int | None,
        starters: Mapping[IntegrationKey, Starter] = MappingProxyType({}),
    ) -> None:
        self.tenant = tenant
        self.path = f"tenant/{tenant.number}"
        self.pbx_names = frozenset(pbx.name for pbx in tenant.pbxes if pbx.enabled)
        self._planners = planners
        self._starters = starters
        self._recordings = recordings
        self._epoch = epoch
        self._calls: dict[CallId, tuple[str, Call]] = {}
        self._received: dict[CallId, datetime] = {}
        self._ami: TTLCache[str, CallId] = TTLCache(maxsize=20_000, ttl=3600)
        """Uniqueid of a call's first channel -> the call, for every call that AMI reported lately."""
        self._ended: TTLCache[CallId, bool] = TTLCache(maxsize=20_000, ttl=3600)
        self._holed: TTLCache[CallId, bool] = TTLCache(maxsize=20_000, ttl=4 * 3600)
        """Calls of which an event was set aside: how they end is uncertain."""
        self._stored: dict[CallId, list[dict[str, Any]]] = {}
        """Call -> its events that were stored before, while messages are received that came before this actor."""
        self.held: list[_Held] = []
        """Posts that wait for AMI."""

    def batch(self, *, again: bool = False) -> Batch:
        """An empty one."""
        return Batch(self.tenant.number, self._epoch, again=again)

    # What the database knows.

    def remember(self, source: str, call: Call, now: datetime) -> None:
        """A call as the database knows it."""
        if not call.open:
            self._ended[call.call_id] = True
        elif call.call_id not in self._calls:
            self._calls[call.call_id] = (source, call)
            self._received[call.call_id] = now
        if source != POSTED:
            self._ami[self._bare(source, call.call_id)] = call.call_id

    def not_open(self, ids: Iterable[CallId]) -> set[CallId]:
        """Those of these calls that are not known to be open."""
        return set(ids) - self._calls.keys()

    def note_stored(self, events: Iterable[tuple[CallId, str]]) -> None:
        """Events that were stored before, as JSON: they are recognised until `forget_stored`."""
        for call_id, body in events:
            self._stored.setdefault(call_id, []).append(json.loads(body))

    def forget_stored(self) -> None:
        """From here on, no event received can have been stored before."""
        if self._stored:
            self._stored = {}

    def _was_stored(self, event: CallEvent) -> bool:
        """Whether this very event is among those stored before; two who received it may have stamped it a little apart."""
        if not (stored := self._stored.get(event.call_id)):
            return False
        new = to_json(event)
        return any(
            all(one.get(name) == value for name, value in new.items() if name not in _STAMPS)
            and abs((datetime.fromisoformat(one["at"]) - event.at).total_seconds()) <= SAME_WITHIN_S
            for one in stored
        )

    def _bare(self, source: str, call_id: CallId) -> str:
        return call_id.removeprefix(f"{source}-")

    # One event.

    def _own_id(self, source: str, call_id: CallId) -> CallId:
        """The id under which a call is known: one that posts have begun to report keeps theirs, without the PBX's name."""
        bare = CallId(self._bare(source, call_id))
        reported_by, _ = self._calls.get(bare, ("", None))
        return bare if call_id not in self._calls and (reported_by == POSTED or bare in self._ended) else call_id

    def receive(self, received: Received, batch: Batch, now: datetime) -> None:
        """Folds and routes one event. A bug there costs this event alone, and its call then ends `uncertain`."""
        crash = contained(lambda: self._fold(received, batch, now))
        if crash is None:
            return
        batch.dead_letters.append(self.dead_letter(received, crash.trace))
        if (end := self.hole(received)) is not None:
            self.receive(end, batch, now)

    def _fold(self, received: Received, batch: Batch, now: datetime) -> None:
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
        linked, notified, expected = self._recordings.with_link(
            source, call, event, received.received_at, posted=source == POSTED
        )
        # Nothing below fails: an event is applied fully or not at all.
        if by_ami:
            self._ami[self._bare(source, event.call_id)] = event.call_id
        batch.received.append(received)
        batch.before.setdefault(call.call_id, known)
        recording = batch.recording
        recording.calls[call.call_id] = (source, call)
        recording.events.append(EventRow(call.call_id, call.events, name, event.at, body))
        if received.direct and known is None:
            recording.unknown |= self.names_of(event.call_id)
        if expected is not None:
            recording.expected.append(expected)
        self._route(received, before, linked, notified, batch, now)
        COUNTERS[f"events_{name}"] += not batch.again
        if call.open:
            self._calls[call.call_id] = (source, call)
            self._received[call.call_id] = now
        else:
            self._forget(call.call_id)

    def _route(
        self, received: Received, before: Call | None, call: Call, event: CallEvent, batch: Batch, now: datetime
    ) -> None:
        """Runs every integration's planner. One that fails misses this event; the others do not."""
        received_at_s = time.monotonic() - max(0.0, (now - received.received_at).total_seconds())
        for kind, planner in self._planners.items():

            def rows(kind: IntegrationKey = kind, planner: Planner[Draft] = planner) -> list[DeliveryRow]:
                drafts = route({kind: planner}, before, call, event)
                return [delivery_row(kind, draft, call_subject(call.call_id), received_at_s) for _, draft in drafts]

            planned = contained(rows)
            if not isinstance(planned, Crash):
                batch.recording.deliveries.extend(planned)
            elif not batch.again:
                log.error("a planner failed", extra={"integration": kind, "call": call.call_id, "trace": planned.trace})
                dead_letter = self.dead_letter(replace(received, post=None), planned.trace)
                batch.dead_letters.append(replace(dead_letter, actor=f"{self.path}/integration/{kind}"))

    def _forget(self, call_id: CallId) -> None:
        self._calls.pop(call_id, None)
        self._received.pop(call_id, None)
        self._ended[call_id] = True

    def end_forgotten(self, batch: Batch, now: datetime) -> None:
        """Ends calls whose end nobody will report: posts that stopped coming, a PBX that was taken out. Looks through all."""
        for call_id, (source, call) in list(self._calls.items()):
            orphan = (
                source not in self.pbx_names if source != POSTED else now - self._received[call_id] > FORGOTTEN_AFTER
            )
            if orphan:
                self.receive(Received(source, lost(call, now), now), batch, now)

    # Posts.

    def names_of(self, unique_id: str) -> set[str]:
        """The ids under which the call of a post may be known."""
        return {unique_id, *(f"{pbx}-{unique_id}" for pbx in self.pbx_names)}

    def ami_reported(self, unique_id: str) -> bool:
        """Whether a PBX reports this call, or has reported it."""
        if unique_id in self._ami:
            return True
        ids = [CallId(unique_id), *(CallId(f"{pbx}-{unique_id}") for pbx in self.pbx_names)]
        return any(self._calls[call_id][0] != POSTED for call_id in ids if call_id in self._calls)

    def waits_for_ami(self, unique_id: str, received_at: datetime, now: datetime) -> bool:
        """A post waits for AMI once: when its call is unknown and it has just come."""
        if self.ami_reported(unique_id):
            return False
        return CallId(unique_id) not in self._calls and now - received_at < timedelta(seconds=AMI_GRACE_S)

    def hold(self, post: PendingPost, at: float) -> None:
        """The post waits for AMI from now on."""
        self.held.append(_Held(post, at + AMI_GRACE_S))

    def take_ripe(self, at: float) -> list[PendingPost]:
        """Held posts whose calls AMI has reported by now, or whose time is over; with each all those of its call."""
        ids = {h.post.unique_id for h in self.held if h.until <= at or self.ami_reported(h.post.unique_id)}
        ripe = [held.post for held in self.held if held.post.unique_id in ids]
        if ripe:
            self.held = [held for held in self.held if held.post.unique_id not in ids]
        return ripe

    def unheard_of(self, posts: Sequence[PendingPost]) -> list[str]:
        """Every id of calls that these posts are about and memory does not hold."""
        wanted = (
            {p.unique_id for p in posts if storable(p.unique_id) == p.unique_id}
            - self._ami.keys()
            - self._calls.keys()
            - self._ended.keys()
        )
        return [one for unique_id in sorted(wanted) for one in sorted(self.names_of(unique_id))]

    def receive_post(
        self, unique_id: str, post: Post | None, received_at: datetime, batch: Batch, now: datetime,
        *, journal_id: int | None = None,
    ) -> None:  # fmt: skip
        """Applies what a post reports of its call. `post` is None where it is not valid under today's settings; without a
        `journal_id` it is a direct one. Lets a bug's exception through."""
        call_id = CallId(unique_id)
        if self.ami_reported(unique_id):
            COUNTERS["posts_told_by_ami"] += 1
        elif post is not None and call_id not in self._ended:
            _, call = self._calls.get(call_id, (POSTED, None))
            if call is None and self._starters and (begun := announced(post, self.tenant)) is not None:
                self._announce(begun, received_at, batch, now, direct=journal_id is None)
            for event in reported(call, post, self.tenant):
                received = Received(POSTED, event, received_at, journal_id, direct=journal_id is None)
                self.receive(received, batch, now)

    def _announce(self, call: Call, received_at: datetime, batch: Batch, now: datetime, *, direct: bool) -> None:
        """Shows a call that has only been announced, where integrations do so. It is not a call yet: the first event makes it one."""
        received_at_s = time.monotonic() - max(0.0, (now - received_at).total_seconds())
        for key, starter in self._starters.items():
            planned = contained(partial(starter, call))
            if isinstance(planned, Crash):
                log.error("a planner failed", extra={"integration": key, "call": call.call_id, "trace": planned.trace})
                continue
            rows = [delivery_row(key, draft, call_subject(call.call_id), received_at_s) for draft in planned]
            batch.recording.deliveries.extend(rows)
            if rows and direct:
                batch.recording.unknown |= self.names_of(call.call_id)

    def wants(self, unique_id: str) -> bool:
        """Whether posts about this call may add anything to it."""
        return CallId(unique_id) not in self._ended and not self.ami_reported(unique_id)

    # What a batch's keeper needs.

    def items(self, batch: Batch) -> Sequence[Received]:
        """The events of the batch, in order."""
        return batch.received

    def letters(self, batch: Batch) -> Sequence[DeadLetterRow]:
        """What could not be applied at all."""
        return batch.dead_letters

    def rest(self, batch: Batch) -> Batch | None:
        """The posts of the journal that are dealt with, or None."""
        if not batch.recording.posts_done:
            return None
        rest = self.batch()
        rest.recording.posts_done = batch.recording.posts_done
        return rest

    def again(self, received: Iterable[Received], now: datetime) -> Batch:
        """A batch of events that were taken back."""
        batch = self.batch(again=True)
        for one in received:
            self.receive(one, batch, now)
        return batch

    def take_back(self, batch: Batch, now: datetime) -> None:
        """Every call as it was before this batch."""
        for call_id, known in batch.before.items():
            self._ended.pop(call_id, None)
            if known is not None:
                self._calls[call_id] = known
                self._received[call_id] = now
            else:
                self._calls.pop(call_id, None)
                self._received.pop(call_id, None)

    def hole(self, received: Received) -> Received | None:
        """Notes that a call lacks an event. Where that was its last, the end to apply instead, once."""
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

    def dead_letter(self, message: Received | PendingPost, trace: str) -> DeadLetterRow:
        """The dead letter for a message that could not be processed."""
        COUNTERS["messages_set_aside"] += 1
        if isinstance(message, PendingPost):
            text = f"POST {message.address} {message.unique_id}\n{message.body}"
            return DeadLetterRow(self.tenant.number, self.path, text, trace, message.journal_id)
        text = json.dumps(to_json(message.event), ensure_ascii=False, default=str)
        return DeadLetterRow(self.tenant.number, self.path, text, trace, message.post)


def delivery_row(key: IntegrationKey, draft: Draft, subject: Subject, received_at_s: float) -> DeliveryRow:
    """A draft as it is stored. `received_at_s`, of `time.monotonic()`, is when what it comes of arrived."""
    return DeliveryRow(
        integration=key, lane=draft.lane or subject.id, key=draft.key, kind=draft.kind, bucket=draft.bucket, subject=subject,
        body=json.dumps(draft.body, ensure_ascii=False), latest_only=draft.latest_only, expires_s=draft.expires_s,
        keep_s=draft.keep_s, received_at_s=received_at_s,
    )  # fmt: skip
