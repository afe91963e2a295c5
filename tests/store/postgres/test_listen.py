"""Notifications arrive in order, and whenever some may be missing, everything is read again."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from gateway.domain.errors import Unavailable
from gateway.domain.ids import TenantId
from gateway.store.postgres import listen
from gateway.store.postgres.listen import Listener
from gateway.store.postgres.pool import Connection, Database

CHANNEL = "gateway_configuration"
PID = "SELECT pid FROM pg_stat_activity WHERE application_name = 'gateway listen' AND datname = current_database()"


async def value_of(conn: Connection, query: str, *args: object) -> object:
    return await conn.fetchval(query, *args)


@pytest.fixture(autouse=True)
def _quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "BACKOFF_S", (0.02, 0.05))


class Received:
    """What the callbacks were told; a test waits for the next of it."""

    def __init__(self) -> None:
        self.sender, self.receiver = trio.open_memory_channel[str](100_000)
        self.hold: Callable[[], Awaitable[None]] | None = None

    async def on_notify(self, channel: str, payload: str) -> None:
        assert channel == CHANNEL
        if self.hold is not None:
            await self.hold()
        await self.sender.send(payload)

    async def on_reset(self) -> None:
        if self.hold is not None:
            await self.hold()
        await self.sender.send("reset")

    async def next(self) -> str:
        with trio.fail_after(20):
            return await self.receiver.receive()


@asynccontextmanager
async def listening(listener: Listener, received: Received) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve_notifications, received.on_notify, received.on_reset)
        yield
        nursery.cancel_scope.cancel()


async def notify(db: Database, payload: str) -> None:
    await db.engine(value_of, "SELECT pg_notify($1, $2)", CHANNEL, payload)


async def test_a_connection_reads_everything_and_then_hears_in_order(db: Database) -> None:
    received, listener = Received(), Listener(db, [CHANNEL])
    async with listening(listener, received):
        assert await received.next() == "reset"
        assert listener.connected
        assert listener.last_heartbeat is not None
        for number in range(200):
            await notify(db, str(number))
        assert [await received.next() for _ in range(200)] == [str(number) for number in range(200)]
        assert isinstance(await db.engine(value_of, PID), int)
    assert listener.connects == 1


async def test_the_triggers_of_the_schema_are_heard(db: Database) -> None:
    received = Received()
    async with listening(Listener(db, [CHANNEL]), received):
        assert await received.next() == "reset"
        await db.engine(
            value_of,
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) VALUES ('0367', '', 'UTC', 'RU', 'ru', '')",
        )
        assert '"0367"' in await received.next()
        await db.tenant(TenantId("0367"), value_of, "INSERT INTO phones (tenant_id, number) VALUES ('0367', '101')")
        assert "phones" in await received.next()


async def test_a_killed_backend_is_replaced_and_everything_read_again(db: Database) -> None:
    received, listener = Received(), Listener(db, [CHANNEL])
    async with listening(listener, received):
        for turn in range(1, 4):
            assert await received.next() == "reset"
            assert listener.connects == turn
            await notify(db, f"turn {turn}")
            assert await received.next() == f"turn {turn}"
            pid = await db.engine(value_of, PID)
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGTERM)


@pytest.mark.slow
async def test_a_stalled_backend_is_found_by_the_heartbeat(db: Database) -> None:
    received, listener = Received(), Listener(db, [CHANNEL], heartbeat_s=0.1, dead_after_s=0.4)
    async with listening(listener, received):
        assert await received.next() == "reset"
        pid = await db.engine(value_of, PID)
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGSTOP)
        try:
            start = trio.current_time()
            assert await received.next() == "reset"
            assert 0.2 < trio.current_time() - start < 20
            await notify(db, "after")
            assert await received.next() == "after"
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_a_quiet_connection_stays(db: Database) -> None:
    received, listener = Received(), Listener(db, [CHANNEL], heartbeat_s=0.05, dead_after_s=0.3)
    async with listening(listener, received):
        assert await received.next() == "reset"
        first = listener.last_heartbeat
        await trio.sleep(0.7)
        assert listener.connects == 1
        assert first is not None
        assert listener.last_heartbeat is not None
        assert listener.last_heartbeat - first > 0.4


async def test_an_overflow_reads_everything_again(db: Database) -> None:
    received, listener = Received(), Listener(db, [CHANNEL], inbox=10)
    go_on = trio.Event()
    async with listening(listener, received):
        assert await received.next() == "reset"
        received.hold = go_on.wait
        await notify(db, "held")
        for number in range(30):
            await notify(db, str(number))
        with trio.fail_after(5):
            await wait_overflow(listener)
        go_on.set()
        reported = [await received.next()]
        while reported[-1] != "reset":
            reported.append(await received.next())
        assert len(reported) <= 12
        # Nothing is stuck. A hint that comes while the rest of the flood overflows once more is covered by that reset.
        with trio.fail_after(20):
            await wait_hint(db, received, "after")


async def wait_hint(db: Database, received: Received, payload: str) -> None:
    """Notifies until the hint itself arrives."""
    while True:
        await notify(db, payload)
        with trio.move_on_after(0.5):
            while await received.next() != payload:
                pass
            return


async def wait_overflow(listener: Listener) -> None:
    while True:
        if listener.overflows:
            return
        await trio.sleep(0.005)


async def test_a_reader_that_found_the_database_away_reads_everything_later(db: Database) -> None:
    received, failures = Received(), 2

    async def fail_first() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("not now")

    async with listening(Listener(db, [CHANNEL]), received):
        assert await received.next() == "reset"
        received.hold = fail_first
        await notify(db, "lost")
        assert await received.next() == "reset"
        assert not failures


async def test_a_bug_in_a_callback_comes_out(db: Database) -> None:
    async def bug() -> None:
        raise KeyError("a bug")

    received = Received()
    received.hold = bug
    with pytest.raises(ExceptionGroup) as caught:
        async with listening(Listener(db, [CHANNEL]), received):
            await trio.sleep(5)
    assert caught.group_contains(KeyError)
