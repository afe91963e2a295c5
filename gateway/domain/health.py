"""The health of anything alive, in words a person can act on."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """STARTING to ONLINE is the good path; ATTENTION waits for a person, FAILED for the supervisor's slow timer."""

    STARTING = "starting"
    CONNECTING = "connecting"
    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    ATTENTION = "attention"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def broken(self) -> bool:
        """It does not do its work."""
        return self in (State.FAILED, State.ATTENTION, State.OFFLINE)

    @property
    def troubled(self) -> bool:
        """A person should know of it: broken, or at work with problems."""
        return self.broken or self is State.DEGRADED


URGENCY = (
    State.FAILED, State.ATTENTION, State.OFFLINE, State.DEGRADED, State.CONNECTING, State.STARTING, State.ONLINE,
    State.STOPPED,
)  # fmt: skip
"""What a person should look at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`code` names the sentence in the texts of the UI; `detail` is its variable part and holds no secret."""

    state: State
    since: datetime
    code: str = ""
    detail: str = ""
    next_try: datetime | None = None

    def became(
        self, state: State, at: datetime, *, code: str = "", detail: str = "", next_try: datetime | None = None
    ) -> "Health":
        """The health after a change; `since` moves only when the state does."""
        since = self.since if state is self.state else at
        return replace(self, state=state, since=since, code=code, detail=detail, next_try=next_try)
