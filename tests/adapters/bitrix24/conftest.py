"""A strict portal on loopback, and calls that are told to it as the outbox would: planned, then delivered in order."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.base import Link
from adapters.bitrix24.client import connect
from adapters.bitrix24.plan import plan
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.tokens import Exchange, FreshToken, Token
from gateway.domain.events import CallAnswered, CallEnded, CallRinging, Direction, HungUpBy, Result
from gateway.domain.ids import CallId
from tests.adapters.conftest import at
from tests.adapters.desk import Desk
from tests.sandbox.bitrix24 import Bitrix24, CallRecord

CLIENT = "+375291112233"
USERS: Mapping[str, str | None] = {"18": "151", "19": "150", "22": "152"}


@pytest.fixture
async def portal(nursery: trio.Nursery) -> Bitrix24:
    """A portal that lives as long as the test."""
    made = Bitrix24(secret="canary0123456789")
    await nursery.start(made.serve)
    return made


def settings_of(portal: Bitrix24, **more: Any) -> Bitrix24Settings:
    """By its webhook, in good time."""
    return Bitrix24Settings.model_validate({"webhook_url": portal.webhook_url, **more})


class MemoryTokens:
    """Tokens of one integration."""

    def __init__(self, **stored: Mapping[str, Any]) -> None:
        self.stored = {name: Token(secret(value), 1) for name, value in stored.items()}
        self.exchanges = 0

    async def current(self, name: str) -> Token | None:
        return self.stored.get(name)

    async def refresh(self, name: str, exchange: Exchange, *, stale: Token | None = None) -> Token:
        known = self.stored[name]
        if stale is None or known.version == stale.version:
            self.exchanges += 1
            fresh = await exchange(known)
            self.stored[name] = Token(fresh.value, known.version + 1)
        return self.stored[name]

    async def worked(self, name: str, token: Token) -> None:
        return

    async def put(self, name: str, fresh: FreshToken) -> Token:
        self.stored[name] = Token(fresh.value, 1)
        return self.stored[name]


def secret(value: Mapping[str, Any]) -> Any:
    """As it is stored."""
    from gateway.domain.secret import Secret

    return Secret(json.dumps(value))


def ringing(call: str = "1", *extensions: str, phone: str = CLIENT, second: float = 0.0) -> CallRinging:
    """A client rings at these."""
    return CallRinging(
        call_id=CallId(call), at=at(second), direction=Direction.INCOMING, caller=phone, called="+375171234567",
        trunk="t", extensions=extensions or ("150",),
    )  # fmt: skip


def answered(call: str = "1", extension: str = "150") -> CallAnswered:
    """Somebody answers after five seconds."""
    return CallAnswered(call_id=CallId(call), at=at(5), extension=extension, wait_s=5.0)


def ended(call: str = "1", result: Result = Result.ANSWERED, *, phone: str = CLIENT, **more: Any) -> CallEnded:
    """The end, after a minute."""
    talked = result is Result.ANSWERED
    fields: dict[str, Any] = {
        "extension": "150" if talked else None, "last_extension": "150" if talked else None, "rang": ("150",),
        "hung_up_by": HungUpBy.CALLER, "direction": Direction.INCOMING, "caller": phone, "called": "+375171234567",
    }  # fmt: skip
    return CallEnded(
        call_id=CallId(call), at=at(60), trunk="t", result=result, wait_s=5.0 if talked else None,
        talk_s=55.0 if talked else None, **(fields | more),
    )  # fmt: skip


@pytest.fixture
def open_desk(open_link: Link) -> Callable[..., Any]:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: Bitrix24Settings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connect(replace(open_link, **changes), settings))
            yield Desk(client, settings, open_link.tenant, plan, USERS)

    return opened


def only(portal: Bitrix24) -> CallRecord:
    """The one call of the portal."""
    assert len(portal.calls) == 1, list(portal.calls)
    return next(iter(portal.calls.values()))


def application(portal: Bitrix24, **more: Any) -> Bitrix24Settings:
    return Bitrix24Settings.model_validate(
        {"portal": portal.base, "client_id": portal.CLIENT_ID, "client_secret": portal.CLIENT_SECRET, **more}
    )


def ends_of(call: CallRecord) -> dict[str, Any]:
    """How a call was finished."""
    assert call.finished is not None
    return call.finished
