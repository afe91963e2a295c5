"""A prompt tried on the installation's language model, any with OpenAI's chat completions; the answer comes piece by piece.

    prompt, filled in + message -> POST {url}/chat/completions, stream -> pieces of text -> the whole, and what it took

Servers differ: some answer at once although a stream was requested, leave out the counts of tokens or the last line, report an
error within a stream of status 200, or write a number where OpenAI has a code. All of that is read. Nothing is stored.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from adapters.http import Http, Timeouts
from adapters.http.wire import SILENT
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadSettings, GatewayError, LocalProtocolError
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.prompt_values import at_reading, values_of
from gateway.domain.prompts import check_content, fill
from gateway.domain.secret import Secret
from gateway.domain.text import Bilingual
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import select_items
from gateway.store.postgres.pool import Database
from gateway.web.content.prompts import read_variables

TIMEOUTS = Timeouts(connect_s=5.0, read_s=30.0, whole_s=90.0)
"""To connect, until the next piece, and for the whole answer."""
LONGEST_MESSAGE = 8000
LONGEST_REPLY = 1 << 20
"""Bytes of an answer that are read."""
AT_ONCE, AT_ONCE_EACH = 8, 2
"""Tries under way at the same time: of all companies, and of one."""
Piece = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Which model prompts are tried on."""

    url: str
    key: Secret | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said. Counts are None where the server does not tell them."""

    response: str
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False
    """Whether the model stopped because its answer became too long."""

    def plain(self) -> dict[str, Any]:
        """As the REST API answers it."""
        return {
            "response": self.response, "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens,
            "model": self.model,
        }  # fmt: skip


class ModelFailed(Exception):
    """The model gave no answer. `code` names why, `text` says it to a person; `retryable` where trying again may help."""

    def __init__(self, code: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = FAILURES[code]
        self.retryable = code in ("rate_limited", "busy", "unavailable", "timeout", "cut_off")
        self.retry_after_s = retry_after_s


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


@dataclass(slots=True)
class _Stream:
    """What is read of an answer so far."""

    status: int = 0
    rest: bytes = b""
    body: bytes = b""
    size: int = 0
    text: list[str] = field(default_factory=list)
    model: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    finish: str = ""
    error: Any = None

    def feed(self, piece: bytes) -> list[str]:
        """The texts that a piece completes. Lines are decoded whole: a letter may be cut between two pieces."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        found = []
        for line in lines:
            if line.startswith(b"data:"):
                found += self._event(line[5:].strip())
        return found

    def _event(self, data: bytes) -> list[str]:
        try:
            event = json.loads(data)
        except ValueError:
            return []  # [DONE], or what no two servers agree on
        return [self._take(event, "delta")] if isinstance(event, dict) else []

    def whole(self) -> str:
        """The text of an answer that came at once."""
        try:
            answer = json.loads(self.body)
        except ValueError:
            return ""
        return self._take(answer, "message") if isinstance(answer, dict) else ""

    def _take(self, event: Mapping[str, Any], name: str) -> str:
        if event.get("error") is not None:
            self.error = event["error"]
        if isinstance(model := event.get("model"), str):
            self.model = model
        if isinstance(usage := event.get("usage"), dict):
            self.usage = usage
        choices = event.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self.finish = str(first.get("finish_reason") or self.finish)
        said = first.get(name)
        text = said.get("content") or said.get("refusal") if isinstance(said, dict) else None
        if isinstance(text, str):
            self.text.append(text)
            return text
        return ""


class Sandbox:
    """Tries prompts, some at once. One for the process."""

    def __init__(self, model: ModelSettings | None) -> None:
        self.model = model
        self._under_way: dict[TenantId, int] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a model."""
        return self.model is not None and bool(self.model.url)

    def check(self, number: TenantId, content: Any, message: Any, variables: Any = ()) -> None:
        """Raises Invalid for what cannot be tried, and ModelFailed where there is no model, or no place for one more try."""
        problems = check_content(content)
        if isinstance(content, str) and not content.strip():
            problems.append(("content", Bilingual("the prompt is empty", "промт пуст")))
        if not isinstance(message, str) or not message.strip() or len(message) > LONGEST_MESSAGE:
            problems.append(
                ("message", Bilingual(f"1 to {LONGEST_MESSAGE} characters", f"от 1 до {LONGEST_MESSAGE} символов"))
            )
        read_variables(variables)
        if problems:
            raise Invalid(tuple(problems))
        if not self.configured:
            raise ModelFailed("not_configured")
        if sum(self._under_way.values()) >= AT_ONCE or self._under_way.get(number, 0) >= AT_ONCE_EACH:
            raise ModelFailed("busy", retry_after_s=5.0)

    async def test_prompt(
        self, db: Database, tenant: Tenant, content: Any, message: Any, variables: Any = (), piece: Piece | None = None
    ) -> Reply:
        """What the model answers to `message` under this prompt, filled in with the company's profile and catalog. Each piece of
        text goes to `piece` as it comes. Raises Invalid, and ModelFailed."""
        self.check(tenant.number, content, message, variables)
        given = read_variables(variables)
        number, now = tenant.number, datetime.now(UTC)
        profile = await db.tenant(number, select_profile, number)
        items = await db.tenant(number, select_items, number) if "{{" in content else []
        values = values_of(tenant, profile, items, given)
        system = fill(
            content, {key: at_reading(key, tenant, now) if value is None else value for key, value in values.items()}
        )
        self.check(number, content, message)
        assert self.model is not None
        self._under_way[number] = self._under_way.get(number, 0) + 1
        try:
            return await ask(self.model, system, message, piece)
        finally:
            self._under_way[number] -= 1
            if not self._under_way[number]:
                del self._under_way[number]


async def ask(model: ModelSettings, system: str, message: str, piece: Piece | None = None) -> Reply:
    """One question to the model. Raises ModelFailed."""
    came = _Stream()

    def judge(status: int, headers: Mapping[str, str]) -> None:
        came.status = status
        after = headers.get("retry-after", "")
        wait[:] = [float(after)] if after.isascii() and after.isdigit() and len(after) < 6 else []

    async def write(raw: bytes) -> None:
        came.size += len(raw)
        if came.size > LONGEST_REPLY:
            raise ModelFailed("cut_off")
        came.body += raw
        if came.status == 200:
            for text in came.feed(raw):
                if text and piece is not None:
                    await piece(text)

    wait: list[float] = []
    key = [model.key] if model.key is not None else []
    headers = {"authorization": f"Bearer {model.key.reveal()}"} if model.key is not None else {}
    payload = {
        "model": model.model, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": message}],
    }  # fmt: skip
    with trio.move_on_after(TIMEOUTS.whole_s) as patience:
        try:
            async with Http(model.url, dial=None, timeouts=TIMEOUTS, secrets=key) as http:
                await http.stream("/chat/completions", payload=payload, headers=headers, judge=judge, write=write)
        except (BadSettings, LocalProtocolError):
            raise ModelFailed("no_model") from None
        except GatewayError as error:
            # What came before it broke off is shown to nobody as an answer.
            raise ModelFailed(
                "cut_off" if came.text else "timeout" if SILENT in error.detail else "unavailable"
            ) from None
    if patience.cancelled_caught:
        raise ModelFailed("timeout")
    if came.status == 200:
        came.feed(b"\n")
        if not came.text and came.error is None and (text := came.whole()) and piece is not None:
            await piece(text)
    else:
        came.whole()
    return _reply(came, model, wait)


def _reply(came: _Stream, model: ModelSettings, wait: Sequence[float]) -> Reply:
    code = came.error.get("code") if isinstance(came.error, dict) else None
    if came.status != 200 or came.error is not None:
        raise ModelFailed(_failure(came.status, str(code or "")), retry_after_s=wait[0] if wait else None)
    text = "".join(came.text)
    if not text.strip():
        raise ModelFailed("empty")
    return Reply(
        text, came.model or model.model, _count(came.usage.get("prompt_tokens")), _count(came.usage.get("completion_tokens")),
        came.finish == "length",
    )  # fmt: skip


def _failure(status: int, code: str) -> str:
    if code in ("insufficient_quota", "credit_balance_exhausted"):
        return "quota"
    if code == "context_length_exceeded" or status == 413:
        return "too_long"
    if status in (401, 403):
        return "bad_key"
    if status == 404 or code == "model_not_found":
        return "no_model"
    if status == 429 or code in ("rate_limit_exceeded", "slow_down"):
        return "rate_limited"
    return "refused" if 400 <= status < 500 and status != 408 else "unavailable"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
