"""Calls requested by a webhook: one order each, what goes with it in the same commit, and what a refusal leaves behind."""

import json
from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trio

from actors.calls.click_to_call import ClickToCall
from actors.calls.requested_calls import RequestedCalls
from actors.delivery.clients import Clients
from actors.runtime.directory import Directory, Slot
from adapters.abilities import CallOrder, Responsible
from adapters.inbound import UNUSED_CALL, RequestedCall
from gateway.domain.configuration import Connector, Phone, Tenant
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import IntegrationKey, Kind, TenantId
from gateway.domain.subjects import call_subject
from gateway.store.external_ids import select_external_ids
from gateway.store.postgres.pool import Connection, Database
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

JUNE, KEY = TenantId("0367"), IntegrationKey("crm:main")
TENANT = Tenant(
    JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru", phones=(Phone("150"), Phone("151")),
    pbxes=(Connector("main", Kind("pbx"), {}),), user_extensions={KEY: {"19": "150", "22": None}},
)  # fmt: skip


class Pbx:
    def __init__(self) -> None:
        self.placed: list[CallOrder] = []

    def can_place(self) -> bool:
        return True

    def call_of(self, order_id: str) -> str:
        return order_id

    async def place(self, order: CallOrder) -> None:
        self.placed.append(order)


class Crm:
    """Knows who is responsible, or is away."""

    answer: Responsible | None = None
    away = False

    async def responsible(self, phone: str) -> Responsible | None:
        if self.away:
            raise Unavailable("away")
        return self.answer


class Here:
    def __init__(self, db: Database) -> None:
        self.db, self.pbx, self.crm, self.rung = db, Pbx(), Crm(), list[str]()
        directory, self.clients = Directory(), Clients()
        slot = Slot("tenant/0367/pbx/main", "main")
        directory.add(slot)
        slot.report(State.ONLINE)
        self.dialling = ClickToCall(db, directory, self.clients)
        self.requested = RequestedCalls(db, self.dialling, self.clients, lambda tenant, key: self.rung.append(key))

    async def place(self, **fields: Any) -> None:
        given = {
            "id": "c-1",
            "phone": "+375291112233",
            "user_id": "19",
            "unused": {"call_id": "c-1"},
            "ids": {"call": "c-1"},
        }
        await self.requested.place(TENANT, KEY, [RequestedCall(**(given | fields))])

    async def rows(self, query: str) -> list[Any]:
        async def read(conn: Connection) -> list[Any]:
            return [dict(row) for row in await conn.fetch(query)]

        return await self.db.engine(read)

    async def orders(self) -> list[Any]:
        return await self.rows("SELECT order_id, call_id, person, number, asked_by FROM call_orders ORDER BY asked_at")

    async def deliveries(self) -> list[tuple[str, dict[str, Any]]]:
        found = await self.rows("SELECT kind, subject_id, body FROM deliveries ORDER BY delivery_id")
        return [(row["subject_id"], json.loads(row["body"])) for row in found if row["kind"] == UNUSED_CALL]


@pytest.fixture
async def here(db: Database) -> AsyncIterator[Here]:
    async def company(conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO tenants (tenant_id, name, timezone, country, language, data_key) "
            "VALUES ('0367', 'June', 'Europe/Minsk', 'BY', 'ru', 'a:0367:c')"
        )

    await db.engine(company)
    made = Here(db)
    with (
        made.clients.lend("tenant/0367/pbx/main", made.pbx),
        made.clients.lend(f"tenant/0367/integration/{KEY}", made.crm),
    ):
        yield made


async def test_an_order_has_its_ids_before_its_first_event(here: Here) -> None:
    await here.place()
    (order,) = await here.orders()
    assert (order["person"], order["number"], order["asked_by"]) == ("150", "+375291112233", KEY)
    assert await here.db.tenant(JUNE, select_external_ids, JUNE, KEY, call_subject(order["call_id"])) == {"call": "c-1"}
    ((subject, body),) = await here.deliveries()
    assert (subject, body["call_id"], "refused" in body) == (order["call_id"], "c-1", False)
    assert body["at"] > 1_700_000_000
    assert here.rung == [KEY]


async def test_a_request_that_is_sent_again_changes_nothing(here: Here) -> None:
    await here.place()
    await here.place()
    await here.rows("UPDATE call_orders SET asked_at = asked_at - interval '20 seconds' RETURNING order_id")
    await here.place()
    assert len(await here.orders()) == len(await here.deliveries()) == 1


async def test_a_second_click_is_the_same_call_and_its_card_goes(here: Here) -> None:
    await here.place()
    await here.place(id="c-2", ids={"call": "c-2"}, unused={"call_id": "c-2"})
    assert len(await here.orders()) == 1
    _, (subject, body) = await here.deliveries()
    assert (subject, body["call_id"], body["refused"]) == (
        "request:c-2",
        "c-2",
        "the same call is being placed already",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"user_id": "22"}, "no internal number"),
        ({"user_id": "9"}, "no internal number"),
        ({"phone": "call me"}, "not a telephone number"),
        ({"phone": "+79161234567"}, "only numbers of BY"),
        ({"extension": "199"}, "not an internal number"),
    ],
)
async def test_a_refusal_is_audited_and_cleaned_up(here: Here, fields: dict[str, Any], reason: str) -> None:
    await here.place(**fields)
    await here.place(**fields)
    assert await here.orders() == []
    ((_, body),) = await here.deliveries()
    assert reason in body["refused"]
    await here.place(**fields, id="c-3", unused=None)
    assert len(await here.deliveries()) == 1


async def test_a_callback_rings_whoever_is_responsible(here: Here) -> None:
    callback = {"user_id": "", "unused": None, "ids": {"type": "4"}}
    here.crm.answer = Responsible(user_id="19")
    await here.place(id="b-1", **callback)
    here.crm.answer = Responsible(extension="151", user_id="18")
    await here.place(id="b-2", **callback)
    here.crm.away = True
    await here.place(id="b-3", **callback)
    here.crm.away, here.crm.answer = False, None
    await here.place(id="b-4", **callback)
    assert [order["person"] for order in await here.orders()] == ["150", "151"]
    assert await here.deliveries() == []


async def test_two_at_once_are_one(here: Here) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(here.place)
    assert len(await here.orders()) == 1
    bodies = [body for _, body in await here.deliveries()]
    assert [body["call_id"] for body in bodies if "refused" not in body] == ["c-1"]
    assert not [body for body in bodies if "refused" in body]
