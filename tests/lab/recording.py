"""Records kinds of call: what AMI said to a full and to a read-only user, and the truth. Judges each at once by replay.

    DIR/22/KIND.ami.gz      the bytes, and KIND.ami.idx.gz the times of arrival, as `gateway replay` reads them
    DIR/22-ro/KIND.ami.gz   the same call as a user with the least rights saw it
    DIR/22/KIND.truth.json  what happened, from the SIP side

Uses a lab that runs, or starts one. Read `play.py` for the same kinds with the whole product listening.
"""

import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trio

from adapters.asterisk.calls import CallTracker
from adapters.asterisk.protocol import encode_action
from adapters.asterisk.replay import replay
from gateway.domain.configuration import Phone
from gateway.domain.events import CallEnded, to_json
from tests.lab.judge import wrong_with_ends
from tests.lab.kinds import DEVICES, KINDS
from tests.lab.machine import SECOND_TRUNK, SECRET, TRUNK, Lab
from tests.lab.sip import SipError

USERS = {"lab": "", "lab-ro": "-ro"}
TAIL_S = 0.7
"""How long the last events may take."""


@dataclass
class Stream:
    """What one AMI user heard."""

    user: str
    data: bytearray = field(default_factory=bytearray)
    index: list[dict[str, float]] = field(default_factory=list)
    begun: float = 0.0
    asks_every_s: float = 0.0
    """How often it asks for the list of channels; 0: never."""

    async def listen(self, port: int, task_status: trio.TaskStatus[None]) -> None:
        """Runs until cancelled."""
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            self.begun, ready = time.monotonic(), False
            await stream.send_all(
                encode_action("Login", (("Username", self.user), ("Secret", SECRET), ("Events", "on")))
            )
            requested = self.begun
            while chunk := await stream.receive_some(65536):
                if self.asks_every_s and time.monotonic() - requested > self.asks_every_s:
                    requested = time.monotonic()
                    await stream.send_all(encode_action("CoreShowChannels"))
                at = round(time.monotonic() - self.begun, 4)
                self.index.append({"t": at, "off": len(self.data), "n": len(chunk)})
                self.data += chunk
                if b"Response: Success" in self.data[:500] and not ready:
                    ready = True
                    task_status.started()
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def listening(port: int, asks_every_s: float = 0.0) -> AsyncIterator[list[Stream]]:
    """Both users' streams while the block runs, and what comes shortly after."""
    streams = [Stream(user, asks_every_s=asks_every_s) for user in USERS]
    async with trio.open_nursery() as nursery:
        for stream in streams:
            await nursery.start(_listen, stream, port)
        yield streams
        await trio.sleep(TAIL_S)
        nursery.cancel_scope.cancel()


async def _listen(stream: Stream, port: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    await stream.listen(port, task_status)


def told_of(data: bytes, index: str, phones: dict[str, list[str]] | None = None) -> list[dict[str, Any]]:
    """The ends of the calls of a stream, in the order of their beginning."""
    tracker = CallTracker(
        trunks=(TRUNK, SECOND_TRUNK), country="BY",
        phones=tuple(Phone(number, endpoints=tuple(devices)) for number, devices in (phones or {}).items()),
    )  # fmt: skip
    events = list(replay(data, index, (), None, tracker=tracker))
    return [to_json(event) for event in events if isinstance(event, CallEnded)]


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions of a group and of the groups in it."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


async def record(lab: Lab, name: str, folder: Path | None, asks_every_s: float = 0.0) -> list[str]:
    """Plays one kind and keeps it. Returns what the tracker told wrong of it."""
    problems: list[str] = []
    try:
        async with listening(lab.ami_port, asks_every_s) as streams, lab.scene() as scene:
            truths = tuple(await KINDS[name](scene))
            await scene.finish()
            await scene.quiet()
    except* (AssertionError, IndexError, SipError, trio.TooSlowError) as group:
        problems = [f"the lab failed: {error!r}" for error in leaves(group)]
    if problems:
        return problems
    for stream in streams:
        index = "".join(json.dumps(row) + "\n" for row in stream.index)
        where = f"{stream.user}: " if stream.user != "lab" else ""
        problems += [
            where + problem
            for problem in wrong_with_ends(truths, told_of(bytes(stream.data), index, DEVICES.get(name)))
        ]
        if folder is not None:
            stored = folder / (lab.version + USERS[stream.user])
            stored.mkdir(parents=True, exist_ok=True)
            (stored / f"{name}.ami.gz").write_bytes(gzip.compress(bytes(stream.data), mtime=0))
            (stored / f"{name}.ami.idx.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
    if folder is not None:
        calls = [asdict(truth) | {"wait_s": truth.wait_s, "talk_s": truth.talk_s} for truth in truths]
        reported = {"phones": DEVICES.get(name, {}), "calls": calls}
        (folder / lab.version / f"{name}.truth.json").write_text(
            json.dumps(reported, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
    return problems
