"""Callbacks of Viber: whose they are, and the updates in them. Pure.

Signed over the raw body with the bot's token. Ids of messages have 64 bits: they are texts from here on, because programs in
browsers would round them. The callback `webhook`, which Viber sends while the address is being registered, holds no update and
is accepted like any other. Source: Viber REST API, "Callbacks".
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.inbound import Inbound, Reply, Update, WebhookCall
from adapters.viber.settings import ViberSettings

EVENTS = ("delivered", "seen", "failed", "subscribed", "unsubscribed", "conversation_started")
"""What can be chosen at registration; messages always come."""
_OURS = frozenset({"message", *EVENTS})
_SIGNED_BY = "x-viber-content-signature"


def signature(body: bytes, settings: ViberSettings) -> str:
    """Of a callback's raw body."""
    return hmac.new(settings.auth_token.reveal().encode(), body, hashlib.sha256).hexdigest()


def verify(call: WebhookCall, settings: ViberSettings) -> Reply | None:
    """None for a genuine callback."""
    if call.method != "POST":
        return Reply(405)
    sent = call.headers.get(_SIGNED_BY, "").strip().lower()
    genuine = hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), signature(call.body, settings).encode())
    return None if genuine else Reply(403)


def read(body: bytes, settings: ViberSettings) -> Sequence[Update]:
    """The one update of a callback, if it is of interest. Raises ValueError for what is no callback."""
    try:
        sent = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(sent, dict) or not isinstance(sent.get("event"), str):
        raise ValueError("not a callback of Viber")
    if sent["event"] not in _OURS:
        return ()
    update = {**sent, "message_token": _token(sent.get("message_token"))}
    return (Update(f"{sent['event']} {update['message_token']} {_whose(sent)}".rstrip(), update),)


def _token(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 64:
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return value
    raise ValueError("a callback without a message token")


def _whose(sent: Mapping[str, Any]) -> str:
    """Reports on one message may come for several people."""
    return sent["user_id"] if isinstance(sent.get("user_id"), str) else ""


def answered(updates: Sequence[Update], settings: ViberSettings) -> Reply | None:
    """The greeting of a person who has opened the chat and not subscribed: Viber takes it as the answer to that callback, and nothing
    else before they write. Source: Viber REST API, "Sending a welcome message"."""
    opened = any(
        one.body["event"] == "conversation_started" and one.body.get("subscribed") is not True for one in updates
    )
    if not opened or not settings.greeting:
        return None
    welcome = {
        "sender": {"name": settings.sender_name},
        "min_api_version": 1,
        "type": "text",
        "text": settings.greeting,
    }
    return Reply(200, json.dumps(welcome, ensure_ascii=False).encode(), "application/json; charset=utf-8")


INBOUND = Inbound(verify=verify, read=read, answered=answered)
