"""Keeps a session alive: a PBX's, a long poll's, any client's that has `run(sink)`.

Being offline is a state here and not a crash. Backoff is 1 s doubling to 60 s with jitter and starts over after 60 s
online; a refused login waits for a person and is tried again only every ten minutes, never in a storm.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import NamedTuple

import trio

from actors.runtime.directory import Slot, utc_now
from gateway.domain.errors import NeedsAttention, ProtocolError, Retryable
from gateway.domain.health import State
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

BACKOFF_BASE_S = 1.0
BACKOFF_CAP_S = 60.0
HEALTHY_AFTER_S = 60.0
ATTENTION_PAUSE_S = 600.0


class Counted(NamedTuple):
    """The counters of one kind of session."""

    lost: str
    refused: str


async def serve_sessions(slot: Slot, run: Callable[[], Awaitable[None]], counted: Counted) -> None:
    """Until cancelled: one session after another. `run` is one session and raises at its end."""
    failures = 0
    while True:
        if failures == 0:
            slot.report(State.CONNECTING)
        # The reason why the last session was lost stays visible during further tries.
        started = trio.current_time()
        pause = await _session(slot, run, counted, failures)
        failures = 0 if trio.current_time() - started >= HEALTHY_AFTER_S else failures + 1
        await trio.sleep(pause)


async def _session(slot: Slot, run: Callable[[], Awaitable[None]], counted: Counted, failures: int) -> float:
    """One session. Returns how many seconds to wait before the next."""
    started = trio.current_time()
    reason: NeedsAttention | Retryable | ProtocolError
    try:
        await run()
    except NeedsAttention as error:
        COUNTERS[counted.refused] += 1
        pause = ATTENTION_PAUSE_S * random.uniform(0.9, 1.1)
        state, reason = State.ATTENTION, error
    except (Retryable, ProtocolError) as error:
        COUNTERS[counted.lost] += 1
        if trio.current_time() - started >= HEALTHY_AFTER_S:
            failures = 0
        pause = random.uniform(0.5, 1.0) * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures, 16))
        state, reason = State.OFFLINE, error
    else:
        raise RuntimeError("a session ended without saying why")
    code = reason.code or _snake(type(reason).__name__)
    slot.report(state, code, reason.shown, next_try=utc_now() + timedelta(seconds=pause))
    log.warning("session ended", extra={"reason": str(reason), "seconds": round(pause, 1)})
    return pause


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
