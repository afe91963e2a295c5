"""One person's data as it is handed out: what messengers brought of them and what they were answered, the files of it, what they ordered,
and the texts of calls with numbers of theirs that a messenger confirmed.

A person is a contact with everything that was merged into it. Calls and recordings are no part of it, as in `personal_data.py`, which
erases the same. Read `gateway/cli/contacts.py` and `gateway/web/pages/person_data.py` for who asks.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import trio

from gateway.domain.ids import TenantId
from gateway.domain.orders import Order
from gateway.domain.transcripts import unpacked
from gateway.store import contacts, conversations, messages
from gateway.store.ai_answers import select_tool_calls
from gateway.store.audit import insert_audit
from gateway.store.call_transcripts import BODY, SUMMARY, TABLE, select_transcripts_of_phones
from gateway.store.files.blobs import Missing
from gateway.store.files.chat_files import ChatFiles
from gateway.store.messages import StoredMessage
from gateway.store.orders import OrderFilter, select_orders
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection
from gateway.store.secrets.seal import Sealer

AT_ONCE = 500
"""Messages that are read at a time."""
MOST_BESIDE = 100_000


async def select_person_data(
    conn: Connection, tenant: TenantId, contact: UUID, sealer: Sealer | None = None
) -> dict[str, Any] | None:
    """All of a person, as it is written; None where there is no such contact. `path` of a file is its place in an archive, None where
    it is not stored. `sealer` opens the texts of calls."""
    person = await contacts.select_contact(conn, tenant, contact)
    if person is None:
        return None
    found = []
    for seen in await conversations.select_conversations_of_contact(conn, tenant, person.id):
        one = seen.conversation
        beside = await conversations.select_happenings(conn, tenant, one.id, most=MOST_BESIDE)
        calls = await select_tool_calls(conn, tenant, one.id, MOST_BESIDE)
        found.append({
            "id": one.id, "channel": one.integration, "address": one.address, "name": one.name, "username": one.username,
            "language": one.language, "messages": await _messages(conn, tenant, one.id),
            "events": [{"kind": each.kind, "author": each.author, "text": each.text, "message": each.message, "at": each.at} for each in beside],
            "ai_tools": [{"name": each.name, "arguments": each.arguments, "outcome": each.outcome} for each in calls],
        })  # fmt: skip
    return {
        "id": person.id, "name": person.name, "phones": [one.phone for one in person.phones], "emails": list(person.emails),
        "created_at": person.created_at, "updated_at": person.updated_at, "conversations": found,
        "orders": [_order(one) for one in await _orders(conn, tenant, person.id)],
        "calls": await _calls(conn, tenant, [one.phone for one in person.phones if one.confirmed], sealer),
    }  # fmt: skip


async def export_person(
    conn: Connection, tenant: TenantId, contact: UUID, actor: str, sealer: Sealer | None = None
) -> dict[str, Any] | None:
    """A person's data, and a line in the audit that `actor` took them; None where there is no such contact."""
    data = await select_person_data(conn, tenant, contact, sealer)
    if data is not None:
        await insert_audit(conn, tenant, actor, "contact.exported", str(data["id"]))
    return data


async def person_files(
    files: ChatFiles, tenant: TenantId, data: dict[str, Any], threads: trio.CapacityLimiter
) -> AsyncIterator[tuple[str, bytes]]:
    """The files of an archive, one at a time (20 MiB at most), `contact.json` last. Raises Unavailable."""
    for one in data["conversations"]:
        for message in one["messages"]:
            for file in message["files"]:
                content = await _content(files, tenant, file["id"]) if file["path"] else None
                if content is None:
                    file["path"] = None
                else:
                    yield file["path"], content
    write = partial(json.dumps, data, ensure_ascii=False, indent=2, default=str)
    yield "contact.json", (await trio.to_thread.run_sync(write, limiter=threads)).encode()


async def _content(files: ChatFiles, tenant: TenantId, file: UUID) -> bytes | None:
    """None where the file has gone meanwhile or does not open any more."""
    found = await files.find(tenant, file)
    if found is None:
        return None
    try:
        opened = await files.open(tenant, found.blob)
        return b"".join([piece async for piece in opened.read(0, opened.size)])
    except (Missing, Unsealable):
        return None


async def _messages(conn: Connection, tenant: TenantId, conversation: UUID) -> list[dict[str, Any]]:
    found, after = list[dict[str, Any]](), 0
    while batch := await messages.select_messages(conn, tenant, conversation, AT_ONCE, after=after):
        found += [_message(one) for one in batch]
        after = batch[-1].seq
    return found


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


async def _orders(conn: Connection, tenant: TenantId, contact: UUID) -> list[Order]:
    found, before = list[Order](), None
    while batch := await select_orders(conn, tenant, OrderFilter(contact=contact), AT_ONCE, before):
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


async def _calls(
    conn: Connection, tenant: TenantId, phones: Sequence[str], sealer: Sealer | None
) -> list[dict[str, Any]]:
    """The texts of calls with these numbers; None in place of one that does not open."""
    found = []
    for row in await select_transcripts_of_phones(conn, tenant, phones, MOST_BESIDE) if phones else ():
        text, summary = None, None
        if sealer is not None:
            with suppress(Unsealable):
                place = str(row.recording_id)
                opened = unpacked(sealer.open(row.body, table=TABLE, column=BODY, row=place).reveal())
                if row.summary:
                    summary = sealer.open(row.summary, table=TABLE, column=SUMMARY, row=place).reveal()
                text = [
                    {"channel": one.channel, "start_s": one.start_s, "end_s": one.end_s, "text": one.text}
                    for one in opened
                ]
        found.append({
            "call": row.call_id, "recording": row.recording_id, "at": row.made_at, "language": row.language, "text": text,
            "summary": summary,
        })  # fmt: skip
    return found
