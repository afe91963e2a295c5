"""A refresh token that works once, on a real server: kill -9 at each step of its exchange, and two instances at once."""

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
from adapters.amocrm.account import TOKEN
from adapters.amocrm.client import connect
from adapters.amocrm.refusals import REASONS
from adapters.base import Link
from adapters.tokens import FreshToken
from gateway.domain.errors import BadCredentials, Unavailable
from gateway.domain.secret import Secret
from gateway.store.embedded.embedded import as_login
from tests.actors.test_integration_tokens import CRM, World, db, dsn, postgres, world
from tests.adapters.amocrm.conftest import application, connected
from tests.sandbox.amocrm import AmoCrm

__all__ = ["db", "dsn", "postgres", "world"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

CHILD = """
    import os, signal, sys, trio
    from contextlib import AsyncExitStack
    from zoneinfo import ZoneInfo
    from actors import integration_tokens
    from actors.integration_tokens import IntegrationTokens
    from adapters.amocrm import account as module
    from adapters.amocrm.client import connect
    from adapters.amocrm.settings import AmoSettings
    from adapters.base import Link
    from adapters.http import SafeDialer
    from gateway.domain.configuration import Tenant
    from gateway.domain.ids import IntegrationKey, TenantId
    from gateway.store.postgres.pool import open_database
    from gateway.store.secrets.seal import parse_master_keys
    from tests.sandbox.amocrm import AmoCrm

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        dsn, key, wrapped, base, step = sys.stdin.read().split("\\n---\\n")
        sealer = parse_master_keys(key).sealer(TenantId("0367"), wrapped)
        if step == "before":
            module.exchange = die
        elif step == "received":
            module.read_tokens = die
        elif step == "storing":
            integration_tokens.IntegrationTokens._store_unstored = die_later
        elif step == "stored":
            module.Account._send = die_once
        june = TenantId("0367")
        settings = AmoSettings.model_validate({
            "subdomain": "june", "client_id": AmoCrm.CLIENT_ID, "client_secret": AmoCrm.CLIENT_SECRET,
        })
        tenant = Tenant(number=june, name="June", timezone=ZoneInfo("Europe/Minsk"), country="BY", language="ru")
        async with open_database(dsn) as db:
            tokens = IntegrationTokens(db, lambda tenant: sealer, june, IntegrationKey("crm:second"), {})
            link = Link(tenant, "crm:second", base, SafeDialer(allowed_private_nets=["127.0.0.0/8"]), tokens=tokens)
            async with connect(link, settings) as client:
                await client.users()

    store = integration_tokens.IntegrationTokens._store_unstored

    async def die_later(self, name):
        if self._unstored:
            die()
        return await store(self, name)

    send = module.Account._send
    count = 0

    async def die_once(self, *args):
        global count
        count += 1
        if count == 2:  # the first request is refused; this would be the first with the new token
            die()
        return await send(self, *args)

    trio.run(main)
"""


async def killed_at(step: str, world: World, account: AmoCrm) -> None:
    """A process that refreshes, and dies at a step."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", textwrap.dedent(CHILD)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    fields = (as_login(world.dsn), world.master.current.line(), world.wrapped, account.base, step)
    await process.stdin.send_all("\n---\n".join(fields).encode())
    await process.stdin.aclose()
    with trio.fail_after(60):
        said = b"".join([part async for part in process.stderr])
        assert await process.wait() == -signal.SIGKILL, said.decode()[-2000:]
    await process.stderr.aclose()


async def lease_ends(world: World) -> None:
    """Time goes by."""
    await world.run(
        "UPDATE integration_tokens SET exchange_until = now() - interval '1 second' WHERE exchange_by <> ''"
    )


def link_of(open_link: Link, account: AmoCrm, tokens: IntegrationTokens) -> Link:
    return replace(open_link, name=CRM, base_url=account.base, tokens=tokens)


@pytest.fixture
async def stored(world: World, account: AmoCrm) -> IntegrationTokens:
    """A connected account whose access token has ended."""
    tokens = world.tokens()
    pair = json.dumps(connected(account))
    await tokens.put(TOKEN, FreshToken(Secret(pair), None))
    return tokens


@pytest.mark.parametrize("step", ["before", "received", "storing", "stored"])
async def test_killed_in_an_exchange_and_not_lost(
    world: World, account: AmoCrm, stored: IntegrationTokens, open_link: Link, step: str
) -> None:
    account.grace_s = 600.0
    await killed_at(step, world, account)
    await lease_ends(world)
    async with connect(link_of(open_link, account, world.tokens()), application()) as client:
        assert len(await client.users()) == 5
    assert account.exchanges == 1, "the same pair, or the first at all"


async def test_killed_without_a_grace_says_what_to_do(
    world: World, account: AmoCrm, stored: IntegrationTokens, open_link: Link
) -> None:
    await killed_at("received", world, account)
    await lease_ends(world)
    async with connect(link_of(open_link, account, world.tokens()), application()) as client:
        with pytest.raises(BadCredentials) as raised:
            await client.users()
    assert raised.value.person == REASONS["grant"]


async def test_two_instances_at_once_spend_it_once(
    world: World, account: AmoCrm, stored: IntegrationTokens, open_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.integration_tokens, "LOOK_S", 0.01)
    found = []

    async def asks() -> None:
        async with connect(link_of(open_link, account, world.tokens()), application()) as client:
            found.append(len(await client.users()))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(asks)
    assert found == [5] * 8
    assert account.exchanges == 1


async def test_an_answer_that_never_comes_does_not_hold_the_token_for_ever(
    world: World, account: AmoCrm, stored: IntegrationTokens, open_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.integration_tokens, "EXCHANGE_S", 0.5)
    account.grace_s = 600.0
    silent = True

    async def step(name: str) -> None:
        if silent and name == "spent":
            await trio.sleep(3.0)

    account.on_exchange = step
    async with connect(link_of(open_link, account, world.tokens()), application()) as client:
        with pytest.raises(Unavailable):
            await client.users()
        silent = False
        assert len(await client.users()) == 5
    assert account.exchanges == 1
