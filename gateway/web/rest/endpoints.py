"""What an address of `/api/v1` is, and the way of a request to its operation.

    CORS -> caller (rate, credential, scope, CSRF) -> query and body by their models -> Idempotency-Key -> operation
         -> its model as JSON, with the caller's headers

An `Endpoint` names its query, body and answer as models: the request is checked by them and the API's document is made from them,
so the two cannot differ. A resource is a module with a function that returns its endpoints: read `keys.py`, then `table.py`.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.domain.configuration import Tenant
from gateway.domain.errors import GatewayError, Retryable
from gateway.domain.posts import Invalid
from gateway.domain.text import path_of
from gateway.store.audit import Kind, acting
from gateway.store.postgres.errors import BadData, Conflict
from gateway.telemetry import bound
from gateway.web.callers.callers import Caller, Headers
from gateway.web.http.routes import (
    EVENT_LIMIT,
    Address,
    Handler,
    Pull,
    Request,
    Response,
    StreamHandler,
    invalid,
    problem,
)
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.idempotency import HEADER, Stored
from gateway.web.translations import preferred

ROOT = "/api/v1"
MOST = 200
"""Items of one answer."""
T = TypeVar("T")


class Model(BaseModel):
    """What comes in: a field that is unknown is an error, for it would be left out silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """What goes out."""

    model_config = ConfigDict(frozen=True)


class NoQuery(Model):
    """No parameters."""


class ListQuery(Model):
    """How much of a list, and from where on."""

    limit: int = Field(50, ge=1, le=MOST, description="items at most")
    cursor: str | None = Field(
        None, max_length=4000, description="`next` of the answer before; absent: from the beginning"
    )


class Page(Shown, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = Field(None, description="the cursor of what follows; null at the end")


class Missing(Exception):
    """There is no such thing, or it is another company's: a 404 with this text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, checked."""

    request: Request
    caller: Caller
    tenant: Tenant
    query: Any
    """An instance of the endpoint's query."""
    body: Any
    """An instance of the endpoint's body; None where it has none. Bytes where it takes other types than JSON."""
    stored: Stored
    """Where the answer is stored by an operation that is `atomic`."""
    pull: Pull | None = None
    """The body piece by piece, where the endpoint `streams`."""

    @property
    def language(self) -> str:
        """Of sentences in the answer."""
        return preferred(self.request.headers.get("accept-language", "")) or self.tenant.language

    def param(self, name: str) -> str:
        """A part of the path."""
        return self.request.params[name]

    def number(self, name: str) -> int:
        """A part of the path that is a row's number. Raises Missing."""
        text = self.param(name)
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise Missing("There is no such entry.")
        return int(text)


Operation = Callable[[Call], Awaitable[BaseModel | Response | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path below `/api/v1`."""

    method: str
    path: str
    operation: Operation
    """Its answer: the model, None for 204, or a whole Response. Raises Missing, Invalid, or errors of the gateway."""
    summary: str
    scopes: tuple[str, ...]
    """One of these is needed."""
    answer: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    problems: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Answers beside those that all addresses have."""
    content_type: str = ""
    """Of an answer that is no JSON; with an `answer` too, the request says which it wants."""
    accepts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Content types of the body beside JSON, each with an example: the operation reads the body itself, and `body` describes it."""
    makes: bool = False
    """Whether it takes an Idempotency-Key."""
    atomic: bool = False
    """Whether it stores its answer itself, in the transaction of what it makes (`Call.stored`)."""
    sessions: bool = True
    """Whether a person's session may call it too."""
    agents: bool = False
    """Whether an agent's may, who sees nothing but what `Caller.only` allows: the operation has to keep to that."""
    body_limit: int = EVENT_LIMIT
    schema: Mapping[str, Any] | None = None
    """JSON Schema of a form in `accepts`, where no `body` describes it."""
    streams: bool = False
    """Whether the operation reads the body itself, piece by piece (`Call.pull`)."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Request headers of its own, for the document."""
    section: str = ""


def reply(model: BaseModel | None, status: int = 200, headers: Headers = ()) -> Response:
    """A model as an answer."""
    if model is None:
        return Response(status=204, headers=headers)
    return Response(status=status, body=model.model_dump_json(by_alias=True).encode(), headers=headers)


def rest_addresses(deps: RestDeps, endpoints: Sequence[Endpoint]) -> list[Address]:
    """The addresses, with the answers to preflight requests for each path."""
    table = [_address(deps, endpoint) for endpoint in endpoints]
    methods: dict[str, list[str]] = {}
    for endpoint in endpoints:
        methods.setdefault(ROOT + endpoint.path, []).append(endpoint.method)
    for path, listed in methods.items():
        allowed = sorted({*listed, "OPTIONS", *(["HEAD"] if "GET" in listed else [])})
        table.append(
            Address(
                method="OPTIONS", path=path, handler=_preflight(deps, allowed), summary="What may be sent", hidden=True
            )
        )
    return table


def _address(deps: RestDeps, endpoint: Endpoint) -> Address:
    good = {endpoint.status if endpoint.answer is not None or endpoint.content_type else 204: "Done"}
    listed = {
        **good,
        400: "The body is cut short", 401: "No valid key, token or session",
        403: "Not allowed: the scope is missing, it is another company, or X-CSRF-Token is wrong",
        408: "The request came too slowly", 413: f"The body is over {endpoint.body_limit} bytes",
        422: "Not valid: `errors` names every field", 429: "Too many requests; `retry_after` in seconds",
        503: "Not available at the moment; try again",
        **({404: "There is no such entry"} if "{" in endpoint.path else {}),
        **({409: f"{HEADER} was used with another body, or the same request is still under way"} if endpoint.makes else {}),
        **endpoint.problems,
    }  # fmt: skip
    handle, headers = _handler(deps, endpoint), dict(endpoint.headers)
    if endpoint.makes:
        headers[HEADER] = "the same key and body within a day have the same answer, and nothing is made twice"
    return Address(
        method=endpoint.method, path=ROOT + endpoint.path, handler=_whole(handle), summary=endpoint.summary,
        stream=handle if endpoint.streams else None,
        body_limit=endpoint.body_limit, answers=dict(sorted(listed.items())), body=endpoint.body, accepts=endpoint.accepts,
        schema=endpoint.schema,
        query=endpoint.query if endpoint.query.model_fields else None, scopes=endpoint.scopes, sessions=endpoint.sessions,
        replies={endpoint.status: endpoint.answer} if endpoint.answer is not None else {},
        content={endpoint.status: endpoint.content_type} if endpoint.content_type else {},
        header_names=headers, section=endpoint.section or endpoint.path.split("/")[1].capitalize(),
    )  # fmt: skip


def _whole(handle: StreamHandler) -> Handler:
    """For requests whose body was read already."""

    async def handler(request: Request) -> Response:
        left = [request.body] if request.body else []

        async def pull() -> bytes:
            return left.pop() if left else b""

        return await handle(request, pull)

    return handler


def _handler(deps: RestDeps, endpoint: Endpoint) -> StreamHandler:
    async def handle(request: Request, pull: Pull) -> Response:
        caller = await deps.callers.of(request, endpoint.scopes, sessions=endpoint.sessions)
        if isinstance(caller, Response):
            return _with(caller, deps.cors(request))
        if caller.only is not None and not endpoint.agents:
            refused = problem(
                403, "FORBIDDEN", "An agent sees and places the calls of their own numbers, and nothing else here."
            )
            return _with(refused, (*caller.headers, *deps.cors(request)))
        kind: Kind = "key" if caller.kind != "session" else "operator" if caller.operator else "person"
        with bound(tenant=caller.tenant), acting(kind, deps.callers.guesses.client(request)):
            response = await _answered(deps, endpoint, request, caller, pull)
        return _with(response, (*caller.headers, *deps.cors(request)))

    return handle


async def _answered(deps: RestDeps, endpoint: Endpoint, request: Request, caller: Caller, pull: Pull) -> Response:
    tenant = deps.tenant(caller.tenant)
    if tenant is None:
        return problem(404, "NOT_FOUND", "There is no such company.")
    try:
        query, body, raw = _read(endpoint, request)

        async def perform(stored: Stored) -> Response:
            call = Call(request=request, caller=caller, tenant=tenant, query=query, body=body, stored=stored, pull=pull)
            return await _performed(endpoint, call)

        if endpoint.makes:
            return await deps.idempotency.once(request, caller, raw, perform, atomic=endpoint.atomic)
        return await perform(Stored(caller.tenant))
    except Invalid as error:
        return invalid(error)


async def _performed(endpoint: Endpoint, call: Call) -> Response:
    """The operation's answer, or the problem that its failure comes to."""
    try:
        made = await endpoint.operation(call)
    except Missing as missing:
        return problem(404, "NOT_FOUND", str(missing) or "There is no such entry.")
    except BadData:
        return problem(422, "VALIDATION_ERROR", "The request holds what cannot be stored, such as a NUL character.")
    except Conflict:
        return problem(409, "CONFLICT", "There is such an entry already.")
    except GatewayError as error:
        if isinstance(error, Retryable):
            raise
        return problem(422, "CONFIG_INVALID", error.person)
    return made if isinstance(made, Response) else reply(made, endpoint.status)


def _read(endpoint: Endpoint, request: Request) -> tuple[BaseModel, BaseModel | bytes | None, Any]:
    """Query and body by their models, and the body as it was sent. Raises Invalid with every problem of both."""
    problems: list[tuple[str, str]] = []
    query: BaseModel | None = None
    body: BaseModel | bytes | None = None
    raw: Any = None
    sent = {name: value for name, value in request.query.items() if name != "tenant"}
    try:
        query = endpoint.query.model_validate(sent)
    except ValidationError as error:
        problems += problems_of(error)
    if endpoint.streams:
        pass
    elif endpoint.accepts:
        body, raw = request.body, hashlib.sha256(request.body).hexdigest()
    elif endpoint.body is not None:
        try:
            raw = {} if not request.body and may_be_empty(endpoint.body) else json_of(request.body)
            body = endpoint.body.model_validate(raw)
        except ValidationError as error:
            problems += problems_of(error)
        except Invalid as error:
            problems += error.problems
    if problems or query is None:
        raise Invalid(tuple(problems))
    return query, body, raw


def may_be_empty(model: type[BaseModel]) -> bool:
    """Whether a request without a body means the same as one with `{}`: nothing of it is required."""
    return not any(field.is_required() for field in model.model_fields.values())


def json_of(body: bytes) -> Any:
    """A body as JSON of any kind; raises Invalid."""

    def refuse(text: str) -> None:
        raise ValueError(text)

    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Invalid((("body", "must be JSON in UTF-8"),)) from None


def problems_of(error: ValidationError) -> list[tuple[str, str]]:
    """Every problem with its path, such as `items[0].price`. What was sent is not repeated."""
    found: dict[str, str] = {}
    for item in error.errors(include_input=False, include_context=False, include_url=False):
        path = path_of([step for step in item["loc"] if step != "[key]"])
        text = "no such field" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        found.setdefault(path[:200] or "body", text)
    return list(found.items())


def _with(response: Response, headers: Headers) -> Response:
    return replace(response, headers=(*response.headers, *headers)) if headers else response


def _preflight(deps: RestDeps, methods: Sequence[str]) -> Handler:
    async def options(request: Request) -> Response:
        allowed = ", ".join(methods)
        headers: Headers = (("Allow", allowed), *deps.cors(request))
        if any(name == "Access-Control-Allow-Origin" for name, _ in headers):
            headers = (
                *headers, ("Access-Control-Allow-Methods", allowed), ("Access-Control-Max-Age", "600"),
                ("Access-Control-Allow-Headers",
                 f"Authorization, X-API-Key, Content-Type, {HEADER}, If-None-Match, Last-Event-ID"),
            )  # fmt: skip
        return Response(status=204, headers=headers)

    return options
