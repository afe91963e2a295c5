"""What a refusal means to a person: what happened, and what to do. The same sentences stand in `texts.toml` under `reason`, in both
languages; a test compares. Pure. Read `codec.py` for which refusal is which.
"""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType({
    "key": "amoCRM does not accept the token: make a new long-lived token, or connect again",
    "connect": "amoCRM is not connected yet: enter a long-lived token, or the application, and connect it",
    "grant": "amoCRM does not accept the connection any more: connect again",
    "lost": "amoCRM has given out a new token whose answer was lost, and does not give it again: connect again",
    "plan": "the subscription of the amoCRM account is not paid: pay it there",
    "blocked": "amoCRM has blocked the account or our address: write to its support, and do not repeat requests until then",
    "gone": "there is no amoCRM account at this address: enter the name of the one in use",
    "elsewhere": "this address leads on to another one: enter the final name of the account",
    "right_contacts": "amoCRM does not allow this: give the user of the token the rights to see and create contacts and companies",
    "right_leads": "amoCRM does not allow this: give the user of the token the rights to see and create leads",
    "right_tasks": "amoCRM does not allow this: give the user of the token the right to create tasks",
    "right_users": "amoCRM does not allow this: the user of the token has to be an administrator",
    "right": "amoCRM does not allow this: give the user of the token the rights to contacts, companies, leads and tasks",
    "not_allowed": "amoCRM did not allow the access",
    "other_account": "access was given to another account than the one entered here: choose that account, or correct its name",
    "unsorted_off": "incoming leads (unsorted) are switched off in the pipeline: switch them on, or choose what an unknown number becomes",
})  # fmt: skip
_RIGHTS = {"contacts": "contacts", "companies": "contacts", "leads": "leads", "tasks": "tasks", "users": "users"}


def right_text(path: str) -> str:
    """What to do where an address is not allowed: the right that it needs is named."""
    first = path.partition("?")[0].removeprefix("/api/v4/").partition("/")[0]
    return REASONS[f"right_{_RIGHTS[first]}" if first in _RIGHTS else "right"]
