"""Calls as the tenant's actor reads them back: the fold's state, row by row. Writing is `gateway.store.call_batches.record`."""

from collections.abc import Sequence

from gateway.domain.calls import Call, Phase
from gateway.domain.events import Direction, HungUpBy, Result
from gateway.domain.ids import CallId, TenantId
from gateway.store.postgres.pool import Connection, Record

COLUMNS = (
    "call_id, phase, source, direction, caller, called, trunk, ringing, rang, extension, last_extension, started_at, "
    "answered_at, ended_at, result, wait_s, talk_s, hung_up_by, queue, recording, uncertain, merged_into, events"
)


OF = """({0}::text[] IS NULL OR extension = ANY({0}::text[]) OR last_extension = ANY({0}::text[]) OR rang && {0}::text[]
               OR (direction <> 'incoming' AND caller = ANY({0}::text[]))
               OR (direction = 'internal' AND called = ANY({0}::text[])))"""
"""Whether an ended call is one of these internal numbers'. NULL: whoever's it is."""


def call_from_row(row: Record) -> Call:
    """A row of `calls` as the domain's Call."""
    return Call(
        call_id=CallId(row["call_id"]),
        phase=Phase(row["phase"]),
        direction=Direction(row["direction"]),
        caller=row["caller"],
        called=row["called"],
        trunk=row["trunk"],
        started_at=row["started_at"],
        ringing=tuple(row["ringing"]),
        rang=tuple(row["rang"]),
        extension=row["extension"],
        last_extension=row["last_extension"],
        answered_at=row["answered_at"],
        ended_at=row["ended_at"],
        result=Result(row["result"]) if row["result"] else None,
        wait_s=row["wait_s"],
        talk_s=row["talk_s"],
        hung_up_by=HungUpBy(row["hung_up_by"]) if row["hung_up_by"] else None,
        queue=row["queue"],
        recording=row["recording"],
        uncertain=row["uncertain"],
        merged_into=CallId(row["merged_into"]) if row["merged_into"] else None,
        events=row["events"],
    )


async def select_open_calls(conn: Connection, tenant: TenantId) -> list[tuple[str, Call]]:
    """The tenant's calls that have not ended, with the source that reported them, oldest first."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM calls WHERE tenant_id = $1 AND phase IN ('ringing', 'talking') ORDER BY started_at",  # noqa: S608 - constant columns
        tenant,
    )
    return [(row["source"], call_from_row(row)) for row in rows]


async def select_calls(conn: Connection, tenant: TenantId, call_ids: Sequence[str]) -> list[tuple[str, Call]]:
    """The calls with these ids, open or ended, with their source."""
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM calls WHERE tenant_id = $1 AND call_id = ANY($2::text[])",  # noqa: S608 - constant columns
        tenant,
        list(call_ids),
    )
    return [(row["source"], call_from_row(row)) for row in rows]


async def select_stored_events(conn: Connection, tenant: TenantId, call_ids: Sequence[str]) -> list[tuple[CallId, str]]:
    """Every stored event of these calls: its call, and its JSON as the contract writes it."""
    rows = await conn.fetch(
        "SELECT call_id, body FROM call_events WHERE tenant_id = $1 AND call_id = ANY($2::text[])",
        tenant,
        list(call_ids),
    )
    return [(CallId(row["call_id"]), row["body"]) for row in rows]
