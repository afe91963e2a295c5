"""The settings of a company's AI operator: read from a form, stored as the tenant file has them, keys sealed; and a test of
the model. Read `gateway/domain/ai.py` for what each means."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from adapters.llm.client import ModelSettings
from adapters.llm.protocol import ModelFailed
from gateway.domain.ai import API_KEY, CALLS_API_KEY, CAUSES, AiBlock, ModelBlock
from gateway.domain.ai import TEXTS as STANDARD
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK, Secret
from gateway.domain.text import Bilingual
from gateway.store.audit import difference, insert_audit
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import Sealer
from gateway.store.tenants import lock_options, select_secrets, set_options, set_secrets
from gateway.web.content.problems import problems_of
from gateway.web.content.sandbox import Reply, Sandbox, ask

NAME = "ai"
LANGUAGES = ("ru", "en")
NUMBERS = (
    "quiet_s", "history_tokens", "max_reply_tokens", "per_conversation_day", "per_day_tokens", "handoff.after_failures",
    "handoff.timeout_s", "price.prompt", "price.completion", "calls.min_talk_s", "calls.per_day_audio_s",
)  # fmt: skip
PLAIN = (
    "hours", "call_back", "llm.url", "llm.model", "llm.api", "price.currency", "calls.url", "calls.model", "calls.language",
    "calls.instruction", "calls.first_channel",
)  # fmt: skip
CHECKS = ("enabled", "calls.transcribe", "calls.summarise", "calls.to_crm")
CONSENT = tuple(f"calls.consent.{language}" for language in LANGUAGES)
TEXTS = tuple(f"handoff.texts.{cause}.{language}" for cause in CAUSES for language in LANGUAGES)
KEYS = (API_KEY, CALLS_API_KEY)
"""Fields with secrets; they are stored under the same names."""
FIELDS = (*CHECKS, *PLAIN, *NUMBERS, *TEXTS, *CONSENT, *KEYS, "channels", "allow_links", "handoff.notify")
"""The fields of the form, by the path of the setting."""
TEST_SYSTEM, TEST_MESSAGE = "You are tried for whether you can be reached. Answer with the single word OK.", "OK?"
_NOWHERE = Bilingual(
    "choose at least one channel, or all of them; to stop the AI, switch it off above",
    "выберите хотя бы один канал или все; чтобы ИИ не отвечал, выключите его выше",
)


def form_of(block: AiBlock) -> dict[str, Any]:
    """The fields for settings: texts, and lists of what is chosen. `channels` is None for all."""
    values: dict[str, Any] = {name: _text(_at(block, name)) for name in (*PLAIN, *NUMBERS)}
    for cause in CAUSES:
        values |= {f"handoff.texts.{cause}.{language}": block.handoff.text(cause, language) for language in LANGUAGES}
    for name in CONSENT:
        values[name] = getattr(block.calls.consent, name.rpartition(".")[2]) if block.calls.consent is not None else ""
    return {
        **values, **{name: _at(block, name) for name in CHECKS}, **{name: "" if _at(block, name) is None else MASK for name in KEYS},
        "allow_links": "\n".join(block.allow_links), "handoff.notify": list(block.handoff.notify),
        "channels": list(block.channels) if block.channels is not None else None,
    }  # fmt: skip


def _at(block: Any, path: str) -> Any:
    for name in path.split("."):
        block = getattr(block, name)
    return block


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def sent_form(form: Mapping[str, str], many: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """What was sent, in the shape of `form_of`. `many`: all values of a name."""
    values: dict[str, Any] = {name: form.get(name, "")[:3000] for name in (*PLAIN, *NUMBERS, *TEXTS, *CONSENT, *KEYS)}
    return {
        **values, **{name: form.get(name) == "1" for name in CHECKS}, "allow_links": form.get("allow_links", "")[:20_000],
        "channels": None if form.get("all_channels") == "1" else [one[:100] for one in many("channels")][:60],
        "handoff.notify": [one[:100] for one in many("handoff.notify")][:30],
    }  # fmt: skip


def block_of(values: Mapping[str, Any], stored: AiBlock | None) -> AiBlock:
    """The settings of a form. Fields that are empty have their default; a key that is masked is the stored one. Raises Invalid."""
    data: dict[str, Any] = {}
    for name in CHECKS:
        _put(data, name, values[name])
    for name in (*PLAIN, *NUMBERS):
        if text := values[name].strip():
            _put(data, name, text.replace(",", ".").replace("\u00a0", "").replace(" ", "") if name in NUMBERS else text)
    for cause in CAUSES:
        standard = STANDARD[cause].texts
        own = {one: values[f"handoff.texts.{cause}.{one}"].strip() or standard[one] for one in LANGUAGES}
        if own != {one: standard[one] for one in LANGUAGES}:
            _put(data, f"handoff.texts.{cause}", own)
    consent = {name.rpartition(".")[2]: values[name].strip() for name in CONSENT}
    if said := next(filter(None, consent.values()), ""):  # one text is for both languages
        _put(data, "calls.consent", {language: text or said for language, text in consent.items()})
    for name in KEYS:
        if key := values[name].strip():
            _put(data, name, Secret(key) if key != MASK else _at(stored, name) if stored is not None else None)
    data["channels"] = values["channels"]
    data["allow_links"] = [line.strip() for line in values["allow_links"].splitlines() if line.strip()]
    _put(data, "handoff.notify", values["handoff.notify"])
    if values["channels"] == []:
        raise Invalid((("channels", _NOWHERE),))
    try:
        return AiBlock.model_validate(data)
    except ValidationError as error:
        raise Invalid(tuple(problems_of(error))) from None


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *before, last = path.split(".")
    for name in before:
        data = data.setdefault(name, {})
    data[last] = value


async def put_ai(db: Database, sealer: Sealer, number: TenantId, block: AiBlock, person: str) -> None:
    """Stores the settings, audited; nothing where they are as they were."""
    await db.engine(_put_ai, sealer, number, block, person)


async def _put_ai(conn: Connection, sealer: Sealer, number: TenantId, block: AiBlock, person: str) -> None:
    async with conn.transaction():
        options, sealed = await lock_options(conn, number), await select_secrets(conn, number)
        before, after = options.get(NAME) or {}, block.plain()
        keys = {name: key for name in KEYS if (key := _at(block, name)) is not None}
        old = {
            name: sealer.open(sealed[name], table="tenants", column=name, row=number) for name in KEYS if name in sealed
        }
        if (before, old) == (after, keys):
            return
        rest = {name: value for name, value in options.items() if name != NAME}
        await set_options(conn, number, rest | ({NAME: after} if after else {}))
        if old != keys:
            others = {name: text for name, text in sealed.items() if name not in KEYS}
            own = {name: sealer.seal(key, table="tenants", column=name, row=number) for name, key in keys.items()}
            await set_secrets(conn, number, others | own)
        was, now = difference({**before, **old}, {**after, **keys})
        await insert_audit(conn, number, person, "ai.changed", "", old=was, new=now)


async def try_model(
    sandbox: Sandbox, models: Callable[[ModelBlock], ModelSettings], tenant: Tenant, block: AiBlock
) -> Reply:
    """Puts one short question to the model that answers the company's clients. Raises ModelFailed."""
    settings = models(block.llm)
    if not settings.url:
        raise ModelFailed("not_configured")
    with sandbox.place_for(tenant.number):
        return await ask(settings, TEST_SYSTEM, TEST_MESSAGE)
