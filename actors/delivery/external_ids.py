"""The external ids of one attempt's subjects: read once on first use, and stored as soon as they are known.

    create there -> remember (committed) -> link there          killed after any step, the next attempt goes on from there

What is remembered is stored even while the attempt is being cancelled, and is offered again by the next attempt of this process
where the database could not take it. Read `gateway/store/external_ids.py` next.
"""

from collections import OrderedDict

import trio

from gateway.domain.errors import Replaced, Unavailable
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.subjects import Subject
from gateway.store.external_ids import LONGEST, select_external_ids, upsert_external_id
from gateway.store.outbox import Claim
from gateway.store.postgres.pool import Database

STORE_WITHIN_S = 5.0
"""How long the database may take before an id waits in memory for the next attempt."""
STORE_AGAIN_S = 0.2
MOST_UNSTORED = 1000

_Place = tuple[TenantId, IntegrationKey, Subject]


class UnstoredIds:
    """Ids that the database could not take yet. One for each delivery actor; bounded, the oldest are dropped."""

    def __init__(self) -> None:
        self._ids: OrderedDict[_Place, dict[str, str]] = OrderedDict()

    def put(self, place: _Place, name: str, external_id: str) -> None:
        """Adds one."""
        self._ids.setdefault(place, {})[name] = external_id
        while len(self._ids) > MOST_UNSTORED:
            self._ids.popitem(last=False)

    def take(self, place: _Place) -> dict[str, str]:
        """All of a subject; they are forgotten here."""
        return self._ids.pop(place, {})


class ExternalIds:
    """Of one attempt at one delivery: what `Attempt.remember` and `Attempt.known` do."""

    def __init__(self, db: Database, claim: Claim, unstored: UnstoredIds) -> None:
        self._db = db
        self._claim = claim
        self._unstored = unstored
        self._known: dict[Subject, dict[str, str]] = {}

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        """What was remembered for the delivery's subject, or another, under this name, by any delivery. Raises Unavailable."""
        return (await self._read(of or self._claim.subject)).get(name)

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        """Returns when the id is durable. Raises ValueError for no name or no id, Replaced where the delivery is another
        instance's by now, Unavailable where the database could not take it."""
        subject = of or self._claim.subject
        if not name or not external_id or len(external_id) > LONGEST:
            raise ValueError(f"an external id has a name and 1 to {LONGEST} characters")
        # Shielded: the object exists in the outside system even if this attempt fails.
        with trio.move_on_after(STORE_WITHIN_S, shield=True):
            while True:
                try:
                    stored = await self._db.engine(upsert_external_id, self._claim, subject, name, external_id)
                    break
                except Unavailable:
                    await trio.sleep(STORE_AGAIN_S)
            if not stored:
                raise Replaced
            if subject in self._known:
                self._known[subject][name] = external_id
            return
        self._unstored.put((self._claim.tenant, self._claim.integration, subject), name, external_id)
        raise Unavailable("an id could not be stored")

    async def _read(self, subject: Subject) -> dict[str, str]:
        if subject not in self._known:
            tenant, integration = self._claim.tenant, self._claim.integration
            found = dict(await self._db.engine(select_external_ids, tenant, integration, subject))
            self._known[subject] = found
            for name, external_id in self._unstored.take((tenant, integration, subject)).items():
                found[name] = external_id
                await self.remember(name, external_id, subject)
        return self._known[subject]
