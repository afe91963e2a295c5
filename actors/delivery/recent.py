"""Outcomes of an integration's latest deliveries: the share that failed in a window, and the last cause. Pure; time is an
argument, in seconds of one clock.

Whether the other side answers at all is the worker's own knowledge (its breaker); this is about a side that answers and
refuses, which would otherwise look healthy. Used by `actors/delivery/worker.py`.
"""

from collections import deque
from dataclasses import dataclass

from gateway.domain.health import State

WINDOW_S = 900.0
MOST = 100
FAILING, SOME = 0.9, 0.1
"""From these shares on it is failing altogether, or in part."""
ENOUGH = 3
"""The least number of failures that counts: fewer may be one bad delivery."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a window with too many failures."""

    state: State
    code: str
    detail: str


class RecentOutcomes:
    """The last `MOST` outcomes within `WINDOW_S`."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=MOST)
        self._cause = ""

    def add(self, at_s: float, cause: str | None) -> None:
        """A delivery has come to an end: arrived (None), or given up for `cause`."""
        self._outcomes.append((at_s, cause is None))
        if cause is not None:
            self._cause = cause

    def verdict(self, at_s: float) -> Verdict | None:
        """None where few enough failed."""
        while self._outcomes and at_s - self._outcomes[0][0] > WINDOW_S:
            self._outcomes.popleft()
        total = len(self._outcomes)
        failed = sum(1 for _, arrived in self._outcomes if not arrived)
        if not failed or failed / total < SOME:
            return None
        detail = f"{failed}/{total}: {self._cause}"[:300]
        if failed >= ENOUGH and failed / total >= FAILING:
            return Verdict(State.ATTENTION, "deliveries_failing", detail)
        return Verdict(State.DEGRADED, "some_deliveries_fail", detail)
