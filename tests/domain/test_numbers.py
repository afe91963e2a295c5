"""Outside numbers as E.164, hidden ones, and which numbers are internal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.configuration import Phone
from gateway.domain.numbers import ANONYMOUS, is_internal, outside


@pytest.mark.parametrize(
    ("number", "country", "read"),
    [
        ("80291234567", "BY", "+375291234567"),
        ("375291234567", "BY", "+375291234567"),
        ("+375 (29) 123-45-67", "BY", "+375291234567"),
        ("810375291234567", "BY", "+375291234567"),
        ("291234567", "BY", "+375291234567"),
        ("+12025550123", "BY", "+12025550123"),
        ("4930901820", "BY", "+4930901820"),
        ("84951234567", "RU", "+74951234567"),
        ("2025550123", "US", "+12025550123"),
        ("103", "BY", "103"),
        ("0", "BY", "0"),
        ("+", "BY", "+"),
        ("+0375", "BY", "+0375"),
        ("sip:anna@example.net", "BY", "sip:anna@example.net"),
        ("٣٧٥٢٩١٢٣٤٥٦٧", "BY", "٣٧٥٢٩١٢٣٤٥٦٧"),
        ("80291234567", "", "80291234567"),
    ],
)
def test_outside(number: str, country: str, read: str) -> None:
    assert outside(number, country) == read


@pytest.mark.parametrize("number", [None, "", " ", "<unknown>", "Unknown", "anonymous", "ANONYMOUS", '"unavailable"'])
def test_hidden(number: str | None) -> None:
    assert outside(number, "BY") == ANONYMOUS


@given(st.text(max_size=40), st.sampled_from(["BY", "RU", "US", "", "XX"]))
def test_anything_is_read(number: str, country: str) -> None:
    read = outside(number, country)
    assert read
    assert outside(read, country) == read


@pytest.mark.parametrize(
    ("number", "listed", "internal"),
    [
        ("150", [], True),
        ("12", [], True),
        ("12345", [], True),
        ("1", [], False),
        ("123456", [], False),
        ("+15", [], False),
        ("", [], False),
        (None, [], False),
        ("150", ["150"], True),
        ("151", ["150"], False),
        ("1234567", ["1234567"], True),
    ],
)
def test_is_internal(number: str | None, listed: list[str], internal: bool) -> None:
    assert is_internal(number, [Phone(one) for one in listed]) is internal
