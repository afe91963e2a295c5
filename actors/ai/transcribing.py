"""Makes texts of the recordings of one company's answered calls, and their summaries, where the company has that switched on.

    a recording's file comes --> waiting --> pieces: sound --> text, each stored --> summary --> done; a note for each CRM
                                    ^               |                       |
                                    +-- put off ----+-----------------------+    the server is down, a budget is used up

The queue is in the rows: a restart goes on with the next piece, and what was paid for is not asked again. One owner of the tenant
works on it at a time. A server that fails is left alone for a while, longer each time; after three days a text is given up, and a
person may ask again. Silence is not sent; where nobody speaks there is no summary. Read `gateway/store/call_transcripts.py` next.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import trio

from actors.ai.context import day_of
from actors.ai.sound_pieces import NotSendable, open_pieces
from actors.calls.calls_book import delivery_row
from actors.runtime.directory import Slot
from actors.runtime.supervisor import Crash, contained, outcome_of
from actors.services import Services
from adapters.base import Dialer, Draft
from adapters.llm.client import Model, ModelSettings, ModelTimeouts, open_model
from adapters.llm.protocol import ModelFailed, Question, Text
from adapters.llm.transcription import TIMEOUTS, transcribe
from gateway.domain.ai import AUTO, AiBlock, CallsBlock, tokens_of
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret
from gateway.domain.sound import Piece
from gateway.domain.subjects import call_subject
from gateway.domain.transcripts import (
    LONGEST_SUMMARY,
    WORDS_PURPOSE,
    Segment,
    clean,
    hashed,
    in_order,
    packed,
    rules,
    script,
    unpacked,
)
from gateway.store import call_transcripts as store
from gateway.store.ai_answers import Use, add_use, select_use
from gateway.store.call_transcripts import BODY, SUMMARY, TABLE, Finished, Progress, Work
from gateway.store.calls import select_calls
from gateway.store.files.blobs import Missing
from gateway.store.messages import insert_deliveries
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between looks at what is due."""
AT_ONCE = 2
LEASE_S = 1800.0
"""For one piece of all channels, and more than its request may take; each piece that is stored prolongs it."""
GIVE_UP_S = 3 * 86_400.0
DELAY_S, DELAY_CAP_S = 30.0, 1800.0
"""Until a recording is tried again, doubling."""
PAUSE_S, PAUSE_CAP_S = 5.0, 300.0
"""For which nothing is begun after a server has failed, doubling."""
LONGEST_WAIT_S = 3600.0
NEEDS_A_PERSON = frozenset({"bad_key", "no_model", "quota", "not_configured"})
SummaryPlanner = Callable[[Call, str], Sequence[Draft]]
"""What an integration is sent of a call's summary: its `plan_summary` with settings and tenant."""


class _UsedUp(Exception):
    """A budget of the day is used up: `audio` or `tokens`."""

    def __init__(self, budget: str) -> None:
        super().__init__(budget)
        self.budget = budget


class Transcribing:
    """Runs under supervision, one for each company that has its calls transcribed."""

    def __init__(
        self, tenant: Tenant, settings: AiBlock, speech: ModelSettings, model: ModelSettings, services: Services,
        planners: Mapping[IntegrationKey, SummaryPlanner], *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC), timeouts: ModelTimeouts = TIMEOUTS,
    ) -> None:  # fmt: skip
        self.tenant = tenant
        self.settings = settings
        self.speech_settings = speech
        self.model_settings = model
        self.services = services
        self.planners = planners
        self.now = now
        self.timeouts = timeouts
        self._busy = 0
        self._failures = 0
        self._closed_until = 0.0

    @property
    def calls(self) -> CallsBlock:
        """What the company says of its calls."""
        return self.settings.calls

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        number, db = self.tenant.number, self.services.db
        slot.figures = lambda: {"in_flight": self._busy}
        self._busy, left = 0, True
        with bound(tenant=number):
            async with AsyncExitStack() as stack:
                speech = await _opened(stack, self.speech_settings, self.timeouts)
                model = await _opened(stack, self.model_settings, None)
                slot.report(State.ONLINE)
                nursery = await stack.enter_async_context(trio.open_nursery())
                while True:
                    try:
                        if left:
                            await db.tenant(number, store.release_work, number)
                            left = False
                        await db.tenant(number, store.give_up_old, number, GIVE_UP_S)
                        room = AT_ONCE - self._busy if trio.current_time() >= self._closed_until else 0
                        for work in await db.tenant(number, store.claim_work, number, room, LEASE_S) if room else ():
                            self._busy += 1
                            nursery.start_soon(self._one, work, speech, model, slot)
                        if slot.health.code == "database_away":
                            slot.report(State.ONLINE)
                    except Unavailable as error:
                        slot.report(State.DEGRADED, "database_away", error.detail)
                    await trio.sleep(EVERY_S)

    async def _one(self, work: Work, speech: "Model | str", model: "Model | str", slot: Slot) -> None:
        """One recording; its outcome is stored."""
        with bound(call=work.call_id):
            error = await outcome_of(partial(self._try, work, speech, model, slot))
            if isinstance(error, Exception):
                again = await outcome_of(partial(self._note, work, error, slot))
                if isinstance(again, Exception) and not isinstance(again, Unavailable):
                    raise again  # else the lease ends by itself, and it is tried again
            self._busy -= 1
            self.services.feed.publish(self.tenant.number, call_subject(work.call_id))

    async def _try(self, work: Work, speech: "Model | str", model: "Model | str", slot: Slot) -> None:
        if not work.transcribed and (why := self._left_out(work)):
            await self.services.db.tenant(self.tenant.number, store.end_work, self.tenant.number, work, "skipped", why)
            return
        said = self._open(work, work.body)
        segments: list[Segment] | None = said
        if not work.transcribed:
            segments = await self._transcribed(work, said, speech, slot)
        if segments is None:
            log.info("a text is somebody else's now")
            return
        finished = Finished()
        if self.calls.summarise and segments:
            finished = await self._summarised(work, segments, model, slot)
        await self._finish(work, finished)
        COUNTERS["calls_transcribed"] += 1

    def _left_out(self, work: Work) -> str:
        if not work.answered:
            return "not_answered"
        return "too_short" if work.talk_s is not None and work.talk_s < self.calls.min_talk_s else ""

    # The text.

    async def _transcribed(
        self, work: Work, before: list[Segment], speech: "Model | str", slot: Slot
    ) -> list[Segment] | None:
        """The whole text, which begins with `before`; None where the lease has passed to another."""
        files = self.services.recording_files
        assert files is not None
        pieces = await open_pieces(
            await files.open(self.tenant.number, work.blob),
            work.content_type,
            work.duration_s or work.talk_s,
            files.limiter,
        )
        segments, reached, reached_s, language = list(before), work.reached, work.reached_s, ""
        while True:
            async with self.services.sound_pieces:
                piece = await pieces.next(reached)
                heard = list[Segment]()
                if piece is not None:
                    heard, language = await self._heard(piece, speech, slot, language)
            if piece is None:
                progress = Progress(
                    reached=reached, reached_s=reached_s, body=self._seal(work, BODY, packed(in_order(segments))), audio_s=0.0,
                    language=language, model=self.speech_settings.model, words=await self._words(segments), whole=True,
                )  # fmt: skip
                return in_order(segments) if await self._save(work, progress) else None
            segments += [replace(one, start_s=one.start_s + reached_s, end_s=one.end_s + reached_s) for one in heard]
            reached, reached_s = reached + piece.size, reached_s + piece.seconds
            progress = Progress(
                reached=reached, reached_s=reached_s, body=self._seal(work, BODY, packed(in_order(segments))),
                audio_s=piece.seconds * len(piece.parts), language=language, model=self.speech_settings.model,
            )  # fmt: skip
            if not await self._save(work, progress):
                return None

    async def _heard(self, piece: Piece, speech: "Model | str", slot: Slot, known: str) -> tuple[list[Segment], str]:
        """What is said in a piece, and in which language as far as the server says so."""
        if not piece.parts:
            return [], known
        if isinstance(speech, str):
            raise ModelFailed(speech)
        number, (day, _) = self.tenant.number, day_of(self.tenant, self.now())
        used = await self.services.db.tenant(number, store.select_audio, number, day)
        if used and used + piece.seconds * len(piece.parts) > self.calls.per_day_audio_s:
            raise _UsedUp("audio")
        hint = self.calls.language or self.tenant.language
        found = list[Segment]()
        for part in piece.parts:
            heard = await transcribe(speech, part, piece.seconds, None if hint == AUTO else hint)
            found += heard.segments
            known = known or heard.language
        self._works(slot)
        return found, known

    async def _save(self, work: Work, progress: Progress) -> bool:
        day, _ = day_of(self.tenant, self.now())
        number = self.tenant.number
        return await self.services.db.tenant(number, store.save_progress, number, work, progress, LEASE_S, day)

    async def _words(self, segments: Sequence[Segment], more: str = "") -> list[int]:
        text = "\n".join([*(one.text for one in segments), more])
        lexemes = await self.services.db.tenant(self.tenant.number, store.select_lexemes, text)
        assert self.services.recording_files is not None
        return hashed(lexemes, self.services.recording_files.keys(self.tenant.number).derive(WORDS_PURPOSE))

    def _seal(self, work: Work, column: str, text: str) -> str:
        assert self.services.recording_files is not None
        keys = self.services.recording_files.keys(self.tenant.number)
        return keys.seal(Secret(text), table=TABLE, column=column, row=str(work.recording_id))

    def _open(self, work: Work, sealed: str) -> list[Segment]:
        assert self.services.recording_files is not None
        if not sealed:
            return []
        keys = self.services.recording_files.keys(self.tenant.number)
        return unpacked(keys.open(sealed, table=TABLE, column=BODY, row=str(work.recording_id)).reveal())

    # The summary.

    async def _summarised(self, work: Work, segments: Sequence[Segment], model: "Model | str", slot: Slot) -> Finished:
        """The summary of a text, in parts where it is long. Raises ModelFailed for what may pass."""
        language, use = self.tenant.language, Use()
        parts, most = [""], self.settings.history_tokens
        for line in script(segments, self.calls.first_channel, language):
            if parts[-1] and tokens_of(parts[-1]) + tokens_of(line) > most:
                parts.append("")
            parts[-1] += f"{line}\n"
        try:
            answers = list[str]()
            for part in parts:
                text, used = await self._ask(model, rules(self.calls, language), part, slot)
                answers.append(text)
                use = Use(0, use.prompt_tokens + used.prompt_tokens, use.completion_tokens + used.completion_tokens)
            if len(answers) > 1:
                text, used = await self._ask(
                    model, rules(self.calls, language, of_parts=True), "\n\n".join(answers)[: 4 * most], slot
                )
                use = Use(0, use.prompt_tokens + used.prompt_tokens, use.completion_tokens + used.completion_tokens)
        except ModelFailed as failure:
            if failure.retryable or failure.code in NEEDS_A_PERSON:
                raise
            log.warning("no summary", extra={"reason": failure.code})
            return Finished(problem=f"summary_{failure.code}")
        name = self.model_settings.model
        return Finished(
            summary=self._seal(work, SUMMARY, text), words=await self._words((), text), summary_model=name,
            prompt_tokens=use.prompt_tokens, completion_tokens=use.completion_tokens,
        )  # fmt: skip

    async def _ask(self, model: "Model | str", system: str, text: str, slot: Slot) -> tuple[str, Use]:
        if isinstance(model, str):
            raise ModelFailed(model)
        number, (day, _), db = self.tenant.number, day_of(self.tenant, self.now()), self.services.db
        if (await db.tenant(number, select_use, number, day)).tokens >= self.settings.per_day_tokens:
            raise _UsedUp("tokens")
        asked = Question(
            turns=(Text("system", system), Text("user", f"<call>\n{text}\n</call>")),
            max_tokens=self.settings.max_reply_tokens,
        )
        said = await model.ask(asked, ended=True)
        use = Use(
            0, said.prompt_tokens if said.prompt_tokens is not None else tokens_of(system) + tokens_of(text),
            said.completion_tokens if said.completion_tokens is not None else tokens_of(said.text),
        )  # fmt: skip
        await db.tenant(number, add_use, number, day, use)
        self._works(slot)
        answer = clean(said.text, LONGEST_SUMMARY)
        if said.refused or not answer:
            raise ModelFailed("refused" if said.refused else "empty")
        return answer, use

    async def _finish(self, work: Work, finished: Finished) -> None:
        """Stores what there is, with the notes that CRMs are sent of it."""
        number = self.tenant.number

        async def finish(conn: Connection) -> list[IntegrationKey]:
            if not await store.finish_work(conn, number, work, finished):
                return []
            if not finished.summary or not self.calls.to_crm:
                return []
            found = await select_calls(conn, number, [work.call_id])
            rows = []
            for key, planner in self.planners.items() if found else ():
                planned = contained(partial(planner, found[0][1], str(work.recording_id)))
                if isinstance(planned, Crash):
                    log.error("a planner failed", extra={"integration": key, "trace": planned.trace})
                    continue
                rows += [delivery_row(key, draft, call_subject(work.call_id), monotonic()) for draft in planned]
            if rows:
                await insert_deliveries(conn, number, rows)
            return list(dict.fromkeys(row.integration for row in rows))

        for key in await self.services.db.tenant(number, finish):
            self.services.bells.ring(number, key)

    # What goes wrong.

    def _works(self, slot: Slot) -> None:
        self._failures = 0
        if slot.health.state is not State.ONLINE:
            slot.report(State.ONLINE)

    async def _note(self, work: Work, error: Exception, slot: Slot) -> None:
        """The outcome of a failed try. Raises Unavailable."""
        number, db = self.tenant.number, self.services.db
        match error:
            case _UsedUp():
                local = self.now().astimezone(self.tenant.timezone)
                tomorrow = (local + timedelta(days=1)).replace(hour=0, minute=0, second=5, microsecond=0)
                wait = max(60.0, (tomorrow - local).total_seconds())
                log.info("a budget is used up", extra={"budget": error.budget})
                await db.tenant(number, store.put_off_work, number, work, f"used_up_{error.budget}", "", wait)
            case ModelFailed() if error.retryable or error.code in NEEDS_A_PERSON:
                await self._put_off(work, error, slot)
            case ModelFailed():
                log.warning("no text", extra={"reason": error.code})
                await db.tenant(number, store.end_work, number, work, "failed", error.code, error.detail)
            case NotSendable():
                await db.tenant(number, store.end_work, number, work, "failed", error.code)
            case Missing() | Unsealable():
                await db.tenant(number, store.end_work, number, work, "failed", "gone")
            case Unavailable():
                await db.tenant(number, store.put_off_work, number, work, "storage", error.detail, DELAY_S)
            case _:
                trace = "".join(traceback.format_exception(error))
                log.error("a text crashed", extra={"crash": type(error).__name__, "trace": trace})
                await db.tenant(number, store.end_work, number, work, "failed", "crashed")

    async def _put_off(self, work: Work, failure: ModelFailed, slot: Slot) -> None:
        """The server fails: this recording later, the next one in a while."""
        person = failure.code in NEEDS_A_PERSON
        self._failures += 1
        pause = PAUSE_CAP_S if person else min(PAUSE_CAP_S, PAUSE_S * 2 ** min(self._failures - 1, 10))
        asked = min(failure.retry_after_s or 0.0, LONGEST_WAIT_S)
        self._closed_until = max(self._closed_until, trio.current_time() + max(pause, asked))
        again = max(min(DELAY_CAP_S, DELAY_S * 2 ** min(work.attempt - 1, 10)), pause, asked)
        state, code = (State.ATTENTION, "transcripts_refused") if person else (State.DEGRADED, "transcripts_failing")
        slot.report(state, code, failure.code, self.now() + timedelta(seconds=max(pause, asked)))
        COUNTERS["calls_not_transcribed"] += 1
        log.warning("no text yet", extra={"reason": failure.code, "attempt": work.attempt})
        number = self.tenant.number
        await self.services.db.tenant(number, store.put_off_work, number, work, failure.code, failure.detail, again)


async def _opened(stack: AsyncExitStack, settings: ModelSettings, timeouts: ModelTimeouts | None) -> "Model | str":
    """A server, or the code of why there is none."""
    try:
        return await stack.enter_async_context(open_model(settings, timeouts))
    except ModelFailed as failure:
        return failure.code


def speech_of(own: CallsBlock, default: ModelSettings | None, dial: Dialer) -> ModelSettings:
    """The company's own server, its addresses judged by the dialer, else the installation's. The installation's key goes to the
    installation's server alone."""
    if own.url is not None:
        return ModelSettings(url=own.url, key=own.api_key, model=own.model, dial=dial)
    if default is None:
        return ModelSettings(url="", model=own.model)
    return replace(default, key=own.api_key or default.key, model=own.model)
