"""The approved texts of each messenger of a company, as the last look at the account found them. Works inside one tenant.

Read `actors/chats/templates.py` for who looks, `adapters/channel.py` for what a template is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.postgres.pool import Connection


async def upsert_templates(
    conn: Connection, tenant: TenantId, integration: IntegrationKey, templates: Sequence[Mapping[str, Any]]
) -> None:  # fmt: skip
    """Replaces the list of an integration; one that is gone meanwhile has none."""
    await conn.execute(
        """
        INSERT INTO message_templates (tenant_id, integration_type, templates)
        SELECT tenant_id, integration_type, $3 FROM integrations WHERE tenant_id = $1 AND integration_type = $2
        ON CONFLICT (tenant_id, integration_type) DO UPDATE SET templates = EXCLUDED.templates, read_at = now()
        """,
        tenant,
        integration,
        json.dumps(templates),
    )


async def select_templates(conn: Connection, tenant: TenantId, integration: IntegrationKey) -> list[Mapping[str, Any]]:
    """The list of an integration; empty before the first look."""
    found = await conn.fetchval(
        "SELECT templates FROM message_templates WHERE tenant_id = $1 AND integration_type = $2",
        tenant,
        integration,
    )
    return list(json.loads(found)) if found is not None else []


async def select_message_template(conn: Connection, tenant: TenantId, message: UUID) -> Mapping[str, Any] | None:
    """What a message of ours was made of; None for one that is no template."""
    found = await conn.fetchval(
        "SELECT template FROM messages WHERE tenant_id = $1 AND message_id = $2", tenant, message
    )
    return dict(json.loads(found)) if found is not None else None
