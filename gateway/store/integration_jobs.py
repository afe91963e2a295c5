"""Jobs of integrations: due times, leases, and what the last run came to.

A claim raises `epoch`; what is written after it names the epoch, so that an instance whose lease has ended changes nothing.
Read `actors/jobs.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A job that an integration should have."""

    tenant: TenantId
    key: IntegrationKey
    name: str
    first_s: float
    """Seconds until it is due, where it is new."""


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A job leased to this process."""

    tenant: TenantId
    key: IntegrationKey
    name: str
    epoch: int
    attempts: int
    """This run and those before it since the last good one."""
    due_at: datetime


@dataclass(frozen=True, slots=True)
class JobRow:
    """How a job stands, for a page."""

    name: str
    due_at: datetime
    problem: str
    detail: str
    attempts: int
    last_done_at: datetime | None


async def store_wanted_jobs(conn: Connection, tenants: Sequence[TenantId], wanted: Sequence[WantedJob]) -> None:
    """Adds the jobs that these tenants' integrations lack, and removes those that none of them has any more."""
    await conn.execute(
        """
        WITH wanted AS (
            SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[])
                AS w (tenant_id, integration_type, name, first_s)
        ), gone AS (
            DELETE FROM integration_jobs j WHERE j.tenant_id = ANY ($1::text[])
            AND (j.tenant_id, j.integration_type, j.name) NOT IN (SELECT tenant_id, integration_type, name FROM wanted)
        )
        INSERT INTO integration_jobs (tenant_id, integration_type, name, due_at)
        SELECT w.tenant_id, w.integration_type, w.name, now() + make_interval(secs => w.first_s)
        FROM wanted w JOIN integrations i USING (tenant_id, integration_type)
        ON CONFLICT DO NOTHING
        """,
        list(tenants),
        [one.tenant for one in wanted],
        [one.key for one in wanted],
        [one.name for one in wanted],
        [one.first_s for one in wanted],
    )


async def claim_jobs(
    conn: Connection,
    tenants: Sequence[TenantId],
    names: Sequence[str],
    while_off: Sequence[str],
    most: int,
    lease_s: float,
) -> list[JobClaim]:
    """Takes what is due of these tenants, at most one job of each and `most` in all, the longest due first. `names` and
    `while_off` are `KIND/NAME`: only those are taken, and of integrations that are switched off only the latter."""
    rows = await conn.fetch(
        """
        WITH due AS (
            SELECT DISTINCT ON (j.tenant_id) j.tenant_id, j.integration_type, j.name, j.due_at
            FROM integration_jobs j JOIN integrations i USING (tenant_id, integration_type)
            CROSS JOIN LATERAL (SELECT split_part(j.integration_type, ':', 1) || '/' || j.name AS text) AS named
            WHERE j.tenant_id = ANY ($1::text[]) AND j.due_at <= now() AND coalesce(j.lease_until, '-infinity') < now()
              AND named.text = ANY ($2::text[]) AND (i.enabled OR named.text = ANY ($3::text[]))
            ORDER BY j.tenant_id, j.due_at
        ), longest AS (
            SELECT * FROM due ORDER BY due_at LIMIT $4
        )
        UPDATE integration_jobs j
        SET lease_until = now() + make_interval(secs => $5), epoch = j.epoch + 1, attempts = j.attempts + 1
        FROM longest l
        WHERE j.tenant_id = l.tenant_id AND j.integration_type = l.integration_type AND j.name = l.name
          -- Asked again of the row itself: another instance may have been faster.
          AND j.due_at <= now() AND coalesce(j.lease_until, '-infinity') < now()
        RETURNING j.tenant_id, j.integration_type, j.name, j.epoch, j.attempts, j.due_at
        """,
        list(tenants),
        list(names),
        list(while_off),
        most,
        lease_s,
    )
    return [JobClaim(TenantId(row[0]), IntegrationKey(row[1]), *tuple(row)[2:]) for row in rows]


async def finish_job(conn: Connection, claim: JobClaim, again_s: float, problem: str, detail: str) -> bool:
    """What a run came to, and when the next is due: at once, where it was requested meanwhile. False, and nothing changed,
    where the lease has passed to another."""
    done: str = await conn.execute(
        """
        UPDATE integration_jobs
        SET lease_until = NULL, problem = $5, detail = $6,
            attempts = CASE WHEN $5 = '' OR due_at <> $8 THEN 0 ELSE attempts END,
            last_done_at = CASE WHEN $5 = '' THEN now() ELSE last_done_at END,
            due_at = CASE WHEN due_at = $8 THEN now() + make_interval(secs => $7) ELSE due_at END
        WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 AND epoch = $4
        """,
        claim.tenant,
        claim.key,
        claim.name,
        claim.epoch,
        problem,
        storable(detail)[:1000],
        again_s,
        claim.due_at,
    )
    return done.endswith(" 1")


async def release_job(conn: Connection, claim: JobClaim) -> None:
    """Gives the lease back as if the job had not been taken."""
    await conn.execute(
        "UPDATE integration_jobs SET lease_until = NULL, attempts = greatest(attempts - 1, 0) "
        "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3 AND epoch = $4",
        claim.tenant,
        claim.key,
        claim.name,
        claim.epoch,
    )


async def hasten_job(conn: Connection, tenant: TenantId, key: IntegrationKey, name: str) -> bool:
    """Makes a job due now; one that runs now runs once more. False where there is no such job."""
    done: str = await conn.execute(
        "UPDATE integration_jobs SET due_at = now(), attempts = 0 "
        "WHERE tenant_id = $1 AND integration_type = $2 AND name = $3",
        tenant,
        key,
        name,
    )
    return done.endswith(" 1")


async def select_jobs(conn: Connection, tenant: TenantId, key: IntegrationKey) -> list[JobRow]:
    """The jobs of one integration by name."""
    rows = await conn.fetch(
        "SELECT name, due_at, problem, detail, attempts, last_done_at FROM integration_jobs "
        "WHERE tenant_id = $1 AND integration_type = $2 ORDER BY name",
        tenant,
        key,
    )
    return [JobRow(*tuple(row)) for row in rows]
