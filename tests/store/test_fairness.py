"""One company's backlog and another's deliveries, on a real server: figures are printed, ratios are judged."""

import itertools
import statistics
import time

import pytest
import trio

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import call_batches, outbox
from gateway.store.outbox import Outcome
from gateway.store.postgres.pool import Connection, Database, OwnConnection, open_session
from tests.store.test_outbox import CRM, A, B, delivery, recording

CHAT = IntegrationKey("telegram")
BACKLOG = 50_000
DONE = Outcome(state="done", status="done")


async def fill(
    conn: Connection | OwnConnection, tenant: TenantId, kind: IntegrationKey, count: int, bucket: str, lanes: int
) -> None:
    await conn.execute(
        """
        INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, bucket, subject_id, body, keep_until)
        SELECT $1, $2, 'lane ' || n % $5, 'key ' || n, 'card', $4, 'call ' || n, '{}', now() + interval '2 days'
        FROM generate_series(1, $3) AS n
        """,
        tenant, kind, count, bucket, lanes,
    )  # fmt: skip


async def fill_history(conn: OwnConnection) -> None:
    """What lies there on any day: deliveries long done, and statistics that know of them."""
    async with conn.transaction():
        await conn.execute("SET LOCAL ROLE gateway_engine")
        await fill(conn, A, CRM, BACKLOG, "telephony", BACKLOG)
        await conn.execute("UPDATE deliveries SET state = 'done', finished_at = now()")
    await conn.execute("VACUUM ANALYZE deliveries")


async def one_delivery(db: Database, number: int) -> float:
    """From the record to the ack, as a tenant's and a delivery actor do it. Seconds."""
    row = delivery(f"b{number}", lane=f"b{number}", keep_s=3600.0)
    started = time.perf_counter()
    await db.engine(call_batches.record, [recording(B, deliveries=[row])])
    (claim,) = await db.engine(outbox.claim_deliveries, B, CRM, 8, 20.0)
    assert await db.engine(outbox.finish_delivery, claim, DONE)
    await db.engine(outbox.select_next_due, B, CRM)
    return time.perf_counter() - started


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


@pytest.mark.long
@pytest.mark.parametrize(("bucket", "lanes"), [("", BACKLOG), ("group:-1", BACKLOG)], ids=["served", "dry"])
async def test_a_backlog_of_one_company_does_not_slow_another(db: Database, dsn: str, bucket: str, lanes: int) -> None:
    async with open_session(dsn) as owner:
        await owner.run(fill_history)
    numbers = itertools.count()
    for _ in range(50):
        await one_delivery(db, next(numbers))
    before = [await one_delivery(db, next(numbers)) for _ in range(300)]
    await db.engine(fill, A, CHAT, BACKLOG, bucket, lanes)
    worked = 0
    took: list[float] = []

    async def churn() -> None:
        """A's actor: as fast as the outside system allows, or in vain where its bucket is dry."""
        nonlocal worked
        while True:
            started = time.perf_counter()
            empty = ["group:-1"] if bucket else []
            claims = await db.engine(outbox.claim_deliveries, A, CHAT, 8, 20.0, [], empty)
            took.append(time.perf_counter() - started)
            for claim in claims:
                await db.engine(outbox.finish_delivery, claim, DONE)
            worked += len(claims)
            if not claims:
                await db.engine(outbox.select_next_due, A, CHAT, empty)
            await trio.sleep(0.02 if claims else 1.0)  # rates of outside systems; the poll beneath the doorbells

    async with trio.open_nursery() as nursery:
        nursery.start_soon(churn)
        await trio.sleep(0.5)
        during = [await one_delivery(db, next(numbers)) for _ in range(300)]
        nursery.cancel_scope.cancel()
    print(
        f"\n{bucket or 'no bucket'}, {lanes} lanes: neighbour p50 {statistics.median(before) * 1e3:.1f} -> "
        f"{statistics.median(during) * 1e3:.1f} ms, p99 {p99(before) * 1e3:.1f} -> {p99(during) * 1e3:.1f} ms; "
        f"{worked} of the backlog delivered, its claim {statistics.median(took) * 1e3:.1f} ms"
    )
    assert (worked == 0) == bool(bucket)
    # Two cores for both: what is judged is that no statement of a neighbour reads the backlog, which took 30 ms and more.
    assert statistics.median(during) < statistics.median(before) * 5 + 0.01
    assert p99(during) < p99(before) * 5 + 0.1
