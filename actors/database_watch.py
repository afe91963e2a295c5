"""Brings the database up at the start (schema, configuration) and checks continuously that it answers.

    not answered yet --> away: tried again and again <--> usable: pinged every two seconds
                                                           |
                                                           +--> tenants whose posts wait are rung, deliveries counted

A database that is away is a state that pages and `/ready` show, not a crash. Read `actors.reconciler` for what then starts.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors.runtime.directory import Slot
from actors.runtime.ownership import Ownership
from gateway.cache import ConfigurationCache
from gateway.domain.errors import NeedsAttention, Retryable, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import call_batches, journal, outbox
from gateway.store.postgres.errors import StoreError
from gateway.store.postgres.pool import Database
from gateway.store.postgres.roles import select_login

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
TRY_EVERY_S = 0.2, 5.0
WARM = 3
"""Connections that stay open with their plans prepared: for a commit, an ack and other statements meanwhile."""
_AWAY = (Retryable, StoreError, NeedsAttention)


async def _prepare(connection: Any) -> None:
    """Prepares the plans of the statements of calls, posts and deliveries. Writes nothing."""
    await call_batches.prepare_records(connection)
    await outbox.finish_and_claim(connection, [], 0.0)
    await outbox.claim_deliveries(connection, TenantId(""), IntegrationKey(""), 0, 0.0)
    await outbox.select_next_due(connection, TenantId(""), IntegrationKey(""))
    await journal.insert_posts(connection, [])
    await journal.select_pending_posts(connection, [])


class DatabaseWatch:
    """One for the process. `ring` is called with each tenant whose posts wait, `tried` after each round trip with whether the
    database is away."""

    def __init__(
        self,
        db: Database,
        cache: ConfigurationCache,
        ownership: Ownership,
        ring: Callable[[TenantId], None],
        tried: Callable[[bool], None],
        fill_registry: Callable[[], Awaitable[object]],
    ) -> None:
        self._db = db
        self._cache = cache
        self._ownership = ownership
        self._ring = ring
        self._tried = tried
        self._fill_registry = fill_registry
        self.problem = "the database has not answered yet"
        """Why it cannot be used now, for a person; empty when it can."""
        self.known = trio.Event()
        """Set once it has answered, or was found to be away."""
        self.usable = trio.Event()
        """Set once schema and configuration are there."""
        self.pending: dict[str, int] = {"pending": 0, "oldest_pending_s": 0}
        """Deliveries that wait, as of the last look."""

    async def run(self, migrate: Callable[[], Awaitable[object]], slot: Slot) -> None:
        """Until cancelled. `migrate` brings the schema up to date."""
        if not self.usable.is_set():
            await self._bring_up(migrate, slot)
        while True:
            try:
                await self._db.ping()
                if self._ownership.instances > 1:  # beneath the doorbell that rings between instances
                    await self._ring_for_posts()
                self.pending = await self._db.engine(outbox.count_pending)
                self._answered(slot)
            except _AWAY as error:
                self._failed(slot, error)
            await trio.sleep(LOOK_EVERY_S)

    async def _bring_up(self, migrate: Callable[[], Awaitable[object]], slot: Slot) -> None:
        pause, longest = TRY_EVERY_S
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            migrate,
            self._db.ping,
            self._look_at_login,
            self._cache.load,
            self._cache.claim_client_ids,
            self._fill_registry,
            lambda: self._db.keep_warm(_prepare, WARM),
        )
        while True:
            try:
                for step in steps:
                    await step()
                break
            except _AWAY as error:
                self._failed(slot, error)
                log.warning("the database is not usable yet", extra={"reason": str(error)})
                await trio.sleep(pause)
                pause = min(pause * 2, longest)
        self._answered(slot)
        self.usable.set()
        try:
            await self._ring_for_posts()
        except Unavailable:
            return  # every tenant's actor looks for itself when it starts

    async def _look_at_login(self) -> None:
        if problem := (await self._db.engine(select_login)).problem:
            log.warning("the database's login has more rights than it needs", extra={"reason": problem})

    def _answered(self, slot: Slot) -> None:
        self.problem = ""
        self.known.set()
        self._tried(False)
        slot.report(State.ONLINE)

    def _failed(self, slot: Slot, error: Retryable | StoreError | NeedsAttention) -> None:
        self.problem = f"database: {error.person}"
        self.known.set()
        self._tried(True)
        state = State.ATTENTION if isinstance(error, NeedsAttention) else State.OFFLINE
        slot.report(state, "database_away", str(error))

    async def _ring_for_posts(self) -> None:
        for number in await self._db.engine(journal.select_tenants_with_posts):
            self._ring(number)
