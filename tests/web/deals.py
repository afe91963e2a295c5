"""Two portals of a company that nobody reaches, a route between them, runs in every state and differences: for the tests of pages."""

from datetime import UTC, datetime
from functools import partial

from gateway.domain.deal_routes import DealRoute
from gateway.domain.ids import uuid7
from gateway.domain.secret import Secret
from gateway.store.deal_comparisons import FoundDifference, begin_comparison, note_compared
from gateway.store.deal_runs import NewRun, insert_runs
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import INTEGRATIONS, LinkRow, upsert_link
from gateway.web.content.deal_routes import save_route
from tests.web.world import JUNE, World

SOURCE, TARGET = "bitrix24:2", "bitrix24"
TOKEN = "token-of-the-partner-01"


async def connect_portals(world: World) -> None:
    """Both of them."""
    sealer = world.cache.sealer(JUNE)
    assert sealer is not None
    for name in (TARGET, SOURCE):
        url = Secret(f"https://{name.partition(':')[2] or 'main'}.example.com/rest/1/abcdefgh/")
        sealed = {"webhook_url": sealer.seal(url, table="integrations", column="webhook_url", row=name)}
        await world.db.engine(upsert_link, INTEGRATIONS, JUNE, LinkRow(name, "bitrix24", True, {}, sealed))
    await world.cache.load()


async def add_route(world: World, name: str) -> None:
    """A route with its token."""
    sealer = world.cache.sealer(JUNE)
    assert sealer is not None
    route = DealRoute.model_validate({
        "name": name, "source": SOURCE, "target": TARGET, "application_token": TOKEN, "allowed_domains": ["*.example.com"],
        "mapping": {"TITLE": "TITLE", "STAGE_ID": {"field": "STAGE_ID", "values": {"C1:NEW": "NEW"}, "otherwise": "keep"},
                    "UF_CRM_WHEN": {"now": "iso"}, "SOURCE_DESCRIPTION": {"text": "Import from {source.domain}"}},
    })  # fmt: skip
    await world.db.engine(save_route, JUNE, sealer, route, "admin@june.example")
    await world.cache.load()


async def fill_runs(world: World, route: str) -> None:
    """One that waits, one skipped, one carried, one failed: the deals 100 to 103."""
    runs = [
        NewRun(correlation=uuid7(), route=route, source=SOURCE, target=TARGET, deal_id=100 + n, event="ONCRMDEALUPDATE",
               domain="partner.example.com", received_at=datetime.now(UTC), cause=cause)
        for n, cause in enumerate(("", "filtered", "", ""))
    ]  # fmt: skip

    async def work(conn: Connection) -> None:
        await insert_runs(conn, JUNE, runs)
        await conn.execute(
            "UPDATE deal_runs SET state = CASE source_deal_id WHEN 102 THEN 'success' ELSE 'failed' END, finished_at = now(), attempt = 1, "
            "cause = CASE source_deal_id WHEN 103 THEN 'no_value' ELSE '' END, detail = '<b>STAGE_ID</b>', changed = '{TITLE}' "
            "WHERE source_deal_id >= 102"
        )

    await world.db.engine(work)


async def fill_deals(world: World, route: str = "main") -> None:
    """All of it, and a comparison that has found something."""
    await connect_portals(world)
    await add_route(world, route)
    await fill_runs(world, route)
    await world.db.engine(begin_comparison, JUNE, route)
    found = [
        FoundDifference(route, 102, 502, [{"field": "TITLE", "wanted": "Окна", "there": "Двери"}]),
        FoundDifference(route, 109, None, []),
    ]
    await world.db.engine(partial(note_compared, over=True), JUNE, route, 109, 7, found)
