"""Dry runs and comparisons between two strict portals: every difference explained, nothing written."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType, SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from actors.deals.comparing import _until_night, deal_jobs
from actors.deals.desk import DealDesk
from adapters.base import Link
from adapters.registry import adapters
from gateway.domain.configuration import Tenant, integration
from gateway.domain.deal_routes import DealRoute
from gateway.domain.errors import BadSettings
from gateway.domain.ids import Kind
from gateway.domain.secret import Secret
from gateway.store.deal_comparisons import select_comparisons, select_differences
from gateway.store.postgres.pool import Database
from tests.actors.deals.world import JUNE, SOURCE, TARGET, Deals, open_deals, route
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]
pytestmark = pytest.mark.slow


@pytest.fixture
async def deals(db: Database) -> AsyncIterator[Deals]:
    async with open_deals(db) as opened:
        yield opened


def company(deals: Deals, *routes: DealRoute) -> Tenant:
    links = {
        key: integration(key, {"webhook_url": Secret(portal.webhook_url)})
        for key, portal in ((SOURCE, deals.source), (TARGET, deals.target))
    }
    return replace(
        deals.tenant, integrations=MappingProxyType(links), options={"deal_routes": [one.plain() for one in routes]}
    )


def desk_of(deals: Deals, tenant: Tenant) -> DealDesk:
    portals = {SOURCE: deals.source, TARGET: deals.target}

    def link(person: Tenant, linked: Any, settings: Any, **_: Any) -> Link:
        return Link(tenant=person, name=linked.key, base_url=portals[linked.key].base, dial=None)  # type: ignore[arg-type] # trusted

    services: Any = SimpleNamespace(db=deals.db, link=link, cache=SimpleNamespace(tenant=lambda number: tenant))
    return DealDesk(services=services)


async def test_a_dry_run_says_what_would_be_written_and_writes_nothing(deals: Deals) -> None:
    anna = deals.source.add("CONTACT", "+375296254070", NAME="Анна")
    number = deals.source.deal(TITLE="Окна", CATEGORY_ID="1", OPPORTUNITY=5, CONTACT_IDS=[anna])
    one = route(filter={"CATEGORY_ID": ["1"]})
    tenant = company(deals, one)
    desk = desk_of(deals, tenant)
    new = await desk.try_route(tenant, one, number)
    assert (new.verdict, new.target_id, new.source_schema.fields["TITLE"].title) == ("create", None, "Название")
    assert [(each.kind, each.source_id, each.name, each.target_id) for each in new.parties] == [
        ("contact", anna, "Анна", None)
    ]
    assert deals.target.entities == {"LEAD": {}, "CONTACT": {}, "COMPANY": {}, "DEAL": {}}
    await deals.carry([number], one)
    assert (await desk.try_route(tenant, one, number)).verdict == "same"
    deals.source.deal(number, TITLE="Двери")
    changed = await desk.try_route(tenant, one, number)
    rows = {each.field: each for each in changed.rows}
    assert changed.verdict == "update"
    assert (rows["TITLE"].result, rows["TITLE"].wanted, rows["TITLE"].there) == ("changed", "Двери", "Окна")
    assert {rows[name].result for name in ("OPPORTUNITY", "STAGE_ID")} == {"same"}
    assert deals.target.writes.total() == 0
    other = deals.source.deal(CATEGORY_ID="0")
    assert ((await desk.try_route(tenant, one, other)).verdict, (await desk.try_route(tenant, one, 99_999)).verdict) == (
        "filtered", "deal_not_found",
    )  # fmt: skip
    deals.target.remove("DEAL", changed.target_id or 0)
    assert (await desk.try_route(tenant, one, number)).verdict == "recreate"


async def test_a_route_whose_integration_is_gone_says_so(deals: Deals) -> None:
    tenant = company(deals, route())
    tenant = replace(tenant, integrations={SOURCE: tenant.integrations[SOURCE]})
    with pytest.raises(BadSettings):
        await desk_of(deals, tenant).try_route(tenant, route(), 1)


async def test_the_nightly_job_names_what_differs_and_what_is_missing(
    deals: Deals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.deals.comparing.AT_ONCE", 2)
    one = route(contacts=False, company=False)
    tenant = company(deals, one)
    numbers = [deals.source.deal(TITLE=f"Deal {n}", CATEGORY_ID="1") for n in range(5)]
    await deals.carry(numbers[:4], one)
    deals.of(numbers[1])["TITLE"] = "changed by hand"
    removed = int(deals.of(numbers[2])["ID"])
    deals.target.remove("DEAL", removed)
    (job,) = deal_jobs(desk_of(deals, tenant))(adapters()[Kind("bitrix24")])
    settings = adapters()[Kind("bitrix24")].settings.model_validate({"webhook_url": deals.source.webhook_url})
    context: Any = SimpleNamespace(tenant=tenant, key=SOURCE, settings=settings)
    results = []
    for _ in range(6):
        results.append(await job.run(deals.clients[SOURCE], context))
        assert results[-1] is not None
        if results[-1].after_s:
            break
    assert [result.after_s for result in results[:-1] if result is not None] == [0.0, 0.0], (
        "in parts, one after the other"
    )
    found = await deals.db.tenant(JUNE, select_differences, JUNE, None, 50)
    assert {(each.deal_id, each.target_id): [field["field"] for field in each.fields] for each in found} == {
        (numbers[1], int(deals.of(numbers[1])["ID"])): ["TITLE"], (numbers[2], removed): ["ID"], (numbers[4], None): [],
    }  # fmt: skip
    (last,) = (await deals.db.tenant(JUNE, select_comparisons, JUNE)).values()
    assert (last.compared, last.differing, last.missing, last.finished_at is not None) == (4, 2, 1, True)
    assert deals.target.writes.total() == 0
    other: Any = SimpleNamespace(tenant=tenant, key=TARGET, settings=settings)
    assert await job.run(deals.clients[TARGET], other) is None, "no route leads from there"


@pytest.mark.parametrize(("now", "hours"), [("02:00", 1), ("03:00", 24), ("04:00", 23)])
def test_the_night_is_the_companys(now: str, hours: int) -> None:
    moment = datetime.fromisoformat(f"2026-11-29T{now}").replace(tzinfo=ZoneInfo("Europe/Minsk"))
    assert _until_night(moment) == timedelta(hours=hours).total_seconds()
