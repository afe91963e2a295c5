"""Times that can be booked: working hours, nights, holidays, the days on which clocks change, and capacity."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.bookings import (
    Bookable,
    Taken,
    bookable,
    check_time,
    day_span,
    free_places,
    free_times,
    local_moment,
    open_spans,
)
from gateway.domain.catalog import Item
from gateway.domain.posts import Invalid
from gateway.domain.profile import DAYS, Profile, is_open

MINSK, BERLIN = ZoneInfo("Europe/Minsk"), ZoneInfo("Europe/Berlin")
FRIDAY = date(2026, 12, 4)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def table(**attributes: Any) -> Bookable:
    return bookable(Item.model_validate({"id": "table", "name": "Table", "price": "0", "attributes": attributes}))


def profile(*hours: tuple[str, str, str], holidays: Any = ()) -> Profile:
    rows = [{"days": days.split(), "from": begin, "to": end} for days, begin, end in hours]
    return Profile.model_validate({"working_hours": rows, "holidays": list(holidays)})


def clock(moments: list[datetime], zone: ZoneInfo = MINSK) -> list[str]:
    return [f"{one.astimezone(zone):%H:%M}" for one in moments]


def problems(
    one: Bookable, of: Profile, start: datetime, duration: int = 60, party: int | None = None, now: datetime = LONG_AGO
) -> set[str]:
    try:
        check_time(one, of, MINSK, start, duration, party, now)
    except Invalid as error:
        return {path for path, _ in error.problems}
    return set()


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text)


def at(text: str, zone: ZoneInfo = MINSK) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def test_attributes_say_how_an_item_is_booked() -> None:
    one = table(capacity="4", duration_min=90, slot_min="30", seats=6)
    assert (one.capacity, one.by_people, one.seats, one.duration_min, one.slot_min) == (4, False, 6, 90, 30)
    usual = table()
    assert (usual.capacity, usual.duration_min, usual.slot_min, usual.places(7)) == (None, 60, 60, 1)
    assert table(capacity=10, capacity_unit="people").places(3) == 3


@pytest.mark.parametrize("bad", [{"capacity": "500 ml"}, {"capacity": 0}, {"capacity": True}, {"duration_min": "an hour"}, {"slot_min": -5},
                                 {"seats": 1.5}, {"capacity_unit": "litres"}])  # fmt: skip
def test_what_makes_no_sense_is_refused_and_not_taken_for_unlimited(bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        table(**bad)
    assert next(iter(bad)) in str(caught.value)


def test_a_booking_lies_inside_working_hours_as_a_whole() -> None:
    week = profile(("mon tue wed thu fri", "10:00", "22:00"))
    assert problems(table(), week, at("2026-12-04T10:00")) == set()
    assert problems(table(), week, at("2026-12-04T21:00")) == set()
    for wrong in ("2026-12-04T09:59", "2026-12-04T21:01", "2026-12-05T12:00", "2026-12-04T23:00"):
        assert problems(table(), week, at(wrong)) == {"starts_at"}, wrong
    assert problems(table(), week, at("2026-12-04T20:00"), 121) == {"starts_at"}
    assert problems(table(), week, at("2026-12-04T12:00") + timedelta(seconds=1)) == {"starts_at"}
    assert problems(table(), week, at("2026-12-04T12:00"), now=at("2026-12-04T12:01")) == {"starts_at"}
    assert problems(table(), week, at("2029-12-04T12:00"), now=at("2026-12-04T12:01")) == {"starts_at"}
    assert problems(table(seats=4), week, at("2026-12-04T12:00"), party=5) == {"party"}
    assert problems(table(), Profile(), at("2026-12-04T03:00")) == set()


def test_nights_belong_to_the_day_on_which_they_begin() -> None:
    late = profile(("fri", "18:00", "26:00"), ("sat", "02:00", "03:00"))
    assert problems(table(), late, at("2026-12-05T01:00")) == set()
    assert problems(table(), late, at("2026-12-05T01:30")) == set()  # touches what begins at two
    assert problems(table(), late, at("2026-12-05T02:30")) == {"starts_at"}
    assert clock(free_times(table(), late, MINSK, date(2026, 12, 5), (), LONG_AGO)) == ["00:00", "01:00", "02:00"]
    assert clock(free_times(table(), late, MINSK, FRIDAY, (), LONG_AGO))[-1] == "23:00"


def test_holidays_have_hours_of_their_own_or_none() -> None:
    week = profile(
        (" ".join(DAYS), "10:00", "20:00"),
        holidays=["2026-12-04", {"date": "2026-12-05", "from": "12:00", "to": "14:00"}],
    )
    assert free_times(table(), week, MINSK, FRIDAY, (), LONG_AGO) == []
    assert clock(free_times(table(), week, MINSK, date(2026, 12, 5), (), LONG_AGO)) == ["12:00", "13:00"]
    only = Profile.model_validate({"holidays": ["2026-12-04"]})
    assert free_times(table(), only, MINSK, FRIDAY, (), LONG_AGO) == []
    assert len(free_times(table(), only, MINSK, date(2026, 12, 6), (), LONG_AGO)) == 24


def test_free_times_leave_out_what_is_past_and_taken() -> None:
    week = profile(("fri", "10:00", "14:00"))
    busy = [Taken(1, at("2026-12-04T11:30"), at("2026-12-04T12:30"))]
    one = table(capacity=1, slot_min=30)
    assert clock(free_times(one, week, MINSK, FRIDAY, busy, LONG_AGO)) == ["10:00", "10:30", "12:30", "13:00"]
    assert clock(free_times(one, week, MINSK, FRIDAY, busy, at("2026-12-04T10:01"))) == ["10:30", "12:30", "13:00"]
    assert clock(free_times(table(slot_min=30), week, MINSK, FRIDAY, busy, LONG_AGO))[3] == "11:30"  # no limit
    two = table(capacity=2, slot_min=30)
    assert len(free_times(two, week, MINSK, FRIDAY, busy, LONG_AGO)) == 7
    class_ = table(capacity=3, capacity_unit="people", slot_min=60)
    half = [Taken(place, at("2026-12-04T11:00"), at("2026-12-04T12:00")) for place in (1, 2)]
    assert clock(free_times(class_, week, MINSK, FRIDAY, half, LONG_AGO, party=2)) == ["10:00", "12:00", "13:00"]
    assert clock(free_times(class_, week, MINSK, FRIDAY, half, LONG_AGO, party=1)) == [
        "10:00",
        "11:00",
        "12:00",
        "13:00",
    ]


def test_places() -> None:
    start, end = at("2026-12-04T11:00"), at("2026-12-04T12:00")
    taken = [Taken(1, start, end), Taken(5, start, end), Taken(2, end, end + timedelta(hours=1))]
    assert free_places(table(capacity=3), taken, start, end, 1) == [2]
    # The capacity was five once: what stands on the fifth place counts, so one of three is left.
    assert free_places(table(capacity=3, capacity_unit="people"), taken, start, end, 2) is None
    assert free_places(table(capacity=1), taken, start, end, 1) is None


def test_the_day_on_which_clocks_go_forward() -> None:
    spring = date(2026, 3, 29)
    assert day_span(spring, BERLIN).end - day_span(spring, BERLIN).start == timedelta(hours=23)
    night = profile((" ".join(DAYS), "00:00", "24:00"))
    assert clock(free_times(table(), night, BERLIN, spring, (), LONG_AGO), BERLIN) == [
        "00:00", "01:00", *(f"{hour:02d}:00" for hour in range(3, 24)),
    ]  # fmt: skip
    assert local_moment(naive("2026-03-29T02:30"), BERLIN) is None
    assert local_moment(naive("2026-03-29T03:00"), BERLIN) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_the_day_on_which_clocks_go_back() -> None:
    autumn = date(2026, 10, 25)
    assert day_span(autumn, BERLIN).end - day_span(autumn, BERLIN).start == timedelta(hours=25)
    night = profile((" ".join(DAYS), "00:00", "24:00"))
    times = free_times(table(), night, BERLIN, autumn, (), LONG_AGO)
    assert clock(times, BERLIN)[:5] == ["00:00", "01:00", "02:00", "02:00", "03:00"]
    assert len(set(times)) == 25
    assert local_moment(naive("2026-10-25T02:30"), BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    (span,) = open_spans(profile(("sun", "01:00", "02:30")), BERLIN, autumn, autumn) or []
    assert span.end - span.start == timedelta(minutes=90)  # until the first half past two


@pytest.mark.slow
@given(
    zone=st.sampled_from(["Europe/Berlin", "Europe/Minsk", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]),
    day=st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    begin=st.integers(0, 23 * 4), length=st.integers(1, 96), step=st.sampled_from([15, 30, 45, 60]), minutes=st.sampled_from([15, 40, 60, 90]),
)  # fmt: skip
def test_every_minute_of_every_time_that_is_offered_is_open(
    zone: str, day: date, begin: int, length: int, step: int, minutes: int
) -> None:
    where = ZoneInfo(zone)
    start, end = begin * 15, begin * 15 + length * 15
    hours = f"{start // 60:02d}:{start % 60:02d}", f"{end // 60:02d}:{end % 60:02d}"
    week = profile((" ".join(DAYS[:5]), *hours))
    found = free_times(table(duration_min=minutes, slot_min=step), week, where, day, (), LONG_AGO)
    assert found == sorted(set(found))
    for moment in found:
        assert moment.astimezone(where).date() == day
        for minute in range(minutes):
            local = (moment + timedelta(minutes=minute)).astimezone(where)
            assert is_open(week, local), (moment, minute)
