"""A CRM's client at work in a test: events in, deliveries planned and made as the outbox would, one attempt each or until they succeed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from adapters.base import Attempt, Delivered, Draft, PlanCall
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Retryable
from gateway.domain.events import CallEvent
from gateway.domain.subjects import Subject

PAUSE_S = 0.01


@dataclass
class Ids:
    """External ids that outlive an attempt."""

    stored: dict[str, str] = field(default_factory=dict)

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        """In memory."""
        self.stored[name if of is None else f"{of} {name}"] = external_id

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        """What was remembered."""
        return self.stored.get(name if of is None else f"{of} {name}")


@dataclass
class Desk:
    """One integration."""

    client: Any
    settings: Any
    tenant: Tenant
    plan: PlanCall
    users: Mapping[str, str | None]
    calls: dict[str, Call] = field(default_factory=dict)
    ids: dict[str, Ids] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    """All that were planned."""
    paid: bool = False
    """Whether the budget has been charged for an attempt's first request, as the worker does."""

    def planned(self, event: CallEvent) -> Sequence[Draft]:
        """The deliveries of an event."""
        before = self.calls.get(event.call_id)
        call = apply(before, event)
        assert call is not None
        self.calls[event.call_id] = call
        made = self.plan(self.settings, self.tenant, before, call, event)
        self.drafts += made
        return made

    def attempt(self, draft: Draft, call: str, number: int = 1) -> Attempt:
        """One attempt at a delivery."""
        return Attempt(
            kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body, number=number, users=lambda: self.users,
            ids=self.ids.setdefault(call, Ids()), bucket=draft.bucket, paid=self.paid,
        )  # fmt: skip

    async def tell(self, *events: CallEvent) -> list[Delivered]:
        """Every delivery of these events, one attempt each."""
        return [
            await self.client.deliver(self.attempt(draft, event.call_id))
            for event in events
            for draft in self.planned(event)
        ]

    async def insist(self, *events: CallEvent, tries: int = 8) -> None:
        """Every delivery of these events, until it succeeds."""
        for event in events:
            for draft in self.planned(event):
                await self.deliver(draft, event.call_id, tries)

    async def deliver(self, draft: Draft, call: str, tries: int = 60) -> Delivered:
        """A delivery, until it succeeds. Raises AssertionError where it does not in so many attempts."""
        for number in range(1, tries + 1):
            try:
                delivered: Delivered = await self.client.deliver(self.attempt(draft, call, number))
                return delivered
            except Retryable:
                await trio.sleep(PAUSE_S)
        raise AssertionError(draft.kind)
