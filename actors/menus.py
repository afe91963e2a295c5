"""Menus of outside systems and the catalog: what is read is stored beside it, and taken once somebody wants it.

    read -> an empty catalog, or requested -> taken          taken: written into the catalog, audited
       +--> else: the difference is counted, and a page shows it -> a person takes what they saw

    stop-list -> what came from the menu is off sale or on sale again, at once

All of a change is one transaction under the catalog's lock. Contacts no outside system (`actors/jobs.py` runs what does). Read
`gateway/domain/menus.py` for what differs.
"""

import logging
from collections.abc import Collection, Mapping
from datetime import datetime

import trio

from adapters.jobs import JobResult
from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadSettings
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.menus import Difference, difference, read_menu, resold
from gateway.store import catalog_items
from gateway.store import catalog_menus as rows
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_menus import StoredMenu
from gateway.store.postgres.pool import Connection, Database

log = logging.getLogger(__name__)

REQUEST_HOLDS_S = 900.0
"""For how long a request to take the next reading holds: one that comes much later would be a surprise."""


class MenuChanged(Exception):
    """Another menu was read since it was shown."""


async def keep_menu(db: Database, tenant: Tenant, key: IntegrationKey, result: JobResult) -> None:
    """What a job has read becomes the catalog's. Raises BadSettings where it is too large, Unavailable."""
    items: list[Item] | None = None
    left_out = 0
    if result.menu is not None:
        menu, profile = result.menu, await db.tenant(tenant.number, select_profile, tenant.number)
        currency = profile.currency_in(tenant.country)
        found, wrong = await trio.to_thread.run_sync(read_menu, menu.items, currency)
        items, left_out = found, menu.left_out + wrong
        if len(found) > MOST_ITEMS:
            raise BadSettings(f"the menu has {len(found)} items, and a catalog holds at most {MOST_ITEMS}")

    async def work(conn: Connection) -> None:
        await catalog_items.lock_catalog(conn, tenant.number)
        if items is not None:
            await rows.upsert_menu(conn, tenant.number, key, items, left_out)
        if (stored := await rows.select_menu(conn, tenant.number, key)) is None:
            return
        catalog = await _catalog(conn, tenant.number)
        stopped = stored.stopped if result.stopped is None else result.stopped
        if items is not None and (not catalog or stored.take_by):
            await _apply(conn, tenant.number, key, stored, catalog, stopped, stored.take_by or key)
            await rows.end_menu_request(conn, tenant.number, key)
            return
        sold = resold(catalog, stored.taken, stored.stopped, stopped)
        if sold:
            await catalog_items.upsert_items(conn, tenant.number, sold)
            catalog = {**catalog, **{item.id: item for item in sold}}
        await _count(conn, tenant.number, key, stored, catalog, stopped)

    await db.tenant(tenant.number, work)


async def take_menu(
    db: Database, number: TenantId, key: IntegrationKey, actor: str, read_at: datetime | None
) -> Difference:
    """A person takes the menu that they saw, read at this moment. Returns what it did. Raises MenuChanged."""

    async def work(conn: Connection) -> Difference:
        await catalog_items.lock_catalog(conn, number)
        stored = await rows.select_menu(conn, number, key)
        if stored is None or stored.read_at is None or stored.read_at != read_at:
            raise MenuChanged
        return await _apply(conn, number, key, stored, await _catalog(conn, number), stored.stopped, actor)

    return await db.tenant(number, work)


async def menu_difference(
    conn: Connection, number: TenantId, key: IntegrationKey
) -> tuple[StoredMenu, Difference] | None:
    """A menu, and what taking it would do now; None where none was read."""
    stored = await rows.select_menu(conn, number, key)
    if stored is None or stored.read_at is None:
        return None
    return stored, difference(await _catalog(conn, number), stored.items, stored.taken, stored.stopped)


async def _catalog(conn: Connection, number: TenantId) -> dict[str, Item]:
    return {item.id: item for item in await catalog_items.select_items(conn, number)}


async def _apply(
    conn: Connection, number: TenantId, key: IntegrationKey, stored: StoredMenu, catalog: Mapping[str, Item],
    stopped: Collection[str], actor: str,
) -> Difference:  # fmt: skip
    found = difference(catalog, stored.items, stored.taken, stopped)
    if len(catalog) + len(found.added) - len(found.removed) > MOST_ITEMS:
        raise BadSettings(f"with this menu the catalog would have more than {MOST_ITEMS} items")
    # What was off sale for the stop-list alone is on sale again.
    sold = {item.id: item for item in resold(catalog, stored.taken, stored.stopped, stopped)}
    written = {**sold, **{item.id: _sold(item, sold) for item in found.stored}}
    if written:
        await catalog_items.upsert_items(conn, number, list(written.values()))
    if found.removed:
        await catalog_items.delete_items(conn, number, [item.id for item in found.removed])
    if found:
        detail = f"+{len(found.added)} ~{len(found.changed)} -{len(found.removed)}"
        await insert_audit(conn, number, actor, "catalog.menu_taken", key, detail)
    await rows.update_menu_state(conn, number, key, {item.id for item in stored.items}, stopped, (0, 0, 0))
    log.info(
        "a menu was taken",
        extra={"added": len(found.added), "changed": len(found.changed), "removed": len(found.removed)},
    )
    return found


def _sold(item: Item, sold: Mapping[str, Item]) -> Item:
    return item.model_copy(update={"available": sold[item.id].available}) if item.id in sold else item


async def _count(
    conn: Connection, number: TenantId, key: IntegrationKey, stored: StoredMenu, catalog: Mapping[str, Item], stopped: Collection[str]
) -> None:  # fmt: skip
    found = difference(catalog, stored.items, stored.taken, stopped)
    counts = (len(found.added), len(found.changed), len(found.removed)) if stored.read_at is not None else (0, 0, 0)
    known = {one for one in stored.taken if one in catalog}
    await rows.update_menu_state(conn, number, key, known, stopped, counts)
