"""A real socket, a recording of 400 calls played far faster than it was, and a tenant that takes nothing meanwhile.

The other end does what Asterisk does: a write that is not taken within its write timeout of 100 ms ends the session.
FLOOD_SPEED is how many times the recorded speed.
"""

import json
import os
import resource
import socket
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import trio

from adapters.asterisk.protocol import Framer
from adapters.asterisk.session import AsteriskClient
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import Link
from adapters.spills import Spills
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.events import CallEnded, CallEvent
from gateway.domain.ids import TenantId
from tests.adapters.asterisk.captures import LOADS

pytestmark = pytest.mark.slow

SPEED = float(os.environ.get("FLOOD_SPEED", "25"))
WRITE_TIMEOUT_S = 0.1
CAPTURE = next(load for load in LOADS if str(load) == "22/20-load-sip")


class Asterisk(threading.Thread):
    """Speaks AMI as far as a session needs it, then plays the recording. Blocking sockets, as the real one."""

    def __init__(self, data: bytes, times: list[tuple[float, int]], speed: float) -> None:
        super().__init__(daemon=True)
        self.data, self.times, self.speed = data, times, speed
        self.cut = ""
        self.took_s = 0.0
        self.longest_write_s = 0.0
        self.overslept_s = 0.0
        """By how much at most a sleep was too long: then nobody on this machine had a core, whoever reads neither."""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.played = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        link, _ = self.server.accept()
        with link, self.server:
            link.sendall(b"Asterisk Call Manager/11.0.0\r\n")
            self._answer(link, b"Login")
            self._answer(link, b"CoreShowChannels", b"Event: CoreShowChannelsComplete\r\n\r\n")
            link.settimeout(WRITE_TIMEOUT_S)
            began = time.perf_counter()
            try:
                for (t, start), (_, stop) in zip(self.times, [*self.times[1:], (0, len(self.data))], strict=True):
                    if (wait := t / self.speed - (time.perf_counter() - began)) > 0:
                        asleep = time.perf_counter()
                        time.sleep(wait)
                        self.overslept_s = max(self.overslept_s, time.perf_counter() - asleep - wait)
                    wrote = time.perf_counter()
                    link.sendall(self.data[start:stop])
                    self.longest_write_s = max(self.longest_write_s, time.perf_counter() - wrote)
            except OSError as error:
                self.cut = str(error)
            self.took_s = time.perf_counter() - began
            self.played.set()
            self.over.wait(60)

    def _answer(self, link: socket.socket, action: bytes, more: bytes = b"") -> None:
        said = b""
        while action not in said or not said.endswith(b"\r\n\r\n"):
            said += link.recv(4096)
        action_id = said.partition(b"ActionID: ")[2].partition(b"\r\n")[0]
        end = more.replace(b"\r\n\r\n", b"\r\nActionID: " + action_id + b"\r\n\r\n") if more else b""
        link.sendall(b"Response: Success\r\nActionID: " + action_id + b"\r\n\r\n" + end)


class Stopped:
    """The tenant's side while PostgreSQL is stopped: nothing is taken until `go`."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.events: list[CallEvent] = []
        self.ended = 0

    async def emit(self, events: Sequence[CallEvent]) -> None:
        await self.go.wait()
        self.events += events
        self.ended += sum(isinstance(event, CallEnded) for event in events)

    async def open_calls(self) -> Sequence[Call]:
        return ()

    def arrived(self, arrival: object) -> None: ...

    def order_answered(self, order_id: str, failure: str) -> None: ...


class Dial:
    async def resolve(self, host: str, port: int) -> str:
        return host

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        raise NotImplementedError


def recording() -> tuple[bytes, list[tuple[float, int]]]:
    """The stream behind its login, and (seconds, offset) of each of its reads."""
    data = CAPTURE.data
    begin = data.index(b"\r\n\r\n", data.index(b"CoreShowChannelsComplete")) + 4 if b"CoreShowChannelsComplete" in data else (
        data.index(b"\r\n\r\n", data.index(b"Authentication accepted")) + 4
    )  # fmt: skip
    reads = [json.loads(line) for line in CAPTURE.index.splitlines()]
    reads = [(read["t"], read["off"]) for read in reads if "n" in read]
    at = bisect_right([offset for _, offset in reads], begin)
    first = reads[at - 1][0]
    times = [(0.0, 0), *((t - first, offset - begin) for t, offset in reads[at:])]
    return data[begin:], times


async def test_asterisk_never_has_to_wait_for_us(tmp_path: Path) -> None:
    for slower in (1, 1, 2, 4):
        asterisk = await flood(tmp_path, SPEED / slower)
        busy = asterisk.overslept_s > WRITE_TIMEOUT_S / 2 or os.getloadavg()[0] > (os.cpu_count() or 1)
        if not (asterisk.cut and busy):
            break
        print(f"the machine has other work, and stood still for {asterisk.overslept_s:.2f} s: once more, not faster")
    assert asterisk.cut == ""


async def flood(tmp_path: Path, speed: float) -> Asterisk:
    """Plays the recording once. What is judged is judged here, unless the link was cut."""
    data, times = recording()
    frames = Framer()
    frames.feed(b"Asterisk Call Manager/11.0.0\r\n")
    frames.feed(data)
    asterisk = Asterisk(data, times, speed)
    asterisk.start()
    port = asterisk.server.getsockname()[1]
    settings = AsteriskSettings(
        host="127.0.0.1", port=port, username="gateway", secret="x" * 12, trunks=("trunk-0001",), buffer_mib=2
    )
    spills = Spills(tmp_path, 256 << 20, threads=trio.CapacityLimiter(2))
    tenant = Tenant(TenantId("0367"), "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
    client = AsteriskClient(Link(tenant, "main", None, Dial(), spills=spills), settings)
    sink = Stopped()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    expected = sum(isinstance(event, CallEnded) for event in CAPTURE.events())

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(Unavailable):
                await client.run(sink)

        nursery.start_soon(run)
        with trio.fail_after(60):
            while not asterisk.played.is_set():
                await trio.sleep(0.01)
            await trio.sleep(0.2)
            if asterisk.cut:
                asterisk.over.set()
                nursery.cancel_scope.cancel()
                return asterisk
            held, on_disk = client.figures()["unread_bytes"], spills.used
            sink.go.set()
            started = trio.current_time()
            while client.frames_seen < frames.frames or client.figures()["unread_bytes"]:
                await trio.sleep(0.01)
            caught_up_s = trio.current_time() - started
            while sink.ended < expected:
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    asterisk.over.set()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(
        f"{len(data) / 1e6:.1f} MB, {frames.frames} frames in {asterisk.took_s:.2f} s = {frames.frames / asterisk.took_s:.0f}/s, "
        f"{times[-1][0] / asterisk.took_s:.1f} times as fast; held {held} bytes, {on_disk} on disk; longest write "
        f"{asterisk.longest_write_s * 1000:.1f} ms, longest read gap {client.read_gap_s * 1000:.1f} ms; caught up in "
        f"{caught_up_s:.2f} s; memory +{grown:.0f} MiB; cut: {asterisk.cut or 'never'}"
    )
    assert times[-1][0] / asterisk.took_s > 1, "a machine with other work sleeps longer than it is told to"
    assert on_disk > 0
    assert client.gaps == 1, "the one at the end of the test"
    ended = [event for event in sink.events if isinstance(event, CallEnded)]
    assert len(ended) == expected
    assert not any(event.uncertain for event in ended)
    return asterisk
