"""What people are told of trouble: troubles as they were last seen, the limit on messages, and letters on their way.

All that one look finds is stored in one transaction with the messages that it makes, so nothing is told twice or lost. The engine's
alone. Read `actors/notices.py` next.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.notices import Due, Notice, Trouble
from gateway.store.outbox import storable
from gateway.store.postgres.pool import Connection

KEEP_S = 48 * 3600.0
LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way: by a delivery of an integration, or by mail where there is no integration."""

    tenant: TenantId
    """Whose integration delivers it."""
    key: str
    integration: IntegrationKey | None = None
    body: str = ""
    recipient: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """One letter that was claimed."""

    tenant: TenantId
    mail_id: int
    recipient: str
    subject: str
    body: str
    attempt: int
    link_purpose: str | None = None
    """Of a letter that is written as it leaves, with a one-time link of this purpose; its subject and body are empty."""


async def select_in_trouble(conn: Connection, tenants: Sequence[TenantId]) -> set[TenantId]:
    """Those of the tenants of whom something is stored."""
    rows = await conn.fetch("SELECT DISTINCT tenant_id FROM notices WHERE tenant_id = ANY($1::text[])", list(tenants))
    return {TenantId(row[0]) for row in rows}


async def select_backlogs(
    conn: Connection, tenants: Sequence[TenantId], older_s: float, more: int
) -> list[tuple[TenantId, str, int, datetime]]:
    """Integrations with deliveries that have waited for long, or with very many: how many wait, and since when."""
    rows = await conn.fetch(
        """
        SELECT tenant_id, integration_type, count(*), min(created_at) FROM deliveries
        WHERE tenant_id = ANY($1::text[]) AND state = 'pending' GROUP BY 1, 2
        HAVING min(created_at) < now() - make_interval(secs => $2) OR count(*) > $3
        """,
        list(tenants),
        older_s,
        more,
    )
    return [(TenantId(row[0]), row[1], row[2], row[3]) for row in rows]


async def note_troubles(
    conn: Connection, tenant: TenantId, troubles: Sequence[Trouble]
) -> tuple[list[Notice], list[datetime], datetime]:
    """Stores what is in trouble now. Returns everything stored, the times of recent messages, and the database's time. The
    caller's transaction holds the tenant's limit."""
    await conn.execute("INSERT INTO notice_limits (tenant_id) VALUES ($1) ON CONFLICT (tenant_id) DO NOTHING", tenant)
    limit = await conn.fetchrow(
        "SELECT sent, clock_timestamp() AS now FROM notice_limits WHERE tenant_id = $1 FOR UPDATE", tenant
    )
    assert limit is not None
    await conn.execute(
        """
        INSERT INTO notices AS n (tenant_id, key, kind, title, detail)
        SELECT $1, r.key, r.kind, r.title, r.detail
        FROM json_to_recordset($2::json) AS r (key text, kind text, title text, detail text)
        ON CONFLICT (tenant_id, key) DO UPDATE SET title = excluded.title, detail = excluded.detail, calm_since = NULL
        """,
        tenant,
        json.dumps([{name: storable(value) for name, value in asdict(one).items()} for one in troubles]),
    )
    await conn.execute(
        "UPDATE notices SET calm_since = clock_timestamp() WHERE tenant_id = $1 AND calm_since IS NULL AND key <> ALL($2::text[])",
        tenant,
        [storable(one.key) for one in troubles],
    )
    rows = await conn.fetch(
        "SELECT key, kind, title, detail, since, calm_since, told_at, reminded_at FROM notices WHERE tenant_id = $1 ORDER BY since, key",
        tenant,
    )
    return [Notice(*row) for row in rows], list(limit["sent"]), limit["now"]


async def note_told(conn: Connection, tenant: TenantId, found: Due, messages: Sequence[Message]) -> None:
    """Stores that people are told of this, with the messages that do it; none for what is only forgotten."""
    gone = [one.key for one in (*found.over, *found.forgotten)]
    await conn.execute("DELETE FROM notices WHERE tenant_id = $1 AND key = ANY($2::text[])", tenant, gone)
    await conn.execute(
        "UPDATE notices SET told_at = coalesce(told_at, clock_timestamp()), reminded_at = clock_timestamp() "
        "WHERE tenant_id = $1 AND key = ANY($2::text[])",
        tenant,
        [one.key for one in (*found.begun, *found.still)],
    )
    if not messages:
        return
    await conn.execute(
        "UPDATE notice_limits SET sent = ARRAY(SELECT at FROM unnest(sent) AS at WHERE at > now() - interval '1 hour') "
        "|| clock_timestamp() WHERE tenant_id = $1",
        tenant,
    )
    await insert_messages(conn, messages)


async def insert_messages(conn: Connection, messages: Sequence[Message]) -> None:
    """Puts messages on their way."""
    for one in messages:
        if one.integration is None:
            await conn.execute(
                "INSERT INTO mails (tenant_id, recipient, subject, body) VALUES ($1, $2, $3, $4)",
                one.tenant, one.recipient, storable(one.subject), storable(one.body),
            )  # fmt: skip
            continue
        await conn.execute(
            "INSERT INTO deliveries (tenant_id, integration_type, lane, key, kind, body, keep_until) "
            "VALUES ($1, $2, $3, $3, 'notice', $4, now() + make_interval(secs => $5)) ON CONFLICT DO NOTHING",
            one.tenant, one.integration, storable(one.key), one.body, KEEP_S,
        )  # fmt: skip


async def insert_link_mail(conn: Connection, tenant: TenantId, recipient: str, purpose: str) -> None:
    """Puts a letter with a one-time link on its way, in place of one that has not left yet. The link is made as the letter leaves."""
    await conn.execute(
        """
        WITH earlier AS (DELETE FROM mails m WHERE m.tenant_id = $1 AND m.recipient = $2 AND m.link_purpose IS NOT NULL)
        INSERT INTO mails (tenant_id, recipient, subject, body, link_purpose) VALUES ($1, $2, '', '', $3)
        """,
        tenant,
        recipient,
        purpose,
    )


async def claim_mails(conn: Connection, most: int) -> list[Mail]:
    """Letters that are due, leased."""
    rows = await conn.fetch(
        """
        UPDATE mails m SET attempt = attempt + 1, lease_until = clock_timestamp() + make_interval(secs => $2)
        FROM (SELECT tenant_id, mail_id FROM mails WHERE run_at <= clock_timestamp()
              AND (lease_until IS NULL OR lease_until < clock_timestamp())
              ORDER BY run_at LIMIT $1 FOR UPDATE SKIP LOCKED) d
        WHERE m.tenant_id = d.tenant_id AND m.mail_id = d.mail_id
        RETURNING m.tenant_id, m.mail_id, m.recipient, m.subject, m.body, m.attempt, m.link_purpose
        """,
        most,
        LEASE_S,
    )
    return [Mail(*row) for row in rows]


async def delete_mail(conn: Connection, mail: Mail) -> None:
    """It was sent, or never can be."""
    await conn.execute("DELETE FROM mails WHERE tenant_id = $1 AND mail_id = $2", mail.tenant, mail.mail_id)


async def put_off_mail(conn: Connection, mail: Mail, after_s: float, problem: str) -> bool:
    """Another try later. False where its time is over, and it is gone."""
    done: str = await conn.execute(
        "DELETE FROM mails WHERE tenant_id = $1 AND mail_id = $2 AND created_at < now() - make_interval(secs => $3)",
        mail.tenant, mail.mail_id, KEEP_S,
    )  # fmt: skip
    if done.endswith(" 1"):
        return False
    await conn.execute(
        "UPDATE mails SET run_at = clock_timestamp() + make_interval(secs => $3), lease_until = NULL, problem = $4 "
        "WHERE tenant_id = $1 AND mail_id = $2",
        mail.tenant, mail.mail_id, after_s, storable(problem)[:500],
    )  # fmt: skip
    return True
