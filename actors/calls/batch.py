"""What one tenant's actor makes of one batch, with the state needed to roll it back and to apply its parts alone.

Filled by `actors.calls.calls_book` and `actors.calls.post_reader`; `actors.calls.keeper` commits it, and halves it where the
database refuses it.
"""

from dataclasses import dataclass, field
from datetime import datetime

from actors.calls.direct_posts import DirectPost
from gateway.domain.calls import Call
from gateway.domain.events import CallEvent
from gateway.domain.ids import CallId, TenantId
from gateway.store.call_batches import CallBatch
from gateway.store.dead_letters import DeadLetterRow


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it came, so that it can be applied again alone."""

    source: str
    event: CallEvent
    received_at: datetime
    post: int | None = None
    """The row of the journal it came from."""
    direct: bool = False
    """Whether it came from a post that is not in the journal yet."""


@dataclass(slots=True)
class Batch:
    """Everything of a batch goes into one commit."""

    tenant: TenantId
    epoch: int | None = None
    """Epoch of the lease under which the tenant is served; None where there are no leases."""
    again: bool = False
    """Whether its events were applied before: they are not counted or logged a second time."""
    recording: CallBatch = field(init=False)
    received: list[Received] = field(default_factory=list)
    direct: list[DirectPost] = field(default_factory=list)
    """Posts whose senders wait for this very commit."""
    before: dict[CallId, tuple[str, Call] | None] = field(default_factory=dict)
    """Every call touched, as it was before; None for one that was not there."""
    dead_letters: list[DeadLetterRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recording = CallBatch(self.tenant, self.epoch)

    def __bool__(self) -> bool:
        return bool(self.recording)
