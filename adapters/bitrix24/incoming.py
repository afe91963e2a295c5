"""Events that the portal sends to our address: who may, and which calls they request. Pure.

Form-encoded with PHP's brackets, every value a text; the portal sends an event once and never again. Each bears the application
token, which is compared where the settings have one; without one the unguessable address is the proof. Read
`actors/calls/requested_calls.py` for what becomes of a request.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.bitrix24 import codec
from adapters.bitrix24.plan import CALLBACK
from adapters.bitrix24.requests import Entity
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.inbound import Inbound, Reply, RequestedCall, Update, WebhookCall
from gateway.domain.php_forms import nested_form

CALL_START, CALLBACK_START = "ONEXTERNALCALLSTART", "ONEXTERNALCALLBACKSTART"
EVENTS = (CALL_START, CALLBACK_START)
_LONGEST = 128


def fields_of(body: bytes) -> Mapping[str, Any]:
    """The nested fields of a form or of JSON. Raises ValueError for what is neither."""
    if body.lstrip()[:1] == b"{":
        try:
            read = json.loads(body)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(read, dict):
            raise ValueError("not an event")
        return read
    return nested_form(body)


def _event(body: bytes) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    fields = fields_of(body)
    name = codec.text(fields.get("event")).upper()
    if not name:
        raise ValueError("no event")
    return name, codec.mapping(fields.get("data")), codec.mapping(fields.get("auth"))


def verify(call: WebhookCall, settings: Bitrix24Settings) -> Reply | None:
    """None for a genuine event."""
    if call.method != "POST":
        return Reply(405)
    expected = settings.application_token
    if expected is None:
        return None
    try:
        sent = codec.text(_event(call.body)[2].get("application_token"))
    except ValueError:
        return Reply(403)
    genuine = hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), expected.reveal().encode())
    return None if genuine else Reply(403)


def read(body: bytes, settings: Bitrix24Settings) -> Sequence[Update]:
    """No updates: what the portal tells of its records is not followed here. Raises ValueError for what is no event."""
    _event(body)
    return ()


def calls(body: bytes, settings: Bitrix24Settings) -> Sequence[RequestedCall]:
    """The call that somebody wants, if it is such an event. Raises ValueError for one without a number."""
    name, data, _ = _event(body)
    if name not in EVENTS:
        return ()
    phone = codec.text(data.get("PHONE_NUMBER_INTERNATIONAL")) or codec.text(data.get("PHONE_NUMBER"))
    if not phone or len(phone) > _LONGEST:
        raise ValueError("no number to call")
    entity = Entity.read(f"{codec.text(data.get('CRM_ENTITY_TYPE'))}:{codec.identifier(data.get('CRM_ENTITY_ID'))}")
    ids = {"entity": str(entity)} if entity is not None else {}
    if name == CALLBACK_START:
        # It has no id of its own: one event is told from another by its content, the time of sending included.
        content = hashlib.sha256(body).hexdigest()[:32]
        return (
            RequestedCall(
                id=f"callback-{content}", phone=phone, extension=settings.callback_extension,
                ids={**ids, "type": str(CALLBACK)},
            ),
        )  # fmt: skip
    call_id, user = codec.text(data.get("CALL_ID")), codec.identifier(data.get("USER_ID"))
    if not call_id or not user:
        raise ValueError("no call or no user")
    return (
        RequestedCall(
            id=call_id, phone=phone, user_id=user, ids={**ids, "call": call_id},
            unused={"call_id": call_id, "user_id": user},
        ),
    )  # fmt: skip


INBOUND = Inbound(verify=verify, read=read, calls=calls)
