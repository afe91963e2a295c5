"""The share of deliveries that failed, and what it says of an integration."""

from actors.delivery.recent import MOST, WINDOW_S, RecentOutcomes
from gateway.domain.health import State


def outcomes(text: str) -> RecentOutcomes:
    """`x` failed, `.` arrived; a second apart."""
    made = RecentOutcomes()
    for second, sign in enumerate(text):
        made.add(float(second), "403: Forbidden" if sign == "x" else None)
    return made


def test_all_that_fail_need_a_person() -> None:
    found = outcomes("xxx").verdict(3.0)
    assert found is not None
    assert (found.state, found.code, found.detail) == (State.ATTENTION, "deliveries_failing", "3/3: 403: Forbidden")


def test_some_are_a_difficulty_and_few_are_none() -> None:
    for text in ("x", "xx", "x.", "xx..........", "xxxxx....."):
        found = outcomes(text).verdict(20.0)
        assert found is not None
        assert (found.state, found.code) == (State.DEGRADED, "some_deliveries_fail")
    assert outcomes("").verdict(0.0) is None
    assert outcomes("....").verdict(9.0) is None
    assert outcomes("x" + "." * 10).verdict(20.0) is None


def test_what_is_long_ago_is_forgotten() -> None:
    made = outcomes("xxxxx")
    assert made.verdict(WINDOW_S + 10) is None
    made.add(WINDOW_S + 11, None)
    assert made.verdict(WINDOW_S + 12) is None
    many = outcomes("x" * 50 + "." * MOST)
    assert many.verdict(150.0) is None
