"""The events of a call, as `gateway replay` prints them and the pipeline carries them (contract, section 6).

Each is a frozen dataclass; `to_json` and `from_json` are its one wire form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from gateway.domain.ids import CallId, utc_from_text, utc_text


class Direction(StrEnum):
    """Seen from the company."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"
    INTERNAL = "internal"


class Result(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    MISSED = "missed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no_answer"
    CANCELLED = "cancelled"


class HungUpBy(StrEnum):
    """Who ended it."""

    CALLER = "caller"
    CALLEE = "callee"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRinging:
    """A call has begun to ring, or rings at further phones. `extensions` are all that ring now."""

    call_id: CallId
    at: datetime
    direction: Direction
    caller: str
    called: str
    trunk: str | None
    extensions: tuple[str, ...]
    uncertain: bool = False
    """A gap has hidden something of the call. For its continuation after a restart; not sent to outside systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered:
    """An employee and the other party talk. `extension` is the employee; `wait_s` counts from the first ring."""

    call_id: CallId
    at: datetime
    extension: str | None
    wait_s: float | None
    uncertain: bool = False
    """A gap has hidden something of the call. For its continuation after a restart; not sent to outside systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTransferred:
    """The other party now talks to another employee."""

    call_id: CallId
    at: datetime
    from_extension: str | None
    to_extension: str | None
    uncertain: bool = False
    """A gap has hidden something of the call. For its continuation after a restart; not sent to outside systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMerged:
    """A consultation call that a transfer joined to the call `into`; it has no CallEnded of its own."""

    call_id: CallId
    at: datetime
    into: CallId


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """The whole call, emitted once. `wait_s` and `talk_s` are seconds, null where nobody answered."""

    call_id: CallId
    at: datetime
    direction: Direction
    caller: str
    called: str
    trunk: str | None
    extension: str | None
    last_extension: str | None
    rang: tuple[str, ...]
    result: Result
    wait_s: float | None
    talk_s: float | None
    hung_up_by: HungUpBy | None
    queue: str | None = None
    recording: str | None = None
    uncertain: bool = False


CallEvent = CallRinging | CallAnswered | CallTransferred | CallMerged | CallEnded

NAMES: dict[type[CallEvent], str] = {
    CallRinging: "call_ringing",
    CallAnswered: "call_answered",
    CallTransferred: "call_transferred",
    CallMerged: "call_merged",
    CallEnded: "call_ended",
}
_CLASSES = {name: cls for cls, name in NAMES.items()}
_ENUMS = {"direction": Direction, "result": Result, "hung_up_by": HungUpBy}


def to_json(event: CallEvent) -> dict[str, Any]:
    """The event as the contract writes it, keys in the contract's order."""
    out: dict[str, Any] = {"event": NAMES[type(event)]}
    for field in fields(event):
        if field.name == "uncertain" and not isinstance(event, CallEnded):
            continue
        value = getattr(event, field.name)
        if isinstance(value, datetime):
            value = utc_text(value)
        elif isinstance(value, tuple):
            value = list(value)
        out[field.name] = value
    return out


def from_json(data: Mapping[str, Any]) -> CallEvent:
    """The inverse of `to_json`. Raises KeyError or ValueError for what is not an event."""
    cls = _CLASSES[data["event"]]
    values: dict[str, Any] = {}
    for field in fields(cls):
        if field.name not in data:
            continue
        value = data[field.name]
        if field.name == "at":
            value = utc_from_text(value)
        elif isinstance(value, list):
            value = tuple(value)
        elif field.name in _ENUMS and value is not None:
            value = _ENUMS[field.name](value)
        values[field.name] = value
    return cls(**values)
