"""What tenants' actors made of events and posts, committed by one statement: calls, their events, deliveries, posts.

    fence     the tenants whose shard is still in the epoch under which their actor was started
    passed    of these, the tenants of which nothing that was taken for new is known already (`Refusal.KNOWN`)
    calls, events, older, deliveries, recordings, posts, done    each present only where the batch has rows for it

`record` is the only way a call event becomes durable, and it is idempotent: the event's sequence number, the delivery's
key, the post's digest and the journal's row all refuse a second time. Each part is one JSON argument, read by
`json_to_recordset`: the statement is composed of the parts that the batch has, so there are a few dozen texts at most, and
each connection keeps their plans. Deliveries are written by `outbox.deliveries_part`. Read `gateway/store/outbox.py` next.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeAlias
from uuid import UUID

from gateway.domain.calls import Call
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.store.journal import PostRow
from gateway.store.outbox import (
    DELIVERIES_RESULT,
    Claim,
    DeliveryRow,
    deliveries_part,
    deliveries_rows,
    leased_claims,
    newest_of_lane,
    storable,
)
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class EventRow:
    """One call event, as JSON text."""

    call_id: str
    seq: int
    event: str
    at: datetime
    body: str


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


class Refusal(Enum):
    """Why nothing of a batch was written. Other tenants in the statement are not affected."""

    STALE = "the tenant's shard has passed on to another epoch"
    KNOWN = "a post of it or a call that it takes for new is known already, or older posts wait in the journal"


Recorded: TypeAlias = frozenset[IntegrationKey] | Refusal
"""The integrations with something new to deliver that was not leased, or why nothing was written."""


@dataclass(slots=True)
class CallBatch:
    """What one tenant's actor has made of a batch, to be committed at once."""

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
    posts: list[PostRow] = field(default_factory=list)
    """Posts that are not in the journal yet: they enter it as done. Where one is known, the batch is refused."""
    unknown: set[str] = field(default_factory=set)
    """Ids of calls that must not be known: posts alone name them. Where one is known, the batch is refused."""
    behind_journal: bool = False
    """Whether the batch is refused while posts of the tenant wait in the journal: another instance may have put them there."""

    def __bool__(self) -> bool:
        return bool(self.events or self.posts_done or self.posts)


_FENCE = """fence AS MATERIALIZED (
    -- -1 is any epoch.
    SELECT f.tenant_id FROM json_to_recordset({fence}) AS f (tenant_id text, shard int, epoch bigint)
    JOIN shards s ON s.shard = f.shard AND (f.epoch < 0 OR s.epoch = f.epoch) FOR SHARE OF s
)"""

_PASSED = "passed AS MATERIALIZED (SELECT f.tenant_id FROM fence f WHERE true{conditions})"
_CONDITIONS = {
    "posts": """
    AND NOT EXISTS (
        SELECT FROM json_to_recordset({posts}) AS r (tenant_id text, digest text)
        JOIN journal_digests d ON d.tenant_id = r.tenant_id AND d.digest = decode(r.digest, 'hex')
        WHERE r.tenant_id = f.tenant_id)""",
    "unknown": """
    AND NOT EXISTS (
        SELECT FROM json_to_recordset({unknown}) AS r (tenant_id text, call_id text)
        JOIN calls c ON c.tenant_id = r.tenant_id AND c.call_id = r.call_id
        WHERE r.tenant_id = f.tenant_id)""",
    "behind": """
    AND NOT EXISTS (
        SELECT FROM json_to_recordset({behind}) AS r (tenant_id text)
        JOIN journal j ON j.tenant_id = r.tenant_id AND j.stream = 'calls' AND j.done_at IS NULL
        WHERE r.tenant_id = f.tenant_id)""",
}

_CALL_COLUMNS = {
    "tenant_id": "text", "call_id": "text", "phase": "text", "source": "text", "direction": "text", "caller": "text",
    "called": "text", "trunk": "text", "ringing": "text[]", "rang": "text[]", "extension": "text",
    "last_extension": "text", "started_at": "timestamptz", "answered_at": "timestamptz", "ended_at": "timestamptz",
    "result": "text", "wait_s": "float8", "talk_s": "float8", "hung_up_by": "text", "queue": "text", "recording": "text",
    "uncertain": "bool", "merged_into": "text", "events": "int",
}  # fmt: skip
_CALL_NAMES = ", ".join(_CALL_COLUMNS)

_PARTS = {
    "calls": f"""new_calls AS (
    INSERT INTO calls AS c ({_CALL_NAMES})
    SELECT {_CALL_NAMES}
    FROM json_to_recordset({{calls}}) AS r ({", ".join(f"{name} {kind}" for name, kind in _CALL_COLUMNS.items())})
    WHERE r.tenant_id IN (SELECT tenant_id FROM passed)
    ON CONFLICT (tenant_id, call_id) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in list(_CALL_COLUMNS)[2:])}
    WHERE c.events < excluded.events
)""",  # noqa: S608 - constant columns
    "events": """new_events AS (
    INSERT INTO call_events (tenant_id, call_id, seq, event, at, body)
    SELECT r.* FROM json_to_recordset({events})
         AS r (tenant_id text, call_id text, seq int, event text, at timestamptz, body text)
    WHERE r.tenant_id IN (SELECT tenant_id FROM passed)
    ON CONFLICT DO NOTHING
)""",
    "expected": """new_recordings AS (
    -- One that was sent before the hangup is there already, and nothing is to be waited for.
    INSERT INTO recordings (tenant_id, recording_id, call_id, state, pbx, told, url, begins_at, kept_from, run_at)
    SELECT r.tenant_id, r.recording_id, r.call_id, 'expected', r.pbx, r.reported, r.url, r.begins_at, r.ended_at, r.run_at
    FROM json_to_recordset({expected})
         AS r (tenant_id text, recording_id uuid, call_id text, pbx text, reported text, url text, begins_at timestamptz,
               ended_at timestamptz, run_at timestamptz)
    WHERE r.tenant_id IN (SELECT tenant_id FROM passed)
    ON CONFLICT (tenant_id, recording_id) DO NOTHING
)""",
    "posts": """new_posts AS MATERIALIZED (
    SELECT r.tenant_id, r.address, r.unique_id, decode(r.digest, 'hex') AS digest, r.body, r.received_at, r.place
    FROM json_to_recordset({posts})
         AS r (tenant_id text, address text, unique_id text, digest text, body text, received_at timestamptz, place int)
    WHERE r.tenant_id IN (SELECT tenant_id FROM passed)
), new_digests AS (
    INSERT INTO journal_digests (tenant_id, digest, received_at) SELECT tenant_id, digest, received_at FROM new_posts
    ON CONFLICT (tenant_id, digest) DO NOTHING
    RETURNING tenant_id, digest
), journaled AS (
    INSERT INTO journal (tenant_id, address, unique_id, digest, body, received_at, done_at)
    SELECT p.tenant_id, p.address, p.unique_id, p.digest, p.body, p.received_at, now()
    FROM new_posts p JOIN new_digests USING (tenant_id, digest) ORDER BY p.place
)""",
    "done": """done_posts AS (
    UPDATE journal j SET done_at = now()
    FROM json_to_recordset({done}) AS r (tenant_id text, journal_id bigint, received_at timestamptz)
    -- Worded so that the index of what is not done is not read from end to end for each post.
    WHERE j.tenant_id = r.tenant_id AND j.journal_id = r.journal_id AND j.received_at = r.received_at
      AND coalesce(j.done_at, 'infinity') = 'infinity' AND r.tenant_id IN (SELECT tenant_id FROM passed)
)""",
}

_RESULT = """
SELECT tenant_id, NULL AS integration_type, NULL::bigint AS delivery_id, NULL AS key, NULL::timestamptz AS created_at,
       NULL AS reference
FROM fence"""
_RESULT_PASSED = """
UNION ALL SELECT tenant_id, '', NULL, NULL, NULL, NULL FROM passed"""


@cache
def _statement(parts: tuple[str, ...], overtakes: bool, leases: bool) -> str:
    """The statement for a batch with these parts; the parts' JSON arguments come in this order."""
    conditions = "".join(_CONDITIONS[part] for part in parts if part in _CONDITIONS)
    withs = [_FENCE, _PASSED.replace("{conditions}", conditions)]
    for part in parts:
        if part == "deliveries":
            withs.append(deliveries_part("passed", overtakes=overtakes, leases=leases))
        elif part in _PARTS:
            withs.append(_PARTS[part])
    text = "WITH " + ", ".join(withs) + _RESULT + (_RESULT_PASSED if conditions else "")
    text += DELIVERIES_RESULT if "deliveries" in parts else ""
    numbers = {part: f"${place}::json" for place, part in enumerate(parts, 1)}
    for part, number in numbers.items():
        text = text.replace(f"{{{part}}}", number)
    return text.replace("{lease_s}", f"${len(parts) + 1}::float8")


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _call_row(tenant: TenantId, source: str, call: Call) -> dict[str, Any]:
    return {
        "tenant_id": tenant, "call_id": call.call_id, "phase": call.phase, "source": source, "direction": call.direction,
        "caller": storable(call.caller), "called": storable(call.called), "trunk": storable(call.trunk),
        "ringing": [storable(one) for one in call.ringing], "rang": [storable(one) for one in call.rang],
        "extension": storable(call.extension), "last_extension": storable(call.last_extension),
        "started_at": call.started_at, "answered_at": call.answered_at, "ended_at": call.ended_at, "result": call.result,
        "wait_s": call.wait_s, "talk_s": call.talk_s, "hung_up_by": call.hung_up_by, "queue": storable(call.queue),
        "recording": storable(call.recording), "uncertain": call.uncertain, "merged_into": call.merged_into,
        "events": call.events,
    }  # fmt: skip


async def record(conn: Connection, batch: Sequence[CallBatch]) -> list[Recorded]:
    """Commits what several tenants' actors made, in one statement. Returns a `Recorded` for each part."""
    written = await record_and_claim(conn, batch, frozenset(), 0.0)
    return written.answers


@dataclass(frozen=True, slots=True)
class Written:
    """What a statement has written."""

    answers: list[Recorded]
    """For each part."""
    claims: list[Claim]
    """What was leased to us as it was written."""
    lanes: frozenset[tuple[TenantId, IntegrationKey, str]] = frozenset()
    """(tenant, integration, lane) with something new that was not leased."""


async def record_and_claim(
    conn: Connection,
    batch: Sequence[CallBatch],
    wanted: Collection[tuple[TenantId, IntegrationKey, str]],
    lease_s: float,
) -> Written:
    """The same, and those of `wanted` (tenant, integration, key) are leased as they are written, if they are new and nothing
    is pending before them in their lanes. At most one of a lane may be wanted. What was leased is not reported as new."""
    epochs: dict[TenantId, int] = {}
    for part in batch:
        epochs[part.tenant] = max(epochs.get(part.tenant, -1), -1 if part.epoch is None else part.epoch)
    whole, batch = batch, [part for part in batch if part.epoch is None or part.epoch == epochs[part.tenant]]
    deliveries = [(part.tenant, row) for part in batch for row in newest_of_lane(part.deliveries)]
    now = time.monotonic()
    given: dict[str, Sequence[Mapping[str, Any]]] = {
        "fence": [{"tenant_id": one, "shard": shard_of(one), "epoch": epoch} for one, epoch in epochs.items()],
        **{name: rows(batch) for name, rows in _ROWS.items()},
        "deliveries": deliveries_rows(deliveries, now, wanted),
    }
    parts = tuple(name for name, rows in given.items() if rows)
    overtakes = any(row.latest_only for _, row in deliveries)
    arguments: list[object] = [_json(given[name]) for name in parts]
    if leases := bool(wanted and deliveries):
        arguments.append(lease_s)
    rows = await conn.fetch(_statement(parts, overtakes, leases), *arguments)
    fence = {row["tenant_id"] for row in rows if row["integration_type"] is None}
    passed = {row["tenant_id"] for row in rows if row["integration_type"] == ""}
    if not _CONDITIONS.keys() & set(parts):
        passed = fence
    lanes = frozenset(
        (TenantId(row["tenant_id"]), IntegrationKey(row["integration_type"]), row["key"])
        for row in rows
        if row["integration_type"] and row["delivery_id"] is None
    )
    keys: dict[str, set[IntegrationKey]] = {}
    for tenant, key, _ in lanes:
        keys.setdefault(tenant, set()).add(key)
    answers: list[Recorded] = []
    for part in whole:
        if part.tenant not in fence or part.epoch not in (None, epochs[part.tenant]):
            answers.append(Refusal.STALE)
        elif part.tenant not in passed:
            answers.append(Refusal.KNOWN)
        else:
            answers.append(frozenset(keys.get(part.tenant, ())))
    return Written(answers, leased_claims(rows, deliveries, now) if leases else [], lanes)


_USUAL = (
    ("fence", "calls", "events"),
    ("fence", "calls", "events", "deliveries"),
    ("fence", "calls", "events", "expected", "deliveries"),
    ("fence", "posts"),
    ("fence", "posts", "calls", "events", "deliveries"),
    ("fence", "posts", "unknown", "calls", "events", "deliveries"),
    ("fence", "calls", "events", "done", "deliveries"),
)


async def prepare_records(conn: Connection) -> None:
    """Makes the plans of the usual batches; writes nothing."""
    for parts in _USUAL:
        for overtakes in (False, True) if "deliveries" in parts else (False,):
            leases = "deliveries" in parts
            await conn.fetch(_statement(parts, overtakes, leases), *["[]"] * len(parts), *[0.0] * leases)


def _call_rows(batch: Sequence[CallBatch]) -> list[dict[str, Any]]:
    newest: dict[tuple[TenantId, str], tuple[str, Call]] = {}
    for part in batch:  # a statement updates a row once, and two incarnations of one actor may stand in a batch
        for source, call in part.calls.values():
            known = newest.get((part.tenant, call.call_id))
            if known is None or known[1].events < call.events:
                newest[part.tenant, call.call_id] = source, call
    return [_call_row(tenant, source, call) for (tenant, _), (source, call) in newest.items()]


_ROWS: Mapping[str, Callable[[Sequence[CallBatch]], list[dict[str, Any]]]] = {
    "posts": lambda batch: [
        {
            "tenant_id": part.tenant, "address": row.address, "unique_id": row.unique_id, "digest": row.digest,
            "body": row.body, "received_at": row.received_at, "place": place,
        }
        for part in batch for place, row in enumerate(part.posts)
    ],
    "unknown": lambda batch: [
        {"tenant_id": part.tenant, "call_id": one} for part in batch for one in sorted(part.unknown)
    ],
    "behind": lambda batch: [{"tenant_id": part.tenant} for part in batch if part.behind_journal],
    "calls": _call_rows,
    "events": lambda batch: [
        {
            "tenant_id": part.tenant, "call_id": row.call_id, "seq": row.seq, "event": row.event, "at": row.at,
            "body": storable(row.body),
        }
        for part in batch for row in part.events
    ],
    "expected": lambda batch: [
        {
            "tenant_id": part.tenant, "recording_id": row.recording_id, "call_id": row.call_id, "pbx": row.pbx,
            "reported": storable(row.reported), "url": row.url, "begins_at": row.begins_at, "ended_at": row.ended_at,
            "run_at": row.run_at,
        }
        for part in batch for row in part.expected
    ],
    "done": lambda batch: [
        {"tenant_id": part.tenant, "journal_id": journal_id, "received_at": received_at}
        for part in batch for journal_id, received_at in part.posts_done
    ],
}  # fmt: skip
