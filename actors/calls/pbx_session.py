"""Keeps one PBX session alive: connects, passes what it receives to its tenant's mailbox, reconnects after a loss.

This actor interprets nothing. Read `actors/runtime/sessions.py` for backoff, `adapters/asterisk/session.py` for what is
received and `actors.calls.tenant_calls` for how it is processed.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from itertools import zip_longest

import trio

from actors.calls.tenant_calls import PbxEvents
from actors.runtime.directory import Slot, utc_now
from actors.runtime.mailbox import Mailbox
from actors.runtime.sessions import Counted, serve_sessions
from actors.services import Services
from adapters.abilities import RedirectsCalls
from adapters.base import Adapter, AdapterSettings, Arrival, CallSink, Link, StreamsCalls
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.events import CallEvent, CallRinging
from gateway.store.calls import select_open_calls
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

COUNTED = Counted(lost="pbx_sessions_lost", refused="pbx_refused")
KEPT_WITHIN_S = 5.0
REDIRECTS_AT_ONCE = 50


class _Sink:
    """The session's way to the tenant: events go to its mailbox, which makes a fast PBX wait for a slow commit."""

    def __init__(self, actor: "PbxActor", redirects: trio.Nursery) -> None:
        self._actor = actor
        self._redirects = redirects

    async def emit(self, events: Sequence[CallEvent]) -> None:
        if events:
            received_at_s = utc_now() - timedelta(seconds=self._actor.behind_s)
            await self._actor.mailbox.post(PbxEvents(self._actor.name, without_overtaken(events), received_at_s))

    def arrived(self, arrival: Arrival) -> None:
        if not self._actor.redirects_by_itself:
            return
        if len(self._redirects.child_tasks) < REDIRECTS_AT_ONCE:
            self._redirects.start_soon(self._actor.send_to_responsible, arrival)
        else:
            COUNTERS["redirects_skipped"] += 1

    def order_answered(self, order_id: str, failure: str) -> None:
        self._actor.services.dialling.answered(self._actor.tenant.number, order_id, failure)

    async def open_calls(self) -> Sequence[Call]:
        number = self._actor.tenant.number
        with trio.move_on_after(KEPT_WITHIN_S):
            # Events of an earlier session may not be committed yet, and a call missing here would never end.
            await self._actor.mailbox.wait_idle()
        while True:
            try:
                known = await self._actor.services.db.tenant(number, select_open_calls, number)
                return [call for source, call in known if source == self._actor.name]
            except Unavailable:
                await trio.sleep(1.0)


def without_overtaken(events: Sequence[CallEvent]) -> tuple[CallEvent, ...]:
    """Events of one moment without a ring that the next event repeats with further phones: one pop-up, not two."""
    return tuple(
        event
        for event, later in zip_longest(events, events[1:])
        if not (
            isinstance(event, CallRinging)
            and isinstance(later, CallRinging)
            and event.call_id == later.call_id
            and set(event.extensions) <= set(later.extensions)
        )
    )


class PbxActor:
    """Runs under supervision, one for each PBX of a tenant."""

    def __init__(
        self, tenant: Tenant, name: str, adapter: Adapter, settings: AdapterSettings, mailbox: Mailbox[PbxEvents],
        services: Services,
    ) -> None:  # fmt: skip
        self.tenant = tenant
        self.name = name
        self.adapter = adapter
        self.settings = settings
        self.mailbox = mailbox
        self.services = services
        self._client: object = None

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        link = Link(
            tenant=self.tenant,
            name=self.name,
            base_url=self.services.provider_urls.get(self.adapter.kind),
            dial=self.services.dial,
            report=slot.report,
            spills=self.services.spills,
        )
        with bound(tenant=self.tenant.number, integration=self.name), ExitStack() as lent:
            async with self.adapter.connect(link, self.settings) as client:
                assert isinstance(client, StreamsCalls)
                lent.enter_context(self.services.clients.lend(slot.path, client))
                self._client = client
                slot.figures = getattr(client, "figures", None)
                async with trio.open_nursery() as nursery:
                    sink: CallSink = _Sink(self, nursery)
                    await serve_sessions(slot, lambda: client.run(sink), COUNTED)

    @property
    def behind_s(self) -> float:
        """Seconds that the client's current events have waited in it before they were emitted; their age on arrival."""
        return float(getattr(self._client, "behind_s", 0.0))

    @property
    def redirects_by_itself(self) -> bool:
        """Whether the tenant wants callers sent to whoever is responsible without a request by the dialplan, and is
        already owned by this instance."""
        if self.services.ownership.epoch_of(self.tenant.number) is None:
            return False
        return bool(self.tenant.options.get("smart_redirect", {}).get("by_gateway"))

    async def send_to_responsible(self, arrival: Arrival) -> None:
        """Requests who is responsible for a caller and sends the call there, unless it was answered meanwhile."""
        tenant = self.services.cache.tenant(self.tenant.number) or self.tenant
        started = trio.current_time()
        extension = await self.services.smart_redirect.extension_for(tenant, arrival.caller)
        requested = trio.current_time()
        sent = False
        if extension is not None and isinstance(self._client, RedirectsCalls):
            try:
                sent = await self._client.redirect(arrival.unique_id, extension)
            except GatewayError as error:
                log.warning("a caller could not be redirected", extra={"call": arrival.unique_id, "reason": str(error)})
        COUNTERS["redirects_made" if sent else "redirects_not_made"] += 1
        log.info(
            "smart redirect",
            extra={
                "call": arrival.unique_id, "extension": extension, "redirected": sent,
                "asked_ms": round((requested - started) * 1000), "whole_ms": round((trio.current_time() - started) * 1000),
            },
        )  # fmt: skip
