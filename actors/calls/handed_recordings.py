"""The recordings of one tenant's calls for clients that hand them on: what lies behind a link that a draft bears.

Implements `adapters.base.Recordings`. A link is made at the end of a call (`expected_recordings.py`), its file comes later.
"""

from dataclasses import dataclass
from uuid import UUID

from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PATH
from gateway.store import call_transcripts
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.errors import Unsealable
from gateway.store.recordings import select_recording


@dataclass(frozen=True, slots=True)
class TenantRecordings:
    """The recordings of one tenant."""

    files: RecordingFiles
    tenant: TenantId

    async def content_type(self, link: str) -> str:
        """As `adapters.base.Recordings`."""
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
        return line.content_type

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
