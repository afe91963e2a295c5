"""Tokens of an outside identity service: its keys (JWKS) by our HTTP client, and what a token of its claims.

    kid known, keys young              checked at once, from memory
    kid unknown, or keys older than FRESH_S    one fetch for all who wait, at most every AGAIN_S
    the service is away                keys that were fetched within OLDEST_S still hold

Algorithms are pinned to signatures by key pairs: a token cannot choose `none`, nor have a public key taken for a shared secret.
Read `callers.py` next.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
import trio

from adapters.base import Dialer
from adapters.http import Answer, Http, Timeouts
from gateway.domain.errors import GatewayError, RemoteProtocolError, Unavailable
from gateway.domain.ids import TenantId
from gateway.web.callers.tokens import ExpiredToken

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
FRESH_S = 600.0
AGAIN_S = 15.0
OLDEST_S = 86400.0
LEEWAY_S = 30
"""How far the other clock may be off."""
MOST_KEYS = 100
_TIMEOUTS = Timeouts(connect_s=3.0, read_s=3.0, whole_s=5.0)
_FITTING = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


@dataclass(frozen=True, slots=True)
class OutsideClaims:
    """What a token says: whose company, by whom, and what it may do."""

    tenant: TenantId
    subject: str
    scopes: frozenset[str]


@dataclass
class IdentityService:
    """The service at `url`, whose tokens are for `audience`."""

    url: str
    audience: str
    dial: Dialer | None
    now: Callable[[], float]
    """Seconds since 1970."""
    clock: Callable[[], float] = trio.current_time
    _keys: Mapping[str, jwt.PyJWK] = field(default_factory=dict)
    _fetched: float = float("-inf")
    _tried: float = float("-inf")
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def read(self, text: str) -> OutsideClaims | None:
        """The claims of a token that the service signed for us; None for any other. Raises ExpiredToken, and Unavailable where
        the service's keys cannot be had."""
        try:
            head = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            return None
        algorithm, key_id = head.get("alg"), head.get("kid", "")
        if algorithm not in ALGORITHMS or not isinstance(key_id, str):
            return None
        key = await self._key(key_id)
        if key is None or key.key_type != _FITTING[algorithm]:
            return None
        try:
            found = jwt.decode(
                text, key.key, algorithms=[algorithm], audience=self.audience, leeway=LEEWAY_S,
                options={"require": ["exp", "aud", "tenant", "scope"], "verify_exp": False, "verify_iat": False,
                         "verify_nbf": False},
            )  # fmt: skip
            ends, begins = float(found["exp"]), float(found.get("nbf", 0))
        except (jwt.PyJWTError, TypeError, ValueError):
            return None
        if ends + LEEWAY_S <= self.now():
            raise ExpiredToken
        tenant, scope = found["tenant"], found["scope"]
        words = scope.split() if isinstance(scope, str) else scope
        if begins - LEEWAY_S > self.now() or not isinstance(tenant, str) or not isinstance(words, list):
            return None
        subject = str(found.get("sub") or "token")[:100]
        return OutsideClaims(TenantId(tenant), subject, frozenset(str(word) for word in words))

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        async with self._lock:
            age = self.clock() - self._fetched
            if (age > FRESH_S or self._found(key_id) is None) and self.clock() - self._tried >= AGAIN_S:
                self._tried = self.clock()
                try:
                    self._keys, self._fetched = await self._fetch(), self.clock()
                except GatewayError as error:
                    log.warning("keys of the identity service cannot be read", extra={"reason": error.detail})
            if self.clock() - self._fetched > OLDEST_S:
                raise Unavailable("identity service: no keys", person="The identity service cannot be reached.")
        return self._found(key_id)

    def _found(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id; a token without one is meant for the only key there is."""
        return self._keys.get(key_id) or (
            next(iter(self._keys.values())) if not key_id and len(self._keys) == 1 else None
        )

    async def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        parts = urlsplit(self.url)
        async with Http(f"{parts.scheme}://{parts.netloc}", dial=self.dial, timeouts=_TIMEOUTS) as http:
            return await http.send("GET", parts.path or "/", read=_keys_of, limit=256 * 1024)


def _keys_of(answer: Answer) -> Mapping[str, jwt.PyJWK]:
    """The keys of a JWKS that we can check signatures with; others in it are passed over."""
    if answer.status != 200 or answer.cut:
        raise RemoteProtocolError(f"JWKS: status {answer.status}")
    try:
        sent: Any = json.loads(answer.raw)
        listed = list(sent["keys"])[:MOST_KEYS]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RemoteProtocolError("JWKS: not a set of keys") from None
    found: dict[str, jwt.PyJWK] = {}
    for one in listed:
        try:
            if one.get("use", "sig") == "sig" and one.get("kty") in _FITTING.values():
                key = jwt.PyJWK.from_dict(one)
                found[key.key_id or f"#{len(found)}"] = key
        except (jwt.PyJWTError, AttributeError, ValueError, TypeError):
            continue
    if not found:
        raise RemoteProtocolError("JWKS: no usable key")
    return found
