"""Where sealed files lie: one small `BlobStore`, here as a folder on disk, in `s3.py` as a bucket.

An object is stored fully or not at all, is durable when `put` returns, and is never changed afterwards. Its name is ours:
the tenant's number, the content address and a few random letters, so that two writers of the same sound never collide.
The bytes are sealed already (`gateway/store/secrets/sealed_file.py`); this module sees no key. Read `recording_files.py` next.
"""

import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.store.secrets.sealed_file import Sealed

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NAME = re.compile(r"[0-9A-Za-z_-]{1,32}/[0-9a-f]{64}-[0-9a-f]{16}")
"""Of an object. Nothing else is ever read, written or deleted."""


TENANT = re.compile(r"[0-9A-Za-z_-]{1,32}")


class Missing(Exception):
    """There is no such object."""


class BlobStore(Protocol):
    """Whole objects by name. Each method raises Unavailable where the place does not answer."""

    async def put(self, sealed: Sealed, name: str) -> None:
        """Takes the file in the spool over: afterwards it is here, durable, and in the spool no more."""
        ...

    async def read(self, name: str, start: int, length: int) -> bytes:
        """So many bytes from there. Raises Missing."""
        ...

    async def size(self, name: str) -> int | None:
        """Bytes of the object, or None where there is none."""
        ...

    async def delete(self, name: str) -> None:
        """Takes the object away; one that is not there is no failure."""
        ...

    async def delete_all(self, tenant: TenantId) -> None:
        """Takes away every object of a tenant, whether a row names it or not."""
        ...

    def old_names(self, older_than_s: float) -> AsyncIterator[Sequence[str]]:
        """The names of objects that were written longer ago, in batches: for the janitor."""
        ...


class FolderBlobs:
    """Objects as files below one folder. Files move in by rename, so the spool has to be on the same file system."""

    def __init__(self, folder: Path, limiter: trio.CapacityLimiter) -> None:
        self._folder = folder
        self._limiter = limiter

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError("not the name of an object")
        tenant, _, rest = name.partition("/")
        return self._folder / tenant / rest[:2] / rest

    async def put(self, sealed: Sealed, name: str) -> None:
        """By rename, then the folder is synced."""
        target = self._path(name)
        await self._in_thread(_move, sealed.path, target, self._folder)

    async def read(self, name: str, start: int, length: int) -> bytes:
        """Part of the file."""
        return await self._in_thread(_read, self._path(name), start, length)

    async def size(self, name: str) -> int | None:
        """By its entry in the folder."""
        return await self._in_thread(_size, self._path(name))

    async def delete(self, name: str) -> None:
        """Unlinks the file."""
        await self._in_thread(_unlink, self._path(name))

    async def delete_all(self, tenant: TenantId) -> None:
        """The tenant's folder as a whole."""
        if not TENANT.fullmatch(tenant):
            raise ValueError("not the number of a tenant")
        await self._in_thread(_remove_folder, self._folder / tenant)

    async def old_names(self, older_than_s: float) -> AsyncIterator[Sequence[str]]:
        """Folder by folder."""
        before = time.time() - older_than_s
        for folder in await self._in_thread(_folders, self._folder):
            yield await self._in_thread(_old, folder, before)

    async def _in_thread(self, work: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
        try:
            return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)
        except OSError as error:
            failure = Unavailable(f"recordings on disk: {error.strerror}")
        raise failure


def _remove_folder(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
        sync_folder(folder.parent)


def _move(source: Path, target: Path, top: Path) -> None:
    fresh = [folder for folder in (target.parent.parent, target.parent) if not folder.exists()]
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.rename(source, target)
    sync_folder(target.parent)
    for folder in fresh:
        sync_folder(folder.parent)
    if fresh:
        sync_folder(top)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path, start: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return os.pread(file.fileno(), length, start)
    except FileNotFoundError:
        raise Missing(path.name) from None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _folders(top: Path) -> list[Path]:
    return [inner for tenant in _entries(top) if tenant.is_dir() for inner in _entries(tenant) if inner.is_dir()]


def _entries(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _old(folder: Path, before: float) -> list[str]:
    found = []
    for file in _entries(folder):
        name = f"{folder.parent.name}/{file.name}"
        if NAME.fullmatch(name) and (_mtime(file) or before) < before:
            found.append(name)
    return found


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
