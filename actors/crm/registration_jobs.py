"""Jobs that keep registrations and maps in outside systems up to date, for every adapter with the ability.

    registration  notifies the other side of what it was not notified of yet   due by a trigger with every change
    extensions    compares the map with theirs and settles the differences     every quarter of an hour
    statuses      sends what users are doing, where that failed                due by a trigger with every status

The operation itself commits the change and notifies at once (`actors/crm/registration.py`); these come where its process ended
in between or the other side did not answer: after half a minute, then more and more slowly, at last every quarter of an hour,
and once a day where it was refused and nothing was changed since. Read `actors/jobs.py` for who runs them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from actors.crm.registration import Registrations, SyncResult, registered_as
from adapters.abilities import KeepsExtensions, Registers, SetsStatus
from adapters.base import Adapter
from adapters.jobs import Job, JobContext, JobResult
from adapters.registry import Linked
from gateway.store import crm_registrations as store

REPEAT_S, REPEAT_CAP_S = 30.0, 900.0
COMPARE_S = 900.0
NOT_REGISTERED_S = 3600.0
"""Seconds between checks whether there is something to compare."""
STATUS_LIVES_S = 600.0
"""A status that could not be sent for so long is no longer worth sending."""
IDLE_S = 6 * 3600.0
"""Seconds between runs of a job that a trigger makes due."""
FIRST_S = 120.0

_Run = Callable[[Registrations, Linked, JobContext], Any]


def registration_jobs(registrations: Registrations) -> Callable[[Adapter], Sequence[Job]]:
    """The jobs of an adapter, by its abilities. Names of the first and last stand in the triggers of the schema too."""

    async def run(operation: _Run, client: Any, context: JobContext) -> JobResult:
        linked = registered_as(context.key)
        return await operation(registrations, linked, context) if linked is not None else JobResult(after_s=IDLE_S)

    def jobs_of(adapter: Adapter) -> Sequence[Job]:
        found: list[Job] = []
        if adapter.can(Registers) or adapter.can(KeepsExtensions):
            found.append(
                Job("registration", IDLE_S, partial(run, _notify), first_s=FIRST_S, retry_s=REPEAT_S, cap_s=REPEAT_CAP_S,
                    while_off=True)
            )  # fmt: skip
        if adapter.can(KeepsExtensions):
            found.append(Job("extensions", COMPARE_S, partial(run, _compare), first_s=COMPARE_S, retry_s=COMPARE_S))
        if adapter.can(SetsStatus):
            found.append(
                Job("statuses", IDLE_S, partial(run, _send_statuses), first_s=FIRST_S, retry_s=REPEAT_S, cap_s=REPEAT_S,
                    refused_cap_s=REPEAT_S, while_off=True)
            )  # fmt: skip
        return found

    return jobs_of


async def _notify(registrations: Registrations, linked: Linked, context: JobContext) -> JobResult:
    reported = await registrations.repeat(context.tenant.number, linked)
    return _result(reported)


async def _compare(registrations: Registrations, linked: Linked, context: JobContext) -> JobResult:
    number = context.tenant.number
    if (await registrations.stored(number, linked)).row.state != "active":
        return JobResult(after_s=NOT_REGISTERED_S)
    return _result((await registrations.sync(number, linked, "")).reported)


async def _send_statuses(registrations: Registrations, linked: Linked, context: JobContext) -> JobResult:
    number, result = context.tenant.number, JobResult()
    untold = await registrations.db.tenant(number, store.select_untold_statuses, number, linked.key, STATUS_LIVES_S)
    for user, status in untold:
        sent = await registrations.send_status(number, linked, user, status)
        if not sent.saved and sent.code != "rejected":
            result = _result(sent)
    return result


def _result(reported: SyncResult) -> JobResult:
    """The job's result. The expected states `not_registered` and `switched_off_there` are no problem."""
    if reported.saved or reported.code in ("", "not_registered", "switched_off_there"):
        return JobResult()
    return JobResult(problem=reported.code, detail=reported.detail)
