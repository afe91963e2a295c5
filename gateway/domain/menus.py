"""A menu that was read from an outside system, against the catalog: what taking it would do. Pure.

An item belongs to a menu by its id. What people have added to it here stays: attributes, its place, a description or a picture where
the menu has none. Items of the catalog that never came from this menu are left alone. Read `actors/menus.py` for who takes it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.domain.catalog import Item

COMPARED = ("name", "price", "currency", "category", "description", "image_url", "available")
"""What a change is shown by."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An item that becomes another."""

    before: Item
    after: Item

    @property
    def fields(self) -> tuple[str, ...]:
        """Which of COMPARED differ."""
        return tuple(one for one in COMPARED if getattr(self.before, one) != getattr(self.after, one))


@dataclass(frozen=True, slots=True)
class Difference:
    """What taking a menu does to a catalog."""

    added: tuple[Item, ...] = ()
    changed: tuple[Changed, ...] = ()
    removed: tuple[Item, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def stored(self) -> list[Item]:
        """Items to be written."""
        return [*self.added, *(one.after for one in self.changed)]


def read_menu(raw: Iterable[Mapping[str, Any]], currency: str) -> tuple[list[Item], int]:
    """The items of a menu, priced in their currency or this one, and how many cannot be items."""
    items: dict[str, Item] = {}
    wrong = 0
    for one in raw:
        try:
            item = Item.model_validate(dict(one)).priced_in(currency)
        except (ValidationError, PydanticCustomError):
            wrong += 1
            continue
        items.setdefault(item.id, item)
    return list(items.values()), wrong


def covers(stopped: Collection[str], item: str) -> bool:
    """Whether an id, or the part of it before a point, is among these."""
    return item in stopped or item.partition(".")[0] in stopped


def difference(
    catalog: Mapping[str, Item], menu: Sequence[Item], taken: Collection[str], stopped: Collection[str]
) -> Difference:
    """What taking a menu would do. `taken` are the ids that came from it before, `stopped` those that cannot be sold now."""
    added: list[Item] = []
    changed: list[Changed] = []
    for item in menu:
        now = item.model_copy(update={"available": item.available and not covers(stopped, item.id)})
        if (known := catalog.get(item.id)) is None:
            added.append(now)
        elif (merged := _merged(known, now, stopped)) != known:
            changed.append(Changed(known, merged))
    listed = {item.id for item in menu}
    gone = [catalog[one] for one in taken if one not in listed and one in catalog]
    return Difference(tuple(added), tuple(changed), tuple(gone))


def _merged(known: Item, item: Item, stopped: Collection[str]) -> Item:
    """The menu's item with what people have added to it. One that somebody has taken off sale here stays off."""
    return item.model_copy(
        update={
            "description": item.description or known.description, "image_url": item.image_url or known.image_url,
            "attributes": {**known.attributes, **item.attributes}, "sort_order": known.sort_order,
            "available": known.available and not covers(stopped, known.id),
        }
    )  # fmt: skip


def resold(
    catalog: Mapping[str, Item], taken: Collection[str], before: Collection[str], stopped: Collection[str]
) -> list[Item]:
    """The items whose sale a stop-list has ended or begun since it was looked at: with `available` as it is now. What a person has taken
    off sale and no stop-list named stays off."""
    found = []
    for one in taken:
        item = catalog.get(one)
        was, now = covers(before, one), covers(stopped, one)
        if item is None or was == now or item.available == (not now):
            continue
        found.append(item.model_copy(update={"available": not now}))
    return found
