"""What amoCRM's answers mean. Pure: no clock, no network.

Lists stand in `_embedded`; 204 is an empty one. A refusal is a problem document (`title, status, detail`), and names the elements
of a batch by `request_id` under `validation-errors` or `errors`. 403 is a missing right in JSON, and anything else at 403 is a
block, which a person has to settle. Read `requests.py` for what is sent, `account.py` for how.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from adapters.amocrm.refusals import REASONS, right_text
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    RateLimited,
    Rejected,
    Unavailable,
)

BATCH = 50
"""Elements in one request."""
PAGE = 250
"""Elements of one page of a list."""
PLAIN = ""
"""The name under which an answer that is a plain list is read."""
SILENT = "/api/v2/events"
"""An address that may answer nothing at all."""
SLOW_DOWN_S = 1.5
_USER_FIELDS = ("responsible_user_id", "call_responsible", "created_by", "updated_by")
_BLOCK_WORDS = ("block", "заблокир", "ip ")


class Moved(Exception):
    """The account answers at another address: `location` of a redirect."""

    def __init__(self, location: str) -> None:
        super().__init__("the account has another address")
        self.location = location


class Blocked(BadSettings):
    """The account or our address is blocked."""


class Missing(BadSettings):
    """A right is missing."""


class TooHeavy(Unavailable):
    """The other side took too long over a batch."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one element."""

    path: str = ""
    said: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.said}" if self.path else self.said


class Refused(Rejected):
    """The other side refused a request, or elements of it: by `request_id`, empty for what names none."""

    faults: Mapping[str, tuple[Fault, ...]] = MappingProxyType({})

    def about_user(self) -> bool:
        """Whether a user who is not there any more is the reason."""
        return self._about(_USER_FIELDS)

    def about_repeat(self) -> bool:
        """Whether the reason is that it is there already."""
        return self._about(("uniq", "source_uid"))

    def about_entity(self) -> bool:
        """Whether the reason is what it is linked to."""
        return self._about(("entity_id", "entity_type"))

    def _about(self, fields: tuple[str, ...]) -> bool:
        found = [fault for faults in self.faults.values() for fault in faults]
        return bool(found) and all(fault.path.rpartition(".")[2] in fields for fault in found)


def read(status: int, raw: bytes, headers: Mapping[str, str], what: str) -> Mapping[str, Any]:
    """What a request answered. Raises Moved for a redirect, and what a refusal or an answer that is none means."""
    if status in (301, 302, 303, 307, 308) and headers.get("location"):
        raise Moved(headers["location"])
    if status == 204:
        return {}
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if status < 300 and isinstance(answer, dict):
        return answer
    if status < 300 and isinstance(answer, list):
        return {PLAIN: answer}
    if status < 300 and not raw.strip() and what.endswith(SILENT):
        return {}
    number = headers.get("x-request-id", "")
    raise judge(status, answer if isinstance(answer, dict) else None, raw, f"{what} {text(number)}".strip())


def judge(status: int, answer: Mapping[str, Any] | None, raw: bytes, what: str) -> GatewayError:
    """What a refusal means. `what` is the request, with its number there where it has one."""
    given = answer or {}
    said = " ".join(one for key in ("title", "detail", "hint") if (one := text(given.get(key))))
    if answer is None:
        page = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
        said = "a web page" if page else "an empty answer" if not raw.strip() else "no JSON"
    detail = f"{what}: {status} {said}".strip()[:1000]
    path = what.partition(" ")[2].partition(" ")[0]
    match status:
        case 401:
            return BadCredentials(detail, person=REASONS["key"])
        case 402:
            return BadSettings(f"{REASONS['plan']} ({detail})", person=REASONS["plan"])
        case 403 if answer is not None and not any(word in said.lower() for word in _BLOCK_WORDS):
            return Missing(f"{right_text(path)} ({detail})", person=right_text(path))
        case 403:
            return Blocked(f"{REASONS['blocked']} ({detail})", person=REASONS["blocked"])
        case 404 | 410 if answer is None:
            return BadSettings(detail, person=REASONS["gone"])
        case 429:
            return RateLimited(detail, after_s=SLOW_DOWN_S)
        case 504:
            return TooHeavy(detail, certain=False)
        case _ if status >= 500 or status == 408:
            return Unavailable(detail, certain=False)
        case _ if status < 400:
            return Unavailable(f"{what}: {status} {said or 'no answer'} instead of an answer", certain=False)
    return refused(detail, given)


def refused(detail: str, answer: Mapping[str, Any]) -> Refused:
    """The refusal of a request or of some of its elements."""
    faults: dict[str, list[Fault]] = {}
    for one in items(answer.get("validation-errors")):
        for fault in items(mapping(one).get("errors")):
            _note(faults, one, text(mapping(fault).get("path")), text(mapping(fault).get("detail")))
    for one in items(answer.get("errors")):
        _note(
            faults, one, text(mapping(one).get("path")), text(mapping(one).get("detail") or mapping(one).get("title"))
        )
    words = "; ".join(str(fault) for found in faults.values() for fault in found)
    error = Refused(f"{detail}: {words}"[:1000] if words else detail)
    error.faults = {number: tuple(found) for number, found in faults.items()}
    return error


def _note(faults: dict[str, list[Fault]], one: Any, path: str, said: str) -> None:
    faults.setdefault(text(mapping(one).get("request_id")), []).append(Fault(path, said))


def part(error: Refused, number: str) -> Refused | None:
    """The refusal of one element; None where the element was not at fault."""
    if number not in error.faults:
        return None
    found = Refused(f"{error.detail.partition(': ')[0]}: {'; '.join(map(str, error.faults[number]))}"[:1000])
    found.faults = {number: error.faults[number]}
    return found


def embedded(answer: Any, name: str) -> list[Mapping[str, Any]]:
    """The elements of a list."""
    return [mapping(one) for one in items(mapping(mapping(answer).get("_embedded")).get(name))]


def by_request(answer: Any, name: str, number: str) -> Mapping[str, Any] | None:
    """The element of an answer that belongs to a request's; whatever their order."""
    for one in embedded(answer, name):
        if text(one.get("request_id")) == number:
            return one
    return None


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
