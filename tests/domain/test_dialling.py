"""What may be dialled: tables of numbers, rules and moments."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.configuration import Tenant
from gateway.domain.dialling import CallRefused, Rules, Written, check, read_written, written_for_pbx
from gateway.domain.ids import TenantId

TENANT = Tenant(TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
NOON = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+375296254070", "+375296254070"),
        ("375296254070", "+375296254070"),
        ("80296254070", "+375296254070"),
        ("029 625-40-70", "+375296254070"),
        (" +375 (29) 625-40-70 ", "+375296254070"),
        ("+79161234567", "+79161234567"),
        ("тел. +80296254070", "+375296254070"),
        ("тел.: +375 29 625 40 70", "+375296254070"),
        ("Моб. телефон 8 (029) 625-40-70", "+375296254070"),
        ("(029) 625-40-70 (work)", "+375296254070"),
        ("+375 29 625 40 70 рабочий", "+375296254070"),
        ("+375 (0)29 625-40-70", "+375296254070"),
        ("tel:+375296254070", "+375296254070"),
    ],
)
def test_a_number_is_read_with_the_tenants_country(written: str, number: str) -> None:
    assert read_written(written, TENANT) == Written(number)


@pytest.mark.parametrize(
    ("written", "extension"),
    [
        ("+375296254070 доб. 12", "12"),
        ("+375296254070 доб.", ""),
        ("+375296254070, доб. 12", "12"),
        ("8 (029) 625-40-70 доб.12", "12"),
        ("+375 29 625-40-70 ext. 5", "5"),
        ("+375296254070 x5", "5"),
        ("+375296254070x5", "5"),
        ("+375296254070;ext=1", "1"),
        ("+375296254070 #1234", "1234"),
        ("тел. +375296254070 вн. 101 (офис)", "101"),
        ("Tel.: 375296254070 Ext 7 (ask for Anna)", "7"),
    ],
)
def test_an_extension_is_no_part_of_the_number(written: str, extension: str) -> None:
    assert read_written(written, TENANT) == Written("+375296254070", extension)


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "150", "112", "+", "+375", "+375296254070,151", "+375296254070&151", "+375296254070|1", "${EXTEN}",
        "+375296254070\n", "\r\n+375296254070", "+375296254070w1", "+375296254070;151",
        "+375296254070,,1", "+375296254070 ext 1,2", "+375296254070 доб. 1&2", "SIP/100", "тел", "тел. 150 доб. 12",
        "call <b>+375296254070</b>", "+375296254070 доб. " + "1" * 9, "+375296254070 +375296254071", "a " * 30 + "x" * 90,
        "+375296254070\0", "+37529625407" + "0" * 40, "\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "*72375296254070",
    ],
)  # fmt: skip
def test_anything_more_than_a_number_is_refused(written: str) -> None:
    with pytest.raises(CallRefused) as refused:
        read_written(written, TENANT)
    assert refused.value.code == "bad_number"


@pytest.mark.parametrize(
    ("rules", "number", "moment", "code"),
    [
        (Rules(), "+375296254070", NOON, None),
        (Rules(), "+79161234567", NOON, "not_allowed"),
        (Rules(countries=("BY", "RU")), "+79161234567", NOON, None),
        (Rules(countries=("RU",)), "+77011234567", NOON, "not_allowed"),  # Kazakhstan has the same code
        (Rules(prefixes=("+7916",)), "+79161234567", NOON, None),
        (Rules(prefixes=("7916",)), "+79171234567", NOON, "not_allowed"),
        (Rules(), "+3759021234567", NOON, "premium"),
        (Rules(prefixes=("+375902",)), "+3759021234567", NOON, None),
        (Rules(countries=("GB",)), "+449012345678", NOON, "premium"),
        (Rules(countries=("GB",)), "+447012345678", NOON, "premium"),  # a "personal number"
        (Rules(hours="09:00-18:00"), "+375296254070", NOON, None),
        (Rules(hours="09:00-12:00"), "+375296254070", NOON, "hours"),  # 12:00 in Minsk
        (Rules(hours="22:00-06:00"), "+375296254070", NOON, "hours"),
        (Rules(hours="22:00-13:00"), "+375296254070", NOON, None),
    ],
)
def test_rules(rules: Rules, number: str, moment: datetime, code: str | None) -> None:
    if code is None:
        check(rules, TENANT, number, moment)
        return
    with pytest.raises(CallRefused) as refused:
        check(rules, TENANT, number, moment)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("number", "style", "prefix", "dialled"),
    [
        ("+375296254070", "plus", "", "+375296254070"),
        ("+375296254070", "digits", "", "375296254070"),
        ("+375296254070", "national", "", "80296254070"),
        ("+375296254070", "national", "9", "980296254070"),
        ("+79021234567", "plus", "", "+79021234567"),
        # In Belarus 8 902 123-45-67 is a number at a special rate, and not the Russian one that was allowed.
        ("+79021234567", "national", "", "81079021234567"),
        ("+442071838750", "national", "9", "9810442071838750"),
    ],
)
def test_a_dialplan_gets_the_number_its_own_way(number: str, style: str, prefix: str, dialled: str) -> None:
    assert written_for_pbx(number, style, "BY", prefix) == dialled


def test_rules_are_read_from_the_options() -> None:
    assert Rules.of({}) == Rules()
    assert Rules.of({"click_to_call": {"countries": ["BY"], "concurrent": 0}}) == Rules(countries=("BY",), concurrent=0)


@pytest.mark.parametrize(
    "written", ["abcdefghijklmnopqrstuvw" * 5 + "!", "a " * 59 + "!", "8029" + " a" * 50 + "!", "1 " * 60, "a." * 60]
)
def test_long_nonsense_is_refused_at_once(written: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(CallRefused):
        read_written(written, TENANT)
    assert time.perf_counter() - begun < 0.05
