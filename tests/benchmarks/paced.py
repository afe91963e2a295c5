"""Calls at a pace: PBXes that tell of them, CRMs that note when the first byte about each came, and the gateway between.

PBXes and CRMs live in the benchmark's process, so one clock sees both ends: from just before the bytes that make both
phones ring are written, to the read that brings the first byte of the CRM's request about that call.
"""

import gc
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import trio

from tests.benchmarks.ami import CallScript, Sender, serve_ami
from tests.benchmarks.harness import Bench
from tests.benchmarks.installation import Installation, new_installation

ANSWER_S, TALK_S = 0.3, 0.4
SETTLE_S = 1.2
OPERATOR = "an-operator-of-the-benchmarks-32-characters"


class Crm:
    """Takes every request after `delay_s`. `first` has the moment of the first byte about each call."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.first: dict[str, float] = {}

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; tells its address."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=512)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._client, listeners))
            task_status.started(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")

    async def _client(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                while data := await stream.receive_some():
                    at = time.perf_counter()
                    while b"\r\n\r\n" not in data:
                        data += await stream.receive_some()
                    head, _, body = data.partition(b"\r\n\r\n")
                    length = next(
                        int(line.partition(b":")[2])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    )
                    while len(body) < length:
                        body += await stream.receive_some()
                    self._note(body.decode(), at)
                    await trio.sleep(self.delay_s)
                    said = b'{"success":true}'
                    await stream.send_all(
                        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                        % (len(said), said)
                    )

    def _note(self, body: str, at: float) -> None:
        form = parse_qs(body)
        if "event" in form:
            self.first.setdefault(json.loads(form["event"][0])["callExternalId"], at)


class Pbx:
    """One company's PBX. `sent` has the moment at which each call began to ring."""

    _numbers = itertools.count(1)

    def __init__(self, script: CallScript) -> None:
        self._script = script
        self._stream: Sender | None = None
        self.online = trio.Event()
        self.sent: dict[str, float] = {}

    async def play(self, stream: Sender) -> None:
        """Keeps the session's stream."""
        self._stream = stream
        self.online.set()
        await trio.sleep_forever()

    async def emit(self, rate: float, seconds: float) -> None:
        """Calls evenly spread with some jitter; returns when the last has ended."""
        epoch, many = int(time.time()), max(1, round(rate * seconds))
        calls = [self._script.call(epoch, next(self._numbers)) for _ in range(many)]
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            for place, call in enumerate(calls):
                await trio.sleep_until(begun + (place + random.uniform(0.0, 0.9)) / rate)
                nursery.start_soon(self._one, *call)

    async def _one(self, call_id: str, ring: bytes, answer: bytes, end: bytes) -> None:
        await self._send(ring, call_id)
        await trio.sleep(ANSWER_S)
        await self._send(answer)
        await trio.sleep(TALK_S)
        await self._send(end)

    async def _send(self, data: bytes, call_id: str = "") -> None:
        assert self._stream is not None
        if call_id:
            self.sent[call_id] = time.perf_counter()
        await self._stream.send_all(data)


class Company:
    """One tenant: its PBX and its CRM."""

    def __init__(self, number: str, script: CallScript, delay_s: float, *, posting: bool = False) -> None:
        self.number = number
        self.posting = posting
        self.pbx = Pbx(script)
        self.crm = Crm(delay_s)
        self.token = f"{number}-token-of-at-least-32-characters"
        self.url = self.intake = ""
        """Of the gateway that serves it, once that runs."""

    async def open(self, nursery: trio.Nursery) -> dict[str, Any]:
        """Starts both; returns the tenant's block."""
        port = await nursery.start(serve_ami, self.pbx.play)
        crm = await nursery.start(self.crm.serve)
        return {
            "number": self.number, "name": self.number, "token": self.token,
            "timezone": "Europe/Minsk", "country": "BY", "language": "ru",
            "phones": [{"number": "150", "owner": "Anna"}, {"number": "151", "owner": "Boris"}],
            "pbxes": [] if self.posting else [{
                "name": "main", "host": "127.0.0.1", "port": port, "username": "bench", "secret": "bench",
                "trunks": ["trunk-0001"],
            }],
            "integrations": {"retailcrm": {"domain": crm, "api_key": "bench", "user_extensions": {"19": "150"}}},
        }  # fmt: skip

    def take(self) -> tuple[list[float], int]:
        """The latencies since the last time in milliseconds, and how many calls the CRM was not told of."""
        received = [(self.crm.first[call] - at) * 1000 for call, at in self.pbx.sent.items() if call in self.crm.first]
        missing = len(self.pbx.sent) - len(received)
        self.pbx.sent.clear()
        self.crm.first.clear()
        return received, missing


@asynccontextmanager
async def open_companies(
    bench: Bench, name: str, delays: Sequence[float], *, posting: int = 0
) -> AsyncIterator[list[Company]]:
    """The running gateway with a company for each delay (of its CRM's answers), all online. The last `posting` of them have
    no PBX to connect to: their hosts post."""
    script = CallScript()
    companies = [
        Company(f"{1000 + place}", script, delay, posting=place >= len(delays) - posting)
        for place, delay in enumerate(delays)
    ]
    installation: Installation = await new_installation(bench, name, GATEWAY_OPERATOR_TOKEN=OPERATOR)
    async with trio.open_nursery() as nursery:
        blocks = [await company.open(nursery) for company in companies]
        await installation.apply(blocks)
        async with installation.running():
            with trio.fail_after(30):
                for company in companies:
                    company.url, company.intake = installation.url, installation.intake
                    if not company.posting:
                        await company.pbx.online.wait()
            await trio.sleep(0.5)
            yield companies
        nursery.cancel_scope.cancel()


async def measure(
    companies: Sequence[Company], rate: float, seconds: float, settle_s: float = SETTLE_S
) -> tuple[list[float], int]:
    """Latencies of calls of all these companies, `rate` calls a second in each."""
    gc.collect()
    async with trio.open_nursery() as nursery:
        for company in companies:
            nursery.start_soon(company.pbx.emit, rate, seconds)
    await trio.sleep(settle_s)
    taken = [company.take() for company in companies]
    return [latency for latencies, _ in taken for latency in latencies], sum(missing for _, missing in taken)
