"""A company whose recorded calls are transcribed, on a real PostgreSQL, a folder of files and the sandbox servers."""

import json
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import trio

from actors.ai.transcribing import Transcribing
from actors.calls.handed_recordings import TenantRecordings
from actors.feed import Feed
from actors.runtime.directory import Slot
from actors.services import Doorbells
from adapters.base import Draft
from adapters.llm.client import ModelSettings, ModelTimeouts
from gateway.domain.ai import AiBlock, settings_of
from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId, IntegrationKey, TenantId
from gateway.domain.secret import Secret
from gateway.store import call_batches
from gateway.store import call_transcripts as store
from gateway.store.call_batches import CallBatch
from gateway.store.call_transcripts import TranscriptRow
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.pool import Connection, Database
from gateway.store.secrets.seal import Sealer, new_data_key, new_master_key, parse_master_keys
from gateway.store.tenants import TenantRow, upsert_tenant
from tests.sandbox.llm import KEY as LLM_KEY
from tests.sandbox.llm import MODEL as LLM_MODEL
from tests.sandbox.llm import LanguageModel
from tests.sandbox.transcriber import KEY, MODEL, Transcriber

JUNE = TenantId("0367")
CRM = IntegrationKey("retailcrm")
QUICK = ModelTimeouts(connect_s=1.0, first_s=2.0, gap_s=2.0, whole_s=2.0)
CLIENT = "+375296254070"


def stereo(left: bytes, right: bytes, rate: int = 8000) -> bytes:
    """A WAV file of two channels of 16-bit samples, the shorter one filled with silence."""
    frames = max(len(left), len(right)) // 2
    body = bytearray(4 * frames)
    for at, one in ((0, left), (2, right)):
        padded = one.ljust(2 * frames, b"\0")
        body[at::4], body[at + 1 :: 4] = padded[0::2], padded[1::2]
    return wav_of(bytes(body), 2, rate)


def wav_of(body: bytes, channels: int = 1, rate: int = 8000) -> bytes:
    """A WAV file of 16-bit samples."""
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@dataclass
class Office:
    """One company, its files and what was announced of it."""

    db: Database
    files: RecordingFiles
    keys: Sealer
    speech: Transcriber
    model: LanguageModel
    calls: dict[str, Any] = field(default_factory=lambda: {"transcribe": True, "summarise": True})
    more: dict[str, Any] = field(default_factory=dict)
    slot: Slot = field(default_factory=lambda: Slot("tenant/0367/transcripts"))
    planned: list[tuple[Call, str]] = field(default_factory=list)
    changed: list[Any] = field(default_factory=list)

    @property
    def settings(self) -> AiBlock:
        """Of the block `ai`."""
        return settings_of({"ai": {"calls": self.calls, **self.more}}, {})

    @property
    def tenant(self) -> Tenant:
        """The company."""
        return Tenant(JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru")

    def plan(self, call: Call, recording: str) -> Sequence[Draft]:
        """A CRM's planner."""
        self.planned.append((call, recording))
        return [Draft(kind="summary", key=f"{call.call_id}:summary", body={"recording": recording})]

    def actor(self, **more: Any) -> Transcribing:
        """The one that works."""
        services: Any = SimpleNamespace(
            db=self.db, feed=Feed(self.changed.append), bells=Doorbells(), recording_files=self.files,
            sound_pieces=trio.CapacityLimiter(4),
        )  # fmt: skip
        speech = ModelSettings(url=self.speech.url, key=Secret(more.pop("key", KEY)), model=MODEL)
        model = ModelSettings(url=self.model.url, key=Secret(LLM_KEY), model=LLM_MODEL)
        planners = {CRM: self.plan, **more.pop("planners", {})}
        return Transcribing(self.tenant, self.settings, speech, model, services, planners, timeouts=QUICK, **more)

    @asynccontextmanager
    async def working(self, **more: Any) -> AsyncIterator[None]:
        """The actor runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.actor(**more).run, self.slot)
            yield
            nursery.cancel_scope.cancel()

    async def store_options(self) -> None:
        """The company as the database has it."""

        async def save(conn: Connection) -> None:
            await conn.execute(
                "UPDATE tenants SET options = $2::jsonb WHERE tenant_id = $1",
                JUNE, json.dumps({"ai": self.settings.plain()}),
            )  # fmt: skip

        await self.db.engine(save)

    async def call(
        self, call_id: str = "7.1", *, talk_s: float = 60.0, answered: bool = True, open: bool = False
    ) -> None:
        """A call with the client, ended unless it goes on."""
        now = datetime.now(UTC)
        batch = CallBatch(JUNE)
        batch.calls[CallId(call_id)] = "main", Call(
            call_id=CallId(call_id), phase=Phase.TALKING if open else Phase.ENDED, direction=Direction.INCOMING, caller=CLIENT,
            called="+375172000000", trunk="t", started_at=now - timedelta(seconds=talk_s), rang=("150",), extension="150",
            last_extension="150", answered_at=now - timedelta(seconds=talk_s) if answered else None,
            ended_at=None if open else now, talk_s=None if open or not answered else talk_s,
            result=None if open else Result.ANSWERED if answered else Result.MISSED, events=1 if open else 2,
        )  # fmt: skip
        await self.db.engine(call_batches.record, [batch])

    async def record(self, data: bytes, call_id: str = "7.1", name: str = "a.wav") -> None:
        """The recording of a call comes."""
        async with await self.files.new_file() as incoming:
            for at in range(0, len(data), 1_000_000):
                await incoming.write(data[at : at + 1_000_000])
            sealed = await incoming.finish(name)
            assert await self.files.keep(JUNE, sealed, call_id, ["main"], name) == "accepted"

    async def rows(self, call_id: str = "7.1") -> list[TranscriptRow]:
        """What there is of a call."""
        return await self.db.tenant(JUNE, store.select_transcripts, JUNE, call_id)

    async def until(
        self, condition: Callable[[TranscriptRow], Any], call_id: str = "7.1", within_s: float = 10.0
    ) -> TranscriptRow:
        """Waits until the text of a call is so."""
        with trio.fail_after(within_s):
            while True:
                for row in await self.rows(call_id):
                    if condition(row):
                        return row
                await trio.sleep(0.01)

    async def until_over(self, call_id: str = "7.1", within_s: float = 10.0) -> TranscriptRow:
        """Waits until nothing more becomes of it."""
        return await self.until(lambda row: row.state != "waiting", call_id, within_s)

    def opened(self, row: TranscriptRow, column: str) -> str:
        """What is sealed."""
        sealed = getattr(row, column)
        return self.keys.open(sealed, table=store.TABLE, column=column, row=str(row.recording_id)).reveal()

    async def query(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Of the database, as the engine."""

        async def work(conn: Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await conn.fetch(query, *values)]

        return await self.db.engine(work)

    @property
    def recordings(self) -> TenantRecordings:
        """What a client of a CRM is given."""
        return TenantRecordings(self.files, JUNE)


async def open_office(db: Database, folder: Path, speech: Transcriber, model: LanguageModel, **calls: Any) -> Office:
    """A company that has its calls transcribed and summarised, or as `calls` says."""
    master = parse_master_keys(new_master_key())
    wrapped = master.wrap(JUNE, new_data_key())
    keys = master.sealer(JUNE, wrapped)
    files = RecordingFiles(
        db, FolderBlobs(folder / "recordings", trio.CapacityLimiter(4)), folder / "incoming", {JUNE: keys}.get
    )
    files.clean_spool()
    office = Office(db, files, keys, speech, model)
    office.calls |= calls
    await db.engine(
        upsert_tenant, TenantRow(JUNE, "June", "Europe/Minsk", "BY", "ru", None, wrapped, {}, 0, (), (), ())
    )
    await office.store_options()
    return office
