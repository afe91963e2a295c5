"""`/api/v1` of a running gateway: a key's life, a stream over a restart, limits, and a client that takes nothing."""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import World, open_world

pytestmark = pytest.mark.long
API = "/api/v1"


@asynccontextmanager
async def client_of(world: World, credential: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {credential}"}
    async with httpx2.AsyncClient(trust_env=False, base_url=world.url, headers=headers, timeout=10) as client:
        yield client


async def new_key(world: World, *scopes: str) -> str:
    options = [part for scope in scopes for part in ("--scope", scope)]
    return (await world.gateway.ask("api-key", "create", "0367", "--name", "e2e", *options)).strip()


async def a_call(world: World, unique_id: str) -> None:
    fields = {
        "UniqueId": unique_id,
        "CallerIDNum": "+375296254070",
        "Extensions": ["150"],
        "CallType": 0,
        "Trunk": "trunk-0001",
    }
    for address in ("/dial", "/hangup"):
        assert (await world.post(address, **fields, CallStatus="NOANSWER")).status_code == 200


@asynccontextmanager
async def stream_of(world: World, key: str, last_id: str = "") -> AsyncIterator[trio.SocketStream]:
    """The stream of changes as bytes; each event is one piece of the chunked body."""
    host, _, port = world.url.removeprefix("http://").partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        resumed = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
        await stream.send_all(
            f"GET {API}/changes HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n{resumed}\r\n".encode()
        )
        yield stream


async def events_of(world: World, key: str, many: int, last_id: str = "") -> list[tuple[str, str, Any]]:
    """The first events: kind, id and data. With none wanted, what only brings an id."""
    received = b""
    async with stream_of(world, key, last_id) as stream:
        with trio.fail_after(20):
            while True:
                received += await stream.receive_some(65536)
                found = re.findall(rb"event: (\w+)\nid: (\S*)\ndata: ([^\n]*)\n", received)
                only = re.search(rb": still here\nid: (\S+)\n", received)
                if not many and only is not None:
                    return [("", only[1].decode(), None)]
                if many and len(found) >= many:
                    return [(kind.decode(), named.decode(), json.loads(data)) for kind, named, data in found]


async def test_the_api_of_a_running_gateway(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        key = await new_key(world, "read", "write")
        async with client_of(world, key) as client:
            token = (await client.post(f"{API}/token")).json()["access_token"]
            made = await client.post(
                f"{API}/keys", json={"name": "x", "scopes": ["read"]}, headers={"Idempotency-Key": "1"}
            )
            assert made.status_code == 201
            items = (await client.get(f"{API}/integrations")).json()["items"]
            assert {item["key"]: item["type"] for item in items} == {"retailcrm": "crm", "telegram": "channel"}
            assert world.crm.api_key not in json.dumps(items)
            ((_, began, _),) = await events_of(world, key, 0)
            await a_call(world, "api.1")
            seen = await events_of(world, key, 2, began)
            assert [(data["call_id"], data["event"]) for _, _, data in seen] == [
                ("api.1", "call_ringing"),
                ("api.1", "call_ended"),
            ]
            await a_call(world, "api.2")
        world.child.terminate()
        await world.child.wait()
        async with world.gateway.running() as world.child:
            await world.gateway.wait_ready(world.child, world.url)
            async with client_of(world, key) as client:
                missed = await events_of(world, key, 3, seen[0][1])
                assert [(data["call_id"], data["event"]) for kind, _, data in missed if kind == "call"] == [
                    ("api.1", "call_ended"), ("api.2", "call_ringing"), ("api.2", "call_ended"),
                ]  # fmt: skip
                again = await client.post(
                    f"{API}/keys", json={"name": "x", "scopes": ["read"]}, headers={"Idempotency-Key": "1"}
                )
                assert again.json() == made.json()
                assert again.headers["idempotency-replayed"] == "true"
                for text in (key, token, made.json()["key"]):
                    async with client_of(world, text) as other:
                        assert (await other.get(f"{API}/calls")).status_code == 200
                await world.gateway.ask("api-key", "revoke", "0367", key)
                await trio.sleep(1.0)
                for text in (key, token):
                    async with client_of(world, text) as other:
                        assert (await other.get(f"{API}/calls")).status_code == 401


async def test_rates_and_a_client_that_takes_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path, GATEWAY_API_PER_KEY="5,10", GATEWAY_CORS_ORIGINS="https://crm.example") as world:
        key = await new_key(world, "read")
        async with client_of(world, key) as client:
            answers = [await client.get(f"{API}/audit") for _ in range(12)]
            assert [answer.status_code for answer in answers].count(200) >= 10
            limited = next(answer for answer in answers if answer.status_code == 429)
            assert limited.headers["content-type"] == "application/problem+json"
            assert {
                "retry-after",
                "ratelimit-limit",
                "ratelimit-remaining",
                "ratelimit-reset",
            } <= limited.headers.keys()
            preflight = await client.request(
                "OPTIONS",
                f"{API}/calls",
                headers={"Origin": "https://crm.example", "Access-Control-Request-Method": "GET"},
            )
            assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (
                204,
                "https://crm.example",
            )
        await trio.sleep(2.5)  # until the rate is earned again
        async with stream_of(world, key) as stream:
            await takes_nothing(world, key, stream)


async def takes_nothing(world: World, key: str, stream: trio.SocketStream) -> None:
    """Events come and nobody takes them; then the key is revoked."""
    before = memory_of(world)
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 5:
        number += 1
        await a_call(world, f"many.{number}")
    assert memory_of(world) - before < 60 << 20
    await world.gateway.ask("api-key", "revoke", "0367", key)
    received = b""
    with trio.fail_after(10):  # the answer ends; its connection may be used again
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = await stream.receive_some(65536)
            assert piece
            received += piece
    assert b"event: call" in received
    assert (await world.get("/health"))["status"] == "ok"


def memory_of(world: World) -> int:
    for line in Path(f"/proc/{world.child.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise AssertionError
