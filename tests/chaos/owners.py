"""Who owned which tenant when, as the database said it many times a second, and what two owners did side by side.

Only for runs with several instances. Judges by the leases' table alone and by what the CRM was told by whom.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import trio

from gateway.domain.errors import GatewayError
from gateway.domain.ids import TenantId
from gateway.domain.shards import shard_of
from tests.chaos.server import OwnServer
from tests.chaos.traffic import Hosts, Sink

if TYPE_CHECKING:
    from tests.chaos.verdict import Blow

LOOK_S = 0.2
TOGETHER_S = 3.0
"""A lease lives longer: what two instances tell within this was owned by both."""
SLACK_S = 1.0
"""A change is seen a little late, and what was sent before it may arrive a little later."""


class Change(NamedTuple):
    """A shard has another owner, by the processes' ids; None is nobody."""

    at: float
    before: int | None
    after: int | None


@dataclass
class Owners:
    """All changes that were seen."""

    server: OwnServer
    changes: dict[int, list[Change]] = field(default_factory=lambda: defaultdict(list))
    epochs: dict[int, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Epochs that went back, or stayed though the owner changed."""

    async def watch(self) -> None:
        """Until cancelled."""
        names: dict[int, str | None] = {}
        while True:
            rows = []
            with suppress(GatewayError):
                rows = await self.server.ask("SELECT shard, owner, epoch FROM shards")
            now = trio.current_time()
            for row in rows:
                shard, owner, epoch = row["shard"], row["owner"], row["epoch"]
                known = self.epochs.get(shard, -1)
                taken = owner is not None and owner != names.get(shard, owner)
                if epoch < known or (taken and epoch == known):
                    self.broken.append(f"shard {shard}: {names.get(shard)} at {known}, {owner} at {epoch}")
                if shard not in names or names[shard] != owner:
                    self.changes[shard].append(Change(now, _pid(names.get(shard)), _pid(owner)))
                names[shard], self.epochs[shard] = owner, epoch
            await trio.sleep(LOOK_S)

    def around(self, tenant: str, at: float) -> list[int | None]:
        """Who may have owned the tenant at that moment."""
        changes = self.changes[shard_of(TenantId(tenant))]
        first = bisect.bisect_right(changes, at - SLACK_S, key=lambda change: change.at)
        last = bisect.bisect_right(changes, at + SLACK_S, key=lambda change: change.at)
        return [change.after for change in changes[max(first - 1, 0) : last]]

    def takeovers(self, blows: Iterable["Blow"]) -> list[float]:
        """Seconds from each death or stop of an owner to another owner, one for each shard."""
        found = []
        for blow in blows:
            for changes in self.changes.values() if blow.pid is not None else ():
                place = bisect.bisect_right(changes, blow.began, key=lambda change: change.at)
                if 0 < place < len(changes) and changes[place - 1].after == blow.pid:
                    found.append(changes[place].at - blow.began)
        return sorted(found)

    def moved(self) -> int:
        """How often a shard passed from one instance to another."""
        return sum(change.before is not None for changes in self.changes.values() for change in changes)


def _pid(owner: str | None) -> int | None:
    return None if owner is None else int(owner.rsplit("-", 2)[1]) if owner.count("-") > 1 else 0


def told_by_two(sink: Sink) -> list[str]:
    """Things that two instances told side by side."""
    found = []
    for reported, times in sink.times.items():
        received = sorted(zip(times, sink.by[reported], strict=True))
        for (at, one), (later, other) in pairwise(received):
            if one != other and later - at < TOGETHER_S:
                found.append(f"{reported} by {one} and {later - at:.2f} s later by {other}")
    return found


def told_by_a_stale_owner(
    sink: Sink, owners: Owners, tenants: Mapping[str, str], first: str, pids: Sequence[Mapping[int, float]]
) -> list[str]:
    """Things that an instance told of a tenant that was another's by then. `tenants` are the calls', `first` that of all
    others; `pids` are the processes of each instance."""
    found = []
    for reported, times in sink.times.items():
        tenant = tenants.get(reported.call_id, first)
        for at, instance in zip(times, sink.by[reported], strict=True):
            may = owners.around(tenant, at)
            if instance >= 0 and may and None not in may and pids[instance].keys().isdisjoint(may):
                found.append(f"{reported} by {instance} at {at:.2f}, when {tenant} was of {may}")
    return found


def tenants_of(hosts: Hosts) -> dict[str, str]:
    """The tenant of every posted call."""
    return {unique_id: tenant for (unique_id, _), tenant in hosts.attempted.items()}
