"""What the softphone's addresses need, and which integration an address is of.

    kind, hook id -> integration, switched on -> its frame

The hook id is no credential here: the frame's document is the same for everybody and shows nothing. Who may call is proven by a
person's own session; read `session.py`.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from actors.feed import Feed
from adapters.base import Adapter
from adapters.frame import SoftphoneFrame
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.store.postgres.pool import Database
from gateway.telemetry import bound
from gateway.web.callers.callers import Callers
from gateway.web.callers.softphones import SoftphoneTokens
from gateway.web.http.routes import Handler, Request, Response, problem
from gateway.web.session.live_streams import LiveStreams

PATH = "/frames/{kind}/{hook_id}"
_LONGEST_ID = 128
NOBODY = problem(404, "NOT_FOUND", "There is no such softphone, or it is switched off.")


@dataclass(frozen=True, kw_only=True)
class FrameDeps:
    """What the addresses need from the rest of the gateway."""

    db: Database
    feed: Feed
    adapters: Mapping[Kind, Adapter]
    by_hook: Callable[[Kind, bytes], tuple[Tenant, IntegrationKey] | None]
    """The integration with a hook id, by its SHA-256. Raises Unavailable while the configuration is not loaded."""
    callers: Callers
    tokens: SoftphoneTokens
    provider_urls: Mapping[str, str]
    """The operator's replacements of providers' addresses."""
    streams: LiveStreams = field(default_factory=LiveStreams)

    def find(self, kind: Kind, hook_id: str) -> "Place | None":
        """The softphone of an address. Raises Unavailable."""
        adapter = self.adapters.get(kind)
        if adapter is None or adapter.frame is None or len(hook_id) > _LONGEST_ID:
            return None
        found = self.by_hook(kind, hashlib.sha256(hook_id.encode("utf-8", "surrogatepass")).digest())
        link = found[0].integrations.get(found[1]) if found is not None else None
        if found is None or link is None or not link.enabled:
            return None
        try:
            settings = adapter.settings.model_validate(dict(link.settings))
        except ValidationError:
            return None
        frame = adapter.frame(settings, self.provider_urls.get(kind))
        return Place(found[0], found[1], adapter, frame) if frame is not None else None


@dataclass(frozen=True, slots=True)
class Place:
    """One softphone and whose it is."""

    tenant: Tenant
    integration: IntegrationKey
    adapter: Adapter
    frame: SoftphoneFrame

    @property
    def number(self) -> TenantId:
        """The company."""
        return self.tenant.number


def of_place(deps: FrameDeps, handle: Callable[[Place, Request], Awaitable[Response]]) -> Handler:
    """A handler for requests about a softphone."""

    async def checked(request: Request) -> Response:
        hook_id = request.params["hook_id"]
        guesses = deps.callers.guesses
        if (slowed := guesses.refusal(request, hook_id)) is not None:
            return slowed
        place = deps.find(Kind(request.params["kind"]), hook_id)
        if place is None:
            return await guesses.wrong(request, hook_id, NOBODY)
        guesses.right(hook_id)
        with bound(tenant=place.number, integration=place.integration):
            return await handle(place, request)

    return checked
