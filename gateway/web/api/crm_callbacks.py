"""Requests from outside systems, served the same way for every adapter: its hooks become addresses of the table.

    request -> the hook reads its fields -> whose it is (client id, token or API key) -> the operation -> the response

Owns who may request what. Never dials or redirects itself (`actors/calls/click_to_call.py`, `actors/calls/smart_redirect.py`),
and never writes a client id, a token, a key or a query into a log or an answer. Read `gateway/web/http/routes.py` for what an
address is.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from adapters.base import ActivityRequest, Adapter, CallRequest, Hook, InboundRequest, ResponsibleRequest, StatusRequest
from gateway.domain.configuration import Tenant
from gateway.domain.dialling import CallRefused
from gateway.domain.ids import IntegrationKey, Kind
from gateway.domain.posts import Invalid
from gateway.domain.secret import Secret
from gateway.store.audit import ORIGIN, Origin
from gateway.store.call_orders import Admitted
from gateway.telemetry import COUNTERS, bound
from gateway.web.callers.callers import Caller
from gateway.web.http.addresses import client_address
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Address, Handler, Request, Response, answer_json, body_object, invalid, problem

CALL_SCOPE = "call"
_STATUS_OF = {
    "bad_number": (422, "VALIDATION_ERROR"),
    "no_extension": (400, "VALIDATION_ERROR"),
    "bad_extension": (403, "FORBIDDEN"),
    "not_allowed": (403, "FORBIDDEN"),
    "premium": (403, "FORBIDDEN"),
    "hours": (403, "FORBIDDEN"),
    "per_user_minute": (429, "RATE_LIMITED"),
    "per_user_day": (429, "RATE_LIMITED"),
    "per_company_minute": (429, "RATE_LIMITED"),
    "concurrent": (429, "RATE_LIMITED"),
    "no_pbx": (503, "CONFIG_INVALID"),
    "pbx_away": (503, "UNAVAILABLE"),
    "not_own_phone": (403, "FORBIDDEN"),
}
CALL_ANSWERS = {
    200: "Accepted: the employee's phone is being rung; a repeat within 5 s is the same call",
    400: "No internal number for that user", 401: "Unknown client id or key",
    403: "Not allowed: `reason` states why", 422: "Not valid; `errors` lists every field",
    429: "A limit is reached; `retry_after` in seconds", 503: "The PBX is away or not set up to dial",
}  # fmt: skip


_EXTERNAL_SCHEMA: Mapping[str, Any] = {
    "type": "object", "required": ["code", "phone", "clientId"],
    "properties": {"code": {"type": "string", "description": "the internal number that rings first"},
                   "phone": {"type": "string"}, "clientId": {"type": "string", "description": "an API key of scope `call`"}},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackDeps:
    """What these addresses need from the rest of the gateway."""

    tenant_by_token: Callable[[str], Tenant | None]
    tenant_by_client: Callable[[Kind, str], tuple[Tenant, IntegrationKey] | None]
    """The owner of a client id and its integration. Both raise Unavailable while the configuration is not loaded."""
    tenant: Callable[[str], Tenant | None]
    authorize: Callable[[Request, str, Sequence[str]], Awaitable[Caller | Response]]
    """The caller with an API key or a token of one, if one of the scopes is theirs; else the problem."""
    place: Callable[..., Awaitable[Admitted]]
    """`place(tenant, extension=, phone=, asked_by=)`; raises CallRefused."""
    responsible: Callable[[Tenant, str, str, bool], Awaitable[tuple[str | None, bool]]]
    """`responsible(tenant, unique_id, phone, redirect)`: the internal number, and whether the call was sent there."""
    set_status: Callable[[Tenant, IntegrationKey, StatusRequest], Awaitable[Response]]
    set_activity: Callable[[Tenant, IntegrationKey, ActivityRequest], Awaitable[Response]]
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()
    guesses: Guesses = field(default_factory=Guesses)


def callback_addresses(deps: CallbackDeps, adapters: Mapping[Kind, Adapter]) -> list[Address]:
    """The addresses that adapters' outside systems call, and those of call services."""
    found = [
        Address(method=method, path=hook.path, handler=_hook_handler(deps, adapter, hook), summary=hook.summary,
                intake=True, schema=hook.schema, answers=_ANSWERS[hook.request_type])
        for adapter in adapters.values() for hook in adapter.hooks for method in hook.methods
    ]  # fmt: skip
    found.append(
        Address(method="GET", path="/api/makecallexternal", handler=_external_call(deps), intake=True,
                summary="Click-to-call for call services: code, phone and clientId, an API key of scope `call`",
                schema=_EXTERNAL_SCHEMA, answers=CALL_ANSWERS)
    )  # fmt: skip
    return found


def fields_of(request: Request) -> dict[str, Any]:
    """The fields of a query, and of a form or a JSON object; the body wins. Raises Invalid."""
    fields: dict[str, Any] = dict(request.query)
    if request.body:
        fields |= body_object(request)
    return fields


def _hook_handler(deps: CallbackDeps, adapter: Adapter, hook: Hook) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            requested = hook.read(fields_of(request))
        except Invalid as error:
            return invalid(error)
        return await _act(deps, adapter, requested, request)

    return handle


async def _act(deps: CallbackDeps, adapter: Adapter, requested: InboundRequest, request: Request) -> Response:
    if isinstance(requested, ResponsibleRequest):
        return await _answer_responsible(deps, requested, request)
    if (slowed := deps.guesses.refusal(request, requested.client_id)) is not None:
        return slowed
    found = deps.tenant_by_client(adapter.kind, requested.client_id) or _legacy(
        deps, adapter, requested.client_id, request
    )
    if found is None:
        COUNTERS["asked_unauthorized"] += 1
        return await deps.guesses.wrong(
            request, requested.client_id, problem(401, "AUTH_FAILED", "The client id is not known.")
        )
    deps.guesses.right(requested.client_id)
    tenant, key = found
    ORIGIN.set(Origin("key", deps.guesses.client(request)))
    with bound(tenant=tenant.number, integration=key):
        if isinstance(requested, ActivityRequest):
            return await deps.set_activity(tenant, key, requested)
        link = tenant.integrations[key]
        if not link.enabled:
            return problem(403, "FORBIDDEN", "This integration is switched off.", reason="switched_off")
        if isinstance(requested, StatusRequest):
            return await deps.set_status(tenant, key, requested)
        extension = requested.extension or tenant.extension_of(key, requested.user_id)
        if not extension:
            text = "There is no internal number for that user: set one on the page of internal numbers."
            return problem(400, "VALIDATION_ERROR", text, errors=[("userId", "has no internal number")])
        return await _place(deps, tenant, extension, requested.phone, key)


def _legacy(
    deps: CallbackDeps, adapter: Adapter, client_id: str, request: Request
) -> tuple[Tenant, IntegrationKey] | None:
    """A tenant whose settings let its number stand for the client id, from the addresses they name alone."""
    tenant = deps.tenant(client_id) if len(client_id) <= 32 else None
    links = tenant.of_kind(adapter.kind) if tenant is not None else ()
    link = next((one for one in links if one.settings.get("legacy_client_id")), None)
    if tenant is None or link is None:
        return None
    try:
        peer = ip_address(
            client_address(request.peer, request.headers.get("x-forwarded-for", ""), deps.trusted_proxies)
        )
    except ValueError:
        return None
    allowed = any(peer in ip_network(net) for net in link.settings.get("legacy_client_nets", ()))
    return (tenant, link.key) if allowed else None


async def _place(deps: CallbackDeps, tenant: Tenant, extension: str, phone: str, asked_by: str) -> Response:
    try:
        admitted = await deps.place(tenant, extension=extension, phone=phone, asked_by=asked_by)
    except CallRefused as refused:
        return refusal(refused)
    return answer_json({"status": "accepted", "id": admitted.order_id})


def refusal(refused: CallRefused) -> Response:
    """A refusal as a problem: what to do is in `detail`, a code for programs in `reason`."""
    status, code = _STATUS_OF[refused.code]
    field, colon, text = refused.detail.partition(": ")
    return problem(
        status, code, refused.detail, retryable=status == 429 or refused.code == "pbx_away",
        retry_after=refused.retry_after_s,
        errors=[(field, text)] if colon and field in ("phone", "code") else (), reason=refused.code,
    )  # fmt: skip


def _external_call(deps: CallbackDeps) -> Handler:
    async def handle(request: Request) -> Response:
        query = request.query
        missing = [(name, "is missing") for name in ("code", "phone", "clientId") if not query.get(name, "").strip()]
        if missing:
            return problem(422, "VALIDATION_ERROR", "The request is not valid.", errors=missing)
        given = query["clientId"].strip()
        if (slowed := deps.guesses.refusal(request, given)) is not None:
            return slowed
        tenant, asked_by = deps.tenant_by_token(given), "token"
        if tenant is not None and tenant.options.get("legacy_call_token"):
            deps.guesses.right(given)
        else:
            caller = await deps.authorize(request, given, (CALL_SCOPE,))
            if isinstance(caller, Response):
                return caller
            tenant, asked_by = deps.tenant(caller.tenant), caller.actor
            if tenant is None:
                return problem(401, "AUTH_FAILED", "The API key or token is not valid.")
        ORIGIN.set(Origin("key", deps.guesses.client(request)))
        with bound(tenant=tenant.number):
            return await _place(deps, tenant, query["code"], query["phone"], asked_by)

    return handle


async def _answer_responsible(deps: CallbackDeps, requested: ResponsibleRequest, request: Request) -> Response:
    if (slowed := deps.guesses.refusal(request, requested.token)) is not None:
        return slowed
    tenant = deps.tenant_by_token(requested.token)
    if tenant is None:
        COUNTERS["asked_unauthorized"] += 1
        return await deps.guesses.wrong(
            request, requested.token, problem(401, "AUTH_FAILED", "The token is missing or not valid.")
        )
    deps.guesses.right(requested.token)
    with bound(tenant=tenant.number, call=requested.unique_id):
        extension, redirected = await deps.responsible(tenant, requested.unique_id, requested.phone, requested.redirect)
    return answer_json({"extension": extension, "redirected": redirected})


def token_hash(text: str) -> bytes:
    """What tokens and client ids are looked up by, so that nothing compares the secret itself."""
    return hashlib.sha256(Secret(text).reveal().encode("utf-8", "surrogatepass")).digest()


_ANSWERS: dict[type[InboundRequest], dict[int, str]] = {
    CallRequest: CALL_ANSWERS,
    ActivityRequest: {200: "Noted", 401: "Unknown client id", 422: "Not valid; `errors` lists every field"},
    StatusRequest: {200: "Noted", 401: "Unknown client id", 422: "Not valid; `errors` lists every field"},
    ResponsibleRequest: {200: "`extension` or null, and whether the call was sent there", 401: "The token is not valid",
                         422: "Not valid; `errors` lists every field"},
}  # fmt: skip
