"""`GET /api/v1/bot-config`: all that a bot needs to know of a company, by a key of scope `bot`, from memory.

    key -> tenant -> the answer in memory, if it is of the tenant's present version -> 304, or the body
                     otherwise built, once for all who wait

A change of anything that it shows raises the tenant's version; whether an integration works is looked up at each reading.
Memory is bounded by bytes. Read `gateway/web/content/bot_config.py` for what it holds.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio
from cachetools import LRUCache

from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.api_keys import ApiKey
from gateway.telemetry import COUNTERS, bound
from gateway.web.content.bot_config import Answer, Content, Core, build_core, finish
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Address, Request, Response, problem

log = logging.getLogger(__name__)

SCOPE = "bot"
MEMORY = 64 << 20
"""Bytes of answers, about; what has not been read for longest goes first."""
PATH = "/api/v1/bot-config"


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


def key_of(request: Request) -> str:
    """The key of a request's headers, `Authorization: Bearer` or `X-API-Key`; empty where there is none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()


def bot_config_address(
    configs: BotConfigs,
    key: Callable[[str], Awaitable[ApiKey | None]],
    guesses: Guesses,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Address:
    """The address. `key` finds a key that is in force."""

    async def handler(request: Request) -> Response:
        given = key_of(request)
        if (slowed := guesses.refusal(request, given)) is not None:
            return slowed
        found = await key(given) if given else None
        if found is None:
            refused = problem(401, "AUTH_FAILED", "An API key of scope bot is needed, in the header Authorization or X-API-Key.",
                              headers=(("WWW-Authenticate", "Bearer"),))  # fmt: skip
            return await guesses.wrong(request, given, refused)
        guesses.right(given)
        if SCOPE not in found.scopes:
            return problem(403, "FORBIDDEN", f"The key lacks the scope {SCOPE}.", reason="scope")
        with bound(tenant=found.tenant):
            answer = await configs.get(found.tenant)
        if answer is None:
            return problem(404, "NOT_FOUND", "There is no such enterprise.")
        COUNTERS["bot_configs"] += 1
        tag = f'W/"{answer.etag}"' if answer.late else f'"{answer.etag}"'
        headers = (("ETag", tag), ("Vary", "Authorization, X-API-Key"))
        if _has(request.headers.get("if-none-match", ""), answer.etag):
            return Response(status=304, headers=headers)
        return Response(body=answer.body(now()), headers=headers)

    return Address(
        method="GET", path=PATH, handler=handler, summary="All that a bot needs of a company: prompt, channels, CRM, catalog",
        answers={
            200: "The configuration; `ETag` is that of all but the time of day", 304: "`If-None-Match` names what is in force",
            401: "Without a valid key, or it was revoked", 403: "The key lacks the scope `bot`", 404: "The enterprise was deleted",
            503: "The configuration has not been read yet; try again",
        },
    )  # fmt: skip


def _has(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return etag in tags or tags == ["*"]
