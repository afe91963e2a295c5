"""The text of a recording beside its player: what was said when, by whom, its summary, and why there is none. Pure but for opening.

Who may hear a recording may read its text. Read `gateway/store/call_transcripts.py` for the rows, `player.py` for the sound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError

from gateway.domain.ai import CallsBlock, settings_of
from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.ids import CallId, TenantId
from gateway.domain.people import took_part
from gateway.domain.transcripts import MOST_SEARCHED, WORDS_PURPOSE, clock, hashed, speaker, unpacked
from gateway.store import call_transcripts as store
from gateway.store.audit import insert_audit
from gateway.store.call_transcripts import BODY, SUMMARY, TABLE, TranscriptRow
from gateway.store.calls import select_calls
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection
from gateway.store.secrets.seal import Sealer


@dataclass(frozen=True, slots=True)
class Spoken:
    """Some words, and where they are in the recording."""

    at_s: float
    clock: str
    speaker: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The text of one recording as the page shows it."""

    row: TranscriptRow
    spoken: Sequence[Spoken]
    summary: str
    consent: str
    on: bool
    """Whether the company has its calls transcribed now."""
    unreadable: bool = False

    @property
    def said(self) -> str:
        """What there is to say of it, as the end of a key of the texts; empty where the text speaks for itself."""
        row = self.row
        if self.unreadable:
            return "unreadable"
        if row.state == "waiting":
            if row.under_way:
                return "under_way"
            return "off" if not self.on else "again" if row.problem else "waiting"
        return "no_speech" if row.state == "done" and not self.spoken else row.state if row.state != "done" else ""

    @property
    def may_retry(self) -> bool:
        """Whether a person can do something by asking again."""
        row = self.row
        waits = row.state == "waiting" and bool(row.problem) and not row.under_way
        return self.on and (waits or row.state == "failed" or (row.state == "done" and bool(row.problem)))


def calls_settings(tenant: Tenant) -> CallsBlock:
    """What the company says of its calls; the defaults where its settings are not valid."""
    try:
        return settings_of(tenant.options, {}).calls
    except ValidationError:
        return CallsBlock()


def transcripts(
    tenant: Tenant, rows: Sequence[TranscriptRow], keys: Sealer | None, language: str
) -> Mapping[UUID, Transcript]:
    """The texts of a call's recordings, by recording."""
    return {row.recording_id: _opened(tenant, row, keys, language) for row in rows}


def _opened(tenant: Tenant, row: TranscriptRow, keys: Sealer | None, language: str) -> Transcript:
    settings = calls_settings(tenant)
    consent = str(getattr(settings.consent, language)) if settings.consent is not None else ""
    body, summary, unreadable = "", "", keys is None
    if keys is not None:
        place = str(row.recording_id)
        try:
            body = keys.open(row.body, table=TABLE, column=BODY, row=place).reveal() if row.body else ""
            summary = keys.open(row.summary, table=TABLE, column=SUMMARY, row=place).reveal() if row.summary else ""
        except Unsealable:
            unreadable = True
    spoken = [
        Spoken(one.start_s, clock(one.start_s), speaker(one.channel, settings.first_channel, language), one.text)
        for one in unpacked(body)
    ]
    return Transcript(
        row=row, spoken=spoken, summary=summary, consent=consent, on=settings.transcribe, unreadable=unreadable
    )


async def retry(conn: Connection, tenant: TenantId, recording: UUID, who: str) -> str | None:
    """Makes a text due again. Returns the call, or None where there is no such text."""
    row = await store.select_transcript(conn, tenant, recording)
    if row is None:
        return None
    if await store.retry_transcript(conn, tenant, recording):
        await insert_audit(conn, tenant, who, "transcript.retried", row.call_id, str(recording))
    return row.call_id


async def find_spoken(
    conn: Connection, tenant: TenantId, text: str, keys: Sealer, most: int, only: Sequence[str] | None
) -> list[Call]:
    """The newest calls in which all words of `text` were said, in any form; of those that these internal numbers talked in."""
    lexemes = await store.select_lexemes(conn, text)
    if not lexemes:
        return []
    words = hashed(lexemes[:MOST_SEARCHED], keys.derive(WORDS_PURPOSE))
    ids = await store.find_calls_by_words(conn, tenant, words, most)
    known = {call.call_id: call for _, call in await select_calls(conn, tenant, ids)}
    found = (known[CallId(one)] for one in ids if one in known)
    return [call for call in found if not call.open and (only is None or took_part(call, only))]
