"""`/files`: what is taken and what is refused, who may have it, how it is answered; and the links that messengers fetch by."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import pytest
import trio
from werkzeug.datastructures import Headers

from actors.chats.outgoing_files import TenantFiles
from gateway.domain.errors import BadSettings, Rejected
from gateway.domain.ids import TenantId
from gateway.domain.people import Role
from gateway.store import chat_files as rows
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Connection
from gateway.web.http.hypercorn_server import mount
from gateway.web.http.routes import Request, Response, Table, answer
from gateway.web.rest.files import linked_files
from gateway.web.rest.table import api_addresses
from tests.web.rest.conftest import Api
from tests.web.world import JUNE, MAPLE

PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + b"\0" * 400
OGG = b"OggS\0\2" + bytes(22) + b"\x01\x13OpusHead" + bytes(400)
HTML = b"<!doctype html><script>alert(1)</script>"


@dataclass
class Desk:
    """The API with a store of files, its app, and one company's key."""

    api: Api
    files: ChatFiles

    def __post_init__(self) -> None:
        addresses = [*api_addresses(self.api.deps), *linked_files(self.files, self.api.world.cache.tenant)]
        self.table = Table(addresses)
        self.app = self.api.world.app_with(mounts=(partial(mount, addresses=addresses),))

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """Through the listener of people, as a client does."""
        client: Any = self.app.test_client()
        sent = {"x-api-key": self.api.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await client.open(path, method=method, data=body, headers=sent)

    async def add(self, body: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        got = await self.send("POST", f"/api/v1/files{query}", body, **headers)
        return got.status_code, json.loads(await got.get_data())

    async def form(self, *parts: tuple[str, str], key: str = "") -> tuple[int, Any]:
        """Parts as (head behind `form-data; `, content)."""
        body = b"".join(
            b"--B\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), text.encode("latin-1"))
            for head, text in parts
        )
        headers = {"x_api_key": key} if key else {}
        return await self.add(body + b"--B--\r\n", content_type="multipart/form-data; boundary=B", **headers)


@pytest.fixture
async def desk(api: Api, tmp_path: Path) -> Desk:
    files = ChatFiles(
        api.world.db,
        FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4)),
        tmp_path / "in",
        api.world.cache.sealer,
    )
    files.clean_spool()
    return Desk(api.changed(chat_files=files), files)


async def test_the_body_itself(desk: Desk, tmp_path: Path) -> None:
    status, found = await desk.add(PNG, "?name=price%20list.png", content_type="image/png")
    assert (status, found["kind"], found["name"], found["content_type"], found["size"]) == (
        201, "image", "price list.png", "image/png", len(PNG),
    )  # fmt: skip
    assert _left_on_disk(tmp_path, b"PNG") == []


async def test_a_form(desk: Desk) -> None:
    status, found = await desk.form(
        ('name="kind"', "file"),
        ('name="file"; filename="../../a\u202egpj.png"'.encode().decode("utf-8"), PNG.decode("latin-1")),
    )
    assert (status, found["kind"], found["name"]) == (201, "file", "agpj.png")
    status, found = await desk.form(
        ('name="file"; filename="hello"\r\nContent-Type: audio/ogg', OGG.decode("latin-1")), ('name="kind"', "voice")
    )
    assert (status, found["kind"], found["name"], found["content_type"]) == (201, "voice", "hello.ogg", "audio/ogg")


@pytest.mark.parametrize(
    ("body", "query", "told", "field", "words"),
    [
        (b"", "", "image/png", "file", "is empty"),
        (HTML, "", "image/png", "file", "something else than it is"),
        (HTML, "?name=cat.jpg", "application/octet-stream", "file", "something else than it is"),
        (PNG, "?name=x.mp3", "", "file", "its content is image/png"),
        (HTML, "?kind=voice", "", "kind", "can be sent as file"),
        (PNG, "?kind=sticker", "", "kind", "Input should be"),
        (PNG, "?colour=red", "", "colour", "no such field"),
    ],
)
async def test_what_is_wrong_is_named(desk: Desk, body: bytes, query: str, told: str, field: str, words: str) -> None:
    status, found = await desk.add(body, query, content_type=told)
    assert (status, found["errors"][0]["path"]) == (422, field)
    assert words in found["errors"][0]["message"]
    assert await desk.api.world.db.engine(_count) == 0


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([('name="kind"', "file")], "file"),
        ([('name="file"; filename="a"', "x"), ('name="file"; filename="b"', "x")], "file"),
        ([('name="chat"', "1"), ('name="file"; filename="a"', "x")], "chat"),
        ([('name="name"', "x" * 2000), ('name="file"; filename="a"', "x")], "name"),
        ([('name="kind"', "poem"), ('name="file"; filename="a"', "x")], "kind"),
    ],
)
async def test_forms_that_are_not_right(desk: Desk, parts: Sequence[tuple[str, str]], field: str) -> None:
    status, found = await desk.form(*parts)
    assert (status, found["errors"][0]["path"]) == (422, field)


async def test_a_form_that_is_cut_short(desk: Desk) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxxx'
    status, found = await desk.add(body, content_type="multipart/form-data; boundary=B")
    assert (status, found["errors"][0]["path"]) == (422, "body")


async def test_too_large(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatFiles, "largest", 300)
    status, found = await desk.add(PNG)
    assert (status, found["code"], found["errors"][0]["path"]) == (413, "PAYLOAD_TOO_LARGE", "file")


async def test_a_body_over_the_limit_is_not_read(desk: Desk) -> None:
    sent = {"x-api-key": desk.api.key, "content-length": str(200 << 20)}
    client: Any = desk.app.test_client()
    got = await client.open("/api/v1/files", method="POST", data=b"x", headers=sent)
    assert got.status_code == 413
    assert "at most" in json.loads(await got.get_data())["errors"][0]["message"]


async def test_who_may_add(desk: Desk) -> None:
    reader = await desk.api.new_key("read")
    assert (await desk.add(PNG, x_api_key=reader))[0] == 403
    assert (await desk.add(PNG, x_api_key="gk_nonsense"))[0] == 401


async def test_so_many_wait_at_most(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.files.chat_files.MOST_UNSENT", 2)
    for _ in range(2):
        assert (await desk.add(PNG))[0] == 201
    status, found = await desk.add(OGG)
    assert (status, found["code"]) == (429, "RATE_LIMITED")
    assert "wait to be sent" in found["detail"]
    assert (await desk.add(OGG, x_api_key=await desk.api.new_key("chat")))[0] == 201


async def test_a_file_is_a_download_in_a_sandbox(desk: Desk) -> None:
    _, made = await desk.add(HTML, "?name=%D1%86%D0%B5%D0%BD%D1%8B.html")
    got = await desk.send("GET", f"/api/v1/files/{made['id']}")
    assert (got.status_code, await got.get_data()) == (200, HTML)
    headers = got.headers
    assert headers["Content-Type"] == "text/plain"
    assert (
        headers["Content-Disposition"]
        == "attachment; filename=\"file.html\"; filename*=UTF-8''%D1%86%D0%B5%D0%BD%D1%8B.html"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert (headers["Cache-Control"], headers["Content-Length"]) == ("private, no-store", str(len(HTML)))


async def test_ranges_and_validators(desk: Desk) -> None:
    _, made = await desk.add(PNG)
    path = f"/api/v1/files/{made['id']}"
    part = await desk.send("GET", path, range="bytes=8-15")
    assert (part.status_code, await part.get_data(), part.headers["Content-Range"]) == (
        206,
        PNG[8:16],
        f"bytes 8-15/{len(PNG)}",
    )
    assert (await desk.send("GET", path, range="bytes=9999-")).status_code == 416
    assert (await desk.send("GET", path, if_none_match=part.headers["ETag"])).status_code == 304
    assert (await (await desk.send("HEAD", path)).get_data()) == b""
    async with desk.app.test_app() as running:
        client: Any = running.test_client()
        sent = client.request(path, method="HEAD", headers=Headers({"x-api-key": desk.api.key}))
        async with sent as connection:
            await connection.send_complete()
            await connection.receive()
            assert connection.headers is not None
            assert (connection.status_code, connection.headers["Content-Length"]) == (200, str(len(PNG)))


async def test_another_company_s_file_is_not_there(desk: Desk) -> None:
    _, made = await desk.add(PNG)
    foreign = await desk.api.new_key(of=MAPLE)
    assert (await desk.send("GET", f"/api/v1/files/{made['id']}", x_api_key=foreign)).status_code == 404
    assert (await desk.send("GET", f"/api/v1/files/{uuid4()}")).status_code == 404
    assert (await desk.send("GET", "/api/v1/files/x")).status_code == 404


async def _at(desk: Desk, url: str, method: str = "GET") -> Response:
    parts = urlsplit(url)
    found = desk.table.find(method, parts.path)
    assert not isinstance(found, Response)
    address, params = found
    return await answer(
        address, Request(method=method, path=parts.path, params=params, query=dict(parse_qsl(parts.query)))
    )


async def test_a_signed_link_opens_its_file_for_an_hour_and_nothing_else(desk: Desk) -> None:
    _, made = await desk.add(PNG)
    now = datetime.now(UTC)

    def link(age: timedelta = timedelta(0), tenant: TenantId = JUNE, file: str = made["id"]) -> str:
        return TenantFiles(desk.files, tenant, "https://gateway.example/", lambda: now - age).address(file)

    assert link().startswith("https://gateway.example/files/")
    good = await _at(desk, link())
    assert good.pieces is not None
    assert (good.status, b"".join([piece async for piece in good.pieces])) == (200, PNG)
    assert (await _at(desk, link(timedelta(minutes=59)), "HEAD")).status == 200
    assert (await _at(desk, link(timedelta(minutes=61)))).status == 403
    assert (await _at(desk, link(tenant=MAPLE))).status == 404  # a good link of theirs to a file that they do not have
    assert (await _at(desk, link().replace(made["id"], str(uuid4())))).status == 403
    assert (await _at(desk, link().replace("tenant=0367", "tenant=9999"))).status == 403
    assert (await _at(desk, link()[:-2])).status == 403


async def test_what_is_sent_is_read_whole_or_refused(desk: Desk) -> None:
    big = PNG + bytes(range(256)) * 4000
    _, made = await desk.add(big)
    ours = TenantFiles(desk.files, JUNE, "http://localhost:8080")
    assert b"".join([piece async for piece in ours.pieces(made["id"])]) == big
    with pytest.raises(BadSettings):
        ours.address(made["id"])
    with pytest.raises(Rejected):
        await anext(ours.pieces(str(uuid4())))
    with pytest.raises(Rejected):
        await anext(TenantFiles(desk.files, MAPLE, "").pieces(made["id"]))


async def test_what_was_not_sent_goes_after_a_day(desk: Desk) -> None:
    _, old = await desk.add(PNG)
    _, young = await desk.add(OGG)
    await desk.api.world.db.engine(_age, UUID(old["id"]))
    assert await desk.api.world.db.engine(rows.delete_unsent_files, rows.KEEP_UNSENT_S, 100) == 1
    assert (await desk.send("GET", f"/api/v1/files/{old['id']}")).status_code == 404
    assert (await desk.send("GET", f"/api/v1/files/{young['id']}")).status_code == 200


def _left_on_disk(folder: Path, text: bytes) -> list[Path]:
    """What is in the spool, and what can be read anywhere."""
    readable = [file for file in folder.rglob("*") if file.is_file() and text in file.read_bytes()]
    return [*(folder / "in").iterdir(), *readable]


async def _count(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM chat_files"))


async def _age(conn: Connection, file: UUID) -> None:
    await conn.execute("UPDATE chat_files SET created_at = now() - interval '25 hours' WHERE file_id = $1", file)


async def test_an_agent_sees_files_of_their_conversations_and_an_auditor_none(desk: Desk) -> None:
    _, made = await desk.add(PNG)
    world, path = desk.api.world, f"/files/{made['id']}"
    agent = f"session={await world.person(JUNE, 'agent@0367.example', Role.AGENT)}"
    auditor = f"session={await world.person(JUNE, 'auditor@0367.example', Role.AUDITOR)}"
    conversation = await world.db.engine(_send, UUID(made["id"]))
    for owner, status in (("queue", 200), ("none", 200), ("human:another", 404), ("ai", 404)):
        await world.db.engine(_own, conversation, owner)
        assert (await desk.api.ask("GET", path, cookie=agent)).status == status, owner
        assert (await desk.api.ask("GET", path, cookie=auditor)).status == 403
        assert (await desk.api.ask("GET", path)).status == 200
    _, unsent = await desk.add(PNG)
    assert (await desk.api.ask("GET", f"/files/{unsent['id']}", cookie=agent)).status == 404


async def _send(conn: Connection, file: UUID) -> UUID:
    """A conversation with a message that has the file."""
    contact, conversation, message = uuid4(), uuid4(), uuid4()
    await conn.execute("INSERT INTO contacts (tenant_id, contact_id, root_id) VALUES ($1, $2, $2)", JUNE, contact)
    await conn.execute(
        "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner) "
        "VALUES ($1, $2, 'telegram', '7', $3, 'none')",
        JUNE, conversation, contact,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, at) VALUES ($1, $2, $3, 1, 'in', 'client', now())",
        JUNE, message, conversation,
    )  # fmt: skip
    await conn.execute("UPDATE chat_files SET message_id = $2 WHERE file_id = $1", file, message)
    return conversation


async def _own(conn: Connection, conversation: UUID, owner: str) -> None:
    await conn.execute("UPDATE conversations SET owner = $2 WHERE conversation_id = $1", conversation, owner)
