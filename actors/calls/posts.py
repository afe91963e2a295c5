"""Makes posted events durable: in PostgreSQL, or in the spool while it is away. Nothing else answers a post.

A post that its tenant's actor can apply at once is committed with all that comes of it (`actors.calls.direct_posts`). Others:

    direct     the spool is empty: each group is one commit in the journal
               --PostgreSQL refuses, or takes over PATIENCE_S--> spooling, with that very group
    spooling   each group is one fsync in the spool, behind what waits there; the oldest segment is tried again and again
               --the last one is committed while new groups are held back for it--> direct

So posts enter the journal in the order in which they came: none overtakes what waits in the spool. A group that PostgreSQL has
committed without a response stands in both; its digests identify the repeat. A post that fits no column is set aside as a dead
letter. Read `gateway/store/files/spool.py` next for the files.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import outcome
import trio

from actors.calls.direct_posts import DirectPosts
from actors.runtime.directory import Slot
from actors.runtime.group_commit import GroupCommit
from actors.runtime.supervisor import DeadLetter
from gateway.domain.errors import GatewayError, NeedsAttention, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.domain.posts import Post
from gateway.store.files.spool import Spool
from gateway.store.journal import PostRow
from gateway.store.postgres.errors import StoreError, blames_data
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

PATIENCE_S = 1.0
"""How long a group waits for PostgreSQL before it goes to the spool: hosts give up after a few seconds."""
MOST = 500
TRY_EVERY_S = (0.2, 2.0)
REPORT_EVERY_S = 1.0
_AWAY = (Unavailable, StoreError, NeedsAttention)


class Posts:
    """The only writer of the journal's posts. `put` is for the listeners; `run` is its actor."""

    def __init__(
        self,
        insert: Callable[[Sequence[PostRow]], Awaitable[list[bool]]],
        spool: Spool,
        *,
        arrived: Callable[[TenantId], None],
        set_aside: Callable[[DeadLetter], None],
        direct: DirectPosts | None = None,
        existing: Callable[[Sequence[TenantId]], Awaitable[frozenset[TenantId]]] | None = None,
    ) -> None:
        self._insert = insert
        self._existing = existing
        self._direct = direct
        self.spool = spool
        self._arrived = arrived
        self._set_aside = set_aside
        self._groups: GroupCommit[PostRow, bool] = GroupCommit("journal", self._keep, most=MOST)
        self._turn = trio.Lock()
        """Held by a group on its way to the disk, and by the last of the replay."""
        self._nursery: trio.Nursery | None = None
        self.refusing = ""
        """Why the last group could not be stored anywhere; empty once one could."""
        self._away = ""
        """Why the last try to replay failed."""
        self.usable = trio.Event()
        """Set once PostgreSQL has our schema: before that, nothing is replayed."""

    async def put(self, row: PostRow, post: Post | None = None) -> bool:
        """Whether the post is new, once it is durable. Raises Unavailable when it could not be made so. Given `post` too, the
        actor of its tenant may commit it; the tenant's bell is rung for one that went to the journal."""
        away = bool(self.spool.records or self.refusing)
        if post is not None and self._direct is not None and not away and await self._direct.put(row, post):
            return True
        new = await self._groups.put(row)
        self._arrived(row.tenant)  # for a repeat too: nobody may have looked since the first was stored
        return new

    async def run(self, slot: Slot) -> None:
        """Until cancelled. What waits in the spool then is replayed by the next start."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._groups.run)
            self._nursery.start_soon(self._replay)
            while True:
                self._report(slot)
                await trio.sleep(REPORT_EVERY_S)

    def _report(self, slot: Slot) -> None:
        if self.refusing:
            slot.report(State.OFFLINE, "spool_refuses", self.refusing)
        elif waiting := self.spool.records:
            detail = f"{waiting} ({self.spool.size / 1024:.0f} KiB)"
            slot.report(State.DEGRADED, "spooling", f"{detail}: {self._away}" if self._away else detail)
        else:
            slot.report(State.ONLINE)

    # A group.

    async def _keep(self, rows: Sequence[PostRow]) -> list[bool]:
        async with self._turn:
            if not self.spool.records:
                try:
                    answers = await self._try_directly(rows)
                except _AWAY as error:
                    if blames_data(error):
                        raise  # the rows' fault: found by bisection
                    log.warning("posted events go to the spool", extra={"reason": error.detail or error.person})
                else:
                    self.refusing = ""
                    return answers
            try:
                answers = await self.spool.append(rows)
            except Unavailable as error:
                self.refusing = error.detail
                log.error("posted events are refused", extra={"reason": error.detail, "posts": len(rows)})
                raise
            self.refusing = ""
            return answers

    async def _try_directly(self, rows: Sequence[PostRow]) -> list[bool]:
        """One commit, or Unavailable after `PATIENCE_S`. The attempt is not waited for any longer: taking back a
        statement from a server that does not answer takes seconds."""
        assert self._nursery is not None
        results: list[outcome.Outcome[list[bool]]] = []
        done = trio.Event()

        async def attempt() -> None:
            try:
                results.append(outcome.Value(await self._insert(rows)))
            except GatewayError as error:
                results.append(outcome.Error(error))
            done.set()

        self._nursery.start_soon(attempt)
        with trio.move_on_after(PATIENCE_S):
            await done.wait()
        if not results:
            raise Unavailable(f"no answer in {PATIENCE_S:g} s", certain=False)
        return results[0].unwrap()

    # The replay.

    async def _replay(self) -> None:
        await self.usable.wait()
        first, longest = TRY_EVERY_S
        while True:
            await self.spool.filled.wait()
            pause, since, count = first, trio.current_time(), 0
            while self.spool.records:
                try:
                    if not count:
                        since = trio.current_time()
                    count += await self._replay_oldest()
                    if 0 < self.spool.records <= MOST:
                        async with self._turn:  # nobody adds to it now: this is the end of it
                            while self.spool.records:
                                count += await self._replay_oldest()
                    pause, self._away = first, ""
                except _AWAY as error:
                    self._away = error.detail or error.person
                    await trio.sleep(pause)
                    pause = min(pause * 2, longest)
            seconds = round(trio.current_time() - since, 3)
            log.info("the spool is empty again", extra={"posts": count, "seconds": seconds})

    async def _replay_oldest(self) -> int:
        segment = await self.spool.oldest()
        if segment is None:
            return 0  # the first group is on its way
        rows, count = iter(segment), 0
        while group := list(islice(rows, MOST)):
            await self._replay_group(await self._of_existing(group))
            count += len(group)
            COUNTERS["posts_replayed"] += len(group)
        await self.spool.drop()
        return count

    async def _of_existing(self, group: Sequence[PostRow]) -> Sequence[PostRow]:
        """Without the posts of companies that were deleted while they waited."""
        if self._existing is None:
            return group
        known = await self._existing(sorted({row.tenant for row in group}))
        return [row for row in group if row.tenant in known]

    async def _replay_group(self, group: Sequence[PostRow]) -> None:
        if not group:
            return
        try:
            await self._insert(group)
        except StoreError as error:
            if not blames_data(error):
                raise
            if len(group) > 1:
                middle = len(group) // 2
                await self._replay_group(group[:middle])
                await self._replay_group(group[middle:])
                return
            COUNTERS["posts_set_aside"] += 1
            self._set_aside(DeadLetter(f"tenant/{group[0].tenant}", group[0], error.detail))
        for tenant in {row.tenant for row in group}:
            self._arrived(tenant)
