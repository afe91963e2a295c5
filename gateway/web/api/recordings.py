"""`GET /recordings/file/<id>`: a recording, to whoever holds a signed link or a session of its tenant.

A link that is expired, forged or another tenant's is refused before anything is looked up, with the same words whatever
exists; a signature that came is judged even where a session would do. Files are answered by
`gateway/web/http/file_answers.py`. Sounds of an unknown kind are only ever downloaded, never shown.
Read `gateway/domain/recording_links.py` for links, `gateway/store/files/recording_files.py` for files.
"""

import re
from datetime import UTC, datetime
from uuid import UUID

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain import audio
from gateway.domain.ids import TenantId
from gateway.domain.people import Role, took_part
from gateway.store import recordings as store
from gateway.store.call_pages import select_call
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.recordings import BlobRow, RecordingLine
from gateway.telemetry import bound
from gateway.web.http.file_answers import AGAIN_S, Stored, disposition, file_answer, safe_name
from gateway.web.http.routes import Response as Answer
from gateway.web.http.routes import problem
from gateway.web.session.access import Need
from gateway.web.session.auth import Gate
from gateway.web.session.guard import allows
from gateway.web.site import viewer

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _problem(answer: Answer) -> Response:
    response = _made(answer)
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _made(answer: Answer) -> Response:
    response = Response(answer.pieces or answer.body, answer.status, content_type=answer.content_type)
    response.timeout = None  # a player takes its time; the listener has deadlines of its own
    for name, value in answer.headers:
        response.headers[name] = value
    return response


def refused() -> Response:
    """The one answer to every link that is not good."""
    return _problem(problem(403, "FORBIDDEN", "The link has expired or is not valid."))


def _missing() -> Response:
    return _problem(problem(404, "NOT_FOUND", "There is no such recording."))


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
    playable = line.content_type in audio.PLAYABLE
    name = f"{safe_name(line.call_id, 'recording')}.{audio.extension(line.content_type)}"
    stored = Stored(
        what="recording", version=f"{line.recording_id} {line.address}", size=blob.size, content_type=line.content_type,
        stored_at=line.stored_at or line.kept_from, disposition=disposition(name, inline=playable),
        open=lambda: recording_files.open(number, blob),
    )  # fmt: skip
    # Links are made for the pages of other systems.
    more = (("Cross-Origin-Resource-Policy", "cross-origin"),) if linked else ()
    sent = {header.lower(): value for header, value in request.headers.items()}
    with bound(tenant=number):
        return _made(await file_answer(stored, request.method, sent, more))
