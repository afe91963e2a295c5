"""Who is writing in a conversation at this moment: held in memory, known to every instance, never stored.

a visitor's browser, an agent's page --> wrote --> streams of the conversation look, here and in the other instances
                                              +-> the client's messenger shows it (`signals.py`)
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import trio

from actors.feed import Feed
from gateway.domain.ids import TenantId
from gateway.domain.subjects import Subject

LASTS_S = 6.0
"""Seconds for which somebody counts as writing; they are to say it again every few seconds."""
MOST = 10_000
KIND = "typing"
"""Of the marks between instances."""


@dataclass
class Typing:
    """All conversations of this process."""

    feed: Feed
    mark: Callable[[str], None] = lambda text: None
    """Notifies the other instances."""
    noted: Callable[[TenantId, UUID, str], None] = lambda tenant, conversation, who: None
    """Called for all that is noted, here or in another instance. Never waits."""
    clock: Callable[[], float] = trio.current_time
    _writing: OrderedDict[tuple[TenantId, UUID, str], float] = field(default_factory=OrderedDict)
    """Until when."""

    def wrote(self, tenant: TenantId, conversation: UUID, who: str) -> None:
        """Somebody pressed keys: `client`, `ai`, or a person as an author. Never waits."""
        self._note(tenant, conversation, who)
        self.mark(f"{tenant} {conversation} {who}")

    def received(self, texts: Sequence[str]) -> None:
        """Another instance notes these."""
        for text in texts:
            tenant, _, rest = text.partition(" ")
            conversation, _, who = rest.partition(" ")
            with suppress(ValueError):  # an instance of another version
                self._note(TenantId(tenant), UUID(conversation), who)

    def until(self, tenant: TenantId, conversation: UUID, *, client: bool) -> float | None:
        """Until when somebody of the client's side, or of ours, is writing (this process's clock); None: nobody."""
        found = [
            at for (of, where, who), at in self._writing.items()
            if of == tenant and where == conversation and (who == "client") == client
        ]  # fmt: skip
        latest = max(found, default=0.0)
        return latest if latest > self.clock() else None

    def stopped(self, tenant: TenantId, conversation: UUID, who: str) -> None:
        """What was being written has been sent."""
        self._writing.pop((tenant, conversation, who), None)

    def _note(self, tenant: TenantId, conversation: UUID, who: str) -> None:
        now, place = self.clock(), (tenant, conversation, who)
        self._writing[place] = now + LASTS_S
        self._writing.move_to_end(place)
        while len(self._writing) > MOST or (self._writing and next(iter(self._writing.values())) <= now):
            self._writing.popitem(last=False)
        self.feed.received([f"{tenant} {Subject('typing', str(conversation))}"])
        self.noted(tenant, conversation, who)
