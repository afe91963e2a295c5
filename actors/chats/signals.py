"""What a client's own messenger shows of us: that somebody writes, and that what the client wrote was read.

    a page, the API --> wrote, looked --> waiting --> the integration's client (`ShowsTyping`, `MarksRead`)      in the instance
                                                                                                           that serves it
Nothing of it is stored: a mark that cannot be set now is of no use later, and is dropped. Read `typing.py` for who writes, `conversing.py`
for who reads.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal
from uuid import UUID

import trio

from actors.delivery.clients import Clients
from actors.runtime.directory import Slot
from actors.runtime.supervisor import outcome_of
from adapters.channel import MarksRead, ShowsTyping
from gateway.cache import ConfigurationCache
from gateway.domain.errors import GatewayError
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store import conversations, messages
from gateway.store.messages import StoredMessage
from gateway.store.postgres.pool import Connection, Database
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

Signal = Literal["typing", "read"]
KIND = "looked"
"""Of the marks between instances."""
AT_ONCE = 8
MOST_WAITING = 1000
"""Beyond them a signal is dropped."""
WITHIN_S = 10.0
"""For one signal; typing lasts no longer."""
AGAIN_S = 4.5
"""Seconds until typing is shown again in one conversation: messengers show it for five and more."""
LOOK_BACK = 40
"""Among so many newest messages the client's last one is looked for."""
NEWEST = 2**31 - 1


class Signals:
    """One for the process; runs under supervision. `mark` notifies the other instances."""

    def __init__(
        self, db: Database, cache: ConfigurationCache, clients: Clients, mark: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:  # fmt: skip
        self._db = db
        self._cache = cache
        self._clients = clients
        self._mark = mark
        self._clock = clock
        self._waiting: OrderedDict[tuple[TenantId, UUID, Signal], None] = OrderedDict()
        self._shown: OrderedDict[tuple[TenantId, UUID], float] = OrderedDict()
        """When typing was shown last."""
        self._arrived = trio.Event()

    def wrote(self, tenant: TenantId, conversation: UUID, who: str) -> None:
        """Somebody presses keys. Never waits."""
        now, place = self._clock(), (tenant, conversation)
        while self._shown and next(iter(self._shown.values())) <= now - AGAIN_S:
            self._shown.popitem(last=False)
        if who != "client" and place not in self._shown and len(self._shown) < MOST_WAITING:
            self._shown[place] = now
            self._add(tenant, conversation, "typing")

    def looked(self, tenant: TenantId, conversation: UUID) -> None:
        """Somebody has seen all that the client wrote. Never waits."""
        self._add(tenant, conversation, "read")
        self._mark(f"{tenant} {conversation}")

    def received(self, texts: Sequence[str]) -> None:
        """Somebody has, in another instance."""
        for text in texts:
            tenant, _, conversation = text.partition(" ")
            with suppress(ValueError):  # an instance of another version
                self._add(TenantId(tenant), UUID(conversation), "read")

    def _add(self, tenant: TenantId, conversation: UUID, signal: Signal) -> None:
        if len(self._waiting) >= MOST_WAITING:
            COUNTERS["chat_signals_dropped"] += 1
            return
        self._waiting[tenant, conversation, signal] = None
        self._arrived.set()

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        slot.figures = lambda: {"waiting": len(self._waiting)}
        slot.report(State.ONLINE)
        free = trio.Semaphore(AT_ONCE)
        async with trio.open_nursery() as nursery:
            while True:
                while self._waiting:
                    await free.acquire()
                    (tenant, conversation, signal), _ = self._waiting.popitem(last=False)
                    nursery.start_soon(self._one, tenant, conversation, signal, free)
                self._arrived = trio.Event()
                await self._arrived.wait()

    async def _one(self, tenant: TenantId, conversation: UUID, signal: Signal, free: trio.Semaphore) -> None:
        try:
            with bound(tenant=tenant, chat=str(conversation)), trio.move_on_after(WITHIN_S):
                failure = await outcome_of(partial(self._show, tenant, conversation, signal))
                if isinstance(failure, GatewayError):
                    COUNTERS["chat_signals_dropped"] += 1
                    log.info("a messenger did not show a mark", extra={"signal": signal, "reason": failure.detail})
                elif isinstance(failure, Exception):  # a fault of one adapter, which must not end the signals of all
                    COUNTERS["chat_signals_dropped"] += 1
                    log.error("a messenger's mark failed", exc_info=failure, extra={"signal": signal})
        finally:
            free.release()

    async def _show(self, number: TenantId, conversation: UUID, signal: Signal) -> None:
        """Raises what the client does, and Unavailable."""
        tenant = self._cache.tenant(number)
        if tenant is None:
            return
        wanted = ShowsTyping if signal == "typing" else MarksRead
        if not any(isinstance(self._clients.integration(number, key), wanted) for key in tenant.integrations):
            return  # none of its messengers shows such a thing, or another instance serves it
        seen = await self._db.tenant(number, conversations.select_conversation, number, conversation)
        if seen is None or seen.conversation.blocked_at is not None:
            return
        known = seen.conversation
        client = self._clients.integration(number, known.integration)
        if not isinstance(client, wanted):
            return
        last: StoredMessage | None = await self._db.tenant(number, _last_of_client, number, conversation)
        if signal == "typing" and isinstance(client, ShowsTyping):
            await client.typing(known.address, (last.provider_id or "") if last is not None else "")
        elif isinstance(client, MarksRead) and last is not None and last.provider_id:
            await client.mark_read(known.address, last.provider_id)
        COUNTERS["chat_signals_shown"] += 1


async def _last_of_client(conn: Connection, number: TenantId, conversation: UUID) -> StoredMessage | None:
    found = await messages.select_messages(conn, number, conversation, LOOK_BACK, before=NEWEST)
    return next((one for one in reversed(found) if one.direction == "in"), None)
