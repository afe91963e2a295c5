"""`gateway contact export` and `erase` as a person runs them: whole, sealed from others, and only when one is sure."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.resources import open_blobs, open_master_keys
from gateway.settings import read_settings
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import OwnConnection, open_database, open_session
from gateway.store.tenants import select_tenants
from tests.cli.conftest import Command
from tests.cli.test_apply import june, write

pytestmark = [pytest.mark.slow]

JUNE = TenantId("0367")
PHONE = "+375296254070"
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489") + b"\0" * 100_000
CONTACT, CONVERSATION, MESSAGE = uuid4(), uuid4(), uuid4()


async def _rows(conn: OwnConnection, *, twice: bool) -> None:
    for contact in (CONTACT, *([uuid4()] if twice else [])):
        await conn.execute(
            "INSERT INTO contacts (tenant_id, contact_id, root_id, name) VALUES ($1, $2, $2, 'Anna')", JUNE, contact
        )
        await conn.execute(
            "INSERT INTO contact_phones (tenant_id, contact_id, phone) VALUES ($1, $2, $3)", JUNE, contact, PHONE
        )
    await conn.execute(
        "INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner, last_message_at) "
        "VALUES ($1, $2, 'telegram', '77', $3, 'none', now())",
        JUNE, CONVERSATION, CONTACT,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO orders (tenant_id, order_id, number, kind, status, contact_id, conversation_id, total, currency, comment, created_by, "
        "created_at, updated_at) VALUES ($1, gen_random_uuid(), 7, 'order', 'new', $2, $3, 12.50, 'BYN', 'без лука', 'ai', now(), now())",
        JUNE, CONTACT, CONVERSATION,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO order_items SELECT tenant_id, order_id, 1, 'pizza', 'Пицца', 1, 12.50 FROM orders WHERE tenant_id = $1",
        JUNE,
    )
    await conn.execute(
        "INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, text, at) "
        "VALUES ($1, $2, $3, 1, 'in', 'client', 'привет', now())",
        JUNE, MESSAGE, CONVERSATION,
    )  # fmt: skip


async def _attach(conn: OwnConnection, file: UUID) -> None:
    await conn.execute("UPDATE chat_files SET message_id = $2 WHERE file_id = $1", file, MESSAGE)


def prepare(*, twice: bool = False) -> None:
    """A person with one message and a picture."""

    async def main() -> None:
        settings, owner = read_settings(), os.environ["GATEWAY_DATABASE_OWNER_URL"]
        master = await open_master_keys(settings, may_create=False)
        async with open_session(owner) as session:
            await session.run(lambda conn: _rows(conn, twice=twice))
        async with (
            open_database(os.environ["GATEWAY_DATABASE_URL"], size=2, engine_size=2) as db,
            open_blobs(settings) as blobs,
        ):
            (row,) = await db.engine(select_tenants, [JUNE])
            files = ChatFiles(db, blobs, settings.data_dir / "incoming", {JUNE: master.sealer(JUNE, row.data_key)}.get)
            files.clean_spool()
            async with await files.new_file() as incoming:
                await incoming.write(PNG)
                found = await files.add(JUNE, await incoming.finish("price.png"), "price.png", "human:1")
        async with open_session(owner) as session:
            await session.run(_attach, found.file_id)

    trio.run(main)


@pytest.fixture
def applied(command: Command, installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(installation / "var"))
    assert command("apply", write(installation, june())).code == 0
    return installation


def test_a_person_is_exported_whole_and_then_erased(command: Command, applied: Path) -> None:
    prepare()
    folder, packed = applied / "anna", applied / "anna.zip"
    done = command("contact", "export", JUNE, PHONE, "--to", str(folder))
    assert (done.code, done.out) == (0, f"{folder}: 1 conversations, 1 messages, 1 files, 1 orders, 0 texts of calls\n")
    data: dict[str, Any] = json.loads((folder / "contact.json").read_text())
    (message,) = data["conversations"][0]["messages"]
    assert (data["name"], data["phones"], message["text"]) == ("Anna", [PHONE], "привет")
    (order,) = data["orders"]
    assert (order["number"], order["total"], order["comment"], order["items"][0]["name"]) == (
        7,
        "12.50",
        "без лука",
        "Пицца",
    )
    assert (folder / message["files"][0]["path"]).read_bytes() == PNG
    assert (folder.stat().st_mode | (folder / "contact.json").stat().st_mode) & 0o077 == 0
    assert command("contact", "export", JUNE, str(CONTACT), "--to", str(folder)).errors == [
        f"gateway: {folder} is there already: name another place by --to"
    ]
    assert command("contact", "export", JUNE, str(CONTACT), "--to", str(packed)).code == 0
    with zipfile.ZipFile(packed) as read:
        assert read.read(message["files"][0]["path"]) == PNG

    assert command("contact", "erase", JUNE, PHONE, stdin="no\n").errors == ["gateway: nothing was erased"]
    done = command("contact", "erase", JUNE, PHONE, "--yes")
    assert (done.code, done.out) == (
        0,
        f"contact {CONTACT}: erased, with 1 conversations, 1 messages, 1 files, 1 orders, 0 texts of calls\n",
    )
    assert [file for file in (applied / "var" / "recordings").rglob("*") if file.is_file()] == []
    again = command("contact", "erase", JUNE, str(CONTACT), "--yes")
    assert (again.code, again.errors) == (
        1, [f"gateway: no contact {CONTACT}: give its id, or its number as +375296254070"],
    )  # fmt: skip


def test_whoever_is_not_one_is_asked_for_by_id(command: Command, applied: Path) -> None:
    prepare(twice=True)
    refused = command("contact", "erase", JUNE, PHONE, "--yes")
    assert refused.code == 1
    assert "several contacts" in refused.errors[0]
    assert str(CONTACT) in refused.errors[0]
    assert command("contact", "export", "0999", PHONE).errors == ["gateway: no tenant 0999"]
