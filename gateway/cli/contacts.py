"""`gateway contact export` and `gateway contact erase`: one person's data, whether or not a gateway runs.

A person is named by the contact's id or a telephone number of theirs. Read `gateway/store/personal_data.py` for what is theirs.
"""

import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from gateway.cli.api_keys import ACTOR
from gateway.domain.ids import TenantId
from gateway.domain.orders import Order
from gateway.resources import open_blobs
from gateway.settings import Settings
from gateway.store import contacts, conversations, messages
from gateway.store.audit import insert_audit
from gateway.store.files.chat_files import ChatFiles
from gateway.store.messages import StoredMessage
from gateway.store.orders import OrderFilter, select_orders
from gateway.store.personal_data import select_contacts_by_phone
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import MasterKeys
from gateway.store.tenants import select_tenants

Say = Callable[..., None]
AT_ONCE = 500


async def export(
    settings: Settings, db: Database, master: MasterKeys, number: TenantId, who: str, to: Path | None, text_of: Say
) -> int:  # fmt: skip
    """Writes a person's data into a new folder, or a zip where `to` ends so. Returns the exit code."""
    contact = await _find(db, number, who, text_of)
    if contact is None:
        return 1
    target = to or Path(f"contact-{contact}")
    if await trio.Path(target).exists():
        text_of(f"{target} is there already: name another place by --to")
        return 1
    async with _files(settings, db, master, number) as files:
        data = await db.tenant(number, _data, number, contact)
        with _Target(target) as into:
            into.write("contact.json", json.dumps(data, ensure_ascii=False, indent=2, default=str).encode())
            count = await _write_files(files, number, data, into)
    await db.engine(_note_export, number, contact)
    said = sum(len(one["messages"]) for one in data["conversations"])
    print(
        f"{target}: {len(data['conversations'])} conversations, {said} messages, {count} files, {len(data['orders'])} orders"
    )
    return 0


async def erase(
    settings: Settings, db: Database, master: MasterKeys, number: TenantId, who: str, sure: bool, text_of: Say
) -> int:  # fmt: skip
    """Erases a person for good. Returns the exit code."""
    contact = await _find(db, number, who, text_of)
    if contact is None:
        return 1
    if not sure:
        print(
            f"Contact {contact} of {number} will be erased: name, numbers, conversations, messages, files and orders. Calls stay. This cannot "
            "be undone.\nType yes to go on: ",
            end="", flush=True,
        )  # fmt: skip
        if (await trio.to_thread.run_sync(sys.stdin.readline)).strip() != "yes":
            text_of("nothing was erased")
            return 1
    async with _files(settings, db, master, number) as files:
        erased = await files.erase(number, contact, ACTOR)
    if erased is None:
        text_of(f"no contact {who}")
        return 1
    print(
        f"contact {contact}: erased, with {erased.conversations} conversations, {erased.messages} messages, {erased.files} files, {erased.orders} orders"
    )
    return 0


async def _find(db: Database, number: TenantId, who: str, text_of: Say) -> UUID | None:
    if not await db.engine(select_tenants, [number]):
        text_of(f"no tenant {number}")
        return None
    try:
        found = await db.tenant(number, contacts.select_contact, number, UUID(who))
        people = [found.id] if found is not None else []
    except ValueError:
        people = await db.engine(select_contacts_by_phone, number, who)
    if len(people) > 1:
        text_of(f"several contacts have {who}: name one by its id: {', '.join(map(str, people))}")
        return None
    if not people:
        text_of(f"no contact {who}: give its id, or its number as +375296254070")
        return None
    return people[0]


@asynccontextmanager
async def _files(settings: Settings, db: Database, master: MasterKeys, number: TenantId) -> AsyncIterator[ChatFiles]:
    (row,) = await db.engine(select_tenants, [number])
    await master.prepare([(number, row.data_key)])
    sealer = master.sealer(number, row.data_key)
    async with open_blobs(settings) as blobs:
        yield ChatFiles(db, blobs, settings.data_dir / "incoming", {number: sealer}.get)


async def _data(conn: Connection, number: TenantId, contact: UUID) -> dict[str, Any]:
    person = await contacts.select_contact(conn, number, contact)
    assert person is not None
    found = []
    for seen in await conversations.select_conversations_of_contact(conn, number, person.id):
        one = seen.conversation
        beside = await conversations.select_happenings(conn, number, one.id, most=100_000)
        found.append({
            "id": one.id, "channel": one.integration, "address": one.address, "name": one.name, "username": one.username,
            "language": one.language, "messages": await _messages(conn, number, one.id),
            "events": [{"kind": each.kind, "author": each.author, "text": each.text, "message": each.message, "at": each.at} for each in beside],
        })  # fmt: skip
    return {
        "id": person.id, "name": person.name, "phones": [one.phone for one in person.phones], "emails": list(person.emails),
        "created_at": person.created_at, "updated_at": person.updated_at, "conversations": found,
        "orders": [_order(one) for one in await _orders(conn, number, person.id)],
    }  # fmt: skip


async def _messages(conn: Connection, number: TenantId, conversation: UUID) -> list[dict[str, Any]]:
    found, after = list[dict[str, Any]](), 0
    while batch := await messages.select_messages(conn, number, conversation, AT_ONCE, after=after):
        found += [_message(one) for one in batch]
        after = batch[-1].seq
    return found


async def _orders(conn: Connection, number: TenantId, contact: UUID) -> list[Order]:
    found, before = list[Order](), None
    while batch := await select_orders(conn, number, OrderFilter(contact=contact), AT_ONCE, before):
        found += [one.order for one in batch]
        before = found[-1].number
    return found


def _order(one: Order) -> dict[str, Any]:
    return {
        "id": one.id, "number": one.number, "kind": one.kind, "status": one.status, "conversation": one.conversation,
        "items": [
            {"catalog_id": line.catalog_id, "name": line.name, "quantity": str(line.quantity), "price": str(line.price)}
            for line in one.lines
        ],
        "total": str(one.total), "currency": one.currency, "starts_at": one.starts_at, "duration_min": one.duration_min,
        "party": one.party, "comment": one.comment, "delivery": one.delivery, "call_phone": one.call_phone, "call_at": one.call_at,
        "created_by": one.created_by, "created_at": one.created_at, "agreed_at": one.agreed_at,
    }  # fmt: skip


def _message(one: StoredMessage) -> dict[str, Any]:
    return {
        "id": one.id, "direction": one.direction, "author": one.author, "text": one.text, "status": one.status, "at": one.at,
        "files": [
            {"id": file.id, "kind": file.kind, "name": file.name, "content_type": file.content_type, "size": file.size,
             "latitude": file.latitude, "longitude": file.longitude,
             "path": f"files/{file.id}-{file.name.replace('/', '-')}" if file.state == "stored" else None}
            for file in one.files
        ],
    }  # fmt: skip


async def _write_files(files: ChatFiles, number: TenantId, data: dict[str, Any], into: "_Target") -> int:
    count = 0
    listed = [file for one in data["conversations"] for message in one["messages"] for file in message["files"]]
    for file in listed:
        found = await files.find(number, file["id"]) if file["path"] else None
        if found is None:
            continue
        opened = await files.open(number, found.blob)
        whole = b"".join([piece async for piece in opened.read(0, opened.size)])  # 20 MiB at most
        into.write(file["path"], whole)
        count += 1
    return count


async def _note_export(conn: Connection, number: TenantId, contact: UUID) -> None:
    async with conn.transaction():
        await insert_audit(conn, number, ACTOR, "contact.exported", str(contact))


class _Target:
    """A folder or a zip, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> "_Target":
        if self._path.suffix == ".zip":
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._zip = zipfile.ZipFile(os.fdopen(fd, "wb"), "w", zipfile.ZIP_DEFLATED)
        else:
            self._path.mkdir(mode=0o700, parents=True)
        return self

    def write(self, name: str, data: bytes) -> None:
        """One file."""
        if self._zip is not None:
            self._zip.writestr(name, data)
            return
        place = self._path / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            under = self._zip.fp
            self._zip.close()
            if under is not None:
                under.close()
