"""Orders as people enter them in a form: read, checked with every problem by its field, and shown again.

Items are named by their id or their name, a row each; rows that are empty count for nothing. Read `gateway/web/pages/orders.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from actors.orders.ordering import NewPerson
from gateway.domain.bookings import LONGEST_MIN
from gateway.domain.ids import TenantId
from gateway.domain.orders import (
    MOST_PARTY,
    Comment,
    DeliveryGiven,
    Order,
    OrderKind,
    Quantity,
    Wanted,
    delivery_text,
    quantity_text,
)
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual, has_breaking
from gateway.store.orders import find_items
from gateway.store.postgres.pool import Database
from gateway.web.content.problems import Problem, problems_of, refuse
from gateway.web.rest.contacts import read_phones

ROWS = 5
"""Rows of items in a form, at least; two of them empty."""
MOST_ROWS = 60


def _empty_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    kind: OrderKind = "order"
    starts_at: Annotated[datetime | None, BeforeValidator(_empty_is_none)] = None
    duration_min: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(None, ge=1, le=LONGEST_MIN)
    party: Annotated[int | None, BeforeValidator(_empty_is_none)] = Field(None, ge=1, le=MOST_PARTY)
    comment: Comment = ""
    delivery: DeliveryGiven = None


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Entered:
    """A form that makes sense so far."""

    fields: _Fields
    wanted: tuple[Wanted, ...]
    rows: tuple[int, ...]
    """The row of the form in which each item stands."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a form shows: texts by field, rows of items with quantities, problems by field."""

    values: Mapping[str, str]
    rows: Sequence[tuple[str, str]]
    problems: Sequence[Mapping[str, Any]] = field(default=())


def rows_of(form: Mapping[str, str]) -> list[tuple[str, str]]:
    """The rows of items as they were sent: what, and how many."""
    found = []
    for place in range(MOST_ROWS):
        if f"item{place}" not in form:
            break
        found.append((form[f"item{place}"].strip()[:200], form.get(f"quantity{place}", "").strip()[:20]))
    return found


def padded(rows: Sequence[tuple[str, str]], kind: str) -> list[tuple[str, str]]:
    """Rows with empty ones behind them; a booking has one."""
    if kind == "booking":
        return [*rows, ("", "1")][:1]
    return [*rows, *[("", "1")] * max(2, ROWS - len(rows))][:MOST_ROWS]


async def read_order_form(
    db: Database, number: TenantId, form: Mapping[str, str], known: Order | None = None
) -> Entered:
    """What was entered; items that the order has already (`known`) may be gone from the catalog. Raises Invalid with every problem."""
    problems: list[Problem] = []
    fields: _Fields | None = None
    try:
        fields = _Fields.model_validate(dict(form))
    except ValidationError as error:
        problems += problems_of(error)
    kind = known.kind if known is not None else form.get("kind", "order")
    sent = [(place, *row) for place, row in enumerate(rows_of(form)) if row[0]] if kind != "request" else []
    if kind == "booking":
        sent = sent[:1]
    means = await db.tenant(number, find_items, number, [text for _, text, _ in sent])
    old = {line.name.casefold(): line.catalog_id for line in known.lines} if known is not None else {}
    wanted: list[Wanted] = []
    for place, text, count in sent:
        ids = means.get(text, [])
        ident = old.get(text.casefold()) or (ids[0] if len(ids) == 1 or text in ids else None)
        if ident is None:
            problems.append((f"item{place}", _several() if ids else _no_item()))
            continue
        try:
            wanted.append(Wanted(ident, _Row.model_validate({"quantity": count or "1"}).quantity))
        except ValidationError as error:
            problems += [(f"quantity{place}", text) for _, text in problems_of(error)]
    if problems or fields is None:
        raise Invalid(tuple(problems))
    return Entered(fields, tuple(wanted), tuple(place for place, *_ in sent))


def _no_item() -> Bilingual:
    return Bilingual("there is no such item in the catalog", "такой позиции в каталоге нет")


def _several() -> Bilingual:
    return Bilingual("several items have this name: enter the id", "так называются несколько позиций: введите код")


def by_row(error: Invalid, rows: Sequence[int]) -> list[Problem]:
    """Problems of an order by the fields of the form it was entered in."""
    found = []
    for path, text in error.problems:
        name = path
        if path.startswith("items["):
            place, _, what = path.removeprefix("items[").partition("].")
            row = rows[int(place)] if int(place) < len(rows) else 0
            name = f"{'quantity' if what == 'quantity' else 'item'}{row}"
        elif path == "items":
            name = "item0"
        found.append((name, text))
    return found


def read_client(form: Mapping[str, str], country: str) -> NewPerson:
    """Whoever orders. Raises Invalid."""
    name, phone = form.get("name", "").strip(), form.get("phone", "").strip()
    if len(name) > 200 or has_breaking(name):
        raise refuse("name", "one line of at most 200 characters", "одна строка до 200 знаков")
    phones: list[str] = []
    if phone:
        try:
            phones = read_phones([phone], country)
        except Invalid:
            raise refuse(
                "phone",
                "must be a telephone number such as +375291234567",
                "должен быть номер телефона, например +375291234567",
            ) from None
    if not name and not phones:
        raise refuse("name", "enter a name or a phone", "введите имя или телефон")
    return NewPerson(name=name, phones=phones)


def values_of(order: Order, zone: ZoneInfo) -> Shown:
    """The form of an order as it is."""
    local = order.starts_at.astimezone(zone) if order.starts_at is not None else None
    values = {
        "kind": order.kind, "starts_at": f"{local:%Y-%m-%dT%H:%M}" if local is not None else "",
        "duration_min": str(order.duration_min or ""), "party": str(order.party or ""), "comment": order.comment,
        "delivery": delivery_text(order.delivery), "version": str(order.version),
    }  # fmt: skip
    return Shown(values, padded([(line.name, quantity_text(line.quantity)) for line in order.lines], order.kind))
