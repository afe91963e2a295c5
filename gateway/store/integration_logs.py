"""Attempts at deliveries as people read them: `integration_logs`, and the outbox of one integration in figures.

Reads inside one tenant; only `delete_old_logs` spans tenants. Rows about deliveries are written by `gateway.store.outbox`
together with their outcome, those about anything else here; secrets were masked by the adapter. Read `gateway/web/pages/integrations.py` next.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.domain.errors import exported_status, log_code_of
from gateway.domain.ids import TenantId, utc_text
from gateway.domain.subjects import Subject, with_subject
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

_COLUMNS = (
    "log_id, integration_type, event_type, request_data, response_data, status, error_message, created_at, delivery_id, "
    "subject_kind, subject_id, attempt, duration_ms, code"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One attempt: request, response, outcome."""

    log_id: int
    integration: str
    event_type: str
    request: str
    response: str
    status: str
    error: str | None
    created_at: datetime
    delivery_id: int | None
    subject: Subject | None
    attempt: int
    duration_ms: int
    code: str | None = None
    """Why it failed, of `gateway.domain.errors.CODES`."""

    def exported(self) -> dict[str, Any]:
        """As programs get it: `success` or `error`, the finer outcome beside it."""
        return {
            "id": self.log_id, "integration": self.integration, "event": self.event_type, "status": exported_status(self.status),
            "outcome": self.status, "code": self.code, "message": self.error, "request": self.request, "response": self.response,
            "created_at": utc_text(self.created_at), "attempt": self.attempt, "duration_ms": self.duration_ms,
            "delivery_id": self.delivery_id,
            "subject": {"kind": self.subject.kind, "id": self.subject.id} if self.subject is not None else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """One integration's deliveries. `failed` and `done` count the last 24 hours."""

    pending: int = 0
    oldest_pending_at: datetime | None = None
    done: int = 0
    failed: int = 0
    last_done_at: datetime | None = None


def _line(row: Record) -> LogLine:
    line = LogLine(*with_subject(row, 9))
    return line if line.subject is not None and line.subject.id else replace(line, subject=None)


async def insert_log(
    conn: Connection, tenant: TenantId, integration: str, event_type: str, *, request: str, response: str, status: str,
    error: str | None, duration_ms: int,
) -> None:  # fmt: skip
    """Writes down one exchange that was not a delivery."""
    await conn.execute(
        """
        INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data, status,
                                      error_message, duration_ms, code)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        """,
        tenant,
        integration,
        event_type,
        storable(request),
        storable(response),
        status,
        storable(error),
        duration_ms,
        log_code_of(status),
    )


async def select_notes(
    conn: Connection, tenant: TenantId, integration: str, most: int = 2000
) -> list[tuple[str, datetime]]:
    """What was noted about an integration's deliveries among the tenant's last `most`, newest first, with when."""
    rows = await conn.fetch(
        """
        SELECT note, finished_at FROM (
            SELECT integration_type, note, finished_at FROM deliveries
            WHERE tenant_id = $1 ORDER BY delivery_id DESC LIMIT $3
        ) latest
        WHERE integration_type = $2 AND note <> '' AND finished_at IS NOT NULL
        """,
        tenant,
        integration,
        most,
    )
    return [(row["note"], row["finished_at"]) for row in rows]


async def select_recent_logs(
    conn: Connection, tenant: TenantId, integration: str, before: int | None = None, most: int = 50
) -> list[LogLine]:
    """An integration's newest attempts, or those older than the row `before`."""
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM integration_logs
        WHERE tenant_id = $1 AND integration_type = $2 AND ($3::bigint IS NULL OR log_id < $3)
        ORDER BY log_id DESC LIMIT $4
        """,  # noqa: S608 - constant columns
        tenant,
        integration,
        before,
        most,
    )
    return [_line(row) for row in rows]


async def select_subject_logs(conn: Connection, tenant: TenantId, subject: Subject, most: int = 500) -> list[LogLine]:
    """Every attempt at every delivery about one subject, in order."""
    rows = await conn.fetch(
        f"""
        SELECT {_COLUMNS} FROM integration_logs
        WHERE tenant_id = $1 AND subject_kind = $2 AND subject_id = $3 ORDER BY log_id LIMIT $4
        """,  # noqa: S608 - constant columns
        tenant,
        *subject,
        most,
    )
    return [_line(row) for row in rows]


async def count_recent_logs(conn: Connection, tenant: TenantId, since: datetime) -> dict[str, dict[str, int]]:
    """Attempts since a moment, by integration and status."""
    rows = await conn.fetch(
        """
        SELECT integration_type, status, count(*) AS attempts FROM integration_logs
        WHERE tenant_id = $1 AND created_at >= $2 GROUP BY integration_type, status
        """,
        tenant,
        since,
    )
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row["integration_type"], {})[row["status"]] = int(row["attempts"])
    return counts


async def select_last_logs(conn: Connection, tenant: TenantId) -> dict[str, LogLine]:
    """The newest attempt of every integration."""
    rows = await conn.fetch(
        f"""
        SELECT {", ".join(f"l.{name.strip()}" for name in _COLUMNS.split(","))}
        FROM integrations i
        JOIN LATERAL (SELECT * FROM integration_logs x WHERE x.tenant_id = $1 AND x.integration_type = i.integration_type
                      ORDER BY x.log_id DESC LIMIT 1) l ON true
        WHERE i.tenant_id = $1
        """,  # noqa: S608 - constant columns
        tenant,
    )
    return {row["integration_type"]: _line(row) for row in rows}


async def select_outbox_figures(conn: Connection, tenant: TenantId) -> dict[str, OutboxFigures]:
    """Every integration's deliveries: what waits, and what the last 24 hours brought."""
    rows = await conn.fetch(
        """
        SELECT integration_type,
               count(*) FILTER (WHERE state = 'pending') AS pending,
               min(created_at) FILTER (WHERE state = 'pending') AS oldest_pending_at,
               count(*) FILTER (WHERE state = 'done' AND finished_at > now() - interval '24 hours') AS done,
               count(*) FILTER (WHERE state IN ('failed', 'doubtful', 'expired')
                                  AND finished_at > now() - interval '24 hours') AS failed,
               max(finished_at) FILTER (WHERE state = 'done') AS last_done_at
        FROM deliveries
        WHERE tenant_id = $1 AND (state = 'pending' OR created_at > now() - interval '3 days')
        GROUP BY integration_type
        """,
        tenant,
    )
    return {row["integration_type"]: OutboxFigures(*tuple(row)[1:]) for row in rows}


async def select_switches(conn: Connection, tenant: TenantId) -> dict[str, bool]:
    """Which integrations are set up, and whether they are switched on, as stored this moment."""
    rows = await conn.fetch("SELECT integration_type, enabled FROM integrations WHERE tenant_id = $1", tenant)
    return {row["integration_type"]: row["enabled"] for row in rows}


async def delete_old_logs(conn: Connection, keep_s: float, most: int) -> int:
    """Removes up to `most` rows older than `keep_s`, of any tenant. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM integration_logs l USING (
            SELECT tenant_id, log_id FROM integration_logs
            WHERE created_at < now() - make_interval(secs => $1) LIMIT $2
        ) old
        WHERE l.tenant_id = old.tenant_id AND l.log_id = old.log_id
        """,
        keep_s,
        most,
    )
    return int(done.rpartition(" ")[2])
