"""The content of a delivery that is repeated: the same events of its call, planned with the current settings. Pure.

The stored content was planned with the settings of that time, and would repeat their mistakes (a chat's number, an extension's
owner). Used by `gateway/web/pages/deliveries.py`.
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
    """What an integration would be sent about a call with its current settings; `events` are the call's, as JSON, in order."""
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
