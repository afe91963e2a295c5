"""A strict organisation on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from adapters.base import Link
from adapters.salesforce.client import connect
from adapters.salesforce.plan import plan
from adapters.salesforce.settings import SalesforceSettings
from adapters.tokens import Exchange, FreshToken, Token
from tests.adapters.desk import Desk
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


@pytest.fixture
def open_desk(open_link: Link) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: SalesforceSettings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            link = replace(open_link, **{"tokens": MemoryTokens(), **changes})
            client = await stack.enter_async_context(connect(link, settings))
            yield Desk(client, settings, open_link.tenant, plan, USERS)

    return opened


def only(org: Salesforce) -> dict[str, Any]:
    """The one call of the organisation."""
    assert len(org.tasks) == 1, org.tasks
    return org.tasks[0]
