"""What a company says of itself to bots: business type, contacts, working hours, holidays, currency. Pure.

Owns what is valid, and working hours as people read them. A period past midnight ends over 24 ("10:00" to "26:00") and
belongs to the day on which it begins. Read `gateway/domain/catalog.py` and `gateway/domain/prompts.py` next.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from gateway.domain.currency import currency_of, is_currency
from gateway.domain.text import refused

BusinessType = Literal[
    "restaurant", "retail", "education", "healthcare", "beauty", "real_estate", "travel", "services", "other"
]
BUSINESS_TYPES: tuple[str, ...] = get_args(BusinessType)
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[str, ...] = get_args(Day)
DAY_NAMES: Mapping[str, tuple[str, ...]] = {
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    "ru": ("пн", "вт", "ср", "чт", "пт", "сб", "вс"),
}
MOST_HOURS, MOST_HOLIDAYS = 50, 400
DAY_MIN = 24 * 60
_TIME = re.compile(r"([0-4]?[0-9]):([0-5][0-9])", re.ASCII)
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_WORDS = {
    "en": {"closed": "closed", "always": "around the clock", "holidays": "Holidays"},
    "ru": {"closed": "закрыто", "always": "круглосуточно", "holidays": "Праздники"},
}


def clean_lines(text: str) -> str:
    """A text of several lines that can be stored and shown: no control characters but tab and line breaks."""
    if _NO_TEXT.search(text):
        raise refused("it holds characters that cannot be shown", "в тексте есть символы, которые нельзя показать")
    return text


def clean_line(text: str) -> str:
    """The same for one line."""
    if len(clean_lines(text).splitlines()) > 1:
        raise refused("must be one line", "должно быть в одну строку")
    return text


def web_address(text: str) -> str:
    """An http or https address, or nothing."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise refused(
            "must be an address such as https://june.example", "должен быть адрес, например https://june.example"
        )
    return text


def _none_is_empty(value: Any) -> Any:
    return "" if value is None else value


def _currency(code: str) -> str:
    if code and not is_currency(code):
        raise refused("is not the code of a currency, such as BYN", "это не код валюты, например BYN")
    return code


def _minutes(value: Any) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refused('must be a time in quotes, such as "09:00"', 'должно быть время в кавычках, например "09:00"')
    return int(found[1]) * 60 + int(found[2])


def clock_text(minutes: int) -> str:
    """`09:00`; past midnight over 24, `26:00`."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


Minutes = Annotated[
    int, BeforeValidator(_minutes), WithJsonSchema({"type": "string", "pattern": "^[0-4]?[0-9]:[0-5][0-9]$"})
]  # fmt: skip
"""A time of the day as minutes; written `HH:MM`."""
OneLine = Annotated[
    str, BeforeValidator(_none_is_empty), StringConstraints(strip_whitespace=True), AfterValidator(clean_line)
]
CurrencyCode = Annotated[
    str, BeforeValidator(_none_is_empty), StringConstraints(strip_whitespace=True, to_upper=True), AfterValidator(_currency)
]  # fmt: skip


class Period(BaseModel):
    """From and to, in minutes of the day on which it begins; `to` may be the next day's."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    start: Minutes = Field(alias="from")
    end: Minutes = Field(alias="to")

    @model_validator(mode="after")
    def _ordered(self) -> "Period":
        if self.start >= DAY_MIN:
            raise refused('"from" must be before 24:00', "начало должно быть раньше 24:00")
        if not self.start < self.end <= self.start + DAY_MIN:
            raise refused(
                '"to" must be after "from", at most a day later; past midnight is over 24, such as "26:00"',
                "конец должен быть позже начала, не больше чем на сутки; после полуночи часы больше 24, например 26:00",
            )
        return self

    def shown(self, language: str) -> str:
        """As people read it: `10:00–02:00`."""
        if self.end - self.start == DAY_MIN:
            return _WORDS[language]["always"]
        return f"{clock_text(self.start)}–{clock_text(self.end if self.end == DAY_MIN else self.end % DAY_MIN)}"


class Hours(Period):
    """A period of some days of the week."""

    days: tuple[Day, ...] = Field(min_length=1)

    @field_validator("days")
    @classmethod
    def _each_once(cls, days: tuple[Day, ...]) -> tuple[Day, ...]:
        return tuple(sorted(set(days), key=DAYS.index))

    @model_serializer
    def _plain(self) -> dict[str, Any]:
        return {"days": list(self.days), "from": clock_text(self.start), "to": clock_text(self.end)}


class Holiday(BaseModel):
    """A day with hours of its own: closed, or open from `start` to `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    start: Minutes | None = Field(default=None, alias="from")
    end: Minutes | None = Field(default=None, alias="to")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"date": data} if isinstance(data, str | date) else data

    @field_validator("date", mode="before")
    @classmethod
    def _whole_day(cls, value: Any) -> Any:
        if type(value) is date:
            return value
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            raise refused("must be a day such as 2026-12-31", "должен быть день, например 2026-12-31") from None

    @model_validator(mode="after")
    def _both_or_none(self) -> "Holiday":
        if (self.start is None) != (self.end is None):
            raise refused('needs both "from" and "to", or neither', "нужны и начало, и конец, или ни того, ни другого")
        self.period()
        return self

    def period(self) -> Period | None:
        """When it is open; None for a day on which it is closed."""
        if self.start is None or self.end is None:
            return None
        return Period.model_validate({"from": clock_text(self.start), "to": clock_text(self.end)})

    @model_serializer
    def _plain(self) -> str | dict[str, str]:
        if self.start is None or self.end is None:
            return self.date.isoformat()
        return {"date": self.date.isoformat(), "from": clock_text(self.start), "to": clock_text(self.end)}


_DAY_SCHEMA = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
_TIME_SCHEMA = {"anyOf": [{"type": "string", "pattern": "^[0-4]?[0-9]:[0-5][0-9]$"}, {"type": "null"}]}
_HOLIDAY_SCHEMA = {"anyOf": [_DAY_SCHEMA, {
    "type": "object", "required": ["date"], "additionalProperties": False,
    "properties": {"date": _DAY_SCHEMA, "from": _TIME_SCHEMA, "to": _TIME_SCHEMA},
}]}  # fmt: skip


class Profile(BaseModel):
    """A company's profile. Empty fields are not known; an empty currency is the country's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    business_type: BusinessType = "other"
    description: Annotated[
        str, BeforeValidator(_none_is_empty), StringConstraints(strip_whitespace=True, max_length=4000),
        AfterValidator(clean_lines),
    ] = ""  # fmt: skip
    phone: Annotated[OneLine, StringConstraints(max_length=60)] = ""
    address: Annotated[OneLine, StringConstraints(max_length=500)] = ""
    website: Annotated[OneLine, StringConstraints(max_length=300), AfterValidator(web_address)] = ""
    currency: CurrencyCode = ""
    working_hours: Annotated[tuple[Hours, ...], Field(max_length=MOST_HOURS)] = ()
    holidays: Annotated[
        tuple[Annotated[Holiday, WithJsonSchema(_HOLIDAY_SCHEMA)], ...], Field(max_length=MOST_HOLIDAYS)
    ] = ()

    @field_validator("phone")
    @classmethod
    def _number(cls, value: str) -> str:
        if value and (not re.fullmatch(r"\+?[0-9 ()./-]+", value) or sum(map(str.isdecimal, value)) < 3):
            raise refused(
                "must be a telephone number such as +375291112233", "должен быть номер, например +375291112233"
            )
        return value

    @field_validator("working_hours")
    @classmethod
    def _apart(cls, hours: tuple[Hours, ...]) -> tuple[Hours, ...]:
        if (day := overlapping(hours)) is not None:
            raise refused(
                f"two periods overlap on {DAY_NAMES['en'][day]}", f"два промежутка пересекаются: {DAY_NAMES['ru'][day]}"
            )
        return hours

    @field_validator("holidays")
    @classmethod
    def _once(cls, days: tuple[Holiday, ...]) -> tuple[Holiday, ...]:
        named = sorted(day.date for day in days)
        for one, other in pairwise(named):
            if one == other:
                raise refused(f"{one} is named twice", f"{one} указано дважды")
        return tuple(sorted(days, key=lambda day: day.date))

    def currency_in(self, country: str) -> str:
        """Its currency, by default the country's."""
        return self.currency or currency_of(country)

    def plain(self) -> dict[str, Any]:
        """As a tenant file, the REST API and the table have it."""
        return self.model_dump(mode="json")


def overlapping(hours: Sequence[Hours]) -> int | None:
    """The day (0 is Monday) on which a second period begins before another has ended; None where none does."""
    week = 7 * DAY_MIN
    spans = sorted(
        (DAYS.index(day) * DAY_MIN + one.start, DAYS.index(day) * DAY_MIN + one.end)
        for one in hours
        for day in one.days
    )
    if not spans:
        return None
    wrapped = [*spans, (spans[0][0] + week, spans[0][1] + week)]  # Sunday's night may reach Monday
    for (_, end), (start, _) in pairwise(wrapped):
        if start < end and len(spans) > 1:
            return start % week // DAY_MIN
    return None


def week_of(hours: Iterable[Hours]) -> tuple[tuple[Period, ...], ...]:
    """The periods of each day from Monday on, in order."""
    days: list[list[Period]] = [[] for _ in DAYS]
    for one in hours:
        for day in one.days:
            days[DAYS.index(day)].append(one)
    return tuple(tuple(sorted(periods, key=lambda period: period.start)) for periods in days)


def is_open(profile: Profile, at: datetime) -> bool | None:
    """Whether the company works at a moment, given in its own time zone; None where no working hours are entered."""
    if not profile.working_hours:
        return None
    week = week_of(profile.working_hours)
    own = {day.date: day.period() for day in profile.holidays}
    minute = at.hour * 60 + at.minute
    for days_ago in (0, 1):  # a period of yesterday may go on past midnight
        day, now = at.date() - timedelta(days=days_ago), minute + days_ago * DAY_MIN
        holiday = own.get(day)
        periods = ((holiday,) if holiday else ()) if day in own else week[day.weekday()]
        if any(one.start <= now < one.end for one in periods):
            return True
    return False


def hours_text(profile: Profile, language: str) -> str:
    """Working hours and holidays as one line in a reader's language; empty where none are entered."""
    words, names = _WORDS[language], DAY_NAMES[language]
    parts = []
    if profile.working_hours:
        by_day = [
            ", ".join(p.shown(language) for p in day) or words["closed"] for day in week_of(profile.working_hours)
        ]
        for text, days in groupby(range(7), key=lambda day: by_day[day]):
            first, *rest = days
            span = names[first] + (f"–{names[rest[-1]]}" if rest else "")
            parts.append(f"{span} {text}")
    line = "; ".join(parts)
    if profile.holidays:
        shown = []
        for day in profile.holidays:
            period = day.period()
            when = f"{day.date:%d.%m.%Y}" if language == "ru" else day.date.isoformat()
            shown.append(f"{when} {period.shown(language) if period else words['closed']}")
        line += (". " if line else "") + f"{words['holidays']}: " + ", ".join(shown)
    return line
