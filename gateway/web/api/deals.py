"""`POST /webhook/deal`: an event about a deal, or a list of them, from a portal or a program (contract 28).

    X-API-Key with the scope `deals`, or the portal's application token -> its company -> the routes that list the domain
      -> journal (durable, repeats of an hour known) -> what became of it, where that is known in time -> answer

Owns who may and what is answered. A credential is never stored, logged or repeated. Read `actors/deals/tenant_deals.py` next for what
becomes of an event.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import trio
from pydantic import ValidationError

from actors.deals.answers import DealAnswers, Waiting, status_of
from adapters.base import Adapter
from adapters.deals import HasOrigin
from gateway.domain.configuration import Tenant
from gateway.domain.deal_events import ADDRESS, BODY_LIMIT, MOST_EVENTS, STREAM, DealAnswer, DealEvent, read_events
from gateway.domain.deal_routes import DealRoute, routes_of
from gateway.domain.errors import Unavailable
from gateway.domain.hosts import host_of_origin
from gateway.domain.ids import IntegrationKey, Kind, TenantId, kind_of, uuid7
from gateway.domain.posts import Invalid
from gateway.store.deal_runs import RunState, select_run_states, select_target
from gateway.store.journal import PostRow
from gateway.store.postgres.pool import Database
from gateway.telemetry import COUNTED, bound
from gateway.web.callers.callers import Callers
from gateway.web.callers.tokens import ExpiredToken
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import FORM, Address, Handler, Request, Response, answer_json, invalid, problem

SCOPE = "deals"
INDEX_S = 1.0
"""How old the index of application tokens may be; what is not in it is looked for anew at once."""


@dataclass(frozen=True, slots=True)
class KnownRoute:
    """A route with what is needed to find it."""

    tenant: Tenant
    route: DealRoute
    host: str
    """The source's."""


@dataclass
class RouteBook:
    """The routes of all companies, read once for each state of a company's configuration."""

    tenants: Callable[[], Mapping[TenantId, Tenant]]
    adapters: Mapping[Kind, Adapter]
    clock: Callable[[], float] = trio.current_time
    _read: dict[TenantId, tuple[Tenant, tuple[KnownRoute, ...]]] = field(default_factory=dict)
    _by_token: dict[bytes, list[KnownRoute]] = field(default_factory=dict)
    _indexed_at: float | None = None

    def of(self, tenant: Tenant) -> tuple[KnownRoute, ...]:
        """A company's. None where what is stored is not valid: the page says so."""
        known = self._read.get(tenant.number)
        if known is None or known[0] is not tenant:
            try:
                routes = routes_of(tenant.options, tenant.secrets)
            except ValidationError:
                routes = ()
            found = tuple(KnownRoute(tenant, route, self._host(tenant, route.pair[0])) for route in routes)
            known = self._read[tenant.number] = tenant, found
        return known[1]

    def by_token(self, token: str) -> Sequence[KnownRoute]:
        """Those whose portal sends this application token."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self.clock()
        if self._indexed_at is None or now - self._indexed_at > INDEX_S or digest not in self._by_token:
            self._index(now)
        return self._by_token.get(digest, ())

    def _index(self, now: float) -> None:
        self._by_token.clear()
        tenants = self.tenants()
        for number in self._read.keys() - tenants.keys():
            del self._read[number]
        for tenant in tenants.values():
            for known in self.of(tenant) if tenant.options.get("deal_routes") else ():
                if (token := known.route.application_token) is not None:
                    digest = hashlib.sha256(token.reveal().encode()).digest()
                    self._by_token.setdefault(digest, []).append(known)
        self._indexed_at = now

    def _host(self, tenant: Tenant, key: IntegrationKey) -> str:
        link, adapter = tenant.integrations.get(key), self.adapters.get(kind_of(key))
        if link is None or adapter is None:
            return ""
        try:
            settings = adapter.settings.model_validate(dict(link.settings))
        except ValidationError:
            return ""
        return host_of_origin(settings.origin) if isinstance(settings, HasOrigin) else ""


@dataclass(frozen=True, kw_only=True)
class DealDeps:
    """What the address needs from the rest of the gateway."""

    callers: Callers
    tenant: Callable[[TenantId], Tenant | None]
    """Raises Unavailable while the configuration is not loaded."""
    book: RouteBook
    put: Callable[[PostRow], Awaitable[bool]]
    """Makes an event durable; whether it is new. Raises Unavailable."""
    ring: Callable[[TenantId], None]
    answers: DealAnswers
    db: Database
    mine: Callable[[TenantId], bool]
    """Whether this instance carries the company's deals."""
    guesses: Guesses = field(default_factory=Guesses)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Taken:
    """An event with the routes that it is for: of one company, as a rule."""

    event: DealEvent
    routes: tuple[KnownRoute, ...]
    entry: str
    """Of a route's list of domains."""


def deal_addresses(deps: DealDeps) -> list[Address]:
    """The address."""
    event = {
        "type": "object", "required": ["event", "data", "auth"], "additionalProperties": True,
        "properties": {
            "event": {"type": "string", "examples": ["ONCRMDEALUPDATE"]},
            "data": {"type": "object", "required": ["FIELDS"], "properties": {"FIELDS": {
                "type": "object", "required": ["ID"], "properties": {"ID": {"type": ["integer", "string"]}}}}},
            "auth": {"type": "object", "required": ["domain"], "properties": {
                "domain": {"type": "string"}, "application_token": {"type": "string", "description": "not needed with X-API-Key"}}},
            "ts": {"type": ["string", "integer"]},
        },
    }  # fmt: skip
    example = "event=ONCRMDEALUPDATE&data[FIELDS][ID]=123&ts=1766047124&auth[domain]=crm.example.com&auth[application_token]=..."
    return [Address(
        method="POST", path=ADDRESS, handler=_handler(deps), intake=True, body_limit=BODY_LIMIT, section="Deals",
        summary="An event about a deal, or a list of at most 50: it is carried along the routes that list its domain",
        schema={"anyOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": MOST_EVENTS}]},
        accepts={FORM: example},
        header_names={"X-API-Key": "a key with the scope deals; without it the event's application_token counts"},
        answers={
            200: "Stored durably. `status`: success, skipped, duplicate or accepted; `target_deal_id` where it is known",
            401: "Neither a key nor an application token of a route that lists the domain", 403: "The key lacks the scope deals",
            413: f"The body is over {BODY_LIMIT} bytes", 422: "Not valid: `errors` names every field",
            429: "Too many wrong credentials", 503: "Could not be stored; try again",
        },
    )]  # fmt: skip


def _handler(deps: DealDeps) -> Handler:
    async def handle(request: Request) -> Response:
        started = trio.current_time()
        key = request.headers.get("x-api-key", "").strip()
        owner: Tenant | None = None
        if key:
            found = await _of_key(deps, request, key)
            if isinstance(found, Response):
                COUNTED["webhook_errors", "error_type", "auth"] += 1
                return found
            owner = found
        form = request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
        try:
            events, several = read_events(request.body, form=form)
            taken: list[_Taken] = []
            for place, event in enumerate(events):
                one = await _taken(deps, request, event, owner, f"[{place}]." if several else "")
                if isinstance(one, Response):
                    COUNTED["webhook_errors", "error_type", "auth"] += 1
                    return one
                taken.append(one)
        except Invalid as error:
            COUNTED["webhook_errors", "error_type", "validation"] += 1
            return invalid(error)
        answers = await _answered(deps, taken, started)
        return answer_json([one.shown() for one in answers] if several else answers[0].shown())

    return handle


async def _of_key(deps: DealDeps, request: Request, text: str) -> Tenant | Response:
    """The company of an API key. Its rate is not limited: a portal sends what it sends."""
    if (slowed := deps.guesses.refusal(request, text)) is not None:
        return slowed
    try:
        caller = await deps.callers.identified(text)
    except ExpiredToken:
        caller = None
    tenant = deps.tenant(caller.tenant) if caller is not None else None
    if caller is None or tenant is None:
        return await deps.guesses.wrong(request, text, _unauthorized("The API key is not valid."))
    deps.guesses.right(text)
    if caller.key is not None:
        deps.callers.keys.used(caller.key)
    if SCOPE not in caller.scopes:
        return problem(403, "FORBIDDEN", f"This key lacks the scope {SCOPE}.", reason="scope", scope=[SCOPE])
    return tenant


async def _taken(
    deps: DealDeps, request: Request, event: DealEvent, owner: Tenant | None, path: str
) -> _Taken | Response:  # fmt: skip
    """The routes of an event, or why it is not taken. Raises Invalid where its domain does not say which portal it is of."""
    if owner is not None:
        fitting, entry = _fitting(deps.book.of(owner), event.domain)
        if not fitting:
            return _unauthorized("No route of this company lists the domain of the event.")
    else:
        if (slowed := deps.guesses.refusal(request, event.token or None)) is not None:
            return slowed
        candidates = (
            [known for known in deps.book.by_token(event.token) if _has_token(known, event.token)]
            if event.token
            else []
        )
        fitting, entry = _fitting(candidates, event.domain)
        if not fitting:
            wrong = _unauthorized("Send X-API-Key, or the application_token of a route that lists the domain.")
            return await deps.guesses.wrong(request, event.token or None, wrong)
        deps.guesses.right(event.token)
    portals = {(known.tenant.number, known.route.source) for known in fitting}
    if len(portals) > len({number for number, _ in portals}):
        raise Invalid(
            ((f"{path}auth.domain", "fits routes of different portals: name the portal's own host in allowed_domains"),)
        )
    return _Taken(event, fitting, entry)


def _has_token(known: KnownRoute, token: str) -> bool:
    own = known.route.application_token
    return own is not None and hmac.compare_digest(own.reveal().encode(), token.encode("utf-8", "surrogatepass"))


def _fitting(candidates: Sequence[KnownRoute], domain: str) -> tuple[tuple[KnownRoute, ...], str]:
    """The routes whose lists name the domain most exactly, and by which entry."""
    ranked = [(known.route.fit(domain, known.host), known) for known in candidates]
    best = max((rank for (rank, _), _ in ranked), default=0)
    found = [(entry, known) for (rank, entry), known in ranked if rank == best and best]
    return tuple(known for _, known in found), found[0][0] if found else ""


def _unauthorized(detail: str) -> Response:
    return problem(401, "AUTH_FAILED", detail)


async def _answered(deps: DealDeps, taken: Sequence[_Taken], started: float) -> list[DealAnswer]:
    """What became of each event. Raises Unavailable where one could not be stored: the sender repeats all, and those that were are
    known then."""
    found: dict[int, DealAnswer] = {}
    failed: list[Unavailable] = []

    async def one(place: int, each: _Taken) -> None:
        try:
            found[place] = await _stored(deps, each, started)
        except Unavailable as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for place, each in enumerate(taken):
            nursery.start_soon(one, place, each)
    if failed:
        raise failed[0]
    return [found[place] for place in range(len(taken))]


async def _stored(deps: DealDeps, taken: _Taken, started: float) -> DealAnswer:
    event, correlation, at = taken.event, uuid7(), deps.now()
    first = taken.routes[0]
    waiting = deps.answers.expect(correlation, len(taken.routes))
    with bound(tenant=first.tenant.number, correlation=str(correlation)):
        try:
            new = False
            for number in dict.fromkeys(known.tenant.number for known in taken.routes):
                names = [known.route.name for known in taken.routes if known.tenant.number == number]
                body = event.body(names, correlation)
                row = PostRow(number, ADDRESS, str(event.deal_id), event.digest, body, at, STREAM)
                if await deps.put(row):
                    new = True
                    deps.ring(number)
            COUNTED["webhook_received", "domain", taken.entry] += 1
            if not new:
                COUNTED["webhook_processed", "status", "duplicate"] += 1
                target = await _known_target(deps, first, event.deal_id)
                return DealAnswer(
                    status="duplicate",
                    source_deal_id=event.deal_id,
                    target_deal_id=target,
                    correlation=correlation,
                    at=at,
                )
            within_s = min(known.route.answer_within_ms for known in taken.routes) / 1000
            states = await _waited(deps, first.tenant.number, waiting, correlation, started + within_s)
        finally:
            deps.answers.forget(correlation)
    status, target, reason = status_of(states, len(taken.routes))
    return DealAnswer(
        status=status,
        source_deal_id=event.deal_id,
        target_deal_id=target,
        correlation=correlation,
        at=deps.now(),
        reason=reason,
    )


async def _waited(
    deps: DealDeps, number: TenantId, waiting: Waiting, correlation: UUID, until: float
) -> Sequence[RunState]:  # fmt: skip
    with trio.move_on_at(until):
        await waiting.over.wait()
        return waiting.states
    if not waiting.states and not deps.mine(number):
        try:
            with trio.move_on_after(0.2):
                return await deps.db.tenant(number, select_run_states, number, correlation)
        except Unavailable:
            pass  # it is stored; what became of it is not known here
    return waiting.states


async def _known_target(deps: DealDeps, known: KnownRoute, deal: int) -> int | None:
    try:
        with trio.move_on_after(0.2):
            number = known.tenant.number
            return await deps.db.tenant(number, select_target, number, *known.route.pair, deal)
    except Unavailable:
        pass
    return None
