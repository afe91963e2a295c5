"""`/catalog`: what the company sells; single items, and whole files at once. What is valid is the item's to judge."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from gateway.domain.catalog import MOST_ITEMS, Item, item_id, number_is_text
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.store import catalog_items as store
from gateway.store.postgres.pool import Connection
from gateway.web.content.catalog import Imported, add_item, change_item, import_rows, new_id, remove_items
from gateway.web.content.catalog_csv import Row, read_catalog_file
from gateway.web.content.problems import refuse
from gateway.web.http.multipart import Malformed, file_fields
from gateway.web.http.routes import Response
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, json_of, reply

_FORM = "multipart/form-data"
LARGEST_IMPORT = 8 << 20
"""Bytes of ten thousand items with some hundreds each, as JSON."""
_EXAMPLE: JsonDict = {
    "id": "margherita", "business_id": "0367", "name": "Margherita", "description": "Tomatoes, mozzarella, basil", "price": 12.5,
    "currency": "BYN", "category": "Pizza", "image_url": None, "available": True, "attributes": {"size": "30 cm"}, "sort_order": 1,
}  # fmt: skip
_SENT: JsonDict = {name: value for name, value in _EXAMPLE.items() if name != "business_id"} | {"price": "12.50"}
_IMPORTED: JsonDict = {
    "rows": [{"row": 2, "id": "margherita", "errors": []}], "rows_with_errors": 0, "stored": 1, "dry_run": False,
}  # fmt: skip
_CSV = "id;name;price;category;size\nmargherita;Margherita;12.50;Pizza;30 cm\n"


class CatalogItem(Shown):
    """An item, as bots get it."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    business_id: str
    name: str
    description: str | None
    price: float = Field(description="exact, with the digits of its currency")
    currency: str
    category: str | None
    image_url: str | None
    available: bool
    attributes: dict[str, str | int | float | bool]
    sort_order: int


class CatalogPage(Page[CatalogItem]):
    """Items in the company's order."""


class NewItem(Item):
    """An item. Without an id it is given one; without a currency it is priced in the profile's."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra={"examples": [_SENT]}
    )

    id: Annotated[
        str, BeforeValidator(number_is_text), StringConstraints(strip_whitespace=True), AfterValidator(item_id),
        Field(default_factory=new_id, description="1 to 64 letters, digits and _ . -"),
    ]  # fmt: skip
    business_id: str | None = Field(None, description="the company's own number, as a GET answers it; not changed here")


class ChangedItem(NewItem):
    """An item as a whole: what is left out has its default. An `id` must be that of the address."""


class ImportQuery(Model):
    """How to import."""

    dry_run: bool = Field(False, description="only judge the rows, and change nothing")


class ImportBody(Model):
    """Items to add or to replace; those that are not named stay. Or a CSV file as the body or
    as the file of a form, with its column names in the first row."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"items": [_SENT]}]})

    items: list[dict[str, Any]] = Field(max_length=MOST_ITEMS)


class RowProblem(Shown):
    """What is wrong with a field of a row."""

    path: str
    message: str


class ImportRow(Shown):
    """What came of one row: imported, where it has no errors."""

    row: int = Field(description="of a file, as a spreadsheet counts it; of `items`, from 1")
    id: str
    errors: list[RowProblem]


class ImportAnswer(Shown):
    """What came of each row. Rows with errors are left out, the others imported."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_IMPORTED]})

    rows: list[ImportRow]
    rows_with_errors: int
    stored: int = Field(description="items that are new or changed; in a dry run, rows without errors")
    dry_run: bool


def _item(number: TenantId, item: Item) -> CatalogItem:
    return CatalogItem.model_validate({**item.plain(), "business_id": number, "price": float(item.price)})


def _sent(body: NewItem) -> dict[str, Any]:
    return body.model_dump(exclude_unset=True, exclude={"business_id"})


def read_rows(body: bytes, content_type: str) -> Sequence[Row]:
    """The rows of what is imported: JSON or CSV, as the content type has it, or else as it begins; a form's file likewise. Raises
    Invalid."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        kind, body = "", _file_of(content_type, body)
    if kind != "text/csv" and (kind.endswith("json") or body.lstrip()[:1] in (b"{", b"[")):
        return _rows_of_json(json_of(body))
    return read_catalog_file(body)


def _file_of(content_type: str, body: bytes) -> bytes:
    """The file of a form: the one called `file`, or the only one."""
    try:
        files = file_fields(content_type, body)
    except Malformed as error:
        raise Invalid((("body", f"is not a whole {_FORM}: {error}"),)) from None
    chosen = [value for name, value in files if name == "file"] or [value for _, value in files]
    if len(chosen) != 1:
        raise refuse(
            "file", "the form must have one file, in a field of this name", "в форме должен быть один файл, в поле с этим именем"
        )  # fmt: skip
    return chosen[0]


def _rows_of_json(data: Any) -> Sequence[Row]:
    if isinstance(data, Mapping):
        if (more := sorted(str(name)[:60] for name in data if name != "items")) or "items" not in data:
            raise Invalid(tuple((name, "no such field") for name in more) or (("items", "is missing"),))
        data = data["items"]
    if not isinstance(data, list):
        raise Invalid((("items", "must be a list of items"),))
    if len(data) > MOST_ITEMS:
        raise Invalid((("items", f"at most {MOST_ITEMS} items"),))
    return [(place, _fields(one), False) for place, one in enumerate(data, 1)]


def _fields(one: Any) -> Mapping[str, Any]:
    """What an item's model judges; what is no object at all becomes one that it refuses."""
    if not isinstance(one, dict):
        return {"item": None}
    return {"id": new_id(), **{name: value for name, value in one.items() if name != "business_id"}}


def catalog(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    async def listed(call: Call) -> CatalogPage:
        number, limit = call.tenant.number, call.query.limit
        at = deps.cursors.wanted(number, "catalog", call.query.cursor)
        after = (int(at[0]), str(at[1]), str(at[2])) if at else None
        found = await deps.db.tenant(number, store.select_items_after, number, after, limit + 1)
        onward = None
        if len(found) > limit:
            last = found[limit - 1]
            onward = deps.cursors.new(number, "catalog", [last.sort_order, last.name, last.id])
        return CatalogPage(items=[_item(number, item) for item in found[:limit]], next=onward)

    async def show(call: Call) -> CatalogItem:
        found = await deps.db.tenant(call.tenant.number, store.select_item, call.tenant.number, call.param("id"))
        if found is None:
            raise Missing("There is no such item.")
        return _item(call.tenant.number, found)

    async def create(call: Call) -> Response:
        def answer(item: Item) -> Response:
            return reply(_item(call.tenant.number, item), 201)

        async def then(conn: Connection, item: Item) -> None:
            await call.stored.store(conn, answer(item))

        return answer(await add_item(deps.db, call.tenant, _sent(call.body), call.caller.actor, then=then))

    async def put(call: Call) -> CatalogItem:
        item = await change_item(deps.db, call.tenant, call.param("id"), _sent(call.body), call.caller.actor)
        if item is None:
            raise Missing("There is no such item.")
        return _item(call.tenant.number, item)

    async def delete(call: Call) -> None:
        if not await remove_items(deps.db, call.tenant, [call.param("id")], call.caller.actor):
            raise Missing("There is no such item.")

    async def take(call: Call) -> Response:
        body: bytes = call.body
        kind, dry_run = call.request.headers.get("content-type", ""), call.query.dry_run

        def answer(imported: Imported) -> Response:
            # Ten thousand rows: no model is made of each.
            made = {
                "rows": [row.plain() for row in imported.rows], "rows_with_errors": imported.wrong, "stored": imported.stored,
                "dry_run": dry_run,
            }  # fmt: skip
            return Response(body=json.dumps(made, ensure_ascii=False).encode("utf-8", "replace"))

        async def then(conn: Connection, imported: Imported) -> None:
            await call.stored.store(conn, answer(imported))

        return answer(
            await import_rows(
                deps.db, call.tenant, lambda: read_rows(body, kind), call.caller.actor, dry_run=dry_run, then=then
            )
        )

    return [
        Endpoint(method="GET", path="/catalog", operation=listed, scopes=("read",), query=ListQuery, answer=CatalogPage,
                 summary="Items of the catalog, in order"),
        Endpoint(method="POST", path="/catalog", operation=create, scopes=("write",), body=NewItem, answer=CatalogItem, status=201,
                 makes=True, atomic=True, summary="Add an item"),
        Endpoint(method="POST", path="/catalog/import", operation=take, scopes=("write",), query=ImportQuery, body=ImportBody,
                 accepts={"text/csv": _CSV, _FORM: _CSV}, answer=ImportAnswer, makes=True, atomic=True, body_limit=LARGEST_IMPORT,
                 summary="Add and replace many items at once, row by row"),
        Endpoint(method="GET", path="/catalog/{id}", operation=show, scopes=("read",), answer=CatalogItem, summary="One item"),
        Endpoint(method="PUT", path="/catalog/{id}", operation=put, scopes=("write",), body=ChangedItem, answer=CatalogItem,
                 summary="Replace an item"),
        Endpoint(method="DELETE", path="/catalog/{id}", operation=delete, scopes=("write",), summary="Remove an item"),
    ]  # fmt: skip
