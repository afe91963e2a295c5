"""Whoever has posted an event about a deal and waits a moment for what becomes of it.

An address waits here by the event's correlation id; the actor of the tenant's deals says what it has come to, route by route. One that
is processed by another instance is not said here: then it is looked up once, at the end of the wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import trio

from gateway.domain.deal_events import Status
from gateway.store.deal_runs import RunState


@dataclass
class Waiting:
    """One who waits. `states` are those of the routes that are over."""

    routes: int
    states: list[RunState] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)


class DealAnswers:
    """One for the process."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, Waiting] = {}

    def expect(self, correlation: UUID, routes: int) -> Waiting:
        """To be called before the event is stored, and followed by `forget`."""
        waiting = self._waiting[correlation] = Waiting(routes)
        return waiting

    def forget(self, correlation: UUID) -> None:
        """Nobody waits any more."""
        self._waiting.pop(correlation, None)

    def settle(self, correlation: UUID, state: RunState) -> None:
        """An event is over on one of its routes."""
        if (waiting := self._waiting.get(correlation)) is not None:
            waiting.states.append(state)
            if len(waiting.states) >= waiting.routes:
                waiting.over.set()

    def __len__(self) -> int:
        return len(self._waiting)


def status_of(states: Sequence[RunState], routes: int) -> tuple[Status, int | None, str]:
    """What an event has come to on all its routes: the status, the target's deal, and why nothing was written."""
    target = next((one.target_id for one in states if one.target_id is not None), None)
    over = [one for one in states if one.state != "waiting"]
    if any(one.state == "success" for one in over):
        return "success", target, ""
    if len(over) < routes:
        return "accepted", target, ""
    return "skipped", target, next((one.cause for one in over if one.cause), "")
