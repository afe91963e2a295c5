"""Makes updates of messengers durable, whether a webhook delivered them or a session read them.

They take the path of posted events: the journal or, while PostgreSQL is away, the spool; an update whose provider's id is
known already changes nothing. Read `actors/chats/tenant_chats.py` next for who reads them.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.inbound import Stream, Update
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.journal import PostRow
from gateway.store.outbox import storable
from gateway.telemetry import COUNTERS

ADDRESS = "hook/"
"""What the journal's address of an update begins with; the integration's key follows."""
MOST_ID = 256


@dataclass(frozen=True)
class Inbox:
    """One for the process."""

    put: Callable[[PostRow], Awaitable[bool]]
    """Makes a row durable; whether it is new. Raises Unavailable."""
    ring: Callable[[TenantId], None]
    """Wakes the reader of the tenant's journal."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def store(self, tenant: TenantId, key: IntegrationKey, updates: Sequence[Update], stream: Stream) -> None:
        """Returns once all of them are durable, in their order. Raises Unavailable where they could not be stored: the
        sender repeats, and what was stored meanwhile is recognised then."""
        for update in updates:
            digest = hashlib.sha256(f"{stream}\0{key}\0{update.id}".encode("utf-8", "surrogatepass")).digest()
            body = storable(json.dumps(update.body, ensure_ascii=False, separators=(",", ":")))
            row = PostRow(tenant, f"{ADDRESS}{key}", storable(update.id[:MOST_ID]), digest, body, self.now(), stream)
            new = await self.put(row)
            COUNTERS["updates_accepted" if new else "updates_repeated"] += 1
        if updates:
            self.ring(tenant)
