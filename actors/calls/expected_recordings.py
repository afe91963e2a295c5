"""Which recording a call that has ended is expected to have, and our link to it, made before its file is here.

Makes rows and links; never fetches: that is `actors.calls.recordings`, read it next.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import CallEnded, CallEvent, Result
from gateway.domain.recording_links import expects_posted, keep_days
from gateway.store.call_batches import ExpectedRow
from gateway.store.files.recording_files import RecordingFiles

MIX_S = 2.0
"""A PBX closes and mixes its file after the hangup; before that there is nothing to fetch."""


class ExpectedRecordings:
    """Of one tenant. Without `files` no call has a recording of ours."""

    def __init__(self, tenant: Tenant, files: RecordingFiles | None, public_url: str) -> None:
        self._tenant = tenant
        self._files = files
        self._public_url = public_url

    def with_link(
        self, source: str, call: Call, event: CallEvent, received_at: datetime, *, posted: bool
    ) -> tuple[Call, CallEvent, ExpectedRow | None]:
        """Call and event as outside systems are notified of them: where a recording is expected, with our link in place of
        the PBX's own name for it. The link is the same whenever it is made again; its file comes later, or never."""
        if self._files is None or not isinstance(event, CallEnded):
            return call, event, None
        due = posted and event.result is Result.ANSWERED and expects_posted(self._tenant)
        if event.recording is None and not due:
            return call, event, None
        number, reported = self._tenant.number, event.recording or ""
        signer = self._files.signer(number)
        has_address = re.match("https?://", reported) is not None
        row = ExpectedRow(
            recording_id=signer.recording_id(call.call_id), call_id=call.call_id,
            pbx="" if posted or has_address else source, reported="" if has_address else reported,
            url=self._files.seal_url(number, reported) if has_address else None, begins_at=call.started_at, ended_at=event.at,
            run_at=received_at + timedelta(seconds=MIX_S) if has_address or not posted else None,
        )  # fmt: skip
        until = event.at + timedelta(days=keep_days(self._tenant))
        link = signer.link(self._public_url, row.recording_id, until)
        return replace(call, recording=link), replace(event, recording=link), row
