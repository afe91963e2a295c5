"""`/download` without a server around it: parts in any order and any pieces, strangers held off, everything refused that
makes no sense, and nothing left of it."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from gateway.domain.configuration import Tenant
from gateway.store import recordings as rows
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.web.api.uploads import AT_ONCE, PER_TENANT, STRANGERS, upload_addresses
from gateway.web.http.routes import Address, Request, Response, answer
from tests.sound import wav
from tests.web.world import JUNE, MAPLE, World

TOKEN = "t" * 40
SOUND = wav(0.3)
BOUNDARY = "----boundary7"
FILE = ("file", SOUND, "a.wav")
FIELDS = (("Token", TOKEN.encode(), None), ("UniqueId", b"7.1", None))
Part = tuple[str, bytes, str | None]


def form(*parts: Part, end: bool = True) -> bytes:
    body = b""
    for name, value, file in parts:
        told = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
        body += f"--{BOUNDARY}\r\nContent-Disposition: {told}\r\n\r\n".encode() + value + b"\r\n"
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


class UploadStage:
    """The address over stored recordings, and what lies on disk."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.number = JUNE
        self.tokens_seen = 0
        blobs = FolderBlobs(folder / "recordings", trio.CapacityLimiter(4))
        self.recording_files = RecordingFiles(world.db, blobs, folder / "incoming", world.cache.sealer)
        self.recording_files.clean_spool()
        (self.address,) = upload_addresses(self.recording_files, self.tenant_of)

    def tenant_of(self, token: str | None) -> Tenant | None:
        self.tokens_seen += 1
        return self.world.cache.tenant(self.number) if token == TOKEN else None

    async def send(
        self, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}", piece: int = 4096
    ) -> Any:
        pieces = iter([body[at : at + piece] for at in range(0, len(body), piece)])

        async def pull() -> bytes:
            await trio.lowlevel.checkpoint()
            return next(pieces, b"")

        return await self.ask(pull, kind)

    async def ask(self, pull: Any, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> Response:
        address: Address = self.address
        return await answer(address, Request(method="POST", path="/download", headers={"content-type": kind}), pull)

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
async def stage(world: World, tmp_path: Path) -> UploadStage:
    return UploadStage(world, tmp_path)


@pytest.mark.parametrize("order", list(itertools.permutations((FILE, *FIELDS))))
async def test_the_parts_come_in_any_order(stage: UploadStage, order: tuple[Part, ...]) -> None:
    assert b"accepted" in (await stage.send(form(*order))).body
    assert b"duplicate" in (await stage.send(form(*order), piece=100_000)).body
    (line,) = await stage.world.db.tenant(JUNE, rows.select_call_recordings, JUNE, "7.1")
    assert (line.content_type, line.file_name) == ("audio/wav", "a.wav")
    assert line.peaks
    assert len(stage.files()) == 1


@pytest.mark.parametrize("piece", [1, 2, 3, 61])
async def test_in_pieces_of_any_size(stage: UploadStage, piece: int) -> None:
    tricky = b"\r\n--" + BOUNDARY.encode()[:-1] + b"x\r\n\r\n--\r" + b"\n" * 30
    assert (await stage.send(form(*FIELDS, ("file", tricky, "a")), piece=piece)).status == 200
    (line,) = await stage.world.db.tenant(JUNE, rows.select_call_recordings, JUNE, "7.1")
    found = await stage.world.db.tenant(JUNE, rows.select_opened, JUNE, line.recording_id)
    assert found is not None
    assert found[1] is not None
    opened = await stage.recording_files.open(JUNE, found[1])
    assert b"".join([part async for part in opened.read(0, opened.size)]) == tricky


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(*FIELDS), 422), (form(FILE), 401), (form(FILE, FIELDS[1]), 401), (form(FIELDS[0], FILE), 422),
        (form(("Token", b"wrong", None), FILE), 401), (form(*FIELDS, ("file", b"", "a.wav")), 422),
        (form(*FIELDS, FILE, FILE), 422), (form(*FIELDS, FILE, end=False), 422), (b"", 422), (b"nothing of the sort", 422),
        (form(FIELDS[0], FIELDS[0], FILE), 422), (form(FIELDS[0], ("UniqueId", b"x" * 5000, None), FILE), 422),
        (form(FIELDS[0], ("UniqueId", b"7\0.1", None), FILE), 422), (form(FIELDS[0], ("UniqueId", b"x" * 129, None), FILE), 422),
        (form(FIELDS[0], *((f"f{n}", b"", None) for n in range(40))), 422),
        (f"--{BOUNDARY}\r\nContent-Type: text/plain\r\n\r\nx\r\n--{BOUNDARY}--\r\n".encode(), 422),
        (f"--{BOUNDARY}\r\nX: {'y' * 400_000}".encode(), 422),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_leaves_nothing(stage: UploadStage, body: bytes, status: int) -> None:
    for piece in (50, 5000):
        found = await stage.send(body, piece=piece)
        assert (found.status, found.content_type) == (status, "application/problem+json")
        assert TOKEN.encode() not in found.body
    assert stage.files() == []


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="\\"']
)
async def test_without_a_boundary(stage: UploadStage, kind: str) -> None:
    assert (await stage.send(form(*FIELDS, FILE), kind)).status == 422


async def test_strangers_wait_outside(stage: UploadStage) -> None:
    enough = trio.Event()
    statuses: list[int] = []

    def stranger() -> Any:
        pieces = iter([form(FILE, end=False)])

        async def pull() -> bytes:
            if (piece := next(pieces, None)) is not None:
                return piece
            await enough.wait()
            return b""

        return pull

    async def come() -> None:
        statuses.append((await stage.ask(stranger())).status)

    async with trio.open_nursery() as nursery:
        for _ in range(STRANGERS):
            nursery.start_soon(come)
        with trio.fail_after(5):
            while len(stage.files()) < STRANGERS:
                await trio.sleep(0.01)
        await come()
        assert statuses == [503], "no more than a few unknown callers have our disk"
        assert (await stage.send(form(*FIELDS, FILE))).status == 200, "who shows the token first does not wait"
        enough.set()
    assert statuses[1:] == [422] * STRANGERS
    assert len(stage.files()) == 1
    assert (await stage.send(form(FILE, *FIELDS))).status == 200, "the places are free again"


async def test_one_company_takes_not_all_places(stage: UploadStage) -> None:
    enough = trio.Event()
    statuses: list[int] = []

    def slow(*parts: Part) -> Any:
        pieces = iter([form(*parts, end=False)])

        async def pull() -> bytes:
            if (piece := next(pieces, None)) is not None:
                return piece
            await enough.wait()
            return b""

        return pull

    async def come(*parts: Part) -> None:
        statuses.append((await stage.ask(slow(*parts))).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come, FILE, *FIELDS)  # whose token comes last is counted too
        for _ in range(PER_TENANT - 1):
            nursery.start_soon(come, *FIELDS, FILE)
        with trio.fail_after(5):
            while len(stage.files()) < PER_TENANT or stage.tokens_seen < PER_TENANT:
                await trio.sleep(0.01)
        assert (await stage.send(form(*FIELDS, FILE))).status == 503
        assert (await stage.send(form(FILE, *FIELDS))).status == 503
        stage.number = MAPLE
        assert (await stage.send(form(*FIELDS, FILE))).status == 200, "another company has places"
        stage.number = JUNE
        enough.set()
    assert statuses == [422] * PER_TENANT
    assert (await stage.send(form(*FIELDS, FILE))).status == 200, "the places are free again"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"Token": "%s", "UniqueId": "7.1", "url": "https://pbx.example/1.wav"}', 200),
        (b'{"Token": "%s", "UniqueId": "7.1"}', 422),
        (b'{"Token": "%s", "UniqueId": "7.1", "url": "file:///etc/passwd"}', 422),
        (b'{"Token": "%s", "url": "https://pbx.example/1.wav"}', 422),
        (b'{"Token": "x", "UniqueId": "7.1", "url": "https://pbx.example/1.wav"}', 401), (b"[]", 422), (b"{", 422), (b"", 422),
    ],
)  # fmt: skip
async def test_an_address_to_fetch_from(stage: UploadStage, body: bytes, status: int) -> None:
    found = await stage.send(body.replace(b"%s", TOKEN.encode()), "application/json")
    assert found.status == status
    assert len(await stage.world.db.tenant(JUNE, rows.select_call_recordings, JUNE, "7.1")) == (status == 200)


async def test_too_large(stage: UploadStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingFiles, "largest", 1000)
    found = await stage.send(form(*FIELDS, FILE))
    assert (found.status, b"PAYLOAD_TOO_LARGE" in found.body) == (413, True)
    assert (await stage.send(b" " * 300_000, "application/json")).status == 413
    assert stage.files() == []


async def test_forms_that_come_to_no_file_keep_nobody_out(stage: UploadStage) -> None:
    begun = 0

    async def silent() -> bytes:
        nonlocal begun
        begun += 1
        if begun <= 2 * AT_ONCE:
            return form(("UniqueId", b"7.1", None), end=False)
        return await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(2 * AT_ONCE):
            nursery.start_soon(stage.ask, silent)
        await trio.testing.wait_all_tasks_blocked()
        assert b"accepted" in (await stage.send(form(*FIELDS, FILE))).body
        nursery.cancel_scope.cancel()
