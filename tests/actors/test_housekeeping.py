"""Pruning: one table that fails leaves the others to be pruned, and nothing begins anew at once."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from actors import housekeeping
from actors.housekeeping import PRUNE_EVERY_S, prune
from actors.runtime.directory import Slot
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.store import audit_chain, journal, users
from gateway.store.postgres.errors import QueryFailed


class Fake:
    """A database that refuses one statement."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.requested: list[Any] = []

    async def engine(self, work: Any, *args: Any) -> int:
        await trio.lowlevel.checkpoint()
        self.requested.append(work)
        if work is journal.delete_old_rest and self.error is not None:
            raise self.error
        return 0


async def pruned(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Slot:
    async def no_days(dsn: str, keep_s: float) -> tuple[list[Any], list[Any]]:
        return [], []

    monkeypatch.setattr(housekeeping, "keep_days", no_days)
    slot = Slot("system/pruning")
    with trio.move_on_after(1.5 * PRUNE_EVERY_S):
        await prune(SimpleNamespace(db=fake), "", slot)  # type: ignore[arg-type]
    return slot


async def test_a_statement_that_fails_is_logged_and_tried_again_later(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, expected_errors: None
) -> None:
    fake = Fake(QueryFailed("canceling statement due to statement timeout", code="57014"))
    slot = await pruned(fake, monkeypatch)
    assert (slot.health.state, slot.health.code) == (State.DEGRADED, "not_pruned")
    for work in (journal.delete_old_rest, audit_chain.delete_old_audit, users.delete_stale_sessions):
        assert fake.requested.count(work) == 2


async def test_a_database_that_is_away_is_left_alone_for_a_while(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(Unavailable("away"))
    slot = await pruned(fake, monkeypatch)
    assert (slot.health.state, slot.health.code) == (State.DEGRADED, "database_away")
    assert (fake.requested.count(journal.delete_old_rest), fake.requested.count(users.delete_stale_sessions)) == (2, 0)


async def test_all_is_well(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await pruned(Fake(), monkeypatch)).health.state is State.ONLINE
