"""Places calls for people: rules, then limits and the row in one commit, then exactly one action at the PBX.

    ask -> CallRefused (audited)
        -> Admitted, durable ... the client gets its response; then one request goes to the PBX
             taken | refused | doubtful ... stored in the row; the call itself is reported by the PBX's events

An admitted order belongs to this actor: the client may disconnect. Nothing is ever tried twice. Read
`gateway/domain/dialling.py` for what may be dialled, `gateway/store/call_orders.py` for the limits.
"""

import logging
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import trio

from actors.calls.refusals import Refusals
from actors.delivery.clients import Clients
from actors.runtime.directory import Directory, Slot, utc_now
from actors.runtime.peers import CHANNEL
from adapters.abilities import CallOrder, PlacesCalls
from gateway.domain.configuration import Tenant
from gateway.domain.dialling import CallRefused, Rules, check, check_extension, may_ring, read_written
from gateway.domain.errors import Doubtful, GatewayError, Rejected, Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.audit import insert_audit
from gateway.store.call_orders import Admitted, Limited, NewOrder, admit, doubt_left_orders, finish_order, take_order
from gateway.store.postgres.pool import Connection, Database
from gateway.store.shards import notify
from gateway.telemetry import COUNTERS, bound

log = logging.getLogger(__name__)

ROOM = 1000
PLACE_WITHIN_S = 20.0
NOTE_WITHIN_S = 5.0
LOOK_FOR_LEFT_S = 60.0
LOOK_FOR_COUNTED_S = 15.0

_LIMITS = {
    "per_user_minute": "calls of this employee in one minute",
    "per_user_day": "calls of this employee in one day",
    "per_company_minute": "calls of this company in one minute",
    "concurrent": "calls at the same time",
}


class Beside(Protocol):
    """What is stored in the commit that admits an order."""

    async def known(self, conn: Connection) -> str:
        """The order that was admitted for the same request before; empty where there is none."""
        ...

    async def store(self, conn: Connection, order: NewOrder) -> None:
        """Called once, for an order that is admitted just now."""
        ...


@dataclass(frozen=True, slots=True)
class _Placing:
    tenant: TenantId
    order: CallOrder
    pbx: PlacesCalls
    since: float
    """When it was admitted. An order that waited so long that nobody expects the phone to ring is not placed."""


@dataclass(frozen=True, slots=True)
class _Handed:
    """An order that another instance has admitted."""

    tenant: Tenant
    order_id: str


@dataclass(frozen=True, slots=True)
class _Failed:
    """The employee's phone did not answer."""

    tenant: TenantId
    order_id: str
    reason: str


class ClickToCall:
    """One for the process; runs under supervision. `ask` is what addresses and pages call; `hint` makes the notifications
    that announce an order to the instance that owns the tenant."""

    def __init__(
        self,
        db: Database,
        directory: Directory,
        clients: Clients,
        epoch_of: Callable[[TenantId], int | None] = lambda tenant: 0,
        hint: Callable[[str], Sequence[str]] = lambda order: (),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._db = db
        self._directory = directory
        self._clients = clients
        self._epoch_of = epoch_of
        self._hint = hint
        self._now = now
        self._refusals = Refusals()
        self._inbox, self._work = trio.open_memory_channel[_Placing | _Handed | _Failed](ROOM)

    async def ask(
        self, tenant: Tenant, *, extension: str, phone: str, asked_by: str, beside: Beside | None = None
    ) -> Admitted:
        """Admits one call, and stores with it what goes `beside` it. Raises CallRefused, which is audited (many in a minute are counted instead), and Unavailable when
        nothing could be stored."""
        try:
            return await self._ask(tenant, extension, phone, asked_by, beside)
        except CallRefused as refused:
            COUNTERS[f"call_orders_refused_{refused.code}"] += 1
            log.warning("a call is refused", extra={"tenant": tenant.number, "reason": refused.code})
            if self._refusals.admit(tenant.number, trio.current_time()):
                target = f"{extension} -> {phone}"
                await self._db.tenant(
                    tenant.number, insert_audit, tenant.number, asked_by, "call.refused", target, refused.code
                )
            raise

    async def _ask(self, tenant: Tenant, extension: str, phone: str, asked_by: str, beside: Beside | None) -> Admitted:
        check_extension(tenant, extension)
        written = read_written(phone, tenant)
        number = written.number
        rules = Rules.of(tenant.options)
        check(rules, tenant, number, self._now())
        ours = self._epoch_of(tenant.number) is not None
        name, pbx = self._pbx(tenant) if ours else (_first_pbx(tenant), None)
        order_id = f"gw-{uuid.uuid4()}"
        prefix = f"{name}-" if sum(known.enabled for known in tenant.pbxes) > 1 else ""
        new = NewOrder(
            order_id=order_id, call_id=pbx.call_of(order_id) if pbx is not None else prefix + order_id, pbx=name, asked_by=asked_by, extension=extension,
            number=number, then=written.extension,
        )  # fmt: skip
        if self._inbox.statistics().current_buffer_used >= ROOM - 100:
            raise Unavailable("too many calls are being placed", after_s=2.0)
        hints = () if ours else self._hint(f"{tenant.number} {order_id}")
        found = await self._db.tenant(tenant.number, _admit, tenant.number, new, rules, hints, beside)
        if isinstance(found, Limited):
            limit = getattr(rules, found.limit)
            raise CallRefused(
                found.limit, f"limit reached: {limit} {_LIMITS[found.limit]}",
                retry_after_s=math.ceil(found.retry_after_s),
            )  # fmt: skip
        if found.repeated:
            COUNTERS["call_orders_repeated"] += 1
        else:
            COUNTERS["call_orders_admitted"] += 1
            if pbx is None:
                return found  # the instance that owns the tenant has been notified
            self._inbox.send_nowait(
                _Placing(
                    tenant.number, CallOrder(order_id=order_id, extension=extension, number=number), pbx,
                    trio.current_time(),
                )
            )  # fmt: skip
        return found

    def _pbx(self, tenant: Tenant) -> tuple[str, PlacesCalls]:
        """The first PBX that can dial and is there."""
        able = False
        for pbx in tenant.pbxes:
            if not pbx.enabled:
                continue
            slot = self._directory.get(f"tenant/{tenant.number}/pbx/{pbx.name}")
            client = self._clients.pbx(tenant.number, pbx.name)
            if isinstance(client, PlacesCalls) and client.can_place():
                able = True
                if slot is not None and slot.health.state is State.ONLINE:
                    return pbx.name, client
        if able:
            raise CallRefused("pbx_away", "the PBX is not connected; try again", retry_after_s=5.0)
        raise CallRefused("no_pbx", "no PBX of this company is set up to place calls (context for click-to-call)")

    def received(self, number: TenantId, order_id: str, tenant: Tenant | None) -> None:
        """Another instance has admitted an order. It is placed here if this instance owns the tenant. Never waits."""
        if tenant is None or self._epoch_of(number) is None:
            return
        try:
            self._inbox.send_nowait(_Handed(tenant, order_id))
        except trio.WouldBlock:
            COUNTERS["call_orders_unnoted"] += 1

    def answered(self, tenant: TenantId, order_id: str, failure: str) -> None:
        """The PBX reports whether the employee's phone was reached. Never waits."""
        log.info("order", extra={"tenant": tenant, "call": order_id, "outcome": failure or "employee_answered"})
        if failure:
            try:
                self._inbox.send_nowait(_Failed(tenant, order_id, failure))
            except trio.WouldBlock:
                COUNTERS["call_orders_unnoted"] += 1

    async def run(self, slot: Slot) -> None:
        """Until cancelled."""
        slot.report(State.ONLINE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_for_left)
            nursery.start_soon(self._note_counted)
            async for work in self._work:
                if isinstance(work, _Placing):
                    nursery.start_soon(self._place, work)
                elif isinstance(work, _Handed):
                    nursery.start_soon(self._take, work)
                else:
                    nursery.start_soon(self._note, work.tenant, work.order_id, "refused", work.reason)

    async def _take(self, handed: _Handed) -> None:
        """Takes an order over, once: from here on it is in doubt until the PBX has answered."""
        number, order_id = handed.tenant.number, handed.order_id
        found: tuple[str, PlacesCalls] | None = None
        why_not = ""
        try:
            found = self._pbx(handed.tenant)
        except CallRefused as refused:
            why_not = refused.detail
        # Who admitted it could not know which PBX is there: the call's id, by which its events are found, follows.
        place = (found[0], found[1].call_of(order_id)) if found is not None else (None, None)
        try:
            order = await self._db.tenant(number, take_order, number, order_id, *place)
        except GatewayError:
            return  # nobody has it: it soon becomes doubtful, and is never placed
        if order is None:
            return
        if found is None:
            await self._note(number, order_id, "refused", why_not)
            return
        if not may_ring(handed.tenant, order[0]):  # admitted by an instance of an earlier version, or before a change
            await self._note(number, order_id, "refused", "the internal number may not be rung")
            return
        ordered = CallOrder(order_id=order_id, extension=order[0], number=order[1])
        await self._place(_Placing(number, ordered, found[1], trio.current_time()))

    async def _place(self, placing: _Placing) -> None:
        state, reason = "taken", ""
        order = placing.order
        with bound(tenant=placing.tenant, call=order.order_id):
            try:
                if trio.current_time() - placing.since > PLACE_WITHIN_S:
                    raise Rejected("it had waited for too long")
                with trio.fail_after(PLACE_WITHIN_S):
                    await placing.pbx.place(order)
            except trio.TooSlowError:
                state, reason = "doubtful", "the PBX did not answer in time"
            except Doubtful as error:
                state, reason = "doubtful", error.shown
            except GatewayError as error:
                state, reason = "refused", error.shown or error.person
            COUNTERS[f"call_orders_{state}"] += 1
            log.info("order", extra={"outcome": state, "reason": reason})
            await self._note(placing.tenant, order.order_id, state, reason)

    async def _note(self, tenant: TenantId, order_id: str, state: str, reason: str) -> None:
        pause = 0.2
        while True:
            try:
                with trio.fail_after(NOTE_WITHIN_S):
                    await self._db.tenant(tenant, finish_order, tenant, order_id, state, reason)
                return
            except (Unavailable, trio.TooSlowError):
                await trio.sleep(pause)
                pause = min(pause * 2, 5.0)
            except GatewayError as error:
                # One tenant's order must not stop the others' orders: it soon becomes doubtful.
                log.error("an order's outcome cannot be stored", extra={"tenant": tenant, "reason": str(error)})
                return

    async def _look_for_left(self) -> None:
        while True:
            try:
                if left := await self._db.engine(doubt_left_orders):
                    log.warning("orders that were left by a process that ended", extra={"orders": left})
            except Unavailable:
                pass
            await trio.sleep(LOOK_FOR_LEFT_S)

    async def _note_counted(self) -> None:
        """Until cancelled: writes one audit line for the refusals that were only counted."""
        while True:
            await trio.sleep(LOOK_FOR_COUNTED_S)
            for number, count in self._refusals.take_counted(trio.current_time()):
                try:
                    await self._db.tenant(number, insert_audit, number, "", "call.refused_more", "", str(count))
                except Unavailable:
                    self._refusals.put_back(number, count, trio.current_time())
                except GatewayError as error:
                    log.error("refusals cannot be written down", extra={"tenant": number, "reason": str(error)})


def _first_pbx(tenant: Tenant) -> str:
    for pbx in tenant.pbxes:
        if pbx.enabled:
            return pbx.name
    raise CallRefused("no_pbx", "no PBX of this company is set up to place calls (context for click-to-call)")


async def _admit(
    conn: Connection,
    tenant: TenantId,
    order: NewOrder,
    rules: Rules,
    hints: Sequence[str],
    beside: Beside | None = None,
) -> Admitted | Limited:
    """One transaction: the order, its audit line, what goes beside it, and the notification for the instance that is to place it."""
    if beside is not None and (known := await beside.known(conn)):
        return Admitted(known, repeated=True)
    found = await admit(conn, tenant, order, rules)
    if isinstance(found, Admitted) and not found.repeated:
        target = f"{order.extension} -> {order.number}" + (f" ext. {order.then}" if order.then else "")
        await insert_audit(conn, tenant, order.asked_by, "call.placed", target, order.order_id)
        if beside is not None:
            await beside.store(conn, order)
        if hints:
            await notify(conn, CHANNEL, hints)
    return found
