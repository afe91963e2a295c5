"""Orders: exact totals from the catalog, what is refused with which field, the way of an order, and its words."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.domain.catalog import Item
from gateway.domain.currency import minor_digits
from gateway.domain.order_texts import order_text, repeats
from gateway.domain.orders import (
    MOVES,
    ORDER_STATUSES,
    DeliveryGiven,
    Line,
    Order,
    OrderRules,
    Quantity,
    Wanted,
    check_move,
    client_may,
    delivery_text,
    exact_quantity,
    price,
    quantity_text,
)
from gateway.domain.posts import Invalid
from gateway.domain.text import texts_of

NOON = datetime(2026, 12, 4, 16, 0, tzinfo=UTC)
MINSK = ZoneInfo("Europe/Minsk")


def item(ident: str, cost: str, currency: str = "BYN", **more: Any) -> Item:
    return Item.model_validate({"id": ident, "name": ident.title(), "price": cost, "currency": currency, **more})


def catalog(*items: Item) -> dict[str, Item]:
    return {one.id: one for one in items}


def order(**more: Any) -> Order:
    values: dict[str, Any] = {
        "id": uuid4(), "number": 17, "kind": "order", "status": "new", "contact": uuid4(), "currency": "BYN", "created_by": "ai",
        "created_at": NOON, "updated_at": NOON,
    }  # fmt: skip
    return Order(**{**values, **more})


def wrong(error: Invalid) -> dict[str, str]:
    for _, text in error.problems:
        assert texts_of(text)["en"] != texts_of(text)["ru"]
    return dict(error.problems)


def test_prices_and_names_are_the_catalogs() -> None:
    goods = catalog(item("pizza", "12.50"), item("tea", "3"))
    got = price([Wanted("pizza", Decimal(2)), Wanted("tea", price=Decimal(1))], goods)
    assert got.lines == (
        Line("pizza", "Pizza", Decimal(2), Decimal("12.50")),
        Line("tea", "Tea", Decimal(1), Decimal(3)),
    )
    assert (str(got.total), got.currency) == ("28.00", "BYN")
    assert [path for path, _ in got.corrected] == ["items[1].price"]
    assert "3" in got.corrected[0][1]


def test_the_same_item_twice_is_one_line() -> None:
    got = price([Wanted("tea", Decimal(2)), Wanted("tea", Decimal(3))], catalog(item("tea", "3")))
    assert [(one.catalog_id, one.quantity) for one in got.lines] == [("tea", Decimal(5))]


def test_every_problem_is_named_by_its_field() -> None:
    goods = catalog(
        item("pizza", "12.50"), item("gone", "1", available=False), item("dollar", "1", "USD"),
        item("cheese", "9", attributes={"quantity_step": "0,1"}),
    )  # fmt: skip
    with pytest.raises(Invalid) as caught:
        price(
            [Wanted("nothing"), Wanted("gone"), Wanted("pizza", Decimal("0.5")), Wanted("pizza", Decimal(0)),
             Wanted("cheese", Decimal("0.25"))],
            goods,
        )  # fmt: skip
    assert wrong(caught.value).keys() == {
        "items[0].catalog_id", "items[1].catalog_id", "items[2].quantity", "items[3].quantity", "items[4].quantity",
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        price([Wanted("pizza"), Wanted("dollar")], goods)
    assert wrong(caught.value).keys() == {"items"}
    for few in ([], [Wanted("pizza")] * 101):
        with pytest.raises(Invalid):
            price(few, goods)
    with pytest.raises(Invalid) as caught:
        price([Wanted("pizza", Decimal(1_000_001))], goods)
    assert wrong(caught.value).keys() == {"items[0].quantity"}
    with pytest.raises(Invalid) as caught:
        price([Wanted("villa", Decimal(2))], catalog(item("villa", "99999999999.00")))
    assert wrong(caught.value).keys() == {"items"}


def test_what_is_weighed_is_rounded_by_line_to_the_currency() -> None:
    got = price([Wanted("cheese", Decimal("0.3"))], catalog(item("cheese", "9.99", attributes={"quantity_step": 0.1})))
    assert str(got.total) == "3.00"  # 2.997
    got = price(
        [Wanted("coin", Decimal("0.5"))], catalog(item("coin", "5", "JPY", attributes={"quantity_step": "0.5"}))
    )
    assert str(got.total) == "3"  # 2.5, halves up


def test_a_line_that_was_agreed_keeps_its_price_and_new_ones_are_todays() -> None:
    before = [
        Line("pizza", "Old pizza", Decimal(1), Decimal("10.00")),
        Line("lost", "Lost", Decimal(1), Decimal("1.00")),
    ]
    goods = catalog(item("pizza", "12.50", available=False), item("tea", "3.00"), item("dollar", "1", "USD"))
    got = price([Wanted("pizza", Decimal(2)), Wanted("tea"), Wanted("lost")], goods, before, "BYN")
    assert str(got.total) == "24.00"
    assert [one.name for one in got.lines] == ["Old pizza", "Tea", "Lost"]
    with pytest.raises(Invalid):
        price([Wanted("pizza"), Wanted("dollar")], goods, before, "BYN")
    with pytest.raises(Invalid) as caught:  # another currency is not brought in by leaving all others out
        price([Wanted("dollar")], goods, before, "BYN")
    assert wrong(caught.value).keys() == {"items"}


@given(st.data())
def test_totals_are_exact_to_the_smallest_coin(data: st.DataObject) -> None:
    currency = data.draw(st.sampled_from(["BYN", "JPY", "KWD", "USD"]))
    digits = minor_digits(currency)
    costs = data.draw(st.lists(st.integers(0, 10**7), min_size=1, max_size=12))
    counts = data.draw(st.lists(st.integers(1, 999), min_size=len(costs), max_size=len(costs)))
    goods = catalog(*(item(f"i{n}", f"{Decimal(cost).scaleb(-digits):f}", currency) for n, cost in enumerate(costs)))
    got = price([Wanted(f"i{n}", Decimal(count)) for n, count in enumerate(counts)], goods)
    coins = sum(cost * count for cost, count in zip(costs, counts, strict=True))
    assert got.total == Decimal(coins).scaleb(-digits)
    assert -got.total.as_tuple().exponent == digits  # type: ignore[operator] # finite
    assert float(got.total) * 10**digits == pytest.approx(coins)


def test_moves() -> None:
    for before in ORDER_STATUSES:
        for after in ORDER_STATUSES:
            if after == before or after in MOVES[before]:
                check_move(before, after)
            else:
                with pytest.raises(Invalid) as caught:
                    check_move(before, after)
                assert wrong(caught.value).keys() == {"status"}
    assert "done" in MOVES["new"]
    assert MOVES["cancelled"] == ("new",)
    assert MOVES["done"] == ("in_progress",)


@pytest.mark.parametrize(
    ("until", "may"),
    [
        ("never", set()),
        ("new", {"new"}),
        ("confirmed", {"new", "confirmed"}),
        ("in_progress", {"new", "confirmed", "in_progress"}),
    ],
)
def test_clients_may_until_a_status(until: Any, may: set[str]) -> None:
    assert {status for status in ORDER_STATUSES if client_may(until, status)} == may


def test_rules_come_from_the_options() -> None:
    assert OrderRules.of({}) == OrderRules(change_until="confirmed", cancel_until="confirmed", hold_min=30)
    assert OrderRules.of({"orders": {"change_until": "never", "hold_min": 5}}) == OrderRules(
        change_until="never", hold_min=5
    )


@pytest.mark.parametrize("text", ["2", 2, 2.0, "0,5", "0.5", Decimal("1.25")])
def test_quantities_as_people_write_them(text: Any) -> None:
    assert TypeAdapter(Quantity).validate_python(text) == Decimal(str(text).replace(",", "."))


@pytest.mark.parametrize("text", ["", "two", "-1", "1e3", True, None, [1], "1 000", "٣", float("nan"), float("inf")])
def test_what_is_no_quantity(text: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Quantity).validate_python(text)


def test_quantities_and_deliveries_shown() -> None:
    assert [quantity_text(Decimal(one)) for one in ("2", "2.0", "0.50", "100")] == ["2", "2", "0.5", "100"]
    assert [exact_quantity(Decimal(one)) for one in ("2.0", "0.5")] == [2, 0.5]
    given_: Any = TypeAdapter(DeliveryGiven).validate_python({"address": "Lenina 1", "floor": 2, "code": None})
    assert delivery_text(given_) == "address: Lenina 1; floor: 2; code: "
    assert delivery_text(" a ") == " a "
    assert delivery_text(None) == ""
    assert TypeAdapter(DeliveryGiven).validate_python("  ") is None
    for bad in ("x" * 1001, {"a": ["b"]}, {str(n): "" for n in range(21)}, ["a"], 5, "a\0b", {"a\nb": "c"}):
        with pytest.raises(ValidationError):
            TypeAdapter(DeliveryGiven).validate_python(bad)


def test_an_order_in_words() -> None:
    lines = (Line("pizza", "Маргарита", Decimal(2), Decimal("12.50")), Line("tea", "Чай", Decimal(1), Decimal("3.00")))
    one = order(lines=lines, total=Decimal("28.00"), delivery="Ленина 1", comment="без лука")
    assert order_text(one, MINSK, "ru") == (
        "Заказ № 17:\n1. Маргарита: 2 × 12.50 = 25.00 BYN\n2. Чай: 1 × 3.00 = 3.00 BYN\nИтого: 28.00 BYN\n"
        "Доставка: Ленина 1\nКомментарий: без лука"
    )
    booked = order(
        kind="booking", lines=(Line("table", "Столик", Decimal(1), Decimal("0.00")),), total=Decimal("0.00"), starts_at=NOON,
        duration_min=90, party=4,
    )  # fmt: skip
    assert order_text(booked, MINSK, "ru") == (
        "Бронирование № 17: Столик\nКогда: пятница, 4.12.2026, 19:00 (Europe/Minsk), 90 мин\nГостей: 4"
    )
    assert order_text(booked, MINSK, "en").splitlines()[1] == "When: Friday, 2026-12-04, 19:00 (Europe/Minsk), 90 min"
    back = order(kind="request", call_phone="+375296254070", call_at=NOON)
    assert order_text(back, MINSK, "en") == "Request no. 17\nWe call you back: +375296254070, Friday, 2026-12-04, 19:00"


def test_a_message_repeats_an_order_only_in_full() -> None:
    lines = (Line("pizza", "Pizza", Decimal(2), Decimal("12.50")),)
    one = order(lines=lines, total=Decimal("25.00"))
    text = order_text(one, MINSK, "en")
    assert repeats(f"So:\n\n  {text.replace(chr(10), '  ')} \nIs all of it right?", one, MINSK)
    assert repeats(order_text(one, MINSK, "ru"), one, MINSK)
    assert not repeats(text.replace("25.00 BYN", "20.00 BYN"), one, MINSK)
    assert not repeats("Order no. 17: Pizza, 25.00 BYN", one, MINSK)


@pytest.mark.parametrize("many", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_no_cent_of_random_orders_is_wrong(many: int) -> None:
    """Against whole minor units, with what people do by hand: thousandths of a piece are rounded half up on each line."""
    chance = random.Random(20261129)
    wrong = 0
    for _ in range(many):
        currency = chance.choice(["BYN", "USD", "KZT", "KWD", "JPY"])
        digits = minor_digits(currency)
        goods, wanted, expected = dict[str, Item](), list[Wanted](), 0
        for n in range(chance.randint(1, 30)):
            units, thousandths = (
                chance.randint(0, 100_000),
                chance.choice([1000 * chance.randint(1, 99), chance.randint(1, 99_999)]),
            )
            cost = Decimal(units).scaleb(-digits)
            step = {"quantity_step": "0.001"}
            goods[f"i{n}"] = Item.model_validate(
                {"id": f"i{n}", "name": f"Item {n}", "price": str(cost), "currency": currency, "attributes": step}
            )
            wanted.append(Wanted(f"i{n}", Decimal(thousandths).scaleb(-3)))
            expected += (units * thousandths * 2 + 1000) // 2000
        found = price(wanted, goods)
        wrong += found.total != Decimal(expected).scaleb(-digits) or -found.total.as_tuple().exponent != digits  # type: ignore[operator] # finite
    assert wrong == 0
