"""Messages of a conversation: lists, and those that we send, written with their deliveries in one transaction.

A message of ours is parts, each with a delivery of the same key in the conversation's lane; triggers carry what becomes of a
delivery to its part and to the message (`migrations/0038_chats.sql`). Works inside one tenant; the caller has locked the conversation.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.chats import NewMessage
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.outbox import DeliveryRow, deliveries_part, deliveries_rows, storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a message, or one that waits to be sent."""

    id: UUID
    kind: str
    name: str
    content_type: str
    size: int | None
    state: str
    latitude: float | None
    longitude: float | None
    problem: str = ""
    """Why it could not be fetched, of `gateway.domain.chats.FILE_PROBLEMS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One message."""

    id: UUID
    conversation: UUID
    seq: int
    direction: str
    author: str
    text: str
    reply_to: UUID | None
    status: str | None
    error: str
    client_id: str | None
    at: datetime
    provider_id: str | None
    """Of its first part."""
    files: tuple[StoredFile, ...]


_SELECT = """
SELECT m.message_id, m.conversation_id, m.seq, m.direction, m.author, m.text, m.reply_to, m.status, m.error, m.client_id, m.at,
       (SELECT p.provider_id FROM message_parts p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.message_id ORDER BY p.part LIMIT 1),
       (SELECT json_agg(json_build_object('id', f.file_id, 'kind', f.kind, 'name', f.name, 'content_type', f.content_type,
                                          'size', f.size, 'state', f.state, 'problem', f.problem, 'latitude', f.latitude,
                                          'longitude', f.longitude)
                        ORDER BY f.place)
        FROM chat_files f WHERE f.tenant_id = m.tenant_id AND f.message_id = m.message_id)::text
FROM messages m"""


async def select_messages(
    conn: Connection, tenant: TenantId, conversation: UUID, most: int, *, after: int = 0, before: int | None = None
) -> list[StoredMessage]:
    """Messages of a conversation, oldest first: those behind the number `after`, or with `before` the last ones before it."""
    if before is not None:
        rows = await conn.fetch(
            _SELECT + " WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.seq < $3 ORDER BY m.seq DESC LIMIT $4",
            tenant, conversation, before, most,
        )  # fmt: skip
        rows.reverse()
    else:
        rows = await conn.fetch(
            _SELECT + " WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.seq > $3 ORDER BY m.seq LIMIT $4",
            tenant, conversation, after, most,
        )  # fmt: skip
    return [_message(tuple(row)) for row in rows]


async def select_messages_of(
    conn: Connection, tenant: TenantId, conversations: Sequence[UUID], most: int, before: datetime | None = None
) -> list[StoredMessage]:
    """The newest messages of several conversations together, newest first, of those before a moment where one is given."""
    rows = await conn.fetch(
        _SELECT
        + """
        WHERE m.tenant_id = $1 AND m.conversation_id = ANY($2) AND ($3::timestamptz IS NULL OR m.at < $3)
        ORDER BY m.at DESC, m.conversation_id, m.seq DESC LIMIT $4
        """,
        tenant,
        list(conversations),
        before,
        most,
    )
    return [_message(tuple(row)) for row in rows]


async def select_message(conn: Connection, tenant: TenantId, message: UUID) -> StoredMessage | None:
    """One, or None."""
    row = await conn.fetchrow(_SELECT + " WHERE m.tenant_id = $1 AND m.message_id = $2", tenant, message)
    return _message(tuple(row)) if row is not None else None


async def select_by_client_id(
    conn: Connection, tenant: TenantId, conversation: UUID, client_id: str
) -> StoredMessage | None:
    """The message that was sent with this id of its sender, or None."""
    row = await conn.fetchrow(
        _SELECT + " WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.client_id = $3",
        tenant, conversation, storable(client_id),
    )  # fmt: skip
    return _message(tuple(row)) if row is not None else None


_NAMES = [
    "id",
    "conversation",
    "seq",
    "direction",
    "author",
    "text",
    "reply_to",
    "status",
    "error",
    "client_id",
    "at",
    "provider_id",
]


def _message(row: tuple[object, ...]) -> StoredMessage:
    *values, files = row
    fields = dict(zip(_NAMES, values, strict=True))
    found = json.loads(files) if isinstance(files, str) else []
    return StoredMessage(**fields, files=tuple(StoredFile(**{**one, "id": UUID(one["id"])}) for one in found))  # type: ignore[arg-type] # a row


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """A part of a message of ours, and the delivery that sends it."""

    part: int
    digest: str
    delivery: DeliveryRow


async def insert_message(
    conn: Connection, tenant: TenantId, message: NewMessage, integration: IntegrationKey, address: str, parts: Sequence[NewPart],
    files: Sequence[UUID] = (),
) -> None:  # fmt: skip
    """A message with its parts, files and deliveries. A conflict on `client_id` or the number raises Conflict."""
    await conn.execute(
        """
        INSERT INTO messages (tenant_id, message_id, conversation_id, seq, direction, author, text, reply_to, status, client_id, at,
                              template)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        tenant, message.id, message.conversation, message.seq, message.direction, message.author, storable(message.text),
        message.reply_to, message.status, storable(message.client_id), message.at,
        json.dumps(message.template) if message.template is not None else None,
    )  # fmt: skip
    if files:
        await conn.execute(
            """
            UPDATE chat_files f SET message_id = $2, place = r.place::int, integration_type = $4
            FROM unnest($3::uuid[]) WITH ORDINALITY AS r (file_id, place)
            WHERE f.tenant_id = $1 AND f.file_id = r.file_id AND f.message_id IS NULL
            """,
            tenant, message.id, list(files), integration,
        )  # fmt: skip
    if parts:
        await _insert_parts(conn, tenant, message, integration, address, parts)
        await insert_deliveries(conn, tenant, [part.delivery for part in parts])


async def _insert_parts(
    conn: Connection, tenant: TenantId, message: NewMessage, integration: IntegrationKey, address: str, parts: Sequence[NewPart]
) -> None:  # fmt: skip
    await conn.execute(
        """
        INSERT INTO message_parts (tenant_id, message_id, part, conversation_id, integration_type, address, token, digest, status, at)
        SELECT $1, $2, r.part, $3, $4, $5, r.token, r.digest, 'queued', $6
        FROM unnest($7::int[], $8::text[], $9::text[]) AS r (part, token, digest)
        """,
        tenant, message.id, message.conversation, integration, address, message.at, [part.part for part in parts],
        [part.delivery.key for part in parts], [part.digest for part in parts],
    )  # fmt: skip


async def insert_deliveries(conn: Connection, tenant: TenantId, deliveries: Sequence[DeliveryRow]) -> None:
    """Deliveries of parts of messages; those that are there already stay as they are."""
    rows = deliveries_rows([(tenant, one) for one in deliveries], time.monotonic(), frozenset())
    await conn.execute(_DELIVERIES, tenant, json.dumps(rows, ensure_ascii=False))


_DELIVERIES = (
    "WITH whose AS (SELECT $1::text AS tenant_id), "  # noqa: S608 - constants
    + deliveries_part("whose", overtakes=False, leases=False).replace("{deliveries}", "$2::json")
    + " SELECT count(*) FROM new_deliveries"
)


async def select_provider_id(conn: Connection, tenant: TenantId, message: UUID) -> str | None:
    """What the messenger calls a message, or None where it does not know it (yet)."""
    found: str | None = await conn.fetchval(
        "SELECT provider_id FROM message_parts WHERE tenant_id = $1 AND message_id = $2 AND provider_id IS NOT NULL ORDER BY part LIMIT 1",
        tenant,
        message,
    )
    return found


async def retry_message(conn: Connection, tenant: TenantId, message: UUID, keep_s: float) -> list[IntegrationKey]:
    """Sends again the parts that failed or whose outcome is not known. Returns the integrations to wake; none where there was nothing
    to do."""
    rows = await conn.fetch(
        """
        UPDATE deliveries d
        SET state = 'pending', run_at = now(), attempt = 0, finished_at = NULL, problem = NULL, note = '', lease_until = NULL,
            expires_at = NULL, keep_until = now() + make_interval(secs => $3)
        FROM message_parts p
        WHERE p.tenant_id = $1 AND p.message_id = $2 AND p.status IN ('failed', 'unknown')
          AND d.tenant_id = $1 AND d.integration_type = p.integration_type AND d.key = p.token AND d.state <> 'pending'
        RETURNING d.integration_type
        """,
        tenant,
        message,
        keep_s,
    )
    return [IntegrationKey(row[0]) for row in rows]


async def queue_lost_parts(conn: Connection, tenant: TenantId, message: UUID) -> list[str]:
    """Marks the parts that failed long ago, whose deliveries are cleared away, as queued; returns their keys: the caller stores
    their deliveries anew."""
    rows = await conn.fetch(
        """
        UPDATE message_parts p SET status = 'queued', error = '', at = now()
        WHERE p.tenant_id = $1 AND p.message_id = $2 AND p.status IN ('failed', 'unknown') AND p.token <> ''
          AND NOT EXISTS (SELECT FROM deliveries d WHERE d.tenant_id = p.tenant_id AND d.integration_type = p.integration_type
                          AND d.key = p.token)
        RETURNING p.token
        """,
        tenant,
        message,
    )
    return [row[0] for row in rows]


async def select_files(conn: Connection, tenant: TenantId, files: Sequence[UUID]) -> list[StoredFile]:
    """Files that wait to be sent, locked, in the order of the list; those that are not there, or are sent, are missing."""
    rows = await conn.fetch(
        """
        SELECT f.file_id, f.kind, f.name, f.content_type, f.size, f.state, f.latitude, f.longitude
        FROM unnest($2::uuid[]) WITH ORDINALITY AS r (file_id, place)
        JOIN chat_files f ON f.tenant_id = $1 AND f.file_id = r.file_id AND f.message_id IS NULL ORDER BY r.place
        FOR UPDATE OF f
        """,
        tenant,
        list(files),
    )
    return [
        StoredFile(
            id=row[0], kind=row[1], name=row[2], content_type=row[3], size=row[4], state=row[5], latitude=row[6], longitude=row[7]
        )
        for row in rows
    ]  # fmt: skip
