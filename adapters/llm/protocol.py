"""What a language model is asked and what it answers, the same for both APIs; and why it gave no answer. Pure.

Read `client.py` for how it is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from gateway.domain.text import Bilingual


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model names a tool. `arguments` is what it wrote, JSON or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Text:
    """Somebody's words: the rules (`system`), what came from outside (`user`), or the model's own (`assistant`)."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """The model's turn in which it named tools, with what its server wants to have back of it (`carried`)."""

    calls: tuple[ToolCall, ...]
    text: str = ""
    carried: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave; each call of a turn has one, in the turn's order."""

    call_id: str
    text: str


Turn: TypeAlias = Text | Called | Result


@dataclass(frozen=True, slots=True)
class ToolShape:
    """A tool as the model is told of it."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request."""

    turns: Sequence[Turn]
    tools: Sequence[ToolShape] = ()
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the model answered. Counts are None where the server does not tell them."""

    text: str
    model: str
    calls: tuple[ToolCall, ...] = ()
    carried: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False
    """Whether the model stopped because its answer became too long."""
    ended: bool = True
    """Whether the server said that this is all of it."""
    refused: bool = False
    """Whether the text is the model's refusal to answer."""
    first_token_s: float | None = None
    took_s: float = 0.0


class Reader(Protocol):
    """Reads the events of one answer."""

    error: Any
    size: int
    """Characters of text and arguments so far."""
    begun: bool
    """Whether the model has begun to answer, or to think aloud."""
    closed: bool
    """Whether nothing more is to come."""

    def feed(self, event: Mapping[str, Any]) -> str:
        """Takes an event; returns the text that it adds."""
        ...

    def whole(self, body: Mapping[str, Any]) -> str:
        """Takes an answer that came at once."""
        ...

    def said(self, model: str) -> Said:
        """What there is."""
        ...


class ModelFailed(Exception):
    """The model gave no answer. `code` names why, `text` says it to a person; `retryable` where trying again may help."""

    def __init__(self, code: str, *, retry_after_s: float | None = None, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = FAILURES[code]
        self.retryable = code in ("rate_limited", "busy", "unavailable", "timeout", "cut_off")
        self.retry_after_s = retry_after_s
        self.detail = detail
        """What the server said, for logs: without the request's texts."""


FAILURES: Mapping[str, Bilingual] = {
    "not_configured": Bilingual(
        "no language model is set up: the operator of the gateway sets GATEWAY_LLM_URL and GATEWAY_LLM_API_KEY",
        "языковая модель не подключена: оператор шлюза задаёт GATEWAY_LLM_URL и GATEWAY_LLM_API_KEY",
    ),
    "bad_key": Bilingual(
        "the model's server refuses the key in GATEWAY_LLM_API_KEY; the operator of the gateway has to change it",
        "сервер модели не принимает ключ из GATEWAY_LLM_API_KEY; его должен заменить оператор шлюза",
    ),
    "no_model": Bilingual(
        "the server does not know this model or address; the operator of the gateway checks GATEWAY_LLM_MODEL and GATEWAY_LLM_URL",
        "сервер не знает такой модели или адреса; оператору шлюза нужно проверить GATEWAY_LLM_MODEL и GATEWAY_LLM_URL",
    ),
    "quota": Bilingual(
        "the account of the model is used up; the operator of the gateway has to pay for more",
        "средства на счёте модели кончились; пополнить его должен оператор шлюза",
    ),
    "rate_limited": Bilingual("the model gets too many requests; try again in a moment", "модель получает слишком много запросов; повторите чуть позже"),
    "busy": Bilingual("too many prompts are being tried at once; try again in a moment", "одновременно проверяют слишком много промтов; повторите чуть позже"),
    "too_long": Bilingual("prompt and message are too long for this model", "промт и сообщение слишком длинны для этой модели"),
    "refused": Bilingual("the model's server refused the request", "сервер модели отклонил запрос"),
    "unavailable": Bilingual("the model's server cannot be reached, or has a problem; try again later", "сервер модели недоступен или неисправен; повторите позже"),
    "timeout": Bilingual("the model did not answer in time; try again", "модель не ответила вовремя; повторите"),
    "cut_off": Bilingual("the answer broke off; try again", "ответ оборвался; повторите"),
    "empty": Bilingual("the model answered with nothing", "модель ничего не ответила"),
}  # fmt: skip
_USED_UP = frozenset(
    {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "spend_limit_reached"}
)
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})


def failure_of(status: int, error: Any) -> str:
    """The code of a refusal: by the server's own code, which may be a number or absent, then by its status (0: within a stream)."""
    fields = error if isinstance(error, Mapping) else {}
    code, kind = str(fields.get("code") or ""), str(fields.get("type") or "")
    if _USED_UP & {code, kind}:
        return "quota"
    if _TOO_LONG & {code, kind} or status == 413:
        return "too_long"
    if status in (401, 403) or code in ("401", "403", "invalid_api_key"):
        return "bad_key"
    if status == 404 or code == "model_not_found":
        return "no_model"
    if status == 429 or code in ("rate_limit_exceeded", "slow_down", "429"):
        return "rate_limited"
    return "refused" if 400 <= status < 500 and status not in (408, 409) else "unavailable"


def count(value: Any) -> int | None:
    """A number of tokens as a server wrote it, or None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def shown_error(error: Any) -> str:
    """The server's code and kind of an error: not its message, which may quote the request or the key."""
    fields = error if isinstance(error, Mapping) else {}
    return " ".join(str(fields[name])[:80] for name in ("type", "code", "param") if fields.get(name))
