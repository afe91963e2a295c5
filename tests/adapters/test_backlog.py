"""Bytes wait in order, in memory and then on disk, and memory stays bounded."""

import errno
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from adapters import backlog as module
from adapters.backlog import CHUNK, Backlog, Chunk
from adapters.spills import Spills
from gateway.domain.errors import Unavailable

MIB = 1 << 20
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
LINE = b"Event: Newchannel\r\nChannel: PJSIP/trunk-0001-00000%03d\r\nUniqueid: 1795219998.%d\r\n\r\n"


def text(size: int, seed: int = 1) -> bytes:
    """AMI of about so many bytes."""
    rng = random.Random(seed)
    return b"".join(LINE % (rng.randrange(1000), rng.randrange(10_000)) for _ in range(size // len(LINE)))


@asynccontextmanager
async def spilling(room: int, spills: Spills | None = None) -> AsyncIterator[Backlog]:
    backlog = Backlog(room, spills)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backlog.spill)
        try:
            yield backlog
        finally:
            nursery.cancel_scope.cancel()
            while backlog._moving:
                await trio.lowlevel.cancel_shielded_checkpoint()
            backlog.discard()


async def drained(backlog: Backlog) -> bytes:
    backlog.close()
    parts = []
    while True:
        try:
            parts.append(bytes((await backlog.take()).data))
        except trio.EndOfChannel:
            return b"".join(parts)


async def fill(backlog: Backlog, data: bytes, piece: int = 64 * 1024) -> int:
    """Adds in pieces, each with the disk given time. The most that was in memory."""
    most = 0
    for start in range(0, len(data), piece):
        backlog.put_nowait(data[start : start + piece], AT)
        most = max(most, backlog._in_memory)
        await wait_all_tasks_blocked()
        while backlog._moving:
            await trio.sleep(0.001)
    return most


async def test_what_fits_in_memory_never_sees_the_disk(tmp_path: Path) -> None:
    async with spilling(4 * MIB, Spills(tmp_path / "spool", MIB)) as backlog:
        data = text(MIB)
        await fill(backlog, data)
        assert len(backlog) == len(data)
        assert await drained(backlog) == data
        assert (len(backlog), backlog.spilled) == (0, 0)
    assert not (tmp_path / "spool").exists()


async def test_more_goes_to_the_disk_and_comes_back_in_order(tmp_path: Path) -> None:
    spills = Spills(tmp_path / "spool", 100 * MIB)
    async with spilling(MIB, spills) as backlog:
        data = text(20 * MIB)
        assert await fill(backlog, data) <= MIB
        assert 0 < spills.used < len(data) / 4, "compressed"
        assert list((tmp_path / "spool").iterdir()) == [], "a file without a name"
        assert await drained(backlog) == data
        assert backlog.spilled > 15 * MIB
        assert spills.used == 0


async def test_reading_and_writing_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE", 20_000)  # many files
    spills = Spills(tmp_path, 100 * MIB)
    data = text(6 * MIB)
    async with spilling(MIB, spills) as backlog, trio.open_nursery() as nursery:

        async def write() -> None:
            await fill(backlog, data, piece=9_999)
            backlog.close()

        nursery.start_soon(write)
        parts = []
        with pytest.raises(trio.EndOfChannel):
            while True:
                parts.append(bytes((await backlog.take()).data))
                await trio.lowlevel.checkpoint()
        assert b"".join(parts) == data
        assert (spills.used, len(backlog)) == (0, 0)


async def test_full_is_said_when_the_disk_holds_no_more(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(8 * MIB)
    for spills, why in (
        (Spills(tmp_path, 2 * MIB, share=1.0), "limit of all spills"), (None, "folder"), (Spills(), "folder")
    ):  # fmt: skip
        async with spilling(MIB, spills) as backlog:
            with pytest.raises(Unavailable, match="buffer of 1 MiB") as caught:
                await fill(backlog, noise)
            assert why in caught.value.detail
            stored = await drained(backlog)
            assert stored == noise[: len(stored)], "what had been taken in is whole"
            assert len(stored) > (5 * MIB // 2 if spills and spills.folder else MIB - CHUNK - 1)
    assert spills is not None


async def test_all_share_one_limit_and_what_was_read_or_given_up_is_free_again(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(2 * MIB)
    spills = Spills(tmp_path, 2 * MIB, share=1.0)
    async with spilling(MIB, spills) as first:
        await fill(first, noise)
        async with spilling(MIB, spills) as second:
            with pytest.raises(Unavailable):
                for _ in range(4):
                    await fill(second, noise)
            assert spills.used <= 2 * MIB
        assert 0 < spills.used < 2 * MIB, "what the second held"
        assert await drained(first) == noise
    assert spills.used == 0


async def test_one_that_floods_leaves_room_on_the_disk_for_the_others(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(2 * MIB)
    spills = Spills(tmp_path, 8 * MIB)
    async with spilling(MIB, spills) as flooded, spilling(MIB, spills) as other:
        with pytest.raises(Unavailable, match="its share of the disk"):
            for _ in range(8):
                await fill(flooded, noise)
        assert spills.used <= 8 * MIB * spills.share + MIB, "its share, and the block that went over it"
        await fill(other, noise)
        assert await drained(other) == noise


async def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = os.pwrite
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.01)
    data = text(3 * MIB)
    async with spilling(2 * MIB, Spills(tmp_path, 100 * MIB)) as backlog:
        monkeypatch.setattr(os, "pwrite", full)
        await fill(backlog, data[: 3 * MIB // 2])
        while not backlog.problem:
            await trio.sleep(0.01)
        assert backlog.problem == "No space left on device"
        monkeypatch.setattr(os, "pwrite", real)
        while backlog.problem:
            await trio.sleep(0.01)
        await fill(backlog, data[3 * MIB // 2 :])
        assert await drained(backlog) == data


async def test_a_spill_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    async with spilling(MIB, Spills(tmp_path, 100 * MIB)) as backlog:
        await fill(backlog, text(3 * MIB))
        assert backlog._file is not None
        os.ftruncate(backlog._file.fileno(), 10)
        with pytest.raises(Unavailable, match="read back"):
            await drained(backlog)


async def test_chunks_keep_the_time_at_which_they_came(tmp_path: Path) -> None:
    async with spilling(MIB, Spills(tmp_path, 100 * MIB)) as backlog:
        sent = [Chunk(bytes([number % 256]) * 30_000, AT + timedelta(seconds=number)) for number in range(100)]
        for chunk in sent:
            backlog.put_nowait(chunk.data, chunk.at)
            await wait_all_tasks_blocked()
            while backlog._moving:
                await trio.sleep(0.001)
        assert backlog.spilled > MIB
        assert [await backlog.take() for _ in sent] == sent


async def test_small_reads_of_one_moment_are_one_chunk() -> None:
    backlog = Backlog(MIB)
    for number in range(10):
        backlog.put_nowait(b"x" * 100, AT + timedelta(milliseconds=4 * number))
    assert [len((await backlog.take()).data) for _ in range(2)] == [600, 400]
    assert len(backlog) == 0


async def test_who_is_cancelled_has_taken_nothing() -> None:
    backlog = Backlog(MIB)
    with trio.move_on_after(0):
        await backlog.take()
    backlog.put_nowait(b"1", AT)
    with trio.CancelScope() as scope:
        scope.cancel()
        await backlog.take()
    assert bytes((await backlog.take()).data) == b"1"
