"""`GET /recordings/file/<id>`: a recording, to whoever holds a signed link or a session of its tenant.

A link that is expired, forged or another tenant's is refused before anything is looked up, with the same words whatever
exists; a signature that came is judged even where a session would do. Files are opened a stretch at a time, from wherever
the listener requests (`Range`). Sounds of an unknown kind are only ever downloaded, never shown.
Read `gateway/domain/recording_links.py` for links, `gateway/store/files/recording_files.py` for files.
"""

import hashlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from uuid import UUID

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain import audio
from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.people import Role, took_part
from gateway.store import recordings as store
from gateway.store.call_pages import select_call
from gateway.store.files.blobs import Missing
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.errors import Unsealable
from gateway.store.recordings import BlobRow, RecordingLine
from gateway.web.http.routes import Response as Answer
from gateway.web.http.routes import problem
from gateway.web.session.access import Need
from gateway.web.session.auth import Gate
from gateway.web.session.guard import allows
from gateway.web.site import viewer

log = logging.getLogger(__name__)

AGAIN_S = 10
"""Retry-After for a file that is expected."""
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[^0-9A-Za-z._-]+")


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


def _problem(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, content_type=answer.content_type)
    for name, value in answer.headers:
        response.headers[name] = value
    response.headers["Cache-Control"] = "private, no-store"
    return response


def refused() -> Response:
    """The one answer to every link that is not good."""
    return _problem(problem(403, "FORBIDDEN", "The link has expired or is not valid."))


def _missing() -> Response:
    return _problem(problem(404, "NOT_FOUND", "There is no such recording."))


def _etag(line: RecordingLine) -> str:
    return f'"{hashlib.sha256(f"{line.recording_id} {line.address}".encode()).hexdigest()[:32]}"'


def _unchanged(condition: str, etag: str, stored_at: datetime) -> bool:
    """If-Range: the validator still fits."""
    if condition.startswith('"'):
        return condition == etag
    try:
        return parsedate_to_datetime(condition) == stored_at
    except (ValueError, TypeError):
        return False


def recordings_pages(gate: Gate, recording_files: RecordingFiles) -> Blueprint:
    """The one address."""
    pages = Blueprint("recordings", __name__)
    db = gate.site.deps.db

    async def by_session(recording: UUID) -> TenantId | None:
        """The recording's company, where a session came that may listen to it."""
        await gate.look()
        session = viewer().session
        if session is None:
            return None
        owner = await db.engine(store.select_owner, recording)
        if owner is None or not allows(session, owner, Need.CALLS):
            return None
        member = session.membership(owner)
        if member is not None and member.role is Role.AGENT:
            line = await db.tenant(owner, store.select_recording, owner, recording)
            found = await db.tenant(owner, select_call, owner, line.call_id) if line is not None else None
            return owner if found is not None and took_part(found[1], member.phones) else None
        return owner

    @pages.get("/recordings/file/<name>")
    async def file(name: str) -> Response:
        if not _ID.fullmatch(name):
            return _missing()
        recording, args = UUID(name), request.args
        number: TenantId | None = TenantId(args.get("tenant", ""))
        linked = "signature" in args or "expires" in args
        if linked:
            assert number is not None
            if gate.site.deps.cache.tenant(number) is None or not recording_files.signer(number).allows(
                recording, args.get("expires", ""), args.get("signature", ""), datetime.now(UTC)
            ):
                return refused()
        else:
            number = await by_session(recording)
            if viewer().session is None:
                return _problem(problem(401, "AUTH_FAILED", "Open the recording by a signed link, or sign in."))
        found = await db.tenant(number, store.select_opened, number, recording) if number is not None else None
        if number is None or found is None:
            return _missing()
        line, blob = found
        if blob is None:
            return _problem(
                problem(404, "NOT_FOUND", "The recording is not here yet.", retryable=True, retry_after=AGAIN_S)
            )
        return await _send(recording_files, number, line, blob, linked=linked)

    return pages


async def _send(
    recording_files: RecordingFiles, number: TenantId, line: RecordingLine, blob: BlobRow, *, linked: bool
) -> Response:
    stored_at = (line.stored_at or line.kept_from).astimezone(UTC).replace(microsecond=0)
    etag, condition = _etag(line), request.headers.get("If-Range", "")
    if etag in re.findall(r'"[^"]*"', request.headers.get("If-None-Match", "")):
        response = Response(b"", 304)
    else:
        requested = request.headers.get("Range", "") if request.method == "GET" else ""
        if condition and not _unchanged(condition, etag, stored_at):
            requested = ""
        span = read_range(requested, blob.size)
        if span is None:
            answer = _problem(problem(416, "VALIDATION_ERROR", "The range lies outside the file."))
            answer.headers["Content-Range"] = f"bytes */{blob.size}"
            return answer
        body: AsyncIterator[bytes] | bytes = b""
        if request.method == "GET":
            try:
                # The first stretch is read before the answer begins: a file that does not open is still an error then.
                pieces = (await recording_files.open(number, blob)).read(span.start, span.end)
                body = _chained(await anext(pieces), pieces)
            except Unsealable as error:
                log.error("a recording does not open", extra={"tenant": number, "reason": str(error)})
                return _problem(problem(500, "UNAVAILABLE", "The recording cannot be opened."))
            except (Unavailable, Missing):
                away = problem(
                    503, "UNAVAILABLE", "The recording cannot be read now.", retryable=True, retry_after=AGAIN_S
                )
                return _problem(away)
        response = Response(body, 206 if span.partial else 200, content_type=line.content_type)
        response.timeout = None  # a player takes its time; the listener has deadlines of its own
        response.headers["Content-Length"] = str(span.end - span.start)
        if span.partial:
            response.headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{blob.size}"
    headers = response.headers
    headers["ETag"], headers["Last-Modified"] = etag, format_datetime(stored_at, usegmt=True)
    headers["Accept-Ranges"], headers["Cache-Control"] = "bytes", "private, no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    shown = "inline" if line.content_type in audio.PLAYABLE else "attachment"
    safe = _NAME.sub("-", line.call_id)[:100].strip(".-") or "recording"
    headers["Content-Disposition"] = f'{shown}; filename="{safe}.{audio.extension(line.content_type)}"'
    if linked:
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # links are made for the pages of other systems
    return response


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
