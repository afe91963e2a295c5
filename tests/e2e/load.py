"""Requests at a steady rate on both listeners, whether or not anybody answers: on new connections and on kept ones.

Half are `POST /dial`, each with a body of its own, half `GET /health`. A request on a kept connection that is ended before the
first byte of an answer is counted apart: HTTP leaves the server no way to rule it out, and the client sends it again.
"""

import json
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import trio

from gateway.listening import has_arrived

ANSWER_S = 30.0
TICK_S = 0.02
KEPT_SHARE = 0.6
CALLS = 50
"""So many calls are posted about, again and again: each post is new, each call is not."""


class Ended(Exception):
    """The connection ended before the first byte of an answer."""


class Client:
    """One connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.used = 0

    async def ask(self, request: bytes) -> tuple[int, bytes, bool]:
        """Status, body, and whether the server keeps the connection."""
        data = b""
        try:
            await self.stream.send_all(request)
            while b"\r\n\r\n" not in data:
                more = bytes(await self.stream.receive_some(65536))
                if not more:
                    raise Ended if not data else OSError("an answer cut short")
                data += more
        except trio.BrokenResourceError:
            if data:
                raise OSError("an answer cut short") from None
            raise Ended from None
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        while len(body) < int(headers["content-length"]):
            body += bytes(await self.stream.receive_some(65536))
        self.used += 1
        return int(lines[0].split()[1]), body, headers.get("connection") != "close"


@dataclass
class Load:
    """What was sent, and what came back."""

    token: str
    ports: tuple[int, int]
    rate: int
    sent: int = 0
    waiting: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    raced: int = 0
    accepted: int = 0
    slowest_s: float = 0.0
    _stored: dict[int, deque[Client]] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(3))

    async def run(self, stop: trio.Event) -> None:
        """Until `stop`; returns when every request has its answer."""
        self._stored = {port: deque() for port in self.ports}
        began, due = trio.current_time(), 0
        async with trio.open_nursery() as nursery:
            while not stop.is_set():
                owed = int((trio.current_time() - began) * self.rate)
                for _ in range(owed - due):
                    nursery.start_soon(self._one)
                due = owed
                await trio.sleep(TICK_S)
        for clients in self._stored.values():
            for client in clients:
                await client.stream.aclose()

    async def _one(self) -> None:
        number, self.sent = self.sent, self.sent + 1
        port = self.ports[number % 2]
        stored = self._random.random() < KEPT_SHARE
        request = self._post(number, stored) if number // 2 % 2 else _get(stored)
        began = trio.current_time()
        self.waiting += 1
        try:
            with trio.fail_after(ANSWER_S):
                status, body = await self._ask(port, request, stored)
        except Ended:
            self.failures["ended before an answer"] += 1
            return
        except trio.TooSlowError:
            self.failures["no answer in time"] += 1
            return
        except OSError as error:
            self.failures[error.strerror or str(error)] += 1
            return
        finally:
            self.waiting -= 1
        self.slowest_s = max(self.slowest_s, trio.current_time() - began)
        said = json.loads(body).get("status", "")
        self.answers[f"{status} {said}".strip()] += 1
        self.accepted += said == "accepted"
        if status != 200:
            self.failures[f"status {status}: {body.decode()}"] += 1

    async def _ask(self, port: int, request: bytes, stored: bool) -> tuple[int, bytes]:
        while True:
            clients = self._stored[port]
            client = None
            while stored and clients and client is None:
                client = clients.pop()
                if has_arrived(client.stream.socket):  # that is its end: every client looks before it sends
                    await trio.aclose_forcefully(client.stream)
                    client = None
            if client is None:
                client = Client(await trio.open_tcp_stream("127.0.0.1", port))
            keep = False
            try:
                status, body, keep = await client.ask(request)
            except Ended:
                if not client.used:
                    raise
                self.raced += 1
                continue
            finally:
                if keep and stored:
                    clients.append(client)
                else:
                    await trio.aclose_forcefully(client.stream)
            return status, body

    def _post(self, number: int, stored: bool) -> bytes:
        body = json.dumps({
            "Token": self.token, "UniqueId": f"900.{number % CALLS}", "CallerIDNum": "150", "Extensions": ["151"],
            "CallType": 2, "Sequence": number,
        }).encode()  # fmt: skip
        return (
            f"POST /dial HTTP/1.1\r\nHost: gateway\r\n{_connection(stored)}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


def _get(stored: bool) -> bytes:
    return f"GET /health HTTP/1.1\r\nHost: gateway\r\n{_connection(stored)}\r\n".encode()


def _connection(stored: bool) -> str:
    return "" if stored else "Connection: close\r\n"
