"""The stream of changes: what happens, what was missed, who may see it, and when it ends."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio

from gateway.domain.events import Result
from gateway.domain.ids import TenantId
from gateway.domain.subjects import call_subject
from gateway.store.conversations import select_conversation, update_conversation
from gateway.store.postgres.pool import Connection
from gateway.web.callers.key_changes import revoke_keys
from gateway.web.http.routes import Response
from gateway.web.rest import changes
from tests.web.rest.conftest import Api
from tests.web.world import JUNE, MAPLE, answered, ended, ringing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POLL_S", 0.05), ("LOOK_S", 0.01), ("SHORTEST_PAUSE_S", 0.001)):
        monkeypatch.setattr(changes, name, value)


class Listening:
    """One open stream."""

    def __init__(self, response: Response) -> None:
        assert response.events is not None
        self.events, self.last_id = response.events, ""
        self.waiting: list[dict[str, str]] = []

    async def next(self) -> dict[str, str] | None:
        """The next event; None at the end. Comments and what only brings an id are passed over."""
        with trio.fail_after(5):
            async for text in self.events:
                for block in filter(None, text.split("\n\n")):
                    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
                    self.last_id = fields.get("id", self.last_id)
                    if "event" in fields:
                        return fields
                if not text.strip().startswith("retry") or "event" in text:
                    continue
        return None

    async def ready(self) -> None:
        """Reads until the first id is here."""
        while not self.last_id:
            text = await anext(self.events)
            for line in text.splitlines():
                if line.startswith("id: "):
                    self.last_id = line[4:]


@asynccontextmanager
async def listening(api: Api, last_id: str = "", **headers: str) -> AsyncIterator[Listening]:
    sent = {"x-api-key": api.key, **({"last-event-id": last_id} if last_id else {}), **headers}
    response = await api.raw("GET", "/changes", {}, b"", sent)
    assert (response.status, response.content_type) == (200, "text/event-stream; charset=utf-8"), response.body
    stream = Listening(response)
    try:
        yield stream
    finally:
        await response.events.aclose()  # type: ignore[union-attr]


async def one_call(api: Api, of: TenantId = JUNE, ring: bool = True) -> str:
    first = ringing(api.world.call_id(), datetime.now(UTC), "+375291002001", "+375172000001", ["150"])
    await api.world.keep(of, [first, answered(first, "150"), ended(first, 30, Result.ANSWERED, "150")])
    if ring:
        api.world.feed.publish(of, call_subject(first.call_id))
    return str(first.call_id)


async def run(conn: Connection, statement: str) -> None:
    await conn.execute(statement)


async def rename(api: Api, name: str) -> None:
    await api.world.db.engine(run, f"UPDATE tenants SET name = '{name}' WHERE tenant_id = '{JUNE}'")
    await api.world.cache.load(JUNE, anew=True)


CALL = ["call_ringing", "call_answered", "call_ended"]


async def names(stream: Listening, many: int) -> list[Any]:
    found = []
    for _ in range(many):
        event = await stream.next()
        assert event is not None
        found.append(json.loads(event["data"])["event"] if event["event"] == "call" else event["event"])
    return found


async def test_calls_and_configuration_as_they_change(api: Api) -> None:
    async with listening(api) as stream:
        await stream.ready()
        call_id = await one_call(api)
        assert await names(stream, 3) == CALL
        await one_call(api, MAPLE)
        await rename(api, "Juno")
        event = await stream.next()
        assert event is not None
        assert event["event"] == "config"
        tenant = api.world.cache.tenant(JUNE)
        assert tenant is not None
        assert json.loads(event["data"]) == {"version": tenant.version}
        again = await one_call(api, ring=False)
        event = await stream.next()
        assert event is not None
        assert json.loads(event["data"])["call_id"] == again != call_id, "found by the poll"


async def test_conversations_as_they_change(api: Api) -> None:
    async with listening(api) as stream:
        await stream.ready()
        for number in (MAPLE, JUNE):
            await api.world.db.engine(
                run,
                f"INSERT INTO contacts (tenant_id, contact_id, root_id) VALUES ('{number}', '{UUID(int=2)}', '{UUID(int=2)}'); "
                "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner, name) "
                f"VALUES ('{number}', '{UUID(int=1)}', 'telegram', '7', '{UUID(int=2)}', 'ai', 'Anna')",
            )
        event = await stream.next()
        assert event is not None
        found = json.loads(event["data"])
        assert (event["event"], found["id"], found["owner"], found["epoch"]) == (
            "conversation",
            str(UUID(int=1)),
            "ai",
            0,
        )
        assert "Anna" not in event["data"]
        began = stream.last_id
        chat = await api.world.db.tenant(JUNE, select_conversation, JUNE, UUID(int=1))
        assert chat is not None
        taken = replace(chat.conversation, owner="queue", epoch=1)
        await api.world.db.tenant(JUNE, update_conversation, JUNE, taken)
    async with listening(api.changed(), began) as stream:
        event = await stream.next()
        assert event is not None
        assert json.loads(event["data"])["owner"] == "queue", "and nothing of what was there before"


async def test_what_was_missed_comes_once_whichever_event_was_the_last(api: Api) -> None:
    async with listening(api) as stream:
        await stream.ready()
        began = stream.last_id
        await one_call(api)
        ids = [began]
        for _ in range(3):
            event = await stream.next()
            assert event is not None
            ids.append(event["id"])
    assert len(set(ids)) == 4
    await one_call(api, ring=False)
    await rename(api, "Juno")
    other = api.changed()  # as another instance, or this one after a restart
    for place, last_id in enumerate(ids):
        async with listening(other, last_id) as stream:
            assert await names(stream, 7 - place) == [*CALL[place:], *CALL, "config"]
            await one_call(other, ring=True)
            assert await names(stream, 3) == CALL
            await api.world.db.engine(
                run, "DELETE FROM call_events WHERE call_id = (SELECT max(call_id) FROM call_events)"
            )


async def test_what_is_too_old_or_not_ours_is_a_resync(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(api) as stream:
        await stream.ready()
        mine = stream.last_id
    theirs = await api.new_key("read", of=MAPLE)
    for last_id, key in ((mine, theirs), ("nonsense", api.key), (mine[:-4], api.key)):
        async with listening(api, last_id, **{"x-api-key": key}) as stream:
            assert await names(stream, 1) == ["resync"]
            assert stream.last_id not in ("", last_id)
    monkeypatch.setattr(changes, "HELD", changes.HELD * 0)
    async with listening(api, mine) as stream:
        assert await names(stream, 1) == ["resync"]
        await one_call(api)
        assert await names(stream, 3) == CALL


async def test_a_bot_sees_the_configuration_alone(api: Api) -> None:
    bot = await api.new_key("bot")
    async with listening(api, **{"x-api-key": bot}) as stream:
        await stream.ready()
        await one_call(api)
        await rename(api, "Juno")
        assert await names(stream, 1) == ["config"]
    refused = await api.raw("GET", "/changes", {}, b"", {"x-api-key": await api.new_key("write", "call")})
    assert refused.status == 403


async def test_it_ends_with_its_key(api: Api) -> None:
    monkey = await api.new_key("read")
    async with listening(api, **{"x-api-key": monkey}) as stream:
        await stream.ready()
        await api.world.db.engine(revoke_keys, JUNE, monkey[:16], "cli")
        began = trio.current_time()
        assert await stream.next() is None
        assert trio.current_time() - began < 1.0


async def test_it_ends_with_its_key_mid_way_through_a_backlog(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PAGE", 2)
    monkey = await api.new_key("read")
    async with listening(api, **{"x-api-key": monkey}) as stream:
        await stream.ready()
    for _ in range(4):
        await one_call(api)
    async with listening(api, stream.last_id, **{"x-api-key": monkey}) as again:
        assert await names(again, 1) == CALL[:1]
        await api.world.db.engine(revoke_keys, JUNE, monkey[:16], "cli")
        with trio.fail_after(5):
            while (await api.raw("GET", "/calls", {}, b"", {"x-api-key": monkey})).status == 200:
                await trio.sleep(0.01)
        await trio.sleep(2 * changes.LOOK_S)
        assert await again.next() is not None, "the page that was read"
        assert await again.next() is None


async def test_it_ends_with_its_session(api: Api) -> None:
    cookie = await api.world.session(JUNE)
    headers = {"cookie": f"session={cookie}"}
    response = await api.raw("GET", "/changes", {}, b"", headers)
    stream = Listening(response)
    await stream.ready()
    await api.world.db.engine(run, "DELETE FROM sessions")
    assert await stream.next() is None


async def test_the_oldest_of_too_many_streams_ends(api: Api) -> None:
    from gateway.web.session.live_streams import PER_SESSION

    streams = []
    for _ in range(PER_SESSION + 1):
        response = await api.raw("GET", "/changes", {}, b"", {"x-api-key": api.key})
        streams.append(Listening(response))
        await streams[-1].ready()
    assert await streams[0].next() is None
    for stream in streams[1:]:
        await stream.events.aclose()  # type: ignore[attr-defined]
    assert len(api.deps.streams) == 0


async def test_nothing_is_opened_for_head(api: Api) -> None:
    response = await api.raw("HEAD", "/changes", {}, b"", {"x-api-key": api.key})
    assert (response.status, response.events) == (200, None)


@pytest.mark.slow
async def test_what_programs_change_of_content_and_people_is_a_change_of_the_configuration(api: Api) -> None:
    prompt = {"content": "# Role\nx\n# Rules\ny", "name": "Main"}
    made = await api.ask("POST", "/prompts", prompt)
    person = (await api.ask("POST", "/users", {"email": "anna@june.example", "role": "agent"})).json["id"]
    changes: list[tuple[str, str, Any]] = [
        ("PUT", "/profile", {"business_type": "retail"}), ("POST", "/catalog", {"id": "m", "name": "M", "price": 1}),
        ("PUT", "/catalog/m", {"name": "M", "price": 2}), ("DELETE", "/catalog/m", None),
        ("POST", "/catalog/import", {"items": [{"id": "n", "name": "N", "price": 1}]}),
        ("POST", "/prompts", {**prompt, "name": "Other"}), ("POST", f"/prompts/{made.json['id']}/restore", {"version": 1}),
        ("POST", "/users", {"email": "ivan@june.example", "role": "auditor"}), ("PATCH", f"/users/{person}", {"name": "Anna"}),
        ("DELETE", f"/users/{person}", None),
    ]  # fmt: skip
    key = await api.new_key("bot")
    async with listening(api, x_api_key=key) as stream, listening(api, x_api_key=await api.new_key(of=MAPLE)) as theirs:
        await stream.ready()
        await theirs.ready()
        versions = []
        for method, path, body in changes:
            got = await api.ask(method, path, body)
            assert got.status < 300, (path, got.json)
            event = await stream.next()
            assert event is not None
            assert event["event"] == "config", path
            versions.append(json.loads(event["data"])["version"])
        assert versions == sorted(set(versions))
        await rename_maple(api)
        event = await theirs.next()
        assert event is not None
        assert (event["event"], theirs.waiting) == ("config", [])


async def rename_maple(api: Api) -> None:
    await api.world.db.engine(run, f"UPDATE tenants SET name = 'Birch' WHERE tenant_id = '{MAPLE}'")


async def version_of(conn: Connection) -> int:
    found: int = await conn.fetchval("SELECT version FROM tenant_versions WHERE tenant_id = $1", JUNE)
    return found


async def test_signing_in_and_a_language_are_no_change_of_the_configuration(api: Api) -> None:
    before = await api.world.db.engine(version_of)
    await api.world.session(JUNE)
    await api.world.db.engine(run, "UPDATE users SET language = 'en', password_hash = 'x', role = role")
    assert await api.world.db.engine(version_of) == before
