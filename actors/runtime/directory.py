"""Who is alive: every supervised slot by path, with its health, restarts and mailbox.

Pages and monitors read it; the only control it offers is a request for a restart. It holds no task.
Paths read like `tenant/0367/pbx/main`. Read `actors.runtime.supervisor` next.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from actors.runtime.mailbox import Mailbox
from gateway.domain.health import URGENCY, Health, State

_ON_THE_WAY = (State.STARTING, State.CONNECTING)


def utc_now() -> datetime:
    """Wall-clock time for people; durations use Trio's clock."""
    return datetime.now(UTC)


@dataclass(eq=False)
class Slot:
    """The address of one actor. It outlives the incarnations that live in it."""

    path: str
    title: str = ""
    health: Health = field(default_factory=lambda: Health(state=State.STARTING, since=utc_now()))
    restarts: int = 0
    mailbox: Mailbox[Any] | None = None
    figures: Callable[[], dict[str, Any]] | None = None
    """The actor's figures, read when a page requests them; a PBX gives its last event, lag and gaps."""
    restart: Callable[[], None] | None = None
    """Requests a restart from the supervisor, also when parked."""
    instance: str = ""
    """Where it lives, when that is not here."""
    _arrival: trio.Event | None = None

    def report(self, state: State, code: str = "", detail: str = "", next_try: datetime | None = None) -> None:
        """Sets the actor's health; `since` moves only when the state changes."""
        self.health = self.health.became(state, utc_now(), code=code, detail=detail, next_try=next_try)
        if self._arrival is not None and state not in _ON_THE_WAY:
            self._arrival.set()

    async def arrived(self) -> None:
        """Waits until the actor has connected, or has failed to, for the first time or again."""
        if self.health.state in _ON_THE_WAY:
            self._arrival = self._arrival or trio.Event()
            await self._arrival.wait()

    @property
    def depth(self) -> int:
        """Messages waiting."""
        return len(self.mailbox) if self.mailbox is not None else 0


class Directory:
    """All slots, by path."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}

    def add(self, slot: Slot) -> Slot:
        """Registers a slot. Two live slots never share a path."""
        if slot.path in self._slots:
            raise ValueError(f"two actors at {slot.path}")
        self._slots[slot.path] = slot
        return slot

    def remove(self, slot: Slot) -> None:
        """Forgets a slot that has stopped."""
        self._slots.pop(slot.path, None)

    def get(self, path: str) -> Slot | None:
        """The slot at `path`, or None."""
        return self._slots.get(path)

    def below(self, prefix: str = "") -> list[Slot]:
        """The slots at and below `prefix`, in order of path: `below("tenant/0367")`."""
        return sorted(
            (s for s in self._slots.values() if not prefix or s.path == prefix or s.path.startswith(prefix + "/")),
            key=lambda slot: slot.path,
        )

    def __len__(self) -> int:
        return len(self._slots)


def worst(healths: Iterable[Health]) -> State:
    """One state for many: the one a person should look at first."""
    states = {health.state for health in healths}
    return next((state for state in URGENCY if state in states), State.STOPPED)


def view_of(slot: Slot) -> dict[str, Any]:
    """What another instance may show of a slot."""
    figures = dict(slot.figures()) if slot.figures is not None else {}
    if "ignored" in figures:
        figures["ignored"] = [asdict(note) for note in figures["ignored"]]
    return {
        "path": slot.path, "title": slot.title, "restarts": slot.restarts, "figures": figures,
        "health": {**asdict(slot.health), "state": slot.health.state.value},
    }  # fmt: skip


def slot_of(view: dict[str, Any], instance: str, restart: Callable[[str], None]) -> Slot:
    """A slot of another instance, as of the request. `restart` forwards the request to it."""
    path, figures = view["path"], view["figures"]
    health = Health(**{**view["health"], "state": State(view["health"]["state"])})
    return Slot(
        path, view["title"], health, view["restarts"], figures=lambda: figures, restart=lambda: restart(path),
        instance=instance,
    )  # fmt: skip
