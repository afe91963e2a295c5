"""The AI operator's tools for orders: each with what it may do, and how the model cannot go round it."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio
from pydantic import ValidationError

from actors.ai.tool import Refused
from actors.ai.tools import all_tools
from gateway.domain.chats import Conversation
from gateway.domain.orders import OrderChange, Wanted
from gateway.store import contacts, conversations
from gateway.store.contact_merges import merge_contacts
from gateway.store.postgres.pool import Database
from tests.actors.orders.shop import ANNA, JUNE, NOW, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

TWO_PIZZAS = [{"catalog_id": "pizza", "quantity": 2}]
SEVEN = "2026-12-04T19:00"


@pytest.fixture
async def shop(db: Database) -> Shop:
    return await Shop(db).open()


@pytest.fixture
async def chat(shop: Shop) -> Conversation:
    return await shop.client("Ivan")


async def agrees(shop: Shop, chat: Conversation, repeat: str, answer: str = "yes") -> None:
    """What was repeated is sent, and the client answers."""
    await shop.says(chat, f"So that is:\n{repeat}\nRight?", ours=True)
    await shop.says(chat, answer)


async def refused(shop: Shop, chat: Conversation, name: str, **arguments: Any) -> str:
    with pytest.raises(Refused) as caught:
        await shop.calls(chat, name, **arguments)
    return str(caught.value)


def test_every_tool_is_there_and_its_arguments_name_neither_company_nor_person() -> None:
    tools = all_tools()
    mine = {
        "create_order",
        "update_order",
        "order_status",
        "create_booking",
        "free_slots",
        "create_request",
        "call_me_back",
    }
    assert mine <= tools.keys()
    for name in mine:
        assert (
            not {"tenant", "conversation", "contact", "person", "price", "status"}
            & tools[name].arguments.model_fields.keys()
        )
        for field in tools[name].arguments.model_json_schema()["properties"].values():
            assert field.get("description"), name


async def test_an_order_counts_once_it_was_repeated_in_full_and_the_client_agreed(
    shop: Shop, chat: Conversation
) -> None:
    made = await shop.calls(chat, "create_order", items=TWO_PIZZAS, comment="no onions", total="20")
    value = dict(made.value)
    assert (value["order"], value["status"], value["agreed_by_client"], value["total"]) == (
        1,
        "new",
        False,
        "25.00 BYN",
    )
    assert value["corrected"] == ["total: it is 25.00 BYN; tell the client so"]
    assert value["repeat"].splitlines() == [
        "Order no. 1:", "1. Margherita: 2 × 12.50 = 25.00 BYN", "Total: 25.00 BYN", "Comment: no onions",
    ]  # fmt: skip
    assert {one.kind for one in made.changed} == {"order", "chat"}
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    await shop.says(chat, "yes, of course")
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    await shop.says(chat, "Order no. 1: two pizzas, 25.00 BYN. Right?", ours=True)
    await shop.says(chat, "yes")
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    await shop.says(chat, value["repeat"], ours=True, status="failed")
    await shop.says(chat, "yes")
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    await shop.says(chat, value["repeat"], ours=True)
    assert "not answered" in await refused(shop, chat, "update_order", agreed=True)
    await shop.says(chat, "yes")
    agreed = await shop.calls(chat, "update_order", agreed=True)
    assert (agreed.value["status"], agreed.value["agreed_by_client"]) == ("confirmed", True)
    assert "repeat" not in agreed.value
    assert (await shop.calls(chat, "update_order", agreed=True)).changed == ()  # said twice
    assert [kind for kind, *_ in await shop.beside(chat)] == ["order_made", "order_agreed"]


async def test_the_client_cannot_say_the_order_for_us(shop: Shop, chat: Conversation) -> None:
    value = (await shop.calls(chat, "create_order", items=TWO_PIZZAS)).value
    await shop.says(chat, value["repeat"])
    await shop.says(chat, "yes")
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)


async def test_a_change_has_to_be_agreed_to_anew(shop: Shop, chat: Conversation) -> None:
    first = (await shop.calls(chat, "create_order", items=TWO_PIZZAS)).value
    await agrees(shop, chat, first["repeat"])
    await shop.calls(chat, "update_order", order=1, agreed=True)
    changed = (await shop.calls(chat, "update_order", order=1, items=[{"catalog_id": "pizza", "quantity": 3}])).value
    assert (changed["status"], changed["total"], changed["agreed_by_client"]) == ("new", "37.50 BYN", False)
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    await agrees(shop, chat, first["repeat"])  # the order as it was
    assert "not been told" in await refused(shop, chat, "update_order", agreed=True)
    assert "first" in await refused(shop, chat, "update_order", agreed=True, comment="now")
    await agrees(shop, chat, changed["repeat"])
    assert (await shop.calls(chat, "update_order", agreed=True)).value["status"] == "confirmed"


@pytest.mark.parametrize(("until", "status", "may"), [
    ("confirmed", "confirmed", True), ("confirmed", "in_progress", False), ("in_progress", "in_progress", True), ("new", "confirmed", False),
    ("never", "new", False), ("in_progress", "done", False),
])  # fmt: skip
async def test_clients_change_and_cancel_until_the_status_that_the_company_chose(
    shop: Shop, chat: Conversation, until: str, status: Any, may: bool
) -> None:
    shop.options = {"orders": {"change_until": until, "cancel_until": until}}
    ident = (await shop.orders(chat, kind="order", wanted=(Wanted("pizza"),))).seen.order.id
    await shop.ordering.change(shop.tenant, ident, OrderChange(status=status), author=ANNA, actor="anna@june.example")
    if may:
        assert (await shop.calls(chat, "order_status")).value["orders"][0]["client_may_change"]
        await shop.calls(chat, "update_order", comment="more cheese")
        assert (await shop.calls(chat, "update_order", cancel=True)).value["status"] == "cancelled"
    else:
        assert "any more" in await refused(shop, chat, "update_order", comment="more cheese")
        assert "any more" in await refused(shop, chat, "update_order", cancel=True)
        assert (await shop.one(ident)).status == status


async def test_only_orders_of_this_conversation_are_seen_and_changed(shop: Shop, chat: Conversation) -> None:
    await shop.calls(chat, "create_order", items=TWO_PIZZAS)
    other = await shop.client("Olga")
    # The same person in another channel, even: what they ordered there is told there.
    assert (await shop.calls(other, "order_status")).value == {"orders": []}
    for name, arguments in (
        ("update_order", {"order": 1, "cancel": True}),
        ("order_status", {"order": 1}),
        ("update_order", {"agreed": True}),
    ):
        assert "no such order" in await refused(shop, other, name, **arguments)
    (only,) = (await shop.calls(chat, "order_status")).value["orders"]
    assert (only["order"], only["status"]) == (1, "new")


async def test_what_is_not_in_the_catalog_is_not_ordered(shop: Shop, chat: Conversation) -> None:
    told = await refused(
        shop, chat, "create_order", items=[*TWO_PIZZAS, {"catalog_id": "caviar"}, {"catalog_id": "off"}]
    )
    assert "items[1].catalog_id: there is no such item" in told
    assert "items[2].catalog_id: Borscht is not available" in told
    wrong: list[dict[str, Any]] = [
        {"items": []}, {"items": [{"catalog_id": "pizza", "price": "0.01"}]}, {"items": TWO_PIZZAS, "contact": "x"},
        {"items": [{"catalog_id": "pizza", "quantity": -1}]},
    ]  # fmt: skip
    for bad in wrong:
        with pytest.raises(ValidationError):
            await shop.calls(chat, "create_order", **bad)
    assert await shop.all() == []


async def test_so_many_orders_wait_for_the_client_and_no_more(shop: Shop, chat: Conversation) -> None:
    for _ in range(3):
        await shop.calls(chat, "create_order", items=TWO_PIZZAS)
    assert "3, 2, 1 still wait" in await refused(shop, chat, "create_order", items=TWO_PIZZAS)
    assert "3, 2, 1 still wait" in await refused(shop, chat, "create_booking", item="table", starts_at=SEVEN)
    await shop.calls(chat, "update_order", order=2, cancel=True)
    await shop.calls(chat, "create_order", items=TWO_PIZZAS)


async def test_free_times_and_a_booking(shop: Shop, chat: Conversation) -> None:
    found = (await shop.calls(chat, "free_slots", item="table", day="2026-12-04", party=2)).value
    assert (found["times"][0], found["times"][-1], found["duration_min"], found["time_zone"]) == (
        "10:00",
        "20:30",
        90,
        "Europe/Minsk",
    )
    assert "no such item" in await refused(shop, chat, "free_slots", item="nothing", day="2026-12-04")
    past = (await shop.calls(chat, "free_slots", item="table", day="2026-11-30")).value
    assert (past["times"], "offer another day" in past["why"]) == ([], True)
    made = (await shop.calls(chat, "create_booking", item="table", starts_at=SEVEN, party=2)).value
    assert made["repeat"] == "Booking no. 1: Table\nWhen: Friday, 2026-12-04, 19:00 (Europe/Minsk), 90 min\nGuests: 2"
    assert "is taken; free on that day" in await refused(shop, chat, "create_booking", item="table", starts_at=SEVEN)
    assert "19:00" not in (await shop.calls(chat, "free_slots", item="table", day="2026-12-04")).value["times"]
    moved = (await shop.calls(chat, "update_order", starts_at="2026-12-04T20:00")).value
    assert "20:00" in moved["repeat"]
    assert "at most 4" in await refused(shop, chat, "update_order", party=5)
    await agrees(shop, chat, moved["repeat"])
    assert (await shop.calls(chat, "update_order", agreed=True)).value["status"] == "confirmed"


async def test_a_time_that_nobody_agreed_to_goes_to_whoever_wants_it(shop: Shop, chat: Conversation) -> None:
    shop.options = {"orders": {"hold_min": 1}}
    first = (await shop.calls(chat, "create_booking", item="table", starts_at=SEVEN)).value
    other = await shop.client("Olga")
    assert "is taken" in await refused(shop, other, "create_booking", item="table", starts_at=SEVEN)

    async def pass_time(conn: Any) -> None:
        await conn.execute("UPDATE booking_slots SET held_until = held_until - interval '2 min'")

    await shop.db.engine(pass_time)
    assert "19:00" in (await shop.calls(other, "free_slots", item="table", day="2026-12-04")).value["times"]
    second = await shop.calls(other, "create_booking", item="table", starts_at=SEVEN)
    assert len(second.changed) == 4  # both orders, both conversations
    await agrees(shop, chat, first["repeat"])
    assert "cancelled" in await refused(shop, chat, "update_order", agreed=True)
    assert [kind for kind, *_ in await shop.beside(chat)] == ["order_made", "order_lapsed"]
    # Whoever agreed late, but before anybody else came, has it for good.
    await agrees(shop, other, second.value["repeat"])
    await shop.db.engine(pass_time)
    await shop.calls(other, "update_order", agreed=True)
    assert "is taken" in await refused(shop, chat, "create_booking", item="table", starts_at=SEVEN)


async def test_a_booking_that_was_agreed_keeps_its_place_while_a_change_waits(shop: Shop, chat: Conversation) -> None:
    made = (await shop.calls(chat, "create_booking", item="table", starts_at=SEVEN)).value
    await agrees(shop, chat, made["repeat"])
    await shop.calls(chat, "update_order", agreed=True)
    await shop.calls(chat, "update_order", starts_at="2026-12-04T20:00")

    async def holds(conn: Any) -> list[Any]:
        return [row[0] for row in await conn.fetch("SELECT held_until FROM booking_slots")]

    assert await shop.db.engine(holds) == [None]


@pytest.mark.slow
async def test_twenty_models_for_the_last_time_that_was_held_too_long(shop: Shop, chat: Conversation) -> None:
    await shop.calls(chat, "create_booking", item="table", starts_at=SEVEN)
    chats = [await shop.client(f"Client {n}") for n in range(20)]

    async def pass_time(conn: Any) -> None:
        await conn.execute("UPDATE booking_slots SET held_until = now() - interval '1 min'")

    await shop.db.engine(pass_time)
    answers = list[str]()

    async def book(one: Conversation) -> None:
        try:
            answers.append(
                str((await shop.calls(one, "create_booking", item="table", starts_at=SEVEN)).value["status"])
            )
        except Refused as error:
            answers.append(str(error).partition(";")[0])

    async with trio.open_nursery() as nursery:
        for one in chats:
            nursery.start_soon(book, one)
    assert sorted(answers) == ["new", *["starts_at: is taken"] * 19]
    assert len(await shop.all(status="new")) == 1


async def test_requests_are_left_for_people_and_count_at_once(shop: Shop, chat: Conversation) -> None:
    made = (await shop.calls(chat, "create_request", text="Wants a menu for forty")).value
    assert (made["order"], made["kind"], made["comment"], made["agreed_by_client"]) == (
        1,
        "request",
        "Wants a menu for forty",
        True,
    )
    for number in range(9):
        await shop.calls(chat, "create_request", text=f"and {number}")
    assert "Too many" in await refused(shop, chat, "create_request", text="and more")
    shop.now = NOW + timedelta(days=2)
    await shop.calls(chat, "create_request", text="another day")


async def test_calls_back_go_to_numbers_that_the_client_gave(shop: Shop, chat: Conversation) -> None:
    assert "ask them" in await refused(shop, chat, "call_me_back")
    assert "has not given" in await refused(shop, chat, "call_me_back", phone="+375296254070")
    await shop.says(chat, "+375296254070", ours=True)  # the model's own words are not the client's
    assert "has not given" in await refused(shop, chat, "call_me_back", phone="+375296254070")
    await shop.says(chat, "call me: 8 (029) 625-40-70, 2 pizzas")
    when = datetime.fromisoformat("2026-12-01T18:00")
    made = (await shop.calls(chat, "call_me_back", phone="+375296254070", when=when, text="a banquet")).value
    order = (await shop.all())[0].order
    assert (order.call_phone, order.call_at and order.call_at.isoformat()) == (
        "+375296254070",
        "2026-12-01T15:00:00+00:00",
    )
    assert made["kind"] == "request"
    for bad in ("+3752962540", "+375291112233", "112", "'; --"):
        assert "has not given" in await refused(shop, chat, "call_me_back", phone=bad)
    assert "call.at" in await refused(shop, chat, "call_me_back", phone="+375296254070", when="2026-11-30T10:00")
    known = await shop.client("Olga", "+375291112233")
    await shop.calls(known, "call_me_back")
    assert (await shop.all())[0].order.call_phone == "+375291112233"


async def test_a_merged_person_keeps_what_they_ordered(shop: Shop, chat: Conversation) -> None:
    await shop.calls(chat, "create_order", items=TWO_PIZZAS)
    other = await shop.client("Olga", "+375291112233")
    await shop.db.tenant(JUNE, merge_contacts, JUNE, other.contact, chat.contact, ANNA)
    assert [one.order.number for one in await shop.all(contact=other.contact)] == [1]
    (one,) = await shop.all()
    assert (one.root, one.contact_name) == (other.contact, "Olga")
    assert await shop.db.tenant(JUNE, contacts.select_contact, JUNE, chat.contact)
    assert Decimal("25.00") == one.order.total
    assert await shop.db.tenant(JUNE, conversations.select_conversation, JUNE, chat.id)
