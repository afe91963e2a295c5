"""A file that somebody adds to a chat, as it comes: a part of multipart/form-data, or the body itself.

    pieces -> sealed in the spool -> judged by its bytes -> stored, and named by a row that waits to be sent

It is never held in memory whole. A file that is not at all what its sender says is refused. Used by `gateway/web/rest/files.py`;
read `gateway/store/files/chat_files.py` next.
"""

import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import cast, get_args

from werkzeug.http import parse_options_header

from gateway.domain.chats import FileKind
from gateway.domain.errors import RateLimited
from gateway.domain.file_types import clean_name, content_type, kind_of, lies, told_by_name
from gateway.domain.ids import TenantId
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.store.chat_files import OpenedFile
from gateway.store.files.chat_files import MOST_UNSENT, ChatFiles, TooManyUnsent
from gateway.store.files.sealed_files import Incoming
from gateway.web.http.multipart import Begin, Data, End, Malformed, Multipart
from gateway.web.http.routes import Pull

KINDS = ("image", "voice", "audio", "video", "file")
"""What a file may be sent as."""
_LONGEST_FIELD = 1000
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}")
EMPTY = Bilingual("is empty", "пуст")
ABSENT = Bilingual("is required", "не приложен")


@dataclass(slots=True)
class _Received:
    """What has come so far."""

    name: str = ""
    kind: str = ""
    told: str = ""
    """Its type, as the sender says."""
    incoming: Incoming | None = None


async def receive_file(
    files: ChatFiles, tenant: TenantId, created_by: str, sent_as: str, pull: Pull, *, name: str = "", kind: str = ""
) -> OpenedFile:  # fmt: skip
    """Stores a file of a request with the Content-Type `sent_as`. Raises Invalid with the field, TooLarge, RateLimited, Unavailable."""
    got = _Received(name, kind)
    async with AsyncExitStack() as stack:
        media, options = parse_options_header(sent_as)
        if media.lower() == "multipart/form-data":
            await _read_form(files, got, options.get("boundary", ""), pull, stack)
        else:
            got.told = media
            got.incoming = await stack.enter_async_context(await files.new_file())
            while piece := await pull():
                await got.incoming.write(piece)
        return await _stored(files, tenant, created_by, got)


async def _stored(files: ChatFiles, tenant: TenantId, created_by: str, got: _Received) -> OpenedFile:
    incoming = got.incoming
    if incoming is None or not incoming.size:
        raise Invalid((("file", ABSENT if incoming is None else EMPTY),))
    if got.kind and got.kind not in KINDS:
        raise Invalid((("kind", f"must be one of {', '.join(KINDS)}"),))
    wanted = cast(FileKind, got.kind) if got.kind in get_args(FileKind) else None
    sealed = await incoming.finish(got.name)
    named = content_type(sealed.head, wanted or "file")
    told = got.told or told_by_name(got.name)
    if lies(told, named) or lies(told_by_name(got.name), named):
        raise Invalid((("file", Bilingual(
            f"is named or declared as something else than it is: its content is {named}",
            f"назван или объявлен не тем, чем является: его содержимое — {named}",
        )),))  # fmt: skip
    if wanted is not None and kind_of(named, wanted) != wanted:
        raise Invalid((("kind", Bilingual(
            f"does not fit: the content is {named}, which can be sent as {kind_of(named)}",
            f"не подходит: содержимое — {named}, его можно отправить как {kind_of(named)}",
        )),))  # fmt: skip
    name = clean_name(got.name, named, kind_of(named, wanted))
    try:
        return await files.add(tenant, sealed, name, created_by, wanted)
    except TooManyUnsent:
        raise RateLimited(
            "too many unsent files",
            after_s=3600.0,
            person=f"{MOST_UNSENT} files wait to be sent already: send them, or wait a day.",
        ) from None


async def _read_form(files: ChatFiles, got: _Received, boundary: str, pull: Pull, stack: AsyncExitStack) -> None:
    if not _BOUNDARY.fullmatch(boundary):
        raise Invalid((("body", "must be multipart/form-data with a boundary"),))
    form, field, value = Multipart(boundary.encode()), "", bytearray()
    try:
        while piece := await pull():
            for event in form.feed(piece):
                match event:
                    case Begin() if event.name == "file":
                        if got.incoming is not None:
                            raise Invalid((("file", "may be given once"),))
                        field, got.told = event.name, event.content_type
                        got.name = got.name or event.file_name or ""
                        got.incoming = await stack.enter_async_context(await files.new_file())
                    case Begin():
                        field, value = event.name, bytearray()
                        if field not in ("name", "kind"):
                            raise Invalid(((field[:40] or "body", "no such field"),))
                    case Data() if field == "file":
                        assert got.incoming is not None
                        await got.incoming.write(event.data)
                    case Data():
                        value += event.data
                        if len(value) > _LONGEST_FIELD:
                            raise Invalid(((field, f"must be at most {_LONGEST_FIELD} bytes"),))
                    case End() if field != "file":
                        setattr(got, field, value.decode("utf-8", "replace"))
                    case End():
                        pass
        if not form.complete:
            raise Malformed("cut short")
    except Malformed as error:
        raise Invalid((("body", f"is not a whole multipart/form-data: {error}"),)) from None
