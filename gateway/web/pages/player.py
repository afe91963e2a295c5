"""The player on a call's page: the call's events drawn over its recording, and the text shown while there is none.

The recording is taken to end with the call, which is all that is known of its beginning; marks that would lie outside are
left out. The picture is SVG made here from the peaks that were measured when the file came. Pure but for the clock.
Read `gateway/web/api/recordings.py` for the file itself, `gateway/web/static/player.js` for the buttons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from gateway.domain import audio
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PATH, SHORT_LIFE
from gateway.store import recordings as store
from gateway.store.audit import insert_audit
from gateway.store.call_pages import EventLine
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import RecordingLine

WIDTH, HEIGHT = 600, 64


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, at so many seconds of the recording."""

    event: str
    said: str
    at_s: float
    x: float


@dataclass(frozen=True, slots=True)
class Player:
    """One recording as the page draws it."""

    line: RecordingLine
    src: str
    plays: bool
    """Whether browsers play this kind of sound; others are downloaded."""
    wave: str
    marks: Sequence[Mark]

    @property
    def waits(self) -> str:
        """Why it is not here, as the end of a key of the texts."""
        if self.line.state == "expected":
            return "to_fetch" if self.line.run_at is not None else "to_be_sent"
        return self.line.state


def wave_path(peaks: bytes) -> str:
    """The outline of the sound: a bar up and down for each peak."""
    middle, parts = HEIGHT / 2, []
    for place, peak in enumerate(peaks):
        half = max(0.6, peak / 255 * (middle - 1))
        x = (place + 0.5) * WIDTH / len(peaks)
        parts.append(f"M{x:.1f} {middle - half:.1f}V{middle + half:.1f}")
    return "".join(parts)


def players(
    tenant: Tenant, lines: Sequence[RecordingLine], call: Call, events: Sequence[tuple[EventLine, str, Any]]
) -> list[Player]:
    """All recordings of a call."""
    made = []
    for line in lines:
        marks: list[Mark] = []
        if line.duration_s and call.ended_at is not None:
            begins = call.ended_at - timedelta(seconds=line.duration_s)
            for event, sentence, _ in events:
                at_s = (event.at - begins).total_seconds()
                if -0.05 <= at_s <= line.duration_s + 0.05:
                    at_s = min(max(at_s, 0.0), line.duration_s)
                    marks.append(Mark(event.event, sentence, round(at_s, 2), round(at_s / line.duration_s * WIDTH, 1)))
        made.append(
            Player(
                line=line, src=f"{PATH}{line.recording_id}?tenant={tenant.number}",
                plays=line.content_type in audio.PLAYABLE, wave=wave_path(line.peaks) if line.peaks else "", marks=marks,
            )
        )  # fmt: skip
    return made


def recording_name(recording: str | None) -> str:
    """The PBX's name for its file. Of an address the host alone: the rest of it may be a password."""
    if recording is None:
        return ""
    try:
        parts = urlsplit(recording)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.scheme in ("http", "https") else recording
    except ValueError:
        return ""


def without_address(body: Mapping[str, Any]) -> dict[str, Any]:
    """An event's fields as a page shows them."""
    name = body.get("recording")
    return {**body, "recording": recording_name(name)} if isinstance(name, str) else dict(body)


def short_link(recording_files: RecordingFiles, tenant: TenantId, public_url: str, recording: UUID) -> str:
    """A link for ten minutes."""
    return recording_files.signer(tenant).link(public_url, recording, datetime.now(UTC) + SHORT_LIFE)


async def note_link(conn: Connection, tenant: TenantId, recording: UUID, who: str) -> RecordingLine | None:
    """Stores in the audit trail who took a link. Returns its recording; None where there is none to play."""
    line = await store.select_recording(conn, tenant, recording)
    if line is None or line.address is None:
        return None
    await insert_audit(conn, tenant, who, "recording.linked", line.call_id, str(recording))
    return line


async def retry(conn: Connection, tenant: TenantId, recording: UUID, who: str) -> str | None:
    """Makes the fetch due again. Returns the call, or None where there is no such recording."""
    line = await store.select_recording(conn, tenant, recording)
    if line is None:
        return None
    if await store.retry_recording(conn, tenant, recording):
        await insert_audit(conn, tenant, who, "recording.retried", line.call_id, str(recording))
    return line.call_id
