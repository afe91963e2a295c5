"""Orders, bookings and requests: a board by status, a list with filters, one order with its way, forms, and what clients may do.

    board or list (live) -> one order -> moved on, changed -> 303 back

Every change goes through `actors/orders/ordering.py` and names the version that its page showed, so that whoever was slower learns it
and loses nothing they typed. An agent has the orders of conversations they see, and their own. Read `gateway/web/content/orders.py` for
how forms are read, `live.py` for the stream.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from pydantic import ValidationError
from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from actors.orders.making import NotThere, Stale
from actors.orders.ordering import NewPerson
from gateway.domain.ids import TenantId
from gateway.domain.orders import (
    LONGEST_HOLD_MIN,
    MOVES,
    ORDER_KINDS,
    ORDER_STATUSES,
    RULES,
    UNTIL,
    NewOrder,
    OrderChange,
    OrderRules,
    delivery_text,
    quantity_text,
)
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual, texts_of
from gateway.store import conversations
from gateway.store.audit import difference, insert_audit
from gateway.store.catalog_items import select_items
from gateway.store.orders import OrderFilter, SeenOrder, count_orders, select_order, select_orders
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import lock_options, set_options
from gateway.web.authors import colleagues_of
from gateway.web.content.orders import (
    Shown,
    by_row,
    padded,
    read_client,
    read_order_form,
    rows_of,
    values_of,
)
from gateway.web.content.problems import Problem, problems_of
from gateway.web.pages.inbox import myself, only_of, words_for
from gateway.web.pages.inbox_view import read_person, visible
from gateway.web.pages.live import live_orders
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, older_than, tenant, viewer

PAGE = 50
COLUMN = 30
"""Cards of one column of the board."""
OPEN = ("new", "confirmed", "in_progress")
SUGGESTED = 300
"""Items of the catalog that a form suggests."""
FORM_FIELDS = (
    "kind",
    "contact",
    "conversation",
    "name",
    "phone",
    "starts_at",
    "duration_min",
    "party",
    "comment",
    "delivery",
    "version",
)
HELPERS: Mapping[str, Any] = {
    "quantity": quantity_text, "delivery_text": delivery_text, "moves": MOVES, "kinds": ORDER_KINDS,
    "statuses": ORDER_STATUSES,
}  # fmt: skip
"""What the templates of orders need."""


def _problems(problems: list[Problem]) -> list[dict[str, Any]]:
    return [{"field": path, "text": dict(texts_of(text))} for path, text in problems]


async def _set_rules(conn: Connection, number: TenantId, rules: OrderRules, person: str) -> None:
    options = await lock_options(conn, number)
    before, after = options.get(RULES) or {}, rules.model_dump(exclude_defaults=True)
    if before == after:
        return
    fresh = {name: value for name, value in options.items() if name != RULES} | ({RULES: after} if after else {})
    await set_options(conn, number, fresh)
    old, new = difference(before, after)
    await insert_audit(conn, number, person, "order.rules", "", old=old, new=new)


def orders_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/orders`."""
    pages = Blueprint("orders", __name__, url_prefix="/t/<number>/orders")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db
    ordering = site.deps.ordering

    def home() -> str:
        return f"/t/{tenant().number}/orders"

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash)

    async def shared() -> dict[str, Any]:
        return {**words_for(gate, await colleagues_of(db, tenant().number)), **HELPERS}

    def query() -> dict[str, str]:
        """What the list shows; what makes no sense is as if it were absent."""
        sent = {name: request.args.get(name, "") for name in ("view", "status", "kind", "q", "before")}
        found = {
            "view": "list" if sent["view"] == "list" else "", "status": sent["status"] if sent["status"] in ORDER_STATUSES else "",
            "kind": sent["kind"] if sent["kind"] in ORDER_KINDS else "",
            "q": "".join(c for c in sent["q"].strip()[:100] if c.isprintable()),
            "before": sent["before"] if older_than(sent["before"]) is not None and len(sent["before"]) < 10 else "",
        }  # fmt: skip
        return {name: value for name, value in found.items() if value}

    async def content() -> dict[str, Any]:
        """The board, or a page of the list."""
        me, number, asked = await myself(gate), tenant().number, query()
        only = only_of(me)
        counts = await db.tenant(number, count_orders, number, only)
        columns: list[tuple[str, list[SeenOrder]]] = []
        found: list[SeenOrder] = []
        older = ""
        if asked.get("view") == "list":
            wanted = OrderFilter(status=asked.get("status"), kind=asked.get("kind"), q=asked.get("q", ""), only=only)
            before = older_than(asked.get("before", ""))
            found = await db.tenant(number, select_orders, number, wanted, PAGE + 1, before)
            older = str(found[PAGE - 1].order.number) if len(found) > PAGE else ""
        else:
            for status in OPEN:
                wanted = OrderFilter(status=status, only=only)
                columns.append((status, await db.tenant(number, select_orders, number, wanted, COLUMN)))
        bare = {name: value for name, value in asked.items() if name != "before"}
        return {
            "columns": columns, "found": found[:PAGE], "counts": counts, "asked": asked, "query": urlencode(bare),
            "older": urlencode({**bare, "before": older}) if older else "", **await shared(),
        }  # fmt: skip

    async def known(ident: UUID) -> SeenOrder:
        """An order that the viewer may see; 404 for any other."""
        only = only_of(await myself(gate))
        found = await db.tenant(tenant().number, select_order, tenant().number, ident, only)
        if found is None:
            abort(404)
        return found

    @pages.get("")
    async def orders(number: str) -> Response:
        return site.page("order_board.html", **await content())

    @pages.get("/part")
    async def part(number: str) -> Response:
        return site.page("order_part.html", **await content())

    @pages.get("/live")
    async def live(number: str) -> Response:
        if request.method == "HEAD":
            return Response(content_type="text/event-stream; charset=utf-8")
        return live_orders(gate, viewer(), gate.token())

    @pages.get("/<uuid:ident>")
    async def order(number: str, ident: UUID) -> Response:
        seen = await known(ident)
        chat = None
        if seen.order.conversation is not None:
            chat = await db.tenant(
                tenant().number, conversations.select_conversation, tenant().number, seen.order.conversation
            )
        return site.page("order.html", seen=seen, one=seen.order, chat=chat, **await shared())

    @pages.post("/<uuid:ident>/status")
    async def move(number: str, ident: UUID) -> Answer:
        form, seen = await request.form, await known(ident)
        onward = f"{home()}?{urlencode(query())}" if form.get("from") == "board" else f"{home()}/{ident}"
        to = form.get("to", "")
        if to not in ORDER_STATUSES:
            abort(400)
        try:
            await ordering.change(
                tenant(), ident, OrderChange(status=to), author=await myself(gate), actor=viewer().session_email,
                expected_version=older_than(form.get("version", "")), only=only_of(await myself(gate)),
            )  # fmt: skip
        except Stale:
            return await lead(onward, note("orders.passed", "warn", number=seen.order.number))
        except NotThere:
            abort(404)
        except Invalid as error:
            return await lead(
                f"{home()}/{ident}", Flash(kind="order", body={"problems": _problems(list(error.problems))})
            )
        return await lead(onward, note(f"orders.moved.{to}", number=seen.order.number))

    # Forms.

    async def form_page(seen: SeenOrder | None, start: Shown, whose: Mapping[str, Any]) -> Response:
        flash = flashed("order")
        sent = flash.body if flash is not None else {}
        kind = seen.order.kind if seen is not None else sent.get("values", start.values).get("kind", "order")
        rows = padded([tuple(row) for row in sent["rows"]], kind) if "rows" in sent else start.rows
        suggested = await db.tenant(
            tenant().number, partial(select_items, limit=SUGGESTED, order="name"), tenant().number
        )
        return site.page(
            "order_edit.html", seen=seen, values={**dict.fromkeys(FORM_FIELDS, ""), **start.values, **sent.get("values", {})}, rows=rows,
            problems=sent.get("problems", []), kind=kind, suggested=[one for one in suggested if one.available], whose=whose,
            **await shared(),
        )  # fmt: skip

    def refused(form: Mapping[str, str], problems: list[Problem]) -> Flash:
        values = {name: form.get(name, "")[:3000] for name in FORM_FIELDS if name in form}
        return Flash(kind="order", body={"values": values, "rows": rows_of(form), "problems": _problems(problems)})

    async def whose_of(sent: Mapping[str, str]) -> dict[str, Any]:
        """For whom a new order is: a conversation or a customer that the viewer may see, by its id in the address or the form."""
        me, number = await myself(gate), tenant().number
        chat, person = _uuid(sent.get("conversation", "")), _uuid(sent.get("contact", ""))
        if chat is not None:
            seen = await db.tenant(number, conversations.select_conversation, number, chat)
            if seen is None or not visible(seen.conversation, only_of(me)):
                abort(404)
            return {"conversation": chat, "contact": seen.root, "name": seen.contact_name}
        if person is not None:
            found = await db.tenant(number, read_person, tenant(), person, viewer().only, only_of(me), most=0)
            if found is None:
                abort(404)
            return {"conversation": None, "contact": found.contact.id, "name": found.contact.name}
        return {"conversation": None, "contact": None, "name": ""}

    @pages.get("/new")
    async def new(number: str) -> Response:
        kind = request.args.get("kind", "")
        kind = kind if kind in ORDER_KINDS else "order"
        return await form_page(None, Shown({"kind": kind}, padded([], kind)), await whose_of(request.args))

    @pages.post("/new")
    async def create(number: str) -> Answer:
        form = {name: value for name, value in (await request.form).items() if name != "csrf"}
        whose, me = await whose_of(form), await myself(gate)
        back: dict[str, str] = {name: str(whose[name]) for name in ("conversation", "contact") if whose[name]}
        again = f"{home()}/new?{urlencode({**back, 'kind': form.get('kind', 'order')[:20]})}"
        problems: list[Problem] = []
        person: NewPerson | None = None
        entered = None
        if whose["contact"] is None:
            try:
                person = read_client(form, tenant().country)
            except Invalid as error:
                problems += error.problems
        try:
            entered = await read_order_form(db, tenant().number, form)
        except Invalid as error:
            problems += error.problems
        if problems or entered is None:
            return await lead(again, refused(form, problems))
        fields = entered.fields
        booking = fields.kind == "booking"
        wish = NewOrder(
            kind=fields.kind, contact=whose["contact"] or UUID(int=0), conversation=whose["conversation"], wanted=entered.wanted,
            starts_at=fields.starts_at if booking else None, duration_min=fields.duration_min if booking else None,
            party=fields.party if booking else None, comment=fields.comment,
            delivery=fields.delivery if fields.kind == "order" else None,
        )  # fmt: skip
        try:
            made = await ordering.create(
                tenant(), wish, author=me, actor=viewer().session_email, person=person, only=only_of(me)
            )
        except Invalid as error:
            return await lead(again, refused(form, by_row(error, entered.rows)))
        one = made.seen.order
        return await lead(f"{home()}/{one.id}", note("orders.created", number=one.number))

    @pages.get("/<uuid:ident>/edit")
    async def edit(number: str, ident: UUID) -> Response:
        seen = await known(ident)
        return await form_page(seen, values_of(seen.order, tenant().timezone), await whose_of({}))

    @pages.post("/<uuid:ident>/edit")
    async def save(number: str, ident: UUID) -> Answer:
        form = {name: value for name, value in (await request.form).items() if name != "csrf"}
        seen, me = await known(ident), await myself(gate)
        one, start = seen.order, values_of(seen.order, tenant().timezone)
        again = f"{home()}/{ident}/edit"
        try:
            entered = await read_order_form(db, tenant().number, {**form, "kind": one.kind}, one)
        except Invalid as error:
            return await lead(again, refused(form, list(error.problems)))
        fields = entered.fields
        sent = {name: form[name].strip() for name in ("starts_at", "duration_min", "party", "delivery") if name in form}
        touched = {name for name, value in sent.items() if value != start.values[name]}
        same = [(line.catalog_id, line.quantity) for line in one.lines] == [
            (each.catalog_id, each.quantity) for each in entered.wanted
        ]
        wish = OrderChange(
            wanted=None if same or one.kind == "request" else entered.wanted,
            starts_at=fields.starts_at if "starts_at" in touched else None,
            duration_min=fields.duration_min if "duration_min" in touched else None,
            party=fields.party if "party" in touched else None,
            comment=fields.comment, delivery=(fields.delivery or "") if "delivery" in touched else None,
        )  # fmt: skip
        try:
            await ordering.change(
                tenant(), ident, wish, author=me, actor=viewer().session_email,
                expected_version=older_than(form.get("version", "")), only=only_of(me),
            )  # fmt: skip
        except Stale as stale:
            flash = refused({**form, "version": str(stale.order.version)}, [("", _passed())])
            return await lead(again, flash)
        except NotThere:
            abort(404)
        except Invalid as error:
            return await lead(again, refused(form, by_row(error, entered.rows)))
        return await lead(f"{home()}/{ident}", note("orders.saved", number=one.number))

    # What clients may do.

    @pages.get("/rules")
    async def rules(number: str) -> Response:
        flash, stored = flashed("rules"), OrderRules.of(tenant().options)
        now: Mapping[str, str] = {
            name: str(value) if value is not None else "" for name, value in stored.model_dump().items()
        }
        values = flash.body["values"] if flash is not None else now
        problems = flash.body["problems"] if flash is not None else []
        return site.page("order_rules.html", values=values, problems=problems, until=UNTIL, most=LONGEST_HOLD_MIN)

    @pages.post("/rules")
    async def save_rules(number: str) -> Answer:
        form = await request.form
        values = {name: form.get(name, "").strip()[:20] for name in OrderRules.model_fields}
        try:
            wanted = OrderRules.model_validate(values)
        except ValidationError as error:
            return await lead(
                f"{home()}/rules",
                Flash(kind="rules", body={"values": values, "problems": _problems(problems_of(error))}),
            )
        await db.tenant(tenant().number, _set_rules, tenant().number, wanted, viewer().session_email)
        await site.deps.modules.refresh(tenant().number)
        return await lead(f"{home()}/rules", note("orders.rules_saved"))

    return pages


def _passed() -> str:
    return Bilingual(
        "Somebody has changed this order meanwhile. What you typed is still here: look at the order, and save again.",
        "Заказ за это время кто-то изменил. Введённое сохранено: посмотрите на заказ и сохраните ещё раз.",
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None
