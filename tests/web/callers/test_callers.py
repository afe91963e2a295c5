"""Who calls: keys, tokens and sessions over a real database; what each may, and how soon it is over."""

import json
from dataclasses import replace
from typing import Any

import pytest
import trio

from actors.runtime.directory import Slot
from gateway.domain.api_keys import new_key
from gateway.domain.ids import TenantId
from gateway.domain.limiter import Rate
from gateway.domain.secret import Secret
from gateway.store.api_keys import select_api_keys
from gateway.store.postgres.pool import Connection
from gateway.web.callers import api_keys
from gateway.web.callers.api_keys import FRESH_S, NOTE_EVERY_S, ApiKeys
from gateway.web.callers.callers import Caller, Callers
from gateway.web.callers.key_changes import create_key, revoke_keys
from gateway.web.callers.limits import CallLimits
from gateway.web.callers.tokens import Tokens
from gateway.web.http.routes import Request, Response
from tests.web.world import CSRF, JUNE, World


class Clock:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Here:
    """Callers over a world, with clocks that are set."""

    def __init__(self, world: World) -> None:
        self.world, self.clock = world, Clock()
        self.keys = ApiKeys(world.db, self.clock)
        self.tokens = Tokens(world.cache.master, self.clock)
        self.callers = Callers(
            world.db, self.keys, self.tokens, known_tenant=world.cache.tenant, limits=CallLimits(clock=self.clock)
        )

    async def key(self, *scopes: str, of: TenantId = JUNE) -> str:
        key = new_key()
        await self.world.db.engine(create_key, of, key, "n", scopes, None, "cli")
        return key.reveal()

    async def ask(self, *scopes: str, method: str = "GET", query: Any = None, **headers: Any) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(method=method, path="/api/v1/x", headers=sent, peer="203.0.113.7", query=query or {})
        return await self.callers.of(request, scopes)


@pytest.fixture
def here(world: World) -> Here:
    return Here(world)


def status(answer: Any) -> int:
    return answer.status if isinstance(answer, Response) else 200


async def test_a_key_by_either_header_and_never_by_the_query(here: Here) -> None:
    text = await here.key("read", "call")
    for headers in ({"authorization": f"Bearer {text}"}, {"authorization": f"bearer  {text} "}, {"x_api_key": text}):
        caller = await here.ask("read", **headers)
        assert isinstance(caller, Caller)
        assert (caller.kind, caller.tenant, caller.scopes) == ("key", JUNE, {"read", "call"})
        assert caller.actor == text[:16]
    for name in ("key", "api_key", "access_token", "x-api-key"):
        assert status(await here.ask("read", query={name: text})) == 401
    nobody = await here.ask("read")
    assert dict(nobody.headers)["WWW-Authenticate"] == "Bearer"
    assert json.loads(nobody.body)["code"] == "AUTH_FAILED"


async def test_a_scope_that_is_missing_is_named(here: Here) -> None:
    text = await here.key("read")
    refused = await here.ask("write", x_api_key=text)
    assert refused.status == 403
    assert json.loads(refused.body)["scope"] == ["write"]
    assert status(await here.ask("write", "read", x_api_key=text)) == 200


async def test_a_token_is_worth_what_its_key_is(here: Here) -> None:
    text = await here.key("read")
    key = await here.keys.by_text(text)
    assert key is not None
    token = here.tokens.new(key)
    caller = await here.ask("read", authorization=f"Bearer {token}")
    assert (caller.kind, caller.tenant, caller.identity) == ("token", JUNE, key.key_id)
    assert status(await here.ask("write", x_api_key=token)) == 403
    # A token of more than its key has by now has no more than that.
    grown = here.tokens.new(replace(key, scopes=("read", "write")))
    assert status(await here.ask("write", x_api_key=grown)) == 403
    here.clock.now += 901
    late = await here.ask("read", x_api_key=token)
    assert late.status == 401
    assert "expired" in json.loads(late.body)["detail"]


async def test_revoking_a_key_ends_it_and_its_tokens_within_a_second_on_another_instance(here: Here) -> None:
    text = await here.key("read")
    other = Here(here.world)
    key = await other.keys.by_text(text)
    assert key is not None
    token = other.tokens.new(key)
    for credential in (text, token):
        assert status(await other.ask("read", x_api_key=credential)) == 200
    await here.world.db.engine(revoke_keys, JUNE, text[:16], "cli")
    other.clock.now += FRESH_S
    for credential in (text, token):
        assert status(await other.ask("read", x_api_key=credential)) == 401


async def test_a_fresh_key_works_at_once_though_it_was_tried_before(here: Here) -> None:
    key = new_key()
    assert await here.keys.by_text(key.reveal()) is None
    await here.world.db.engine(create_key, JUNE, key, "n", ["read"], None, "cli")
    assert await here.keys.by_text(key.reveal()) is not None


async def test_wrong_keys_are_refused_without_a_word_of_them(here: Here) -> None:
    for text in ("gw_live_" + "x" * 58, new_key().reveal(), "a.b.c", "ü", "x" * 9000):
        refused = await here.ask("read", x_api_key=text)
        assert refused.status == 401
        assert text.encode() not in refused.body


async def test_a_session_sees_its_company_and_needs_the_csrf_token_to_change(here: Here) -> None:
    cookie = f"session={await here.world.session(JUNE)}"
    caller = await here.ask("read", cookie=cookie)
    assert (caller.kind, caller.tenant, caller.actor) == ("session", JUNE, f"admin@{JUNE}.example")
    assert dict(caller.headers)["X-CSRF-Token"] == CSRF
    assert status(await here.ask("write", method="POST", cookie=cookie)) == 403
    assert status(await here.ask("write", method="POST", cookie=cookie, x_csrf_token="c" * 42 + "d")) == 403
    foreign = {"cookie": cookie, "x_csrf_token": CSRF, "sec_fetch_site": "cross-site"}
    assert status(await here.ask("write", method="POST", **foreign)) == 403
    changed = await here.ask("write", method="POST", cookie=cookie, x_csrf_token=CSRF)
    assert isinstance(changed, Caller)
    assert "X-CSRF-Token" not in dict(changed.headers)
    assert status(await here.ask("read", cookie="session=0367." + "x" * 43)) == 401


async def test_nobody_names_another_company(here: Here) -> None:
    text, cookie = await here.key("read"), f"session={await here.world.session(JUNE)}"
    for headers in ({"x_api_key": text}, {"cookie": cookie}):
        assert status(await here.ask("read", query={"tenant": "0367"}, **headers)) == 200
        assert status(await here.ask("read", query={"tenant": "0368"}, **headers)) == 403


async def test_an_operator_who_acts_as_nobody_is_refused(here: Here) -> None:
    cookie = f"session={await here.world.session(None)}"
    for query in ({}, {"tenant": "0367"}):
        assert status(await here.ask("read", query=query, cookie=cookie)) == 403


async def test_rates_of_a_key_and_of_an_address(here: Here) -> None:
    here.callers = replace(here.callers, limits=CallLimits(Rate(2, 1.0), Rate(4, 1.0), here.clock))
    one, two = await here.key("read"), await here.key("read")
    first = await here.ask("read", x_api_key=one)
    assert dict(first.headers)["RateLimit-Remaining"] == "1"
    assert [status(await here.ask("read", x_api_key=one)) for _ in range(2)] == [200, 429]
    assert status(await here.ask("read", x_api_key=two)) == 200
    flooded = await here.ask("read", x_api_key=two)
    assert flooded.status == 429
    said, headers = json.loads(flooded.body), dict(flooded.headers)
    assert (said["code"], said["retryable"], headers["Retry-After"]) == ("RATE_LIMITED", True, "1")
    assert {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"} <= headers.keys()
    here.clock.now += 1
    assert status(await here.ask("read", x_api_key=two)) == 200


async def _used(conn: Connection) -> list[Any]:
    return [line.last_used_at for line in await select_api_keys(conn, JUNE)]


async def test_uses_are_written_by_the_actor_once_a_minute(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "GATHER_S", 0.01)
    text = await here.key("read")
    for _ in range(5):
        await here.ask("read", x_api_key=text)
    assert await here.world.db.engine(_used) == [None], "no request writes"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.keys.run, Slot("system/api-keys"))
        while (first := (await here.world.db.engine(_used))[0]) is None:
            await trio.sleep(0.01)
        await here.ask("read", x_api_key=text)
        assert here.keys._uses == {}
        here.clock.now += NOTE_EVERY_S
        await here.ask("read", x_api_key=text)
        while (await here.world.db.engine(_used))[0] == first:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_a_key_that_is_no_text_of_ours_never_reaches_the_database(here: Here) -> None:
    before = here.world.db.queries
    assert await here.keys.by_text(Secret("nonsense").reveal()) is None
    assert here.world.db.queries == before
