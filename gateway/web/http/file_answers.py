"""A file as an answer: its whole or a range of it, validators, and how it is to be shown. Read a stretch at a time.

`file_answer` opens the first stretch before the answer begins: a file that does not open is still an error then. Used by
`gateway/web/api/recordings.py` and `gateway/web/rest/files.py`.
"""

import hashlib
import logging
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from gateway.domain.errors import Unavailable
from gateway.store.files.blobs import Missing
from gateway.store.files.sealed_files import Opened
from gateway.store.postgres.errors import Unsealable
from gateway.web.http.routes import Response, problem

log = logging.getLogger(__name__)

AGAIN_S = 10
"""Retry-After for a file that cannot be read now."""
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
_SAFE = re.compile(r"[^0-9A-Za-z._-]+")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to but not `end`; `partial` where not all were requested."""

    start: int
    end: int
    partial: bool


def read_range(header: str, size: int) -> Span | None:
    """The bytes that a Range header requests; None where it lies outside the file. Several ranges, or a malformed
    header, get the whole file: both are allowed, and no player needs more."""
    whole = Span(0, size, False)
    found = _RANGE.fullmatch(header.replace(" ", "")) if header else None
    if found is None:
        return whole
    first, last, suffix = found.groups()
    if suffix is not None:
        return Span(max(0, size - int(suffix)), size, True) if int(suffix) else None
    start, end = int(first), int(last) + 1 if last else size
    if start >= size:
        return None
    return Span(start, min(end, size), True) if start < end else whole


def safe_name(text: str, otherwise: str) -> str:
    """A name of plain characters, for every program that may store a file."""
    return _SAFE.sub("-", text)[:100].strip(".-") or otherwise


def disposition(name: str, *, inline: bool) -> str:
    """The header that says how a file is shown and what it is called. Names in other letters come beside a plain one."""
    shown = "inline" if inline else "attachment"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem, dot, ending = plain.rpartition(".")
    safe = f"{safe_name(stem, 'file')}.{safe_name(ending, 'bin')}" if dot else safe_name(plain, "file")
    beside = f"; filename*=UTF-8''{quote(name, safe='')}" if name != safe else ""
    return f'{shown}; filename="{safe}"{beside}'


def _unchanged(condition: str, etag: str, stored_at: datetime) -> bool:
    """If-Range: the validator still fits."""
    if condition.startswith('"'):
        return condition == etag
    try:
        return parsedate_to_datetime(condition) == stored_at
    except (ValueError, TypeError):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file as its row describes it."""

    what: str
    """In the answers' words, such as "recording"."""
    version: str
    """Changes with the bytes."""
    size: int
    content_type: str
    stored_at: datetime
    disposition: str
    open: Callable[[], Awaitable[Opened]]


async def file_answer(
    stored: Stored, method: str, sent: Mapping[str, str], more: tuple[tuple[str, str], ...] = ()
) -> Response:
    """The answer to GET or HEAD with these request headers (names in lower case)."""
    stored_at = stored.stored_at.astimezone(UTC).replace(microsecond=0)
    etag = f'"{hashlib.sha256(stored.version.encode()).hexdigest()[:32]}"'
    headers = (
        ("ETag", etag), ("Last-Modified", format_datetime(stored_at, usegmt=True)), ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, no-store"), ("X-Content-Type-Options", "nosniff"),
        ("Content-Disposition", stored.disposition), *more,
    )  # fmt: skip
    if etag in re.findall(r'"[^"]*"', sent.get("if-none-match", "")):
        return Response(status=304, content_type=stored.content_type, headers=headers)
    requested, condition = sent.get("range", "") if method == "GET" else "", sent.get("if-range", "")
    if condition and not _unchanged(condition, etag, stored_at):
        requested = ""
    span = read_range(requested, stored.size)
    if span is None:
        return problem(
            416,
            "VALIDATION_ERROR",
            "The range lies outside the file.",
            headers=(("Content-Range", f"bytes */{stored.size}"),),
        )
    pieces: AsyncIterator[bytes] | None = None
    if method == "GET":
        try:
            rest = (await stored.open()).read(span.start, span.end)
            pieces = _chained(await anext(rest), rest)
        except Unsealable as error:
            log.error("a stored file does not open", extra={"what": stored.what, "reason": str(error)})
            return problem(500, "UNAVAILABLE", f"The {stored.what} cannot be opened.")
        except (Unavailable, Missing):
            return problem(
                503, "UNAVAILABLE", f"The {stored.what} cannot be read now.", retryable=True, retry_after=AGAIN_S
            )
    lengths: tuple[tuple[str, str], ...] = (("Content-Length", str(span.end - span.start)),)
    if span.partial:
        lengths += (("Content-Range", f"bytes {span.start}-{span.end - 1}/{stored.size}"),)
    return Response(
        status=206 if span.partial else 200,
        content_type=stored.content_type,
        pieces=pieces,
        headers=(*lengths, *headers),
    )


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A piece, then those behind it. Whoever sends the response closes it."""
    yield first
    async for piece in rest:
        yield piece
