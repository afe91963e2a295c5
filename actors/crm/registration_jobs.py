"""Keeps modules in outside systems as they are wanted: repeats what they could not be told, and compares maps slowly.

Two loops. What waits is told again after half a minute, then more and more slowly: at last every quarter of an hour, and once
a day where the other side has refused it and nothing was changed since. What is registered is compared every
quarter of an hour, one after another with jitter, so that many tenants are no burst. Only the instance that owns a tenant
does so: others would ask the same again, and could tell an older map behind a newer one. Runs under supervision and decides
nothing: read `actors/crm/registration.py` for every deed.
"""

import logging
import random
from collections.abc import Callable

import trio

from actors.crm.registration import REFUSED, REFUSED_REST_S, Registrations, registered_as
from actors.runtime.directory import Slot
from adapters.registry import Linked
from gateway.domain.errors import GatewayError
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import crm_registrations as store
from gateway.telemetry import bound

log = logging.getLogger(__name__)

LOOK_S = 10.0
REPEAT_S, REPEAT_CAP_S = 30.0, 900.0
COMPARE_S = 900.0
STATUS_LIVES_S = 600.0
"""A status that could not be told for so long is no longer worth telling."""
AT_ONCE = 4


class RegistrationJobs:
    """Runs until cancelled."""

    def __init__(self, modules: Registrations, epoch_of: Callable[[TenantId], int | None] = lambda tenant: 0) -> None:
        self._modules = modules
        self._epoch_of = epoch_of
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._due: dict[tuple[TenantId, IntegrationKey], tuple[float, float, int]] = {}
        """When to tell again, the pause after that, and the version that is to be told: a change begins anew."""
        self._statuses_due = 0.0

    async def run(self, slot: Slot) -> None:
        """Both loops, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, slot)
            nursery.start_soon(self._compare)

    async def _repeat(self, slot: Slot) -> None:
        while True:
            try:
                await self._repeat_once()
                slot.report(State.ONLINE)
            except GatewayError as error:
                slot.report(State.DEGRADED, "database_away", error.detail)
            with trio.move_on_after(LOOK_S * random.uniform(0.8, 1.2)):
                await self._modules.waiting.wait()
                self._modules.waiting = trio.Event()

    async def _repeat_once(self) -> None:
        waiting: dict[tuple[TenantId, IntegrationKey], tuple[int, str]] = {}
        for number, kind, version, problem in await self._modules.db.engine(store.select_pending_modules):
            if self._is_ours(number):
                waiting[number, kind] = version, problem
        now = trio.current_time()
        self._due = {key: due for key, due in self._due.items() if key in waiting and due[2] == waiting[key][0]}
        for key in waiting.keys() - self._due.keys():
            self._due[key] = now + REPEAT_S * random.uniform(0.8, 1.2), REPEAT_S, waiting[key][0]
        async with trio.open_nursery() as nursery:
            for key, (due, pause, version) in list(self._due.items()):
                if due <= now:
                    cap_s = REFUSED_REST_S if waiting[key][1] in REFUSED else REPEAT_CAP_S
                    pause = min(cap_s, pause * 2)
                    self._due[key] = now + pause * random.uniform(0.8, 1.2), pause, version
                    nursery.start_soon(self._one, key, False)
            if now < self._statuses_due:
                return
            self._statuses_due = now + REPEAT_S
            for number, kind, user, status in await self._modules.db.engine(
                store.select_untold_statuses, STATUS_LIVES_S
            ):
                if self._is_ours(number) and (linked := self._linked(number, kind)) is not None:
                    nursery.start_soon(self._status, number, linked, user, status)

    async def _compare(self) -> None:
        while True:
            keys: list[tuple[TenantId, IntegrationKey]] = []
            try:
                keys = [k for k in await self._modules.db.engine(store.select_active_modules) if self._is_ours(k[0])]
            except GatewayError as error:
                log.warning("modules could not be listed", extra={"reason": str(error)})
            random.shuffle(keys)
            pause = COMPARE_S / (len(keys) + 1)
            async with trio.open_nursery() as nursery:
                for key in keys:
                    await trio.sleep(pause * random.uniform(0.8, 1.2))
                    nursery.start_soon(self._one, key, True)
            await trio.sleep(pause * random.uniform(0.8, 1.2))

    async def _one(self, key: tuple[TenantId, IntegrationKey], compare: bool) -> None:
        number, kind = key
        if (linked := self._linked(number, kind, only_enabled=compare)) is None:
            return
        async with self._limiter:
            with bound(tenant=number, integration=kind):
                try:
                    if compare:
                        await self._modules.sync(number, linked, "")
                    else:
                        await self._modules.repeat(number, linked)
                except GatewayError as error:
                    log.warning("a module could not be kept alike", extra={"reason": str(error)})

    async def _status(self, number: TenantId, linked: Linked, user: str, status: str) -> None:
        async with self._limiter:
            with bound(tenant=number, integration=linked.key):
                try:
                    await self._modules.send_status(number, linked, user, status)
                except GatewayError as error:
                    log.warning("a status could not be told", extra={"reason": str(error)})

    def _is_ours(self, number: TenantId) -> bool:
        return self._epoch_of(number) is not None

    def _linked(self, number: TenantId, key: IntegrationKey, *, only_enabled: bool = False) -> Linked | None:
        tenant = self._modules.cache.tenant(number)
        link = tenant.integrations.get(key) if tenant is not None else None
        if link is None or (only_enabled and not link.enabled):
            return None
        return registered_as(key)
