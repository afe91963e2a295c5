"""Plays scripted conversations: each in a company of its own on a scratch database, answered by the very code that answers clients.

    company, profile, catalog, prompt --> the client's line is stored --> `Answers.answer` (../answering.py) --> what is there is scored

No messenger, no gateway process and no waiting: an answer begins at once. What is asked of the model is noted whole, so that a person
can read it.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import trio

from actors.ai.answering import Answers, Asked, Failed
from actors.ai.calling import Dropped
from actors.ai.handing_over import HandingOver
from actors.ai.replay.corpus import Company, Conversation, Corpus, Step, Today
from actors.ai.replay.scoring import Seen, score
from actors.chats.conversing import Conversing
from actors.feed import Feed
from adapters.base import Adapter, AdapterSettings
from adapters.channel import Capabilities, ChatChannel
from adapters.llm import chat, responses
from adapters.llm.protocol import Question, Result, Said, Text
from gateway.domain import chats
from gateway.domain.ai import AiBlock
from gateway.domain.chats import AI, CLIENT, OWNER_AI, OWNER_QUEUE, NewMessage
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store import contacts, conversations, messages, prompts
from gateway.store.ai_answers import AnswerRow, select_answers
from gateway.store.ai_work import Waiting, select_waiting
from gateway.store.business_profiles import upsert_profile
from gateway.store.catalog_items import upsert_items
from gateway.store.orders import select_orders_of_conversation
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import MasterKeys, new_data_key
from gateway.store.tenants import TenantRow, upsert_tenant

KIND, KEY = Kind("replay"), IntegrationKey("replay")
COLLEAGUE = "human:7c9e6679-7425-40de-944b-e07fc1f90ae7"
MOST_ORDERS, MOST_MESSAGES = 50, 200
PROMPT = "replay"
_NUMBERS = itertools.count(800_000)
"""Of the companies: each conversation has one of its own."""


@runtime_checkable
class KnowsTheScript(Protocol):
    """A stand-in for a model, which is told what is right."""

    def turn_to(self, step: Step) -> None:
        """The step that is played next."""
        ...


@dataclass
class Watched:
    """A model whose questions are noted."""

    inner: Asked
    questions: list[Question] = field(default_factory=list)

    async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
        """Asks the model."""
        self.questions.append(question)
        return await self.inner.ask(question, tries=tries, ended=ended)

    def given(self) -> str:
        """Everything that the questions held, but for the model's own words."""
        texts = dict[str, None]()
        for question in self.questions:
            for turn in question.turns:
                if isinstance(turn, Result) or (isinstance(turn, Text) and turn.role != "assistant"):
                    texts[turn.text] = None
        return "\n".join(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One line of a client, and what came of it."""

    client: str
    answer: str
    checks: Mapping[str, bool]
    tools: tuple[str, ...]
    problem: str
    """Why there is no answer; empty where there is one, or a person."""
    removed: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None
    took_ms: int
    requests: tuple[Mapping[str, Any], ...] = ()
    """The bodies that were sent, or would be."""

    @property
    def right(self) -> bool:
        """Whether every check went right."""
        return all(self.checks.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One conversation."""

    id: str
    steps: tuple[StepResult, ...]


@asynccontextmanager
async def _connect(link: Any, settings: Any) -> Any:
    """Nothing is delivered."""
    yield None


def _events(body: Mapping[str, Any], settings: Any) -> Sequence[chats.ChatEvent]:
    return ()


ADAPTER = Adapter(
    kind=KIND, title="Replay", type="channel", settings=AdapterSettings, connect=_connect,
    chat=ChatChannel(capabilities=Capabilities(text_limit=4000, caption_limit=1000), events=_events, address=str),
)  # fmt: skip


@dataclass(kw_only=True)
class Player:
    """Plays a corpus on a scratch database."""

    db: Database
    master: MasterKeys
    models: Callable[[Conversation, Company, Today], Asked]
    """The model for a conversation."""
    settings: AiBlock
    api: str = "chat"
    model: str = ""
    own: Company | None = None
    """The company of conversations that name none."""
    keep_requests: bool = False
    at_once: int = 4

    async def play(self, corpus: Corpus, only: Sequence[str] = ()) -> list[Played]:
        """Every conversation, or those with these ids, in the order of the file."""
        wanted = [one for one in corpus.conversations if not only or one.id in only]
        found = dict[str, Played]()
        limiter = trio.CapacityLimiter(self.at_once)

        async def one(conversation: Conversation) -> None:
            async with limiter:
                company = corpus.companies[conversation.company] if conversation.company is not None else self.own
                assert company is not None, "checked before"
                found[conversation.id] = await self._one(TenantId(str(next(_NUMBERS))), company, conversation)

        async with trio.open_nursery() as nursery:
            for conversation in wanted:
                nursery.start_soon(one, conversation)
        return [found[one.id] for one in wanted]

    async def _one(self, number: TenantId, company: Company, conversation: Conversation) -> Played:
        tenant = Tenant(
            number, company.name, ZoneInfo(company.timezone), company.country, company.language,
            integrations={KEY: Connector(KEY, KIND, {})},
        )  # fmt: skip
        await self.db.engine(self._fill, tenant, company)
        settings = self.settings.model_copy(update={"allow_links": (*self.settings.allow_links, *company.allow_links)})
        today = Today(datetime.now(tenant.timezone).date())
        inner = self.models(conversation, company, today)
        model = Watched(inner)
        feed = Feed()
        conversing = Conversing(db=self.db, feed=feed, wake=lambda number, key: None, adapters=lambda: {KIND: ADAPTER})
        services: Any = SimpleNamespace(
            db=self.db, feed=feed, public_url="", cache=SimpleNamespace(tenant=lambda number: None)
        )
        answers = Answers(
            tenant=tenant, settings=settings, services=services, model=model, missing="", name=self.model,
            handing=HandingOver(tenant=tenant, settings=settings, conversing=conversing), now=lambda: datetime.now(UTC),
        )  # fmt: skip
        chat_id = await self._begin(number, conversation)
        steps = list[StepResult]()
        for step in conversation.steps:
            if step.person is not None:
                await conversing.send(tenant, chat_id, author=COLLEAGUE, text=today.filled(step.person))
                await conversing.release(tenant, chat_id, COLLEAGUE, "ai")
                continue
            if isinstance(inner, KnowsTheScript):
                inner.turn_to(step)
            steps.append(await self._step(answers, model, chat_id, step, today))
        return Played(id=conversation.id, steps=tuple(steps))

    async def _fill(self, conn: Connection, tenant: Tenant, company: Company) -> None:
        row = TenantRow(
            tenant.number, company.name, company.timezone, company.country, company.language, None,
            self.master.wrap(tenant.number, new_data_key()), {}, 0, (), (), (),
        )  # fmt: skip
        async with conn.transaction():
            await upsert_tenant(conn, row)
            await upsert_profile(conn, tenant.number, company.profile)
            await upsert_items(conn, tenant.number, company.catalog)
            await prompts.upsert_prompt(conn, tenant.number, PROMPT, PROMPT, company.prompt, company.variables)
            await prompts.insert_version(conn, tenant.number, PROMPT, 1, company.prompt, company.variables, "", PROMPT)
            await prompts.set_active(conn, tenant.number, PROMPT, 1)

    async def _begin(self, number: TenantId, conversation: Conversation) -> UUID:
        async def work(conn: Connection) -> UUID:
            person = await contacts.insert_contact(conn, number, conversation.name, (), ())
            made = chats.Conversation(
                id=uuid4(), integration=KEY, address="1", contact=person, owner=OWNER_AI, name=conversation.name,
            )  # fmt: skip
            await conversations.insert_conversation(conn, number, made)
            return made.id

        return await self.db.tenant(number, work)

    async def _step(self, answers: Answers, model: Watched, chat_id: UUID, step: Step, today: Today) -> StepResult:
        number, text = answers.tenant.number, today.filled(step.client or "")
        before, began = len(model.questions), time.monotonic()
        known = await self.db.tenant(number, conversations.select_conversation, number, chat_id)
        assert known is not None
        after = known.conversation.last_seq
        await self.db.tenant(number, _says, number, chat_id, text)
        waiting = await self.db.tenant(number, select_waiting, number, [chat_id])
        problem = await _answered(answers, waiting[0]) if waiting else "not_ours"
        took = round(1000 * (time.monotonic() - began))
        seen, rows = await self.db.tenant(number, _seen, number, chat_id, after, model.given())
        checks = score(step.expect, seen, today, answers.tenant.timezone)
        body = responses.body_of if self.api == "responses" else chat.body_of
        asked = tuple(body(one, self.model) for one in model.questions[before:]) if self.keep_requests else ()
        return StepResult(
            client=text, answer=seen.answer, checks={**checks, "answered": checks["answered"] and not problem}, problem=problem,
            tools=tuple(name for row in rows for name in row.tools), removed=tuple(seen.removed),
            prompt_tokens=sum(row.prompt_tokens for row in rows), completion_tokens=sum(row.completion_tokens for row in rows),
            first_token_ms=next((row.first_token_ms for row in rows if row.first_token_ms is not None), None), took_ms=took,
            requests=asked,
        )  # fmt: skip


async def _answered(answers: Answers, waiting: Waiting) -> str:
    """Answers, or hands over as the AI operator does. Why there is no answer; empty where there is one."""
    try:
        await answers.answer(waiting)
    except Failed as failure:
        await answers.hand_over(waiting, "failed", failure.problem)
        return failure.problem
    except Dropped:
        return "dropped"
    return ""


async def _says(conn: Connection, number: TenantId, chat_id: UUID, text: str) -> None:
    known = await conversations.lock_conversation(conn, number, chat_id)
    assert known is not None
    now = datetime.now(UTC)
    message = NewMessage(
        id=uuid4(), conversation=chat_id, seq=known.last_seq + 1, direction="in", author=CLIENT, text=text, at=now, status=None
    )  # fmt: skip
    await messages.insert_message(conn, number, message, known.integration, known.address, ())
    changed = replace(
        known,
        last_seq=message.seq,
        unread=known.unread + 1,
        waiting_since=known.waiting_since or now,
        last_message_at=now,
    )
    await conversations.update_conversation(conn, number, changed)


async def _seen(
    conn: Connection, number: TenantId, chat_id: UUID, after: int, given: str
) -> tuple[Seen, list[AnswerRow]]:
    """What is there, with the answers behind the message `after`."""
    known = await conversations.select_conversation(conn, number, chat_id)
    assert known is not None
    said = await messages.select_messages(conn, number, chat_id, MOST_MESSAGES, after=after)
    rows = [one for one in await select_answers(conn, number, chat_id) if one.seq > after]
    orders = await select_orders_of_conversation(conn, number, chat_id, MOST_ORDERS)
    seen = Seen(
        answer="\n".join(one.text for one in said if one.author == AI), handed_over=known.conversation.owner == OWNER_QUEUE,
        orders=sorted(orders, key=lambda one: one.number, reverse=True),
        contact=await contacts.select_contact(conn, number, known.root), given=given,
        removed=[text for row in rows for text in row.removed],
    )  # fmt: skip
    return seen, rows
