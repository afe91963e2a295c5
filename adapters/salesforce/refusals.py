"""What a refusal means to a person: what happened, and what to do. The same sentences stand in `texts.toml` under `reason`, in both
languages; a test compares. Pure. Read `codec.py` for which refusal is which.
"""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType({
    "session": "Salesforce does not accept the session: check the app and its user, or connect again",
    "grant": "Salesforce does not accept the sign-in: check the key and secret of the app and its run-as user, or connect again",
    "client": "Salesforce does not know the app: correct its consumer key and secret",
    "approval": "the user has not approved the app: pre-authorise the app for a profile or permission set of the user",
    "flow": "this way of signing in is not allowed for the app: allow it in the app's OAuth settings, and choose its run-as user",
    "user": "the user in whose name we work is not allowed in: unlock or activate them, or choose another user",
    "connect": "nobody has connected Salesforce here yet: press Connect",
    "api": "this Salesforce edition has no API, or it is switched off: buy API access, or use another edition",
    "gone": "there is no organisation at this address any more: enter its My Domain address",
    "right_task": "Salesforce does not allow this: give the user in whose name we work the right to edit tasks",
    "right_lead": "Salesforce does not allow this: give the user in whose name we work the right to read and create leads",
    "right_contact": "Salesforce does not allow this: give the user in whose name we work the right to read and create contacts",
    "right_user": "Salesforce does not allow this: give the user in whose name we work the right to manage users",
    "right": "Salesforce does not allow this: give the user in whose name we work the rights for the API, tasks, contacts and leads",
    "several": "several records in Salesforce have the id of this call: remove all but one",
    "required": "Salesforce wants a field filled in that we know nothing of: give it a default value there, or map it",
    "status": "Salesforce does not know the status or another value of a list: correct it in the settings",
    "not_allowed": "Salesforce did not allow the access",
    "no_refresh": "signing in by connecting is not chosen: choose it as the way of signing in, save, and connect",
})  # fmt: skip
_RIGHTS = {"task": "task", "taskstatus": "task", "lead": "lead", "contact": "contact", "user": "user"}


def right_text(thing: str) -> str:
    """What to do where something is not allowed: the right that it needs is named."""
    right = _RIGHTS.get(thing.lower(), "")
    return REASONS[f"right_{right}" if right else "right"]
