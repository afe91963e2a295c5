"""Tools by which the model takes orders for the client of one conversation, and changes those that were made in it.

What an order costs is the catalog's word. It counts once its whole text was sent to the client and they wrote again: `update_order` with
`agreed` looks for both in the conversation, whatever the model believes. Read `actors/orders/making.py` for what is judged.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from actors.ai.tool import Arguments, Bound, Outcome, Refused, Tool
from actors.orders.making import Applied, By, NotThere, agree, change, make
from gateway.domain.catalog import price_text
from gateway.domain.chats import AI
from gateway.domain.order_texts import moment_text, order_text
from gateway.domain.orders import (
    CLOSED,
    LONGEST_DELIVERY,
    MOST_LINES,
    MOST_PARTY,
    Comment,
    NewOrder,
    Order,
    OrderChange,
    OrderRules,
    Quantity,
    Wanted,
    client_may,
    exact_quantity,
)
from gateway.domain.posts import Invalid
from gateway.store.orders import select_orders_of_conversation
from gateway.store.postgres.pool import Connection

MOST_OPEN = 3
"""Orders of one conversation that may wait for the client's word at once: each booking among them keeps a time from others."""
MOST_SHOWN = 20
REPEAT = (
    "Nothing is ordered yet. Send the client the text in `repeat` word for word, ask whether all of it is right, and wait for their answer. "
    "When they agree, call update_order with this order and agreed=true. When they want it otherwise, change it with update_order."
)

CatalogId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Delivery = Annotated[str, StringConstraints(max_length=LONGEST_DELIVERY)]


class Wish(BaseModel):
    """One item."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    catalog_id: CatalogId = Field(description="the item's id, as search_catalog gave it")
    quantity: Quantity = Field(Decimal(1), description="how many")


class CreateOrder(Arguments):
    """What the client wants."""

    items: Annotated[tuple[Wish, ...], Field(min_length=1, max_length=MOST_LINES)] = Field(
        description="what and how much"
    )
    delivery: Delivery = Field(
        "", description="where and how to deliver, in the client's words; empty where they did not say"
    )
    comment: Comment = Field("", description="wishes of the client")
    total: Quantity | None = Field(None, description="the total you expect, to be checked against the catalog")


class UpdateOrder(Arguments):
    """What changes; leave out what stays."""

    order: int | None = Field(
        None, description="the order's number; the newest of this conversation where it is left out"
    )
    items: Annotated[tuple[Wish, ...], Field(min_length=1, max_length=MOST_LINES)] | None = Field(
        None, description="all items as they shall be, not only those that change"
    )
    starts_at: datetime | None = Field(
        None, description="of a booking: its new time, in the company's time zone, such as 2026-12-04T19:00"
    )
    party: int | None = Field(None, ge=1, le=MOST_PARTY, description="of a booking: how many people come")
    delivery: Delivery | None = Field(None, description="where and how to deliver")
    comment: Comment | None = Field(None, description="wishes of the client")
    cancel: bool = Field(False, description="true where the client does not want it any more")
    agreed: bool = Field(False, description="true once the client has said yes to the order as it was repeated to them")


class OrderStatusOf(Arguments):
    """Which order."""

    order: int | None = Field(None, description="the order's number; all of this conversation where it is left out")


def by_client(bound: Bound) -> By:
    """The client, by the AI operator's hand."""
    return By(author=AI, actor=AI, now=bound.now, said_after=bound.conversation.last_seq)


def reasons(error: Invalid) -> str:
    """Why it was refused, for the model."""
    return "; ".join(f"{path}: {text}" for path, text in error.problems)


def shown(order: Order, bound: Bound) -> dict[str, Any]:
    """An order as the model reads it."""
    rules, zone = OrderRules.of(bound.tenant.options), bound.tenant.timezone
    found: dict[str, Any] = {
        "order": order.number, "kind": order.kind, "status": order.status, "agreed_by_client": order.agreed_at is not None,
        "items": [
            {"catalog_id": one.catalog_id, "name": one.name, "quantity": exact_quantity(one.quantity),
             "price": price_text(one.price, order.currency)}
            for one in order.lines
        ],
        "total": price_text(order.total, order.currency) if order.lines else None,
        "starts_at": moment_text(order.starts_at, zone, bound.language) if order.starts_at is not None else None,
        "duration_min": order.duration_min, "party": order.party, "delivery": order.delivery, "comment": order.comment,
        "client_may_change": client_may(rules.change_until, order.status),
        "client_may_cancel": client_may(rules.cancel_until, order.status),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def outcome(applied: Applied, bound: Bound, *, expected: Decimal | None = None) -> Outcome:
    """What the model reads of an order that was made or changed."""
    order = applied.order
    value = shown(order, bound)
    corrected = [f"{path}: {text}" for path, text in applied.corrected]
    if expected is not None and expected != order.total:
        corrected.append(f"total: it is {price_text(order.total, order.currency)}; tell the client so")
    if corrected:
        value["corrected"] = corrected
    if order.agreed_at is None and order.status not in CLOSED:
        value |= {"repeat": order_text(order, bound.tenant.timezone, bound.language), "next": REPEAT}
    return Outcome(value=value, changed=applied.subjects, orders=applied.orders)


async def check_waiting(conn: Connection, bound: Bound) -> None:
    """Raises Refused where too many orders of the conversation wait for the client's word already."""
    found = await select_orders_of_conversation(conn, bound.tenant.number, bound.conversation.id, MOST_SHOWN)
    waiting = [one.number for one in found if one.agreed_at is None and one.status not in CLOSED]
    if len(waiting) >= MOST_OPEN:
        raise Refused(
            f"Orders {', '.join(map(str, waiting))} still wait for the client's word: have them agreed to, changed or cancelled first."
        )


async def create_order(conn: Connection, bound: Bound, arguments: CreateOrder) -> Outcome:
    """A new order, which waits for the client's word."""
    await check_waiting(conn, bound)
    new = NewOrder(
        kind="order", contact=bound.conversation.contact, conversation=bound.conversation.id, wanted=wanted(arguments.items),
        comment=arguments.comment, delivery=arguments.delivery or None,
    )  # fmt: skip
    try:
        applied = await make(conn, bound.tenant, new, by_client(bound))
    except Invalid as error:
        raise Refused(reasons(error)) from None
    return outcome(applied, bound, expected=arguments.total)


def wanted(items: Sequence[Wish]) -> tuple[Wanted, ...]:
    """For the order."""
    return tuple(Wanted(one.catalog_id, one.quantity) for one in items)


async def update_order(conn: Connection, bound: Bound, arguments: UpdateOrder) -> Outcome:
    """An order of this conversation changed, cancelled, or agreed to."""
    found = await _of(conn, bound, arguments.order)
    wish = OrderChange(
        status="cancelled" if arguments.cancel else None, wanted=wanted(arguments.items) if arguments.items is not None else None,
        starts_at=arguments.starts_at, party=arguments.party, delivery=arguments.delivery, comment=arguments.comment,
    )  # fmt: skip
    if arguments.agreed and wish != OrderChange():
        raise Refused(
            "Change the order first, repeat it to the client, and call this with agreed=true alone when they agree."
        )
    here = bound.conversation.id
    try:
        if arguments.agreed:
            applied = await agree(conn, bound.tenant, found.id, here, by_client(bound))
        else:
            applied = await change(conn, bound.tenant, found.id, wish, by_client(bound), conversation=here)
    except NotThere:
        raise Refused("There is no such order in this conversation.") from None
    except Invalid as error:
        raise Refused(reasons(error)) from None
    return outcome(applied, bound)


async def _of(conn: Connection, bound: Bound, number: int | None) -> Order:
    """The order of this number that was made in this conversation, or its newest. Raises Refused."""
    found = await select_orders_of_conversation(conn, bound.tenant.number, bound.conversation.id, MOST_SHOWN)
    chosen = next((one for one in found if number is None or one.number == number), None)
    if chosen is None:
        raise Refused(
            "There is no such order in this conversation. The company's people can look for others: use hand_over."
        )
    return chosen


async def order_status(conn: Connection, bound: Bound, arguments: OrderStatusOf) -> Outcome:
    """How far the orders of this conversation are."""
    if arguments.order is not None:
        return Outcome(value=shown(await _of(conn, bound, arguments.order), bound))
    found = await select_orders_of_conversation(conn, bound.tenant.number, bound.conversation.id, MOST_SHOWN)
    return Outcome(value={"orders": [shown(one, bound) for one in found]})


TOOLS = (
    Tool(
        name="create_order", arguments=CreateOrder, run=create_order, changes=True,
        description="Makes an order of items of the catalog. It counts only after the client has agreed to its whole text: see `next` in the answer.",
    ),
    Tool(
        name="update_order", arguments=UpdateOrder, run=update_order, changes=True,
        description="Changes an order or booking of this conversation, cancels it, or records that the client agreed to it (agreed=true).",
    ),
    Tool(
        name="order_status", arguments=OrderStatusOf, run=order_status,
        description="What the orders, bookings and requests made in this conversation hold, and how far they are.",
    ),
)  # fmt: skip
