"""The token in the link by which an outside system opens the pages of our module: a JWT bound to one registration.

HS256 with a key that belongs to the registration, so a new registration or none ends every older link. It ends after a year;
whenever the module is registered or updated over there, it gets a fresh one. Links of before 0.1 have no end of their own:
they end a year after their registration. Pure; read `actors/crm/registration.py` next for where the key is stored.
"""

import re
from datetime import datetime, timedelta

import jwt

from gateway.domain.ids import IntegrationKey, TenantId, integration_key
from gateway.domain.secret import Secret

_SHAPE = re.compile(r"[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+", re.ASCII)
_LONGEST = 1000
_ALGORITHM = "HS256"
LIVES = timedelta(days=365)
LEEWAY = timedelta(minutes=5)
"""Tolerated difference between the clocks of two instances, in seconds."""


def sign_link(key: Secret, tenant: TenantId, integration: IntegrationKey, now: datetime) -> Secret:
    """The token, good for a year from now. `source` is the integration's key: `retailcrm`, or `retailcrm:NAME`."""
    at = int(now.timestamp())
    claims = {"enterprise_number": tenant, "source": integration, "iat": at, "exp": at + int(LIVES.total_seconds())}
    return Secret(jwt.encode(claims, key.reveal(), algorithm=_ALGORITHM))


def claims_of(token: str) -> tuple[TenantId, IntegrationKey] | None:
    """Tenant and integration that the token claims, unverified: they select the key to verify it with. None if malformed."""
    if len(token) > _LONGEST or not _SHAPE.fullmatch(token):
        return None
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        tenant = claims.get("enterprise_number", claims.get("tenant"))
        key = integration_key(str(claims.get("source", claims.get("kind"))))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return (TenantId(tenant), key) if isinstance(tenant, str) and re.fullmatch(r"[0-9A-Za-z_-]{1,32}", tenant) else None


def link_is_good(
    token: str, key: Secret, tenant: TenantId, integration: IntegrationKey, registration: int, registered_at: datetime,
    now: datetime,
) -> bool:  # fmt: skip
    """Whether the token was signed with this registration's key, for exactly this module, and has not ended."""
    if len(token) > _LONGEST or not _SHAPE.fullmatch(token):
        return False
    try:
        # The times are compared with the caller's clock below.
        claims = jwt.decode(
            token, key.reveal(), algorithms=[_ALGORITHM],
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )  # fmt: skip
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    if claims == {"tenant": tenant, "kind": integration, "registration": registration}:
        return now < registered_at + LIVES
    if (claims.get("enterprise_number"), claims.get("source")) != (tenant, integration):
        return False
    begins, ends = claims.get("iat"), claims.get("exp")
    if not isinstance(begins, int) or not isinstance(ends, int):
        return False
    return begins - LEEWAY.total_seconds() <= now.timestamp() < ends
