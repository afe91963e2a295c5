"""Telephone numbers as events carry them: E.164 outside, the bare internal number for colleagues.

Owns the reading of what PBXes and hosts write down; it never guesses a number that libphonenumber cannot read, and keeps
what it cannot read as it was given. Read `gateway/domain/posted.py` next for who uses it.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

import phonenumbers

from gateway.domain.configuration import Phone

ANONYMOUS = "anonymous"
"""A number that its owner hides, or that was not reported."""

_HIDDEN = frozenset(
    {
        "", "anonymous", "unknown", "<unknown>", "unavailable", "<unavailable>", "private", "restricted", "withheld",
        "hidden", "blocked", "none", "null", "nil", "n/a", "asterisk", "anonymous@anonymous.invalid", "out of area",
        "private number", "unknown number", "unknown caller", "restricted number", "<private>", "<restricted>",
    }
)  # fmt: skip
_MARKS = str.maketrans("", "", " \t\u00a0-.()/")
_SCHEME = re.compile(r"(?:sips?|tel|callto):", re.IGNORECASE)
_PLAIN = re.compile(r"\+?[0-9*#][0-9*# \t\u00a0().-]*")
"""A number as people and PBXes write it, codes with * and # included."""
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTEXT = re.compile(r";phone-context=(\+[0-9]{1,7})(?:;|$)")
_WAIT = re.compile(r"[wW]+(?=[0-9*#+])")
"""Pauses before the digits that an analog line is given."""

PORTS = frozenset(("DAHDI", "Zap", "MGCP", "VPB", "mISDN", "CAPI", "Khomp", "Phone"))
"""Technologies whose devices are ports: the number of a port is nobody's internal number."""

_OUTSIDE_LINE = ("9", "0")
"""Digits that PBXes commonly want before an outside number."""
_SHORTEST_INTERNAL, LONGEST_SHORT = 2, 5


def hidden(number: str | None) -> bool:
    """True where the PBX reports that it does not know the number or may not show it."""
    return number is None or bare(number).strip("\"'").casefold() in _HIDDEN


@lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """The number alone of what may be a SIP address: no display name, scheme, host or user parameters (RFC 3261 19.1,
    RFC 3966, RFC 4694). A `phone-context` that is a prefix is put before the number. What holds no number, such as
    `sip:anna@example.net`, comes back as it was given, without spaces around it."""
    given = text.strip()
    rest = given
    if rest.endswith(">") and "<" in rest:
        rest = rest[rest.rindex("<") + 1 : -1].strip() or given
    scheme = _SCHEME.match(rest)
    user = rest[scheme.end() :] if scheme else rest
    user, parameters, _ = user.partition("@")[0].partition(";")
    if _ESCAPED.search(user):
        user = unquote(user)
    user = user.strip().strip("\"'")
    if user.casefold() in _HIDDEN and user:
        return user
    if not _PLAIN.fullmatch(user):
        return given
    context = _CONTEXT.search(rest) if parameters and user[0] != "+" else None
    return context.group(1) + user if context else user


@lru_cache(maxsize=4096)
def in_dial_string(text: str) -> str:
    """The number in a dial string with or without its technology: `150`, `+375296254070@trunk-0001`,
    `trunk/sip:375296254070@host:5060`, `g1/w80296254070`, `user:secret@host/80296254070@context`. Empty where it names a
    device alone."""
    for part in reversed(text.split("/")):
        user = part.partition("@")[0]
        user = user[user.rfind(":") + 1 :] if _SCHEME.match(user) else user
        number = bare(_WAIT.sub("", user, count=1))
        if _PLAIN.fullmatch(number):
            return number
    return ""


def dial_parts(text: str) -> tuple[str, ...]:
    """The devices or numbers of a list with commas, or of the arguments of Dial: devices joined by `&`, then a timeout,
    options and an address, which are none."""
    first, *rest = text.split(",")
    dial = "&" in first or "/" in first
    parts = [first, *(part for part in rest if not dial or "&" in part or "/" in part.partition("(")[0])]
    return tuple(one for part in parts for one in part.split("&"))


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

    Trunks also send E.164 without its plus, or after 00 where the country itself dials another prefix (ITU-T E.164, 8; 810 in BY, RU
    and KZ): where the national reading fails, these are tried.
    """
    if number is None or hidden(number):
        return ANONYMOUS
    given = bare(number)
    digits = given.translate(_MARKS)
    if not digits.isascii() or not digits.removeprefix("+").isdigit() or len(digits) > 20:
        return given
    read = _readable(digits, country)
    if read is None and len(digits) >= 10 and (digits[0] not in "+0" or digits.startswith("00")):
        read = _readable(f"+{digits.removeprefix('00')}", country)
    return read or given


def beginnings(text: str, country: str) -> tuple[str, ...]:
    """How E.164 numbers may begin that somebody has begun to write down in `text`: with the country's code or without, with the
    digits that national numbers begin with or without. Empty where `text` holds anything but digits, or fewer than three."""
    digits = text.strip().translate(_MARKS)
    if not digits.isascii() or not digits.removeprefix("+").isdigit() or not 3 <= len(digits) <= 16:
        return ()
    if digits[0] == "+":
        return (digits,)
    found = {f"+{digits}"}
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country, None) if country else None
    if metadata is not None:
        prefix = re.match(metadata.national_prefix_for_parsing or metadata.national_prefix or "(?!)", digits)
        rest = digits[prefix.end() :] if prefix is not None else digits
        found |= {f"+{metadata.country_code}{part}" for part in (digits, rest) if part}
    return tuple(sorted(found))


def spellings(number: str, country: str) -> tuple[str, ...]:
    """The ways in which people and systems write one E.164 number down, the likeliest first, none twice: with and without the
    plus, as it is dialled at home, without the digits that national numbers begin with, and grouped. What is no E.164 number
    has one spelling, its own."""
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return (number,)
    digits = number.removeprefix("+")
    grouped = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    home = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    significant = phonenumbers.national_significant_number(parsed)
    found = [number, digits, re.sub(r"[^0-9]", "", home), significant, grouped, home]
    if parsed.country_code != phonenumbers.country_code_for_region(country):
        found.append(re.sub(r"[^0-9]", "", phonenumbers.format_out_of_country_calling_number(parsed, country)))
    return tuple(dict.fromkeys(one for one in found if one))


def dialled(number: str | None, country: str, prefixes: Iterable[str] = ()) -> str:
    """A number that somebody in the company dialled, as `outside` writes it. Digits for an outside line may precede
    it: where it reads as no number of the country, those of `prefixes` and then the common ones are taken away before it
    is read as a foreign number without its plus."""
    if number is None or hidden(number):
        return ANONYMOUS
    given = bare(number)
    digits = given.translate(_MARKS)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 24 or _readable(digits, country) is not None:
        return outside(given, country)
    for prefix in (*prefixes, *_OUTSIDE_LINE):
        rest = digits.removeprefix(prefix)
        if prefix and rest != digits and (read := _readable(rest, country) or _after_plus(rest, prefix, prefixes)):
            return read
    return outside(given, country)


def _after_plus(rest: str, prefix: str, prefixes: Iterable[str]) -> str | None:
    """A foreign number without its plus behind a prefix that is known to be one."""
    return _readable(f"+{rest}", "") if prefix in prefixes and rest[:1] != "0" and len(rest) >= 10 else None


def is_short(number: str) -> bool:
    """True for two to five digits: an internal number, unless an outside line carries it."""
    return number.isascii() and number.isdigit() and _SHORTEST_INTERNAL <= len(number) <= LONGEST_SHORT


def is_internal(number: str | None, phones: Iterable[Phone]) -> bool:
    """True for a tenant's internal number. Where the tenant lists no phones: two to five digits."""
    if not number:
        return False
    listed = [phone.number for phone in phones]
    if listed:
        return number in listed
    return is_short(number)
