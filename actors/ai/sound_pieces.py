"""A stored recording piece by piece, as it is sent to be transcribed: read, opened and cut, one piece in memory at a time.

Where it goes on is a number of bytes, so that a restart repeats no piece. Read `gateway/domain/sound.py` for how files are cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from gateway.domain.sound import (
    HEAD_BYTES,
    PIECE_BYTES,
    WHOLE_BYTES,
    Piece,
    Samples,
    cut_mp3,
    cut_wav,
    find_samples,
    whole,
)
from gateway.store.files.sealed_files import Opened

SENDABLE = frozenset({"audio/wav", "audio/mpeg", "audio/ogg", "audio/mp4", "audio/flac"})
"""What servers for transcription take."""
UNKNOWN_S = 60.0
"""How long a file lasts of which that is not known."""


class NotSendable(Exception):
    """A file of which no text can be made. `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Pieces:
    """One recording."""

    opened: Opened
    content_type: str
    seconds: float
    """How long it lasts, as far as that is known."""
    samples: Samples | None
    limiter: trio.CapacityLimiter

    async def next(self, reached: int) -> Piece | None:
        """What follows `reached`, which is what earlier pieces took together; None at the end. Raises NotSendable, Unavailable, and what
        an opened file raises."""
        if self.samples is not None:
            left = (self.samples.size - reached) // self.samples.format.frame * self.samples.format.frame
            if left <= 0:
                return None
            size = min(left, self.samples.piece_size)
            data = await self._read(self.samples.start + reached, size)
            return await self._in_thread(partial(cut_wav, self.samples.format, data, last=size == left))
        left = self.opened.size - reached
        if left <= 0:
            return None
        if self.content_type == "audio/mpeg":
            size = min(left, PIECE_BYTES)
            data = await self._read(reached, size)
            if (piece := await self._in_thread(partial(cut_mp3, data, last=size == left))) is not None:
                return piece
            if reached:
                return None  # what stands behind the last frame is no sound
        if left > WHOLE_BYTES:
            raise NotSendable("too_large")
        return whole(await self._read(reached, left), self.content_type, self.seconds)

    async def _read(self, start: int, size: int) -> bytes:
        return b"".join([stretch async for stretch in self.opened.read(start, start + size)])

    async def _in_thread(self, work: Callable[[], Piece | None]) -> Piece | None:
        return await trio.to_thread.run_sync(work, limiter=self.limiter)


async def open_pieces(
    opened: Opened, content_type: str, seconds: float | None, limiter: trio.CapacityLimiter
) -> Pieces:
    """A recording from its beginning. Raises NotSendable for what no server takes."""
    if content_type not in SENDABLE:
        raise NotSendable("format")
    samples = None
    if content_type == "audio/wav":
        head = b"".join([one async for one in opened.read(0, min(HEAD_BYTES, opened.size))])
        samples = find_samples(head, opened.size)
    return Pieces(opened, content_type, seconds or UNKNOWN_S, samples, limiter)
