"""The chain of a trail: verified from its beginning to the hash that stands apart, and shortened when rows are old.

    begins_after, begins_hash -> row -> row -> ... -> row = position, hash      (the outer two in `audit_chains`)

The hash of a row covers the row and the hash before it, as the trigger `audit_chained` writes them; here they are computed again
from what is read, not by the database. Whoever may write both tables as a superuser can make a chain anew: against that, the
position and hash that `gateway audit verify` prints are written down elsewhere and given to a later `--known`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.domain.ids import OPERATOR, TenantId
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection

PAGE = 2000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = "position, at, actor_kind, actor, source, action, target, detail, old::text AS old, new::text AS new, hash"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not what it was."""

    position: int
    what: str
    """changed | missing | newest | added | chain | before"""
    at: datetime | None = None
    """When the operation of that row was, or of the last one that is right."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one tenant's trail."""

    rows: int
    begins_after: int
    position: int
    hash: bytes
    broken: Broken | None = None


def row_hash(previous: bytes, tenant: TenantId, row: Any) -> bytes:
    """The hash of a row, as `audit_hash` of the schema computes it."""
    digest = hashlib.sha256(previous)
    micros = (row["at"] - EPOCH) // timedelta(microseconds=1)
    for part in (
        tenant, str(row["position"]), str(micros), row["actor_kind"], row["actor"], row["source"], row["action"],
        row["target"], row["detail"], row["old"], row["new"],
    ):  # fmt: skip
        data = None if part is None else part.encode()
        digest.update((-1 if data is None else len(data)).to_bytes(4, "big", signed=True))
        digest.update(data or b"")
    return digest.digest()


async def select_chained(conn: Connection) -> list[TenantId]:
    """Whoever has or should have a trail, the operators' one last."""
    rows = await conn.fetch(
        "SELECT tenant_id FROM audit_chains UNION SELECT tenant_id FROM audit UNION SELECT tenant_id FROM tenants ORDER BY 1"
    )
    found = [TenantId(row[0]) for row in rows]
    return sorted(found, key=lambda tenant: (tenant == OPERATOR, tenant))


async def verify_trail(conn: Connection, tenant: TenantId, known: tuple[int, bytes] | None = None) -> Verified:
    """Looks through a tenant's trail as it is at one moment. `known`: a position and the hash it had at an earlier look."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        head = await conn.fetchrow(
            "SELECT position, hash, begins_after, begins_hash FROM audit_chains WHERE tenant_id = $1", tenant
        )
        if head is None:
            rows = int(await conn.fetchval("SELECT count(*) FROM audit WHERE tenant_id = $1", tenant))
            return Verified(rows, 0, 0, b"", Broken(0, "chain") if rows else None)
        position, last, begins = int(head["position"]), bytes(head["hash"]), int(head["begins_after"])
        reached, previous, count = begins, bytes(head["begins_hash"]), 0
        at: datetime | None = None

        def found(broken: Broken | None) -> Verified:
            return Verified(count, begins, position, last, broken)

        if await conn.fetchval(
            "SELECT EXISTS (SELECT FROM audit WHERE tenant_id = $1 AND position <= $2)", tenant, begins
        ):
            return found(Broken(begins, "before"))
        while page := await _page(conn, tenant, reached):
            for row in page:
                if row["position"] != reached + 1:
                    return found(Broken(reached + 1, "missing", at))
                if row["position"] > position:
                    return found(Broken(row["position"], "added", row["at"]))
                previous = row_hash(previous, tenant, row)
                fits_known = known is None or known[0] != row["position"] or known[1] == previous
                if previous != row["hash"] or not fits_known:
                    return found(Broken(row["position"], "changed", row["at"]))
                reached, at, count = row["position"], row["at"], count + 1
        if reached != position:
            return found(Broken(reached + 1, "newest", at))
        if previous != last:
            return found(Broken(position, "changed", at))
        if known is not None and (
            known[0] > position or (known[0] == begins and known[1] != bytes(head["begins_hash"]))
        ):
            return found(Broken(min(known[0], position + 1), "newest", at))
        return found(None)


async def _page(conn: Connection, tenant: TenantId, after: int) -> Sequence[Any]:
    found: Sequence[Any] = await conn.fetch(
        f"SELECT {_COLUMNS} FROM audit WHERE tenant_id = $1 AND position > $2 ORDER BY position LIMIT $3",  # noqa: S608 - constants
        tenant,
        after,
        PAGE,
    )
    return found


async def delete_old_audit(conn: Connection, keep_s: float, batch: int) -> int:
    """Removes up to `batch` operations past their time, of any tenant, from the beginning of its chain, which then begins
    later. Returns how many. Where a chain is broken there, its trail itself records that before the traces go."""
    done = 0
    while done < batch and (pruned := await _prune(conn, keep_s, batch - done)):
        done += pruned
    return done


async def _prune(conn: Connection, keep_s: float, most: int) -> int:
    """The same for the first tenant that has any."""
    async with conn.transaction():
        head = await conn.fetchrow(
            """
            SELECT tenant_id, begins_after, begins_hash FROM audit_chains c
            WHERE (SELECT a.at FROM audit a WHERE a.tenant_id = c.tenant_id ORDER BY a.position LIMIT 1)
                  < now() - make_interval(secs => $1)
            ORDER BY tenant_id LIMIT 1 FOR UPDATE
            """,
            keep_s,
        )
        if head is None:
            return 0
        tenant, reached, previous = TenantId(head["tenant_id"]), int(head["begins_after"]), bytes(head["begins_hash"])
        rows = await conn.fetch(
            f"SELECT {_COLUMNS}, at < now() - make_interval(secs => $2) AS old_enough FROM audit "  # noqa: S608 - constants
            "WHERE tenant_id = $1 ORDER BY position LIMIT $3",
            tenant,
            keep_s,
            most,
        )
        done, broken = 0, 0
        for row in rows:
            if not row["old_enough"]:
                break
            right = row["position"] == reached + 1 and row_hash(previous, tenant, row) == row["hash"]
            broken = broken or (0 if right else reached + 1)
            reached, previous, done = row["position"], bytes(row["hash"]), done + 1
        await conn.execute("DELETE FROM audit WHERE tenant_id = $1 AND position <= $2", tenant, reached)
        await conn.execute(
            "UPDATE audit_chains SET begins_after = $2, begins_hash = $3 WHERE tenant_id = $1",
            tenant,
            reached,
            previous,
        )
        if broken:
            await insert_audit(conn, tenant, "", "audit.broken", str(broken))
        return done
