"""What a company's AI was used for, by day: answers and tokens by prompt and model, and why conversations went to people. Works inside
one tenant, but for `select_use_of`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """Of one day, one version of a prompt and one model."""

    day: date
    prompt: str
    version: int
    model: str
    sent: int
    """Answers that clients got."""
    others: int
    """Answers that failed, were dropped for a newer message or a person, or ended with a hand-over."""
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None
    """The median of those that were sent."""


async def select_day_use(conn: Connection, tenant: TenantId, since: date, until: date, zone: str) -> list[DayUse]:
    """By day of the time zone, the newest first, both days included."""
    rows = await conn.fetch(
        """
        SELECT (began_at AT TIME ZONE $4)::date AS day, prompt_name, prompt_version, model,
               count(*) FILTER (WHERE state = 'sent') AS sent, count(*) FILTER (WHERE state <> 'sent') AS others,
               sum(prompt_tokens)::bigint AS asked, sum(completion_tokens)::bigint AS said,
               (percentile_cont(0.5) WITHIN GROUP (ORDER BY first_token_ms) FILTER (WHERE state = 'sent'))::integer AS first
        FROM ai_answers
        WHERE tenant_id = $1 AND began_at >= $2::date::timestamp AT TIME ZONE $4
          AND began_at < ($3::date + 1)::timestamp AT TIME ZONE $4
        GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4
        """,
        tenant,
        since,
        until,
        zone,
    )
    return [
        DayUse(
            day=row[0], prompt=row[1], version=row[2], model=row[3], sent=row[4], others=row[5], prompt_tokens=row[6],
            completion_tokens=row[7], first_token_ms=row[8],
        )
        for row in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DayHandOvers:
    """Conversations that went to people on a day, for one cause and reason."""

    day: date
    cause: str
    reason: str
    count: int
    overdue: int
    """Those that nobody took in time."""


async def select_day_hand_overs(
    conn: Connection, tenant: TenantId, since: date, until: date, zone: str
) -> list[DayHandOvers]:
    """By day of the time zone, the newest first, both days included."""
    rows = await conn.fetch(
        """
        SELECT (at AT TIME ZONE $4)::date AS day, cause, split_part(reason, ' ', 1), count(*), count(overdue_at)
        FROM ai_hand_overs
        WHERE tenant_id = $1 AND at >= $2::date::timestamp AT TIME ZONE $4 AND at < ($3::date + 1)::timestamp AT TIME ZONE $4
        GROUP BY 1, 2, 3 ORDER BY 1 DESC, 4 DESC, 2, 3
        """,
        tenant,
        since,
        until,
        zone,
    )
    return [DayHandOvers(day=row[0], cause=row[1], reason=row[2], count=row[3], overdue=row[4]) for row in rows]


async def select_use_of(conn: Connection, days: Mapping[TenantId, date]) -> dict[TenantId, int]:
    """The tokens that each of these companies used on its day. The engine's."""
    numbers: Sequence[TenantId] = list(days)
    rows = await conn.fetch(
        """
        SELECT d.tenant_id, d.prompt_tokens + d.completion_tokens
        FROM unnest($1::text[], $2::date[]) AS w (tenant_id, day) JOIN ai_days d USING (tenant_id, day)
        """,
        numbers,
        [days[number] for number in numbers],
    )
    return {TenantId(row[0]): row[1] for row in rows}
