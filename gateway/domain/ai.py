"""The AI operator of a company: its settings as the tenant file has them, why it hands over, and the words for clients. Pure.

Read `actors/ai/tenant_ai.py` for who answers, `gateway/domain/prompts.py` for what it is told.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from gateway.domain.ids import IntegrationKey, integration_key, kind_of
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual, has_breaking, refused

LONGEST_QUIET_S = 15.0
"""However long a client goes on writing, an answer begins so many seconds after the first message that has none."""
API_KEY = "llm.api_key"
"""The name of the tenant's secret among its secrets."""
CALLS_API_KEY = "calls.api_key"
"""The same of the server that transcribes calls."""
AUTO = "auto"
"""The language of calls where the server is to find it out."""

Cause = Literal["asked", "model", "failed", "limit", "prompt", "timeout"]
"""Why a person is needed: the client asked for one, the model judged so, it failed, a budget is used up, there is no prompt that can
be used; `timeout`: nobody took the conversation in time."""
CAUSES: tuple[Cause, ...] = get_args(Cause)

TEXTS: Mapping[Cause, Bilingual] = {
    "asked": Bilingual(
        "I am passing this conversation to a colleague. They will answer you here.",
        "Передаю разговор сотруднику, он ответит вам здесь.",
    ),
    "model": Bilingual(
        "A colleague will help you with this. They will answer you here.",
        "С этим поможет сотрудник, он ответит вам здесь.",
    ),
    "failed": Bilingual(
        "I cannot answer right now, so I am passing this conversation to a colleague. They will answer you here.",
        "Сейчас я не могу ответить и передаю разговор сотруднику, он ответит вам здесь.",
    ),
    "limit": Bilingual(
        "I am passing this conversation to a colleague. They will answer you here.",
        "Передаю разговор сотруднику, он ответит вам здесь.",
    ),
    "prompt": Bilingual(
        "I am passing this conversation to a colleague. They will answer you here.",
        "Передаю разговор сотруднику, он ответит вам здесь.",
    ),
    "timeout": Bilingual(
        "All colleagues are busy at the moment. Your message is with us, and we will answer you here as soon as we can.",
        "Сейчас все сотрудники заняты. Ваше обращение у нас, мы ответим здесь, как только сможем.",
    ),
}
"""What a client is told, where the company has no words of its own."""

_HOST = re.compile(r"(?!-)[\w-]{1,63}(\.[\w-]{1,63})+", re.UNICODE)


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        known = known and not parts.username and not parts.password and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise refused(
            "must be an http:// or https:// address", "должен быть адрес, начинающийся с http:// или https://"
        )
    return text.rstrip("/")


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise refused("must be the name of a site such as june.example", "должно быть имя сайта, например june.example")
    return text.casefold()


def _key(text: str) -> str:
    try:
        return integration_key(text)
    except ValueError as error:
        raise refused(str(error), "должно быть имя интеграции: KIND или KIND:NAME") from None


def _speech_language(text: str) -> str:
    if text != AUTO and not re.fullmatch("[a-z]{2}", text):
        raise refused(
            "must be the two letters of a language, such as ru, or auto",
            "должно быть две буквы языка, например ru, или auto",
        )
    return text


def _one_text(value: Any) -> Any:
    """A text for every language stands for both."""
    return {"ru": value, "en": value} if isinstance(value, str) else value


def _line(text: str) -> str:
    if has_breaking(text):
        raise refused("must be one line", "должно быть в одну строку")
    return text


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ModelBlock(_Block):
    """The company's own language model; what is left out is the installation's."""

    url: Annotated[str, StringConstraints(max_length=300), AfterValidator(_web_address)] | None = None
    api_key: Secret | None = None
    model: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_line)]
        | None
    ) = None
    api: Literal["chat", "responses"] = "chat"


class OwnText(_Block):
    """Words of the company's own, by language."""

    ru: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
    en: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class HandoffBlock(_Block):
    """How a conversation goes to a person."""

    notify: Annotated[tuple[Annotated[str, AfterValidator(_key)], ...], Field(max_length=20)] = ()
    """Messengers whose chats of `notify` are told."""
    after_failures: Annotated[int, Field(ge=1, le=10)] = 1
    timeout_s: Annotated[float, Field(ge=10, le=86_400)] = 300.0
    texts: dict[Cause, Annotated[OwnText, BeforeValidator(_one_text)]] = Field(default_factory=dict)

    def text(self, cause: Cause, language: str) -> str:
        """What the client is told."""
        own = self.texts.get(cause)
        return str(getattr(own, language)) if own is not None else TEXTS[cause].texts[language]


class CallsBlock(_Block):
    """What becomes of recordings of answered calls: their text and its summary. Off where nothing is said."""

    transcribe: bool = False
    summarise: bool = False
    url: Annotated[str, StringConstraints(max_length=300), AfterValidator(_web_address)] | None = None
    """The server with `/audio/transcriptions`; None: the installation's language model's."""
    api_key: Secret | None = None
    model: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_line)
    ] = "whisper-1"
    language: Annotated[str, AfterValidator(_speech_language)] | None = None
    """Of the calls, two letters or `auto`; None: the company's."""
    instruction: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""
    """What a summary is to say; empty: what was wanted, what was agreed, what next."""
    consent: Annotated[OwnText, BeforeValidator(_one_text)] | None = None
    """How people learn that their calls are written down: shown beside the text."""
    to_crm: bool = True
    min_talk_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """Shorter calls are left out."""
    per_day_audio_s: Annotated[int, Field(ge=60, le=10_000_000)] = 36_000
    """Seconds of sound that are sent in a day; both sides of a stereo file count."""
    first_channel: Literal["client", "employee"] | None = None
    """Who is on the left of a stereo recording."""

    @model_validator(mode="after")
    def _has_text(self) -> "CallsBlock":
        if self.summarise and not self.transcribe:
            raise refused(
                "summarise needs transcribe: true, for a summary is made of the text",
                "для summarise нужно transcribe: true: резюме составляется по тексту",
            )
        return self


class AiBlock(_Block):
    """The block `ai` of a company (contract 25)."""

    enabled: bool = False
    llm: ModelBlock = ModelBlock()
    quiet_s: Annotated[float, Field(ge=0, le=LONGEST_QUIET_S)] = 3.0
    """Seconds without a message of the client after which an answer begins."""
    hours: Literal["always", "working", "off_hours"] = "always"
    channels: Annotated[tuple[Annotated[str, AfterValidator(_key)], ...], Field(max_length=50)] | None = None
    """Integrations in which it answers; None: all."""
    history_tokens: Annotated[int, Field(ge=500, le=200_000)] = 6000
    max_reply_tokens: Annotated[int, Field(ge=50, le=16_000)] = 600
    per_conversation_day: Annotated[int, Field(ge=1, le=10_000)] = 60
    """Answers."""
    per_day_tokens: Annotated[int, Field(ge=1000, le=10_000_000_000)] = 2_000_000
    allow_links: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(max_length=100)] = ()
    handoff: HandoffBlock = HandoffBlock()
    calls: CallsBlock = CallsBlock()

    def answers_in(self, key: IntegrationKey) -> bool:
        """Whether it answers in an integration: that one is named, or its kind is."""
        return self.enabled and (self.channels is None or key in self.channels or kind_of(key) in self.channels)

    def works_at(self, opened: bool | None) -> bool:
        """Whether a conversation that begins now is its own; `opened`: whether the company works, None where that is not known."""
        return self.hours == "always" or opened is None or opened == (self.hours == "working")

    def plain(self) -> dict[str, Any]:
        """As the options have it: without the secret, which is sealed elsewhere, and without what is the default."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"llm": {"api_key"}, "calls": {"api_key"}})


def client_language(language: str, default: str) -> Literal["ru", "en"]:
    """The language for a client whose messenger names one (`ru`, `en-US`), else the company's."""
    named = language[:2].lower() if language else default
    if named in ("ru", "be", "uk", "kk", "ky", "uz", "tg", "hy", "az"):
        return "ru"
    return "ru" if not named and default == "ru" else "en"


def secrets_of(secrets: Mapping[str, Secret]) -> dict[str, Secret]:
    """The keys among a tenant's secrets, by the block that each belongs to."""
    places = {API_KEY: "llm", CALLS_API_KEY: "calls"}
    return {places[name]: key for name, key in secrets.items() if name in places}


def settings_of(options: Mapping[str, Any], secrets: Mapping[str, Secret]) -> AiBlock:
    """The settings as they are stored. Raises ValidationError."""
    given = dict(options.get("ai") or {})
    for name, key in secrets_of(secrets).items():
        given[name] = {**(given.get(name) or {}), "api_key": key}
    return AiBlock.model_validate(given)


def tokens_of(text: str) -> int:
    """About how many tokens a text is: three letters each outside of ASCII, four within; no model's vocabulary is at hand."""
    wide = len(text) - len(text.encode("ascii", "ignore"))
    return wide // 3 + (len(text) - wide) // 4 + 1
