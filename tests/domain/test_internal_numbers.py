"""Internal numbers: tables of what may be taken, and what is never rung."""

from zoneinfo import ZoneInfo

import pytest

from gateway.domain.configuration import Phone, Tenant
from gateway.domain.dialling import CallRefused, check_extension, may_ring
from gateway.domain.ids import TenantId
from gateway.domain.internal_numbers import InternalNumberRules, explained, problem_with, wrong_with

LONG = InternalNumberRules(longest=15)


@pytest.mark.parametrize(
    ("number", "country", "reason"),
    [
        *((n, "BY", None) for n in ("10", "99", "150", "151", "199", "1012", "2000", "12345", "123456")),
        *((n, "BY", "digits") for n in ("", "5", "1234567", "375296254070", "870763000000", "15a", "*97", "+150", "\u0661\u0662")),
        *((n, "BY", "emergency") for n in ("101", "102", "103", "104", "112", "911", "01", "02", "03", "04")),
        *((n, "RU", "emergency") for n in ("101", "102", "103", "112", "911", "02")),
        *((n, "GB", "emergency") for n in ("999", "112", "911")),
        *((n, "DE", "emergency") for n in ("110", "112")),
        *((n, "FR", "emergency") for n in ("15", "17", "18")),
        *((n, "US", "service") for n in ("411", "211", "011")),
        *((n, "DE", None) for n in ("101", "102", "150", "911"[::-1] + "0")),
        ("3210", "FR", "service"),  # at a special rate
        ("118118", "GB", "service"), ("11833", "DE", "service"), ("11811", "TR", "service"), ("11811", "US", None), ("1180", "US", None),
        ("07", "BY", "service"),
        ("00", "BY", "service"),
    ],
)  # fmt: skip
def test_what_may_be_an_internal_number(number: str, country: str, reason: str | None) -> None:
    assert wrong_with(number, country) == reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        ("12345678", None),
        ("375296254070", "outside"),
        ("80296254070", "outside"),  # as dialled at home
        ("980296254070", "outside"),  # behind a 9 for an outside line
        ("810870763000000", "outside"),  # a satellite, as dialled abroad
        ("79161234567", "outside"),
        ("112", "emergency"),
    ],
)
def test_an_operator_may_allow_longer_ones_but_no_outside_number(number: str, reason: str | None) -> None:
    assert wrong_with(number, "BY", LONG) == reason


def test_an_operator_may_allow_service_numbers_but_no_emergency_number() -> None:
    rules = InternalNumberRules(service_numbers=("32xx", "07", "112"))
    assert wrong_with("3210", "FR", rules) is None
    assert wrong_with("07", "BY", rules) is None
    assert wrong_with("112", "BY", rules) == "emergency"


def test_the_reason_in_words() -> None:
    assert "emergency number in BY" in problem_with("101", "BY", {})
    assert "2 to 8 digits" in problem_with("123456789", "BY", {"internal_numbers": {"longest": 8}})
    assert problem_with("150", "BY", {}) == ""
    assert len({explained(reason, "1", "BY") for reason in ("digits", "emergency", "service", "outside")}) == 4


@pytest.mark.parametrize("number", ["101", "112", "02", "8632000000", "375296254070", "881612345678"])
def test_what_is_stored_already_is_not_rung(number: str) -> None:
    tenant = Tenant(
        TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone(number), Phone("150"))
    )
    with pytest.raises(CallRefused) as refused:
        check_extension(tenant, number)
    assert refused.value.code == "bad_extension"
    assert not may_ring(tenant, number)
    check_extension(tenant, "150")
    assert may_ring(tenant, "150")
    assert not may_ring(tenant, "151")
    assert not may_ring(tenant, None)
