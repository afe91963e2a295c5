"""Deleting a company: nothing of it is left, in the database, on the disk, in the bucket, and outside where that can be.

    requested   caches drop it at once: posts, keys, links and sessions of it are refused, its actors stop
      -> what was registered outside is taken back, for a bounded time; what fails is noted and holds nothing up
    withdrawn
      -> gateways that run have stopped its actors; files, then rows batch by batch
      -> what is left, its own row among it, in one transaction that leaves a line in the operators' audit
      -> once more, for what was on its way meanwhile

Each arrow may be the last thing that happens: `gateway tenant delete` run again, or a running gateway by itself, goes on from
there. One works at a time, under a lease. Read `gateway/store/tenant_deletions.py` for the statements.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import trio

from actors.crm.registration import Registrations, registering
from actors.delivery.clients import Clients
from actors.runtime.directory import Slot
from adapters.abilities import Registers, Withdraws
from adapters.base import Dialer, Link
from adapters.budget import Budgets, account_of
from adapters.registry import Linked, integrations
from gateway.cache import ConfigurationCache, assemble
from gateway.domain.configuration import Connector, Tenant
from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store import tenant_deletions as store
from gateway.store.files.blobs import BlobStore
from gateway.store.postgres.errors import StoreError, Unsealable
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys
from gateway.store.tenants import select_tenants

log = logging.getLogger(__name__)

LOOK_S = 2.0
OUTSIDE_S = 15.0
"""How long one outside system may take to take us back; all are asked at once."""
SETTLE_S = 8.0
"""Within this time every gateway that runs has heard of the request and stopped the actors."""
RAN_WITHIN_S = 10.0
LATE_S = 1.0
BATCH = 5000
PASSES = 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """What the outside systems of a company are reached with."""

    dial: Dialer
    provider_urls: Mapping[str, str]
    public_url: str
    master: MasterKeys


class _OneTenant:
    """The configuration of a company that no cache has any more."""

    def __init__(self, tenant: Tenant, master: MasterKeys) -> None:
        self.master = master
        self._tenant = tenant

    def tenant(self, number: TenantId) -> Tenant | None:
        return self._tenant if number == self._tenant.number else None

    async def load(self, number: TenantId | None = None, *, anew: bool = False) -> None:
        """Nothing: it does not change any more."""


class Deletions:
    """`worker` names who works: an instance, or a command."""

    def __init__(self, db: Database, place: Place, blobs: BlobStore, worker: Callable[[], str]) -> None:
        self._db = db
        self._place = place
        self._blobs = blobs
        self._worker = worker

    async def run(self, slot: Slot) -> None:
        """Until cancelled: goes on with every deletion that nobody works on."""
        while True:
            try:
                waiting = [one for one in await self._db.engine(store.select_deletions) if not one.worked_on]
                for one in waiting:
                    await self.carry_out(one.tenant, lambda text: None)
                slot.report(State.ONLINE)
            except Unavailable as error:
                slot.report(State.DEGRADED, "unavailable", error.detail)
            except GatewayError as error:
                log.error("a company could not be deleted", extra={"reason": str(error)})
                slot.report(State.DEGRADED, "not_deleted", error.detail)
            await trio.sleep(LOOK_S)

    async def carry_out(self, number: TenantId, say: Say) -> bool:
        """Does what is left of a deletion that was requested. True once nothing of it is left, False where somebody else works
        on it. Raises what the database and the place of recordings raise: it can be gone on with later."""
        worker = self._worker()
        deletion = await self._db.engine(store.claim_deletion, number, worker)
        if deletion is None:
            return False
        log.info("deleting a company", extra={"tenant": number, "stage": deletion.stage})
        done, failure = False, None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._prolong, number, worker)
                try:
                    done = await self._do(deletion, worker, say)
                except GatewayError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            if not done:  # others go on at once; where this fails, the lease runs out by itself
                with trio.move_on_after(2, shield=True), suppress(GatewayError):
                    await self._db.engine(store.release_deletion, number, worker)
        if failure is not None:
            raise failure
        if done:
            await trio.sleep(LATE_S)
            await self._blobs.delete_all(number)
            await self._db.engine(store.delete_latecomers, number)
            log.info("a company was deleted", extra={"tenant": number})
        return done

    async def _do(self, deletion: store.Deletion, worker: str, say: Say) -> bool:
        number = deletion.tenant
        if deletion.stage == "requested":
            problems = await self._withdraw(number, say)
            await self._db.engine(store.note_withdrawn, number, problems)
        await self._settle(deletion.age_s, say)
        await self._blobs.delete_all(number)
        say("recordings removed")
        await self._delete_rows(number, say)
        return await self._db.engine(store.finish_deletion, number, worker)

    async def _prolong(self, number: TenantId, worker: str) -> None:
        while True:
            await trio.sleep(store.LEASE_S / 3)
            try:
                await self._db.engine(store.claim_deletion, number, worker)
            except Unavailable:
                continue  # there are two more tries in the time of a lease

    # What is outside.

    async def _withdraw(self, number: TenantId, say: Say) -> list[str]:
        """What could not be taken back, in words."""
        rows = await self._db.engine(partial(select_tenants, being_deleted=True), [number])
        if not rows:
            return []
        await self._place.master.prepare([(number, rows[0].data_key)])
        try:
            tenant = assemble(rows[0], self._place.master)
        except Unsealable as error:
            say(f"its secrets do not open: nothing can be taken back outside ({error.detail})")
            return [error.detail]
        problems: list[str] = []

        async def take_back(link: Connector) -> None:
            try:
                with trio.fail_after(OUTSIDE_S):
                    found = await self._take_back(tenant, link)
            except trio.TooSlowError:
                found = "no answer in time"
            except GatewayError as error:
                found = error.detail or error.person
            if found:
                problems.append(f"{link.key}: {found}")
                say(f"{link.key}: could not be taken back outside: {found}")

        async with trio.open_nursery() as nursery:
            for link in tenant.integrations.values():
                nursery.start_soon(take_back, link)
        return sorted(problems)

    async def _take_back(self, tenant: Tenant, link: Connector) -> str:
        adapter = integrations().get(link.kind)
        if adapter is None:
            return ""
        linked = Linked(link.key, adapter)
        if adapter.can(Registers) and link.kind in registering():
            alone = cast(ConfigurationCache, _OneTenant(tenant, self._place.master))
            modules = Registrations(
                self._db, alone, Clients(), self._place.dial, self._place.provider_urls, self._place.public_url
            )  # fmt: skip
            if (await modules.stored(tenant.number, linked)).row.state in ("active", "inactive"):
                result = await modules.deactivate(tenant.number, linked, "", delete=True)
                return "" if result.saved else result.detail or result.code
            return ""
        if not adapter.can(Withdraws):
            return ""
        try:
            settings = adapter.settings.model_validate(dict(link.settings))
        except ValueError:
            return "its settings are not complete"
        known = replace(tenant, integrations={}, pbxes=(), user_extensions={})
        budget = Budgets().of(account_of(adapter, tenant.number, link.key, settings), adapter.limits)
        outside = Link(
            known,
            link.key,
            self._place.provider_urls.get(adapter.kind),
            self._place.dial,
            budget=budget,
            provider_urls=self._place.provider_urls,
        )
        async with adapter.connect(outside, settings) as client:
            found: Any = client
            await found.withdraw()
        return ""

    # What is here.

    async def _settle(self, age_s: float, say: Say) -> None:
        if await self._db.engine(store.select_gateways, RAN_WITHIN_S) and age_s < SETTLE_S:
            say("waiting until the gateways that run have stopped its actors")
            await trio.sleep(SETTLE_S - age_s)

    async def _delete_rows(self, number: TenantId, say: Say) -> None:
        tables = [(name, parts) for name, parts in await self._db.engine(store.select_tables) if name not in store.LAST]
        for _ in range(PASSES):
            count = 0
            for table, parts in tables:
                count += await self._delete_table(number, table, None if parts else BATCH, say)
            if not count:
                return
        raise Unavailable("rows of this company are still written by somebody")

    async def _delete_table(self, number: TenantId, table: str, batch: int | None, say: Say) -> int:
        total = 0
        while True:
            try:
                count = await self._db.engine(store.delete_rows, number, table, batch)
            except Unavailable:
                raise
            except StoreError as error:  # a row that refers to it has just come: the next pass has it first
                log.info("rows are left for the next pass", extra={"table": table, "reason": error.detail})
                return total + 1
            total += count
            if not count or batch is None:
                break
        if total:
            say(f"{table}: {total} rows removed")
        return total
