"""What goes in and what came out: Asterisk hosts that post, a simulated PBX that plays calls, and the CRM's record.

Everything is noted at the moment it happened, on Trio's clock, in this process, which no nemesis strikes. Judges nothing:
that is `verdict.py`.
"""

import itertools
import json
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import trio

from tests.chaos.proxy import GONE
from tests.sandbox import plays
from tests.sandbox.pbx import Link, SimulatedPbx

HOSTS = 96
ANSWER_S = 6.0
ADDRESSES = ("/start", "/dial", "/hangup")
KINDS = {kind: share for kind, share in plays.WEIGHTS.items() if not kind.startswith("click")}
"""What the PBX plays; nobody asks it for a click-to-call here."""


class Notified(NamedTuple):
    """One thing the CRM should know: `what` is in, out, hangup or upload; `codes` those of a ring."""

    call_id: str
    what: str
    codes: tuple[str, ...] = ()


@dataclass
class Sink:
    """All that the CRM accepted, when, and in which words."""

    times: dict[Notified, list[float]] = field(default_factory=lambda: defaultdict(list))
    words: dict[Notified, set[str]] = field(default_factory=lambda: defaultdict(set))
    by: dict[Notified, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Which instance told it, each time; -1 where that is not known."""
    instances: dict[str, int] = field(default_factory=dict)
    """The address at which each instance finds the CRM."""
    without_id: int = 0
    last: float = 0.0

    def last_told(self) -> float:
        """When anything was last accepted."""
        return self.last

    def receive(self, kind: str, data: Mapping[str, Any], asked_at: str = "") -> None:
        """A listener of the sandbox CRM, which knows by which address it was asked."""
        self.last = trio.current_time()
        call_id = data.get("externalId" if kind == "call" else "callExternalId")
        if not call_id:
            self.without_id += 1
            return
        reported = Notified(call_id, "upload" if kind == "call" else data["type"], tuple(data.get("codes", ())))
        self.times[reported].append(self.last)
        self.by[reported].append(self.instances.get(asked_at, -1))
        self.words[reported].add(json.dumps(data, sort_keys=True))


class NotAnswered(Exception):
    """The connection ended, or took too long; the post may have been heard."""


class Line:
    """A keep-alive connection of one host: a post and its answer, nothing more."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        """Where there are several, the next is tried after one has failed."""
        self._stream: trio.SocketStream | None = None

    async def post(self, address: str, body: bytes) -> tuple[int, bytes]:
        """Status and body. Raises NotAnswered."""
        try:
            with trio.fail_after(ANSWER_S):
                if self._stream is None:
                    self._stream = await trio.open_tcp_stream("127.0.0.1", self._ports[0])
                head = f"POST {address} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                await self._stream.send_all(head.encode() + body)
                return await self._answer(self._stream)
        except (trio.TooSlowError, NotAnswered, ValueError, IndexError, *GONE) as error:
            await self.aclose()
            self._ports = (*self._ports[1:], self._ports[0])
            raise NotAnswered(type(error).__name__) from None

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._more(stream)
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(fields["content-length"]):
            body += await self._more(stream)
        if fields.get("connection", "").lower() == "close":
            await self.aclose()
        return int(first.split(" ")[1]), body

    async def _more(self, stream: trio.SocketStream) -> bytes:
        data = await stream.receive_some(65536)
        if not data:
            raise NotAnswered
        return bytes(data)

    async def aclose(self) -> None:
        """Ends the connection, if there is one."""
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)
        self._stream = None


class Hosts:
    """Asterisk hosts. Two calls of three are repeated until they are answered; the third gives up at once, and now and
    then a host says again what was accepted already."""

    def __init__(
        self, ports: Sequence[int], tokens: Mapping[str, str], events: int, rate_per_s: float, seed: int
    ) -> None:
        self._ports = deque(ports)
        self._tokens = list(tokens.items())
        self._calls = max(events // len(ADDRESSES), 1)
        self.enough = False
        """Until this is set calls go on, however many there were."""
        self.rate = rate_per_s
        self.hurry = 1.0
        """Above 1: so many times as fast, and without a pause in a call."""
        self._rng = random.Random(seed)
        self._prefix = f"{seed}"
        self.attempted: dict[tuple[str, str], str] = {}
        """(UniqueId, address) of everything that was ever sent, with its tenant."""
        self.acknowledged: dict[tuple[str, str], float] = {}
        """What was answered 200, and when."""
        self.answers: Counter[str] = Counter()
        self.ok_times: list[float] = []
        self.refused: list[str] = []
        """Answers that a well-formed post must not get."""
        self._received = trio.Event()
        self._slot = 0.0

    async def run(self) -> None:
        """Until every call was posted or given up, and as long as more are wanted."""
        numbers = itertools.takewhile(lambda number: number < self._calls or not self.enough, itertools.count())
        async with trio.open_nursery() as nursery:
            for _ in range(HOSTS):
                nursery.start_soon(self._host, numbers, tuple(self._ports))
                self._ports.rotate()

    def last_200(self) -> float:
        """When any post was last answered 200."""
        return self.ok_times[-1] if self.ok_times else 0.0

    async def wait_200(self) -> None:
        """The next time that any post is answered 200."""
        await self._received.wait()

    async def _host(self, numbers: Iterator[int], ports: Sequence[int]) -> None:
        line = Line(*ports)
        try:
            for number in numbers:
                await self._call(line, number)
        finally:
            await line.aclose()

    async def _call(self, line: Line, number: int) -> None:
        tenant, token = self._tokens[number % len(self._tokens)]
        unique_id = f"{self._prefix}.{number}"
        patient = number % 3 != 0
        body = {
            "Token": token, "UniqueId": unique_id, "CallerIDNum": f"37529{number % 9_000_000 + 1_000_000}",
            "Extensions": [str(150 + number % 6)], "CallType": 0,
        }  # fmt: skip
        for address in ADDRESSES:
            await self._turn()
            data = json.dumps(body | ({"CallStatus": "2"} if address == "/hangup" else {})).encode()
            while not await self._post(line, tenant, unique_id, address, data) and patient:
                await trio.sleep(0.1 + self._rng.random() * 0.2)
            if self._rng.random() < 0.02:
                await self._post(line, tenant, unique_id, address, data)
            if self.hurry == 1.0:
                await trio.sleep(self._rng.uniform(0.0, 0.1))

    async def _turn(self) -> None:
        """Keeps all hosts together to the rate. What an outage delayed is not hurried after."""
        now = trio.current_time()
        self._slot = max(self._slot + 1 / (self.rate * self.hurry), now - 0.2)
        await trio.sleep_until(self._slot)

    async def _post(self, line: Line, tenant: str, unique_id: str, address: str, data: bytes) -> bool:
        self.attempted[unique_id, address] = tenant
        try:
            status, answer = await line.post(address, data)
        except NotAnswered as error:
            self.answers[str(error)] += 1
            return False
        self.answers[str(status)] += 1
        if status == 200:
            now = trio.current_time()
            self.acknowledged.setdefault((unique_id, address), now)
            self.ok_times.append(now)
            received, self._received = self._received, trio.Event()
            received.set()
            return True
        if status != 503:
            self.refused.append(f"{status} {answer[:200].decode('utf-8', 'replace')}")
        return False


@dataclass
class Played:
    """One call of the PBX, with the moments between which it was."""

    truth: plays.Truth
    began: float
    ended: float


class Phones:
    """A PBX that plays calls at a steady pace; nobody takes part in two at once."""

    def __init__(self, pbx: SimulatedPbx, seed: int) -> None:
        self._pbx = pbx
        self._rng = random.Random(seed)
        self._busy: set[str] = set()
        self.played: list[Played] = []
        self.listening: list[tuple[float, float]] = []
        """When a session that wanted events was there."""

    async def run(self, calls: int, over_s: float) -> None:
        """Plays so many calls, evenly over the time, and returns when the last has ended."""
        kinds = itertools.cycle(self._rng.sample(list(KINDS), len(KINDS)))
        async with trio.open_nursery() as nursery:
            for _ in range(calls):
                await trio.sleep(over_s / calls)
                kind = next(kinds) if self._rng.random() < 0.4 else self._rng.choices(*_columns(KINDS))[0]
                free = [phone for phone in self._pbx.extensions if phone not in self._busy]
                while len(free) < plays.EMPLOYEES.get(kind, 1):
                    await trio.sleep(0.02)
                    free = [phone for phone in self._pbx.extensions if phone not in self._busy]
                people = plays.random_people(self._rng, kind, free)
                taken = {people.get("employee"), people.get("colleague"), *people.get("group", ())} - {None}
                self._busy |= taken
                nursery.start_soon(self._play, kind, people, taken)

    async def _play(self, kind: str, people: dict[str, Any], taken: set[Any]) -> None:
        began = trio.current_time()
        try:
            truth = await self._pbx.play(kind, **people)
        finally:
            self._busy -= taken
        self.played.append(Played(truth, began, trio.current_time()))

    async def watch(self) -> None:
        """Until cancelled: notes when somebody listens."""
        since: float | None = None
        links: list[Link] = []
        while True:
            now = trio.current_time()
            there = [link for link in self._pbx.links if link.events]
            if since is not None and there != links:
                self.listening.append((since, now))
                since = None
            if there and since is None:
                since = now
            if since is not None and (not self.listening or self.listening[-1][0] != since):
                self.listening.append((since, now))
            elif since is not None:
                self.listening[-1] = (since, now)
            links = there
            await trio.sleep(0.02)


def _columns(shares: Mapping[str, float]) -> tuple[Sequence[str], Sequence[float]]:
    return list(shares), list(shares.values())
