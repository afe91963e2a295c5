"""A portal's refresh token on a real server: kill -9 at each step of its exchange, and many instances at once; no account is lost."""

import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import trio

import actors.integration_tokens
from actors.integration_tokens import IntegrationTokens
from adapters.base import Link
from adapters.bitrix24.client import connect
from adapters.bitrix24.portal import TOKEN
from adapters.bitrix24.refusals import REASONS
from adapters.tokens import FreshToken
from gateway.domain.errors import BadCredentials
from gateway.domain.secret import Secret
from gateway.store.embedded.embedded import as_login
from tests.actors.test_integration_tokens import CRM, World, db, dsn, postgres, world
from tests.adapters.bitrix24.conftest import application
from tests.sandbox.bitrix24 import Bitrix24

__all__ = ["db", "dsn", "postgres", "world"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

CHILD = """
    import os, signal, sys, trio
    from zoneinfo import ZoneInfo
    from actors.integration_tokens import IntegrationTokens
    from adapters.base import Link
    from adapters.bitrix24 import client, portal
    from adapters.bitrix24.settings import Bitrix24Settings
    from adapters.http import SafeDialer
    from gateway.domain.configuration import Tenant
    from gateway.domain.ids import IntegrationKey, TenantId
    from gateway.store.postgres.pool import open_database
    from gateway.store.secrets.seal import parse_master_keys
    from tests.sandbox.bitrix24 import Bitrix24

    dsn, key, wrapped, base, step = sys.stdin.read().split("\\n---\\n")
    june, crm = TenantId("0367"), IntegrationKey("crm:second")
    sealer = parse_master_keys(key).sealer(june, wrapped)
    send, store = portal.Portal._send, IntegrationTokens._store_unstored

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    async def dies_storing(self, name):
        return die() if self._unstored else await store(self, name)

    async def dies_using(self, *args):
        return die() if args[3]["auth"] != "ended" else await send(self, *args)

    match step:
        case "asking":
            portal.exchange = die
        case "received":
            portal.read_tokens = die
        case "storing":
            IntegrationTokens._store_unstored = dies_storing
        case "using":
            portal.Portal._send = dies_using

    async def main():
        settings = Bitrix24Settings.model_validate(
            {"portal": base, "client_id": Bitrix24.CLIENT_ID, "client_secret": Bitrix24.CLIENT_SECRET}
        )
        tenant = Tenant(june, "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
        dial = SafeDialer(allowed_private_nets=["127.0.0.0/8"])
        async with open_database(dsn) as db:
            tokens = IntegrationTokens(db, lambda tenant: sealer, june, crm, {})
            link = Link(tenant, crm, None, dial, tokens=tokens, provider_urls={"bitrix24_oauth": base})
            async with client.connect(link, settings) as opened:
                await opened.users()

    trio.run(main)
"""


async def killed_at(step: str, world: World, portal: Bitrix24) -> None:
    """A process that refreshes, and dies at a step; its lease on the row ends."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", textwrap.dedent(CHILD)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    fields = (as_login(world.dsn), world.master.current.line(), world.wrapped, portal.base, step)
    await process.stdin.send_all("\n---\n".join(fields).encode())
    await process.stdin.aclose()
    with trio.fail_after(60):
        said = b"".join([part async for part in process.stderr])
        assert await process.wait() == -signal.SIGKILL, said.decode()[-2000:]
    await process.stderr.aclose()
    await world.run(
        "UPDATE integration_tokens SET exchange_until = now() - interval '1 second' WHERE exchange_by <> ''"
    )


def link_of(open_link: Link, portal: Bitrix24, tokens: IntegrationTokens) -> Link:
    return replace(open_link, name=CRM, tokens=tokens, provider_urls={"bitrix24_oauth": portal.base})


@pytest.fixture
async def connected(world: World, portal: Bitrix24) -> None:
    """A portal whose access token has ended."""
    portal.access, portal.refresh = "access-0123456789", "refresh-0123456789"
    pair = {"access": "ended", "refresh": portal.refresh, "endpoint": f"{portal.base}/rest/", "user_id": "1"}
    await world.tokens().put(TOKEN, FreshToken(Secret(json.dumps(pair)), None))


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("step", ["asking", "received", "storing", "using"])
async def test_killed_in_an_exchange_and_not_lost(world: World, portal: Bitrix24, open_link: Link, step: str) -> None:
    portal.grace = True
    await killed_at(step, world, portal)
    async with connect(link_of(open_link, portal, world.tokens()), application(portal)) as client:
        assert len(await client.users()) == 5
    assert portal.exchanges == 1, "the same pair again, or the first at all"
    assert portal.violations == []


@pytest.mark.usefixtures("connected")
async def test_killed_where_the_portal_knows_no_grace_a_person_is_told_what_to_do(
    world: World, portal: Bitrix24, open_link: Link
) -> None:
    await killed_at("received", world, portal)
    async with connect(link_of(open_link, portal, world.tokens()), application(portal)) as client:
        with pytest.raises(BadCredentials) as raised:
            await client.users()
    assert raised.value.person == REASONS["grant"]


@pytest.mark.usefixtures("connected")
async def test_many_instances_at_once_spend_it_once(
    world: World, portal: Bitrix24, open_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.integration_tokens, "LOOK_S", 0.01)
    found = []

    async def asks() -> None:
        async with connect(link_of(open_link, portal, world.tokens()), application(portal)) as client:
            found.append(len(await client.users()))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(asks)
    assert found == [5] * 8
    assert portal.exchanges == 1
    assert portal.violations == []
