"""Events of a community, by the Callback API or a long poll: who may call us, and which are ours. Pure.

A callback has no signature: its `secret` stands inside the JSON, beside the community's number. Before the first event VK calls with
`confirmation` and wants a code that it has given us for this server (`groups.getCallbackConfirmationCode`); the code stands in the
address that our job registers, signed, because it changes whenever a server is added or edited. Group chats are left alone. Source:
VK, "Callback API", "Bots Long Poll API". Read `chats.py` for what events hold.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from adapters.inbound import Inbound, Reply, Update, WebhookCall
from adapters.vk.settings import VkSettings

EVENTS = ("message_new", "message_reply", "message_edit", "message_allow", "message_deny", "message_read")
FIRST_GROUP_CHAT = 2_000_000_000
_ONCE = frozenset({"message_new", "message_reply"})
"""Events of which a message has one."""


def verify(call: WebhookCall, settings: VkSettings) -> Reply | None:
    """None for a genuine callback; the code for VK's question whether the address is ours."""
    if call.method != "POST":
        return Reply(405)
    sent = _object(call.body)
    if sent is None or str(sent.get("group_id")) != settings.group_id:
        return Reply(403)
    if sent.get("type") == "confirmation":
        return _confirmed(call.query, settings)
    given = sent.get("secret")
    known = given if isinstance(given, str) else ""
    genuine = hmac.compare_digest(known.encode("utf-8", "surrogatepass"), settings.secret.reveal().encode())
    return None if genuine else Reply(403)


def confirmation_query(code: str, settings: VkSettings) -> str:
    """What the registered address ends with, so that VK's question finds its answer; empty where the settings have it."""
    if code == settings.confirmation:
        return ""
    return "?" + urlencode({"confirmation": code, "sign": _signed(code, settings)})


def _confirmed(query: Mapping[str, str], settings: VkSettings) -> Reply:
    code, sign = query.get("confirmation", ""), query.get("sign", "")
    if code and hmac.compare_digest(sign.encode("utf-8", "surrogatepass"), _signed(code, settings).encode()):
        return Reply(200, code.encode())
    return Reply(200, settings.confirmation.encode()) if settings.confirmation else Reply(403)


def _signed(code: str, settings: VkSettings) -> str:
    text = f"{settings.group_id}\0{code}".encode("utf-8", "surrogatepass")
    return hmac.new(settings.hook_id.reveal().encode(), text, hashlib.sha256).hexdigest()


def read(body: bytes, settings: VkSettings) -> Sequence[Update]:
    """The one update of a callback, if it is ours. Raises ValueError for what is none."""
    sent = _object(body)
    if sent is None or not isinstance(sent.get("type"), str):
        raise ValueError("not an event of VK")
    return updates([sent], settings)


def updates(sent: Sequence[Any], settings: VkSettings) -> Sequence[Update]:
    """What concerns people who write to this community, of raw events in their order; without the secret."""
    found = list[Update]()
    for event in sent:
        if (
            not isinstance(event, dict)
            or event.get("type") not in EVENTS
            or str(event.get("group_id")) != settings.group_id
        ):
            continue
        if _is_a_person(event):
            body = {name: value for name, value in event.items() if name != "secret"}
            found.append(Update(_id(event), body))
    return found


def message_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of an event; empty where it has none."""
    inner = event.get("object")
    inner = inner if isinstance(inner, Mapping) else {}
    nested = inner.get("message")
    return nested if isinstance(nested, Mapping) else inner


def _is_a_person(event: Mapping[str, Any]) -> bool:
    if event["type"] in ("message_allow", "message_deny"):
        return True
    peer = message_of(event).get("peer_id")
    return not isinstance(peer, int) or 0 < peer < FIRST_GROUP_CHAT  # what has none is set aside, not dropped


def _id(event: Mapping[str, Any]) -> str:
    """The same by either way in: a message has its number in the conversation, everything else the event's id."""
    message = message_of(event)
    number = message.get("conversation_message_id")
    if event["type"] in _ONCE and isinstance(number, int) and number > 0:
        return f"{event['type']} {message.get('peer_id')} {number}"
    if isinstance(event.get("event_id"), str) and event["event_id"]:
        return f"{event['type']} {event['event_id']}"
    kept = {name: value for name, value in event.items() if name not in ("secret", "event_id")}
    return f"{event['type']} {hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()}"


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return sent if isinstance(sent, dict) else None


def polls(settings: VkSettings) -> bool:
    """Whether the client reads updates by itself."""
    return settings.updates == "longpoll"


INBOUND = Inbound(
    verify=verify, read=read, accepts=lambda settings: settings.updates == "callback", accepted=Reply(200, b"ok")
)
