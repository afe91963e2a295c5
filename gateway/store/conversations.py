"""Conversations of a tenant: lists, one, and what people do to it. Works inside one tenant.

Whoever changes a conversation locks its row first (`lock_conversation`), so that two people, or a person and an update of the
messenger, follow each other. `epoch` rises with every change of owner: whoever names the epoch they saw is refused once it has passed.
Read `gateway/store/messages.py` for what is said in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.domain.chats import Conversation
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.chat_batches import CONVERSATION, conversation_of
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection, Record

_SHOWN = ", ".join(f"c.{name.strip()}" for name in CONVERSATION.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a person looks for; what is None does not narrow."""

    state: str | None = None
    owner: str | None = None
    """An owner; `human` is any person, `nobody` is queue or none."""
    channel: str | None = None
    """An integration's key, or a kind: all integrations of it."""
    q: str = ""
    """In names, addresses, phones and texts."""
    texts: bool = True
    """Whether `q` is looked for in texts too."""
    unread: bool | None = None
    waiting: bool | None = None
    only: str | None = None
    """An agent, who sees what waits for somebody and what is theirs; not a person's choice, so it cannot be cleared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A conversation as a list shows it."""

    conversation: Conversation
    root: UUID
    """The contact that the conversation's was merged into, or it itself."""
    contact_name: str
    last_text: str
    last_author: str


def _seen(row: Record) -> Seen:
    return Seen(
        conversation=conversation_of(row), root=row["root_id"], contact_name=row["contact_name"] or row["name"] or row["username"],
        last_text=row["last_text"] or "", last_author=row["last_author"] or "",
    )  # fmt: skip


_JOINED = f"""
SELECT {_SHOWN}, p.root_id, r.name AS contact_name, l.text AS last_text, l.author AS last_author
FROM {{}} c
JOIN contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
JOIN contacts r ON r.tenant_id = p.tenant_id AND r.contact_id = p.root_id
LEFT JOIN messages l ON l.tenant_id = c.tenant_id AND l.conversation_id = c.conversation_id AND l.seq = c.last_seq"""  # noqa: S608 - constant columns
_FROM = _JOINED.format("conversations")


NEWEST = 20_000
"""Messages in which a text is looked for: a search is bounded, however many a company has."""


def said(text: str) -> str:
    """The part of a statement that finds the conversations in whose newer messages a text was said; `text` is its parameter."""
    return f"""said AS MATERIALIZED (
        SELECT DISTINCT conversation_id FROM (
            SELECT conversation_id, text FROM messages WHERE tenant_id = $1 AND {text} <> '' ORDER BY created_at DESC LIMIT {NEWEST}
        ) AS newest WHERE strpos(lower(text), lower({text})) > 0
    )"""  # noqa: S608 - constants


async def select_conversations(
    conn: Connection, tenant: TenantId, filters: Filters, most: int, before: tuple[datetime, UUID] | None = None
) -> list[Seen]:  # fmt: skip
    """The conversations with messages that match, those with the newest message first, behind `before`."""
    # The page is chosen before anything is joined, so that a list costs what its page does and not what all of them do.
    rows = await conn.fetch(
        f"WITH {said('$12')}, page AS MATERIALIZED ("  # noqa: S608 - constants
        """
            SELECT * FROM conversations c
            WHERE c.tenant_id = $1 AND c.last_message_at IS NOT NULL
              AND ($2::text IS NULL OR c.state = $2)
              AND ($3::text IS NULL OR c.owner = $3 OR ($3 = 'human' AND starts_with(c.owner, 'human:'))
                   OR ($3 = 'nobody' AND c.owner IN ('queue', 'none')))
              AND ($4::text IS NULL OR c.integration_type = $4 OR starts_with(c.integration_type, $4 || ':'))
              AND ($5::bool IS NULL OR (c.unread > 0) = $5)
              AND ($6::bool IS NULL OR (c.waiting_since IS NOT NULL) = $6)
              AND ($7 = '' OR strpos(lower(concat_ws(' ', c.name, c.username, c.address)), lower($7)) > 0
                   OR EXISTS (SELECT FROM contacts p JOIN contacts r ON r.tenant_id = p.tenant_id AND r.contact_id = p.root_id
                              WHERE p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id AND strpos(lower(r.name), lower($7)) > 0)
                   OR EXISTS (SELECT FROM contacts p JOIN contacts o ON o.tenant_id = p.tenant_id AND o.root_id = p.root_id
                              JOIN contact_phones n ON n.tenant_id = o.tenant_id AND n.contact_id = o.contact_id
                              WHERE p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id AND strpos(n.phone, $7) > 0)
                   OR c.conversation_id IN (SELECT conversation_id FROM said))
              AND ($11::text IS NULL OR c.owner IN ('queue', 'none', $11))
              AND ($8::timestamptz IS NULL OR (c.last_message_at, c.conversation_id) < ($8, $9))
            ORDER BY c.last_message_at DESC, c.conversation_id DESC LIMIT $10
        )""" + _JOINED.format("page") + " ORDER BY c.last_message_at DESC, c.conversation_id DESC",
        tenant,
        filters.state,
        filters.owner,
        filters.channel,
        filters.unread,
        filters.waiting,
        storable(filters.q),
        before[0] if before is not None else None,
        before[1] if before is not None else None,
        most,
        filters.only,
        storable(filters.q) if filters.texts else "",
    )
    return [_seen(row) for row in rows]


async def select_conversation(conn: Connection, tenant: TenantId, conversation: UUID) -> Seen | None:
    """One, or None."""
    row = await conn.fetchrow(_FROM + " WHERE c.tenant_id = $1 AND c.conversation_id = $2", tenant, conversation)
    return _seen(row) if row is not None else None


async def select_conversations_of_contact(conn: Connection, tenant: TenantId, root: UUID) -> list[Seen]:
    """All of one person, the newest first."""
    rows = await conn.fetch(
        _FROM + " WHERE c.tenant_id = $1 AND p.root_id = $2 ORDER BY c.last_message_at DESC NULLS LAST", tenant, root
    )
    return [_seen(row) for row in rows]


async def lock_conversation(conn: Connection, tenant: TenantId, conversation: UUID) -> Conversation | None:
    """One, locked until the transaction ends; None where there is none."""
    row = await conn.fetchrow(
        f"SELECT {CONVERSATION} FROM conversations WHERE tenant_id = $1 AND conversation_id = $2 FOR UPDATE",  # noqa: S608 - constant columns
        tenant,
        conversation,
    )
    return conversation_of(row) if row is not None else None


async def lock_address(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, address: str
) -> Conversation | None:
    """The same by its place in its channel."""
    row = await conn.fetchrow(
        f"SELECT {CONVERSATION} FROM conversations WHERE tenant_id = $1 AND integration_type = $2 AND address = $3 FOR UPDATE",  # noqa: S608 - constant columns
        tenant,
        integration,
        address,
    )
    return conversation_of(row) if row is not None else None


async def insert_conversation(conn: Connection, tenant: TenantId, made: Conversation) -> bool:
    """A conversation that we begin. False where somebody else has begun it."""
    row = await conn.fetchval(
        """
        INSERT INTO conversations (tenant_id, conversation_id, integration_type, address, contact_id, owner, name)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, integration_type, address) DO NOTHING RETURNING 1
        """,
        tenant,
        made.id,
        made.integration,
        storable(made.address),
        made.contact,
        made.owner,
        storable(made.name),
    )
    return row is not None


async def update_conversation(conn: Connection, tenant: TenantId, changed: Conversation) -> None:
    """Stores what people can change, of a conversation that is locked."""
    await conn.execute(
        """
        UPDATE conversations SET state = $3, owner = $4, epoch = $5, unread = $6, last_seq = $7, last_message_at = $8, waiting_since = $9,
            changed_at = clock_timestamp()
        WHERE tenant_id = $1 AND conversation_id = $2
        """,
        tenant,
        changed.id,
        changed.state,
        changed.owner,
        changed.epoch,
        changed.unread,
        changed.last_seq,
        changed.last_message_at,
        changed.waiting_since,
    )


async def insert_happening(
    conn: Connection, tenant: TenantId, conversation: UUID, kind: str, author: str, text: str = "", message: UUID | None = None
) -> None:  # fmt: skip
    """A note, or a change that people made."""
    await conn.execute(
        """
        INSERT INTO conversation_happenings (tenant_id, conversation_id, kind, author, text, message_id, at)
        VALUES ($1, $2, $3, $4, $5, $6, now())
        """,
        tenant,
        conversation,
        kind,
        author,
        storable(text),
        message,
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the messages of a conversation."""

    id: int
    kind: str
    author: str
    text: str
    message: UUID | None
    at: datetime


async def select_happenings(
    conn: Connection, tenant: TenantId, conversation: UUID, kinds: Sequence[str] | None = None, most: int = 1000
) -> list[Beside]:
    """The newest of a conversation, oldest first; of some kinds where they are named."""
    rows = await conn.fetch(
        """
        SELECT happening_id, kind, author, text, message_id, at FROM conversation_happenings
        WHERE tenant_id = $1 AND conversation_id = $2 AND ($3::text[] IS NULL OR kind = ANY($3))
        ORDER BY happening_id DESC LIMIT $4
        """,
        tenant,
        conversation,
        list(kinds) if kinds is not None else None,
        most,
    )
    return [Beside(*row) for row in reversed(rows)]


async def count_waiting(conn: Connection, tenant: TenantId, only: str | None = None) -> tuple[int, datetime | None]:
    """How many conversations have a client who waits for an answer, and since when the longest does; of those that an agent
    (`only`) may see."""
    row = await conn.fetchrow(
        """
        SELECT count(*), min(waiting_since) FROM conversations
        WHERE tenant_id = $1 AND waiting_since IS NOT NULL AND state = 'open' AND ($2::text IS NULL OR owner IN ('queue', 'none', $2))
        """,
        tenant,
        only,
    )
    assert row is not None
    return row[0], row[1]


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """How many open conversations a person finds in each part of the inbox."""

    mine: int
    queue: int
    unanswered: int
    all: int


async def count_open(conn: Connection, tenant: TenantId, mine: str, only: str | None = None) -> OpenCounts:
    """Of the owner `mine`, of nobody, those in which a client waits, and all; of those that an agent (`only`) may see."""
    row = await conn.fetchrow(
        """
        SELECT count(*) FILTER (WHERE owner = $2), count(*) FILTER (WHERE owner IN ('queue', 'none')),
               count(*) FILTER (WHERE waiting_since IS NOT NULL), count(*)
        FROM conversations
        WHERE tenant_id = $1 AND state = 'open' AND last_message_at IS NOT NULL AND ($3::text IS NULL OR owner IN ('queue', 'none', $3))
        """,
        tenant,
        mine,
        only,
    )
    assert row is not None
    return OpenCounts(*row)


async def select_by_phones(
    conn: Connection, tenant: TenantId, phones: Sequence[str], only: str | None = None
) -> dict[str, UUID]:
    """The conversation with the newest message of each number that a person has, of those that an agent (`only`) may see."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (n.phone) n.phone, v.conversation_id
        FROM contact_phones n
        JOIN contacts o ON o.tenant_id = n.tenant_id AND o.contact_id = n.contact_id
        JOIN contacts p ON p.tenant_id = o.tenant_id AND p.root_id = o.root_id
        JOIN conversations v ON v.tenant_id = p.tenant_id AND v.contact_id = p.contact_id
        WHERE n.tenant_id = $1 AND n.phone = ANY($2) AND v.last_message_at IS NOT NULL
          AND ($3::text IS NULL OR v.owner IN ('queue', 'none', $3))
        ORDER BY n.phone, v.last_message_at DESC
        """,
        tenant,
        list(phones),
        only,
    )
    return {row[0]: row[1] for row in rows}
