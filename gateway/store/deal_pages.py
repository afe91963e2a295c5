"""Runs of deals as people look for them, and replays. Inside one tenant. Read `gateway/store/deal_runs.py` for how they come about."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.domain.deal_runs import KEEP_S
from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection, Record

MOST_REPLAYED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs; what is None does not narrow."""

    run_id: int | None = None
    route: str | None = None
    state: str | None = None
    cause: str | None = None
    deal: int | None = None
    """Of the source or the target."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class SeenRun:
    """One run."""

    run_id: int
    correlation: UUID
    route: str
    source: str
    target: str
    deal_id: int
    target_id: int | None
    event: str
    domain: str
    state: str
    cause: str
    detail: str
    changed: tuple[str, ...]
    attempt: int
    received_at: datetime
    due_at: datetime
    finished_at: datetime | None
    duration_ms: int

    @property
    def replayable(self) -> bool:
        """Whether a replay makes sense: everything but what is being carried now."""
        return self.state != "waiting" or self.attempt > 0


_SEEN = """run_id, correlation_id, route, source, target, source_deal_id, target_deal_id, event, domain, state, cause, detail, changed,
           attempt, received_at, due_at, finished_at, duration_ms"""
_FITS = """tenant_id = $1 AND ($2::bigint IS NULL OR run_id = $2) AND ($3::text IS NULL OR route = $3)
           AND ($4::text IS NULL OR state = $4) AND ($5::text IS NULL OR cause = $5)
           AND ($6::bigint IS NULL OR source_deal_id = $6 OR target_deal_id = $6)
           AND ($7::timestamptz IS NULL OR received_at >= $7) AND ($8::timestamptz IS NULL OR received_at < $8)"""


def _args(tenant: TenantId, wanted: RunFilter) -> tuple[object, ...]:
    return (
        tenant, wanted.run_id, wanted.route, wanted.state, wanted.cause, wanted.deal, wanted.since, wanted.until,
    )  # fmt: skip


def _seen(row: Record) -> SeenRun:
    values: list[Any] = list(row)
    values[12] = tuple(values[12])
    return SeenRun(*values)


async def search_runs(
    conn: Connection, tenant: TenantId, wanted: RunFilter, before: int | None, most: int
) -> list[SeenRun]:
    """The newest first, before one of them."""
    rows = await conn.fetch(
        f"SELECT {_SEEN} FROM deal_runs WHERE {_FITS} AND ($9::bigint IS NULL OR run_id < $9) ORDER BY run_id DESC LIMIT $10",  # noqa: S608 - constants
        *_args(tenant, wanted),
        before,
        most,
    )
    return [_seen(row) for row in rows]


async def count_runs(conn: Connection, tenant: TenantId, hours: int = 24) -> dict[tuple[str, str], int]:
    """By route and state: those that wait, and what became of those that came lately."""
    rows = await conn.fetch(
        "SELECT route, state, count(*)::int FROM deal_runs WHERE tenant_id = $1 "
        "AND (state = 'waiting' OR received_at > now() - make_interval(hours => $2)) GROUP BY route, state",
        tenant,
        hours,
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def select_causes(conn: Connection, tenant: TenantId) -> list[str]:
    """Causes that runs have, for a filter."""
    rows = await conn.fetch(
        "SELECT DISTINCT cause FROM (SELECT cause FROM deal_runs WHERE tenant_id = $1 ORDER BY run_id DESC LIMIT 5000) r "
        "WHERE cause <> '' ORDER BY cause",
        tenant,
    )
    return [row[0] for row in rows]


async def replay_runs(
    conn: Connection, tenant: TenantId, wanted: RunFilter, most: int = MOST_REPLAYED
) -> list[tuple[str, str]]:
    """Makes runs due now, whatever was carried before, the oldest first; one that succeeded is carried again too. Returns their pairs,
    one for each run."""
    rows = await conn.fetch(
        f"""
        UPDATE deal_runs d
        SET state = 'waiting', cause = '', detail = '', attempt = 0, forced = true, due_at = now(), finished_at = NULL,
            expires_at = now() + make_interval(secs => $10)
        FROM (SELECT run_id FROM deal_runs WHERE {_FITS} AND source <> '' ORDER BY run_id LIMIT $9) r
        WHERE d.tenant_id = $1 AND d.run_id = r.run_id
        RETURNING d.source, d.target
        """,  # noqa: S608 - constants
        *_args(tenant, wanted),
        most,
        KEEP_S,
    )
    return [(row[0], row[1]) for row in rows]
