"""What a visitor sees of their conversation: messages, who answers, whether the company is at work. Nothing of colleagues but names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cachetools import TTLCache

from adapters.widget import client_id_of
from gateway.domain.chats import CLIENT, OWNER_AI, OWNER_QUEUE, Conversation, is_human
from gateway.domain.ids import TenantId, utc_text
from gateway.domain.profile import is_open
from gateway.store import members, messages
from gateway.store.business_profiles import select_profile
from gateway.store.messages import StoredMessage
from gateway.store.postgres.pool import Connection
from gateway.store.visitors import select_place
from gateway.web.widget.deps import Place, WidgetDeps

PAGE = 100
LATEST = 1 << 30


@dataclass
class Names:
    """What people of a company are called, for a minute at a time."""

    deps: WidgetDeps
    _known: TTLCache[tuple[TenantId, str], str] = field(default_factory=lambda: TTLCache(maxsize=2000, ttl=60.0))

    async def of(self, tenant: TenantId, author: str) -> str:
        """The name of a person, never their address; empty for anybody else."""
        if not is_human(author):
            return ""
        known: str | None = self._known.get((tenant, author))
        if known is None:
            try:
                found = await self.deps.db.engine(members.select_member, tenant, UUID(author.removeprefix("human:")))
            except ValueError:
                found = None  # a key of the API
            known = self._known[tenant, author] = found.name if found is not None else ""
        return known


async def conversation_of(deps: WidgetDeps, place: Place, address: str) -> Conversation | None:
    """The visitor's conversation; None before they have written."""
    number = place.tenant.number
    return await deps.db.tenant(number, select_place, number, place.integration, address)


async def read_messages(
    deps: WidgetDeps, place: Place, conversation: UUID, after: int | None, before: int | None = None
) -> list[StoredMessage]:
    """Those behind a number, or the last ones before one."""
    number = place.tenant.number

    async def read(conn: Connection) -> list[StoredMessage]:
        if after is None:
            return await messages.select_messages(conn, number, conversation, PAGE, before=before or LATEST)
        return await messages.select_messages(conn, number, conversation, PAGE, after=after)

    return await deps.db.tenant(number, read)


async def shown_messages(names: Names, place: Place, found: Sequence[StoredMessage]) -> list[dict[str, Any]]:
    """Messages as the wire has them."""
    return [
        {
            "id": str(one.id), "seq": one.seq, "direction": one.direction, "author": "human" if is_human(one.author) else one.author,
            "name": await names.of(place.tenant.number, one.author), "text": one.text,
            "attachments": [
                {
                    "id": str(file.id), "kind": file.kind, "name": file.name, "content_type": file.content_type, "size": file.size, "ready": file.state == "stored",
                    "latitude": file.latitude, "longitude": file.longitude,
                }
                for file in one.files
            ],
            "client_id": client_id_of(one.provider_id) if one.author == CLIENT else None,
            "read": one.direction == "in" or one.status == "read", "at": utc_text(one.at),
        }
        for one in found
    ]  # fmt: skip


async def state_of(deps: WidgetDeps, names: Names, place: Place, conversation: Conversation | None) -> dict[str, Any]:
    """Who answers, and whether anybody is there: `answers` is ai, human, queue or nobody; `open` is null without working hours."""
    number = place.tenant.number
    owner = conversation.owner if conversation is not None else ""
    profile = await deps.db.tenant(number, select_profile, number)
    answers = "human" if is_human(owner) else {OWNER_AI: "ai", OWNER_QUEUE: "queue"}.get(owner, "nobody")
    return {
        "answers": answers, "name": await names.of(number, owner),
        "open": is_open(profile, deps.now().astimezone(place.tenant.timezone)),
    }  # fmt: skip
