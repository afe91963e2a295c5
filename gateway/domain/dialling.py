"""What may be dialled for whom: a tenant's rules for click-to-call. Pure: numbers, rules and a moment in, a refusal out.

Toll fraud is the danger: whoever can make us dial can make the company pay. Both legs are judged. The number sought has to
read as E.164, of allowed countries and prefixes, nothing premium, in the hours that the tenant set; the phone that is rung
has to be one of the tenant's and an internal number (`internal_numbers.py`). Counting is the store's
(`gateway/store/call_orders.py`); read `actors/calls/click_to_call.py` next.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from gateway.domain.configuration import Tenant
from gateway.domain.internal_numbers import problem_with

RefusalCode = Literal[
    "bad_number", "no_extension", "bad_extension", "not_allowed", "premium", "hours", "per_user_minute", "per_user_day", "per_company_minute",
    "concurrent",
    "no_pbx", "pbx_away", "not_own_phone",
]  # fmt: skip

_WORDS = r"(?:[^\W\d_]++[.:]*+[ \u00a0]*+){1,8}+"
_WRITTEN = re.compile(
    rf"(?:(?P<before>{_WORDS})(?<=[.: \u00a0]))?"
    r"(?P<number>\+?[ ]?[0-9(][0-9 ()./\u00a0-]{0,30}[0-9])"
    r"(?:[ \u00a0]*(?:[,;][ \u00a0]*)?(?:доб|добав|добавочный|доп|вн|внутр|внутренний|ext|extn|extension|int|x|\#)"
    r"[.:=\u2116 \u00a0]{0,4}(?P<extension>[0-9]{1,8}))?"
    rf"(?:[ \u00a0]+[(]?{_WORDS}[)]?)?[ \u00a0]*",
    re.IGNORECASE,
)
"""A number with words around it and an extension after it, as people write them into a CRM: `тел. +375 (29) 625-40-70 доб. 12`.
Anything else, such as a comma without that word, may be more than a number to a PBX."""
_LONGEST_WRITTEN = 120
_MARKS = re.compile(r"[^0-9+]")
_COSTLY = frozenset((
    PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN, PhoneNumberType.PAGER,
    PhoneNumberType.VOICEMAIL, PhoneNumberType.PERSONAL_NUMBER,  # +44 70: forwarded anywhere, at the caller's cost
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """A tenant's `click_to_call` block. Empty `countries` is the tenant's own."""

    countries: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    per_user_minute: int = 10
    per_user_day: int = 200
    per_company_minute: int = 60
    concurrent: int = 10
    hours: str = "00:00-24:00"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The rules as the tenant's options store them, defaults filled in."""
        given: dict[str, Any] = {**options.get("click_to_call", {})}
        listed: dict[str, Any] = {name: tuple(given.pop(name, ())) for name in ("countries", "prefixes")}
        return cls(**listed, **given)


class CallRefused(Exception):
    """Somebody may not have this call. `code` names the reason in the UI's texts; `detail` is the same in English."""

    def __init__(self, code: RefusalCode, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.code: RefusalCode = code
        self.detail = detail
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Written:
    """What somebody wrote to have it dialled."""

    number: str
    """E.164."""
    extension: str = ""
    """Digits for whoever answers there. A note for people: no PBX is given them."""


def read_written(text: str, tenant: Tenant) -> Written:
    """The number, read with the tenant's country, and its extension. Raises CallRefused for anything more than a number,
    an extension and words."""
    bad = CallRefused("bad_number", "phone: not a telephone number that can be read; write it as +375296254070")
    written = _WRITTEN.fullmatch(text.strip(" ")) if len(text) <= _LONGEST_WRITTEN else None
    if written is None:
        raise bad
    digits = _MARKS.sub("", written["number"].replace("(0)", ""))
    candidates = [digits] if digits.startswith("0") else [digits, f"+{digits}"]
    if digits.startswith("+"):
        candidates = [digits, digits[1:]]  # +80296254070: a plus before a national number
    for candidate in candidates:
        try:
            parsed = phonenumbers.parse(candidate, tenant.country)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed) and not parsed.extension:
            number = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)
            return Written(number, written["extension"] or "")
    raise bad


def check_extension(tenant: Tenant, extension: str) -> None:
    """Whether this number may be rung as an employee's phone, whoever stored it and when. Raises CallRefused."""
    if not any(known.number == extension for known in tenant.phones):
        raise CallRefused("no_extension", "code: not an internal number of this company")
    if problem := problem_with(extension, tenant.country, tenant.options):
        raise CallRefused("bad_extension", f"code: {problem}")


def check_own_phone(only: Sequence[str] | None, extension: str) -> None:
    """Whether somebody may call from this internal number: an agent from their own alone (`only`). Raises CallRefused."""
    if only is not None and extension not in only:
        raise CallRefused("not_own_phone", "extension: not one of your own internal numbers")


def may_ring(tenant: Tenant, extension: str | None) -> bool:
    """The same as an answer, for what picks a number by itself."""
    return (
        extension is not None
        and any(known.number == extension for known in tenant.phones)
        and not problem_with(extension, tenant.country, tenant.options)
    )


def check(rules: Rules, tenant: Tenant, number: str, now: datetime) -> None:
    """Whether this E.164 number may be dialled at this moment. Raises CallRefused."""
    first, _, last = rules.hours.partition("-")
    clock = now.astimezone(tenant.timezone).strftime("%H:%M")
    inside = first <= clock < last if first <= last else clock >= first or clock < last
    if not inside:
        raise CallRefused("hours", f"calls are placed between {first} and {last} ({tenant.timezone.key}) only")
    if any(number.removeprefix("+").startswith(prefix.removeprefix("+")) for prefix in rules.prefixes):
        return
    parsed = phonenumbers.parse(number)
    if phonenumbers.number_type(parsed) in _COSTLY:
        raise CallRefused("premium", "phone: numbers at a special rate are not dialled")
    region = phonenumbers.region_code_for_number(parsed)
    allowed = rules.countries or (tenant.country,)
    if region not in allowed:
        raise CallRefused("not_allowed", f"phone: only numbers of {', '.join(allowed)} may be dialled")


def written_for_pbx(number: str, style: str, country: str, prefix: str = "") -> str:
    """An E.164 number as a dialplan in that country wants it: `plus` +375296254070, `digits` 375296254070, `national`
    80296254070 where the country has a trunk prefix; with the PBX's own prefix for an outside line before it.

    A number of another country has no national form there: what people at home write may be somebody else's number, or a
    costly one (+7 902 123-45-67, dialled 8 902 in Belarus, is a special rate of Belarus's own). It is written as it is
    dialled from this country, 8107902…"""
    parsed = phonenumbers.parse(number)
    if style == "national":
        if parsed.country_code == phonenumbers.country_code_for_region(country):
            written = phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL)
        else:
            written = phonenumbers.format_out_of_country_calling_number(parsed, country)
        number = _MARKS.sub("", written)
    elif style == "digits":
        number = number.removeprefix("+")
    return prefix + number
