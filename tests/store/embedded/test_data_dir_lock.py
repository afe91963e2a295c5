"""DATA_DIR has one running gateway: a second waits for the first to end, and says so when it does not."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from gateway.store.embedded.data_dir_lock import NAME, WAIT_S, holders_note, own_folder
from gateway.store.postgres.errors import FolderInUse


async def test_a_successor_waits_for_its_predecessor(tmp_path: Path, autojump_clock: MockClock) -> None:
    began = trio.current_time()

    async def predecessor(task_status: trio.TaskStatus[None]) -> None:
        async with own_folder(tmp_path):
            task_status.started()
            await trio.sleep(WAIT_S / 2)

    async with trio.open_nursery() as nursery:
        await nursery.start(predecessor)
        async with own_folder(tmp_path):
            assert WAIT_S / 2 <= trio.current_time() - began < WAIT_S


async def test_two_on_one_folder_are_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with own_folder(tmp_path / "var"):
        with pytest.raises(FolderInUse, match="GATEWAY_DATA_DIR") as refused:
            async with own_folder(tmp_path / "var"):
                pytest.fail("both hold it")
        assert "(process " in refused.value.person
        async with own_folder(tmp_path / "other"):
            pass
    async with own_folder(tmp_path / "var"):  # what the first left behind is no obstacle
        pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    with pytest.raises(FolderInUse, match="GATEWAY_DATA_DIR"):
        async with own_folder(tmp_path / "var"):
            pytest.fail("there is no folder")
    assert not (tmp_path / NAME).exists()


async def test_the_note_is_there_for_as_long_as_the_gateway_runs(tmp_path: Path) -> None:
    assert holders_note(tmp_path) == ""
    async with own_folder(tmp_path, '{"GATEWAY_BIND": "127.0.0.1:8010"}'):
        assert holders_note(tmp_path) == '{"GATEWAY_BIND": "127.0.0.1:8010"}'
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert holders_note(tmp_path) == "", "what a gateway that has ended left there is nobody's"
    async with own_folder(tmp_path):
        assert holders_note(tmp_path) == ""
