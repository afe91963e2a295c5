"""A load generator: keep-alive connections that post prepared bodies one after the other, in a process of its own.

On uvloop with a protocol that does no more than count: it has to be much quicker than what it measures.
"""

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import uvloop


class _Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, requests: Iterator[bytes], until: float, every_s: float) -> None:
        self._requests, self._until, self._every_s = requests, until, every_s
        self.took: list[float] = []
        self.refused = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._answer = b""
        self._next()

    def _next(self) -> None:
        self._at = time.perf_counter()
        request = next(self._requests, b"") if self._at < self._until else b""
        if request:
            self._transport.write(request)
        else:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return
        start = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[start:].split(b"\r\n", 1)[0]):
            return
        if head.startswith(b"HTTP/1.1 200") and b"accepted" in body:
            self.took.append(time.perf_counter() - self._at)
        else:
            self.refused += 1
        self._answer = b""
        if self._every_s:
            asyncio.get_running_loop().call_later(self._every_s, self._next)
        else:
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _requests(token: str, address: str) -> Iterator[bytes]:
    """Calls as an Asterisk host posts them: each rings, and is then hung up."""
    mark, host = secrets.token_hex(6), address.encode()
    for number in itertools.count():
        reported = {
            "Token": token, "UniqueId": f"{mark}.{number}", "CallerIDNum": "+375296254070",
            "Extensions": ["150", "151"], "CallType": 0, "Trunk": "trunk-0001",
        }  # fmt: skip
        ended = {"CallStatus": "NOANSWER", "StartTime": "2026-11-21 03:13:18", "EndTime": "2026-11-21 03:13:40"}
        for path, fields in ((b"dial", reported), (b"hangup", reported | ended)):
            body = json.dumps(fields).encode()
            yield (
                b"POST /%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (path, host, len(body), body)
            )


def post(
    address: str, token: str, connections: int, seconds: float, most: int | None = None, every_s: float = 0.0
) -> dict[str, float]:
    """One round: what was accepted in this time, and how long each took. At most `most` of each connection, `every_s` apart."""

    async def run() -> list[_Client]:
        host, _, port = address.partition(":")
        loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
        made = [
            await loop.create_connection(
                lambda: _Client(itertools.islice(_requests(token, address), most), until, every_s), host, int(port)
            )
            for _ in range(connections)
        ]
        clients = [client for _, client in made]
        await asyncio.gather(*(client.done for client in clients))
        return clients

    started = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        clients = runner.run(run())
    took = sorted(one for client in clients for one in client.took)
    return {
        "rate": len(took) / (time.perf_counter() - started), "refused": sum(client.refused for client in clients),
        "p50_ms": took[len(took) // 2] * 1000, "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }  # fmt: skip
