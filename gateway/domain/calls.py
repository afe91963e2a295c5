"""A call as a fold of its events: `apply(call, event)` is the state every reader sees.

ringing -> talking -> ended
   |                    ^
   +--------------------+        merged: joined to another call, no end of its own
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)
from gateway.domain.ids import CallId


class Phase(StrEnum):
    """Where a call is."""

    RINGING = "ringing"
    TALKING = "talking"
    ENDED = "ended"
    MERGED = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Everything reported of one call so far. Times are UTC; `wait_s` and `talk_s` are seconds."""

    call_id: CallId
    phase: Phase
    direction: Direction
    caller: str
    called: str
    trunk: str | None
    started_at: datetime
    ringing: tuple[str, ...] = ()
    rang: tuple[str, ...] = ()
    extension: str | None = None
    last_extension: str | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    result: Result | None = None
    wait_s: float | None = None
    talk_s: float | None = None
    hung_up_by: HungUpBy | None = None
    queue: str | None = None
    recording: str | None = None
    uncertain: bool = False
    merged_into: CallId | None = None
    events: int = 0
    """How many events made this state: the sequence number of the last one."""

    @property
    def open(self) -> bool:
        """True until the call has ended or joined another."""
        return self.phase in (Phase.RINGING, Phase.TALKING)

    @property
    def outside(self) -> str:
        """The other party's number: the client's, or the colleague's for an internal call."""
        return self.caller if self.direction is Direction.INCOMING else self.called

    @property
    def employee(self) -> str | None:
        """The employee of the call: who answered it, or who placed it."""
        return self.caller if self.direction is not Direction.INCOMING else self.extension


def _joined(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return known + tuple(number for number in more if number not in known)


def apply(call: Call | None, event: CallEvent) -> Call | None:
    """The call after `event`. An event for a call that is closed, or unknown and not a beginning, changes nothing."""
    if call is not None and not call.open:
        return call
    match event:
        case CallRinging() if call is None:
            return Call(
                call_id=event.call_id, phase=Phase.RINGING, direction=event.direction, caller=event.caller,
                called=event.called, trunk=event.trunk, started_at=event.at, ringing=event.extensions,
                rang=event.extensions if event.direction is not Direction.OUTGOING else (), uncertain=event.uncertain,
                events=1,
            )  # fmt: skip
        case CallRinging():
            assert call is not None
            rang = call.rang if event.direction is Direction.OUTGOING else _joined(call.rang, event.extensions)
            return replace(
                call, direction=event.direction, caller=event.caller, called=event.called,
                trunk=event.trunk or call.trunk, ringing=event.extensions, rang=rang,
                uncertain=call.uncertain or event.uncertain, events=call.events + 1,
            )  # fmt: skip
        case CallEnded():
            started = call.started_at if call is not None else event.at
            return Call(
                call_id=event.call_id, phase=Phase.ENDED, direction=event.direction, caller=event.caller,
                called=event.called, trunk=event.trunk, started_at=started, rang=event.rang,
                extension=event.extension, last_extension=event.last_extension,
                answered_at=call.answered_at if call is not None else None, ended_at=event.at, result=event.result,
                wait_s=event.wait_s, talk_s=event.talk_s, hung_up_by=event.hung_up_by, queue=event.queue,
                recording=event.recording, uncertain=event.uncertain,
                events=(call.events if call is not None else 0) + 1,
            )  # fmt: skip
        case _ if call is None:
            return None
        case CallAnswered():
            return replace(
                call, phase=Phase.TALKING, ringing=(), extension=event.extension, last_extension=event.extension,
                answered_at=event.at, wait_s=event.wait_s, uncertain=call.uncertain or event.uncertain,
                events=call.events + 1,
            )  # fmt: skip
        case CallTransferred():
            return replace(
                call, ringing=(), last_extension=event.to_extension, uncertain=call.uncertain or event.uncertain,
                events=call.events + 1,
            )  # fmt: skip
        case CallMerged():
            return replace(
                call, phase=Phase.MERGED, ringing=(), merged_into=event.into, ended_at=event.at,
                events=call.events + 1,
            )  # fmt: skip


def lost(call: Call, at: datetime) -> CallEnded:
    """The end of an open call whose real end was not received. Never claims more than was reported."""
    answered = call.phase is Phase.TALKING
    unanswered = Result.NO_ANSWER if call.direction is Direction.OUTGOING else Result.MISSED
    return CallEnded(
        call_id=call.call_id,
        at=at,
        direction=call.direction,
        caller=call.caller,
        called=call.called,
        trunk=call.trunk,
        extension=call.employee,
        last_extension=call.last_extension,
        rang=call.rang,
        result=Result.ANSWERED if answered else unanswered,
        wait_s=call.wait_s,
        talk_s=None,
        hung_up_by=None,
        queue=call.queue,
        recording=call.recording,
        uncertain=True,
    )
