"""Orders, bookings and requests: what they hold, what they cost, and how far they are. Pure.

    new -> confirmed -> in_progress -> done
    the first three -> cancelled;  in_progress -> confirmed, done -> in_progress and cancelled -> new take a mistake back

A line's name and price come from the catalog, never from whoever orders; a line that an order has already keeps the price that was
agreed. What a client orders in a chat counts once it was repeated to them in full (`gateway/domain/order_texts.py`) and they agreed:
`agreed_at`. Read `gateway/domain/bookings.py` for times, `actors/orders/ordering.py` for how orders change.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from gateway.domain.catalog import Item
from gateway.domain.currency import minor_digits
from gateway.domain.posts import Invalid
from gateway.domain.profile import clean_line, clean_lines
from gateway.domain.text import Bilingual, refused

OrderKind = Literal["order", "booking", "request"]
ORDER_KINDS: tuple[OrderKind, ...] = get_args(OrderKind)
OrderStatus = Literal["new", "confirmed", "in_progress", "done", "cancelled"]
ORDER_STATUSES: tuple[OrderStatus, ...] = get_args(OrderStatus)
MOVES: Mapping[OrderStatus, tuple[OrderStatus, ...]] = MappingProxyType({
    "new": ("confirmed", "in_progress", "done", "cancelled"),
    "confirmed": ("in_progress", "done", "cancelled"),
    "in_progress": ("done", "confirmed", "cancelled"),
    "done": ("in_progress",),
    "cancelled": ("new",),
})  # fmt: skip
"""From each status, those that people may move it to, the usual one first."""
CLOSED: frozenset[OrderStatus] = frozenset({"done", "cancelled"})
"""Nothing of such an order changes but its comment."""

MOST_LINES = 100
MOST_QUANTITY = Decimal(1_000_000)
LARGEST_TOTAL = Decimal(10) ** 11
"""Below it a total with its digits is the same as a JSON number."""
LONGEST_COMMENT = 2000
LONGEST_DELIVERY = 1000
MOST_DELIVERY_FIELDS = 20
MOST_PARTY = 1000
STEP = "quantity_step"
"""The attribute of an item that is sold by parts of one: 0.1 for what is weighed to 100 g. Without it, whole pieces."""

_QUANTITY = re.compile(r"[0-9]{1,9}([.,][0-9]{1,6})?", re.ASCII)


def read_quantity(value: Any) -> Decimal:
    """A quantity as people and programs write it: 2, "2", "0,5". Raises for anything else."""
    text = str(value).strip() if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) else ""
    if not _QUANTITY.fullmatch(text):
        raise refused("must be a number such as 2", "должно быть число, например 2")
    return Decimal(text.replace(",", "."))


def read_delivery(value: Any) -> Any:
    """A text, or fields with short texts; what is empty is nothing. Raises for anything else."""
    if value is None or (isinstance(value, str) and not value.strip()) or value == {}:
        return None
    if isinstance(value, str) and len(value) <= LONGEST_DELIVERY:
        return clean_lines(value.strip())
    if isinstance(value, Mapping) and len(value) <= MOST_DELIVERY_FIELDS:
        fields = {str(name): "" if one is None else str(one) for name, one in value.items()}
        if (
            all(isinstance(one, str | int | float | None) for one in value.values())
            and sum(len(name) + len(one) for name, one in fields.items()) <= LONGEST_DELIVERY
        ):
            return {clean_line(name): clean_lines(one) for name, one in fields.items()}
    raise refused(
        f"must be a text of at most {LONGEST_DELIVERY} characters, or up to {MOST_DELIVERY_FIELDS} fields with texts",
        f"должен быть текст до {LONGEST_DELIVERY} знаков или до {MOST_DELIVERY_FIELDS} полей с текстами",
    )


Quantity = Annotated[
    Decimal, BeforeValidator(read_quantity),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]  # fmt: skip
Delivery = str | dict[str, str]
"""How and where an order is delivered: a text, or fields with short texts, as whoever ordered gave it."""
DeliveryGiven = Annotated[Delivery | None, BeforeValidator(read_delivery)]
Comment = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=LONGEST_COMMENT), AfterValidator(clean_lines)
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item somebody wants. `price` is what they believe it costs: only compared."""

    catalog_id: str
    quantity: Decimal = Decimal(1)
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an order. The price is of one, exact, with the digits of the order's currency."""

    catalog_id: str
    name: str
    quantity: Decimal
    price: Decimal

    def amount(self, currency: str) -> Decimal:
        """Price times quantity; what a part of one comes to is rounded to the currency's digits, halves up."""
        return (self.price * self.quantity).quantize(Decimal(1).scaleb(-minor_digits(currency)), ROUND_HALF_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order, booking or request. Times are UTC."""

    id: UUID
    number: int
    """What people call it by: 1, 2, 3 of the company."""
    kind: OrderKind
    status: OrderStatus
    contact: UUID
    conversation: UUID | None = None
    lines: tuple[Line, ...] = ()
    total: Decimal = Decimal(0)
    currency: str
    starts_at: datetime | None = None
    duration_min: int | None = None
    party: int | None = None
    comment: str = ""
    delivery: Delivery | None = None
    call_phone: str | None = None
    """Of a request to call back: the number to call."""
    call_at: datetime | None = None
    created_by: str
    """An author, as of messages."""
    created_at: datetime
    updated_at: datetime
    version: int = 1
    agreed_at: datetime | None = None
    """When whoever ordered agreed to it as it stands; None until then."""
    said_after: int = 0
    """The number of the conversation's message behind which the client is told of it as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """What is ordered, before it is judged. Times without an offset are of the company's zone."""

    kind: OrderKind
    contact: UUID
    conversation: UUID | None = None
    status: OrderStatus = "new"
    wanted: tuple[Wanted, ...] = ()
    starts_at: datetime | None = None
    duration_min: int | None = None
    """None: as the item has it."""
    party: int | None = None
    comment: str = ""
    delivery: Delivery | None = None
    call_phone: str | None = None
    call_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChange:
    """What changes of an order; None stays as it is. An empty comment or delivery removes it."""

    status: OrderStatus | None = None
    wanted: tuple[Wanted, ...] | None = None
    starts_at: datetime | None = None
    duration_min: int | None = None
    party: int | None = None
    comment: str | None = None
    delivery: Delivery | None = None

    @property
    def content(self) -> bool:
        """Whether it is about what is ordered, not how far it is or what is noted beside it."""
        return any(
            one is not None for one in (self.wanted, self.starts_at, self.duration_min, self.party, self.delivery)
        )


Until = Literal["never", "new", "confirmed", "in_progress"]
UNTIL: tuple[Until, ...] = get_args(Until)
"""How long clients may change an order by themselves: until it leaves this status. In the order of an order's way."""
LONGEST_HOLD_MIN = 24 * 60


class OrderRules(BaseModel):
    """What a company lets clients do by themselves: the block `orders` of the tenant file, stored in the company's options."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    change_until: Until = "confirmed"
    """The last status in which a client may change an order."""
    cancel_until: Until = "confirmed"
    hold_min: Annotated[int, Field(ge=1, le=LONGEST_HOLD_MIN)] = 30
    """Minutes for which a time is held for a client who has not agreed yet, when somebody else wants it too."""
    keep_days: Annotated[
        Annotated[int, Field(ge=1, le=3650)] | None, BeforeValidator(lambda given: None if given == "" else given)
    ] = None
    """Days for which an order is kept once it is done or cancelled; None: as long as its customer."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "OrderRules":
        """From a company's options."""
        return cls.model_validate(options.get(RULES) or {})


RULES = "orders"
"""Where they are in a company's options."""


def client_may(until: Until, status: OrderStatus) -> bool:
    """Whether a client may still do it to an order in this status."""
    return status not in CLOSED and UNTIL.index(status) <= UNTIL.index(until)


def quantity_step(item: Item) -> Decimal:
    """By which an item's quantity grows; 1 where its attribute is none or makes no sense."""
    try:
        step = Decimal(str(item.attributes.get(STEP, 1)).replace(",", "."))
    except InvalidOperation:
        return Decimal(1)
    return step if step.is_finite() and Decimal("0.001") <= step <= 1 else Decimal(1)


def exact_quantity(quantity: Decimal) -> int | float:
    """A quantity as a JSON number."""
    return int(quantity) if quantity == quantity.to_integral_value() else float(quantity)


def quantity_text(quantity: Decimal) -> str:
    """`2`, `0.5`."""
    return f"{quantity.normalize():f}" if quantity else "0"


@dataclass(frozen=True, slots=True)
class Priced:
    """What items come to."""

    lines: tuple[Line, ...]
    total: Decimal
    currency: str
    corrected: tuple[tuple[str, str], ...] = field(default=())
    """What differed from the catalog and was put right, by its path."""


def price(
    wanted: Sequence[Wanted], catalog: Mapping[str, Item], before: Sequence[Line] = (), currency: str = ""
) -> Priced:
    """The lines and total of what is wanted. `before` are the lines of the order as it was, in `currency`: an item among them keeps
    its name and price, also where the catalog has it no more. Raises Invalid with every problem."""
    problems: list[tuple[str, str]] = []
    corrected: list[tuple[str, str]] = []
    known = {line.catalog_id: line for line in before}
    found: dict[str, Line] = {}
    currencies: dict[str, None] = {currency: None} if currency and before else {}
    if not 0 < len(wanted) <= MOST_LINES:
        raise Invalid(
            (("items", Bilingual(f"1 to {MOST_LINES} items are expected", f"нужно от 1 до {MOST_LINES} позиций")),)
        )
    for place, one in enumerate(wanted):
        path, item, old = f"items[{place}]", catalog.get(one.catalog_id), known.get(one.catalog_id)
        if item is None and old is None:
            problems.append((f"{path}.catalog_id", Bilingual(
                "there is no such item in the catalog", "такой позиции в каталоге нет"
            )))  # fmt: skip
            continue
        if item is not None and not item.available and old is None:
            problems.append((f"{path}.catalog_id", Bilingual(
                f"{item.name} is not available now", f"«{item.name}» сейчас нет в наличии"
            )))  # fmt: skip
            continue
        if (problem := _wrong_quantity(one.quantity, item)) is not None:
            problems.append((f"{path}.quantity", problem))
            continue
        if old is not None:
            line = Line(old.catalog_id, old.name, one.quantity, old.price)
        else:
            assert item is not None
            line = Line(item.id, item.name, one.quantity, item.price)
            currencies[item.currency] = None
        if one.price is not None and one.price != line.price:
            corrected.append((f"{path}.price", Bilingual(
                f"the catalog's price holds: {line.price:f}", f"действует цена каталога: {line.price:f}"
            )))  # fmt: skip
        if (same := found.get(line.catalog_id)) is not None:
            line = Line(line.catalog_id, line.name, line.quantity + same.quantity, line.price)
        found[line.catalog_id] = line
    if len(currencies) > 1:
        problems.append(("items", Bilingual(
            f"items of one order must have one currency, not {' and '.join(sorted(currencies))}",
            f"в одном заказе должна быть одна валюта, а не {' и '.join(sorted(currencies))}",
        )))  # fmt: skip
    if problems:
        raise Invalid(tuple(problems))
    unit = next(iter(currencies))
    lines = tuple(found.values())
    return Priced(lines, total_of(lines, unit), unit, tuple(corrected))


def _wrong_quantity(quantity: Decimal, item: Item | None) -> Bilingual | None:
    step = quantity_step(item) if item is not None else Decimal(1)
    if quantity.is_finite() and 0 < quantity <= MOST_QUANTITY and quantity % step == 0:
        return None
    if step == 1:
        return Bilingual(
            f"must be a whole number from 1 to {MOST_QUANTITY}", f"должно быть целое число от 1 до {MOST_QUANTITY}"
        )
    return Bilingual(
        f"must be more than 0 and a multiple of {step:f}, at most {MOST_QUANTITY}",
        f"должно быть больше 0, кратно {step:f} и не больше {MOST_QUANTITY}",
    )


def total_of(lines: Sequence[Line], currency: str) -> Decimal:
    """What the lines come to, exact. Raises Invalid where it is too large."""
    total = sum((line.amount(currency) for line in lines), Decimal(0).scaleb(-minor_digits(currency)))
    if total >= LARGEST_TOTAL:
        raise Invalid((("items", Bilingual("the total is too large", "сумма слишком велика")),))
    return total


def check_move(before: OrderStatus, after: OrderStatus) -> None:
    """Raises Invalid where an order cannot go from one status to the other; to the same it always can."""
    if after == before or after in MOVES[before]:
        return
    allowed = ", ".join(MOVES[before])
    raise Invalid((("status", Bilingual(
        f"an order that is {before} can become {allowed}, not {after}",
        f"заказ в статусе {before} может перейти в {allowed}, но не в {after}",
    )),))  # fmt: skip


def delivery_text(delivery: Delivery | None) -> str:
    """On one line, for people."""
    if delivery is None or isinstance(delivery, str):
        return delivery or ""
    return "; ".join(f"{name}: {value}" for name, value in delivery.items())
