"""A small strict HTTP server on loopback, a tenant, and calls: what every adapter's tests stand on."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import h11
import pytest
import trio

from adapters.base import Attempt, Draft, Link
from adapters.http import SafeDialer
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.ids import TenantId


@dataclass(frozen=True)
class Seen:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def form(self) -> dict[str, str]:
        """The fields of a form; anything else, or a field that comes twice, fails the test."""
        assert self.headers["content-type"] == "application/x-www-form-urlencoded"
        pairs = parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def json(self) -> Any:
        """The body of a JSON request."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer; `drop` closes the connection instead, `raw` goes out as it is, `hang` never comes."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    drop: bool = False
    hang: bool = False
    raw: Callable[[trio.SocketStream], Awaitable[None]] | None = None


def as_json(body: Any, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """An answer in JSON."""
    return Reply(status, json.dumps(body).encode(), (("content-type", "application/json"), *headers))


@dataclass
class Remote:
    """An outside system: give it `replies`, read what it `seen`."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection until either side is done with it."""
        self.connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                while await self._one(stream, connection):
                    connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return

    async def _one(self, stream: trio.SocketStream, connection: h11.Connection) -> bool:
        request: h11.Request | None = None
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        headers = {name.decode(): value.decode() for name, value in request.headers}
        self.seen.append(Seen(request.method.decode(), request.target.decode(), headers, body))
        reply = self.replies.pop(0) if self.replies else Reply(500, b"no reply was prepared")
        if reply.hang:
            await trio.sleep_forever()
        if reply.raw is not None:
            await reply.raw(stream)
        if reply.drop or reply.raw is not None:
            return False
        length = ("content-length", str(len(reply.body)))
        sent = [h11.Response(status_code=reply.status, headers=[*reply.headers, length])]
        for part in (*sent, h11.Data(data=reply.body), h11.EndOfMessage()):
            await stream.send_all(connection.send(part) or b"")
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE


@pytest.fixture
async def remote(nursery: trio.Nursery) -> Remote:
    """A server that lives as long as the test."""
    made = Remote()
    listeners = await nursery.start(lambda task_status: _listen(made, task_status))
    made.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    return made


async def _listen(remote: Remote, task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
    await trio.serve_tcp(remote.serve, 0, host="127.0.0.1", task_status=task_status)


@pytest.fixture
def tenant() -> Tenant:
    """A company in Minsk, three hours ahead of UTC, that reads Russian."""
    return Tenant(
        number=TenantId("0367"),
        name="June",
        timezone=ZoneInfo("Europe/Minsk"),
        country="BY",
        language="ru",
        phones=(Phone("150", "Анна"), Phone("151", "<Олег> & Ко"), Phone("152")),
    )


@pytest.fixture
def open_link(tenant: Tenant) -> Link:
    """A link whose dialer may reach the loopback servers of a test."""
    return Link(tenant, "test", None, SafeDialer(allowed_private_nets=["127.0.0.0/8"]))


def at(second: float = 0.0) -> datetime:
    """A moment of the day of the tests, in UTC."""
    return datetime.fromtimestamp(1_763_684_000 + second, UTC)  # 2025-11-21 00:13:20


def attempt_of(draft: Draft, reference: str | None = None) -> Attempt:
    """The first try at a draft."""
    return Attempt(kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body, reference=reference)
