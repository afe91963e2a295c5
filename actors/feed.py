"""What has just changed, for pages that are open: a doorbell per tenant, never the data. Pages that another instance
serves are notified through `actors.runtime.peers`.

A subscriber that falls behind keeps one pending mark and re-reads; nothing queues without bound, nothing blocks the
publisher.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import trio

from gateway.domain.ids import TenantId
from gateway.domain.subjects import Subject, subject_from

MOST_PENDING = 200


class Subscription:
    """The subjects that changed since the last look; `overflowed` when there were too many to name."""

    def __init__(self) -> None:
        self._changed: dict[Subject, None] = {}
        self._arrived = trio.Event()
        self.overflowed = False

    def mark(self, subject: Subject) -> None:
        """Notes a change; the order of first marks is preserved."""
        if len(self._changed) >= MOST_PENDING:
            self.overflowed = True
        else:
            self._changed[subject] = None
        self._arrived.set()

    async def changed(self) -> tuple[list[Subject], bool]:
        """Waits for changes and takes them: the subjects, and whether some were lost so that all must be re-read."""
        await self._arrived.wait()
        self._arrived = trio.Event()
        taken, lost = list(self._changed), self.overflowed
        self._changed.clear()
        self.overflowed = False
        return taken, lost


class Feed:
    """Doorbells of all tenants. `mark` notifies the other instances of what was published here."""

    def __init__(self, mark: Callable[[str], None] = lambda text: None) -> None:
        self._mark = mark
        self._subscriptions: defaultdict[TenantId, set[Subscription]] = defaultdict(set)

    @contextmanager
    def subscribe(self, tenant: TenantId) -> Iterator[Subscription]:
        """A subscription for as long as a page is open."""
        subscription = Subscription()
        self._subscriptions[tenant].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[tenant].discard(subscription)
            if not self._subscriptions[tenant]:
                del self._subscriptions[tenant]

    def publish(self, tenant: TenantId, subject: Subject) -> None:
        """Rings for every open page of the tenant."""
        self._ring(tenant, subject)
        self._mark(f"{tenant} {subject}")

    def received(self, texts: Sequence[str]) -> None:
        """Another instance has published these."""
        for text in texts:
            tenant, _, named = text.partition(" ")
            with suppress(ValueError):  # an instance of another version may send subjects unknown to this one
                self._ring(TenantId(tenant), subject_from(named))

    def _ring(self, tenant: TenantId, subject: Subject) -> None:
        for subscription in self._subscriptions.get(tenant, ()):
            subscription.mark(subject)
