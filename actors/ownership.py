"""Which tenants this instance serves: renews its leases, takes what is free, gives away what is too much.

    every RENEW_S   renew; held more than its share for HOLD_S: let go of some, after their actors have stopped
    every SEEK_S    fewer than its share: take shards that nobody owns

After River's elector: a term is (owner, epoch); trust in it lasts until the *start* of the last renewal that succeeded
plus the lease minus a margin, on our own monotonic clock, so that a slow answer cannot stretch it. While trust is gone
nothing new is begun; what is written all the same is refused by the database. Read `gateway/store/shards.py` for that.
"""

import logging
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio

from actors.directory import Slot
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.domain.shards import SHARDS, fair_share, shard_of
from gateway.store import shards as store
from gateway.store.pool import Database
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

TTL_S = store.TTL_S
MARGIN_S = 1.0
RENEW_S = 1.0
SEEK_S = 0.5
ASK_WITHIN_S = 2.0
HOLD_S = 30.0
AT_ONCE = SHARDS // 10
"""How many shards change hands in one round."""


def instance_name() -> str:
    """Unique on every machine, and telling to a person."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass
class Ownership:
    """One for the process. `let_go` stops the actors of shards before they are given away."""

    db: Database
    me: str = field(default_factory=instance_name)
    let_go: Callable[[frozenset[int]], Awaitable[None]] | None = None
    instances: int = 1
    first_round: trio.Event = field(default_factory=trio.Event)
    """Set once it is known what is ours at the start."""
    _held: dict[int, int] = field(default_factory=dict)
    _leaving: set[int] = field(default_factory=set)
    _trusted_until: float = float("-inf")
    _surplus_since: float | None = None
    _changed: trio.Event = field(default_factory=trio.Event)

    # What others ask; all of it answers at once.

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
        """Whether the tenant is surely ours at this very moment, under that epoch."""
        return self.trusted and self._held.get(shard_of(tenant)) == epoch

    async def changed(self) -> None:
        """Waits until we own something else than at the last call."""
        await self._changed.wait()
        self._changed = trio.Event()

    # Running.

    async def run(self, slot: Slot) -> None:
        """Until cancelled; then `resign` is the caller's, after the actors have stopped."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew, slot)
            nursery.start_soon(self._seek)

    async def resign(self) -> None:
        """Lets go of everything, so that others take over at once."""
        terms, self._held = dict(self._held), {}
        self._trusted_until = float("-inf")
        try:
            with trio.move_on_after(ASK_WITHIN_S, shield=True):
                await self.db.engine(store.resign, self.me, terms)
                await self.db.engine(store.leave, self.me)
        except Unavailable:
            log.warning("the leases end by themselves", extra={"seconds": TTL_S})

    async def _renew(self, slot: Slot) -> None:
        while True:
            started = trio.current_time()
            try:
                with trio.fail_after(ASK_WITHIN_S):
                    found = await self.db.engine(store.renew, self.me)
            except (Unavailable, trio.TooSlowError):
                if not self.trusted:
                    slot.report(State.DEGRADED, "leases_not_renewed")
            else:
                self._trusted_until = started + TTL_S - MARGIN_S
                self.instances = found.instances
                self._now_held(dict(found.held))
                slot.report(State.ONLINE, "", f"{len(self._held)}/{SHARDS}")
                await self._shed()
            await trio.sleep(max(0.0, RENEW_S - (trio.current_time() - started)))

    async def _seek(self) -> None:
        while True:
            room = min(fair_share(self.instances) - len(self._held), SHARDS if self.instances == 1 else AT_ONCE)
            if self._trusted_until > float("-inf") and room > 0:
                started = trio.current_time()
                try:
                    with trio.fail_after(ASK_WITHIN_S):
                        taken = await self.db.engine(store.seek, self.me, room)
                except (Unavailable, trio.TooSlowError):
                    taken = {}
                if taken:
                    COUNTERS["shards_taken"] += len(taken)
                    log.info("shards taken", extra={"shards": len(taken), "instances": self.instances})
                    self._trusted_until = max(self._trusted_until, started + TTL_S - MARGIN_S)
                    self._now_held(self._held | taken)
            if self._trusted_until > float("-inf"):
                self.first_round.set()
            await trio.sleep(SEEK_S * random.uniform(0.8, 1.2) if self.first_round.is_set() else 0.02)

    def _now_held(self, held: dict[int, int]) -> None:
        if held == self._held:
            return
        lost = [shard for shard in self._held if held.get(shard) != self._held[shard]]
        if lost:
            COUNTERS["shards_lost"] += len(lost)
            log.warning("shards lost to another instance", extra={"shards": len(lost)})
        self._held = held
        self._changed.set()

    async def _shed(self) -> None:
        """Gives away what is more than our share, once that has been so for a while: first the actors stop."""
        surplus = len(self._held) - fair_share(self.instances)
        now = trio.current_time()
        if surplus <= 0:
            self._surplus_since = None
            return
        if self._surplus_since is None:
            self._surplus_since = now
        if now - self._surplus_since < HOLD_S or self.let_go is None:
            return
        leaving = frozenset(random.sample(sorted(self._held), min(surplus, AT_ONCE)))
        self._leaving = set(leaving)
        try:
            await self.let_go(leaving)
            terms = {shard: self._held[shard] for shard in leaving if shard in self._held}
            with trio.move_on_after(ASK_WITHIN_S):
                await self.db.engine(store.resign, self.me, terms)
            self._now_held({shard: epoch for shard, epoch in self._held.items() if shard not in leaving})
            COUNTERS["shards_given_away"] += len(terms)
            log.info("shards given away", extra={"shards": len(terms), "instances": self.instances})
        except Unavailable:
            pass  # still ours, and renewed next time
        finally:
            self._leaving = set()
            self._changed.set()
