"""The AI's answers: by which prompt and model, calls of tools, tokens, and what a company used. Works inside one tenant."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunAnswer:
    """An answer that begins."""

    id: UUID
    conversation: UUID
    epoch: int
    seq: int
    """The last message that it knows."""
    prompt_id: str
    prompt_name: str
    prompt_version: int
    model: str


async def insert_answer(conn: Connection, tenant: TenantId, answer: BegunAnswer) -> None:
    """Notes that an answer begins."""
    await conn.execute(
        """
        INSERT INTO ai_answers (tenant_id, answer_id, conversation_id, epoch, seq, prompt_id, prompt_name, prompt_version, model)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        tenant, answer.id, answer.conversation, answer.epoch, answer.seq, answer.prompt_id, answer.prompt_name,
        answer.prompt_version, answer.model,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAnswer:
    """What became of an answer."""

    state: str
    """`sent`, `handed_over`, `failed` or `dropped`: a newer message or a person came."""
    model: str = ""
    """As the server names it; empty: as it was requested."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    first_token_ms: int | None = None
    took_ms: int = 0
    removed: tuple[str, ...] = ()
    problem: str = ""


async def end_answer(
    conn: Connection, tenant: TenantId, answer: UUID, ended: EndedAnswer, message: UUID | None = None
) -> bool:
    """Notes what became of an answer that has begun. False where that is noted already."""
    done: str = await conn.execute(
        """
        UPDATE ai_answers SET state = $3, model = coalesce(nullif($4, ''), model), prompt_tokens = $5, completion_tokens = $6, requests = $7,
            first_token_ms = $8, took_ms = $9, removed = $10, problem = $11, message_id = $12, ended_at = clock_timestamp()
        WHERE tenant_id = $1 AND answer_id = $2 AND state = 'begun'
        """,
        tenant, answer, ended.state, storable(ended.model)[:200], ended.prompt_tokens, ended.completion_tokens, ended.requests,
        ended.first_token_ms, ended.took_ms, [storable(one)[:200] for one in ended.removed[:20]], storable(ended.problem)[:200],
        message,
    )  # fmt: skip
    return done.endswith(" 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """A call of a tool."""

    id: UUID
    answer: UUID
    conversation: UUID
    seq: int
    round: int
    place: int
    name: str
    arguments: str
    outcome: str
    refused: bool = False


async def insert_tool_call(conn: Connection, tenant: TenantId, call: CallRow) -> None:
    """Notes a call, in the transaction that carries it out."""
    await conn.execute(
        """
        INSERT INTO ai_tool_calls (tenant_id, tool_call_id, answer_id, conversation_id, seq, round, place, name, arguments, outcome, refused)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        tenant, call.id, call.answer, call.conversation, call.seq, call.round, call.place, storable(call.name),
        storable(call.arguments), storable(call.outcome), call.refused,
    )  # fmt: skip


async def select_tool_calls(conn: Connection, tenant: TenantId, conversation: UUID, most: int) -> list[CallRow]:
    """The newest calls of a conversation, in order: by answer, round and place."""
    rows = await conn.fetch(
        """
        SELECT tool_call_id, answer_id, conversation_id, seq, round, place, name, arguments, outcome, refused FROM (
            SELECT * FROM ai_tool_calls WHERE tenant_id = $1 AND conversation_id = $2 ORDER BY at DESC, tool_call_id LIMIT $3
        ) AS newest ORDER BY at, round, place
        """,
        tenant,
        conversation,
        most,
    )
    return [
        CallRow(
            id=row[0], answer=row[1], conversation=row[2], seq=row[3], round=row[4], place=row[5], name=row[6], arguments=row[7],
            outcome=row[8], refused=row[9],
        )
        for row in rows
    ]  # fmt: skip


async def select_same_call(
    conn: Connection, tenant: TenantId, conversation: UUID, name: str, arguments: str, after_seq: int
) -> str | None:
    """What the same call gave, of those that were carried out after the conversation's message `after_seq`; None: there is none."""
    found: str | None = await conn.fetchval(
        """
        SELECT outcome FROM ai_tool_calls
        WHERE tenant_id = $1 AND conversation_id = $2 AND name = $3 AND arguments = $4 AND seq > $5 AND NOT refused
        ORDER BY at DESC LIMIT 1
        """,
        tenant,
        conversation,
        name,
        storable(arguments),
        after_seq,
    )
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """What was used of a day's budget."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.completion_tokens


async def add_use(conn: Connection, tenant: TenantId, day: date, use: Use) -> None:
    """Adds to what a company used on a day."""
    await conn.execute(
        """
        INSERT INTO ai_days AS d (tenant_id, day, answers, prompt_tokens, completion_tokens) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (tenant_id, day) DO UPDATE SET answers = d.answers + excluded.answers,
            prompt_tokens = d.prompt_tokens + excluded.prompt_tokens, completion_tokens = d.completion_tokens + excluded.completion_tokens
        """,
        tenant,
        day,
        use.answers,
        use.prompt_tokens,
        use.completion_tokens,
    )


async def select_use(conn: Connection, tenant: TenantId, day: date) -> Use:
    """What a company used on a day."""
    row = await conn.fetchrow(
        "SELECT answers, prompt_tokens, completion_tokens FROM ai_days WHERE tenant_id = $1 AND day = $2", tenant, day
    )
    return Use(*row) if row is not None else Use()


async def count_sent(conn: Connection, tenant: TenantId, conversation: UUID, since: datetime) -> int:
    """How many answers a conversation got since a moment."""
    found: int = await conn.fetchval(
        "SELECT count(*) FROM ai_answers WHERE tenant_id = $1 AND conversation_id = $2 AND state = 'sent' AND began_at >= $3",
        tenant,
        conversation,
        since,
    )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """An answer of a conversation, whatever became of it."""

    seq: int
    """The last message that it knew."""
    state: str
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None
    removed: tuple[str, ...]
    tools: tuple[str, ...]


async def select_answers(conn: Connection, tenant: TenantId, conversation: UUID) -> list[AnswerRow]:
    """A conversation's, in order."""
    rows = await conn.fetch(
        """
        SELECT a.seq, a.state, a.prompt_tokens, a.completion_tokens, a.first_token_ms, a.removed,
               ARRAY(SELECT t.name FROM ai_tool_calls t WHERE t.tenant_id = a.tenant_id AND t.answer_id = a.answer_id
                     ORDER BY t.at, t.round, t.place)
        FROM ai_answers a WHERE a.tenant_id = $1 AND a.conversation_id = $2 ORDER BY a.began_at, a.answer_id
        """,
        tenant,
        conversation,
    )
    return [
        AnswerRow(
            seq=row[0], state=row[1], prompt_tokens=row[2], completion_tokens=row[3], first_token_ms=row[4], removed=tuple(row[5]),
            tools=tuple(row[6]),
        )
        for row in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Where an answer comes from."""

    prompt_name: str
    prompt_version: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None
    took_ms: int
    removed: tuple[str, ...]
    tools: tuple[str, ...]
    """The tools that were called for it, by name."""


async def select_traces(conn: Connection, tenant: TenantId, messages: Sequence[UUID]) -> dict[UUID, Trace]:
    """The traces of these messages, of those that the AI wrote."""
    rows = await conn.fetch(
        """
        SELECT a.message_id, a.prompt_name, a.prompt_version, a.model, a.prompt_tokens, a.completion_tokens, a.first_token_ms,
               coalesce(a.took_ms, 0), a.removed,
               (SELECT json_agg(t.name ORDER BY t.at, t.round, t.place) FROM ai_tool_calls t
                WHERE t.tenant_id = a.tenant_id AND t.answer_id = a.answer_id)::text
        FROM ai_answers a WHERE a.tenant_id = $1 AND a.message_id = ANY($2::uuid[])
        """,
        tenant,
        list(messages),
    )
    return {
        row[0]: Trace(
            prompt_name=row[1], prompt_version=row[2], model=row[3], prompt_tokens=row[4], completion_tokens=row[5],
            first_token_ms=row[6], took_ms=row[7], removed=tuple(row[8]), tools=tuple(json.loads(row[9] or "[]")),
        )
        for row in rows
    }  # fmt: skip


async def delete_expired_answers(conn: Connection, default_days: int, most: int) -> int:
    """Removes answers with their calls, past their tenant's retention of messages. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM ai_answers a
        USING (SELECT x.tenant_id, x.answer_id FROM ai_answers x JOIN tenants t USING (tenant_id)
               WHERE x.began_at < now() - make_interval(days => coalesce((t.options -> 'chats' ->> 'keep_days')::int, $1))
               LIMIT $2) old
        WHERE a.tenant_id = old.tenant_id AND a.answer_id = old.answer_id
        """,
        default_days,
        most,
    )
    return int(done.rpartition(" ")[2])
