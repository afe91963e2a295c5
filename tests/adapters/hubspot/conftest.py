"""A strict account on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from adapters.base import Attempt, Delivered, Draft, Link
from adapters.hubspot.client import HubSpotClient, connect
from adapters.hubspot.plan import plan
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import NotYet, RateLimited, Unavailable
from gateway.domain.events import CallEvent
from tests.adapters.bitrix24.conftest import Ids
from tests.sandbox.hubspot import HubSpot, Record

CLIENT = "+375291112233"
USERS: Mapping[str, str | None] = {"101": "150", "102": "151", "103": "152", "104": "153"}


@pytest.fixture
async def account(nursery: trio.Nursery) -> HubSpot:
    """An account that lives as long as the test."""
    made = HubSpot(token="pat-eu1-canary0123456789")
    await nursery.start(made.serve)
    return made


def settings_of(account: HubSpot, **more: Any) -> HubSpotSettings:
    """By its token; a search is waited for as long as the sandbox needs."""
    return HubSpotSettings.model_validate({"api_key": account.token, "search_lag_s": 0, **more})


@dataclass
class Desk:
    """One integration at work: events in, deliveries out."""

    client: HubSpotClient
    settings: HubSpotSettings
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

    async def insist(self, draft: Draft, call: str) -> Delivered:
        """A delivery, as often as it takes."""
        for number in range(1, 60):
            try:
                return await self.client.deliver(self.attempt(draft, call, number))
            except (Unavailable, RateLimited, NotYet):
                await trio.sleep(0.01)
        raise AssertionError(draft.kind)


@pytest.fixture
def open_desk(account: HubSpot, open_link: Link) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: HubSpotSettings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            link = replace(open_link, base_url=account.base, **changes)
            client = await stack.enter_async_context(connect(link, settings))
            yield Desk(client, settings, open_link.tenant)

    return opened


def only(account: HubSpot, kind: str = "calls") -> Record:
    """The one record of a kind."""
    (found,) = account.all(kind)
    return found


def application(**more: Any) -> HubSpotSettings:
    """An app with OAuth."""
    return HubSpotSettings.model_validate(
        {"client_id": HubSpot.CLIENT_ID, "client_secret": HubSpot.CLIENT_SECRET, "search_lag_s": 0, **more}
    )
