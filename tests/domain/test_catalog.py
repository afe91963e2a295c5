"""Catalog items: exact prices, what is refused, and the catalog as a prompt has it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.domain.catalog import Item, catalog_text, in_digits, order_of, read_price


def item(**fields: Any) -> Item:
    return Item.model_validate({"id": "a", "name": "A", "price": "1", **fields})


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("12.50", "12.50"),
        ("12,50", "12.50"),
        (" 1 250,00 ", "1250.00"),
        ("1\u00a0250", "1250"),
        (12.5, "12.5"),
        (7, "7"),
        ("0", "0"),
    ],
)
def test_prices_as_people_write_them(written: Any, price: str) -> None:
    assert read_price(written) == Decimal(price)


@pytest.mark.parametrize(
    "written", ["", "-1", "1e5", "1.2.3", "free", None, True, float("nan"), "100000000000", "١٢", "1,250.00"]
)
def test_what_is_no_price(written: Any) -> None:
    with pytest.raises(PydanticCustomError):
        read_price(written)


def test_digits_are_those_of_the_currency() -> None:
    assert str(item(price="12.5").priced_in("BYN").price) == "12.50"
    assert str(item(price="12.500", currency="BYN").priced_in("JPY").price) == "12.50"
    assert str(item(price="12").priced_in("JPY").price) == "12"
    assert str(item(price="1.234").priced_in("KWD").price) == "1.234"
    for price, currency in (("12.505", "BYN"), ("12.5", "JPY")):
        with pytest.raises(PydanticCustomError):
            item(price=price).priced_in(currency)


@given(st.decimals(min_value=0, max_value=Decimal("99999999999.99"), places=2, allow_nan=False))
def test_a_price_is_exact_as_a_number_too(price: Decimal) -> None:
    assert in_digits(read_price(f"{price:f}"), "BYN") == price
    assert in_digits(read_price(float(price)), "BYN") == price


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"id": ""}, "id"), ({"id": "a b"}, "id"), ({"id": "a/b"}, "id"), ({"name": "  "}, "name"), ({"name": "a\nb"}, "name"),
        ({"price": "-5"}, "price"), ({"currency": "zzz"}, "currency"), ({"image_url": "ftp://x.example/a"}, "image_url"),
        ({"category": "a\nb"}, "category"), ({"attributes": {"": "x"}}, "attributes"), ({"attributes": {"a": float("nan")}}, "attributes"),
        ({"sort_order": 10**9}, "sort_order"), ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        item(**fields)
    assert [str(one["loc"][0]) for one in caught.value.errors()] == [place]


def test_empty_fields_are_none() -> None:
    made = item(id=17, description=" ", category="", image_url="")
    assert (made.id, made.description, made.category, made.image_url) == ("17", None, None, None)


def test_the_catalog_as_text() -> None:
    items = [
        item(id="m", name="Margherita", price="12.50", currency="BYN", category="Pizza", description="Thin\nand hot", attributes={"size": "30 cm"}),
        item(id="t", name="Tea", price="3", currency="BYN"),
        item(id="f", name="Funghi", price="14", currency="BYN", category="Pizza"),
        item(id="x", name="Sold out", price="1", currency="BYN", category="Pizza", available=False),
    ]  # fmt: skip
    assert catalog_text([one.priced_in("BYN") for one in items]) == (
        "- Tea — 3.00 BYN\n\nPizza:\n- Margherita — 12.50 BYN. Thin and hot (size: 30 cm)\n- Funghi — 14.00 BYN"
    )
    assert catalog_text([]) == ""
    assert [one.id for one in sorted(items, key=order_of)] == ["f", "m", "x", "t"]
