"""One tenant's deals: reads events from the journal, makes a run of each on each of its routes, and has the runs carried.

    webhook -> journal (durable, repeats known) -> runs, post done: one commit -> one task a pair of CRMs -> carrier -> outcome

A task carries the deals that are due together, so those of a moment share requests. What fails is due again as `deal_runs.py` says.
Like the actor of calls it writes under the epoch of the tenant's shard. Read `carrier.py` for how a group is carried.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from actors.deals.carrier import Carrier, Ends
from actors.runtime.directory import Slot
from actors.runtime.supervisor import Crash, contained
from actors.services import DEALS, Services
from adapters.base import AdapterSettings
from adapters.deals import CarriesDeals, HasOrigin
from adapters.registry import Linked
from gateway import __version__
from gateway.domain.configuration import Tenant
from gateway.domain.deal_events import STREAM, StoredEvent
from gateway.domain.deal_mapping import DealSchema
from gateway.domain.deal_routes import DealRoute
from gateway.domain.deal_runs import RunOutcome
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.hosts import host_of_origin
from gateway.domain.ids import IntegrationKey
from gateway.domain.subjects import Subject
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.deal_runs import (
    NewRun,
    Pair,
    Replaced,
    RunState,
    select_due_runs,
    select_next_due_s,
    store_runs,
    wake_runs,
)
from gateway.store.journal import PendingPost, select_pending_posts
from gateway.telemetry import COUNTED, COUNTERS, HISTOGRAMS, bound

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 500
LOOK_EVERY_S, LOOK_BACK_S = 30.0, 5.0
RETRY_FIRST_S, RETRY_CAP_S = 0.2, 5.0
GROUP, GROUP_WITH_LINKS = 50, 25
"""Deals that are carried together: as many as one request reads."""
SCHEMA_S = 600.0
"""For how long what is known of a target's fields and stages is good."""


@dataclass(frozen=True, slots=True)
class Side:
    """An integration that a route has."""

    linked: Linked
    settings: AdapterSettings


class SchemaMemory:
    """What one target told of its fields, for a while."""

    def __init__(self, client: CarriesDeals) -> None:
        self._client = client
        self._schema: DealSchema | None = None
        self._read_at = 0.0

    async def __call__(self) -> DealSchema:
        """Raises what `gateway.domain.errors` lists."""
        if self._schema is None or trio.current_time() - self._read_at > SCHEMA_S:
            self._schema, self._read_at = await self._client.deal_schema(), trio.current_time()
        return self._schema


class TenantDeals:
    """Runs under supervision, one for each tenant with a route."""

    def __init__(
        self, tenant: Tenant, services: Services, epoch: int, routes: Sequence[DealRoute],
        sides: Mapping[IntegrationKey, Side],
    ) -> None:  # fmt: skip
        self.tenant = tenant
        self.services = services
        self.epoch = epoch
        self.routes = {route.name: route for route in routes}
        self.sides = dict(sides)
        self._troubles: dict[Pair, str] = {}

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        number = self.tenant.number
        pairs = list(dict.fromkeys(route.pair for route in self.routes.values()))
        with bound(tenant=number):
            replaced = False
            try:
                await self._patiently(slot, partial(self.services.db.engine, wake_runs, number, self.epoch, pairs))
                async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
                    clients = {key: await self._connect(stack, side) for key, side in self.sides.items()}
                    for pair in pairs:
                        if (ends := self._ends(pair, clients)) is None:
                            self._troubles[pair] = "no_integration"
                        else:
                            nursery.start_soon(self._carry_pair, slot, ends)
                    await self._read_events(slot)
            except* Replaced:
                replaced = True
            if replaced:
                COUNTERS["stale_writes_refused"] += 1
                log.warning("a stale write was refused: the tenant is another instance's")
                slot.report(State.STOPPED, "another_instance")
                await trio.sleep_forever()

    async def _connect(self, stack: AsyncExitStack, side: Side) -> object:
        link = self.services.link(self.tenant, side.linked, side.settings, background=True)
        return await stack.enter_async_context(side.linked.adapter.connect(link, side.settings))

    def _ends(self, pair: Pair, clients: Mapping[IntegrationKey, object]) -> Ends | None:
        source, target = clients.get(pair[0]), clients.get(pair[1])
        if not isinstance(source, CarriesDeals) or not isinstance(target, CarriesDeals):
            return None
        settings = self.sides[pair[0]].settings
        host = host_of_origin(settings.origin) if isinstance(settings, HasOrigin) else ""
        return Ends(pair=pair, source=source, target=target, source_host=host, schema=SchemaMemory(target))

    def _report(self, slot: Slot) -> None:
        trouble = next((one for one in self._troubles.values() if one), "")
        slot.report(State.ATTENTION if trouble else State.ONLINE, trouble)

    # Events.

    async def _read_events(self, slot: Slot) -> None:
        number, bells = self.tenant.number, self.services.bells
        while True:
            bell = bells.listen(number, DEALS)
            found = await self._patiently(slot, partial(self._once, slot))
            self._report(slot)
            if not found:  # a ring without an event: somebody has had something carried or replayed
                for pair in {route.pair for route in self.routes.values()}:
                    bells.ring(number, bell_of(pair))
            if found == AT_ONCE:
                continue
            with trio.move_on_after(LOOK_BACK_S if found else LOOK_EVERY_S):
                await bell.wait()

    async def _once(self, slot: Slot) -> int:
        """Makes runs of what waits in the journal. Returns how many events there were."""
        number, db = self.tenant.number, self.services.db
        (waiting,) = await db.engine(select_pending_posts, [(number, 0)], AT_ONCE, STREAM)
        runs: list[NewRun] = []
        done = []
        for post in waiting:
            read = contained(partial(self._runs_of, post))
            if isinstance(read, Crash):
                log.error("an event is set aside", extra={"journal_id": post.journal_id})
                row = DeadLetterRow(number, slot.path, post.body, read.trace, post.journal_id)
                await db.engine(insert_dead_letters, [row], __version__)
                continue
            runs += read
            done.append((post.journal_id, post.received_at))
        if done:
            await db.engine(store_runs, number, self.epoch, runs, done)
            for one in runs:
                if one.cause:
                    self.services.deal_answers.settle(one.correlation, RunState("skipped", one.cause, None))
                    COUNTED["webhook_processed", "status", "skipped"] += 1
            for pair in {(IntegrationKey(one.source), IntegrationKey(one.target)) for one in runs if not one.cause}:
                self.services.bells.ring(number, bell_of(pair))
        return len(waiting)

    def _runs_of(self, post: PendingPost) -> list[NewRun]:
        """Raises ValueError for what is no event."""
        event = StoredEvent.read(post.body)
        runs = []
        for name in event.routes:
            route = self.routes.get(name)
            cause = (
                "route_gone" if route is None
                else "route_off" if not route.enabled
                else "event_not_listed" if event.event not in route.events
                else ""
            )  # fmt: skip
            runs.append(NewRun(
                correlation=event.correlation, route=name, source=route.source if route is not None else "",
                target=route.target if route is not None else "", deal_id=event.deal_id, event=event.event, domain=event.domain,
                received_at=post.received_at, cause=cause,
            ))  # fmt: skip
        return runs

    # Runs.

    async def _carry_pair(self, slot: Slot, ends: Ends) -> None:
        number, db, bells = self.tenant.number, self.services.db, self.services.bells
        routes = {name: route for name, route in self.routes.items() if route.pair == ends.pair}
        carrier = Carrier(db, self.tenant, self.epoch, ends, routes)
        size = GROUP_WITH_LINKS if any(one.contacts or one.company for one in routes.values()) else GROUP
        while True:
            bell = bells.listen(number, bell_of(ends.pair))
            runs = await self._patiently(slot, partial(db.engine, select_due_runs, number, ends.pair, size))
            if runs:
                try:
                    self._tell(ends.pair, await carrier.carry(runs))
                except Unavailable:
                    slot.report(State.DEGRADED, "database_away")
                    await trio.sleep(RETRY_CAP_S)
                continue
            self._report(slot)
            due_s = await self._patiently(slot, partial(db.engine, select_next_due_s, number, ends.pair))
            with trio.move_on_after(min(LOOK_EVERY_S, max(0.05, due_s)) if due_s is not None else LOOK_EVERY_S):
                await bell.wait()

    def _tell(self, pair: Pair, outcomes: Sequence[RunOutcome]) -> None:
        """Those who wait, the figures, open pages."""
        self._troubles[pair] = next(
            (
                one.cause
                for one in outcomes
                if one.state == "waiting" and one.cause in ("bad_credentials", "bad_settings")
            ),
            "",
        )
        for one in outcomes:
            if one.state == "waiting":
                COUNTED["webhook_errors", "error_type", one.cause or "unavailable"] += 1
                continue
            COUNTED["webhook_processed", "status", one.state] += 1
            if one.state == "failed":
                COUNTED["webhook_errors", "error_type", one.cause or "rejected"] += 1
            HISTOGRAMS["webhook_processing_duration"].observe(one.duration_ms / 1000)
            self.services.deal_answers.settle(one.run.correlation, RunState(one.state, one.cause, one.target_id))
            log.log(
                logging.WARNING if one.state == "failed" else logging.INFO, "deal carried",
                extra={
                    "route": one.run.route, "source_deal_id": one.run.deal_id, "target_deal_id": one.target_id, "status": one.state,
                    "cause": one.cause, "duration_ms": one.duration_ms, "correlation": str(one.run.correlation),
                },
            )  # fmt: skip
        for deal in {one.run.deal_id for one in outcomes}:
            self.services.feed.publish(self.tenant.number, Subject("deal", str(deal)))

    async def _patiently(self, slot: Slot, work: Callable[[], Awaitable[T]]) -> T:
        """A statement of ours, until the database answers."""
        pause = RETRY_FIRST_S
        while True:
            try:
                return await work()
            except Unavailable:
                slot.report(State.DEGRADED, "database_away")
                await trio.sleep(pause)
                pause = min(pause * 2, RETRY_CAP_S)


def bell_of(pair: Pair) -> str:
    """The bell of a pair's task."""
    return f"{DEALS}/{pair[0]}/{pair[1]}"
