"""DATA_DIR belongs to one running gateway: a lock that is held for its life.

Two on one folder would lose posts that were answered 200: each replays and removes the other's open spool segment, and clears
away the other's half-received recordings. The kernel drops the lock with the process, however that ends, so nothing has to be
cleaned up. Other commands do not take it: they touch neither. They may read the note that the holder leaves in it, such as
the settings it runs with. Read `gateway/store/files/spool.py` for what lies there.
"""

import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from gateway.store.postgres.errors import FolderInUse

log = logging.getLogger(__name__)

NAME = "gateway.lock"
WAIT_S = 20.0
"""How long a start waits for its predecessor, which may still be stopping its PostgreSQL."""
POLL_S = 0.1
_NOTE_LIMIT = 1 << 16


@asynccontextmanager
async def own_folder(data_dir: Path, note: str = "") -> AsyncIterator[None]:
    """Until the block ends nobody else runs on this folder. Raises FolderInUse where another does, and goes on doing so.
    `note` is one line for `holders_note`."""
    fd = _opened(data_dir)
    try:
        await _take(fd, data_dir)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n{note}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holders_note(data_dir: Path) -> str:
    """The note of the gateway that runs on this folder; empty where none does, or its note cannot be read."""
    try:
        fd = os.open(data_dir / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        _, _, note = os.pread(fd, _NOTE_LIMIT, 0).decode("utf-8", "replace").partition("\n")
        return note.strip()
    except OSError:
        return ""
    else:
        return ""
    finally:
        os.close(fd)


def _opened(data_dir: Path) -> int:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(data_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderInUse(person=f"GATEWAY_DATA_DIR: {data_dir} cannot be used: {error.strerror}.") from None


async def _take(fd: int, data_dir: Path) -> None:
    until = trio.current_time() + WAIT_S
    waited = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError as error:  # a file system without locks
            raise FolderInUse(person=f"GATEWAY_DATA_DIR: {data_dir} cannot be locked: {error.strerror}.") from None
        else:
            return
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").partition("\n")[0].strip()
        if trio.current_time() >= until:
            raise FolderInUse(
                person=f"Another gateway{f' (process {holder})' if holder.isdecimal() else ''} runs on {data_dir}. "
                "Stop it, or set GATEWAY_DATA_DIR to a folder of this one's own."
            )
        if not waited:
            waited = True
            log.info("waiting for process %s to release GATEWAY_DATA_DIR", holder)
        await trio.sleep(POLL_S)
