"""Request and response of the addresses for machines, and the table that finds the handler of a request.

Owns `application/problem+json` and the reading of bodies (JSON or a form). It knows no server and no handler: both
listeners bring requests here and carry answers back. A token, a query value or a body never gets into a log or an error
text. Read `gateway/web/api/machine.py` next for the addresses themselves.
"""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel

from gateway.domain.errors import RateLimited, Retryable, Unavailable
from gateway.domain.posts import Invalid
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

EVENT_LIMIT = 256 * 1024
JSON, PROBLEM = "application/json", "application/problem+json"
FORM = "application/x-www-form-urlencoded"
_TITLES = {
    400: "Bad request", 401: "Unauthorized", 403: "Forbidden", 404: "Not found", 405: "Method not allowed",
    408: "Request timeout", 409: "Conflict", 413: "Payload too large", 422: "Unprocessable content",
    429: "Too many requests", 431: "Headers too large", 500: "Internal error", 501: "Not implemented",
    503: "Unavailable",
}  # fmt: skip
_FORWARDING = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "cf-connecting-ip")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request: its body was read to the end and is no longer than the address allows."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names in lower case; of a header sent several times, the first, but every `X-Forwarded-For` (`header_values`)."""
    body: bytes = b""
    peer: str = ""
    """The address at the other end of the socket."""
    forwarded: bool = False
    """Whether a header shows that a proxy forwarded this."""


Give = Callable[[str], Awaitable[None]]
"""Sends a text on; waits while the client does not keep up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What goes back. `headers` are ours alone and hold no line breaks."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    events: AsyncIterator[str] | None = None
    """What follows for as long as the client listens, instead of `body`."""
    pieces: AsyncIterator[bytes] | None = None
    """The body of a file, a piece at a time, instead of `body`; `headers` say how long it is."""
    work: Callable[[Give], Awaitable[None]] | None = None
    """The same from a task that gives the texts, and ends with the response."""


Handler = Callable[[Request], Awaitable[Response]]
Pull = Callable[[], Awaitable[bytes]]
"""The next piece of a body that is still coming in; empty at its end. Raises Cut where there is no good end."""
StreamHandler = Callable[[Request, Pull], Awaitable[Response]]


class Cut(Exception):
    """The body ended too early, came too slowly or grew too large; `response` states which."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One method of one path. `{name}` in a path is one segment, handed over in `Request.params`."""

    method: str
    path: str
    handler: Handler
    summary: str
    body_limit: int = EVENT_LIMIT
    stream: StreamHandler | None = None
    """For bodies too large to be held: it reads piece by piece, up to `body_limit`, and `handler` is not called."""
    intake: bool = False
    """Whether the fast listener serves it too: event addresses, webhooks and `/health`."""
    operator: bool = False
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the body, for the API document."""
    answers: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({200: "OK"}))
    body: type[BaseModel] | None = None
    """The body, JSON, where a model describes it instead of `schema`."""
    accepts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Content types of a body beside JSON, each with an example."""
    query: type[BaseModel] | None = None
    """Parameters of the query."""
    replies: Mapping[int, type[BaseModel]] = field(default_factory=lambda: MappingProxyType({}))
    """The JSON of good answers by status."""
    content: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """The content type of good answers that are no JSON, or may be something else too."""
    scopes: tuple[str, ...] = ()
    """One of these is needed; empty where no API key opens the address."""
    sessions: bool = True
    """Whether a person's session opens it too, where a key does."""
    header_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Headers of its own that a request may bring, with what they are."""
    section: str = "Machines"
    """The heading in the API's reference."""
    hidden: bool = False
    """Whether the API's document leaves it out: a preflight request."""


def problem(
    status: int,
    code: str,
    detail: str = "",
    *,
    retryable: bool = False,
    retry_after: float | None = None,
    errors: Sequence[tuple[str, str]] = (),
    headers: tuple[tuple[str, str], ...] = (),
    **more: object,
) -> Response:
    """An `application/problem+json` answer with one of the contract's codes. `detail` repeats nothing that was sent."""
    body: dict[str, Any] = {
        "type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "code": code,
        "detail": detail, "retryable": retryable,
    }  # fmt: skip
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers = (*headers, ("Retry-After", str(max(1, round(retry_after)))))
    if errors:
        # `field` is what `path` was called before.
        body["errors"] = [{"path": name, "message": text, "field": name} for name, text in errors]
    return Response(status=status, body=json.dumps({**body, **more}).encode(), content_type=PROBLEM, headers=headers)


def answer_json(data: object, status: int = 200) -> Response:
    """A JSON answer in UTF-8."""
    return Response(status=status, body=json.dumps(data, ensure_ascii=False, default=str).encode())


def too_large(limit: int, field: str = "body") -> Response:
    """The answer to a body, or a file in it, over the address's limit."""
    return problem(
        413,
        "PAYLOAD_TOO_LARGE",
        f"The {field} is larger than {limit} bytes.",
        errors=[(field, f"at most {limit} bytes")],
    )


def is_forwarded(names: Sequence[str]) -> bool:
    """Whether any of these header names (in lower case) shows that a proxy forwarded the request."""
    return any(name in _FORWARDING or name.startswith("x-forwarded") for name in names)


def first_values(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Names to the first value each was given."""
    return dict(reversed(pairs))


def header_values(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Headers as a Request has them; names are in lower case. Each hop may add an `X-Forwarded-For` line of its own, and
    the first one is whatever the client made up: all of them are one list, in order."""
    values = first_values(pairs)
    if "x-forwarded-for" in values:
        values["x-forwarded-for"] = ", ".join(value for name, value in pairs if name == "x-forwarded-for")
    return values


class Table:
    """Finds the address of a request. HEAD is served wherever GET is."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._plain: dict[str, dict[str, Address]] = {}
        self._patterns: list[tuple[tuple[str, ...], dict[str, Address]]] = []
        patterns: dict[tuple[str, ...], dict[str, Address]] = {}
        for address in addresses:
            if "{" in address.path:
                methods = patterns.setdefault(tuple(address.path.split("/")), {})
            else:
                methods = self._plain.setdefault(address.path, {})
            if address.method in methods:
                raise ValueError(f"{address.method} {address.path} stands twice in the table")
            methods[address.method] = address
        self._patterns = list(patterns.items())

    def find(self, method: str, path: str) -> tuple[Address, Mapping[str, str]] | Response:
        """The address and its path parameters, or the 404 or 405 to send. `path` is as it stood in the request line."""
        methods, params = self._plain.get(path), dict[str, str]()
        if methods is None:
            parts = path.split("/")
            for pattern, candidates in self._patterns:
                if len(pattern) == len(parts) and all(
                    p == part or (p[:1] == "{" and part) for p, part in zip(pattern, parts, strict=True)
                ):
                    named = zip(pattern, parts, strict=True)
                    methods, params = candidates, {p[1:-1]: unquote(part) for p, part in named if p[:1] == "{"}
                    break
        if methods is None:
            return problem(404, "NOT_FOUND", "There is no such address.")
        address = methods.get("GET" if method == "HEAD" else method)
        if address is None:
            allowed = sorted({*methods, *(("HEAD",) if "GET" in methods else ())})
            return problem(405, "VALIDATION_ERROR", "The address does not take this method.",
                           headers=(("Allow", ", ".join(allowed)),))  # fmt: skip
        return address, params


async def answer(address: Address, request: Request, pull: Pull | None = None) -> Response:
    """The handler's answer, or the problem that its failure comes to. Never raises `Exception`."""
    try:
        if address.stream is not None and pull is not None:
            return await address.stream(request, pull)
        return await address.handler(request)
    except Cut as cut:
        return cut.response
    except Retryable as error:
        limited = isinstance(error, RateLimited)
        told = error.after_s if error.after_s is not None or not isinstance(error, RateLimited | Unavailable) else 5
        # What is away is ours, such as the database: the caller has no connection of its own to look after.
        return problem(429 if limited else 503, "RATE_LIMITED" if limited else "UNAVAILABLE", error.person,
                       retryable=True, retry_after=told)  # fmt: skip
    except Exception:
        # The one broad boundary of both listeners: a bug in one handler must not end the listener for every tenant.
        # The response does not reveal the cause; the log names the address's template, never what was sent.
        COUNTERS["handler_failures"] += 1
        log.exception("handler failed", extra={"address": f"{address.method} {address.path}"})
        return problem(500, "UNAVAILABLE", "The gateway failed to handle this request.", retryable=True)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _form(text: str) -> dict[str, Any]:
    """A form as an object: a field given several times, or named `name[]`, is a list."""
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=2000):
        bare = name.removesuffix("[]")
        if bare in fields:
            known = fields[bare]
            fields[bare] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            fields[bare] = [value] if bare != name else value
    return fields


def body_object(request: Request) -> dict[str, Any]:
    """The body as an object, JSON or a form; raises Invalid. `curl -d '{...}'` calls its JSON a form, so content decides."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = request.body.decode("utf-8-sig")
        if kind == FORM and text.lstrip()[:1] not in ("{", "["):
            return _form(text)
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Invalid((("body", "must be a JSON object in UTF-8, or a form"),)) from None
    if not isinstance(data, dict):
        raise Invalid((("body", "must be a JSON object"),))
    return data


def invalid(error: Invalid) -> Response:
    """422 with every problem."""
    return problem(422, "VALIDATION_ERROR", "The request is not valid.", errors=error.problems)
