"""The pages of a company's catalog: a table whose rows are edited in place, one item as a whole, and the import of a file.

    upload -> read and checked -> a preview, row by row -> confirmed -> stored
    a menu that an integration has read -> what it would change -> taken (`actors/menus.py`)

Each row of the table is a form, so it works without JavaScript. The file waits for its confirmation with the session's
result (`gateway/web/session/flash.py`). Read `gateway/web/content/catalog.py` for the operations.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from actors.menus import MenuChanged, menu_difference, take_menu
from gateway.domain.catalog import MOST_ITEMS, Item
from gateway.domain.errors import BadSettings
from gateway.domain.ids import IntegrationKey, integration_key
from gateway.domain.menus import Difference
from gateway.domain.posts import Invalid
from gateway.domain.text import texts_of
from gateway.store import catalog_items as store
from gateway.store.catalog_menus import select_menu_counts
from gateway.web.content import catalog
from gateway.web.content.catalog_csv import COLUMNS, LARGEST_FILE, catalog_file
from gateway.web.content.problems import Problem
from gateway.web.content.profile import get_profile
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note, read_flash
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

PAGE = 50
SHOWN_ROWS = 200
"""Rows of a preview that are shown; those with problems come first."""
_TEXTS = ("name", "category", "price", "currency", "sort_order", "description", "image_url")


def values_of(item: Item) -> dict[str, str]:
    """The fields of the form for an item."""
    plain = item.plain()
    made = {name: "" if plain[name] is None else str(plain[name]) for name in (*_TEXTS, "id")}
    attributes = "\n".join(f"{name} = {value}" for name, value in item.attributes.items())
    return {**made, "available": "1" if item.available else "", "attributes": attributes}


def _integration(text: str) -> IntegrationKey:
    """The key of an integration of the company; else 404."""
    try:
        found = integration_key(text)
    except ValueError:
        abort(404)
    if found not in tenant().integrations:
        abort(404)
    return found


EMPTY = {**dict.fromkeys((*_TEXTS, "id", "attributes"), ""), "available": "1", "sort_order": "0"}


def data_of(form: Mapping[str, str], known: Item | None) -> dict[str, Any]:
    """An item's data from the fields that a form has; `known` gives those that it does not have."""
    data: dict[str, Any] = known.plain() if known is not None else {}
    data |= {name: form[name] for name in _TEXTS if name in form}
    if "sort_order" in form:
        data["sort_order"] = form["sort_order"].strip() or "0"
    if "shown" in form:
        data["available"] = form.get("available") == "1"
    if "attributes" in form:
        pairs = (line.partition("=") for line in form["attributes"].splitlines() if line.strip())
        data["attributes"] = {name.strip(): value.strip() for name, _, value in pairs}
        if known is not None:  # a number or a switch that was not touched stays one
            data["attributes"] |= {
                name: value for name, value in known.attributes.items() if data["attributes"].get(name) == str(value)
            }
    if form.get("id", "").strip():
        data["id"] = form["id"].strip()
    return data


def shown_problems(problems: tuple[Problem, ...]) -> list[Mapping[str, Any]]:
    """Problems with their fields, for a page in either language."""
    return [{"path": path, "field": path.partition(".")[0], "text": dict(texts_of(text))} for path, text in problems]


def catalog_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/catalog`."""
    pages = Blueprint("catalog", __name__, url_prefix="/t/<number>/catalog")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash)

    def query() -> dict[str, str]:
        """What the table shows: the text looked for, the order, the page."""
        looked = "".join(c for c in request.args.get("q", "").strip()[:80] if c.isprintable())
        order = request.args.get("by", "order")
        page = text if (text := request.args.get("page", "")).isdecimal() and len(text) < 6 else ""
        found = {"q": looked, "by": order if order in store.ORDERS and order != "order" else "", "page": page}
        return {name: value for name, value in found.items() if value}

    def home(number: str, **more: str) -> str:
        asked = {**query(), **more}
        return f"/t/{number}/catalog" + (f"?{urlencode(asked)}" if asked else "")

    @pages.get("")
    async def table(number: str) -> Response:
        of, asked = tenant().number, query()
        looked, order = asked.get("q", ""), asked.get("by", "order")
        page = max(1, int(asked.get("page", "1")))
        total = await db.tenant(of, store.count_items, of)
        found = await db.tenant(of, store.count_items, of, looked) if looked else total
        items = await db.tenant(
            of, store.select_items, of, limit=PAGE, offset=(page - 1) * PAGE, search=looked, order=order
        )
        refused = flashed("item")
        profile = await get_profile(db, tenant())
        menus = [one for one in await db.tenant(of, select_menu_counts, of) if one.differs]
        return site.page(
            "catalog.html", menus=menus, rows=[(item, values_of(item)) for item in items], total=total, found=found, looked=looked, by=order, most=MOST_ITEMS,
            refused=refused.body if refused is not None else {"id": None, "values": EMPTY, "problems": []}, empty=EMPTY,
            asked=urlencode(asked), currency=profile.currency_in(tenant().country), orders=("order", "name", "category", "price"),
            links={one: home(number, by=one, page="") for one in ("order", "name", "category", "price")},
            before=home(number, page=str(page - 1)) if page > 1 else None,
            after=home(number, page=str(page + 1)) if page * PAGE < found else None,
        )  # fmt: skip

    @pages.post("")
    async def add(number: str) -> Answer:
        form = {name: value[:5000] for name, value in (await request.form).items() if name != "csrf"}
        try:
            item = await catalog.add_item(db, tenant(), data_of(form, None), person())
        except Invalid as refused:
            body = {
                "id": "",
                "values": {**EMPTY, "available": "", **form},
                "problems": shown_problems(refused.problems),
            }
            return await lead(f"{home(number)}#add", Flash(kind="item", body=body))
        return await lead(home(number), note("catalog.added", name=item.name))

    async def needed(item_id: str) -> Item:
        found = await db.tenant(tenant().number, store.select_item, tenant().number, item_id)
        if found is None:
            abort(404)
        return found

    @pages.get("/item/<item>")
    async def one(number: str, item: str) -> Response:
        known, refused = await needed(item), flashed("item")
        return site.page(
            "catalog_item.html", item=known, values=refused.body["values"] if refused is not None else values_of(known),
            problems=refused.body["problems"] if refused is not None else [], asked=urlencode(query()),
        )  # fmt: skip

    @pages.post("/item/<item>")
    async def save(number: str, item: str) -> Answer:
        form = {name: value[:5000] for name, value in (await request.form).items() if name != "csrf"}
        known = await needed(item)
        whole = "description" in form
        back = home(number)
        try:
            saved = await catalog.change_item(db, tenant(), item, data_of(form, known), person())
        except Invalid as refused:
            values = {**values_of(known), **({"available": ""} if "shown" in form else {}), **form}
            body = {"id": item, "values": values, "problems": shown_problems(refused.problems)}
            there = f"/t/{number}/catalog/item/{item}" if whole else back
            return await lead(there if whole else f"{there}#i-{item}", Flash(kind="item", body=body))
        if saved is None:
            abort(404)
        return await lead(back if whole else f"{back}#i-{item}", note("catalog.saved", name=saved.name))

    @pages.get("/item/<item>/remove")
    async def confirm_remove(number: str, item: str) -> Response:
        known, t = await needed(item), viewer().t
        return confirm_page(
            site, title=t("catalog.remove_title", name=known.name), text=t("catalog.remove_text"),
            action=f"/t/{number}/catalog/item/{item}/remove?{urlencode(query())}", fields={}, button=t("catalog.remove"), back=home(number),
        )  # fmt: skip

    @pages.post("/item/<item>/remove")
    async def remove(number: str, item: str) -> Answer:
        if (await request.form).get("sure") != "1":
            return redirect(f"/t/{number}/catalog/item/{item}/remove", 303)
        known = await needed(item)
        await catalog.remove_items(db, tenant(), [item], person())
        return await lead(home(number), note("catalog.removed", name=known.name))

    @pages.get("/file")
    async def file(number: str) -> Response:
        items = await db.tenant(tenant().number, store.select_items, tenant().number)
        response = Response(catalog_file(items), content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="catalog.csv"'
        return response

    @pages.get("/menu/<key>")
    async def menu(number: str, key: str) -> Response:
        """What taking the menu of an integration would do, as it and the catalog are now."""
        of = _integration(key)
        found = await db.tenant(tenant().number, menu_difference, tenant().number, of)
        stored, differs = found if found is not None else (None, Difference())
        return site.page(
            "catalog_menu.html", key=of, read_at=stored.read_at if stored is not None else None, shown=SHOWN_ROWS,
            left_out=stored.left_out if stored is not None else 0, differs=differs,
            added=differs.added[:SHOWN_ROWS], changed=differs.changed[:SHOWN_ROWS], removed=differs.removed[:SHOWN_ROWS],
        )  # fmt: skip

    @pages.post("/menu/<key>")
    async def take(number: str, key: str) -> Answer:
        """Takes the menu that the page has shown."""
        of, seen = _integration(key), (await request.form).get("read_at", "")
        here = f"/t/{number}/catalog/menu/{of}"
        try:
            read_at = datetime.fromisoformat(seen[:40])
        except ValueError:
            return await lead(here, note("catalog.menu_again", tone="warn"))
        try:
            done = await take_menu(db, tenant().number, of, person(), read_at)
        except MenuChanged:
            return await lead(here, note("catalog.menu_again", tone="warn"))
        except BadSettings:
            return await lead(here, note("catalog.menu_too_large", tone="bad", most=MOST_ITEMS))
        said = note("catalog.menu_taken", added=len(done.added), changed=len(done.changed), removed=len(done.removed))
        return await lead(home(number), said)

    @pages.get("/import")
    async def preview(number: str) -> Response:
        """What a file would do: it was read when it was sent, and is read again here, for the catalog may have changed."""
        sent, refused = flashed("import"), flashed("file")
        rows: tuple[catalog.ImportedRow, ...] = ()
        problems = list(refused.body["problems"]) if refused is not None else []
        pending = ""
        if sent is not None:
            raw = base64.b64decode(sent.body["raw"])
            try:
                rows = (await catalog.import_items(db, tenant(), raw, person(), dry_run=True)).rows
                pending = sent.flash_id
            except Invalid as error:
                problems = shown_problems(error.problems)
        wrong = [row for row in rows if row.errors]
        good = [row for row in rows if not row.errors]
        return site.page(
            "catalog_import.html", good=len(good), wrong=len(wrong), problems=problems, pending=pending, columns=COLUMNS,
            rows=[(row, shown_problems(row.errors)) for row in (*wrong, *good)[:SHOWN_ROWS]], shown=SHOWN_ROWS, largest=LARGEST_FILE >> 20,
        )  # fmt: skip

    @pages.post("/import")
    async def upload(number: str) -> Answer:
        here = f"/t/{number}/catalog/import"
        files = await request.files
        given = files.get("file")
        raw = given.read(LARGEST_FILE + 1) if given is not None else b""
        try:
            await catalog.import_items(db, tenant(), raw, person(), dry_run=True)
        except Invalid as refused:
            return await lead(here, Flash(kind="file", body={"problems": shown_problems(refused.problems)}))
        return await lead(here, Flash(kind="import", body={"raw": base64.b64encode(raw).decode()}))

    @pages.post("/import/confirm")
    async def confirm(number: str) -> Answer:
        here = f"/t/{number}/catalog/import"
        pending = await read_flash(
            site.deps, gate.token(), (await request.form).get("pending", ""), tenant=tenant().number
        )
        if pending is None or pending.kind != "import":
            return await lead(here, note("catalog.file_gone", tone="bad"))
        try:
            done = await catalog.import_items(
                db, tenant(), base64.b64decode(pending.body["raw"]), person(), dry_run=False
            )
        except Invalid as refused:
            return await lead(here, Flash(kind="file", body={"problems": shown_problems(refused.problems)}))
        return await lead(f"/t/{number}/catalog", note("catalog.imported", count=done.stored, wrong=done.wrong))

    return pages
