"""`POST /download`: a recording, sent by the host that made it, or the address where we are to fetch it.

    pieces -> parts -> spool, sealed as it comes -> recording files -> 200      200 only once file and row are durable

No file is held in memory whole, none lies on disk unencrypted, and nothing of a request without a valid token is stored. The
parts may come in any order: what comes before its token is spooled under a small limit of its own, so that strangers cannot
fill the disk. Repeats are harmless: the same sound for the same call is a duplicate.
Read `gateway/store/files/recording_files.py` next.
"""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import trio
from werkzeug.http import parse_options_header

from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid, parse_download, token_of
from gateway.store.files.recording_files import LARGEST, Incoming, RecordingFiles, TooLarge
from gateway.telemetry import COUNTERS, bound
from gateway.web.http.guesses import Guesses
from gateway.web.http.multipart import Begin, Data, End, Malformed, Multipart
from gateway.web.http.routes import (
    EVENT_LIMIT,
    Address,
    Pull,
    Request,
    Response,
    answer_json,
    body_object,
    invalid,
    problem,
    too_large,
)

AT_ONCE = 32
"""Files at a time. A form that has not come to its file yet costs a connection and a few KiB."""
PER_TENANT = 8
"""Of these, one tenant's, so that no tenant blocks the others."""
STRANGERS = 4
"""Uploads at a time whose token has not come yet."""
_LONGEST_FIELD = 4096
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")

TenantOf = Callable[[str | None], Tenant | None]


def _unauthorized() -> Response:
    COUNTERS["posts_unauthorized"] += 1
    return problem(401, "AUTH_FAILED", "The token is missing or not valid.")


def _busy(detail: str) -> Response:
    return problem(503, "UNAVAILABLE", detail, retryable=True, retry_after=5)


class _Refused(Exception):
    """The request is answered before it is read to its end."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


@dataclass
class _Form:
    """What has come of a multipart form so far."""

    request: Request
    fields: dict[str, str] = field(default_factory=dict)
    tenant: Tenant | None = None
    incoming: Incoming | None = None
    file_name: str = ""


class Uploads:
    """All uploads of the process."""

    def __init__(self, recording_files: RecordingFiles, tenant_of: TenantOf, guesses: Guesses) -> None:
        self._guesses = guesses
        self._recording_files = recording_files
        self._tenant_of = tenant_of
        self._at_once = trio.CapacityLimiter(AT_ONCE)
        self._strangers = trio.CapacityLimiter(STRANGERS)
        self._of_tenants: Counter[TenantId] = Counter()

    async def receive(self, request: Request, pull: Pull) -> Response:
        """The whole of one request."""
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        try:
            if kind.lower() != "multipart/form-data":
                return await self._address(request, pull)
            async with AsyncExitStack() as stack:
                return await self._file(request, options.get("boundary", ""), pull, stack)
        except _Refused as refused:
            if refused.response.status == 401:
                return await self._guesses.wrong(request, "a wrong one", refused.response)
            return refused.response
        except TooLarge:
            return too_large(LARGEST)
        except Invalid as error:
            COUNTERS["posts_invalid"] += 1
            return invalid(error)

    def _take(self, stack: AsyncExitStack, limiter: trio.CapacityLimiter, why_not: str) -> None:
        place = object()
        try:
            limiter.acquire_on_behalf_of_nowait(place)
        except trio.WouldBlock:
            raise _Refused(_busy(why_not)) from None
        stack.callback(limiter.release_on_behalf_of, place)

    def _take_tenants(self, stack: AsyncExitStack, number: TenantId) -> None:
        if self._of_tenants[number] >= PER_TENANT:
            raise _Refused(_busy(f"{PER_TENANT} recordings of this company come in at once already."))
        self._of_tenants[number] += 1
        stack.callback(self._give_back, number)

    def _give_back(self, number: TenantId) -> None:
        self._of_tenants[number] -= 1
        if not self._of_tenants[number]:
            del self._of_tenants[number]

    # An address to fetch from

    async def _address(self, request: Request, pull: Pull) -> Response:
        body = bytearray()
        while piece := await pull():
            body += piece
            if len(body) > EVENT_LIMIT:
                return too_large(EVENT_LIMIT)
        data = body_object(Request(method=request.method, path=request.path, headers=request.headers, body=bytes(body)))
        tenant = self._tenant(request, token_of(data))
        unique_id, url = parse_download(data, url=True)
        with bound(tenant=tenant.number, call=unique_id):
            outcome = await self._recording_files.ask_for(tenant.number, url, unique_id, _pbxes(tenant))
        COUNTERS[f"recordings_{outcome}"] += 1
        return answer_json({"status": outcome})

    # The file itself

    def _tenant(self, request: Request, token: str | None) -> Tenant:
        if (slowed := self._guesses.refusal(request, token)) is not None:
            raise _Refused(slowed)
        tenant = self._tenant_of(token)
        if tenant is None:
            raise _Refused(_unauthorized())
        self._guesses.right(token)
        return tenant

    async def _file(self, request: Request, boundary: str, pull: Pull, stack: AsyncExitStack) -> Response:
        if not _BOUNDARY.fullmatch(boundary):
            raise Invalid((("body", "must be multipart/form-data with a boundary"),))
        form = _Form(request)
        try:
            await self._read(form, Multipart(boundary.encode()), pull, stack)
        except Malformed as error:
            raise Invalid((("body", f"is not a whole multipart/form-data: {error}"),)) from None
        if form.tenant is None:
            return _unauthorized()
        unique_id, _ = parse_download(form.fields, url=False)
        if form.incoming is None or not form.incoming.size:
            raise Invalid((("file", "is required" if form.incoming is None else "is empty"),))
        with bound(tenant=form.tenant.number, call=unique_id):
            sealed = await form.incoming.finish(form.file_name)
            outcome = await self._recording_files.keep(
                form.tenant.number, sealed, unique_id, _pbxes(form.tenant), form.file_name
            )
        COUNTERS[f"recordings_{outcome}"] += 1
        return answer_json({"status": outcome})

    async def _read(self, form: _Form, parts: Multipart, pull: Pull, stack: AsyncExitStack) -> None:
        name, value, to_file = "", bytearray(), False
        while piece := await pull():
            for event in parts.feed(piece):
                match event:
                    case Begin():
                        name, value = event.name.casefold(), bytearray()
                        to_file = name == "file"
                        if to_file:
                            await self._begin(form, event.file_name or "", stack)
                    case Data() if to_file:
                        assert form.incoming is not None
                        await form.incoming.write(event.data)
                    case Data():
                        value += event.data[: _LONGEST_FIELD + 1 - len(value)]
                    case End() if not to_file:
                        self._field(form, name, bytes(value), stack)
                    case End():
                        pass
        if not parts.complete:
            raise Malformed("cut short")

    async def _begin(self, form: _Form, given: str, stack: AsyncExitStack) -> None:
        if form.incoming is not None:
            raise Invalid((("file", "may be given once"),))
        if form.tenant is None:
            self._take(stack, self._strangers, "Too many recordings come in at once; send Token before the file.")
        else:
            self._take_tenants(stack, form.tenant.number)
        # Not before there is a file: a client that opens a form and sends nothing more would block all others.
        self._take(stack, self._at_once, "Too many recordings come in at once.")
        form.incoming = await stack.enter_async_context(await self._recording_files.new_file())
        bare = given.replace("\\", "/").rpartition("/")[2]
        form.file_name = "".join(c for c in bare if c.isprintable())[:200]

    def _field(self, form: _Form, name: str, value: bytes, stack: AsyncExitStack) -> None:
        if len(value) > _LONGEST_FIELD:
            raise Invalid(((name[:40] or "body", f"must be at most {_LONGEST_FIELD} bytes"),))
        if name not in ("token", "uniqueid"):
            return
        if name in form.fields:
            raise Invalid(((name, "may be given once"),))
        form.fields[name] = value.decode("utf-8", "replace")
        if name == "token":
            form.tenant = self._tenant(form.request, form.fields[name])
            if form.incoming is not None:
                self._take_tenants(stack, form.tenant.number)


def _pbxes(tenant: Tenant) -> list[str]:
    return [pbx.name for pbx in tenant.pbxes]


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["Token", "UniqueId"],
    "properties": {
        "Token": {"type": "string"}, "UniqueId": {"type": "string", "minLength": 1, "maxLength": 128},
        "url": {"type": "string", "format": "uri", "maxLength": 2048, "description": "where to fetch the recording"},
        "file": {"type": "string", "format": "binary",
                 "description": "the recording itself, at most 200 MiB, as a part of multipart/form-data"},
    },
}  # fmt: skip


def upload_addresses(
    recording_files: RecordingFiles, tenant_of: TenantOf, guesses: Guesses | None = None
) -> list[Address]:
    """`/download` for the table of machine addresses."""
    uploads = Uploads(recording_files, tenant_of, guesses or Guesses())

    async def never(request: Request) -> Response:
        return problem(501, "UNAVAILABLE", "This listener does not take recordings.")

    return [
        Address(
            method="POST", path="/download", handler=never, stream=uploads.receive, body_limit=LARGEST, intake=True,
            summary="A recording of a call: the file, or where to fetch it", schema=_SCHEMA,
            answers={
                200: "Stored durably (or, with url, noted to be fetched): `accepted`, or `duplicate` for a repeat",
                401: "The token is not valid", 413: "The recording is over 200 MiB",
                422: "Not valid; `errors` lists every field", 503: "Could not be stored; try again",
            },
        )
    ]  # fmt: skip
