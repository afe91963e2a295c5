"""AMI bytes to call events committed in PostgreSQL, against one insert an event.

Both read the load run of `ami_parse` from a socket at full speed; the clock runs from the connect to the last commit.

    ours     the real PBX session, mailbox, tenant's actor and group commit, with RetailCRM's planner: calls, call_events
             and deliveries of one batch are one statement. Nothing counts before it is committed.
    theirs   the same parser and the same tracker (so that only the keeping differs) on uvloop, and `INSERT INTO
             call_events` by asyncpg for each call event, awaited in order, one connection; no calls and no deliveries.

Fair to the peer: it gets our parser for nothing and keeps a third of what we keep. The second line gives it the insert
that integrations are usually built with: one row for every AMI event they listen to (those that the tracker needs).
"""

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import asyncpg
import trio
import uvloop

from actors.calls.pbx_session import PbxActor
from actors.calls.tenant_calls import MAILBOX_ROOM, PbxEvents, TenantCalls
from actors.runtime.directory import Slot
from actors.runtime.mailbox import Mailbox
from adapters.asterisk.calls import MARKED, WANTED, CallTracker
from adapters.asterisk.protocol import Framer
from adapters.registry import adapters
from gateway.domain.configuration import Connector
from gateway.domain.events import NAMES, CallEvent, to_json
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind
from gateway.store.postgres.pool import Connection
from tests.benchmarks.ami import AT_ONCE, load_run, send_whole, serve_ami
from tests.benchmarks.ami_parse import TENANT, settings
from tests.benchmarks.harness import Bench, alternate
from tests.benchmarks.parts import open_services

HERE = "tests.benchmarks.ami_commit"
COMPANY = replace(TENANT, pbxes=(Connector("main", Kind("asterisk"), {}),))
_INSERT = "INSERT INTO call_events (tenant_id, call_id, seq, event, at, body) VALUES ('0367', $1, $2, $3, $4, $5)"


def ours(port: int, dsn: str) -> dict[str, float]:
    """One round of the real actors."""
    crm = adapters()[Kind("retailcrm")]
    assert crm.plan_call is not None
    reported = crm.settings.model_validate({"domain": "https://bench.retailcrm.ru", "api_key": "bench"})

    plan = partial(crm.plan_call, reported, TENANT)

    async def run() -> dict[str, float]:
        async with open_services(dsn) as services, trio.open_nursery() as nursery:
            await services.db.ping()
            mailbox: Mailbox[PbxEvents] = Mailbox(MAILBOX_ROOM)
            slots = [Slot("tenant/0367"), Slot("tenant/0367/pbx/main")]
            tenant = TenantCalls(COMPANY, mailbox, services, {IntegrationKey(crm.kind): plan})
            nursery.start_soon(tenant.run, slots[0])
            while slots[0].health.state is not State.ONLINE:
                await trio.sleep(0.001)
            pbx = PbxActor(COMPANY, "main", adapters()[Kind("asterisk")], settings(port), mailbox, services)
            started = time.perf_counter()
            nursery.start_soon(pbx.run, slots[1])
            while slots[1].health.state is not State.OFFLINE:
                await trio.sleep(0.001)
            await mailbox.wait_idle()
            seconds = time.perf_counter() - started
            rows = await services.db.engine(_count)
            nursery.cancel_scope.cancel()
            return {"seconds": seconds, "rows": rows}

    return trio.run(run)


async def _count(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM call_events"))


def each_event(port: int, dsn: str) -> dict[str, float]:
    """One insert for every call event."""

    async def keep(connection: asyncpg.Connection, seq: int, event: CallEvent) -> None:
        body = json.dumps(to_json(event), ensure_ascii=False)
        await connection.execute(_INSERT, event.call_id, seq, NAMES[type(event)], event.at, body)

    async def run() -> dict[str, float]:
        connection = await asyncpg.connect(dsn)
        reader, writer, framer = await _connected(port)
        tracker = CallTracker(trunks=("trunk-0001",), phones=TENANT.phones, country="BY")
        seq = 0
        started = time.perf_counter()
        while data := await reader.read(65536):
            for message in framer.feed(data):
                for event in tracker.feed(message, datetime.now(UTC)):
                    seq += 1
                    await keep(connection, seq, event)
        seconds = time.perf_counter() - started
        writer.close()
        await connection.close()
        return {"seconds": seconds, "rows": seq}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def each_message(port: int, dsn: str) -> dict[str, float]:
    """One insert for every AMI event that is listened to."""

    async def run() -> dict[str, float]:
        connection = await asyncpg.connect(dsn)
        reader, writer, framer = await _connected(port)
        seq = 0
        started = time.perf_counter()
        while data := await reader.read(65536):
            for message in framer.feed(data):
                seq += 1
                called, name = message.get("Linkedid", ""), message.get("Event", "Response")
                await connection.execute(_INSERT, called, seq, name, datetime.now(UTC), json.dumps(dict(message)))
        seconds = time.perf_counter() - started
        writer.close()
        await connection.close()
        return {"seconds": seconds, "rows": seq}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Framer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"Action: Login\r\nUsername: " + AT_ONCE.encode() + b"\r\n\r\n")
    return reader, writer, Framer(WANTED, MARKED)


async def run(bench: Bench) -> None:
    """The comparison; the note has our rate in AMI messages."""
    data = load_run(bench.size(200, 20))
    messages = data.count(b"\r\n\r\n")
    dsn = await bench.server.new_database()
    wipe = partial(bench.server.in_database, dsn, "TRUNCATE calls, call_events, deliveries CASCADE")
    names = [f"{HERE}:{side}" for side in ("ours", "each_event", "each_message")]
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_ami, partial(send_whole, data))
        found = await alternate(names, bench.rounds, lambda _: {"port": port, "dsn": dsn}, before=wipe)
        nursery.cancel_scope.cancel()
    for name in names:
        assert found[name][0]["rows"] >= bench.size(600, 40), f"{name} has missed events: {found[name]}"
    rates = [[messages / figures["seconds"] for figures in found[name]] for name in names]
    bench.compare(
        "AMI bytes to committed call events", "messages/s", rates[0], rates[1],
        against=f"asyncpg, an insert a call event ({found[names[1]][0]['rows']} of them)", aim=10.0,
    )  # fmt: skip
    bench.compare(
        "AMI bytes to committed call events", "messages/s", rates[0], rates[2],
        against=f"asyncpg, an insert an AMI event listened to ({found[names[2]][0]['rows']})", aim=10.0,
    )  # fmt: skip
    bench.floor("AMI messages to committed call events", "messages/s", rates[0], 25_000)
