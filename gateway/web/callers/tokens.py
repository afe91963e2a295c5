"""Short tokens for those who hold an API key: JWTs signed with a key derived from the master key, so that every instance accepts
every other's.

A token names its key and what it may do; it is worth nothing once the key is revoked, for the key is looked up with every use.
Read `callers.py` next, `identity_service.py` for tokens of others.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from gateway.domain.ids import TenantId
from gateway.store.api_keys import ApiKey
from gateway.store.secrets.seal import MasterKeys

LIVES_S = 900
ALGORITHM = "HS256"
_ISSUER = "gateway"
_PURPOSE = "api tokens"
_SHAPE = re.compile(r"[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+")
LONGEST = 8192
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token of ours says: the key it was made from, and the scopes of then."""

    tenant: TenantId
    key_id: str
    scopes: frozenset[str]


class ExpiredToken(Exception):
    """The token was good, but its time is over."""


def is_token(text: str) -> bool:
    """Whether a text has the shape of a JWT."""
    return len(text) <= LONGEST and _SHAPE.fullmatch(text) is not None


def algorithm_of(text: str) -> str:
    """The algorithm that a token names. It only decides whose token this is to be: each is checked with its own keys alone."""
    try:
        return str(jwt.get_unverified_header(text).get("alg", ""))
    except jwt.PyJWTError:
        return ""


@dataclass(frozen=True)
class Tokens:
    """Makes and checks them."""

    master: MasterKeys
    now: Callable[[], float]
    """Seconds since 1970."""

    def new(self, key: ApiKey) -> str:
        """A fresh token with the key's scopes."""
        began = int(self.now())
        claims = {
            "iss": _ISSUER, "sub": key.key_id, "tenant": key.tenant, "scope": " ".join(key.scopes), "iat": began,
            "exp": began + LIVES_S,
        }  # fmt: skip
        return jwt.encode(claims, self.master.derived(_PURPOSE), algorithm=ALGORITHM)

    def read(self, text: str) -> Claims | None:
        """The claims of a token that one of our master keys signed; None for any other. Raises ExpiredToken."""
        for key in self.master.derived_of_all(_PURPOSE):
            try:
                found = jwt.decode(
                    text, key, algorithms=[ALGORITHM], issuer=_ISSUER,
                    options={"require": ["exp", "sub", "tenant", "scope"], "verify_exp": False, "verify_iat": False},
                )  # fmt: skip
            except jwt.PyJWTError:
                continue
            if found["exp"] <= self.now():
                raise ExpiredToken
            if not _UUID.fullmatch(found["sub"]):
                return None
            return Claims(TenantId(found["tenant"]), found["sub"], frozenset(found["scope"].split()))
        return None
