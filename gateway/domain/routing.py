"""Which outside systems are notified of an event, and of what. Pure: planners in, drafts out. Read `actors.calls.tenant_calls` next."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gateway.domain.calls import Call
from gateway.domain.events import CallEvent
from gateway.domain.ids import IntegrationKey

D = TypeVar("D")
Planner = Callable[[Call | None, Call, CallEvent], Sequence[D]]
"""An integration's plan with its settings and tenant filled in: (before, call, event) -> drafts."""


def route(
    planners: Mapping[IntegrationKey, Planner[D]], before: Call | None, call: Call, event: CallEvent
) -> list[tuple[IntegrationKey, D]]:
    """The deliveries an event makes, integration by integration, in the order in which they must arrive."""
    return [(kind, draft) for kind, plan in planners.items() for draft in plan(before, call, event)]
