"""The admin UI over a real database with two companies."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from quart.typing import TestClientProtocol

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Database
from tests.store.database import db, dsn, postgres
from tests.web.api.held_gateway import Gateway
from tests.web.world import JUNE, World, make_world

__all__ = ["db", "dsn", "postgres"]

SignIn = Callable[..., Awaitable[TestClientProtocol]]


@pytest.fixture
async def world(db: Database) -> World:
    """Two companies without calls."""
    return await make_world(db)


@pytest.fixture
def sign_in(world: World) -> SignIn:
    """A client with a session: `await sign_in(tenant)`; None is an operator, who may be `acting` as a company."""

    async def signed_in(tenant: TenantId | None = JUNE, language: str = "en", acting: TenantId | None = None) -> Any:
        client = world.app.test_client()
        client.set_cookie("localhost", "session", await world.session(tenant, acting=acting))
        client.set_cookie("localhost", "language", language)
        return client

    return signed_in


@pytest.fixture
def gateway() -> Gateway:
    """What the machine addresses speak to, held in memory."""
    return Gateway()


async def submitted(client: TestClientProtocol, path: str, form: dict[str, str], language: str | None = None) -> str:
    """Sends a form and follows its redirect, which every POST answers with: the page that then shows the result."""
    answer = await client.post(path, form=form)
    assert answer.status_code == 303, (path, answer.status_code)
    assert answer.location is not None
    if language is not None:
        client.set_cookie("localhost", "language", language)
    address, mark, _ = answer.location.partition("#")
    page = await client.get(address)
    assert page.status_code == 200, answer.location
    text = str(await page.get_data(as_text=True))
    assert not (mark and " autofocus" in text), "browsers ignore autofocus where the address has a fragment"
    return text


def plain(location: str | None) -> str:
    """A redirect's address without the id of what the page shows once."""
    address, mark, fragment = (location or "").partition("#")
    bare = re.sub(r"[?&]done=[0-9A-Za-z_-]+", "", address)
    return bare + mark + fragment
