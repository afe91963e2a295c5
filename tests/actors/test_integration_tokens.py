"""Tokens on a real server: two instances that refresh at once, crashes between the exchange and the commit, and what is stored."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field

import pytest
import trio

import actors.integration_tokens
from actors.integration_tokens import IntegrationTokens
from adapters.tokens import FreshToken, Token, with_token
from gateway.domain.errors import BadCredentials, Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store.embedded.embedded import as_login
from gateway.store.postgres.pool import Connection, Database, open_database
from gateway.store.secrets.seal import MasterKeys, Sealer, new_data_key, new_master_key, parse_master_keys
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE = TenantId("0367")
CRM = IntegrationKey("crm:second")


@dataclass
class Provider:
    """An OAuth server whose refresh tokens work once: `valid` is the only one it takes."""

    valid: str = "refresh-1"
    delay_s: float = 0.0
    spent: list[str] = field(default_factory=list)
    lose: bool = False
    """Whether the answer is lost on its way."""

    async def exchange(self, token: Token) -> FreshToken:
        used = token.value.reveal()
        self.spent.append(used)
        await trio.sleep(self.delay_s / 2)
        if used != self.valid:
            raise BadCredentials("invalid_grant")
        self.valid = f"refresh-{int(used.rpartition('-')[2]) + 1}"
        await trio.sleep(self.delay_s / 2)
        if self.lose:
            self.lose = False
            raise Unavailable("the connection broke", certain=False)
        return FreshToken(Secret(self.valid), 3600.0)


@dataclass
class World:
    dsn: str
    db: Database
    master: MasterKeys
    wrapped: str

    @property
    def sealer(self) -> Sealer:
        return self.master.sealer(JUNE, self.wrapped)

    def tokens(self, db: Database | None = None) -> IntegrationTokens:
        return IntegrationTokens(db or self.db, {JUNE: self.sealer}.get, JUNE, CRM, {})

    async def row(self) -> dict[str, object]:
        async def read(conn: Connection) -> dict[str, object]:
            return dict(await conn.fetchrow("SELECT * FROM integration_tokens") or {})

        return await self.db.engine(read)

    async def run(self, statement: str) -> None:
        async def work(conn: Connection) -> None:
            await conn.execute(statement)

        await self.db.engine(work)


@pytest.fixture
async def world(dsn: str, db: Database) -> World:
    master = parse_master_keys(new_master_key())
    made = World(dsn, db, master, master.wrap(JUNE, new_data_key()))

    async def fill(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
            "VALUES ($1, 'x', 'UTC', 'BY', 'en', $2)",
            JUNE,
            made.wrapped,
        )
        await conn.execute("INSERT INTO integrations (tenant_id, integration_type) VALUES ($1, $2)", JUNE, CRM)

    await db.engine(fill)
    await made.tokens().put("oauth", FreshToken(Secret("refresh-1"), 60.0))
    return made


async def test_a_token_is_sealed_for_its_place_and_seen_by_nobody_else(world: World) -> None:
    row = await world.row()
    sealed = str(row["sealed"])
    assert "refresh-1" not in repr(row)
    place = {"table": "integration_tokens", "column": "sealed"}
    assert world.sealer.open(sealed, **place, row="crm:second/oauth").reveal() == "refresh-1"
    for other in ({**place, "row": "crm:second/other"}, {**place, "row": "crm/oauth"}):
        with pytest.raises(Exception, match="changed, or sealed for another place"):
            world.sealer.open(sealed, **other)
    token = await world.tokens().current("oauth")
    assert token is not None
    assert token.expires_at is not None
    assert "refresh" not in repr(token)
    assert await world.tokens().current("nothing") is None

    async def steal(conn: Connection) -> None:
        await conn.fetch("SELECT sealed FROM integration_tokens")

    with pytest.raises(Exception, match="permission denied"):
        await world.db.tenant(JUNE, steal)


async def test_a_refresh_is_no_change_of_configuration(world: World) -> None:
    async def version(conn: Connection) -> int:
        return int(await conn.fetchval("SELECT version FROM tenant_versions"))

    before = await world.db.engine(version)
    await world.tokens().refresh("oauth", Provider().exchange)
    assert await world.db.engine(version) == before
    await world.run("DELETE FROM integrations")
    assert await world.row() == {}, "and a removed integration leaves no token"


async def test_two_instances_with_many_callers_spend_a_refresh_token_once(world: World) -> None:
    provider = Provider(delay_s=0.3)
    found: list[Token] = []

    async def call(tokens: IntegrationTokens, stale: Token) -> None:
        found.append(await tokens.refresh("oauth", provider.exchange, stale=stale))

    async with open_database(as_login(world.dsn), size=2, engine_size=3) as second:
        ours, theirs = world.tokens(), world.tokens(second)
        stale = await ours.current("oauth")
        assert stale is not None
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(call, (ours, theirs)[number % 2], stale)
            # However slow the provider is, no connection is held for it.
            await trio.sleep(0.1)
            with trio.fail_after(1):
                await world.db.ping()
                await second.ping()
        late = await theirs.refresh("oauth", provider.exchange, stale=stale)
    assert provider.spent == ["refresh-1"]
    assert {(token.value.reveal(), token.version) for token in [*found, late]} == {("refresh-2", 2)}


async def test_the_one_before_is_stored_until_the_new_one_has_worked(world: World) -> None:
    tokens, provider = world.tokens(), Provider()
    fresh = await tokens.refresh("oauth", provider.exchange)
    assert (await world.row())["previous_sealed"] != ""
    await tokens.worked("oauth", Token(Secret("x"), 1))
    assert (await world.row())["previous_sealed"] != ""
    await tokens.worked("oauth", fresh)
    assert (await world.row())["previous_sealed"] == ""


async def test_a_provider_that_does_not_take_the_new_one_gets_the_one_before(world: World) -> None:
    tokens, provider = world.tokens(), Provider()
    await tokens.refresh("oauth", provider.exchange)
    provider.valid = "refresh-1"  # it has rolled back
    assert (await tokens.refresh("oauth", provider.exchange)).value.reveal() == "refresh-2"
    assert provider.spent == ["refresh-1", "refresh-2", "refresh-1"]


async def test_a_refused_token_needs_a_person_and_holds_up_nobody(world: World) -> None:
    tokens, provider = world.tokens(), Provider(valid="another")
    for _ in range(2):
        with pytest.raises(BadCredentials):
            await tokens.refresh("oauth", provider.exchange)
    assert (await world.row())["exchange_by"] == ""
    await tokens.put("oauth", FreshToken(Secret("refresh-9")))
    provider.valid = "refresh-9"
    assert (await tokens.refresh("oauth", provider.exchange)).value.reveal() == "refresh-10"


async def test_an_answer_under_way_is_stored_though_the_caller_was_cancelled(world: World) -> None:
    provider = Provider(delay_s=0.4)
    with trio.move_on_after(0.1) as scope:
        await world.tokens().refresh("oauth", provider.exchange)
    assert provider.spent == ["refresh-1"]
    current = await world.tokens().current("oauth")
    assert current is not None
    assert current.value.reveal() == provider.valid == "refresh-2"
    assert (await world.row())["exchange_by"] == ""
    assert scope.cancel_called


async def test_a_lost_answer_leaves_the_old_one_for_the_next_try(world: World) -> None:
    provider = Provider(lose=True)
    with pytest.raises(Unavailable):
        await world.tokens().refresh("oauth", provider.exchange)
    current = await world.tokens().current("oauth")
    assert current is not None
    assert current.value.reveal() == "refresh-1"
    provider.valid = "refresh-1"  # a grace that providers with tokens for one use give
    assert (await world.tokens().refresh("oauth", provider.exchange)).value.reveal() == "refresh-2"


async def test_a_login_during_an_exchange_wins(world: World) -> None:
    provider = Provider(delay_s=0.4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.tokens().refresh, "oauth", provider.exchange)
        await trio.sleep(0.1)
        await world.tokens().put("oauth", FreshToken(Secret("login-1")))
    current = await world.tokens().current("oauth")
    assert current is not None
    assert current.value.reveal() == "login-1"


async def test_what_could_not_be_stored_is_stored_by_the_next_who_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors.integration_tokens, "STORE_S", 0.3)
    tokens, provider = world.tokens(), Provider()
    broken = True
    engine = world.db.engine

    async def away(work: object, *args: object) -> object:
        if broken and getattr(work, "__name__", "") in ("finish_exchange", "abandon_exchange"):
            raise Unavailable("away", certain=False)
        return await engine(work, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.db, "engine", away)
    with pytest.raises(Unavailable):
        await tokens.refresh("oauth", provider.exchange)
    broken = False
    current = await tokens.current("oauth")
    assert current is not None
    assert current.value.reveal() == "refresh-2"
    assert provider.spent == ["refresh-1"]


CRASH = """
    import sys, trio
    from actors.integration_tokens import IntegrationTokens
    from gateway.domain.ids import IntegrationKey, TenantId
    from gateway.store.postgres.pool import open_database
    from gateway.store.secrets.seal import parse_master_keys

    async def exchange(token):
        print("asked", flush=True)
        await trio.sleep_forever()

    async def main():
        dsn, key, wrapped = sys.stdin.read().split("\\n---\\n")
        sealer = parse_master_keys(key).sealer(TenantId("0367"), wrapped)
        async with open_database(dsn) as db:
            tokens = IntegrationTokens(db, lambda tenant: sealer, TenantId("0367"), IntegrationKey("crm:second"), {})
            await tokens.refresh("oauth", exchange)

    trio.run(main)
"""


async def test_killed_between_the_exchange_and_the_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another instance waits for the lease, no longer, and goes on with the token that is stored."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", textwrap.dedent(CRASH)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    key = world.master.current.line()
    await process.stdin.send_all(f"{as_login(world.dsn)}\n---\n{key}\n---\n{world.wrapped}".encode())
    await process.stdin.aclose()
    with trio.fail_after(30):
        assert (await process.stdout.receive_some(100)).startswith(b"asked")
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await process.stdout.aclose()
    assert (await world.row())["exchange_by"] != ""
    monkeypatch.setattr(actors.integration_tokens, "WAIT_S", 0.3)
    provider = Provider()
    with pytest.raises(Unavailable, match="elsewhere"):
        await world.tokens().refresh("oauth", provider.exchange)
    await world.run("UPDATE integration_tokens SET exchange_until = now() - interval '1 second'")
    assert (await world.tokens().refresh("oauth", provider.exchange)).value.reveal() == "refresh-2"


async def test_a_call_with_a_token_refreshes_early_or_once_it_is_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider, refused, calls = Provider(), {"refresh-2"}, list[str]()

    async def call(token: Token) -> str:
        calls.append(token.value.reveal())
        if calls[-1] in refused:
            raise BadCredentials("401")
        return "done"

    tokens = world.tokens()
    assert await with_token(tokens, "oauth", provider.exchange, call) == "done"
    assert calls == ["refresh-2", "refresh-3"], "its end is near; and then it is refused"
    assert (await world.row())["previous_sealed"] == ""
    await with_token(tokens, "oauth", provider.exchange, call)
    assert len(provider.spent) == 2
    refused.add("refresh-4")
    refused.add("refresh-3")
    with pytest.raises(BadCredentials):
        await with_token(tokens, "oauth", provider.exchange, call)
    for missing in (None, tokens):
        with pytest.raises(BadCredentials):
            await with_token(missing, "nothing", provider.exchange, call)
    assert "refresh-" not in caplog.text
