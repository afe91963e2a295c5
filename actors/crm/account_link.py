"""The token in the link by which an outside system opens the pages of our module: a JWT bound to one registration.

HS256 with a key that belongs to the registration, so a new registration or none ends every older link. It never expires
by itself, because it lives in the other side's settings. Pure; read `actors/crm/registration.py` next for where the key is kept.
"""

import re

import jwt

from gateway.domain.ids import IntegrationKey, TenantId, integration_key
from gateway.domain.secret import Secret

_SHAPE = re.compile(r"[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+", re.ASCII)
_LONGEST = 1000
_ALGORITHM = "HS256"


def _claims(tenant: TenantId, integration: IntegrationKey, registration: int) -> dict[str, object]:
    return {"tenant": tenant, "kind": integration, "registration": registration}


def sign_link(key: Secret, tenant: TenantId, integration: IntegrationKey, registration: int) -> Secret:
    """The token; the same each time."""
    return Secret(jwt.encode(_claims(tenant, integration, registration), key.reveal(), algorithm=_ALGORITHM))


def claims_of(token: str) -> tuple[TenantId, IntegrationKey] | None:
    """Whose the token says it is, which proves nothing: it tells whose key to verify it with."""
    if len(token) > _LONGEST or not _SHAPE.fullmatch(token):
        return None
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        tenant, key = claims.get("tenant"), integration_key(str(claims.get("kind")))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return None
    return (TenantId(tenant), key) if isinstance(tenant, str) and re.fullmatch(r"[0-9A-Za-z_-]{1,32}", tenant) else None


def link_is_good(token: str, key: Secret, tenant: TenantId, integration: IntegrationKey, registration: int) -> bool:
    """Whether the token was signed with this key, for exactly this registration."""
    if len(token) > _LONGEST or not _SHAPE.fullmatch(token):
        return False
    try:
        claims = jwt.decode(token, key.reveal(), algorithms=[_ALGORITHM])
    except (jwt.PyJWTError, ValueError, RecursionError):
        return False
    return bool(claims == _claims(tenant, integration, registration))
