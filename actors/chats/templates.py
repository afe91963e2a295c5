"""Keeps the lists of approved texts: a job of every messenger that has them, and what people choose from.

job --> the integration's client (`ListsTemplates`) --> message_templates --> REST, the inbox, `Conversing.send`
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.base import Adapter
from adapters.channel import ListsTemplates, MessageTemplate
from adapters.jobs import Job, JobContext, JobResult
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.message_templates import select_templates, upsert_templates
from gateway.store.postgres.pool import Connection, Database

EVERY_S = 3600.0
MOST = 1000
"""Templates of one integration."""


def template_jobs(db: Database) -> Callable[[Adapter], Sequence[Job]]:
    """The job of an adapter whose clients list templates."""

    async def read(client: Any, context: JobContext) -> JobResult | None:
        found = [one.stored() for one in (await client.templates())[:MOST]]
        await db.engine(upsert_templates, context.tenant.number, context.key, found)
        return None

    def jobs_of(adapter: Adapter) -> Sequence[Job]:
        return [Job("templates", EVERY_S, read)] if adapter.can(ListsTemplates) else []

    return jobs_of


async def known_templates(conn: Connection, tenant: TenantId, key: IntegrationKey) -> list[MessageTemplate]:
    """Those of an integration, by name and language."""
    return [_template(one) for one in await select_templates(conn, tenant, key)]


def _template(stored: Mapping[str, Any]) -> MessageTemplate:
    return MessageTemplate(**{**stored, "fields": tuple(stored["fields"])})
