"""Files of visitors: theirs until they are sent, then their conversation's; downloads for nobody else."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from actors.chats.outgoing_files import TenantFiles
from adapters.registry import adapters
from gateway.domain.errors import Rejected
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Database
from gateway.web.http.hypercorn_server import mount
from gateway.web.widget.table import widget_addresses
from tests.web.rest.test_files import HTML, PNG
from tests.web.widget.here import ANNA, JUNE, KEYS, WIDGET, Here, open_here
from tests.web.widget.test_wire import said
from tests.web.world import make_world


class Desk(Here):
    """The companies with a store of files, through the listener of people."""

    app: Any

    async def add(self, token: str, body: bytes, query: str = "?name=a.png", **headers: str) -> tuple[int, Any]:
        """A visitor adds a file."""
        got = await self.app.test_client().post(
            f"/widget/{KEYS[JUNE]}/files{query}", data=body,
            headers={"authorization": f"Bearer {token}", "origin": self.public_url, **headers},
        )  # fmt: skip
        return got.status_code, json.loads(await got.get_data())

    async def give(self, token: str, file: str) -> Any:
        """A visitor downloads a file."""
        headers = {"authorization": f"Bearer {token}"}
        return await self.app.test_client().get(f"/widget/{KEYS[JUNE]}/files/{file}", headers=headers)


@pytest.fixture
async def desk(db: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    world = await make_world(db)
    blobs = FolderBlobs(tmp_path / "files", trio.CapacityLimiter(4))
    files = ChatFiles(db, blobs, tmp_path / "in", world.cache.sealer)
    files.clean_spool()
    desk = Desk(db, chat_files=files)
    desk.app = world.app_with(mounts=(partial(mount, addresses=widget_addresses(desk.deps)),))
    async with open_here(db, desk):
        yield desk


async def test_a_file_is_added_and_comes_with_a_message(desk: Desk) -> None:
    token = await desk.visitor()
    status, added = await desk.add(token, PNG)
    assert (status, added["kind"], added["name"], added["content_type"]) == (201, "image", "a.png", "image/png")
    sent = await desk.ask("POST", "/messages", {"client_id": "c1", "attachments": [added["id"]]}, token=token)
    assert sent[0] == 201
    (message,) = await desk.shown(token, 1)
    (shown,) = message["attachments"]
    assert (shown["name"], shown["size"], shown["ready"]) == ("a.png", len(PNG), False)
    # What the actor that fetches files then asks the widget's client for.
    got = bytearray()

    async def write(piece: bytes) -> None:
        got.extend(piece)

    assert desk.chat_files is not None
    link: Any = type("L", (), {"files": TenantFiles(desk.chat_files, JUNE, desk.public_url)})
    adapter = adapters()[WIDGET]
    async with adapter.connect(link, adapter.settings()) as client:
        await client.fetch({"file": added["id"]}, write, len(PNG))
        assert bytes(got) == PNG
        with pytest.raises(Rejected):
            await client.fetch({"file": added["id"]}, write, len(PNG) - 1)
        with pytest.raises(Rejected):
            await client.fetch({"file": str(uuid4())}, write, len(PNG))


async def test_nobody_sends_another_s_file(desk: Desk) -> None:
    token, other = await desk.visitor(), await desk.visitor()
    _, added = await desk.add(token, PNG)
    for files in ([added["id"]], [str(uuid4())], ["x"], [7], "x", [added["id"]] * 11):
        status, found = await desk.ask("POST", "/messages", {"client_id": "c1", "attachments": files}, token=other)
        assert status == 422
        assert all(one["path"].startswith("attachments") or one["path"] == "text" for one in found["errors"])
    assert await desk.history(other) == []


@pytest.mark.parametrize(
    ("body", "query", "headers", "field"),
    [
        (b"", "", {}, "file"),
        (HTML, "?name=a.png", {}, "file"),
        (PNG, "", {"content-type": "multipart/form-data"}, "body"),
    ],
)
async def test_a_file_that_cannot_be_taken_says_why(
    desk: Desk, body: bytes, query: str, headers: Any, field: str
) -> None:
    status, found = await desk.add(await desk.visitor(), body, query, **headers)
    assert (status, [one["path"] for one in found["errors"]]) == (422, [field])


async def test_files_need_a_token_and_an_origin(desk: Desk) -> None:
    token = await desk.visitor()
    assert (await desk.add("x" + token, PNG))[0] == 401
    assert (await desk.add(token, PNG, origin="https://evil.example"))[0] == 403
    found = await desk.add(token, b"", "", **{"content-length": str(30 << 20)})
    assert found[0] == 413


async def test_a_visitor_downloads_the_files_of_their_conversation_alone(desk: Desk) -> None:
    token, other = await desk.visitor(), await desk.visitor()
    conversation = await said(desk, token, "hello")
    await desk.write(other, "mine", "o1")
    assert desk.chat_files is not None
    async with await desk.chat_files.new_file() as incoming:
        await incoming.write(PNG)
        made = await desk.chat_files.add(JUNE, await incoming.finish("price.png"), "price.png", ANNA)
    assert (await desk.give(token, str(made.file_id))).status_code == 404, "it is not sent yet"
    await desk.conversing.send(desk.tenants[JUNE], conversation.id, author=ANNA, text="", files=[made.file_id])
    (shown,) = (await desk.shown(token, 2))[1]["attachments"]
    assert shown["ready"] is True
    got = await desk.give(token, shown["id"])
    assert (got.status_code, await got.get_data()) == (200, PNG)
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert got.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    for who, file in ((other, shown["id"]), (token, str(uuid4())), (token, "x")):
        assert (await desk.give(who, file)).status_code == 404
    assert (await desk.give("", shown["id"])).status_code == 401
    assert UUID(shown["id"]) == made.file_id
