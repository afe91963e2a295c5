"""Makes what runs equal to the configuration: the desired state is data, and a changed actor is replaced.

    tenant/0367                      calls of the tenant (actors.calls.tenant_calls)
    tenant/0367/pbx/main             one PBX session (actors.calls.pbx_session)
    tenant/0367/chats                chats of the tenant (actors.chats.tenant_chats)
    tenant/0367/ai                   the AI operator (actors.ai.tenant_ai)
    tenant/0367/transcripts          texts of recorded calls (actors.ai.transcribing)
    tenant/0367/integration/KEY      deliveries to one outside system (actors.delivery.worker)
    tenant/0367/integration/KEY/updates   a stream that is read from it (actors.chats.channel_session)

An actor whose inputs did not change is left alone. A tenant that another instance is about to hand over gets its PBX
sessions first: they fill the mailbox, which is not processed before the tenant is ours. Settings that do not validate become
a slot that reports this and waits.
Read `actors.runtime.supervisor` for what happens to a crash.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import trio
from pydantic import ValidationError

from actors.ai.tenant_ai import TenantAi, model_of
from actors.ai.transcribing import SummaryPlanner, Transcribing, speech_of
from actors.calls.calls_book import Starter
from actors.calls.pbx_session import PbxActor
from actors.calls.tenant_calls import MAILBOX_ROOM, PbxEvents, TenantCalls
from actors.chats.channel_session import ChannelSession
from actors.chats.tenant_chats import Reads, TenantChats
from actors.connections import TRANSCRIPTS
from actors.delivery.worker import DeliveryActor
from actors.runtime.directory import Slot
from actors.runtime.mailbox import Mailbox
from actors.runtime.supervisor import Child, Run, Supervisor
from actors.services import CHATS, Services
from adapters.base import Adapter, AdapterSettings
from adapters.registry import Linked
from gateway.domain.ai import AiBlock, settings_of
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId, titled
from gateway.domain.routing import Planner
from gateway.domain.shards import shard_of

log = logging.getLogger(__name__)

REPLACE_GRACE_S = 3.0
"""How long an actor that is replaced may finish the requests in hand."""

PREPARE_WITHIN_S = 5.0
"""Seconds that the sessions of a tenant being taken over may need to connect; then it is taken over without them."""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Wanted:
    """One actor that should run: its place, and the inputs that, once changed, replace it."""

    path: str
    title: str
    inputs: tuple[Any, ...]
    run: Run


@dataclass
class _Running:
    wanted: Wanted
    child: Child


class Reconciler:
    """Reconciles until cancelled. `adapters` is the registry's list."""

    def __init__(self, services: Services, supervisor: Supervisor, adapters: Mapping[Kind, Adapter]) -> None:
        self._services = services
        self._supervisor = supervisor
        self._adapters = adapters
        self._running: dict[str, _Running] = {}
        self._mailboxes: dict[TenantId, Mailbox[PbxEvents]] = {}
        self._deliveries: dict[str, DeliveryActor] = {}
        self._planned: dict[TenantId, tuple[Tenant, int | None, list[Wanted]]] = {}
        self._session_before: dict[TenantId, int | None] = {}
        """Tenants whose PBX sessions began before they were ours -> the epoch under which they then were, or None yet."""
        self._stopping = trio.Event()
        self._changing = trio.Lock()
        self.settled = trio.Event()
        """Set once everything that was configured at the start has been started."""

    async def run(self, slot: Slot) -> None:
        """Until cancelled: after each change of the configuration, and once at the start."""
        cache = self._services.cache
        await cache.loaded.wait()
        ownership = self._services.ownership
        await ownership.first_round.wait()
        while True:
            await self.reconcile(cache.tenants())
            self.settled.set()
            slot.report(State.ONLINE)
            async with trio.open_nursery() as nursery:
                for changed in (cache.changed, ownership.changed):
                    nursery.start_soon(_first, changed, nursery.cancel_scope)

    async def let_go(self, shards: frozenset[int]) -> None:
        """Stops the actors of these shards, which this instance no longer owns: PBX sessions, then the actors that drain
        their mailboxes, then the rest."""
        numbers = [number for number in self._mailboxes if shard_of(number) in shards]
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(self._stop_where, f"tenant/{number}/pbx/")
        with trio.move_on_after(REPLACE_GRACE_S):
            for number in numbers:
                if (
                    mailbox := self._mailboxes.get(number)
                ) is not None:  # else a change of the configuration was faster
                    await mailbox.wait_idle()
        await self.reconcile(self._services.cache.tenants())

    async def prepare(self, shards: frozenset[int]) -> None:
        """Starts the PBX sessions of these shards, which come, and waits until each has been connected or refused."""
        await self.reconcile(self._services.cache.tenants())
        coming = [path for path in self._running if "/pbx/" in path and _shard(path) in shards]
        with trio.move_on_after(PREPARE_WITHIN_S):
            for path in coming:
                slot = self._services.directory.get(path)
                if slot is not None:
                    await slot.arrived()

    async def reconcile(self, tenants: Mapping[TenantId, Tenant]) -> None:
        """Stops what should not run, then starts what should."""
        async with self._changing:
            await self._change(tenants)

    async def _change(self, everybody: Mapping[TenantId, Tenant]) -> None:
        ownership = self._services.ownership
        tenants = {
            number: tenant
            for number, tenant in everybody.items()
            if ownership.epoch_of(number) is not None or ownership.comes(number)
        }
        for number in self._planned.keys() - tenants.keys():
            del self._planned[number]
            self._session_before.pop(number, None)
        wanted = {item.path: item for tenant in tenants.values() for item in self._plan(tenant)}
        gone = [
            path
            for path, running in self._running.items()
            if path not in wanted or wanted[path].inputs != running.wanted.inputs
        ]
        async with trio.open_nursery() as nursery:
            for path in gone:
                nursery.start_soon(self._end, path, REPLACE_GRACE_S)
        if self._stopping.is_set():
            return
        for number in self._mailboxes.keys() - tenants.keys():
            del self._mailboxes[number]
        for item in wanted.values():
            if item.path not in self._running:
                self._start(item)

    async def _end(self, path: str, grace_s: float) -> None:
        """Stops an actor for good or for a successor; requests under way may be answered, so that none is repeated."""
        running, delivery = self._running.get(path), self._deliveries.get(path)
        if running is None:
            return  # somebody else has just stopped it
        if delivery is not None and grace_s:
            await delivery.drain(grace_s)
        await self._supervisor.stop(running.child)
        if self._running.get(path) is running:
            del self._running[path]

    def ring(self, number: TenantId) -> None:
        """Posts of the tenant wait in the journal."""
        mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.ring()
        self._services.bells.ring(number, CHATS)

    async def stop(self, grace_s: float) -> None:
        """Inputs first, then what they left in the mailboxes, then deliveries until the grace period ends."""
        self._stopping.set()
        await self._stop_where("/pbx/")
        deadline = trio.current_time() + grace_s
        with trio.move_on_at(deadline):
            for mailbox in list(self._mailboxes.values()):
                await mailbox.wait_idle()
        unfinished: list[int] = []

        async def drain(actor: DeliveryActor) -> None:
            unfinished.extend(await actor.drain(max(0.0, deadline - trio.current_time())))

        async with trio.open_nursery() as nursery:
            for actor in self._deliveries.values():
                nursery.start_soon(drain, actor)
        if unfinished:
            log.warning("deliveries left for the next start", extra={"deliveries": sorted(unfinished)})
        async with self._changing:  # what a change was about to end is ended by it
            await self._stop_where("")

    async def _stop_where(self, part: str) -> None:
        async with trio.open_nursery() as nursery:
            for path in self._running:
                if part in path:
                    nursery.start_soon(self._end, path, 0.0)

    # What one tenant needs.

    def _start(self, item: Wanted) -> None:
        mailbox = self._mailboxes.get(TenantId(item.path.removeprefix("tenant/")))
        slot = Slot(item.path, item.title, mailbox=mailbox)
        self._running[item.path] = _Running(item, self._supervisor.start(slot, item.run))

    def _plan(self, tenant: Tenant) -> list[Wanted]:
        """As `_wanted`, cached: settings are read anew only for a tenant that has changed."""
        epoch = self._services.ownership.epoch_of(tenant.number)
        known = self._planned.get(tenant.number)
        if known is None or known[:2] != (tenant, epoch):
            known = self._planned[tenant.number] = tenant, epoch, self._wanted(tenant, epoch)
        return known[2]

    def _session_term(self, number: TenantId, epoch: int | None) -> int:
        """What a PBX session belongs to: an epoch, or 0 when it began before the tenant was ours and goes on as it is."""
        if epoch is None:
            self._session_before[number] = None
            return 0
        if number in self._session_before and self._session_before[number] is None:
            self._session_before[number] = epoch
        return 0 if self._session_before.get(number) == epoch else epoch

    def _wanted(self, tenant: Tenant, epoch: int | None) -> list[Wanted]:
        number = tenant.number
        mailbox = self._mailboxes.setdefault(number, Mailbox[PbxEvents](MAILBOX_ROOM))
        path = f"tenant/{number}"
        person = replace(
            tenant, version=0, token_hash=b"", pbxes=(), integrations=_EMPTY, user_extensions=_EMPTY, secrets=_EMPTY
        )
        names = tuple(Connector(pbx.name, pbx.kind, _EMPTY) for pbx in tenant.pbxes if pbx.enabled)
        planners: dict[IntegrationKey, Planner[Any]] = {}
        starters: dict[IntegrationKey, Starter] = {}
        summaries: dict[IntegrationKey, tuple[AdapterSettings, SummaryPlanner]] = {}
        children: list[Wanted] = []
        channels = dict[IntegrationKey, Reads]()
        crms = dict[IntegrationKey, Connector]()
        delivers: list[tuple[IntegrationKey, AdapterSettings]] = []
        for link in tenant.integrations.values() if epoch is not None else ():
            adapter = self._adapters.get(link.kind)
            if not link.enabled or adapter is None:
                continue
            place, title = f"{path}/integration/{link.key}", titled(adapter.title, link.key)
            settings, problems = _validated(adapter, link.settings)
            if settings is None:
                children.append(Wanted(place, title, (problems,), partial(_wait_for_settings, problems)))
                continue
            chat = adapter.chat if adapter.chat is not None and adapter.chat.enabled(settings) else None
            if adapter.inbound is not None or chat is not None:
                channels[link.key] = Reads(chat, settings)
            if adapter.plan_call is not None:
                planners[link.key] = partial(adapter.plan_call, settings, person)
                if adapter.plan_start is not None:
                    starters[link.key] = partial(adapter.plan_start, settings, person)
                delivers.append((link.key, settings))
            if adapter.plan_summary is not None:
                summaries[link.key] = settings, partial(adapter.plan_summary, settings, person)
            if adapter.plan_contact is not None:
                crms[link.key] = link
            if adapter.delivers or chat is not None:
                run = partial(self._run_delivery, place, person, Linked(link.key, adapter), settings, epoch)
                children.append(Wanted(place, title, (person, link.key, settings, epoch), run))
            if adapter.streams(settings):
                session = ChannelSession(person, Linked(link.key, adapter), settings, self._services)
                children.append(Wanted(f"{place}/updates", title, (person, link.key, settings, epoch), session.run))
        term = self._session_term(number, epoch)
        for pbx in tenant.pbxes:
            adapter = self._adapters.get(pbx.kind)
            if not pbx.enabled or adapter is None:
                continue
            place = f"{path}/pbx/{pbx.name}"
            settings, problems = _validated(adapter, pbx.settings)
            if settings is None:
                children.append(Wanted(place, pbx.name, (problems,), partial(_wait_for_settings, problems)))
                continue
            knows = replace(person, pbxes=names)
            pbx_session = PbxActor(knows, pbx.name, adapter, settings, mailbox, self._services)
            children.append(Wanted(place, pbx.name, (knows, pbx.name, pbx.kind, settings, term), pbx_session.run))
        if epoch is None:
            return children
        ai = self._ai(tenant, path, epoch, children)
        if channels:
            reader = TenantChats(person, self._services, epoch, channels, ai, MappingProxyType(crms))
            read = (*((key, reads.settings) for key, reads in channels.items()), *crms.items())
            children.append(Wanted(f"{path}/chats", tenant.name, (person, epoch, read), reader.run))
        if ai is not None and ai.enabled and (conversing := self._services.conversing) is not None:
            company = replace(tenant, version=0, token_hash=b"", pbxes=(), user_extensions=_EMPTY, secrets=_EMPTY)
            model = model_of(ai.llm, self._services.llm, self._services.dial)
            operator = TenantAi(company, ai, model, self._services, conversing)
            children.append(Wanted(f"{path}/ai", tenant.name, (company, epoch, ai, model), operator.run))
        if ai is not None and ai.calls.transcribe and self._services.recording_files is not None:
            speech = speech_of(ai.calls, self._services.llm, self._services.dial)
            model = model_of(ai.llm, self._services.llm, self._services.dial)
            transcribing = Transcribing(
                person, ai, speech, model, self._services, {key: planner for key, (_, planner) in summaries.items()}
            )
            inputs = person, epoch, ai, speech, model, tuple((key, known) for key, (known, _) in summaries.items())
            children.append(Wanted(f"{path}{TRANSCRIPTS}", tenant.name, inputs, transcribing.run))
        whole = replace(person, pbxes=names)
        run = partial(self._run_tenant, whole, mailbox, planners, starters, epoch)
        return [Wanted(path, tenant.name, (whole, delivers, epoch), run), *children]

    def _ai(self, tenant: Tenant, path: str, epoch: int, children: list[Wanted]) -> AiBlock | None:
        """The settings of the AI operator; None, and a slot that says so, where they are not valid."""
        try:
            return settings_of(tenant.options, tenant.secrets)
        except ValidationError as error:
            problems = _problems(error)
            children.append(Wanted(f"{path}/ai", tenant.name, (problems,), partial(_wait_for_settings, problems)))
            return None

    # An incarnation starts with a fresh object, so no state of a crash is left in it.

    async def _run_tenant(
        self,
        tenant: Tenant,
        mailbox: Mailbox[PbxEvents],
        planners: Mapping[IntegrationKey, Planner[Any]],
        starters: Mapping[IntegrationKey, Starter],
        epoch: int | None,
        slot: Slot,
    ) -> None:
        await TenantCalls(tenant, mailbox, self._services, planners, epoch, starters).run(slot)

    async def _run_delivery(
        self, path: str, tenant: Tenant, linked: Linked, settings: AdapterSettings, epoch: int | None, slot: Slot
    ) -> None:
        actor = self._deliveries[path] = DeliveryActor(tenant, linked, settings, self._services, epoch)
        try:
            await actor.run(slot)
        finally:
            if self._deliveries.get(path) is actor:
                del self._deliveries[path]


async def _first(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def _shard(path: str) -> int:
    return shard_of(TenantId(path.split("/")[1]))


def _validated(adapter: Adapter, values: Mapping[str, Any]) -> tuple[AdapterSettings | None, str]:
    try:
        return adapter.settings.model_validate(dict(values)), ""
    except ValidationError as error:
        return None, _problems(error)


def _problems(error: ValidationError) -> str:
    # Field names and messages only: the input may hold a secret.
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))


async def _wait_for_settings(problems: str, slot: Slot) -> None:
    """Until replaced: the settings do not validate, and a person has to correct them."""
    slot.report(State.ATTENTION, "bad_settings", problems)
    await trio.sleep_forever()
