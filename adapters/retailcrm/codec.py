"""What RetailCRM receives of a call, and what its answers mean. Pure: no clock, no network, no secret in a draft.

    ringing    in    once for every internal number that begins to ring
               out   once for the employee who calls
    ended      the ringing message if none was sent but a phone rang, then hangup, then upload

Owns the wording of the requests and the classification of the answers: by their text first and their status second,
since the same failure comes with several statuses. Never sends; read `client.py` next.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from adapters.base import Attempt, Delivered, Draft, Tested
from adapters.retailcrm.settings import RetailcrmSettings
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    NeedsAttention,
    RateLimited,
    Rejected,
    Retryable,
    Unavailable,
)
from gateway.domain.events import CallEnded, CallEvent, CallRinging, Direction, HungUpBy, Result
from gateway.domain.reasons import in_language
from gateway.domain.texts import LANGUAGES

EVENT_PATH = "/api/v5/telephony/call/event"
UPLOAD_PATH = "/api/v5/telephony/calls/upload"
CREDENTIALS_PATH = "/api/credentials"

SYNTHETIC = "_synthetic"
"""Behind the kind of a ringing message that is made up at the end of a call that had sent none, so that the log says so."""
REAL_TIME_S = 60.0
KEEP_S = 48 * 3600.0
NOT_EXIST = "not_exist_codes"
"""The note of a message that arrived and names an internal number that no user there has."""
BUCKET = "telephony"
LONGEST_RETRY_AFTER_S = 3600.0

_PHONE = re.compile(r"\+?[0-9 ()-]{3,25}")

_HANGUP = {
    Result.ANSWERED: "answered",
    Result.BUSY: "busy",
    Result.FAILED: "failed",
    Result.MISSED: "no answered",
    Result.NO_ANSWER: "no answered",
    Result.CANCELLED: "cancel",
}
_UPLOAD = {
    Result.ANSWERED: "answered",
    Result.BUSY: "busy",
    Result.FAILED: "failed",
    Result.MISSED: "no answer",
    Result.NO_ANSWER: "no answer",
    Result.CANCELLED: "no answer",
}


# Events to drafts ----------------------------------------------------------------------------------------------------


def plan(
    settings: RetailcrmSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """The drafts of this event for RetailCRM. None for a hidden number: every request needs a phone."""
    if call.direction is Direction.INTERNAL or not _PHONE.fullmatch(call.outside):
        return ()
    wanted = settings.send_events.model_dump(by_alias=True)
    return [draft for draft in _drafts(tenant, before, call, event) if wanted[draft.kind.removesuffix(SYNTHETIC)]]


def _drafts(tenant: Tenant, before: Call | None, call: Call, event: CallEvent) -> Iterator[Draft]:
    match event:
        case CallRinging(direction=Direction.OUTGOING):
            if not _reported(before, call):
                yield _ringing(tenant, call, _codes(call))
        case CallRinging():
            known = before.rang if _may_have_been_reported(before) and before is not None else ()
            if codes := tuple(number for number in event.extensions if number not in known):
                yield _ringing(tenant, call, codes)
        case CallEnded():
            # Where no phone ever rang there is nobody to show a call to, and RetailCRM takes no ringing without codes.
            if not _reported(before, call) and _codes(call):
                late = _ringing(tenant, call, _codes(call))
                yield replace(late, kind=late.kind + SYNTHETIC)
            yield _live(tenant, call, "hangup", _codes(call), hangupStatus=_hangup_status(event))
            yield _upload(tenant, before, call, event)
        case _:  # an answer, a transfer or a merge is nothing RetailCRM has a word for
            return


def _reported(before: Call | None, call: Call) -> bool:
    """True when an earlier event has made a ringing message of this very direction."""
    if before is None or before.direction is not call.direction:
        return False
    if call.direction is Direction.OUTGOING:
        return before.caller == call.caller
    return bool(before.rang) and _may_have_been_reported(before)


def _may_have_been_reported(before: Call | None) -> bool:
    """False while an incoming call's number was not known: of a hidden one nothing is sent to RetailCRM."""
    return before is not None and before.direction is Direction.INCOMING and bool(_PHONE.fullmatch(before.outside))


def _codes(call: Call) -> tuple[str, ...]:
    """The internal numbers of the call: all that rang, or the employee who placed it."""
    return call.rang if call.direction is Direction.INCOMING else (call.caller,)


def _ringing(tenant: Tenant, call: Call, codes: tuple[str, ...]) -> Draft:
    return _live(tenant, call, "in" if call.direction is Direction.INCOMING else "out", codes, key="+".join(codes))


def _live(tenant: Tenant, call: Call, kind: str, codes: tuple[str, ...], key: str | None = None, **more: str) -> Draft:
    """A message about a call that is going on; it expires after a minute."""
    reported = {
        "phone": call.outside,
        "type": kind,
        "codes": list(codes),
        **more,
        "callExternalId": call.call_id,
        **_company_number(tenant, call),
    }
    return Draft(
        kind=kind,
        key=f"{call.call_id}:{kind}" if key is None else f"{call.call_id}:{kind}:{key}",
        body={"event": reported},
        expires_s=REAL_TIME_S,
        bucket=BUCKET,
    )


def _upload(tenant: Tenant, before: Call | None, call: Call, event: CallEnded) -> Draft:
    """The call's line in the log of calls."""
    started = before.started_at if before is not None else event.at - timedelta(seconds=_spent(event))
    code = call.caller if call.direction is Direction.OUTGOING else event.extension or next(iter(event.rang), None)
    reported: dict[str, Any] = {
        "date": started.astimezone(tenant.timezone).strftime("%Y-%m-%d %H:%M:%S"),
        "type": "in" if call.direction is Direction.INCOMING else "out",
        "phone": call.outside.removeprefix("+"),
        **({"code": code} if code else {}),
        "duration": _whole(event.talk_s or 0),
        "durationWaiting": _whole(_waited(started, event)),
        "result": "unknown" if event.uncertain else _UPLOAD[event.result],
        "externalId": call.call_id,
        **({"recordUrl": event.recording} if re.match("https?://", event.recording or "") else {}),
        **_company_number(tenant, call),
    }
    return Draft(
        kind="upload",
        key=f"{call.call_id}:upload",
        body={"calls": [reported]},
        keep_s=KEEP_S,
        bucket=BUCKET,
    )


def _spent(event: CallEnded) -> float:
    return (event.wait_s or 0) + (event.talk_s or 0)


def _waited(started: datetime, event: CallEnded) -> float:
    """To the answer; for a call that nobody answered from the first ring to the end."""
    if event.wait_s is not None:
        return event.wait_s
    return (event.at - started).total_seconds() if event.result is not Result.ANSWERED else 0


def _whole(seconds: float) -> int:
    return max(0, round(seconds))


def _hangup_status(event: CallEnded) -> str:
    if event.uncertain:
        return "failed"
    if event.result is Result.MISSED and event.hung_up_by is HungUpBy.CALLER:
        return "cancel"
    return _HANGUP[event.result]


def _company_number(tenant: Tenant, call: Call) -> dict[str, str]:
    """The number the client has dialled; an outgoing call does not show which of ours the client sees."""
    number = call.called.removeprefix("+")
    if call.direction is not Direction.INCOMING or not re.fullmatch("[0-9]{3,15}", number):
        return {}
    return {} if any(phone.number == call.called for phone in tenant.phones) else {"externalPhone": number}


# Requests ------------------------------------------------------------------------------------------------------------


def request(
    settings: RetailcrmSettings, attempt: Attempt, event: Mapping[str, Any] | None = None
) -> tuple[str, dict[str, str]]:
    """The path and the form of one delivery: each object of its body is a field that holds JSON text. `event` is sent in the place
    of the body's own."""
    body = attempt.body if event is None else {**attempt.body, "event": event}
    fields = {name: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for name, value in body.items()}
    return UPLOAD_PATH if attempt.kind == "upload" else EVENT_PATH, {"clientId": settings.client_id.reveal(), **fields}


# Answers -------------------------------------------------------------------------------------------------------------

_NO_ACCOUNT = "There is no RetailCRM account at this address. Correct the account address in the settings."
_NO_TELEPHONY = "Telephony is not enabled in this RetailCRM account. Register the module and try again."
_NOT_ACTIVATED = "RetailCRM does not activate the module; most often the account's funds are not sufficient."
_TEXTS: tuple[tuple[str, type[GatewayError], str | None], ...] = (
    ("rate limit", RateLimited, None),
    ("account does not exist", BadSettings, _NO_ACCOUNT),
    ("telephony not enabled", BadSettings, _NO_TELEPHONY),
    ("not supports calls upload", BadSettings, _NO_TELEPHONY),
    ("failed to activate", BadSettings, _NOT_ACTIVATED),
    ("apikey", BadCredentials, None),
    ("access denied", BadCredentials, None),
    ("api method not found", Rejected, None),
    ("errors in the", Rejected, None),
    ("validation error", Rejected, None),
    ("is missing", Rejected, None),
    ("not found", Rejected, None),
)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _words(value: Any) -> list[str]:
    """The texts in what should be a list of strings, an object of strings, or nothing at all."""
    if isinstance(value, Mapping):
        return [f"{name}: {'; '.join(_words(inner)) or '?'}" for name, inner in value.items()]
    if isinstance(value, list):
        return [word for inner in value for word in _words(inner)]
    return [str(value)] if isinstance(value, str | int) and not isinstance(value, bool) else []


def read_answer(status: int, text: str, attempt: Attempt | None = None) -> Mapping[str, Any]:
    """The object answered. Raises what a refusal, or an answer that is none, means."""
    answer = _object(text)
    if answer is None:
        raise _unreadable(status, text)
    if answer.get("success") is True and status < 400:
        return answer
    known = {str(call.get("externalId")) for call in (attempt.body.get("calls", ()) if attempt is not None else ())}
    if known and known <= set(_words(answer.get("duplicateCalls"))):
        return answer  # it was there already, which is all we want
    said = "; ".join([*_words(answer.get("errorMsg")), *_words(answer.get("errors"))])[:1000]
    for part, error, person in _TEXTS:
        if part in said.lower():
            raise error(f"{status}: {said}", person=person)
    raise _by_status(status, said)


def _by_status(status: int, said: str = "") -> GatewayError:
    detail = f"{status}: {said}" if said else f"status {status}"
    if status in (429, 503):  # here 503 is the limit on requests, not an outage
        return RateLimited(detail)
    if status in (401, 403):
        return BadCredentials(detail)
    if status >= 500 or status == 408:
        return Unavailable(detail, certain=False)
    if 300 <= status < 400:
        return BadSettings(detail, person="This address leads on to another one. Enter the final address.")
    if status >= 400 or said:
        return Rejected(detail)
    return Unavailable(f"{detail}, but neither success nor a reason", certain=False)


def _unreadable(status: int, text: str) -> GatewayError:
    """No JSON object. A page is what an address without an account answers, whatever the status."""
    page = text.lstrip("\ufeff \t\r\n").startswith("<")
    if status in (404, 405) or (page and (status < 300 or status in (400, 401, 403, 410))):
        return BadSettings(f"{status}: {'a web page' if page else 'nothing'} instead of an answer", person=_NO_ACCOUNT)
    return _by_status(status)


def read_delivered(status: int, text: str, attempt: Attempt, retry_after: str | None = None) -> Delivered:
    """The outcome of one delivery. `retry_after` is that header, which is obeyed where it is a number of seconds."""
    try:
        answer = read_answer(status, text, attempt)
    except Retryable as error:
        if re.fullmatch("[0-9]{1,6}", retry_after or ""):
            error.after_s = min(float(retry_after or 0), LONGEST_RETRY_AFTER_S)
        raise
    if missing := [*_words(answer.get("notExistCodes")), *_words(answer.get("notExistUsers"))]:
        # It arrived and nobody sees it: these numbers, or users, are not there in RetailCRM.
        return Delivered(note=NOT_EXIST, detail=", ".join(missing))
    return Delivered()


def by_user_ids(attempt: Attempt, delivered: Delivered) -> tuple[Mapping[str, Any], tuple[str, ...]] | None:
    """The ringing message once more, to those users whose internal numbers RetailCRM does not know (`userIds` in place of `codes`),
    and the numbers that are nobody's by our map either. None where there is nobody to name."""
    if attempt.kind.removesuffix(SYNTHETIC) not in ("in", "out") or delivered.note != NOT_EXIST:
        return None
    missing = delivered.detail.split(", ")
    users = {
        code: int(user)
        for user, code in attempt.users().items()
        if code in missing and re.fullmatch("[0-9]{1,18}", user)
    }
    if not users:
        return None
    event = {name: value for name, value in attempt.body["event"].items() if name != "codes"}
    return {**event, "userIds": sorted(users.values())}, tuple(code for code in missing if code not in users)


def shown_to_users(second: Delivered, unknown: Sequence[str]) -> Delivered:
    """The outcome of both messages: what is still not shown to anybody."""
    if second.note:
        return second
    return Delivered(note=NOT_EXIST, detail=", ".join(unknown)) if unknown else second


# The connection test -------------------------------------------------------------------------------------------------

_SAID = {
    "ok": ("The key is accepted.", "Ключ принят."),
    "sites": ("The key is accepted; shops: {}.", "Ключ принят; магазины: {}."),
    "bad_credentials": (
        "RetailCRM refused the key. Enter a valid one with access to telephony.",
        "RetailCRM не принял ключ. Введите действующий ключ с доступом к телефонии.",
    ),
    "bad_settings": (
        "There is no RetailCRM account at this address, or it may not be connected to ({}).",
        "По этому адресу нет аккаунта RetailCRM, или соединяться с ним нельзя ({}).",
    ),
    "rate_limited": ("RetailCRM asks us to slow down. Try again.", "RetailCRM просит подождать. Повторите попытку."),
    "unavailable": ("RetailCRM does not answer ({}).", "RetailCRM не отвечает ({})."),
    "rejected": ("RetailCRM refused the request ({}).", "RetailCRM отклонил запрос ({})."),
}


def _texts(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {
        language: text.format(*(in_language(one, language) for one in values))
        for language, text in zip(LANGUAGES, _SAID[code], strict=True)
    }


def read_tested(status: int, text: str) -> Tested:
    """What the answer to the credentials request means. Raises like `read_answer`."""
    sites = _words(read_answer(status, text).get("sitesAvailable"))
    return Tested(True, "ok", _texts("sites", ", ".join(sites)[:500]) if sites else _texts("ok"))


def failed_test(error: GatewayError) -> Tested:
    """The same for a refusal, or for no answer at all."""
    match error:
        case BadCredentials():
            code = "bad_credentials"
        case NeedsAttention():
            code = "bad_settings"
        case RateLimited():
            code = "rate_limited"
        case Unavailable():
            code = "unavailable"
        case _:
            code = "rejected"
    return Tested(False, code, _texts(code, error.detail[:300]))
