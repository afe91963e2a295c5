"""Shows clients that somebody of the company writes to them, in messengers that can (`ShowsTyping`).

    a page notes it --> every instance learns it (`typing.py`) --> the one that has the integration's client asks the messenger

Nothing is stored, and nothing is tried twice: who writes says so again after a few seconds.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import trio

from actors.runtime.directory import Slot
from actors.services import Services
from adapters.channel import ShowsTyping
from gateway.domain.errors import GatewayError
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.conversations import select_conversation
from gateway.store.messages import select_last_of_client

EVERY_S = 5.0
"""A conversation's messenger is asked at most so often; they show it for as long at least."""
WITHIN_S = 5.0
MOST = 100
"""Conversations that may wait; more are left out."""


class ShownTyping:
    """All conversations of this process."""

    def __init__(self, services: Services, clock: Callable[[], float] = trio.current_time) -> None:
        self._services = services
        self._clock = clock
        self._asked: OrderedDict[tuple[TenantId, UUID], float] = OrderedDict()
        self._put, self._get = trio.open_memory_channel[tuple[TenantId, UUID]](MOST)

    def noted(self, tenant: TenantId, conversation: UUID) -> None:
        """Somebody of the company writes. Never waits."""
        now, place = self._clock(), (tenant, conversation)
        if self._services.ownership.epoch_of(tenant) is None or self._asked.get(place, -EVERY_S) + EVERY_S > now:
            return
        with suppress(trio.WouldBlock):
            self._put.send_nowait(place)
            self._asked[place] = now
            self._asked.move_to_end(place)
        while self._asked and next(iter(self._asked.values())) + EVERY_S <= now:
            self._asked.popitem(last=False)

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        slot.report(State.ONLINE)
        async for tenant, conversation in self._get:
            with trio.move_on_after(WITHIN_S), suppress(GatewayError):
                await self._show(tenant, conversation)

    async def _show(self, tenant: TenantId, conversation: UUID) -> None:
        db = self._services.db
        seen = await db.tenant(tenant, select_conversation, tenant, conversation)
        client = self._services.clients.integration(tenant, seen.conversation.integration) if seen is not None else None
        if seen is None or not isinstance(client, ShowsTyping):
            return
        last = await db.tenant(tenant, select_last_of_client, tenant, conversation)
        await client.typing(seen.conversation.address, last or "")
