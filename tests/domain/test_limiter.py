"""Never more than a rate allows in any window, whoever asks when; and who gives way to whom."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.limiter import MOST_WINDOWS, Booking, Limiter, Limits, Rate

GAPS = st.floats(min_value=0, max_value=0.6, allow_nan=False)
STEPS = st.lists(st.tuples(st.sampled_from(["book", "late", "cancel", "background", "pause"]), GAPS), max_size=120)


def most_in_a_window(times: list[float], per_s: float) -> int:
    return max((sum(start <= at < start + per_s for at in times) for start in times), default=0)


@given(st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0]), STEPS)
def test_never_more_than_the_count_in_any_window(count: int, per_s: float, steps: list[tuple[str, float]]) -> None:
    """Bookings that leave on time, late or never, jobs in between, and pauses."""
    limiter = Limiter(Limits(rates={"": Rate(count, per_s), "chat": Rate(2, 1.0)}))
    now, open_bookings = 0.0, list[tuple[float, Booking]]()
    left: dict[str, list[float]] = {"": [], "chat:1": []}

    def leave_due() -> None:
        for due, booking in list(open_bookings):
            if due <= now:
                open_bookings.remove((due, booking))
                if wait := limiter.leave(booking, now):
                    open_bookings.append((now + wait, booking))
                else:
                    left[booking.bucket].append(now)

    for number, (what, gap) in enumerate(steps):
        bucket = "chat:1" if number % 3 == 0 else ""
        now += gap
        leave_due()
        match what:
            case "book" | "late":
                booking = limiter.book(bucket, now)
                assert booking.at >= now
                open_bookings.append((booking.at + (gap if what == "late" else 0.0), booking))
            case "cancel" if open_bookings:
                limiter.cancel(open_bookings.pop()[1])
            case "background":
                if not limiter.try_background(bucket, now):
                    left[bucket].append(now)
            case "pause":
                limiter.pause(now + gap)
                assert limiter.wait_s("", now) >= gap - 1e-9
    for _ in range(500):
        if open_bookings:
            now = max(now, min(due for due, _ in open_bookings)) + 1e-6
            leave_due()
    assert not open_bookings, "everybody leaves in the end"
    assert most_in_a_window(sorted(left[""] + left["chat:1"]), per_s) <= count
    assert most_in_a_window(sorted(left["chat:1"]), 1.0) <= 2


def test_a_ring_is_not_delayed_below_the_rate() -> None:
    """38 at once and then nothing for the rest of the second: the token bucket before let two go at once."""
    limiter = Limiter(Limits(rates={"telephony": Rate(38)}))
    bookings = [limiter.book("telephony", 5.0) for _ in range(39)]
    assert [booking.at for booking in bookings] == [5.0] * 38 + [6.0]
    assert not any(limiter.leave(booking, 5.0) for booking in bookings[:38])
    assert limiter.leave(bookings[38], 5.5) == 0.5


def test_what_is_late_pushes_the_others_back() -> None:
    limiter = Limiter(Limits(rates={"": Rate(1)}))
    first, second = limiter.book("", 0.0), limiter.book("", 0.0)
    assert (first.at, second.at) == (0.0, 1.0)
    assert limiter.leave(first, 0.9) == 0.0
    assert 0.8 < limiter.leave(second, 1.0) < 1.0


def test_a_bucket_named_exactly_is_apart_and_others_count_to_the_whole() -> None:
    limiter = Limiter(Limits(rates={"": Rate(2), "telephony": Rate(1), "chat": Rate(1)}))
    for bucket in ("telephony", "chat:1", "chat:2"):
        assert limiter.leave(limiter.book(bucket, 0.0), 0.0) == 0.0
    assert [limiter.wait_s(bucket, 0.0) for bucket in ("", "telephony", "chat:1", "chat:3")] == [1.0] * 4
    assert limiter.full(0.0, 0.5) == {"telephony": 0.5, "chat:1": 0.5, "": 0.5, "chat:2": 0.5, "chat:3": 0.5}


def test_jobs_leave_a_quarter_free_and_wait_behind_promises() -> None:
    limiter = Limiter(Limits(rates={"": Rate(8)}))
    gone = 0
    while not limiter.try_background("", 0.0):
        gone += 1
    assert gone == 6
    assert limiter.leave(limiter.book("", 0.0), 0.0) == 0.0
    assert limiter.leave(limiter.book("", 0.0), 0.0) == 0.0
    assert limiter.wait_s("", 0.0) == 1.0
    waiting = [limiter.book("", 0.5) for _ in range(8)]
    assert limiter.try_background("", 1.0) > 0, "real-time deliveries have the next second"
    assert not any(limiter.leave(booking, 1.0) for booking in waiting)


def test_a_pause_of_one_bucket_holds_up_no_other() -> None:
    limiter = Limiter(Limits(rates={"": Rate(10)}))
    limiter.pause(60.0, "crm.deal.list")
    assert limiter.wait_s("crm.deal.list", 0.0) == 60.0
    assert limiter.wait_s("crm.deal.get", 0.0) == 0.0
    limiter.pause(30.0)
    assert limiter.wait_s("crm.deal.get", 0.0) == 30.0
    assert not limiter.idle(31.0)
    assert limiter.idle(61.0)


def test_without_rates_nothing_waits_and_buckets_are_forgotten() -> None:
    assert Limiter(Limits(rates={})).book("chat:1", 7.0).at == 7.0
    limiter = Limiter(Limits(rates={"chat": Rate(1)}))
    for number in range(3 * MOST_WINDOWS):
        limiter.leave(limiter.book(f"chat:{number}", float(number)), float(number))
    assert len(limiter._windows) <= MOST_WINDOWS
