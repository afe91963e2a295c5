"""The AI operator of one company: finds clients who wait, and has an answer under way for each, at most one a conversation.

    a client writes --> quiet for `quiet_s` (15 s at most) --> an answer (answering.py) --> queued
          ^                                                      |
          +---- a newer message: begun again with both ----------+---- a person, another epoch: ended

Nothing but the database says what is to be done, so it does not matter who answered before: at the start, after a crash, or when the
company comes from another instance, the conversations of the AI with a client who waits are taken up. Whether an answer is still
wanted is decided in the transaction that queues it.
"""

import logging
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import trio

from actors.ai.answering import Answers, Failed
from actors.ai.calling import Dropped
from actors.ai.handing_over import HandingOver
from actors.chats.conversing import Conversing
from actors.runtime.directory import Slot
from actors.runtime.supervisor import outcome_of
from actors.services import Services
from adapters.base import Dialer
from adapters.llm.client import ModelSettings, open_model
from adapters.llm.protocol import ModelFailed
from gateway.domain.ai import LONGEST_QUIET_S, AiBlock, ModelBlock
from gateway.domain.chats import AI
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.domain.subjects import Subject
from gateway.store.ai_hand_overs import select_overdue
from gateway.store.ai_work import Waiting, select_unannounced, select_waiting
from gateway.store.postgres.pool import Connection
from gateway.telemetry import bound

log = logging.getLogger(__name__)

LOOK_EVERY_S, LOOK_LEAST_S = 30.0, 2.0
"""Seconds between looks at what is overdue and at what nobody announced: a tenth of the company's `timeout_s`, within these."""
TYPING_EVERY_S = 4.0
RETRY_S, RETRY_CAP_S = 1.0, 10.0


class _Task:
    """A conversation that is looked after."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        self.failures = 0

    def heard(self) -> trio.Event:
        """The next change sets it."""
        if self.changed.is_set():
            self.changed = trio.Event()
        return self.changed


class TenantAi:
    """Runs under supervision, one for each company whose AI is on."""

    def __init__(
        self, tenant: Tenant, settings: AiBlock, model: ModelSettings, services: Services, conversing: Conversing,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self.tenant = tenant
        self.settings = settings
        self.model = model
        self.services = services
        self.conversing = conversing
        self.now = now
        self._tasks: dict[UUID, _Task] = {}
        self._handing = HandingOver(
            tenant=tenant, settings=settings, conversing=conversing, public_url=services.public_url
        )

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        number, every_s = self.tenant.number, min(LOOK_EVERY_S, max(LOOK_LEAST_S, self.settings.handoff.timeout_s / 10))
        self._tasks = {}  # a crash ended those of the life before
        with bound(tenant=number):
            async with AsyncExitStack() as stack:
                model, missing = None, ""
                try:
                    model = await stack.enter_async_context(open_model(self.model))
                except ModelFailed as failure:  # clients who write meanwhile go to people
                    missing = failure.code
                answers = Answers(
                    tenant=self.tenant, settings=self.settings, services=self.services, model=model, missing=missing,
                    name=self.model.model, handing=self._handing, now=self.now,
                )  # fmt: skip
                subscription = stack.enter_context(self.services.feed.subscribe(number))
                nursery = await stack.enter_async_context(trio.open_nursery())
                if missing:
                    slot.report(State.ATTENTION, f"model_{missing}")
                else:
                    slot.report(State.ONLINE)
                wanted: Sequence[UUID] | None = None
                next_whole = 0.0
                while True:
                    if trio.current_time() >= next_whole:
                        wanted = None
                    try:
                        await self._look(wanted, nursery, answers, slot)
                    except Unavailable as error:
                        slot.report(State.DEGRADED, "database_away", error.detail)
                        await trio.sleep(RETRY_S)
                        next_whole = 0.0
                        continue
                    if slot.health.code == "database_away":
                        slot.report(State.ONLINE)
                    if wanted is None:
                        next_whole = trio.current_time() + every_s
                    wanted = ()
                    with trio.move_on_at(next_whole):
                        subjects, lost = await subscription.changed()
                        wanted = None if lost else self._noted(subjects)

    def _noted(self, subjects: Sequence[Subject]) -> list[UUID]:
        """The conversations among what changed that nobody looks after; the others are told."""
        found = list[UUID]()
        for subject in subjects:
            if subject.kind == "chat":
                ident = UUID(subject.id)
                if (task := self._tasks.get(ident)) is not None:
                    task.changed.set()
                found.append(ident)
        return found

    async def _look(self, wanted: Sequence[UUID] | None, nursery: trio.Nursery, answers: Answers, slot: Slot) -> None:
        """Takes up what waits: all of it, or of these conversations."""
        number, db = self.tenant.number, self.services.db
        if wanted is not None and not wanted:
            return
        for one in await db.tenant(number, select_waiting, number, wanted):
            if one.conversation not in self._tasks:
                self._tasks[one.conversation] = task = _Task()
                nursery.start_soon(self._look_after, one.conversation, task, answers, slot)
        for conversation in await db.tenant(number, select_unannounced, number, wanted):
            await self._tell(conversation, partial(self._handing.announce, conversation=conversation))
        if wanted is None:
            for conversation, epoch in await db.tenant(number, select_overdue, number):
                await self._tell(conversation, partial(self._handing.overdue, conversation=conversation, epoch=epoch))

    async def _tell(self, conversation: UUID, work: Callable[[Connection], Awaitable[list[IntegrationKey]]]) -> None:
        for key in await self.services.db.tenant(self.tenant.number, work):
            self.conversing.wake(self.tenant.number, key)
        self.services.feed.publish(self.tenant.number, Subject("chat", str(conversation)))

    # One conversation.

    async def _look_after(self, conversation: UUID, task: _Task, answers: Answers, slot: Slot) -> None:
        """Until nobody waits in it."""
        pause = RETRY_S
        with bound(chat=str(conversation)):
            while True:
                heard = task.heard()
                error = await outcome_of(partial(self._step, conversation, task, heard, answers, slot))
                if error is False:
                    if task.changed.is_set():  # something changed while it was looked at
                        continue
                    del self._tasks[conversation]
                    return
                if error is True:
                    pause = RETRY_S
                    continue
                if not isinstance(error, Unavailable):
                    _note_crash(error)
                await trio.sleep(pause)
                pause = min(2 * pause, RETRY_CAP_S)

    async def _step(self, conversation: UUID, task: _Task, heard: trio.Event, answers: Answers, slot: Slot) -> bool:
        """One look at a conversation: waits on, or answers. Whether to look again."""
        number = self.tenant.number
        found = await self.services.db.tenant(number, select_waiting, number, [conversation])
        if not found:
            return False
        waiting = found[0]
        if (wait := self._quiet(waiting)) > 0:
            with trio.move_on_after(wait):
                await heard.wait()
            return True
        error = await outcome_of(partial(self._answered, waiting, task, heard, answers))
        if isinstance(error, Unavailable):
            raise error
        if isinstance(error, Exception) and not isinstance(error, Dropped):
            if not isinstance(error, Failed):
                _note_crash(error)
            await self._failed(waiting, task, error if isinstance(error, Failed) else Failed("crashed"), answers, slot)
        elif error is None:
            task.failures = 0
            slot.report(State.ONLINE)
        return True

    def _quiet(self, waiting: Waiting) -> float:
        """Seconds until the client has been quiet for long enough."""
        wait = self.settings.quiet_s - waiting.quiet_for_s
        typing = self.conversing.typing
        if typing is not None:
            until = typing.until(self.tenant.number, waiting.conversation, client=True)
            wait = max(wait, until - typing.clock() if until is not None else 0.0)
        return min(wait, LONGEST_QUIET_S - waiting.waiting_for_s)

    async def _answered(self, waiting: Waiting, task: _Task, heard: trio.Event, answers: Answers) -> None:
        """Answers, unless a newer message or a person comes before. Raises Dropped, Failed, Unavailable."""
        dropped = False
        error: Exception | None = None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal dropped
                number, event = self.tenant.number, heard
                while True:
                    await event.wait()
                    event = task.heard()
                    found = [waiting]
                    with suppress(Unavailable):
                        found = await self.services.db.tenant(number, select_waiting, number, [waiting.conversation])
                    if not found or (found[0].epoch, found[0].last_seq) != (waiting.epoch, waiting.last_seq):
                        dropped = True
                        nursery.cancel_scope.cancel()
                        return

            async def show() -> None:
                while self.conversing.typing is not None:
                    self.conversing.typing.wrote(self.tenant.number, waiting.conversation, AI)
                    await trio.sleep(TYPING_EVERY_S)

            nursery.start_soon(watch)
            nursery.start_soon(show)
            try:
                await answers.answer(waiting)
            except (Dropped, Failed, Unavailable) as raised:
                error = raised
            nursery.cancel_scope.cancel()
        if self.conversing.typing is not None:
            self.conversing.typing.stopped(self.tenant.number, waiting.conversation, AI)
        if error is not None:
            raise error
        if dropped:
            raise Dropped

    async def _failed(self, waiting: Waiting, task: _Task, failure: Failed, answers: Answers, slot: Slot) -> None:
        """Tries again in a moment, or hands over."""
        task.failures += 1
        log.warning("no answer", extra={"reason": failure.problem, "failures": task.failures})
        if answers.model is not None:
            slot.report(State.DEGRADED, "model_failed", failure.problem)
        if task.failures < self.settings.handoff.after_failures:
            with trio.move_on_after(min(RETRY_CAP_S, RETRY_S * 2 ** (task.failures - 1))):
                await task.heard().wait()
            return
        try:
            await answers.hand_over(waiting, "failed", failure.problem)
        except Dropped:
            return
        task.failures = 0


def model_of(own: ModelBlock, default: ModelSettings | None, dial: Dialer) -> ModelSettings:
    """The company's own model, its addresses judged by the dialer; what it leaves out is the installation's. The installation's key
    goes to the installation's server alone."""
    model = own.model or (default.model if default is not None else "")
    if own.url is not None:
        return ModelSettings(url=own.url, key=own.api_key, model=model, api=own.api, dial=dial)
    if default is None:
        return ModelSettings(url="", model=model)
    return replace(default, key=own.api_key or default.key, model=model, api=own.api)


def _note_crash(error: BaseException) -> None:
    trace = "".join(traceback.format_exception(error))
    log.error("an answer crashed", extra={"crash": type(error).__name__, "trace": trace})
