"""What one tenant's actor makes of one batch, with all that is needed to take it back and to hear its parts alone.

Owned by `actors.calls.tenant_calls`, which fills it, keeps it, and halves it where the database refuses it.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.domain.calls import Call
from gateway.domain.events import CallEvent
from gateway.domain.ids import CallId, TenantId
from gateway.store.call_batches import CallBatch
from gateway.store.dead_letters import DeadLetterRow


@dataclass(frozen=True, slots=True)
class Received:
    """One event as it came, so that it can be heard again alone."""

    source: str
    event: CallEvent
    received_at: datetime
    post: int | None = None
    """The row of the journal it was told by."""


@dataclass(slots=True)
class Batch:
    """Everything of a batch goes into one commit."""

    tenant: TenantId
    epoch: int | None = None
    """Of the lease under which the tenant is served; None where there are no leases."""
    again: bool = False
    """Whether its events were heard before: what there was to say of them has been said."""
    recording: CallBatch = field(init=False)
    received: list[Received] = field(default_factory=list)
    before: dict[CallId, tuple[str, Call] | None] = field(default_factory=dict)
    """Every call touched, as it was before; None for one that was not there."""
    dead_letters: list[DeadLetterRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recording = CallBatch(self.tenant, self.epoch)
