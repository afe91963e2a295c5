"""One person's data: all that messengers brought of them, to be handed out or erased (GDPR articles 15 and 17, 152-FZ).

A person is a contact with everything that was merged into it. Erased are contact, conversations, messages, files, orders with the times
they hold, deliveries and log lines of all these, the raw updates of which they were made, and the texts of calls with numbers of theirs
that a messenger confirmed. Calls and their recordings are no part of it: they belong to telephone numbers and go with their own
retention. The engine's alone. Read `files/chat_files.py` for who calls it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from gateway.domain.ids import TenantId
from gateway.domain.subjects import SubjectKind
from gateway.store.audit import insert_audit
from gateway.store.call_transcripts import erase_transcripts
from gateway.store.postgres.pool import Connection

LONG_S = 120.0


@dataclass(frozen=True, slots=True)
class Erased:
    """How much went."""

    contacts: int
    conversations: int
    messages: int
    files: int
    orders: int
    transcripts: int
    """Texts of calls."""
    addresses: tuple[str, ...]
    """Of the stored files."""


async def select_contacts_by_phone(conn: Connection, tenant: TenantId, phone: str) -> list[UUID]:
    """The persons with a number, confirmed or typed."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT c.root_id FROM contact_phones p
        JOIN contacts c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id
        WHERE p.tenant_id = $1 AND p.phone = $2 ORDER BY 1
        """,
        tenant,
        phone,
    )
    return [row[0] for row in rows]


async def erase_person(conn: Connection, tenant: TenantId, contact: UUID, actor: str) -> Erased | None:
    """Erases a person and writes down that it was done, not what there was. None where there is no such contact. What the client
    writes from now on makes a new contact."""
    async with conn.transaction():
        people = await conn.fetch(
            """
            SELECT contact_id FROM contacts
            WHERE tenant_id = $1 AND root_id = (SELECT root_id FROM contacts WHERE tenant_id = $1 AND contact_id = $2)
            ORDER BY contact_id FOR UPDATE
            """,
            tenant,
            contact,
        )
        if not people:
            return None
        rows = await conn.fetch(
            """
            SELECT conversation_id, integration_type, address FROM conversations
            WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[]) ORDER BY conversation_id FOR UPDATE
            """,
            tenant,
            [row[0] for row in people],
        )
        ids: list[UUID] = [row["conversation_id"] for row in rows]
        files = await conn.fetch(
            """
            SELECT f.address FROM chat_files f
            JOIN messages m ON m.tenant_id = f.tenant_id AND m.message_id = f.message_id
            WHERE f.tenant_id = $1 AND m.conversation_id = ANY($2::uuid[])
            """,
            tenant,
            ids,
            timeout=LONG_S,
        )
        orders = await conn.fetch(
            "SELECT order_id FROM orders WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[]) FOR UPDATE",
            tenant,
            [row[0] for row in people],
        )
        phones = await conn.fetch(
            "SELECT DISTINCT phone FROM contact_phones WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[]) AND confirmed",
            tenant,
            [row[0] for row in people],
        )
        calls = await erase_transcripts(conn, tenant, [row[0] for row in phones])
        await _erase_subjects(conn, tenant, "chat", ids)
        await _erase_subjects(conn, tenant, "order", [row[0] for row in orders])
        await _erase_subjects(conn, tenant, "contact", [row[0] for row in people])
        await _erase_traces(conn, tenant, [(row["integration_type"], row["address"]) for row in rows])
        gone = await conn.execute(
            "DELETE FROM messages WHERE tenant_id = $1 AND conversation_id = ANY($2::uuid[])",
            tenant,
            ids,
            timeout=LONG_S,
        )
        await conn.execute(
            "DELETE FROM contacts WHERE tenant_id = $1 AND contact_id = ANY($2::uuid[])",
            tenant,
            [row[0] for row in people],
            timeout=LONG_S,
        )
        erased = Erased(
            len(people), len(ids), int(gone.rpartition(" ")[2]), len(files), len(orders), len(calls),
            tuple(sorted({row[0] for row in files if row[0] is not None})),
        )  # fmt: skip
        await insert_audit(
            conn, tenant, actor, "contact.erased", str(contact),
            f"{erased.conversations} conversations, {erased.messages} messages, {erased.files} files, {erased.orders} orders, "
            f"{erased.transcripts} texts of calls",
        )  # fmt: skip
        return erased


async def _erase_subjects(conn: Connection, tenant: TenantId, kind: SubjectKind, ids: Sequence[UUID]) -> None:
    """What was sent about the person, conversations or orders, and what outside systems call them."""
    named = [str(one) for one in ids]
    for statement in (
        "DELETE FROM deliveries WHERE tenant_id = $1 AND subject_kind = $2 AND subject_id = ANY($3::text[])",
        "DELETE FROM integration_logs WHERE tenant_id = $1 AND subject_kind = $2 AND subject_id = ANY($3::text[])",
        "DELETE FROM external_ids WHERE tenant_id = $1 AND subject_kind = $2 AND subject_id = ANY($3::text[])",
    ):
        await conn.execute(statement, tenant, kind, named, timeout=LONG_S)


async def _erase_traces(conn: Connection, tenant: TenantId, places: Sequence[tuple[str, str]]) -> None:
    """What was received, as the journal and dead letters have it."""
    for key, address in places:
        # A whole word of the update: what is processed is of no use but to people who look for a fault.
        mentioned = f"(^|[^0-9A-Za-z]){_literal(address)}($|[^0-9A-Za-z])"
        await conn.execute(
            "UPDATE journal SET body = '{}' WHERE tenant_id = $1 AND address = 'hook/' || $2::text AND done_at IS NOT NULL AND body ~ $3",
            tenant,
            key,
            mentioned,
            timeout=LONG_S,
        )
        await conn.execute(
            "DELETE FROM dead_letters WHERE tenant_id = $1 AND actor = 'tenant/' || $1::text || '/chats' AND message ~ $2",
            tenant,
            mentioned,
            timeout=LONG_S,
        )


def _literal(text: str) -> str:
    """A text as a regular expression of PostgreSQL that matches it alone."""
    return re.sub(r"([^0-9A-Za-z_])", r"\\\1", text)
