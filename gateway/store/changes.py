"""What has changed in a company since a snapshot of the database, exactly: nothing twice, nothing left out.

Rows are not told apart by time or number, which are drawn before a commit and so may become visible in another order, but by the
transaction that wrote them: it was not visible in the snapshot of before, and is in the one of now. Times only bound the search.
See https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT. Read `gateway/web/rest/changes.py` next.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection

SLACK_S = 60.0
"""How long before it became visible a row may have got its time; statements end after 15 s."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a reader has seen: a snapshot in PostgreSQL's text form, the database's time, the configuration's version."""

    snapshot: str
    at: datetime
    version: int

    @property
    def next_transaction(self) -> int:
        """The first transaction that had not begun: it only grows, in one database."""
        return int(self.snapshot.split(":")[1])


Stream = Literal["call", "order", "conversation"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
"""What is read one after the other."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of events: of a stream, behind all of those before it in STREAMS."""

    recorded_at: datetime
    call_id: str
    """Or the id of whatever the stream is about."""
    seq: int
    stream: Stream = "call"


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a call, as `gateway replay` prints it; or what an order or a conversation is now."""

    place: Place
    body: str


_WRITTEN = """
             -- A row bears the last 32 bits of its transaction: those around the next one are meant.
             LATERAL (SELECT (line.next + (({0}.xmin::text::bigint - line.next + 6442450944) % 4294967296 + 4294967296) % 4294967296
                              - 2147483648)::text::xid8 AS written) w"""


async def select_horizon(conn: Connection, tenant: TenantId) -> Horizon:
    """What is visible now."""
    row = await conn.fetchrow(
        """
        SELECT pg_current_snapshot()::text, clock_timestamp(),
               coalesce((SELECT version FROM tenant_versions WHERE tenant_id = $1), 0)
        """,
        tenant,
    )
    assert row is not None
    return Horizon(*row)


async def select_call_changes(
    conn: Connection, tenant: TenantId, seen: Horizon, until: Horizon, after: Place | None, most: int
) -> list[Change]:
    """Events of calls that were not visible in `seen` and are in `until`, in the order of their times; those behind `after`. Raises
    BadData for snapshots that are none."""
    rows = await conn.fetch(
        """
        WITH line AS (SELECT pg_snapshot_xmax($4::text::pg_snapshot)::text::bigint AS next)
        SELECT e.recorded_at, e.call_id, e.seq, e.body
        FROM call_events e, line, """  # noqa: S608 - constants
        + _WRITTEN.format("e")
        + """
        WHERE e.tenant_id = $1 AND e.recorded_at > $2::timestamptz - make_interval(secs => $9)
          AND NOT pg_visible_in_snapshot(w.written, $3::text::pg_snapshot)
          AND pg_visible_in_snapshot(w.written, $4::text::pg_snapshot)
          AND ($5::timestamptz IS NULL OR (e.recorded_at, e.call_id, e.seq) > ($5, $6, $7))
        ORDER BY e.recorded_at, e.call_id, e.seq LIMIT $8
        """,
        tenant,
        seen.at,
        seen.snapshot,
        until.snapshot,
        after.recorded_at if after else None,
        after.call_id if after else "",
        after.seq if after else 0,
        most,
        SLACK_S,
    )
    return [Change(Place(row[0], row[1], row[2]), row[3]) for row in rows]


async def select_order_changes(
    conn: Connection, tenant: TenantId, seen: Horizon, until: Horizon, after: Place | None, most: int
) -> list[Change]:
    """Orders that were made or changed by what was not visible in `seen` and is in `until`, each once, as it is now. Raises BadData for
    snapshots that are none."""
    rows = await conn.fetch(
        """
        WITH line AS (SELECT pg_snapshot_xmax($4::text::pg_snapshot)::text::bigint AS next)
        SELECT o.changed_at, o.order_id::text, o.version, json_build_object(
            'id', o.order_id, 'number', o.number, 'kind', o.kind, 'status', o.status, 'contact', o.contact_id,
            'conversation', o.conversation_id, 'total', o.total, 'currency', o.currency, 'version', o.version, 'at', o.updated_at)::text
        FROM orders o, line, """  # noqa: S608 - constants
        + _WRITTEN.format("o")
        + """
        WHERE o.tenant_id = $1 AND o.changed_at > $2::timestamptz - make_interval(secs => $8)
          AND NOT pg_visible_in_snapshot(w.written, $3::text::pg_snapshot)
          AND pg_visible_in_snapshot(w.written, $4::text::pg_snapshot)
          AND ($5::timestamptz IS NULL OR (o.changed_at, o.order_id) > ($5, $6::uuid))
        ORDER BY o.changed_at, o.order_id LIMIT $7
        """,
        tenant,
        seen.at,
        seen.snapshot,
        until.snapshot,
        after.recorded_at if after else None,
        after.call_id if after else None,
        most,
        SLACK_S,
    )
    return [Change(Place(row[0], row[1], row[2], "order"), row[3]) for row in rows]


async def select_conversation_changes(
    conn: Connection, tenant: TenantId, seen: Horizon, until: Horizon, after: Place | None, most: int
) -> list[Change]:
    """Conversations that began or changed by what was not visible in `seen` and is in `until`, each once, as it is now and without what
    was written. Raises BadData for snapshots that are none."""
    rows = await conn.fetch(
        """
        WITH line AS (SELECT pg_snapshot_xmax($4::text::pg_snapshot)::text::bigint AS next)
        SELECT c.changed_at, c.conversation_id::text, c.last_seq, json_build_object(
            'id', c.conversation_id, 'channel', c.integration_type, 'contact', c.contact_id, 'state', c.state, 'owner', c.owner,
            'epoch', c.epoch, 'unread', c.unread, 'last_message_at', c.last_message_at, 'waiting_since', c.waiting_since,
            'at', c.changed_at)::text
        FROM conversations c, line, """  # noqa: S608 - constants
        + _WRITTEN.format("c")
        + """
        WHERE c.tenant_id = $1 AND c.changed_at > $2::timestamptz - make_interval(secs => $8)
          AND NOT pg_visible_in_snapshot(w.written, $3::text::pg_snapshot)
          AND pg_visible_in_snapshot(w.written, $4::text::pg_snapshot)
          AND ($5::timestamptz IS NULL OR (c.changed_at, c.conversation_id) > ($5, $6::uuid))
        ORDER BY c.changed_at, c.conversation_id LIMIT $7
        """,
        tenant,
        seen.at,
        seen.snapshot,
        until.snapshot,
        after.recorded_at if after else None,
        after.call_id if after else None,
        most,
        SLACK_S,
    )
    return [Change(Place(row[0], row[1], row[2], "conversation"), row[3]) for row in rows]
