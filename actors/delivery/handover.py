"""Hands new deliveries to the workers: leases them in the commit that stores them, and stores acks in shared commits.

    record: who has room? --> one commit, with leases for it --> handed over at once          no claim in between
                                                            +--> behind one in hand: its ack leases it
                                                            +--> the rest is claimed when the doorbell rings
    acks:   whatever gathers while the last commit is in flight goes with the next one, each answered by itself, with the
            next delivery of its lane

No delivery is handed over before it is durable. Its lease is the same as that of a claim: it ends by itself when the worker
crashes. Read `actors.delivery.worker` next.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from actors.runtime.group_commit import GroupCommit
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.call_batches import CallBatch, Recorded, Refusal, Written, record_and_claim
from gateway.store.outbox import Ack, Acked, Claim, finish_and_claim, newest_of_lane
from gateway.store.postgres.pool import Database

ATTEMPT_DEADLINE_S = 12.0
"""Seconds. Deadline of every attempt, beyond the adapter's own finer timeouts."""
FILE_DEADLINE_S = 120.0
"""The same of an attempt that sends a file: 20 MiB over a slow line. Its lease is prolonged before it."""
LONGEST_WAIT_FOR_RATE_S = 2.0
ACK_S = 5.0
LEASE_S = LONGEST_WAIT_FOR_RATE_S + ATTEMPT_DEADLINE_S + ACK_S
"""Seconds. The holder of a delivery has waited, made its attempt and stored the outcome by then."""


class Taker(Protocol):
    """Who makes one integration's deliveries."""

    epoch: int | None
    """The epoch of its tenant's shard under which it runs."""

    def reserve(self, bucket: str) -> bool:
        """Reserves a place for a delivery that is about to be written, if it could be attempted at once."""

    async def take(self, claims: Sequence[Claim], reserved: int) -> None:
        """Releases this many reserved places and starts these deliveries at once."""

    def follows(self, lane: str) -> bool:
        """Whether it has a delivery of the lane in hand, whose ack then leases the next one."""


class Handover:
    """One for the process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._takers: dict[tuple[TenantId, IntegrationKey], Taker] = {}
        self.acks: GroupCommit[Ack, Acked] = GroupCommit("ack", self._finish)

    @contextmanager
    def takes(self, tenant: TenantId, kind: IntegrationKey, taker: Taker) -> Iterator[None]:
        """Within it, new deliveries may be handed to `taker`."""
        self._takers[tenant, kind] = taker
        try:
            yield
        finally:
            if self._takers.get((tenant, kind)) is taker:
                del self._takers[tenant, kind]

    async def record(self, batch: Sequence[CallBatch]) -> list[Recorded]:
        """As `call_batches.record`, and hands over what was leased. What was not is in the answer."""
        wanted: set[tuple[TenantId, IntegrationKey, str]] = set()
        reserved: dict[tuple[TenantId, IntegrationKey], tuple[Taker, int]] = {}
        written = Written([], [])
        try:
            self._reserve(batch, wanted, reserved)
            written = await self._db.engine(record_and_claim, batch, wanted, LEASE_S)
        finally:
            for place, (taker, places) in reserved.items():
                claims = [claim for claim in written.claims if (claim.tenant, claim.integration) == place]
                await taker.take(claims, places)
        rings = {(tenant, key) for tenant, key, lane in written.lanes if not self._follows(tenant, key, lane)}
        return [
            answer if isinstance(answer, Refusal) else frozenset(key for key in answer if (part.tenant, key) in rings)
            for part, answer in zip(batch, written.answers, strict=True)
        ]

    def _follows(self, tenant: TenantId, key: IntegrationKey, lane: str) -> bool:
        taker = self._takers.get((tenant, key))
        return taker is not None and taker.follows(lane)

    def _reserve(
        self,
        batch: Sequence[CallBatch],
        wanted: set[tuple[TenantId, IntegrationKey, str]],
        reserved: dict[tuple[TenantId, IntegrationKey], tuple[Taker, int]],
    ) -> None:
        """Reserves places for the first of each lane, as far as there is room."""
        lanes: set[tuple[TenantId, IntegrationKey, str]] = set()
        for part in batch:
            for row in newest_of_lane(part.deliveries):
                place, lane = (part.tenant, row.integration), (part.tenant, row.integration, row.lane)
                taker = self._takers.get(place)
                if lane in lanes:
                    continue
                lanes.add(lane)
                if taker is not None and part.epoch == taker.epoch and taker.reserve(row.bucket):
                    wanted.add((part.tenant, row.integration, row.key))
                    reserved[place] = taker, reserved.get(place, (taker, 0))[1] + 1

    async def ack(self, ack: Ack) -> Acked:
        """Stores the outcome of an attempt. Raises Unavailable where it is unknown whether it is stored."""
        return await self.acks.put(ack)

    async def _finish(self, acks: Sequence[Ack]) -> list[Acked]:
        return await self._db.engine(finish_and_claim, acks, LEASE_S)
