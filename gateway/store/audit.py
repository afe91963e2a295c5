"""The trail of who did what and who was refused what. Rows are added, never changed, and
removed when their time is over; secrets never stand in them."""

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

OPERATORS = TenantId("")
"""The trail of the installation's operators, which belongs to no company. Written and read by the engine's role alone."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One operation. `action` names a text of the UI, such as `call.refused`."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: str


async def insert_audit(
    conn: Connection, tenant: TenantId, actor: str, action: str, target: str, detail: str = ""
) -> None:
    """Records one operation."""
    await conn.execute(
        "INSERT INTO audit (tenant_id, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5)",
        tenant,
        storable(actor)[:200],
        action,
        storable(target)[:200],
        storable(detail)[:2000],
    )


async def select_audit(conn: Connection, tenant: TenantId, before: int | None, limit: int) -> list[AuditLine]:
    """The latest operations, newest first; older than `before` where it is given."""
    rows = await conn.fetch(
        """
        SELECT audit_id, at, actor, action, target, detail FROM audit
        WHERE tenant_id = $1 AND ($2::bigint IS NULL OR audit_id < $2) ORDER BY audit_id DESC LIMIT $3
        """,
        tenant,
        before,
        limit,
    )
    return [AuditLine(*row) for row in rows]


async def delete_old_audit(conn: Connection, keep_s: float, batch: int) -> int:
    """Removes up to `batch` operations past their time, of any tenant. Returns how many."""
    done: str = await conn.execute(
        "DELETE FROM audit WHERE (tenant_id, audit_id) IN (SELECT tenant_id, audit_id FROM audit "
        "WHERE at < now() - make_interval(secs => $1) LIMIT $2)",
        keep_s,
        batch,
    )
    return int(done.rpartition(" ")[2])
