"""The web widget of a running gateway: a visitor writes over HTTP, a program answers by the API, and the visitor is shown it."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from adapters.registry import adapters
from tests.e2e.test_api import API, client_of, new_key
from tests.e2e.world import World, open_world
from tests.web.rest.test_files import PNG

pytestmark = pytest.mark.long
(KIND,) = [kind for kind, adapter in adapters().items() if adapter.widget is not None]
KEY = "the-public-key-of-june"


def block(world: World) -> dict[str, Any]:
    found = world.tenant()
    found["integrations"][KIND] = {"allowed_domains": "shop.example", "widget_key": KEY}
    return found


async def until(client: httpx2.AsyncClient, path: str, wanted: Any, **headers: str) -> Any:
    with trio.fail_after(20):
        while not wanted(found := (await client.get(path, headers=headers)).json()):
            await trio.sleep(0.02)
    return found


async def test_a_visitor_and_a_program_speak_over_a_running_gateway(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.apply(block(world))
        async with httpx2.AsyncClient(trust_env=False, base_url=f"{world.url}/widget/{KEY}", timeout=10) as visitor:
            with trio.fail_after(20):
                while (
                    given := await visitor.post("/session", json={}, headers={"Origin": world.url})
                ).status_code == 404:
                    await trio.sleep(0.05)
            assert given.status_code == 200, given.text
            as_visitor = {"Authorization": f"Bearer {given.json()['token']}", "Origin": world.url}
            sent = await visitor.post(
                "/messages", json={"client_id": "c1", "text": "Do you deliver?"}, headers=as_visitor
            )
            assert sent.status_code == 201, sent.text
            await until(visitor, "/messages", lambda found: len(found["items"]) == 1, **as_visitor)
            async with client_of(world, await new_key(world, "chat")) as program:
                (one,) = (await program.get(f"{API}/conversations")).json()["items"]
                assert (one["channel"], one["unread"], one["owner"]) == (KIND, 1, "none")
                began = time.monotonic()
                answered = await program.post(
                    f"{API}/conversations/{one['id']}/messages", json={"text": "Yes", "client_id": "a1"}
                )
                assert answered.status_code == 201, answered.text
                found = await until(visitor, "/messages?after=1", lambda found: found["items"], **as_visitor)
                assert time.monotonic() - began < 5
                assert [(item["text"], item["author"]) for item in found["items"]] == [("Yes", "human")]

                def status(wanted: str) -> Any:
                    return lambda found: found["items"][-1]["status"] == wanted

                path = f"{API}/conversations/{one['id']}/messages"
                await until(program, path, status("sent"))
                assert (await visitor.post("/read", json={"seq": 2}, headers=as_visitor)).status_code == 204
                await until(program, path, status("read"))
                # Files, both ways.
                picture = {**as_visitor, "Content-Type": "image/png"}
                added = await visitor.post("/files?name=a.png", content=PNG, headers=picture)
                assert added.status_code == 201, added.text
                sent = await visitor.post(
                    "/messages", json={"client_id": "c2", "attachments": [added.json()["id"]]}, headers=as_visitor
                )
                assert sent.status_code == 201, sent.text
                found = await until(
                    visitor, "/messages?after=2", lambda found: found["items"] and found["items"][0]["attachments"][0]["ready"], **as_visitor
                )  # fmt: skip
                (theirs,) = found["items"][0]["attachments"]
                assert (await visitor.get(f"/files/{theirs['id']}", headers=as_visitor)).content == PNG
                assert (await program.get(f"{API}/files/{theirs['id']}")).content == PNG
                ours = (
                    await program.post(f"{API}/files?name=b.png", content=PNG, headers={"Content-Type": "image/png"})
                ).json()
                answered = await program.post(path, json={"attachments": [ours["id"]], "client_id": "a2"})
                assert answered.status_code == 201, answered.text
                found = await until(visitor, "/messages?after=3", lambda found: found["items"], **as_visitor)
                assert (
                    await visitor.get(f"/files/{found['items'][0]['attachments'][0]['id']}", headers=as_visitor)
                ).content == PNG
                await until(program, path, status("sent"))
        async with httpx2.AsyncClient(trust_env=False, base_url=world.url, timeout=10) as page:
            frame = await page.get(f"/widget/{KEY}")
            assert (
                "frame-ancestors https://shop.example http://shop.example" in frame.headers["content-security-policy"]
            )
            assert "x-frame-options" not in frame.headers
            loader = await page.get("/widget.js")
            assert loader.headers["cross-origin-resource-policy"] == "cross-origin"
            assert loader.headers["cache-control"] == "public, max-age=3600"
        await world.apply(block(world))
        assert (await world.get(f"/widget/{KEY}/messages"))["status"] == 401, "applied again, the key is the same"
