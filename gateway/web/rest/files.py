"""`/files`: files of chats, added before they are sent, and given as downloads; and the signed links that messengers fetch them by.

Whatever a file is, it is answered as a download with a type that its bytes have, in a sandbox without scripts. An auditor reads no
messages, and so no files; an agent those of the conversations that are theirs to see. Read `gateway/web/content/chat_upload.py`
for what is taken.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import trio
from pydantic import ConfigDict, Field

from gateway.domain.chats import LARGEST_FILE
from gateway.domain.errors import TooLarge
from gateway.domain.ids import TenantId
from gateway.store.chat_files import OpenedFile
from gateway.store.files.chat_files import ChatFiles
from gateway.web.content.chat_upload import receive_file
from gateway.web.http.file_answers import Stored, disposition, file_answer
from gateway.web.http.routes import Address, Request, Response, problem, too_large
from gateway.web.rest.chats import READS, WRITES, author_of, conversation_id, visible
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, Missing, Model, Shown

AT_ONCE = 32
"""Files at a time."""
PER_TENANT = 8
"""Of these, one company's."""
_SANDBOX = (("Content-Security-Policy", "sandbox; default-src 'none'"),)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_FORM: Mapping[str, Any] = {
    "type": "object", "required": ["file"], "properties": {
        "file": {"type": "string", "format": "binary", "description": "at most 20 MiB"},
        "name": {"type": "string"}, "kind": {"type": "string", "enum": ["image", "voice", "audio", "video", "file"]},
    },
}  # fmt: skip


class FileItem(Shown):
    """A file that can be sent with a message."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        "id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "kind": "image", "name": "price.png", "content_type": "image/png", "size": 48211,
    }]})  # fmt: skip

    id: str
    kind: Literal["image", "voice", "audio", "video", "file", "sticker"]
    name: str
    content_type: str = Field(description="by its bytes, whatever the request said")
    size: int


class FileQuery(Model):
    """Of a file that is the body itself; the parts `name` and `kind` of a form say the same."""

    name: str = Field("", max_length=300, description="the file's name, as the client gets it")
    kind: Literal["", "image", "voice", "audio", "video", "file"] = Field(
        "", description="what it is sent as; left out: by its bytes. `file` sends a picture as a document"
    )


class Places:
    """How many files come in at once."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._of_tenants: Counter[TenantId] = Counter()

    @contextmanager
    def of(self, tenant: TenantId) -> Iterator[bool]:
        """Whether there is a place."""
        taken = object()
        if self._of_tenants[tenant] >= PER_TENANT or not self._limiter.available_tokens:
            yield False
            return
        self._limiter.acquire_on_behalf_of_nowait(taken)
        self._of_tenants[tenant] += 1
        try:
            yield True
        finally:
            self._limiter.release_on_behalf_of(taken)
            self._of_tenants[tenant] -= 1
            self._of_tenants += Counter()  # forgets those at 0


def file_endpoints(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""
    files, places = deps.chat_files, Places()
    if files is None:
        return []

    async def add(call: Call) -> FileItem | Response:
        query: FileQuery = call.query
        assert call.pull is not None
        with places.of(call.tenant.number) as free:
            if not free:
                return problem(503, "UNAVAILABLE", "Too many files come in at once.", retryable=True, retry_after=5)
            try:
                found = await receive_file(
                    files, call.tenant.number, await author_of(deps, call), call.request.headers.get("content-type", ""), call.pull,
                    name=query.name, kind=query.kind,
                )  # fmt: skip
            except TooLarge:
                return too_large(LARGEST_FILE, "file")
        return FileItem.model_validate(
            {"id": str(found.file_id), "kind": found.kind, "name": found.name, "content_type": found.content_type, "size": found.blob.size}
        )  # fmt: skip

    async def give(call: Call) -> Response:
        if not call.caller.reads_messages:
            return problem(403, "FORBIDDEN", "An auditor reads no messages, and no files of messages.")
        number = call.tenant.number
        found = await files.find(number, conversation_id(call))
        if found is None:
            raise Missing("There is no such file.")
        if found.conversation is not None:
            await visible(deps, call, found.conversation)
        elif call.caller.only is not None and found.created_by != await author_of(deps, call):
            raise Missing("There is no such file.")
        return await answer_file(files, number, found, call.request)

    section = "Files"
    return [
        Endpoint(method="POST", path="/files", operation=add, scopes=WRITES, query=FileQuery, answer=FileItem, status=201, agents=True,
                 streams=True, body_limit=LARGEST_FILE, summary="Adds a file that is sent with a message within a day",
                 accepts={"multipart/form-data": "", "application/octet-stream": ""}, schema=_FORM, section=section),
        Endpoint(method="GET", path="/files/{id}", operation=give, scopes=READS, agents=True, summary="A file of a message, as a download",
                 content_type="application/octet-stream", section=section,
                 problems={206: "The range that was requested", 304: "Unchanged", 416: "The range lies outside the file"}),
    ]  # fmt: skip


async def answer_file(files: ChatFiles, tenant: TenantId, found: OpenedFile, request: Request) -> Response:
    """A file to whoever may have it."""
    stored = Stored(
        what="file", version=f"{found.file_id} {found.blob.address}", size=found.blob.size, content_type=found.content_type,
        stored_at=found.stored_at, disposition=disposition(found.name, inline=False), open=lambda: files.open(tenant, found.blob),
    )  # fmt: skip
    return await file_answer(stored, request.method, request.headers, _SANDBOX)


def linked_files(
    files: ChatFiles,
    known: Callable[[TenantId], object | None],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[Address]:
    """`/files/{id}?tenant=&expires=&signature=`: for messengers that fetch what we send. A link that is expired, forged or another
    company's is refused before anything is looked up."""

    async def give(request: Request) -> Response:
        query: Mapping[str, Any] = request.query
        text, number = request.params["id"], TenantId(query.get("tenant", ""))
        if (
            not _ID.fullmatch(text) or known(number) is None
            or not files.signer(number).allows(UUID(text), query.get("expires", ""), query.get("signature", ""), now())
        ):  # fmt: skip
            return problem(403, "FORBIDDEN", "The link has expired or is not valid.")
        found = await files.find(number, UUID(text))
        if found is None:
            return problem(404, "NOT_FOUND", "There is no such file.")
        return await answer_file(files, number, found, request)

    return [
        Address(
            method="GET", path="/files/{id}", handler=give, summary="A file of a message, by a signed link that is good for an hour",
            answers={200: "The file", 206: "A range of it", 403: "The link is not valid", 404: "It is gone"},
            content={200: "application/octet-stream"},
        )
    ]  # fmt: skip
