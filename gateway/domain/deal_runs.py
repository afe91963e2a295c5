"""Runs: what became of one event on one route, and when it is tried again. Plain data and arithmetic.

    waiting -> success | skipped | failed          a failed one waits again when a person replays it

Three quick tries while somebody may wait for the answer, then slow ones until 48 hours are over.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from gateway.domain.ids import IntegrationKey

State = Literal["waiting", "success", "skipped", "failed"]
STATES: tuple[State, ...] = ("waiting", "success", "skipped", "failed")

QUICK_TRIES, FIRST_S, LONGEST_S, JITTER = 3, 1.0, 30.0, 0.1
SLOW_S, SLOWEST_S = 60.0, 3600.0
KEEP_S = 48 * 3600.0

SKIPPED = (
    "same_state", "filtered", "own_deal", "event_not_listed", "route_gone", "route_off", "target_removed", "deal_not_found",
)  # fmt: skip
"""Why nothing was written though nothing is wrong."""
FAILED = (
    "no_value", "unknown_stage", "unknown_currency", "rejected", "bad_credentials", "bad_settings", "unavailable", "rate_limited",
    "no_integration", "bug",
)  # fmt: skip
"""Why a person has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One event on one route, due to be carried."""

    run_id: int
    route: str
    source: IntegrationKey
    target: IntegrationKey
    deal_id: int
    event: str
    domain: str
    correlation: UUID
    attempt: int
    """How often it was tried."""
    forced: bool
    """A person wants it whatever was carried before."""
    received_at: datetime
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a try at a run came to."""

    run: Run
    state: State
    target_id: int | None = None
    cause: str = ""
    detail: str = ""
    again_s: float = 0.0
    """Of one that waits: seconds until the next try."""
    counts: bool = True
    """Whether it used up an attempt."""
    changed: tuple[str, ...] = ()
    """Names of the fields that were written."""
    note: str = ""
    """Of one that succeeded: fields that the target does not have."""
    duration_ms: int = 0


def again_after(attempt: int, after_s: float | None = None, spread: float | None = None) -> float:
    """Seconds from a failed try, which was the `attempt`-th, to the next. `after_s`: what the other side requests."""
    jitter = 1.0 + JITTER * (random.random() if spread is None else spread)
    if attempt <= QUICK_TRIES:
        pause = min(LONGEST_S, FIRST_S * 2.0 ** (attempt - 1)) * jitter
    else:
        pause = min(SLOWEST_S, SLOW_S * 2.0 ** min(attempt - QUICK_TRIES - 1, 16)) * jitter
    return max(pause, after_s or 0.0)


def newest_of_each(runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    """Runs by route and deal: the deal's state is read when it is carried, so one carry serves all of them."""
    found: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        found.setdefault((run.route, run.deal_id), []).append(run)
    return found
