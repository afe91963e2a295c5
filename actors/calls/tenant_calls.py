"""One tenant's calls: takes what PBX sessions and posts report, and makes each event durable together with the deliveries it
causes.

    PbxEvents (a PBX session) --+
                                +--> calls_book: fold and route --> keeper: one commit (actors.runtime.group_commit)
    posts (post_reader) --------+

A batch is whatever waits; it leaves the mailbox only when it is committed. An event that cannot be processed becomes a dead
letter, and the rest of the batch goes on. This actor contacts no outside system. Read `actors.calls.calls_book` for
what an event does, `actors.delivery.worker` for the deliveries.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar, cast

import trio

from actors.calls.batch import Batch, Received
from actors.calls.calls_book import CallsBook, Starter
from actors.calls.expected_recordings import ExpectedRecordings
from actors.calls.keeper import RETRY_CAP_S, Keeper
from actors.calls.post_reader import PostReader
from actors.runtime.directory import Slot, utc_now
from actors.runtime.mailbox import Mailbox
from actors.services import Services
from adapters.base import Draft
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.events import CallEvent
from gateway.domain.health import State
from gateway.domain.ids import CallId, IntegrationKey
from gateway.domain.routing import Planner
from gateway.domain.subjects import call_subject
from gateway.store.call_batches import Recorded, Refusal
from gateway.store.calls import select_calls, select_open_calls, select_stored_events
from gateway.store.outbox import storable
from gateway.store.postgres.errors import StoreError
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

T = TypeVar("T")

MAILBOX_ROOM = 2000
LOOK_FOR_FORGOTTEN_S = 60.0


@dataclass(frozen=True, slots=True)
class PbxEvents:
    """What a PBX session received, in order."""

    source: str
    events: tuple[CallEvent, ...]
    received_at: datetime


class TenantCalls:
    """Runs under supervision; `mailbox` is its address and outlives it. An incarnation is a fresh object."""

    def __init__(
        self,
        tenant: Tenant,
        mailbox: Mailbox[PbxEvents],
        services: Services,
        planners: Mapping[IntegrationKey, Planner[Draft]],
        epoch: int | None = None,
        starters: Mapping[IntegrationKey, Starter] = MappingProxyType({}),
    ) -> None:
        self.tenant = tenant
        self.mailbox = mailbox
        self._services = services
        self._epoch = epoch
        recordings = ExpectedRecordings(tenant, services.recording_files, services.public_url)
        self.book = CallsBook(tenant, planners, recordings, epoch, starters)
        self._posts = PostReader(self.book, cast(Mailbox[object], mailbox), services)
        self._look_for_forgotten_at = 0.0

    async def run(self, slot: Slot) -> None:
        """Until cancelled. Starts from what the database knows."""
        number, book = self.tenant.number, self.book
        keeper: Keeper[Batch, Received] = Keeper(slot, self._services.db, book, self._commit, utc_now)
        self._keeper, self._slot = keeper, slot
        with bound(tenant=number):
            began = utc_now()
            for source, call in await self._read(slot, select_open_calls):
                book.remember(source, call, utc_now())
            slot.report(State.ONLINE)
            self.mailbox.ring()
            fresh = True
            try:
                with self._services.direct_posts.takes(number, self._posts):
                    while True:
                        taken: Sequence[PbxEvents] = ()
                        with trio.move_on_after(self._pause_s()):
                            taken = await self.mailbox.take_all()
                        if taken and (fresh or taken[0].received_at < began):
                            await self._read_before(slot, taken)
                        else:
                            book.forget_stored()
                        fresh = False
                        await keeper.keep(await self._apply(slot, taken))
                        self._posts.settled()
                        self.mailbox.done()
            finally:
                self._posts.release()

    async def _apply(self, slot: Slot, taken: Sequence[PbxEvents]) -> Batch:
        batch, now = self.book.batch(), utc_now()
        for message in self.mailbox.each(taken):
            for event in message.events:
                self.book.receive(Received(message.source, event, message.received_at), batch, now)
        await self._posts.receive(slot, batch, utc_now())
        if trio.current_time() >= self._look_for_forgotten_at:
            self._look_for_forgotten_at = trio.current_time() + LOOK_FOR_FORGOTTEN_S
            self.book.end_forgotten(batch, utc_now())
        return batch

    def _pause_s(self) -> float:
        """Until a post that waits for AMI is due, or the look back; at most a minute."""
        due = self._posts.due_at()
        return 60.0 if due is None else max(0.0, due - trio.current_time())

    async def _read_before(self, slot: Slot, taken: Sequence[PbxEvents]) -> None:
        """What is known of the calls of messages that came before this actor: an earlier incarnation may have stored some
        of it before it crashed, or the instance that owned the tenant before has received the same."""
        ids = {event.call_id for message in taken for event in message.events}
        ids = {one for one in ids if storable(one) == one}  # of no other can anything be known
        if unknown := self.book.not_open(ids):
            for source, call in await self._read(slot, select_calls, unknown):
                self.book.remember(source, call, utc_now())
        self.book.forget_stored()
        if ids:
            self.book.note_stored(
                [(CallId(call_id), body) for call_id, body in await self._read(slot, select_stored_events, ids)]
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

    # Committing.

    async def _commit(self, batch: Batch) -> None:
        """Commits a batch and does what follows from it. Raises StoreError where it is refused."""
        try:
            recorded = await self._record(batch)
        except StoreError:
            if not batch.direct:
                raise
            recorded = Refusal.KNOWN  # the journal finds out which of them it is
        if recorded is Refusal.KNOWN:
            await self._without_direct(batch)
            return
        if isinstance(recorded, Refusal):
            # Another instance serves the tenant. This actor is about to be stopped, and its state is no longer valid.
            COUNTERS["stale_writes_refused"] += 1
            log.warning("a stale write was refused: the tenant is another instance's")
            self._posts.release()
            self._slot.report(State.STOPPED, "another_instance")
            await trio.sleep_forever()
            raise AssertionError
        for post in batch.direct:
            post.answer(committed=True)
        for kind in recorded:
            self._services.bells.ring(self.tenant.number, kind)
        for call_id in batch.recording.calls:
            self._services.feed.publish(self.tenant.number, call_subject(call_id))

    async def _record(self, batch: Batch) -> Recorded:
        def give_up() -> None:
            for post in batch.direct:
                post.answer(committed=False)

        return await self._keeper.until_answered(
            lambda: self._services.records.put(batch.recording), on_failure=give_up if batch.direct else None
        )

    async def _without_direct(self, batch: Batch) -> None:
        """The same without its direct posts, which the journal takes: one of them or its call is known already, for this
        very batch may have been committed without a response, or the database refuses their results."""
        COUNTERS["direct_posts_refused"] += len(batch.direct)
        self.book.take_back(batch, utc_now())
        for post in batch.direct:
            post.answer(committed=False)
        await self._posts.recall(sorted(batch.recording.unknown), utc_now())
        rest = self.book.again([one for one in batch.received if not one.direct], utc_now())
        rest.recording.posts_done = batch.recording.posts_done
        await self._keeper.keep(rest)
