"""Contacts: persons with names, phones and e-mails, one row each, and merges of them that can be undone. Works inside one tenant.

A contact that was merged into another leads to it by `root_id`; lists show roots alone, and a person's phones, conversations and
calls are those of all that lead to the root. Read `gateway/store/conversations.py` next.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from gateway.domain.ids import TenantId
from gateway.store.conversations import said
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class ContactPhone:
    """A number; confirmed by a messenger, or typed."""

    phone: str
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """One person."""

    id: UUID
    name: str
    phones: tuple[ContactPhone, ...]
    emails: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    merges: int
    """How many merges into it are not undone."""


_SELECT = """
SELECT c.contact_id, c.name, c.created_at, c.updated_at,
       (SELECT json_agg(json_build_array(p.phone, p.confirmed) ORDER BY p.confirmed DESC, p.phone)
        FROM (SELECT n.phone, bool_or(n.confirmed) AS confirmed FROM contact_phones n
              JOIN contacts o ON o.tenant_id = n.tenant_id AND o.contact_id = n.contact_id
              WHERE n.tenant_id = c.tenant_id AND o.root_id = c.contact_id GROUP BY n.phone) AS p)::text AS phones,
       (SELECT array_agg(DISTINCT e.email ORDER BY e.email) FROM contact_emails e
        JOIN contacts o ON o.tenant_id = e.tenant_id AND o.contact_id = e.contact_id
        WHERE e.tenant_id = c.tenant_id AND o.root_id = c.contact_id) AS emails,
       (SELECT count(*) FROM contact_merges g
        WHERE g.tenant_id = c.tenant_id AND g.into_id = c.contact_id AND g.undone_at IS NULL) AS merges
FROM contacts c"""


def _contact(row: tuple[object, ...]) -> Contact:
    ident, name, created_at, updated_at, phones, emails, merges = row
    return Contact(
        id=ident, name=name, created_at=created_at, updated_at=updated_at, merges=merges,  # type: ignore[arg-type] # a row
        phones=tuple(ContactPhone(*one) for one in json.loads(phones)) if isinstance(phones, str) else (),
        emails=tuple(emails) if isinstance(emails, list) else (),
    )  # fmt: skip


async def select_contact(conn: Connection, tenant: TenantId, contact: UUID) -> Contact | None:
    """The person that a contact's id leads to, or None."""
    row = await conn.fetchrow(
        _SELECT  # noqa: S608 - constants
        + " WHERE c.tenant_id = $1 AND c.contact_id = (SELECT root_id FROM contacts WHERE tenant_id = $1 AND contact_id = $2)",
        tenant,
        contact,
    )
    return _contact(tuple(row)) if row is not None else None


async def search_contacts(
    conn: Connection, tenant: TenantId, q: str, most: int, before: tuple[datetime, UUID] | None = None, only: str | None = None,
    *, texts: bool = True,
) -> list[Contact]:  # fmt: skip
    """Persons whose name, phone, e-mail, address in a messenger or message (`texts`) holds a text, those changed last first; with
    `only`, those who have a conversation that this agent may see."""
    rows = await conn.fetch(
        f"WITH {said('$7')} "  # noqa: S608 - constants
        + _SELECT
        + """
        WHERE c.tenant_id = $1 AND c.root_id = c.contact_id
          AND ($3::timestamptz IS NULL OR (c.updated_at, c.contact_id) < ($3, $4))
          AND ($2 = '' OR EXISTS (
              SELECT FROM contacts o WHERE o.tenant_id = c.tenant_id AND o.root_id = c.contact_id AND (
                  strpos(lower(o.name), lower($2)) > 0
                  OR EXISTS (SELECT FROM contact_phones n WHERE n.tenant_id = o.tenant_id AND n.contact_id = o.contact_id AND strpos(n.phone, $2) > 0)
                  OR EXISTS (SELECT FROM contact_emails e WHERE e.tenant_id = o.tenant_id AND e.contact_id = o.contact_id
                             AND strpos(lower(e.email), lower($2)) > 0)
                  OR EXISTS (SELECT FROM conversations v WHERE v.tenant_id = o.tenant_id AND v.contact_id = o.contact_id
                             AND (strpos(lower(concat_ws(' ', v.name, v.username, v.address)), lower($2)) > 0
                                  OR (v.conversation_id IN (SELECT conversation_id FROM said)
                                      AND ($6::text IS NULL OR v.owner IN ('queue', 'none', $6))))))))
          AND ($6::text IS NULL OR EXISTS (
              SELECT FROM contacts o JOIN conversations v ON v.tenant_id = o.tenant_id AND v.contact_id = o.contact_id
              WHERE o.tenant_id = c.tenant_id AND o.root_id = c.contact_id AND v.owner IN ('queue', 'none', $6)))
        ORDER BY c.updated_at DESC, c.contact_id DESC LIMIT $5
        """,
        tenant,
        storable(q),
        before[0] if before is not None else None,
        before[1] if before is not None else None,
        most,
        only,
        storable(q) if texts else "",
    )
    return [_contact(tuple(row)) for row in rows]


async def insert_contact(
    conn: Connection, tenant: TenantId, name: str, phones: Sequence[str], emails: Sequence[str]
) -> UUID:
    """A person that somebody entered."""
    made = uuid4()
    await conn.execute(
        "INSERT INTO contacts (tenant_id, contact_id, root_id, name) VALUES ($1, $2, $2, $3)",
        tenant,
        made,
        storable(name),
    )
    await _replace_phones(conn, tenant, made, phones)
    await _replace_emails(conn, tenant, made, emails)
    return made


async def update_contact(
    conn: Connection, tenant: TenantId, contact: UUID, *, name: str | None, phones: Sequence[str] | None, emails: Sequence[str] | None
) -> bool:  # fmt: skip
    """Changes what is given. Numbers that a messenger confirmed stay confirmed. False where there is no such contact."""
    root = await conn.fetchval(
        """
        UPDATE contacts SET name = coalesce($3, name), updated_at = now()
        WHERE tenant_id = $1 AND contact_id = (SELECT root_id FROM contacts WHERE tenant_id = $1 AND contact_id = $2)
        RETURNING contact_id
        """,
        tenant,
        contact,
        storable(name),
    )
    if root is None:
        return False
    if phones is not None:
        await _replace_phones(conn, tenant, root, phones)
    if emails is not None:
        await _replace_emails(conn, tenant, root, emails)
    return True


async def _replace_phones(conn: Connection, tenant: TenantId, root: UUID, phones: Sequence[str]) -> None:
    await conn.execute(
        """
        DELETE FROM contact_phones n USING contacts o
        WHERE n.tenant_id = $1 AND o.tenant_id = $1 AND o.contact_id = n.contact_id AND o.root_id = $2 AND n.phone <> ALL($3)
        """,
        tenant,
        root,
        list(phones),
    )
    await conn.execute(
        """
        INSERT INTO contact_phones (tenant_id, contact_id, phone) SELECT $1, $2, phone FROM unnest($3::text[]) AS r (phone)
        WHERE NOT EXISTS (SELECT FROM contact_phones n JOIN contacts o ON o.tenant_id = n.tenant_id AND o.contact_id = n.contact_id
                          WHERE n.tenant_id = $1 AND o.root_id = $2 AND n.phone = r.phone)
        ON CONFLICT DO NOTHING
        """,
        tenant,
        root,
        list(phones),
    )


async def _replace_emails(conn: Connection, tenant: TenantId, root: UUID, emails: Sequence[str]) -> None:
    await conn.execute(
        """
        DELETE FROM contact_emails e USING contacts o
        WHERE e.tenant_id = $1 AND o.tenant_id = $1 AND o.contact_id = e.contact_id AND o.root_id = $2 AND e.email <> ALL($3)
        """,
        tenant,
        root,
        list(emails),
    )
    await conn.execute(
        "INSERT INTO contact_emails (tenant_id, contact_id, email) SELECT $1, $2, email FROM unnest($3::text[]) AS r (email) ON CONFLICT DO NOTHING",
        tenant,
        root,
        list(emails),
    )


async def add_to_contact(
    conn: Connection, tenant: TenantId, contact: UUID, *, name: str = "", phone: str = "", email: str = ""
) -> None:  # fmt: skip
    """Adds what a client gave; a phone counts as typed. What is empty stays as it is, and so does what is known."""
    await conn.execute(
        """
        WITH named AS (
            UPDATE contacts SET name = coalesce(nullif($3, ''), name), updated_at = now() WHERE tenant_id = $1 AND contact_id = $2
            RETURNING contact_id
        ), phoned AS (
            INSERT INTO contact_phones (tenant_id, contact_id, phone) SELECT $1, contact_id, $4 FROM named WHERE $4 <> ''
            ON CONFLICT DO NOTHING
        )
        INSERT INTO contact_emails (tenant_id, contact_id, email) SELECT $1, contact_id, $5 FROM named WHERE $5 <> ''
        ON CONFLICT DO NOTHING
        """,
        tenant,
        contact,
        storable(name),
        storable(phone),
        storable(email),
    )


async def select_by_phone(conn: Connection, tenant: TenantId, phones: Sequence[str]) -> dict[str, UUID]:
    """The person of each number that a messenger has confirmed: a typed number says nothing of who somebody is."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (p.phone) p.phone, c.root_id FROM contact_phones p
        JOIN contacts c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id
        WHERE p.tenant_id = $1 AND p.phone = ANY($2) AND p.confirmed ORDER BY p.phone, p.added_at
        """,
        tenant,
        list(phones),
    )
    return {row["phone"]: row["root_id"] for row in rows}


async def find_contact(conn: Connection, tenant: TenantId, phones: Sequence[str], emails: Sequence[str]) -> UUID | None:
    """The person who has one of these numbers or addresses: a number that a messenger confirmed before one that was typed, numbers
    before e-mail addresses, whoever had it first. None where there is nobody."""
    found: UUID | None = await conn.fetchval(
        """
        SELECT root_id FROM (
            SELECT c.root_id, CASE WHEN p.confirmed THEN 1 ELSE 2 END AS rank, p.added_at FROM contact_phones p
            JOIN contacts c ON c.tenant_id = p.tenant_id AND c.contact_id = p.contact_id
            WHERE p.tenant_id = $1 AND p.phone = ANY($2)
            UNION ALL
            SELECT c.root_id, 3, e.added_at FROM contact_emails e
            JOIN contacts c ON c.tenant_id = e.tenant_id AND c.contact_id = e.contact_id
            WHERE e.tenant_id = $1 AND lower(e.email) = ANY($3)
        ) AS known ORDER BY rank, added_at, root_id LIMIT 1
        """,
        tenant,
        list(phones),
        [email.lower() for email in emails],
    )
    return found
