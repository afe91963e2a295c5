"""What a refusal means to a person: what happened, and what to do. The same sentences stand in `texts.toml` under `reason`, in both
languages; a test compares. Pure. Read `codec.py` for which refusal is which.
"""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType({
    "key": "HubSpot does not accept the token or the connection: enter the private app's token, or connect the app again",
    "grant": "HubSpot does not accept the connection any more: connect the app again",
    "client": "HubSpot does not know the app: correct its client id and secret, and connect again",
    "scope": "HubSpot does not allow this: give the app these scopes and, where it was connected, connect it again",
    "forbidden": "HubSpot does not allow this: give the app the scopes that this page lists, and check the account's plan",
    "daily": "the account's requests of this day are used up: HubSpot takes more after midnight of its time zone",
    "not_allowed": "HubSpot did not allow the access",
    "not_connected": "enter the private app's token, or connect an app",
    "no_unique": "the property that tells calls apart does not have unique values in HubSpot: make it anew, or let repeats be recognised by searching",
})  # fmt: skip


def scope_text(scopes: tuple[str, ...]) -> str:
    """What to do where something is not allowed: the missing scopes are named, where HubSpot names them."""
    return f"{REASONS['scope']}: {', '.join(scopes)}" if scopes else REASONS["forbidden"]
