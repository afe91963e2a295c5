"""What the cloud's answers mean. Pure: no clock, no network.

    200 and a JSON object -> it                 410 -> Gone: whoever polls stops
    400 -> by its code; most often a refusal    429 -> the group of requests pauses
    401 -> the token; 403 -> a right            408, 5xx -> it may have been done all the same

A gateway before the cloud answers with pages and empty bodies, so everything is read loosely. Ids of catalog items are those of the
menu: a product's, with a point and the size's where it has sizes. Read `menu.py` and `orders.py` for the rest.
"""

import base64
import binascii
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from adapters.till.refusals import REASONS
from gateway.domain.errors import BadCredentials, BadSettings, GatewayError, RateLimited, Rejected, Unavailable

DUPLICATE = "duplicatedorderid"
_ATTENTION: Mapping[str, str] = {
    "common_organizationnotfound": "loyalty", "organizationnotfound": "organization", "terminalgroupdisabled": "terminal",
    "terminalgroupnotfound": "terminal",
}  # fmt: skip
_AWAY = frozenset({"external_system_timeout", "internalservererror", "timeout"})
_ORDER: Mapping[str, str] = {
    "productnotfound": "product", "duplicatedorderid": "duplicate", "invalidphone": "no_phone", "ordernotfound": "order_gone",
    "productisinstoplist": "stopped", "itemsinstoplist": "stopped",
}  # fmt: skip
"""Reasons of refused orders, by code."""
_TOO_OLD = "fronttoooldversion"
_LATE = re.compile("timeout", re.IGNORECASE)
_SIZED = 22
"""Characters that a size's id takes in an item's."""


class Refused(Rejected):
    """The cloud refused it, with a code of its own: `api_code`, in lower case, may be empty."""

    def __init__(self, detail: str, *, api_code: str = "", person: str | None = None) -> None:
        super().__init__(detail, person=person)
        self.api_code = api_code


class Missing(BadSettings):
    """A right is missing, or guests are not switched on."""


class Gone(Rejected):
    """The cloud does not know it any more."""


def read(status: int, raw: bytes, group: str, pause_s: float) -> Mapping[str, Any]:
    """An answer's object. Raises what a refusal or an answer that is none means."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _unreadable(status, raw, group, pause_s)
    said, code = text(answer.get("errorDescription")), text(answer.get("error"))
    if status >= 300 or said or (code and not answer.keys() - {"error", "correlationId", "errorDescription"}):
        raise judge(status, code, said, group, pause_s)
    return answer


def judge(status: int, code: str, said: str, group: str, pause_s: float) -> GatewayError:
    """What a refusal means."""
    key, detail = code.strip().lower(), f"{group}: {status} {code} {said}".strip()[:1000]
    if status == 401:
        return BadCredentials(f"{REASONS['key']} ({detail})", person=REASONS["key"])
    if status == 403:
        name = f"right_{group}" if f"right_{group}" in REASONS else "right_menu" if group == "stop_lists" else "right"
        return Missing(f"{REASONS[name]} ({detail})", person=REASONS[name])
    if status == 429:
        return RateLimited(detail, after_s=pause_s).of(group)
    if key in _ATTENTION:
        kind = Missing if _ATTENTION[key] == "loyalty" else BadSettings
        return kind(f"{REASONS[_ATTENTION[key]]} ({detail})", person=REASONS[_ATTENTION[key]])
    if key in _AWAY or status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if status == 410:
        return Gone(detail)
    if 300 <= status < 400:
        return BadSettings(f"{REASONS['elsewhere']} ({detail})", person=REASONS["elsewhere"])
    return Refused(detail, api_code=key, person=order_reason(code, said) or None)


def _unreadable(status: int, raw: bytes, group: str, pause_s: float) -> GatewayError:
    """No JSON object: a page of whatever stands before the cloud, or of something that is none."""
    page = raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    what = "a web page" if page else "an empty answer" if not raw.strip() else "no JSON object"
    if status in (401, 403, 410, 429) or (status in (400, 408) and not page):
        return judge(status, "", what, group, pause_s)
    if 300 <= status < 500:
        return BadSettings(f"{REASONS['elsewhere']} ({status}: {what})", person=REASONS["elsewhere"])
    return Unavailable(f"{group}: {status}: {what} instead of an answer", certain=False)


def order_reason(code: str, said: str = "") -> str:
    """The sentence for people on why an order was refused; empty where the code is none that has one."""
    key = code.strip().lower()
    if key.endswith(_TOO_OLD):
        return REASONS["too_old"]
    if key in _ORDER:
        return REASONS[_ORDER[key]]
    return REASONS["till_late"] if _LATE.search(f"{code} {said}") else ""


# Tokens ------------------------------------------------------------------------------------------------------------------


def token_of(answer: Mapping[str, Any]) -> str:
    """The token in an answer; empty where there is none."""
    found = answer.get("token")
    return found if isinstance(found, str) and re.fullmatch(r"[!-~]{1,8000}", found) else ""


def life_of(token: str) -> float | None:
    """Seconds that a token lives from when it was made, as it says itself; None for one that says nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        made = claims.get("iat", claims.get("nbf"))
        life = float(claims["exp"]) - float(made)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        return None
    return life if 0 < life < 7 * 86_400 else None


# Ids of catalog items ----------------------------------------------------------------------------------------------------


def item_id(product: str, size: str = "") -> str:
    """The id of a catalog item: the product's, and the size's in short."""
    return f"{product}.{base64.urlsafe_b64encode(uuid.UUID(size).bytes).decode().rstrip('=')}" if size else product


def product_of(item: str) -> tuple[str, str] | None:
    """The product's id and the size's, or nothing in its place; None for an item that is not from a menu."""
    product, _, short = item.partition(".")
    if not product or identifier(product) != product or (short and len(short) != _SIZED):
        return None
    if not short:
        return product, ""
    try:
        return product, str(uuid.UUID(bytes=base64.urlsafe_b64decode(f"{short}==")))
    except (ValueError, binascii.Error):
        return None


# What may be anything ----------------------------------------------------------------------------------------------------


def mapping(value: Any) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none is left out."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def text(value: Any, most: int = 500) -> str:
    """One line of text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)[: most * 2]).split())[:most]


def identifier(value: Any) -> str:
    """A UUID in lower case, or nothing. That of zeros is nobody's."""
    if not isinstance(value, str):
        return ""
    try:
        found = uuid.UUID(value.strip())
    except ValueError:
        return ""
    return str(found) if found.int else ""
