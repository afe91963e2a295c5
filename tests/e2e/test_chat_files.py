"""Files of chats from end to end: a client's voice is fetched and heard, a manager's picture reaches the client, byte for byte."""

import json
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.world import BOT, World, open_world

pytestmark = [pytest.mark.long]

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + bytes(range(256)) * 4000
OGG = b"OggS\0\2" + bytes(22) + b"\x01\x13OpusHead" + bytes(range(256)) * 800
ANNA = {"id": 77, "is_bot": False, "first_name": "Anna", "language_code": "ru"}


def update(number: int, **what: Any) -> dict[str, Any]:
    chat = {"id": 77, "type": "private", "first_name": "Anna"}
    return {"message": {"message_id": number, "date": int(time.time()), "chat": chat, "from": ANNA, **what}}


async def until(client: httpx2.AsyncClient, path: str, true: Any) -> Any:
    """The answer's items, once they are so."""
    with trio.fail_after(20):
        while True:
            items = (await client.get(path)).json()["items"]
            if items and true(items):
                return items
            await trio.sleep(0.05)


async def chatting(world: World) -> httpx2.AsyncClient:
    """A company whose bot talks, and a key for its API."""
    bot = {"bot_token": BOT, "notify_chats": [], "chat": True}
    await world.apply(world.tenant(integrations={"telegram": bot}))
    said = await world.gateway.ask("api-key", "create", "0367", "--name", "test", "--scope", "chat")
    key = next(line for line in said.split() if len(line) > 30)
    return httpx2.AsyncClient(trust_env=False, base_url=world.url, headers={"X-API-Key": key}, timeout=20)


async def test_files_both_ways(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, await chatting(world) as client:
        world.telegram.add_chat(77, "Anna")
        began = trio.current_time()
        world.telegram.push(
            update(1, voice={**world.telegram.add_file(OGG, ""), "duration": 3, "mime_type": "text/html"})
        )
        (conversation,) = await until(client, "/api/v1/conversations", bool)
        path = f"/api/v1/conversations/{conversation['id']}/messages"
        (message,) = await until(client, path, lambda items: items[0]["attachments"][0]["state"] == "stored")
        print(f"\na voice of {len(OGG)} bytes stood in the conversation after {trio.current_time() - began:.2f} s")
        (voice,) = message["attachments"]
        assert (voice["kind"], voice["content_type"], voice["name"]) == ("voice", "audio/ogg", "voice.ogg")
        heard = await client.get(voice["url"])
        assert (heard.status_code, heard.content) == (200, OGG)
        assert (await client.get(voice["url"], headers={"Range": "bytes=1000-1999"})).content == OGG[1000:2000]
        async with httpx2.AsyncClient(trust_env=False, base_url=world.url) as stranger:
            assert (await stranger.get(voice["url"])).status_code == 401

        added = await client.post("/api/v1/files", files={"file": ("цены.png", PNG, "image/png")})
        assert added.status_code == 201, added.text
        sent = await client.post(path, json={"text": "look", "attachments": [added.json()["id"]], "client_id": "a-1"})
        assert sent.status_code == 201, sent.text
        await until(client, path, lambda items: items[-1]["status"] == "sent")
        (call,) = [one for one in world.telegram.calls if one.method == "sendphoto"]
        assert (call.params["photo"].data, call.params["photo"].name, call.params["caption"]) == (
            PNG,
            "цены.png",
            "look",
        )
        again = await client.post(path, json={"text": "again", "attachments": [added.json()["id"]], "client_id": "a-2"})
        assert (again.status_code, again.json()["errors"][0]["path"]) == (422, "attachments")
        lie = await client.post("/api/v1/files", files={"file": ("a.png", b"<html>", "image/png")})
        assert (lie.status_code, lie.json()["errors"][0]["path"]) == (422, "file")
        big = await client.post("/api/v1/files", content=bytes(21 << 20))
        assert big.status_code == 413
        kept = [file for file in (tmp_path / "var" / "recordings").rglob("*") if file.is_file()]
        assert len(kept) == 2
        assert not any(b"OpusHead" in file.read_bytes() or PNG[:33] in file.read_bytes() for file in kept)

        said = await world.gateway.ask(
            "contact", "export", "0367", conversation["contact"], "--to", str(tmp_path / "anna")
        )
        assert "1 conversations, 2 messages, 2 files" in said
        exported = json.loads((tmp_path / "anna" / "contact.json").read_text())
        assert exported["name"] == "Anna"
        await world.gateway.ask("contact", "erase", "0367", conversation["contact"], "--yes")
        assert (await client.get("/api/v1/conversations")).json()["items"] == []
        assert (await client.get(voice["url"])).status_code == 404
        for table in ("journal", "integration_logs", "deliveries", "messages", "contacts", "dead_letters"):
            left = await world.look(
                f"SELECT count(*) FROM {table} x WHERE strpos(x::text, 'Anna') > 0 OR strpos(x::text, 'look') > 0"
            )
            assert left == 0, table
