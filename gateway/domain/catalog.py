"""What a company sells: items with exact prices, and the catalog as text for a prompt. Pure.

A price is a Decimal with at most its currency's digits behind the point. Read `gateway/domain/prompts.py` next.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
)

from gateway.domain.currency import minor_digits
from gateway.domain.profile import CurrencyCode, OneLine, clean_lines, web_address
from gateway.domain.text import refused

MOST_ITEMS = 10_000
LARGEST_PRICE = Decimal(10) ** 11
"""Below it a price with its digits is the same as a JSON number."""
MOST_ATTRIBUTES = 50
_PRICE = re.compile(r"[0-9]{1,15}([.,][0-9]{1,10})?", re.ASCII)
_PRICE_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}]}
_SPACES = re.compile("[ \u00a0\u202f']")
_ID = re.compile(r"[\w][\w.-]{0,63}")


def read_price(value: Any) -> Decimal:
    """A price as people and programs write it: "12.50", "12,50", "1 250,00", 12.5. Raises for anything else."""
    text = str(value) if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool) else ""
    bare = _SPACES.sub("", text.strip())
    if not _PRICE.fullmatch(bare):
        raise refused("must be a price such as 12.50, 0 or more", "должна быть цена, например 12,50, не меньше 0")
    price = Decimal(bare.replace(",", "."))
    if price >= LARGEST_PRICE:
        raise refused("is too large", "слишком большая")
    return price


def in_digits(price: Decimal, currency: str) -> Decimal:
    """The price with its currency's digits. Raises where it has more."""
    digits = minor_digits(currency)
    exact = price.quantize(Decimal(1).scaleb(-digits))
    if exact != price:
        raise refused(
            f"{currency} has {digits} digits behind the point"
            if digits
            else f"{currency} has no digits behind the point",
            f"у {currency} знаков после запятой: {digits}" if digits else f"у {currency} нет знаков после запятой",
        )
    return exact


def item_id(text: str) -> str:
    """An item's id. Raises for what cannot be one."""
    if not _ID.fullmatch(text):
        raise refused("must be 1 to 64 letters, digits and _ . -", "от 1 до 64 букв, цифр и знаков _ . -")
    return text


def number_is_text(value: Any) -> Any:
    """Ids are texts, also those that a program has as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _plain_value(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise refused("must be a text, a number, or true or false", "должно быть текстом, числом, true или false")
    return value


Attribute = Annotated[str | int | float | bool, BeforeValidator(_plain_value)]


class Item(BaseModel):
    """One item as it is entered. An empty currency is the profile's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[
        str, BeforeValidator(number_is_text), StringConstraints(strip_whitespace=True), AfterValidator(item_id)
    ]
    name: Annotated[OneLine, StringConstraints(min_length=1, max_length=200)]
    description: Annotated[str | None, StringConstraints(strip_whitespace=True, max_length=4000)] = None
    price: Annotated[Decimal, BeforeValidator(read_price), WithJsonSchema(_PRICE_SCHEMA)]
    currency: CurrencyCode = ""
    category: Annotated[str | None, StringConstraints(strip_whitespace=True, max_length=100)] = None
    image_url: Annotated[str | None, StringConstraints(strip_whitespace=True, max_length=2000)] = None
    available: bool = True
    attributes: dict[str, Attribute] = Field(default_factory=dict)
    sort_order: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0

    @field_validator("description")
    @classmethod
    def _lines(cls, value: str | None) -> str | None:
        return clean_lines(value) or None if value is not None else None

    @field_validator("category")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is None or not value:
            return None
        if len(clean_lines(value).splitlines()) > 1:
            raise refused("must be one line", "должно быть в одну строку")
        return value

    @field_validator("image_url")
    @classmethod
    def _picture(cls, value: str | None) -> str | None:
        return web_address(value) or None if value is not None else None

    @field_validator("attributes")
    @classmethod
    def _short(cls, value: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
        if len(value) > MOST_ATTRIBUTES:
            raise refused(f"at most {MOST_ATTRIBUTES} attributes", f"не больше {MOST_ATTRIBUTES} свойств")
        for name, one in value.items():
            if not 0 < len(name.strip()) <= 60 or len(str(one)) > 500 or str(one) in ("nan", "inf", "-inf"):
                raise refused(
                    "a name of 1 to 60 characters and a value of at most 500 are expected",
                    "нужны название от 1 до 60 символов и значение до 500",
                )
            clean_lines(name)
            clean_lines(str(one))
        return value

    def plain(self) -> dict[str, Any]:
        """As a tenant file and a CSV file have it; the price is text."""
        return {
            "id": self.id, "name": self.name, "description": self.description, "price": f"{self.price:f}",
            "currency": self.currency, "category": self.category, "image_url": self.image_url,
            "available": self.available, "attributes": dict(self.attributes), "sort_order": self.sort_order,
        }  # fmt: skip

    def priced_in(self, currency: str) -> "Item":
        """With its currency filled in and the price in that currency's digits. Raises PydanticCustomError."""
        own = self.currency or currency
        return self.model_copy(update={"currency": own, "price": in_digits(self.price, own)})


def order_of(item: Item) -> tuple[int, str, str]:
    """The key to sort a catalog by: `sort_order`, then the name."""
    return (item.sort_order, item.name.casefold(), item.id)


def price_text(price: Decimal, currency: str) -> str:
    """`12.50 BYN`."""
    return f"{price:f} {currency}"


def catalog_text(items: Iterable[Item]) -> str:
    """What is available, by category in the order of the first item of each, a line for each item."""
    by_category: dict[str, list[Item]] = {}
    for item in items:
        if item.available:
            by_category.setdefault(item.category or "", []).append(item)
    bare = by_category.pop("", None)
    blocks = [_block("", bare)] if bare else []
    blocks += [_block(name, those) for name, those in by_category.items()]
    return "\n\n".join(blocks)


def _block(title: str, items: Sequence[Item]) -> str:
    return "\n".join([*([f"{title}:"] if title else []), *map(_line, items)])


def _line(item: Item) -> str:
    line = f"- {item.name} — {price_text(item.price, item.currency)}"
    if item.description:
        line += f". {' '.join(item.description.split())}"
    if item.attributes:
        line += f" ({', '.join(f'{name}: {_word(value)}' for name, value in item.attributes.items())})"
    return line


def _word(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
