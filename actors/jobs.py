"""Runs the jobs of integrations: claims what is due of the tenants that this instance owns, one attempt each, writes down the
result.

    configuration -> rows -> due? -> claim (lease, epoch) -> connect, run -> next due | problem, backoff
                                                          +-> stopped: the lease is given back

One system actor for all tenants: at most `AT_ONCE` jobs run, and `OF_ONE_TENANT` of one tenant. A problem is a state of the
row and no crash; a bug in an adapter costs its job. A job requested now (`soon`) runs within a moment here, and within
`LOOK_S` where another instance owns the tenant. Read `adapters/jobs.py` for what a job is.
"""

import logging
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import trio
from pydantic import ValidationError

from actors.menus import keep_menu
from actors.runtime.directory import Slot
from actors.runtime.supervisor import outcome_of
from actors.services import Services
from adapters.base import Adapter, Attempt
from adapters.jobs import Job, JobContext, JobResult
from adapters.registry import Linked
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadSettings, GatewayError, Replaced, Retryable, Unavailable, log_status_of, problem_of
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of
from gateway.store.integration_jobs import (
    JobClaim,
    WantedJob,
    claim_jobs,
    finish_job,
    hasten_job,
    release_job,
    store_wanted_jobs,
)
from gateway.store.integration_logs import insert_log
from gateway.store.postgres.pool import Connection
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

LOOK_S = 3.0
AT_ONCE = 16
OF_ONE_TENANT = 2
DEADLINE_S = 60.0
"""Around every run."""
FINISH_WITHIN_S = 10.0
LEASE_S = DEADLINE_S + FINISH_WITHIN_S + 10.0
"""Seconds. The holder of a job has run it and stored the result by then."""
FIRST_WITHIN_S = 5.0
"""Seconds over which new jobs are spread, to avoid a burst at the start."""
REFUSED = frozenset({"rejected", "bad_credentials", "bad_settings"})
"""Problems that do not go away by themselves."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: JobResult
    attempt: Attempt
    duration_ms: int
    retry_after_s: float | None = None


class Jobs:
    """Runs until cancelled. `more` are jobs that the gateway has for every adapter with some ability."""

    def __init__(
        self,
        services: Services,
        adapters: Mapping[Kind, Adapter],
        more: Callable[[Adapter], Sequence[Job]] = lambda adapter: (),
    ) -> None:
        self._services = services
        self._adapters = adapters
        self._jobs: dict[Kind, dict[str, Job]] = {
            kind: found
            for kind, adapter in adapters.items()
            if (found := {job.name: job for job in (*adapter.jobs, *more(adapter))})
        }
        self._names = [f"{kind}/{name}" for kind, jobs in self._jobs.items() for name in jobs]
        self._while_off = [
            f"{kind}/{name}" for kind, jobs in self._jobs.items() for name, job in jobs.items() if job.while_off
        ]
        self._stored: dict[TenantId, tuple[int, int]] = {}
        """The version and the epoch for which a tenant's rows were written."""
        self._running: Counter[TenantId] = Counter()
        self._bell = trio.Event()

    async def soon(self, tenant: TenantId, key: IntegrationKey, name: str) -> bool:
        """Makes a job due now. False where there is no such job. Raises Unavailable."""
        found = await self._services.db.tenant(tenant, hasten_job, tenant, key, name)
        self._bell.set()
        return found

    async def run(self, slot: Slot) -> None:
        """Until cancelled; what runs then is stopped, and its lease given back."""
        slot.figures = lambda: {"running": self._running.total()}
        async with trio.open_nursery() as nursery:
            while True:
                self._bell = trio.Event()
                try:
                    mine = await self._store_wanted()
                    claims = await self._claim(mine)
                    slot.report(State.ONLINE)
                except GatewayError as error:
                    claims = []
                    slot.report(State.DEGRADED, "database_away", error.detail)
                for claim in claims:
                    self._running[claim.tenant] += 1
                    nursery.start_soon(self._run_claimed, claim)
                if claims:
                    continue  # there may be more than fitted
                with trio.move_on_after(LOOK_S * random.uniform(0.8, 1.2)):
                    await self._bell.wait()

    # Rows.

    async def _store_wanted(self) -> list[TenantId]:
        """Writes rows for what has changed in the configuration. Returns the tenants of ours that have jobs."""
        mine: dict[TenantId, tuple[int, int]] = {}
        changed: list[TenantId] = []
        wanted: list[WantedJob] = []
        for number, tenant in self._services.cache.tenants().items():
            epoch = self._services.ownership.epoch_of(number)
            if epoch is None or not any(link.kind in self._jobs for link in tenant.integrations.values()):
                continue
            mine[number] = tenant.version, epoch
            if self._stored.get(number) != mine[number]:
                changed.append(number)
                wanted += self._wanted(tenant)
        if changed:
            await self._services.db.engine(store_wanted_jobs, changed, wanted)
        self._stored = mine
        return list(mine)

    def _wanted(self, tenant: Tenant) -> list[WantedJob]:
        return [
            WantedJob(
                tenant.number,
                link.key,
                name,
                job.first_s * random.uniform(0.5, 1.0) + random.uniform(0, FIRST_WITHIN_S),
            )
            for link in tenant.integrations.values()
            for name, job in self._jobs.get(link.kind, {}).items()
        ]

    async def _claim(self, mine: Sequence[TenantId]) -> list[JobClaim]:
        room = AT_ONCE - self._running.total()
        able = [number for number in mine if self._running[number] < OF_ONE_TENANT]
        if room <= 0 or not able:
            return []
        # Shielded: a claim cut short may be stored all the same, and nobody would hold its lease.
        with trio.move_on_after(FINISH_WITHIN_S, shield=True):
            return await self._services.db.engine(claim_jobs, able, self._names, self._while_off, room, LEASE_S)
        return []

    # One run.

    async def _run_claimed(self, claim: JobClaim) -> None:
        over = False
        try:
            with bound(tenant=claim.tenant, integration=claim.key):
                outcome = await self._outcome(claim)
                if outcome is not None:
                    over = await self._finish(claim, outcome)
                else:
                    await trio.sleep(LOOK_S)  # what is known here of owners and configuration is about to change
        finally:
            if not over:
                with trio.move_on_after(2, shield=True), suppress(GatewayError):
                    await self._services.db.engine(release_job, claim)
            self._running[claim.tenant] -= 1
            if not self._running[claim.tenant]:
                del self._running[claim.tenant]
            self._bell.set()

    async def _outcome(self, claim: JobClaim) -> _Outcome | None:
        """None where it is not ours to run any more."""
        number, epoch = claim.tenant, self._services.ownership.epoch_of(claim.tenant)
        tenant, job = self._services.cache.tenant(number), self._jobs[kind_of(claim.key)][claim.name]
        if tenant is None or epoch is None or claim.key not in tenant.integrations:
            return None

        def permit() -> None:
            if not self._services.ownership.serves(number, epoch):
                raise Replaced

        attempt = Attempt(kind=claim.name, key="", lane="", body={}, number=claim.attempts, permit=permit)
        started = time.perf_counter()
        ran = await outcome_of(partial(self._attempt, tenant, claim.key, job, attempt))
        if isinstance(ran, Replaced):
            return None
        duration_ms = int((time.perf_counter() - started) * 1000)
        after_s = ran.after_s if isinstance(ran, Retryable) else None
        return _Outcome(_judged(claim, ran), attempt, duration_ms, after_s)

    async def _attempt(self, tenant: Tenant, key: IntegrationKey, job: Job, attempt: Attempt) -> JobResult:
        services, adapter = self._services, self._adapters[kind_of(key)]
        settings = _settings(adapter, tenant, key)
        extensions = {key: tenant.user_extensions[key]} if key in tenant.user_extensions else {}
        known = replace(tenant, integrations={}, pbxes=(), user_extensions=extensions)
        link = services.link(known, Linked(key, adapter), settings, background=True)
        context = JobContext(tenant=known, key=key, settings=settings, link=link, attempt=attempt)
        try:
            with trio.fail_after(DEADLINE_S):
                async with adapter.connect(link, settings) as client:
                    attempt.permit()
                    result = await job.run(client, context) or JobResult()
                if result.menu is not None or result.stopped is not None:
                    await keep_menu(services.db, tenant, key, result)
                return result
        except trio.TooSlowError:
            raise Unavailable("no answer before the deadline", certain=False) from None

    async def _finish(self, claim: JobClaim, outcome: _Outcome) -> bool:
        """Stores the result, with as many tries as the database needs. True once the lease is released."""
        job, result = self._jobs[kind_of(claim.key)][claim.name], outcome.result
        again_s = _next_s(job, claim.attempts, result, outcome.retry_after_s)
        COUNTERS["jobs_failed" if result.problem else "jobs_done"] += 1
        with trio.move_on_after(FINISH_WITHIN_S, shield=True):
            while True:
                try:
                    if not await self._services.db.engine(_record, claim, outcome, again_s):
                        log.warning("the lease had passed on", extra={"job": claim.name})
                    return True
                except Unavailable:
                    await trio.sleep(0.2)
        log.error("a run could not be written down: it is repeated", extra={"job": claim.name})
        return False


def _settings(adapter: Adapter, tenant: Tenant, key: IntegrationKey) -> Any:
    try:
        return adapter.settings.model_validate(dict(tenant.integrations[key].settings))
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False)
        raise BadSettings(", ".join(".".join(map(str, one["loc"])) for one in found)) from None


def _judged(claim: JobClaim, ran: JobResult | Exception) -> JobResult:
    match ran:
        case JobResult():
            found = ran
        case GatewayError():
            found = JobResult(problem=problem_of(ran), detail=str(ran))
        case _:
            trace = "".join(traceback.format_exception(ran))
            log.error("a job crashed", extra={"job": claim.name, "trace": trace})
            COUNTERS["job_bugs"] += 1
            return JobResult(problem="bug", detail=type(ran).__name__)
    if found.problem:
        log.warning("job", extra={"job": claim.name, "outcome": found.problem, "reason": found.detail})
    else:
        log.info("job", extra={"job": claim.name, "outcome": "done"})
    return found


def _next_s(job: Job, attempts: int, result: JobResult, retry_after_s: float | None) -> float:
    """Seconds until the next run: as requested, the period, or the backoff; with jitter unless requested."""
    if result.after_s is not None:
        return result.after_s
    if not result.problem:
        return job.every_s * random.uniform(0.9, 1.1)
    cap_s = job.refused_cap_s if result.problem in REFUSED else job.cap_s
    pause_s = min(max(cap_s, job.retry_s), job.retry_s * 2.0 ** min(attempts - 1, 32)) * random.uniform(0.8, 1.2)
    return max(pause_s, retry_after_s or 0.0)


async def _record(conn: Connection, claim: JobClaim, outcome: _Outcome, again_s: float) -> bool:
    """One transaction: the row, and a line in the integration's log where something was sent."""
    result, attempt = outcome.result, outcome.attempt
    async with conn.transaction():
        held = await finish_job(conn, claim, again_s, result.problem, result.detail)
        if held and attempt.request:
            await insert_log(
                conn, claim.tenant, claim.key, claim.name, request=attempt.request, response=attempt.response,
                status=log_status_of(result.problem), error=result.detail or None, duration_ms=outcome.duration_ms,
            )  # fmt: skip
    return held
