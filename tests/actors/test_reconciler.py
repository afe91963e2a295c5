"""What runs is made equal to what is configured: exactly what changed is replaced, and nothing is left behind.

Over 400 lines: one world of adapters serves every case.
"""

import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from actors.calls.direct_posts import DirectPosts
from actors.delivery.clients import Clients
from actors.feed import Feed
from actors.reconciler import REPLACE_GRACE_S, Reconciler
from actors.runtime.directory import Directory, Slot
from actors.runtime.supervisor import open_supervisor
from actors.services import Doorbells, Services
from adapters.base import Adapter, AdapterSettings, Attempt, CallSink, Delivered, Draft
from adapters.budget import Budgets
from adapters.http import SafeDialer
from adapters.registry import adapters
from gateway.domain.configuration import Connector, Phone, Tenant, integration
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.secret import Secret
from gateway.domain.shards import shard_of
from gateway.store.outbox import claim_deliveries, select_next_due
from tests.actors.delivery.test_worker import Outbox, Unhurried
from tests.sandbox.pbx import SimulatedPbx

PBX, CRM, CHAT = Kind("pbx"), IntegrationKey("crm"), IntegrationKey("chat")


class Settings(AdapterSettings):
    address: str = "somewhere"
    key: Secret = Secret("")


def plan(*_: Any) -> Sequence[Draft]:
    return ()


def everything_is_ours() -> SimpleNamespace:
    first = trio.Event()
    first.set()
    return SimpleNamespace(
        first_round=first, trusted=True, epoch_of=lambda tenant: 1, serves=lambda tenant, epoch: epoch == 1,
        changed=trio.sleep_forever,
    )  # fmt: skip


class World:
    """Tenants under a supervisor, with adapters that only note when they are connected."""

    def __init__(self, real: Mapping[Kind, Adapter] | None = None) -> None:
        self.connects: list[str] = []
        self.closes: list[str] = []
        self.directory = Directory()
        self.outbox = Outbox()
        self.configured: dict[TenantId, Tenant] = {}
        self.loaded = trio.Event()
        self.news = trio.Event()
        self.attempt_s = 0.0
        self.services = cast(
            Services,
            SimpleNamespace(
                app_of=lambda adapter: None,
                recording_files=None, public_url="", outgoing_files=lambda tenant: None, recordings_of=lambda tenant: None, direct_posts=DirectPosts(),
                pending_posts=SimpleNamespace(put=self.tenant),
                db=self, records=self, directory=self.directory, feed=Feed(), bells=Doorbells(), clients=Clients(), spills=None, provider_urls={}, cache=self,
                budgets=Budgets(), tokens=lambda *_: None,
                ownership=everything_is_ours(), outgoing=Unhurried(cast(Any, self)),
                dial=SafeDialer(allowed_private_nets=(ip_network("127.0.0.0/8"),), own=set()),
            ),
        )  # fmt: skip
        kinds = {
            PBX: Adapter(kind=PBX, title="PBX", type="pbx", settings=Settings, connect=self._connect),
            Kind(CRM): Adapter(
                kind=Kind(CRM), title="CRM", type="crm", settings=Settings, connect=self._connect, plan_call=plan
            ),
            Kind(CHAT): Adapter(
                kind=Kind(CHAT), title="Chat", type="channel", settings=Settings, connect=self._connect, plan_call=plan
            ),
        }
        self.adapters = {**kinds, **(real or {})}
        self.tenants: Reconciler

    # The cache.

    def changed_to(self, *tenants: Tenant) -> None:
        self.configured = {tenant.number: tenant for tenant in tenants}
        self.loaded.set()
        self.news.set()

    async def changed(self) -> None:
        await self.news.wait()
        self.news = trio.Event()

    # The database: no calls, no posts, and the outbox of another test.

    async def tenant(self, *args: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return []

    async def engine(self, work: Any, *args: Any) -> Any:
        if args and isinstance(args[0], str) and args[1] != CRM:
            await trio.lowlevel.checkpoint()
            return {claim_deliveries: [], select_next_due: None}[work]
        return await self.outbox.engine(work, *args)

    async def put(self, recording: Any) -> frozenset[Kind]:
        await trio.lowlevel.checkpoint()
        return frozenset()

    # The adapters.

    @asynccontextmanager
    async def _connect(self, link: Any, settings: Settings) -> AsyncIterator["World"]:
        name = f"{link.tenant.number}/{link.name}"
        self.connects.append(name)
        try:
            yield self
        finally:
            self.closes.append(name)

    async def run(self, sink: CallSink) -> None:
        await trio.sleep_forever()

    async def deliver(self, attempt: Attempt) -> Delivered:
        await trio.sleep(self.attempt_s)
        return Delivered()

    @property
    def paths(self) -> list[str]:
        return [slot.path for slot in self.directory.below("tenant")]

    def since(self) -> tuple[list[str], list[str]]:
        """What was connected and closed since the last look."""
        seen = sorted(self.connects), sorted(self.closes)
        self.connects, self.closes = [], []
        return seen


class Cache:
    """What `Reconciler` asks of the cache."""

    def __init__(self, world: World) -> None:
        self.loaded = world.loaded
        self.tenants = lambda: dict(world.configured)
        self.changed = world.changed


@asynccontextmanager
async def world(*tenants: Tenant, real: Mapping[Kind, Adapter] | None = None) -> AsyncIterator[World]:
    here = World(real)
    cast(Any, here.services).cache = Cache(here)
    async with open_supervisor(here.directory) as supervisor:
        here.tenants = Reconciler(here.services, supervisor, here.adapters)
        supervisor.start(Slot("system/tenants"), here.tenants.run)
        here.changed_to(*tenants)
        await here.tenants.settled.wait()
        await settled()
        yield here


async def settled() -> None:
    await trio.sleep(0.1)
    await wait_all_tasks_blocked()


def tenant(number: str = "0367", **changes: Any) -> Tenant:
    known = Tenant(
        TenantId(number), "June", ZoneInfo("Europe/Minsk"), "BY", "ru", token_hash=b"1", phones=(Phone("150"),),
        pbxes=(Connector("main", PBX, {"address": "pbx"}),),
        integrations={CRM: link(CRM), CHAT: link(CHAT)}, version=1,
    )  # fmt: skip
    return replace(known, **changes)


def link(integration_key: IntegrationKey, enabled: bool = True, **settings: Any) -> Connector:
    return integration(integration_key, settings, enabled=enabled)


ALL = ["tenant/0367", "tenant/0367/integration/chat", "tenant/0367/integration/crm", "tenant/0367/pbx/main"]


async def test_everything_configured_runs(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant(), tenant("0368", integrations={}, pbxes=())) as here:
        assert here.paths == [*ALL, "tenant/0368"]
        assert here.since() == (["0367/chat", "0367/crm", "0367/main"], [])


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing but the version": ({"version": 2}, []),
    "equal settings, read again": ({"integrations": {CHAT: link(CHAT), CRM: link(CRM)}}, []),
    "its token": ({"token_hash": b"2"}, []),
    "internal numbers of users": ({"user_extensions": {CRM: {"anna-k": "150"}}, "version": 2}, []),
    "one integration": ({"integrations": {CRM: link(CRM, key="new"), CHAT: link(CHAT)}}, ["0367/crm"]),
    "a PBX": ({"pbxes": (Connector("main", PBX, {"address": "other"}),)}, ["0367/main"]),
    "a phone": ({"phones": (Phone("151"),)}, ["0367/chat", "0367/crm", "0367/main"]),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_exactly_what_changed_is_replaced(what: str, autojump_clock: trio.abc.Clock) -> None:
    changes, replaced = CHANGES[what]
    async with world(tenant(), tenant("0368")) as here:
        here.since()
        here.changed_to(tenant(**{"version": 2, **changes}), tenant("0368"))
        await settled()
        assert here.since() == (replaced, replaced)
        assert here.paths[:4] == ALL


async def test_switches_start_and_stop(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.since()
        here.changed_to(tenant(integrations={CRM: link(CRM, enabled=False), CHAT: link(CHAT)}))
        await settled()
        assert here.since() == ([], ["0367/crm"])
        assert "tenant/0367/integration/crm" not in here.paths
        here.changed_to(tenant())
        await settled()
        assert here.since() == (["0367/crm"], [])
        here.changed_to()
        await settled()
        assert here.paths == []
        assert here.since() == ([], ["0367/chat", "0367/crm", "0367/main"])


async def test_settings_that_do_not_fit_wait_for_a_person(autojump_clock: trio.abc.Clock) -> None:
    bad = tenant(
        integrations={CRM: link(CRM, key="s3cret", nonsense="v4lue"), CHAT: link(CHAT)},
        pbxes=(Connector("main", PBX, {"address": 5}),),
    )
    async with world(bad) as here:
        for path in ("tenant/0367/integration/crm", "tenant/0367/pbx/main"):
            slot = here.directory.get(path)
            assert slot is not None
            assert (slot.health.state, slot.health.code) == (State.ATTENTION, "bad_settings")
            assert "s3cret" not in slot.health.detail
            assert "v4lue" not in slot.health.detail
        assert here.since()[0] == ["0367/chat"]
        here.changed_to(tenant())
        await settled()
        assert here.since() == (["0367/crm", "0367/main"], [])


async def test_a_mailbox_outlives_its_actor(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        slot = here.directory.get("tenant/0367")
        assert slot is not None
        mailbox = slot.mailbox
        here.changed_to(tenant(name="July"))
        await settled()
        again = here.directory.get("tenant/0367")
        assert again is not None
        assert again is not slot
        assert again.mailbox is mailbox


async def test_one_that_is_replaced_finishes_the_request_in_hand(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.attempt_s = 1.0
        row = here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        here.changed_to(tenant(name="July"))
        await trio.sleep(2)
        assert row.state == "done"
        assert row.claim.attempt == 1


async def test_one_that_hangs_holds_up_the_change_for_a_moment_only(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.attempt_s = 10.0
        row = here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        here.since()
        here.changed_to(tenant(integrations={CRM: link(CRM, key="new"), CHAT: link(CHAT)}))
        await trio.sleep(REPLACE_GRACE_S + 0.2)
        assert here.since() == (["0367/crm"], ["0367/crm"])
        assert row.claim.attempt == 1, "claimed by the successor"
        await trio.sleep(15)
        assert row.state == "done"


async def test_the_stop_ends_inputs_first_and_drains_within_the_grace(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.attempt_s = 2.0
        row = here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        here.since()
        began = trio.current_time()
        await here.tenants.stop(8.0)
        assert trio.current_time() - began == pytest.approx(1.8, abs=0.2)
        assert here.closes[0] == "0367/main"
        assert row.state == "done"
        here.changed_to(tenant(), tenant("0368"))
        await settled()
        assert here.paths == [], "nothing is started any more"


async def test_a_stop_keeps_to_its_grace(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.attempt_s = 10.0
        row = here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        began = trio.current_time()
        await here.tenants.stop(3.0)
        assert trio.current_time() - began == pytest.approx(3.0, abs=0.2)
        assert (row.state, row.lease_until, row.claim.attempt) == ("pending", None, 0)


async def test_a_stop_during_a_change_starts_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant()) as here:
        here.attempt_s = 2.0
        here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        here.changed_to(tenant(name="July"), tenant("0368"))
        await trio.sleep(0.5)
        await here.tenants.stop(8.0)
        await settled()
        assert here.paths == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.slow
async def test_fifty_tenants_leave_nothing_behind() -> None:
    """Some with links to a PBX that is there, some to one that is not."""
    asterisk = adapters()[Kind("asterisk")]
    async with trio.open_nursery() as nursery:
        pbx = SimulatedPbx(tempo=0.01)
        port = await nursery.start(pbx.serve)
        await wait_all_tasks_blocked()
        tasks, threads, files = trio.lowlevel.current_statistics().tasks_living, threading.active_count(), open_files()

        def at(port: int) -> dict[str, Any]:
            return {"host": "127.0.0.1", "port": port, "username": pbx.username, "secret": Secret(pbx.secret)}

        links = [(Connector("main", asterisk.kind, at(port)),), (Connector("main", asterisk.kind, at(1)),), ()]
        async with world(
            *(
                tenant(f"{number:04}", pbxes=links[0 if number < 8 else 1 if number < 12 else 2])
                for number in range(50)
            ),
            real={asterisk.kind: asterisk},
        ) as here:
            with trio.fail_after(10):
                while (
                    sum(s.path.endswith("/pbx/main") and s.health.state is State.ONLINE for s in here.directory.below())
                    < 8
                ):
                    await trio.sleep(0.01)
            assert len(pbx.links) == 8
            assert len(here.paths) == 50 + 100 + 12
            await here.tenants.stop(2.0)
            assert here.paths == []
        with trio.fail_after(5):
            while pbx.links:
                await trio.sleep(0.01)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living <= tasks
        assert threading.active_count() <= threads + 1, "a worker thread of Trio's may wait for work"
        assert open_files() <= files
        nursery.cancel_scope.cancel()


async def test_posts_ring_for_their_tenant_alone(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant(), tenant("0368")) as here:
        here.tenants.ring(TenantId("0367"))
        here.tenants.ring(TenantId("9999"))
        slots = [here.directory.get(f"tenant/{number}") for number in ("0367", "0368")]
        assert [slot.mailbox.take_rung() for slot in slots if slot is not None and slot.mailbox is not None] == [
            True,
            False,
        ]


async def test_a_change_that_is_cut_short_is_made_by_the_next(autojump_clock: trio.abc.Clock) -> None:
    """An operator restarts the reconciler while it waits for an actor to end."""
    async with world(tenant()) as here:
        here.attempt_s = 10.0
        here.outbox.add()
        here.services.bells.ring(TenantId("0367"), CRM)
        await trio.sleep(0.2)
        here.changed_to(tenant(integrations={CRM: link(CRM, key="new"), CHAT: link(CHAT)}))
        await trio.sleep(0.2)
        reconciler = here.directory.get("system/tenants")
        assert reconciler is not None
        assert reconciler.restart is not None
        here.since()
        reconciler.restart()
        await trio.sleep(REPLACE_GRACE_S + 1)
        assert reconciler.restarts == 0
        assert here.since() == (["0367/crm"], ["0367/crm"])
        assert here.paths == ALL


async def test_a_change_while_shards_are_given_away_ends_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    async with world(tenant(), tenant("0368")) as here:
        ownership = cast(Any, here.services).ownership
        ownership.epoch_of = lambda number: None if number == "0367" else 1
        mailbox = here.tenants._mailboxes[TenantId("0367")]
        mailbox.wait_idle = partial(trio.sleep, 1)  # type: ignore[method-assign]
        mailboxes = list(here.tenants._mailboxes)
        shards = frozenset(shard_of(number) for number in mailboxes)
        here.changed_to(tenant("0368", version=2, name="Maple"))
        await here.tenants.let_go(shards)
        await settled()
        assert [path for path in here.paths if path.startswith("tenant/0367")] == []
        assert "tenant/0368/integration/crm" in here.paths
