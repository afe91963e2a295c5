"""Deliveries acked one by one to a local sink, against procrastinate.

A number of deliveries to one integration, each on a lane of its own, wait in the database; the clock runs until the last
is acked, or a time is over. The sink is a function in the worker's process that answers at once, so that the queue is measured and not an
HTTP client. Eight at a time on both sides, same server, same durability, one worker process.

    ours     the real DeliveryActor: claims several with one statement, acks each by itself, with its row in the log of
             attempts
    theirs   procrastinate's worker (psycopg), concurrency 8: one task a delivery, as its documentation has it

The tables have been analysed before the clock starts, as autovacuum does within a minute. A line of its own shows the
minute before that: a backlog that the planner knows nothing of.

Fair to procrastinate: jobs are waiting when it starts, so it need not listen, and nothing is retried, locked or deleted.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from actors.delivery.worker import DeliveryActor
from actors.runtime.directory import Slot
from adapters.base import Adapter, AdapterSettings, Attempt, Delivered, Limits
from adapters.registry import Linked
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.subjects import call_subject
from gateway.store.call_batches import CallBatch, EventRow, record
from gateway.store.outbox import DeliveryRow
from gateway.store.postgres.pool import OwnConnection, open_session
from tests.benchmarks.ami_parse import TENANT
from tests.benchmarks.harness import Bench, alternate
from tests.benchmarks.parts import open_services

HERE = "tests.benchmarks.deliveries"
KIND = IntegrationKey("bench")
AT_ONCE = 8
WITHIN_S = 2.5
"""A round is over after so long, whatever is left."""
BODY = (
    '{"event": {"phone": "+375296254070", "type": "in", "codes": ["150", "151"], "callExternalId": "1795219998.3600"}}'
)


class _Sink:
    """An outside system that takes everything at once."""

    def __init__(self) -> None:
        self.taken = 0

    async def deliver(self, attempt: Attempt) -> Delivered:
        await trio.lowlevel.checkpoint()
        self.taken += 1
        return Delivered()


def _waiting(many: int, mark: int) -> CallBatch:
    """A recording with so many deliveries."""
    now = datetime.now(UTC)
    recording = CallBatch(TenantId(TENANT.number))
    recording.events.append(EventRow("bench", mark, "call_ringing", now, "{}"))
    recording.deliveries += [
        DeliveryRow(
            integration=KIND, lane=f"{mark}.{n}", key=f"{mark}.{n}", kind="in", bucket="", subject=call_subject(f"{mark}.{n}"),
            body=BODY, latest_only=False, expires_s=None, keep_s=48 * 3600.0,
        )
        for n in range(many)
    ]  # fmt: skip
    return recording


async def _analyze(connection: OwnConnection) -> None:
    await connection.execute("ANALYZE deliveries")


def ours(dsn: str, other: str, many: int, analyze: bool) -> dict[str, float]:
    """One round of the real actor."""

    async def run() -> float:
        async with open_services(dsn) as services, trio.open_nursery() as nursery:
            for part in range(0, many, 20):  # as calls make them, each commit with a time of its own
                await services.db.engine(record, [_waiting(min(20, many - part), part)])
            if analyze:
                async with open_session(dsn) as owner:
                    await owner.run(_analyze)
            sink = _Sink()

            @asynccontextmanager
            async def connect(link: object, settings: object) -> AsyncIterator[_Sink]:
                yield sink

            limits = Limits(rates={}, at_once=AT_ONCE)
            adapter = Adapter(
                kind=Kind(KIND),
                title="Bench",
                type="crm",
                settings=AdapterSettings,
                connect=connect,
                limits=limits,
            )
            actor = DeliveryActor(TENANT, Linked(KIND, adapter), AdapterSettings(), services)
            started = time.perf_counter()
            nursery.start_soon(actor.run, Slot("tenant/0367/integration/bench"))
            while (sink.taken < many or actor.figures()["in_flight"]) and time.perf_counter() - started < WITHIN_S:
                await trio.sleep(0.001)
            rate = (sink.taken - int(actor.figures()["in_flight"])) / (time.perf_counter() - started)
            nursery.cancel_scope.cancel()
            return rate

    return {"rate": trio.run(run)}


def procrastinate(dsn: str, other: str, many: int, analyze: bool) -> dict[str, float]:
    """One round of procrastinate's worker."""
    from procrastinate import App, PsycopgConnector

    async def run() -> float:
        app = App(connector=PsycopgConnector(conninfo=other, min_size=AT_ONCE, max_size=AT_ONCE + 2))
        taken = 0

        @app.task(name="deliver")
        async def deliver(key: str, body: str) -> None:
            nonlocal taken
            taken += 1

        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            jobs: list[dict[str, Any]] = [{"key": str(n), "body": BODY} for n in range(many)]
            await deliver.batch_defer_async(*jobs)
            if analyze:
                await app.connector.execute_query_async("ANALYZE procrastinate_jobs")
            started = time.perf_counter()
            worker = asyncio.create_task(
                app.run_worker_async(concurrency=AT_ONCE, wait=False, install_signal_handlers=False)
            )
            await asyncio.wait((worker,), timeout=WITHIN_S)
            rate = taken / (time.perf_counter() - started)
            worker.cancel()
            await asyncio.wait((worker,))
            await app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")
        return rate

    return {"rate": asyncio.run(run())}


async def run(bench: Bench) -> None:
    """The comparison."""
    dsn, other = await bench.server.new_database(), await bench.server.new_database()
    names = [f"{HERE}:{side}" for side in ("ours", "procrastinate")]
    wipe = partial(bench.server.in_database, dsn, "TRUNCATE deliveries, integration_logs")

    async def compare(name: str, many: int, rounds: int, *, analyze: bool, aim: float | None) -> None:
        arguments = {"dsn": dsn, "other": other, "many": many, "analyze": analyze}
        found = await alternate(names, rounds, lambda _: arguments, before=wipe)
        rates = [[figures["rate"] for figures in found[side]] for side in names]
        bench.compare(name, "deliveries/s", *rates, against="procrastinate", aim=aim)

    many = bench.size(600, 20)
    await compare("deliveries, planner without statistics", many, bench.size(1, 1), analyze=False, aim=None)
    await compare("deliveries acked one by one", many, bench.rounds, analyze=True, aim=8.0)
