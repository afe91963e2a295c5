"""Webhooks of the cloud: who may send them, and what they tell. Pure.

A JSON array of events. The token that we have entered there comes back in the header `Authorization`, with or without a word before it:
its last word is compared. Of an order only how far it is is read; what became of its creation is asked for by the delivery
(`client.py`). A stop-list or a menu that has changed is read anew by its job.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.inbound import Inbound, OrderNews, Reply, Update, WebhookCall
from adapters.jobs import MENU
from adapters.till import codec
from adapters.till.orders import STATUSES, stamp, status_of
from adapters.till.settings import TillSettings

MOST_EVENTS = 1000
ORDER_EVENTS = frozenset({"DeliveryOrderUpdate"})
STOP_LISTS = "stop_lists"
"""A job, beside that of the menu."""
_HASTENED: Mapping[str, str] = {"StopListUpdate": STOP_LISTS, "NomenclatureUpdate": MENU}


def verify(call: WebhookCall, settings: TillSettings) -> Reply | None:
    """None for a genuine webhook."""
    if call.method != "POST":
        return Reply(405)
    sent = call.headers.get("authorization", "").split()
    if not sent and not settings.require_token:
        return None
    expected = settings.webhook_token.reveal().encode()
    genuine = hmac.compare_digest((sent[-1] if sent else "").encode("utf-8", "surrogatepass"), expected)
    return None if genuine else Reply(403)


def _events(body: bytes, settings: TillSettings) -> list[Mapping[str, Any]]:
    """The events of our organization. Raises ValueError for what is no list of events."""
    try:
        read_ = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(read_, dict):
        read_ = [read_]
    if not isinstance(read_, list) or len(read_) > MOST_EVENTS:
        raise ValueError("not a list of events")
    if any(not isinstance(one, dict) or not codec.text(one.get("eventType")) for one in read_):
        raise ValueError("not an event")
    return [one for one in read_ if codec.identifier(one.get("organizationId")) in ("", settings.organization_id)]


def read(body: bytes, settings: TillSettings) -> Sequence[Update]:
    """No updates: nothing of it is a message. Raises ValueError for what is no list of events."""
    _events(body, settings)
    return ()


def orders(body: bytes, settings: TillSettings) -> Sequence[OrderNews]:
    """How far orders are, in the order in which it happened there."""
    found: list[tuple[int, OrderNews]] = []
    for event in _events(body, settings):
        info = codec.mapping(event.get("eventInfo"))
        ident, status = codec.identifier(info.get("id")), STATUSES.get(status_of(info))
        if codec.text(event.get("eventType")) in ORDER_EVENTS and ident and status is not None:
            found.append((stamp(info.get("timestamp")), OrderNews(order_id=ident, status=status)))
    return [news for _, news in sorted(found, key=lambda one: one[0])]


def jobs(body: bytes, settings: TillSettings) -> Sequence[str]:
    """The jobs that are to look now."""
    named = (_HASTENED.get(codec.text(event.get("eventType")), "") for event in _events(body, settings))
    return sorted({one for one in named if one})


INBOUND = Inbound(verify=verify, read=read, orders=orders, jobs=jobs)
