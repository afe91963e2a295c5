"""Whether a step went as it should: item, total, agreement, hand-over, words, and nothing invented. Pure.

Invented is a price that stands neither in what the model was given nor in what the client wrote, and each link, address and number that
had to be cut from an answer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from actors.ai.replay.corpus import Expect, Today
from gateway.domain.orders import Order
from gateway.store.contacts import Contact

CHECKS = ("answered", "item", "total", "agreed", "contact", "task", "hand_over", "words", "nothing_invented")
_CURRENCY = r"(?:BYN|RUB|KZT|USD|EUR|GBP|руб(?:л[а-яё]+)?\.?|р\.|₽|тенге|евро|доллар[а-яё]*|dollars?|roubles?|rubles?|euros?|€|\$|£)"
_AMOUNT = r"\d{1,3}(?:[ \u00a0]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
_PRICE = re.compile(
    rf"(?:(?P<before>{_AMOUNT})[ \u00a0]*{_CURRENCY}|(?:BYN|RUB|USD|EUR|€|\$|£)[ \u00a0]*(?P<after>{_AMOUNT}))",
    re.IGNORECASE,
)
_NUMBER = re.compile(_AMOUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there after a step."""

    answer: str
    """Empty: none was sent."""
    handed_over: bool
    orders: Sequence[Order]
    """Of the conversation, the newest first."""
    contact: Contact | None
    given: str
    """Everything that the model was given in the conversation, by the company and by the client."""
    removed: Sequence[str]
    """What had to be cut from the answer."""


def amounts(text: str, pattern: re.Pattern[str] = _NUMBER) -> set[Decimal]:
    """The numbers of a text; with `_PRICE` those that stand beside a currency."""
    found = set[Decimal]()
    for match in pattern.finditer(text):
        named = match.groupdict()
        number = (named.get("before") or named.get("after")) if named else match[0]
        try:
            found.add(Decimal((number or "").replace(" ", "").replace("\u00a0", "").replace(",", ".")).normalize())
        except InvalidOperation:
            continue
    return found


def invented_prices(answer: str, given: str) -> list[str]:
    """The prices of an answer that nobody gave."""
    known = amounts(given)
    return sorted(f"{one:f}" for one in amounts(answer, _PRICE) if one not in known)


def score(expect: Expect, seen: Seen, today: Today, zone: ZoneInfo) -> Mapping[str, bool]:
    """Each check that the step has, and whether it went right."""
    found = {"answered": bool(seen.answer) or expect.hand_over, "hand_over": seen.handed_over == expect.hand_over}
    made = [one for one in seen.orders if one.kind != "request"]
    newest = made[0] if made else None
    if expect.items is not None:
        lines = {line.catalog_id: line.quantity for line in newest.lines} if newest is not None else {}
        found["item"] = lines == {name: quantity for name, quantity in expect.items.items() if quantity}
    if expect.booking is not None:
        found["item"] = newest is not None and _is_booked(newest, expect, today, zone)
    if expect.total is not None:
        found["total"] = newest is not None and newest.total == expect.total
    if expect.agreed is not None or expect.cancelled is not None:
        agreed = newest is not None and newest.agreed_at is not None and newest.status != "cancelled"
        cancelled = newest is not None and newest.status == "cancelled"
        found["agreed"] = (expect.agreed is None or agreed == expect.agreed) and (
            expect.cancelled is None or cancelled == expect.cancelled
        )
    requests = [one for one in seen.orders if one.kind == "request"]
    if expect.request is not None or expect.call is not None:
        called = expect.call is None or any(one.call_phone == expect.call for one in requests)
        found["task"] = bool(requests) == (expect.request is not False) and called
    if expect.contact is not None:
        found["contact"] = _is_known(seen.contact, expect)
    if expect.says or expect.never:
        text = _bare(seen.answer)
        said = all(any(_bare(one) in text for one in words.split("|")) for words in expect.says)
        found["words"] = said and not any(_bare(one) in text for one in expect.never)
    found["nothing_invented"] = not seen.removed and not invented_prices(seen.answer, seen.given)
    return {name: found[name] for name in CHECKS if name in found}


def _is_booked(order: Order, expect: Expect, today: Today, zone: ZoneInfo) -> bool:
    wanted = expect.booking
    assert wanted is not None
    if (
        order.kind != "booking"
        or order.starts_at is None
        or wanted.item not in [line.catalog_id for line in order.lines]
    ):
        return False
    local = order.starts_at.astimezone(zone)
    party = wanted.party is None or order.party == wanted.party
    return (local.date(), f"{local:%H:%M}") == (today.of(wanted.day), wanted.at) and party


def _is_known(contact: Contact | None, expect: Expect) -> bool:
    wanted = expect.contact
    assert wanted is not None
    if contact is None:
        return False
    return (
        (wanted.name is None or wanted.name.casefold() in contact.name.casefold())
        and (wanted.phone is None or wanted.phone in [one.phone for one in contact.phones])
        and (wanted.email is None or wanted.email.casefold() in [one.casefold() for one in contact.emails])
    )


def _bare(text: str) -> str:
    return " ".join(text.casefold().replace("ё", "е").replace("\u00a0", " ").split())
