"""What people and programs do with runs of deals: replay, carry a deal now. Each is audited, and the actor is woken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.deals.desk import DealDesk
from gateway.domain.deal_routes import DealRoute
from gateway.domain.ids import IntegrationKey, TenantId, uuid7
from gateway.store.audit import insert_audit
from gateway.store.deal_pages import RunFilter, replay_runs
from gateway.store.deal_runs import NewRun, insert_runs, select_last_domain
from gateway.store.integration_jobs import hasten_job
from gateway.store.postgres.pool import Connection, Database

MOST_AT_ONCE = 500
BY_HAND = "BY_HAND"
"""The event of a run that a person has wished for."""


@dataclass(frozen=True, kw_only=True)
class DealWork:
    """For pages and the API."""

    db: Database
    ring: Callable[[TenantId], None]
    """Wakes the actor of a company's deals, wherever it is."""
    desk: DealDesk | None = None
    """Without it no side can be looked at."""

    async def replay(self, number: TenantId, wanted: RunFilter, person: str) -> int:
        """Makes the runs due again; how many."""
        pairs = await self.db.tenant(number, _replay, number, wanted, person)
        self.ring(number)
        return len(pairs)

    async def carry(self, number: TenantId, route: DealRoute, deals: Sequence[int], person: str) -> int:
        """Makes a run of each deal, whatever was carried before."""
        now = datetime.now(UTC)
        domain = await self.db.tenant(number, select_last_domain, number, route.source)
        runs = [
            NewRun(correlation=uuid7(), route=route.name, source=route.source, target=route.target, deal_id=deal, event=BY_HAND,
                   domain=domain, received_at=now, forced=True)
            for deal in deals[:MOST_AT_ONCE]
        ]  # fmt: skip
        await self.db.tenant(number, _carry, number, runs, person, route.name)
        self.ring(number)
        return len(runs)

    async def compare(self, number: TenantId, key: IntegrationKey) -> bool:
        """Has an integration's routes compared now."""
        return await self.db.tenant(number, hasten_job, number, key, "deals")


async def _replay(conn: Connection, number: TenantId, wanted: RunFilter, person: str) -> list[tuple[str, str]]:
    async with conn.transaction():
        pairs = await replay_runs(conn, number, wanted)
        if pairs:
            what = wanted.route or (str(wanted.run_id) if wanted.run_id is not None else wanted.state or "")
            await insert_audit(conn, number, person, "deals.replayed", what, str(len(pairs)))
    return pairs


async def _carry(conn: Connection, number: TenantId, runs: Sequence[NewRun], person: str, route: str) -> None:
    async with conn.transaction():
        await insert_runs(conn, number, runs)
        await insert_audit(conn, number, person, "deals.carried", route, str(len(runs)))
