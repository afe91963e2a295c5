"""A strict account on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.amocrm.client import connect
from adapters.amocrm.plan import plan
from adapters.amocrm.settings import AmoSettings
from adapters.base import Link
from tests.adapters.desk import Desk
from tests.sandbox.amocrm import AmoCrm

CLIENT = "+375291112233"
USERS: Mapping[str, str | None] = {"501": "151", "502": "150", "503": "152"}


@pytest.fixture
async def account(nursery: trio.Nursery) -> AmoCrm:
    """An account that lives as long as the test."""
    made = AmoCrm(token="canary0123456789canary", limits=False)
    await nursery.start(made.serve)
    return made


def settings_of(account: AmoCrm, **more: Any) -> AmoSettings:
    """By its long-lived token."""
    return AmoSettings.model_validate({"subdomain": "june", "access_token": account.token, **more})


def application(**more: Any) -> AmoSettings:
    """By an application."""
    return AmoSettings.model_validate(
        {"subdomain": "june", "client_id": AmoCrm.CLIENT_ID, "client_secret": AmoCrm.CLIENT_SECRET, **more}
    )


def connected(account: AmoCrm, **more: Any) -> dict[str, Any]:
    """The stored pair of an application that was connected; its access has ended over there."""
    account.refresh, account.redirect_uri = "refresh-0123456789-first", "https://gw.example/oauth/x/callback"
    return {
        "access": "access-0123456789-old", "refresh": account.refresh, "host": "june.amocrm.ru",
        "redirect_uri": account.redirect_uri, **more,
    }  # fmt: skip


@pytest.fixture
def open_desk(open_link: Link, account: AmoCrm) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: AmoSettings | None = None, **changes: Any) -> AsyncIterator[Desk]:
        settings = settings or settings_of(account)
        async with AsyncExitStack() as stack:
            link = replace(open_link, **{"base_url": account.base, **changes})
            client = await stack.enter_async_context(connect(link, settings))
            yield Desk(client, settings, link.tenant, plan, USERS, paid=True)

    return opened


def only(account: AmoCrm) -> dict[str, Any]:
    """The one call of the account."""
    assert len(account.calls) == 1, account.calls
    return account.calls[0]
