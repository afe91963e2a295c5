"""A strict organisation on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Delivered, Draft, Link
from adapters.salesforce.client import SalesforceClient, connect
from adapters.salesforce.plan import plan
from adapters.salesforce.settings import SalesforceSettings
from adapters.tokens import Exchange, FreshToken, Token
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Retryable
from gateway.domain.events import CallEvent
from tests.adapters.bitrix24.conftest import Ids
from tests.sandbox.salesforce import ANNA, IVAN, OLGA, Salesforce

USERS: Mapping[str, str | None] = {ANNA: "151", IVAN: "150", OLGA: "152"}


@pytest.fixture
async def org(nursery: trio.Nursery) -> Salesforce:
    """An organisation that lives as long as the test."""
    made = Salesforce()
    await nursery.start(made.serve)
    return made


def settings_of(org: Salesforce, **more: Any) -> SalesforceSettings:
    """By client credentials."""
    return SalesforceSettings.model_validate({
        "instance_url": org.base, "client_id": org.CLIENT_ID, "client_secret": org.client_secret, "call_field": org.call_field, **more,
    })  # fmt: skip


@dataclass
class MemoryTokens:
    """Tokens of one integration."""

    stored: dict[str, Token] = field(default_factory=dict)
    lose: bool = False
    """The next exchange's answer is lost."""

    async def current(self, name: str) -> Token | None:
        return self.stored.get(name)

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        known = self.stored[name]
        if stale is None or known.version == stale.version:
            fresh = await exchange(known)
            self.stored[name] = Token(fresh.value, known.version + 1)
        return self.stored[name]

    async def worked(self, name: str, token: Token) -> None:
        return

    async def put(self, name: str, fresh: FreshToken) -> Token:
        self.stored[name] = Token(fresh.value, 1)
        return self.stored[name]


@dataclass
class Desk:
    """One integration at work: events in, deliveries out."""

    client: SalesforceClient
    settings: SalesforceSettings
    tenant: Tenant
    users: Mapping[str, str | None] = field(default_factory=lambda: USERS)
    calls: dict[str, Call] = field(default_factory=dict)
    ids: dict[str, Ids] = field(default_factory=dict)

    def planned(self, event: CallEvent) -> Sequence[Draft]:
        before = self.calls.get(event.call_id)
        call = apply(before, event)
        assert call is not None
        self.calls[event.call_id] = call
        return plan(self.settings, self.tenant, before, call, event)

    def attempt(self, draft: Draft, call: str, number: int = 1) -> Attempt:
        return Attempt(
            kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body, number=number, users=lambda: self.users,
            ids=self.ids.setdefault(call, Ids()),
        )  # fmt: skip

    async def tell(self, *events: CallEvent) -> list[Delivered]:
        """Every delivery of these events, one attempt each."""
        return [
            await self.client.deliver(self.attempt(draft, event.call_id))
            for event in events
            for draft in self.planned(event)
        ]

    async def insist(self, *events: CallEvent, most: int = 8) -> None:
        """Every delivery of these events, repeated as the outbox would."""
        for event in events:
            for draft in self.planned(event):
                for number in range(1, most + 1):
                    try:
                        await self.client.deliver(self.attempt(draft, event.call_id, number))
                        break
                    except Retryable:
                        continue
                else:
                    raise AssertionError(draft.kind)


@pytest.fixture
def open_desk(open_link: Link) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: SalesforceSettings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            link = replace(open_link, **{"tokens": MemoryTokens(), **changes})
            client = await stack.enter_async_context(connect(link, settings))
            yield Desk(client, settings, open_link.tenant)

    return opened


def only(org: Salesforce) -> dict[str, Any]:
    """The one call of the organisation."""
    assert len(org.tasks) == 1, org.tasks
    return org.tasks[0]
