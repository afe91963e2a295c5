"""Two strict portals on loopback and a company whose deals live in both, for the tests of deals: on a real PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import trio

from actors.deals.carrier import Carrier, Ends
from actors.deals.tenant_deals import SchemaMemory
from adapters.base import Link
from adapters.bitrix24.client import connect
from adapters.bitrix24.settings import Bitrix24Settings
from gateway.domain.configuration import Tenant
from gateway.domain.deal_routes import DealRoute
from gateway.domain.deal_runs import RunOutcome
from gateway.domain.ids import IntegrationKey, TenantId, uuid7
from gateway.domain.shards import shard_of
from gateway.store.deal_runs import NewRun, Pair, insert_runs, select_due_runs
from gateway.store.postgres.pool import Connection, Database
from tests.sandbox.bitrix24_deals import DealPortal

JUNE = TenantId("0367")
EPOCH = 3
SOURCE, TARGET = IntegrationKey("bitrix24:partner"), IntegrationKey("bitrix24")
PAIR: Pair = (SOURCE, TARGET)
STAGES = {
    "C1:NEW": "NEW", "C1:PREPARATION": "PREPARATION", "C1:PREPAYMENT_INVOICE": "PREPAYMENT", "C1:EXECUTING": "EXECUTING",
    "C1:FINAL_INVOICE": "FINAL", "C1:WON": "WON", "C1:LOSE": "LOSE",
}  # fmt: skip
MAPPING: Mapping[str, Any] = {
    "TITLE": "TITLE", "OPPORTUNITY": "OPPORTUNITY", "CURRENCY_ID": "CURRENCY_ID",
    "STAGE_ID": {"field": "STAGE_ID", "values": STAGES, "otherwise": "keep"},
    "UF_CRM_PARTNER_ID": "UF_CRM_SOURCE_ID", "SOURCE_DESCRIPTION": {"text": "Import from {source.domain}"},
    "UF_CRM_IMPORT_DATE": {"now": "iso"},
}  # fmt: skip


def route(**more: Any) -> DealRoute:
    """From the partner's portal to ours."""
    return DealRoute.model_validate(
        {
            "name": "partner-to-main", "source": SOURCE, "target": TARGET, "allowed_domains": ["*.example.com"],
            "application_token": DealPortal.APPLICATION_TOKEN, "mapping": dict(MAPPING), "contacts": True, "company": True,
        }
        | more
    )  # fmt: skip


@dataclass
class Deals:
    """Both portals and what carries between them."""

    db: Database
    source: DealPortal
    target: DealPortal
    clients: Mapping[IntegrationKey, Any]
    tenant: Tenant = field(default_factory=lambda: Tenant(JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru"))

    def carrier(self, *routes: DealRoute, pair: Pair = PAIR, epoch: int = EPOCH) -> Carrier:
        ends = Ends(
            pair=pair, source=self.clients[pair[0]], target=self.clients[pair[1]], source_host="partner.example.com",
            schema=SchemaMemory(self.clients[pair[1]]),
        )  # fmt: skip
        return Carrier(self.db, self.tenant, epoch, ends, {one.name: one for one in routes})

    async def tell(
        self, deals: Sequence[int], *, by: str = "partner-to-main", pair: Pair = PAIR, forced: bool = False
    ) -> None:
        """Events become runs."""
        runs = [
            NewRun(correlation=uuid7(), route=by, source=pair[0], target=pair[1], deal_id=one, event="ONCRMDEALUPDATE",
                   domain="partner.example.com", received_at=datetime.now(UTC), forced=forced)
            for one in deals
        ]  # fmt: skip
        await self.db.engine(insert_runs, JUNE, runs)

    async def carry(
        self, deals: Sequence[int], *routes: DealRoute, pair: Pair = PAIR, forced: bool = False
    ) -> list[RunOutcome]:
        """One try at events about these deals."""
        for one in routes or (route(),):
            if one.pair == pair:
                await self.tell(deals, by=one.name, pair=pair, forced=forced)
        return await self.again(*routes, pair=pair)

    async def again(self, *routes: DealRoute, pair: Pair = PAIR) -> list[RunOutcome]:
        """A try at whatever waits."""

        async def due(conn: Connection) -> None:
            await conn.execute("UPDATE deal_runs SET due_at = now() WHERE state = 'waiting'")

        await self.db.engine(due)
        runs = await self.db.engine(select_due_runs, JUNE, pair, 50)
        return await self.carrier(*(routes or (route(),)), pair=pair).carry(runs)

    def of(self, deal: int, portal: DealPortal | None = None) -> dict[str, Any]:
        """The target's deal that a deal of the source is."""
        found = [
            one
            for one in (portal or self.target).entities["DEAL"].values()
            if str(one.get("ORIGIN_ID", "")).endswith(f":{deal}")
        ]
        assert len(found) == 1, found
        return found[0]


@asynccontextmanager
async def open_deals(db: Database, **more: Any) -> AsyncIterator[Deals]:
    """A company, its portals and its clients."""

    async def company(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
            "VALUES ($1, 'June', 'Europe/Minsk', 'BY', 'ru', 'a:b:c')", JUNE,
        )  # fmt: skip
        await conn.execute("UPDATE shards SET epoch = $2 WHERE shard = $1", shard_of(JUNE), EPOCH)

    await db.engine(company)
    source = DealPortal(domain="partner.example.com", **more)
    target = DealPortal(domain="june.example.com", **more)
    async with trio.open_nursery() as nursery:
        clients = {}
        for key, portal in ((SOURCE, source), (TARGET, target)):
            await nursery.start(portal.serve)
            settings = Bitrix24Settings.model_validate({"webhook_url": portal.webhook_url, "request_timeout_s": 5})
            tenant = Tenant(JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
            link = Link(tenant=tenant, name=key, base_url=portal.base, dial=None)  # type: ignore[arg-type] # trusted
            clients[key] = connect(link, settings)
        async with clients[SOURCE] as one, clients[TARGET] as other:
            yield Deals(db, source, target, {SOURCE: one, TARGET: other})
        nursery.cancel_scope.cancel()
