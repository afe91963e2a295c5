"""A posted call event, validated: what an Asterisk host or a call service reports of one moment of one call.

Owns the field names, the accepted types and the digest by which a repeat is recognised. It never decides what the
event means: that is `gateway/domain/posted.py`, read it next. Hosts differ, so types are read
liberally (numbers as text or integers, lists as text with commas), and fields that are not known are stored in `body`.

The body leaves without the token and parses again to the same post, so a journal row is all that a restart needs.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction
from gateway.domain.numbers import dial_parts
from gateway.domain.text import has_breaking

DISPATCH = "/dispatch/call-event"
ADDRESSES = ("/start", "/dial", "/bridge", "/hangup", DISPATCH)
TOKEN_FIELD = "token"  # noqa: S105 - the field's name
"""Compared without regard to case: hosts send `Token`, call services `token`."""

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,6})?)?)\d*\s?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_DEPTH, _LONGEST_ID, _LONGEST_NUMBER, _LONGEST_URL, _MOST_EXTENSIONS = 16, 128, 128, 2048, 500
_YEARS = range(1990, 2101)


class Step(StrEnum):
    """Which moment of the call it is."""

    START = "start"
    DIAL = "dial"
    BRIDGE = "bridge"
    HANGUP = "hangup"


class Status(StrEnum):
    """What `CallStatus` comes to."""

    ANSWERED = "answered"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    CANCELLED = "cancelled"
    FAILED = "failed"


_STATUSES = {
    "answer": Status.ANSWERED, "answered": Status.ANSWERED, "2": Status.ANSWERED,
    "busy": Status.BUSY,
    "noanswer": Status.NO_ANSWER, "no answer": Status.NO_ANSWER, "no_answer": Status.NO_ANSWER,
    "cancel": Status.CANCELLED, "cancelled": Status.CANCELLED, "canceled": Status.CANCELLED,
    "congestion": Status.FAILED, "chanunavail": Status.FAILED, "invalidargs": Status.FAILED, "failed": Status.FAILED,
}  # fmt: skip
"""Dial statuses in words, and 2. Every other number means that nobody answered; another word means nothing."""

_DIRECTIONS = {"0": Direction.INCOMING, "1": Direction.OUTGOING, "2": Direction.INTERNAL}


class Invalid(Exception):
    """The event cannot be understood. `problems` are (field, text), all of them; no value is repeated in a text."""

    def __init__(self, problems: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One posted event. Times are UTC. `body` is canonical JSON without the token; `digest` identifies a repeat."""

    address: str
    step: Step
    unique_id: str
    body: str
    digest: bytes
    received_at: datetime
    caller_id: str = ""
    connected_line: str = ""
    extensions: tuple[str, ...] = ()
    direction: Direction | None = None
    """From `CallType`; None where it is absent and the numbers decide."""
    status: Status | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    trunk: str | None = None
    record_url: str | None = None


class _Fields:
    """Reads fields by name without regard to case, and gathers what is wrong with them."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = {name.casefold(): value for name, value in data.items()}
        self.problems: list[tuple[str, str]] = []

    def problem(self, name: str, text: str) -> None:
        self.problems.append((name, text))

    def raw(self, name: str) -> Any:
        value = self._data.get(name.casefold())
        return None if value == "" else value

    def text(self, name: str, longest: int, *, value: Any = None) -> str:
        """Text or an integer, stripped; empty where absent."""
        given = self.raw(name) if value is None else value
        if given is None:
            return ""
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            self.problem(name, "must be text or an integer")
            return ""
        if isinstance(given, int) and abs(given) >= 10**20:
            self.problem(name, "is too long")
            return ""
        read = str(given)
        if has_breaking(read):
            self.problem(name, "must not hold control characters")
            return ""
        if len(read) > longest:
            self.problem(name, f"must be at most {longest} characters")
            return ""
        return read.strip()

    def extensions(self, name: str) -> tuple[str, ...]:
        """A list, or text with commas; each may be a dial string of several phones. Without repeats, in order."""
        given = self.raw(name)
        listed = given if isinstance(given, list) else [] if given is None else [given]
        several = [one for some in listed for one in (dial_parts(some) if isinstance(some, str) else (some,))]
        if len(several) > _MOST_EXTENSIONS:
            self.problem(name, f"must be at most {_MOST_EXTENSIONS} numbers")
            return ()
        known = len(self.problems)
        read = [self.text(name, _LONGEST_NUMBER, value=one) for one in several if one is not None]
        del self.problems[known + 1 :]
        return tuple(dict.fromkeys(one for one in read if one))

    def moment(self, name: str, zone: ZoneInfo) -> datetime | None:
        """ISO, or `YYYY-MM-DD HH:MM:SS` in the tenant's zone."""
        given = self.raw(name)
        if given is None:
            return None
        shape = _TIME.fullmatch(given.strip()) if isinstance(given, str) and len(given) <= 64 else None
        if shape is None:
            self.problem(name, "must be a time such as 2026-11-21 10:00:00 or 2026-11-21T10:00:00+03:00")
            return None
        day, clock, offset = shape.groups()
        try:
            read = datetime.fromisoformat(f"{day}T{clock.replace(',', '.')}{offset or ''}")
        except ValueError:
            read = None
        if read is None or read.year not in _YEARS:
            self.problem(name, "is not a possible time")
            return None
        return (read if read.tzinfo else read.replace(tzinfo=zone)).astimezone(UTC)

    def call_type(self, name: str) -> Direction | None:
        given = self.text(name, 8)
        if not given:
            return None
        if given not in _DIRECTIONS:
            self.problem(name, "must be 0 (incoming), 1 (outgoing) or 2 (internal)")
            return None
        return _DIRECTIONS[given]

    def status(self, name: str) -> Status | None:
        given = self.text(name, 32).casefold()
        if given in _STATUSES:
            return _STATUSES[given]
        return Status.NO_ANSWER if given.isascii() and given.isdigit() else None

    def url(self, name: str) -> str | None:
        given = self.text(name, _LONGEST_URL)
        if given and not re.match(r"https?://[^\s/]", given):
            self.problem(name, "must be an http or https URL")
        return given or None


def _deep(data: object) -> bool:
    """True where lists and objects are nested deeper than any call event is."""
    level = [data]
    for _ in range(_DEPTH):
        below: list[object] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        if not below:
            return False
        level = below
    return True


def _without_token(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name.casefold() != TOKEN_FIELD}


def token_of(data: object) -> str | None:
    """The token that a posted object carries, or None."""
    if not isinstance(data, Mapping):
        return None
    given = next((value for name, value in data.items() if name.casefold() == TOKEN_FIELD), None)
    return given if isinstance(given, str) and given else None


def _object(data: object, field: str) -> dict[str, Any]:
    if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
        raise Invalid(((field, "must be a JSON object"),))
    return _without_token(data)


def _raw_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """The event inside a dispatch envelope, as an object or, from a form, as its JSON text."""
    name = next((name for name in envelope if name.casefold() == "raw"), None)
    raw = envelope.get(name) if name is not None else {}
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            raw = None
    if isinstance(raw, Mapping) and name is not None:
        raw = _object(raw, "raw")
        envelope[name] = raw
    return _object(raw, "raw")


def _step(address: str, outer: _Fields) -> Step | None:
    if address != DISPATCH:
        return Step(address[1:])
    given = outer.text("event_type", 16).casefold()
    if given not in (Step.DIAL, Step.HANGUP):
        outer.problem("event_type", "must be dial or hangup")
        return None
    return Step(given)


def _canonical(data: Mapping[str, Any], outer: _Fields) -> str:
    """One text for equal objects, all ASCII: it survives any database and any unknown field."""
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        outer.problem("body", "holds a value that is not JSON")
        return ""


def parse_post(address: str, data: object, tenant: Tenant, received_at: datetime) -> Post:
    """The event, or Invalid with every problem. `data` is the JSON or the form; its token is left out."""
    if address not in ADDRESSES:
        raise Invalid((("address", "is not an address of call events"),))
    given = _object(data, "body")
    if _deep(given):
        raise Invalid((("body", "is nested too deeply"),))
    event = _raw_of(given) if address == DISPATCH else given
    if _deep(event):
        raise Invalid((("raw", "is nested too deeply"),))
    outer, inner = _Fields(given), _Fields(event)
    id_field = "uniqueId" if address == DISPATCH else "UniqueId"
    unique_id = outer.text(id_field, _LONGEST_ID)
    if not unique_id and not any(name == id_field for name, _ in outer.problems):
        outer.problem(id_field, "is required")
    step = _step(address, outer)
    body = _canonical(given, outer)
    record_url = outer.url("record_url") if address == DISPATCH else None
    fields: dict[str, Any] = {
        "caller_id": inner.text("CallerIDNum", _LONGEST_NUMBER),
        "connected_line": inner.text("ConnectedLineNum", _LONGEST_NUMBER),
        "extensions": inner.extensions("Extensions"),
        "direction": inner.call_type("CallType"),
        "status": inner.status("CallStatus"),
        "start_time": inner.moment("StartTime", tenant.timezone),
        "end_time": inner.moment("EndTime", tenant.timezone),
        "trunk": inner.text("Trunk", _LONGEST_NUMBER) or None,
    }
    prefix = "raw." if address == DISPATCH else ""
    problems = (*outer.problems, *((prefix + name, text) for name, text in inner.problems))
    if problems or step is None:
        raise Invalid(problems)
    digest = hashlib.sha256("\0".join((address, unique_id, body)).encode()).digest()
    return Post(
        address=address, step=step, unique_id=unique_id, body=body, digest=digest, received_at=received_at,
        record_url=record_url, **fields,
    )  # fmt: skip


def parse_download(data: object, *, url: bool) -> tuple[str, str]:
    """UniqueId and, where it is requested, the address of a posted recording. Raises Invalid with every problem."""
    fields = _Fields(_object(data, "body"))
    unique_id = fields.text("UniqueId", _LONGEST_ID)
    if not unique_id and not fields.problems:
        fields.problem("UniqueId", "is required")
    address = (fields.url("url") or "") if url else ""
    if url and not address and not any(name == "url" for name, _ in fields.problems):
        fields.problem("url", "is required; or send the recording itself as multipart/form-data with a part `file`")
    if fields.problems:
        raise Invalid(tuple(fields.problems))
    return unique_id, address
