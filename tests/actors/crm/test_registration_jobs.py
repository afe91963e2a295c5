"""What waits is told again more and more slowly; what is registered is compared slowly, one after another."""

from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from actors.crm.registration import Registrations
from actors.crm.registration_jobs import COMPARE_S, RegistrationJobs
from actors.runtime.directory import Slot
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store import crm_registrations as store

JUNE, KIND = TenantId("0367"), IntegrationKey("retailcrm")


@dataclass
class Fake:
    """Notes what it is asked for, and when."""

    pending: bool = False
    version: int = 1
    problem: str = "unavailable"
    active: bool = False
    untold: list[tuple[TenantId, IntegrationKey, str, str]] = field(default_factory=list)
    away: bool = False
    enabled: bool = True
    repeats: list[float] = field(default_factory=list)
    syncs: list[float] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    waiting: trio.Event = field(default_factory=trio.Event)

    @property
    def db(self) -> Any:
        return self

    @property
    def cache(self) -> Any:
        links = {KIND: SimpleNamespace(enabled=self.enabled)}
        return SimpleNamespace(tenant={JUNE: SimpleNamespace(integrations=links)}.get)

    async def engine(self, work: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("database")
        if work is store.select_untold_statuses:
            return self.untold
        if work is store.select_pending_modules:
            return [(JUNE, KIND, self.version, self.problem)] if self.pending else []
        assert work is store.select_active_modules
        return [(JUNE, KIND)] if self.active else []

    async def repeat(self, number: TenantId, adapter: Any) -> bool:
        self.repeats.append(trio.current_time())
        return False

    async def sync(self, number: TenantId, adapter: Any, who: str) -> None:
        self.syncs.append(trio.current_time())
        raise Unavailable("the CRM's words")

    async def send_status(self, number: TenantId, adapter: Any, user: str, status: str) -> None:
        self.statuses.append(f"{user} {status}")


async def run_for(fake: Fake, seconds: float) -> Slot:
    slot = Slot("system/modules")
    with trio.move_on_after(seconds):
        await RegistrationJobs(cast(Registrations, fake)).run(slot)
    return slot


async def test_what_waits_is_told_more_and_more_slowly(autojump_clock: trio.testing.MockClock) -> None:
    fake = Fake(pending=True)
    start = trio.current_time()
    await run_for(fake, 3600)
    assert 24 <= fake.repeats[0] - start <= 50
    pauses = [later - early for early, later in pairwise(fake.repeats)]
    assert pauses[:4] == sorted(pauses[:4])
    assert 5 <= len(fake.repeats) <= 10
    assert fake.syncs == []


async def test_what_was_refused_is_told_once_a_day_until_it_is_changed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = Fake(pending=True, problem="rejected")
    day = 86_400.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(RegistrationJobs(cast(Registrations, fake)).run, Slot("system/modules"))
        await trio.sleep(3 * day)
        early, fake.repeats = fake.repeats, []
        assert len(early) < 20
        await trio.sleep(5 * day)
        assert 4 <= len(fake.repeats) <= 7
        fake.repeats.clear()
        fake.version += 1  # somebody has entered another key
        await trio.sleep(120)
        assert len(fake.repeats) >= 1
        nursery.cancel_scope.cancel()


async def test_what_is_registered_is_compared_and_a_failure_ends_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake = Fake(active=True)
    await run_for(fake, 4.5 * COMPARE_S)
    assert 3 <= len(fake.syncs) <= 6
    off = Fake(active=True, enabled=False)
    await run_for(off, 4 * COMPARE_S)
    assert off.syncs == []
    assert fake.repeats == []


async def test_statuses_that_were_not_heard(autojump_clock: trio.testing.MockClock) -> None:
    fake = Fake(untold=[(JUNE, KIND, "19", "busy"), (TenantId("9"), KIND, "1", "free")])
    await run_for(fake, 100)
    assert set(fake.statuses) == {"19 busy"}
    assert 2 <= len(fake.statuses) <= 5


async def test_a_database_that_is_away(autojump_clock: trio.testing.MockClock) -> None:
    fake = Fake(away=True)
    slot = await run_for(fake, 100)
    assert (slot.health.state, slot.health.code) == (State.DEGRADED, "database_away")


async def test_another_instances_modules_are_left_to_it(autojump_clock: trio.testing.MockClock) -> None:
    fake = Fake(pending=True, active=True, untold=[(JUNE, KIND, "19", "busy")])
    with trio.move_on_after(4 * COMPARE_S):
        await RegistrationJobs(cast(Registrations, fake), lambda number: None).run(Slot("system/modules"))
    assert (fake.repeats, fake.syncs, fake.statuses) == ([], [], [])
