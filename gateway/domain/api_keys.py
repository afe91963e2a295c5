"""API keys: `gw_live_<22 characters id><30 characters secret><6 characters checksum>`, base 62. Pure but for randomness.

The checksum lets a scanner of leaked secrets, and us, know a key without a look-up. Stored is the SHA-256 of the
whole: with 178 random bits in the secret alone no slow hash is needed. Read `gateway/store/api_keys.py` next.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from gateway.domain.secret import Secret

SCOPES = ("call", "bot", "read", "write", "chat", "deals", "telegram")
"""`call` places calls, `bot` reads the tenant's configuration for bots, `read` and `write` are everything that the pages show
and change; `chat`, `deals` and `telegram` are for the services of these names."""
WARN_BEFORE = timedelta(days=10)
"""How long before its end a key is warned of."""
OLD_LIVES = timedelta(days=1)
"""How long a key lives on beside the one that replaces it."""
LONGEST_NAME = 100

_PREFIX = "gw_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"gw_live_([0-9A-Za-z]{52})([0-9A-Za-z]{6})")


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose a key is: who made it, or made the key by which it was made, or replaced an earlier one by it. A person's keys end when
    the person is removed from the company."""

    kind: Literal["", "person", "operator", "cli", "outside"] = ""
    """`outside`: the subject of an identity service's token. Empty: not known, of keys of older versions."""
    name: str = ""
    """The address of a person or operator, the subject of an outside token."""


UNKNOWN_OWNER = KeyOwner()


def new_key() -> Secret:
    """A fresh key. Shown once."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(52))
    return Secret(f"{_PREFIX}{body}{_checksum(body)}")


def looks_right(text: str) -> bool:
    """Whether a text has the shape and the checksum of a key."""
    found = _SHAPE.fullmatch(text)
    return found is not None and _checksum(found[1]) == found[2]


def ends_soon(expires_at: datetime | None, rotated_at: datetime | None, now: datetime) -> bool:
    """Whether people are to be warned of a key's end: it comes soon, and no other stands in its place yet."""
    return expires_at is not None and rotated_at is None and now < expires_at <= now + WARN_BEFORE


def hash_of(text: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(text.encode()).digest()


def hint_of(text: str) -> str:
    """Enough of a key to tell it from another: its public id, never its secret."""
    return text[: len(_PREFIX) + 8]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits
