"""The API over a world of two companies, asked as a client asks it but for the socket."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.domain.api_keys import SCOPES, new_key
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.limiter import Rate
from gateway.web.callers.api_keys import ApiKeys
from gateway.web.callers.callers import Callers
from gateway.web.callers.key_changes import create_key
from gateway.web.callers.limits import CallLimits
from gateway.web.callers.tokens import Tokens
from gateway.web.content.bot_config import select_bot_content
from gateway.web.content.bot_configs import BotConfigs
from gateway.web.http.routes import Request, Response, Table, answer
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.idempotency import Idempotency
from gateway.web.rest.table import api_addresses
from tests.web.conftest import db, dsn, postgres, world
from tests.web.world import JUNE, World

__all__ = ["api", "db", "dsn", "postgres", "world"]


MANY = 1_000_000


class Clock:
    """A clock that is set. Seconds since 1970, and of the process."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answered:
    """An answer, read."""

    status: int
    json: Any
    headers: Mapping[str, str]
    content_type: str
    body: bytes


@dataclass
class Api:
    """The addresses. `key` is used where a request brings no credential of its own."""

    world: World
    deps: RestDeps
    clock: Clock
    key: str = ""
    rung: list[tuple[TenantId, IntegrationKey]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = Table(api_addresses(self.deps))

    def changed(self, **changes: Any) -> "Api":
        """Another instance with other dependencies."""
        return Api(self.world, replace(self.deps, **changes), self.clock, self.key)

    async def new_key(self, *scopes: str, of: TenantId = JUNE) -> str:
        """A fresh key."""
        key = new_key()
        await self.world.db.engine(create_key, of, key, "test", scopes or SCOPES, None, "cli")
        return key.reveal()

    async def raw(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> Response:
        """The answer to a request. What it starts is not read."""
        found = self.table.find(method, f"/api/v1{path}")
        if isinstance(found, Response):
            return found
        address, params = found
        request = Request(
            method=method,
            path=f"/api/v1{path}",
            params=params,
            query=query,
            headers=headers,
            body=body,
            peer="203.0.113.7",
        )
        return await answer(address, request)

    async def ask(
        self, method: str, path: str, json_: Any = None, *, query: Mapping[str, Any] | None = None, **headers: str
    ) -> Answered:
        """As `raw`, with the body as JSON; header names have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if "cookie" not in sent and "x-api-key" not in sent and "authorization" not in sent and self.key:
            sent["x-api-key"] = self.key
        body = b"" if json_ is None else json_ if isinstance(json_, bytes) else json.dumps(json_).encode()
        asked = {name: str(value) for name, value in (query or {}).items()}
        got = await self.raw(method, path, asked, body, sent)
        read = json.loads(got.body) if got.body and "json" in got.content_type else None
        return Answered(got.status, read, dict(got.headers), got.content_type, got.body)


def make_api(world: World) -> Api:
    """Over a world; without rates in the way."""
    clock = Clock()
    rung: list[tuple[TenantId, IntegrationKey]] = []
    keys = ApiKeys(world.db)
    callers = Callers(
        world.db,
        keys,
        Tokens(world.cache.master, clock),
        known_tenant=world.cache.tenant,
        limits=CallLimits(Rate(MANY, 1.0), Rate(MANY, 1.0), clock),
    )

    async def none_broken(tenant: Tenant) -> frozenset[IntegrationKey]:
        return frozenset()

    bots = BotConfigs(
        tenant=world.cache.tenant, content=lambda number: world.db.tenant(number, select_bot_content, number), broken=none_broken,
    )  # fmt: skip
    assert world.deps.conversing is not None
    deps = RestDeps(
        db=world.db, callers=callers, master=world.cache.master, tenant=world.cache.tenant, refresh=world.deps.modules.refresh,
        idempotency=Idempotency(world.db, world.cache.sealer), slots=world.deps.slots, probe=world.deps.probe,
        place=world.deps.place, modules=world.deps.modules, feed=world.deps.feed, bot_configs=bots,
        public_url="https://gateway.example",
        conversing=replace(world.deps.conversing, wake=lambda number, key: rung.append((number, key))),
        ring=lambda number, key: rung.append((number, key)),
    )  # fmt: skip
    return Api(world, deps, clock, rung=rung)


@pytest.fixture
async def api(world: World) -> Api:
    """The API of a company's key that may do everything."""
    made = make_api(world)
    made.key = await made.new_key()
    return made
