"""The recordings of one tenant's calls for clients that hand them on: what lies behind a link that a draft bears.

Implements `adapters.base.Recordings`. A link is made at the end of a call (`expected_recordings.py`), its file comes later.
"""

from dataclasses import dataclass
from uuid import UUID

from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PATH
from gateway.store import call_transcripts
from gateway.store.files.blobs import Missing
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.errors import Unsealable
from gateway.store.recordings import RecordingLine, select_opened, select_recording


@dataclass(frozen=True, slots=True)
class TenantRecordings:
    """The recordings of one tenant."""

    files: RecordingFiles
    tenant: TenantId

    async def content_type(self, link: str) -> str:
        """As `adapters.base.Recordings`."""
        return (await self._stored(link)).content_type

    async def content(self, link: str, most: int) -> bytes | None:
        """As `adapters.base.Recordings`."""
        line = await self._stored(link)
        found = await self.files.db.tenant(self.tenant, select_opened, self.tenant, line.recording_id)
        if found is None or found[1] is None:
            raise Rejected("the recording is gone")
        try:
            opened = await self.files.open(self.tenant, found[1])
            if opened.size > most:
                return None
            return b"".join([piece async for piece in opened.read(0, opened.size)])
        except (Unsealable, Missing):
            failure = Rejected("the recording does not open any more")
        raise failure

    async def _stored(self, link: str) -> RecordingLine:
        """The recording behind a link. Raises NotYet, Rejected."""
        _, found, rest = link.partition(PATH)
        try:
            recording = UUID(rest.partition("?")[0])
        except ValueError:
            recording = None
        if not found or recording is None:
            raise Rejected("the address is no recording of ours")
        line = await self.files.db.tenant(self.tenant, select_recording, self.tenant, recording)
        if line is None:
            raise Rejected("the recording is gone")
        if line.state == "failed":
            raise Rejected(f"the recording was not fetched: {line.problem or 'failed'}")
        if line.state != "stored":
            raise NotYet("the recording is not there yet")
        return line

    async def summary(self, recording_id: str) -> str:
        """As `adapters.base.Recordings`."""
        try:
            recording = UUID(recording_id)
        except ValueError:
            raise Rejected("there is no such recording") from None
        row = await self.files.db.tenant(self.tenant, call_transcripts.select_transcript, self.tenant, recording)
        if row is None or not row.summary:
            raise Rejected("the summary is gone")
        try:
            keys = self.files.keys(self.tenant)
            return keys.open(
                row.summary, table=call_transcripts.TABLE, column=call_transcripts.SUMMARY, row=recording_id
            ).reveal()
        except Unsealable:
            raise Rejected("the summary does not open") from None
