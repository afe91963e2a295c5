"""What Salesforce's answers mean, and how texts are written in its two query languages. Pure: no clock, no network.

    [{"errorCode", "message", "fields"}]         what a request is refused with
    {"errors": [{"statusCode", …}]}              the same within an upsert or a collection, by another key
    {"error", "error_description"}               the token endpoint
    composite: 200 on top whatever became of it  each part is judged by itself

A refusal is judged by its code first and its status last. `Sforce-Limit-Info` says how much of the day's requests is used. Read
`requests.py` for what is sent, `org.py` for how.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.salesforce.refusals import REASONS, right_text
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    RateLimited,
    Rejected,
    Unavailable,
)

DAY_LIMIT_PAUSE_S = 300.0
"""The day's requests come back little by little: the window of 24 hours moves."""
LOCKED_S = 1.0
NEARLY = 0.9
"""Part of the day's requests from which on we slow down, and say so."""
LONGEST_NAME = 80
"""Of LastName."""

_ATTENTION: Mapping[str, tuple[type[GatewayError], str]] = {
    "INVALID_LOGIN": (BadCredentials, "grant"),
    "INVALID_AUTH_HEADER": (BadCredentials, "session"),
    "API_DISABLED_FOR_ORG": (BadSettings, "api"),
    "API_CURRENTLY_DISABLED": (BadSettings, "api"),
    "API_ERROR": (BadSettings, "api"),
    "ORG_LOCKED": (BadSettings, "gone"),
    "URL_NOT_RESET": (BadSettings, "gone"),
    "LOGIN_MUST_USE_SECURITY_TOKEN": (BadCredentials, "grant"),
    "INACTIVE_ORG": (BadSettings, "gone"),
}
_OAUTH: Mapping[str, tuple[type[GatewayError], str]] = {
    "invalid_grant": (BadCredentials, "grant"),
    "invalid_client": (BadCredentials, "client"),
    "invalid_client_id": (BadCredentials, "client"),
    "invalid_client_credentials": (BadCredentials, "client"),
    "inactive_user": (BadCredentials, "user"),
    "inactive_org": (BadSettings, "gone"),
    "unsupported_grant_type": (BadSettings, "flow"),
    "unauthorized_client": (BadSettings, "flow"),
    "invalid_app_access": (BadCredentials, "approval"),
    "invalid_assertion": (BadCredentials, "grant"),
}
_NO_RIGHT = frozenset({
    "INSUFFICIENT_ACCESS", "INSUFFICIENT_ACCESS_OR_READONLY", "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY_NO_ACCESS", "INVALID_TYPE", "FUNCTIONALITY_NOT_ENABLED", "FORBIDDEN",
    "INVALID_TYPE_FOR_OPERATION", "INSUFFICIENT_PERMISSIONS",
})  # fmt: skip
_LIMITS = frozenset({"REQUEST_LIMIT_EXCEEDED", "TXN_SECURITY_METERING_ERROR", "CONCURRENT_REQUESTS_EXCEEDED"})
_AWAY = frozenset({"UNKNOWN_EXCEPTION", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "APEX_ERROR_TIMEOUT"})
DUPLICATES, MISSING_FIELD = "DUPLICATES_DETECTED", "REQUIRED_FIELD_MISSING"
BAD_OWNER = frozenset({"INACTIVE_OWNER_OR_USER", "INVALID_CROSS_REFERENCE_KEY", "OP_WITH_INVALID_USER_TYPE_EXCEPTION"})
BAD_VALUE = "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
BAD_FIELD = frozenset({"INVALID_FIELD", "INVALID_FIELD_FOR_INSERT_UPDATE"})
_ID = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
_SOSL = re.compile(r"([?&|!{}\[\]()^~*:\\\"'+-])")
_TYPE = re.compile(r"sObject type '(\w+)'")
_USAGE = re.compile(r"(?<![-\w])api-usage=([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason of a refusal."""

    code: str
    message: str
    fields: tuple[str, ...] = ()


class Refused(Rejected):
    """A refusal, with its reasons."""

    def __init__(
        self, detail: str, problems: Sequence[Problem], matches: Sequence[tuple[str, str]] = (), person: str | None = None
    ) -> None:  # fmt: skip
        super().__init__(detail, person=person)
        self.problems = tuple(problems)
        self.matches = tuple(matches)
        """Kind and id of the records that a duplicate rule found."""

    def has(self, *codes: str) -> bool:
        """Whether one of these is among the reasons."""
        return any(one.code in codes for one in self.problems)

    def names(self, field: str) -> bool:
        """Whether a field is to blame."""
        wanted = field.lower()
        return any(
            wanted in (name.lower() for name in one.fields) or re.search(rf"\b{re.escape(wanted)}\b", one.message.lower())
            for one in self.problems
        )  # fmt: skip


class SessionEnded(BadCredentials):
    """The access token is not good any more."""


class Missing(BadSettings):
    """A right is missing."""


class NotThere(Rejected):
    """There is no such record, field or address."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of the day's requests is used."""

    used: int
    most: int

    @property
    def is_low(self) -> bool:
        """Whether little is left."""
        return self.most > 0 and self.used >= self.most * NEARLY

    def __str__(self) -> str:
        return f"{self.used} / {self.most}"


# Answers -----------------------------------------------------------------------------------------------------------------


def read(status: int, raw: bytes, thing: str) -> Any:
    """What a request answered; None for an answer without a body, where that is one. `thing` is what it was about, such as Task.
    Raises what a refusal or an answer that is none means."""
    if status == 204:
        return None
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        raise _unreadable(status, raw) from None
    if status in (301, 302, 303, 307, 308):
        raise BadSettings(f"{thing}: {status}, a redirect", person=REASONS["gone"])
    if status == 300:
        raise Rejected(f"{thing}: several records have this external id", person=REASONS["several"])
    if status >= 400 or _failed(answer):
        raise judge(status, answer, thing)
    if not isinstance(answer, dict | list):
        raise Unavailable(f"{thing}: {status} without a record or a list", certain=False)
    return answer


def judge(status: int, answer: Any, thing: str) -> GatewayError:
    """What a refusal means."""
    problems = problems_of(answer)
    first = problems[0] if problems else Problem("", "")
    detail = f"{thing}: {status} {'; '.join(map(_line, problems))}".strip()[:1000]
    codes = {one.code for one in problems}
    if status == 401 or codes & {"INVALID_SESSION_ID"}:
        return SessionEnded(detail, person=REASONS["session"])
    if codes & _LIMITS:
        return RateLimited(detail, after_s=DAY_LIMIT_PAUSE_S)
    if "UNABLE_TO_LOCK_ROW" in codes:
        return Unavailable(detail, after_s=LOCKED_S)
    for code in codes & _ATTENTION.keys():
        kind, name = _ATTENTION[code]
        return kind(f"{REASONS[name]} ({detail})", person=REASONS[name])
    if codes & _NO_RIGHT or (status == 403 and not first.code):
        named = _TYPE.search(first.message)
        thing = named[1] if named is not None else thing
        return Missing(f"{right_text(thing)} ({detail})", person=right_text(thing))
    if codes & _AWAY or status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if status == 429:
        return RateLimited(detail, after_s=DAY_LIMIT_PAUSE_S)
    if status == 404 or "NOT_FOUND" in codes or "ENTITY_IS_DELETED" in codes:
        return NotThere(detail)
    if not problems and status < 400:
        return Unavailable(f"{detail}, but neither a result nor a reason", certain=False)
    person = (
        REASONS["required"] if codes & {MISSING_FIELD, "FIELD_CUSTOM_VALIDATION_EXCEPTION"}
        else REASONS["status"] if BAD_VALUE in codes
        else None
    )  # fmt: skip
    return Refused(detail, problems, _matches(answer), person)


def _line(problem: Problem) -> str:
    named = f" ({', '.join(problem.fields)})" if problem.fields else ""
    return f"{problem.code} {problem.message}{named}".strip()


def problems_of(answer: Any) -> list[Problem]:
    """The reasons in an answer, in whichever shape they stand."""
    if isinstance(answer, Mapping) and "errors" in answer:
        answer = answer["errors"]
    found = []
    for one in items(answer) if isinstance(answer, list) else [answer]:
        fields = mapping(one)
        code = text(fields.get("errorCode")) or text(fields.get("statusCode"))
        if code or fields.get("message"):
            named = tuple(text(name) for name in items(fields.get("fields")))
            found.append(Problem(code, text(fields.get("message")), named))
    return found


def _failed(answer: Any) -> bool:
    """Whether an answer with a good status says that it failed."""
    if isinstance(answer, Mapping):
        return answer.get("success") is False or "errorCode" in answer
    return isinstance(answer, list) and any("errorCode" in mapping(one) for one in answer)


def _matches(answer: Any) -> list[tuple[str, str]]:
    """The records that a duplicate rule names: kind and id."""
    found = []
    for one in items(answer):
        result = mapping(mapping(one).get("duplicateResut") or mapping(one).get("duplicateResult"))
        for match in items(result.get("matchResults")):
            for record in items(mapping(match).get("matchRecords")):
                fields = mapping(mapping(record).get("record"))
                kind, number = text(mapping(fields.get("attributes")).get("type")), identifier(fields.get("Id"))
                if kind and number:
                    found.append((kind, number))
    return found


def _unreadable(status: int, raw: bytes) -> GatewayError:
    """No JSON: a page of maintenance, or of something that is no organisation."""
    page = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    what = "a web page" if page else "an empty answer" if not raw.strip() else "no JSON"
    if status == 401:
        return SessionEnded(f"{status}: {what}", person=REASONS["session"])
    if status in (301, 302, 303, 307, 308) or (status in (403, 404, 410) and page):
        return BadSettings(f"{status}: {what}", person=REASONS["gone"])
    if 400 <= status < 500 and status not in (408, 429):
        return Rejected(f"{status}: {what}")
    return Unavailable(f"{status}: {what} instead of an answer", certain=False)


def read_composite(answer: Any, things: Mapping[str, str]) -> dict[str, Any]:
    """The answers of a composite request by their names. Raises what the first one was refused with; `things` is what each was
    about."""
    found: dict[str, Any] = {}
    refused: GatewayError | None = None
    for one in items(mapping(answer).get("compositeResponse")):
        fields = mapping(one)
        name, status = text(fields.get("referenceId")), fields.get("httpStatusCode")
        if name not in things or not isinstance(status, int):
            continue
        if status >= 400 or status == 300:
            refused = refused or judge(status, fields.get("body"), things[name])
        else:
            found[name] = fields.get("body")
    if refused is not None:
        raise refused
    if missing := things.keys() - found.keys():
        raise Unavailable(f"composite: no answer to {', '.join(sorted(missing))}", certain=False)
    return found


def judge_oauth(status: int, raw: bytes) -> GatewayError:
    """What a refusal of the token endpoint means."""
    try:
        answer = mapping(json.loads(raw))
    except (ValueError, RecursionError):
        return _unreadable(status, raw)
    code, said = text(answer.get("error")).lower(), text(answer.get("error_description"))
    detail = f"oauth: {status} {code} {said}".strip()[:500]
    if "hasn't approved" in said or "not been approved" in said or "not approved" in said:
        return BadCredentials(detail, person=REASONS["approval"])
    if "inactive user" in said or "user is locked" in said:
        return BadCredentials(detail, person=REASONS["user"])
    if "no client credentials user" in said or "not enabled" in said or "not supported" in said:
        return BadSettings(detail, person=REASONS["flow"])
    if "rate exceeded" in said or status == 429:
        return RateLimited(detail, after_s=60.0)
    if code in _OAUTH:
        kind, name = _OAUTH[code]
        return kind(detail, person=REASONS[name])
    if status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if status in (400, 401):
        return BadCredentials(detail, person=REASONS["grant"])
    if status in (403, 404, 410):
        return BadSettings(detail, person=REASONS["gone"])
    return Unavailable(f"{detail}, but no token", certain=False)


def usage_of(headers: Mapping[str, str]) -> Usage | None:
    """How much of the day's requests is used; None where the answer does not say."""
    found = _USAGE.search(headers.get("sforce-limit-info", ""))
    return Usage(int(found[1]), int(found[2])) if found is not None else None


# Query languages ----------------------------------------------------------------------------------------------------------


def sosl(words: Sequence[str]) -> str:
    """Any of these phrases, as FIND takes them."""
    return " OR ".join('"' + _SOSL.sub(r"\\\1", word) + '"' for word in words)


def soql(value: str) -> str:
    """A text of SOQL, in its quotes."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{''.join(c if c.isprintable() else ' ' for c in escaped)}'"


def select(fields: Sequence[str], thing: str, where: str = "", order: str = "", limit: int = 0) -> str:
    """A query of SOQL."""
    parts = ["SELECT", ", ".join(fields), "FROM", thing]
    parts += ["WHERE", where] if where else []
    parts += ["ORDER BY", order] if order else []
    return " ".join([*parts, *(["LIMIT", str(limit)] if limit else [])])


# What may be anything ----------------------------------------------------------------------------------------------------


def mapping(value: Any) -> Mapping[str, Any]:
    """A map; anything else is an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """A list; anything else is an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """One line of text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return "".join(c for c in str(value).strip()[:500] if c.isprintable())


def identifier(value: Any) -> str:
    """The id of a record, or nothing."""
    found = text(value)
    return found if _ID.fullmatch(found) else ""


def same_id(first: str, second: str) -> bool:
    """Whether two ids are one record's: of 15 characters, or of 18 with a check at the end."""
    return first[:15] == second[:15]
