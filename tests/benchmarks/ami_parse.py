"""AMI bytes to call events, against panoramisk's Manager and against reading the bytes and nothing else.

All three read the same bytes, a load run captured from a real Asterisk 22 (43 thousand events of 400 calls, every class
of event on), over loopback TCP from one sender that sends as fast as they take it; the clock runs from the connect to
the last event.

    ours        the real session (adapters/asterisk/session.py) with its tracker: all call events of the 400 calls
    Manager     panoramisk's Manager on uvloop, one callback for every event, which makes a dict of it; no calls are made
                of them, so it does less
    raw bytes   a Trio socket read to its end

Fair to the Manager: it has the faster event loop, reads as large as the kernel has them, and nothing to track. What is
compared is what each design makes possible: we look at an event's name in bytes and decode only what the tracker needs.
"""

import asyncio
import contextlib
import logging
import time
from functools import partial
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import trio
import uvloop

from adapters.asterisk.session import connect
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import Link
from adapters.http import SafeDialer
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from tests.benchmarks.ami import AT_ONCE, load_run, send_whole, serve_ami
from tests.benchmarks.harness import Bench, alternate

HERE = "tests.benchmarks.ami_parse"
TENANT = Tenant(
    TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=tuple(map(Phone, ("150", "151", "152")))
)


def settings(port: int) -> AsteriskSettings:
    """The PBX of the capture, at this port."""
    return AsteriskSettings.model_validate(
        {"host": "127.0.0.1", "port": port, "username": "bench", "secret": "bench", "trunks": ["trunk-0001"]}
    )


class _Sink:
    def __init__(self) -> None:
        self.events = 0

    def arrived(self, arrival: object) -> None:
        """Nobody asks for smart redirect here."""

    def order_answered(self, order_id: str, failure: str) -> None:
        """Nor orders calls."""

    async def emit(self, events: Any) -> None:
        self.events += len(events)

    async def open_calls(self) -> tuple[()]:
        return ()


def ours(port: int) -> dict[str, float]:
    """One round of the real session."""

    async def run() -> int:
        dialer = SafeDialer(allowed_private_nets=(ip_network("127.0.0.0/8"),), own=set())
        link = Link(tenant=TENANT, name="main", base_url=None, dial=dialer, report=lambda *a, **k: None)
        sink = _Sink()
        async with connect(link, settings(port)) as client:
            with contextlib.suppress(Unavailable):
                await client.run(sink)
        return sink.events

    started = time.perf_counter()
    events = trio.run(run)
    return {"seconds": time.perf_counter() - started, "events": events}


def manager(port: int) -> dict[str, float]:
    """One round of panoramisk's Manager."""
    from panoramisk import Manager

    logging.getLogger("panoramisk").setLevel(logging.CRITICAL)
    seen = 0

    async def run() -> None:
        done = asyncio.Event()
        manager = Manager(
            loop=asyncio.get_running_loop(), host="127.0.0.1", port=port, username=AT_ONCE, secret="bench",
            log=logging.getLogger("panoramisk"), reconnect_timeout=3600,
        )  # fmt: skip
        latest: dict[str, Any] = {}

        def callback(_: Manager, message: Any) -> None:
            nonlocal seen, latest
            latest = dict(message)
            seen += 1
            if message["Event"] == "BenchOver":
                done.set()

        manager.register_event("*", callback)
        await manager.connect()
        await done.wait()
        manager.close()

    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return {"seconds": time.perf_counter() - started, "events": seen}


def raw(port: int) -> dict[str, float]:
    """One round of reading alone."""

    async def run() -> int:
        size = 0
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"Action: Login\r\nUsername: " + AT_ONCE.encode() + b"\r\n\r\n")
            while data := await stream.receive_some(65536):
                size += len(data)
        return size

    started = time.perf_counter()
    size = trio.run(run)
    return {"seconds": time.perf_counter() - started, "bytes": size}


async def run(bench: Bench) -> None:
    """The comparison."""
    data = load_run(bench.size(400, 20))
    messages = data.count(b"\r\n\r\n")
    names = [f"{HERE}:{side}" for side in ("ours", "manager", "raw")]
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve_ami, partial(send_whole, data))
        found = await alternate(names, bench.rounds + bench.size(2, 0), lambda _: {"port": port})
        nursery.cancel_scope.cancel()
    rates = [[messages / figures["seconds"] for figures in found[name]] for name in names]
    calls = int(found[names[0]][0]["events"])
    assert calls >= bench.size(1600, 40), f"only {calls} call events"
    assert found[names[1]][0]["events"] >= messages, "the Manager has not seen every event"
    bench.compare(
        "AMI bytes to call events", "messages/s", rates[0], rates[1], against="panoramisk Manager, dicts only", aim=3.0
    )
    bench.compare("AMI bytes to call events", "messages/s", rates[0], rates[2], against="reading raw bytes", aim=None)
