"""The wall clock of one PBX's sessions: a step of this machine's clock does not move it while calls are open.

How long a call rang and lasted is the difference of two of its times, and a PBX's own clock is compared with this one.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class SteadyClock:
    """UTC. While `steady` is true it goes on with the monotonic clock; otherwise it is this machine's clock."""

    def __init__(self, steady: Callable[[], bool]) -> None:
        self._steady = steady
        self._set_at, self._set_at_s = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        """The time; never earlier than before while steady."""
        if not self._steady():
            self._set_at, self._set_at_s = datetime.now(UTC), time.monotonic()
            return self._set_at
        return self._set_at + timedelta(seconds=time.monotonic() - self._set_at_s)
