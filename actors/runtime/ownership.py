"""Which tenants this instance serves: renews its leases, takes what is free, gives away what is too much.

    every RENEW_S   renew
    every SEEK_S    fewer than its share: take shards that nobody owns
    more than its share for HOLD_S, or a stop:
        we offer -> the heir connects to the PBXes beside us -> it is ready -> our actors stop -> it owns

After River's elector: a term is (owner, epoch); trust in it lasts until the *start* of the last renewal that succeeded
plus the lease minus a margin, on our own monotonic clock, so that a slow answer cannot stretch it. While trust is gone
nothing new is begun; what is written all the same is refused by the database. Read `gateway/store/shards.py` for that.
"""

import logging
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from actors.runtime.directory import Slot
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.domain.shards import SHARDS, fair_share, shard_of
from gateway.store import shards as store
from gateway.store.postgres.pool import Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

TTL_S = store.TTL_S
MARGIN_S = 1.0
RENEW_S = 1.0
SEEK_S = 0.5
ASK_WITHIN_S = 2.0
HOLD_S = 30.0
HEIR_WITHIN_S = 10.0
"""Seconds to wait for an heir to be ready; then it gets what it was offered all the same."""
AT_ONCE = SHARDS // 10
"""How many shards are passed on in one round."""
TAKEN_AT_ONCE = SHARDS // 4
"""How many free shards are taken in one round: their tenants have already waited for the lease to end."""


def instance_name() -> str:
    """Unique among all instances, and readable."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass
class Ownership:
    """One for the process. `let_go` stops the actors of shards before they are given away; `prepare` connects the PBX
    sessions of shards about to be taken over; `emit` makes the other instances look at once; `master_keys` names the keys
    held here, since a rotation uses no key that an instance lacks."""

    db: Database
    me: str = field(default_factory=instance_name)
    let_go: Callable[[frozenset[int]], Awaitable[None]] | None = None
    prepare: Callable[[frozenset[int]], Awaitable[None]] | None = None
    emit: Callable[[], Awaitable[None]] | None = None
    master_keys: Callable[[], Sequence[str]] = tuple
    instances: int = 1
    first_round: trio.Event = field(default_factory=trio.Event)
    """Set once it is known what is ours at the start."""
    _held: dict[int, int] = field(default_factory=dict)
    _coming: frozenset[int] = frozenset()
    _ready: frozenset[int] = frozenset()
    _accepted: set[int] = field(default_factory=set)
    _leaving: frozenset[int] = frozenset()
    _stays: bool = True
    _offered: bool = False
    """Whether the table may name an heir for shards that were not handed over."""
    _trusted_until: float = float("-inf")
    _surplus_since: float | None = None
    _turn: trio.Lock = field(default_factory=trio.Lock)
    """One statement about our leases at a time: a response from before a change is outdated."""
    _changed: trio.Event = field(default_factory=trio.Event)
    _nudged: trio.Event = field(default_factory=trio.Event)
    _looked: trio.Event = field(default_factory=trio.Event)

    # Queries of other modules; none of them waits.

    @property
    def held(self) -> Mapping[int, int]:
        """Shard -> epoch, as far as we know."""
        return self._held

    @property
    def trusted(self) -> bool:
        """Whether our leases can be relied on at this moment."""
        return trio.current_time() < self._trusted_until

    def epoch_of(self, tenant: TenantId) -> int | None:
        """The epoch under which the tenant is ours; None when it is somebody else's, or about to be."""
        shard = shard_of(tenant)
        return None if shard in self._leaving else self._held.get(shard)

    def serves(self, tenant: TenantId, epoch: int) -> bool:
        """Whether the tenant is certainly ours now, under that epoch."""
        return self.trusted and self._held.get(shard_of(tenant)) == epoch

    def comes(self, tenant: TenantId) -> bool:
        """Whether the tenant is about to be ours: its PBX sessions are already connected."""
        return shard_of(tenant) in self._coming

    def nudge(self) -> None:
        """Another instance has changed something: look now."""
        self._nudged.set()

    async def changed(self) -> None:
        """Waits until we own something else than at the last call."""
        await self._changed.wait()
        self._changed = trio.Event()

    # Running.

    async def run(self, slot: Slot) -> None:
        """Until cancelled; then `resign` is the caller's, after the actors have stopped."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, slot, nursery)
            nursery.start_soon(self._seek)
            nursery.start_soon(self._give)

    async def begin_to_leave(self, within_s: float) -> None:
        """For a stop, before anything has stopped: offers everything to the others and waits until they are connected."""
        self._stays = False
        if self.instances < 2 or not self._held:
            return
        try:
            with trio.move_on_after(within_s):
                await self.db.engine(store.begin_to_leave, self.me)
                await self._offer(frozenset(self._held))
        except Unavailable:
            pass

    async def resign(self) -> None:
        """Lets go of everything, so that others take over at once."""
        terms, self._held = dict(self._held), {}
        self._trusted_until = float("-inf")
        try:
            with trio.move_on_after(ASK_WITHIN_S, shield=True):
                await self.db.engine(store.resign, self.me, terms)
                await self.db.engine(store.leave, self.me)
                await self._notify()
        except Unavailable:
            log.warning("the leases end by themselves", extra={"seconds": TTL_S})

    async def _notify(self) -> None:
        if self.emit is not None:
            await self.emit()

    # Renewing, and what we are offered.

    async def _renew(self, slot: Slot, nursery: trio.Nursery) -> None:
        while True:
            self._nudged = trio.Event()
            started = trio.current_time()
            try:
                with trio.fail_after(ASK_WITHIN_S):
                    async with self._turn:
                        found = await self.db.engine(store.renew, self.me, master_keys=self.master_keys())
                        self._trusted_until = started + TTL_S - MARGIN_S
                        self._found(found)
            except (Unavailable, trio.TooSlowError):
                if not self.trusted:
                    slot.report(State.DEGRADED, "leases_not_renewed")
            else:
                slot.report(State.ONLINE, "", f"{len(self._held)}/{SHARDS}")
                if new := frozenset(self._coming - self._accepted):
                    self._accepted |= new
                    nursery.start_soon(self._accept, new)
            with trio.move_on_after(max(0.0, RENEW_S - (trio.current_time() - started))):
                await self._nudged.wait()

    def _found(self, found: store.Round) -> None:
        self.instances = found.instances
        self._ready = found.ready
        if found.coming != self._coming:
            self._coming = found.coming
            self._accepted &= found.coming
            self._changed.set()
        self._now_held(dict(found.held))
        self._looked.set()
        self._looked = trio.Event()

    async def _accept(self, shards: frozenset[int]) -> None:
        if self.prepare is not None:
            await self.prepare(shards)
        try:
            with trio.move_on_after(ASK_WITHIN_S):
                await self.db.engine(store.accept, self.me, sorted(shards))
                await self._notify()
        except Unavailable:
            pass  # the owner waits for a while and lets go all the same

    async def _seek(self) -> None:
        while True:
            room = min(fair_share(self.instances) - len(self._held), SHARDS if self.instances == 1 else TAKEN_AT_ONCE)
            if self._trusted_until > float("-inf") and room > 0 and self._stays:
                await self._take(room)
            if self._trusted_until > float("-inf"):
                self.first_round.set()
            await trio.sleep(SEEK_S * random.uniform(0.8, 1.2) if self.first_round.is_set() else 0.02)

    async def _take(self, room: int) -> None:
        started = trio.current_time()
        try:
            with trio.fail_after(ASK_WITHIN_S):
                async with self._turn:
                    taken = await self.db.engine(store.seek, self.me, room)
                    if not taken:
                        return
                    self._trusted_until = max(self._trusted_until, started + TTL_S - MARGIN_S)
                    self._now_held(self._held | taken)
        except (Unavailable, trio.TooSlowError):
            return
        COUNTERS["shards_taken"] += len(taken)
        log.info("shards taken", extra={"shards": len(taken), "instances": self.instances})

    def _now_held(self, held: dict[int, int]) -> None:
        if held == self._held:
            return
        lost = [shard for shard in self._held if held.get(shard) != self._held[shard]]
        if lost:
            COUNTERS["shards_lost"] += len(lost)
            log.warning("shards lost to another instance", extra={"shards": len(lost)})
        self._held = held
        self._changed.set()

    # Giving away.

    async def _give(self) -> None:
        while True:
            await trio.sleep(RENEW_S)
            if self._offered and self._stays:
                await self._withdraw()
            surplus = len(self._held) - fair_share(self.instances)
            now = trio.current_time()
            if surplus <= 0 or not self._stays:
                self._surplus_since = None
                continue
            if self._surplus_since is None:
                self._surplus_since = now
            if now - self._surplus_since >= HOLD_S:
                await self._pass_on(frozenset(random.sample(sorted(self._held), min(surplus, AT_ONCE))))

    async def _withdraw(self) -> None:
        """Otherwise an heir would stay connected to shards that it will not get."""
        try:
            with trio.fail_after(ASK_WITHIN_S):
                await self.db.engine(store.withdraw, self.me)
                await self._notify()
            self._offered = False
        except (Unavailable, trio.TooSlowError):
            pass  # next time

    async def _offer(self, shards: frozenset[int]) -> None:
        """Until the heirs are ready; the caller's patience is bounded."""
        self._offered = True
        await self.db.engine(store.offer, self.me, sorted(shards))
        await self._notify()
        while not (shards & self._held.keys()) <= self._ready:
            await self._looked.wait()

    async def _pass_on(self, shards: frozenset[int]) -> None:
        try:
            with trio.move_on_after(HEIR_WITHIN_S):
                await self._offer(shards)
            if not self._stays or self.let_go is None:
                return
            self._leaving = shards
            await self.let_go(shards)
            async with self._turn:
                terms = {shard: self._held[shard] for shard in shards if shard in self._held}
                with trio.move_on_after(ASK_WITHIN_S):
                    await self.db.engine(store.resign, self.me, terms)
                    self._offered = False
                self._held = {shard: epoch for shard, epoch in self._held.items() if shard not in shards}
            COUNTERS["shards_given_away"] += len(terms)
            log.info("shards given away", extra={"shards": len(terms), "instances": self.instances})
            await self._notify()
        except Unavailable:
            pass  # still ours, and renewed next time
        finally:
            self._leaving = frozenset()
            self._changed.set()
