"""Requests that only the instance that owns a tenant can serve, accepted by any instance.

    posts taken here     ring the owner                      a caller waits       the owner queries the CRM and redirects
    a call changed       ring pages that are open elsewhere  a page shows actors  the owner reports their state
    an order admitted    the owner places it                 a restart            the owner restarts

Decides nothing itself. Read `actors/runtime/peers.py` for the wire and `actors/runtime/ownership.py` for who owns what.
"""

from collections.abc import Callable, Sequence
from typing import Any

from cachetools import TTLCache

from actors.calls.smart_redirect import default_extension, send_to_responsible
from actors.connections import SlotAt
from actors.runtime.directory import Slot, slot_of, view_of
from actors.runtime.ownership import Ownership
from actors.runtime.peers import Peers
from actors.services import Services
from gateway.domain.configuration import Tenant
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId

FAR_SLOTS = 300
"""How many of another instance's slots are shown, those in trouble first."""


class CrossInstance:
    """One for the process. `ring` notifies a tenant's actor here that posts wait."""

    def __init__(
        self, ownership: Ownership, peers: Peers, services: Services, ring: Callable[[TenantId], None]
    ) -> None:
        self._ownership = ownership
        self._peers = peers
        self._services = services
        self._ring = ring
        self._elsewhere: TTLCache[TenantId, dict[str, Slot]] = TTLCache(maxsize=10_000, ttl=0.5)
        peers.receive |= {
            "posts": self._posts_hinted, "changed": services.feed.received, "order": self._orders_hinted,
            "shards": lambda _: ownership.nudge(), "restart": self._restarts_hinted, "deliver": self._deliveries_hinted,
        }  # fmt: skip
        peers.answer |= {"responsible": self._responsible_here, "slots": self._slots_here}
        ownership.emit = self._announce_shards

    def ring(self, number: TenantId) -> None:
        """Posts of the tenant wait in the journal: its actor looks, in whichever instance it lives."""
        self._ring(number)
        if not self._owns(number):
            self._peers.mark("posts", number)

    def deliver(self, number: TenantId, key: IntegrationKey) -> None:
        """An integration has something to deliver: its actor looks, in whichever instance it lives."""
        self._services.bells.ring(number, key)
        if not self._owns(number):
            self._peers.mark("deliver", f"{number} {key}")

    async def responsible(self, tenant: Tenant, unique_id: str, phone: str, redirect: bool) -> tuple[str | None, bool]:
        """The internal number of the user responsible for a caller, and whether the call was sent there."""
        if self._owns(tenant.number) or not self._peers.others():
            return await self._send_to_responsible(tenant, unique_id, phone, redirect=redirect)
        for extension, sent in await self._peers.ask("responsible", [tenant.number, unique_id, phone, redirect]):
            return extension, bool(sent)
        return default_extension(tenant), False

    async def slot_at(self, number: TenantId) -> SlotAt:
        """Finds a company's actors by path, wherever they live; those elsewhere as of half a second ago."""
        if self._owns(number) or not self._peers.others():
            return self._services.directory.get
        known = self._elsewhere.get(number)
        if known is None:
            known = self._elsewhere[number] = {slot.path: slot for slot in await self.slots(f"tenant/{number}")}
        return known.get

    async def slots(self, prefix: str) -> list[Slot]:
        """The slots at and below a path, wherever they live; of every instance where none is named. Responses that
        come too late are missing."""
        here = self._services.directory.below(prefix)
        if not self._peers.others() or (prefix and self._is_ours(prefix)):
            return here
        here = [slot for slot in here if not slot.path.startswith("tenant/") or self._is_ours(slot.path)]
        for found in await self._peers.ask("slots", prefix, all_of_them=not prefix):
            for instance, views in found.items():
                here += [slot_of(view, instance, lambda path: self._peers.mark("restart", path)) for view in views]
        return sorted(here, key=lambda slot: slot.path)

    async def _send_to_responsible(
        self, tenant: Tenant, unique_id: str, phone: str, *, redirect: bool
    ) -> tuple[str | None, bool]:
        services = self._services
        return await send_to_responsible(
            services.smart_redirect, services.clients, tenant, unique_id, phone, redirect=redirect
        )

    def _owns(self, tenant: TenantId) -> bool:
        return self._ownership.epoch_of(tenant) is not None

    def _is_ours(self, path: str) -> bool:
        head, _, rest = path.partition("/")
        return head == "tenant" and self._owns(TenantId(rest.partition("/")[0]))

    async def _announce_shards(self) -> None:
        await self._peers.emit("shards", "")

    # Hints and requests of other instances.

    def _posts_hinted(self, numbers: Sequence[str]) -> None:
        for number in numbers:
            self._ring(TenantId(number))

    def _orders_hinted(self, orders: Sequence[str]) -> None:
        for order in orders:
            number, _, order_id = order.partition(" ")
            tenant = self._services.cache.tenant(TenantId(number))
            self._services.dialling.received(TenantId(number), order_id, tenant)

    def _deliveries_hinted(self, texts: Sequence[str]) -> None:
        for text in texts:
            number, _, key = text.partition(" ")
            self._services.bells.ring(TenantId(number), key)

    def _restarts_hinted(self, paths: Sequence[str]) -> None:
        for path in paths:
            slot = self._services.directory.get(path)
            if slot is not None and slot.restart is not None and self._is_ours(path):
                slot.restart()

    async def _responsible_here(self, question: Any) -> Any:
        number, unique_id, phone, redirect = question
        tenant = self._services.cache.tenant(TenantId(number))
        if tenant is None or not self._owns(tenant.number):
            return None
        return await self._send_to_responsible(tenant, unique_id, phone, redirect=redirect)

    async def _slots_here(self, prefix: Any) -> Any:
        if prefix and not self._is_ours(prefix):
            return None
        slots = [slot for slot in self._services.directory.below(prefix) if self._is_ours(slot.path)]
        slots.sort(key=lambda slot: slot.health.state is State.ONLINE)
        return {self._ownership.me: [view_of(slot) for slot in slots[:FAR_SLOTS]]}
