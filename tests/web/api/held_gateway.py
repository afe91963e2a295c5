"""A gateway as the machine addresses see it, held in memory."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.posts import Post
from gateway.web.api.machine import MachineDeps, machine_addresses
from gateway.web.http.routes import Address

TOKEN = "june-token-0123456789abcdef0123456789"
NOW = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)


@dataclass
class Gateway:
    """Keeps what is journaled; `full` makes it refuse."""

    journaled: list[Post] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    full: bool = False

    def __post_init__(self) -> None:
        digest = hashlib.sha256(TOKEN.encode()).digest()
        tenant = Tenant(
            number=TenantId("0367"), name="June", timezone=ZoneInfo("Europe/Minsk"), country="BY", language="ru",
            token_hash=digest,
        )  # fmt: skip
        self.deps = MachineDeps(
            tenant_by_token={digest: tenant}.get, journal=self.journal, ready=lambda: self.reasons,
            stats=lambda: {"uptime_seconds": 1}, metrics=lambda: "gateway_up 1\n",
            enablement={"0367": {"enterprise_number": "0367", "integrations": {"retailcrm": True}}}.get,
            invalidate=self.invalidate, now=lambda: NOW,
        )  # fmt: skip

    async def journal(self, tenant: Tenant, post: Post) -> Literal["accepted", "duplicate"]:
        if self.full:
            raise Unavailable("disk full", after_s=7)
        if any(post.digest == known.digest for known in self.journaled):
            return "duplicate"
        self.journaled.append(post)
        return "accepted"

    async def invalidate(self, number: str) -> bool:
        return number == "0367"

    def addresses(self, *others: Address, **changed: Any) -> list[Address]:
        """The table, with deps changed."""
        return machine_addresses(replace(self.deps, **changed), others)


def event(unique_id: str = "7.1", **fields: Any) -> dict[str, Any]:
    """A posted call event."""
    return {"Token": TOKEN, "UniqueId": unique_id, "CallerIDNum": "+375291234567", "Extensions": ["150"], **fields}


def request_bytes(body: bytes | dict[str, Any], path: str = "/dial", *lines: str, method: str = "POST") -> bytes:
    """A whole HTTP/1.1 request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *lines]
    return "\r\n".join((*head, f"Content-Length: {len(data)}", "\r\n")).encode() + data
