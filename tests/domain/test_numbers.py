"""Outside numbers as E.164, hidden ones, and which numbers are internal."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.configuration import Phone
from gateway.domain.numbers import ANONYMOUS, bare, beginnings, dialled, in_dial_string, is_internal, outside, spellings


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
        ("+375291234567;cpc=ordinary", "BY", "+375291234567"),
        ("+375172000001;npdi;rn=+375290000", "BY", "+375172000001"),
        ('"Anna" <sip:80291234567;cpc=x@10.0.0.1:5060>', "BY", "+375291234567"),
        ("tel:291234567;phone-context=+375", "", "+375291234567"),
        ("sip:%2B375291234567@example.net;user=phone", "", "+375291234567"),
        ("7788;cpc=ordinary", "BY", "7788"),
        ("sip:anonymous@anonymous.invalid", "BY", "anonymous"),
    ],
)
def test_outside(number: str, country: str, read: str) -> None:
    assert outside(number, country) == read


@pytest.mark.parametrize(
    ("number", "country", "prefixes", "read"),
    [
        ("989161234567", "RU", (), "+79161234567"),  # also a number of Iran
        ("979161234567", "RU", (), "+79161234567"),
        ("94951234567", "RU", ("9",), "+74951234567"),
        ("+989161234567", "RU", ("9",), "+989161234567"),
        ("9161234567", "RU", ("9",), "+79161234567"),
        ("080291234567", "BY", (), "+375291234567"),
        ("9810375291234567", "RU", (), "+375291234567"),
        ("7774930901820", "BY", ("777",), "+4930901820"),
        ("4930901820", "BY", (), "+4930901820"),
        ("555101", "BY", (), "555101"),
        ("103", "BY", ("9",), "103"),
    ],
)
def test_dialled(number: str, country: str, prefixes: tuple[str, ...], read: str) -> None:
    assert dialled(number, country, prefixes) == read


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("150", "150"),
        ("+375296254070@trunk-0001", "+375296254070"),
        ("trunk/sip:375296254070;npdi@host:5060", "375296254070"),
        ("g1/ww80296254070", "80296254070"),
        ("user:secret@host/80296254070@context", "80296254070"),
        ("user:123@host", ""),
        ("80291112233@North line", "80291112233"),
        ("127.0.0.1:9998/c(ulaw)", ""),
        ("anna-soft", ""),
        ("i2/", ""),
    ],
)
def test_in_dial_string(text: str, number: str) -> None:
    assert in_dial_string(text) == number


@pytest.mark.parametrize("number", [None, "", " ", "<unknown>", "Unknown", "anonymous", "ANONYMOUS", '"unavailable"'])
def test_hidden(number: str | None) -> None:
    assert outside(number, "BY") == ANONYMOUS


@given(st.text(max_size=40), st.sampled_from(["BY", "RU", "US", "", "XX"]))
def test_anything_is_read(number: str, country: str) -> None:
    read = outside(number, country)
    assert read
    assert outside(read, country) == read
    assert bare(bare(number)) == bare(number)
    assert dialled(read, country)


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


@pytest.mark.parametrize(
    ("text", "country", "found"),
    [
        ("+375 29", "BY", ("+37529",)), ("029 62", "BY", ("+02962", "+37502962", "+3752962")), ("37529", "BY", ("+37529", "+37537529")),
        ("80296", "BY", ("+375296", "+37580296", "+80296")), ("020 79", "GB", ("+02079", "+4402079", "+442079")), ("29", "BY", ()),
        ("12a", "BY", ()), ("", "BY", ()), ("+", "BY", ()), ("1" * 17, "BY", ()), ("٣٧٥", "BY", ()), ("123", "", ("+123",)),
    ],
)  # fmt: skip
def test_beginnings_of_numbers(text: str, country: str, found: tuple[str, ...]) -> None:
    assert beginnings(text, country) == found


@pytest.mark.parametrize(
    ("number", "country", "found"),
    [
        ("+375296254070", "BY", ("+375296254070", "375296254070", "80296254070", "296254070", "+375 29 625-40-70", "8 029 625-40-70")),
        ("+79161234567", "RU", ("+79161234567", "79161234567", "89161234567", "9161234567", "+7 916 123-45-67", "8 (916) 123-45-67")),
        ("+79161234567", "BY", ("+79161234567", "79161234567", "89161234567", "9161234567", "+7 916 123-45-67", "8 (916) 123-45-67",
                                "81079161234567")),
        ("150", "BY", ("150",)), ("anonymous", "BY", ("anonymous",)), ("", "", ("",)),
    ],
)  # fmt: skip
def test_spellings_of_one_number(number: str, country: str, found: tuple[str, ...]) -> None:
    assert spellings(number, country) == found


@given(
    st.sampled_from(["+375296254070", "+442079460101", "+4930123456", "+74951230000"]),
    st.sampled_from(["BY", "RU", "GB", ""]),
)
def test_every_spelling_is_read_as_its_number_at_home(number: str, country: str) -> None:
    home = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    assert home is not None
    found = spellings(number, country)
    assert {outside(one, home) for one in found[:6]} == {number}
    assert len(found) == len(set(found)) <= 20


@pytest.mark.parametrize("number", ["375296254070", "442079460101", "4930123456"])
def test_two_zeros_are_the_international_prefix_where_the_country_has_them(number: str) -> None:
    countries = [
        country for country in phonenumbers.SUPPORTED_REGIONS
        if (known := phonenumbers.PhoneMetadata.metadata_for_region(country, None)) and known.international_prefix == "00"
    ]  # fmt: skip
    assert len(countries) > 100
    assert {country: outside(f"00{number}", country) for country in countries} == dict.fromkeys(countries, f"+{number}")
    assert {dialled(f"00 {number}", country) for country in countries} == {f"+{number}"}
    # Where it is another one, trunks send two zeros all the same.
    assert {outside(f"00{number}", country) for country in ("BY", "RU", "KZ", "US")} == {f"+{number}"}
    assert outside("0080291234567", "BY") == "0080291234567"
    assert outside("00000000000000", "DE") == "00000000000000"
