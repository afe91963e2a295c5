"""Currencies: which one a country has, and how many digits behind the point its amounts may have. Pure.

Countries come from CLDR (`babel`), digits from ISO 4217: where the two differ (CLDR rounds what is seldom paid in coins), a
bank account follows ISO 4217.
"""

from functools import cache

from babel.core import UnknownLocaleError
from babel.numbers import get_territory_currencies, list_currencies

_DIGITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
         "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip
USUAL_DIGITS = 2


@cache
def _codes() -> frozenset[str]:
    return frozenset(list_currencies())


def is_currency(code: str) -> bool:
    """Whether it is the code of a currency of today or of before, in capitals."""
    return code in _codes()


@cache
def currency_of(country: str) -> str:
    """The currency people pay with in a country (two letters); USD where there is none of its own, such as in Antarctica."""
    try:
        known: list[str] = get_territory_currencies(country)
    except (UnknownLocaleError, KeyError):
        known = []
    return known[0] if known else "USD"


def minor_digits(code: str) -> int:
    """Digits behind the point: 2 for BYN, none for JPY, 3 for KWD."""
    return _DIGITS.get(code, USUAL_DIGITS)
