"""A client who wants to be called at once: who is rung, what is refused, and that the task stays whatever comes of it."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from actors.ai.calling_back import busy_of
from actors.feed import Feed
from gateway.domain.ai import AiBlock
from gateway.domain.calls import Call, Phase
from gateway.domain.configuration import Phone
from gateway.domain.dialling import CallRefused
from gateway.domain.errors import Unavailable
from gateway.domain.events import Direction
from gateway.domain.ids import CallId
from gateway.store import conversations
from gateway.store.postgres.pool import Connection, Database
from tests.actors.orders.shop import JUNE, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

PHONE = "+375296254070"


@dataclass
class Exchange:
    """What places calls, and who is responsible."""

    responsible: str | None = None
    error: Exception | None = None
    placed: list[tuple[str, str, str]] = field(default_factory=list)

    async def extension_for(self, tenant: Any, phone: str) -> str | None:
        return self.responsible

    async def ask(self, tenant: Any, *, extension: str, phone: str, asked_by: str) -> None:
        if self.error is not None:
            raise self.error
        self.placed.append((extension, phone, asked_by))


@pytest.fixture
async def shop(db: Database) -> Shop:
    return await Shop(db, ai=AiBlock(call_back="call")).open()


def services(shop: Shop, exchange: Exchange) -> Any:
    tenant = replace(shop.tenant, phones=(Phone("151"), Phone("152"), Phone("153")))
    return SimpleNamespace(
        db=shop.db,
        feed=Feed(shop.changed.append),
        cache=SimpleNamespace(tenant=lambda number: tenant if number == JUNE else None),
        dialling=exchange,
        smart_redirect=exchange,
    )


async def busy(conn: Connection) -> None:
    await conn.execute(
        "INSERT INTO calls (tenant_id, call_id, phase, source, direction, caller, called, ringing, rang, extension, started_at, uncertain, "
        "events) VALUES ('0367', 'c1', 'talking', 'main', 'incoming', '+375291111111', '5', '{}', '{}', '151', now(), false, 1), "
        "('0367', 'c2', 'ringing', 'main', 'incoming', '+375291111112', '5', '{153}', '{153}', NULL, now(), false, 1)"
    )


@pytest.mark.parametrize(
    ("responsible", "error", "placed", "note"),
    [
        (None, None, "152", f"Звоним на 152, затем на {PHONE}"),
        ("152", None, "152", f"Звоним на 152, затем на {PHONE}"),
        ("153", None, "152", f"Звоним на 152, затем на {PHONE}"),
        ("999", None, "152", f"Звоним на 152, затем на {PHONE}"),
        (None, CallRefused("hours", "calls are placed between 9 and 18"), None, "calls are placed between 9 and 18"),
        (None, Unavailable("away"), None, None),
    ],
)
async def test_an_employee_who_is_free_is_rung_under_the_rules(
    shop: Shop, responsible: str | None, error: Exception | None, placed: str | None, note: str | None
) -> None:
    chat = await shop.client("Ivan", PHONE)
    await shop.db.engine(busy)
    made = await shop.calls(chat, "call_me_back")
    assert "is called at this moment" in made.value["next"]
    assert made.after is not None
    exchange = Exchange(responsible, error)
    await made.after(services(shop, exchange))
    assert exchange.placed == ([(placed, PHONE, "ai")] if placed else [])
    beside = await shop.db.tenant(JUNE, conversations.select_happenings, JUNE, chat.id)
    notes = [one.text for one in beside if one.kind == "note"]
    assert sum(note in one for one in notes) == 1 if note is not None else not any("Звоним" in one for one in notes)
    assert (await shop.all())[0].order.call_phone == PHONE


async def test_who_wants_it_later_or_of_a_company_that_calls_by_itself_is_not_called(shop: Shop) -> None:
    chat = await shop.client("Ivan", PHONE)
    assert (await shop.calls(chat, "call_me_back", when=datetime.fromisoformat("2026-12-01T18:00"))).after is None
    shop.ai = AiBlock()
    assert (await shop.calls(chat, "call_me_back", text="again")).after is None


async def test_nobody_is_free(shop: Shop) -> None:
    chat = await shop.client("Ivan", PHONE)
    made = await shop.calls(chat, "call_me_back")
    exchange = Exchange()
    alone = services(shop, exchange)
    alone.cache = SimpleNamespace(tenant=lambda number: replace(shop.tenant, phones=(Phone("151"),)))
    await shop.db.engine(busy)
    assert made.after is not None
    await made.after(alone)
    assert exchange.placed == []
    beside = await shop.db.tenant(JUNE, conversations.select_happenings, JUNE, chat.id)
    assert any("все заняты" in one.text for one in beside if one.kind == "note")


def test_who_takes_part_in_calls() -> None:
    def call(direction: Direction, **more: Any) -> Call:
        return Call(
            call_id=CallId("x"), phase=Phase.TALKING, direction=direction, caller="151", called="152", trunk=None,
            started_at=datetime.now(UTC), **more,
        )  # fmt: skip

    assert busy_of([call(Direction.OUTGOING)]) == {"151"}
    assert busy_of([call(Direction.INTERNAL)]) == {"151", "152"}
    assert busy_of([call(Direction.INCOMING, ringing=("105",), extension="106")]) == {"105", "106"}


async def test_a_client_may_ask_for_erasure(shop: Shop) -> None:
    chat = await shop.client()
    made = await shop.calls(chat, "request_erasure")
    assert (made.value["kind"], "Стереть" in made.note) == ("request", True)
    assert "удалить данные" in (await shop.all())[0].order.comment
