"""The outbox for the pages: lists, and replays of what failed. Works inside one tenant.

A replay is the same delivery once more: its attempts and its storage time begin anew, and its content is planned by the
settings of now where its call's events are still stored (`actors/delivery/replanning.py`). What would be useless by now is never replayed: a message about a moment that has passed, and a card that a newer one
of its call has overtaken. Read `gateway/web/pages/deliveries.py` next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.subjects import Subject, with_subject
from gateway.store.postgres.pool import Connection

STATES = ("pending", "failed", "doubtful", "expired", "done", "superseded")
TROUBLED = ("failed", "doubtful", "expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a person looks for; what is None does not narrow. Without a state: all that is not delivered."""

    delivery_id: int | None = None
    integration: str | None = None
    state: str | None = None
    kind: str | None = None
    call: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One delivery, and the last attempt at it."""

    delivery_id: int
    integration: str
    kind: str
    subject: Subject
    state: str
    attempt: int
    created_at: datetime
    run_at: datetime
    finished_at: datetime | None
    body: str
    note: str
    replayable: bool
    log_id: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a replay would do with the deliveries of one integration and kind."""

    integration: IntegrationKey
    kind: str
    replayed: int
    doubtful: int
    """Of those: how many may have arrived already."""
    late: int
    """Left alone: of use only at their moment."""
    overtaken: int
    """Left alone: a newer card of the call stands."""


_LATE = "(d.state = 'expired' OR d.expires_at <= now())"
_OVERTAKEN = """(d.latest_only AND EXISTS (
    SELECT FROM deliveries newer
    WHERE newer.tenant_id = d.tenant_id AND newer.subject_kind = d.subject_kind
      AND newer.subject_id = d.subject_id AND newer.integration_type = d.integration_type
      AND newer.lane = d.lane AND newer.delivery_id > d.delivery_id AND newer.latest_only
      AND newer.state IN ('pending', 'done', 'superseded')))"""
_REPLAYABLE = f"(d.state IN ('failed', 'doubtful') AND NOT coalesce({_LATE}, false) AND NOT {_OVERTAKEN})"
_FITS = """d.tenant_id = $1 AND ($2::bigint IS NULL OR d.delivery_id = $2)
    AND ($3::text IS NULL OR d.integration_type = $3) AND ($4::text IS NULL OR d.state = $4)
    AND ($5::text IS NULL OR d.kind = $5) AND ($6::text IS NULL OR (d.subject_kind = 'call' AND d.subject_id = $6))
    AND ($7::timestamptz IS NULL OR d.created_at >= $7) AND ($8::timestamptz IS NULL OR d.created_at < $8)"""
_CANDIDATES = f"""{_FITS} AND d.state IN ('failed', 'doubtful', 'expired') AND d.finished_at <= $9"""


def _values(tenant: TenantId, sought: Filters) -> tuple[object, ...]:
    return (
        tenant, sought.delivery_id, sought.integration, sought.state, sought.kind, sought.call, sought.since, sought.until,
    )  # fmt: skip


async def search_deliveries(
    conn: Connection, tenant: TenantId, sought: Filters, before: int | None, most: int
) -> list[Found]:
    """The newest deliveries that fit; older than `before` where it is given."""
    rows = await conn.fetch(
        f"""
        SELECT d.delivery_id, d.integration_type, d.kind, d.subject_kind, d.subject_id, d.state, d.attempt, d.created_at, d.run_at,
               d.finished_at, d.body, d.note, {_REPLAYABLE}, last.log_id, last.error_message
        FROM (
            SELECT * FROM deliveries d
            WHERE {_FITS} AND ($9::bigint IS NULL OR d.delivery_id < $9)
              AND ($4::text IS NOT NULL OR $2::bigint IS NOT NULL
                   OR d.state IN ('pending', 'failed', 'doubtful', 'expired'))
            ORDER BY d.delivery_id DESC LIMIT $10
        ) d LEFT JOIN LATERAL (
            SELECT l.log_id, l.error_message FROM integration_logs l
            WHERE l.tenant_id = $1 AND l.subject_kind = d.subject_kind AND l.subject_id = d.subject_id AND l.delivery_id = d.delivery_id
            ORDER BY l.log_id DESC LIMIT 1
        ) last ON true
        ORDER BY d.delivery_id DESC
        """,  # noqa: S608 - constant text
        *_values(tenant, sought),
        before,
        most,
    )
    return [Found(*with_subject(row, 3)) for row in rows]


async def select_kinds(conn: Connection, tenant: TenantId) -> list[str]:
    """The kinds of what waits or failed, for the filter."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT kind FROM deliveries
        WHERE tenant_id = $1 AND state IN ('pending', 'failed', 'doubtful', 'expired') ORDER BY kind LIMIT 100
        """,
        tenant,
    )
    return [row[0] for row in rows]


async def plan_replay(
    conn: Connection, tenant: TenantId, sought: Filters, as_of: datetime, most: int
) -> tuple[list[Planned], int]:
    """What a replay of what fits and was given up by `as_of` would do, of the oldest `most`; and how many more there are."""
    rows = await conn.fetch(
        f"""
        SELECT integration_type, kind, count(*) FILTER (WHERE replayable),
               count(*) FILTER (WHERE replayable AND state = 'doubtful'), count(*) FILTER (WHERE late),
               count(*) FILTER (WHERE NOT late AND NOT replayable)
        FROM (SELECT d.integration_type, d.kind, d.state, {_REPLAYABLE} AS replayable, coalesce({_LATE}, false) AS late
              FROM deliveries d WHERE {_CANDIDATES} ORDER BY d.delivery_id LIMIT $10) d
        GROUP BY integration_type, kind ORDER BY integration_type, kind
        """,  # noqa: S608 - constant text
        *_values(tenant, sought),
        as_of,
        most,
    )
    planned = [Planned(*row) for row in rows]
    more = await conn.fetchval(
        f"SELECT count(*) FROM deliveries d WHERE {_CANDIDATES}",  # noqa: S608 - constant text
        *_values(tenant, sought),
        as_of,
    )
    return planned, int(more) - sum(one.replayed + one.late + one.overtaken for one in planned)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One delivery that waits again."""

    delivery_id: int
    integration: IntegrationKey
    kind: str
    key: str
    latest_only: bool
    call_id: str | None


async def replay_deliveries(
    conn: Connection, tenant: TenantId, sought: Filters, as_of: datetime, after: int, most: int
) -> tuple[int | None, list[Replayed]]:
    """Makes the next `most` candidates behind the id `after` wait again, where that is of use. Returns the last id looked
    at, None where there was none, and what was replayed. The caller notifies."""
    rows = await conn.fetch(
        f"""
        WITH looked AS (
            SELECT d.delivery_id, {_REPLAYABLE} AS replayable FROM deliveries d
            WHERE {_CANDIDATES} AND d.delivery_id > $10 ORDER BY d.delivery_id LIMIT $11 FOR UPDATE
        ), again AS (
            UPDATE deliveries d
            SET state = 'pending', attempt = 0, epoch = d.epoch + 1, run_at = now(), lease_until = NULL, finished_at = NULL,
                note = '', keep_until = now() + (d.keep_until - d.created_at)
            FROM looked WHERE d.tenant_id = $1 AND d.delivery_id = looked.delivery_id AND looked.replayable
            RETURNING d.delivery_id, d.integration_type, d.kind, d.key, d.latest_only,
                      CASE WHEN d.subject_kind = 'call' THEN d.subject_id END AS call_id
        )
        SELECT looked.delivery_id, again.integration_type, again.kind, again.key, again.latest_only, again.call_id
        FROM looked LEFT JOIN again USING (delivery_id) ORDER BY looked.delivery_id
        """,  # noqa: S608 - constant text
        *_values(tenant, sought),
        as_of,
        after,
        most,
    )
    found = [Replayed(*row) for row in rows if row["integration_type"] is not None]
    return max((row["delivery_id"] for row in rows), default=None), found


async def select_events_of_calls(conn: Connection, tenant: TenantId, calls: Sequence[str]) -> dict[str, list[str]]:
    """The events of several calls as JSON, each call's in order; a call without stored events is missing."""
    rows = await conn.fetch(
        "SELECT call_id, body FROM call_events WHERE tenant_id = $1 AND call_id = ANY($2::text[]) ORDER BY call_id, seq",
        tenant,
        list(calls),
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["call_id"], []).append(row["body"])
    return found


async def select_keys_of_calls(conn: Connection, tenant: TenantId, calls: Sequence[str]) -> set[tuple[str, str]]:
    """Integration and key of every delivery about these calls."""
    rows = await conn.fetch(
        "SELECT integration_type, key FROM deliveries WHERE tenant_id = $1 AND subject_kind = 'call' "
        "AND subject_id = ANY($2::text[])",
        tenant,
        list(calls),
    )
    return {(row["integration_type"], row["key"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Revision:
    """The content of a delivery now, and its place in its integration's order."""

    delivery_id: int
    key: str
    lane: str
    bucket: str
    body: str


async def revise_deliveries(conn: Connection, tenant: TenantId, revisions: Sequence[Revision]) -> None:
    """Replaces the content of deliveries. Only for those that the same transaction has made wait."""
    await conn.execute(
        """
        UPDATE deliveries d SET key = n.key, lane = n.lane, bucket = n.bucket, body = n.body
        FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[]) AS n (delivery_id, key, lane, bucket, body)
        WHERE d.tenant_id = $1 AND d.delivery_id = n.delivery_id
        """,
        tenant,
        [one.delivery_id for one in revisions],
        [one.key for one in revisions],
        [one.lane for one in revisions],
        [one.bucket for one in revisions],
        [one.body for one in revisions],
    )


async def leave_deliveries(conn: Connection, tenant: TenantId, ids: Sequence[int], note: str) -> None:
    """Gives up what the same transaction has made wait, with the code of why."""
    await conn.execute(
        "UPDATE deliveries SET state = 'failed', finished_at = now(), note = $3 "
        "WHERE tenant_id = $1 AND delivery_id = ANY($2::bigint[])",
        tenant,
        list(ids),
        note,
    )


async def note_deliveries(conn: Connection, tenant: TenantId, ids: Sequence[int], note: str) -> None:
    """Notes something about deliveries that wait: the code of a text."""
    await conn.execute(
        "UPDATE deliveries SET note = $3 WHERE tenant_id = $1 AND delivery_id = ANY($2::bigint[])",
        tenant,
        list(ids),
        note,
    )
