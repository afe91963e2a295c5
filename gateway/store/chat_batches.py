"""Reads what events of a tenant's messengers can touch, and commits what became of them: one transaction a batch.

    fence (the tenant's shard is still ours) -> rows, locked -> gateway.domain.chat_fold -> rows written, updates done

A conversation's row is locked while it is folded: a person who takes it or answers waits for that moment, on any instance. Unique
keys make a repeat harmless; where two instances begin the same conversation at once, one transaction fails and is made again. Over 400 lines: each table that a
batch touches has its statement here.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.domain.chat_fold import Book, Changes, Part
from gateway.domain.chats import (
    AddressChanged,
    ChatEvent,
    ClientWrote,
    Conversation,
    Opened,
    PhoneShared,
    StatusReached,
    WroteElsewhere,
)
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.shards import shard_of
from gateway.store.contact_merges import merge_contacts
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

INCOMING = "incoming"
"""The event type of a log line about something that was sent to us."""
CONVERSATION = """conversation_id, integration_type, address, contact_id, state, owner, epoch, unread, last_seq, name, username, language,
       last_message_at, client_wrote_at, waiting_since, blocked_at"""
"""The columns of a conversation, in the order of `conversation_of`."""


@dataclass(frozen=True, slots=True)
class Received:
    """One update and its row of the journal."""

    journal_id: int
    received_at: datetime
    """Of the row: names its partition."""
    integration: IntegrationKey
    provider_id: str
    body: str
    events: tuple[ChatEvent, ...]


class Replaced(Exception):
    """The tenant's shard has passed on to another epoch; nothing was written."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of a batch."""

    touched: frozenset[UUID]
    waiting: int
    """Updates that stay in the journal for now: the batch went no further than their conversation."""
    stored: int
    """Messages."""


def conversation_of(row: Record) -> Conversation:
    """A row with the columns of `CONVERSATION`."""
    return Conversation(
        id=row["conversation_id"], integration=IntegrationKey(row["integration_type"]), address=row["address"],
        contact=row["contact_id"], state=row["state"], owner=row["owner"], epoch=row["epoch"], unread=row["unread"],
        last_seq=row["last_seq"], name=row["name"], username=row["username"], language=row["language"],
        last_message_at=row["last_message_at"], client_wrote_at=row["client_wrote_at"], waiting_since=row["waiting_since"],
        blocked_at=row["blocked_at"],
    )  # fmt: skip


Then = Callable[[Connection, Changes], Awaitable[None]]


async def fold_updates(
    conn: Connection, tenant: TenantId, epoch: int, updates: Sequence[Received], book: Book, now: datetime, then: Then | None = None
) -> Folded:  # fmt: skip
    """Applies updates and marks them done, in one transaction, of which `then` is a part. An update that has to wait holds back what comes after it in its
    conversation. Raises Replaced; Conflict where another instance has begun one of the conversations: to be made again."""
    async with conn.transaction():
        fence = await conn.fetchval(
            "SELECT 1 FROM shards WHERE shard = $1 AND epoch = $2 FOR SHARE", shard_of(tenant), epoch
        )
        if fence is None:
            raise Replaced
        pending = await _still_pending(conn, tenant, updates)
        todo = [update for update in updates if update.journal_id in pending]
        await _read(conn, tenant, todo, book)
        held, done = set[tuple[IntegrationKey, str]](), list[Received]()
        for update in todo:
            places = {(update.integration, event.address) for event in update.events}
            if places & held or not _applied(book, update, now):
                held |= places
            else:
                done.append(update)
        await _write(
            conn,
            tenant,
            book.changes,
            done,
            {update.journal_id: found for update in done if (found := _about(book, update))},
        )
        if then is not None:
            await then(conn, book.changes)
        touched = book.changes.touched | set(book.changed_parts.values())
        return Folded(frozenset(touched), len(todo) - len(done), len(book.changes.messages))


def _about(book: Book, update: Received) -> UUID | None:
    """The conversation of an update, for its log line."""
    for event in update.events:
        address = event.new_address if isinstance(event, AddressChanged) else event.address
        if (known := book.conversations.get((update.integration, address))) is not None:
            return known.id
    return None


def _applied(book: Book, update: Received, now: datetime) -> bool:
    """Applies every event of an update. False where one of them has to wait."""
    applied = [book.apply(update.integration, event, update.received_at, now) for event in update.events]
    return all(applied)


async def _still_pending(conn: Connection, tenant: TenantId, updates: Sequence[Received]) -> set[int]:
    rows = await conn.fetch(
        """
        SELECT j.journal_id FROM unnest($2::bigint[], $3::timestamptz[]) AS r (journal_id, received_at)
        JOIN journal j ON j.tenant_id = $1 AND j.journal_id = r.journal_id AND j.received_at = r.received_at
        WHERE j.done_at IS NULL
        """,
        tenant,
        [update.journal_id for update in updates],
        [update.received_at for update in updates],
    )
    return {row[0] for row in rows}


async def _read(conn: Connection, tenant: TenantId, updates: Sequence[Received], book: Book) -> None:
    places, ids, tokens, phones = (
        set[tuple[str, str]](),
        set[tuple[str, str, str]](),
        set[tuple[str, str]](),
        set[str](),
    )
    for update in updates:
        for event in update.events:
            key = update.integration
            places.add((key, event.address))
            if isinstance(event, AddressChanged):
                places.add((key, event.new_address))
            for name in ("provider_id", "reply_to"):
                if named := getattr(event, name, ""):
                    ids.add((key, event.address, named))
            if isinstance(event, WroteElsewhere | StatusReached) and event.token:
                tokens.add((key, event.token))
            if isinstance(event, ClientWrote | Opened):
                phones.add(event.person.phone)
            elif isinstance(event, PhoneShared | AddressChanged):
                phones.add(event.phone)
                phones.add(getattr(event, "old_phone", ""))
    ordered = sorted(places)
    rows = await conn.fetch(
        f"""
        SELECT {CONVERSATION} FROM conversations c
        WHERE c.tenant_id = $1 AND (c.integration_type, c.address) IN (SELECT * FROM unnest($2::text[], $3::text[]))
        ORDER BY c.conversation_id FOR UPDATE
        """,  # noqa: S608 - constant columns
        tenant,
        [key for key, _ in ordered],
        [storable(address) for _, address in ordered],
    )
    for row in rows:
        found = conversation_of(row)
        book.conversations[found.integration, found.address] = found
    await _read_parts(conn, tenant, sorted(ids), sorted(tokens), book)
    named = sorted(phones - {""})
    if named:
        rows = await conn.fetch(
            """
            SELECT DISTINCT ON (p.phone) p.phone, c.root_id FROM contact_phones p
            JOIN contacts c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id
            WHERE p.tenant_id = $1 AND p.phone = ANY($2) AND p.confirmed ORDER BY p.phone, p.added_at
            """,
            tenant,
            named,
        )
        book.people |= {row["phone"]: row["root_id"] for row in rows}
        contacts = [known.contact for known in book.conversations.values()] + list(book.people.values())
        rows = await conn.fetch(
            "SELECT contact_id, phone FROM contact_phones WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[]) AND phone = ANY($3) AND confirmed",
            tenant,
            contacts,
            named,
        )
        book.confirmed |= {(row["contact_id"], row["phone"]) for row in rows}


async def _read_parts(
    conn: Connection, tenant: TenantId, ids: Sequence[tuple[str, str, str]], tokens: Sequence[tuple[str, str]], book: Book
) -> None:  # fmt: skip
    rows = await conn.fetch(
        """
        SELECT p.*, m.direction FROM (
            SELECT * FROM message_parts WHERE tenant_id = $1
              AND (integration_type, address, provider_id) IN (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]))
            UNION
            SELECT * FROM message_parts WHERE tenant_id = $1
              AND (integration_type, token) IN (SELECT * FROM unnest($5::text[], $6::text[])) AND token <> ''
            UNION
            SELECT * FROM message_parts WHERE tenant_id = $1 AND conversation_id = ANY($7::uuid[]) AND provider_id IS NULL
        ) AS p JOIN messages m ON m.tenant_id = p.tenant_id AND m.message_id = p.message_id
        ORDER BY m.seq, p.part
        """,
        tenant,
        [key for key, _, _ in ids],
        [storable(address) for _, address, _ in ids],
        [storable(named) for _, _, named in ids],
        [key for key, _ in tokens],
        [storable(token) for _, token in tokens],
        [conversation.id for conversation in book.conversations.values()],
    )
    for row in rows:
        part = Part(
            message=row["message_id"], part=row["part"], conversation=row["conversation_id"], out=row["direction"] == "out",
            status=row["status"], provider_id=row["provider_id"] or "", digest=row["digest"],
        )  # fmt: skip
        key = IntegrationKey(row["integration_type"])
        if part.provider_id:
            book.known[key, row["address"], part.provider_id] = part
        elif part.status in ("queued", "unknown"):
            book.unconfirmed.setdefault((key, row["address"]), []).append(part)
        if row["token"]:
            book.tokens[key, row["token"]] = part


Rows = list[dict[str, Any]]


async def _write(
    conn: Connection, tenant: TenantId, changes: Changes, done: Sequence[Received], conversations: Mapping[int, UUID]
) -> None:  # fmt: skip
    """`conversations`: of which one an update is, by its row of the journal."""
    for statement, rows in (
        (_CONTACTS, [{"id": str(one), "name": storable(name)} for one, name in changes.contacts.items()]),
        (_NAMES, [{"id": str(one), "name": storable(name)} for one, name in changes.names.items()]),
        (_PHONES, [{"id": str(one), "phone": storable(phone)} for one, phone in changes.phones]),
        (_TYPED_PHONES, [{"id": str(one), "phone": storable(phone)} for one, phone in changes.typed_phones]),
        (_EMAILS, [{"id": str(one), "email": storable(email)} for one, email in changes.emails]),
        (_NEW_CONVERSATIONS, _conversations(changes, lambda one: one.id in changes.new_conversations)),
        (_CONVERSATIONS, _conversations(changes, lambda one: one.id not in changes.new_conversations)),
        (
            _MOVES,
            [{"integration_type": key, "was": storable(was), "now": storable(now)} for key, was, now in changes.moves],
        ),
        (_MESSAGES, _messages(changes)),
        (_PARTS, _parts(changes)),
        (_FILES, _files(changes)),
        (_STATUSES, _statuses(changes)),
        (_UP_TO, [{"id": str(one), "status": status, "at": at.isoformat()} for one, status, at in changes.up_to]),
        (_HAPPENINGS, _happenings(changes)),
        (_DONE, [_done(update, conversations.get(update.journal_id)) for update in done]),
    ):
        if rows:
            await conn.execute(statement, tenant, json.dumps(rows, ensure_ascii=False))
    for into, other in changes.merges:
        await merge_contacts(conn, tenant, into, other, "messenger")


def _conversations(changes: Changes, wanted: Callable[[Conversation], bool]) -> Rows:
    return [
        {
            "id": str(one.id), "integration_type": one.integration, "address": storable(one.address), "contact": str(one.contact),
            "state": one.state, "owner": one.owner, "epoch": one.epoch, "unread": one.unread, "last_seq": one.last_seq,
            "name": storable(one.name), "username": storable(one.username), "language": storable(one.language),
            "last_message_at": _time(one.last_message_at), "client_wrote_at": _time(one.client_wrote_at),
            "waiting_since": _time(one.waiting_since), "blocked_at": _time(one.blocked_at),
        }
        for one in changes.conversations.values() if wanted(one)
    ]  # fmt: skip


def _messages(changes: Changes) -> Rows:
    return [
        {
            "id": str(one.id), "conversation": str(one.conversation), "seq": one.seq, "direction": one.direction,
            "author": one.author, "text": storable(one.text), "reply_to": str(one.reply_to) if one.reply_to else None,
            "status": one.status, "client_id": one.client_id, "at": one.at.isoformat(),
        }
        for one in changes.messages
    ]  # fmt: skip


def _parts(changes: Changes) -> Rows:
    return [
        {
            "message": str(one.message), "part": one.part, "conversation": str(one.conversation), "integration_type": key,
            "address": storable(address), "provider_id": storable(one.provider_id) or None, "digest": one.digest,
            "status": one.status, "at": at.isoformat(),
        }
        for key, address, one, at in changes.parts
    ]  # fmt: skip


def _files(changes: Changes) -> Rows:
    keys = {part.message: key for key, _, part, _ in changes.parts}
    return [
        {
            "id": str(one.id), "message": str(one.message), "place": one.place, "integration_type": keys[one.message],
            "kind": one.file.kind, "name": storable(one.file.name)[:255], "content_type": storable(one.file.content_type)[:100],
            "size": one.file.size if one.file.size is not None and 0 <= one.file.size < 1 << 63 else None, "latitude": one.file.latitude, "longitude": one.file.longitude,
            "remote": _storable(one.file.remote) if one.file.remote is not None else None,
            "state": "expected" if one.file.remote is not None else "none",
        }
        for one in changes.files
    ]  # fmt: skip


def _storable(remote: Mapping[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in remote.items()}


def _statuses(changes: Changes) -> Rows:
    """The last of each part: an update changes a row once."""
    last: dict[tuple[UUID, int], dict[str, Any]] = {}
    for one in changes.statuses:
        before = last.get((one.message, one.part), {})
        last[one.message, one.part] = {
            "message": str(one.message), "part": one.part, "status": one.status, "error": storable(one.error)[:500],
            "at": one.at.isoformat(), "provider_id": storable(one.provider_id) or before.get("provider_id"),
        }  # fmt: skip
    return list(last.values())


def _happenings(changes: Changes) -> Rows:
    return [
        {
            "conversation": str(one.conversation), "kind": one.kind, "author": one.author, "text": storable(one.text),
            "message": str(one.message) if one.message else None, "at": one.at.isoformat(),
        }
        for one in changes.happenings
    ]  # fmt: skip


def _done(update: Received, conversation: UUID | None) -> dict[str, Any]:
    return {
        "conversation": str(conversation) if conversation is not None else None,
        "journal_id": update.journal_id, "received_at": update.received_at.isoformat(),
        "integration_type": update.integration, "body": storable(update.body),
    }  # fmt: skip


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


_CONTACTS = """
INSERT INTO contacts (tenant_id, contact_id, root_id, name)
SELECT $1, r.id, r.id, r.name FROM json_to_recordset($2::json) AS r (id uuid, name text)"""
_NAMES = """
UPDATE contacts c SET name = r.name, updated_at = now() FROM json_to_recordset($2::json) AS r (id uuid, name text)
WHERE c.tenant_id = $1 AND c.contact_id = r.id AND c.name = ''"""
_PHONES = """
INSERT INTO contact_phones AS p (tenant_id, contact_id, phone, confirmed)
SELECT DISTINCT $1, r.id, r.phone, true FROM json_to_recordset($2::json) AS r (id uuid, phone text)
ON CONFLICT (tenant_id, contact_id, phone) DO UPDATE SET confirmed = true WHERE NOT p.confirmed"""
_TYPED_PHONES = """
INSERT INTO contact_phones (tenant_id, contact_id, phone)
SELECT DISTINCT $1, r.id, r.phone FROM json_to_recordset($2::json) AS r (id uuid, phone text) ON CONFLICT DO NOTHING"""
_EMAILS = """
INSERT INTO contact_emails (tenant_id, contact_id, email)
SELECT DISTINCT $1, r.id, r.email FROM json_to_recordset($2::json) AS r (id uuid, email text) ON CONFLICT DO NOTHING"""
_CONVERSATION_ROWS = """json_to_recordset($2::json) AS r (
    id uuid, integration_type text, address text, contact uuid, state text, owner text, epoch bigint, unread int, last_seq int, name text,
    username text, language text, last_message_at timestamptz, client_wrote_at timestamptz, waiting_since timestamptz,
    blocked_at timestamptz)"""
_NEW_CONVERSATIONS = f"""
INSERT INTO conversations (tenant_id, {CONVERSATION})
SELECT $1, r.* FROM {_CONVERSATION_ROWS}"""  # noqa: S608 - constant columns
_CONVERSATIONS = f"""
UPDATE conversations c
SET address = r.address, contact_id = r.contact, state = r.state, owner = r.owner, epoch = r.epoch, unread = r.unread,
    last_seq = r.last_seq, name = r.name, username = r.username, language = r.language, last_message_at = r.last_message_at,
    client_wrote_at = r.client_wrote_at, waiting_since = r.waiting_since, blocked_at = r.blocked_at,
    changed_at = clock_timestamp()
FROM {_CONVERSATION_ROWS} WHERE c.tenant_id = $1 AND c.conversation_id = r.id"""  # noqa: S608 - constant columns
_MOVES = """
UPDATE message_parts p SET address = r.now FROM json_to_recordset($2::json) AS r (integration_type text, was text, now text)
WHERE p.tenant_id = $1 AND p.integration_type = r.integration_type AND p.address = r.was"""
_MESSAGES = """
INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, text, reply_to, status, client_id, at)
SELECT $1, r.* FROM json_to_recordset($2::json)
     AS r (id uuid, conversation uuid, seq int, direction text, author text, text text, reply_to uuid, status text, client_id text,
           at timestamptz)"""
_PARTS = """
INSERT INTO message_parts (tenant_id, message_id, part, conversation_id, integration_type, address, provider_id, digest, status, at)
SELECT $1, r.* FROM json_to_recordset($2::json)
     AS r (message uuid, part int, conversation uuid, integration_type text, address text, provider_id text, digest text, status text,
           at timestamptz)"""
_FILES = """
INSERT INTO chat_files (tenant_id, file_id, message_id, place, integration_type, kind, name, content_type, size, latitude, longitude,
                        remote, state)
SELECT $1, r.* FROM json_to_recordset($2::json)
     AS r (id uuid, message uuid, place int, integration_type text, kind text, name text, content_type text, size bigint,
           latitude float8, longitude float8, remote jsonb, state text)"""
_STATUSES = """
UPDATE message_parts p
SET status = r.status, error = CASE WHEN r.status = 'failed' THEN r.error ELSE '' END, at = r.at,
    provider_id = coalesce(p.provider_id, r.provider_id)
FROM json_to_recordset($2::json) AS r (message uuid, part int, status text, error text, at timestamptz, provider_id text)
WHERE p.tenant_id = $1 AND p.message_id = r.message AND p.part = r.part"""
_UP_TO = """
UPDATE message_parts p SET status = r.status, at = r.at
FROM json_to_recordset($2::json) AS r (id uuid, status text, at timestamptz), messages m
WHERE p.tenant_id = $1 AND p.conversation_id = r.id AND m.tenant_id = $1 AND m.message_id = p.message_id AND m.direction = 'out'
  AND m.at <= r.at AND p.status = ANY(CASE r.status WHEN 'read' THEN ARRAY['sent', 'delivered'] ELSE ARRAY['sent'] END)"""
_HAPPENINGS = """
INSERT INTO conversation_happenings (tenant_id, conversation_id, kind, author, text, message_id, at)
SELECT $1, r.* FROM json_to_recordset($2::json)
     AS r (conversation uuid, kind text, author text, text text, message uuid, at timestamptz)"""
_DONE = f"""
WITH done AS (
    UPDATE journal j SET done_at = now()
    FROM json_to_recordset($2::json) AS r (journal_id bigint, received_at timestamptz, integration_type text, body text, conversation text)
    WHERE j.tenant_id = $1 AND j.journal_id = r.journal_id AND j.received_at = r.received_at AND j.done_at IS NULL
    RETURNING j.journal_id, r.integration_type, r.body, r.conversation
)
INSERT INTO integration_logs (tenant_id, integration_type, event_type, request_data, response_data, status, subject_kind, subject_id)
SELECT $1, integration_type, '{INCOMING}', body, '', 'received', CASE WHEN conversation IS NULL THEN 'call' ELSE 'chat' END, conversation
FROM done ORDER BY journal_id"""  # noqa: S608 - a constant
