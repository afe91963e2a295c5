"""Deleting a tenant's rows: the request, the lease of whoever works on it, and the rows of every table there is.

Which tables hold rows of tenants is read from the catalogue, children before parents, so that a table added later is not
forgotten. The engine's alone. Read `actors/deletion.py` for the order of things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter

from gateway.domain.ids import OPERATOR, TenantId
from gateway.store.audit import ORIGIN, Origin, insert_audit, kind_of_actor
from gateway.store.postgres.pool import Connection

LEASE_S = 30.0
LONG_S = 600.0
LAST = ("audit", "audit_chains", "tenant_deletions", "tenants", "tenant_versions")
"""Removed in one transaction at the end, in this order."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion under way."""

    tenant: TenantId
    stage: str
    requested_at: datetime
    requested_by: str
    problems: tuple[str, ...]
    age_s: float
    worked_on: bool
    """Whether somebody holds its lease."""


async def request_deletion(conn: Connection, tenant: TenantId, who: str) -> bool:
    """From here on the tenant exists for nobody. False where there is none. A second request changes nothing."""
    origin = ORIGIN.get()
    async with conn.transaction():
        if not await conn.fetchval("SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)", tenant):
            return False
        done: str = await conn.execute(
            "INSERT INTO tenant_deletions (tenant_id, requested_by, requested_kind, requested_from) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (tenant_id) DO NOTHING",
            tenant,
            who,
            kind_of_actor(who, origin),
            origin.address,
        )
        if done.endswith(" 1"):
            await insert_audit(conn, tenant, who, "tenant.deletion_requested", tenant)
    return True


async def select_deletions(conn: Connection) -> list[Deletion]:
    """All that are under way, the oldest first."""
    rows = await conn.fetch(
        "SELECT tenant_id, stage, requested_at, requested_by, problems, "
        "extract(epoch FROM clock_timestamp() - requested_at)::float8 AS age_s, lease_until > clock_timestamp() AS worked_on "
        "FROM tenant_deletions ORDER BY requested_at, tenant_id"
    )
    return [
        Deletion(TenantId(row[0]), row[1], row[2], row[3], tuple(row[4]), row["age_s"], row["worked_on"])
        for row in rows
    ]


async def select_existing(conn: Connection, tenants: Sequence[TenantId]) -> frozenset[TenantId]:
    """Those of the given tenants that exist and are not being deleted."""
    rows = await conn.fetch(
        "SELECT tenant_id FROM tenants t WHERE tenant_id = ANY($1::text[]) "
        "AND NOT EXISTS (SELECT FROM tenant_deletions d WHERE d.tenant_id = t.tenant_id)",
        list(tenants),
    )
    return frozenset(TenantId(row[0]) for row in rows)


async def claim_deletion(conn: Connection, tenant: TenantId, worker: str) -> Deletion | None:
    """The lease on a deletion, or its prolongation; None where another has it, or there is nothing left to do."""
    done: str = await conn.execute(
        "UPDATE tenant_deletions SET worker = $2, lease_until = clock_timestamp() + make_interval(secs => $3) "
        "WHERE tenant_id = $1 AND (worker = $2 OR lease_until < clock_timestamp())",
        tenant,
        worker,
        LEASE_S,
    )
    if not done.endswith(" 1"):
        return None
    return next((one for one in await select_deletions(conn) if one.tenant == tenant), None)


async def release_deletion(conn: Connection, tenant: TenantId, worker: str) -> None:
    """Whoever stops lets others go on at once."""
    await conn.execute(
        "UPDATE tenant_deletions SET lease_until = '-infinity' WHERE tenant_id = $1 AND worker = $2", tenant, worker
    )


async def note_withdrawn(conn: Connection, tenant: TenantId, problems: Sequence[str]) -> None:
    """What was registered outside is taken back, apart from `problems`."""
    await conn.execute(
        "UPDATE tenant_deletions SET stage = 'withdrawn', problems = $2 WHERE tenant_id = $1",
        tenant,
        [problem[:500] for problem in problems],
    )


async def select_gateways(conn: Connection, within_s: float) -> int:
    """How many gateways run, or ran so many seconds ago."""
    query = "SELECT count(*) FROM instances WHERE seen_at > clock_timestamp() - make_interval(secs => $1)"
    return int(await conn.fetchval(query, within_s))


async def select_tables(conn: Connection) -> list[tuple[str, bool]]:
    """Every table with rows of tenants, children before what they refer to, and whether it has partitions."""
    rows = await conn.fetch(
        """
        SELECT c.relname, c.relkind = 'p' AS parts, ARRAY(
            SELECT r.relname::text FROM pg_constraint k JOIN pg_class r ON r.oid = k.conrelid
            WHERE k.contype = 'f' AND k.confrelid = c.oid AND k.conrelid <> c.oid) AS children
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
        ORDER BY c.relname
        """
    )
    parts = {row["relname"]: row["parts"] for row in rows}
    order = TopologicalSorter({row["relname"]: [one for one in row["children"] if one in parts] for row in rows})
    return [(name, parts[name]) for name in order.static_order()]


async def delete_rows(conn: Connection, tenant: TenantId, table: str, batch: int | None) -> int:
    """Removes up to `batch` of the tenant's rows from one of `select_tables`, or all of them. Returns how many."""
    statement = f"DELETE FROM {_quoted(table)} WHERE tenant_id = $1"  # noqa: S608 - names of the catalogue, quoted
    if batch is not None:
        statement += f" AND ctid = ANY (ARRAY(SELECT ctid FROM {_quoted(table)} WHERE tenant_id = $1 LIMIT {batch:d}))"  # noqa: S608 - the same
    async with conn.transaction():
        await _quietly(conn)
        done: str = await conn.execute(statement, tenant, timeout=LONG_S)
    return int(done.rpartition(" ")[2])


async def finish_deletion(conn: Connection, tenant: TenantId, worker: str) -> bool:
    """Removes what is left, the tenant's own row among it, and records that among the operators' audit; one transaction.
    False where the lease has passed on."""
    tables = [name for name, _ in await select_tables(conn)]
    async with conn.transaction():
        await _quietly(conn)
        row = await conn.fetchrow(
            "SELECT requested_by, requested_kind, requested_from, problems FROM tenant_deletions "
            "WHERE tenant_id = $1 AND worker = $2 FOR UPDATE",
            tenant,
            worker,
        )
        if row is None:
            return False
        for table in (*(name for name in tables if name not in LAST), *LAST):
            await conn.execute(f"DELETE FROM {_quoted(table)} WHERE tenant_id = $1", tenant, timeout=LONG_S)  # noqa: S608 - names of the catalogue, quoted
        await insert_audit(
            conn, OPERATOR, row["requested_by"], "tenant.deleted", tenant, "; ".join(row["problems"]),
            origin=Origin(row["requested_kind"], row["requested_from"]),
        )  # fmt: skip
    return True


async def delete_latecomers(conn: Connection, tenant: TenantId) -> int:
    """Rows of a tenant that is gone, written by whoever had not heard of it yet. Returns how many."""
    count = 0
    for table, _ in await select_tables(conn):
        async with conn.transaction():
            await _quietly(conn)
            done: str = await conn.execute(
                f"DELETE FROM {_quoted(table)} WHERE tenant_id = $1 AND NOT EXISTS (SELECT FROM tenants WHERE tenant_id = $1)",  # noqa: S608 - names of the catalogue, quoted
                tenant,
                timeout=LONG_S,
            )
            count += int(done.rpartition(" ")[2])
    return count


async def _quietly(conn: Connection) -> None:
    """For this transaction: no cache and no outside system is to be told of what goes, and it may take its time."""
    await conn.execute("SELECT set_config('gateway.resealing', 'on', true), set_config('statement_timeout', '0', true)")


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
