"""Signed links to recordings and files of chats: which one, whose, and until when, in an address that nobody else can make.

    /recordings/file/<id>?tenant=0367&expires=1795219998&signature=…

Pure: the key is the tenant's own, derived from its data key, so nothing of a link is stored and it outlives restarts. The
id is derived too, from the call: the same call has the same link whenever it is requested. Comparing takes the same time
for every wrong signature. Read `gateway/web/api/recordings.py` for the caller.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId

PATH = "/recordings/file/"
SHORT_LIFE = timedelta(minutes=10)
KEEP_DAYS = 365
"""Days, where the tenant's options set nothing else."""

PURPOSE = "links to recordings"
"""Names the key among those derived for the tenant."""
FILES_PATH, FILES_PURPOSE = "/files/", "links to files of chats"
"""The same of files of chats."""
FILES_LIFE = timedelta(hours=1)


def keep_days(tenant: Tenant) -> int:
    """Days for which the tenant keeps recordings."""
    given = tenant.options.get("recordings", {})
    return int(given.get("keep_days", KEEP_DAYS))


def expects_posted(tenant: Tenant) -> bool:
    """Whether hosts that post this tenant's calls send a recording of each one that was answered."""
    return bool(tenant.options.get("recordings", {}).get("posted", False))


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes and judges the links of one tenant."""

    tenant: TenantId
    key: bytes = field(repr=False)
    path: str = PATH

    def recording_id(self, call_id: str, *more: str) -> UUID:
        """The id of a call's recording; `more` tells a second one of the same call from the first."""
        parts = [part.encode("utf-8", "surrogatepass") for part in ("id", self.tenant, call_id, *more)]
        return UUID(bytes=self._mac(parts)[:16], version=4)

    def signature(self, recording: UUID, expires: int) -> str:
        """What stands in the link."""
        mac = self._mac([b"link", self.tenant.encode(), recording.bytes, str(expires).encode()])
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")

    def _mac(self, parts: list[bytes]) -> bytes:
        reported = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self.key, reported, hashlib.sha256)

    def link(self, base_url: str, recording: UUID, until: datetime) -> str:
        """A link that works until then."""
        expires = int(until.timestamp())
        query = urlencode({"tenant": self.tenant, "expires": expires, "signature": self.signature(recording, expires)})
        return f"{base_url}{self.path}{recording}?{query}"

    def allows(self, recording: UUID, expires: str, signature: str, now: datetime) -> bool:
        """Whether a link with these parts is one of ours and still good."""
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return False
        right = self.signature(recording, int(expires))
        same = hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogatepass"))
        return same and expires == str(int(expires)) and int(expires) > now.timestamp()
