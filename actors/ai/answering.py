"""One answer to a client: from what the conversation is now to a message that is queued, or to a person.

    read --> ask --> tools, and ask again --> clean --> queued, if the conversation is still the AI's, at the same epoch, without a newer
     |        |                                          message: message, deliveries, trace and use in one transaction
     |        +--> failed, empty twice --> a person
     +--> no prompt, a limit --> a person

A newer message or a person ends it (`Dropped`); what tools did by then is recorded and read by the next one. Read `tenant_ai.py` for
when an answer begins. A little over 400 lines, for all ends of an answer stand together.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID, uuid4

import trio

from actors.ai.calling import Answering, Dropped, carry_out, lock_for, shape_of
from actors.ai.checking import Checks, NoAnswer
from actors.ai.context import RULES, Context, day_of, history, prompt_problem, read_context, system_turn, valid_json
from actors.ai.handing_over import HandingOver
from actors.ai.shortening import shortened as in_short
from actors.ai.tool import Outcome
from actors.ai.tools import tools_of
from actors.chats.conversing import Sent
from actors.services import Services
from adapters.llm.protocol import Called, ModelFailed, Question, Result, Said, Text, ToolCall, Turn
from gateway.domain.ai import AiBlock, Cause, client_language, tokens_of
from gateway.domain.ai_checks import abusive
from gateway.domain.ai_replies import (
    Allowed,
    Cleaned,
    cut,
    digits,
    host_of,
    plain,
    shortened,
    suspects,
)
from gateway.domain.chats import AI, OWNER_AI
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey
from gateway.domain.posts import Invalid
from gateway.domain.subjects import Subject
from gateway.store.ai_answers import BegunAnswer, EndedAnswer, Use, add_use, end_answer, insert_answer
from gateway.store.ai_summaries import put_summary
from gateway.store.ai_work import Waiting
from gateway.store.catalog_search import select_mentioned
from gateway.store.postgres.errors import Conflict
from gateway.store.postgres.pool import Connection
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

WHOLE_S = 90.0
"""Seconds for an answer as a whole, tools and retries within."""
TRIES = 3
"""Of one question to the model."""
MOST_ROUNDS, MOST_CALLS, AT_ONCE = 6, 10, 5
"""Questions of one answer that name tools, calls of it in all, and in one round."""
EMPTY_TRIES = 2
MORE_TOKENS, MOST_TOKENS = 4, 16_000
"""How much longer an answer may be that had no room for words, and at most."""
RECORD_S = 2.0
"""For noting what became of an answer that is cancelled."""
ENOUGH = "You have called enough tools. Answer the client now with what you know, or say what you still need."
TOO_MANY = "Too many calls: answer with what you have."


class Asked(Protocol):
    """A model (`adapters/llm/client.py`), or what stands in for one."""

    async def ask(self, question: Question, *, tries: int = 1, ended: bool = False) -> Said:
        """What it says. Raises ModelFailed."""
        ...


@dataclass
class Progress:
    """What an answer has taken so far."""

    id: UUID = field(default_factory=uuid4)
    began: float = field(default_factory=time.monotonic)
    begun: bool = False
    """Whether its row is there."""
    asking: int = 0
    """The tokens of a question that has no answer yet."""
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    first_token_ms: int | None = None
    calls: int = 0
    removed: tuple[str, ...] = ()

    def ended(self, state: str, problem: str = "") -> EndedAnswer:
        """As it is stored."""
        return EndedAnswer(
            state=state, model=self.model, prompt_tokens=self.prompt_tokens + self.asking, completion_tokens=self.completion_tokens,
            requests=self.requests + bool(self.asking), first_token_ms=self.first_token_ms, removed=self.removed, problem=problem,
            took_ms=round(1000 * (time.monotonic() - self.began)),
        )  # fmt: skip

    def use(self, answers: int = 0) -> Use:
        """Of the budget."""
        return Use(answers, self.prompt_tokens + self.asking, self.completion_tokens)


class Failed(Exception):
    """There is no answer: the model failed, or said nothing that can be sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Makes the answers of one company. `answer` may run for several conversations at once."""

    tenant: Tenant
    settings: AiBlock
    services: Services
    model: Asked | None
    """None where there is none: `missing` says why."""
    missing: str
    name: str
    """Of the model, as it is requested."""
    handing: HandingOver
    now: Callable[[], datetime]

    async def answer(self, waiting: Waiting) -> None:
        """Answers a client who waits. Raises Dropped, Failed where no answer came, Unavailable."""
        progress = Progress(model=self.name)
        state, problem = "dropped", ""
        try:
            with trio.move_on_after(WHOLE_S) as whole:
                await self._answer(waiting, progress)
            if whole.cancelled_caught:
                raise Failed("too_slow")
        except (Failed, ModelFailed) as error:
            state = "failed"
            problem = error.problem if isinstance(error, Failed) else f"{error.code} {error.detail}".strip()
            raise Failed(problem) from None
        finally:
            if progress.begun:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + RECORD_S), suppress(Unavailable):
                    await self._end(progress, state, problem)

    async def hand_over(self, waiting: Waiting, cause: Cause, reason: str) -> None:
        """Gives a conversation to a person, if it is still as it was. Raises Dropped, Unavailable."""

        async def work(conn: Connection) -> list[IntegrationKey]:
            answering = self._answering(uuid4(), waiting, 0)
            return await self.handing.hand_over(conn, await lock_for(conn, answering), cause, reason)

        self._announce(waiting.conversation, await self.services.db.tenant(self.tenant.number, work))

    def _answering(self, ident: UUID, waiting: Waiting, last_out: int) -> Answering:
        return Answering(
            id=ident, tenant=self.tenant, settings=self.settings, conversation=waiting.conversation, epoch=waiting.epoch,
            seq=waiting.last_seq, last_out=last_out, tools=tools_of(self.tenant, self.settings),
        )  # fmt: skip

    async def _answer(self, waiting: Waiting, progress: Progress) -> None:
        db, number, now = self.services.db, self.tenant.number, self.now()
        context = await db.tenant(number, self._begin, waiting, progress, now)
        if (cause := self._cause(context)) is not None:
            await self.hand_over(waiting, cause[0], cause[1])
            return
        progress.begun = True
        ask = partial(self._ask, progress=progress)
        if (summary := await in_short(context, self.settings, self.tenant.language, ask)) is not None:
            await db.tenant(number, put_summary, number, waiting.conversation, summary)
            context = replace(context, summary=summary)
        answering = self._answering(progress.id, waiting, context.last_out)
        shapes = tuple(shape_of(tool) for tool in answering.tools.values())
        system = system_turn(self.tenant, context, now)
        turns: list[Turn] = [system, *history(context, self.settings)]
        seen, empty, rounds, longest = list[str](), 0, 0, self.settings.max_reply_tokens
        checks = self._checks(context, system.text)
        while True:
            enough = rounds >= MOST_ROUNDS or progress.calls >= MOST_CALLS
            said = await self._ask(
                Question(turns=tuple(turns), tools=() if enough else shapes, max_tokens=longest), progress=progress
            )
            if said.calls and not enough:
                rounds += 1
                carried = tuple(ToolCall(one.id, one.name, valid_json(one.arguments)) for one in said.calls)
                turns.append(Called(carried, said.text, said.carried))
                for place, call in enumerate(said.calls):
                    text, over = await self._call(answering, call, rounds, place, progress)
                    if over:
                        return
                    turns.append(Result(call.id, text))
                    seen.append(text)
                    checks.given += f"\n{text}"
                    checks.called(_object(text))
                if rounds >= MOST_ROUNDS or progress.calls >= MOST_CALLS:
                    turns.append(Text("user", ENOUGH))
                continue
            text = "" if said.refused else shortened(plain(said.text).strip())
            if text and (wrong := checks.wrong(text)) is not None:
                problem, told = wrong
                if problem not in checks.told:
                    checks.told.add(problem)
                    turns += [Text("assistant", said.text), Text("user", told)]
                    continue
                try:
                    text = checks.without(problem, text)
                except NoAnswer:
                    raise Failed(f"wrong_{problem}") from None
            cleaned = await self._cleaned(text, context, [*seen, *checks.repeats.values()]) if text else Cleaned("", ())
            if not any(c.isalnum() for c in cleaned.text):
                empty += 1
                if empty >= EMPTY_TRIES:
                    raise Failed("refused" if said.refused else "empty")
                longest = min(MOST_TOKENS, longest * MORE_TOKENS) if said.cut else longest
                continue
            progress.removed = cleaned.removed
            await self._send(answering, cleaned.text, progress)
            return

    def _checks(self, context: Context, system: str) -> Checks:
        """What is looked at in the answer, with the orders that an answer which was dropped has left to be repeated."""
        checks = Checks(
            prompt=f"{context.prompt[1].content if context.prompt is not None else ''}\n{RULES}", given=f"{self.tenant.name}\n{system}",
            asked=context.unanswered(), language=client_language(context.conversation.language, self.tenant.language),
        )  # fmt: skip
        for one in context.calls:
            if one.seq > context.last_out:
                checks.called(_object(one.outcome))
        return checks

    async def _begin(self, conn: Connection, waiting: Waiting, progress: Progress, now: datetime) -> Context:
        context = await read_context(conn, self.tenant, waiting.conversation, now)
        chat = context.conversation if context is not None else None
        if (
            context is None
            or chat is None
            or chat.owner != OWNER_AI
            or (chat.epoch, chat.last_seq) != (waiting.epoch, waiting.last_seq)
        ):
            raise Dropped
        if self._cause(context) is None:
            assert context.prompt is not None
            name, row = context.prompt
            begun = BegunAnswer(
                id=progress.id, conversation=chat.id, epoch=chat.epoch, seq=chat.last_seq, prompt_id=row.prompt_id, prompt_name=name,
                prompt_version=row.version, model=self.name,
            )  # fmt: skip
            await insert_answer(conn, self.tenant.number, begun)
        return context

    def _cause(self, context: Context) -> tuple[Cause, str] | None:
        """Why nothing is to be asked."""
        if (problem := prompt_problem(context)) is not None:
            return "prompt", problem
        if context.sent_today >= self.settings.per_conversation_day:
            return "limit", "per_conversation_day"
        if context.use.tokens >= self.settings.per_day_tokens:
            return "limit", "per_day_tokens"
        if abusive(context.unanswered()):
            return "abuse", "client_words"
        return None

    async def _ask(self, question: Question, *, progress: Progress) -> Said:
        asked = sum(tokens_of(getattr(turn, "text", "")) for turn in question.turns)
        if self.model is None:
            raise ModelFailed(self.missing)
        progress.asking = asked
        said = await self.model.ask(question, tries=TRIES, ended=True)
        progress.asking = 0
        progress.requests += 1
        progress.model = said.model
        written = said.text + "".join(one.arguments for one in said.calls)
        progress.prompt_tokens += said.prompt_tokens if said.prompt_tokens is not None else asked
        progress.completion_tokens += (
            said.completion_tokens if said.completion_tokens is not None else tokens_of(written)
        )
        if progress.first_token_ms is None and said.first_token_s is not None:
            progress.first_token_ms = round(1000 * said.first_token_s)
        return said

    async def _call(
        self, answering: Answering, call: ToolCall, turn: int, place: int, progress: Progress
    ) -> tuple[str, bool]:
        """What the model reads of a call, and whether the conversation is a person's now."""
        progress.calls += 1
        refusal = TOO_MANY if place >= AT_ONCE or progress.calls > MOST_CALLS else ""
        number, woken, told = self.tenant.number, list[IntegrationKey](), list[IntegrationKey]()

        async def work(conn: Connection, refusal: str) -> tuple[str, Outcome | None]:
            text, outcome = await carry_out(conn, answering, call, turn, place, refusal)
            told[:] = await self._tell_crms(conn, outcome) if outcome is not None else ()
            if outcome is not None and outcome.hand_over is not None:
                over = outcome.hand_over
                known = await lock_for(conn, answering)
                cause: Cause = "asked" if over.reason == "asked_for_person" else "model"
                await end_answer(conn, number, answering.id, progress.ended("handed_over"))
                await self._add_use(conn, progress, 0)
                woken[:] = await self.handing.hand_over(conn, known, cause, over.reason, over.summary)
            return text, outcome

        try:
            text, outcome = await self.services.db.tenant(number, work, refusal)
        except Conflict:  # somebody was quicker with what a tool wanted: nothing of the call is stored
            text, outcome = await self.services.db.tenant(
                number, work, "Somebody was quicker. Look at what there is now."
            )
        COUNTERS["ai_tool_calls"] += 1
        if outcome is None:
            return text, False
        for subject in outcome.changed:
            self.services.feed.publish(number, subject)
        self.handing.conversing.crm.woken(self.tenant, told)
        if outcome.after is not None:
            await outcome.after(self.services)
        progress.begun = progress.begun and outcome.hand_over is None
        if outcome.note or outcome.hand_over is not None:
            self._announce(answering.conversation, woken)
        return text, outcome.hand_over is not None

    async def _tell_crms(self, conn: Connection, outcome: Outcome) -> list[IntegrationKey]:
        crm = self.handing.conversing.crm
        found = await crm.contacts(conn, self.tenant, outcome.contacts)
        return [*found, *await crm.orders(conn, self.tenant, outcome.orders)]

    async def _cleaned(self, text: str, context: Context, seen: list[str]) -> Cleaned:
        """Without links, addresses and numbers that are neither the company's nor the client's own."""
        profile = context.profile
        hosts = {host_of(profile.website)} | {host_of(one) for one in self.settings.allow_links}
        texts = "\n".join(
            [profile.phone, profile.address, profile.description, profile.website, context.client_texts(), *seen]
        )
        allowed = Allowed(hosts=frozenset(hosts - {""}), texts=texts)
        wrong = [one for one in suspects(text, self.tenant.country) if not allowed.allows(one)]
        if wrong:
            named = [digits(one.text) if one.kind == "number" else one.text for one in wrong]
            sold = await self.services.db.tenant(self.tenant.number, select_mentioned, self.tenant.number, named)
            wrong = [one for one, name in zip(wrong, named, strict=True) if name not in sold]
        return cut(text, wrong)

    async def _send(self, answering: Answering, text: str, progress: Progress) -> None:
        number, conversing = self.tenant.number, self.handing.conversing

        async def work(conn: Connection) -> Sent:
            known = await lock_for(conn, answering)
            sent = await conversing.store(
                conn, self.tenant, known, author=AI, text=text, client_id=f"ai:{answering.id}", owner=OWNER_AI
            )
            await end_answer(conn, number, answering.id, progress.ended("sent"), sent.message.id)
            await self._add_use(conn, progress, 1)
            return sent

        try:
            sent = await self.services.db.tenant(number, work)
        except Invalid as error:  # the messenger takes no text now, or the channel is off
            raise Failed(f"not_sent {error.problems[0][0]}") from None
        progress.begun = False
        COUNTERS["ai_answers_sent"] += 1
        conversing.changed(number, answering.conversation, sent.conversation.integration)
        if sent.unread:
            conversing.looked(number, answering.conversation)

    async def _end(self, progress: Progress, state: str, problem: str = "") -> None:
        """Notes an answer that was not sent, with what it used."""

        async def work(conn: Connection) -> None:
            if await end_answer(conn, self.tenant.number, progress.id, progress.ended(state, problem)):
                await self._add_use(conn, progress, 0)

        COUNTERS[f"ai_answers_{state}"] += 1
        await self.services.db.tenant(self.tenant.number, work)

    async def _add_use(self, conn: Connection, progress: Progress, answers: int) -> None:
        use = progress.use(answers)
        if use.answers or use.tokens:
            await add_use(conn, self.tenant.number, day_of(self.tenant, self.now())[0], use)

    def _announce(self, conversation: UUID, woken: list[IntegrationKey]) -> None:
        for key in woken:
            self.handing.conversing.wake(self.tenant.number, key)
        self.services.feed.publish(self.tenant.number, Subject("chat", str(conversation)))


def _object(text: str) -> Mapping[str, object]:
    """What a tool gave, as far as it can be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
