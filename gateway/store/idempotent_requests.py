"""Answers to requests that brought an Idempotency-Key, for a day. Read `gateway/web/rest/idempotency.py` next."""

from dataclasses import dataclass

from gateway.domain.ids import TenantId
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request of before."""

    body_hash: bytes
    answer: str | None
    """Sealed; None while it is under way, or where whoever was at work on it has ended in between."""
    busy: bool


async def claim_request(
    conn: Connection, tenant: TenantId, request_hash: bytes, body_hash: bytes, busy_s: float, keep_s: float
) -> bool:
    """Notes that a request is under way. False where it is known already; one older than `keep_s` seconds is not."""
    done: str = await conn.execute(
        """
        INSERT INTO idempotent_requests AS r (tenant_id, request_hash, body_hash, busy_until)
        VALUES ($1, $2, $3, now() + make_interval(secs => $4))
        ON CONFLICT (tenant_id, request_hash) DO UPDATE
        SET body_hash = excluded.body_hash, busy_until = excluded.busy_until, answer = NULL, created_at = now()
        WHERE r.created_at < now() - make_interval(secs => $5)
        """,
        tenant,
        request_hash,
        body_hash,
        busy_s,
        keep_s,
    )
    return done.endswith(" 1")


async def reclaim_request(conn: Connection, tenant: TenantId, request_hash: bytes, busy_s: float) -> bool:
    """Takes over a request whose answer was not stored in time. False where it was, or another has taken it over."""
    done: str = await conn.execute(
        "UPDATE idempotent_requests SET busy_until = now() + make_interval(secs => $3) "
        "WHERE tenant_id = $1 AND request_hash = $2 AND answer IS NULL AND busy_until < now()",
        tenant,
        request_hash,
        busy_s,
    )
    return done.endswith(" 1")


async def select_request(conn: Connection, tenant: TenantId, request_hash: bytes) -> KnownRequest | None:
    """What is known of a request."""
    row = await conn.fetchrow(
        "SELECT body_hash, answer, busy_until >= now() AS busy FROM idempotent_requests "
        "WHERE tenant_id = $1 AND request_hash = $2",
        tenant,
        request_hash,
    )
    return KnownRequest(row["body_hash"], row["answer"], row["busy"]) if row is not None else None


async def store_answer(conn: Connection, tenant: TenantId, request_hash: bytes, answer: str) -> None:
    """Stores the answer; in the transaction of what was made, so that both are there or neither."""
    await conn.execute(
        "UPDATE idempotent_requests SET answer = $3 WHERE tenant_id = $1 AND request_hash = $2",
        tenant,
        request_hash,
        answer,
    )


async def forget_request(conn: Connection, tenant: TenantId, request_hash: bytes) -> None:
    """Removes a request that was refused: it may be sent again."""
    await conn.execute(
        "DELETE FROM idempotent_requests WHERE tenant_id = $1 AND request_hash = $2 AND answer IS NULL",
        tenant,
        request_hash,
    )


async def delete_old_requests(conn: Connection, keep_s: float, most: int) -> int:
    """Removes up to `most` older than `keep_s`, of any tenant. Returns how many."""
    done: str = await conn.execute(
        """
        DELETE FROM idempotent_requests WHERE (tenant_id, request_hash) IN (
            SELECT tenant_id, request_hash FROM idempotent_requests
            WHERE created_at < now() - make_interval(secs => $1) LIMIT $2)
        """,
        keep_s,
        most,
    )
    return int(done.rpartition(" ")[2])
