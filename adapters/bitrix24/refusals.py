"""What a refusal means to a person: what happened, and what to do. The same sentences stand in `texts.toml` under `reason`, in both
languages; a test compares. Pure. Read `codec.py` for which refusal is which.
"""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType({
    "key": "Bitrix24 does not accept the webhook or the connection: enter a new webhook, or connect the application again",
    "grant": "Bitrix24 does not accept the connection any more: connect the application again",
    "client": "Bitrix24 does not know the application: correct its client id and key, and connect again",
    "not_installed": "the application is not installed in this portal: install it and connect again",
    "user": "the user in whose name we work is not allowed in any more: make the webhook, or connect, as another user",
    "no_app": "this portal lets only applications register calls: enter the portal and a local application, and connect it",
    "plan": "Bitrix24 refuses REST on this plan: change it, or switch the trial of the marketplace on",
    "blocked": "Bitrix24 has blocked requests to this portal by hand: write to its support",
    "gone": "there is no portal at this address any more: enter the address of the one in use",
    "elsewhere": "this address leads on to another one: enter the final address of the portal",
    "right_crm": "Bitrix24 does not allow this: give the webhook or the application the right crm, and its user access to the CRM",
    "right_telephony": "Bitrix24 does not allow this: give the webhook or the application the right telephony",
    "right_user": "Bitrix24 does not allow this: give the webhook or the application the right user; only administrators change numbers",
    "right_task": "Bitrix24 does not allow this: give the webhook or the application the right task",
    "right": "Bitrix24 does not allow this: give the webhook or the application the rights crm, telephony, user and task",
    "nobody": "Bitrix24 knows nobody of this call: give its users their internal numbers, or set a user for calls of nobody",
    "not_fetched": "Bitrix24 could not fetch the recording yet: our public address has to be reachable from the internet",
    "not_allowed": "Bitrix24 did not allow the access",
    "no_portal": "enter the address of the portal first, and save it",
    "format": "Bitrix24 takes recordings in wav and mp3 alone",
})  # fmt: skip
_RIGHTS = {"telephony": "telephony", "voximplant": "telephony", "event": "telephony", "crm": "crm", "user": "user",
           "tasks": "task", "task": "task"}  # fmt: skip


def right_text(method: str) -> str:
    """What to do where a method is not allowed: the right that it needs is named."""
    right = _RIGHTS.get(method.partition(".")[0], "")
    return REASONS[f"right_{right}" if right else "right"]
