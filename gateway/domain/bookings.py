"""Times that can be booked: an item of the catalog at a time, inside working hours, as often as its capacity says. Pure.

    item's attributes -> Bookable;  profile -> open spans of a day;  both and what is taken -> free times

Attributes of an item: `capacity` (how many bookings at once; without it there is no limit), `capacity_unit` (`bookings`, or `people`:
a booking takes as many places as its party), `seats` (the largest party), `duration_min` (60 without it), `slot_min` (how far the
times that are offered lie apart; the duration without it). Working hours are clock times of the company's zone: in the night in which
clocks change, the shorter reading of a period holds, so nothing is promised that is closed. Read `gateway/domain/profile.py` for
hours, `gateway/store/booking_slots.py` for what is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from gateway.domain.catalog import Item
from gateway.domain.orders import MOST_PARTY
from gateway.domain.posts import Invalid
from gateway.domain.profile import Period, Profile, week_of
from gateway.domain.text import Bilingual

USUAL_MIN = 60
LONGEST_MIN = 7 * 24 * 60
MOST_CAPACITY = 1000
FURTHEST = timedelta(days=730)
MOST_TIMES = 300
"""Times of one day that are listed."""


@dataclass(frozen=True, slots=True)
class Bookable:
    """How an item is booked."""

    item: Item
    capacity: int | None
    by_people: bool
    seats: int | None
    duration_min: int
    slot_min: int

    def places(self, party: int | None) -> int:
        """How many places a booking takes."""
        return (party or 1) if self.by_people else 1


@dataclass(frozen=True, slots=True)
class Span:
    """From and until, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A place that is taken for a time; places count from 1."""

    place: int
    start: datetime
    end: datetime


def _whole(item: Item, name: str, most: int) -> int | None:
    value = item.attributes.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = int(str(value).strip())
    except ValueError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= most:
        raise Invalid((("item", Bilingual(
            f"{item.name}: the attribute {name} in the catalog must be a whole number from 1 to {most}",
            f"«{item.name}»: свойство {name} в каталоге должно быть целым числом от 1 до {most}",
        )),))  # fmt: skip
    return number


def bookable(item: Item) -> Bookable:
    """How an item is booked, by its attributes. Raises Invalid for one that makes no sense: what is limited must not be sold as if
    it were not."""
    unit = str(item.attributes.get("capacity_unit", "bookings")).strip()
    if unit not in ("bookings", "people"):
        raise Invalid((("item", Bilingual(
            f"{item.name}: the attribute capacity_unit in the catalog must be bookings or people",
            f"«{item.name}»: свойство capacity_unit в каталоге должно быть bookings или people",
        )),))  # fmt: skip
    duration = _whole(item, "duration_min", LONGEST_MIN) or USUAL_MIN
    return Bookable(
        item, _whole(item, "capacity", MOST_CAPACITY), unit == "people", _whole(item, "seats", MOST_PARTY), duration,
        _whole(item, "slot_min", LONGEST_MIN) or duration,
    )  # fmt: skip


def local_moment(naive: datetime, zone: ZoneInfo) -> datetime | None:
    """A clock time of a zone as a moment; of the two in autumn the first. None for one that does not exist, in spring."""
    moment = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return moment if moment.astimezone(zone).replace(tzinfo=None, fold=0) == naive.replace(fold=0) else None


def _edge(day: date, minute: int, zone: ZoneInfo, *, begins: bool) -> datetime:
    """The moment of a clock time, past midnight too. In the hour that is missing or comes twice, the later one for a beginning and
    the earlier one for an end."""
    naive = datetime.combine(day, time()) + timedelta(minutes=minute)
    both = [naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    return max(both) if begins else min(both)


def day_span(day: date, zone: ZoneInfo) -> Span:
    """A whole day of a zone: 23, 24 or 25 hours."""
    return Span(
        _edge(day, 0, zone, begins=False) if local_moment(datetime.combine(day, time()), zone) else _edge(day, 0, zone, begins=True),
        _edge(day + timedelta(days=1), 0, zone, begins=False),
    )  # fmt: skip


def open_spans(profile: Profile, zone: ZoneInfo, first: date, last: date) -> list[Span] | None:
    """When the company works on these days and in the nights that go on from them, in order; what touches is one. None where no
    working hours are entered: then nothing is closed but holidays without hours."""
    closed = {one.date: one.period() for one in profile.holidays}
    if not profile.working_hours and not closed:
        return None
    week = week_of(profile.working_hours)
    spans: list[Span] = []
    day = first - timedelta(days=1)
    while day <= last + timedelta(days=1):
        for period in _periods(profile, week[day.weekday()], closed, day):
            span = Span(_edge(day, period.start, zone, begins=True), _edge(day, period.end, zone, begins=False))
            if span.start < span.end:
                spans.append(span)
        day += timedelta(days=1)
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: one.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


_ALL_DAY = Period.model_validate({"from": "00:00", "to": "24:00"})


def _periods(profile: Profile, usual: Sequence[Period], own: dict[date, Period | None], day: date) -> Sequence[Period]:
    if day in own:
        period = own[day]
        return (period,) if period is not None else ()
    return usual if profile.working_hours else (_ALL_DAY,)


def check_time(
    one: Bookable, profile: Profile, zone: ZoneInfo, start: datetime, duration_min: int, party: int | None, now: datetime
) -> None:  # fmt: skip
    """Raises Invalid where an item cannot be booked for a time whoever has booked it: it is past or closed, or the party is too
    large. `start` has an offset."""
    problems: list[tuple[str, str]] = []
    end = start + timedelta(minutes=duration_min)
    if start.second or start.microsecond:
        problems.append(("starts_at", Bilingual("must be a whole minute", "должно быть с точностью до минуты")))
    elif start < now:
        problems.append(("starts_at", Bilingual("is in the past", "это время уже прошло")))
    elif start > now + FURTHEST:
        problems.append(("starts_at", Bilingual("is more than two years ahead", "это больше чем через два года")))
    elif not _inside(open_spans(profile, zone, start.astimezone(zone).date(), end.astimezone(zone).date()), start, end):
        problems.append(("starts_at", Bilingual(
            f"is outside working hours: the whole {duration_min} minutes must be inside",
            f"вне рабочих часов: в них должны уместиться все {duration_min} мин",
        )))  # fmt: skip
    most = one.seats if one.seats is not None else one.capacity if one.by_people else None
    if most is not None and (party or 1) > most:
        problems.append(("party", Bilingual(f"at most {most} people", f"не больше {most} человек")))
    if problems:
        raise Invalid(tuple(problems))


def _inside(spans: Sequence[Span] | None, start: datetime, end: datetime) -> bool:
    return spans is None or any(one.start <= start and end <= one.end for one in spans)


def free_places(one: Bookable, taken: Sequence[Taken], start: datetime, end: datetime, needed: int) -> list[int] | None:
    """The first places that are free for a time, as many as needed; None where there are too few. Only of an item with a capacity."""
    assert one.capacity is not None
    busy = {each.place for each in taken if each.start < end and start < each.end}
    free = [place for place in range(1, one.capacity + 1) if place not in busy]
    # Places above the capacity are of a time when it was larger: they count all the same.
    spare = one.capacity - len(busy)
    return free[:needed] if min(len(free), spare) >= needed else None


def free_times(
    one: Bookable, profile: Profile, zone: ZoneInfo, day: date, taken: Sequence[Taken], now: datetime, party: int | None = None
) -> list[datetime]:  # fmt: skip
    """The beginnings on a day, in UTC, that can still be booked, from the beginning of each open span on."""
    whole = day_span(day, zone)
    spans = open_spans(profile, zone, day, day)
    length, step = timedelta(minutes=one.duration_min), timedelta(minutes=one.slot_min)
    found: list[datetime] = []
    for span in [Span(whole.start, whole.end + length)] if spans is None else spans:
        start = span.start
        if start <= whole.start - timedelta(days=1):
            start = whole.start  # open around the clock: each day begins anew
        elif start < whole.start:
            start += -(-(whole.start - start) // step) * step
        while start < whole.end and start + length <= span.end and len(found) < MOST_TIMES:
            free = one.capacity is None or free_places(one, taken, start, start + length, one.places(party)) is not None
            if start >= now and free:
                found.append(start)
            start += step
    return found
