"""What the API needs from the rest of the gateway, and which pages of other sites may call it (CORS).

Cookies are never allowed across origins: a page elsewhere sends a key. Read `endpoints.py` next.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from actors.chats.conversing import Conversing
from actors.crm.plans import CrmPlans
from actors.crm.registration import Registrations
from actors.feed import Feed
from actors.orders.ordering import Ordering
from actors.runtime.directory import Slot
from adapters.base import Tested
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.store.call_orders import Admitted
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Database
from gateway.store.secrets.seal import MasterKeys
from gateway.web.callers.callers import Callers, Headers
from gateway.web.content.bot_configs import BotConfigs
from gateway.web.content.deal_work import DealWork
from gateway.web.content.sandbox import Sandbox
from gateway.web.http.routes import Request
from gateway.web.rest.cursors import Cursors
from gateway.web.rest.idempotency import Idempotency
from gateway.web.session.live_streams import LiveStreams

_EXPOSED = "Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Idempotency-Replayed, ETag"


@dataclass(frozen=True, kw_only=True)
class RestDeps:
    """For all resources."""

    db: Database
    callers: Callers
    master: MasterKeys
    tenant: Callable[[TenantId], Tenant | None]
    """The company's snapshot; raises Unavailable while the configuration is not loaded."""
    refresh: Callable[[TenantId], Awaitable[object]]
    """Reads a company's configuration anew, after a change of it."""
    idempotency: Idempotency
    slots: Callable[[str], Awaitable[Sequence[Slot]]]
    """The actors at and below a path, whichever instance they live in."""
    probe: Callable[..., Awaitable[Tested]]
    """`probe(tenant, connector, language=)` tests an integration with the connector's settings, stored or not."""
    place: Callable[..., Awaitable[Admitted]]
    """`place(tenant, extension=, phone=, asked_by=)` places a call; raises CallRefused."""
    modules: Registrations
    """Our modules in outside systems."""
    feed: Feed
    conversing: Conversing | None = None
    """What people and programs do to conversations."""
    chat_files: ChatFiles | None = None
    """Files of messages."""
    bot_configs: BotConfigs | None = None
    """What bots get."""
    deal_work: DealWork | None = None
    """What programs do with deals."""
    sandbox: Sandbox = field(default_factory=lambda: Sandbox(None))
    """Tries prompts on the installation's model."""
    public_url: str = ""
    """Where people find the gateway: the beginning of links."""
    ring: Callable[[TenantId, IntegrationKey], None] = lambda number, key: None
    """Notifies an integration that it has something to deliver."""
    origins: Sequence[str] = ()
    """Whose pages may call the API; `*` for all."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    streams: LiveStreams = field(default_factory=LiveStreams)

    @property
    def ordering(self) -> Ordering:
        """What people and programs do to orders."""
        return Ordering(db=self.db, feed=self.feed, crm=self.crm)

    @property
    def crm(self) -> CrmPlans:
        """What CRMs are sent beside calls."""
        return self.conversing.crm if self.conversing is not None else CrmPlans()

    @property
    def cursors(self) -> Cursors:
        """Places in lists."""
        return Cursors(self.master)

    def cors(self, request: Request) -> Headers:
        """The headers by which a browser lets a page of another site read the answer."""
        if not self.origins:
            return ()
        if "*" in self.origins:
            return (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", _EXPOSED))
        origin = request.headers.get("origin", "")
        if origin.lower() not in self.origins:
            return (("Vary", "Origin"),)
        return (
            ("Vary", "Origin"), ("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", _EXPOSED),
        )  # fmt: skip
