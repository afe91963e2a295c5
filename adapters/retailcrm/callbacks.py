"""Requests of RetailCRM, and of the dialplan in its name: the fields as sent, read into values. Pure.

RetailCRM sends GET with the fields in the query; which method it uses elsewhere is not confirmed, so query, form and JSON
are all taken. Unknown fields are left alone. Read `gateway/web/api/crm_callbacks.py` next for what becomes of it.
"""

import json
from collections.abc import Mapping
from typing import Any

from adapters.base import ActivityRequest, CallRequest, Hook, ResponsibleRequest, StatusRequest
from adapters.retailcrm.modules import ACTIVITY, MAKE_CALL, REDIRECT, STATUS, STATUS_WORDS
from gateway.domain.posts import Invalid
from gateway.domain.text import has_breaking

_LONGEST = 128


class _Fields:
    """Takes texts out of fields and notes everything that is wrong with them."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self.problems: list[tuple[str, str]] = []

    def text(self, *names: str, needed: bool = False) -> str:
        value = next((self._fields[name] for name in names if self._fields.get(name) not in (None, "")), "")
        if isinstance(value, bool) or not isinstance(value, str | int):
            self.problems.append((names[0], "must be one text"))
            return ""
        text = str(value)
        if len(text) > _LONGEST or has_breaking(text):
            self.problems.append((names[0], f"must be at most {_LONGEST} characters without control characters"))
            return ""
        text = text.strip()
        if needed and not text:
            self.problems.append((names[0], "is missing"))
        return text

    def done(self) -> None:
        if self.problems:
            raise Invalid(tuple(self.problems))


def read_call(fields: Mapping[str, Any]) -> CallRequest:
    """`makeCallUrl`: clientId, userId, phone, code, externalPhone. Raises Invalid."""
    taken = _Fields(fields)
    requested = CallRequest(
        client_id=taken.text("clientId", needed=True),
        phone=taken.text("phone", needed=True),
        user_id=taken.text("userId"),
        extension=taken.text("code"),
        company_number=taken.text("externalPhone"),
    )
    taken.done()
    return requested


def read_status(fields: Mapping[str, Any]) -> StatusRequest:
    """`changeUserStatusUrl`: clientId, userId, code, status. Raises Invalid."""
    taken = _Fields(fields)
    requested = StatusRequest(
        client_id=taken.text("clientId", needed=True),
        status=taken.text("status", needed=True),
        user_id=taken.text("userId"),
        extension=taken.text("code"),
    )
    if requested.status and requested.status not in STATUS_WORDS:
        taken.problems.append(("status", f"must be one of {', '.join(STATUS_WORDS)}"))
    if not requested.user_id and not requested.extension:
        taken.problems.append(("userId", "is missing"))
    taken.done()
    return requested


def read_activity(fields: Mapping[str, Any]) -> ActivityRequest:
    """`baseUrl` + `actions.activity`: clientId, and activity as JSON text `{"active": bool, "freeze": bool}`. Raises
    Invalid."""
    taken = _Fields({name: value for name, value in fields.items() if name != "activity"})
    client_id = taken.text("clientId", needed=True)
    activity = fields.get("activity")
    if isinstance(activity, str) and len(activity) <= 1000:
        try:
            activity = json.loads(activity)
        except (ValueError, RecursionError):
            activity = None
    flags = activity if isinstance(activity, Mapping) else {}
    active, freeze = flags.get("active"), flags.get("freeze", False)
    if not isinstance(active, bool) or not isinstance(freeze, bool):
        taken.problems.append(("activity", 'must be {"active": true or false, "freeze": true or false}'))
    taken.done()
    return ActivityRequest(client_id=client_id, active=bool(active) and not freeze)


def read_responsible(fields: Mapping[str, Any]) -> ResponsibleRequest:
    """The dialplan's request: Token, UniqueId, phone, redirect. Raises Invalid."""
    taken = _Fields({name: value for name, value in fields.items() if name != "redirect"})
    redirect = fields.get("redirect", True)
    if str(redirect).lower() not in ("true", "false", "1", "0"):
        taken.problems.append(("redirect", "must be true or false"))
    requested = ResponsibleRequest(
        token=taken.text("Token", "token", needed=True),
        unique_id=taken.text("UniqueId", "uniqueId", "uniqueid", needed=True),
        phone=taken.text("phone", "Phone", needed=True),
        redirect=str(redirect).lower() in ("true", "1"),
    )
    taken.done()
    return requested


def _schema(*needed: str, **fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "required": list(needed), "properties": fields}


_TEXT = {"type": "string", "maxLength": _LONGEST}
HOOKS = (
    Hook(
        MAKE_CALL, ("GET", "POST"), "Click-to-call: connect a user with a number", CallRequest, read_call,
        _schema("clientId", "phone", clientId=_TEXT, userId=_TEXT, phone=_TEXT, code=_TEXT, externalPhone=_TEXT),
    ),
    Hook(
        STATUS, ("GET", "POST"), "A user is free, busy, at dinner or on a break", StatusRequest, read_status,
        _schema("clientId", "status", clientId=_TEXT, userId=_TEXT, code=_TEXT, status={"enum": list(STATUS_WORDS)}),
    ),
    Hook(
        REDIRECT, ("POST",), "Who is responsible for a caller", ResponsibleRequest,
        read_responsible,
        _schema(
            "Token", "UniqueId", "phone", Token=_TEXT, UniqueId=_TEXT, phone=_TEXT,
            redirect={"type": "boolean", "description": "false: only answer; true by default"},
        ),
    ),
    Hook(
        ACTIVITY, ("POST",), "The module was switched on or off", ActivityRequest, read_activity,
        _schema("clientId", "activity", clientId=_TEXT, activity={"type": "string", "description": "JSON: active, freeze"}),
    ),
)  # fmt: skip
"""What is called on our side."""
