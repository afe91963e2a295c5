"""Which deliveries an event makes here. Pure: the same drafts for the same arguments.

    a client's call rings           attention   at the till, by setting, where the client has an open order
    an unknown number has called    guest       by setting
    a client, a chat, an order      contact, note, order   as for every CRM (`adapters/crm_drafts.py`)

Only what a client has agreed to goes to a kitchen: an order that waits for their word is sent once they gave it. Read `client.py` next.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from adapters import crm_drafts
from adapters.base import Draft
from adapters.till.settings import TillSettings
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import OrderFacts
from gateway.domain.events import CallEnded, CallEvent, CallRinging, Direction
from gateway.domain.orders import Order

ATTENTION, GUEST = "attention", "guest"
REAL_TIME_S = 60.0
KEEP_S = 48 * 3600.0
ORDER_KEEP_S = 2 * 3600.0
"""For how long an order is tried: food that comes a day late is worse than a person who is told that it does not come."""
_PHONE = re.compile(r"\+[0-9]{8,20}")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {"calls": "The client {phone} is calling about this order", "at": "rings at {who}"},
    "ru": {"calls": "Звонит клиент {phone} по этому заказу", "at": "звонит у: {who}"},
}


def plan_call(
    settings: TillSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """The drafts of an event of a call. None for an internal call, one of ours to a client, and a hidden number."""
    if call.direction is not Direction.INCOMING or not _PHONE.fullmatch(call.outside):
        return ()
    return list(_of_call(settings, tenant, before, call, event))


def _of_call(
    settings: TillSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Iterator[Draft]:
    match event:
        case CallRinging() if settings.attention != "off" and settings.send_events.in_:
            if before is None or not before.rang:  # once a call, whoever it goes on to ring at
                names = [f"{number} {tenant.owner_of(number)}".strip() for number in event.extensions]
                said = _WORDS.get(tenant.language, _WORDS["en"])
                text = [said["calls"].format(phone=call.outside)]
                text += [said["at"].format(who=", ".join(names))] if names else []
                body = {"call": call.call_id, "phone": call.outside, "text": "; ".join(text)[:500]}
                yield Draft(kind=ATTENTION, key=f"{call.call_id}:{ATTENTION}", body=body, expires_s=REAL_TIME_S)
        case CallEnded() if settings.create == "contact" and settings.send_events.upload:
            body = {"call": call.call_id, "phone": call.outside}
            yield Draft(kind=GUEST, key=f"{call.call_id}:{GUEST}", body=body, keep_s=KEEP_S)
        case _:
            return


def plan_order(settings: TillSettings, tenant: Tenant, before: Order | None, facts: OrderFacts) -> Sequence[Draft]:
    """The order as it stands, once it is agreed; one that is cancelled, so that it is cancelled there. Bookings and requests are not
    the kitchen's."""
    order = facts.order
    if order.kind != "order" or (order.agreed_at is None and order.status != "cancelled"):
        return ()
    place = dict(order.delivery) if isinstance(order.delivery, Mapping) else order.delivery
    return [
        replace(draft, body={**draft.body, "place": place}, keep_s=ORDER_KEEP_S)
        for draft in crm_drafts.plan_order(settings, tenant, before, facts)
    ]
