"""The addresses for machines as one table that both listeners serve: the fast intake and the Quart side.

Owns the handlers, the token and operator checks. It never stores anything itself and never writes a token, a query value or a
body into a log or an error text. `gateway/web/http/routes.py` defines request and response; read `gateway/web/http/intake.py`
next for the fast listener.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from gateway.domain.configuration import Tenant
from gateway.domain.posts import DISPATCH, Invalid, Post, parse_post, token_of
from gateway.domain.secret import Secret
from gateway.telemetry import COUNTERS, bound
from gateway.web.api.openapi import document_handler
from gateway.web.api.reference import page_handler
from gateway.web.http.guesses import Guesses
from gateway.web.http.routes import Address, Handler, Request, Response, answer_json, body_object, invalid, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineDeps:
    """What the addresses need from the rest of the gateway."""

    tenant_by_token: Callable[[bytes], Tenant | None]
    journal: Callable[[Tenant, Post], Awaitable[Literal["accepted", "duplicate"]]]
    """Returns once the post is durable; raises Unavailable when it cannot be stored."""
    ready: Callable[[], list[str]]
    """Why posts cannot be taken; empty when they can."""
    stats: Callable[[], dict[str, Any]]
    metrics: Callable[[], str]
    enablement: Callable[[str], dict[str, Any] | None]
    invalidate: Callable[[str], Awaitable[bool]]
    degraded: Callable[[], list[str]] = list
    """What does not work while posts are taken all the same."""
    operator_token: Secret | None = None
    operator_open: bool = False
    guesses: Guesses = field(default_factory=Guesses)
    base_url: str = ""
    """Where the gateway is, for the commands in the API's reference."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def tenant_of(deps: MachineDeps, token: str | None) -> Tenant | None:
    """The tenant whose token this is. Looked up by its SHA-256, so that nothing compares the token itself."""
    if token is None:
        return None
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    tenant = deps.tenant_by_token(digest)
    return tenant if tenant is not None and hmac.compare_digest(tenant.token_hash, digest) else None


def _event_handler(deps: MachineDeps, path: str) -> Handler:
    async def post_event(request: Request) -> Response:
        try:
            data = body_object(request)
            token = token_of(data)
            if (slowed := deps.guesses.refusal(request, token)) is not None:
                return slowed
            tenant = tenant_of(deps, token)
            if tenant is None:
                COUNTERS["posts_unauthorized"] += 1
                unknown = problem(401, "AUTH_FAILED", "The token is missing or not valid.")
                return await deps.guesses.wrong(request, token, unknown)
            deps.guesses.right(token)
            post = parse_post(path, data, tenant, deps.now())
        except Invalid as error:
            COUNTERS["posts_invalid"] += 1
            return invalid(error)
        with bound(tenant=tenant.number, call=post.unique_id):
            status = await deps.journal(tenant, post)
        COUNTERS[f"posts_{status}"] += 1
        return answer_json({"status": status})

    return post_event


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_host(request: Request) -> bool:
    """False for a browser led here under a foreign name (DNS rebinding)."""
    try:
        return _loopback(urlsplit("//" + request.headers.get("host", "localhost")).hostname or "")
    except ValueError:
        return False


def _from_elsewhere(request: Request) -> bool:
    """Whether a proxy or a page of another site is behind a request: neither is a person at this machine."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    try:
        foreign = origin is not None and not _loopback(urlsplit(origin).hostname or "")
    except ValueError:
        foreign = True
    return request.forwarded or foreign or not _own_host(request)


def _for_operators(deps: MachineDeps, handler: Handler) -> Handler:
    async def checked(request: Request) -> Response:
        if deps.operator_token is not None:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if (slowed := deps.guesses.refusal(request, given.strip())) is not None:
                return slowed
            if scheme.lower() != "bearer" or Secret(given.strip()) != deps.operator_token:
                needed = problem(401, "AUTH_FAILED", "An operator's bearer token is needed.",
                                 headers=(("WWW-Authenticate", "Bearer"),))  # fmt: skip
                return await deps.guesses.wrong(request, given.strip(), needed)
            deps.guesses.right(given.strip())
        elif not deps.operator_open or not _loopback(request.peer) or _from_elsewhere(request):
            return problem(403, "FORBIDDEN", "For operators: set GATEWAY_OPERATOR_TOKEN and send it as a bearer token.")
        return await handler(request)

    return checked


def _event_schema() -> dict[str, Any]:
    number: dict[str, Any] = {"type": ["string", "integer", "null"], "maxLength": 128}
    moment = {"type": ["string", "null"], "description": "ISO, or YYYY-MM-DD HH:MM:SS in the tenant's time zone"}
    return {
        "type": "object",
        "required": ["Token", "UniqueId"],
        "additionalProperties": True,
        "properties": {
            "Token": {"type": "string"}, "UniqueId": {"type": "string", "minLength": 1, "maxLength": 128},
            "CallerIDNum": number, "ConnectedLineNum": number, "Trunk": number,
            "Extensions": {"type": ["array", "string", "integer", "null"], "items": number},
            "CallType": {"enum": [0, 1, 2, "0", "1", "2", "", None],
                         "description": "0 incoming, 1 outgoing, 2 internal; absent: from the numbers"},
            "CallStatus": {"type": ["string", "integer", "null"],
                           "description": "ANSWER, BUSY, NOANSWER, CANCEL, CONGESTION, CHANUNAVAIL; 2 is answered, "
                                          "any other number not answered"},
            "StartTime": moment, "EndTime": moment,
        },
    }  # fmt: skip


def _dispatch_schema() -> dict[str, Any]:
    raw = _event_schema()
    del raw["required"]
    return {
        "type": "object",
        "required": ["token", "uniqueId", "event_type"],
        "properties": {
            "token": {"type": "string"}, "uniqueId": {"type": "string", "minLength": 1, "maxLength": 128},
            "event_type": {"enum": ["dial", "hangup"]}, "raw": raw,
            "record_url": {"type": ["string", "null"], "format": "uri", "maxLength": 2048},
        },
    }  # fmt: skip


_EVENT_ANSWERS = {
    200: "Stored durably: `accepted`, or `duplicate` for a repeat", 401: "The token is not valid",
    413: "The body is over 256 KiB", 422: "Not valid; `errors` lists every field", 503: "Could not be stored; try again",
}  # fmt: skip
_SUMMARIES = {
    "/start": "A call has begun", "/dial": "Phones have begun to ring", "/bridge": "An employee and the client talk",
    "/hangup": "The call is over",
}  # fmt: skip


def machine_addresses(deps: MachineDeps, others: Sequence[Address] = ()) -> list[Address]:
    """The whole table. `others` (webhooks and the addresses of adapters) join it, and so the API document."""

    async def health(request: Request) -> Response:
        return answer_json({"status": "ok"})

    async def ready(request: Request) -> Response:
        reasons = deps.ready()
        if reasons:
            return problem(503, "UNAVAILABLE", "; ".join(reasons), retryable=True, retry_after=5, reasons=reasons)
        return answer_json({"status": "ready", "reasons": [], "degraded": deps.degraded()})

    async def stats(request: Request) -> Response:
        return answer_json(deps.stats())

    async def metrics(request: Request) -> Response:
        return Response(body=deps.metrics().encode(), content_type="text/plain; version=0.0.4; charset=utf-8")

    async def integrations(request: Request) -> Response:
        found = deps.enablement(request.params["number"])
        return answer_json(found) if found is not None else problem(404, "NOT_FOUND", "There is no such enterprise.")

    async def invalidate(request: Request) -> Response:
        if not await deps.invalidate(request.params["number"]):
            return problem(404, "NOT_FOUND", "There is no such enterprise.")
        return answer_json({"status": "invalidated", "enterprise_number": request.params["number"]})

    table: list[Address] = [
        Address(method="POST", path=path, handler=_event_handler(deps, path), summary=summary, intake=True,
                schema=_event_schema(), answers=_EVENT_ANSWERS)
        for path, summary in _SUMMARIES.items()
    ]  # fmt: skip

    def add(method: str, path: str, handler: Handler, summary: str, **more: Any) -> None:
        table.append(Address(method=method, path=path, handler=handler, summary=summary, **more))

    def add_for_operators(method: str, path: str, handler: Handler, summary: str, **answers: str) -> None:
        listed = {200: "OK", 401: "The operator's token is missing or wrong", 403: "Not open without a token"}
        listed |= {404: answers["missing"]} if answers else {}
        content = {200: "text/plain"} if path == "/metrics" else {}
        add(method, path, _for_operators(deps, handler), summary, operator=True, answers=listed, content=content)

    add("POST", DISPATCH, _event_handler(deps, DISPATCH), "One call event from a call service", intake=True,
        schema=_dispatch_schema(), answers=_EVENT_ANSWERS)  # fmt: skip
    add("GET", "/health", health, "Liveness", intake=True)
    add("GET", "/ready", ready, "Readiness, with reasons", answers={
        200: "Posted events are taken; `degraded` lists what does not work meanwhile", 503: "Not ready; `reasons` states why",
    })  # fmt: skip
    add_for_operators("GET", "/stats", stats, "Counters as JSON")
    add_for_operators("GET", "/metrics", metrics, "Prometheus text")
    missing = "There is no such enterprise"
    add_for_operators("GET", "/integrations/{number}", integrations, "Which integrations are on", missing=missing)
    add_for_operators("POST", "/cache/invalidate/{number}", invalidate, "Forget and reload", missing=missing)
    table.extend(others)
    add("GET", "/api/openapi.json", document_handler(table), "This document")
    add("GET", "/api/docs", page_handler(table, deps.base_url), "The same, readable", content={200: "text/html"})
    return table
