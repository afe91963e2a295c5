"""Looks up who writes, for messengers whose updates do not say it.

a conversation without a name --> job, due at once --> the integration's client (`NamesPeople`) --> conversation and contact --> pages

Each conversation is asked about once: a messenger that does not tell today does not tell tomorrow either.
"""

from collections.abc import Callable, Sequence
from typing import Any

from actors.feed import Feed
from adapters.base import Adapter
from adapters.channel import NamesPeople
from adapters.jobs import Job, JobContext, JobResult
from gateway.domain.chats import Person, short_name
from gateway.domain.errors import Permanent
from gateway.domain.subjects import Subject
from gateway.store.client_names import Unnamed, name_client, select_unnamed
from gateway.store.postgres.pool import Database

NAMES = "names"
"""Stands in a trigger of the schema too."""
EVERY_S = 3600.0
AT_ONCE = 50
"""Lookups in one run; the next one follows at once."""


def naming_jobs(db: Database, feed: Feed) -> Callable[[Adapter], Sequence[Job]]:
    """The job of an adapter whose clients know people by their addresses."""

    async def look_up(client: NamesPeople, context: JobContext, one: Unnamed) -> None:
        number = context.tenant.number
        try:
            person = await client.person(one.address)
        except Permanent:
            person = Person()
        name, username = short_name(person.name), short_name(person.username)
        await db.tenant(number, name_client, number, one.conversation, name, username)
        if name or username:
            feed.publish(number, Subject("chat", str(one.conversation)))

    async def run(client: Any, context: JobContext) -> JobResult | None:
        number = context.tenant.number
        found = await db.tenant(number, select_unnamed, number, context.key, AT_ONCE)
        for one in found:
            context.attempt.permit()
            await look_up(client, context, one)
        return JobResult(after_s=0.0) if len(found) == AT_ONCE else None

    def jobs_of(adapter: Adapter) -> Sequence[Job]:
        return [Job(NAMES, EVERY_S, run)] if adapter.can(NamesPeople) else []

    return jobs_of
