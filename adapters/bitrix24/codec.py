"""What Bitrix24's answers mean, and how several commands become one request. Pure: no clock, no network.

An answer is judged by its code first, its words second and its status last: several methods answer 400 with an empty code, or
put a sentence in its place. PHP writes an empty map as a list, so `mapping` and `items` take both everywhere. A refusal names
the right that is missing. Read `requests.py` for what is sent, `portal.py` for how.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from adapters.bitrix24.refusals import REASONS, right_text
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NotYet,
    RateLimited,
    Rejected,
    Unavailable,
)

BATCH = 50
"""Commands in one request."""
SLOW_DOWN_S = 1.5
OPERATING_S = 600.0
"""Of 10 minutes a method may take about 480 s; after that it is refused until the portal's `operating_reset_at`."""
NEARLY_S = 440.0
"""From here on a method is left alone until then, before it is refused."""

_ATTENTION: Mapping[str, tuple[type[GatewayError], str]] = {
    "expired_token": (BadCredentials, "key"),
    "invalid_token": (BadCredentials, "key"),
    "no_auth_found": (BadCredentials, "key"),
    "invalid_credentials": (BadCredentials, "key"),
    "invalid_grant": (BadCredentials, "grant"),
    "invalid_client": (BadCredentials, "client"),
    "application_not_found": (BadCredentials, "not_installed"),
    "user_access_error": (BadSettings, "user"),
    "authorization_error": (BadSettings, "user"),
    "wrong_auth_type": (BadSettings, "no_app"),
    "payment_required": (BadSettings, "plan"),
    "overload_limit": (BadSettings, "blocked"),
    "portal_deleted": (BadSettings, "gone"),
}
_NO_RIGHT = frozenset({"insufficient_scope", "access_denied", "error_method_access_denied"})
_AWAY = frozenset({"internal_server_error", "error_unexpected_answer", "server_error"})
UNKNOWN_CALL = ("call is not found", "call not found")
UNKNOWN_USER = ("user is not found", "user not found", "is not active")
TOO_EARLY = ("not found in the statistic",)
NOT_FETCHED = ("server returns http error code", "error during downloading", "can't connect", "could not connect")


class Missing(BadSettings):
    """A right is missing."""


class Moved(Exception):
    """The portal answers at another address: `location` of a redirect."""

    def __init__(self, location: str) -> None:
        super().__init__("the portal has another address")
        self.location = location


@dataclass(frozen=True, slots=True)
class Result:
    """What a method answered, and how long it has worked for us lately."""

    value: Any
    next: int | None = None
    """Of a list: where the next page begins."""
    operating_s: float = 0.0
    resets_in_s: float = OPERATING_S


@dataclass(frozen=True, slots=True)
class Batch:
    """What the commands of one request answered, by their names."""

    results: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, GatewayError] = field(default_factory=dict)
    operating: Mapping[str, Result] = field(default_factory=dict)

    def of(self, name: str) -> Any:
        """One command's answer. Raises what it was refused with."""
        if name in self.errors:
            raise self.errors[name]
        return self.results.get(name)


@dataclass(frozen=True, slots=True)
class Command:
    """A method with its parameters: nested mappings and lists, as JSON would have them."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def query(self) -> str:
        """As a batch takes it, in PHP's brackets."""
        return f"{self.method}?{urlencode(_pairs(self.params))}"


def _pairs(value: Any, name: str = "") -> list[tuple[str, str]]:
    inner: Iterable[tuple[Any, Any]]
    match value:
        case Mapping():
            inner = value.items()
        case list() | tuple():
            inner = enumerate(value)
        case bool():
            return [(name, str(int(value)))]
        case _:
            return [(name, str(value))]
    return [pair for key, one in inner for pair in _pairs(one, f"{name}[{key}]" if name else str(key))]


# Answers -----------------------------------------------------------------------------------------------------------------


def read(status: int, raw: bytes, headers: Mapping[str, str], method: str) -> Result:
    """What a method answered. Raises Moved for a redirect, and what a refusal or an answer that is none means."""
    if status in (301, 302, 303, 307, 308) and headers.get("location"):
        raise Moved(headers["location"])
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _unreadable(status, raw)
    time = mapping(answer.get("time"))
    resets = _seconds(time.get("operating_reset_at")), _seconds(time.get("finish"))
    left_s = min(max(resets[0] - resets[1], 1.0), OPERATING_S) if all(resets) else OPERATING_S
    if "error" in answer or status >= 400 or "result" not in answer:
        error = judge(status, text(answer.get("error")), text(answer.get("error_description")), method)
        if isinstance(error, NotYet):
            error.after_s = left_s
        raise error
    return Result(answer["result"], _next(answer.get("next")), _seconds(time.get("operating")), left_s)


def judge(status: int, code: str, said: str, method: str) -> GatewayError:
    """What a refusal means."""
    key, detail = code.strip().lower(), f"{method}: {status} {code} {said}".strip()[:1000]
    if key in _ATTENTION:
        kind, name = _ATTENTION[key]
        return kind(f"{REASONS[name]} ({detail})", person=REASONS[name])
    if key in _NO_RIGHT or (status == 403 and not key):
        return Missing(f"{right_text(method)} ({detail})", person=right_text(method))
    if key == "query_limit_exceeded" or (status == 503 and not key):
        return RateLimited(detail, after_s=SLOW_DOWN_S)
    if key == "operation_time_limit" or status == 429:
        return NotYet(detail, after_s=OPERATING_S)
    if key in _AWAY or status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if status == 401:
        return BadCredentials(detail, person=REASONS["key"])
    if not key and not said and status < 400:
        return Unavailable(f"{detail}, but neither a result nor a reason", certain=False)
    return Rejected(detail)


def is_about(error: GatewayError, words: tuple[str, ...]) -> bool:
    """Whether a refusal says one of these."""
    said = error.detail.lower()
    return isinstance(error, Rejected) and any(word in said for word in words)


def _unreadable(status: int, raw: bytes) -> GatewayError:
    """No JSON object: a page of an overloaded portal, or of something that is none."""
    page = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    what = "a web page" if page else "an empty answer" if not raw.strip() else "no JSON"
    if status == 404 or (status in (401, 403, 410) and page):
        return BadSettings(f"{status}: {what}", person=REASONS["gone"])
    if status in (429, 503):
        return RateLimited(f"{status}: {what}", after_s=SLOW_DOWN_S)
    if status >= 400 and status < 500:
        return Rejected(f"{status}: {what}")
    return Unavailable(f"{status}: {what} instead of an answer", certain=False)


def read_batch(result: Result, commands: Mapping[str, Command]) -> Batch:
    """The answers of a batch: its own status is 200 whatever became of them."""
    answer = mapping(result.value)
    errors: dict[str, GatewayError] = {}
    for name, refused in mapping(answer.get("result_error")).items():
        method = commands[name].method if name in commands else name
        given = mapping(refused)
        said = text(given.get("error_description")) if given else text(refused)
        errors[name] = judge(400, text(given.get("error")), said, method)
    times = mapping(answer.get("result_time"))
    operating = {
        commands[name].method: Result(None, None, _seconds(mapping(time).get("operating")), result.resets_in_s)
        for name, time in times.items()
        if name in commands
    }
    return Batch(mapping(answer.get("result")), errors, operating)


def moved_to(location: str, asked: str) -> str | None:
    """The origin that a redirect names, where it leads to the same path of another host; else None."""
    parts, wanted = urlsplit(location), urlsplit(asked)
    same = parts.path.rstrip("/") == wanted.path.rstrip("/")
    https = parts.scheme == "https" or (parts.scheme == "http" and wanted.scheme == "http")
    if not https or not parts.hostname or parts.username or not same:
        return None
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin if origin != f"{wanted.scheme}://{wanted.netloc}" else None


# What may be anything ----------------------------------------------------------------------------------------------------


def mapping(value: Any) -> Mapping[str, Any]:
    """A map; an empty list is an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """A list; PHP writes one with holes as a map."""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """One line of text; numbers are text here and numbers there."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return "".join(c for c in str(value).strip()[:500] if c.isprintable())


def identifier(value: Any) -> str:
    """The id of something there: digits without leading zeros, or nothing. 0 is nobody."""
    found = text(value)
    return str(int(found)) if found.isascii() and found.isdigit() and len(found) <= 18 and int(found) else ""


def _seconds(value: Any) -> float:
    try:
        return float(value) if not isinstance(value, bool) and isinstance(value, int | float | str) else 0.0
    except ValueError:
        return 0.0


def _next(value: Any) -> int | None:
    found = identifier(value)
    return int(found) if found else None
