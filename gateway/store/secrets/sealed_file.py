"""A file sealed as it comes and opened from anywhere in the middle: AES-256-GCM in chunks, the STREAM construction.

    header   "gwrec1\\0\\0", 7 random bytes that begin every nonce, a zero byte
    chunk    64 KiB of plain text as 64 KiB + 16; nonce = the 7 bytes, the chunk's number, 1 for the last and 0 before

A chunk opens only in its own file, at its own place, with the last one last: moved, repeated, left out or cut off, none of
it opens. The key belongs to this one file; its owner seals it for tenant and content address (`gateway/store/recordings.py`), so a file
that is copied elsewhere does not open there either. The plain text is never on disk.

Blocking and pure of Trio: `gateway/store/files/sealed_files.py` calls it in threads. Read that next.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.domain.audio import Waveform, content_type
from gateway.store.postgres.errors import Unsealable

CHUNK = 64 * 1024
TAG = 16
_MAGIC = b"gwrec1\0\0"
_PREFIX = 7
HEADER = len(_MAGIC) + _PREFIX + 1
_HEAD_LOOKED_AT = 8192
"""Bytes from the beginning by which a file's type is known."""


def _bound(header: bytes, number: int, *, last: bool) -> tuple[bytes, bytes]:
    """The nonce of a chunk, and what it is bound to."""
    place = number.to_bytes(4, "big") + (b"\1" if last else b"\0")
    return header[len(_MAGIC) : len(_MAGIC) + _PREFIX] + place, header + place


def chunks_of(size: int) -> int:
    """How many chunks a plain text of so many bytes, at least one, is cut into."""
    return -(-size // CHUNK)


def sealed_size(size: int) -> int:
    """Bytes of the sealed file."""
    return HEADER + size + TAG * chunks_of(size)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished file in the spool, durable there."""

    path: Path
    key: bytes
    size: int
    """Of the plain text."""
    digest: bytes
    """SHA-256 of the plain text."""
    sealed_digest: bytes
    """SHA-256 of the sealed file, for stores that check what they are given."""
    content_type: str
    """As sound, by its first bytes and its name."""
    duration_s: float | None
    peaks: bytes | None
    head: bytes
    """How the plain text begins: at most 8 KiB."""


class SealedWriter:
    """Writes one new file. `write`, then `finish` or `discard`; all of them block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._key = AESGCM.generate_key(bit_length=256)
        self._cipher = AESGCM(self._key)
        self._header = _MAGIC + os.urandom(_PREFIX) + b"\0"
        self._pending = bytearray()
        self._number = 0
        self._head = b""
        self._plain, self._whole = hashlib.sha256(), hashlib.sha256()
        self._waveform = Waveform()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._put(self._header)
        except OSError:
            self.discard()
            raise

    def write(self, data: bytes) -> None:
        """The next piece of the plain text."""
        self.size += len(data)
        if len(self._head) < _HEAD_LOOKED_AT:
            self._head += data[: _HEAD_LOOKED_AT - len(self._head)]
        self._plain.update(data)
        self._waveform.feed(data)
        self._pending += data
        # A full chunk is held back until more comes: the last one is marked as such.
        while len(self._pending) > CHUNK:
            self._seal(bytes(self._pending[:CHUNK]), last=False)
            del self._pending[:CHUNK]

    def finish(self, name: str) -> Sealed:
        """Ends the file and makes it durable. `name` is what the sender calls it."""
        self._seal(bytes(self._pending), last=True)
        os.fsync(self._fd)
        self._close()
        peaks = self._waveform.peaks
        return Sealed(
            path=self.path, key=self._key, size=self.size, digest=self._plain.digest(),
            sealed_digest=self._whole.digest(), content_type=content_type(self._head, name),
            duration_s=self._waveform.duration_s, peaks=peaks, head=self._head,
        )  # fmt: skip

    def discard(self) -> None:
        """Leaves nothing behind. After `finish` it takes the finished file away."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _seal(self, plain: bytes, *, last: bool) -> None:
        nonce, bound = _bound(self._header, self._number, last=last)
        self._number += 1
        self._put(self._cipher.encrypt(nonce, plain, bound))

    def _put(self, data: bytes) -> None:
        self._whole.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of whole chunks, to be read from the store at once."""

    first: int
    last: int
    start: int
    length: int
    """Where it stands in the sealed file."""


def part_of(size: int, first: int, last: int) -> Part:
    """The chunks `first` to `last` of a file of `size` bytes of plain text."""
    start = HEADER + first * (CHUNK + TAG)
    end = min(HEADER + (last + 1) * (CHUNK + TAG), sealed_size(size))
    return Part(first, last, start, end - start)


class SealedReader:
    """Opens chunks of one file, given its key, its header and its size."""

    def __init__(self, key: bytes, header: bytes, size: int) -> None:
        if len(header) != HEADER or header[: len(_MAGIC)] != _MAGIC:
            raise Unsealable("not one of our files")
        self._cipher, self._header, self.size = AESGCM(key), header, size

    def open(self, part: Part, sealed: bytes) -> bytes:
        """The plain text of a part. Raises Unsealable for anything but what was sealed there."""
        if len(sealed) != part.length:
            raise Unsealable("cut short")
        final, plain = chunks_of(self.size) - 1, []
        for number in range(part.first, part.last + 1):
            at = (number - part.first) * (CHUNK + TAG)
            nonce, bound = _bound(self._header, number, last=number == final)
            try:
                plain.append(self._cipher.decrypt(nonce, sealed[at : at + CHUNK + TAG], bound))
            except InvalidTag:
                raise Unsealable(f"chunk {number} was changed") from None
        return b"".join(plain)
