"""The spool's files: whole records come back in order, whatever a kill or a full disk did to the last of them."""

import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.store.files.spool import Spool
from gateway.store.journal import PostRow

A, B = TenantId("0367"), TenantId("0368")
AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
MIB = 1 << 20


def post(name: str, tenant: TenantId = A, body: str = '{"CallerIDName": "Кофейня \\u0000 \x85"}') -> PostRow:
    return PostRow(tenant, "/dial", name, f"digest of {name}".encode(), body, AT + timedelta(microseconds=1))


def posts(*names: str) -> list[PostRow]:
    return [post(name) for name in names]


async def opened(folder: Path, limit: int = MIB, **more: int) -> Spool:
    spool = Spool(folder / "spool", limit, **more)
    await spool.open()
    return spool


async def drained(spool: Spool) -> list[str]:
    names = []
    while (rows := await spool.oldest()) is not None:
        names += [row.unique_id for row in rows]
        await spool.drop()
    return names


def files(folder: Path) -> list[Path]:
    return sorted((folder / "spool").iterdir())


async def test_rows_come_back_as_they_were_and_nothing_is_left(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    assert await spool.oldest() is None
    assert await spool.append(posts("1", "2")) == [True, True]
    assert (spool.records, spool.filled.is_set(), spool.size > 100) == (2, True, True)
    assert await spool.oldest() == posts("1", "2")
    await spool.append(posts("3"))
    await spool.drop()
    assert (spool.records, await drained(spool)) == (1, ["3"])
    assert (spool.records, spool.size, spool.oldest_s, spool.filled.is_set()) == (0, 0, 0.0, False)
    assert files(tmp_path) == []


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    await spool.append(posts("1"))
    assert oct((tmp_path / "spool").stat().st_mode & 0o777) == "0o700"
    assert [oct(file.stat().st_mode & 0o777) for file in files(tmp_path)] == ["0o600"]


async def test_the_next_process_finds_what_was_left(tmp_path: Path) -> None:
    first = await opened(tmp_path, segment_bytes=300)
    for name in "1234567":
        await first.append(posts(name))
    assert len(files(tmp_path)) > 2
    second = await opened(tmp_path)
    assert second.records == 7
    assert second.oldest_s > 0
    assert await second.append(posts("3", "8")) == [False, True], "what stands in the files is known"
    assert await drained(second) == list("12345678")


async def test_a_repeat_is_known_in_a_group_and_later_and_costs_no_room(tmp_path: Path) -> None:
    spool = await opened(tmp_path)
    assert await spool.append([*posts("1", "1"), post("1", B)]) == [True, False, True]
    size = spool.size
    assert await spool.append(posts("1")) == [False]
    assert spool.size == size
    await drained(spool)
    assert await spool.append(posts("1")) == [True], "from here on the journal knows"


@pytest.mark.parametrize("garbage", ["cut", "zeros", "header", "nothing"])
async def test_a_torn_tail_is_cut_off_and_nothing_before_it(tmp_path: Path, garbage: str) -> None:
    first = await opened(tmp_path)
    await first.append(posts("1", "2", "3"))
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    tail = {"cut": whole[: len(whole) // 3 - 1], "zeros": bytes(4096), "header": whole[:5], "nothing": b""}[garbage]
    file.write_bytes(whole + tail)
    second = await opened(tmp_path)
    await second.append(posts("4"))
    assert await drained(second) == ["1", "2", "3", "4"]
    assert files(tmp_path) == []


async def test_every_cut_of_a_file_keeps_the_whole_records_before_it(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    ends = [0]
    for name in "123":
        await first.append(posts(name))
        ends.append(first.size)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        expected = sum(end <= cut for end in ends[1:])
        assert await drained(await opened(tmp_path)) == list("123")[:expected]


async def test_a_damaged_record_is_kept_for_a_person(tmp_path: Path, expected_errors: None) -> None:
    first = await opened(tmp_path)
    await first.append(posts("1", "2", "3"))
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    second = await opened(tmp_path)
    assert await drained(second) == ["1"]
    assert [file.suffix for file in files(tmp_path)] == [".damaged"]
    assert await drained(await opened(tmp_path)) == []


async def test_the_limit_refuses_and_room_comes_back(tmp_path: Path) -> None:
    spool = await opened(tmp_path, limit=2000, segment_bytes=500)
    stored = []
    with pytest.raises(Unavailable, match="GATEWAY_SPOOL_MIB"):
        for number in range(100):
            await spool.append(posts(str(number)))
            stored.append(str(number))
    assert spool.size <= 2000
    assert spool.records == len(stored)
    await spool.oldest()
    await spool.drop()
    await spool.append(posts("after"))
    assert (await drained(spool))[-1] == "after"


def after(bytes_written: int, error: int) -> Callable[[int, memoryview], int]:
    """`os.write` on a disk that has room for so much."""
    left = [bytes_written]
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(error, os.strerror(error))
        took = real(fd, data[: left[0]])
        left[0] -= took
        return took

    return write


@pytest.mark.parametrize("room", [0, 7, 60])
async def test_a_full_disk_refuses_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    spool = await opened(tmp_path)
    await spool.append(posts("1", "2"))
    with monkeypatch.context() as full:
        full.setattr(os, "write", after(room, errno.ENOSPC))
        for _ in range(2):
            with pytest.raises(Unavailable, match="No space"):
                await spool.append(posts("3", "4"))
    assert spool.records == 2
    assert await spool.append(posts("3")) == [True], "what was refused is not known"
    assert await drained(await opened(tmp_path)) == ["1", "2", "3"]


async def test_a_failed_fsync_refuses_and_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    spool = await opened(tmp_path)
    await spool.append(posts("1"))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        with pytest.raises(Unavailable, match="Input/output"):
            await spool.append(posts("2"))
    await spool.append(posts("3"))
    assert len(files(tmp_path)) == 2
    assert await drained(spool) == ["1", "3"]


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    spool = Spool(tmp_path / "spool", MIB)
    with pytest.raises(Unavailable, match="spool"):
        await spool.open()
    with pytest.raises(Unavailable, match="spool"):
        await spool.append(posts("1"))
    assert spool.records == 0


async def test_a_file_that_somebody_took_away(tmp_path: Path, expected_errors: None) -> None:
    spool = await opened(tmp_path, segment_bytes=10)
    for name in "12":
        await spool.append(posts(name))
    files(tmp_path)[0].unlink()
    assert await drained(spool) == ["2"]


async def test_appending_while_the_oldest_is_read_and_dropped(tmp_path: Path) -> None:
    spool = await opened(tmp_path, segment_bytes=2000)
    read: list[str] = []

    async def write() -> None:
        for number in range(200):
            await spool.append(posts(str(number)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        while len(read) < 200:
            rows = await spool.oldest()
            if rows is not None:
                read += [row.unique_id for row in rows]
                await spool.drop()
    assert read == [str(number) for number in range(200)]
    assert spool.records == 0
