"""The shelf on a real database and a real folder: whole or not at all, once a tenant, sealed, and joined to its call."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
import trio

from gateway.domain.calls import Call, Phase
from gateway.domain.errors import Unavailable
from gateway.domain.events import Direction
from gateway.domain.ids import CallId, TenantId
from gateway.domain.recording_links import PURPOSE, Signer
from gateway.store import call_batches
from gateway.store import recording_queue as work
from gateway.store import recordings as rows
from gateway.store.call_batches import CallBatch, ExpectedRow
from gateway.store.files import sealed_files as shelf_module
from gateway.store.files.blobs import FolderBlobs, Missing
from gateway.store.files.recording_files import RecordingFiles, TooLarge
from gateway.store.postgres.errors import Unsealable
from gateway.store.postgres.pool import Connection, Database
from gateway.store.recordings import RecordingLine
from gateway.store.secrets.seal import MasterKeys, Sealer, new_data_key, new_master_key, parse_master_keys
from gateway.store.secrets.sealed_file import CHUNK
from gateway.store.tenants import PBXES, LinkRow, TenantRow, upsert_link, upsert_tenant

JUNE, MAPLE = TenantId("0367"), TenantId("0368")
CANARY = b"nobody may read this on a disk"


class Vault:
    """A shelf, its folder and its tenants."""

    def __init__(self, db: Database, folder: Path, master: MasterKeys) -> None:
        self.folder = folder
        self.sealers: dict[TenantId, Sealer] = {}
        self.master = master
        self.blobs = FolderBlobs(folder / "recordings", trio.CapacityLimiter(4))
        self.recording_files = RecordingFiles(db, self.blobs, folder / "incoming", self.sealers.get)
        self.recording_files.clean_spool()
        self.db = db

    async def add(self, tenant: TenantId, **options: object) -> None:
        wrapped = self.master.wrap(tenant, new_data_key())
        self.sealers[tenant] = self.master.sealer(tenant, wrapped)
        row = TenantRow(tenant, "June", "UTC", "BY", "en", None, wrapped, options, 0, (), (), ())
        await self.db.engine(upsert_tenant, row)
        await self.db.engine(upsert_link, PBXES, tenant, LinkRow("main", "asterisk", True, {}, {}))

    async def send(self, data: bytes, call: str = "7.1", tenant: TenantId = JUNE, name: str = "a.wav") -> str:
        async with await self.recording_files.new_file() as incoming:
            for at in range(0, len(data), 100_000):
                await incoming.write(data[at : at + 100_000])
            sealed = await incoming.finish(name)
            return await self.recording_files.keep(tenant, sealed, call, ["main", "branch"], name)

    def signer(self, tenant: TenantId = JUNE) -> Signer:
        return Signer(tenant, self.sealers[tenant].derive(PURPOSE))

    async def lines(self, call: str, tenant: TenantId = JUNE) -> list[RecordingLine]:
        return await self.db.tenant(tenant, rows.select_call_recordings, tenant, call)

    async def received(self, recording: UUID, start: int = 0, end: int | None = None, tenant: TenantId = JUNE) -> bytes:
        found = await self.db.tenant(tenant, rows.select_opened, tenant, recording)
        assert found is not None
        assert found[1] is not None
        opened = await self.recording_files.open(tenant, found[1])
        return b"".join([piece async for piece in opened.read(start, opened.size if end is None else end)])

    async def end_call(self, call: str, *, expected: bool = True, tenant: TenantId = JUNE) -> None:
        now = datetime.now(UTC)
        part = CallBatch(tenant)
        part.calls[call] = (
            "main",
            Call(
                call_id=CallId(call), phase=Phase.ENDED, direction=Direction.INCOMING, caller="1", called="2",
                trunk=None, started_at=now, ended_at=now, events=1,
            ),
        )  # fmt: skip
        if expected:
            part.expected.append(
                ExpectedRow(
                    recording_id=self.signer(tenant).recording_id(call), call_id=call, pbx="main", reported="x.wav",
                    url=None, begins_at=now, ended_at=now, run_at=None,
                )
            )  # fmt: skip
        await self.db.engine(call_batches.record, [part])

    async def join(self) -> None:
        for one in await self.db.engine(work.select_joins, 900.0, 100):
            await self.db.engine(work.join_recording, one, self.signer(one.tenant).recording_id(one.known_as))

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
async def vault(db: Database, tmp_path: Path) -> Vault:
    vault = Vault(db, tmp_path, parse_master_keys(new_master_key()))
    await vault.add(JUNE)
    await vault.add(MAPLE)
    return vault


def sound(size: int = 3 * CHUNK + 17, seed: int = 1) -> bytes:
    return (random.Random(seed).randbytes(max(0, size - len(CANARY))) + CANARY)[-size:]


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK, 9 * CHUNK + 5])
async def test_what_goes_in_comes_out_whole_and_in_parts(vault: Vault, size: int) -> None:
    data = sound(size)
    assert await vault.send(data) == "accepted"
    (line,) = await vault.lines("7.1")
    assert line.recording_id == vault.signer().recording_id("7.1")
    assert await vault.received(line.recording_id) == data
    rng = random.Random(size)
    for _ in range(8):
        start = rng.randrange(size)
        end = rng.randrange(start, size) + 1
        assert await vault.received(line.recording_id, start, end) == data[start:end]


async def test_nothing_readable_lies_on_disk_and_nothing_is_left_in_the_spool(vault: Vault) -> None:
    await vault.send(sound())
    (file,) = vault.files()
    assert CANARY not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    assert list((vault.folder / "incoming").iterdir()) == []


async def test_a_repeat_is_a_duplicate_and_equal_sound_is_kept_once_a_tenant(vault: Vault) -> None:
    assert [await vault.send(sound()) for _ in range(2)] == ["accepted", "duplicate"]
    assert await vault.send(sound(), "7.2") == "accepted"
    assert len(vault.files()) == 1
    assert await vault.send(sound(), "7.1", MAPLE) == "accepted"
    assert len(vault.files()) == 2, "tenants share nothing"
    mine, theirs = (await vault.lines("7.1"))[0], (await vault.lines("7.1", MAPLE))[0]
    assert mine.address != theirs.address, "an address tells nothing of the sound"
    assert mine.recording_id != theirs.recording_id


async def test_many_senders_of_the_same_leave_one(vault: Vault) -> None:
    outcomes: list[str] = []

    async def send() -> None:
        outcomes.append(await vault.send(sound()))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(send)
    assert sorted(outcomes) == ["accepted"] + ["duplicate"] * 5
    assert len(vault.files()) == 1
    assert len(await vault.lines("7.1")) == 1


async def test_a_second_recording_of_a_call_stands_beside_the_first(vault: Vault) -> None:
    await vault.send(sound(seed=1))
    assert await vault.send(sound(seed=2)) == "accepted"
    assert await vault.send(sound(seed=2)) == "duplicate"
    first, second = await vault.lines("7.1")
    assert await vault.received(first.recording_id) == sound(seed=1)
    assert await vault.received(second.recording_id) == sound(seed=2)


async def test_the_file_fills_the_recording_that_was_announced(vault: Vault) -> None:
    await vault.end_call("7.1")
    (line,) = await vault.lines("7.1")
    assert (line.state, line.address) == ("expected", None)
    await vault.send(sound())
    (after,) = await vault.lines("7.1")
    assert (after.state, after.recording_id) == ("stored", line.recording_id)


@pytest.mark.parametrize("expected", [True, False])
async def test_a_recording_that_came_first_joins_the_call_of_its_pbx(vault: Vault, expected: bool) -> None:
    await vault.send(sound(), "7.1")
    await vault.join()
    assert len(await vault.lines("7.1")) == 1, "its call is not known yet"
    await vault.end_call("main-7.1", expected=expected)
    await vault.join()
    assert await vault.lines("7.1") == []
    (line,) = await vault.lines("main-7.1")
    assert (line.state, line.recording_id) == ("stored", vault.signer().recording_id("main-7.1"))
    assert await vault.received(line.recording_id) == sound()
    assert await vault.send(sound(), "7.1") == "duplicate"


async def test_a_recording_that_came_first_is_there_at_the_hangup(vault: Vault) -> None:
    await vault.send(sound(), "7.1")
    await vault.end_call("7.1")
    await vault.join()
    (line,) = await vault.lines("7.1")
    assert line.state == "stored"
    assert await vault.db.engine(work.select_joins, 900.0, 100) == []


@pytest.mark.parametrize("harm", ["flip", "cut", "swap", "append", "other"])
async def test_a_file_that_was_changed_does_not_open(vault: Vault, harm: str) -> None:
    await vault.send(sound())
    (line,), (file,) = await vault.lines("7.1"), vault.files()
    data = bytearray(file.read_bytes())
    first, second = 16, 16 + CHUNK + 16
    if harm == "flip":
        data[second + 5] ^= 1
    elif harm == "cut":
        del data[-(CHUNK // 2) :]
    elif harm == "swap":
        data[first:second], data[second : second + CHUNK + 16] = data[second : second + CHUNK + 16], data[first:second]
    elif harm == "append":
        data[8] ^= 1  # the nonce's beginning
    else:
        await vault.send(sound(seed=2), "8.1")
        data = bytearray(next(one for one in vault.files() if one != file).read_bytes())
    file.write_bytes(data)
    with pytest.raises(Unsealable):
        await vault.received(line.recording_id)


async def test_another_tenant_finds_nothing(vault: Vault) -> None:
    await vault.send(sound())
    (line,) = await vault.lines("7.1")
    assert await vault.db.tenant(MAPLE, rows.select_recording, MAPLE, line.recording_id) is None
    assert await vault.db.tenant(MAPLE, rows.select_recording, JUNE, line.recording_id) is None


async def test_a_lost_object_is_replaced_by_the_next_upload(vault: Vault) -> None:
    await vault.send(sound())
    (file,) = vault.files()
    file.unlink()
    (line,) = await vault.lines("7.1")
    with pytest.raises(Unsealable):
        await vault.received(line.recording_id)
    await vault.send(sound())
    assert await vault.received(line.recording_id) == sound()


async def test_too_much_is_refused_and_leaves_nothing(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingFiles, "largest", 1000)
    with pytest.raises(TooLarge):
        await vault.send(sound(1001))
    assert vault.files() == []


async def test_an_upload_that_breaks_off_leaves_nothing(vault: Vault) -> None:
    async with await vault.recording_files.new_file() as incoming:
        await incoming.write(sound(CHUNK * 8))
    assert vault.files() == []


async def test_what_a_crash_left_in_the_spool_goes_at_the_next_start(vault: Vault) -> None:
    (vault.folder / "incoming" / f"{'0' * 32}.part").write_bytes(b"half")
    vault.recording_files.clean_spool()
    assert vault.files() == []


async def age(conn: Connection, days: int) -> None:
    await conn.execute("UPDATE recordings SET kept_from = kept_from - make_interval(days => $1)", days)
    await conn.execute("UPDATE recording_blobs SET used_at = used_at - make_interval(days => $1)", days)


async def test_retention_is_the_tenant_s_and_takes_the_file_with_it(vault: Vault) -> None:
    await vault.add(TenantId("0369"), recordings={"keep_days": 10})
    for tenant in (JUNE, TenantId("0369")):
        await vault.send(sound(), "7.1", tenant)
    await vault.db.engine(age, 11)
    assert await vault.db.engine(work.delete_expired, 365, 100) == 1
    (gone,) = await vault.db.engine(work.delete_unnamed_blobs, 3600.0, 100)
    await vault.blobs.delete(gone)
    assert len(vault.files()) == 1
    assert len(await vault.lines("7.1")) == 1
    with pytest.raises(Missing):
        await vault.blobs.read(gone, 0, 1)


async def test_a_sound_that_somebody_still_names_stays(vault: Vault) -> None:
    await vault.send(sound(), "7.1")
    await vault.db.engine(age, 400)
    await vault.send(sound(), "7.2")
    assert await vault.db.engine(work.delete_expired, 365, 100) == 1
    assert await vault.db.engine(work.delete_unnamed_blobs, 3600.0, 100) == []
    assert len(vault.files()) == 1


async def test_objects_that_no_row_names_are_told_from_the_others(vault: Vault) -> None:
    await vault.send(sound())
    (stored,) = vault.files()
    stray = stored.with_name("0" * 64 + "-" + "1" * 16)
    stray.write_bytes(b"left by a crash")
    old = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(stray, (old, old))
    names = [name async for batch in vault.blobs.old_names(3600.0) for name in batch]
    assert names == [f"0367/{stray.name}"]
    assert await vault.db.engine(work.select_known_objects, [(JUNE, names[0])]) == set()
    assert await vault.db.engine(work.select_known_objects, [(JUNE, f"0367/{stored.name}")]) == {f"0367/{stored.name}"}


async def test_an_address_to_fetch_from_is_sealed_and_asked_once(vault: Vault) -> None:
    url = "https://pbx.example/rec/7.wav?token=very-secret"
    requested = [await vault.recording_files.ask_for(JUNE, url, "7.1", ["main"]) for _ in range(2)]
    assert requested == ["accepted", "duplicate"]
    (fetch,) = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    assert fetch.url is not None
    assert "secret" not in fetch.url
    assert vault.recording_files.open_url(JUNE, fetch.url).reveal() == url
    with pytest.raises(Unsealable):
        vault.recording_files.open_url(MAPLE, fetch.url)


async def test_fetches_are_leased_in_turn_and_acknowledged_once(vault: Vault) -> None:
    for number in range(5):
        await vault.recording_files.ask_for(JUNE, f"https://pbx.example/{number}.wav", f"7.{number}", [])
    await vault.recording_files.ask_for(MAPLE, "https://pbx.example/m.wav", "8.1", [])
    claimed = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    assert sorted(one.tenant for one in claimed) == [JUNE, JUNE, MAPLE], "two of one tenant at a time"
    assert await vault.db.engine(work.claim_fetches, 4, 2, 60.0) == []
    first = next(one for one in claimed if one.tenant == MAPLE)
    await vault.db.engine(work.fail_fetch, first, "unavailable", "status 500", 0.0)
    (again,) = [one for one in await vault.db.engine(work.claim_fetches, 4, 2, 60.0) if one.tenant == MAPLE]
    assert (again.attempt, again.epoch) == (2, first.epoch + 1)
    await vault.db.engine(work.fail_fetch, first, "late", "", None)
    (line,) = await vault.lines("8.1", MAPLE)
    assert (line.state, line.problem) == ("fetching", "unavailable"), "an outcome of a lost lease changes nothing"
    await vault.db.engine(work.fail_fetch, again, "refused", "status 403", None)
    assert await vault.db.tenant(MAPLE, rows.retry_recording, MAPLE, line.recording_id)
    (line,) = await vault.lines("8.1", MAPLE)
    assert (line.state, line.problem, line.attempt) == ("expected", "", 0)


async def test_an_upload_wins_over_a_fetch_under_way(vault: Vault) -> None:
    await vault.recording_files.ask_for(JUNE, "https://pbx.example/7.wav", "7.1", [])
    (fetch,) = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    await vault.send(sound())
    async with await vault.recording_files.new_file() as incoming:
        await incoming.write(sound(seed=2))
        await vault.recording_files.keep_fetched(fetch, await incoming.finish("7.wav"), "7.wav")
    (line,) = await vault.lines("7.1")
    assert await vault.received(line.recording_id) == sound()


async def test_what_never_came_is_given_up_and_still_taken_later(vault: Vault) -> None:
    await vault.end_call("7.1")
    assert await vault.db.engine(work.give_up_waiting, 86400.0, 100) == 0
    assert await vault.db.engine(work.give_up_waiting, -1.0, 100) == 1
    assert (await vault.lines("7.1"))[0].problem == "never_came"
    assert await vault.send(sound()) == "accepted"
    (line,) = await vault.lines("7.1")
    assert (line.state, line.problem) == ("stored", "")


async def test_leases_of_processes_that_died_are_given_back_and_younger_ones_kept(vault: Vault) -> None:
    await vault.recording_files.ask_for(JUNE, "https://pbx.example/1.wav", "7.1", [])
    (lost,) = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    began = await vault.db.engine(work.database_clock)
    await vault.recording_files.ask_for(MAPLE, "https://pbx.example/m.wav", "8.1", [])
    (young,) = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    await vault.db.engine(work.release_fetches, began, 60.0)
    (again,) = await vault.db.engine(work.claim_fetches, 4, 2, 60.0)
    assert (again.recording_id, again.epoch) == (lost.recording_id, lost.epoch + 1)
    assert young.tenant == MAPLE


async def test_a_disk_that_fills_up_on_the_way_keeps_its_reserve(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many uploads may begin on a disk that has room for one of them."""
    free = RecordingFiles.largest + shelf_module.SPARE
    monkeypatch.setattr("gateway.store.files.sealed_files.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    async with await vault.recording_files.new_file() as incoming:
        await incoming.write(sound(CHUNK * 8))
        free = shelf_module.SPARE - 1
        with pytest.raises(Unavailable, match="No space left"):
            await incoming.write(sound(CHUNK * 8))
    assert vault.files() == []
