"""Bytes that were read and not yet parsed: in memory, then on disk, in order, and bounded in both.

    put_nowait --> tail (memory) --> blocks (disk, compressed) --> head (memory) --> take
                         +-- while nothing is on the disk: straight to `take` --+

A reader that must never wait only adds to the tail. When the tail has grown past half its room, `spill` moves its oldest bytes
to the disk, a block at a time. So memory holds `room` bytes however long the other end is behind; when the disk takes no
more either, `put_nowait` raises Unavailable.

Files have no name (they are unlinked as they are opened) and so never outlive the process; each is closed once it was
read. All backlogs share a `Spills`: one limit, and a few threads. Knows nothing of what the bytes mean. Read
`adapters/asterisk/session.py` for the two ends.
"""

import errno
import os
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO

import trio

from adapters.spills import Spills
from gateway.domain.errors import Unavailable

BLOCK = 1024 * 1024
"""How much is compressed and written at once at most; AMI's text comes down to a tenth."""
FILE = 16 * 1024 * 1024
CHUNK = 64 * 1024
MOMENT = timedelta(milliseconds=20)
"""Reads within so short a time are one chunk."""
TRY_AGAIN_S = 1.0


@dataclass(slots=True)
class Chunk:
    """Bytes that came within a moment."""

    data: bytes | bytearray
    at: datetime
    """When the first of them came."""


@dataclass(slots=True)
class _Block:
    file: IO[bytes]
    offset: int
    size: int
    marks: list[tuple[int, datetime]]
    """Length and time of each chunk in it."""


class Backlog:
    """One writer, one reader, and `spill` beside them."""

    def __init__(self, room: int, spills: Spills | None = None) -> None:
        self._room = room
        self._spills = spills or Spills()
        self._tail: deque[Chunk] = deque()
        self._moving: list[Chunk] = []
        self._blocks: deque[_Block] = deque()
        self._head: deque[Chunk] = deque()
        self._file: IO[bytes] | None = None
        self._written = 0
        self._in_memory = 0
        self._on_disk = 0
        self._on_disk_packed = 0
        self._closed = False
        self._news = trio.Event()
        self._crowded = trio.Event()
        self.spilled = 0
        """Bytes that went by way of the disk, ever."""
        self.problem = ""
        """Why the disk takes nothing, while it does not."""

    def __len__(self) -> int:
        """How many bytes wait."""
        return self._in_memory + self._on_disk

    # The writer.

    def put_nowait(self, data: bytes | bytearray, at: datetime) -> None:
        """Adds bytes behind all others. Raises Unavailable when there is no room in memory and none is made on disk."""
        if self._in_memory + len(data) > self._room:
            why = f" ({self.problem})" if self.problem else ""
            raise Unavailable(
                f"more waits than the buffer of {self._room >> 20} MiB and the disk hold{why}",
                code="backlog_full",
                shown="",
            )
        last = self._tail[-1] if self._tail else None
        if last is not None and len(last.data) + len(data) <= CHUNK and at - last.at <= MOMENT:
            last.data += data
        else:
            self._tail.append(Chunk(bytearray(data), at))
        self._in_memory += len(data)
        self._news.set()
        if self._in_memory > self._room // 2:
            self._crowded.set()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._news.set()

    # The reader.

    async def take(self) -> Chunk:
        """The oldest chunk. Raises EndOfChannel once the last one of a closed backlog was taken. Cancelled, it has
        taken nothing."""
        await trio.lowlevel.checkpoint()
        while True:
            self._news = trio.Event()
            if not self._head and self._blocks:
                await self._read_block()
            if self._head:
                return self._taken(self._head)
            if not self._moving and self._tail:
                return self._taken(self._tail)
            if self._closed and not self._moving:
                raise trio.EndOfChannel
            await self._news.wait()

    def _taken(self, source: deque[Chunk]) -> Chunk:
        chunk = source.popleft()
        self._in_memory -= len(chunk.data)
        return chunk

    async def _read_block(self) -> None:
        block = self._blocks[0]
        # In the thread to its end, whoever is cancelled meanwhile.
        try:
            data = await trio.to_thread.run_sync(_read, block, limiter=self._spills.threads)
        except (OSError, EOFError, zlib.error):
            raise Unavailable("what was put on the disk cannot be read back") from None
        self._blocks.popleft()
        self._spills.used -= block.size
        self._on_disk_packed -= block.size
        self._on_disk -= len(data)
        self._in_memory += len(data)
        at = 0
        for length, when in block.marks:
            self._head.append(Chunk(data[at : at + length], when))
            at += length
        self._close_unless_needed(block.file)

    # The disk.

    async def spill(self) -> None:
        """Until cancelled: makes room in memory."""
        while True:
            await self._crowded.wait()
            while self._in_memory > self._room // 2 and self._tail:
                if not await self._move():
                    await trio.sleep(TRY_AGAIN_S)
            self._crowded = trio.Event()

    async def _move(self) -> bool:
        size = 0
        limit = min(BLOCK, self._room // 4)
        while self._tail and (not size or size + len(self._tail[0].data) <= limit):
            self._moving.append(self._tail.popleft())
            size += len(self._moving[-1].data)
        file = self._file if self._written < FILE else None
        try:
            data = b"".join(chunk.data for chunk in self._moving)
            if self._spills.folder and self._on_disk_packed >= self._spills.limit * self._spills.share:
                raise OSError(errno.ENOSPC, "its share of the disk is used up")
            block = await trio.to_thread.run_sync(
                _write, data, self._spills, file, self._written, limiter=self._spills.threads
            )
        except OSError as error:
            self._tail.extendleft(reversed(self._moving))
            self.problem = error.strerror or "no reason given"
            return False
        else:
            block.marks = [(len(chunk.data), chunk.at) for chunk in self._moving]
            self._blocks.append(block)
            old, self._file, self._written = self._file, block.file, block.offset + block.size
            self._close_unless_needed(old)
            self._spills.used += block.size
            self._on_disk_packed += block.size
            self._in_memory -= size
            self._on_disk += size
            self.spilled += size
            self.problem = ""
            return True
        finally:
            self._moving = []
            self._news.set()

    def _close_unless_needed(self, file: IO[bytes] | None) -> None:
        if file is not None and file is not self._file and not any(block.file is file for block in self._blocks):
            file.close()

    def discard(self) -> None:
        """Gives the disk back. What waited is gone."""
        self._spills.used -= sum(block.size for block in self._blocks)
        for file in {block.file for block in self._blocks} | ({self._file} if self._file is not None else set()):
            with suppress(OSError):
                file.close()
        self._blocks.clear()
        self._on_disk_packed = 0
        self._file = None


def _write(data: bytes, spills: Spills, file: IO[bytes] | None, at: int) -> _Block:
    """In a worker thread. Without a file, or with one that is long enough, into a new one."""
    packed = zlib.compress(data, 1)
    if file is None:
        file, at = spills.open(), 0
    try:
        if spills.used + len(packed) > spills.limit:
            raise OSError(errno.ENOSPC, "the limit of all spills is reached")
        rest, to = memoryview(packed), at
        while rest:
            written = os.pwrite(file.fileno(), rest, to)
            rest, to = rest[written:], to + written
    except OSError:
        if not at:
            file.close()
        raise
    return _Block(file, at, len(packed), [])


def _read(block: _Block) -> bytes:
    """In a worker thread."""
    packed = bytearray()
    while len(packed) < block.size:
        part = os.pread(block.file.fileno(), block.size - len(packed), block.offset + len(packed))
        if not part:
            raise EOFError("a spill is shorter than it was written")
        packed += part
    return zlib.decompress(packed)
