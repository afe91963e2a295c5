"""Calls as people look for them: history with filters, one call with its events and deliveries, the day's figures.

Reads only, inside one tenant (`Database.tenant`). Pages go by key and not by offset, so the tenth page costs what the
first does. Writing is `gateway.store.outbox`; the fold of a call is `gateway.domain.calls`.
Read `gateway/web/pages/calls.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.domain.calls import Call
from gateway.domain.ids import CallId, TenantId
from gateway.domain.people import is_of
from gateway.store.calls import COLUMNS, OF, call_from_row
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is looked for. Everything that is None or empty does not narrow."""

    text: str = ""
    """Part of a number, a whole number in E.164, or the beginning of a call id."""
    e164: str | None = None
    """`text` read as a telephone number."""
    owned: tuple[str, ...] = ()
    """Internal numbers whose owner's name holds `text`."""
    direction: str | None = None
    result: str | None = None
    extension: str | None = None
    trunk: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    uncertain: bool = False
    only: tuple[str, ...] | None = None
    """Internal numbers whose calls alone may be seen; not a person's choice, so it is no filter that could be cleared."""
    number: str = ""
    """Part of a party's number, or a whole one as `e164`."""
    open_too: bool = False
    """Whether calls that go on are meant as well."""

    def __bool__(self) -> bool:
        return replace(self, only=None) != Filters()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: after this call, going back in time."""

    started_at: datetime
    call_id: str


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event of a call. `body` is JSON as `gateway replay` prints it."""

    seq: int
    event: str
    at: datetime
    body: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One delivery to an outside system about a call."""

    delivery_id: int
    integration: str
    kind: str
    key: str
    state: str
    attempt: int
    run_at: datetime
    expires_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    note: str


@dataclass(frozen=True, slots=True)
class DayFigures:
    """What became of the calls of a day so far; internal ones are not counted."""

    calls: int
    answered: int
    missed: int
    """Incoming ones that nobody took."""
    unreached: int
    """Outgoing ones in which nobody was reached; `calls` is the sum of the three."""
    wait_s: float | None
    """Mean wait of the incoming ones that were answered."""
    talk_s: float | None
    """Mean length of the talk."""


@dataclass(frozen=True, slots=True)
class HourFigures:
    """What became of the external calls that began in one hour of a day."""

    hour: int
    """0 to 23, by the company's clock."""
    answered: int
    missed: int
    unreached: int
    waited: int
    """Incoming ones that were answered, to which `wait_s` belongs."""
    wait_s: float
    """Sum of their waits."""
    talked: int
    talk_s: float
    """Sum of the talks."""


def of_day(hours: Sequence[HourFigures]) -> DayFigures:
    """The day's figures as the sums of its hours."""
    answered, missed, unreached = (
        sum(getattr(one, name) for one in hours) for name in ("answered", "missed", "unreached")
    )
    waited, talked = sum(one.waited for one in hours), sum(one.talked for one in hours)
    return DayFigures(
        answered + missed + unreached, answered, missed, unreached,
        sum(one.wait_s for one in hours) / waited if waited else None,
        sum(one.talk_s for one in hours) / talked if talked else None,
    )  # fmt: skip


def _part(text: str) -> str:
    """A LIKE pattern for `text` anywhere."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def search_calls(
    conn: Connection, tenant: TenantId, filters: Filters, after: Place | None = None, most: int = 50
) -> list[Call]:
    """Calls that have ended, newest first; with those that go on where the filter says so."""
    rows = await conn.fetch(
        f"""
        SELECT {COLUMNS} FROM calls
        WHERE tenant_id = $1 AND (phase = 'ended' OR ($15::bool AND phase IN ('ringing', 'talking')))
          AND ($2::timestamptz IS NULL OR (started_at, call_id) < ($2, $3))
          AND ($4::text IS NULL
               OR caller LIKE $4 OR called LIKE $4 OR call_id LIKE $4
               OR caller = $5 OR called = $5
               OR extension = ANY($6::text[]) OR last_extension = ANY($6::text[]) OR rang && $6::text[]
               OR (direction <> 'incoming' AND caller = ANY($6::text[]))
               OR (direction = 'internal' AND called = ANY($6::text[])))
          AND ($7::text IS NULL OR direction = $7)
          AND ($8::text IS NULL OR result = $8)
          AND ($9::text IS NULL OR extension = $9 OR last_extension = $9 OR $9 = ANY(rang)
               OR (direction <> 'incoming' AND caller = $9) OR (direction = 'internal' AND called = $9))
          AND ($10::text IS NULL OR trunk = $10)
          AND ($11::timestamptz IS NULL OR started_at >= $11)
          AND ($12::timestamptz IS NULL OR started_at < $12)
          AND (NOT $13::bool OR uncertain)
          AND ($16::text IS NULL OR caller LIKE $16 OR called LIKE $16 OR caller = $5 OR called = $5)
          AND {OF.format("$17")}
        ORDER BY started_at DESC, call_id DESC
        LIMIT $14
        """,  # noqa: S608 - constant columns
        tenant,
        after.started_at if after else None,
        after.call_id if after else "",
        _part(filters.text) if filters.text else None,
        filters.e164,
        list(filters.owned),
        filters.direction,
        filters.result,
        filters.extension,
        filters.trunk,
        filters.since,
        filters.until,
        filters.uncertain,
        most,
        filters.open_too,
        _part(filters.number) if filters.number else None,
        list(filters.only) if filters.only is not None else None,
    )
    return [call_from_row(row) for row in rows]


async def select_call(conn: Connection, tenant: TenantId, call_id: str) -> tuple[str, Call] | None:
    """One call with the source that reported it."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM calls WHERE tenant_id = $1 AND call_id = $2",  # noqa: S608 - constant columns
        tenant,
        call_id,
    )
    return (row["source"], call_from_row(row)) if row is not None else None


async def select_merged_calls(
    conn: Connection, tenant: TenantId, call_id: str, only: Sequence[str] | None = None
) -> list[CallId]:
    """The consultation calls that joined this one, oldest first; of an agent's internal numbers (`only`), those that are theirs."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM calls WHERE tenant_id = $1 AND merged_into = $2 AND phase = 'merged' "  # noqa: S608 - constant columns
        "ORDER BY started_at LIMIT 50",
        tenant,
        call_id,
    )
    calls = map(call_from_row, rows)
    return [call.call_id for call in calls if only is None or is_of(call, only)]


async def select_call_events(conn: Connection, tenant: TenantId, call_id: str, most: int = 500) -> list[EventLine]:
    """Every event of the call, in order."""
    rows = await conn.fetch(
        "SELECT seq, event, at, body, recorded_at FROM call_events WHERE tenant_id = $1 AND call_id = $2 "
        "ORDER BY seq LIMIT $3",
        tenant,
        call_id,
        most,
    )
    return [EventLine(*row) for row in rows]


async def select_call_deliveries(
    conn: Connection, tenant: TenantId, call_id: str, most: int = 200
) -> list[DeliveryLine]:
    """The call's deliveries to outside systems, in the order in which they were planned."""
    rows = await conn.fetch(
        """
        SELECT delivery_id, integration_type, kind, key, state, attempt, run_at, expires_at, created_at, finished_at, note
        FROM deliveries WHERE tenant_id = $1 AND subject_kind = 'call' AND subject_id = $2 ORDER BY delivery_id LIMIT $3
        """,
        tenant,
        call_id,
        most,
    )
    return [DeliveryLine(*row) for row in rows]


async def select_day_figures(
    conn: Connection, tenant: TenantId, since: datetime, only: Sequence[str] | None = None
) -> DayFigures:
    """What became of the calls with the outside that began at `since` or later and have ended; of the calls of these internal
    numbers where they are given, so that missed are those that rang there."""
    row = await conn.fetchrow(
        f"""
        SELECT count(*) AS calls,
               count(*) FILTER (WHERE result = 'answered') AS answered,
               count(*) FILTER (WHERE direction = 'incoming' AND result IS DISTINCT FROM 'answered') AS missed,
               count(*) FILTER (WHERE direction = 'outgoing' AND result IS DISTINCT FROM 'answered') AS unreached,
               avg(wait_s) FILTER (WHERE direction = 'incoming' AND result = 'answered') AS wait_s,
               avg(talk_s) FILTER (WHERE result = 'answered') AS talk_s
        FROM calls
        WHERE tenant_id = $1 AND started_at >= $2 AND phase = 'ended' AND direction <> 'internal' AND {OF.format("$3")}
        """,  # noqa: S608 - a constant
        tenant,
        since,
        list(only) if only is not None else None,
    )
    assert row is not None
    return DayFigures(*row)


async def select_hours(
    conn: Connection, tenant: TenantId, since: datetime, zone: str, only: Sequence[str] | None = None
) -> list[HourFigures]:
    """The hours of the day that began at `since`, those without calls left out; of the calls of these internal numbers where
    they are given. Counted as `select_day_figures` counts."""
    rows = await conn.fetch(
        f"""
        SELECT extract(hour FROM started_at AT TIME ZONE $3)::int AS hour,
               count(*) FILTER (WHERE result = 'answered'),
               count(*) FILTER (WHERE direction = 'incoming' AND result IS DISTINCT FROM 'answered'),
               count(*) FILTER (WHERE direction = 'outgoing' AND result IS DISTINCT FROM 'answered'),
               count(wait_s) FILTER (WHERE direction = 'incoming' AND result = 'answered'),
               coalesce(sum(wait_s) FILTER (WHERE direction = 'incoming' AND result = 'answered'), 0),
               count(talk_s) FILTER (WHERE result = 'answered'), coalesce(sum(talk_s) FILTER (WHERE result = 'answered'), 0)
        FROM calls
        WHERE tenant_id = $1 AND started_at >= $2 AND phase = 'ended' AND direction <> 'internal'
          AND {OF.format("$4")}
        GROUP BY 1 ORDER BY 1
        """,  # noqa: S608 - a constant
        tenant,
        since,
        zone,
        list(only) if only is not None else None,
    )
    return [HourFigures(*row) for row in rows]


async def any_call(conn: Connection, tenant: TenantId) -> bool:
    """Whether a call of this company was ever seen."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM calls WHERE tenant_id = $1)", tenant))


async def select_trunks(
    conn: Connection, tenant: TenantId, since: datetime, only: Sequence[str] | None = None, most: int = 50
) -> Sequence[str]:
    """The outside lines that calls came or went by lately, for the filter's list."""
    rows = await conn.fetch(
        f"""
        SELECT DISTINCT trunk FROM calls
        WHERE tenant_id = $1 AND started_at >= $2 AND trunk IS NOT NULL AND {OF.format("$3")} ORDER BY trunk LIMIT $4
        """,  # noqa: S608 - a constant
        tenant,
        since,
        list(only) if only is not None else None,
        most,
    )
    return [row["trunk"] for row in rows]
