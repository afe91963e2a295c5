"""Webhooks of Instagram messaging: whose they are, and the updates in them. Pure.

A webhook holds entries, one an account, each with what happened in it. Every item is an update of its own, so that a bad one holds up
no other. `standby` holds what another application answers: it is left alone. Meta's test button sends `changes`, and a page that
shares the application's webhook sends its own object: both are accepted and hold nothing. Sources: Meta, "Webhooks for Instagram
Messaging", "Instagram Platform Webhook Notification Examples". Read `chats.py` next.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters import meta
from adapters.apps import MetaApp
from adapters.inbound import Inbound, Reply, SharedHook, Update, WebhookCall
from adapters.instagram.settings import InstagramSettings
from adapters.meta import child, objects, string

OBJECT = "instagram"
FIELDS = frozenset({"messages", "messaging_postbacks", "messaging_seen", "message_reactions", "messaging_referral"})
"""The news of an account that say something of a conversation."""
_KINDS = ("message", "message_edit", "postback", "read", "reaction", "referral")
"""What an item can be that says something of a conversation."""


def verify(call: WebhookCall, settings: InstagramSettings) -> Reply | None:
    """None for a genuine webhook."""
    return meta.verify(call, settings.webhook_verify_token, settings.app_secret)


def verify_app(call: WebhookCall, app: Any) -> Reply | None:
    """The same by the installation's application: Meta signs with the secret of its Instagram part for accounts of Instagram's login."""
    reply = meta.verify_app(call, app)
    if reply is None or not isinstance(app, MetaApp) or app.direct_app_secret is None or call.method != "POST":
        return reply
    return meta.verify(call, app.verify_token, app.direct_app_secret)


def read(body: bytes, settings: InstagramSettings) -> Sequence[Update]:
    """The updates of our account, in the order of their times. Raises ValueError for what is no webhook of Meta."""
    items = [item for entry in _entries(body) if entry.get("id") == settings.page_id for item in _items(entry)]
    return [Update(update_id(item), item) for item in sorted(items, key=_time)]


def accounts(body: bytes) -> Mapping[str, bytes]:
    """Each account's part of a webhook, as `read` takes it. Raises like `read`."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for entry in _entries(body):
        if any(True for _ in _items(entry)):
            parts.setdefault(string(entry.get("id")), []).append(entry)
    return {
        account: json.dumps({"object": OBJECT, "entry": found}).encode() for account, found in parts.items() if account
    }


def update_id(item: Mapping[str, Any]) -> str:
    """By the id of the message that it is about. A message may be taken back, read and edited, each of which is news of its own."""
    mid = string(child(item, "message", "mid")) or string(child(item, "postback", "mid"))
    if mid:
        return f"{mid}:deleted" if child(item, "message", "is_deleted") is True else mid
    if seen := string(child(item, "read", "mid")):
        return f"{seen}:read"
    return meta.digest_of(item)


def _entries(body: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        return meta.entries(body, OBJECT)
    except ValueError:
        meta.entries(body, "page")
        return ()  # of a page's Messenger, which the same application may serve


def _items(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for item in objects(entry.get("messaging")):
        if any(isinstance(item.get(kind), dict) for kind in _KINDS):
            yield item


def _time(item: Mapping[str, Any]) -> int:
    """Where it stands among the others of its webhook; what has no time goes first, to be set aside."""
    value = item.get("timestamp")
    return value if isinstance(value, int) else 0


INBOUND = Inbound(verify=verify, read=read, shared=SharedHook(verify=verify_app, accounts=accounts))
