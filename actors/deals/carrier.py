"""Carries a group of deals from one CRM to another, by batches: read, judge, look up, make, write, tell the source.

    read the source's deals -> those that come from the target, do not fit or have not changed are done
      -> their contacts and companies -> look the target up: what is there already
      -> make contacts and companies -> make and change deals -> links -> the target's id into the source

Whatever was made is found again by its origin before it is made once more, so an attempt that was killed, or whose answer was lost,
makes nothing twice. Each deal has its own outcome. Never decides when: that is `tenant_deals.py`. Read `parties.py` for contacts.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from actors.deals.parties import Parties
from actors.runtime.supervisor import outcome_of
from adapters.deals import CarriesDeals, DealRead, DealWrite, Found
from gateway.domain.configuration import Tenant
from gateway.domain.deal_mapping import DealSchema, Mapped, Place, digest, judged, map_deal, passes, same
from gateway.domain.deal_routes import DealRoute
from gateway.domain.deal_runs import QUICK_TRIES, Run, RunOutcome, State, again_after, newest_of_each
from gateway.domain.errors import GatewayError, NeedsAttention, NotYet, Permanent, RateLimited, Retryable, problem_of
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.deal_runs import (
    DealLink,
    Pair,
    Replaced,
    adopt_links,
    finish_runs,
    hold_tenant,
    select_led_back,
    select_links,
    upsert_links,
)
from gateway.store.postgres.pool import Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

Key = tuple[str, int]
"""A route and a deal of the source."""
ORIGIN = "deal"
"""What the origin of a deal that we make begins with."""
SOON_S = 2.0
"""Seconds until a try that the other side has put off, where it does not say for how long."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Both sides of a pair, connected."""

    pair: Pair
    source: CarriesDeals
    target: CarriesDeals
    source_host: str
    schema: Callable[[], Awaitable[DealSchema]]
    """The target's; from memory where it was read lately."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a deal came to, before each of its runs is told. `error`: it waits or has failed by that."""

    state: State = "waiting"
    cause: str = ""
    detail: str = ""
    target_id: int | None = None
    changed: tuple[str, ...] = ()
    note: str = ""
    error: GatewayError | None = None


@dataclass
class Work:
    """One deal on one route, on its way."""

    route: DealRoute
    run: Run
    read: DealRead = field(default_factory=lambda: DealRead(fields={}))
    mapped: Mapped = field(default_factory=Mapped)
    digest: str = ""
    target_id: int | None = None
    there: DealRead | None = None
    """The target's deal as it is."""
    note: str = ""


def origin_of(tenant: TenantId, source: IntegrationKey, number: int) -> str:
    """By what a deal, a contact or a company that we make over there is known again."""
    return f"{ORIGIN}:{tenant}:{source}:{number}"


def source_of(origin: str, tenant: TenantId) -> tuple[IntegrationKey, int] | None:
    """The inverse, for this tenant's own."""
    key, _, number = origin.removeprefix(f"{ORIGIN}:{tenant}:").rpartition(":")
    mine = origin.startswith(f"{ORIGIN}:{tenant}:")
    return (IntegrationKey(key), int(number)) if mine and key and number.isdigit() and number.isascii() else None


class Carrier:
    """Of one pair of one tenant; under the epoch of the tenant's shard."""

    def __init__(self, db: Database, tenant: Tenant, epoch: int, ends: Ends, routes: Mapping[str, DealRoute]) -> None:
        self._db = db
        self._tenant = tenant
        self._epoch = epoch
        self._ends = ends
        self._routes = routes
        self._parties = Parties(db, tenant.number, epoch, ends.pair, ends.source, ends.target)
        self._done: dict[Key, Done] = {}
        self._digests: dict[int, dict[str, str]] = {}
        self._told: set[int] = set()

    async def carry(self, runs: Sequence[Run]) -> list[RunOutcome]:
        """One try at runs of this pair; what became of each is stored. Raises Replaced, and Unavailable where our own database is
        away."""
        started = time.monotonic()
        groups = newest_of_each(runs)
        works: dict[Key, Work] = {}
        self._done, self._digests, self._told = {}, {}, set()
        for key, several in groups.items():
            route = self._routes.get(key[0])
            if route is None or not route.enabled:
                self._done[key] = Done("skipped", "route_gone" if route is None else "route_off")
            else:
                works[key] = Work(route, replace(several[-1], forced=any(one.forced for one in several)))
        await self._carry(works)
        ms = int((time.monotonic() - started) * 1000)
        outcomes = [outcome_for(run, self._done[key], ms) for key, several in groups.items() for run in several]
        await self._db.engine(
            finish_runs, self._tenant.number, self._epoch, self._ends.pair, outcomes, self._digests, self._told
        )
        return outcomes

    async def _carry(self, works: Mapping[Key, Work]) -> None:
        """Carries what can be. What was refused as a whole is repeated by halves, until the one at fault is alone."""
        if not works:
            return
        result = await outcome_of(partial(self._together, dict(works)))
        if not isinstance(result, Exception):
            return
        if isinstance(result, Replaced):
            raise result
        left = [key for key in works if key not in self._done]
        if len(left) > 1 and not isinstance(result, Retryable | NeedsAttention):
            middle = len(left) // 2
            for half in (left[:middle], left[middle:]):
                await self._carry({key: replace(works[key]) for key in half})
            return
        if not isinstance(result, GatewayError):
            COUNTERS["deal_bugs"] += 1
            log.error("a deal could not be carried", exc_info=result, extra={"deals": [key[1] for key in left]})
        for key in left:
            self._done[key] = (
                Done(error=result) if isinstance(result, GatewayError) else Done("failed", "bug", type(result).__name__)
            )

    async def _together(self, works: dict[Key, Work]) -> None:
        """What can be decided goes from `works` into what is done, step by step."""
        number, pair = self._tenant.number, self._ends.pair
        await self._read(works)
        await self._leave_own(works)
        links = await self._db.engine(select_links, number, pair, sorted({key[1] for key in works}))
        settled: dict[Key, Work] = {}
        for key, work in list(works.items()):
            link = links.get(key[1])
            work.target_id = link.target_id if link is not None else None
            work.mapped = map_deal(work.route, work.read.fields, self._place(work.run))
            work.digest = self._digest(work)
            if link is not None and not work.run.forced and link.digests.get(key[0]) == work.digest:
                settled[key] = works.pop(key)
        if works:
            await self._write(works, links)
        for key, work in settled.items():
            self._done[key] = Done("skipped", "same_state", target_id=work.target_id)
        written = {key: work for key, work in works.items() if key in self._done and self._done[key].state == "success"}
        untold = {
            key: work for key, work in (settled | written).items()
            if work.route.source_field and not (key[1] in links and links[key[1]].told_source and key not in written)
        }  # fmt: skip
        if untold:
            await self._tell_source(untold)

    # The source.

    async def _read(self, works: dict[Key, Work]) -> None:
        with_links = any(work.route.contacts or work.route.company for work in works.values())
        read = await self._ends.source.read_deals(sorted({key[1] for key in works}), links=with_links)
        for key, work in list(works.items()):
            deal = read.get(key[1])
            if deal is None:
                self._finish(works, key, Done("skipped", "deal_not_found"))
            elif isinstance(deal, GatewayError):
                self._finish(works, key, Done(error=deal))
            elif name := passes(work.route, deal.fields):
                self._finish(works, key, Done("skipped", "filtered", name))
            else:
                work.read = deal

    async def _leave_own(self, works: dict[Key, Work]) -> None:
        """A deal that came from the target, by this or a longer way, goes back by none."""
        number, (source, target) = self._tenant.number, self._ends.pair
        born = {
            key[1]: came for key, work in works.items() if (came := source_of(work.read.origin, number)) is not None
        }
        if born:
            found = [(came[0], str(source), came[1], deal) for deal, came in born.items()]
            await self._db.engine(adopt_links, number, self._epoch, found)
        own = await self._db.engine(select_led_back, number, (source, target), sorted({key[1] for key in works}))
        for key in [key for key in works if key[1] in own]:
            self._finish(works, key, Done("skipped", "own_deal"))

    async def _tell_source(self, works: Mapping[Key, Work]) -> None:
        """Writes the target's id where the route says. What cannot be told now is told by the next try."""
        due: dict[Key, DealWrite] = {}
        for key, work in works.items():
            name, target_id = work.route.source_field, self._done[key].target_id
            assert name is not None
            if target_id is None:
                continue
            if same(target_id, work.read.fields.get(name)):
                self._told.add(key[1])
            else:
                due[key] = DealWrite(key=key[1], target_id=key[1], origin="", fields={name: target_id})
        if not due:
            return
        result = await outcome_of(partial(self._ends.source.write_deals, list(due.values())))
        for key in due:
            said = result if isinstance(result, Exception) else result.get(key[1])
            if not isinstance(said, Exception):
                self._told.add(key[1])
                if self._done[key].cause == "same_state" and works[key].run.attempt:
                    self._done[key] = Done("success", target_id=self._done[key].target_id)
            elif isinstance(said, Permanent):
                self._done[key] = replace(self._done[key], note=f"{works[key].route.source_field}: {said}"[:500])
            else:
                error = said if isinstance(said, GatewayError) else NotYet(type(said).__name__)
                self._done[key] = Done(error=error, target_id=self._done[key].target_id)

    # The target.

    async def _write(self, works: dict[Key, Work], links: Mapping[int, DealLink]) -> None:
        number, pair, target = self._tenant.number, self._ends.pair, self._ends.target
        contacts, companies = await self._parties.wanted(
            {one for work in works.values() if work.route.contacts for one in work.read.contacts},
            {work.read.company for work in works.values() if work.route.company and work.read.company is not None},
        )
        known = sorted({work.target_id for work in works.values() if work.target_id is not None})
        origins = sorted({self._origin(key) for key, work in works.items() if work.target_id is None})
        with_links = any(work.route.contacts for work in works.values())
        found = await target.look_up(known, origins, contacts, companies, links=with_links)
        gone = {one for one in known if found.deals.get(one) is None}
        again = sorted({self._origin(key) for key, work in works.items() if work.target_id in gone})
        # What is gone may have been made anew by an attempt that could not say so; contacts may have been merged.
        lost_contacts, lost_companies = await self._parties.lost(found.parties)
        if again or lost_contacts or lost_companies:
            more = await target.look_up((), again, lost_contacts, lost_companies)
            found = Found(
                deals=found.deals,
                by_origin={**found.by_origin, **more.by_origin},
                parties={**found.parties, **more.parties},
            )
        for key, work in list(works.items()):
            if work.target_id in gone and not work.route.recreate and not work.run.forced:
                self._finish(works, key, Done("skipped", "target_removed", target_id=work.target_id))
                continue
            if work.target_id is None or work.target_id in gone:
                work.target_id = found.by_origin.get(self._origin(key))
            work.there = found.deals.get(work.target_id) if work.target_id is not None else None
        schema = await self._ends.schema()
        adopted = {
            key[1]: work.target_id for key, work in works.items() if work.target_id is not None and work.there is None
        }
        if adopted:
            await self._db.engine(upsert_links, number, self._epoch, pair, adopted)
        await self._db.engine(hold_tenant, number, self._epoch)
        refused = await self._parties.make(found.parties)
        for key, work in list(works.items()):
            if error := self._parties.refusal(
                refused, work.read, contacts=work.route.contacts, company=work.route.company
            ):
                self._finish(works, key, Done(error=error))
        writes = {key: self._write_of(works, key, work, schema) for key, work in list(works.items())}
        await self._send({key: write for key, write in writes.items() if write is not None}, works)

    def _write_of(self, works: dict[Key, Work], key: Key, work: Work, schema: DealSchema) -> DealWrite | None:
        """What is to be written for a deal; None, and it is done, where nothing is or nothing may be."""
        there = work.there.fields if work.there is not None else {}
        pipeline = str(work.mapped.fields.get("CATEGORY_ID") or there.get("CATEGORY_ID") or "0")
        mapped, unknown = judged(work.mapped, schema, pipeline)
        work.note = ", ".join(one.field for one in unknown)
        if mapped.refused:
            detail = "; ".join(f"{one.field}: {one.value or '-'}" for one in mapped.refused)
            self._finish(works, key, Done("failed", mapped.refused[0].code, detail, target_id=work.target_id))
            return None
        fields = dict(mapped.fields)
        if work.there is not None:
            fields = {
                name: one for name, one in fields.items() if name not in mapped.timed and not same(one, there.get(name))
            }
        contacts = self._parties.contacts_of(work.read, work.there) if work.route.contacts else None
        company = self._parties.company_of(work.read, work.there) if work.route.company else None
        if work.there is not None and not fields and contacts is None and company is None:
            self._digests.setdefault(key[1], {})[key[0]] = work.digest
            state: State = "success" if work.run.attempt or work.run.forced else "skipped"
            self._finish(
                works,
                key,
                Done(state, "" if state == "success" else "same_state", target_id=work.target_id, note=work.note),
            )
            return None
        if work.there is not None:
            fields |= {name: mapped.fields[name] for name in mapped.timed if name in mapped.fields}
        moved = str(fields.get("CATEGORY_ID") or "") if work.there is not None else ""
        if moved and "STAGE_ID" in mapped.fields:
            fields["STAGE_ID"] = mapped.fields["STAGE_ID"]
        return DealWrite(
            key=key[1], target_id=work.target_id, origin=self._origin(key), fields=fields, contacts=contacts, company=company,
            pipeline=moved,
        )  # fmt: skip

    async def _send(self, writes: Mapping[Key, DealWrite], works: Mapping[Key, Work]) -> None:
        """Two routes that write the same deal do it one after the other, for the second may need what the first has made."""
        left = dict(writes)
        made: dict[int, int] = {}
        while left:
            turn: dict[int, Key] = {}
            for key in left:
                turn.setdefault(key[1], key)
            batch = [
                replace(left[key], target_id=made[key[1]])
                if left[key].target_id is None and key[1] in made
                else left[key]
                for key in turn.values()
            ]
            answers = await self._ends.target.write_deals(batch)
            made |= {number: said for number, said in answers.items() if isinstance(said, int)}
            if made:
                await self._db.engine(upsert_links, self._tenant.number, self._epoch, self._ends.pair, made)
            for key in turn.values():
                said, write = answers[key[1]], left.pop(key)
                if isinstance(said, GatewayError):
                    self._done[key] = Done(error=said, target_id=write.target_id)
                    continue
                changed = [*write.fields, *(["CONTACT_IDS"] if write.contacts is not None else [])]
                changed += ["COMPANY_ID"] if write.company is not None else []
                self._digests.setdefault(key[1], {})[key[0]] = works[key].digest
                self._done[key] = Done("success", target_id=said, changed=tuple(changed), note=works[key].note)

    # Small things.

    def _finish(self, works: dict[Key, Work], key: Key, done: Done) -> None:
        self._done[key] = done
        works.pop(key, None)

    def _origin(self, key: Key) -> str:
        return origin_of(self._tenant.number, self._ends.pair[0], key[1])

    def _place(self, run: Run) -> Place:
        return Place(run.domain or self._ends.source_host, datetime.now(UTC), self._tenant.timezone)

    def _digest(self, work: Work) -> str:
        contacts = [str(one) for one in work.read.contacts] if work.route.contacts else []
        return digest(work.mapped, contacts, str(work.read.company or "") if work.route.company else "")


def outcome_for(run: Run, done: Done, ms: int) -> RunOutcome:
    """What a run comes to by what its deal did."""
    if done.error is None:
        return RunOutcome(
            run=run, state=done.state, target_id=done.target_id, cause=done.cause, detail=done.detail, changed=done.changed,
            note=done.note, duration_ms=ms,
        )  # fmt: skip
    error = done.error
    cause, detail = problem_of(error), (error.detail or error.person)[:1000]
    if isinstance(error, Permanent) or run.expired:
        return RunOutcome(run=run, state="failed", target_id=done.target_id, cause=cause, detail=detail, duration_ms=ms)
    after_s = error.after_s if isinstance(error, Retryable) else None
    put_off = isinstance(error, RateLimited | NotYet)
    tries = run.attempt + 1
    if put_off:
        again_s = max(after_s or 0.0, SOON_S)
    elif isinstance(error, NeedsAttention):
        again_s = again_after(max(tries, QUICK_TRIES + 1))
    else:
        again_s = again_after(tries, after_s)
    return RunOutcome(
        run=run, state="waiting", target_id=done.target_id, cause=cause, detail=detail, again_s=again_s, counts=not put_off,
        duration_ms=ms,
    )  # fmt: skip
