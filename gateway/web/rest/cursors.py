"""Where a list goes on: a place in it, signed so that it leads on in this list of this company alone.

Opaque to clients. Nothing of a cursor reaches a statement that was not made here.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass

from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.store.secrets.seal import MasterKeys

_SIGNATURE = 16
_PURPOSE = "api cursors"


@dataclass(frozen=True)
class Cursors:
    """Makes and reads them."""

    master: MasterKeys

    def new(self, tenant: TenantId, place: str, values: list[str | int]) -> str:
        """The cursor of a place in the list of this name."""
        body = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        return (
            base64.urlsafe_b64encode(_signed(self.master.derived(_PURPOSE), tenant, place, body) + body)
            .decode()
            .rstrip("=")
        )

    def read(self, tenant: TenantId, place: str, text: str) -> list[str | int] | None:
        """The place, or None for a text that is no cursor of this list and company."""
        try:
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        signature, body = raw[:_SIGNATURE], raw[_SIGNATURE:]
        for key in self.master.derived_of_all(_PURPOSE):
            if hmac.compare_digest(_signed(key, tenant, place, body), signature):
                values: list[str | int] = json.loads(body)
                return values
        return None

    def wanted(self, tenant: TenantId, place: str, text: str | None) -> list[str | int] | None:
        """The place that a request names, None where it names none. Raises Invalid."""
        if text is None:
            return None
        found = self.read(tenant, place, text)
        if found is None:
            raise Invalid((("cursor", "is not one that this list has given: leave it out to begin anew"),))
        return found


def _signed(key: bytes, tenant: TenantId, place: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{tenant}\0{place}\0".encode() + body, hashlib.sha256)[:_SIGNATURE]
