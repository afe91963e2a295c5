"""Texts of recorded calls: the queue in which they are made, and what is read of them. Works inside one tenant.

The database makes a row when a recording's file has come, where the company has that switched on; it goes with the recording. A
claim leases what is due and raises its epoch, an outcome names the one it holds. What was said is sealed by the caller. Words are
searched by keyed hashes: whoever has the database alone can compare calls of a company, and read none.
Read `actors/ai/transcribing.py` for who works on the queue, `gateway/domain/transcripts.py` for what is sealed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.store.missed_calls import CLIENT
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import BlobRow

TABLE, BODY, SUMMARY = "call_transcripts", "body", "summary"
"""Where texts are sealed for; the row is the recording's id."""
NEWEST = 5000
"""Texts that a search looks through."""

# The queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A recording leased to be transcribed or summarised."""

    recording_id: UUID
    call_id: str
    blob: BlobRow
    content_type: str
    duration_s: float | None
    answered: bool
    talk_s: float | None
    reached: int
    reached_s: float
    transcribed: bool
    body: str
    """Sealed."""
    attempt: int
    epoch: int


async def claim_work(conn: Connection, tenant: TenantId, most: int, lease_s: float) -> list[Work]:
    """Leases what is due, the oldest first: recordings of calls that are over."""
    rows = await conn.fetch(
        """
        WITH due AS MATERIALIZED (
            SELECT recording_id, call_id, address, b.object, b.file_key, b.size, r.content_type, r.duration_s, c.talk_s,
                   coalesce(c.result = 'answered', c.answered_at IS NOT NULL) AS answered
            FROM call_transcripts t JOIN recordings r USING (tenant_id, recording_id)
            JOIN recording_blobs b USING (tenant_id, address) JOIN calls c USING (tenant_id, call_id)
            WHERE t.tenant_id = $1 AND t.state = 'waiting' AND t.run_at <= now()
              AND (t.lease_until IS NULL OR t.lease_until < now()) AND NOT r.loose AND c.phase IN ('ended', 'merged')
            ORDER BY t.run_at, recording_id LIMIT $2 FOR UPDATE OF t SKIP LOCKED
        )
        UPDATE call_transcripts t
        SET attempt = t.attempt + 1, epoch = t.epoch + 1, lease_until = now() + make_interval(secs => $3)
        FROM due WHERE t.tenant_id = $1 AND t.recording_id = due.recording_id
        RETURNING t.recording_id, due.call_id, due.address, due.object, due.file_key, due.size, due.content_type, due.duration_s,
                  due.answered, due.talk_s, t.reached, t.reached_s, t.transcribed_at IS NOT NULL, t.body, t.attempt, t.epoch
        """,
        tenant,
        most,
        lease_s,
    )
    return [
        Work(
            recording_id=row[0], call_id=row[1], blob=BlobRow(*row[2:6]), content_type=row[6], duration_s=row[7], answered=row[8],
            talk_s=row[9], reached=row[10], reached_s=row[11], transcribed=row[12], body=row[13], attempt=row[14], epoch=row[15],
        )
        for row in map(tuple, rows)
    ]  # fmt: skip


async def release_work(conn: Connection, tenant: TenantId) -> None:
    """Gives back what another owner of the tenant held: there is one at a time, and it has begun anew."""
    await conn.execute(
        "UPDATE call_transcripts SET lease_until = NULL, epoch = epoch + 1 "
        "WHERE tenant_id = $1 AND state = 'waiting' AND lease_until IS NOT NULL",
        tenant,
    )


async def give_up_old(conn: Connection, tenant: TenantId, older_than_s: float) -> int:
    """What has waited for so long is not tried any more. Returns how much."""
    done: str = await conn.execute(
        """
        UPDATE call_transcripts
        SET state = CASE WHEN transcribed_at IS NULL THEN 'failed' ELSE 'done' END, lease_until = NULL,
            problem = CASE problem WHEN '' THEN 'too_late' ELSE problem END
        WHERE tenant_id = $1 AND state = 'waiting' AND made_at < now() - make_interval(secs => $2)
          AND (lease_until IS NULL OR lease_until < now())
        """,
        tenant,
        older_than_s,
    )
    return int(done.rpartition(" ")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a text has come. `body` is sealed."""

    reached: int
    reached_s: float
    body: str
    audio_s: float
    """Seconds of sound that were sent since the last time."""
    language: str
    model: str
    words: Sequence[int] = ()
    """Of the whole text."""
    whole: bool = False


async def save_progress(
    conn: Connection, tenant: TenantId, work: Work, progress: Progress, lease_s: float, day: date
) -> bool:
    """Stores a part of a text with what it cost. False where the lease has passed to another, or nothing of the kind is wanted any
    more; the cost is stored all the same."""
    await _add_audio(conn, tenant, day, progress.audio_s)
    done: str = await conn.execute(
        """
        UPDATE call_transcripts
        SET reached = $4, reached_s = $5, body = $6, audio_s = audio_s + $7, language = $8, model = $9, problem = '', detail = '',
            transcribed_at = CASE WHEN $10 THEN clock_timestamp() END, lease_until = now() + make_interval(secs => $11),
            words = $12
        WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'waiting'
        """,
        tenant, work.recording_id, work.epoch, progress.reached, progress.reached_s, progress.body, progress.audio_s,
        storable(progress.language)[:40], storable(progress.model)[:200], progress.whole, lease_s,
        list(progress.words),
    )  # fmt: skip
    return done.endswith(" 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What there is in the end. `summary` is sealed, or empty."""

    summary: str = ""
    words: Sequence[int] = ()
    """Of the summary."""
    summary_model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    problem: str = ""
    """Why there is no summary though one was wanted."""


async def finish_work(conn: Connection, tenant: TenantId, work: Work, finished: Finished) -> bool:
    """Text and summary are there. False where the lease has passed to another."""
    done: str = await conn.execute(
        """
        UPDATE call_transcripts
        SET state = 'done', summary = $4, words = words || $5::bigint[], summary_model = $6, prompt_tokens = prompt_tokens + $7,
            completion_tokens = completion_tokens + $8, problem = $9, detail = '', lease_until = NULL
        WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'waiting'
        """,
        tenant, work.recording_id, work.epoch, finished.summary, list(finished.words), storable(finished.summary_model)[:200],
        finished.prompt_tokens, finished.completion_tokens, finished.problem,
    )  # fmt: skip
    return done.endswith(" 1")


async def end_work(conn: Connection, tenant: TenantId, work: Work, state: str, problem: str, detail: str = "") -> None:
    """There will be no text: `failed` or `skipped`."""
    await conn.execute(
        "UPDATE call_transcripts SET state = $4, problem = $5, detail = $6, lease_until = NULL "
        "WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'waiting'",
        tenant,
        work.recording_id,
        work.epoch,
        state,
        problem,
        storable(detail)[:500],
    )


async def put_off_work(
    conn: Connection, tenant: TenantId, work: Work, problem: str, detail: str, again_s: float
) -> None:
    """It is tried again in so many seconds."""
    await conn.execute(
        "UPDATE call_transcripts SET problem = $4, detail = $5, lease_until = NULL, run_at = now() + make_interval(secs => $6) "
        "WHERE tenant_id = $1 AND recording_id = $2 AND epoch = $3 AND state = 'waiting'",
        tenant,
        work.recording_id,
        work.epoch,
        problem,
        storable(detail)[:500],
        again_s,
    )


async def retry_transcript(conn: Connection, tenant: TenantId, recording: UUID) -> bool:
    """Begins anew with one that failed, or at once with one that waits. What is there of the text stays. False for any other."""
    done: str = await conn.execute(
        """
        UPDATE call_transcripts SET state = 'waiting', made_at = now(), run_at = now(), attempt = 0, problem = '', detail = ''
        WHERE tenant_id = $1 AND recording_id = $2 AND (lease_until IS NULL OR lease_until < now())
          AND (state = 'failed' OR (state = 'waiting' AND problem <> '') OR (state = 'done' AND problem <> ''))
        """,
        tenant,
        recording,
    )
    return done.endswith(" 1")


# Budgets


async def _add_audio(conn: Connection, tenant: TenantId, day: date, seconds: float) -> None:
    await conn.execute(
        "INSERT INTO ai_days AS d (tenant_id, day, audio_s) VALUES ($1, $2, $3) "
        "ON CONFLICT (tenant_id, day) DO UPDATE SET audio_s = d.audio_s + excluded.audio_s",
        tenant,
        day,
        seconds,
    )


async def select_audio(conn: Connection, tenant: TenantId, day: date) -> float:
    """Seconds of sound that a company sent on a day."""
    found: float | None = await conn.fetchval(
        "SELECT audio_s FROM ai_days WHERE tenant_id = $1 AND day = $2", tenant, day
    )
    return found or 0.0


# Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptRow:
    """One text as it is stored."""

    recording_id: UUID
    call_id: str
    state: str
    problem: str
    detail: str
    run_at: datetime
    under_way: bool
    reached_s: float
    transcribed: bool
    body: str
    """Sealed."""
    summary: str
    """Sealed."""
    language: str
    model: str
    summary_model: str
    made_at: datetime


_COLUMNS = (
    "t.recording_id, r.call_id, t.state, t.problem, t.detail, t.run_at, coalesce(t.lease_until > now(), false), t.reached_s, "
    "t.transcribed_at IS NOT NULL, t.body, t.summary, t.language, t.model, t.summary_model, t.made_at"
)
_FROM = "call_transcripts t JOIN recordings r USING (tenant_id, recording_id)"


def _row(row: tuple[object, ...]) -> TranscriptRow:
    names = TranscriptRow.__dataclass_fields__
    return TranscriptRow(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type] # by the columns


async def select_transcripts(conn: Connection, tenant: TenantId, call_id: str) -> list[TranscriptRow]:
    """The texts of a call's recordings."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE t.tenant_id = $1 AND r.call_id = $2 ORDER BY t.made_at, t.recording_id LIMIT 20",  # noqa: S608 - constants
        tenant,
        call_id,
    )
    return [_row(tuple(row)) for row in rows]


async def select_transcript(conn: Connection, tenant: TenantId, recording: UUID) -> TranscriptRow | None:
    """The text of a recording."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE t.tenant_id = $1 AND t.recording_id = $2",  # noqa: S608 - constants
        tenant,
        recording,
    )
    return _row(tuple(row)) if row is not None else None


async def select_transcripts_of_phones(
    conn: Connection, tenant: TenantId, phones: Sequence[str], most: int
) -> list[TranscriptRow]:
    """The newest texts of calls with these numbers outside."""
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM {_FROM} JOIN calls c USING (tenant_id, call_id)
        WHERE t.tenant_id = $1 AND c.direction <> 'internal' AND t.body <> ''
          AND {CLIENT.format("c")} = ANY($2::text[])
        ORDER BY t.made_at DESC, t.recording_id LIMIT $3
        """,  # noqa: S608 - constants
        tenant,
        list(phones),
        most,
    )
    return [_row(tuple(row)) for row in rows]


async def select_lexemes(conn: Connection, text: str) -> list[str]:
    """The words of a text as a search compares them, in Russian and English."""
    rows = await conn.fetch(
        "SELECT DISTINCT unnest(tsvector_to_array(to_tsvector('russian', piece))) FROM unnest($1::text[]) AS p (piece)",
        [storable(text)[at : at + 100_000] for at in range(0, len(text), 100_000)],
    )
    return [row[0] for row in rows]


async def find_calls_by_words(conn: Connection, tenant: TenantId, words: Sequence[int], most: int) -> list[str]:
    """The newest calls in which all these words were said, by their hashes."""
    rows = await conn.fetch(
        f"""
        SELECT r.call_id FROM (
            SELECT tenant_id, recording_id, made_at, words FROM call_transcripts
            WHERE tenant_id = $1 AND words <> '{{}}' ORDER BY made_at DESC LIMIT {NEWEST}
        ) t JOIN recordings r USING (tenant_id, recording_id)
        WHERE t.words @> $2::bigint[] GROUP BY r.call_id ORDER BY max(t.made_at) DESC, r.call_id LIMIT $3
        """,  # noqa: S608 - a constant
        tenant,
        list(words),
        most,
    )
    return [row[0] for row in rows]


async def erase_transcripts(conn: Connection, tenant: TenantId, phones: Sequence[str]) -> list[str]:
    """Erases the texts of all calls with these numbers outside; none is made again. Returns the calls. Within a transaction of the
    caller, who removes what was sent of them."""
    rows = await conn.fetch(
        f"""
        UPDATE call_transcripts t
        SET state = 'erased', body = '', summary = '', words = '{{}}', problem = '', detail = '', lease_until = NULL, epoch = t.epoch + 1
        FROM (
            SELECT recording_id, call_id FROM call_transcripts JOIN recordings USING (tenant_id, recording_id)
            JOIN calls c USING (tenant_id, call_id)
            WHERE tenant_id = $1 AND c.direction <> 'internal' AND {CLIENT.format("c")} = ANY($2::text[])
        ) theirs
        WHERE t.tenant_id = $1 AND t.recording_id = theirs.recording_id AND t.state <> 'erased'
        RETURNING theirs.call_id
        """,  # noqa: S608 - constants
        tenant,
        list(phones),
    )
    return [row[0] for row in rows]
