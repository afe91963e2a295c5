"""Sealed files: a file is sealed as it comes, gets its row, and is read back in ranges.

    pieces -> spool (sealed as they come) -> object in the blob store -> row        the row is what makes it exist

Each arrow is durable before the next begins, so a crash leaves at most a file in the spool, which the next start removes,
or an object that no row names, which the janitor removes. Equal bytes are stored once a tenant, whatever names them: their
address is a keyed hash, and the second sender's copy is deleted. No other module knows keys or objects. Their rows are
`recording_blobs`, named after what they held first: that name is bound into the sealed keys. What is stored so is a subclass:
read `recording_files.py` and `chat_files.py` next.
"""

import base64
import errno
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

import trio

from gateway.domain.errors import TooLarge, Unavailable
from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store import recordings as rows
from gateway.store.files.blobs import BlobStore, Missing
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, Database
from gateway.store.recordings import BlobRow
from gateway.store.secrets.seal import Sealer
from gateway.store.secrets.sealed_file import CHUNK, HEADER, Sealed, SealedReader, SealedWriter, part_of, sealed_size

SPARE = 256 * 1024 * 1024
"""So much of the disk stays free for the database and the log."""
STRETCH = 4
"""Chunks that are read and opened at a time."""
_TABLE, _COLUMN = "recording_blobs", "file_key"
TURNS = 3

Outcome = Literal["accepted", "duplicate"]
Arrive = Callable[[Connection, BlobRow], Awaitable[Outcome]]
"""Gives the file to the row that names it, in the transaction that stores where it lies."""
A = TypeVar("A")
T = TypeVar("T")


class Incoming:
    """One file that is coming in. Used as `async with`: whatever was not stored leaves nothing behind."""

    def __init__(self, writer: SealedWriter, limiter: trio.CapacityLimiter, largest: int) -> None:
        self._writer = writer
        self._limiter = limiter
        self._largest = largest
        self._held = bytearray()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._writer.size + len(self._held)

    async def write(self, data: bytes) -> None:
        """The next piece. Raises TooLarge, or Unavailable where the disk is full."""
        if self.size + len(data) > self._largest:
            raise TooLarge(f"larger than {self._largest >> 20} MiB")
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
        failure = Unavailable(f"the spool of files: {error.strerror}", after_s=30.0)
    raise failure


class Opened:
    """A file that can be read from anywhere."""

    def __init__(self, size: int, reader: SealedReader, name: str, files: "SealedFiles") -> None:
        self.size = size
        self._reader = reader
        self._object = name
        self._files = files

    def read(self, start: int, end: int) -> "Pieces":
        """The bytes from `start` up to but not `end`, a stretch at a time."""
        return Pieces(self, start, end)

    async def stretch(self, number: int, last: int) -> bytes:
        """The chunks from `number` on, a few of them and none behind `last`. Raises Unsealable where the file was changed,
        Unavailable, Missing."""
        part = part_of(self.size, number, min(number + STRETCH - 1, last))
        sealed = await self._files.blobs.read(self._object, part.start, part.length)
        return await trio.to_thread.run_sync(self._reader.open, part, sealed, limiter=self._files.limiter)


class Pieces:
    """Some of a file's bytes, to be iterated over. No generator: one that is left halfway would be closed by whoever collects
    garbage."""

    def __init__(self, opened: Opened, start: int, end: int) -> None:
        self._opened, self._start, self._end = opened, start, end
        self._number, self._last = start // CHUNK, (end - 1) // CHUNK

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        """Raises what `Opened.stretch` does."""
        if self._number > self._last:
            raise StopAsyncIteration
        before = self._number * CHUNK
        plain = await self._opened.stretch(self._number, self._last)
        self._number += STRETCH
        return plain[max(0, self._start - before) : self._end - before]


class SealedFiles:
    """All files of one use. Several share the spool and the blob store."""

    largest: int
    """Bytes of one file."""

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

    def keys(self, tenant: TenantId) -> Sealer:
        """The tenant's keys. Raises Unavailable for one that is not known (any more)."""
        sealer = self._sealer(tenant)
        if sealer is None:
            raise Unavailable("the tenant's key is not known yet", after_s=2.0)
        return sealer

    # In

    async def new_file(self) -> Incoming:
        """Begins a file in the spool. Raises Unavailable where the disk is nearly full."""
        path = self._spool / f"{secrets.token_hex(16)}.part"
        writer = await _on_disk(self._begin, path, self.limiter)
        return Incoming(writer, self.limiter, self.largest)

    def _begin(self, path: Path) -> SealedWriter:
        if shutil.disk_usage(self._spool).free < self.largest + SPARE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return SealedWriter(path)

    async def store(self, tenant: TenantId, sealed: Sealed, arrive: Arrive) -> Outcome:
        """Gives a finished file to its place and then to its row."""
        keys = self.keys(tenant)
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
            outcome, in_force = await self.db.tenant(tenant, _arrived, tenant, ours, fresh, known, arrive)
            if fresh and in_force != ours.object:
                with suppress(Unavailable):  # else the janitor's
                    await self.blobs.delete(ours.object)
            if outcome is not None:
                return outcome
            # The equal file went away while we looked at it: then ours is the one.
        raise Unavailable("the file could not be stored", after_s=5.0)

    # Out

    async def open(self, tenant: TenantId, blob: BlobRow) -> Opened:
        """Raises Unsealable where the file is not what was stored, Unavailable where it is not there."""
        secret = self.keys(tenant).open(blob.file_key, table=_TABLE, column=_COLUMN, row=blob.address)
        try:
            header = await self.blobs.read(blob.object, 0, HEADER)
        except Missing:
            header = None
        if header is None:
            raise Unsealable("its file is gone")
        return Opened(blob.size, SealedReader(base64.b64decode(secret.reveal()), header, blob.size), blob.object, self)


async def _arrived(
    conn: Connection, tenant: TenantId, ours: BlobRow, fresh: bool, known: BlobRow | None, arrive: Arrive
) -> tuple[Outcome | None, str]:  # fmt: skip
    """One transaction: the file's row, then that of what it is. (None, …) where the file that was known is gone."""
    blob = await rows.name_blob(conn, tenant, ours, fresh=fresh)
    if blob is None:
        return None, ""
    if fresh and known is not None and blob.object == known.object:
        await rows.replace_blob(conn, tenant, ours)
        blob = ours
    return await arrive(conn, blob), blob.object
