"""The recordings of one tenant's calls for clients that hand them on: what lies behind a link that a draft bears.

Implements `adapters.base.Recordings`. A link is made at the end of a call (`expected_recordings.py`), its file comes later.
"""

from dataclasses import dataclass
from uuid import UUID

from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PATH
from gateway.store.files.recording_files import RecordingFiles
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
