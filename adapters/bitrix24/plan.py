"""What Bitrix24 receives of a call. Pure: the same drafts for the same event.

    ringing      cards    the first registers the call; shown to those who begin to ring, hidden from those who stopped
    answered     cards    hidden from all but the one who answered
    transferred  cards    moved to the other employee
    ended        finish   registers what was not, then ends it: the employee who talked last, talk time, code
                 record   the recording, once its file is there
                 task     for an incoming call that nobody answered
    later        summary  a comment to the client, once the call has a summary

All of one call is one lane, but for the recording, which may take a day and has nothing behind it. Read `client.py` next for
how each is delivered; `codec.py` for the requests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from adapters.base import Draft
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.mapping import mapped
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallMerged,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)

CARDS, FINISH, RECORD, TASK, SUMMARY = "cards", "finish", "record", "task", "summary"
OUTGOING, INCOMING, CALLBACK = 1, 2, 4
"""TYPE of a call."""
REAL_TIME_S = 60.0
KEEP_S = 48 * 3600.0
_PHONE = re.compile(r"\+?[0-9]{3,25}")
_STATUS = {
    Result.ANSWERED: "200",
    Result.MISSED: "304",
    Result.NO_ANSWER: "304",
    Result.BUSY: "486",
    Result.CANCELLED: "603-S",
    Result.FAILED: "503",
}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "uncertain": "The connection to the phone system was lost: the end of the call was not seen",
        "task": "Call back {phone}, missed at {at}",
        "rang": "It rang at: {rang}.",
        "nobody": "It rang at nobody's phone.",
        "summary": "Call of {at}, {phone}",
    },
    "ru": {
        "uncertain": "Связь с АТС прерывалась: конец звонка не был виден",
        "task": "Перезвонить {phone}, пропущен в {at}",
        "rang": "Звонило у: {rang}.",
        "nobody": "Ни у кого не звонило.",
        "summary": "Звонок {at}, {phone}",
    },
}


def words(language: str) -> Mapping[str, str]:
    """What people read in the portal, in the company's language."""
    return _WORDS.get(language, _WORDS["en"])


def plan(
    settings: Bitrix24Settings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """The drafts of this event. None for an internal call and for a hidden number: a call is registered by its phone."""
    if call.direction is Direction.INTERNAL or not _PHONE.fullmatch(call.outside):
        return ()
    return list(_drafts(settings, tenant, before, call, event))


def plan_summary(settings: Bitrix24Settings, tenant: Tenant, call: Call, recording_id: str) -> Sequence[Draft]:
    """A comment to the client of the call. None where calls are not reported."""
    if call.direction is Direction.INTERNAL or not _PHONE.fullmatch(call.outside) or not settings.send_events.upload:
        return ()
    when = call.started_at.astimezone(tenant.timezone)
    title = words(tenant.language)["summary"].format(at=f"{when:%d.%m.%Y %H:%M}", phone=call.outside)
    key = f"{call.call_id}:{SUMMARY}:{recording_id}"
    body = {"recording": recording_id, "phone": call.outside, "title": title}
    return (Draft(kind=SUMMARY, key=key, lane=key, body=body, keep_s=KEEP_S),)


def _drafts(
    settings: Bitrix24Settings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Iterator[Draft]:
    rang = before.ringing if before is not None and before.direction is call.direction else ()
    match event:
        case CallRinging(direction=Direction.OUTGOING):
            # Always: a call that was requested from Bitrix24 is known to have begun by it.
            if before is None or before.direction is not Direction.OUTGOING or before.caller != call.caller:
                shows = settings.show_card and settings.send_events.out
                yield _cards(settings, tenant, call, (call.caller,) if shows else (), ())
        case CallRinging():
            shown, hidden = _without(event.extensions, rang), _without(rang, event.extensions)
            yield from _moved(settings, tenant, call, shown, hidden)
        case CallAnswered() if call.direction is Direction.INCOMING:
            answered = (event.extension,) if event.extension else ()
            known = before.rang if before is not None else ()
            yield from _moved(settings, tenant, call, _without(answered, known), _without(rang, answered))
        case CallTransferred():
            shown = (event.to_extension,) if event.to_extension else ()
            hidden = (event.from_extension,) if event.from_extension else ()
            yield from _moved(settings, tenant, call, shown, hidden)
        case CallMerged() if before is not None and settings.send_events.upload:
            # A consultation call with somebody outside: it has no end of its own, and its record must not stay open.
            talked = (event.at - before.answered_at).total_seconds() if before.answered_at is not None else 0.0
            yield _finish(settings, tenant, call, _people(call, call.employee, call.rang), talked,
                          "200" if talked else "603-S", "")  # fmt: skip
        case CallEnded() if settings.send_events.upload:
            yield from _ended(settings, tenant, call, event)
        case _:
            return


def _ended(settings: Bitrix24Settings, tenant: Tenant, call: Call, event: CallEnded) -> Iterator[Draft]:
    reason = words(tenant.language)["uncertain"] if event.uncertain else ""
    others = (event.extension,) if event.result is Result.ANSWERED else event.rang  # who only rang has not talked
    people = _people(call, event.last_extension, others)
    yield _finish(settings, tenant, call, people, event.talk_s or 0.0, _status(event), reason)
    if settings.attach_recordings and event.recording and re.match("https?://", event.recording):
        yield Draft(
            kind=RECORD, key=f"{call.call_id}:{RECORD}", lane=f"{call.call_id}:{RECORD}",
            body={"link": event.recording, "call": call.call_id}, keep_s=KEEP_S,
        )  # fmt: skip
    missed = call.direction is Direction.INCOMING and event.result is not Result.ANSWERED and not event.uncertain
    if settings.missed_task and missed:
        yield _task(settings, tenant, call, event)


def _status(event: CallEnded) -> str:
    if event.result is Result.CANCELLED and event.direction is Direction.INCOMING:
        return "304"
    if event.result is Result.MISSED and event.hung_up_by is HungUpBy.SYSTEM:
        return "480"
    return _STATUS[event.result]


def _people(call: Call, first: str | None, others: Sequence[str | None]) -> list[str]:
    """Whose call it is, the likeliest first: the next where Bitrix24 does not know one."""
    if call.direction is Direction.OUTGOING:
        others = (call.caller,)
    return list(dict.fromkeys(number for number in (first, *others) if number))


def _without(numbers: Sequence[str], these: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(number for number in numbers if number not in these))


def _moved(
    settings: Bitrix24Settings, tenant: Tenant, call: Call, shown: tuple[str, ...], hidden: tuple[str, ...]
) -> Iterator[Draft]:
    """A card that comes and goes, as far as it is wanted."""
    events = settings.send_events
    wanted = settings.show_card and (events.in_ if call.direction is Direction.INCOMING else events.out)
    hidden = hidden if events.hangup else ()
    if wanted and (shown or hidden):
        yield _cards(settings, tenant, call, shown, hidden)


def _cards(
    settings: Bitrix24Settings, tenant: Tenant, call: Call, shown: tuple[str, ...], hidden: tuple[str, ...]
) -> Draft:
    body = {**_about(settings, tenant, call), "show": list(shown), "hide": list(hidden)}
    if call.direction is Direction.OUTGOING and not shown:
        body["people"] = [call.caller]
    return Draft(kind=CARDS, key=f"{call.call_id}:{CARDS}:{call.events}", body=body, expires_s=REAL_TIME_S)


def _finish(
    settings: Bitrix24Settings, tenant: Tenant, call: Call, people: Sequence[str], talk_s: float, status: str, reason: str
) -> Draft:  # fmt: skip
    # Whoever the call was registered with, or would have been: with another user the same call would be a new one there.
    first = [call.caller] if call.direction is Direction.OUTGOING else list(call.rang)
    body = {
        **_about(settings, tenant, call), **_mapped(settings, tenant, call), "first": first, "people": list(people), "duration": max(0, round(talk_s)), "status": status,
        **({"reason": reason} if reason else {}),
    }  # fmt: skip
    return Draft(kind=FINISH, key=f"{call.call_id}:{FINISH}", body=body, keep_s=KEEP_S)


def _about(settings: Bitrix24Settings, tenant: Tenant, call: Call) -> dict[str, Any]:
    """What a call is registered with, whichever message comes first."""
    return {
        "call": call.call_id,
        "phone": call.outside,
        "type": OUTGOING if call.direction is Direction.OUTGOING else INCOMING,
        "started": call.started_at.astimezone(tenant.timezone).isoformat(timespec="seconds"),
        "line": _line(settings, tenant, call),
        **({"client_fields": fields} if (fields := _client_fields(settings, tenant, call)) else {}),
    }


def _mapped(settings: Bitrix24Settings, tenant: Tenant, call: Call) -> dict[str, Any]:
    """Fields of whatever record the call makes, once it is over."""
    fields = mapped(settings.mapping, "call", call, tenant)
    return {"fields": fields} if fields else {}


def _client_fields(settings: Bitrix24Settings, tenant: Tenant, call: Call) -> dict[str, Any]:
    """Fields of a contact that the call makes."""
    return dict(mapped(settings.mapping, "contact", ClientFacts(id="", phones=(call.outside,)), tenant))


def _line(settings: Bitrix24Settings, tenant: Tenant, call: Call) -> str:
    if settings.line_number:
        return settings.line_number
    number = call.called.removeprefix("+")
    ours = any(phone.number == call.called for phone in tenant.phones)
    dialled = call.direction is Direction.INCOMING and not ours and re.fullmatch("[0-9]{3,15}", number)
    return number if dialled else ""


def _task(settings: Bitrix24Settings, tenant: Tenant, call: Call, event: CallEnded) -> Draft:
    said = words(tenant.language)
    names = [f"{number} {tenant.owner_of(number)}".strip() for number in event.rang]
    when = call.started_at.astimezone(tenant.timezone)
    due = event.at.astimezone(tenant.timezone) + timedelta(minutes=settings.task_minutes)
    body = {
        "call": call.call_id,
        "people": list(event.rang),
        "title": said["task"].format(phone=call.outside, at=when.strftime("%d.%m.%Y %H:%M:%S")),
        "text": said["rang"].format(rang=", ".join(names)) if names else said["nobody"],
        "due": due.isoformat(timespec="seconds"),
    }
    return Draft(kind=TASK, key=f"{call.call_id}:{TASK}", body=body, keep_s=KEEP_S)
