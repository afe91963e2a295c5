"""Brings a tenant's posts into its book of calls: those that wait in the journal, and those whose senders wait for the commit.

    direct     nothing of the tenant waits, and AMI need not be waited for: applied at once, stored as done with what
               came of it (`actors.calls.direct_posts`)
    journal    all others, in the order of the journal: read together with those of other tenants, held for AMI where it may
               still report their calls, marked as done by the commit that stores what came of them

None overtakes another of its tenant: while one is unread or held, none is taken directly. Read `actors.calls.calls_book` for
what a post does to a call.
"""

import json
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import trio

from actors.calls.batch import Batch
from actors.calls.calls_book import CallsBook
from actors.calls.direct_posts import DirectPost
from actors.runtime.directory import Slot
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import Crash, contained
from actors.services import Services
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.posts import Invalid, Post, parse_post
from gateway.store.calls import select_calls
from gateway.store.journal import POSTS_AT_ONCE, PendingPost

log = logging.getLogger(__name__)

LOOK_BACK_S = 5.0
"""After news the journal is read once more from its beginning: a post may be committed behind one that was read."""
MOST_WAITING = 200
"""Messages and posts that may wait before a direct post. An actor that is further behind commits in its own time."""


class PostReader:
    """One for each incarnation of a tenant's actor."""

    def __init__(self, book: CallsBook, mailbox: Mailbox[object], services: Services) -> None:
        self._book = book
        self._mailbox = mailbox
        self._services = services
        self._direct: deque[DirectPost] = deque()
        self._in_hand: list[DirectPost] = []
        self._reading = True
        """Whether the journal may hold what was not read."""
        self._read_up_to = 0
        self._look_back_at: float | None = None

    # Posts whose senders wait.

    def offer(self, post: DirectPost) -> bool:
        """Takes a post to be applied with the next batch, if it may be applied at once."""
        behind = len(self._direct) + len(self._mailbox) >= MOST_WAITING or any(one.given_up for one in self._in_hand)
        if behind or self._reading or self._mailbox.rung:
            return False
        unique_id, received_at = post.row.unique_id, post.row.received_at
        if any(held.post.unique_id == unique_id for held in self._book.held):
            return False
        if self._may_wait(unique_id, received_at, received_at):
            return False
        self._direct.append(post)
        self._mailbox.wake()
        return True

    def settled(self) -> None:
        """The batch that was filled last is dealt with."""
        self._in_hand = []

    def release(self) -> None:
        """Sends every post that is not committed to the journal."""
        for post in (*self._in_hand, *self._direct):
            post.answer(committed=False)
        self._direct.clear()

    def _receive_direct(self, batch: Batch, now: datetime) -> None:
        self._in_hand = batch.direct
        while self._direct:
            post = self._direct.popleft()
            row = post.row
            if post.given_up:
                continue
            if self._may_wait(row.unique_id, row.received_at, now):
                post.answer(committed=False)
                continue
            crash = contained(partial(self._book.receive_post, row.unique_id, post.post, row.received_at, batch, now))
            if isinstance(crash, Crash):
                post.answer(committed=False)
                continue
            batch.direct.append(post)
            batch.recording.posts.append(row)
        batch.recording.behind_journal = bool(batch.direct) and self._services.ownership.instances > 1

    # Posts of the journal.

    async def receive(self, slot: Slot, batch: Batch, now: datetime) -> None:
        """Applies everything that is due to the batch."""
        at = trio.current_time()
        ripe = self._book.take_ripe(at)
        new = await self._new_posts(slot, at)
        if ripe or new:
            await self.recall(self._book.unheard_of(new), now)
        waiting = {held.post.unique_id for held in self._book.held}
        for post in self._mailbox.each(ripe):
            self._apply(post, batch, now)
        for post in self._mailbox.each(new):
            if post.unique_id in waiting or self._may_wait(post.unique_id, post.received_at, now):
                self._book.hold(post, at)
                waiting.add(post.unique_id)
            else:
                self._apply(post, batch, now)
        self._receive_direct(batch, now)

    def due_at(self) -> float | None:
        """When there is something to do without news: a held post, or the look back."""
        due = [held.until for held in self._book.held]
        if self._look_back_at is not None:
            due.append(self._look_back_at)
        return min(due, default=None)

    async def _new_posts(self, slot: Slot, at: float) -> list[PendingPost]:
        back = self._look_back_at is not None and at >= self._look_back_at
        rung = self._mailbox.take_rung()
        if not (rung or back):
            return []
        self._reading = True
        if back:
            self._look_back_at, self._read_up_to = None, 0
        elif self._look_back_at is None:
            self._look_back_at = at + LOOK_BACK_S
        try:
            posts = await self._services.pending_posts.put((self._book.tenant.number, self._read_up_to))
        except Unavailable:
            slot.report(State.DEGRADED, "database_away")
            await trio.sleep(0.5)
            self._mailbox.ring()
            return []
        if posts:
            self._read_up_to = posts[-1].journal_id
        if len(posts) == POSTS_AT_ONCE:
            self._mailbox.ring()
        self._reading = False
        if slot.health.state is State.DEGRADED:
            slot.report(State.ONLINE)
        held = {held.post.journal_id for held in self._book.held}
        return [post for post in posts if post.journal_id not in held]

    async def recall(self, ids: Sequence[str], now: datetime) -> None:
        """Looks up calls that posts are about and memory does not hold: stored before a restart, or by AMI long ago."""
        if not ids:
            return
        number = self._book.tenant.number
        try:
            found = await self._services.db.tenant(number, select_calls, number, ids)
        except Unavailable:
            return  # the record statement refuses what is already stored
        for source, call in found:
            self._book.remember(source, call, now)

    def _may_wait(self, unique_id: str, received_at: datetime, now: datetime) -> bool:
        """Whether AMI may still report the call, in more detail."""
        return self._link_is_up() and self._book.waits_for_ami(unique_id, received_at, now)

    def _link_is_up(self) -> bool:
        slots = (self._services.directory.get(f"{self._book.path}/pbx/{name}") for name in self._book.pbx_names)
        return any(slot is not None and slot.health.state is State.ONLINE for slot in slots)

    def _apply(self, row: PendingPost, batch: Batch, now: datetime) -> None:
        crash = contained(lambda: self._read(row, batch, now))
        if isinstance(crash, Crash):
            batch.dead_letters.append(self._book.dead_letter(row, crash.trace))

    def _read(self, row: PendingPost, batch: Batch, now: datetime) -> None:
        batch.recording.posts_done.append((row.journal_id, row.received_at))
        post: Post | None = None
        if self._book.wants(row.unique_id):
            try:
                post = parse_post(row.address, json.loads(row.body), self._book.tenant, row.received_at)
            except Invalid:
                log.error("a post that was accepted is not valid under today's settings", extra={"call": row.unique_id})
        self._book.receive_post(row.unique_id, post, row.received_at, batch, now, journal_id=row.journal_id)
