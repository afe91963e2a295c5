"""The pages of orders: board and list, one order and its way, forms that lose nothing, who sees what, and the rules for clients."""

import re
from typing import Any
from uuid import UUID

import pytest

from actors.orders.making import By, make
from actors.orders.ordering import Ordering
from gateway.domain.orders import NewOrder, OrderRules, Wanted
from gateway.domain.people import Role
from gateway.domain.profile import Profile
from gateway.domain.subjects import Subject
from gateway.store.audit import select_audit
from gateway.store.business_profiles import upsert_profile
from gateway.store.catalog_items import upsert_items
from gateway.store.orders import OrderFilter, SeenOrder, select_orders
from gateway.web.content.catalog import read_item
from tests.web.chats import connect, conversation_with, receives
from tests.web.conftest import SignIn, submitted
from tests.web.pages.test_inbox import as_person, text_of, wrote
from tests.web.pages.test_live import streaming
from tests.web.world import CSRF, JUNE, MAPLE, World

HOME = f"/t/{JUNE}/orders"
FAR = "2027-06-11"
GOODS: list[dict[str, Any]] = [
    {"id": "pizza", "name": "Margherita", "price": "12.50"}, {"id": "tea", "name": "Tea", "price": "3"},
    {"id": "tea-2", "name": "Tea", "price": "4"},
    {"id": "table", "name": "Table <b>", "price": "0", "attributes": {"capacity": "1", "duration_min": "90"}},
]  # fmt: skip
FORM = {"csrf": CSRF, "kind": "order", "name": "Anna", "phone": "8 029 625-40-70", "item0": "margherita", "quantity0": "2", "item1": "tea",
        "quantity1": "1", "delivery": "Lenina 1", "comment": "no onions"}  # fmt: skip


@pytest.fixture
async def shop(world: World) -> World:
    """With goods to sell and a client who wrote."""
    await world.db.tenant(JUNE, upsert_items, JUNE, [read_item(one, "BYN") for one in GOODS])
    hours = [{"days": ["fri"], "from": "10:00", "to": "22:00"}]
    await world.db.tenant(JUNE, upsert_profile, JUNE, Profile.model_validate({"working_hours": hours}))
    await connect(world)
    await receives(world, wrote("a pizza, please", person={"name": "Ivan"}))
    return world


async def all_of(world: World) -> list[SeenOrder]:
    return await world.db.tenant(JUNE, select_orders, JUNE, OrderFilter(), 100)


async def one_of(world: World, **more: Any) -> SeenOrder:
    """An order in the chat of the client who wrote."""
    company = world.cache.tenant(JUNE)
    assert company is not None
    chat = await conversation_with(world, "7")
    new = NewOrder(
        **{
            "kind": "order",
            "contact": UUID(int=0),
            "conversation": chat,
            "wanted": (Wanted("pizza"),),
            "comment": "secret",
            **more,
        }
    )
    return (await Ordering(db=world.db, feed=world.feed).create(company, new, author="ai", actor="ai")).seen


def problems(page: str) -> dict[str, str]:
    return dict(re.findall(r'<p class="problem" id="p-([^"]*)">([^<]*)<', page))


async def test_an_order_is_entered_shown_and_moved_on(shop: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await text_of(client, f"{HOME}/new")
    assert '<option value="Margherita">12.50 BYN' in page
    page = await submitted(client, f"{HOME}/new", FORM)
    (seen,) = await all_of(shop)
    one = seen.order
    assert (str(one.total), [line.catalog_id for line in one.lines], one.delivery) == (
        "28.00",
        ["pizza", "tea"],
        "Lenina 1",
    )
    assert (seen.contact_name, seen.phones) == ("Anna", ("+375296254070",))
    for text in ("28.00 BYN", "Lenina 1", "no onions", "№ 1"):
        assert text in page
    board = await text_of(client, HOME)
    assert "Anna" in board
    assert "Margherita × 2, Tea" in board
    moved = await submitted(
        client, f"{HOME}/{one.id}/status", {"csrf": CSRF, "to": "confirmed", "version": "1", "from": "board"}
    )
    assert 'class="board"' in moved
    late = await submitted(client, f"{HOME}/{one.id}/status", {"csrf": CSRF, "to": "cancelled", "version": "1"})
    assert (await all_of(shop))[0].order.status == "confirmed"
    assert 'class="toast warn"' in late
    await submitted(client, f"{HOME}/{one.id}/status", {"csrf": CSRF, "to": "done", "version": "2"})
    refused = await submitted(client, f"{HOME}/{one.id}/status", {"csrf": CSRF, "to": "cancelled", "version": "3"})
    assert 'class="alert bad"' in refused
    assert (await client.post(f"{HOME}/{one.id}/status", form={"csrf": CSRF, "to": "lost"})).status_code == 400
    assert "Anna" not in await text_of(client, f"{HOME}/part")
    assert "Anna" in await text_of(client, f"{HOME}/part?view=list&status=done")
    lines = await shop.db.tenant(JUNE, select_audit, JUNE, None, 10)
    assert [(line.actor, line.action) for line in lines if line.action.startswith("order.")] == [
        (f"admin@{JUNE}.example", "order.changed"), (f"admin@{JUNE}.example", "order.changed"), (f"admin@{JUNE}.example", "order.created"),
    ]  # fmt: skip


async def test_what_was_typed_wrongly_is_marked_and_kept(shop: World, sign_in: SignIn) -> None:
    client = await sign_in()
    wrong = {
        **FORM,
        "name": "",
        "phone": "nobody",
        "item0": "caviar <i>",
        "item1": "margherita",
        "quantity1": "1.5",
        "item2": "Tea ",
        "comment": "x" * 2001,
    }
    page = await submitted(client, f"{HOME}/new", wrong)
    assert problems(page).keys() == {"phone", "item0", "item2", "comment"}, "two items are called tea"
    assert "caviar &lt;i&gt;" in page
    assert 'value="1.5"' in page
    page = await submitted(client, f"{HOME}/new", {**wrong, "phone": "", "item0": "tea", "comment": ""})
    assert problems(page).keys() == {"name", "item2"}
    page = await submitted(
        client, f"{HOME}/new", {**wrong, "phone": "", "name": "Anna", "item0": "tea", "comment": "", "item2": ""}
    )
    assert problems(page).keys() == {"quantity1"}
    page = await submitted(client, f"{HOME}/new", {**FORM, "item0": "", "item1": ""})
    assert problems(page).keys() == {"item0"}
    page = await submitted(client, f"{HOME}/new", {**FORM, "item0": "TEA"})
    assert problems(page).keys() == {"item0"}, "two items have this name"
    assert await all_of(shop) == []


async def test_a_booking_at_a_time_that_is_free(shop: World, sign_in: SignIn) -> None:
    client, chat = await sign_in(), await conversation_with(shop, "7")
    page = await text_of(client, f"{HOME}/new?kind=booking&conversation={chat}")
    assert "Ivan" in page
    assert 'name="phone"' not in page
    form = {
        "csrf": CSRF,
        "kind": "booking",
        "conversation": str(chat),
        "item0": "table",
        "starts_at": f"{FAR}T19:00",
        "duration_min": "",
        "party": "3",
    }
    page = await submitted(client, f"{HOME}/new", {**form, "starts_at": f"{FAR}T09:00", "party": "0"})
    assert problems(page).keys() == {"party"}
    page = await submitted(client, f"{HOME}/new", {**form, "starts_at": f"{FAR}T09:00"})
    assert problems(page).keys() == {"starts_at"}
    assert f'value="{FAR}T09:00"' in page
    page = await submitted(client, f"{HOME}/new", form)
    assert "Table &lt;b&gt;" in page
    (seen,) = await all_of(shop)
    assert (seen.order.duration_min, seen.order.party, seen.channel) == (90, 3, "telegram")
    assert (
        "20:30" in problems(await submitted(client, f"{HOME}/new", {**form, "starts_at": f"{FAR}T19:30"}))["starts_at"]
    )
    edit = f"{HOME}/{seen.order.id}/edit"
    assert f'value="{FAR}T19:00"' in await text_of(client, edit)
    await submitted(client, edit, {**form, "starts_at": f"{FAR}T20:00", "duration_min": "60", "version": "1"})
    changed = (await all_of(shop))[0].order
    assert (changed.duration_min, changed.starts_at and changed.starts_at.isoformat()) == (60, f"{FAR}T17:00:00+00:00")
    person = await text_of(client, f"/t/{JUNE}/inbox/{chat}/person")
    assert f"{HOME}/{seen.order.id}" in person
    thread = await text_of(client, f"/t/{JUNE}/inbox/{chat}/thread")
    assert re.search(r'class="line beside order_made"><p>[^<]* 1: ', thread)
    assert f"{HOME}/{seen.order.id}" in await text_of(client, f"/t/{JUNE}/customers/{seen.root}")


async def test_items_are_changed_at_the_prices_that_were_agreed_and_nothing_typed_is_lost(
    shop: World, sign_in: SignIn
) -> None:
    client = await sign_in()
    await submitted(client, f"{HOME}/new", FORM)
    one = (await all_of(shop))[0].order
    edit = f"{HOME}/{one.id}/edit"
    await shop.db.tenant(
        JUNE, upsert_items, JUNE, [read_item({"id": "pizza", "name": "Margherita", "price": "20"}, "BYN")]
    )
    form = {
        **FORM,
        "item0": "Margherita",
        "quantity0": "3",
        "item1": "",
        "item2": "tea-2",
        "quantity2": "1",
        "version": "1",
    }
    await submitted(client, edit, form)
    changed = (await all_of(shop))[0].order
    assert (str(changed.total), [line.catalog_id for line in changed.lines], changed.version) == (
        "41.50",
        ["pizza", "tea-2"],
        2,
    )
    page = await submitted(client, edit, {**form, "quantity0": "7", "comment": "by the back door"})
    assert "by the back door" in page
    assert 'value="7"' in page
    assert 'name="version" value="2"' in page
    assert 'class="alert bad"' in page
    await submitted(client, edit, {**form, "delivery": "", "version": "2"})
    changed = (await all_of(shop))[0].order
    assert (changed.delivery, changed.comment) == (None, "no onions")


async def test_the_list_is_narrowed_and_goes_on(shop: World, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.pages.orders.PAGE", 2)
    for _ in range(3):
        await one_of(shop)
    await one_of(shop, kind="request", wanted=())
    client = await sign_in()

    def numbers(page: str) -> list[str]:
        return re.findall(r'class="row-link"[^>]*>(\d+)<', page)

    page = await text_of(client, f"{HOME}?view=list")
    assert numbers(page) == ["4", "3"]
    older = re.findall(r'href="([^"]*before=3)"', page)[-1].replace("&amp;", "&")
    assert numbers(await text_of(client, older)) == ["2", "1"]
    assert numbers(await text_of(client, f"{HOME}?view=list&kind=request")) == ["4"]
    assert numbers(await text_of(client, f"{HOME}?view=list&q=2")) == ["2"]
    assert numbers(await text_of(client, f"{HOME}?view=list&q=ivan")) == ["4", "3"]
    assert numbers(await text_of(client, f"{HOME}?view=list&q=nobody&status=lost&before=x")) == []


@pytest.mark.slow
async def test_who_sees_what(shop: World, sign_in: SignIn) -> None:
    seen = await one_of(shop)
    admin, agent = await sign_in(), await as_person(shop, "ivan@june.example", Role.AGENT)
    at = f"{HOME}/{seen.order.id}"
    assert "secret" in await text_of(agent, at)
    auditor = await as_person(shop, "olga@june.example", Role.AUDITOR)
    for path in (at, HOME, f"{HOME}?view=list"):
        page = await text_of(auditor, path)
        assert "secret" not in page
        assert '<form method="post" action="/t/0367/orders' not in page
    assert (await auditor.get(f"{at}/edit")).status_code == 403
    await submitted(admin, f"/t/{JUNE}/inbox/{seen.order.conversation}/take", {"csrf": CSRF})
    for path in (
        at,
        f"{at}/edit",
        f"{HOME}/new?conversation={seen.order.conversation}",
        f"{HOME}/new?contact={seen.root}",
    ):
        await text_of(agent, path, 404)
    assert (await agent.post(f"{at}/status", form={"csrf": CSRF, "to": "done"})).status_code == 404
    assert "№ 1" not in await text_of(agent, HOME)
    await submitted(agent, f"{HOME}/new", {**FORM, "phone": "+375291234567"})
    assert "№ 2" in await text_of(agent, HOME), "their own"
    other = await sign_in(MAPLE)
    assert (await other.get(f"/t/{MAPLE}/orders/{seen.order.id}")).status_code == 404
    assert "№ 1" not in await text_of(other, f"/t/{MAPLE}/orders")


async def test_an_order_that_waits_for_the_client_says_so(shop: World, sign_in: SignIn) -> None:
    company, chat = shop.cache.tenant(JUNE), await conversation_with(shop, "7")
    assert company is not None
    seen = await one_of(shop)
    by = By(author="ai", actor="ai", now=seen.order.created_at, said_after=1)
    new = NewOrder(kind="order", contact=seen.order.contact, conversation=chat, wanted=(Wanted("tea-2"),))
    made = await shop.db.tenant(JUNE, make, company, new, by)
    client = await sign_in()
    mark = 'class="chip warn" title='
    assert (await text_of(client, HOME)).count(mark) == 1
    assert mark in await text_of(client, f"{HOME}/{made.order.id}")
    await submitted(client, f"{HOME}/{made.order.id}/status", {"csrf": CSRF, "to": "confirmed"})
    assert mark not in await text_of(client, HOME)


async def test_rules_are_stored_audited_and_refused(shop: World, sign_in: SignIn) -> None:
    client = await sign_in()
    form = {"csrf": CSRF, "change_until": "new", "cancel_until": "never", "hold_min": "5"}
    page = await submitted(client, f"{HOME}/rules", {**form, "hold_min": "0", "change_until": "done"})
    assert problems(page).keys() == {"hold_min", "change_until"}
    await submitted(client, f"{HOME}/rules", form)
    company = shop.cache.tenant(JUNE)
    assert company is not None
    assert OrderRules.of(company.options) == OrderRules(change_until="new", cancel_until="never", hold_min=5)
    (line,) = [one for one in await shop.db.tenant(JUNE, select_audit, JUNE, None, 10) if one.action == "order.rules"]
    assert line.new == {"change_until": "new", "cancel_until": "never", "hold_min": 5}
    page = await submitted(
        client, f"{HOME}/rules", {**form, "change_until": "confirmed", "cancel_until": "confirmed", "hold_min": "30"}
    )
    company = shop.cache.tenant(JUNE)
    assert company is not None
    assert "orders" not in company.options


async def test_the_stream_says_that_orders_changed(shop: World) -> None:
    async with streaming(shop, path=f"{HOME}/live") as stream:
        assert "retry" in await stream.next()
        assert (await stream.next())["event"] == "changed"
        shop.feed.publish(JUNE, Subject("chat", "1"))
        await one_of(shop)
        assert (await stream.next())["event"] == "changed"
