"""`/deals`: routes between CRMs, dry runs, runs and their replays, differences. The same that the pages show and do.

A key of the scope `deals` reads and carries; routes are changed by `write`. A little
over 400 lines: what is sent and shown stands beside the endpoints. Read `gateway/web/content/deal_routes.py` next.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field
from pydantic.config import JsonDict

from gateway.domain.deal_mapping import Compared
from gateway.domain.deal_routes import DealRoute
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import MASK
from gateway.store.deal_comparisons import select_comparisons, select_differences
from gateway.store.deal_pages import RunFilter, SeenRun, search_runs
from gateway.web.content.deal_routes import read_route, remove_route, routes_for, save_route
from gateway.web.content.deal_work import MOST_AT_ONCE, DealWork
from gateway.web.pages.change_settings import sealer_of
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown

READS, CARRIES = ("read", "deals"), ("write", "deals")
State = Literal["waiting", "success", "skipped", "failed"]
MOST_DIFFERENCES = 1000
_ROUTE: JsonDict = {
    "name": "partner-to-main", "enabled": True, "source": "crm:partner", "target": "crm", "events": ["ONCRMDEALADD", "ONCRMDEALUPDATE"],
    "answer_within_ms": 400, "source_field": None, "allowed_domains": ["*.example.com"], "application_token": "***",
    "mapping": {"TITLE": "TITLE", "STAGE_ID": {"field": "STAGE_ID", "values": {"C1:NEW": "NEW"}, "otherwise": "keep"}},
    "contacts": True, "company": True, "recreate": True, "filter": {"CATEGORY_ID": ["1"]},
}  # fmt: skip
_RUN: JsonDict = {
    "id": 17, "correlation_id": "0195b1a2-6f0e-7c8e-9d42-5a0f6f0f2c11", "route": "partner-to-main", "source": "crm:partner", "target": "crm",
    "source_deal_id": 123, "target_deal_id": 456, "event": "ONCRMDEALUPDATE", "state": "success", "cause": "", "detail": "",
    "changed": ["TITLE"], "attempt": 1, "received_at": "2026-11-29T12:00:00Z", "due_at": "2026-11-29T12:00:00Z",
    "finished_at": "2026-11-29T12:00:01Z", "duration_ms": 480,
}  # fmt: skip


class RouteBody(Model):
    """A route, as the tenant file has it; its name stands in the address."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra={"examples": [
        {name: value for name, value in _ROUTE.items() if name != "name"}
    ]})  # fmt: skip

    source: str = Field(description="an integration of the company")
    target: str
    mapping: dict[str, Any] = Field(
        description="by the target's field: a source's field, or a block with field, text or now"
    )


class RouteItem(Shown):
    """A route. `application_token` is `***` where one is stored; sent back so it stays."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_ROUTE]})

    name: str
    enabled: bool
    source: str
    target: str
    events: list[str]
    answer_within_ms: int
    source_field: str | None
    allowed_domains: list[str]
    application_token: str | None
    mapping: dict[str, Any]
    contacts: bool
    company: bool
    recreate: bool
    filter: dict[str, list[str]]


class RoutesList(Shown):
    """All routes."""

    items: list[RouteItem]


class RunItem(Shown):
    """What became of an event on a route."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_RUN]})

    id: int
    correlation_id: UUID
    route: str
    source: str
    target: str
    source_deal_id: int
    target_deal_id: int | None
    event: str
    state: State
    cause: str = Field(description="why it waits, was skipped or failed")
    detail: str
    changed: list[str]
    attempt: int
    received_at: datetime
    due_at: datetime
    finished_at: datetime | None
    duration_ms: int


class RunsPage(Page[RunItem]):
    """Runs, the newest first."""


class RunsQuery(ListQuery):
    """Which runs."""

    route: str | None = Field(None, max_length=40)
    state: State | None = None
    cause: str | None = Field(None, max_length=100)
    deal: int | None = Field(None, ge=1, lt=10**18, description="the number of a deal of either side")
    since: AwareDatetime | None = Field(
        None, alias="from", description="received at this moment or later; ISO with a zone"
    )
    until: AwareDatetime | None = Field(None, alias="to", description="received before this moment")


class ReplayFilter(Model):
    """Which runs; what is absent does not narrow."""

    route: str | None = Field(None, max_length=40)
    state: State | None = None
    cause: str | None = Field(None, max_length=100)
    deal: int | None = Field(None, ge=1, lt=10**18)
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = Field(None, alias="to")


class ReplayBody(Model):
    """A replay of many."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"filter": {"state": "failed"}}]}
    )

    filter: ReplayFilter


class ReplayedRuns(Shown):
    """What became of a replay."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"replayed": 3}]})

    replayed: int = Field(description="runs that wait again")


class DealNumber(Model):
    """Which deal of the source."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"deal_id": 123}]})

    deal_id: int = Field(ge=1, lt=10**18)


class DealNumbers(Model):
    """Which deals of the source."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"deals": [123, 124]}]})

    deals: list[int] = Field(min_length=1, max_length=MOST_AT_ONCE)


class CarriedDeals(Shown):
    """How many deals are on their way."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{"carrying": 2}]})

    carrying: int


class ComparedField(Shown):
    """One field of a dry run."""

    field: str
    source: str
    wanted: str
    there: str
    result: Literal["same", "changed", "empty_there", "kept", "refused", "time"]
    why: str = Field(description="of one that is refused: a code")


class PartyItem(Shown):
    """A contact or the company of a deal. Without `target_id` it would be made."""

    kind: str
    source_id: int
    target_id: int | None


class DryRunItem(Shown):
    """What would become of a deal now. Nothing is written."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        "deal_id": 123, "verdict": "update", "target_deal_id": 456, "detail": "", "parties": [],
        "fields": [{"field": "TITLE", "source": "New", "wanted": "New", "there": "Old", "result": "changed", "why": ""}],
    }]})  # fmt: skip

    deal_id: int
    verdict: str = Field(
        description="create, update, same, filtered, own_deal, deal_not_found, refused, recreate or target_removed"
    )
    target_deal_id: int | None
    detail: str
    fields: list[ComparedField]
    parties: list[PartyItem]


class DifferenceItem(Shown):
    """A deal that is not the same on both sides; without `target_deal_id` it is not there at all."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        "route": "partner-to-main", "source_deal_id": 123, "target_deal_id": 456, "found_at": "2026-11-29T01:00:00Z",
        "fields": [{"field": "TITLE", "wanted": "New", "there": "Old"}],
    }]})  # fmt: skip

    route: str
    source_deal_id: int
    target_deal_id: int | None
    fields: list[dict[str, str]]
    found_at: datetime | None


class ComparisonItem(Shown):
    """The last comparison of a route; without `finished_at` it is under way."""

    route: str
    started_at: datetime
    finished_at: datetime | None
    compared: int
    differing: int
    missing: int


class DifferencesList(Shown):
    """What the last comparisons found, at most 1,000."""

    items: list[DifferenceItem]
    comparisons: list[ComparisonItem]


class DifferencesQuery(Model):
    """Of which route."""

    route: str | None = Field(None, max_length=40)


def route_item(route: DealRoute) -> RouteItem:
    """A route as the API shows it."""
    values = {
        **route.model_dump(mode="json", exclude={"application_token", "mapping"}),
        "mapping": route.plain()["mapping"],
    }
    return RouteItem.model_validate(
        {**values, "application_token": MASK if route.application_token is not None else None}
    )


def run_item(one: SeenRun, *, whole: bool) -> RunItem:
    """A run as the API shows it."""
    return RunItem.model_validate({
        "id": one.run_id, "correlation_id": one.correlation, "route": one.route, "source": one.source, "target": one.target,
        "source_deal_id": one.deal_id, "target_deal_id": one.target_id, "event": one.event, "state": one.state, "cause": one.cause,
        "detail": one.detail if whole or not one.detail else MASK, "changed": list(one.changed), "attempt": one.attempt,
        "received_at": one.received_at, "due_at": one.due_at, "finished_at": one.finished_at, "duration_ms": one.duration_ms,
    })  # fmt: skip


def _compared(one: Compared) -> ComparedField:
    return ComparedField(
        field=one.field, source=one.source, wanted=one.wanted, there=one.there, result=one.result, why=one.why
    )


def deals(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""

    def work() -> DealWork:
        if deps.deal_work is None:
            raise Unavailable("deals are not carried here")
        return deps.deal_work

    def known(call: Call) -> DealRoute:
        found = next((one for one in routes_for(call.tenant) if one.name == call.param("name")), None)
        if found is None:
            raise Missing("There is no such route.")
        return found

    async def listed(call: Call) -> RoutesList:
        return RoutesList(items=[route_item(one) for one in routes_for(call.tenant)])

    async def shown(call: Call) -> RouteItem:
        return route_item(known(call))

    async def put(call: Call) -> RouteItem:
        name = call.param("name")
        stored = next((one for one in routes_for(call.tenant) if one.name == name), None)
        sent: Mapping[str, Any] = {name: value for name, value in call.body.model_dump().items() if name != "name"}
        route = read_route({**sent, "name": name}, call.tenant, stored)
        sealer = await sealer_of(deps.db, deps.master, call.tenant.number)
        await deps.db.engine(save_route, call.tenant.number, sealer, route, call.caller.actor)
        await deps.refresh(call.tenant.number)
        return route_item(route)

    async def remove(call: Call) -> None:
        one = known(call)
        await deps.db.engine(remove_route, call.tenant.number, one.name, call.caller.actor)
        await deps.refresh(call.tenant.number)

    async def tried(call: Call) -> DryRunItem:
        desk = work().desk
        if desk is None:
            raise Unavailable("no side can be looked at here")
        found = await desk.try_route(call.tenant, known(call), call.body.deal_id)
        return DryRunItem(
            deal_id=found.deal_id, verdict=found.verdict, target_deal_id=found.target_id, detail=found.detail,
            fields=[_compared(one) for one in found.rows],
            parties=[PartyItem(kind=one.kind, source_id=one.source_id, target_id=one.target_id) for one in found.parties],
        )  # fmt: skip

    async def carry(call: Call) -> CarriedDeals:
        numbers = [one for one in call.body.deals if 0 < one < 10**18]
        return CarriedDeals(carrying=await work().carry(call.tenant.number, known(call), numbers, call.caller.actor))

    async def runs(call: Call) -> RunsPage:
        number, limit, query = call.tenant.number, call.query.limit, call.query
        after = deps.cursors.wanted(number, "deal_runs", query.cursor)
        before = int(after[0]) if after else None
        wanted = RunFilter(
            route=query.route,
            state=query.state,
            cause=query.cause,
            deal=query.deal,
            since=query.since,
            until=query.until,
        )
        found = await deps.db.tenant(number, search_runs, number, wanted, before, limit + 1)
        onward = deps.cursors.new(number, "deal_runs", [found[limit - 1].run_id]) if len(found) > limit else None
        return RunsPage(items=[run_item(one, whole=call.caller.reads_messages) for one in found[:limit]], next=onward)

    async def replay_one(call: Call) -> ReplayedRuns:
        number, wanted = call.tenant.number, RunFilter(run_id=call.number("id"))
        if not await deps.db.tenant(number, search_runs, number, wanted, None, 1):
            raise Missing("There is no such run.")
        return ReplayedRuns(replayed=await work().replay(number, wanted, call.caller.actor))

    async def replay_many(call: Call) -> ReplayedRuns:
        one = call.body.filter
        wanted = RunFilter(
            route=one.route, state=one.state, cause=one.cause, deal=one.deal, since=one.since, until=one.until
        )
        return ReplayedRuns(replayed=await work().replay(call.tenant.number, wanted, call.caller.actor))

    async def differences(call: Call) -> DifferencesList:
        number = call.tenant.number
        found = await deps.db.tenant(number, select_differences, number, call.query.route, MOST_DIFFERENCES)
        last = await deps.db.tenant(number, select_comparisons, number)
        whole = call.caller.reads_messages
        return DifferencesList(
            items=[
                DifferenceItem(
                    route=one.route, source_deal_id=one.deal_id, target_deal_id=one.target_id, found_at=one.found_at,
                    fields=[
                        {**each} if whole else {"field": each["field"], "wanted": MASK, "there": MASK} for each in one.fields
                    ],
                )
                for one in found
            ],
            comparisons=[
                ComparisonItem(
                    route=one.route, started_at=one.started_at, finished_at=one.finished_at, compared=one.compared,
                    differing=one.differing, missing=one.missing,
                )
                for one in last.values() if call.query.route in (None, one.route)
            ],
        )  # fmt: skip

    async def compare(call: Call) -> None:
        if not await work().compare(call.tenant.number, IntegrationKey(known(call).source)):
            raise Missing("The integration has just been connected: its jobs are not there yet.")

    return [
        Endpoint(method="GET", path="/deals/routes", operation=listed, scopes=READS, answer=RoutesList, summary="Routes of deals"),
        Endpoint(method="GET", path="/deals/routes/{name}", operation=shown, scopes=READS, answer=RouteItem, summary="A route"),
        Endpoint(method="PUT", path="/deals/routes/{name}", operation=put, scopes=("write",), body=RouteBody, answer=RouteItem,
                 summary="Make or change a route"),
        Endpoint(method="DELETE", path="/deals/routes/{name}", operation=remove, scopes=("write",),
                 summary="Remove a route; what was carried stays"),
        Endpoint(method="POST", path="/deals/routes/{name}/try", operation=tried, scopes=CARRIES, body=DealNumber, answer=DryRunItem,
                 summary="A dry run on a real deal: what would be written, field by field"),
        Endpoint(method="POST", path="/deals/routes/{name}/carry", operation=carry, scopes=CARRIES, body=DealNumbers, answer=CarriedDeals,
                 makes=True, summary="Carry deals now, whatever was carried before"),
        Endpoint(method="POST", path="/deals/routes/{name}/compare", operation=compare, scopes=CARRIES,
                 summary="Compare both sides now, not at night"),
        Endpoint(method="GET", path="/deals/runs", operation=runs, scopes=READS, query=RunsQuery, answer=RunsPage,
                 summary="Runs of deals, the newest first"),
        Endpoint(method="POST", path="/deals/runs/replay", operation=replay_many, scopes=CARRIES, body=ReplayBody, answer=ReplayedRuns,
                 makes=True, summary="Replay the runs that fit the filter, at most 10,000"),
        Endpoint(method="POST", path="/deals/runs/{id}/replay", operation=replay_one, scopes=CARRIES, answer=ReplayedRuns, makes=True,
                 summary="Replay one run"),
        Endpoint(method="GET", path="/deals/differences", operation=differences, scopes=READS, query=DifferencesQuery,
                 answer=DifferencesList, summary="Where both sides differed at the last comparison"),
    ]  # fmt: skip
