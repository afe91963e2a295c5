"""What HubSpot's answers mean. Pure: no clock of its own, no network.

An answer is judged by its status first, its category second and its words last: categories are told partly by documents and
partly by practice. A refusal names the scopes that are missing, or the properties that it is about. 207 looks like success:
what became of each input of a batch is read by `read_batch`. Read `requests.py` for what is sent, `account.py` for how.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from zoneinfo import ZoneInfo

from adapters.hubspot.plan import SEARCH
from adapters.hubspot.refusals import REASONS, scope_text
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NotYet,
    RateLimited,
    Rejected,
    Unavailable,
)

BATCH = 100
"""Inputs of one request."""
ROLLING_S, SECONDLY_S, LOCKED_S, MOVING_S = 10.0, 1.0, 2.0, 60.0
_MOVING = 477
"""The status of an account that is being moved to another data centre."""
_EXISTS = re.compile(r"existing id:?\s*([0-9]{1,18})|(?<![0-9])([0-9]{1,18}) already has that value", re.IGNORECASE)
_TAKEN = ("already exists", "already has that value", "must be unique", "conflicting_unique_value", "unique value")


class Missing(BadSettings):
    """A scope is missing."""


class NotFound(Rejected):
    """There is no such thing over there."""


class Conflict(Rejected):
    """It exists already."""

    existing: str = ""
    """Its id, where the answer names it."""


class Refused(Rejected):
    """A value was not taken."""

    properties: tuple[str, ...] = ()
    """The properties that it is about, where the answer names them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What an answer says of the account's limits; None where it says nothing."""

    most: int | None = None
    left: int | None = None
    interval_s: float = ROLLING_S
    most_daily: int | None = None
    left_daily: int | None = None

    def pause_s(self) -> float:
        """Seconds to leave the account alone for: others who share its limit are using it up."""
        if self.most is None or self.left is None or self.left > max(1, self.most // 20):
            return 0.0
        return self.interval_s if self.left <= 0 else 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the inputs of one request, by their trace ids."""

    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    errors: Mapping[str, GatewayError] = field(default_factory=dict)


# Answers -----------------------------------------------------------------------------------------------------------------


def read(
    status: int, raw: bytes, headers: Mapping[str, str], *, where: str, zone: ZoneInfo, now: datetime, bucket: str = ""
) -> Mapping[str, Any]:
    """What a request answered. Raises what a refusal, or an answer that is none, means. `where` names the request for the log,
    `zone` is the account's, `now` our time where the answer has none of its own."""
    if status == 204 and not raw.strip():
        return {}
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, list) and status < 300:
        return {"results": answer}
    if not isinstance(answer, dict):
        raise _unreadable(status, raw, headers, where, bucket)
    if status >= 300 or text(answer.get("status")).lower() == "error":
        raise judge(status, answer, headers, where=where, zone=zone, now=now, bucket=bucket)
    return answer


def judge(
    status: int, answer: Mapping[str, Any], headers: Mapping[str, str], *, where: str, zone: ZoneInfo, now: datetime,
    bucket: str = "",
) -> GatewayError:  # fmt: skip
    """What a refusal means."""
    category, said = text(answer.get("category")).upper(), text(answer.get("message"))
    detail = f"{where}: {status} {category} {said}{_more(answer)}".strip()[:1000]
    if status == 401 or (status < 400 and "AUTHENTICATION" in category):
        return BadCredentials(detail, person=REASONS["key"])
    if status == 429 or text(answer.get("errorType")).upper() == "RATE_LIMIT":
        return _limited(answer, headers, detail, zone, now, bucket)
    if status == 403:
        person = scope_text(scopes(answer))
        return Missing(f"{person} ({detail})", person=person)
    if status == 423:
        return NotYet(detail, after_s=LOCKED_S)
    if status == _MOVING:
        return Unavailable(detail, after_s=_seconds(headers.get("retry-after")) or MOVING_S)
    if status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if status < 400:
        return Unavailable(f"{detail}, but neither a result nor a refusal", certain=False)
    lowered = f"{said} {_more(answer)}".lower()
    if status == 409 or any(word in lowered for word in _TAKEN):
        conflict = Conflict(detail)
        found = _EXISTS.search(said)
        conflict.existing = next((one for one in found.groups() if one), "") if found is not None else ""
        return conflict
    if status == 404:
        return NotFound(detail)
    refused = Refused(detail)
    refused.properties = properties_of(answer)
    return refused


def _limited(
    answer: Mapping[str, Any], headers: Mapping[str, str], detail: str, zone: ZoneInfo, now: datetime, bucket: str
) -> RateLimited:
    policy = text(answer.get("policyName")).upper()
    if "DAILY" in policy or "daily limit" in text(answer.get("message")).lower():
        return RateLimited(
            f"{REASONS['daily']} ({detail})",
            after_s=until_midnight(sent_at(headers) or now, zone),
            person=REASONS["daily"],
        )
    given = _seconds(headers.get("retry-after"))
    if bucket == SEARCH:  # its counter is its own: other requests may go on
        return RateLimited(detail, after_s=given or SECONDLY_S).of(SEARCH)
    return RateLimited(detail, after_s=given or (SECONDLY_S if policy == "SECONDLY" else ROLLING_S))


def _unreadable(status: int, raw: bytes, headers: Mapping[str, str], where: str, bucket: str) -> GatewayError:
    """No JSON object: a page of something in between, or an answer that was cut."""
    page = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    what = "a web page" if page else "an empty answer" if not raw.strip() else "no JSON"
    detail = f"{where}: {status}: {what} instead of an answer"
    if status == 401:
        return BadCredentials(detail, person=REASONS["key"])
    if status == 429:
        limited = RateLimited(detail, after_s=_seconds(headers.get("retry-after")) or ROLLING_S)
        return limited.of(SEARCH) if bucket == SEARCH else limited
    if status in (400, 404, 405, 409, 410, 414) and not page:
        return Rejected(detail)
    return Unavailable(detail, certain=False)


def read_batch(
    answer: Mapping[str, Any], traces: Sequence[str], key: str, *, where: str, zone: ZoneInfo, now: datetime
) -> Batch:
    """What became of each input: by its trace id, else by the value of the property `key`, whose values are the trace ids. An input
    that the answer says nothing of is Unavailable: it may have been written."""
    results: dict[str, Mapping[str, Any]] = {}
    errors: dict[str, GatewayError] = {}
    wanted = set(traces)
    for one in map(mapping, items(answer.get("results"))):
        names = (text(one.get("objectWriteTraceId")), text(mapping(one.get("properties")).get(key)))
        if (name := next((name for name in names if name in wanted), "")) and identifier(one.get("id")):
            results[name] = one
    for one in map(mapping, items(answer.get("errors"))):
        error = judge(_status_of(one), one, {}, where=where, zone=zone, now=now)
        for name in (name for name in contexts(one, "objectWriteTraceId") if name in wanted):
            errors.setdefault(name, error)
    for name in traces:
        if name not in results and name not in errors:
            errors[name] = Unavailable(f"{where}: the answer does not say what became of it", certain=False)
    return Batch(results, errors)


def _status_of(error: Mapping[str, Any]) -> int:
    """The HTTP status that an error of a batch would have had alone."""
    category = text(error.get("category")).upper()
    known = {"CONFLICT": 409, "OBJECT_NOT_FOUND": 404, "MISSING_SCOPES": 403, "RATE_LIMITS": 429, "INTERNAL_ERROR": 500}
    return known.get(category, 400)


# What errors say ---------------------------------------------------------------------------------------------------------


def contexts(answer: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The values under these names in an error's contexts, its own and those of its parts. A context is a map of lists, or a text
    that looks like one."""
    found: list[str] = []
    for one in (answer, *map(mapping, items(answer.get("errors")))):
        context = one.get("context")
        if isinstance(context, str):
            try:
                context = json.loads(context)
            except (ValueError, RecursionError):
                context = {
                    name: [part.strip() for part in values.split(",")]
                    for name, values in re.findall(r"(\w+)=\[([^\]]*)\]", context)
                }
        for name in names:
            value = mapping(context).get(name)
            found += [text(part) for part in (value if isinstance(value, list) else [value]) if text(part)]
    return tuple(dict.fromkeys(found))


def scopes(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The scopes that a refusal misses."""
    named = contexts(answer, "missingScopes", "requiredScopes", "requiredGranularScopes")
    return tuple(one for one in named if re.fullmatch(r"[A-Za-z0-9._-]{1,80}", one))


def properties_of(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """The properties that a refusal is about."""
    found = contexts(answer, "propertyName", "propertyNames", "property")
    named = [text(mapping(one).get("name")) for one in items(answer.get("validationResults"))]
    inner = re.findall(
        r'"name"\s*:\s*"([a-z][a-z0-9_]{0,99})"|Property "([a-z][a-z0-9_]{0,99})"', text(answer.get("message"), 4000)
    )
    return tuple(dict.fromkeys(one for one in (*found, *named, *(name for pair in inner for name in pair)) if one))


def _more(answer: Mapping[str, Any]) -> str:
    """What the parts of an error say beside its message."""
    parts = [mapping(one) for one in items(answer.get("errors"))]
    said = [text(one.get("message")) or text(one.get("code")) for one in parts]
    return f" ({'; '.join(dict.fromkeys(one for one in said if one))})" if any(said) else ""


def about_contact(error: Rejected) -> bool:
    """Whether a call was refused for the contact that it is to be associated with: it is gone meanwhile."""
    said = error.detail.lower()
    return isinstance(error, NotFound) or "associat" in said or ("contact" in said and "not" in said)


# Limits ------------------------------------------------------------------------------------------------------------------


def pace(headers: Mapping[str, str]) -> Pace:
    """The account's limits as an answer tells them. Searches tell none."""
    interval = _whole(headers.get("x-hubspot-ratelimit-interval-milliseconds"))
    return Pace(
        most=_whole(headers.get("x-hubspot-ratelimit-max")),
        left=_whole(headers.get("x-hubspot-ratelimit-remaining")),
        interval_s=min(max(interval / 1000, 0.1), 60.0) if interval else ROLLING_S,
        most_daily=_whole(headers.get("x-hubspot-ratelimit-daily")),
        left_daily=_whole(headers.get("x-hubspot-ratelimit-daily-remaining")),
    )


def sent_at(headers: Mapping[str, str]) -> datetime | None:
    """The other side's own time."""
    try:
        found = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, IndexError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def until_midnight(now: datetime, zone: ZoneInfo) -> float:
    """Seconds until the account's next day."""
    there = now.astimezone(zone)
    midnight = datetime.combine(there.date() + timedelta(days=1), datetime.min.time(), zone)
    return max(1.0, (midnight.astimezone(UTC) - now.astimezone(UTC)).total_seconds())


# What may be anything ----------------------------------------------------------------------------------------------------


def mapping(value: Any) -> Mapping[str, Any]:
    """A map; anything else is an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """A list; anything else is an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any, most: int = 500) -> str:
    """One line of text; numbers are text here and numbers there."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return "".join(c for c in str(value).strip()[:most] if c.isprintable())


def identifier(value: Any) -> str:
    """The id of something there: digits without leading zeros, or nothing."""
    found = text(value)
    return str(int(found)) if found.isascii() and found.isdigit() and len(found) <= 18 and int(found) else ""


def properties(record: Any) -> Mapping[str, Any]:
    """The properties of a record."""
    return mapping(mapping(record).get("properties"))


def next_page(answer: Mapping[str, Any]) -> str:
    """Where the next page of a list begins; empty after the last."""
    return text(mapping(mapping(answer.get("paging")).get("next")).get("after"))


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 12 else None


def _seconds(value: str | None) -> float:
    return float(found) if (found := _whole(value)) is not None else 0.0
