"""External ids in the middle of a delivery, on a real outbox: an attempt that is stopped after any step makes nothing twice."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio

from actors.delivery.external_ids import ExternalIds, UnstoredIds
from adapters.base import Attempt, Delivered
from gateway.domain.errors import Replaced, Unavailable
from gateway.domain.subjects import call_subject
from gateway.store import call_batches, outbox
from gateway.store.external_ids import delete_old_external_ids, select_external_ids, upsert_external_id
from gateway.store.outbox import Claim, Outcome
from gateway.store.postgres.pool import Connection, Database
from tests.actors.delivery.test_worker import KIND, TENANT, World, rows_of_lanes, world
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

DONE = Outcome(state="done", status="done")


async def write(db: Database) -> None:
    """A tenant, and one delivery about one call."""

    async def tenant(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
            "VALUES ($1, 'June', 'UTC', 'BY', 'ru', 'sealed:v1:abcdefgh:x')",
            TENANT.number,
        )

    await db.engine(tenant)
    await db.engine(call_batches.record, [call_batches.CallBatch(TENANT.number, deliveries=rows_of_lanes(1, 1))])


async def claim(db: Database, lease_s: float = 20.0) -> Claim:
    (one,) = await db.engine(outbox.claim_deliveries, TENANT.number, KIND, 10, lease_s)
    return one


async def ids(db: Database, about: Claim) -> dict[str, str]:
    return await db.engine(select_external_ids, TENANT.number, KIND, about.subject)


class Crm:
    """Finds nothing, creates whatever is asked for, and links; stops where it is told to."""

    def __init__(self, stop_after: str = "") -> None:
        self.made: list[str] = []
        self.linked: list[tuple[str, str]] = []
        self.stop_after = stop_after
        self.reached = trio.Event()

    async def step(self, name: str) -> None:
        if name == self.stop_after:
            self.reached.set()
            await trio.sleep_forever()

    async def deliver(self, attempt: Attempt) -> Delivered:
        contact = await self.find_or_make(attempt, "contact")
        lead = await self.find_or_make(attempt, "lead")
        self.linked.append((contact, lead))
        await self.step("link")
        return Delivered()

    async def find_or_make(self, attempt: Attempt, name: str) -> str:
        known = await attempt.known(name)
        if known is None:
            known = f"{name}-{len(self.made) + 1}"
            self.made.append(known)
            await attempt.remember(name, known)
        await self.step(name)
        return known


def deliver_with(here: World, crm: Crm) -> None:
    here.deliver = crm.deliver  # type: ignore[method-assign]


@pytest.mark.parametrize("step", ["contact", "lead", "link"])
async def test_a_kill_after_any_step_makes_nothing_twice(db: Database, step: str) -> None:
    await write(db)
    crm = Crm(stop_after=step)
    async with world(db=db) as here:
        deliver_with(here, crm)
        with trio.fail_after(5):
            await crm.reached.wait()
        await here.stop()  # cancels the attempt; its lease goes back
        crm.stop_after = ""
        here.start()
        with trio.fail_after(5):
            while len(crm.linked) < (2 if step == "link" else 1):
                await trio.sleep(0.01)
    assert crm.made == ["contact-1", "lead-2"]
    assert set(crm.linked) == {("contact-1", "lead-2")}


async def test_an_id_is_stored_though_the_attempt_is_cancelled_meanwhile(db: Database) -> None:
    await write(db)
    one = await claim(db)
    with trio.CancelScope() as scope:
        scope.cancel()  # as a stop of the gateway between the answer and the next step
        await ExternalIds(db, one, UnstoredIds()).remember("contact", "7")
    assert await ids(db, one) == {"contact": "7"}


async def test_another_instance_holds_the_delivery(db: Database) -> None:
    await write(db)
    slow = await claim(db, lease_s=0.0)
    quick = await claim(db)
    assert (slow.delivery_id, slow.epoch + 1) == (quick.delivery_id, quick.epoch)
    await ExternalIds(db, quick, UnstoredIds()).remember("contact", "of the holder")
    with pytest.raises(Replaced):
        await ExternalIds(db, slow, UnstoredIds()).remember("contact", "of the late one")
    assert await ExternalIds(db, slow, UnstoredIds()).known("contact") == "of the holder"
    await db.engine(outbox.finish_delivery, quick, DONE)
    assert not await db.engine(upsert_external_id, quick, quick.subject, "contact", "after the end")


async def test_a_later_id_takes_the_place_of_an_earlier_and_subjects_are_apart(db: Database) -> None:
    await write(db)
    one = await claim(db)
    found = ExternalIds(db, one, UnstoredIds())
    assert await found.known("contact") is None
    await found.remember("contact", "7")
    await found.remember("contact", "8")  # somebody has deleted 7 over there
    assert (await found.known("contact"), await ids(db, one)) == ("8", {"contact": "8"})
    assert await db.engine(select_external_ids, TENANT.number, KIND, call_subject("another")) == {}
    for wrong in (("", "7"), ("contact", ""), ("contact", "x" * 501)):
        with pytest.raises(ValueError, match="external id"):
            await found.remember(*wrong)
    assert await db.engine(delete_old_external_ids, 60.0, 100) == 0
    assert await db.engine(delete_old_external_ids, 0.0, 100) == 1


class Flaky:
    """A database that is away for the statements named."""

    def __init__(self, db: Database, away: Sequence[Callable[..., Awaitable[Any]]]) -> None:
        self._db = db
        self.away = away

    async def engine(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if work in self.away:
            raise Unavailable("away", certain=False)
        return await self._db.engine(work, *args)


async def test_what_the_database_could_not_take_is_known_to_the_next_attempt(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.delivery.external_ids.STORE_WITHIN_S", 0.3)
    await write(db)
    one, unstored, flaky = await claim(db), UnstoredIds(), Flaky(db, [upsert_external_id])
    with pytest.raises(Unavailable):
        await ExternalIds(flaky, one, unstored).remember("contact", "7")  # type: ignore[arg-type]
    flaky.away = []
    assert await ExternalIds(db, one, unstored).known("contact") == "7"
    assert await ids(db, one) == {"contact": "7"}


async def test_an_attempt_without_a_store_knows_its_own() -> None:
    attempt = Attempt(kind="test", key="", lane="", body={})
    assert await attempt.known("contact") is None
    await attempt.remember("contact", "7")
    assert await attempt.known("contact") == "7"
