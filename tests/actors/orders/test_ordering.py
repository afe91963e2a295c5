"""Orders as people and programs make and change them, on a real PostgreSQL: exact, once, in order, and each place given to one."""

import json
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import trio

from actors.orders.making import NotThere, Stale
from actors.orders.ordering import NewPerson
from gateway.domain.bookings import Span
from gateway.domain.chats import Conversation
from gateway.domain.orders import NewOrder, OrderChange, Wanted
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.store import contacts
from gateway.store.booking_slots import insert_slots
from gateway.store.personal_data import erase_person
from gateway.store.postgres.pool import Connection, Database
from tests.actors.orders.shop import ANNA, JUNE, MAY, NOW, Shop
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]

ACTOR = "anna@june.example"
IVAN = "human:ivan"
SEVEN = datetime.fromisoformat("2026-12-04T19:00")
PIZZAS = (Wanted("pizza", Decimal(2)), Wanted("tea"))


@pytest.fixture
async def shop(db: Database) -> Shop:
    return await Shop(db).open()


def paths(caught: pytest.ExceptionInfo[Invalid]) -> set[str]:
    return {path for path, _ in caught.value.problems}


async def refuses(shop: Shop, chat: Conversation, **wish: Any) -> set[str]:
    with pytest.raises(Invalid) as caught:
        await shop.orders(chat, **wish)
    return paths(caught)


async def test_an_order_is_stored_shown_and_audited(shop: Shop) -> None:
    chat = await shop.client("Ivan", "+375296254070")
    got = (
        await shop.orders(chat, kind="order", wanted=PIZZAS, comment="no onions", delivery={"address": "Lenina 1"})
    ).seen
    one = got.order
    assert (one.number, one.status, str(one.total), one.currency, one.version) == (1, "new", "28.00", "BYN", 1)
    assert (one.agreed_at, one.created_by, one.delivery) == (NOW, ANNA, {"address": "Lenina 1"})
    assert (got.contact_name, got.phones, got.channel, got.external) == ("Ivan", ("+375296254070",), "telegram", ())
    assert await shop.seen(one.id) == got
    assert sorted(shop.changed) == [f"{JUNE} chat {chat.id}", f"{JUNE} order {one.id}"]
    assert await shop.beside(chat) == [("order_made", ANNA, "1")]
    (line,) = await shop.audit()
    assert (line.actor, line.action, line.target) == (ACTOR, "order.created", "1")
    assert line.new is not None
    assert line.new["items"] == "pizza × 2; tea × 1"
    assert "onions" not in json.dumps(line.new)  # the client's words are theirs to have erased
    assert (await shop.orders(chat, kind="request", comment="a menu")).seen.order.number == 2


async def test_what_cannot_be_ordered_names_every_field_and_stores_nothing(shop: Shop) -> None:
    chat = await shop.client()
    assert await refuses(shop, chat, kind="order", wanted=(Wanted("no"), Wanted("off"))) == {
        "items[0].catalog_id",
        "items[1].catalog_id",
    }
    assert await refuses(shop, chat, kind="order") == {"items"}
    assert await refuses(shop, chat, kind="order", wanted=PIZZAS, starts_at=SEVEN, party=2) == {"starts_at", "party"}
    assert await refuses(shop, chat, kind="request", wanted=PIZZAS) == {"items"}
    assert await refuses(shop, chat, kind="booking", wanted=(Wanted("table"),)) == {"starts_at"}
    assert await refuses(shop, chat, kind="booking", wanted=PIZZAS, starts_at=SEVEN) == {"items"}
    assert await refuses(shop, chat, kind="booking", wanted=(Wanted("off"),), starts_at=SEVEN) == {
        "items[0].catalog_id"
    }
    assert await refuses(shop, chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN, party=5) == {"party"}
    early = SEVEN.replace(hour=9)
    assert await refuses(shop, chat, kind="booking", wanted=(Wanted("table"),), starts_at=early) == {"starts_at"}
    for nobody in (
        NewOrder(kind="request", contact=uuid4()),
        NewOrder(kind="request", contact=chat.contact, conversation=uuid4()),
    ):
        with pytest.raises(Invalid) as caught:
            await shop.ordering.create(shop.tenant, nobody, author=ANNA, actor=ACTOR)
        assert paths(caught) <= {"contact", "conversation"}
    assert await shop.all() == []
    assert shop.changed == []


async def test_changes_statuses_and_versions(shop: Shop) -> None:
    chat = await shop.client()
    ident = (await shop.orders(chat, kind="order", wanted=PIZZAS)).seen.order.id

    async def change(**wish: Any) -> Any:
        version = wish.pop("version", None)
        done = await shop.ordering.change(
            shop.tenant, ident, OrderChange(**wish), author=ANNA, actor=ACTOR, expected_version=version
        )
        return done.seen.order

    await shop.stock(
        {"id": "pizza", "name": "Margherita", "price": "14.00"}, {"id": "tea", "name": "Tea", "price": "4.00"}
    )
    more = await change(wanted=(Wanted("pizza", Decimal(3)), Wanted("visit")), comment="later", version=1)
    assert (str(more.total), more.version, [one.catalog_id for one in more.lines]) == ("37.50", 2, ["pizza", "visit"])
    assert (await change(comment="later")).version == 2  # nothing changed
    with pytest.raises(Stale) as stale:
        await change(status="done", version=1)
    assert stale.value.order.version == 2
    for status in ("confirmed", "in_progress", "confirmed", "in_progress", "done"):
        assert (await change(status=status)).status == status
    with pytest.raises(Invalid) as caught:
        await change(status="new")
    assert paths(caught) == {"status"}
    with pytest.raises(Invalid) as caught:
        await change(wanted=PIZZAS)
    assert paths(caught) == {"status"}
    assert (await change(comment="paid in cash")).comment == "paid in cash"
    with pytest.raises(Invalid):
        await change(status="in_progress", starts_at=SEVEN)
    with pytest.raises(NotThere):
        await shop.ordering.change(shop.tenant, uuid4(), OrderChange(status="done"), author=ANNA, actor=ACTOR)
    lines = [one for one in await shop.audit() if one.action == "order.changed"]
    assert len(lines) == 7
    assert lines[-1].old == {"items": "pizza × 2; tea × 1", "total": "28.00 BYN", "comment": MASK}
    assert lines[0].new == {"comment": MASK}
    assert [kind for kind, *_ in await shop.beside(chat)] == ["order_made", *["order_changed"] * 7]


async def test_a_booking_holds_its_time_until_it_is_cancelled(shop: Shop) -> None:
    chat = await shop.client()
    booked = (await shop.orders(chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN, party=3)).seen.order
    assert booked.starts_at is not None
    assert (booked.starts_at.isoformat(), booked.duration_min, booked.party) == ("2026-12-04T16:00:00+00:00", 90, 3)
    with pytest.raises(Invalid) as caught:
        await shop.orders(chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN + timedelta(minutes=60))
    assert paths(caught) == {"starts_at"}
    assert "17:00, 17:30, 20:30" in str(caught.value)
    times = await shop.ordering.free_times(shop.tenant, "table", date(2026, 12, 4))
    assert [f"{one:%H:%M}" for one in times.free] == [
        f"{h:02d}:{m:02d}" for h in range(7, 15) for m in (0, 30) if (h, m) <= (14, 30)
    ] + ["17:30"]

    async def change(**wish: Any) -> Any:
        return (
            await shop.ordering.change(shop.tenant, booked.id, OrderChange(**wish), author=ANNA, actor=ACTOR)
        ).seen.order

    later = await change(starts_at=SEVEN + timedelta(minutes=60))  # overlaps itself alone
    assert later.starts_at == booked.starts_at + timedelta(minutes=60)
    await change(status="cancelled")
    taken = (await shop.orders(chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN)).seen.order
    with pytest.raises(Invalid) as caught:
        await change(status="new")  # it would come back at a time that is another's
    assert paths(caught) == {"starts_at"}
    back = await change(status="new", starts_at=SEVEN - timedelta(minutes=90))
    assert (back.status, back.starts_at) == ("new", taken.starts_at and taken.starts_at - timedelta(minutes=90))
    shop.now = datetime.fromisoformat("2026-12-04T17:45+03:00")
    assert (await change(status="in_progress")).status == "in_progress"
    assert (await change(party=4)).party == 4  # one more came, after it began
    with pytest.raises(Invalid) as caught:
        await change(party=5)
    assert paths(caught) == {"party"}


async def test_places_for_people_are_counted_by_people(shop: Shop) -> None:
    chat = await shop.client()
    at = SEVEN.replace(hour=12)
    for party in (3, 2):
        await shop.orders(chat, kind="booking", wanted=(Wanted("class"),), starts_at=at, party=party)
    assert await refuses(shop, chat, kind="booking", wanted=(Wanted("class"),), starts_at=at) == {"starts_at"}
    await shop.orders(chat, kind="booking", wanted=(Wanted("class"),), starts_at=at + timedelta(hours=1), party=5)
    for _ in range(3):
        await shop.orders(chat, kind="booking", wanted=(Wanted("visit"),), starts_at=at)  # no limit


@pytest.mark.slow
async def test_a_hundred_clients_for_the_last_time(shop: Shop) -> None:
    chats = [await shop.client(f"Client {n}") for n in range(100)]
    answers: Counter[str] = Counter()

    async def book(chat: Conversation) -> None:
        try:
            await shop.orders(chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN)
            answers["booked"] += 1
        except Invalid as error:
            (problem,) = error.problems
            answers[f"{problem[0]} {problem[1].split(';')[0]}"] += 1

    async with trio.open_nursery() as nursery:
        for chat in chats:
            nursery.start_soon(book, chat)
    assert answers == {"booked": 1, "starts_at is taken": 99}
    assert [one.order.number for one in await shop.all()] == [1]


async def test_two_never_hold_a_place_whoever_writes(shop: Shop) -> None:
    """Without the lock and the look, the constraint alone decides."""
    chat = await shop.client()
    first, second = [(await shop.orders(chat, kind="request", comment="x")).seen.order.id for _ in range(2)]
    start = SEVEN.astimezone()

    async def take(conn: Connection, order: Any, begins_min: int, place: int) -> bool:
        span = Span(start + timedelta(minutes=begins_min), start + timedelta(minutes=begins_min + 60))
        return await insert_slots(conn, JUNE, order, "table", [place], span, None)

    async def takes(*args: Any) -> bool:
        return await shop.db.tenant(JUNE, take, *args)

    assert await takes(first, 0, 1)
    assert not await takes(second, 59, 1)
    assert not await takes(second, -59, 1)
    assert await takes(second, 60, 1)
    assert await takes(second, 0, 2)


@pytest.mark.slow
async def test_two_companies_share_nothing(shop: Shop) -> None:
    other = await Shop(shop.db, MAY).open()
    mine = (
        await shop.orders(await shop.client(), kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN)
    ).seen.order
    theirs = (
        await other.orders(await other.client(), kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN)
    ).seen.order
    assert (mine.number, theirs.number) == (1, 1)
    assert await shop.seen(theirs.id) is None
    with pytest.raises(NotThere):
        await shop.ordering.change(shop.tenant, theirs.id, OrderChange(status="done"), author=ANNA, actor=ACTOR)
    with pytest.raises(Invalid):
        await shop.ordering.create(
            shop.tenant, NewOrder(kind="request", contact=theirs.contact), author=ANNA, actor=ACTOR
        )


@pytest.mark.slow
async def test_whoever_orders_is_found_before_they_are_made(shop: Shop) -> None:
    async def order(**person: Any) -> Any:
        new = NewOrder(kind="request", contact=uuid4(), comment="hello")
        done = await shop.ordering.create(shop.tenant, new, author=ANNA, actor=ACTOR, person=NewPerson(**person))
        return done.seen.root

    first = await order(name="Anna", phones=["+375296254070"], emails=["Anna@june.example"])
    assert await order(name="A.", phones=["+375296254070"]) == first
    assert await order(emails=["anna@JUNE.example"]) == first
    other = await order(name="Anna", phones=["+375296254071"])
    assert other != first
    assert (await shop.db.tenant(JUNE, contacts.select_contact, JUNE, first)).name == "Anna"  # type: ignore[union-attr]

    async def confirm(conn: Connection) -> None:
        await contacts.update_contact(
            conn, JUNE, other, name=None, phones=["+375296254071", "+375296254070"], emails=None
        )
        await conn.execute(
            "UPDATE contact_phones SET confirmed = true WHERE contact_id = $1 AND phone = '+375296254070'", other
        )

    await shop.db.tenant(JUNE, confirm)
    assert await order(phones=["+375296254070"]) == other  # a messenger vouches for it


async def hide(conn: Connection, chat: Conversation) -> None:
    await conn.execute("UPDATE conversations SET owner = 'human:other' WHERE conversation_id = $1", chat.id)


async def test_lists_are_narrowed_and_agents_see_their_own(shop: Shop) -> None:
    mine, hers = await shop.client("Ivan", "+375296254070", owner=IVAN), await shop.client("Olga", owner="human:other")
    queued = await shop.client("Petr", owner="queue")
    a = (await shop.orders(mine, kind="order", wanted=PIZZAS)).seen.order
    b = (await shop.orders(hers, kind="request", comment="x")).seen.order
    c = (await shop.orders(queued, kind="request", comment="y")).seen.order
    bare = (
        await shop.ordering.create(
            shop.tenant, NewOrder(kind="request", contact=hers.contact), author=ANNA, actor=ACTOR
        )
    ).seen.order
    await shop.ordering.change(shop.tenant, a.id, OrderChange(status="done"), author=ANNA, actor=ACTOR)

    async def numbers(**wanted: Any) -> list[int]:
        return [one.order.number for one in await shop.all(**wanted)]

    assert await numbers() == [4, 3, 2, 1]
    assert await numbers(status="done") == [1]
    assert await numbers(kind="request") == [4, 3, 2]
    assert await numbers(contact=hers.contact) == [4, 2]
    assert await numbers(conversation=queued.id) == [3]
    assert await numbers(q="ivan") == [1]
    assert await numbers(q="6254") == [1]
    assert await numbers(q="№ 2") == [2]
    assert await numbers(only=IVAN) == [3, 1]
    assert await shop.seen(b.id, IVAN) is None
    assert await shop.seen(bare.id, IVAN) is None
    assert await shop.seen(c.id, IVAN) is not None
    with pytest.raises(NotThere):
        await shop.ordering.change(shop.tenant, b.id, OrderChange(status="done"), author=ANNA, actor=ACTOR, only=IVAN)
    with pytest.raises(Invalid):
        await shop.ordering.create(
            shop.tenant, NewOrder(kind="request", contact=hers.contact), author=ANNA, actor=ACTOR, only=IVAN
        )
    own = await shop.ordering.create(
        shop.tenant, NewOrder(kind="request", contact=queued.contact), author=IVAN, actor=ACTOR
    )
    await shop.db.tenant(JUNE, hide, queued)
    assert await numbers(only=IVAN) == [own.seen.order.number, 1]


TRACES = """
INSERT INTO deliveries (tenant_id, integration_type, subject_kind, subject_id, lane, key, kind, bucket, body, state, keep_until)
SELECT '0367', 'crm', 'order', order_id::text, order_id::text, order_id::text, 'order', '', '{}', 'done', now() FROM orders;
INSERT INTO external_ids (tenant_id, integration_type, subject_kind, subject_id, name, external_id)
SELECT '0367', 'crm', 'order', order_id::text, 'order', 'A-' || number FROM orders;
"""


async def test_what_became_of_an_order_outside_is_shown(shop: Shop) -> None:
    chat = await shop.client()
    ident = (await shop.orders(chat, kind="order", wanted=PIZZAS)).seen.order.id

    async def leave(conn: Connection) -> None:
        await conn.execute(TRACES)

    await shop.db.engine(leave)
    seen = await shop.seen(ident)
    assert seen is not None
    assert [(one.integration, one.id, one.state) for one in seen.external] == [("crm", "A-1", "done")]


async def test_a_person_is_erased_with_their_orders_and_the_times_they_held(shop: Shop) -> None:
    chat, other = await shop.client(), await shop.client()
    booked = (
        await shop.orders(chat, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN, party=2, comment="secret")
    ).seen.order
    await shop.orders(other, kind="order", wanted=PIZZAS)

    async def leave(conn: Connection) -> None:
        await conn.execute(TRACES)

    await shop.db.engine(leave)
    erased = await shop.db.engine(erase_person, JUNE, chat.contact, ACTOR)
    assert erased is not None
    assert erased.orders == 1
    assert [one.order.number for one in await shop.all()] == [2]

    async def left(conn: Connection) -> list[int]:
        names = ("orders", "order_items", "booking_slots", "deliveries", "external_ids")
        found = [
            await conn.fetchval(f"SELECT count(*) FROM {name} x WHERE x::text LIKE '%' || $1 || '%'", str(booked.id))
            for name in names
        ]
        return [*found, await conn.fetchval("SELECT count(*) FROM audit x WHERE x::text LIKE '%secret%'")]

    assert await shop.db.engine(left) == [0, 0, 0, 0, 0, 0]
    assert (await shop.orders(other, kind="booking", wanted=(Wanted("table"),), starts_at=SEVEN)).seen.order.number == 3
