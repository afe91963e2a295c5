"""Periodic maintenance: overdue deliveries, rows past their retention, dead letters, a blocked event loop.

Every statement works in batches and survives a database that is away. Read `gateway.app` for how it is started.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from actors.runtime.directory import Slot
from actors.runtime.supervisor import DeadLetter
from actors.services import Services
from gateway import __version__
from gateway.domain.chats import KEEP_DAYS
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store import (
    ai_answers,
    ai_hand_overs,
    ai_summaries,
    audit_chain,
    call_orders,
    chat_files,
    crm_registrations,
    dead_letters,
    deal_runs,
    external_ids,
    flashes,
    idempotent_requests,
    integration_logs,
    journal,
    orders,
    outbox,
    users,
)
from gateway.store.integration_states import keep_last_successes
from gateway.store.journal import PendingPost
from gateway.store.postgres.partitions import keep_days
from gateway.store.postgres.pool import Connection, Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

DUE_EVERY_S = 1.0
EXPIRE_EVERY_S = 5.0
PRUNE_EVERY_S = 600.0
KEEP_DELIVERIES_S = 14 * 86400.0
KEEP_POSTS_S = 14 * 86400.0
KEEP_DIGESTS_S = KEEP_POSTS_S
"""Seconds for which a repeat of a post is recognised."""
KEEP_LOGS_S = 30 * 86400.0
KEEP_ORDERS_S = 90 * 86400.0
KEEP_LETTERS_S = 90 * 86400.0
KEEP_EXTERNAL_IDS_S = 90 * 86400.0
"""Those of calls: far longer than a delivery is done again."""
KEEP_AUDIT_S = 365 * 86400.0
KEEP_REQUESTS_S = 2 * 86400.0
KEEP_DEAL_RUNS_S = 90 * 86400.0
"""Twice as long as an Idempotency-Key is good for."""
BATCH = 2000
LETTERS_ROOM = 100


async def wake_due(services: Services, slot: Slot) -> None:
    """Until cancelled: rings for integrations with something due. The poll beneath the in-process doorbells."""
    while True:
        try:
            for tenant, kind in await services.db.engine(outbox.select_due):
                services.bells.ring(tenant, kind)
            slot.report(State.ONLINE)
        except Unavailable:
            slot.report(State.DEGRADED, "database_away")
        await trio.sleep(DUE_EVERY_S)


async def expire(services: Services, slot: Slot) -> None:
    """Until cancelled: drops what is useless by now, also while its integration is switched off or waits for a person."""
    while True:
        try:
            dropped = BATCH
            while dropped == BATCH:
                dropped = await services.db.engine(outbox.expire_deliveries, BATCH)
                COUNTERS["deliveries_expired"] += dropped
            slot.report(State.ONLINE)
        except Unavailable:
            slot.report(State.DEGRADED, "database_away")
        await trio.sleep(EXPIRE_EVERY_S)


async def prune(services: Services, dsn: str, slot: Slot) -> None:
    """Until cancelled: makes the journal's next days, drops those past their time, and removes other old rows.

    Days need the tables' owner, who is the user of `dsn`.
    """
    while True:
        health = State.ONLINE, ""
        tasks: Sequence[Callable[[], Awaitable[object]]] = (
            partial(_keep_days, dsn),
            partial(services.db.engine, keep_last_successes, KEEP_LOGS_S),
            *(partial(_delete, services.db, delete, keep_s) for delete, keep_s in _KEPT),
            *(partial(_delete_by_tenant, services.db, delete) for delete in _KEPT_BY_TENANT),
            partial(services.db.engine, users.delete_stale_sessions),
            partial(services.db.engine, crm_registrations.delete_left_registrations),
        )
        for task in tasks:
            try:
                await task()
            except Unavailable:
                health = State.DEGRADED, "database_away"
                break
            except GatewayError as error:
                # One table that cannot be pruned must not stop the others, nor cause an immediate restart.
                log.error("old rows could not be removed", extra={"reason": str(error)})
                health = State.DEGRADED, "not_pruned"
        slot.report(*health)
        await trio.sleep(PRUNE_EVERY_S)


_KEPT: tuple[tuple[Callable[[Connection, float, int], Awaitable[int]], float], ...] = (
    (outbox.delete_old_deliveries, KEEP_DELIVERIES_S),
    (journal.delete_old_rest, KEEP_POSTS_S),
    (journal.delete_old_digests, KEEP_DIGESTS_S),
    (integration_logs.delete_old_logs, KEEP_LOGS_S),
    (call_orders.delete_old_orders, KEEP_ORDERS_S),
    (dead_letters.delete_old_dead_letters, KEEP_LETTERS_S),
    (audit_chain.delete_old_audit, KEEP_AUDIT_S),
    (external_ids.delete_old_external_ids, KEEP_EXTERNAL_IDS_S),
    (chat_files.delete_unsent_files, chat_files.KEEP_UNSENT_S),
    (flashes.delete_old_flashes, flashes.LIVES_S),
    (idempotent_requests.delete_old_requests, KEEP_REQUESTS_S),
    (deal_runs.delete_old_runs, KEEP_DEAL_RUNS_S),
)


_KEPT_BY_TENANT: tuple[Callable[[Connection, int, int], Awaitable[int]], ...] = (
    chat_files.delete_expired_messages,
    chat_files.delete_expired_happenings,
    ai_answers.delete_expired_answers,
    ai_hand_overs.delete_expired_hand_overs,
    ai_summaries.delete_expired_summaries,
    orders.delete_expired_orders,
)
"""What is kept for as long as its company says (`chats: {keep_days}`, `orders: {keep_days}`)."""


async def _keep_days(dsn: str) -> None:
    made, dropped = await keep_days(dsn, KEEP_POSTS_S)
    if made or dropped:
        log.info("days of the journal", extra={"made": len(made), "dropped": [str(day) for day in dropped]})


async def _delete(db: Database, delete: Callable[[Connection, float, int], Awaitable[int]], keep_s: float) -> None:
    gone = BATCH
    while gone == BATCH:
        gone = await db.engine(delete, keep_s, BATCH)


async def _delete_by_tenant(db: Database, delete: Callable[[Connection, int, int], Awaitable[int]]) -> None:
    gone = BATCH
    while gone == BATCH:
        gone = await db.engine(delete, KEEP_DAYS, BATCH)


class DeadLetters:
    """Stores the messages that the supervisor set aside. Bounded: beyond the limit they are only logged."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._send, self._receive = trio.open_memory_channel[DeadLetter](LETTERS_ROOM)

    def put(self, dead_letter: DeadLetter) -> None:
        """Never waits: called while an actor is being restarted."""
        log.error("message set aside", extra={"actor": dead_letter.path, "trace": dead_letter.traceback})
        try:
            self._send.send_nowait(dead_letter)
        except trio.WouldBlock:
            log.error("too many messages set aside; this one is in the log alone", extra={"actor": dead_letter.path})

    async def run(self, slot: Slot) -> None:
        """Until cancelled: stores dead letters, and marks a post that cannot be processed as done."""
        slot.report(State.ONLINE)
        async for dead_letter in self._receive:
            tenant = TenantId(dead_letter.path.split("/")[1] if "/" in dead_letter.path else dead_letter.path)
            post = dead_letter.message.journal_id if isinstance(dead_letter.message, PendingPost) else None
            row = dead_letters.DeadLetterRow(
                tenant, dead_letter.path, repr(dead_letter.message), dead_letter.traceback, post
            )
            while True:
                try:
                    await self._db.engine(dead_letters.insert_dead_letters, [row], __version__)
                    break
                except Unavailable:
                    await trio.sleep(1.0)


class LoopWatch(trio.abc.Instrument):
    """Logs any step that holds the event loop too long: it would delay every tenant."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._started = time.perf_counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio."""
        self._started = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio."""
        took = time.perf_counter() - self._started
        if took > self._limit_s:
            COUNTERS["loop_held"] += 1
            log.warning("loop held", extra={"seconds": round(took, 3), "task": task.name})
