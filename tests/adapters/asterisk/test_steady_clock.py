"""A step of this machine's clock does not move the times of open calls."""

import datetime as real
from typing import Any

import pytest

from adapters.asterisk import steady_clock
from adapters.asterisk.steady_clock import SteadyClock

HOUR_S = 3600.0


class Stepped(real.datetime):
    """The machine's clock, `ahead_s` ahead."""

    ahead_s = 0.0

    @classmethod
    def now(cls, tz: real.tzinfo | None = None) -> Any:
        return real.datetime.now(tz) + real.timedelta(seconds=cls.ahead_s)


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
def test_a_step_waits_until_no_call_is_open(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    monkeypatch.setattr(steady_clock, "datetime", Stepped)
    monkeypatch.setattr(Stepped, "ahead_s", 0.0)
    calls: list[str] = ["one"]
    clock = SteadyClock(lambda: bool(calls))
    before = clock.now()
    Stepped.ahead_s = step_s
    assert 0 <= (clock.now() - before).total_seconds() < 60
    calls.clear()
    assert abs((clock.now() - before).total_seconds() - step_s) < 60
    calls.append("two")
    again = clock.now()
    Stepped.ahead_s = 0.0
    assert 0 <= (clock.now() - again).total_seconds() < 60
