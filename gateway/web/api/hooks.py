"""`/hooks/{kind}/{hook_id}` and `/hooks/{kind}`: what outside systems call, the same for every adapter that has an `Inbound`.

    hook_id -> integration -> the adapter verifies the raw bytes -> its updates become durable -> the adapter's own answer
    the installation's application verifies -> each account's part -> its integration -> durable -> the adapter's own answer

Owns who is called and in which order. Never interprets an update, and never writes a hook id, a query or a body into a log or
an answer. An address that nobody has is 404 without a body. Read `adapters/inbound.py` for the shapes.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from adapters.apps import AppCredentials
from adapters.base import Adapter
from adapters.inbound import Inbound, OrderNews, Reply, RequestedCall, Stream, Update, WebhookCall
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.telemetry import COUNTERS, bound
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Address, Handler, Request, Response, problem

log = logging.getLogger(__name__)

HOOK_LIMIT = 1 << 20
"""Bytes of a body at most."""
PATH = "/hooks/{kind}/{hook_id}"
SHARED_PATH = "/hooks/{kind}"
_LONGEST_ID = 128
_NOBODY = Response(status=404, content_type="text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDeps:
    """What the address needs from the rest of the gateway."""

    by_hook: Callable[[Kind, bytes], tuple[Tenant, IntegrationKey] | None]
    """The owner of a hook id, by its SHA-256. Raises Unavailable while the configuration is not loaded."""
    store: Callable[[TenantId, IntegrationKey, Sequence[Update], Stream], Awaitable[None]]
    """Returns once the updates are durable; raises Unavailable when they cannot be stored."""
    call: Callable[[Tenant, IntegrationKey, Sequence[RequestedCall]], Awaitable[None]] | None = None
    """Places requested calls; a refusal is its own matter. Raises Unavailable when nothing could be stored."""
    orders: Callable[[Tenant, IntegrationKey, Sequence[OrderNews]], Awaitable[None]] | None = None
    """Moves orders that an outside system has moved. Raises Unavailable when nothing could be stored."""
    hasten: Callable[[Tenant, IntegrationKey, Sequence[str]], Awaitable[None]] | None = None
    """Makes jobs of an integration due now. Raises like `orders`."""
    by_account: Callable[[Kind, str], tuple[Tenant, IntegrationKey] | None] = lambda kind, account: None
    """The integration of a kind that has a remote account's id. Raises like `by_hook`."""
    app: Callable[[Adapter], AppCredentials | None] = lambda adapter: None
    """The installation's application at an adapter's provider."""
    guesses: Guesses = field(default_factory=Guesses)


def hook_addresses(deps: HookDeps, adapters: Mapping[Kind, Adapter]) -> list[Address]:
    """Both addresses, for GET (handshakes) and POST."""
    inbound = {kind: adapter for kind, adapter in adapters.items() if adapter.inbound is not None}
    one, shared = _handler(deps, inbound), _shared_handler(deps, inbound)
    answers = {
        200: "Stored durably, a repeat too; or the handshake's answer", 403: "The signature is missing or wrong",
        404: "Nobody has this address", 413: f"The body is over {HOOK_LIMIT} bytes",
        422: "Not what this outside system sends", 503: "Could not be stored; try again",
    }  # fmt: skip
    return [
        Address(method=method, path=path, handler=handler, intake=True, body_limit=HOOK_LIMIT, answers=answers,
                content={200: "*/*"}, summary=f"{what} of a messenger or a CRM, {whose}")
        for path, handler, whose in (
            (PATH, one, "at the address that the integration's page shows"),
            (SHARED_PATH, shared, "of the installation's application, for all accounts that use it"),
        )
        for method, what in (("POST", "Webhook"), ("GET", "Handshake"))
    ]  # fmt: skip


def _handler(deps: HookDeps, adapters: Mapping[Kind, Adapter]) -> Handler:
    async def handle(request: Request) -> Response:
        kind, hook_id = Kind(request.params["kind"]), request.params["hook_id"]
        adapter = adapters.get(kind)
        if adapter is None or adapter.inbound is None or len(hook_id) > _LONGEST_ID:
            return _NOBODY
        if (slowed := deps.guesses.refusal(request, hook_id)) is not None:
            return slowed
        found = deps.by_hook(kind, hashlib.sha256(hook_id.encode("utf-8", "surrogatepass")).digest())
        if found is None:
            COUNTERS["hooks_unknown"] += 1
            return await deps.guesses.wrong(request, hook_id, _NOBODY)
        deps.guesses.right(hook_id)
        tenant, key = found
        with bound(tenant=tenant.number, integration=key):
            return await _take(deps, adapter, adapter.inbound, tenant, key, request)

    return handle


def _shared_handler(deps: HookDeps, adapters: Mapping[Kind, Adapter]) -> Handler:
    async def handle(request: Request) -> Response:
        kind = Kind(request.params["kind"])
        adapter = adapters.get(kind)
        app = deps.app(adapter) if adapter is not None else None
        if adapter is None or adapter.inbound is None or adapter.inbound.shared is None or app is None:
            return _NOBODY
        if (slowed := deps.guesses.refusal(request, kind)) is not None:
            return slowed
        shared = adapter.inbound.shared
        reply = shared.verify(_call(request), app)
        if reply is not None:
            if reply.status not in (401, 403):
                return _response(reply)
            COUNTERS["hooks_refused"] += 1
            log.warning("a webhook was refused: it is not signed by the installation's application")
            return await deps.guesses.wrong(request, kind, _response(reply))
        try:
            parts = shared.accounts(request.body)
        except ValueError:
            COUNTERS["hooks_invalid"] += 1
            return problem(422, "VALIDATION_ERROR", "The body is not what this outside system sends.")
        for account, part in parts.items():
            if (found := deps.by_account(kind, account.strip())) is None:
                # What an account that nobody has entered would repeat for ever holds up the others of the application.
                COUNTERS["hooks_unknown"] += 1
                continue
            tenant, key = found
            with bound(tenant=tenant.number, integration=key):
                await _take_part(deps, adapter, adapter.inbound, tenant, key, part)
        return _response(adapter.inbound.accepted)

    return handle


async def _take_part(
    deps: HookDeps, adapter: Adapter, inbound: Inbound, tenant: Tenant, key: IntegrationKey, part: bytes
) -> None:
    """One account's part of a verified webhook. Raises Unavailable where it cannot be stored: all of it is then sent again."""
    link = tenant.integrations[key]
    if not link.enabled:
        COUNTERS["hooks_unknown"] += 1
        return
    try:
        settings = adapter.settings.model_validate(dict(link.settings))
    except ValidationError:
        raise Unavailable("the integration's settings are not valid") from None
    try:
        updates = inbound.read(part, settings)
    except ValueError:
        COUNTERS["hooks_invalid"] += 1
        log.warning("a part of a webhook is not what this outside system sends")
        return
    await deps.store(tenant.number, key, updates, inbound.stream)


def _call(request: Request) -> WebhookCall:
    return WebhookCall(method=request.method, query=request.query, headers=request.headers, body=request.body)


async def _take(
    deps: HookDeps, adapter: Adapter, inbound: Inbound, tenant: Tenant, key: IntegrationKey, request: Request
) -> Response:
    link = tenant.integrations[key]
    try:
        settings = adapter.settings.model_validate(dict(link.settings))
    except ValidationError:
        return problem(503, "CONFIG_INVALID", "The integration's settings are not valid.", retryable=True)
    if not link.enabled or not inbound.accepts(settings):
        return _NOBODY
    reply = inbound.verify(_call(request), settings)
    if reply is not None:
        if reply.status in (401, 403):
            COUNTERS["hooks_refused"] += 1
            log.warning("a webhook was refused: it is not signed by this integration's system")
        return _response(reply)
    try:
        updates = inbound.read(request.body, settings)
        requested = inbound.calls(request.body, settings) if inbound.calls is not None else ()
        moved = inbound.orders(request.body, settings) if inbound.orders is not None else ()
        due = inbound.jobs(request.body, settings) if inbound.jobs is not None else ()
    except ValueError:
        COUNTERS["hooks_invalid"] += 1
        return problem(422, "VALIDATION_ERROR", "The body is not what this outside system sends.")
    if updates:
        await deps.store(tenant.number, key, updates, inbound.stream)
    if requested and deps.call is not None:
        await deps.call(tenant, key, requested)
    if moved and deps.orders is not None:
        await deps.orders(tenant, key, moved)
    if due and deps.hasten is not None:
        await deps.hasten(tenant, key, due)
    return _response(inbound.answered(updates, settings) or inbound.accepted)


def _response(reply: Reply) -> Response:
    return Response(status=reply.status, body=reply.body, content_type=reply.content_type)
