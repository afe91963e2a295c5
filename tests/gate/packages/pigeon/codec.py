"""Pigeon's wire, pure: what is planned for a call, whose webhooks are genuine, which updates there are."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.base import Draft
from adapters.inbound import Reply, Update, WebhookCall
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import CallEnded, CallEvent
from pigeon.settings import PigeonApp, PigeonSettings

ACCEPTED = Reply(200, b"coo")


def plan(
    settings: PigeonSettings, tenant: Tenant, before: Call | None, call: Call, event: CallEvent
) -> Sequence[Draft]:
    """A note in the room at the end of each call."""
    if not isinstance(event, CallEnded):
        return ()
    body = {"room": settings.room, "text": f"{call.caller} -> {call.called}: {event.result}"}
    return (Draft(kind="note", key=f"{call.call_id}:note", body=body),)


def signature(key: str, body: bytes) -> str:
    """Of a webhook's body."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def verify(call: WebhookCall, settings: PigeonSettings) -> Reply | None:
    """A handshake is answered with its challenge; a webhook must be signed."""
    if call.method == "GET":
        return Reply(200, call.query.get("challenge", "")[:100].encode())
    sent = call.headers.get("x-pigeon-signature", "").encode("utf-8", "surrogatepass")
    right = signature(settings.signing_key.reveal(), call.body).encode()
    return None if hmac.compare_digest(sent, right) else Reply(403)


def read(body: bytes, settings: PigeonSettings) -> Sequence[Update]:
    """The letters of a webhook. Raises ValueError."""
    return letters(json.loads(body))


def letters(sent: Any) -> Sequence[Update]:
    """Letters as updates, by their numbers. Raises ValueError."""
    if not isinstance(sent, list) or not all(
        isinstance(one, dict) and isinstance(one.get("number"), int) for one in sent
    ):
        raise ValueError("not a list of letters")
    return [Update(str(one["number"]), one) for one in sent]


def verify_shared(call: WebhookCall, app: PigeonApp) -> Reply | None:
    """As `verify`, by the application; its handshake shows the verify token."""
    if call.method == "GET":
        shown = call.query.get("token", "").encode("utf-8", "surrogatepass")
        right = hmac.compare_digest(shown, app.verify_token.reveal().encode())
        return Reply(200, call.query.get("challenge", "")[:100].encode()) if right else Reply(403)
    sent = call.headers.get("x-pigeon-signature", "").encode("utf-8", "surrogatepass")
    wanted = signature(app.app_secret.reveal(), call.body).encode()
    return None if hmac.compare_digest(sent, wanted) else Reply(403)


def accounts(body: bytes) -> Mapping[str, bytes]:
    """Letters by the account they are for. Raises ValueError."""
    sent = json.loads(body)
    if not isinstance(sent, dict) or not all(isinstance(one, list) for one in sent.values()):
        raise ValueError("not letters by account")
    return {str(account): json.dumps(one).encode() for account, one in sent.items()}
