"""`GET /api/v1/bot-config`: who gets it, how it is told that nothing has changed, and what is in memory."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio

from gateway.domain.catalog import Item
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.profile import Profile
from gateway.store.api_keys import ApiKey
from gateway.web.api.bot_config import PATH, BotConfigs, bot_config_address
from gateway.web.content.bot_config import Content
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Request, Response, Table, answer
from tests.web.content.test_bot_config import catalog, tenant

KEY = "gw_live_key"


def api_key(of: TenantId, *scopes: str) -> ApiKey:
    return ApiKey(tenant=of, key_id="k", name="bot", hint=KEY, scopes=scopes)


@dataclass
class Here:
    """A gateway in memory that counts what is read."""

    tenants: dict[str, Tenant] = field(default_factory=lambda: {"0367": replace(tenant({"telegram": True}), version=1)})
    keys: dict[str, ApiKey] = field(default_factory=lambda: {KEY: api_key(TenantId("0367"), "bot")})
    content: Content = field(default_factory=lambda: Content(Profile(), None, "[]"))
    broken: frozenset[IntegrationKey] = frozenset()
    reads: int = 0
    away: bool = False
    memory: int = 1 << 20
    gate: trio.Event | None = None

    def __post_init__(self) -> None:
        self.configs = BotConfigs(
            tenant=lambda number: self.tenants.get(number),
            content=self._content,
            broken=self._broken,
            memory=self.memory,
        )
        self.table = Table([bot_config_address(self.configs, self._key, Guesses())])

    async def _content(self, number: TenantId) -> Content:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("gone")
        return self.content

    async def _broken(self, of: Tenant) -> frozenset[IntegrationKey]:
        await trio.lowlevel.checkpoint()
        return self.broken

    async def _key(self, text: str) -> ApiKey | None:
        await trio.lowlevel.checkpoint()
        return self.keys.get(text)

    async def get(self, headers: dict[str, str] | None = None, **query: str) -> Response:
        found = self.table.find("GET", PATH)
        assert not isinstance(found, Response)
        given = {"authorization": f"Bearer {KEY}"} if headers is None else headers
        return await answer(found[0], Request(method="GET", path=PATH, headers=given, query=query, peer="192.0.2.1"))

    def change(self, **fields: Any) -> None:
        """Something that it shows."""
        of = self.tenants["0367"]
        self.content = replace(self.content, **fields)
        self.tenants["0367"] = replace(of, version=of.version + 1)


def etag(response: Response) -> str:
    return dict(response.headers)["ETag"]


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}, {"x-api-key": KEY}], ids=str
)
async def test_a_key_in_a_header_opens_it(headers: dict[str, str]) -> None:
    here = Here()
    response = await here.get(headers)
    assert (response.status, json.loads(response.body)["business_id"]) == (200, "0367")


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer "}, {"authorization": f"Basic {KEY}"}, {"authorization": "Bearer gw_live_other"}],
    ids=str,
)
async def test_nothing_else_does(headers: dict[str, str]) -> None:
    response = await Here().get(headers, key=KEY, api_key=KEY, token=KEY)
    assert (response.status, json.loads(response.body)["code"]) == (401, "AUTH_FAILED")
    assert KEY.encode() not in response.body


async def test_a_key_needs_the_scope_and_a_company() -> None:
    here = Here()
    here.keys[KEY] = api_key(TenantId("0367"), "call", "read")
    assert (await here.get()).status == 403
    here.keys[KEY] = api_key(TenantId("0999"), "bot")
    assert (await here.get()).status == 404
    del here.keys[KEY]
    assert (await here.get()).status == 401, "revoked"
    assert here.reads == 0


async def test_what_has_not_changed_is_not_sent_again() -> None:
    here = Here()
    first = await here.get()
    tag = etag(first)
    assert tag == f'"{json.loads(first.body)["version"]}"'
    for asked in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await here.get({"x-api-key": KEY, "if-none-match": asked})
        assert (again.status, again.body, etag(again)) == (304, b"", tag)
    assert (await here.get({"x-api-key": KEY, "if-none-match": '"x"'})).status == 200
    assert here.reads == 1, "from memory"
    here.change(profile=Profile(business_type="retail"))
    changed = await here.get({"x-api-key": KEY, "if-none-match": tag})
    assert (changed.status, json.loads(changed.body)["business_type"], here.reads) == (200, "retail", 2)


async def test_whether_an_integration_works_is_seen_at_once() -> None:
    here = Here()
    tag = etag(await here.get())
    here.broken = frozenset([IntegrationKey("telegram")])
    without = await here.get({"x-api-key": KEY, "if-none-match": tag})
    assert (without.status, json.loads(without.body)["channels"]) == (200, [])
    here.broken = frozenset()
    assert (await here.get({"x-api-key": KEY, "if-none-match": tag})).status == 304
    assert here.reads == 1


async def test_many_who_wait_make_one_reading() -> None:
    here = Here(gate=trio.Event())
    assert here.gate is not None
    done: list[int] = []

    async def one() -> None:
        done.append((await here.get()).status)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        here.gate.set()
    assert (done, here.reads) == ([200] * 50, 1)
    assert here.configs.building == {}


async def test_without_the_database_the_copy_stays() -> None:
    here = Here(away=True)
    refused = await here.get()
    assert (refused.status, json.loads(refused.body)["retryable"]) == (503, True)
    here.away = False
    tag = etag(await here.get())
    here.away = True
    here.change(profile=Profile(business_type="retail"))
    assert etag(await here.get()) == tag
    here.away = False
    assert etag(await here.get()) != tag


async def test_memory_is_bounded() -> None:
    large = catalog(*(Item(id=f"i{n}", name="x" * 100, price=1, currency="BYN") for n in range(40)))
    here = Here(memory=4 * len(large), content=Content(Profile(), None, large))
    for n in range(5):
        of = replace(here.tenants["0367"], number=TenantId(str(n)))
        here.tenants[str(n)] = of
        here.keys[KEY] = api_key(TenantId(str(n)), "bot")
        assert (await here.get()).status == 200
    assert len(here.configs.held) == 1
    too_large = Here(memory=100, content=Content(Profile(), None, large))
    assert (await too_large.get()).status == 200, "answered all the same"
    assert len(too_large.configs.held) == 0
