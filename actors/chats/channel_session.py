"""Keeps one messenger's stream alive: a long poll or a login that stays open, read under supervision.

An update is confirmed to the messenger once it is durable here. One instance at a time serves a tenant, so a bot has one
reader, no matter how many instances run. This actor interprets nothing. Read `actors/runtime/sessions.py` for backoff.
"""

from collections.abc import Sequence
from dataclasses import replace

import trio

from actors.chats.inbox import Inbox
from actors.runtime.directory import Slot
from actors.runtime.sessions import Counted, serve_sessions
from actors.services import Services
from adapters.base import AdapterSettings
from adapters.inbound import Stream, StreamsUpdates, Update
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.telemetry import bound

COUNTED = Counted(lost="channel_sessions_lost", refused="channel_refused")
RETRY_CAP_S = 5.0


class ChannelSession:
    """Runs under supervision, one for each integration whose client reads a stream."""

    def __init__(self, tenant: Tenant, linked: Linked, settings: AdapterSettings, services: Services) -> None:
        self.tenant = tenant
        self.linked = linked
        self.settings = settings
        self.services = services

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        adapter, key = self.linked.adapter, self.linked.key
        link = replace(self.services.link(self.tenant, self.linked, self.settings), report=slot.report)
        stream: Stream = adapter.inbound.stream if adapter.inbound is not None else "chats"
        inbox = self.services.inbox
        assert inbox is not None
        with bound(tenant=self.tenant.number, integration=key):
            async with adapter.connect(link, self.settings) as client:
                assert isinstance(client, StreamsUpdates)
                sink = _Sink(self.tenant.number, key, stream, inbox, slot)
                await serve_sessions(slot, lambda: client.run(sink), COUNTED)


class _Sink:
    """The session's way into the journal."""

    def __init__(self, tenant: TenantId, key: IntegrationKey, stream: Stream, inbox: Inbox, slot: Slot) -> None:
        self._tenant = tenant
        self._key = key
        self._stream: Stream = stream
        self._inbox = inbox
        self._slot = slot

    async def received(self, updates: Sequence[Update]) -> None:
        pause = 0.2
        while True:
            try:
                await self._inbox.store(self._tenant, self._key, updates, self._stream)
            except Unavailable:
                self._slot.report(State.DEGRADED, "database_away")
                await trio.sleep(pause)
                pause = min(pause * 2, RETRY_CAP_S)
            else:
                self._slot.report(State.ONLINE)
                return
