"""The outbox: an event, the call it changes and the deliveries it makes are one statement; deliveries are leased.

`record` is the only way a call event becomes durable, and it is idempotent: the event's sequence number, the delivery's
key and the journal's row all refuse a second time. A claim raises `attempt` and `epoch`; an ack names the epoch it
holds, so a worker whose lease ran out changes nothing. What there is room for is leased by the statement that writes it.
Order is kept per lane: only a lane's oldest pending row is ready. That is asked as "is it the first of its lane", which has one good plan whatever the planner believes of the table: as an
anti-join, a backlog that came faster than statistics are gathered was read once for every row of it.
Over 400 lines, most of them the SQL of one life cycle.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from gateway.domain.calls import Call
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.domain.subjects import Subject, with_subject
from gateway.store.postgres.pool import Connection, Record

SEPARATOR = "\x1f"
"""Joins text arrays for unnest, which knows no ragged arrays. No extension holds a control character."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One call event, as JSON text."""

    call_id: str
    seq: int
    event: str
    at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One thing one outside system must be told."""

    integration: IntegrationKey
    lane: str
    key: str
    kind: str
    bucket: str
    subject: Subject
    body: str
    latest_only: bool
    expires_s: float | None
    """For how long it is of use, from `received_at_s` on."""
    keep_s: float
    """For how long it is tried at most, from `received_at_s` on."""
    received_at_s: float = field(default_factory=time.monotonic)
    """`time.monotonic()`: a clock that somebody sets makes nothing old or new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRow:
    """A recording of a call that has ended, allotted before its file is here."""

    recording_id: UUID
    call_id: str
    pbx: str
    """Whose template leads to the file; empty where it is to be sent to us or has an address of its own."""
    reported: str
    url: str | None
    """Sealed."""
    begins_at: datetime
    ended_at: datetime
    run_at: datetime | None


@dataclass(slots=True)
class CallBatch:
    """What one tenant's actor has made of a batch, to be kept at once."""

    tenant: TenantId
    epoch: int | None = None
    """Under which epoch of its shard the actor was started; None writes whatever the epoch is."""
    calls: dict[str, tuple[str, Call]] = field(default_factory=dict)
    """Last state of every call touched, with its source."""
    events: list[EventRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    expected: list[ExpectedRow] = field(default_factory=list)
    posts_done: list[tuple[int, datetime]] = field(default_factory=list)
    """Journal id and time of receipt, which names the partition."""

    def __bool__(self) -> bool:
        return bool(self.events or self.posts_done)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery leased to this process until its lease ends."""

    tenant: TenantId
    integration: IntegrationKey
    delivery_id: int
    lane: str
    key: str
    kind: str
    bucket: str
    subject: Subject
    body: str
    attempt: int
    epoch: int
    created_at: datetime
    expires_s: float | None
    """For how long it is of use, from now on: by the database's clock, as everything that is compared."""
    keep_s: float
    reference: str | None


_RECORD = """
WITH fence AS MATERIALIZED (
    -- The tenants whose shard is still in the epoch under which their actor was started; -1 is any.
    SELECT f.tenant_id FROM unnest($54::text[], $55::int[], $56::bigint[]) AS f (tenant_id, shard, epoch)
    JOIN shards s ON s.shard = f.shard AND (f.epoch < 0 OR s.epoch = f.epoch) FOR SHARE OF s
), new_calls AS (
    INSERT INTO calls AS c (tenant_id, call_id, phase, source, direction, caller, called, trunk, ringing, rang,
                            extension, last_extension, started_at, answered_at, ended_at, result, wait_s, talk_s,
                            hung_up_by, queue, recording, uncertain, merged_into, events)
    SELECT r.tenant_id, r.call_id, r.phase, r.source, r.direction, r.caller, r.called, r.trunk,
           string_to_array(r.ringing, E'\\x1f'), string_to_array(r.rang, E'\\x1f'), r.extension, r.last_extension,
           r.started_at, r.answered_at, r.ended_at, r.result, r.wait_s, r.talk_s, r.hung_up_by, r.queue, r.recording,
           r.uncertain, r.merged_into, r.events
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[],
                $15::timestamptz[], $16::text[], $17::float8[], $18::float8[], $19::text[], $20::text[], $21::text[],
                $22::bool[], $23::text[], $24::int[])
         AS r (tenant_id, call_id, phase, source, direction, caller, called, trunk, ringing, rang, extension,
               last_extension, started_at, answered_at, ended_at, result, wait_s, talk_s, hung_up_by, queue, recording,
               uncertain, merged_into, events)
    WHERE r.tenant_id IN (SELECT tenant_id FROM fence)
    ON CONFLICT (tenant_id, call_id) DO UPDATE SET
        phase = excluded.phase, source = excluded.source, direction = excluded.direction, caller = excluded.caller,
        called = excluded.called, trunk = excluded.trunk, ringing = excluded.ringing, rang = excluded.rang,
        extension = excluded.extension, last_extension = excluded.last_extension, answered_at = excluded.answered_at,
        ended_at = excluded.ended_at, result = excluded.result, wait_s = excluded.wait_s, talk_s = excluded.talk_s,
        hung_up_by = excluded.hung_up_by, queue = excluded.queue, recording = excluded.recording,
        uncertain = excluded.uncertain, merged_into = excluded.merged_into, events = excluded.events
    WHERE c.events < excluded.events
), new_events AS (
    INSERT INTO call_events (tenant_id, call_id, seq, event, at, body)
    SELECT r.* FROM unnest($25::text[], $26::text[], $27::int[], $28::text[], $29::timestamptz[], $30::text[])
         AS r (tenant_id, call_id, seq, event, at, body)
    WHERE r.tenant_id IN (SELECT tenant_id FROM fence)
    ON CONFLICT DO NOTHING
), older AS MATERIALIZED (
    -- Lane by lane: a plan made while little waits would else read whatever waits, of all tenants, for every commit.
    SELECT r.tenant_id, o.delivery_id
    FROM unnest($31::text[], $32::text[], $33::text[], $34::text[], $38::bool[])
         AS r (tenant_id, integration_type, lane, key, latest_only)
    CROSS JOIN LATERAL (SELECT d.delivery_id FROM deliveries d
                        WHERE d.tenant_id = r.tenant_id AND d.integration_type = r.integration_type AND d.lane = r.lane
                          AND d.state = 'pending' AND d.latest_only AND d.attempt = 0 OFFSET 0 FOR UPDATE) AS o
    WHERE r.tenant_id IN (SELECT tenant_id FROM fence) AND r.latest_only
      -- A card that was kept before overtakes nothing: not itself, and not what came after it.
      AND NOT EXISTS (SELECT FROM deliveries known WHERE known.tenant_id = r.tenant_id
                      AND known.integration_type = r.integration_type AND known.key = r.key)
), overtaken AS (
    UPDATE deliveries d SET state = 'superseded', finished_at = now()
    FROM older WHERE d.tenant_id = older.tenant_id AND d.delivery_id = older.delivery_id
), new_deliveries AS (
    INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, bucket, subject_kind, subject_id, latest_only,
                            body, expires_at, keep_until, attempt, epoch, lease_until)
    SELECT r.tenant_id, r.integration_type, r.lane, r.key, r.kind, r.bucket, r.subject_kind, r.subject_id, r.latest_only,
           r.body,           now() + make_interval(secs => r.expires_s), now() + make_interval(secs => r.keep_s), leased::int, leased::int,
           CASE WHEN leased THEN now() + make_interval(secs => $58) END
    FROM unnest($31::text[], $32::text[], $33::text[], $34::text[], $35::text[], $36::text[], $37::text[], $38::bool[],
                $39::text[], $40::float8[], $41::float8[], $57::bool[], $59::text[])
         WITH ORDINALITY AS r (tenant_id, integration_type, lane, key, kind, bucket, subject_id, latest_only, body,
                               expires_s, keep_s, wanted, subject_kind, place)
    -- Asked as the claim asks, for the same reason.
    CROSS JOIN LATERAL (SELECT r.wanted AND (SELECT o.delivery_id FROM deliveries o
                                             WHERE o.tenant_id = r.tenant_id AND o.integration_type = r.integration_type
                                               AND o.lane = r.lane AND o.state = 'pending'
                                             ORDER BY o.delivery_id LIMIT 1) IS NULL AS leased OFFSET 0) AS first_of_lane
    WHERE r.tenant_id IN (SELECT tenant_id FROM fence)
    ORDER BY r.place
    ON CONFLICT (tenant_id, integration_type, key) DO NOTHING
    RETURNING tenant_id, integration_type, lane, delivery_id, key, created_at, lease_until IS NOT NULL AS leased
), new_recordings AS (
    -- One that was sent before the hangup is there already, and nothing is to be waited for.
    INSERT INTO recordings (tenant_id, recording_id, call_id, state, pbx, told, url, begins_at, kept_from, run_at)
    SELECT r.tenant_id, r.recording_id, r.call_id, 'expected', r.pbx, r.told, r.url, r.begins_at, r.ended_at, r.run_at
    FROM unnest($45::text[], $46::uuid[], $47::text[], $48::text[], $49::text[], $50::text[], $51::timestamptz[],
                $52::timestamptz[], $53::timestamptz[])
         AS r (tenant_id, recording_id, call_id, pbx, told, url, begins_at, ended_at, run_at)
    WHERE r.tenant_id IN (SELECT tenant_id FROM fence)
    ON CONFLICT (tenant_id, recording_id) DO NOTHING
), done_posts AS (
    UPDATE journal j SET done_at = now()
    FROM unnest($42::text[], $43::bigint[], $44::timestamptz[]) AS r (tenant_id, journal_id, received_at)
    -- Said so that the index of what is not done is not read from end to end for each post.
    WHERE j.tenant_id = r.tenant_id AND j.journal_id = r.journal_id AND j.received_at = r.received_at
      AND coalesce(j.done_at, 'infinity') = 'infinity' AND r.tenant_id IN (SELECT tenant_id FROM fence)
)
SELECT DISTINCT tenant_id, integration_type, NULL::bigint AS delivery_id, NULL AS key, NULL::timestamptz AS created_at,
       NULL AS reference
FROM new_deliveries WHERE NOT leased
UNION ALL
SELECT n.tenant_id, n.integration_type, n.delivery_id, n.key, n.created_at,
       (SELECT l.reference FROM lane_references l WHERE l.tenant_id = n.tenant_id
                                                    AND l.integration_type = n.integration_type AND l.lane = n.lane)
FROM new_deliveries n WHERE n.leased
UNION ALL
SELECT tenant_id, NULL, NULL, NULL, NULL, NULL FROM fence
"""


T = TypeVar("T", str, str | None)


def storable(text: T) -> T:
    """The text without what PostgreSQL keeps in no text: NUL, and halves of a pair. The outside says anything."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def newest_of_lane(deliveries: Sequence[DeliveryRow]) -> list[DeliveryRow]:
    """Within one batch an older card of a lane is overtaken before it is ever written."""
    last = {(d.integration, d.lane): place for place, d in enumerate(deliveries) if d.latest_only}
    return [d for place, d in enumerate(deliveries) if not d.latest_only or last[(d.integration, d.lane)] == place]


async def record(conn: Connection, batch: Sequence[CallBatch]) -> list[frozenset[IntegrationKey] | None]:
    """Keeps what several tenants' actors made, in one statement and so one commit.

    Returns for each part which integrations have something new to deliver, or None where the part was refused because
    its tenant's shard has passed on to another epoch.
    """
    kinds, _ = await record_and_claim(conn, batch, frozenset(), 0.0)
    return kinds


async def record_and_claim(
    conn: Connection,
    batch: Sequence[CallBatch],
    wanted: Collection[tuple[TenantId, IntegrationKey, str]],
    lease_s: float,
) -> tuple[list[frozenset[IntegrationKey] | None], list[Claim]]:
    """The same, and those of `wanted` (tenant, integration, key) are leased as they are written, if they are new and nothing
    is pending before them in their lanes. At most one of a lane may be wanted. What was leased is not told of as new."""
    epochs: dict[TenantId, int] = {}
    for part in batch:
        epochs[part.tenant] = max(epochs.get(part.tenant, -1), -1 if part.epoch is None else part.epoch)
    whole, batch = batch, [part for part in batch if part.epoch is None or part.epoch == epochs[part.tenant]]
    newest: dict[tuple[TenantId, str], tuple[str, Call]] = {}
    for part in batch:  # a statement updates a row once, and two incarnations of one actor may stand in a batch
        for source, call in part.calls.values():
            known = newest.get((part.tenant, call.call_id))
            if known is None or known[1].events < call.events:
                newest[part.tenant, call.call_id] = source, call
    calls = [(tenant, source, call) for (tenant, _), (source, call) in newest.items()]
    events = [(part.tenant, event) for part in batch for event in part.events]
    deliveries = [(part.tenant, row) for part in batch for row in newest_of_lane(part.deliveries)]
    expected = [(part.tenant, row) for part in batch for row in part.expected]
    posts = [(part.tenant, *done) for part in batch for done in part.posts_done]
    now = time.monotonic()
    rows = await conn.fetch(
        _RECORD,
        [tenant for tenant, _, _ in calls],
        [call.call_id for _, _, call in calls],
        [call.phase for _, _, call in calls],
        [source for _, source, _ in calls],
        [call.direction for _, _, call in calls],
        [storable(call.caller) for _, _, call in calls],
        [storable(call.called) for _, _, call in calls],
        [storable(call.trunk) for _, _, call in calls],
        [storable(SEPARATOR.join(call.ringing)) for _, _, call in calls],
        [storable(SEPARATOR.join(call.rang)) for _, _, call in calls],
        [storable(call.extension) for _, _, call in calls],
        [storable(call.last_extension) for _, _, call in calls],
        [call.started_at for _, _, call in calls],
        [call.answered_at for _, _, call in calls],
        [call.ended_at for _, _, call in calls],
        [call.result for _, _, call in calls],
        [call.wait_s for _, _, call in calls],
        [call.talk_s for _, _, call in calls],
        [call.hung_up_by for _, _, call in calls],
        [storable(call.queue) for _, _, call in calls],
        [storable(call.recording) for _, _, call in calls],
        [call.uncertain for _, _, call in calls],
        [call.merged_into for _, _, call in calls],
        [call.events for _, _, call in calls],
        [tenant for tenant, _ in events],
        [event.call_id for _, event in events],
        [event.seq for _, event in events],
        [event.event for _, event in events],
        [event.at for _, event in events],
        [storable(event.body) for _, event in events],
        [tenant for tenant, _ in deliveries],
        [row.integration for _, row in deliveries],
        [row.lane for _, row in deliveries],
        [storable(row.key) for _, row in deliveries],
        [row.kind for _, row in deliveries],
        [row.bucket for _, row in deliveries],
        [row.subject.id for _, row in deliveries],
        [row.latest_only for _, row in deliveries],
        [storable(row.body) for _, row in deliveries],
        [None if row.expires_s is None else row.expires_s - (now - row.received_at_s) for _, row in deliveries],
        [row.keep_s - (now - row.received_at_s) for _, row in deliveries],
        [tenant for tenant, _, _ in posts],
        [journal_id for _, journal_id, _ in posts],
        [received_at for _, _, received_at in posts],
        [tenant for tenant, _ in expected],
        [row.recording_id for _, row in expected],
        [row.call_id for _, row in expected],
        [row.pbx for _, row in expected],
        [storable(row.reported) for _, row in expected],
        [row.url for _, row in expected],
        [row.begins_at for _, row in expected],
        [row.ended_at for _, row in expected],
        [row.run_at for _, row in expected],
        list(epochs),
        [shard_of(tenant) for tenant in epochs],
        list(epochs.values()),
        [(tenant, row.integration, row.key) in wanted for tenant, row in deliveries],
        lease_s,
        [row.subject.kind for _, row in deliveries],
    )
    passed = {row[0] for row in rows if row[1] is None}
    kinds: dict[str, set[IntegrationKey]] = {}
    for row in rows:
        if row["integration_type"] is not None and row["delivery_id"] is None:
            kinds.setdefault(row[0], set()).add(IntegrationKey(row[1]))
    answers = [
        frozenset(kinds.get(part.tenant, ()))
        if part.tenant in passed and part.epoch in (None, epochs[part.tenant])
        else None
        for part in whole
    ]
    return answers, _leased(rows, deliveries, now) if wanted else []


def _leased(rows: Sequence[Record], deliveries: Sequence[tuple[TenantId, DeliveryRow]], now: float) -> list[Claim]:
    """The claims on what was leased as it was written."""
    written = {(tenant, row.integration, storable(row.key)): row for tenant, row in deliveries}
    claims = []
    for tenant, integration, delivery_id, key, created_at, reference in rows:
        if delivery_id is not None:
            row = written[tenant, integration, key]
            claims.append(
                Claim(
                    TenantId(tenant), row.integration, delivery_id, row.lane, key, row.kind, row.bucket, row.subject,
                    storable(row.body), 1, 1, created_at,
                    None if row.expires_s is None else row.expires_s - (now - row.received_at_s),
                    row.keep_s - (now - row.received_at_s), reference,
                )
            )  # fmt: skip
    return sorted(claims, key=lambda claim: claim.delivery_id)


async def claim_deliveries(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, most: int, lease_s: float, in_hand: Sequence[int] = (),
    empty_buckets: Sequence[str] = (), epoch: int | None = None,
) -> list[Claim]:  # fmt: skip
    """Leases up to `most` deliveries that are due, the oldest of each lane, and raises their attempt.

    Those `in_hand` are left out even when their lease has passed: the caller still has an outcome to tell. So are those of
    `empty_buckets`, which the caller could not send now; what stands behind one of them in its lane waits with it. Where
    `epoch` is given, nothing is leased once the tenant's shard has passed on to another.
    """
    rows = await conn.fetch(
        """
        WITH fence AS MATERIALIZED (
            SELECT FROM shards WHERE shard = $6 AND epoch = $7 FOR SHARE
        ), ready AS (
            SELECT d.delivery_id FROM deliveries d
            WHERE d.tenant_id = $1 AND d.integration_type = $2 AND d.state = 'pending' AND d.run_at <= now()
              AND ($7::bigint IS NULL OR EXISTS (SELECT FROM fence))
              AND (d.lease_until IS NULL OR d.lease_until < now()) AND d.delivery_id <> ALL($5::bigint[])
              AND d.bucket <> ALL($8::text[])
              AND d.delivery_id = (SELECT o.delivery_id FROM deliveries o
                                   WHERE o.tenant_id = $1 AND o.integration_type = $2 AND o.lane = d.lane
                                     AND o.state = 'pending' ORDER BY o.delivery_id LIMIT 1)
            ORDER BY d.run_at, d.delivery_id LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        UPDATE deliveries d
        SET attempt = d.attempt + 1, epoch = d.epoch + 1, lease_until = now() + make_interval(secs => $4)
        FROM ready
        WHERE d.tenant_id = $1 AND d.delivery_id = ready.delivery_id
        RETURNING d.tenant_id, d.integration_type, d.delivery_id, d.lane, d.key, d.kind, d.bucket, d.subject_kind, d.subject_id, d.body,
                  d.attempt, d.epoch, d.created_at, extract(epoch FROM d.expires_at - now())::float8,
                  extract(epoch FROM d.keep_until - now())::float8,
                  (SELECT reference FROM lane_references l WHERE l.tenant_id = $1 AND l.integration_type = $2
                                                             AND l.lane = d.lane) AS reference
        """,
        tenant,
        integration,
        most,
        lease_s,
        list(in_hand),
        shard_of(tenant),
        epoch,
        list(empty_buckets),
    )
    claims = (Claim(*with_subject(row, 7)) for row in rows)
    return sorted(claims, key=lambda claim: claim.delivery_id)


async def select_next_due(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, empty_buckets: Sequence[str] = ()
) -> float | None:
    """Seconds until the first lane has something to try, or None with nothing pending. A leased row counts by its
    lease's end; what stands behind another in its lane does not count, and what is of `empty_buckets` neither."""
    seconds = await conn.fetchval(
        """
        SELECT extract(epoch FROM least(
            (SELECT d.run_at FROM deliveries d
             WHERE d.tenant_id = $1 AND d.integration_type = $2 AND d.state = 'pending' AND d.bucket <> ALL($3::text[])
               AND (d.lease_until IS NULL OR d.lease_until < now())
               AND d.delivery_id = (SELECT o.delivery_id FROM deliveries o
                                    WHERE o.tenant_id = $1 AND o.integration_type = $2 AND o.lane = d.lane
                                      AND o.state = 'pending' ORDER BY o.delivery_id LIMIT 1)
             ORDER BY d.run_at, d.delivery_id LIMIT 1),
            (SELECT min(d.lease_until) FROM deliveries d
             WHERE d.tenant_id = $1 AND d.integration_type = $2 AND d.state = 'pending' AND d.bucket <> ALL($3::text[])
               AND d.lease_until >= now())) - now())
        """,
        tenant,
        integration,
        list(empty_buckets),
    )
    return None if seconds is None else float(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt. `state` is the delivery's new state; "pending" asks for a retry in `again_s`."""

    state: str
    status: str
    request: str = ""
    response: str = ""
    error: str | None = None
    reference: str | None = None
    note: str = ""
    again_s: float = 0.0
    duration_ms: int = 0
    uses_attempt: bool = True
    tried: bool = True
    """False when the other side was not even asked; that makes no row in the log."""


async def finish_delivery(conn: Connection, claim: Claim, outcome: Outcome) -> bool:
    """Acks one attempt. False when the lease had passed to another."""
    (held,) = await finish_deliveries(conn, [(claim, outcome)])
    return held


async def finish_deliveries(conn: Connection, acks: Sequence[tuple[Claim, Outcome]]) -> list[bool]:
    """Acks attempts: of each its state, log row and reference, all in one statement. False for those of which the lease had
    passed to another."""
    rows = await conn.fetch(
        """
        WITH told AS MATERIALIZED (
            SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bool[], $7::float8[],
                                 $8::text[], $9::text[], $10::text[], $11::text[], $12::int[], $13::text[], $14::int[],
                                 $15::bool[])
                 AS t (tenant_id, delivery_id, epoch, state, note, uses_attempt, again_s, request, response, status, error,
                       duration_ms, reference, attempt, tried)
            WHERE epoch + 0 = epoch  -- all of them; the planner takes that for one row and goes by the key
        ), held AS (
            UPDATE deliveries d
            SET state = t.state, note = t.note, lease_until = NULL,
                attempt = CASE WHEN t.uses_attempt THEN d.attempt ELSE d.attempt - 1 END,
                run_at = CASE WHEN t.state = 'pending' THEN now() + make_interval(secs => t.again_s) ELSE d.run_at END,
                finished_at = CASE WHEN t.state = 'pending' THEN NULL ELSE now() END
            FROM told t
            WHERE d.tenant_id = t.tenant_id AND d.delivery_id = t.delivery_id AND d.epoch = t.epoch
              AND d.state || '' = 'pending'  -- said so that no index of all that is pending is read from end to end
            RETURNING d.tenant_id, d.delivery_id, d.integration_type, d.kind, d.lane, d.subject_kind, d.subject_id
        ), logged AS (
            INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data,
                                          status, error_message, delivery_id, subject_kind, subject_id, attempt,
                                          duration_ms)
            SELECT tenant_id, h.integration_type, h.kind, t.request, t.response, t.status, t.error, delivery_id, h.subject_kind, h.subject_id,
                   t.attempt, t.duration_ms
            FROM held h JOIN told t USING (tenant_id, delivery_id) WHERE t.tried ORDER BY delivery_id
        ), remembered AS (
            INSERT INTO lane_references (tenant_id, integration_type, lane, reference)
            SELECT tenant_id, h.integration_type, h.lane, t.reference
            FROM held h JOIN told t USING (tenant_id, delivery_id) WHERE t.reference IS NOT NULL
            ON CONFLICT (tenant_id, integration_type, lane)
            DO UPDATE SET reference = excluded.reference, updated_at = now()
        )
        SELECT tenant_id, delivery_id FROM held
        """,
        [claim.tenant for claim, _ in acks],
        [claim.delivery_id for claim, _ in acks],
        [claim.epoch for claim, _ in acks],
        [outcome.state for _, outcome in acks],
        [storable(outcome.note) for _, outcome in acks],
        [outcome.uses_attempt for _, outcome in acks],
        [outcome.again_s for _, outcome in acks],
        [storable(outcome.request) for _, outcome in acks],
        [storable(outcome.response) for _, outcome in acks],
        [outcome.status for _, outcome in acks],
        [storable(outcome.error) for _, outcome in acks],
        [outcome.duration_ms for _, outcome in acks],
        [storable(outcome.reference) for _, outcome in acks],
        [claim.attempt for claim, _ in acks],
        [outcome.tried for _, outcome in acks],
    )
    held = {(row[0], row[1]) for row in rows}
    return [(claim.tenant, claim.delivery_id) in held for claim, _ in acks]


async def release_deliveries(conn: Connection, claims: Sequence[Claim]) -> None:
    """Gives leases back untried, so that the next process need not wait for them to end."""
    await conn.execute(
        """
        UPDATE deliveries d SET lease_until = NULL, attempt = d.attempt - 1
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS r (tenant_id, delivery_id, epoch)
        WHERE d.tenant_id = r.tenant_id AND d.delivery_id = r.delivery_id AND d.epoch = r.epoch AND d.state = 'pending'
        """,
        [claim.tenant for claim in claims],
        [claim.delivery_id for claim in claims],
        [claim.epoch for claim in claims],
    )


async def select_due(conn: Connection) -> list[tuple[TenantId, IntegrationKey]]:
    """Integrations with something due, whoever was told: the poll beneath the in-process wake-up."""
    rows = await conn.fetch(
        """
        SELECT i.tenant_id, i.integration_type FROM integrations i
        WHERE i.enabled AND EXISTS (
            SELECT FROM deliveries d
            WHERE d.tenant_id = i.tenant_id AND d.integration_type = i.integration_type AND d.state = 'pending'
              AND d.run_at <= now() AND (d.lease_until IS NULL OR d.lease_until < now()))
        """
    )
    return [(TenantId(row[0]), IntegrationKey(row[1])) for row in rows]


async def expire_deliveries(conn: Connection, most: int) -> int:
    """Drops what is useless by now or was kept long enough, with a log row each. Returns how many."""
    return int(
        await conn.fetchval(
            """
            WITH late AS (
                SELECT tenant_id, delivery_id FROM deliveries
                WHERE state = 'pending' AND (expires_at < now() OR keep_until < now())
                  AND (lease_until IS NULL OR lease_until < now())
                LIMIT $1 FOR UPDATE SKIP LOCKED
            ), dropped AS (
                UPDATE deliveries d
                SET state = CASE WHEN d.expires_at < now() THEN 'expired' ELSE 'failed' END, finished_at = now(),
                    epoch = d.epoch + 1
                FROM late WHERE d.tenant_id = late.tenant_id AND d.delivery_id = late.delivery_id
                RETURNING d.tenant_id, d.delivery_id, d.integration_type, d.kind, d.subject_kind, d.subject_id, d.attempt, d.state
            ), logged AS (
                INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data,
                                              status, error_message, delivery_id, subject_kind, subject_id, attempt)
                SELECT tenant_id, integration_type, kind, '', '', state, 'too late to be of use', delivery_id, subject_kind, subject_id,
                       attempt
                FROM dropped
            )
            SELECT count(*) FROM dropped
            """,
            most,
        )
        or 0
    )


async def delete_old_deliveries(conn: Connection, older_than_s: float, most: int) -> int:
    """Removes deliveries long finished, with their references, at most `most` at a time. Returns how many."""
    return int(
        await conn.fetchval(
            """
            WITH old AS (
                SELECT tenant_id, delivery_id FROM deliveries
                WHERE state <> 'pending' AND finished_at < now() - make_interval(secs => $1) LIMIT $2
            ), gone AS (
                DELETE FROM deliveries d USING old
                WHERE d.tenant_id = old.tenant_id AND d.delivery_id = old.delivery_id
                RETURNING d.tenant_id, d.integration_type, d.lane
            ), forgotten AS (
                DELETE FROM lane_references l USING gone
                WHERE l.tenant_id = gone.tenant_id AND l.integration_type = gone.integration_type
                  AND l.lane = gone.lane AND l.updated_at < now() - make_interval(secs => $1)
            )
            SELECT count(*) FROM gone
            """,
            older_than_s,
            most,
        )
        or 0
    )


async def count_pending(conn: Connection) -> dict[str, int]:
    """How many deliveries are `pending`, and the age in seconds of the oldest (`oldest_pending_s`). Reads the pending
    rows' index alone: the finished ones may be millions."""
    row = await conn.fetchrow(
        """
        SELECT count(*) AS pending, coalesce(extract(epoch FROM now() - min(created_at)), 0)::int AS oldest
        FROM deliveries WHERE state = 'pending'
        """
    )
    assert row is not None
    return {"pending": int(row["pending"]), "oldest_pending_s": int(row["oldest"])}
