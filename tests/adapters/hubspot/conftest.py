"""A strict account on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Link
from adapters.hubspot.client import connect
from adapters.hubspot.plan import plan
from adapters.hubspot.settings import HubSpotSettings
from tests.adapters.desk import Desk
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


@pytest.fixture
def open_desk(account: HubSpot, open_link: Link) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: HubSpotSettings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            link = replace(open_link, base_url=account.base, **changes)
            client = await stack.enter_async_context(connect(link, settings))
            yield Desk(client, settings, open_link.tenant, plan, USERS)

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
