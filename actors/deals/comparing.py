"""The nightly job of an integration that deals are carried from: both sides of each of its routes are compared, and what differs is named.

Some hundred deals at a time, for a job has a minute: how far it has come stands in the database, and the next run follows at once. Then
the source's deals that were changed since are looked through for those that are not there at all: a portal reports each change once, and
never again. Nothing is carried by it: a person sees what differs, and has it carried.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from actors.deals.carrier import source_of
from actors.deals.desk import DealDesk
from adapters.base import Adapter
from adapters.deals import CarriesDeals, DealRead, HasOrigin
from adapters.jobs import Job, JobContext, JobResult
from gateway.domain.configuration import Tenant
from gateway.domain.deal_mapping import passes
from gateway.domain.deal_routes import DealRoute, routes_of
from gateway.domain.hosts import host_of_origin
from gateway.store.deal_comparisons import (
    Comparison,
    FoundDifference,
    begin_comparison,
    note_compared,
    select_comparisons,
    select_link_page,
)
from gateway.store.deal_runs import select_led_back, select_links

DEALS = "deals"
"""The job's name."""
EVERY_S = 86_400.0
AT_HOUR = 3
"""Of the company's night."""
AT_ONCE, OF_ONE_REQUEST, MOST_CHANGED = 400, 50, 400
LOOK_BACK = timedelta(days=2)


def deal_jobs(desk: DealDesk) -> Callable[[Adapter], Sequence[Job]]:
    """The job of an adapter whose clients carry deals."""

    async def run(client: Any, context: JobContext) -> JobResult | None:
        db, number = desk.services.db, context.tenant.number
        tenant = desk.services.cache.tenant(number)
        routes = _routes(tenant, context.key)
        if tenant is None or not routes:
            return None
        known = await db.engine(select_comparisons, number)
        under_way = [one for one in routes if one.name in known and known[one.name].finished_at is None]
        if not under_way:
            for one in routes:
                await db.engine(begin_comparison, number, one.name)
            known = await db.engine(select_comparisons, number)
            under_way = routes
        host = host_of_origin(context.settings.origin) if isinstance(context.settings, HasOrigin) else ""
        more = await _some(desk, tenant, under_way[0], known[under_way[0].name], client, host)
        if more or len(under_way) > 1:
            return JobResult(after_s=0.0)
        return JobResult(after_s=_until_night(datetime.now(tenant.timezone)))

    def jobs_of(adapter: Adapter) -> Sequence[Job]:
        return [Job(DEALS, EVERY_S, run, first_s=600.0)] if adapter.can(CarriesDeals) else []

    return jobs_of


def _routes(tenant: Tenant | None, key: str) -> list[DealRoute]:
    if tenant is None or not tenant.options.get("deal_routes"):
        return []
    try:
        return [one for one in routes_of(tenant.options, tenant.secrets) if one.enabled and one.source == key]
    except ValidationError:
        return []  # the actor's slot says so


async def _some(
    desk: DealDesk, tenant: Tenant, route: DealRoute, known: Comparison, source: CarriesDeals, host: str
) -> bool:  # fmt: skip
    """A part of one route's comparison. Whether there is more."""
    db, number = desk.services.db, tenant.number
    links = await db.engine(select_link_page, number, route.pair, known.behind, AT_ONCE)
    async with desk.open(tenant, route.pair[1]) as (target, _):
        schema = await target.deal_schema()
        for place in range(0, len(links), OF_ONE_REQUEST):
            group = links[place : place + OF_ONE_REQUEST]
            found = await desk.differences(tenant, route, host, source, target, schema, group)
            await db.engine(note_compared, number, route.name, group[-1][0], len(group), found, over=False)
    if len(links) == AT_ONCE:
        return True
    missing = await _missing(desk, tenant, route, known, source)
    await db.engine(note_compared, number, route.name, links[-1][0] if links else known.behind, 0, missing, over=True)
    return False


async def _missing(
    desk: DealDesk, tenant: Tenant, route: DealRoute, known: Comparison, source: CarriesDeals
) -> list[FoundDifference]:  # fmt: skip
    """Deals of the source that were changed lately, fit the route and are not there at all."""
    db, number = desk.services.db, tenant.number
    changed = await source.changed_deals(known.started_at - LOOK_BACK, MOST_CHANGED)
    links = await db.engine(select_links, number, route.pair, changed)
    own = await db.engine(select_led_back, number, route.pair, changed)
    unknown = [one for one in changed if one not in links and one not in own]
    found: list[FoundDifference] = []
    for place in range(0, len(unknown), OF_ONE_REQUEST):
        for deal_id, deal in (await source.read_deals(unknown[place : place + OF_ONE_REQUEST], links=False)).items():
            if isinstance(deal, DealRead) and not passes(route, deal.fields) and source_of(deal.origin, number) is None:
                found.append(FoundDifference(route.name, deal_id, None, []))
    return found


def _until_night(now: datetime) -> float:
    """Seconds until the next night's hour, by the company's clock."""
    then = now.replace(hour=AT_HOUR, minute=0, second=0, microsecond=0)
    if then <= now:
        then += timedelta(days=1)
    return (then.astimezone(UTC) - now.astimezone(UTC)).total_seconds()
