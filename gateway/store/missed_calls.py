"""Missed calls: which clients wait to be called back, and what became of the others. Works inside one tenant.

    missed -> reached    a later call with the same number, whoever placed it, was answered
           -> done       somebody marked it as dealt with

Missed is an incoming call that has ended and that nobody answered. Being reached is read from the calls and stored nowhere;
marks are rows of `missed_calls_done`. A hidden number cannot be reached, so each of its calls stands by itself.
Read `gateway/web/pages/missed.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import CallId, TenantId
from gateway.store.postgres.pool import Connection

CLIENT = "(CASE WHEN {0}.direction = 'incoming' THEN {0}.caller ELSE {0}.called END COLLATE \"C\")"
"""The outside number of a call, as the index `calls_client` has it."""
_MISSED = "{0}.phase = 'ended' AND {0}.direction = 'incoming' AND {0}.result IS DISTINCT FROM 'answered'"
_LATER = f"""later.tenant_id = c.tenant_id AND later.phase = 'ended' AND later.direction <> 'internal'
    AND {CLIENT.format("later")} = c.caller AND later.started_at > c.started_at AND later.result = 'answered'
    AND c.caller <> 'anonymous'"""
_REACHED = f"EXISTS (SELECT FROM calls later WHERE {_LATER})"
_DONE = "EXISTS (SELECT FROM missed_calls_done d WHERE d.tenant_id = c.tenant_id AND d.call_id = c.call_id)"
_OURS = "c.tenant_id = $1 AND c.started_at >= $2"
_RANG = "({0}::text[] IS NULL OR c.rang && {0}::text[])"
"""Whether it rang at one of these numbers; NULL: wherever it rang."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A client whom nobody has called back."""

    call_id: CallId
    """The last of the calls."""
    client: str
    called: str
    """The number of the company that was called last."""
    rang: tuple[str, ...]
    """Where the last call rang."""
    times: int
    since: datetime
    """When the client called first."""
    last_at: datetime
    result: str
    uncertain: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """A missed call that needs nobody any more."""

    call_id: CallId
    client: str
    started_at: datetime
    actor: str | None
    """Who marked it; None for one whose client was reached."""
    done_at: datetime | None
    reached_by: CallId | None
    """The call in which the client was reached."""
    reached_at: datetime | None
    reached_direction: str | None
    reached_employee: str | None


@dataclass(frozen=True, slots=True)
class MissedFigures:
    """What became of missed calls. `missed` of today is the sum of the three after it."""

    missed: int
    reached: int
    done: int
    open: int
    waiting: int
    """Calls that wait, of the whole time that was looked at."""
    oldest: datetime | None


_WAITING = f"""
    WITH missed AS MATERIALIZED (
        -- Not as conditions: they would become a join that reads every call of the company.
        SELECT c.call_id, c.caller, c.started_at, {_DONE} AS done, {_REACHED} AS reached FROM calls c
        WHERE {_OURS} AND {_MISSED.format("c")} AND {_RANG.format("$4")}
    ), clients AS (
        SELECT count(*) AS times, min(started_at) AS since, (array_agg(call_id ORDER BY started_at DESC))[1] AS call_id,
               count(*) OVER () AS clients
        FROM missed WHERE NOT done AND NOT reached
        GROUP BY caller, CASE WHEN caller = 'anonymous' THEN call_id END ORDER BY since LIMIT $3
    )
    SELECT l.call_id, l.caller, l.called, l.rang, w.times, w.since, l.started_at, coalesce(l.result, '') AS result,
           l.uncertain, w.clients
    FROM clients w JOIN calls l ON l.tenant_id = $1 AND l.call_id = w.call_id ORDER BY w.since, l.call_id
    """  # noqa: S608 - constants


async def select_missed_figures(
    conn: Connection, tenant: TenantId, since: datetime, today: datetime, only: Sequence[str] | None = None
) -> MissedFigures:
    """Figures of the calls that began at `today` or later, and what waits since `since`; of those that rang at the numbers of
    `only` where it is given."""
    row = await conn.fetchrow(
        f"""
        SELECT count(*) FILTER (WHERE started_at >= $3), count(*) FILTER (WHERE started_at >= $3 AND reached),
               count(*) FILTER (WHERE started_at >= $3 AND NOT reached AND done),
               count(*) FILTER (WHERE started_at >= $3 AND NOT reached AND NOT done),
               count(*) FILTER (WHERE NOT reached AND NOT done), min(started_at) FILTER (WHERE NOT reached AND NOT done)
        FROM (SELECT c.started_at, {_REACHED} AS reached, {_DONE} AS done FROM calls c WHERE {_OURS} AND {_MISSED.format("c")} AND {_RANG.format("$4")}) m
        """,  # noqa: S608 - constants
        tenant,
        since,
        today,
        list(only) if only is not None else None,
    )
    assert row is not None
    return MissedFigures(*row)


async def select_waiting(
    conn: Connection, tenant: TenantId, since: datetime, most: int, only: Sequence[str] | None = None
) -> tuple[list[Waiting], int]:
    """The clients whom nobody has reached or crossed off, who wait longest first; and how many there are in all."""
    rows = await conn.fetch(
        _WAITING,
        tenant,
        since,
        most,
        list(only) if only is not None else None,
    )
    found = [
        Waiting(
            CallId(row["call_id"]), row["caller"], row["called"], tuple(row["rang"]), row["times"], row["since"],
            row["started_at"], row["result"], row["uncertain"],
        )
        for row in rows
    ]  # fmt: skip
    return found, rows[0]["clients"] if rows else 0


async def select_settled(
    conn: Connection, tenant: TenantId, since: datetime, most: int, only: Sequence[str] | None = None
) -> Sequence[Settled]:
    """Missed calls whose client was reached or that somebody marked, newest first."""
    rows = await conn.fetch(
        f"""
        SELECT c.call_id, c.caller, c.started_at, d.actor, d.done_at, r.call_id, r.started_at, r.direction, r.employee
        FROM calls c
        LEFT JOIN missed_calls_done d ON d.tenant_id = c.tenant_id AND d.call_id = c.call_id
        LEFT JOIN LATERAL (
            SELECT later.call_id, later.started_at, later.direction,
                   CASE WHEN later.direction = 'incoming' THEN later.extension ELSE later.caller END AS employee
            FROM calls later WHERE {_LATER} ORDER BY later.started_at LIMIT 1
        ) r ON true
        WHERE {_OURS} AND {_MISSED.format("c")} AND {_RANG.format("$4")}
          AND (d.call_id IS NOT NULL OR r.call_id IS NOT NULL)
        ORDER BY c.started_at DESC LIMIT $3
        """,  # noqa: S608 - constants
        tenant,
        since,
        most,
        list(only) if only is not None else None,
    )
    return [Settled(*row) for row in rows]


async def mark_done(
    conn: Connection, tenant: TenantId, call_id: str, since: datetime, actor: str, only: Sequence[str] | None = None
) -> str | None:
    """Marks a missed call as dealt with, and with it the earlier ones of the same client. Returns the client's number;
    None where there is no such missed call, or all of this is marked already."""
    number: str | None = await conn.fetchval(
        f"""
        WITH chosen AS (
            SELECT c.call_id, c.caller, c.started_at FROM calls c WHERE c.tenant_id = $1 AND c.call_id = $3 AND {_MISSED.format("c")}
              AND {_RANG.format("$5")}
        ), marked AS (
            INSERT INTO missed_calls_done (tenant_id, call_id, actor)
            SELECT $1, c.call_id, $4 FROM calls c, chosen
            WHERE {_OURS} AND {_MISSED.format("c")} AND {CLIENT.format("c")} = chosen.caller AND c.started_at <= chosen.started_at
              AND chosen.caller <> 'anonymous' AND c.call_id <> chosen.call_id AND {_RANG.format("$5")}
            UNION ALL SELECT $1, call_id, $4 FROM chosen
            ON CONFLICT DO NOTHING RETURNING call_id
        )
        SELECT caller FROM chosen WHERE EXISTS (SELECT FROM marked)
        """,  # noqa: S608 - constants
        tenant,
        since,
        call_id,
        actor,
        list(only) if only is not None else None,
    )
    return number


async def undo_done(conn: Connection, tenant: TenantId, call_id: str, only: Sequence[str] | None = None) -> str | None:
    """Takes back a mark, and those that were made with it. Returns the client's number; None where there is no mark."""
    number: str | None = await conn.fetchval(
        f"""
        WITH chosen AS (
            SELECT d.actor, d.done_at, c.caller FROM missed_calls_done d
            JOIN calls c ON c.tenant_id = d.tenant_id AND c.call_id = d.call_id
            WHERE d.tenant_id = $1 AND d.call_id = $2 AND {_RANG.format("$3")}
        ), gone AS (
            DELETE FROM missed_calls_done d USING calls c, chosen
            WHERE d.tenant_id = $1 AND c.tenant_id = d.tenant_id AND c.call_id = d.call_id AND d.done_at = chosen.done_at
              AND d.actor = chosen.actor AND c.caller = chosen.caller RETURNING d.call_id
        )
        SELECT caller FROM chosen WHERE EXISTS (SELECT FROM gone)
        """,  # noqa: S608 - constants
        tenant,
        call_id,
        list(only) if only is not None else None,
    )
    return number
