"""Fetching: tried again until it is there, given up after a day, never two tries at once; and what a tenant's actor tells
of a recording that is expected."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.calls import recordings
from actors.calls.calls_book import POSTED
from actors.calls.expected_recordings import ExpectedRecordings
from actors.calls.recordings import DELAY_CAP_S, FetchActor, delay_s
from actors.runtime.directory import Slot
from actors.services import Services
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.errors import BadCredentials, Unavailable
from gateway.domain.events import CallEnded, CallEvent, Direction, Result
from gateway.domain.ids import CallId, TenantId
from gateway.store import call_batches
from gateway.store import recording_queue as store
from gateway.store.files.recording_files import RecordingFiles, TooLarge
from gateway.store.recording_queue import Fetch
from gateway.store.secrets.seal import DataKey, new_master_key, parse_master_keys

JUNE = TenantId("0367")
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
_MASTER = parse_master_keys(new_master_key())
KEYS = _MASTER.sealer(JUNE, _MASTER.wrap(JUNE, DataKey(1, b"k" * 32)))


@dataclass
class WorkTable:
    """The few functions that the actor calls."""

    due: list[Fetch] = field(default_factory=list)
    failed: list[tuple[int, str, float | None]] = field(default_factory=list)
    waiting: list[Fetch] = field(default_factory=list)
    away: bool = False
    instances: int = 1
    released: list[Any] = field(default_factory=list)
    first_round: trio.Event = field(default_factory=trio.Event)

    async def engine(self, work: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        if work is store.claim_fetches:
            taken, self.due = self.due[: args[0]], self.due[args[0] :]
            return taken
        if work is store.fail_fetch:
            self.failed.append((args[0].attempt, args[1], args[3]))
        elif work is store.wait_to_be_sent:
            self.waiting.append(args[0])
        elif work is store.database_clock:
            return NOW
        else:
            assert work is store.release_fetches
            self.released.append(args)
        return None


def fetch(attempt: int = 1, requested: timedelta = timedelta(0)) -> Fetch:
    now = datetime.now(UTC)
    return Fetch(JUNE, UUID(int=attempt), "7.1", "main", "x.wav", None, now, now - requested, attempt, attempt)


class Actor(FetchActor):
    """Fetches nothing: `outcome` is what comes of it."""

    def __init__(self, table: WorkTable, outcome: Exception | None = None) -> None:
        super().__init__(cast(Services, SimpleNamespace(db=table, ownership=table)), cast(RecordingFiles, None))
        self.outcome = outcome
        self.at_once = self.most = self.done = 0

    def _where(self, fetch: Fetch) -> Any:
        return (None, None)

    async def _fetch(self, fetch: Fetch, *found: Any) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await trio.sleep(5)
        finally:
            self.at_once -= 1
        if self.outcome is not None:
            raise self.outcome
        self.done += 1


async def run(actor: Actor, seconds: float) -> Slot:
    slot = Slot("system/recordings", "recordings")
    with trio.move_on_after(seconds):
        await actor.run(slot)
    return slot


async def test_a_few_at_a_time_and_all_in_the_end(autojump_clock: trio.testing.MockClock) -> None:
    table = WorkTable([fetch(n) for n in range(1, 41)])
    actor = Actor(table)
    await run(actor, 60)
    assert (actor.done, actor.most) == (40, recordings.AT_ONCE)
    assert table.failed == []


@pytest.mark.parametrize(
    ("error", "attempt", "requested", "reported"),
    [
        (Unavailable("status 500"), 1, timedelta(0), ("unavailable", 3.0)),
        (Unavailable("status 500"), 3, timedelta(0), ("unavailable", 10.0)),
        (Unavailable("status 500"), 30, timedelta(hours=23), ("unavailable", DELAY_CAP_S)),
        (Unavailable("status 500"), 60, timedelta(hours=25), ("unavailable", None)),
        (BadCredentials("status 401"), 2, timedelta(0), ("refused", 5.0)),
        (TooLarge(), 1, timedelta(0), ("too_large", None)),
    ],
)
async def test_what_comes_of_a_failure(
    autojump_clock: trio.testing.MockClock,
    error: Exception,
    attempt: int,
    requested: timedelta,
    reported: tuple[str, float | None],
) -> None:
    table = WorkTable([fetch(attempt, requested)])
    await run(Actor(table, error), 20)
    assert table.failed == [(attempt, *reported)]


async def test_a_file_that_comes_too_slowly_is_let_go(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "FETCH_S", 2.0)
    table = WorkTable([fetch()])
    await run(Actor(table), 20)
    assert table.failed == [(1, "unavailable", 3.0)]


async def test_without_an_address_it_waits_to_be_sent(autojump_clock: trio.testing.MockClock) -> None:
    table = WorkTable([fetch()])
    actor = Actor(table)
    actor._where = lambda fetch: None  # type: ignore[method-assign]
    await run(actor, 5)
    assert len(table.waiting) == 1
    assert table.failed == []


async def test_leases_of_another_instance_are_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    table = WorkTable(instances=2)
    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, Actor(table), 30)
            await trio.sleep(5)
            table.first_round.set()
            await trio.sleep(5)
            assert table.released == []
            table.instances = 1
    assert table.released == [(NOW, recordings.LEASE_S)]


async def test_a_database_that_is_away_is_a_state(autojump_clock: trio.testing.MockClock) -> None:
    table = WorkTable([fetch()], away=True)
    actor = Actor(table)
    slot = await run(actor, 3)
    assert slot.health.code == "database_away"
    table.away = False
    await run(actor, 20)
    assert actor.done == 1


async def test_a_tenant_that_cannot_be_read_keeps_nobody_elses_from_their_calls() -> None:
    joined: list[TenantId] = []
    maple = TenantId("9999")

    async def engine(work: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if work is store.select_joins:
            return [store.Join(number, UUID(int=1), "7.1", "7.1") for number in (maple, JUNE)]
        joined.append(args[0].tenant)
        return None

    recording_files = RecordingFiles(cast(Any, None), cast(Any, None), Path("unused"), {JUNE: KEYS}.get)
    services = SimpleNamespace(db=SimpleNamespace(engine=engine), cache=SimpleNamespace(sealer={JUNE: KEYS}.get))
    await recordings._join(cast(Services, services), recording_files, 900.0)
    assert joined == [JUNE]


def test_pauses_grow() -> None:
    delays = [delay_s(n) for n in range(1, 100)]
    assert delays == sorted(delays)
    assert sum(delays) > 86400


# At the hangup


def emit(source: str, event: CallEnded, **options: Any) -> tuple[Call, CallEvent, call_batches.CallBatch]:
    """What a tenant's actor makes of the end of a call."""
    tenant = Tenant(JUNE, "June", ZoneInfo("UTC"), "BY", "en", options={"recordings": options})
    recording_files = RecordingFiles(cast(Any, None), cast(Any, None), Path("unused"), lambda tenant: KEYS)
    recordings = ExpectedRecordings(tenant, recording_files, "https://gw.example")
    call, recording = apply(None, event), call_batches.CallBatch(JUNE)
    assert call is not None
    linked, said, expected = recordings.with_link(source, call, event, event.at, posted=source == POSTED)
    recording.expected += [expected] if expected is not None else []
    return linked, said, recording


def ended(recording: str | None, result: Result = Result.ANSWERED) -> CallEnded:
    return CallEnded(
        call_id=CallId("7.1"), at=datetime(2026, 11, 21, 10, 0, tzinfo=UTC), direction=Direction.INCOMING, caller="1",
        called="2", trunk=None, extension="150", last_extension="150", rang=("150",), result=result, wait_s=1.0,
        talk_s=2.0, hung_up_by=None, recording=recording,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "recording", "posted", "pbx", "fetched"),
    [
        ("main", "7.1.wav", False, "main", True),
        (POSTED, "https://pbx.example/7.wav?k=s", False, "", True),
        (POSTED, None, True, "", False),
    ],
)
def test_where_a_recording_is_expected_the_link_is_told_and_is_always_the_same(
    source: str, recording: str | None, posted: bool, pbx: str, fetched: bool
) -> None:
    (call, said, made), (_, again, _) = (emit(source, ended(recording), keep_days=2, posted=posted) for _ in range(2))
    assert isinstance(said, CallEnded)
    assert said == again
    assert said.recording == call.recording
    assert said.recording is not None
    assert said.recording.startswith("https://gw.example/recordings/file/")
    assert f"expires={int((said.at + timedelta(days=2)).timestamp())}" in said.recording
    (row,) = made.expected
    assert str(row.recording_id) in said.recording
    assert (row.pbx, row.run_at is not None) == (pbx, fetched)
    assert row.url is None or "pbx.example" not in row.url


@pytest.mark.parametrize(
    ("source", "result", "posted"),
    [("main", Result.ANSWERED, True), (POSTED, Result.MISSED, True), (POSTED, Result.ANSWERED, False)],
)
def test_where_none_is_expected_nothing_is_told(source: str, result: Result, posted: bool) -> None:
    event = ended(None, result)
    _, said, made = emit(source, event, posted=posted)
    assert said is event
    assert made.expected == []
