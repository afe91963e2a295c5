"""Files from a messenger into the sealed store and out again: over a real socket, a real database and a real folder.

Long, because a messenger, a store and a company stand behind every case.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.chats import file_fetching
from actors.chats.file_fetching import FileFetchActor, delay_s, next_try_s
from actors.chats.outgoing_files import TenantFiles
from actors.feed import Feed
from actors.runtime.directory import Slot
from adapters import telegram
from adapters.base import Attempt, Link
from adapters.channel import MESSAGE, Outgoing, OutgoingFile
from adapters.http import SafeDialer
from adapters.registry import Linked
from gateway.domain.chats import FILE_PROBLEMS, FileKind
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import Rejected
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store import chat_files as rows
from gateway.store import contacts, conversations, messages
from gateway.store import recording_queue as janitor
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.chat_files import ChatFiles
from gateway.store.messages import StoredFile
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import new_data_key, new_master_key, parse_master_keys
from gateway.store.tenants import TenantRow, upsert_tenant
from tests.sandbox.telegram import Telegram
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("telegram")
TOKEN = "700100200:sandbox-token"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + b"\0" * 200_000
OGG = b"OggS\0\2" + bytes(22) + b"\x01\x13OpusHead" + bytes(400)
HTML = b"<!doctype html><script>alert(1)</script>"


@dataclass
class Here:
    """A company with a bot, a conversation, and the messenger it talks through."""

    db: Database
    files: ChatFiles
    telegram: Telegram
    base: str
    folder: Path
    conversation: UUID = field(default_factory=uuid4)
    changed: list[str] = field(default_factory=list)
    switched_on: bool = True
    seq: int = 0

    @property
    def tenant(self) -> Tenant:
        bot = Connector(KEY, Kind("telegram"), {"bot_token": TOKEN, "chat": True}, enabled=self.switched_on)
        return Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "ru", integrations={KEY: bot})

    @property
    def link(self) -> Link:
        return Link(
            tenant=self.tenant, name=KEY, base_url=self.base, dial=SafeDialer(allowed_private_nets=["127.0.0.0/8"]),
            files=TenantFiles(self.files, JUNE, "https://gateway.example"),
        )  # fmt: skip

    async def arrives(
        self, remote: dict[str, Any], kind: FileKind = "file", name: str = "", size: int | None = None
    ) -> UUID:
        """A message with a file has been stored."""
        self.seq += 1
        message, file = uuid4(), uuid4()
        await self.db.engine(_insert, self.conversation, message, self.seq, file, kind, name, json.dumps(remote), size)
        return file

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        services: Any = SimpleNamespace(
            db=self.db, cache=SimpleNamespace(tenant=lambda number: self.tenant), feed=Feed(self.changed.append),
            ownership=SimpleNamespace(first_round=trio.Event(), instances=1), link=lambda *given, background: self.link,
        )  # fmt: skip
        actor = FileFetchActor(services, self.files, lambda key: Linked(key, telegram.ADAPTER))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.run, Slot("system/chat-files"))
            yield
            nursery.cancel_scope.cancel()

    async def file(self, file: UUID) -> StoredFile:
        found = await self.db.tenant(JUNE, messages.select_messages, JUNE, self.conversation, 100)
        return next(one for message in found for one in message.files if one.id == file)

    async def until(self, file: UUID, state: str, problem: str | None = None) -> StoredFile:
        with trio.fail_after(10):
            while (found := await self.file(file)).state != state or problem not in (None, found.problem):
                await trio.sleep(0.01)
        return found

    async def read(self, file: UUID) -> bytes:
        return b"".join([piece async for piece in TenantFiles(self.files, JUNE, "").pieces(str(file))])


async def _insert(
    conn: Connection, conversation: UUID, message: UUID, seq: int, file: UUID, kind: str, name: str, remote: str, size: int | None
) -> None:  # fmt: skip
    await conn.execute(
        "INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, at) VALUES ($1, $2, $3, $4, 'in', 'client', now())",
        JUNE, message, conversation, seq,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO chat_files (tenant_id, file_id, message_id, integration_type, kind, name, remote, size, state) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, 'expected')",
        JUNE, file, message, KEY, kind, name, remote, size,
    )  # fmt: skip


async def _conversation(conn: Connection, conversation: UUID) -> UUID:
    contact = await contacts.insert_contact(conn, JUNE, "Anna", ("+375296254070",), ())
    await conn.execute(
        "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner, last_message_at) "
        "VALUES ($1, $2, 'telegram', '77', $3, 'none', now())",
        JUNE, conversation, contact,
    )  # fmt: skip
    return contact


@pytest.fixture
async def here(db: Database, tmp_path: Path, nursery: trio.Nursery) -> Here:
    master = parse_master_keys(new_master_key())
    wrapped = master.wrap(JUNE, new_data_key())
    await db.engine(upsert_tenant, TenantRow(JUNE, "June", "UTC", "BY", "en", None, wrapped, {}, 0, (), (), ()))
    blobs = FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4))
    files = ChatFiles(db, blobs, tmp_path / "incoming", {JUNE: master.sealer(JUNE, wrapped)}.get)
    files.clean_spool()
    sandbox = Telegram({TOKEN: "shop_bot"}, rate_limits=False)
    base = await nursery.start(sandbox.serve)
    made = Here(db, files, sandbox, base, tmp_path)
    sandbox.add_chat(77)
    await db.engine(_conversation, made.conversation)
    return made


async def test_a_file_is_fetched_sealed_and_shown(here: Here) -> None:
    file = await here.arrives(here.telegram.add_file(PNG, "x"), "image", "photo")
    async with here.fetching():
        found = await here.until(file, "stored")
    assert (found.kind, found.name, found.content_type, found.size) == ("image", "photo.png", "image/png", len(PNG))
    assert await here.read(file) == PNG
    assert here.changed
    assert _readable(here.folder, PNG[:33]) == []


@pytest.mark.parametrize(
    ("data", "kind", "name", "expected"),
    [
        (HTML, "image", "cat.jpg", ("file", "cat.jpg", "text/plain")),
        (b"<svg xmlns='x' onload='alert(1)'/>", "image", "a.svg", ("file", "a.svg", "text/plain")),
        (OGG, "voice", "", ("voice", "voice.ogg", "audio/ogg")),
        (PNG, "voice", "hello", ("image", "hello.png", "image/png")),
        (b"\0\1\2\3", "file", "../../etc/passwd\u202e", ("file", "passwd", "application/octet-stream")),
    ],
)
async def test_what_it_is_its_bytes_say(
    here: Here, data: bytes, kind: FileKind, name: str, expected: tuple[str, str, str]
) -> None:
    file = await here.arrives(here.telegram.add_file(data, "x"), kind, name)
    async with here.fetching():
        found = await here.until(file, "stored")
    assert (found.kind, found.name, found.content_type) == expected


async def test_equal_files_are_stored_once_and_go_with_the_last(here: Here) -> None:
    first, second = [await here.arrives(here.telegram.add_file(PNG, "x"), "image") for _ in range(2)]
    async with here.fetching():
        await here.until(first, "stored")
        await here.until(second, "stored")
    assert await here.db.engine(_objects) == 1
    await here.db.engine(_forget, first)
    assert await here.db.engine(janitor.delete_unnamed_blobs, 0.0, 10) == []
    assert await here.read(second) == PNG
    await here.db.engine(_forget, second)
    assert len(await here.db.engine(janitor.delete_unnamed_blobs, 0.0, 10)) == 1


@pytest.mark.parametrize(
    ("remote", "size", "problem"),
    [
        ({"file_id": "nothing"}, None, "gone"),
        ({"file_id": "file1"}, 21 << 20, "too_large"),
        ({"file_id": "file1"}, None, "empty"),
    ],
)
async def test_what_cannot_be_had_says_why(here: Here, remote: dict[str, Any], size: int | None, problem: str) -> None:
    here.telegram.add_file(b"", "empty")
    file = await here.arrives(remote, size=size)
    async with here.fetching():
        found = await here.until(file, "expected" if problem == "empty" else "failed", problem)
    assert found.problem in FILE_PROBLEMS


async def test_it_is_tried_again_and_given_up_in_time(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_fetching, "FIRST_DELAYS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr("actors.fetching.EVERY_S", 0.01)
    given = here.telegram.add_file(PNG, "x")
    here.telegram.fault, here.telegram.fault_count = "http_500", 2
    file = await here.arrives(given, "image")
    async with here.fetching():
        await here.until(file, "stored")
    here.switched_on = False
    late = await here.arrives(given, "image")
    await here.db.engine(_age, late)
    async with here.fetching():
        await here.until(late, "failed", "switched_off")


def test_pauses_grow() -> None:
    pauses = [delay_s(n) for n in range(1, 30)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == file_fetching.DELAY_CAP_S


@pytest.mark.parametrize("within_s", [60.0, 3600.0, 24 * 3600.0])
def test_a_file_is_tried_until_the_messenger_gives_it_no_more(within_s: float) -> None:
    at, tries, moments = 0.0, 1, list[float]()
    while (wait_s := next_try_s(tries, within_s - at)) is not None:
        at, tries = at + wait_s, tries + 1
        moments.append(at)
    assert moments == sorted(moments)
    assert within_s - 2 * file_fetching.LAST_S <= moments[-1] <= within_s
    assert next_try_s(1, -5.0) is None


async def test_a_message_that_is_gone_gets_no_file(here: Here) -> None:
    file = await here.arrives(here.telegram.add_file(PNG, "x"), "image")
    (claim,) = await here.db.engine(rows.claim_file_fetches, 10, 10, 60.0)
    assert await here.db.engine(rows.claim_file_fetches, 10, 10, 60.0) == []
    await here.db.engine(_forget, file)
    async with await here.files.new_file() as incoming:
        await incoming.write(PNG)
        assert not await here.files.fill(claim, await incoming.finish("x"))
    assert len(await here.db.engine(janitor.delete_unnamed_blobs, 0.0, 10)) == 1


# Out


async def outgoing(here: Here, data: bytes, kind: FileKind, name: str, text: str = "") -> Attempt:
    async with await here.files.new_file() as incoming:
        await incoming.write(data)
        found = await here.files.add(JUNE, await incoming.finish(name), name, "human:1", kind)
    sent = OutgoingFile(
        id=str(found.file_id),
        kind=cast(FileKind, found.kind),
        name=found.name,
        content_type=found.content_type,
        size=found.blob.size,
    )
    part = Outgoing(to="77", text=text, file=sent, token="t.0")
    return Attempt(kind=MESSAGE, key="t.0", lane="chat 1", body=part.body())


@pytest.mark.parametrize(
    ("data", "kind", "name", "method", "field"),
    [
        (PNG, "image", "price.png", "sendphoto", "photo"), (OGG, "voice", "v.ogg", "sendvoice", "voice"),
        (PNG, "file", "цены.png", "senddocument", "document"), (HTML, "file", "a.html", "senddocument", "document"),
    ],
)  # fmt: skip
async def test_a_file_reaches_the_client_as_it_was(
    here: Here, data: bytes, kind: FileKind, name: str, method: str, field: str
) -> None:
    attempt = await outgoing(here, data, kind, name, "look")
    async with telegram.ADAPTER.connect(
        here.link, telegram.ADAPTER.settings.model_validate({"bot_token": TOKEN})
    ) as client:
        delivered = await client.deliver(attempt)
    (call,) = here.telegram.calls
    assert (call.method, call.params[field].data, call.params[field].name, call.params["caption"]) == (
        method,
        data,
        name,
        "look",
    )
    assert delivered.external_id == str(here.telegram.messages(77)[-1].message_id)
    assert TOKEN not in attempt.request
    assert "<script>" not in attempt.request


async def test_a_file_that_is_gone_fails_its_part(here: Here) -> None:
    attempt = await outgoing(here, PNG, "image", "x.png")
    await here.db.engine(_forget, UUID(attempt.body["file"]["id"]))
    async with telegram.ADAPTER.connect(
        here.link, telegram.ADAPTER.settings.model_validate({"bot_token": TOKEN})
    ) as client:
        with pytest.raises(Rejected):
            await client.deliver(attempt)
    assert here.telegram.messages(77) == []


# What goes


async def test_messages_go_with_their_files_after_their_time(here: Here) -> None:
    old, young = [await here.arrives(here.telegram.add_file(data, "x")) for data in (PNG, OGG)]
    async with here.fetching():
        await here.until(old, "stored")
        await here.until(young, "stored")
    await here.db.engine(_age_message, old, 31)
    await here.db.engine(_happening, here.conversation, 31)
    assert await here.db.engine(rows.delete_expired_messages, 365, 100) == 0
    await here.db.engine(_keep, 30)
    assert await here.db.engine(rows.delete_expired_messages, 365, 100) == 1
    assert await here.db.engine(rows.delete_expired_happenings, 365, 100) == 1
    assert len(await here.db.engine(janitor.delete_unnamed_blobs, 0.0, 10)) == 1
    assert await here.read(young) == OGG
    assert len(await here.db.tenant(JUNE, conversations.select_conversations, JUNE, conversations.Filters(), 10)) == 1


async def test_a_person_is_erased_with_files_and_traces(here: Here) -> None:
    file = await here.arrives(here.telegram.add_file(PNG, "x"), "image")
    async with here.fetching():
        await here.until(file, "stored")
    other = uuid4()
    await here.db.engine(_another, other)
    await here.db.engine(_traces, here.conversation, other)
    (contact,) = await here.db.tenant(JUNE, contacts.search_contacts, JUNE, "Anna", 10)
    erased = await here.files.erase(JUNE, contact.id, "admin@june.example")
    assert erased is not None
    assert (erased.contacts, erased.conversations, erased.messages, erased.files) == (1, 1, 1, 1)
    assert await here.db.engine(_left, "secret of 77") == []
    assert await here.db.engine(_left, "secret of 177") == ["dead_letters", "deliveries", "integration_logs", "journal"]
    assert list(_files_below(here.folder / "recordings")) == []
    assert await here.files.erase(JUNE, contact.id, "admin@june.example") is None
    (entry,) = await here.db.engine(_audit)
    assert entry == (
        "contact.erased",
        str(contact.id),
        "1 conversations, 1 messages, 1 files, 0 orders, 0 texts of calls",
    )


def _files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _readable(folder: Path, text: bytes) -> list[Path]:
    return [file for file in _files_below(folder) if text in file.read_bytes()]


async def _objects(conn: Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM recording_blobs"))


async def _forget(conn: Connection, file: UUID) -> None:
    await conn.execute("DELETE FROM chat_files WHERE file_id = $1", file)


async def _age(conn: Connection, file: UUID) -> None:
    await conn.execute(
        "UPDATE chat_files SET created_at = now() - $2::interval WHERE file_id = $1", file, timedelta(hours=25)
    )


async def _age_message(conn: Connection, file: UUID, days: int) -> None:
    await conn.execute(
        "UPDATE messages m SET created_at = now() - $2::interval FROM chat_files f WHERE f.file_id = $1 AND f.message_id = m.message_id",
        file, timedelta(days=days),
    )  # fmt: skip


async def _happening(conn: Connection, conversation: UUID, days: int) -> None:
    await conn.execute(
        "INSERT INTO conversation_happenings (tenant_id, conversation_id, kind, author, text, at) "
        "VALUES ($1, $2, 'note', 'human:1', 'x', now() - $3::interval)",
        JUNE, conversation, timedelta(days=days),
    )  # fmt: skip


async def _keep(conn: Connection, days: int) -> None:
    await conn.execute(
        "UPDATE tenants SET options = jsonb_build_object('chats', jsonb_build_object('keep_days', $1::int))", days
    )


async def _another(conn: Connection, conversation: UUID) -> None:
    contact = await contacts.insert_contact(conn, JUNE, "Boris", (), ())
    await conn.execute(
        "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner) "
        "VALUES ($1, $2, 'telegram', '177', $3, 'none')",
        JUNE, conversation, contact,
    )  # fmt: skip


async def _traces(conn: Connection, *two: UUID) -> None:
    """Of both clients, whose addresses are 77 and 177."""
    for conversation, address in zip(two, ("77", "177"), strict=True):
        body = json.dumps({"chat": {"id": int(address)}, "text": f"secret of {address}"})
        await conn.execute(
            "INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data, status, subject_kind, subject_id) "
            "VALUES ($1, 'telegram', 'incoming', $2, '', 'received', 'chat', $3)",
            JUNE, body, str(conversation),
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO journal (tenant_id, address, unique_id, digest, body, stream, done_at) VALUES ($1, 'hook/telegram', $3, $4, $2, 'chats', now())",
            JUNE, body, address, address.encode(),
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO dead_letters (tenant_id, actor, message, trace, version) VALUES ($1, 'tenant/0367/chats', $2, '', '1')",
            JUNE,
            body,
        )
        await conn.execute(
            "INSERT INTO deliveries (tenant_id, integration_type, subject_kind, subject_id, lane, key, kind, body, keep_until) "
            "VALUES ($1, 'telegram', 'chat', $3, 'l' || $3, 'k' || $3, 'message', $2, now())",
            JUNE, body, str(conversation),
        )  # fmt: skip


async def _left(conn: Connection, text: str) -> list[str]:
    """The tables that still hold a text."""
    found = []
    for table in ("dead_letters", "deliveries", "integration_logs", "journal"):
        if await conn.fetchval(f"SELECT count(*) FROM {table} x WHERE strpos(x::text, $1) > 0", text):
            found.append(table)
    return found


async def _audit(conn: Connection) -> list[tuple[str, str, str]]:
    rows = await conn.fetch("SELECT action, target, detail FROM audit WHERE action LIKE 'contact.%'")
    return [tuple(row) for row in rows]
