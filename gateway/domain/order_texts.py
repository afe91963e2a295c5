"""An order in words, as it is repeated to the client in full before it counts, in both languages. Pure.

The text is made from the stored order alone, so that whoever repeats it cannot change it. `repeats` finds it in a message.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from gateway.domain.catalog import price_text
from gateway.domain.orders import Order, delivery_text, quantity_text
from gateway.domain.texts import LANGUAGES

_DAYS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ru": ("понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"),
})  # fmt: skip
_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType({
    "en": {
        "order": "Order", "booking": "Booking", "request": "Request", "total": "Total", "when": "When", "min": "min",
        "party": "Guests", "delivery": "Delivery", "comment": "Comment", "price": "Price", "call": "We call you back",
        "soon": "as soon as somebody is free",
    },
    "ru": {
        "order": "Заказ", "booking": "Бронирование", "request": "Заявка", "total": "Итого", "when": "Когда", "min": "мин",
        "party": "Гостей", "delivery": "Доставка", "comment": "Комментарий", "price": "Стоимость", "call": "Перезвоним вам",
        "soon": "как только кто-то освободится",
    },
})  # fmt: skip


def moment_text(moment: datetime, zone: ZoneInfo, language: str) -> str:
    """`Friday, 4.12.2026, 19:00` in the company's zone."""
    local = moment.astimezone(zone)
    day = f"{local.day}.{local.month:02d}.{local.year}" if language == "ru" else local.date().isoformat()
    return f"{_DAYS[language][local.weekday()]}, {day}, {local:%H:%M}"


def order_text(order: Order, zone: ZoneInfo, language: str) -> str:
    """The whole order, a line for each part."""
    words = _WORDS[language]
    head = f"{words[order.kind]} № {order.number}" if language == "ru" else f"{words[order.kind]} no. {order.number}"
    parts = []
    if order.kind == "order":
        parts.append(f"{head}:")
        for place, line in enumerate(order.lines, 1):
            parts.append(
                f"{place}. {line.name}: {quantity_text(line.quantity)} × {line.price:f} = "
                f"{price_text(line.amount(order.currency), order.currency)}"
            )
        parts.append(f"{words['total']}: {price_text(order.total, order.currency)}")
    elif order.kind == "booking":
        assert order.starts_at is not None
        names = ", ".join(line.name for line in order.lines)
        parts.append(f"{head}: {names}")
        parts.append(
            f"{words['when']}: {moment_text(order.starts_at, zone, language)} ({zone.key}), {order.duration_min} {words['min']}"
        )
        if order.party is not None:
            parts.append(f"{words['party']}: {order.party}")
        if order.total:
            parts.append(f"{words['price']}: {price_text(order.total, order.currency)}")
    else:
        parts.append(f"{head}")
        if order.call_phone is not None:
            when = f"{moment_text(order.call_at, zone, language)}" if order.call_at is not None else words["soon"]
            parts.append(f"{words['call']}: {order.call_phone}, {when}")
    if order.delivery:
        parts.append(f"{words['delivery']}: {delivery_text(order.delivery)}")
    if order.comment:
        parts.append(f"{words['comment']}: {order.comment}")
    return "\n".join(parts)


def repeats(text: str, order: Order, zone: ZoneInfo) -> bool:
    """Whether a message holds the whole order as it stands, in either language; spaces and line breaks do not count."""
    bare = " ".join(text.split())
    return any(" ".join(order_text(order, zone, language).split()) in bare for language in LANGUAGES)
