"""`/widget/{key}/files`: files that a visitor adds to a message, and those of their conversation, as downloads.

A file belongs to the visitor who added it, until it is sent; then to their conversation. What is taken and how it is given is as
for people (`gateway/web/rest/files.py`): judged by its bytes, never shown by our own pages.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from gateway.domain.chats import LARGEST_FILE, MOST_FILES
from gateway.domain.errors import TooLarge
from gateway.domain.limiter import Rate
from gateway.domain.text import Bilingual
from gateway.web.callers.limits import CallLimits
from gateway.web.content.chat_upload import receive_file
from gateway.web.http.routes import Address, Pull, Request, Response, answer_json, problem, too_large
from gateway.web.rest.files import Places, answer_file
from gateway.web.widget.deps import Visit, WidgetDeps, of_visitor
from gateway.web.widget.shown import conversation_of

PER_VISITOR, PER_ADDRESS = Rate(20, 60.0), Rate(60, 60.0)
"""Files."""
_MISSING = problem(404, "NOT_FOUND", "There is no such file.")


def file_addresses(deps: WidgetDeps) -> list[Address]:
    """The addresses."""
    files, places, limits = deps.chat_files, Places(), CallLimits(PER_VISITOR, PER_ADDRESS)
    if files is None:
        return []

    async def add(request: Request, pull: Pull) -> Response:
        async def of(visit: Visit) -> Response:
            number = visit.place.tenant.number
            for allowance in (limits.address(deps.guesses.source(request)), limits.key(f"{number} {visit.who}")):
                if allowance.wait_s:
                    return problem(
                        429, "RATE_LIMITED", "Too many files.", retryable=True, retry_after=max(1.0, allowance.wait_s)
                    )
            with places.of(number) as free:
                if not free:
                    return problem(503, "UNAVAILABLE", "Too many files come in at once.", retryable=True, retry_after=5)
                try:
                    found = await receive_file(
                        files, number, visit.who, request.headers.get("content-type", ""), pull,
                        name=request.query.get("name", "")[:300],
                    )  # fmt: skip
                except TooLarge:
                    return too_large(LARGEST_FILE, "file")
            return answer_json({"id": str(found.file_id), "kind": found.kind, "name": found.name,
                                "content_type": found.content_type, "size": found.blob.size}, 201)  # fmt: skip

        return await of_visitor(deps, of)(request)

    async def unstreamed(request: Request) -> Response:
        body = [request.body]

        async def pull() -> bytes:
            return body.pop() if body else b""

        return await add(request, pull)

    async def give(visit: Visit) -> Response:
        number, ident = visit.place.tenant.number, _uuid(visit.request.params["id"])
        found = await files.find(number, ident) if ident is not None else None
        conversation = await conversation_of(deps, visit.place, visit.visitor.address)
        if found is None or conversation is None or found.conversation != conversation.id:
            return _MISSING
        return await answer_file(files, number, found, visit.request)

    return [
        Address(method="POST", path="/widget/{key}/files", handler=unstreamed, stream=add, body_limit=LARGEST_FILE, hidden=True,
                summary="A file that a visitor adds to a message"),
        Address(method="GET", path="/widget/{key}/files/{id}", handler=of_visitor(deps, give), hidden=True,
                summary="A file of the visitor's conversation, as a download"),
    ]  # fmt: skip


async def attached(
    deps: WidgetDeps, visit: Visit, sent: Any, problems: list[tuple[str, str]]
) -> list[Mapping[str, Any]]:  # fmt: skip
    """The files that a message brings, by their ids; adds what is wrong with them to `problems`."""
    if sent is None:
        return []
    if not isinstance(sent, list) or len(sent) > MOST_FILES:
        problems.append(("attachments", Bilingual(
            f"must be a list of at most {MOST_FILES} ids of files", f"должен быть список идентификаторов файлов, не больше {MOST_FILES}"
        )))  # fmt: skip
        return []
    found = list[Mapping[str, Any]]()
    for place, text in enumerate(sent):
        ident = _uuid(text) if isinstance(text, str) else None
        one = await deps.chat_files.find(visit.place.tenant.number, ident) if deps.chat_files and ident else None
        if one is None or one.created_by != visit.who or one.conversation is not None:
            problems.append((f"attachments[{place}]", Bilingual(
                "there is no such file, or it was sent already: add it first", "такого файла нет, или он уже отправлен: сначала добавьте его"
            )))  # fmt: skip
            continue
        found.append({"file": str(one.file_id), "kind": one.kind, "name": one.name, "content_type": one.content_type,
                      "size": one.blob.size})  # fmt: skip
    return found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None
