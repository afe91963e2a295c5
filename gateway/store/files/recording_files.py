"""The files of recordings: which call a file belongs to, and where it is to be fetched from.

How files are stored is `sealed_files.py`'s. Read `gateway/store/recordings.py` for the rows, `actors/calls/recordings.py` for
fetching and retention.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from gateway.domain.errors import TooLarge
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PURPOSE, Signer
from gateway.domain.secret import Secret
from gateway.store import recordings as rows
from gateway.store.files.sealed_files import Incoming, Outcome, SealedFiles
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection
from gateway.store.recording_queue import Fetch
from gateway.store.recordings import BlobRow, Content
from gateway.store.secrets.sealed_file import Sealed

__all__ = ["LARGEST", "Incoming", "RecordingFiles", "TooLarge"]

LARGEST = 200 * 1024 * 1024
"""Bytes of one recording."""


class RecordingFiles(SealedFiles):
    """All recordings of the installation."""

    largest = LARGEST

    def signer(self, tenant: TenantId) -> Signer:
        """Makes and judges the tenant's links. Raises Unavailable for a tenant that is not known (any more)."""
        return Signer(tenant, self.keys(tenant).derive(PURPOSE))

    def seal_url(self, tenant: TenantId, url: str) -> str:
        """An address to fetch from, as its row stores it. Not bound to the row's id, which changes when a loose recording
        joins its call."""
        return self.keys(tenant).seal(Secret(url), table="recordings", column="url", row="")

    def open_url(self, tenant: TenantId, sealed: str) -> Secret:
        """The inverse. Raises Unsealable."""
        return self.keys(tenant).open(sealed, table="recordings", column="url", row="")

    async def keep(
        self, tenant: TenantId, sealed: Sealed, unique_id: str, pbxes: Sequence[str], file_name: str
    ) -> Outcome:
        """Gives an uploaded file to its call, known or not yet. "duplicate" where that call has this very sound."""
        signer = self.signer(tenant)
        ids = [unique_id, *(f"{name}-{unique_id}" for name in pbxes)]

        async def arrive(conn: Connection, blob: BlobRow) -> Outcome:
            content = _content(blob, sealed, file_name)
            known = await rows.select_known_call(conn, tenant, ids)
            call_id = known or unique_id
            there = await rows.select_for_arrival(conn, tenant, [call_id])
            if any(address == content.blob.address for _, _, address in there):
                return "duplicate"
            for recording, state, _ in there:
                if state != "stored" and await rows.fill_recording(conn, tenant, recording, content):
                    return "accepted"
            first, loose = signer.recording_id(call_id), known is None
            if there or not await rows.insert_recording(conn, tenant, first, call_id, content, loose=loose):
                further = signer.recording_id(call_id, content.blob.address)
                await rows.insert_recording(conn, tenant, further, call_id, content, loose=loose)
            return "accepted"

        return await self.store(tenant, sealed, arrive)

    async def ask_for(self, tenant: TenantId, url: str, unique_id: str, pbxes: Sequence[str]) -> Outcome:
        """Notes that a call's recording is to be fetched from there; "duplicate" where that was requested before."""
        signer, sealed = self.signer(tenant), self.seal_url(tenant, url)
        ids = [unique_id, *(f"{name}-{unique_id}" for name in pbxes)]

        def same(known: str | None) -> bool:
            with suppress(Unsealable):
                return known is not None and self.open_url(tenant, known) == Secret(url)
            return False

        async def note(conn: Connection) -> Outcome:
            known = await rows.select_known_call(conn, tenant, ids)
            call_id = known or unique_id
            there = await rows.select_urls(conn, tenant, call_id)
            for recording, _, stored in there:
                if same(stored):
                    return "accepted" if await rows.retry_failed(conn, tenant, recording) else "duplicate"
            for recording, state, _ in there:
                if state != "stored":
                    await rows.set_url(conn, tenant, recording, sealed)
                    return "accepted"
            further = (hashlib.sha256(url.encode()).hexdigest(),) if there else ()
            recording = signer.recording_id(call_id, *further)
            await rows.insert_expected(conn, tenant, recording, call_id, sealed, loose=known is None)
            return "accepted"

        return await self.db.tenant(tenant, note)

    async def keep_fetched(self, fetch: Fetch, sealed: Sealed, file_name: str) -> None:
        """Gives a fetched file to the recording it was fetched for."""

        async def arrive(conn: Connection, blob: BlobRow) -> Outcome:
            content = _content(blob, sealed, file_name)
            done = await rows.fill_recording(conn, fetch.tenant, fetch.recording_id, content, fetch.epoch)
            return "accepted" if done else "duplicate"

        await self.store(fetch.tenant, sealed, arrive)


def _content(blob: BlobRow, sealed: Sealed, file_name: str) -> Content:
    return Content(
        blob=blob, content_type=sealed.content_type, file_name=file_name, duration_s=sealed.duration_s,
        peaks=sealed.peaks,
    )  # fmt: skip
