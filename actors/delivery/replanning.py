"""What a delivery that is made again is to say: the same events of its call, planned with the settings of now. Pure.

A delivery keeps what it was planned to say, and a setting that was wrong then (a chat's number, who has which extension) would
be sent again. Read `gateway/web/pages/deliveries.py` for who makes deliveries again.
"""

import json
from collections.abc import Sequence

from pydantic import ValidationError

from adapters.base import Draft
from adapters.registry import integrations
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.events import from_json
from gateway.domain.ids import IntegrationKey, kind_of


def drafts_now(tenant: Tenant, key: IntegrationKey, events: Sequence[str]) -> list[Draft]:
    """What an integration would be told of a call by its settings of now; `events` are the call's, as JSON, in order."""
    link, adapter = tenant.integrations.get(key), integrations().get(kind_of(key))
    if link is None or adapter is None or adapter.plan_call is None:
        return []
    try:
        settings = adapter.settings.model_validate(dict(link.settings))
    except ValidationError:
        return []
    drafts: list[Draft] = []
    call: Call | None = None
    for body in events:
        event = from_json(json.loads(body))
        before, call = call, apply(call, event)
        if call is not None:
            drafts += adapter.plan_call(settings, tenant, before, call, event)
    return drafts


def matching(drafts: Sequence[Draft], key: str, kind: str, *, latest_only: bool, taken: frozenset[str]) -> Draft | None:
    """The draft that stands for a delivery now: the one with its key, or the last state of a card that would go elsewhere by
    now. None where nothing is sent any more. `taken` are keys of deliveries that there are already."""
    for draft in drafts:
        if draft.key == key:
            return draft
    cards = [
        draft for draft in drafts if latest_only and draft.latest_only and draft.kind == kind and draft.key not in taken
    ]
    return cards[-1] if cards else None
