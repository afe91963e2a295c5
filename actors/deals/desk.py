"""What people do with routes of deals: look at both sides' fields, try a route on a real deal, compare. Writes nothing over there.

A dry run goes the carrier's way up to the point of writing, and says for each field what the source gives, what the target has, and
what that would come to. Used by pages, by the API and by the nightly comparison.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

import trio
from pydantic import ValidationError

from actors.deals.carrier import origin_of
from actors.services import Services
from adapters.base import AdapterSettings
from adapters.deals import CarriesDeals, DealRead, HasOrigin, PartyWanted
from adapters.registry import Linked, integrations
from gateway.domain.configuration import Tenant
from gateway.domain.deal_mapping import Compared, DealSchema, Mapped, Place, compare, judged, map_deal, passes
from gateway.domain.deal_routes import DealRoute
from gateway.domain.errors import BadSettings, GatewayError, Unavailable
from gateway.domain.hosts import host_of_origin
from gateway.domain.ids import IntegrationKey, kind_of
from gateway.domain.reasons import reason
from gateway.store.deal_comparisons import FoundDifference
from gateway.store.deal_runs import Pair, select_last_domain, select_led_back, select_links, select_parties

WITHIN_S = 20.0
"""For what a person waits for."""

Verdict = Literal[
    "create", "update", "same", "filtered", "own_deal", "deal_not_found", "refused", "recreate", "target_removed"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartySeen:
    """A contact or the company of a deal: who it is, and who over there. None: it would be made."""

    kind: str
    source_id: int
    name: str
    target_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What would become of a deal now."""

    deal_id: int
    verdict: Verdict
    target_id: int | None = None
    detail: str = ""
    rows: tuple[Compared, ...] = ()
    parties: tuple[PartySeen, ...] = ()
    source_schema: DealSchema = field(default_factory=DealSchema)
    target_schema: DealSchema = field(default_factory=DealSchema)


@dataclass(frozen=True, kw_only=True)
class DealDesk:
    """One for the process."""

    services: Services

    @asynccontextmanager
    async def open(self, tenant: Tenant, key: IntegrationKey) -> AsyncIterator[tuple[CarriesDeals, AdapterSettings]]:
        """A client of one side. Raises BadSettings where there is none."""
        link, adapter = tenant.integrations.get(key), integrations().get(kind_of(key))
        if link is None or adapter is None or not link.enabled or not adapter.can(CarriesDeals):
            raise BadSettings(f"{key} is not connected or switched off", person=reason("no_deals_there"))
        try:
            settings = adapter.settings.model_validate(dict(link.settings))
        except ValidationError:
            raise BadSettings(f"the settings of {key} are not valid", person=reason("no_deals_there")) from None
        person = replace(tenant, pbxes=(), integrations={})
        async with adapter.connect(self.services.link(person, Linked(key, adapter), settings), settings) as client:
            yield client, settings

    async def schemas(self, tenant: Tenant, pair: Pair) -> tuple[DealSchema | GatewayError, DealSchema | GatewayError]:
        """Both sides' fields and stages, or why one cannot be read."""
        found: dict[IntegrationKey, DealSchema | GatewayError] = {}

        async def read(key: IntegrationKey) -> None:
            try:
                with trio.fail_after(WITHIN_S):
                    async with self.open(tenant, key) as (client, _):
                        found[key] = await client.deal_schema()
            except trio.TooSlowError:
                found[key] = Unavailable("no answer in time")
            except GatewayError as error:
                found[key] = error

        async with trio.open_nursery() as nursery:
            for key in dict.fromkeys(pair):
                nursery.start_soon(read, key)
        return found[pair[0]], found[pair[1]]

    async def try_route(self, tenant: Tenant, route: DealRoute, deal_id: int) -> DryRun:
        """What would become of a deal of the source. Raises what `gateway.domain.errors` lists."""
        try:
            with trio.fail_after(WITHIN_S):
                async with (
                    self.open(tenant, route.pair[0]) as (source, settings),
                    self.open(tenant, route.pair[1]) as (target, _),
                ):
                    host = host_of_origin(settings.origin) if isinstance(settings, HasOrigin) else ""
                    return await self._tried(tenant, route, deal_id, source, target, host)
        except trio.TooSlowError:
            raise Unavailable("no answer in time") from None

    async def _tried(
        self, tenant: Tenant, route: DealRoute, deal_id: int, source: CarriesDeals, target: CarriesDeals, host: str
    ) -> DryRun:
        number, pair, db = tenant.number, route.pair, self.services.db
        read = (await source.read_deals([deal_id], links=True))[deal_id]
        if isinstance(read, GatewayError):
            raise read
        if read is None:
            return DryRun(deal_id=deal_id, verdict="deal_not_found")
        schemas = DryRun(
            deal_id=deal_id,
            verdict="same",
            source_schema=await source.deal_schema(),
            target_schema=await target.deal_schema(),
        )
        if wrong := passes(route, read.fields):
            return replace(schemas, verdict="filtered", detail=wrong)
        own = await db.tenant(number, select_led_back, number, pair, [deal_id])
        if deal_id in own:
            return replace(schemas, verdict="own_deal")
        link = (await db.tenant(number, select_links, number, pair, [deal_id])).get(deal_id)
        wanted = await self._wanted(tenant, route, read, source)
        known = [link.target_id] if link is not None else []
        found = await target.look_up(
            known, [origin_of(number, pair[0], deal_id)], [one for kind, _, one in wanted if kind == "contact"],
            [one for kind, _, one in wanted if kind == "company"], links=route.contacts,
        )  # fmt: skip
        target_id = next((one for one in known if found.deals.get(one) is not None), None)
        there = found.deals.get(target_id) if target_id is not None else None
        if target_id is None and (target_id := found.by_origin.get(origin_of(number, pair[0], deal_id))) is not None:
            there = (await target.look_up([target_id], (), (), (), links=route.contacts)).deals.get(target_id)
        host = await db.tenant(number, select_last_domain, number, pair[0]) or host
        mapped = map_deal(route, read.fields, Place(host, datetime.now(UTC), tenant.timezone))
        pipeline = str(mapped.fields.get("CATEGORY_ID") or (there.fields.get("CATEGORY_ID") if there else None) or "0")
        judged_mapped, _ = judged(mapped, schemas.target_schema, pipeline)
        rows = compare(route, read.fields, judged_mapped, there.fields if there is not None else None)
        parties = tuple(
            PartySeen(kind=kind, source_id=one_id, name=_name(one), target_id=found.parties.get(one.origin))
            for kind, one_id, one in wanted
        )
        return replace(
            schemas, verdict=_verdict(judged_mapped, rows, parties, there, link is not None, route), target_id=target_id,
            rows=rows, parties=parties,
        )  # fmt: skip

    async def _wanted(
        self, tenant: Tenant, route: DealRoute, read: DealRead, source: CarriesDeals
    ) -> list[tuple[str, int, PartyWanted]]:  # fmt: skip
        number, pair = tenant.number, route.pair
        wanted: list[tuple[str, int, PartyWanted]] = []
        companies = [read.company] if route.company and read.company is not None else []
        for kind, ids in (("contact", list(read.contacts) if route.contacts else []), ("company", companies)):
            if not ids:
                continue
            stored = await self.services.db.tenant(number, select_parties, number, pair, kind, ids)
            fields = await source.read_parties("contact" if kind == "contact" else "company", ids)
            for one in ids:
                if (known := fields.get(one)) is not None:
                    origin = f"{number}:{pair[0]}:{kind}:{one}"
                    wanted.append((kind, one, PartyWanted(origin=origin, known=stored.get(one), fields=known)))
        return wanted

    # Comparing.

    async def differences(
        self, tenant: Tenant, route: DealRoute, host: str, source: CarriesDeals, target: CarriesDeals, schema: DealSchema,
        links: Sequence[tuple[int, int]],
    ) -> list[FoundDifference]:  # fmt: skip
        """Which of these deals are not the same on both sides. Those that were removed in the source, or do not fit the filter any more,
        are left alone."""
        read = await source.read_deals([one for one, _ in links], links=False)
        there = await target.read_deals([one for _, one in links], links=False)
        place = Place(host, datetime.now(UTC), tenant.timezone)
        found: list[FoundDifference] = []
        for deal_id, target_id in links:
            deal, other = read.get(deal_id), there.get(target_id)
            for one in (deal, other):
                if isinstance(one, GatewayError):
                    raise one
            if not isinstance(deal, DealRead) or passes(route, deal.fields):
                continue
            if not isinstance(other, DealRead):
                found.append(
                    FoundDifference(
                        route.name, deal_id, target_id, [{"field": "ID", "wanted": str(target_id), "there": ""}]
                    )
                )
                continue
            mapped, _ = judged(map_deal(route, deal.fields, place), schema, str(other.fields.get("CATEGORY_ID") or "0"))
            rows = [
                one
                for one in compare(route, deal.fields, mapped, other.fields)
                if one.result in ("changed", "empty_there")
            ]
            # The host in a text is whatever the event named.
            rows = [one for one in rows if "{source.domain}" not in str(getattr(route.mapping[one.field], "text", ""))]
            if rows:
                fields = [{"field": one.field, "wanted": one.wanted, "there": one.there} for one in rows]
                found.append(FoundDifference(route.name, deal_id, target_id, fields))
        return found


def _name(one: PartyWanted) -> str:
    names = (one.fields.get(name) for name in ("NAME", "LAST_NAME", "TITLE"))
    return " ".join(str(name) for name in names if name)[:200]


def _verdict(
    mapped: Mapped, rows: Sequence[Compared], parties: Sequence[PartySeen], there: DealRead | None, known: bool, route: DealRoute
) -> Verdict:  # fmt: skip
    if mapped.refused:
        return "refused"
    if there is None:
        return "create" if not known else "recreate" if route.recreate else "target_removed"
    contacts = {one.target_id for one in parties if one.kind == "contact"}
    company = next((one.target_id for one in parties if one.kind == "company"), there.company)
    new = contacts - set(there.contacts) or company != there.company
    return "update" if new or any(one.result in ("changed", "empty_there") for one in rows) else "same"
