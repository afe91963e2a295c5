"""Tokens that people carry: session cookies and one-time links. `<tenant, or - for an operator>.<random>`.

The tenant stands in the token because it is the first key of every table; it proves nothing by itself. Only the SHA-256
of the random part is ever stored. Read `gateway/web/session/auth.py` next.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass

from gateway.domain.ids import TenantId

_SHAPE = re.compile(r"(-|[0-9A-Za-z_-]{1,32})\.([0-9A-Za-z_-]{43})")
_NOBODY = "-"


@dataclass(frozen=True, slots=True)
class Token:
    """A token's parts: the tenant that it claims, and the hash by which it is stored."""

    tenant: TenantId | None
    token_hash: bytes


def new_token(tenant: TenantId | None) -> tuple[str, Token]:
    """A fresh token of 256 random bits: its text, for the person alone, and its parts, for the store."""
    random = secrets.token_urlsafe(32)
    return f"{_NOBODY if tenant is None else tenant}.{random}", Token(tenant, _digest(random))


def read_token(text: str) -> Token | None:
    """The parts of what looks like a token. A tenant named "-" would be taken for an operator, and is refused."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        return None
    return Token(None if found[1] == _NOBODY else TenantId(found[1]), _digest(found[2]))


def login_link(public_url: str, token: str) -> str:
    """The address that signs in once."""
    return f"{public_url}/login/once?token={token}"


def _digest(random: str) -> bytes:
    return hashlib.sha256(random.encode("ascii")).digest()
