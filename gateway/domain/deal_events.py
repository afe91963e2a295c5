"""An event about a deal, as a portal or a program posts it, validated; and the answer to it. Pure.

The body leaves without credentials and parses again to the same event, so a journal row is all that a restart needs. Read
`gateway/web/api/deals.py` for the address.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from gateway.domain.ids import utc_text
from gateway.domain.php_forms import nested_form
from gateway.domain.posts import Invalid
from gateway.domain.text import has_breaking

ADDRESS = "/webhook/deal"
STREAM = "deals"
MOST_EVENTS = 50
BODY_LIMIT = 10 << 20
_LONGEST = 255

Status = Literal["success", "skipped", "duplicate", "accepted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DealEvent:
    """One event. `token` is the portal's application token, as it was sent; it is never stored."""

    event: str
    deal_id: int
    domain: str
    digest: bytes
    ts: str = ""
    token: str = ""

    def body(self, routes: Sequence[str], correlation: UUID) -> str:
        """What the journal holds."""
        found = {
            "event": self.event, "id": self.deal_id, "domain": self.domain, "ts": self.ts, "routes": list(routes),
            "correlation": str(correlation),
        }  # fmt: skip
        return json.dumps(found, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event as the journal gives it back."""

    event: str
    deal_id: int
    domain: str
    routes: tuple[str, ...]
    correlation: UUID

    @classmethod
    def read(cls, body: str) -> "StoredEvent":
        """Raises ValueError for what is none."""
        try:
            found = json.loads(body)
            return cls(
                event=str(found["event"]), deal_id=int(found["id"]), domain=str(found["domain"]),
                routes=tuple(map(str, found["routes"])), correlation=UUID(found["correlation"]),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored event: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class DealAnswer:
    """What became of an event, as far as it is known."""

    status: Status
    source_deal_id: int
    target_deal_id: int | None
    correlation: UUID
    at: datetime
    reason: str = ""
    """Why nothing was written: a code of `gateway.domain.deal_runs`."""

    def shown(self) -> dict[str, Any]:
        """As the caller gets it."""
        found: dict[str, Any] = {
            "status": self.status, "source_deal_id": self.source_deal_id, "target_deal_id": self.target_deal_id,
            "timestamp": utc_text(self.at), "correlation_id": str(self.correlation),
        }  # fmt: skip
        return found | ({"reason": self.reason} if self.reason else {})


def read_events(body: bytes, *, form: bool) -> tuple[list[DealEvent], bool]:
    """The events of a body, and whether it was a list. Raises Invalid with every problem."""
    data = _data(body, form=form)
    if not isinstance(data, list):
        problems: list[tuple[str, str]] = []
        event = _event(data, "", problems)
        if event is None:
            raise Invalid(tuple(problems))
        return [event], False
    if not 1 <= len(data) <= MOST_EVENTS:
        raise Invalid((("body", f"must hold 1 to {MOST_EVENTS} events; send the rest in another request"),))
    problems, found = [], []
    for place, one in enumerate(data):
        if (event := _event(one, f"[{place}].", problems)) is not None:
            found.append(event)
    if problems:
        raise Invalid(tuple(problems))
    return found, True


def _data(body: bytes, *, form: bool) -> Any:
    try:
        text = body.decode("utf-8-sig")
        if form and text.lstrip()[:1] not in ("{", "["):
            return nested_form(body)
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Invalid((("body", "must be a JSON object or a list of them in UTF-8, or a form"),)) from None
    if not isinstance(data, dict | list):
        raise Invalid((("body", "must be a JSON object or a list of them"),))
    return data


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _event(data: Any, path: str, problems: list[tuple[str, str]]) -> DealEvent | None:
    known = len(problems)
    if not isinstance(data, Mapping):
        problems.append((path.rstrip(".") or "body", "must be an object"))
        return None
    name = _text(data.get("event"), f"{path}event", problems).upper()
    inner = data.get("data")
    fields = inner.get("FIELDS") if isinstance(inner, Mapping) else None
    deal_id = _identifier(fields.get("ID") if isinstance(fields, Mapping) else None, f"{path}data.FIELDS.ID", problems)
    auth = data.get("auth")
    auth = auth if isinstance(auth, Mapping) else {}
    domain = _text(auth.get("domain"), f"{path}auth.domain", problems).rstrip(".").lower()
    token = auth.get("application_token")
    if token is not None and (not isinstance(token, str) or len(token) > 2000):
        problems.append((f"{path}auth.application_token", "must be a text"))
    ts = data.get("ts")
    if ts is not None and (isinstance(ts, bool) or not isinstance(ts, str | int | float) or len(str(ts)) > 64):
        problems.append((f"{path}ts", "must be a number or a text"))
    digest = b""
    if len(problems) == known:
        digest = _digest(name, inner, ts, domain, path, problems)
    if len(problems) > known:
        return None
    return DealEvent(
        event=name, deal_id=deal_id, domain=domain, digest=digest, ts="" if ts is None else str(ts),
        token=token if isinstance(token, str) else "",
    )  # fmt: skip


def _digest(
    name: str, data: Any, ts: Any, domain: str, path: str, problems: list[tuple[str, str]]
) -> bytes:  # fmt: skip
    """Of event, data and ts. Portals count their deals alike, so the domain belongs to it."""
    try:
        text = json.dumps([name, data, None if ts is None else str(ts), domain], sort_keys=True, separators=(",", ":"))
    except RecursionError:
        problems.append((f"{path}data", "is nested too deeply"))
        return b""
    return hashlib.sha256(f"{STREAM}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _text(value: Any, path: str, problems: list[tuple[str, str]]) -> str:
    if value is None or value == "":
        problems.append((path, "is missing"))
    elif not isinstance(value, str):
        problems.append((path, "must be a text"))
    elif len(value) > _LONGEST or has_breaking(value):
        problems.append((path, f"must be at most {_LONGEST} characters without control characters"))
    elif value.strip():
        return value.strip()
    else:
        problems.append((path, "is missing"))
    return ""


def _identifier(value: Any, path: str, problems: list[tuple[str, str]]) -> int:
    if value is None or value == "":
        problems.append((path, "is missing"))
        return 0
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        problems.append((path, "must be the number of a deal"))
        return 0
    return int(text)
