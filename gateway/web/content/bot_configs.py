"""What bots get of each company, in memory.

    tenant -> the answer in memory, if it is of the tenant's present version
              otherwise built, once for all who wait

A change of anything that it shows raises the tenant's version; whether an integration works is looked up at each reading.
Memory is bounded by bytes. Read `bot_config.py` for what an answer holds, `gateway/web/rest/bot_config.py` for who gets it.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio
from cachetools import LRUCache

from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.web.content.bot_config import Answer, Content, Core, build_core, finish

log = logging.getLogger(__name__)

MEMORY = 64 << 20
"""Bytes of answers, about; what has not been read for longest goes first."""


@dataclass(slots=True)
class _Held:
    """The answer of one tenant as of a version of it, for the integrations that did not work then."""

    version: int
    core: Core
    broken: frozenset[IntegrationKey]
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class BotConfigs:
    """Answers by tenant."""

    tenant: Callable[[TenantId], Tenant | None]
    """From memory; raises Unavailable while the configuration is not loaded."""
    content: Callable[[TenantId], Awaitable[Content]]
    broken: Callable[[Tenant], Awaitable[frozenset[IntegrationKey]]]
    """The integrations that wait for a person."""
    memory: int = MEMORY
    held: "LRUCache[TenantId, _Held]" = field(init=False)
    building: dict[TenantId, trio.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", LRUCache(self.memory, getsizeof=lambda one: 2 * one.core.size))

    async def get(self, number: TenantId) -> Answer | None:
        """What bots get of the tenant now; None where there is none. Raises Unavailable where it has to be built and the
        database is away."""
        tenant = self.tenant(number)
        if tenant is None:
            return None
        held = self.held.get(number)
        if held is None or held.version != tenant.version:
            held = await self._built(tenant)
        broken = await self.broken(tenant)
        if broken != held.broken:
            held.broken, held.answer = broken, finish(held.core, broken)
        return held.answer

    async def _built(self, tenant: Tenant) -> _Held:
        lock = self.building.setdefault(tenant.number, trio.Lock())
        try:
            async with lock:
                held = self.held.get(tenant.number)
                if held is not None and held.version == tenant.version:
                    return held
                try:
                    content = await self.content(tenant.number)
                except Unavailable:
                    if held is None:
                        raise
                    log.warning("the configuration for bots could not be renewed; the copy stays")
                    return held
                core = await trio.to_thread.run_sync(build_core, tenant, content)
                made = _Held(tenant.version, core, frozenset(), finish(core, frozenset()))
                self.held.pop(tenant.number, None)
                if 2 * core.size <= self.memory:
                    self.held[tenant.number] = made
                return made
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self.building.pop(tenant.number, None)
