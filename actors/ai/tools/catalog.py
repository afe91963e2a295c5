"""Tools that read the company's catalog: the only source of names and prices."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from actors.ai.tool import Arguments, Bound, Outcome, Refused, Tool
from gateway.domain.catalog import Item, price_text
from gateway.store.catalog_items import select_item
from gateway.store.catalog_search import search_items
from gateway.store.postgres.pool import Connection

LONGEST_DESCRIPTION = 400
MOST_FOUND = 10


def shown(item: Item, *, whole: bool = False) -> dict[str, Any]:
    """An item as the model reads it."""
    text = " ".join((item.description or "").split())
    found: dict[str, Any] = {
        "id": item.id, "name": item.name, "price": price_text(item.price, item.currency), "category": item.category,
        "available": item.available, "description": text if whole else text[:LONGEST_DESCRIPTION],
        "attributes": dict(item.attributes),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value not in (None, "", {})}


class Search(Arguments):
    """What the client looks for."""

    query: Annotated[str, StringConstraints(min_length=1, max_length=300)] = Field(
        description="words of a name, category or description, in the client's language; mistakes are found too"
    )


async def search_catalog(conn: Connection, bound: Bound, arguments: Search) -> Outcome:
    """The items that fit best."""
    found = await search_items(conn, bound.tenant.number, arguments.query, MOST_FOUND)
    if not found:
        return Outcome(value={"items": [], "hint": "Nothing fits. Try one other word, or say that there is none."})
    return Outcome(value={"items": [shown(item) for item in found]})


class ItemId(Arguments):
    """One item."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="the item's id, as search_catalog gave it"
    )


async def get_item(conn: Connection, bound: Bound, arguments: ItemId) -> Outcome:
    """Everything of one item."""
    item = await select_item(conn, bound.tenant.number, arguments.id)
    if item is None:
        raise Refused("There is no item with this id. Find it with search_catalog.")
    return Outcome(value=shown(item, whole=True))


TOOLS = (
    Tool(
        name="search_catalog", arguments=Search, run=search_catalog,
        description="Finds what the company sells: names, prices, what is available. Use it before naming any item or price.",
    ),
    Tool(
        name="get_item", arguments=ItemId, run=get_item,
        description="Everything the company's catalog says of one item. Prices and availability are only what this says.",
    ),
)  # fmt: skip
