"""The connection test: whether HubSpot takes us, which scopes are missing, and what is in force of what its documents leave open.
Changes nothing.
"""

from collections.abc import Mapping

from adapters.base import Finding, Tested
from adapters.folder import read_folder
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.refusals import REASONS
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.errors import GatewayError, NeedsAttention, problem_of
from gateway.domain.texts import LANGUAGES

READS = (
    ("owners", f"{requests.OWNERS}?limit=1"),
    ("contacts", f"{requests.path(requests.CONTACTS)}?limit=1"),
    ("calls", f"{requests.path(requests.CALLS)}?limit=1"),
)
"""What we read, by the finding: each needs scopes of its own."""
_SAID = {
    "ok": ("HubSpot accepts us.", "HubSpot нас принимает."),
    "rate_limited": ("HubSpot asks us to slow down. Try again.", "HubSpot просит подождать. Повторите попытку."),
    "unavailable": ("HubSpot does not answer ({}).", "HubSpot не отвечает ({})."),
    "rejected": ("HubSpot refused the request ({}).", "HubSpot отклонил запрос ({})."),
}


def said(code: str, *values: str) -> Mapping[str, str]:
    """By language."""
    return {language: one.format(*values) for language, one in zip(LANGUAGES, _SAID[code], strict=True)}


async def probe_account(account: Account, schema: SchemaReader, settings: HubSpotSettings) -> Tested:
    """What was found, in words."""
    findings: list[Finding] = []
    failure: GatewayError | None = None
    for code, path in READS:
        try:
            await account.call("GET", path)
        except codec.Missing as error:
            findings.append(Finding(False, code, error.person.removeprefix(REASONS["scope"]).lstrip(": ")))
            failure = failure or error
        except GatewayError as error:
            return _failed(error, findings)
        else:
            findings.append(Finding(True, code))
    if failure is not None:
        return _failed(failure, findings)
    try:
        found = await schema.current(make=False)
    except GatewayError as error:
        return _failed(error, findings)
    told = found.told if found.told == "unique" or settings.repeats == "search" else f"{found.told}_yet"
    findings += [
        Finding(True, f"told_{told}"),
        Finding(True, f"contacts_{'unique' if found.contact_field else 'found'}"),
        Finding(True, f"missed_{found.missed_status.lower()}"),
        Finding(True, f"recordings_{settings.recordings}"),
    ]
    if account.pace.most_daily is not None and account.pace.left_daily is not None:
        left, most = account.pace.left_daily, account.pace.most_daily
        findings.append(Finding(left * 20 > most, "daily", f"{left} / {most}"))
    return Tested(True, "ok", said("ok"), tuple(findings))


def _failed(error: GatewayError, findings: list[Finding]) -> Tested:
    code = problem_of(error)
    if isinstance(error, NeedsAttention):
        texts = read_folder(__package__).texts
        name = next((name for name, text in REASONS.items() if error.person.startswith(text)), "")
        more = error.person.removeprefix(REASONS.get(name, ""))
        spoken = {
            one: f"{texts[one].get(f'reason.{name}', error.detail[:300])}{more if name else ''}" for one in LANGUAGES
        }
        return Tested(False, code, spoken, tuple(findings))
    return Tested(False, code, said(code, (error.detail or error.person)[:300]), tuple(findings))
