"""How every connection of a company stands, for all who ask: pages, programs, notices, operators and bots.

    actors by path, and what the store knows -> connections_of -> Connection(status)

It judges nothing itself: that is `gateway/domain/statuses.py`. `WaitingForPerson` answers in memory, for what is asked often.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio
from cachetools import LRUCache

from actors.runtime.directory import Slot
from adapters import registry
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, TenantId, kind_of, titled
from gateway.domain.statuses import Connection, Known, Status, most_urgent, status_of

UPDATES = "/updates"
"""What the path of an integration's stream ends with, behind that of its deliveries."""
SlotAt = Callable[[str], Slot | None]
"""The actor at a path: of a directory, or of a mapping."""


def slot_of_integration(slot_at: SlotAt, number: TenantId, key: IntegrationKey) -> Slot | None:
    """The actor of an integration to show: of its deliveries or of its stream, whichever is in trouble."""
    place = f"tenant/{number}/integration/{key}"
    found = [slot for part in ("", UPDATES) if (slot := slot_at(place + part)) is not None]
    first = most_urgent(slot.health for slot in found)
    return next((slot for slot in found if slot.health is first), None)


def integration_status(slot: Slot | None, known: Known | None) -> Status:
    """How an integration stands; without `known` it is not set up."""
    return status_of(
        slot.health if slot is not None else None,
        known if known is not None else Known(set_up=False),
        datetime.now(UTC),
    )


def pbx_status(slot: Slot | None, *, enabled: bool) -> Status:
    """How a PBX stands."""
    known = Known(enabled=enabled, remembers=False)
    return status_of(slot.health if slot is not None else None, known, datetime.now(UTC))


def connections_of(tenant: Tenant, slot_at: SlotAt, known: Mapping[IntegrationKey, Known]) -> list[Connection]:
    """All connections of a company that are set up, PBXes first."""
    number, found = tenant.number, []
    for pbx in tenant.pbxes:
        status = pbx_status(slot_at(f"tenant/{number}/pbx/{pbx.name}"), enabled=pbx.enabled)
        found.append(
            Connection(tenant=number, name=pbx.name, kind=pbx.kind, is_pbx=True, title=pbx.name, status=status)
        )
    kinds = registry.integrations()
    for key, of in known.items():
        if (adapter := kinds.get(kind_of(key))) is not None:
            status = integration_status(slot_of_integration(slot_at, number, key), of)
            title = of.name or titled(adapter.title, key)
            found.append(
                Connection(tenant=number, name=key, kind=adapter.kind, is_pbx=False, title=title, status=status)
            )
    return found


TRANSCRIPTS = "/transcripts"
"""What the path of the actor that makes texts of a company's calls ends with."""


def own_troubles(number: TenantId, slot_at: SlotAt) -> list[Slot]:
    """Work of a company that is no connection and fails. That the database is away is said elsewhere."""
    slot = slot_at(f"tenant/{number}{TRANSCRIPTS}")
    failing = slot is not None and slot.health.state.troubled and slot.health.code != "database_away"
    return [slot] if slot is not None and failing else []


FRESH_S, CALM_S = 0.5, 15.0
"""How long what is stored of a company counts as current: while an integration waits for a person by it, and otherwise."""
MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Stored:
    until: float
    known: Mapping[IntegrationKey, Known]


@dataclass(frozen=True, kw_only=True)
class WaitingForPerson:
    """Which integrations of a company do not work until a person does something. Live health counts at once; what is stored is read
    again after a while, and where the database is away, the last reading stays."""

    slots: Callable[[TenantId], Awaitable[SlotAt]]
    known: Callable[[TenantId], Awaitable[Mapping[IntegrationKey, Known]]]
    """Raises Unavailable."""
    _stored: "LRUCache[TenantId, _Stored]" = field(default_factory=lambda: LRUCache(MOST))

    async def __call__(self, tenant: Tenant) -> frozenset[IntegrationKey]:
        """Their keys."""
        known, slot_at = await self._known(tenant), await self.slots(tenant.number)
        return _waiting(connections_of(tenant, slot_at, known))

    async def _known(self, tenant: Tenant) -> Mapping[IntegrationKey, Known]:
        held = self._stored.get(tenant.number)
        if held is not None and trio.current_time() < held.until:
            return held.known
        try:
            known = await self.known(tenant.number)
        except Unavailable:
            known = held.known if held is not None else {
                key: Known(enabled=link.enabled) for key, link in tenant.integrations.items()
            }  # fmt: skip
        waits = bool(_waiting(connections_of(tenant, lambda path: None, known)))
        self._stored[tenant.number] = _Stored(trio.current_time() + (FRESH_S if waits else CALM_S), known)
        return known


def _waiting(connections: Sequence[Connection]) -> frozenset[IntegrationKey]:
    return frozenset(IntegrationKey(one.name) for one in connections if not one.is_pbx and one.status.needs_person)
