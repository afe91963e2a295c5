"""Webhooks of the Cloud API: whose they are, and the updates in them. Pure.

A webhook holds entries of changes of messages and statuses; each of those is an update of its own, so that a bad one holds up no
other. Only those of our number are ours: an application has one webhook for all its numbers. Sources: Meta, WhatsApp Cloud API,
"Webhooks", "messages webhook reference", "smb_message_echoes webhook reference".
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters import meta
from adapters.inbound import Inbound, Reply, SharedHook, Update, WebhookCall
from adapters.meta import child, objects, string
from adapters.whatsapp.settings import WhatsappSettings

OBJECT = "whatsapp_business_account"
_LISTS = {"messages": "message", "statuses": "status", "message_echoes": "echo"}
"""Lists of a change -> what we call an item of one."""
_FIELDS = frozenset({"messages", "smb_message_echoes"})


def verify(call: WebhookCall, settings: WhatsappSettings) -> Reply | None:
    """None for a genuine webhook."""
    return meta.verify(call, settings.webhook_verify_token, settings.app_secret)


def read(body: bytes, settings: WhatsappSettings) -> Sequence[Update]:
    """The updates of our number, in their order. Raises ValueError for what is no webhook of WhatsApp."""
    return [
        update
        for change in _changes(meta.entries(body, OBJECT))
        if child(change, "value", "metadata", "phone_number_id") == settings.phone_number_id
        for update in _updates(change["value"])
    ]


def accounts(body: bytes) -> Mapping[str, bytes]:
    """Each number's part of a webhook, as `read` takes it. Raises like `read`."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for change in _changes(meta.entries(body, OBJECT)):
        parts.setdefault(string(child(change, "value", "metadata", "phone_number_id")), []).append(change)
    return {
        number: json.dumps({"object": OBJECT, "entry": [{"changes": changes}]}).encode()
        for number, changes in parts.items()
        if number
    }


def _changes(entries: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for entry in entries:
        for change in objects(entry.get("changes")):
            if change.get("field") in _FIELDS and isinstance(change.get("value"), dict):
                yield change


def _updates(value: Mapping[str, Any]) -> Iterator[Update]:
    people = objects(value.get("contacts"))
    for name, kind in _LISTS.items():
        for item in objects(value.get(name)):
            if "group_id" in item:
                continue
            known = string(item.get("id"))
            # A status is told once for each step, a message once.
            provider_id = f"{known}:{string(item.get('status'))}" if kind == "status" and known else known
            yield Update(
                provider_id or meta.digest_of(item), {"kind": kind, "item": item, "contact": _contact(people, item)}
            )


def _contact(people: Sequence[Mapping[str, Any]], item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whom an item is about, among the contacts of its change."""
    ids = {string(item.get(name)) for name in ("from", "from_user_id", "to", "to_user_id", "recipient_id")} - {""}
    for person in people:
        if {string(person.get("wa_id")), string(person.get("user_id"))} & ids:
            return person
    return people[0] if len(people) == 1 else {}


INBOUND = Inbound(verify=verify, read=read, shared=SharedHook(verify=meta.verify_app, accounts=accounts))
