"""The outbox: deliveries are written in the statement that stores what they come from, leased, tried and acked.

`deliveries_part` writes them for whoever composes such a statement (`call_batches.py`); a delivery's key refuses a second
time. A claim raises `attempt` and `epoch`; an ack names the epoch it holds, so a worker whose lease ran out changes nothing.
What there is room for is leased by the statement that writes it.
Order holds per lane: only a lane's oldest pending row is ready. The query tests "is it the first of its lane", which has one good plan whatever the planner believes of the table: as an
anti-join, a backlog that came faster than statistics are gathered was read once for every row of it.
Over 400 lines, most of them the SQL of one life cycle.
"""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.domain.subjects import Subject, with_subject
from gateway.store.postgres.pool import Connection, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One message that one outside system must receive."""

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
    interrupted: bool = False
    """Whether an earlier lease ended by itself: whoever held it may have sent it, and did not live to say so."""


# Writing ------------------------------------------------------------------------------------------------------------

_OVERTAKE = """older AS MATERIALIZED (
    -- Lane by lane: a plan made while little waits would else read whatever waits, of all tenants, for every commit.
    SELECT r.tenant_id, o.delivery_id
    FROM json_to_recordset({deliveries})
         AS r (tenant_id text, integration_type text, lane text, key text, latest_only bool)
    CROSS JOIN LATERAL (SELECT d.delivery_id FROM deliveries d
                        WHERE d.tenant_id = r.tenant_id AND d.integration_type = r.integration_type AND d.lane = r.lane
                          AND d.state = 'pending' AND d.latest_only AND d.attempt = 0 OFFSET 0 FOR UPDATE) AS o
    WHERE r.tenant_id IN (SELECT tenant_id FROM {tenants}) AND r.latest_only
      -- A card that was stored before overtakes nothing: not itself, and not what came after it.
      AND NOT EXISTS (SELECT FROM deliveries known WHERE known.tenant_id = r.tenant_id
                      AND known.integration_type = r.integration_type AND known.key = r.key)
), overtaken AS (
    UPDATE deliveries d SET state = 'superseded', finished_at = now()
    FROM older WHERE d.tenant_id = older.tenant_id AND d.delivery_id = older.delivery_id
), """

_INSERT = """new_deliveries AS (
    INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, bucket, subject_kind, subject_id,
                            latest_only, body, expires_at, keep_until, attempt, epoch, lease_until)
    SELECT r.tenant_id, r.integration_type, r.lane, r.key, r.kind, r.bucket, r.subject_kind, r.subject_id, r.latest_only,
           r.body, now() + make_interval(secs => r.expires_s), now() + make_interval(secs => r.keep_s), {leased}
    FROM json_to_recordset({deliveries})
         AS r (tenant_id text, integration_type text, lane text, key text, kind text, bucket text,
               subject_kind text, subject_id text, latest_only bool, body text, expires_s float8, keep_s float8, wanted bool, place int){first_of_lane}
    WHERE r.tenant_id IN (SELECT tenant_id FROM {tenants})
    ORDER BY r.place
    ON CONFLICT (tenant_id, integration_type, key) DO NOTHING
    RETURNING tenant_id, integration_type, lane, delivery_id, key, created_at, lease_until IS NOT NULL AS leased
)"""

_LEASED = "leased::int, leased::int, CASE WHEN leased THEN now() + make_interval(secs => {lease_s}) END"
_FIRST_OF_LANE = """
    -- Asked as the claim asks, for the same reason.
    CROSS JOIN LATERAL (SELECT r.wanted AND (SELECT o.delivery_id FROM deliveries o
                                             WHERE o.tenant_id = r.tenant_id AND o.integration_type = r.integration_type
                                               AND o.lane = r.lane AND o.state = 'pending'
                                             ORDER BY o.delivery_id LIMIT 1) IS NULL AS leased OFFSET 0) AS first_of_lane"""

DELIVERIES_RESULT = """
UNION ALL SELECT DISTINCT tenant_id, integration_type, NULL::bigint, lane, NULL::timestamptz, NULL
FROM new_deliveries WHERE NOT leased
UNION ALL
SELECT n.tenant_id, n.integration_type, n.delivery_id, n.key, n.created_at,
       (SELECT l.reference FROM lane_references l WHERE l.tenant_id = n.tenant_id
                                                    AND l.integration_type = n.integration_type AND l.lane = n.lane)
FROM new_deliveries n WHERE n.leased"""
"""What `deliveries_part` adds to the rows of a statement: lanes with something new that nobody holds, then what was leased."""


@cache
def deliveries_part(tenants: str, *, overtakes: bool, leases: bool) -> str:
    """The part of a statement that writes deliveries, those of tenants in the query `tenants` alone. Its arguments are
    `{deliveries}`, the JSON of `deliveries_rows`, and `{lease_s}` with `leases`. `overtakes`: some are `latest_only`."""
    text = (_OVERTAKE if overtakes else "") + _INSERT
    text = text.replace("{leased}", _LEASED if leases else "0, 0, NULL")
    return text.replace("{first_of_lane}", _FIRST_OF_LANE if leases else "").replace("{tenants}", tenants)


def deliveries_rows(
    deliveries: Sequence[tuple[TenantId, DeliveryRow]],
    now: float,
    wanted: Collection[tuple[TenantId, IntegrationKey, str]],
) -> list[dict[str, Any]]:
    """What `deliveries_part` reads. `now` is `time.monotonic()`; `wanted` are to be leased as they are written."""
    return [
        {
            "tenant_id": tenant, "integration_type": row.integration, "lane": row.lane, "key": storable(row.key),
            "kind": row.kind, "bucket": row.bucket, "subject_kind": row.subject.kind, "subject_id": row.subject.id, "latest_only": row.latest_only,
            "body": storable(row.body), "keep_s": row.keep_s - (now - row.received_at_s),
            "expires_s": None if row.expires_s is None else row.expires_s - (now - row.received_at_s),
            "wanted": (tenant, row.integration, row.key) in wanted, "place": place,
        }
        for place, (tenant, row) in enumerate(deliveries)
    ]  # fmt: skip


T = TypeVar("T", str, str | None)


def storable(text: T) -> T:
    """The text without what PostgreSQL stores in no text: NUL, and halves of a pair. Outside systems may send both."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def newest_of_lane(deliveries: Sequence[DeliveryRow]) -> list[DeliveryRow]:
    """Within one batch an older card of a lane is overtaken before it is ever written."""
    last = {(d.integration, d.lane): place for place, d in enumerate(deliveries) if d.latest_only}
    return [d for place, d in enumerate(deliveries) if not d.latest_only or last[(d.integration, d.lane)] == place]


def leased_claims(
    rows: Sequence[Record], deliveries: Sequence[tuple[TenantId, DeliveryRow]], now: float
) -> list[Claim]:
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

    Those `in_hand` are left out even when their lease has passed: the caller still has an outcome to report. So are those of
    `empty_buckets`, which the caller could not send now; what stands behind one of them in its lane waits with it. Where
    `epoch` is given, nothing is leased once the tenant's shard has passed on to another.
    """
    rows = await conn.fetch(
        """
        WITH fence AS MATERIALIZED (
            SELECT FROM shards WHERE shard = $6 AND epoch = $7 FOR SHARE
        ), ready AS (
            SELECT d.delivery_id, d.lease_until IS NOT NULL AS interrupted FROM deliveries d
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
                                                             AND l.lane = d.lane) AS reference,
                  ready.interrupted
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
    """What became of one attempt. `state` is the delivery's new state; "pending" requests a retry in `again_s`."""

    state: str
    status: str
    request: str = ""
    response: str = ""
    error: str | None = None
    code: str | None = None
    """Of `gateway.domain.errors.CODES`, where it failed."""
    reference: str | None = None
    note: str = ""
    external_id: str = ""
    """What the outside system calls what was sent, where it is a part of a message."""
    again_s: float = 0.0
    duration_ms: int = 0
    uses_attempt: bool = True
    tried: bool = True
    """False when no request was sent; that makes no row in the log."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of one attempt, and whether its holder takes the next delivery of the lane at once."""

    claim: Claim
    outcome: Outcome
    takes_next: bool = False
    epoch: int | None = None
    """As for `claim_deliveries`, of the next."""


@dataclass(frozen=True, slots=True)
class Acked:
    """`held` is False where the lease had passed to another: then nothing was written. `following` is leased to whoever acked."""

    held: bool
    following: Claim | None = None


async def finish_delivery(conn: Connection, claim: Claim, outcome: Outcome) -> bool:
    """Acks one attempt. False when the lease had passed to another."""
    (acked,) = await finish_and_claim(conn, [Ack(claim, outcome)], 0.0)
    return acked.held


_FINISH = """
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json)
         AS t (tenant_id text, delivery_id bigint, epoch bigint, state text, note text, uses_attempt bool, again_s float8,
               request text, response text, status text, error text, code text, duration_ms int, reference text, attempt int,
               external_id text, tried bool, takes_next bool, shard int, shard_epoch bigint)
    WHERE epoch + 0 = epoch  -- all of them; the planner takes that for one row and goes by the key
), held AS (
    UPDATE deliveries d
    SET state = t.state, note = t.note, lease_until = NULL, external_id = t.external_id,
        problem = CASE WHEN d.subject_kind = 'chat' THEN t.error END,
        attempt = CASE WHEN t.uses_attempt THEN d.attempt ELSE d.attempt - 1 END,
        run_at = CASE WHEN t.state = 'pending' THEN now() + make_interval(secs => t.again_s) ELSE d.run_at END,
        finished_at = CASE WHEN t.state = 'pending' THEN NULL ELSE now() END
    FROM given t
    WHERE d.tenant_id = t.tenant_id AND d.delivery_id = t.delivery_id AND d.epoch = t.epoch
      AND d.state || '' = 'pending'  -- worded so that no index of all that is pending is read from end to end
    RETURNING d.tenant_id, d.delivery_id, d.integration_type, d.kind, d.lane, d.subject_kind, d.subject_id, t.request,
              t.response, t.status, t.error, t.code, t.attempt, t.duration_ms, t.tried, t.reference, t.takes_next, t.shard,
              t.shard_epoch
), logged AS (
    INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data,
                                  status, error_message, code, delivery_id, subject_kind, subject_id, attempt, duration_ms)
    SELECT tenant_id, integration_type, kind, request, response, status, error, code, delivery_id, subject_kind, subject_id,
           attempt, duration_ms
    FROM held WHERE tried ORDER BY delivery_id
), remembered AS (
    INSERT INTO lane_references (tenant_id, integration_type, lane, reference)
    SELECT tenant_id, integration_type, lane, reference FROM held WHERE reference IS NOT NULL
    ON CONFLICT (tenant_id, integration_type, lane)
    DO UPDATE SET reference = excluded.reference, updated_at = now()
){next}
SELECT tenant_id, delivery_id, NULL::bigint AS following, NULL AS key, NULL AS kind, NULL AS bucket,
       NULL AS subject_kind, NULL AS subject_id, NULL AS body, NULL::int AS attempt, NULL::bigint AS epoch,
       NULL::timestamptz AS created_at, NULL::float8 AS expires_s, NULL::float8 AS keep_s, NULL AS reference,
       NULL::bool AS interrupted
FROM held{next_result}
"""
_NEXT = """, next AS MATERIALIZED (
    -- What the statement finishes is pending as it sees it, so the first of the lane beside that.
    SELECT h.tenant_id, h.delivery_id AS finished, h.reference, n.delivery_id, n.lease_until IS NOT NULL AS interrupted
    FROM held h
    CROSS JOIN LATERAL (SELECT o.delivery_id, o.run_at, o.lease_until FROM deliveries o
                        WHERE o.tenant_id = h.tenant_id AND o.integration_type = h.integration_type AND o.lane = h.lane
                          AND o.state = 'pending' AND o.delivery_id <> h.delivery_id
                        ORDER BY o.delivery_id LIMIT 1) AS n
    WHERE h.takes_next AND n.run_at <= now() AND (n.lease_until IS NULL OR n.lease_until < now())
      AND (h.shard_epoch < 0 OR EXISTS (SELECT FROM shards s WHERE s.shard = h.shard AND s.epoch = h.shard_epoch))
), leased AS (
    UPDATE deliveries d
    SET attempt = d.attempt + 1, epoch = d.epoch + 1, lease_until = now() + make_interval(secs => $2)
    FROM next
    WHERE d.tenant_id = next.tenant_id AND d.delivery_id = next.delivery_id
      AND d.state || '' = 'pending' AND (d.lease_until IS NULL OR d.lease_until < now())
    RETURNING d.*, next.finished, next.interrupted,
              coalesce(next.reference, (SELECT l.reference FROM lane_references l
                                        WHERE l.tenant_id = d.tenant_id AND l.integration_type = d.integration_type
                                          AND l.lane = d.lane)) AS reference
)"""
_NEXT_RESULT = """
UNION ALL
SELECT tenant_id, finished, delivery_id, key, kind, bucket, subject_kind, subject_id, body, attempt, epoch, created_at,
       extract(epoch FROM expires_at - now())::float8, extract(epoch FROM keep_until - now())::float8, reference,
       interrupted
FROM leased"""
_FINISH_ALONE = _FINISH.replace("{next}", "").replace("{next_result}", "")
_FINISH_AND_NEXT = _FINISH.replace("{next}", _NEXT).replace("{next_result}", _NEXT_RESULT)


async def finish_and_claim(conn: Connection, acks: Sequence[Ack], lease_s: float) -> list[Acked]:
    """Acks attempts: of each its state, log row and reference, and the lease of what follows in its lane where that is wanted
    and due, all in one statement."""
    given = [
        {
            "tenant_id": ack.claim.tenant, "delivery_id": ack.claim.delivery_id, "epoch": ack.claim.epoch,
            "state": ack.outcome.state, "note": storable(ack.outcome.note), "uses_attempt": ack.outcome.uses_attempt,
            "again_s": ack.outcome.again_s, "request": storable(ack.outcome.request),
            "response": storable(ack.outcome.response), "status": ack.outcome.status, "error": storable(ack.outcome.error),
            "code": ack.outcome.code, "duration_ms": ack.outcome.duration_ms, "reference": storable(ack.outcome.reference),
            "attempt": ack.claim.attempt, "tried": ack.outcome.tried,
            "external_id": storable(ack.outcome.external_id) or None,
            "takes_next": ack.takes_next and ack.outcome.state != "pending", "shard": shard_of(ack.claim.tenant),
            "shard_epoch": -1 if ack.epoch is None else ack.epoch,
        }
        for ack in acks
    ]  # fmt: skip
    arguments: list[object] = [json.dumps(given, ensure_ascii=False)]
    if takes_next := not given or any(row["takes_next"] for row in given):
        arguments.append(lease_s)
    rows = await conn.fetch(_FINISH_AND_NEXT if takes_next else _FINISH_ALONE, *arguments)
    held = {(row["tenant_id"], row["delivery_id"]) for row in rows}
    following = {(row["tenant_id"], row["delivery_id"]): row for row in rows if row["following"] is not None}
    answers = []
    for ack in acks:
        claim, row = ack.claim, following.get((ack.claim.tenant, ack.claim.delivery_id))
        after = None
        if row is not None:
            after = Claim(
                claim.tenant, claim.integration, row["following"], claim.lane, row["key"], row["kind"], row["bucket"],
                Subject(row["subject_kind"], row["subject_id"]), row["body"], row["attempt"], row["epoch"],
                row["created_at"], row["expires_s"], row["keep_s"], row["reference"], row["interrupted"],
            )  # fmt: skip
        answers.append(Acked((claim.tenant, claim.delivery_id) in held, after))
    return answers


async def release_deliveries(conn: Connection, claims: Sequence[Claim]) -> None:
    """Gives leases back untried, so that the next process need not wait for them to end. That an earlier one was interrupted
    stays known."""
    await conn.execute(
        """
        UPDATE deliveries d SET lease_until = CASE WHEN r.interrupted THEN '-infinity'::timestamptz END, attempt = d.attempt - 1
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bool[]) AS r (tenant_id, delivery_id, epoch, interrupted)
        WHERE d.tenant_id = r.tenant_id AND d.delivery_id = r.delivery_id AND d.epoch = r.epoch AND d.state = 'pending'
        """,
        [claim.tenant for claim in claims],
        [claim.delivery_id for claim in claims],
        [claim.epoch for claim in claims],
        [claim.interrupted for claim in claims],
    )


async def prolong_delivery(conn: Connection, claim: Claim, lease_s: float) -> bool:
    """Holds a leased delivery for so long from now on, for an attempt that takes longer than others. False where it is not held
    any more."""
    done: str = await conn.execute(
        """
        UPDATE deliveries SET lease_until = now() + make_interval(secs => $4)
        WHERE tenant_id = $1 AND delivery_id = $2 AND epoch = $3 AND state = 'pending'
        """,
        claim.tenant,
        claim.delivery_id,
        claim.epoch,
        lease_s,
    )
    return done.endswith(" 1")


async def select_due(conn: Connection) -> list[tuple[TenantId, IntegrationKey]]:
    """Integrations with something due, whoever was notified: the poll beneath the in-process wake-up."""
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
    """Drops what is useless by now or was stored long enough, with a log row each. Returns how many."""
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
                    epoch = d.epoch + 1, problem = CASE WHEN d.subject_kind = 'chat' THEN 'too late to be of use' END
                FROM late WHERE d.tenant_id = late.tenant_id AND d.delivery_id = late.delivery_id
                RETURNING d.tenant_id, d.delivery_id, d.integration_type, d.kind, d.subject_kind, d.subject_id, d.attempt, d.state
            ), logged AS (
                INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data,
                                              status, error_message, code, delivery_id, subject_kind, subject_id, attempt)
                SELECT tenant_id, integration_type, kind, '', '', state, 'too late to be of use', 'UNAVAILABLE', delivery_id, subject_kind, subject_id,
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
