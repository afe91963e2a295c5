"""Posted events on disk while PostgreSQL is away: append-only segments below DATA_DIR/spool, replayed in order.

    append   records of a group behind the last segment, one fdatasync for all of them
    oldest   seals the segment that is written to and reads the oldest one whole
    drop     removes that one, after PostgreSQL has committed what it held

A record is its length, its CRC-32 and JSON. One that is cut short (a kill, a full disk) ends its segment: the records before
it are whole and stay. One that does not fit its sum ends it too, and the file is renamed `.damaged` for a person. There is
no cursor: a segment replayed twice is harmless, for the journal recognises a repeat.

Files are touched in one worker thread at a time, never in the event loop. Holds no token: bodies come without. It decides
nothing: read `actors/calls/posts.py` next for when it is used.
"""

import json
import logging
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.store.journal import CALLS, PostRow
from gateway.telemetry import COUNTERS

log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024
KNOWN = 100_000
"""How many of the spool's digests are remembered, so that a repeat is answered as one."""
_HEAD = struct.Struct(">II")
_DIGITS = 12
_SUFFIX = ".posts"


@dataclass(slots=True)
class Segment:
    """One file. `size` counts whole records alone."""

    path: Path
    records: int = 0
    size: int = 0
    oldest: float = 0.0
    """When its first post was received, in seconds since the epoch."""
    damaged: bool = False
    """What follows the whole records is no record cut short: the file is kept for a person."""


class Spool:
    """The segments of one DATA_DIR. `records`, `size` and `oldest_s` are figures for pages; any task may read them."""

    def __init__(self, folder: Path, limit: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.limit = limit
        self.records = 0
        """How many wait; those being written at this moment are counted already."""
        self.filled = trio.Event()
        """Set while records wait."""
        self._files = _Files(folder, limit, segment_bytes)
        self._thread = trio.CapacityLimiter(1)
        self._known: dict[tuple[TenantId, bytes], None] = {}
        self._writing = 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._files.size

    @property
    def oldest_s(self) -> float:
        """How long the oldest record has waited."""
        return self._files.oldest_s() if self.records else 0.0

    async def open(self) -> None:
        """Looks what an earlier process left. Raises Unavailable where the folder cannot be used."""
        try:
            left = await trio.to_thread.run_sync(self._files.open, limiter=self._thread)
        except OSError as error:
            raise Unavailable(f"spool: {error.strerror}") from None
        for row in left:
            self._remember(row)
        self._count()

    async def append(self, rows: Sequence[PostRow]) -> list[bool]:
        """Makes rows durable; for each whether it is new, as far as the spool knows. Raises Unavailable when the disk
        or the spool is full: then none of them is surely stored."""
        fresh: dict[tuple[TenantId, bytes], PostRow] = {}
        answers = []
        for row in rows:
            key = row.tenant, row.digest
            answers.append(key not in self._known and key not in fresh)
            if answers[-1]:
                fresh[key] = row
        if not fresh:
            return answers
        self._writing = len(fresh)
        self._count()
        try:
            await trio.to_thread.run_sync(self._files.append, list(fresh.values()), limiter=self._thread)
        except OSError as error:
            COUNTERS["posts_spool_refused"] += len(fresh)
            raise Unavailable(f"spool: {error.strerror}", after_s=5.0) from None
        finally:
            self._writing = 0
            self._count()
        COUNTERS["posts_spooled"] += len(fresh)
        for row in fresh.values():
            self._remember(row)
        return answers

    async def oldest(self) -> list[PostRow] | None:
        """The oldest segment's rows, in order; it is written to no more. None without one. Raises Unavailable."""
        try:
            return await trio.to_thread.run_sync(self._files.oldest, limiter=self._thread)
        except OSError as error:
            raise Unavailable(f"spool: {error.strerror}") from None

    async def drop(self) -> None:
        """Removes the segment that `oldest` read: PostgreSQL has it."""
        try:
            await trio.to_thread.run_sync(self._files.drop, limiter=self._thread)
        except OSError as error:
            raise Unavailable(f"spool: {error.strerror}") from None
        self._count()
        if not self.records:
            self._known.clear()  # from here on the journal knows

    async def aclose(self) -> None:
        """Closes the file that is written to."""
        await trio.to_thread.run_sync(self._files.close, limiter=self._thread)

    def _count(self) -> None:
        self.records = self._files.records + self._writing
        if self.records:
            self.filled.set()
        elif self.filled.is_set():
            self.filled = trio.Event()

    def _remember(self, row: PostRow) -> None:
        self._known[row.tenant, row.digest] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]


class _Files:
    """The folder. Runs in worker threads, one at a time."""

    def __init__(self, folder: Path, limit: int, segment_bytes: int) -> None:
        self._folder = folder
        self._limit = limit
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._fd = -1
        """The last segment, while it is written to."""
        self._next = 1

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self._segments)

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self._segments)

    def oldest_s(self) -> float:
        first = next((segment.oldest for segment in self._segments if segment.records), None)
        return max(0.0, time.time() - first) if first is not None else 0.0

    def open(self) -> list[PostRow]:
        """The last rows that earlier processes left; what the oldest segments hold is counted alone."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stored: deque[PostRow] = deque(maxlen=KNOWN)
        for path in sorted(self._folder.glob(f"{'[0-9]' * _DIGITS}{_SUFFIX}")):
            segment = Segment(path)
            self._next = int(path.name.removesuffix(_SUFFIX)) + 1
            for row in self._read(segment):
                stored.append(row)
                segment.oldest = segment.oldest or row.received_at.timestamp()
                segment.records += 1
            if segment.records:
                self._segments.append(segment)
            else:
                _remove(segment)
        if self._segments:
            log.warning("posted events of an earlier run wait in the spool", extra={"records": self.records})
        return list(stored)

    def append(self, rows: Sequence[PostRow]) -> None:
        data = b"".join(map(_framed, rows))
        if self.size + len(data) > self._limit:
            raise OSError(28, f"GATEWAY_SPOOL_MIB is used up ({self._limit >> 20} MiB)")
        if self._fd >= 0 and self._segments[-1].size + len(data) > self._segment_bytes:
            self.close()
        try:
            if self._fd < 0:
                self._begin()
            segment = self._segments[-1]
            _write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            if self._fd >= 0:
                # Nothing more goes into this file: after a failed fsync nobody knows what of it is on the disk.
                with suppress(OSError):
                    os.ftruncate(self._fd, self._segments[-1].size)
                self.close()
            raise
        segment.oldest = segment.oldest or rows[0].received_at.timestamp()
        segment.records += len(rows)
        segment.size += len(data)

    def oldest(self) -> list[PostRow] | None:
        if not self._segments:
            return None
        if len(self._segments) == 1:
            self.close()
        segment = self._segments[0]
        try:
            return list(self._read(segment))
        except FileNotFoundError:
            log.error("a file of the spool is gone", extra={"file": segment.path.name, "records": segment.records})
            return []

    def drop(self) -> None:
        _remove(self._segments[0])
        self._segments = self._segments[1:]

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            if not self._segments[-1].records:
                _remove(self._segments[-1])
                self._segments = self._segments[:-1]

    def _begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._next:0{_DIGITS}d}{_SUFFIX}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._next += 1
        self._segments.append(Segment(path))
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # the file's name has to last as its records do
        finally:
            os.close(folder)

    def _read(self, segment: Segment) -> Iterator[PostRow]:
        """The whole records from its beginning; `size` becomes theirs."""
        data = memoryview(segment.path.read_bytes())
        segment.size = at = 0
        while (frame := _frame_at(data, at)) is not None:
            row = _row_of(data, at, frame)
            if row is None:
                segment.damaged = True
                log.error("a record of the spool is not readable", extra={"file": segment.path.name, "offset": at})
                return
            at += _HEAD.size + len(frame)
            segment.size = at
            yield row
        if at < len(data):
            log.warning("a record of the spool was cut short", extra={"file": segment.path.name, "offset": at})


def _framed(row: PostRow) -> bytes:
    said = [row.tenant, row.address, row.unique_id, row.digest.hex(), row.received_at.isoformat(), row.body, row.stream]
    payload = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _frame_at(data: memoryview, at: int) -> memoryview | None:
    """The payload of the record that begins there, or None where it is cut short."""
    if len(data) - at < _HEAD.size:
        return None
    length, _ = _HEAD.unpack_from(data, at)
    payload = data[at + _HEAD.size : at + _HEAD.size + length]
    # A file that grew and was not written reads as zeros: a record of no length.
    return payload if 0 < length == len(payload) else None


def _row_of(data: memoryview, at: int, payload: memoryview) -> PostRow | None:
    """The content of the record, or None where its sum is wrong or another version wrote it."""
    if zlib.crc32(payload) != _HEAD.unpack_from(data, at)[1]:
        return None
    try:
        tenant, address, unique_id, digest, received_at, body, *more = json.loads(
            str(payload, "utf-8", "surrogatepass")
        )
        moment = datetime.fromisoformat(received_at).astimezone(UTC)
        stream = more[0] if more else CALLS  # what an older version has written holds posted call events alone
        return PostRow(TenantId(tenant), address, unique_id, bytes.fromhex(digest), body, moment, stream)
    except (ValueError, TypeError):
        return None


def _remove(segment: Segment) -> None:
    if segment.damaged:
        with suppress(FileNotFoundError):
            segment.path.rename(segment.path.with_suffix(".damaged"))
    else:
        segment.path.unlink(missing_ok=True)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
