"""A prompt tried on the installation's language model; the answer comes piece by piece. Nothing is stored.

prompt, filled in + message -> one question to the model (`adapters/llm`) -> pieces of text -> the whole, and what it took
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import trio

from adapters.llm.client import ModelSettings, ModelTimeouts, open_model
from adapters.llm.protocol import ModelFailed, Question, Text
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.prompt_values import at_reading, values_of
from gateway.domain.prompts import check_content, fill
from gateway.domain.text import Bilingual
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import select_items
from gateway.store.postgres.pool import Database
from gateway.web.content.prompts import read_variables

TIMEOUTS = ModelTimeouts()
LONGEST_MESSAGE = 8000
AT_ONCE, AT_ONCE_EACH = 8, 2
"""Tries under way at the same time: of all companies, and of one."""
Piece = Callable[[str], Awaitable[None]]


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
        self._check_room(number)

    def _check_room(self, number: TenantId) -> None:
        if sum(self._under_way.values()) >= AT_ONCE or self._under_way.get(number, 0) >= AT_ONCE_EACH:
            raise ModelFailed("busy", retry_after_s=5.0)

    @contextmanager
    def place_for(self, number: TenantId) -> Iterator[None]:
        """A place for one try of a company. Raises ModelFailed where there is none."""
        self._check_room(number)
        self._under_way[number] = self._under_way.get(number, 0) + 1
        try:
            yield
        finally:
            self._under_way[number] -= 1
            if not self._under_way[number]:
                del self._under_way[number]

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
        with self.place_for(number):
            return await ask(self.model, system, message, piece)


async def ask(model: ModelSettings, system: str, message: str, piece: Piece | None = None) -> Reply:
    """One question to the model. Raises ModelFailed."""
    question = Question(turns=(Text("system", system), Text("user", message)))
    async with open_model(model, TIMEOUTS) as opened:
        with trio.move_on_after(TIMEOUTS.whole_s):
            said = await opened.ask(question, piece=piece)
            if not said.text.strip():
                raise ModelFailed("empty")
            return Reply(said.text, said.model, said.prompt_tokens, said.completion_tokens, said.cut)
    raise ModelFailed("timeout")
