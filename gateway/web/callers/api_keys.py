"""API keys in memory for half a second each, and the note of when they were used.

A key revoked anywhere is refused everywhere within FRESH_S: nothing has to be notified, and a dead connection delays nothing.
Uses are written by an actor, at most once a minute a key, never by a request. While the database is away no key is accepted.
Read `gateway/store/api_keys.py` next.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import trio

from actors.runtime.directory import Slot
from gateway.domain.api_keys import hash_of, looks_right
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.store.api_keys import ApiKey, note_key_uses, select_key_by_hash, select_key_by_id
from gateway.store.postgres.pool import Database

FRESH_S = 0.5
MOST = 10_000
"""Keys that are remembered; the least recently read are forgotten."""
NOTE_EVERY_S = 60.0
"""A use is noted no more often, for each key."""
GATHER_S = 1.0

P = TypeVar("P", bound=Hashable)
V = TypeVar("V")


@dataclass
class ApiKeys:
    """All keys of the installation. `run` writes down their uses."""

    db: Database
    clock: Callable[[], float] = trio.current_time
    _known: OrderedDict[Hashable, tuple[float, ApiKey | None]] = field(default_factory=OrderedDict)
    _noted: OrderedDict[str, float] = field(default_factory=OrderedDict)
    _uses: dict[str, tuple[TenantId, str, datetime]] = field(default_factory=dict)
    _used: trio.Event = field(default_factory=trio.Event)

    async def by_text(self, text: str) -> ApiKey | None:
        """The key in force that reads so. Raises Unavailable."""
        if not looks_right(text):
            return None
        digest = hash_of(text)
        if (key := self._remembered(digest)) is None:
            began = self.clock()
            key = self._remember(digest, began, await self.db.engine(select_key_by_hash, digest))
        return key

    async def by_id(self, tenant: TenantId, key_id: str) -> ApiKey | None:
        """The key in force with this id, a UUID. Raises Unavailable."""
        place = (tenant, key_id)
        if (key := self._remembered(place)) is None:
            began = self.clock()
            key = self._remember(place, began, await self.db.engine(select_key_by_id, tenant, key_id))
        return key

    def used(self, key: ApiKey) -> None:
        """Notes that a key was used just now."""
        now = self.clock()
        if now - self._noted.get(key.key_id, now - NOTE_EVERY_S) < NOTE_EVERY_S:
            return
        _put(self._noted, key.key_id, now)
        if len(self._uses) < MOST:
            self._uses[key.key_id] = (key.tenant, key.key_id, datetime.now(UTC))
            self._used.set()

    async def run(self, slot: Slot) -> None:
        """Until cancelled. What cannot be written because the database is away is written later."""
        slot.report(State.ONLINE)
        while True:
            await self._used.wait()
            self._used = trio.Event()
            uses, self._uses = self._uses, {}
            try:
                await self.db.engine(note_key_uses, list(uses.values()))
                slot.report(State.ONLINE)
            except Unavailable:
                self._uses = {**uses, **self._uses}
                self._used.set()
                slot.report(State.DEGRADED, "database_away")
            await trio.sleep(GATHER_S)

    def _remembered(self, place: Hashable) -> ApiKey | None:
        found = self._known.get(place)
        return found[1] if found is not None and self.clock() - found[0] < FRESH_S else None

    def _remember(self, place: Hashable, began: float, key: ApiKey | None) -> ApiKey | None:
        if key is not None:
            _put(self._known, place, (began, key))
        return key


def _put(into: OrderedDict[P, V], place: P, value: V) -> None:
    into[place] = value
    into.move_to_end(place)
    while len(into) > MOST:
        into.popitem(last=False)
