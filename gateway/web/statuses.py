"""The status of every connection of a company, for its pages and for programs: from the actors that live and from the store.

One query and one look into the directory for all of them. Read `gateway/domain/statuses.py` for what a status is made of.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actors.runtime.directory import Slot
from adapters import registry
from gateway.domain.configuration import Tenant
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of, titled, utc_text
from gateway.domain.statuses import Known, Standing, Status, status_of
from gateway.store.integration_states import select_known
from gateway.web.site import Deps
from gateway.web.translations import Words

UPDATES = "/updates"
"""What the path of an integration's stream ends with, behind that of its deliveries."""
_URGENCY = (State.FAILED, State.ATTENTION, State.OFFLINE, State.DEGRADED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A PBX or an integration of a company, and how it stands."""

    name: str
    """A PBX's name; an integration's key."""
    kind: Kind
    is_pbx: bool
    title: str
    href: str
    status: Status


def most_urgent(slots: Iterable[Slot | None]) -> Slot | None:
    """The slot of several of one connection that a person should know of first."""
    alive = [slot for slot in slots if slot is not None]
    in_trouble = [slot for slot in alive if slot.health.state in _URGENCY]
    return (
        min(in_trouble, key=lambda slot: _URGENCY.index(slot.health.state)) if in_trouble else next(iter(alive), None)
    )


def slots_of_integration(slots: Mapping[str, Slot], number: TenantId, key: IntegrationKey) -> Slot | None:
    """The actor of an integration to show: of its deliveries or of its stream, whichever is in trouble."""
    place = f"tenant/{number}/integration/{key}"
    return most_urgent(slots.get(f"{place}{part}") for part in ("", UPDATES))


async def known_of(deps: Deps, number: TenantId) -> Mapping[IntegrationKey, Known]:
    """What is stored of the company's integrations. Raises Unavailable."""
    return await deps.db.tenant(number, select_known, number)


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


async def connections_of(deps: Deps, tenant: Tenant) -> Sequence[Connection]:
    """All connections of a company that are set up, PBXes first. Raises Unavailable."""
    number = tenant.number
    slots = {slot.path: slot for slot in await deps.slots(f"tenant/{number}")}
    found = []
    for pbx in tenant.pbxes:
        status = pbx_status(slots.get(f"tenant/{number}/pbx/{pbx.name}"), enabled=pbx.enabled)
        href = f"/t/{number}/pbxes/{pbx.name}"
        found.append(Connection(name=pbx.name, kind=pbx.kind, is_pbx=True, title=pbx.name, href=href, status=status))
    known_kinds = registry.integrations()
    for key, known in (await known_of(deps, number)).items():
        if (adapter := known_kinds.get(kind_of(key))) is not None:
            status = integration_status(slots_of_integration(slots, number, key), known)
            title, href = titled(adapter.title, key), f"/t/{number}/integrations/{key}"
            found.append(Connection(name=key, kind=adapter.kind, is_pbx=False, title=title, href=href, status=status))
    return found


def troubles_of(connections: Iterable[Connection]) -> list[Connection]:
    """What every page of the company shows until it is gone, the worst first."""
    order = (Standing.ERROR, Standing.PENDING, Standing.ACTIVE)
    warned = [one for one in connections if one.status.warns]
    return sorted(warned, key=lambda one: order.index(one.status.standing))


def status_json(status: Status, words: Words, kind: Kind) -> dict[str, Any]:
    """A status as programs get it, its sentences in the language of `words`."""

    def moment(at: datetime | None) -> str | None:
        return utc_text(at) if at is not None else None

    text = words.optional("health", status.code, kind) or words(f"status_says.{status.standing}")
    return {
        "status": str(status.standing),
        "code": status.code,
        "message": f"{text} ({status.detail})" if status.detail else text,
        "what_to_do": words.optional("remedy", status.code, kind) or None,
        "since": moment(status.since),
        "next_try": moment(status.next_try),
        "last_sync_at": moment(status.last_sync_at),
    }
