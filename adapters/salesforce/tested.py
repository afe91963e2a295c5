"""The connection test: whether we are let in, how much of the day's requests is left, whether tasks can be made as the settings
want them. Changes nothing.
"""

from collections.abc import Mapping
from typing import Any

from adapters.base import Finding, Tested
from adapters.folder import read_folder
from adapters.salesforce import codec, requests
from adapters.salesforce.org import Org
from adapters.salesforce.refusals import REASONS, right_text
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.errors import GatewayError, NeedsAttention, problem_of
from gateway.domain.texts import LANGUAGES

OURS = frozenset({"Status", "Priority", "OwnerId", "Subject"})
"""Required fields of a task that we fill in, or that fill in themselves."""
_SAID = {
    "ok": ("Salesforce accepts us.", "Salesforce нас принимает."),
    "required": (
        "Tasks have required fields of your own: {}. Give them a default value in Salesforce, or map them.",
        "У задач есть ваши обязательные поля: {}. Задайте им значение по умолчанию в Salesforce или настройте соответствие полей.",
    ),
    "status": ("Tasks have no status {}. Correct it in the settings.", "У задач нет статуса {}. Исправьте его в настройках."),
    "quota": (
        "Little is left of the day's requests: {}. Buy more, or take other applications off.",
        "Запросы на сутки почти исчерпаны: {}. Докупите их или отключите другие приложения.",
    ),
    "rate_limited": (
        "The day's requests are used up ({}). They come back little by little.",
        "Запросы на сутки исчерпаны ({}). Они постепенно возвращаются.",
    ),
    "unavailable": ("Salesforce does not answer ({}).", "Salesforce не отвечает ({})."),
    "rejected": ("Salesforce refused the request ({}).", "Salesforce отклонил запрос ({})."),
}  # fmt: skip


def said(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {language: one.format(*values) for language, one in zip(LANGUAGES, _SAID[code], strict=True)}


def quota_of(limits: Any) -> codec.Usage | None:
    """The day's requests in the answer of `/limits`."""
    day = codec.mapping(codec.mapping(limits).get("DailyApiRequests"))
    most, left = day.get("Max"), day.get("Remaining")
    return codec.Usage(most - left, most) if isinstance(most, int) and isinstance(left, int) else None


async def probe(org: Org, settings: SalesforceSettings) -> Tested:
    """What was found, in words."""
    findings: list[Finding] = []
    try:
        usage = quota_of(await org.call("GET", requests.LIMITS, thing="limits"))
        if usage is not None:
            findings.append(Finding(not usage.is_low, "quota", str(usage)))
        described = await _described(org, "Task")
        if settings.create != "none":
            await _described(org, "Lead" if settings.create == "lead" else "Contact")
    except GatewayError as error:
        return _failed(error, findings)
    fields = {
        codec.text(codec.mapping(one).get("name")): codec.mapping(one) for one in codec.items(described.get("fields"))
    }
    if settings.call_field:
        findings.append(_call_field(fields, settings.call_field))
    if settings.recording_field:
        findings.append(Finding(settings.recording_field in fields, "recording_field", settings.recording_field))
    missing = required(fields)
    if missing:
        findings.append(Finding(False, "required", ", ".join(missing)))
    found = tuple(findings)
    for status in (settings.closed_status, settings.open_status):
        known = [
            codec.text(codec.mapping(one).get("value"))
            for one in codec.items(fields.get("Status", {}).get("picklistValues"))
        ]
        if status and known and status not in known:
            return Tested(
                False, "bad_settings", said("status", status), (*found, Finding(False, "status", ", ".join(known)))
            )
    if missing:
        return Tested(False, "bad_settings", said("required", ", ".join(missing)), found)
    if usage is not None and usage.is_low:
        return Tested(True, "ok", said("quota", str(usage)), found)
    return Tested(True, "ok", said("ok"), found)


async def _described(org: Org, kind: str) -> Mapping[str, Any]:
    """What an object is like. Raises Missing where we may not make one: one that we may not see is not there for us."""
    try:
        found = codec.mapping(await org.call("GET", f"/sobjects/{kind}/describe", thing=kind))
    except codec.NotThere:
        found = {"createable": False}
    if found.get("createable") is False:
        raise codec.Missing(f"{kind}: not createable", person=right_text(kind))
    return found


def required(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields without which no task is made, and which we know nothing of."""
    return [
        name for name, one in fields.items()
        if name not in OURS and one.get("createable") is True and one.get("nillable") is False
        and one.get("defaultedOnCreate") is not True and one.get("type") != "boolean"
    ]  # fmt: skip


def _call_field(fields: Mapping[str, Mapping[str, Any]], name: str) -> Finding:
    one = fields.get(name)
    if one is None:
        return Finding(False, "call_field", name)
    return Finding(one.get("externalId") is True and one.get("unique") is True, "call_field", name)


def _failed(error: GatewayError, findings: list[Finding]) -> Tested:
    code = problem_of(error)
    if isinstance(error, NeedsAttention):
        name = next((name for name, text in REASONS.items() if text == error.person), "")
        texts = read_folder(__package__).texts
        detail = error.detail[:300]
        return Tested(
            False, code, {one: str(texts[one].get(f"reason.{name}", detail)) for one in LANGUAGES}, tuple(findings)
        )
    return Tested(False, code, said(code, (error.detail or error.person)[:300]), tuple(findings))
