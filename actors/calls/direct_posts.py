"""Posts handed to the actor of their tenant while their senders wait: the actor commits post, event and deliveries at once.

    put --> the tenant's actor takes it --> committed      True: post, event and deliveries are durable
        |                               +-> not by it      None: the journal has to take it first
        +-> nobody takes it now                            None

An optimistic short cut that promises nothing: whatever does not fit (AMI may still report the call, older posts wait,
another instance owns the tenant, the database is away or refuses) is answered None, and the post goes to the journal.
Its digest identifies a repeat on either way. Read `actors.calls.posts` next.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio
from cachetools import LRUCache

from gateway.domain.ids import TenantId
from gateway.domain.posts import Post
from gateway.store.journal import PostRow

PATIENCE_S = 0.7
"""How long a post waits for the actor's commit. Then the journal is tried, and after it the spool."""
RECENT = 5_000


@dataclass(eq=False, slots=True)
class DirectPost:
    """A post on its way. Its sender waits until `answer` or the end of its patience."""

    row: PostRow
    post: Post
    done: trio.Event = field(default_factory=trio.Event)
    committed: bool = False
    given_up: bool = False
    """Whether nobody waits any more: the post is on its way to the journal."""

    def answer(self, *, committed: bool) -> None:
        """Wakes the sender, once."""
        if not self.done.is_set():
            self.committed = committed
            self.done.set()


class Taker(Protocol):
    """Who applies one tenant's posts."""

    def offer(self, post: DirectPost) -> bool:
        """Takes the post, if it may be applied at once. Never waits."""


class DirectPosts:
    """One for the process."""

    def __init__(self) -> None:
        self._takers: dict[TenantId, Taker] = {}
        self._recent: LRUCache[tuple[TenantId, bytes], None] = LRUCache(RECENT)
        """Digests of posts that came this way lately: a repeat would cost its batch the short cut."""

    @contextmanager
    def takes(self, tenant: TenantId, taker: Taker) -> Iterator[None]:
        """Within it, posts of the tenant are offered to `taker`."""
        self._takers[tenant] = taker
        try:
            yield
        finally:
            if self._takers.get(tenant) is taker:
                del self._takers[tenant]

    async def put(self, row: PostRow, post: Post) -> bool:
        """Whether the post is durable and new. False where that is not known: the journal has to take it."""
        taker = self._takers.get(row.tenant)
        key = row.tenant, row.digest
        if taker is None or key in self._recent:
            return False
        waiting = DirectPost(row, post)
        if not taker.offer(waiting):
            return False
        self._recent[key] = None
        try:
            with trio.move_on_after(PATIENCE_S):
                await waiting.done.wait()
        finally:
            waiting.given_up = not waiting.committed
        return waiting.committed
