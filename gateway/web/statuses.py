"""The status of every connection of a company, for its pages and for programs: from the actors that live and from the store.

One query and one look into the directory for all of them. Read `actors/connections.py` for what they are made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actors.connections import connections_of as made_of
from actors.connections import own_troubles
from actors.runtime.directory import Slot
from gateway.domain.api_keys import ends_soon
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId, utc_text
from gateway.domain.statuses import Connection, Known, Status, troubles_of
from gateway.store.api_keys import ApiKeyLine, select_ending_keys
from gateway.store.integration_states import select_known
from gateway.store.postgres.pool import Connection as DatabaseConnection
from gateway.web.site import Deps
from gateway.web.translations import Words


async def known_of(deps: Deps, number: TenantId) -> Mapping[IntegrationKey, Known]:
    """What is stored of the company's integrations. Raises Unavailable."""
    return await deps.db.tenant(number, select_known, number)


@dataclass(frozen=True, slots=True)
class Warnings:
    """What every page of a company shows until it is gone."""

    troubles: Sequence[Connection] = ()
    """The worst first."""
    keys: Sequence[ApiKeyLine] = ()
    """API keys that end soon."""
    own: Sequence[Slot] = ()
    """Work of the company's own that fails: the texts of its calls."""


async def _stored(
    conn: DatabaseConnection, number: TenantId
) -> tuple[Mapping[IntegrationKey, Known], list[ApiKeyLine]]:
    return await select_known(conn, number), await select_ending_keys(conn, number)


async def warnings_of(deps: Deps, tenant: Tenant) -> Warnings:
    """The warnings of a company. Raises Unavailable."""
    known, keys = await deps.db.tenant(tenant.number, _stored, tenant.number)
    slots, now = {slot.path: slot for slot in await deps.slots(f"tenant/{tenant.number}")}, datetime.now(UTC)
    return Warnings(
        troubles_of(made_of(tenant, slots.get, known)),
        [key for key in keys if ends_soon(key.expires_at, key.rotated_at, now)],
        own_troubles(tenant.number, slots.get),
    )


async def connections_of(deps: Deps, tenant: Tenant) -> list[Connection]:
    """All connections of a company that are set up, PBXes first. Raises Unavailable."""
    slots = {slot.path: slot for slot in await deps.slots(f"tenant/{tenant.number}")}
    return made_of(tenant, slots.get, await known_of(deps, tenant.number))


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
