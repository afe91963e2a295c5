"""What the widget's addresses need, and what they share: which widget, from where, whose visitor, how often.

key -> integration -> origin -> rate of the address -> token -> rate of the visitor -> the handler
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from actors.chats.typing import Typing
from actors.feed import Feed
from adapters.base import Adapter
from adapters.inbound import Stream, Update
from adapters.widget import Widget
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.limiter import Rate
from gateway.domain.posts import Invalid
from gateway.store.files.chat_files import ChatFiles
from gateway.store.postgres.pool import Database
from gateway.telemetry import COUNTERS, bound
from gateway.web.callers.limits import CallLimits
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Handler, Request, Response, invalid, problem
from gateway.web.session.live_streams import LiveStreams, Most
from gateway.web.widget.origins import may_call
from gateway.web.widget.visitors import Visitor, visitor_of

PER_VISITOR = Rate(60, 30.0)
"""Requests of one visitor: a person who writes fast, reads and types."""
STREAMS = Most(per_session=6, per_tenant=1000, per_address=200, in_all=1500)


@dataclass(frozen=True, kw_only=True)
class WidgetDeps:
    """What the addresses need from the rest of the gateway."""

    db: Database
    feed: Feed
    typing: Typing
    adapters: Mapping[Kind, Adapter]
    by_account: Callable[[Kind, str], tuple[Tenant, IntegrationKey] | None]
    """The integration of a kind that has a public key. Raises Unavailable while the configuration is not loaded."""
    store: Callable[[TenantId, IntegrationKey, Sequence[Update], Stream], Awaitable[None]]
    """Returns once the updates are durable. Raises Unavailable."""
    public_url: str
    chat_files: ChatFiles | None = None
    """Without it visitors neither send files nor get any."""
    per_address: Rate = field(default_factory=lambda: Rate(400, 4.0))
    guesses: Guesses = field(default_factory=Guesses)
    limits: CallLimits = field(init=False)
    streams: LiveStreams = field(default_factory=lambda: LiveStreams(STREAMS))
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", CallLimits(PER_VISITOR, self.per_address))

    def find(self, key: str) -> "Place | None":
        """The widget with a public key, where it is switched on. Raises Unavailable."""
        for kind, adapter in self.adapters.items():
            if adapter.widget is None or (found := self.by_account(kind, key)) is None:
                continue
            tenant, integration = found
            link = tenant.integrations[integration]
            if not link.enabled:
                return None
            try:
                settings = adapter.settings.model_validate(dict(link.settings))
            except ValidationError:
                return None
            return Place(tenant, integration, adapter.widget(settings))
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """One widget and whose it is."""

    tenant: Tenant
    integration: IntegrationKey
    widget: Widget

    @property
    def title(self) -> str:
        """What stands at its head."""
        return self.widget.title or self.tenant.name


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of a visitor."""

    place: Place
    visitor: Visitor
    request: Request
    token: str

    @property
    def who(self) -> str:
        """The visitor, as whoever added a file."""
        return f"{self.place.integration} {self.visitor.address}"


NOBODY = problem(404, "NOT_FOUND", "There is no such widget, or it is switched off.")
_ELSEWHERE = problem(403, "FORBIDDEN", "This origin may not use the widget: add its domain to allowed_domains.")
UNKNOWN = problem(401, "AUTH_FAILED", "The visitor's token is missing or not valid: ask for one at /session.")


def bearer(request: Request) -> str:
    """The token that a request brings; empty for none."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def known_visitor(deps: WidgetDeps, place: Place, token: str) -> Visitor | None:
    """Whose token it is, or None."""
    return visitor_of(place.widget, place.tenant.number, token, deps.now()) if token else None


def of_place(deps: WidgetDeps, handle: Callable[[Place, Request], Awaitable[Response]]) -> Handler:
    """A handler for requests about a widget that come from where they may."""

    async def checked(request: Request) -> Response:
        place = deps.find(request.params["key"])
        if place is None:
            return NOBODY
        with bound(tenant=place.tenant.number, integration=place.integration):
            if not may_call(place.widget, deps.public_url, request.headers, request.method):
                COUNTERS["widget_origins_refused"] += 1
                return _ELSEWHERE
            allowance = deps.limits.address(deps.guesses.source(request))
            if allowance.wait_s:
                return _slower(allowance.wait_s)
            try:
                return await handle(place, request)
            except Invalid as error:
                return invalid(error)

    return checked


def of_visitor(deps: WidgetDeps, handle: Callable[[Visit], Awaitable[Response]]) -> Handler:
    """A handler for requests of a visitor."""

    async def checked(place: Place, request: Request) -> Response:
        token = bearer(request)
        if (slowed := deps.guesses.refusal(request, token)) is not None:
            return slowed
        visitor = known_visitor(deps, place, token)
        if visitor is None:
            COUNTERS["widget_tokens_refused"] += 1
            return await deps.guesses.wrong(request, token, UNKNOWN)
        deps.guesses.right(token)
        allowance = deps.limits.key(f"{place.tenant.number} {place.integration} {visitor.address}")
        if allowance.wait_s:
            return _slower(allowance.wait_s)
        return await handle(Visit(place, visitor, request, token))

    return of_place(deps, checked)


def _slower(wait_s: float) -> Response:
    return problem(429, "RATE_LIMITED", "Too many requests.", retryable=True, retry_after=max(1.0, wait_s))
