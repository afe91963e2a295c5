"""Telephone numbers as events carry them: E.164 outside, the bare internal number for colleagues.

Owns the reading of what PBXes and hosts write down; it never guesses a number that libphonenumber cannot read, and keeps
what it cannot read as it was given. Read `gateway/domain/posted.py` next for who uses it.
"""

from collections.abc import Iterable
from functools import lru_cache

import phonenumbers

from gateway.domain.configuration import Phone

ANONYMOUS = "anonymous"
"""A number that its owner hides, or that nobody told."""

_HIDDEN = frozenset(
    {
        "", "anonymous", "unknown", "<unknown>", "unavailable", "<unavailable>", "private", "restricted", "withheld",
        "hidden", "blocked", "none", "null", "nil", "n/a", "asterisk", "anonymous@anonymous.invalid",
    }
)  # fmt: skip
_MARKS = str.maketrans("", "", " \t\u00a0-.()/")
_SHORTEST_INTERNAL, _LONGEST_INTERNAL = 2, 5


def hidden(number: str | None) -> bool:
    """True where the PBX says that it does not know the number or may not show it."""
    return number is None or number.strip().strip("\"'").casefold() in _HIDDEN


@lru_cache(maxsize=4096)
def _readable(number: str, country: str) -> str | None:
    try:
        parsed = phonenumbers.parse(number, country or None)
    except phonenumbers.NumberParseException:
        return None
    if parsed.extension or not phonenumbers.is_valid_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def outside(number: str | None, country: str) -> str:
    """An outside number in E.164, read with the tenant's country; `anonymous` when hidden; otherwise as it was given.

    Trunks also send E.164 without its plus: where the national reading fails, digits alone are tried as international.
    """
    if number is None or hidden(number):
        return ANONYMOUS
    given = number.strip()
    digits = given.translate(_MARKS)
    if not digits.isascii() or not digits.removeprefix("+").isdigit() or len(digits) > 20:
        return given
    read = _readable(digits, country)
    if read is None and digits[0] != "+" and digits[0] != "0" and len(digits) >= 10:
        read = _readable(f"+{digits}", country)
    return read or given


def is_internal(number: str | None, phones: Iterable[Phone]) -> bool:
    """True for a tenant's internal number. Where the tenant lists no phones: two to five digits."""
    if not number:
        return False
    listed = [phone.number for phone in phones]
    if listed:
        return number in listed
    return number.isascii() and number.isdigit() and _SHORTEST_INTERNAL <= len(number) <= _LONGEST_INTERNAL
