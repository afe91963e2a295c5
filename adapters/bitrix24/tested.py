"""The connection test: whether the portal takes us, which rights are missing, whether calls may be registered. Changes nothing.

Docs and practice differ on whether a webhook may register calls, so it is asked of the portal itself: a call that is not there
is "not found" for who may finish calls, and refused for who may not.
"""

from collections.abc import Mapping

from adapters.base import Finding, Tested
from adapters.bitrix24 import codec, requests
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.refusals import REASONS
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.folder import read_folder
from gateway.domain.errors import GatewayError, NeedsAttention, Rejected, problem_of
from gateway.domain.texts import LANGUAGES

NOWHERE = "gateway-connection-test"
"""A CALL_ID that no call has."""
_SAID = {
    "ok": ("The portal accepts us.", "Портал нас принимает."),
    "rights": ("Rights are missing: {}. Add them in the portal.", "Не хватает прав: {}. Добавьте их в портале."),
    "calls": (
        "This portal lets only applications register calls. Connect a local application instead of the webhook.",
        "Этот портал даёт регистрировать звонки только приложениям. Подключите локальное приложение вместо вебхука.",
    ),
    "rate_limited": ("Bitrix24 asks us to slow down. Try again.", "Битрикс24 просит подождать. Повторите попытку."),
    "unavailable": ("Bitrix24 does not answer ({}).", "Битрикс24 не отвечает ({})."),
    "rejected": ("Bitrix24 refused the request ({}).", "Битрикс24 отклонил запрос ({})."),
}  # fmt: skip


def said(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {language: one.format(*values) for language, one in zip(LANGUAGES, _SAID[code], strict=True)}


def missing_rights(granted: list[str], settings: Bitrix24Settings) -> list[str]:
    """Which rights the settings need and the portal does not give."""
    given = {one.lower() for one in granted}
    needed = ["crm", "telephony", "user", *(("task",) if settings.missed_task else ())]
    also = {"user": {"user_basic", "user_brief"}, "task": {"tasks"}}
    return [right for right in needed if right not in given and not also.get(right, set()) & given]


async def probe_portal(portal: Portal, settings: Bitrix24Settings) -> Tested:
    """What was found, in words."""
    try:
        granted = [codec.text(one) for one in codec.items(await portal.call("scope"))]
        missing = missing_rights(granted, settings)
    except Rejected:
        missing = []  # a portal without this method says the same by refusing
    except GatewayError as error:
        return _failed(error)
    serious = [right for right in missing if right != "task"]
    findings = (Finding(not missing, "rights", ", ".join(missing)),)
    if serious:
        return Tested(False, "bad_settings", said("rights", ", ".join(serious)), findings)
    refused: GatewayError | None = None
    try:
        user = settings.default_user or await portal.user() or "1"
        await portal.call(requests.FINISH, {"CALL_ID": NOWHERE, "USER_ID": int(user), "DURATION": 0})
    except Rejected:
        pass
    except GatewayError as error:
        refused = error
    if refused is not None and "wrong_auth_type" in refused.detail.lower():
        return Tested(False, "bad_settings", said("calls"), (*findings, Finding(False, "calls")))
    if refused is not None:
        return _failed(refused)
    return Tested(True, "ok", said("ok"), (*findings, Finding(True, "calls")))


def _failed(error: GatewayError) -> Tested:
    code = problem_of(error)
    if isinstance(error, NeedsAttention):
        name = next((name for name, text in REASONS.items() if text == error.person), "")
        texts = read_folder(__package__).texts
        detail = error.detail[:300]
        return Tested(False, code, {one: str(texts[one].get(f"reason.{name}", detail)) for one in LANGUAGES})
    return Tested(False, code, said(code, (error.detail or error.person)[:300]))
