"""The menu as items of a catalog, and what is on the stop-list. Pure.

A product with sizes is an item for each. What is deleted, a modifier, or not in the menu is left out; a price that is no price leaves
its item out and is counted. Read `codec.item_id` for the items' ids, `jobs.py` for when it is read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from adapters.till import codec

NOMENCLATURE, EXTERNAL, STOP_LISTS, ORGANIZATIONS = (
    "/api/1/nomenclature", "/api/2/menu/by_id", "/api/1/stop_lists", "/api/1/organizations",
)  # fmt: skip
EXTERNAL_VERSION = 2
_SOLD = frozenset({"dish", "good", "service", "product"})
_WEIGHED = re.compile("кг|kg|л|l", re.IGNORECASE)
STEP = "quantity_step"


@dataclass(frozen=True, slots=True)
class Read:
    """What a menu came to: items as a catalog takes them, in the menu's order, and how many had to be left out."""

    items: tuple[Mapping[str, Any], ...]
    left_out: int = 0


def nomenclature(answer: Mapping[str, Any], currency: str) -> Read:
    """An organization's whole menu."""
    groups = {codec.identifier(one.get("id")): one for one in codec.items(answer.get("groups"))}
    categories = {codec.identifier(one.get("id")): one for one in codec.items(answer.get("productCategories"))}
    sizes = {
        codec.identifier(one.get("id")): codec.text(one.get("name"), 60) for one in codec.items(answer.get("sizes"))
    }
    made: list[Mapping[str, Any]] = []
    wrong = 0
    for product in sorted(codec.items(answer.get("products")), key=_order):
        if product.get("isDeleted") is True or codec.text(product.get("type")).lower() not in _SOLD:
            continue
        group = groups.get(codec.identifier(product.get("parentGroup")), {})
        if group.get("isGroupModifier") is True or group.get("isDeleted") is True:
            continue
        category = codec.text(group.get("name"), 100) or codec.text(
            codec.mapping(categories.get(codec.identifier(product.get("productCategoryId")))).get("name"), 100
        )
        sold = [
            (codec.identifier(one.get("sizeId")), codec.mapping(one.get("price")).get("currentPrice"))
            for one in codec.items(product.get("sizePrices"))
            if codec.mapping(one.get("price")).get("isIncludedInMenu") is True
        ]  # fmt: skip
        named = [(size, sizes.get(size, "") if len(sold) > 1 else "", price) for size, price in sold]
        attributes = {STEP: "0.1"} if product.get("useBalanceForSell") is True and _weighed(product) else {}
        found = list(_items(product, category, currency, named, attributes, picture=product.get("imageLinks")))
        wrong += sum(one is None for one in found)
        made += [one for one in found if one is not None]
    return Read(_numbered(made), wrong)


def external(answer: Mapping[str, Any], organization: str, currency: str) -> Read:
    """One external menu."""
    made: list[Mapping[str, Any]] = []
    wrong = 0
    for group in codec.items(answer.get("itemCategories")):
        category = codec.text(group.get("name"), 100)
        for product in codec.items(group.get("items")):
            if product.get("isHidden") is True:
                continue
            sizes = [one for one in codec.items(product.get("itemSizes")) if one.get("isHidden") is not True]
            named = [
                (codec.identifier(one.get("sizeId")), codec.text(one.get("sizeName"), 60) if len(sizes) > 1 else "",
                 _price_for(one.get("prices"), organization))
                for one in sizes
            ]  # fmt: skip
            picture = next((one.get("buttonImageUrl") for one in sizes if one.get("buttonImageUrl")), None)
            found = list(
                _items({**product, "id": product.get("itemId")}, category, currency, named, {}, picture=[picture])
            )
            wrong += sum(one is None for one in found)
            made += [one for one in found if one is not None]
    return Read(_numbered(made), wrong)


def _price_for(prices: Any, organization: str) -> Any:
    listed = codec.items(prices)
    ours = [one for one in listed if codec.identifier(one.get("organizationId")) == organization]
    return next((one.get("price") for one in (*ours, *(one for one in listed if not one.get("organizationId")))), None)


def _items(
    product: Mapping[str, Any], category: str, currency: str, sizes: Sequence[tuple[str, str, Any]],
    attributes: Mapping[str, str], *, picture: Any,
) -> Iterator[Mapping[str, Any] | None]:  # fmt: skip
    ident, name = codec.identifier(product.get("id")), codec.text(product.get("name"), 180)
    links = picture if isinstance(picture, list) else []
    image = next(
        (one for one in links if isinstance(one, str) and re.fullmatch(r"https?://[^\s\"'<>]{3,1900}", one)), None
    )
    seen: set[str] = set()
    for size, label, given in sizes:
        price = _price(given)
        if not ident or not name or price is None or size in seen:
            yield None
            continue
        seen.add(size)
        yield {
            "id": codec.item_id(ident, size), "name": f"{name}, {label}"[:200] if label else name,
            "description": _lines(product.get("description")), "price": price, "currency": currency,
            "category": category or None, "image_url": image, "attributes": dict(attributes),
        }  # fmt: skip


def _lines(value: Any) -> str | None:
    """A description of several lines."""
    if not isinstance(value, str):
        return None
    lines = (codec.text(line, 1000) for line in value[:4000].splitlines())
    return "\n".join(line for line in lines if line)[:4000] or None


def _price(value: Any) -> str | None:
    """With two digits behind the point at most; None for what is no price."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return None
    if not exact.is_finite() or not 0 <= exact < 10**10:
        return None
    return f"{exact.quantize(Decimal('0.01'), ROUND_HALF_UP).normalize():f}"


def _order(product: Mapping[str, Any]) -> tuple[int, str]:
    order = product.get("order")
    return (
        order if isinstance(order, int) and not isinstance(order, bool) else 0,
        codec.text(product.get("name")).casefold(),
    )


def _weighed(product: Mapping[str, Any]) -> bool:
    return _WEIGHED.fullmatch(codec.text(product.get("measureUnit"), 20).rstrip(".")) is not None


def _numbered(made: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """With the menu's order; an item that comes twice is the first one."""
    first = {str(one["id"]): one for one in reversed(made)}
    kept = [one for one in made if first[str(one["id"])] is one]
    return tuple({**one, "sort_order": place} for place, one in enumerate(kept))


def stopped(answer: Mapping[str, Any], organization: str, terminal_group: str) -> frozenset[str]:
    """The items that cannot be sold now: a product's id stands for its sizes too. Some accounts leave a level out."""
    found: set[str] = set()
    for one in codec.items(answer.get("terminalGroupStopLists")):
        if codec.identifier(one.get("organizationId")) not in ("", organization):
            continue
        for inner in codec.items(one.get("items")):
            listed = codec.items(inner.get("items")) if "items" in inner else [inner]
            group = codec.identifier(inner.get("terminalGroupId")) or codec.identifier(one.get("terminalGroupId"))
            if terminal_group and group not in ("", terminal_group):
                continue
            for stop in listed:
                product, left = codec.identifier(stop.get("productId")), stop.get("balance", 0)
                if product and not (isinstance(left, int | float) and left > 0):
                    found.add(codec.item_id(product, codec.identifier(stop.get("sizeId"))))
    return frozenset(found)
