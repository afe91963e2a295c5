"""Menus of an outside system and a company's catalog, on a real PostgreSQL: taken by itself once, then by a person who saw it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from actors.menus import MenuChanged, keep_menu, menu_difference, take_menu
from adapters.jobs import JobResult, Menu
from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.errors import BadSettings
from gateway.domain.ids import IntegrationKey
from gateway.domain.menus import Difference
from gateway.store import catalog_menus as rows
from gateway.store.catalog_items import delete_items, select_items, upsert_items
from gateway.store.postgres.pool import Database
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from tests.actors.orders.shop import JUNE, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

TILL = IntegrationKey("till")
ANNA = "anna@june.example"


def dish(ident: str, price: str = "5.00", **more: Any) -> dict[str, Any]:
    return {"id": ident, "name": ident.title(), "price": price, "currency": "BYN", "category": "Кухня", **more}


class Kitchen:
    """A company with an integration that has a menu."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.db = shop, shop.db

    async def reads(self, *dishes: Mapping[str, Any], stopped: set[str] | None = None) -> None:
        menu = Menu(items=dishes) if dishes else None
        await keep_menu(
            self.db,
            self.shop.tenant,
            TILL,
            JobResult(menu=menu, stopped=frozenset(stopped) if stopped is not None else None),
        )

    async def catalog(self) -> dict[str, Item]:
        return {one.id: one for one in await self.db.tenant(JUNE, select_items, JUNE)}

    async def sold(self) -> dict[str, bool]:
        return {one.id: one.available for one in (await self.catalog()).values()}

    async def shown(self) -> tuple[Any, Difference]:
        found = await self.db.tenant(JUNE, menu_difference, JUNE, TILL)
        assert found is not None
        return found[0].read_at, found[1]

    async def counts(self) -> tuple[int, int, int]:
        (one,) = await self.db.tenant(JUNE, rows.select_menu_counts, JUNE)
        return one.added, one.changed, one.removed

    async def take(self) -> Difference:
        read_at, _ = await self.shown()
        return await take_menu(self.db, JUNE, TILL, ANNA, read_at)


@pytest.fixture
async def kitchen(db: Database) -> Kitchen:
    shop = await Shop(db).open(goods=())
    await db.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow(TILL, "till", True, {}, {}))
    return Kitchen(shop)


async def test_an_empty_catalog_takes_the_first_menu_by_itself(kitchen: Kitchen) -> None:
    await kitchen.reads(dish("soup"), dish("cola", "3", currency=""), dish("bad id!"), stopped={"cola"})
    catalog = await kitchen.catalog()
    assert {one.id: (f"{one.price:f}", one.currency, one.available) for one in catalog.values()} == {
        "soup": ("5.00", "BYN", True), "cola": ("3.00", "BYN", False),
    }  # fmt: skip
    assert await kitchen.counts() == (0, 0, 0)
    (line,) = [one for one in await kitchen.shop.audit() if one.action == "catalog.menu_taken"]
    assert (line.actor, line.target, line.detail) == (TILL, TILL, "+2 ~0 -0")
    stored = await kitchen.db.tenant(JUNE, rows.select_menu, JUNE, TILL)
    assert stored is not None
    assert (stored.left_out, stored.taken) == (1, {"soup", "cola"})


async def test_later_menus_wait_for_a_person_who_takes_what_they_saw(kitchen: Kitchen) -> None:
    await kitchen.reads(dish("soup"), dish("cola"), dish("old"))
    await kitchen.shop.stock(
        {"id": "own", "name": "Our own", "price": "1"}, {**dish("soup"), "attributes": {"spicy": True}, "sort_order": 7}
    )
    await kitchen.reads(dish("soup", "6.50"), dish("cola"), dish("new"))
    assert {one: f"{item.price:f}" for one, item in (await kitchen.catalog()).items()}["soup"] == "5.00", (
        "nothing is changed yet"
    )
    assert await kitchen.counts() == (1, 1, 1)
    seen, differs = await kitchen.shown()
    assert [one.id for one in differs.added] == ["new"]
    assert [(one.after.id, one.fields) for one in differs.changed] == [("soup", ("price",))]
    assert [one.id for one in differs.removed] == ["old"]
    await kitchen.reads(dish("soup", "7"), dish("cola"), dish("new"))
    with pytest.raises(MenuChanged):
        await take_menu(kitchen.db, JUNE, TILL, ANNA, seen)
    with pytest.raises(MenuChanged):
        await take_menu(kitchen.db, JUNE, IntegrationKey("other"), ANNA, seen)
    assert await kitchen.take()
    catalog = await kitchen.catalog()
    assert set(catalog) == {"soup", "cola", "new", "own"}
    assert (f"{catalog['soup'].price:f}", catalog["soup"].attributes, catalog["soup"].sort_order) == (
        "7.00",
        {"spicy": True},
        7,
    )
    assert await kitchen.counts() == (0, 0, 0)
    assert not await kitchen.take(), "taken twice it does nothing"
    assert sum(one.action == "catalog.menu_taken" for one in await kitchen.shop.audit()) == 2


async def test_what_is_requested_is_taken_when_it_is_read(kitchen: Kitchen) -> None:
    await kitchen.reads(dish("soup"))
    await kitchen.db.tenant(JUNE, rows.request_menu, JUNE, TILL, "key gw_1", 900.0)
    await kitchen.reads(dish("tea"))
    assert set(await kitchen.catalog()) == {"tea"}
    assert [one.actor for one in await kitchen.shop.audit() if one.action == "catalog.menu_taken"] == ["key gw_1", TILL]
    await kitchen.reads(dish("soup"))
    assert set(await kitchen.catalog()) == {"tea"}, "a request is for one reading"
    await kitchen.db.tenant(JUNE, rows.request_menu, JUNE, TILL, "key gw_1", 0.0)
    await kitchen.reads(dish("soup"))
    assert set(await kitchen.catalog()) == {"tea"}, "and does not hold for ever"
    await kitchen.db.tenant(JUNE, rows.request_menu, JUNE, IntegrationKey("nobody"), "x", 900.0)


async def test_the_stop_list_works_at_once_and_gives_back_what_it_took(kitchen: Kitchen) -> None:
    await kitchen.reads(dish("soup"), dish("pizza.small"), dish("pizza.large"), dish("tea"), stopped=set())
    await kitchen.shop.stock({**dish("tea"), "available": False}, {"id": "own", "name": "Own", "price": "1"})
    await kitchen.reads(stopped={"pizza", "soup", "tea", "own", "unknown"})
    assert await kitchen.sold() == {
        "soup": False,
        "pizza.small": False,
        "pizza.large": False,
        "tea": False,
        "own": True,
    }
    await kitchen.reads(stopped={"pizza.small"})
    assert await kitchen.sold() == {"soup": True, "pizza.small": False, "pizza.large": True, "tea": True, "own": True}
    await kitchen.shop.stock({**dish("soup"), "available": False})
    await kitchen.reads(
        dish("soup", "9"), dish("pizza.small"), dish("pizza.large"), dish("tea"), stopped={"pizza.small"}
    )
    assert await kitchen.counts() == (0, 1, 0), "a stop-list is no difference for a person to take"
    await kitchen.take()
    assert (await kitchen.sold())["soup"] is False, "what a person has taken off sale stays off"
    await kitchen.reads(stopped=set())
    assert (await kitchen.sold())["pizza.small"] is True


async def test_what_a_person_removed_is_new_again(kitchen: Kitchen) -> None:
    await kitchen.reads(dish("soup"), dish("tea"))
    await kitchen.db.tenant(JUNE, delete_items, JUNE, ["tea"])
    await kitchen.reads(dish("soup"), dish("tea"))
    assert await kitchen.counts() == (1, 0, 0)
    await kitchen.reads(stopped={"tea"})
    assert set(await kitchen.catalog()) == {"soup"}


async def test_a_catalog_holds_so_many(kitchen: Kitchen) -> None:
    with pytest.raises(BadSettings):
        await kitchen.reads(*(dish(f"d{n}") for n in range(MOST_ITEMS + 1)))
    assert await kitchen.catalog() == {}
    own = [
        Item.model_validate({"id": f"o{n}", "name": "x", "price": "1", "currency": "BYN"}) for n in range(MOST_ITEMS)
    ]
    await kitchen.db.tenant(JUNE, upsert_items, JUNE, own)
    await kitchen.reads(dish("soup"))
    with pytest.raises(BadSettings):
        await kitchen.take()


def test_a_difference_is_by_what_people_see() -> None:
    assert not Difference()
    one = Item.model_validate(dish("soup"))
    assert Difference(added=(one,)).stored == [one]
    assert replace(Difference(), removed=(one,))
