"""What amoCRM receives of a call. Pure: the same drafts for the same event.

    ringing      card     a notification to those who begin to ring; by setting, to whoever dials
    answered     card     to the one who answers, where their phone was not among them
    transferred  card     to the employee whom the call goes to
    ended        finish   the call: who talked last, talk time, result, and whose it is
                 record   the link to the recording, once its file is there
                 task     for an incoming call that nobody answered
    later        summary  a note of whomever the call was given to, once it has a summary

All of one call is one lane, but for the recording, which may take a day and has nothing behind it. Read `client.py` next for
how each is delivered; `requests.py` for the requests.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from adapters.amocrm.settings import AmoSettings
from adapters.base import Draft
from adapters.mapping import mapped
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
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

CARD, FINISH, RECORD, TASK, SUMMARY = "card", "finish", "record", "task", "summary"
CALLS = "calls"
"""The bucket of calls: they share requests, so each is charged less than one."""
REAL_TIME_S = 60.0
KEEP_S = 48 * 3600.0
_PHONE = re.compile(r"\+?[0-9]{3,25}")
NOT_AVAILABLE, TALKED, NO_ANSWER, BUSY = 3, 4, 6, 7
"""`call_status` of a call."""
_STATUS = {
    Result.ANSWERED: TALKED,
    Result.MISSED: NO_ANSWER,
    Result.NO_ANSWER: NO_ANSWER,
    Result.BUSY: BUSY,
    Result.CANCELLED: NO_ANSWER,
    Result.FAILED: NOT_AVAILABLE,
}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "uncertain": "The link to the PBX was down: the end of the call was not seen.",
        "missed": "Missed.",
        "queue": "Nobody of the queue answered in time.",
        "rang": "Rang at: {rang}.",
        "nobody": "Rang at nobody's phone.",
        "task": "Call back {phone}, missed at {at}.",
        "summary": "Call of {at}, {phone}",
    },
    "ru": {
        "uncertain": "Связь с АТС прерывалась: конец звонка не был виден.",
        "missed": "Пропущен.",
        "queue": "В очереди не ответили вовремя.",
        "rang": "Звонило у: {rang}.",
        "nobody": "Ни у кого не звонило.",
        "task": "Перезвонить {phone}, пропущен в {at}.",
        "summary": "Звонок {at}, {phone}",
    },
}


def words(language: str) -> Mapping[str, str]:
    """What people read in the account, in the company's language."""
    return _WORDS.get(language, _WORDS["en"])


def plan(
    settings: AmoSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:  # fmt: skip
    """The drafts of this event. None for an internal call and for a hidden number: a call is found by its phone."""
    if call.direction is Direction.INTERNAL or not _PHONE.fullmatch(call.outside):
        return ()
    return list(_drafts(settings, tenant, before, call, event))


def plan_summary(settings: AmoSettings, tenant: Tenant, call: Call, recording_id: str) -> Sequence[Draft]:
    """A note. None where calls are not sent. The text itself is read when it is delivered."""
    if call.direction is Direction.INTERNAL or not _PHONE.fullmatch(call.outside) or not settings.send_events.upload:
        return ()
    when = call.started_at.astimezone(tenant.timezone)
    title = words(tenant.language)["summary"].format(at=f"{when:%d.%m.%Y %H:%M}", phone=call.outside)
    key = f"{call.call_id}:{SUMMARY}:{recording_id}"
    body = {"call": call.call_id, "recording": recording_id, "phone": call.outside, "title": title}
    return (Draft(kind=SUMMARY, key=key, lane=key, body=body, keep_s=KEEP_S),)


def _drafts(
    settings: AmoSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Iterator[Draft]:
    rang = before.ringing if before is not None and before.direction is call.direction else ()
    match event:
        case CallRinging() if call.direction is Direction.INCOMING:
            yield from _card(settings, call, [one for one in event.extensions if one not in rang])
        case CallRinging() if before is None or before.caller != call.caller:
            yield from _card(settings, call, [call.caller])
        case CallAnswered() if call.direction is Direction.INCOMING and event.extension:
            known = before.rang if before is not None else ()
            yield from _card(settings, call, [event.extension] if event.extension not in known else [])
        case CallTransferred() if event.to_extension:
            yield from _card(settings, call, [event.to_extension])
        case CallMerged() if before is not None and settings.send_events.upload:
            # A consultation call with somebody outside: it has no end of its own.
            talked = (event.at - before.answered_at).total_seconds() if before.answered_at is not None else 0.0
            people = _people(call, call.employee, call.rang)
            yield _finish(settings, tenant, call, people, talked, TALKED if talked else NO_ANSWER, "", "")
        case CallEnded() if settings.send_events.upload:
            yield from _ended(settings, tenant, call, event)
        case _:
            return


def _card(settings: AmoSettings, call: Call, people: Sequence[str]) -> Iterator[Draft]:
    wanted = settings.send_events.in_ if call.direction is Direction.INCOMING else settings.send_events.out
    if settings.show_card and wanted and people:
        body = {"call": call.call_id, "phone": call.outside, "people": list(dict.fromkeys(people))}
        yield Draft(kind=CARD, key=f"{call.call_id}:{CARD}:{call.events}", body=body, expires_s=REAL_TIME_S)


def _ended(settings: AmoSettings, tenant: Tenant, call: Call, event: CallEnded) -> Iterator[Draft]:
    others = (event.extension,) if event.result is Result.ANSWERED else event.rang  # who only rang has not talked
    people = _people(call, event.last_extension, others)
    link = event.recording if event.recording and re.match("https?://", event.recording) else ""
    link = link if settings.attach_recordings else ""
    yield _finish(
        settings, tenant, call, people, event.talk_s or 0.0, _STATUS[event.result], _result(tenant, call, event), link
    )
    if link:
        yield Draft(
            kind=RECORD, key=f"{call.call_id}:{RECORD}", lane=f"{call.call_id}:{RECORD}", keep_s=KEEP_S,
            body={"link": link, "call": call.call_id, "phone": call.outside},
        )  # fmt: skip
    missed = call.direction is Direction.INCOMING and event.result is not Result.ANSWERED and not event.uncertain
    if settings.missed_task and missed:
        yield _task(settings, tenant, call, event)


def _people(call: Call, first: str | None, others: Sequence[str | None]) -> list[str]:
    """Whose call it is, the likeliest first: the next where amoCRM does not know one."""
    if call.direction is Direction.OUTGOING:
        others = (call.caller,)
    return list(dict.fromkeys(number for number in (first, *others) if number))


def _result(tenant: Tenant, call: Call, event: CallEnded) -> str:
    """`call_result`: what is to be said beside the status, in a sentence."""
    said, found = words(tenant.language), list[str]()
    if event.uncertain:
        found.append(said["uncertain"])
    if call.direction is Direction.INCOMING and event.result is not Result.ANSWERED:
        found.append(said["queue" if event.queue and event.hung_up_by is HungUpBy.SYSTEM else "missed"])
        found.append(_rang(tenant, event))
    return " ".join(found)


def _rang(tenant: Tenant, event: CallEnded) -> str:
    said = words(tenant.language)
    names = ", ".join(_name(tenant, number) for number in event.rang)
    return said["rang"].format(rang=names) if names else said["nobody"]


def _name(tenant: Tenant, number: str) -> str:
    return f"{number} {tenant.owner_of(number)}".strip()


def _finish(
    settings: AmoSettings, tenant: Tenant, call: Call, people: Sequence[str], talk_s: float, status: int, result: str, link: str
) -> Draft:  # fmt: skip
    incoming = call.direction is Direction.INCOMING
    ours = call.called if incoming else call.caller
    body = {
        "call": call.call_id, "phone": call.outside, "incoming": incoming, "ours": ours, "started": int(call.started_at.timestamp()),
        "duration": max(0, round(talk_s)), "status": status, "result": result[:500], "people": list(people),
        "name": _name(tenant, people[0])[:100] if people else "", **({"link": link} if link else {}),
        **({"fields": fields} if (fields := mapped(settings.mapping, "call", call, tenant)) else {}),
    }  # fmt: skip
    return Draft(kind=FINISH, key=f"{call.call_id}:{FINISH}", body=body, keep_s=KEEP_S, bucket=CALLS)


def _task(settings: AmoSettings, tenant: Tenant, call: Call, event: CallEnded) -> Draft:
    when = call.started_at.astimezone(tenant.timezone).strftime("%d.%m.%Y %H:%M:%S")
    text = words(tenant.language)["task"].format(phone=call.outside, at=when)
    due = event.at + timedelta(minutes=settings.task_minutes)
    body = {
        "call": call.call_id, "phone": call.outside, "people": list(event.rang), "text": f"{text} {_rang(tenant, event)}"[:1000],
        "due": int(due.timestamp()),
    }  # fmt: skip
    return Draft(kind=TASK, key=f"{call.call_id}:{TASK}", body=body, keep_s=KEEP_S)
