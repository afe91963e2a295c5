"""The files of recordings: a file is sealed as it comes, gets its row, and is read back in ranges.

    pieces -> spool (sealed as they come) -> object in the blob store -> row        the row is what makes it exist

Each arrow is durable before the next begins, so a crash leaves at most a file in the spool, which the next start removes,
or an object that no row names, which the janitor removes. Equal sound is stored once a tenant: its address is a keyed hash,
and the second sender's copy is deleted. No other module knows keys or objects. Read `gateway/store/recordings.py` for the rows,
`actors/calls/recordings.py` for fetching and retention.
"""

import base64
import errno
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import trio

from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.recording_links import PURPOSE, Signer
from gateway.domain.secret import Secret
from gateway.store import recordings as rows
from gateway.store.files.blobs import BlobStore, Missing
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, Database
from gateway.store.recording_queue import Fetch
from gateway.store.recordings import BlobRow, Content
from gateway.store.secrets.seal import Sealer
from gateway.store.secrets.sealed_file import CHUNK, HEADER, Sealed, SealedReader, SealedWriter, part_of, sealed_size

LARGEST = 200 * 1024 * 1024
"""Bytes of one recording."""
SPARE = 256 * 1024 * 1024
"""So much of the disk stays free for the database and the log."""
STRETCH = 4
"""Chunks that are read and opened at a time."""
_TABLE, _COLUMN = "recording_blobs", "file_key"
TURNS = 3

Outcome = Literal["accepted", "duplicate"]
Arrive = Callable[[Connection, Content], Awaitable[Outcome]]
A = TypeVar("A")
T = TypeVar("T")


class TooLarge(Rejected):
    """The file is larger than 200 MiB."""

    problem_code = "PAYLOAD_TOO_LARGE"


class Incoming:
    """One file that is coming in. Used as `async with`: whatever was not stored leaves nothing behind."""

    def __init__(self, writer: SealedWriter, limiter: trio.CapacityLimiter) -> None:
        self._writer = writer
        self._limiter = limiter
        self._held = bytearray()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._writer.size + len(self._held)

    async def write(self, data: bytes) -> None:
        """The next piece. Raises TooLarge, or Unavailable where the disk is full."""
        if self.size + len(data) > LARGEST:
            raise TooLarge
        self._held += data
        if len(self._held) >= STRETCH * CHUNK:
            piece, self._held = bytes(self._held), bytearray()
            await _on_disk(self._write, piece, self._limiter)

    def _write(self, piece: bytes) -> None:
        """Looks at the disk each time: many files that begin together have all seen the same free space."""
        if shutil.disk_usage(self._writer.path.parent).free < SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._writer.write(piece)

    async def finish(self, name: str) -> Sealed:
        """The whole file, durable in the spool."""
        if self._held:
            await _on_disk(self._writer.write, bytes(self._held), self._limiter)
            self._held.clear()
        return await _on_disk(self._writer.finish, name, self._limiter)

    async def __aenter__(self) -> "Incoming":
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True), suppress(OSError):
            await trio.to_thread.run_sync(self._writer.discard)


async def _on_disk(work: Callable[[A], T], given: A, limiter: trio.CapacityLimiter) -> T:
    try:
        return await trio.to_thread.run_sync(work, given, limiter=limiter)
    except OSError as error:
        failure = Unavailable(f"the spool of recordings: {error.strerror}", after_s=30.0)
    raise failure


@dataclass(frozen=True)
class Opened:
    """A recording that can be read from anywhere."""

    size: int
    _reader: SealedReader
    _object: str
    _recording_files: "RecordingFiles"

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not `end`. Raises Unsealable where the file was changed, Unavailable."""
        number, last = start // CHUNK, (end - 1) // CHUNK
        while number <= last:
            part = part_of(self.size, number, min(number + STRETCH - 1, last))
            sealed = await self._recording_files.blobs.read(self._object, part.start, part.length)
            plain = await trio.to_thread.run_sync(
                self._reader.open, part, sealed, limiter=self._recording_files.limiter
            )
            before = part.first * CHUNK
            yield plain[max(0, start - before) : end - before]
            number = part.last + 1


class RecordingFiles:
    """All recordings of the installation."""

    def __init__(
        self,
        db: Database,
        blobs: BlobStore,
        spool: Path,
        sealer: Callable[[TenantId], Sealer | None],
        *,
        at_once: int = 8,
    ) -> None:
        self.db = db
        self.blobs = blobs
        self.limiter = trio.CapacityLimiter(at_once)
        self._spool = spool
        self._sealer = sealer

    def clean_spool(self) -> None:
        """Removes what an earlier process left half done. Blocks; to be called before anything comes in."""
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._spool.iterdir():
            if left.suffix == ".part":
                left.unlink(missing_ok=True)

    def signer(self, tenant: TenantId) -> Signer:
        """Makes and judges the tenant's links. Raises Unavailable for a tenant that is not known (any more)."""
        return Signer(tenant, self._keys(tenant).derive(PURPOSE))

    def seal_url(self, tenant: TenantId, url: str) -> str:
        """An address to fetch from, as its row stores it. Not bound to the row's id, which changes when a loose recording
        joins its call."""
        return self._keys(tenant).seal(Secret(url), table="recordings", column="url", row="")

    def open_url(self, tenant: TenantId, sealed: str) -> Secret:
        """The inverse. Raises Unsealable."""
        return self._keys(tenant).open(sealed, table="recordings", column="url", row="")

    def _keys(self, tenant: TenantId) -> Sealer:
        sealer = self._sealer(tenant)
        if sealer is None:
            raise Unavailable("the tenant's key is not known yet", after_s=2.0)
        return sealer

    # In

    async def new_file(self) -> Incoming:
        """Begins a file in the spool. Raises Unavailable where the disk is nearly full."""
        path = self._spool / f"{secrets.token_hex(16)}.part"
        writer = await _on_disk(self._begin, path, self.limiter)
        return Incoming(writer, self.limiter)

    def _begin(self, path: Path) -> SealedWriter:
        if shutil.disk_usage(self._spool).free < LARGEST + SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return SealedWriter(path)

    async def keep(
        self, tenant: TenantId, sealed: Sealed, unique_id: str, pbxes: Sequence[str], file_name: str
    ) -> Outcome:
        """Gives an uploaded file to its call, known or not yet. "duplicate" where that call has this very sound."""
        signer = self.signer(tenant)
        ids = [unique_id, *(f"{name}-{unique_id}" for name in pbxes)]

        async def arrive(conn: Connection, content: Content) -> Outcome:
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

        return await self._keep(tenant, sealed, file_name, arrive)

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

        async def arrive(conn: Connection, content: Content) -> Outcome:
            done = await rows.fill_recording(conn, fetch.tenant, fetch.recording_id, content, fetch.epoch)
            return "accepted" if done else "duplicate"

        await self._keep(fetch.tenant, sealed, file_name, arrive)

    async def _keep(self, tenant: TenantId, sealed: Sealed, file_name: str, arrive: Arrive) -> Outcome:
        keys = self._keys(tenant)
        address = hmac.digest(keys.derive("addresses of recordings"), sealed.digest, hashlib.sha256).hex()
        for _ in range(TURNS):
            known = await self.db.tenant(tenant, rows.select_blob, tenant, address)
            if known is not None and await self.blobs.size(known.object) == sealed_size(known.size):
                ours, fresh = known, False
            else:
                key = keys.seal(
                    Secret(base64.b64encode(sealed.key).decode()), table=_TABLE, column=_COLUMN, row=address
                )
                ours = BlobRow(address, f"{tenant}/{address}-{secrets.token_hex(8)}", key, sealed.size)
                fresh = True
                await self.blobs.put(sealed, ours.object)
            outcome, in_force = await self.db.tenant(
                tenant, _arrived, tenant, ours, fresh, known, sealed, file_name, arrive
            )
            if fresh and in_force != ours.object:
                with suppress(Unavailable):  # else the janitor's
                    await self.blobs.delete(ours.object)
            if outcome is not None:
                return outcome
            # The equal sound went away while we looked at it: then ours is the one.
        raise Unavailable("the recording could not be stored", after_s=5.0)

    # Out

    async def open(self, tenant: TenantId, blob: BlobRow) -> Opened:
        """Raises Unsealable where the file is not what was stored, Unavailable where it is not there."""
        secret = self._keys(tenant).open(blob.file_key, table=_TABLE, column=_COLUMN, row=blob.address)
        try:
            header = await self.blobs.read(blob.object, 0, HEADER)
        except Missing:
            header = None
        if header is None:
            raise Unsealable("a recording: its file is gone")
        return Opened(blob.size, SealedReader(base64.b64decode(secret.reveal()), header, blob.size), blob.object, self)


async def _arrived(
    conn: Connection, tenant: TenantId, ours: BlobRow, fresh: bool, known: BlobRow | None, sealed: Sealed,
    file_name: str, arrive: Arrive,
) -> tuple[Outcome | None, str]:  # fmt: skip
    """One transaction: the sound's row, then the recording's. (None, …) where the sound that was known is gone."""
    blob = await rows.name_blob(conn, tenant, ours, fresh=fresh)
    if blob is None:
        return None, ""
    if fresh and known is not None and blob.object == known.object:
        await rows.replace_blob(conn, tenant, ours)
        blob = ours
    content = Content(
        blob=blob, content_type=sealed.content_type, file_name=file_name, duration_s=sealed.duration_s,
        peaks=sealed.peaks,
    )  # fmt: skip
    return await arrive(conn, content), blob.object
