"""The profile: what is valid, its currency, and working hours as people read them."""

from datetime import date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.domain.currency import currency_of, minor_digits
from gateway.domain.profile import BUSINESS_TYPES, Profile, hours_text, is_open, week_of

WEEK = [
    {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00"},
    {"days": ["sat"], "from": "10:00", "to": "26:00"},
]


def profile(**fields: Any) -> Profile:
    return Profile.model_validate(fields)


def wrong(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        profile(**fields)
    return [(".".join(map(str, one["loc"])), one["msg"]) for one in caught.value.errors()]


def test_a_profile_survives_the_round() -> None:
    full = profile(
        currency="byn", business_type="restaurant", description="Пицца\nи паста", phone="+375 29 111-22-33", address="Minsk",
        website="https://june.example", working_hours=WEEK,
        holidays=["2027-01-07", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}, date(2026, 12, 31)],
    )  # fmt: skip
    assert full.plain()["working_hours"] == WEEK
    assert full.plain()["holidays"] == [
        "2026-12-31",
        {"date": "2027-01-02", "from": "12:00", "to": "16:00"},
        "2027-01-07",
    ]
    assert profile(**full.plain()) == full
    assert profile(description=None, phone=None).plain() == profile().plain()
    assert len(BUSINESS_TYPES) == 9


def test_working_hours_as_people_read_them() -> None:
    week = profile(working_hours=WEEK, holidays=["2026-12-31", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}])
    assert hours_text(week, "ru") == (
        "пн–пт 09:00–18:00; сб 10:00–02:00; вс закрыто. Праздники: 31.12.2026 закрыто, 02.01.2027 12:00–16:00"
    )
    assert hours_text(week, "en") == (
        "Mon–Fri 09:00–18:00; Sat 10:00–02:00; Sun closed. Holidays: 2026-12-31 closed, 2027-01-02 12:00–16:00"
    )
    split = [
        {"days": ["sun", "mon"], "from": "14:00", "to": "24:00"},
        {"days": ["mon"], "from": "09:00", "to": "13:00"},
    ]
    assert (
        hours_text(profile(working_hours=split), "en")
        == "Mon 09:00–13:00, 14:00–24:00; Tue–Sat closed; Sun 14:00–24:00"
    )
    always = [{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00"}]
    assert hours_text(profile(working_hours=always), "ru") == "пн–вс круглосуточно"
    assert hours_text(profile(), "ru") == ""
    assert [len(day) for day in week_of(profile(working_hours=split).working_hours)] == [2, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"business_type": "bakery"}, "business_type"),
        ({"phone": "call us"}, "phone"),
        ({"website": "javascript:alert(1)"}, "website"),
        ({"website": "june.example"}, "website"),
        ({"currency": "ZZZ"}, "currency"),
        ({"address": "two\nlines"}, "address"),
        ({"description": "a\x00b"}, "description"),
        ({"working_hours": [{"days": [], "from": "09:00", "to": "18:00"}]}, "working_hours.0.days"),
        ({"working_hours": [{"days": ["mon"], "from": 540, "to": "18:00"}]}, "working_hours.0.from"),
        ({"working_hours": [{"days": ["mon"], "from": "09:00", "to": "09:00"}]}, "working_hours.0"),
        ({"working_hours": [{"days": ["mon"], "from": "09:00", "to": "33:01"}]}, "working_hours.0"),
        ({"working_hours": [{"days": ["mon"], "from": "24:00", "to": "25:00"}]}, "working_hours.0"),
        ({"working_hours": [*WEEK, {"days": ["sun"], "from": "01:00", "to": "02:00"}]}, "working_hours"),
        ({"working_hours": [{"days": ["sun"], "from": "20:00", "to": "34:00"}, WEEK[0]]}, "working_hours"),
        ({"holidays": ["2026-02-30"]}, "holidays.0.date"),
        ({"holidays": ["2026-12-31", date(2026, 12, 31)]}, "holidays"),
        ({"holidays": [{"date": "2026-12-31", "from": "12:00"}]}, "holidays.0"),
        ({"nobody": 1}, "nobody"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], place: str) -> None:
    assert [at for at, _ in wrong(**fields)] == [place]


def test_nights_that_touch_do_not_overlap() -> None:
    nights = [
        {"days": ["sun", "mon"], "from": "18:00", "to": "33:00"},
        {"days": ["mon", "tue"], "from": "09:00", "to": "18:00"},
    ]
    assert len(profile(working_hours=nights).working_hours) == 2
    assert len(profile(working_hours=[{"days": ["mon"], "from": "00:00", "to": "24:00"}]).working_hours) == 1


def test_currencies() -> None:
    assert [currency_of(country) for country in ("BY", "RU", "KZ", "GB", "AQ", "XX")] == [
        "BYN",
        "RUB",
        "KZT",
        "GBP",
        "USD",
        "USD",
    ]
    assert [minor_digits(code) for code in ("BYN", "JPY", "KWD", "RSD")] == [2, 0, 3, 2]
    assert (profile().currency_in("BY"), profile(currency="usd").currency_in("BY")) == ("BYN", "USD")


@pytest.mark.parametrize(
    ("moment", "open_then"),
    [
        ("2026-11-27T08:59:59", False), ("2026-11-27T09:00:00", True), ("2026-11-27T17:59:59", True), ("2026-11-27T18:00:00", False),
        ("2026-11-29T01:59:00", True), ("2026-11-29T02:00:00", False), ("2026-11-30T01:00:00", False),
        ("2026-12-31T12:00:00", False), ("2027-01-02T13:00:00", True), ("2027-01-02T17:00:00", False), ("2027-01-03T01:00:00", False),
    ],
)  # fmt: skip
def test_a_company_is_open_in_its_hours_and_on_its_holidays_as_they_say(moment: str, open_then: bool) -> None:
    holidays = ["2026-12-31", {"date": "2027-01-02", "from": "12:00", "to": "16:00"}]
    assert is_open(profile(working_hours=WEEK, holidays=holidays), datetime.fromisoformat(moment)) is open_then


def test_without_working_hours_nobody_knows_whether_it_is_open() -> None:
    assert is_open(profile(holidays=["2026-12-31"]), datetime.fromisoformat("2026-12-31T12:00:00")) is None
