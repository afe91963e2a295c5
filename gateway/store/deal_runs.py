"""Runs of deals: events on routes, due, tried and finished; and which deal of one side is which of the other.

Whatever the actor of a tenant's deals writes names the epoch of the tenant's shard: one that another instance has replaced changes
nothing. Read `actors/deals/tenant_deals.py` next for who does; `gateway/store/deal_pages.py` for what people see.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from gateway.domain.deal_runs import KEEP_S, Run, RunOutcome, State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

Pair = tuple[IntegrationKey, IntegrationKey]
"""From where to where."""


class Replaced(Exception):
    """The tenant's shard has passed on to another epoch; nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """An event on a route. `cause`: it is skipped at once, and why."""

    correlation: UUID
    route: str
    source: str
    target: str
    deal_id: int
    event: str
    domain: str
    received_at: datetime
    cause: str = ""
    forced: bool = False


@dataclass(frozen=True, slots=True)
class DealLink:
    """A deal that lives on both sides."""

    target_id: int
    digests: Mapping[str, str] = field(default_factory=dict)
    told_source: bool = False


@dataclass(frozen=True, slots=True)
class RunState:
    """What is known of an event on one of its routes."""

    state: State
    cause: str
    target_id: int | None


async def _fence(conn: Connection, tenant: TenantId, epoch: int) -> None:
    held = await conn.fetchval(
        "SELECT 1 FROM shards WHERE shard = $1 AND epoch = $2 FOR SHARE", shard_of(tenant), epoch
    )
    if held is None:
        raise Replaced


# Events become runs ---------------------------------------------------------------------------------------------------


async def store_runs(
    conn: Connection, tenant: TenantId, epoch: int, runs: Sequence[NewRun], done: Sequence[tuple[int, datetime]]
) -> None:
    """Stores runs and marks the posts of the journal that they come from, in one transaction. Raises Replaced."""
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            "UPDATE journal j SET done_at = now() FROM unnest($2::bigint[], $3::timestamptz[]) AS r (journal_id, received_at) "
            "WHERE j.tenant_id = $1 AND j.journal_id = r.journal_id AND j.received_at = r.received_at AND j.done_at IS NULL",
            tenant,
            [one for one, _ in done],
            [at for _, at in done],
        )
        await insert_runs(conn, tenant, runs)


async def insert_runs(conn: Connection, tenant: TenantId, runs: Sequence[NewRun]) -> None:
    """Stores runs, due now."""
    rows = [
        {
            "correlation": str(one.correlation), "route": one.route, "source": one.source, "target": one.target,
            "deal": one.deal_id, "event": storable(one.event), "domain": storable(one.domain),
            "received_at": one.received_at.isoformat(), "cause": one.cause, "forced": one.forced,
        }
        for one in runs
    ]  # fmt: skip
    await conn.execute(
        """
        INSERT INTO deal_runs (tenant_id, correlation_id, route, source, target, source_deal_id, event, domain, state, cause,
                               forced, received_at, expires_at, finished_at)
        SELECT $1, r.correlation, r.route, r.source, r.target, r.deal, r.event, r.domain,
               CASE WHEN r.cause = '' THEN 'waiting' ELSE 'skipped' END, r.cause, r.forced, r.received_at,
               now() + make_interval(secs => $3), CASE WHEN r.cause = '' THEN NULL ELSE now() END
        FROM json_to_recordset($2::json)
             AS r (correlation uuid, route text, source text, target text, deal bigint, event text, domain text,
                   received_at timestamptz, cause text, forced boolean)
        """,
        tenant,
        json.dumps(rows),
        KEEP_S,
    )


# Runs are carried -------------------------------------------------------------------------------------------------------

_RUN = """run_id, route, source, target, source_deal_id, event, domain, correlation_id, attempt, forced, received_at,
          expires_at < now() AS expired"""


def _run(row: Record) -> Run:
    return Run(
        run_id=row["run_id"], route=row["route"], source=IntegrationKey(row["source"]), target=IntegrationKey(row["target"]),
        deal_id=row["source_deal_id"], event=row["event"], domain=row["domain"], correlation=row["correlation_id"],
        attempt=row["attempt"], forced=row["forced"], received_at=row["received_at"], expired=row["expired"],
    )  # fmt: skip


async def select_due_runs(conn: Connection, tenant: TenantId, pair: Pair, deals: int, most: int = 2000) -> list[Run]:
    """The runs of the deals that have been due for longest, at most so many deals; with each all runs of it that wait: the deal is
    read once for all."""
    rows = await conn.fetch(
        f"""
        WITH due AS (
            SELECT source_deal_id, min(due_at) AS due_at FROM deal_runs
            WHERE tenant_id = $1 AND source = $2 AND target = $3 AND state = 'waiting'
            GROUP BY source_deal_id HAVING min(due_at) <= now() ORDER BY 2, 1 LIMIT $4
        )
        SELECT {_RUN} FROM deal_runs r JOIN due d USING (source_deal_id)
        WHERE r.tenant_id = $1 AND r.source = $2 AND r.target = $3 AND r.state = 'waiting'
        ORDER BY run_id LIMIT $5
        """,  # noqa: S608 - constant columns
        tenant,
        *pair,
        deals,
        most,
    )
    return [_run(row) for row in rows]


async def select_next_due_s(conn: Connection, tenant: TenantId, pair: Pair) -> float | None:
    """Seconds until a run of the pair is due, 0 or less where one is; None where none waits."""
    found: float | None = await conn.fetchval(
        "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM deal_runs "
        "WHERE tenant_id = $1 AND source = $2 AND target = $3 AND state = 'waiting'",
        tenant,
        *pair,
    )
    return found


async def wake_runs(conn: Connection, tenant: TenantId, epoch: int, pairs: Sequence[Pair]) -> None:
    """At the start of an actor, for settings may have changed: runs that a person had to do something for are due now, and those of
    pairs that no route has any more are skipped. Raises Replaced."""
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            "UPDATE deal_runs SET due_at = now() WHERE tenant_id = $1 AND state = 'waiting' AND due_at > now() "
            "AND cause IN ('bad_credentials', 'bad_settings', 'no_integration')",
            tenant,
        )
        await conn.execute(
            """
            UPDATE deal_runs SET state = 'skipped', cause = 'route_gone', finished_at = now()
            WHERE tenant_id = $1 AND state = 'waiting'
              AND (source, target) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))
            """,
            tenant,
            [pair[0] for pair in pairs],
            [pair[1] for pair in pairs],
        )


async def select_links(
    conn: Connection, tenant: TenantId, pair: Pair, deals: Collection[int]
) -> dict[int, DealLink]:  # fmt: skip
    """By the source's ids."""
    rows = await conn.fetch(
        "SELECT source_deal_id, target_deal_id, digests::text, told_source FROM deal_links "
        "WHERE tenant_id = $1 AND source = $2 AND target = $3 AND source_deal_id = ANY ($4::bigint[])",
        tenant,
        *pair,
        list(deals),
    )
    return {row[0]: DealLink(row[1], json.loads(row[2]), row[3]) for row in rows}


async def select_led_back(conn: Connection, tenant: TenantId, pair: Pair, deals: Collection[int]) -> set[int]:
    """Which of these deals of the source come from the target, directly or by way of others."""
    rows = await conn.fetch(
        """
        WITH RECURSIVE origins AS (
            SELECT l.target_deal_id AS deal, l.source, l.source_deal_id, 1 AS steps FROM deal_links l
            WHERE l.tenant_id = $1 AND l.target = $2 AND l.target_deal_id = ANY ($4::bigint[])
            UNION
            SELECT o.deal, l.source, l.source_deal_id, o.steps + 1 FROM origins o
            JOIN deal_links l ON l.tenant_id = $1 AND l.target = o.source AND l.target_deal_id = o.source_deal_id
            WHERE o.steps < 20
        )
        SELECT DISTINCT deal FROM origins WHERE source = $3
        """,
        tenant,
        *pair,
        list(deals),
    )
    return {row[0] for row in rows}


async def select_parties(
    conn: Connection, tenant: TenantId, pair: Pair, kind: str, ids: Collection[int]
) -> dict[int, int]:
    """Contacts or companies that are over there already: the source's ids to the target's."""
    rows = await conn.fetch(
        "SELECT source_id, target_id FROM deal_parties "
        "WHERE tenant_id = $1 AND source = $2 AND target = $3 AND kind = $4 AND source_id = ANY ($5::bigint[])",
        tenant,
        *pair,
        kind,
        list(ids),
    )
    return {row[0]: row[1] for row in rows}


async def upsert_parties(
    conn: Connection, tenant: TenantId, epoch: int, pair: Pair, kind: str, ids: Mapping[int, int]
) -> None:
    """Stores who is who. Raises Replaced."""
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            """
            INSERT INTO deal_parties (tenant_id, source, target, kind, source_id, target_id)
            SELECT $1, $2, $3, $4, r.source_id, r.target_id FROM unnest($5::bigint[], $6::bigint[]) AS r (source_id, target_id)
            ON CONFLICT (tenant_id, source, target, kind, source_id)
            DO UPDATE SET target_id = excluded.target_id, created_at = now()
            """,
            tenant,
            *pair,
            kind,
            list(ids.keys()),
            list(ids.values()),
        )


async def upsert_links(conn: Connection, tenant: TenantId, epoch: int, pair: Pair, ids: Mapping[int, int]) -> None:
    """Stores which deal is which, as soon as it is known. One that was made anew begins without digests. Raises Replaced."""
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            """
            INSERT INTO deal_links AS l (tenant_id, source, target, source_deal_id, target_deal_id)
            SELECT $1, $2, $3, r.source_id, r.target_id FROM unnest($4::bigint[], $5::bigint[]) AS r (source_id, target_id)
            ON CONFLICT (tenant_id, source, target, source_deal_id) DO UPDATE
            SET target_deal_id = excluded.target_deal_id, digests = '{}', told_source = false, updated_at = now()
            WHERE l.target_deal_id <> excluded.target_deal_id
            """,
            tenant,
            *pair,
            list(ids.keys()),
            list(ids.values()),
        )


async def adopt_links(
    conn: Connection, tenant: TenantId, epoch: int, found: Sequence[tuple[str, str, int, int]]
) -> None:
    """Stores links (source, target, and the deal of each) that the deals themselves bear witness to, where none is known: whoever made
    one may have been stopped before it could say so. Raises Replaced."""
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            """
            INSERT INTO deal_links (tenant_id, source, target, source_deal_id, target_deal_id)
            SELECT $1, r.* FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS r (source, target, source_id, target_id)
            ON CONFLICT (tenant_id, source, target, source_deal_id) DO NOTHING
            """,
            tenant,
            [one[0] for one in found],
            [one[1] for one in found],
            [one[2] for one in found],
            [one[3] for one in found],
        )


async def hold_tenant(conn: Connection, tenant: TenantId, epoch: int) -> None:
    """Raises Replaced where the tenant is another instance's: to be called before something is made in an outside system."""
    await _fence(conn, tenant, epoch)


async def finish_runs(
    conn: Connection, tenant: TenantId, epoch: int, pair: Pair, outcomes: Sequence[RunOutcome],
    digests: Mapping[int, Mapping[str, str]], told: Collection[int] = (),
) -> None:  # fmt: skip
    """What tries came to, in one transaction with what was written. A run that a person has replayed meanwhile stays due. Raises
    Replaced."""
    rows = [
        {
            "run": one.run.run_id, "state": one.state, "target": one.target_id, "cause": one.cause,
            "detail": storable(one.detail)[:1000], "note": one.note, "again_s": one.again_s,
            "attempt": one.run.attempt + one.counts, "changed": list(one.changed), "ms": one.duration_ms, "was": one.run.attempt,
        }
        for one in outcomes
    ]  # fmt: skip
    async with conn.transaction():
        await _fence(conn, tenant, epoch)
        await conn.execute(
            """
            UPDATE deal_runs d
            SET state = r.state, target_deal_id = coalesce(r.target, d.target_deal_id), cause = r.cause,
                detail = CASE WHEN r.note <> '' THEN r.note ELSE r.detail END, attempt = r.attempt,
                changed = ARRAY(SELECT json_array_elements_text(r.changed)), duration_ms = r.ms,
                due_at = now() + make_interval(secs => r.again_s),
                finished_at = CASE WHEN r.state = 'waiting' THEN NULL ELSE now() END
            FROM json_to_recordset($2::json)
                 AS r (run bigint, state text, target bigint, cause text, detail text, note text, again_s float8, attempt int,
                       changed json, ms int, was int)
            WHERE d.tenant_id = $1 AND d.run_id = r.run AND d.state = 'waiting' AND d.attempt = r.was
            """,
            tenant,
            json.dumps(rows),
        )
        if digests or told:
            await conn.execute(
                """
                UPDATE deal_links l
                SET digests = l.digests || coalesce(r.digests, '{}')::jsonb, told_source = l.told_source OR r.told, updated_at = now()
                FROM json_to_recordset($4::json) AS r (deal bigint, digests json, told boolean)
                WHERE l.tenant_id = $1 AND l.source = $2 AND l.target = $3 AND l.source_deal_id = r.deal
                """,
                tenant,
                *pair,
                json.dumps([
                    {"deal": deal, "digests": dict(digests.get(deal, {})), "told": deal in told}
                    for deal in {*digests, *told}
                ]),
            )  # fmt: skip


async def select_run_states(conn: Connection, tenant: TenantId, correlation: UUID) -> list[RunState]:
    """What became of one event, route by route."""
    rows = await conn.fetch(
        "SELECT state, cause, target_deal_id FROM deal_runs WHERE tenant_id = $1 AND correlation_id = $2 ORDER BY run_id",
        tenant,
        correlation,
    )
    return [RunState(*tuple(row)) for row in rows]


async def select_last_domain(conn: Connection, tenant: TenantId, source: str) -> str:
    """The domain that the last event of a source named; empty where there was none."""
    found: str | None = await conn.fetchval(
        "SELECT domain FROM deal_runs WHERE tenant_id = $1 AND source = $2 AND domain <> '' ORDER BY run_id DESC LIMIT 1",
        tenant,
        source,
    )
    return found or ""


async def select_target(conn: Connection, tenant: TenantId, source: str, target: str, deal: int) -> int | None:
    """The deal of the target that a deal of the source is."""
    found: int | None = await conn.fetchval(
        "SELECT target_deal_id FROM deal_links WHERE tenant_id = $1 AND source = $2 AND target = $3 AND source_deal_id = $4",
        tenant,
        source,
        target,
        deal,
    )
    return found


async def delete_old_runs(conn: Connection, older_than_s: float, most: int) -> int:
    """Removes runs that ended long ago, at most `most` at a time. Returns how many. Links stay."""
    done: str = await conn.execute(
        """
        DELETE FROM deal_runs WHERE ctid IN (
            SELECT ctid FROM deal_runs WHERE state <> 'waiting' AND finished_at < now() - make_interval(secs => $1) LIMIT $2)
        """,
        older_than_s,
        most,
    )
    return int(done.rpartition(" ")[2])
