"""The connection test: whether the account takes us, whether its users may be read, whether incoming leads are switched on, and
when a long-lived token ends. Changes nothing.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.refusals import REASONS
from adapters.amocrm.settings import AmoSettings
from adapters.base import Finding, Tested
from adapters.folder import read_folder
from gateway.domain.errors import GatewayError, NeedsAttention, problem_of
from gateway.domain.secret import Secret
from gateway.domain.texts import LANGUAGES

_SAID = {
    "ok": ("The account {} accepts us.", "Аккаунт {} нас принимает."),
    "rate_limited": ("amoCRM asks us to slow down. Try again.", "amoCRM просит подождать. Повторите попытку."),
    "unavailable": ("amoCRM does not answer ({}).", "amoCRM не отвечает ({})."),
    "rejected": ("amoCRM refused the request ({}).", "amoCRM отклонила запрос ({})."),
}  # fmt: skip


def said(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {language: one.format(*values) for language, one in zip(LANGUAGES, _SAID[code], strict=True)}


async def probe_account(account: Account, settings: AmoSettings) -> Tested:
    """What was found, in words."""
    try:
        about = await account.call("GET", requests.ACCOUNT)
        name = codec.text(about.get("name")) or codec.text(about.get("subdomain"))
        findings = [Finding(True, "account", name)]
        if (end := ends_at(settings.access_token)) is not None:
            findings.append(Finding(True, "token", end.date().isoformat()))
        findings.append(await _users(account))
        if settings.create == "unsorted" and not await _unsorted_on(account, settings):
            return Tested(False, "bad_settings", _reason("unsorted_off"), (*findings, Finding(False, "unsorted")))
    except GatewayError as error:
        return _failed(error)
    return Tested(True, "ok", said("ok", name), tuple(findings))


async def _users(account: Account) -> Finding:
    """Whether the users may be read: without it calls go on, by the internal numbers that are entered here."""
    try:
        await account.call("GET", requests.path(requests.USERS, limit=1))
    except codec.Missing:
        return Finding(False, "users")
    return Finding(True, "users")


async def _unsorted_on(account: Account, settings: AmoSettings) -> bool:
    pipelines = codec.embedded(await account.call("GET", requests.PIPELINES), "pipelines")
    for one in pipelines:
        chosen = (
            codec.identifier(one.get("id")) == settings.pipeline_id
            if settings.pipeline_id
            else one.get("is_main") is True
        )
        if chosen:
            return one.get("is_unsorted_on") is not False
    return not settings.pipeline_id


def ends_at(token: Secret | None) -> datetime | None:
    """When a long-lived token ends: it says so itself. None for one that does not."""
    parts = token.reveal().split(".") if token is not None else []
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (ValueError, LookupError, TypeError, OverflowError, OSError, RecursionError):
        return None


def _reason(name: str, detail: str = "") -> Mapping[str, str]:
    texts = read_folder(__package__).texts
    return {one: str(texts[one].get(f"reason.{name}", detail)) for one in LANGUAGES}


def _failed(error: GatewayError) -> Tested:
    code = problem_of(error)
    if isinstance(error, NeedsAttention):
        name = next((name for name, text in REASONS.items() if text == error.person), "")
        return Tested(False, code, _reason(name, error.detail[:300]))
    return Tested(False, code, said(code, (error.detail or error.person)[:300]))
