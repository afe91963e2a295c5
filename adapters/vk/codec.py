"""What VK's answers mean: those of methods, of upload servers and of the long poll. Pure.

An answer is HTTP 200 also where it refuses: it has `response` or `error`. An error repeats the request's parameters, which are left
out of every text here. Sources: VK API 5.199, "errors.json"; "Bots Long Poll API". Read `client.py` for the requests.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    GatewayError,
    RateLimited,
    Rejected,
    RemoteProtocolError,
    Unavailable,
)

VERSION = "5.199"
SECOND_PAUSE_S = 1.0
FLOOD_PAUSE_S = 900.0
"""After too many messages to one person."""
QUOTA_PAUSE_S = 1800.0
"""After a method's quota is used up."""
SERVERS_FULL = 2000

_CREDENTIALS = frozenset({5, 27, 28, 1114, 1116, 1117})
_SETTINGS: Mapping[int, str] = {
    7: "the access token lacks a right: messages, photos, documents and management are needed",
    14: "VK wants a captcha: sign in to VK as the community's administrator and send a message by hand",
    15: "VK denies access: the access token lacks a right, or messages or Long Poll are switched off in the community",
    20: "the access token is not that of a community",
    23: "VK has switched this method off for the community",
    24: "VK wants a person to confirm this: sign in to VK as the community's administrator",
    203: "the access token may not manage this community",
    912: "bots are switched off in the community: Manage, Messages, Bot settings",
    SERVERS_FULL: "the community has 10 callback servers already: remove one in Manage, API usage, Callback API",
}
"""What an administrator of the community has to change."""
_SAID: Mapping[int, str] = {
    900: "the community has blocked this person",
    901: "this person has not allowed messages of the community: they have to write first",
    902: "the person's privacy settings forbid it",
    914: "the message is too long",
    917: "there is no access to this conversation",
    936: "VK does not know this person",
    950: "VK does not take an answer so late",
}


def read(status: int, raw: bytes, retry_after: str = "") -> Any:
    """The `response` of a good answer. Raises ours; Unavailable with `certain=False` where it may have been carried out."""
    found = _json(status, raw, retry_after)
    if isinstance(found, dict) and "response" in found:
        return found["response"]
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        raise judged(error)
    raise Unavailable("an answer without a response", certain=False)


def judged(error: Mapping[str, Any]) -> GatewayError:
    """What an error comes to."""
    code = error.get("error_code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else 0
    said = error.get("error_msg") or error.get("error_text")
    text = _SAID.get(code) or _SETTINGS.get(code) or (said if isinstance(said, str) and said else "no reason given")
    detail = f"{code}: {text[:300]}"
    if code in _CREDENTIALS:
        return BadCredentials(detail)
    if code in _SETTINGS:
        return BadSettings(detail, person=f"VK: {_SETTINGS[code]}")
    if code in (1, 10):
        return Unavailable(detail)
    if code == 6:
        return RateLimited(detail, after_s=SECOND_PAUSE_S)
    if code == 9:
        return Unavailable(detail, after_s=FLOOD_PAUSE_S)  # of one person: the others go on
    if code == 29:
        return RateLimited(detail, after_s=QUOTA_PAUSE_S)
    return Rejected(detail)


def read_upload(status: int, raw: bytes, retry_after: str = "") -> Mapping[str, str]:
    """What an upload server answers with, to be given to the method that saves the file."""
    found = _json(status, raw, retry_after)
    if not isinstance(found, dict):
        raise Unavailable("an upload server answered with no object")
    if problem := found.get("error"):
        words = found.get("error_descr") or problem
        raise Rejected(f"VK does not take this file: {words if isinstance(words, str) else 'no reason given'}"[:300])
    return {str(name): str(value) for name, value in found.items() if isinstance(value, str | int)}


def attachment(kind: str, saved: Any) -> str:
    """A saved file as `messages.send` names it: `photo` of a list, a document of an object. Raises RemoteProtocolError."""
    if kind == "photo":
        one = saved[0] if isinstance(saved, list) and saved else None
    else:
        named = saved.get("type") if isinstance(saved, dict) else None
        one = saved.get(named) if isinstance(saved, dict) and isinstance(named, str) else None
    owner, number = (one.get("owner_id"), one.get("id")) if isinstance(one, dict) else (None, None)
    if not isinstance(one, dict) or not isinstance(owner, int) or not isinstance(number, int):
        raise RemoteProtocolError("VK saved a file and did not say as what")
    key = one.get("access_key")
    return f"{'photo' if kind == 'photo' else 'doc'}{owner}_{number}" + (
        f"_{key}" if isinstance(key, str) and key else ""
    )


# The long poll ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """Where to poll. `ts` is the place in the community's queue."""

    url: str
    key: str = field(repr=False)
    ts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """One answer. `failed` 1: `ts` is new, some is lost; 2: the key has ended; 3: key and `ts` have."""

    ts: str = ""
    updates: Sequence[Any] = ()
    failed: int = 0


def read_server(found: Any) -> Server:
    """Of `groups.getLongPollServer`. Raises RemoteProtocolError."""
    if isinstance(found, dict):
        url, key, ts = found.get("server"), found.get("key"), _ts(found.get("ts"))
        if isinstance(url, str) and isinstance(key, str) and url and key and ts:
            return Server(url if "://" in url else f"https://{url}", key, ts)
    raise RemoteProtocolError("VK named no server to poll")


def read_polled(status: int, raw: bytes, retry_after: str = "") -> Polled:
    """Of a poll. Raises RemoteProtocolError and Unavailable."""
    found = _json(status, raw, retry_after)
    if not isinstance(found, dict):
        raise RemoteProtocolError("a poll's answer is no object")
    failed, ts = found.get("failed", 0), _ts(found.get("ts"))
    if failed in (1, 2, 3) and not isinstance(failed, bool):
        if failed == 1 and not ts:
            raise RemoteProtocolError("a poll failed without a new place to go on from")
        return Polled(ts=ts, failed=failed)
    sent = found.get("updates")
    if failed or not ts or not isinstance(sent, list):
        raise RemoteProtocolError("a poll's answer has no updates")
    return Polled(ts=ts, updates=sent)


def _ts(value: Any) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text if re.fullmatch(r"[0-9]{1,20}", text) else ""


# Callback servers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackServer:
    """One of the community's callback servers. `status` is ok, wait, failed or unconfigured."""

    id: int
    url: str = field(repr=False)
    key: str = field(repr=False)
    status: str


def read_servers(found: Any) -> Sequence[CallbackServer]:
    """Of `groups.getCallbackServers`."""
    items = found.get("items") if isinstance(found, dict) else None
    return [
        CallbackServer(id=one["id"], url=str(one.get("url") or ""), key=str(one.get("secret_key") or ""), status=str(one.get("status") or ""))
        for one in (items if isinstance(items, list) else [])
        if isinstance(one, dict) and isinstance(one.get("id"), int)
    ]  # fmt: skip


def chosen_events(found: Any) -> frozenset[str]:
    """The events that a callback server gets, of `groups.getCallbackSettings`."""
    events = found.get("events") if isinstance(found, dict) else None
    return frozenset(str(name) for name, on in events.items() if on) if isinstance(events, dict) else frozenset()


def _json(status: int, raw: bytes, retry_after: str) -> Any:
    if status == 429:
        raise RateLimited("status 429", after_s=float(retry_after) if re.fullmatch("[0-9]{1,6}", retry_after) else None)
    if status in (401, 403):
        raise BadCredentials(f"status {status}")
    if status in (413, 414):
        raise Rejected(f"status {status}")
    if status != 200:
        raise Unavailable(f"status {status}", certain=status != 504)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Unavailable("an answer that is not VK's", certain=False) from None
