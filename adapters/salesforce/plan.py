"""What Salesforce receives of a call. Pure: the same drafts for the same event.

    ended, merged   call     a task that is done: kind, result, talk seconds, the client's record, the employee who talked last
    ended           record   the link to the recording, once its file is there
                    task     to call back, for an incoming call that nobody answered

The card of a call that rings is the softphone frame's (`frame.py`): a backend cannot open one. Internal calls and hidden numbers
are told too, without a client. Read `client.py` next for how each is delivered.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.base import Draft
from adapters.mapping import mapped
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import CallEnded, CallEvent, CallMerged, Direction, Result
from gateway.domain.numbers import hidden

CALL, RECORD, TASK = "call", "record", "task"
KEEP_S = 48 * 3600.0
_PHONE = re.compile(r"\+?[0-9]{3,25}")
_TYPES = {Direction.INCOMING: "Inbound", Direction.OUTGOING: "Outbound", Direction.INTERNAL: "Internal"}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "incoming": "Inbound call {number}", "outgoing": "Outbound call {number}", "internal": "Internal call {caller} - {number}",
        "hidden": "hidden number",
        "answered": "Answered", "missed": "Missed", "busy": "Busy", "failed": "Failed", "no_answer": "No answer", "cancelled": "Cancelled",
        "uncertain": "The connection to the phone system was lost: the end of the call was not seen",
        "unsure": "{result} (uncertain)",
        "joined": "Joined to another call by a transfer.",
        "rang": "It rang at: {people}.", "nobody": "It rang at nobody's phone.", "queue": "Queue: {queue}.",
        "talked": "Talked last: {people}.", "dialled": "Dialled: {number}.",
        "record": "Recording", "task": "Call back {number}, missed at {at}",
    },
    "ru": {
        "incoming": "Входящий звонок {number}", "outgoing": "Исходящий звонок {number}", "internal": "Внутренний звонок {caller} - {number}",
        "hidden": "номер скрыт",
        "answered": "Отвечен", "missed": "Пропущен", "busy": "Занято", "failed": "Не состоялся", "no_answer": "Нет ответа",
        "cancelled": "Отменён",
        "uncertain": "Связь с АТС прерывалась: конец звонка не был виден",
        "unsure": "{result} (неточно)",
        "joined": "Присоединён к другому звонку переводом.",
        "rang": "Звонило у: {people}.", "nobody": "Ни у кого не звонило.", "queue": "Очередь: {queue}.",
        "talked": "Говорил последним: {people}.", "dialled": "Набран номер: {number}.",
        "record": "Запись разговора", "task": "Перезвонить {number}, пропущен в {at}",
    },
}  # fmt: skip


def words(language: str) -> Mapping[str, str]:
    """What people read in Salesforce, in the company's language."""
    return _WORDS.get(language, _WORDS["en"])


def plan(
    settings: SalesforceSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:  # fmt: skip
    """The drafts of this event."""
    if not settings.send_events.upload or (call.direction is Direction.INTERNAL and not settings.send_events.internal):
        return ()
    match event:
        case CallEnded():
            return list(_ended(settings, tenant, call, event))
        case CallMerged() if before is not None and call.direction is not Direction.INTERNAL:
            # A consultation call with somebody outside: it has no end of its own.
            talked = (event.at - before.answered_at).total_seconds() if before.answered_at is not None else 0.0
            result = Result.ANSWERED if talked else Result.CANCELLED
            said = words(tenant.language)
            people = _people(call, before.last_extension or before.employee, call.rang)
            return [_call(settings, tenant, call, people, talked, said[result.value], [said["joined"]])]
        case _:
            return ()


def _ended(settings: SalesforceSettings, tenant: Tenant, call: Call, event: CallEnded) -> Iterator[Draft]:
    said = words(tenant.language)
    others = (event.extension,) if event.result is Result.ANSWERED else event.rang  # who only rang has not talked
    people = _people(call, event.last_extension, others)
    result = said[event.result.value]
    yield _call(
        settings, tenant, call, people, event.talk_s or 0.0, said["unsure"].format(result=result) if event.uncertain else result,
        list(_lines(tenant, call, event)),
    )  # fmt: skip
    if settings.attach_recordings and event.recording and re.match("https?://", event.recording):
        yield Draft(
            kind=RECORD, key=f"{call.call_id}:{RECORD}", lane=f"{call.call_id}:{RECORD}", keep_s=KEEP_S,
            body={"link": event.recording, "id": _id(tenant, call), "label": said["record"]},
        )  # fmt: skip
    missed = call.direction is Direction.INCOMING and event.result is not Result.ANSWERED and not event.uncertain
    if settings.missed_task and missed and not hidden(call.caller):
        yield _task(tenant, call, event)


def _lines(tenant: Tenant, call: Call, event: CallEnded) -> Iterator[str]:
    said = words(tenant.language)
    if event.uncertain:
        yield f"{said['uncertain']}."
    if call.direction is Direction.INCOMING:
        if event.result is not Result.ANSWERED:
            yield said["rang"].format(people=_named(tenant, event.rang)) if event.rang else said["nobody"]
        if event.called and not any(phone.number == event.called for phone in tenant.phones):
            yield said["dialled"].format(number=event.called)
    if event.result is Result.ANSWERED and event.last_extension:
        yield said["talked"].format(people=_named(tenant, (event.last_extension,)))
    if event.queue:
        yield said["queue"].format(queue=event.queue)


def _named(tenant: Tenant, numbers: Sequence[str]) -> str:
    return ", ".join(f"{number} {tenant.owner_of(number)}".strip() for number in numbers)


def _id(tenant: Tenant, call: Call) -> str:
    """What a call is called there: unique in an organisation that several companies or PBXes share."""
    return f"{tenant.number}-{call.call_id}"


def _call(
    settings: SalesforceSettings, tenant: Tenant, call: Call, people: Sequence[str], talk_s: float, result: str, lines: Sequence[str]
) -> Draft:  # fmt: skip
    said, direction = words(tenant.language), call.direction
    number = said["hidden"] if hidden(call.outside) else call.outside
    known = direction is not Direction.INTERNAL and _PHONE.fullmatch(call.outside)
    body: dict[str, Any] = {
        "call": call.call_id,
        "id": _id(tenant, call),
        "subject": said[direction.value].format(number=number, caller=call.caller),
        "type": _TYPES[direction],
        "day": call.started_at.astimezone(tenant.timezone).date().isoformat(),
        "duration": max(0, round(talk_s)),
        "result": result,
        "text": "\n".join(lines),
        "phone": call.outside if known else "",
        "people": list(people),
        "fields": mapped(settings.mapping, "call", call, tenant),
    }
    return Draft(kind=CALL, key=f"{call.call_id}:{CALL}", body=body, keep_s=KEEP_S)


def _people(call: Call, first: str | None, others: Sequence[str | None]) -> list[str]:
    """Whose call it is, the likeliest first: the next where Salesforce does not know one."""
    if call.direction is not Direction.INCOMING:
        others = (call.caller,)
        first = first if call.direction is Direction.OUTGOING else call.caller
    return list(dict.fromkeys(number for number in (first, *others) if number))


def _task(tenant: Tenant, call: Call, event: CallEnded) -> Draft:
    said = words(tenant.language)
    when = call.started_at.astimezone(tenant.timezone)
    number = call.caller
    body = {
        "id": f"{_id(tenant, call)}-{TASK}",
        "subject": said["task"].format(number=number, at=when.strftime("%d.%m.%Y %H:%M:%S")),
        "text": said["rang"].format(people=_named(tenant, event.rang)) if event.rang else said["nobody"],
        "day": event.at.astimezone(tenant.timezone).date().isoformat(),
        "people": list(event.rang),
    }
    return Draft(kind=TASK, key=f"{call.call_id}:{TASK}", body=body, keep_s=KEEP_S)
