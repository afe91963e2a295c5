"""What bots get, in memory: when it is read anew, and what is held of it."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from gateway.domain.catalog import Item
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.profile import Profile
from gateway.web.content.bot_config import Answer, Content
from gateway.web.content.bot_configs import BotConfigs
from tests.web.content.test_bot_config import catalog, tenant

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


@dataclass
class Here:
    """A gateway in memory that counts what is read."""

    tenants: dict[str, Tenant] = field(default_factory=lambda: {"0367": replace(tenant({"telegram": True}), version=1)})
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

    async def get(self, number: str = "0367") -> Answer:
        found = await self.configs.get(TenantId(number))
        assert found is not None
        return found

    def change(self, **fields: Any) -> None:
        """Something that it shows."""
        of = self.tenants["0367"]
        self.content = replace(self.content, **fields)
        self.tenants["0367"] = replace(of, version=of.version + 1)


async def test_what_has_not_changed_is_not_read_again() -> None:
    here = Here()
    first = await here.get()
    assert (await here.get(), here.reads) == (first, 1), "from memory"
    here.change(profile=Profile(business_type="retail"))
    changed = await here.get()
    assert (json.loads(changed.body(NOW))["business_type"], here.reads) == ("retail", 2)
    assert changed.etag != first.etag


async def test_whether_an_integration_works_is_seen_at_once() -> None:
    here = Here()
    tag = (await here.get()).etag
    here.broken = frozenset([IntegrationKey("telegram")])
    without = await here.get()
    assert json.loads(without.body(NOW))["channels"] == []
    here.broken = frozenset()
    assert ((await here.get()).etag, here.reads) == (tag, 1)


async def test_a_company_that_is_none_has_nothing() -> None:
    here = Here()
    assert await here.configs.get(TenantId("0999")) is None
    assert here.reads == 0


async def test_many_who_wait_make_one_reading() -> None:
    here = Here(gate=trio.Event())
    assert here.gate is not None
    done: list[str] = []

    async def one() -> None:
        done.append((await here.get()).etag)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        here.gate.set()
    assert (len(done), len(set(done)), here.reads) == (50, 1, 1)
    assert here.configs.building == {}


async def test_without_the_database_the_copy_stays() -> None:
    here = Here(away=True)
    with pytest.raises(Unavailable):
        await here.get()
    here.away = False
    tag = (await here.get()).etag
    here.away = True
    here.change(profile=Profile(business_type="retail"))
    assert (await here.get()).etag == tag
    here.away = False
    assert (await here.get()).etag != tag


async def test_memory_is_bounded() -> None:
    large = catalog(*(Item(id=f"i{n}", name="x" * 100, price=1, currency="BYN") for n in range(40)))
    here = Here(memory=4 * len(large), content=Content(Profile(), None, large))
    for n in range(5):
        of = replace(here.tenants["0367"], number=TenantId(str(n)))
        here.tenants[str(n)] = of
        await here.get(str(n))
    assert len(here.configs.held) == 1
    too_large = Here(memory=100, content=Content(Profile(), None, large))
    assert json.loads((await too_large.get()).body(NOW))["catalog"], "answered all the same"
    assert len(too_large.configs.held) == 0
