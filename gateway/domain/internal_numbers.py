"""Which internal numbers may be taken and rung. Pure: a number, a tenant's country and its options in, a reason out.

Toll fraud is the danger: an internal number is dialled in the PBX's own context, and what reads there as an emergency,
service or outside number reaches the telephone network at the company's cost. So it has 2 to 6 digits (an operator may
allow more in the tenant file) and is none of those. Sources: libphonenumber's ShortNumberMetadata for emergency and
premium short numbers; 3GPP TS 22.101, 10.1 for 112 and 911; the 0x numbers of the former Soviet numbering plan.
`gateway/domain/dialling.py` judges the number dialled on the other leg.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import phonenumbers
from phonenumbers import shortnumberinfo
from phonenumbers.shortnumberinfo import ShortNumberCost

Reason = Literal["digits", "emergency", "service", "outside"]

SHORTEST, LONGEST = 2, 6
MOST_DIGITS = 15
"""What an operator may allow at most: E.164 has no longer number."""

_EVERYWHERE = frozenset(("112", "911"))
_POST_SOVIET = frozenset(("BY", "RU", "UA", "KZ", "KG", "UZ", "TJ", "TM", "AM", "AZ", "GE", "MD"))
_POST_SOVIET_EMERGENCY = re.compile(r"0[1-4]|10[1-4]")
"""Fire, police, ambulance and gas. The metadata has not all of them in every country."""
_NANP_SERVICE = re.compile(r"[2-9]11")
_DIRECTORY = re.compile(r"116[0-9]{3}|118[0-9]{2,3}")
"""Directory enquiries and harmonised services of Europe, many of them at a special rate."""


@dataclass(frozen=True, slots=True)
class InternalNumberRules:
    """A tenant's `internal_numbers` block, which only the tenant file changes."""

    longest: int = LONGEST
    service_numbers: tuple[str, ...] = ()
    """Numbers that read as a service number and are internal ones all the same; an `x` is any digit: `32xx`. Never
    emergency numbers."""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The rules as the tenant's options hold them, defaults filled in."""
        given = options.get("internal_numbers") or {}
        return cls(int(given.get("longest", LONGEST)), tuple(given.get("service_numbers", ())))


_DEFAULT = InternalNumberRules()


@lru_cache(maxsize=4096)
def wrong_with(number: str, country: str, rules: InternalNumberRules = _DEFAULT) -> Reason | None:
    """Why this may be no internal number in that country; None where it may."""
    if not re.fullmatch(r"[0-9]+", number, re.ASCII) or not SHORTEST <= len(number) <= rules.longest:
        return "digits"
    if _is_emergency(number, country):
        return "emergency"
    if any(re.fullmatch(allowed.replace("x", "[0-9]"), number) for allowed in rules.service_numbers):
        return None
    if number.startswith("0") or _is_service(number, country):
        return "service"
    return "outside" if _is_outside(number, country) else None


def explained(reason: Reason, number: str, country: str, rules: InternalNumberRules = _DEFAULT) -> str:
    """The reason in English, for an API's answer, the tenant file and the audit."""
    shown = number[:MOST_DIGITS]
    match reason:
        case "digits":
            return f"an internal number has {SHORTEST} to {rules.longest} digits"
        case "emergency":
            return f"{shown} is an emergency number in {country}; it is never rung. Give the phone another number"
        case "service":
            return f"{shown} reads as a service number in {country}; it is not rung. Give the phone another number"
        case "outside":
            return f"{shown} reads as an outside number in {country}; it is not rung as an internal one"


def problem_with(number: str, country: str, options: Mapping[str, Any]) -> str:
    """The same for a tenant's options, in words; empty where nothing is wrong."""
    rules = InternalNumberRules.of(options)
    reason = wrong_with(number, country, rules)
    return explained(reason, number, country, rules) if reason is not None else ""


def _is_emergency(number: str, country: str) -> bool:
    if number in _EVERYWHERE or (country in _POST_SOVIET and _POST_SOVIET_EMERGENCY.fullmatch(number)):
        return True
    return bool(shortnumberinfo.is_emergency_number(number, country))


def _is_service(number: str, country: str) -> bool:
    if phonenumbers.country_code_for_region(country) == 1 and _NANP_SERVICE.fullmatch(number):
        return True
    try:
        parsed = phonenumbers.parse(number, country)
    except phonenumbers.NumberParseException:
        return False
    if not shortnumberinfo.is_valid_short_number_for_region(parsed, country):
        return False
    cost = shortnumberinfo.expected_cost_for_region(parsed, country)
    return cost == ShortNumberCost.PREMIUM_RATE or bool(_DIRECTORY.fullmatch(number))


def _is_outside(number: str, country: str) -> bool:
    """Whether it can be read as a whole number of the telephone network: as dialled in the country, abroad, or behind one
    digit for an outside line."""
    written = [number, f"+{number}"]
    if len(number) > LONGEST:
        written += [number[1:], f"+{number[1:]}"]
    return any(_is_valid(one, country) for one in written)


def _is_valid(written: str, country: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(written, country))
    except phonenumbers.NumberParseException:
        return False
