"""A rate: so many at once, earned again at so many a second; each key and each address by itself."""

import pytest

from gateway.domain.limiter import Rate
from gateway.web.callers import limits
from gateway.web.callers.limits import CallLimits


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    many = CallLimits(Rate(8, 4.0), Rate(400, 4.0), clock)
    taken = [many.key("a") for _ in range(9)]
    assert [one.wait_s for one in taken] == [0] * 8 + [4.0]
    assert [one.remaining for one in taken] == [7, 6, 5, 4, 3, 2, 1, 0, 0]
    assert dict(taken[0].headers) == {"RateLimit-Limit": "8", "RateLimit-Remaining": "7", "RateLimit-Reset": "4"}
    clock.now += 4.0
    assert many.key("a").wait_s == 0
    # In any 4 s never more than 8, wherever they begin.
    admitted = []
    for _ in range(400):
        clock.now += 0.1
        if not many.key("b").wait_s:
            admitted.append(clock.now)
    assert all(len([at for at in admitted if begin <= at < begin + 3.999]) <= 8 for begin in admitted)
    assert len(admitted) == pytest.approx(80, abs=8)


def test_a_refused_request_costs_nothing_and_others_are_not_touched() -> None:
    clock = Clock()
    many = CallLimits(Rate(2, 1.0), Rate(3, 1.0), clock)
    assert [many.key("a").wait_s for _ in range(5)] == [0, 0, 1.0, 1.0, 1.0]
    assert many.key("b").wait_s == 0
    assert [many.address("a").wait_s for _ in range(3)] == [0, 0, 0]
    clock.now += 1.0
    assert many.key("a").wait_s == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 10)
    many = CallLimits(clock=Clock())
    for number in range(100):
        many.address(str(number))
    assert len(many._windows) == 10
