"""The connection test: whether the login is taken, whether the chosen organization and terminal group are among its own. Changes nothing."""

from collections.abc import Mapping, Sequence

from adapters.base import Finding, Tested
from adapters.folder import read_folder
from adapters.till.places import Place, Places
from adapters.till.refusals import REASONS
from adapters.till.settings import TillSettings
from gateway.domain.errors import GatewayError, NeedsAttention, problem_of
from gateway.domain.texts import LANGUAGES

MOST_NAMED = 10
_SAID = {
    "ok": ("The restaurant cloud accepts us.", "Облако ресторана нас принимает."),
    "choose": (
        "The login is accepted. Now press Connect and choose the organization.",
        "Доступ принят. Теперь нажмите «Подключить» и выберите организацию.",
    ),
    "rate_limited": ("The restaurant cloud asks us to slow down. Try again.", "Облако ресторана просит подождать. Повторите попытку."),
    "unavailable": ("The restaurant cloud does not answer ({}).", "Облако ресторана не отвечает ({})."),
    "rejected": ("The restaurant cloud refused the request ({}).", "Облако ресторана отклонило запрос ({})."),
}  # fmt: skip


def said(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {language: one.format(*values) for language, one in zip(LANGUAGES, _SAID[code], strict=True)}


def _reason(name: str, settings: TillSettings) -> Mapping[str, str]:
    """A sentence for people, from the texts of the name whose settings these are."""
    texts = read_folder(type(settings).__module__.rpartition(".")[0]).texts
    return {language: str(texts[language].get(f"reason.{name}", REASONS[name])) for language in LANGUAGES}


def _named(found: Sequence[Place]) -> str:
    names = [f"{one.name} ({one.id})" for one in found[:MOST_NAMED]]
    return ", ".join([*names, *(["…"] if len(found) > MOST_NAMED else [])])


async def probe_cloud(places: Places, settings: TillSettings) -> Tested:
    """What was found, in words."""
    groups: list[Place] = []
    try:
        organizations = await places.organizations()
        ours = any(one.id == settings.organization_id for one in organizations)
        if ours:
            groups = await places.terminal_groups(settings.organization_id)
    except GatewayError as error:
        return _failed(error, settings)
    findings = [Finding(bool(organizations), "organizations", _named(organizations))]
    if not organizations:
        return Tested(False, "bad_settings", _reason("nowhere", settings), tuple(findings))
    if not settings.organization_id:
        return Tested(True, "ok", said("choose"), tuple(findings))
    if not ours:
        return Tested(False, "bad_settings", _reason("organization", settings), tuple(findings))
    known = not settings.terminal_group_id or any(one.id == settings.terminal_group_id for one in groups)
    findings.append(Finding(known, "terminal_groups", _named(groups)))
    if not known:
        return Tested(False, "bad_settings", _reason("terminal", settings), tuple(findings))
    return Tested(True, "ok", said("ok"), tuple(findings))


def _failed(error: GatewayError, settings: TillSettings) -> Tested:
    code = problem_of(error)
    name = next((name for name, text in REASONS.items() if text == error.person), "")
    if isinstance(error, NeedsAttention):
        detail = error.detail[:300]
        return Tested(False, code, _reason(name, settings) if name else dict.fromkeys(LANGUAGES, detail))
    return Tested(False, code, said(code, (error.detail or error.person)[:300]))
