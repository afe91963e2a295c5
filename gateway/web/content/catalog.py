"""A company's catalog: items added, changed, removed and imported, each change checked, counted and audited.

The limit of items is judged under a lock, so two imports at once cannot pass it together. Read `catalog_csv.py` for how a
file is read.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.text import sentence
from gateway.store import catalog_items as store
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import select_profile
from gateway.store.postgres.pool import Connection, Database
from gateway.web.content.catalog_csv import Row, read_catalog_file
from gateway.web.content.problems import Problem, Then, done, problems_of, refuse


def read_item(data: Any, currency: str, before: str = "") -> Item:
    """An item as people and programs write it, with its currency, by default this one. Raises Invalid."""
    try:
        return Item.model_validate(data).priced_in(currency)
    except ValidationError as error:
        raise Invalid(tuple(problems_of(error, before))) from None
    except PydanticCustomError as error:
        raise Invalid(((f"{before}.price" if before else "price", sentence(error)),)) from None


def new_id() -> str:
    """An id for an item that brings none."""
    return secrets.token_hex(6)


def too_many() -> Invalid:
    """The refusal of one item more than there may be."""
    return refuse(
        "", f"a catalog holds at most {MOST_ITEMS} items", f"в каталоге может быть не больше {MOST_ITEMS} позиций"
    )


async def currency_for(conn: Connection, tenant: Tenant) -> str:
    """The currency of items that name none."""
    return (await select_profile(conn, tenant.number)).currency_in(tenant.country)


async def add_item(
    db: Database, tenant: Tenant, data: Mapping[str, Any], person: str, *, then: Then[Item] = done
) -> Item:
    """Adds an item; its id is made where it brings none. `then` is part of the transaction. Raises Invalid, also for an id that
    is there already."""
    return await db.tenant(tenant.number, _add, tenant, {"id": new_id(), **data}, person, then)


async def change_item(db: Database, tenant: Tenant, item_id: str, data: Mapping[str, Any], person: str) -> Item | None:
    """Replaces an item as a whole; None where there is none. Raises Invalid."""
    return await db.tenant(tenant.number, _change, tenant, item_id, data, person)


async def remove_items(db: Database, tenant: Tenant, ids: Sequence[str], person: str) -> int:
    """Removes items. Returns how many there were."""
    return await db.tenant(tenant.number, _remove, tenant.number, ids, person)


async def _add(conn: Connection, tenant: Tenant, data: Mapping[str, Any], person: str, then: Then[Item]) -> Item:
    item = read_item(data, await currency_for(conn, tenant))
    await store.lock_catalog(conn, tenant.number)
    if await store.select_item(conn, tenant.number, item.id) is not None:
        raise refuse("id", "there is an item with this id already", "позиция с таким кодом уже есть")
    if await store.count_items(conn, tenant.number) >= MOST_ITEMS:
        raise too_many()
    await store.upsert_items(conn, tenant.number, [item])
    await insert_audit(conn, tenant.number, person, "catalog.saved", item.id, item.name)
    await then(conn, item)
    return item


async def _change(conn: Connection, tenant: Tenant, item_id: str, data: Mapping[str, Any], person: str) -> Item | None:
    if "id" in data and str(data["id"]) != item_id:
        raise refuse(
            "id", "cannot be changed; it must be that of the address", "изменить нельзя; он должен быть как в адресе"
        )
    await store.lock_catalog(conn, tenant.number)
    if await store.select_item(conn, tenant.number, item_id) is None:
        return None
    item = read_item({**data, "id": item_id}, await currency_for(conn, tenant))
    if await store.upsert_items(conn, tenant.number, [item]):
        await insert_audit(conn, tenant.number, person, "catalog.saved", item.id, item.name)
    return item


async def _remove(conn: Connection, number: TenantId, ids: Sequence[str], person: str) -> int:
    count = await store.delete_items(conn, number, ids)
    if count:
        await insert_audit(conn, number, person, "catalog.removed", ", ".join(ids)[:200], str(count))
    return count


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What came of one row of a file. `row` as a spreadsheet counts: the first line is row 1."""

    row: int
    id: str
    item: Item | None
    errors: tuple[Problem, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As the REST API answers it."""
        return {
            "row": self.row,
            "id": self.id,
            "errors": [{"path": path, "message": text} for path, text in self.errors],
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file. `stored` is how many items are new or changed; in a dry run, how many rows are good."""

    rows: tuple[ImportedRow, ...]
    stored: int

    @property
    def wrong(self) -> int:
        """How many rows have problems and were left out."""
        return sum(1 for row in self.rows if row.errors)


async def import_items(db: Database, tenant: Tenant, raw: bytes, person: str, *, dry_run: bool) -> Imported:
    """Adds and changes the items of a CSV file; rows with problems are left out, and items that it does not name stay. A dry
    run changes nothing. Raises Invalid where the file as a whole cannot be read, or holds too many."""
    return await import_rows(db, tenant, lambda: read_catalog_file(raw), person, dry_run=dry_run)


async def import_rows(
    db: Database, tenant: Tenant, read: Callable[[], Sequence[Row]], person: str, *, dry_run: bool,
    then: Then[Imported] = done,
) -> Imported:  # fmt: skip
    """The same for rows from wherever `read` has them, in a thread. `then` is part of the transaction."""
    currency = await db.tenant(tenant.number, currency_for, tenant)
    # Ten thousand rows take a good part of a second: neither the pages nor the database's thread wait for it.
    rows = tuple(await trio.to_thread.run_sync(lambda: _judged(read(), currency)))

    async def work(conn: Connection) -> Imported:
        good = [row.item for row in rows if row.item is not None]
        imported = Imported(rows, await _import(conn, tenant.number, good, person, dry_run))
        await then(conn, imported)
        return imported

    return await db.tenant(tenant.number, work)


def _judged(given: Sequence[Row], currency: str) -> list[ImportedRow]:
    rows: list[ImportedRow] = []
    first: dict[str, int] = {}
    for row, data, longer in given:
        try:
            if longer:
                raise refuse("", "has more cells than the first row", "ячеек больше, чем в первой строке")
            item = read_item(data, currency)
            if (other := first.setdefault(item.id, row)) != row:
                raise refuse("id", f"row {other} has the same id", f"в строке {other} тот же код")
        except Invalid as error:
            rows.append(ImportedRow(row, str(data.get("id", ""))[:64], None, error.problems))
        else:
            rows.append(ImportedRow(row, item.id, item))
    return rows


async def _import(conn: Connection, number: TenantId, good: Sequence[Item], person: str, dry_run: bool) -> int:
    await store.lock_catalog(conn, number)
    if len(await store.select_item_ids(conn, number) | {item.id for item in good}) > MOST_ITEMS:
        raise too_many()
    if dry_run:
        return len(good)
    stored = await store.upsert_items(conn, number, good)
    if stored:
        await insert_audit(conn, number, person, "catalog.imported", "", str(stored))
    return stored
