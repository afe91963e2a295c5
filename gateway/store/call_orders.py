"""Calls that somebody requested. One transaction admits an order or returns the limit that refuses it.

Admission is serialised per tenant by an advisory lock, so a thousand requests at once pass a limit of ten exactly ten
times, on however many machines. A row is written before the request to the PBX and never leads to a second try.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gateway.domain.dialling import Rules
from gateway.domain.ids import TenantId
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

REPEAT_S = 5.0
"""A repeat of the same call within this time is the same call."""
UNSEEN_S = 90.0
"""An order whose call was not seen by then does not count as going on."""
DAY_S, MINUTE_S = 86_400.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """A call that the rules allow, as far as they need no counting."""

    order_id: str
    call_id: str
    pbx: str
    asked_by: str
    extension: str
    number: str
    then: str = ""
    """The extension that stood behind the number: for the audit, not for the PBX."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The order's id; of a repeat, the first one's."""

    order_id: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Limited:
    """The limit that refuses the order, and the seconds after which a repeat may pass."""

    limit: Literal["per_user_minute", "per_user_day", "per_company_minute", "concurrent"]
    retry_after_s: float


async def admit(conn: Connection, tenant: TenantId, order: NewOrder, rules: Rules) -> Admitted | Limited:
    """Writes the order, unless it repeats one or a limit is reached. Wants a transaction (`Database.tenant`).

    `statement_timestamp()`, not `clock_timestamp()`: it is as late as the lock wants, and a search by it uses the index.
    """
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('call_orders:' || $1, 0))", tenant)
    row = await conn.fetchrow(
        """
        SELECT (SELECT order_id FROM call_orders
                WHERE tenant_id = $1 AND person = $2 AND number = $3 AND state <> 'refused'
                  AND asked_at > statement_timestamp() - make_interval(secs => $4)
                ORDER BY asked_at DESC LIMIT 1) AS repeated,
               count(*) FILTER (WHERE person = $2 AND asked_at > statement_timestamp() - interval '1 minute') AS minute,
               count(*) FILTER (WHERE person = $2) AS day,
               count(*) FILTER (WHERE asked_at > statement_timestamp() - interval '1 minute') AS company_minute,
               extract(epoch FROM min(asked_at) FILTER (WHERE asked_at > statement_timestamp() - interval '1 minute')
                   + interval '1 minute' - statement_timestamp())::float8 AS company_minute_left,
               extract(epoch FROM min(asked_at) FILTER (
                   WHERE person = $2 AND asked_at > statement_timestamp() - interval '1 minute'
               ) + interval '1 minute' - statement_timestamp())::float8 AS minute_left,
               extract(epoch FROM min(asked_at) FILTER (WHERE person = $2)
                   + interval '1 day' - statement_timestamp())::float8 AS day_left
        FROM call_orders WHERE tenant_id = $1 AND asked_at > statement_timestamp() - interval '1 day'
        """,
        tenant,
        order.extension,
        order.number,
        REPEAT_S,
    )
    assert row is not None
    if row["repeated"] is not None:
        return Admitted(row["repeated"], repeated=True)
    if row["minute"] >= rules.per_user_minute:
        return Limited("per_user_minute", max(1.0, row["minute_left"] or MINUTE_S))
    if row["day"] >= rules.per_user_day:
        return Limited("per_user_day", max(1.0, row["day_left"] or DAY_S))
    if row["company_minute"] >= rules.per_company_minute:
        return Limited("per_company_minute", max(1.0, row["company_minute_left"] or MINUTE_S))
    if await count_going_on(conn, tenant) >= rules.concurrent:
        return Limited("concurrent", 10.0)
    await conn.execute(
        "INSERT INTO call_orders (tenant_id, order_id, call_id, pbx, asked_by, person, number) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant,
        order.order_id,
        order.call_id,
        order.pbx,
        order.asked_by,
        order.extension,
        order.number,
    )
    return Admitted(order.order_id)


async def count_going_on(conn: Connection, tenant: TenantId) -> int:
    """How many ordered calls are going on: not refused, and their call open or not seen yet."""
    found: int = await conn.fetchval(
        """
        SELECT count(*) FROM call_orders o LEFT JOIN calls c USING (tenant_id, call_id)
        WHERE o.tenant_id = $1 AND o.state IN ('asked', 'taken', 'doubtful')
          AND o.asked_at > statement_timestamp() - interval '12 hours'
          AND (c.phase IN ('ringing', 'talking')
               OR c.call_id IS NULL AND o.asked_at > statement_timestamp() - make_interval(secs => $2))
        """,
        tenant,
        UNSEEN_S,
    )
    return found


async def finish_order(conn: Connection, tenant: TenantId, order_id: str, state: str, reason: str = "") -> None:
    """Stores the PBX's answer. What was refused stays refused."""
    await conn.execute(
        "UPDATE call_orders SET state = $3, reason = $4 WHERE tenant_id = $1 AND order_id = $2 AND state <> 'refused'",
        tenant,
        storable(order_id),  # an answer's ActionID is whatever the PBX sends
        state,
        storable(reason)[:500],
    )


async def take_order(
    conn: Connection, tenant: TenantId, order_id: str, pbx: str | None, call_id: str | None
) -> tuple[str, str] | None:
    """Takes an order that another instance has admitted, to place it at this PBX, once: (internal number, number to
    dial), or None where somebody has it already or it is too late. Until its outcome is noted it is in doubt."""
    row = await conn.fetchrow(
        "UPDATE call_orders SET state = 'doubtful', reason = 'left', pbx = coalesce($3, pbx), "
        "call_id = coalesce($4, call_id) WHERE tenant_id = $1 AND order_id = $2 "
        "AND state = 'asked' AND asked_at > clock_timestamp() - interval '10 seconds' RETURNING person, number",
        tenant,
        order_id,
        pbx,
        call_id,
    )
    return (row["person"], row["number"]) if row is not None else None


async def doubt_left_orders(conn: Connection, older_than_s: float = 60.0) -> int:
    """Marks orders as doubtful whose process ended before it placed or noted them. They are not placed again."""
    done: str = await conn.execute(
        "UPDATE call_orders SET state = 'doubtful', reason = 'left' "
        "WHERE state = 'asked' AND asked_at < clock_timestamp() - make_interval(secs => $1)",
        older_than_s,
    )
    return int(done.rpartition(" ")[2])


async def delete_old_orders(conn: Connection, keep_s: float, batch: int) -> int:
    """Removes up to `batch` orders past their time. Returns how many."""
    done: str = await conn.execute(
        "DELETE FROM call_orders WHERE (tenant_id, order_id) IN (SELECT tenant_id, order_id FROM call_orders "
        "WHERE asked_at < now() - make_interval(secs => $1) LIMIT $2)",
        keep_s,
        batch,
    )
    return int(done.rpartition(" ")[2])


@dataclass(frozen=True, slots=True)
class OrderLine:
    """An order and what became of it, as a page shows it."""

    order_id: str
    call_id: str
    asked_by: str
    extension: str
    number: str
    state: str
    reason: str
    asked_at: datetime
    phase: str | None
    """Of its call; None while none was seen."""
    result: str | None
    talk_s: float | None

    @property
    def outcome(self) -> str:
        """One word for it: a key of the UI's texts."""
        if self.phase == "ended":
            return self.result or "taken"
        return self.phase or self.state

    @property
    def open(self) -> bool:
        """Whether more is to come."""
        return self.state in ("asked", "taken") and self.phase != "ended"


async def select_orders(
    conn: Connection, tenant: TenantId, limit: int, only: Sequence[str] | None = None, order_id: str | None = None
) -> list[OrderLine]:
    """The latest orders, those of these internal numbers where they are given, or the one with this id."""
    rows = await conn.fetch(
        """
        SELECT o.order_id, o.call_id, o.asked_by, o.person, o.number, o.state, o.reason, o.asked_at,
               c.phase, c.result, c.talk_s
        FROM call_orders o LEFT JOIN calls c USING (tenant_id, call_id)
        WHERE o.tenant_id = $1 AND ($3::text IS NULL OR o.order_id = $3)
          AND ($4::text[] IS NULL OR o.person = ANY($4)) ORDER BY o.asked_at DESC LIMIT $2
        """,
        tenant,
        limit,
        order_id,
        list(only) if only is not None else None,
    )
    return [OrderLine(*row) for row in rows]
