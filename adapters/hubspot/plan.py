"""What HubSpot receives of a call. Pure: the same drafts for the same event.

    ended        finish   the call with its contact: the employee who talked last, talk time, outcome; missed ones with who rang
                 record   the link to the recording, once its file is there
                 task     for an incoming call that nobody answered
    later        summary  a note of the contact, once the call has a summary
    merged       finish   a consultation call with somebody outside, which has no end of its own

HubSpot cannot be told that a phone rings: a card of its own needs a page in its frame. All of one call is one lane, but for the
recording, which may take a day and has nothing behind it. Read `client.py` next for how each is delivered.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import escape

from adapters import crm_drafts
from adapters.base import Draft
from adapters.hubspot.settings import HubSpotSettings
from adapters.mapping import mapped
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts, OrderFacts
from gateway.domain.events import CallEnded, CallEvent, CallMerged, Direction, Result
from gateway.domain.ids import utc_text
from gateway.domain.orders import Order

FINISH, RECORD, TASK, SUMMARY = "finish", "record", "task", "summary"
SEARCH = "search"
"""The bucket of searches, which have a rate of their own."""
KEEP_S = 48 * 3600.0
OVER = ("done", "cancelled")
"""Statuses of an order that nothing follows."""
PHONE = re.compile(r"\+?[0-9]{3,25}")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "in": "Incoming call from {phone}",
        "out": "Outgoing call to {phone}",
        "missed": "Missed call from {phone}",
        "employee": "Employee: {who}",
        "answered": "Answered by: {who}",
        "rang": "It rang at: {who}",
        "nobody": "It rang at nobody's phone",
        "line": "Line: {line}",
        "uncertain": "Uncertain: the connection to the phone system was lost, the end of the call was not seen",
        "task": "Call back {phone}, missed at {at}",
        "summary": "Call of {at}, {phone}",
    },
    "ru": {
        "in": "Входящий звонок с {phone}",
        "out": "Исходящий звонок на {phone}",
        "missed": "Пропущенный звонок с {phone}",
        "employee": "Сотрудник: {who}",
        "answered": "Ответил: {who}",
        "rang": "Звонило у: {who}",
        "nobody": "Ни у кого не звонило",
        "line": "Линия: {line}",
        "uncertain": "Неточно: связь с АТС прерывалась, конец звонка не был виден",
        "task": "Перезвонить {phone}, пропущен в {at}",
        "summary": "Звонок {at}, {phone}",
    },
}


def words(language: str) -> Mapping[str, str]:
    """What people read in HubSpot, in the company's language."""
    return _WORDS.get(language, _WORDS["en"])


def plan(
    settings: HubSpotSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """The drafts of this event. None for an internal call and for a hidden number, which is no contact's."""
    wanted = settings.send_events.upload and call.direction is not Direction.INTERNAL
    if not wanted or not PHONE.fullmatch(call.outside):
        return ()
    match event:
        case CallMerged() if before is not None:
            return [_merged(settings, tenant, before, call, event)]
        case CallEnded():
            return list(_ended(settings, tenant, call, event))
        case _:
            return ()


def plan_summary(settings: HubSpotSettings, tenant: Tenant, call: Call, recording_id: str) -> Sequence[Draft]:
    """A note of the call's contact. None where calls are not reported."""
    if call.direction is Direction.INTERNAL or not PHONE.fullmatch(call.outside) or not settings.send_events.upload:
        return ()
    when = call.started_at.astimezone(tenant.timezone)
    title = words(tenant.language)["summary"].format(at=f"{when:%d.%m.%Y %H:%M}", phone=call.outside)
    key = f"{call.call_id}:{SUMMARY}:{recording_id}"
    body = {
        "recording": recording_id,
        "phone": call.outside,
        "title": title,
        "people": _people(call, call.last_extension, ()),
    }
    return (Draft(kind=SUMMARY, key=key, lane=key, body=body, keep_s=KEEP_S),)


def plan_order(settings: HubSpotSettings, tenant: Tenant, before: Order | None, facts: OrderFacts) -> Sequence[Draft]:
    """The order as it stands. `reopened`: it was over, and is not any more, so its deal has to leave the stage in which we put it."""
    reopened = before is not None and before.status in OVER and facts.order.status not in OVER
    return [
        replace(draft, body={**draft.body, "reopened": reopened})
        for draft in crm_drafts.plan_order(settings, tenant, before, facts)
    ]


def _ended(settings: HubSpotSettings, tenant: Tenant, call: Call, event: CallEnded) -> Iterator[Draft]:
    missed = is_missed(call.direction, event.result)
    others = (event.extension,) if event.result is Result.ANSWERED else event.rang  # who only rang has not talked
    people = _people(call, event.last_extension, others)
    yield _finish(settings, tenant, call, people, event.talk_s or 0.0, event.result, uncertain=event.uncertain)
    if settings.recordings != "none" and event.recording and re.match("https?://", event.recording):
        yield Draft(
            kind=RECORD, key=f"{call.call_id}:{RECORD}", lane=f"{call.call_id}:{RECORD}",
            body={"link": event.recording, "call": call.call_id}, keep_s=KEEP_S,
        )  # fmt: skip
    if settings.missed_task and missed and not event.uncertain:
        yield _task(settings, tenant, call, event.at)


def _merged(settings: HubSpotSettings, tenant: Tenant, before: Call, call: Call, event: CallMerged) -> Draft:
    talked = (event.at - before.answered_at).total_seconds() if before.answered_at is not None else 0.0
    result = Result.ANSWERED if talked else Result.CANCELLED
    return _finish(settings, tenant, call, _people(call, call.employee, call.rang), talked, result, uncertain=False)


def is_missed(direction: Direction, result: Result) -> bool:
    """Whether somebody called and nobody talked to them."""
    return direction is Direction.INCOMING and result is not Result.ANSWERED


def _people(call: Call, first: str | None, others: Sequence[str | None]) -> list[str]:
    """Whose call it is, the likeliest first: the next where HubSpot does not know one."""
    if call.direction is Direction.OUTGOING:
        others = (call.caller,)
    return list(dict.fromkeys(number for number in (first, *others) if number))


def _finish(
    settings: HubSpotSettings, tenant: Tenant, call: Call, people: Sequence[str], talk_s: float, result: Result, *, uncertain: bool
) -> Draft:  # fmt: skip
    missed = is_missed(call.direction, result)
    said = words(tenant.language)
    title = said["missed" if missed else "out" if call.direction is Direction.OUTGOING else "in"]
    ours = call.caller if call.direction is Direction.OUTGOING else call.called
    client = ClientFacts(id="", phones=(call.outside,))
    body = {
        "call": call.call_id,
        "phone": call.outside,
        "ours": ours if PHONE.fullmatch(ours) else "",
        "direction": str(call.direction),
        "result": str(result),
        "missed": missed,
        "started": utc_text(call.started_at),
        "talk_ms": max(0, round(talk_s * 1000)),
        "people": list(people),
        "title": title.format(phone=call.outside),
        "text": _text(tenant, call, people, missed=missed, uncertain=uncertain),
        "fields": mapped(settings.mapping, "call", call, tenant),
        "client_fields": mapped(settings.mapping, "contact", client, tenant),
    }
    return Draft(kind=FINISH, key=f"{call.call_id}:{FINISH}", body=body, keep_s=KEEP_S, bucket=SEARCH)


def _text(tenant: Tenant, call: Call, people: Sequence[str], *, missed: bool, uncertain: bool) -> str:
    """The notes of a call, as HubSpot takes them: HTML."""
    said, lines = words(tenant.language), []
    if missed:
        rang = ", ".join(_named(tenant, number) for number in call.rang)
        lines.append(said["rang"].format(who=rang) if rang else said["nobody"])
    elif people:
        lines.append(said["employee"].format(who=_named(tenant, people[0])))
        if call.direction is Direction.INCOMING and call.extension and call.extension != people[0]:
            lines.append(said["answered"].format(who=_named(tenant, call.extension)))
    if call.direction is Direction.INCOMING and PHONE.fullmatch(call.called):
        lines.append(said["line"].format(line=call.called))
    if uncertain:
        lines.append(said["uncertain"])
    return "<br>".join(escape(line) for line in lines)


def _named(tenant: Tenant, number: str) -> str:
    return f"{number} {tenant.owner_of(number)}".strip()


def _task(settings: HubSpotSettings, tenant: Tenant, call: Call, ended: datetime) -> Draft:
    said = words(tenant.language)
    names = ", ".join(_named(tenant, number) for number in call.rang)
    when = call.started_at.astimezone(tenant.timezone)
    body = {
        "call": call.call_id,
        "phone": call.outside,
        "people": list(call.rang),
        "title": said["task"].format(phone=call.outside, at=when.strftime("%d.%m.%Y %H:%M:%S")),
        "text": escape(said["rang"].format(who=names) if names else said["nobody"]),
        "due": utc_text(ended + timedelta(minutes=settings.task_minutes)),
    }
    return Draft(kind=TASK, key=f"{call.call_id}:{TASK}", body=body, keep_s=KEEP_S)
