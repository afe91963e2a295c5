"""One tenant's chats: reads updates of its messengers from the journal, in order, and commits the results.

    webhook or stream --> journal (durable, repeats known) --> this actor --> one commit: log lines, updates done

For now what people write is seen in the integration's log; conversations come with the inbox. Like the actor of calls it
writes under the epoch of the tenant's shard: an actor that another instance has replaced changes nothing.
"""

import logging

import trio

from actors.chats.inbox import ADDRESS
from actors.runtime.directory import Slot
from actors.services import CHATS, Services
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey
from gateway.store.journal import PendingPost, select_pending_posts
from gateway.store.updates import UpdateLine, record_updates
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

STREAM = "chats"
AT_ONCE = 200
LOOK_EVERY_S = 30.0
LOOK_BACK_S = 5.0
"""After news the journal is read once more: a row may be committed behind one that was read."""
RETRY_CAP_S = 5.0


class TenantChats:
    """Runs under supervision, one for each tenant with a messenger that people can write to."""

    def __init__(self, tenant: Tenant, services: Services, epoch: int) -> None:
        self.tenant = tenant
        self.services = services
        self.epoch = epoch

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        number, bells = self.tenant.number, self.services.bells
        pause, wait_s = 0.2, 0.0
        with bound(tenant=number):
            while True:
                bell = bells.listen(number, CHATS)
                try:
                    found = await self._once(slot)
                except Unavailable:
                    slot.report(State.DEGRADED, "database_away")
                    await trio.sleep(pause)
                    pause = min(pause * 2, RETRY_CAP_S)
                    continue
                slot.report(State.ONLINE)
                pause = 0.2
                if found == AT_ONCE:
                    continue
                wait_s = LOOK_BACK_S if found else LOOK_EVERY_S
                with trio.move_on_after(wait_s):
                    await bell.wait()

    async def _once(self, slot: Slot) -> int:
        """Reads what waits and commits the results. Returns the number of rows."""
        number, db = self.tenant.number, self.services.db
        (waiting,) = await db.engine(select_pending_posts, [(number, 0)], AT_ONCE, STREAM)
        if waiting and not await db.engine(record_updates, number, self.epoch, [_line(post) for post in waiting]):
            COUNTERS["stale_writes_refused"] += 1
            log.warning("a stale write was refused: the tenant is another instance's")
            slot.report(State.STOPPED, "another_instance")
            await trio.sleep_forever()
        return len(waiting)


def _line(post: PendingPost) -> UpdateLine:
    key = IntegrationKey(post.address.removeprefix(ADDRESS))
    return UpdateLine(post.journal_id, post.received_at, key, post.unique_id, post.body)
