"""Fetching files from elsewhere, a few at a time: what is due is leased, tried, and tried again later.

The state is in the rows: a restart goes on where the last process was, once its leases are given back or have ended. Bounded as a
whole and for each tenant, so that one slow server delays nobody else. Read `actors/calls/recordings.py` and
`actors/chats/file_fetching.py` for what is fetched.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Generic, TypeVar

import trio

from actors.runtime.directory import Slot
from actors.services import Services
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.store.recording_queue import database_clock

EVERY_S = 1.0
F = TypeVar("F")


class Fetching(ABC, Generic[F]):
    """Runs under supervision, one for the installation."""

    most_at_once: ClassVar[int]

    def __init__(self, services: Services) -> None:
        self._services = services
        self._busy = 0

    @abstractmethod
    async def claim(self, most: int) -> Sequence[F]:
        """Leases what is due. Raises Unavailable."""

    @abstractmethod
    async def release(self, before: datetime) -> None:
        """Gives back what was leased before that moment. Raises Unavailable."""

    @abstractmethod
    async def fetch(self, one: F) -> None:
        """One try, its outcome stored."""

    async def run(self, slot: Slot) -> None:
        """Until cancelled: claims what is due and fetches it."""
        slot.figures = lambda: {"in_flight": self._busy}
        self._busy = 0
        began: datetime | None = None
        left = True
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    if began is None:
                        began = await self._services.db.engine(database_clock)
                    if left and self._is_alone():
                        await self.release(began)
                        left = False
                    if room := self.most_at_once - self._busy:
                        for one in await self.claim(room):
                            self._busy += 1
                            nursery.start_soon(self._one, one)
                    slot.report(State.ONLINE)
                except Unavailable:
                    slot.report(State.DEGRADED, "database_away")
                await trio.sleep(EVERY_S)

    def _is_alone(self) -> bool:
        """Whether leases granted before our start have no holder. With other instances alive they end by themselves."""
        ownership = self._services.ownership
        return ownership.first_round.is_set() and ownership.instances == 1

    async def _one(self, one: F) -> None:
        try:
            await self.fetch(one)
        finally:
            self._busy -= 1
