"""`/orders`: orders, bookings and requests (contract 23); `/catalog/{id}/slots`: the times at which an item can be booked.

Prices are the catalog's: one that was sent and differs is put right, and `corrections` says so. An agent's session sees the orders of
conversations that it may see; an auditor's sees no texts of clients. Whatever changes an order goes through `actors/orders/ordering.py`.
Over 400 lines: the API's fields of an order, in and out, stand beside the endpoints that read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.config import JsonDict

from actors.orders.making import NotThere, Stale
from actors.orders.ordering import NewPerson, Ordered
from gateway.domain.bookings import LONGEST_MIN
from gateway.domain.catalog import read_price
from gateway.domain.orders import (
    MOST_LINES,
    MOST_PARTY,
    Comment,
    Delivery,
    DeliveryGiven,
    NewOrder,
    OrderChange,
    OrderKind,
    OrderStatus,
    Quantity,
    Wanted,
    exact_quantity,
)
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.store.orders import OrderFilter, SeenOrder, select_order, select_orders
from gateway.store.postgres.pool import Connection
from gateway.web.http.routes import Response, problem
from gateway.web.rest.chats import READS, WRITES, author_of, conversation_id
from gateway.web.rest.contacts import ContactBody, read_emails, read_phones
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, problems_of, reply

_EXAMPLE: JsonDict = {
    "id": "3f1b6a52-8f0e-4c8e-9d42-5a0f6f0f2c11", "number": 17, "kind": "order", "contact": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
    "conversation": None, "items": [{"catalog_id": "margherita", "name": "Margherita", "quantity": 2, "price": 12.5}], "starts_at": None,
    "duration_min": None, "party": None, "total": 25.0, "currency": "BYN", "status": "new", "comment": "no onions",
    "delivery": {"address": "Lenina 1"}, "external": [], "call": None, "agreed": True, "created_by": "human:key:gw_a1",
    "created_at": "2026-11-21T00:13:18.948Z", "updated_at": "2026-11-21T00:13:18.948Z", "version": 1, "corrections": [],
}  # fmt: skip
_SENT: JsonDict = {
    "kind": "order", "contact": {"name": "Anna Kuzmina", "phones": ["+375296254070"]},
    "items": [{"catalog_id": "margherita", "quantity": 2}], "delivery": {"address": "Lenina 1"}, "comment": "no onions",
}  # fmt: skip
_CONTACT = "a contact's id, or an object with name, phones and emails"


def _contact(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            raise ValueError(f"must be {_CONTACT}") from None
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"must be {_CONTACT}")
    return value


ContactGiven = Annotated[
    Any, BeforeValidator(_contact),
    WithJsonSchema({"anyOf": [
        {"type": "string", "format": "uuid"},
        {"type": "object", "additionalProperties": False, "properties": {
            "name": {"type": "string", "maxLength": 200}, "phones": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
            "emails": {"type": "array", "items": {"type": "string"}, "maxItems": 20},
        }},
        {"type": "null"},
    ]}),
]  # fmt: skip
Price = Annotated[
    Decimal, BeforeValidator(read_price), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


class WantedItem(Model):
    """An item of the catalog. `name` and `price` may be sent back as they were shown; the catalog's hold."""

    catalog_id: str = Field(min_length=1, max_length=64)
    quantity: Quantity = Decimal(1)
    name: str | None = Field(None, max_length=200)
    price: Price | None = None

    def wanted(self) -> Wanted:
        """For the order."""
        return Wanted(self.catalog_id, self.quantity, self.price)


class CallBack(Model):
    """Of a request: whom to call, and when."""

    phone: str = Field(max_length=40)
    at: datetime | None = Field(
        None, description="without an offset, of the company's time zone; null: as soon as possible"
    )


class OrderBody(Model):
    """A new order."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [_SENT]})

    kind: OrderKind = "order"
    contact: ContactGiven = Field(
        None,
        description=f"{_CONTACT}: whoever has one of these is found before anybody is made; not needed with `conversation`",
    )
    conversation: UUID | None = Field(None, description="in which it was ordered")
    items: tuple[WantedItem, ...] = Field((), max_length=MOST_LINES)
    starts_at: datetime | None = Field(None, description="of a booking; without an offset, of the company's time zone")
    duration_min: int | None = Field(
        None, ge=1, le=LONGEST_MIN, description="by default the item's attribute duration_min"
    )
    party: int | None = Field(None, ge=1, le=MOST_PARTY, description="of a booking: how many people")
    comment: Comment = ""
    delivery: DeliveryGiven = None
    status: Literal["new", "confirmed", "in_progress"] = "new"
    call: CallBack | None = None
    total: Price | None = Field(None, description="what you expect; only compared")
    currency: str | None = Field(None, max_length=3, description="what you expect; only compared")


class OrderPatch(Model):
    """What changes; what is absent stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"status": "confirmed"}]})

    status: OrderStatus | None = None
    items: tuple[WantedItem, ...] | None = Field(
        None, max_length=MOST_LINES, description="all of them; those that were there keep their prices"
    )
    starts_at: datetime | None = None
    duration_min: int | None = Field(None, ge=1, le=LONGEST_MIN)
    party: int | None = Field(None, ge=1, le=MOST_PARTY)
    comment: Comment | None = None
    delivery: DeliveryGiven = Field(None, description="an empty text or object removes it")
    expected_version: int | None = Field(None, ge=1, description="409 where the order is another version meanwhile")


class OrdersQuery(ListQuery):
    """Which orders."""

    status: OrderStatus | None = None
    kind: OrderKind | None = None
    contact: UUID | None = None
    conversation: UUID | None = None
    q: str = Field("", max_length=200, description="the number of an order, or a part of the client's name or phone")


class LineShown(Shown):
    """One line."""

    catalog_id: str
    name: str
    quantity: int | float
    price: float = Field(description="of one; exact, with the digits of the currency")


class ExternalShown(Shown):
    """What the order is in a connected system."""

    integration: str
    id: str | None
    state: str | None = Field(description="of the newest delivery about it; null where there is none")


class CallShown(Shown):
    """Whom to call, and when."""

    phone: str
    at: datetime | None


class Correction(Shown):
    """What was sent and differed from the catalog."""

    path: str
    message: str


class OrderItem(Shown):
    """An order, booking or request."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    number: int = Field(description="what people call it by")
    kind: OrderKind
    contact: str
    conversation: str | None
    items: list[LineShown]
    starts_at: datetime | None
    duration_min: int | None
    party: int | None
    total: float = Field(description="exact, with the digits of the currency")
    currency: str
    status: OrderStatus
    comment: str
    delivery: Delivery | None
    external: list[ExternalShown]
    call: CallShown | None
    agreed: bool = Field(description="whether whoever ordered has agreed to it as it stands")
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int
    corrections: list[Correction]


class OrdersPage(Page[OrderItem]):
    """Orders, the newest first."""


class SlotsQuery(Model):
    """Of which day."""

    day: date
    party: int | None = Field(None, ge=1, le=MOST_PARTY)


class Slot(Shown):
    """A time."""

    starts_at: datetime
    ends_at: datetime


class Slots(Shown):
    """The free times of an item on a day."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        "item": "table-1", "day": "2026-12-04", "time_zone": "Europe/Minsk", "duration_min": 90,
        "slots": [{"starts_at": "2026-12-04T16:00:00Z", "ends_at": "2026-12-04T17:30:00Z"}],
    }]})  # fmt: skip

    item: str
    day: date
    time_zone: str
    duration_min: int
    slots: list[Slot]


def order_item(seen: SeenOrder, corrected: Sequence[tuple[str, str]] = (), *, whole: bool) -> OrderItem:
    """An order as the API shows it; not `whole`: without what clients wrote."""
    one = seen.order
    values: dict[str, Any] = {
        "id": str(one.id), "number": one.number, "kind": one.kind, "contact": str(seen.root),
        "conversation": str(one.conversation) if one.conversation else None,
        "items": [
            LineShown(catalog_id=line.catalog_id, name=line.name, quantity=exact_quantity(line.quantity), price=float(line.price))
            for line in one.lines
        ],
        "starts_at": one.starts_at, "duration_min": one.duration_min, "party": one.party, "total": float(one.total),
        "currency": one.currency, "status": one.status, "comment": one.comment if whole or not one.comment else MASK,
        "delivery": one.delivery if whole or not one.delivery else MASK,
        "external": [ExternalShown(integration=each.integration, id=each.id, state=each.state) for each in seen.external],
        "call": CallShown(phone=one.call_phone, at=one.call_at) if one.call_phone is not None else None,
        "agreed": one.agreed_at is not None, "created_by": one.created_by, "created_at": one.created_at, "updated_at": one.updated_at,
        "version": one.version, "corrections": [Correction(path=path, message=text) for path, text in corrected],
    }  # fmt: skip
    return OrderItem.model_validate(values)


@dataclass(frozen=True, slots=True)
class _Who:
    """Who orders: a contact's id, or somebody to be found or made."""

    contact: UUID | None
    person: NewPerson | None


def _who(call: Call, body: OrderBody) -> _Who:
    """Raises Invalid with the fields behind `contact`."""
    given = body.contact
    if isinstance(given, UUID):
        return _Who(given, None)
    if given is None:
        if body.conversation is None:
            raise Invalid((("contact", f"is missing: {_CONTACT}"),))
        return _Who(None, None)
    try:
        person = ContactBody.model_validate(given)
        phones, emails = read_phones(person.phones, call.tenant.country), read_emails(person.emails)
    except ValidationError as error:
        raise Invalid(tuple((f"contact.{path}", text) for path, text in problems_of(error))) from None
    except Invalid as error:
        raise Invalid(tuple((f"contact.{path}", text) for path, text in error.problems)) from None
    if not person.name and not phones and not emails:
        raise Invalid((("contact.name", "a contact needs a name, a phone or an e-mail address"),))
    return _Who(None, NewPerson(name=person.name, phones=phones, emails=emails))


def _phone(call: Call, text: str) -> str:
    try:
        (phone,) = read_phones([text], call.tenant.country)
    except Invalid as error:
        raise Invalid((("call.phone", error.problems[0][1]),)) from None
    return phone


def _corrected(body: OrderBody, ordered: Ordered) -> list[tuple[str, str]]:
    order, found = ordered.seen.order, list(ordered.corrected)
    if body.total is not None and body.total != order.total:
        found.append(("total", f"the catalog's prices come to {order.total:f}"))
    if body.currency is not None and body.currency.upper() != order.currency:
        found.append(("currency", f"the catalog's is {order.currency}"))
    return found


def order_endpoints(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""
    ordering = deps.ordering

    async def only_of(call: Call) -> str | None:
        return await author_of(deps, call) if call.caller.only is not None else None

    async def listed(call: Call) -> OrdersPage:
        query: OrdersQuery = call.query
        number, limit = call.tenant.number, query.limit
        after = deps.cursors.wanted(number, "orders", query.cursor)
        wanted = OrderFilter(
            status=query.status, kind=query.kind, contact=query.contact, conversation=query.conversation, q=query.q.strip(),
            only=await only_of(call),
        )  # fmt: skip
        found = await deps.db.tenant(number, select_orders, number, wanted, limit + 1, int(after[0]) if after else None)
        onward = deps.cursors.new(number, "orders", [found[limit - 1].order.number]) if len(found) > limit else None
        whole = call.caller.reads_messages
        return OrdersPage(items=[order_item(one, whole=whole) for one in found[:limit]], next=onward)

    async def one(call: Call) -> OrderItem:
        number = call.tenant.number
        found = await deps.db.tenant(number, select_order, number, conversation_id(call), await only_of(call))
        if found is None:
            raise Missing("There is no such order.")
        return order_item(found, whole=call.caller.reads_messages)

    async def make(call: Call) -> Response:
        body: OrderBody = call.body
        who = _who(call, body)
        phone: str | None = None
        if body.call is not None:
            if body.kind != "request":
                raise Invalid((("call", "is for requests alone"),))
            phone = _phone(call, body.call.phone)
        new = NewOrder(
            kind=body.kind, contact=who.contact or UUID(int=0), conversation=body.conversation, status=body.status,
            wanted=tuple(item.wanted() for item in body.items), starts_at=body.starts_at, duration_min=body.duration_min,
            party=body.party, comment=body.comment, delivery=body.delivery, call_phone=phone,
            call_at=body.call.at if body.call is not None else None,
        )  # fmt: skip

        def answer(ordered: Ordered) -> Response:
            return reply(order_item(ordered.seen, _corrected(body, ordered), whole=True), 201)

        async def then(conn: Connection, ordered: Ordered) -> None:
            await call.stored.store(conn, answer(ordered))

        return answer(
            await ordering.create(
                call.tenant, new, author=await author_of(deps, call), actor=call.caller.actor, person=who.person,
                only=await only_of(call), then=then,
            )
        )  # fmt: skip

    async def change(call: Call) -> OrderItem | Response:
        body: OrderPatch = call.body
        removed = "delivery" in body.model_fields_set and body.delivery is None
        wish = OrderChange(
            status=body.status, wanted=tuple(item.wanted() for item in body.items) if body.items is not None else None,
            starts_at=body.starts_at, duration_min=body.duration_min, party=body.party, comment=body.comment,
            delivery="" if removed else body.delivery,
        )  # fmt: skip
        try:
            changed = await ordering.change(
                call.tenant, conversation_id(call), wish, author=await author_of(deps, call), actor=call.caller.actor,
                expected_version=body.expected_version, only=await only_of(call),
            )  # fmt: skip
        except NotThere:
            raise Missing("There is no such order.") from None
        except Stale as stale:
            now = stale.order
            return problem(409, "CONFLICT", "Somebody was quicker: the order is another version.", version=now.version)
        return order_item(changed.seen, changed.corrected, whole=True)

    async def slots(call: Call) -> Slots:
        query: SlotsQuery = call.query
        found = await ordering.free_times(call.tenant, call.param("id"), query.day, query.party)
        length = timedelta(minutes=found.one.duration_min)
        return Slots(
            item=found.one.item.id, day=found.day, time_zone=found.zone.key, duration_min=found.one.duration_min,
            slots=[Slot(starts_at=start, ends_at=start + length) for start in found.free],
        )  # fmt: skip

    section = "Orders"
    return [
        Endpoint(method="GET", path="/orders", operation=listed, scopes=READS, query=OrdersQuery, answer=OrdersPage, agents=True,
                 summary="Orders, bookings and requests, the newest first", section=section),
        Endpoint(method="POST", path="/orders", operation=make, scopes=WRITES, body=OrderBody, answer=OrderItem, status=201, makes=True,
                 atomic=True, agents=True, summary="Makes an order at the catalog's prices", section=section),
        Endpoint(method="GET", path="/orders/{id}", operation=one, scopes=READS, answer=OrderItem, agents=True, summary="One order",
                 section=section),
        Endpoint(method="PATCH", path="/orders/{id}", operation=change, scopes=WRITES, body=OrderPatch, answer=OrderItem, agents=True,
                 summary="Changes an order, or moves it on", problems={409: "Somebody was quicker: the order is another version"}, section=section),
        Endpoint(method="GET", path="/catalog/{id}/slots", operation=slots, scopes=READS, query=SlotsQuery, answer=Slots,
                 summary="The times of a day at which an item can be booked", section=section),
    ]  # fmt: skip
