"""Orders that an outside system has moved: a till, by its webhook. Each in one transaction, before the webhook is answered.

    news -> did we deliver this order there? -> is it further on its way than ours? -> moved, audited, shown, planned for the other CRMs

An order goes forward alone: news that come late or twice change nothing. Read `ordering.py` for what people do to orders,
`adapters/inbound.py` for the news.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from actors.crm.plans import CrmPlans
from actors.feed import Feed
from actors.orders.making import SYSTEM, Applied, By, NotThere, change
from adapters.inbound import SENT_ORDER, OrderNews
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey
from gateway.domain.orders import OrderChange, OrderStatus
from gateway.domain.posts import Invalid
from gateway.domain.subjects import Subject
from gateway.store.conversations import lock_conversation
from gateway.store.external_ids import select_external_ids
from gateway.store.orders import select_order
from gateway.store.postgres.pool import Connection, Database
from gateway.telemetry import COUNTERS

WAY: Mapping[OrderStatus, int] = {"new": 0, "confirmed": 1, "in_progress": 2, "done": 3, "cancelled": 3}
"""How far each status is."""


@dataclass(frozen=True, kw_only=True)
class OutsideOrders:
    """One for the process."""

    db: Database
    feed: Feed
    crm: CrmPlans = field(default_factory=CrmPlans)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def follow(self, tenant: Tenant, key: IntegrationKey, news: Sequence[OrderNews]) -> None:
        """Returns once all of them are stored. Raises Unavailable: the sender repeats, and what was stored changes nothing then."""
        for one in news:
            found = await self.db.tenant(tenant.number, self._moved, tenant, key, one)
            if found is None:
                COUNTERS["order_news_ignored"] += 1
                continue
            applied, woken = found
            COUNTERS["orders_moved"] += 1
            for subject in applied.subjects:
                self.feed.publish(tenant.number, subject)
            self.crm.woken(tenant, woken)

    async def _moved(
        self, conn: Connection, tenant: Tenant, key: IntegrationKey, news: OrderNews
    ) -> tuple[Applied, Sequence[IntegrationKey]] | None:
        try:
            order = UUID(news.order_id)
        except ValueError:
            return None
        sent = await select_external_ids(conn, tenant.number, key, Subject("order", str(order)))
        seen = await select_order(conn, tenant.number, order) if SENT_ORDER in sent else None
        if seen is None:
            return None
        if seen.order.conversation is not None:
            await lock_conversation(conn, tenant.number, seen.order.conversation)
            seen = await select_order(conn, tenant.number, order)  # as it stands now that nobody else changes it
        if seen is None or WAY[news.status] <= WAY[seen.order.status]:
            return None
        by = By(author=SYSTEM, actor=key, now=self.now())
        try:
            applied = await change(conn, tenant, order, OrderChange(status=news.status), by)
        except (NotThere, Invalid):
            return None  # somebody has moved it a moment ago
        return applied, await self.crm.orders(conn, tenant, applied.orders)
