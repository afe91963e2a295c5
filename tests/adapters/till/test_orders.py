"""Orders told to a strict cloud: one order is one record there, whatever happens on the way, and none is believed before it is made."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from adapters.till.codec import item_id
from adapters.till.plan import ORDER_KEEP_S
from adapters.till.refusals import REASONS
from gateway.domain.errors import BadCredentials, BadSettings, NotYet, RateLimited, Rejected, Unavailable
from gateway.domain.orders import Line
from tests.adapters.till.conftest import CLIENT, OpenDesk, items_of, order, person, settings_of
from tests.sandbox.iiko import LARGE, PIZZA, SOUP, Iiko
from tests.sandbox.web import Fault


async def test_an_order_is_made_with_its_guest_and_waits_for_the_till(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.looks = 2
    pizza = Line(item_id(PIZZA, LARGE), "Маргарита, 35 см", Decimal("1"), Decimal("26.90"))
    wanted = order(lines=(*order().lines[:1], pizza), delivery={"street": "Ленина", "house": "5", "flat": "7"})
    async with open_desk(settings_of(cloud)) as desk:
        (draft,) = desk.planned(wanted)
        assert draft.keep_s == ORDER_KEEP_S
        with pytest.raises(NotYet) as waits:
            await desk.client.deliver(desk.attempt(draft, str(wanted.id)))
        assert waits.value.after_s == 2.0
        with pytest.raises(NotYet) as waits:
            await desk.client.deliver(desk.attempt(draft, str(wanted.id), 3))
        assert waits.value.after_s == 8.0
        await desk.order(wanted)
        await desk.order(replace(wanted, status="confirmed", version=2), wanted)
    (made,) = cloud.orders.values()
    assert (made.id, made.creation, made.fields["externalNumber"], made.fields["phone"]) == (
        str(wanted.id),
        "Success",
        "42",
        CLIENT,
    )
    assert made.fields["items"][1] == {
        "type": "Product", "productId": PIZZA, "productSizeId": LARGE, "amount": 1, "price": 26.9
    }  # fmt: skip
    assert items_of(cloud)[SOUP]["amount"] == 2
    assert made.fields["deliveryPoint"]["address"] == {"type": "city", "line1": "Ленина, 5, 7"}
    assert made.fields["orderServiceType"] == "DeliveryByCourier"
    assert made.fields["comment"] == "без лука"
    assert made.fields["customer"] == {"type": "regular", "id": cloud.guests[0]["id"], "name": "Анна"}
    assert cloud.requests["/api/1/deliveries/create"] == 1
    assert not made.comments
    assert cloud.violations == []


@pytest.mark.parametrize(
    ("delivery", "address", "kind", "point", "comment"),
    [
        (None, "line1", "DeliveryByClient", None, "без лука"),
        ("Самовывоз в 18:00", "line1", "DeliveryByClient", None, "без лука"),
        ("Ленина 5", "comment", "DeliveryByCourier", None, "без лука; Ленина 5"),
        ("Ленина 5", "street", "DeliveryByCourier", None, "без лука; Ленина 5"),
        ({"Street": "Ленина", "house": 5, "city": "Минск", "bell": "не звонить"}, "street", "DeliveryByCourier",
         {"type": "legacy", "street": {"name": "Ленина", "city": "Минск"}, "house": "5"}, "без лука; не звонить"),
    ],
)  # fmt: skip
async def test_where_it_goes(
    cloud: Iiko, open_desk: OpenDesk, delivery: Any, address: str, kind: str, point: Any, comment: str
) -> None:
    async with open_desk(settings_of(cloud, address=address)) as desk:
        await desk.order(order(delivery=delivery))
    (made,) = cloud.orders.values()
    assert made.fields["orderServiceType"] == kind
    assert made.fields.get("deliveryPoint", {}).get("address") == point
    assert made.fields["comment"] == comment


async def test_nothing_goes_to_the_kitchen_before_the_client_agrees(cloud: Iiko, open_desk: OpenDesk) -> None:
    waiting = order(agreed_at=None)
    async with open_desk(settings_of(cloud)) as desk:
        assert not desk.planned(waiting)
        assert not desk.planned(order(kind="booking"))
        assert not desk.planned(order(kind="request", lines=()))
        done = await desk.order(order(agreed_at=None, status="cancelled"), waiting)
        assert [one.note for one in done] == ["not_there"]
        done = await desk.order(order(status="done"), order(status="in_progress"))
        assert [one.note for one in done] == ["not_there"]
    assert not cloud.orders
    assert not cloud.requests["/api/1/deliveries/create"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    "fault",
    [Fault.DROP_AFTER, Fault.HTTP_500, Fault.EMPTY, Fault.HTML, Fault.DROP, Fault.HTTP_503, Fault.SUCCESS_FALSE],
)
async def test_an_answer_that_is_lost_makes_no_second_order(
    cloud: Iiko, open_desk: OpenDesk, fault: Fault, at_once: bool
) -> None:
    cloud.duplicate_as_400 = at_once
    cloud.fault, cloud.fault_count, cloud.faulty = fault, 1, "deliveries/create"
    async with open_desk(settings_of(cloud)) as desk:
        (draft,) = desk.planned(order())
        with pytest.raises(Unavailable) as lost:
            await desk.client.deliver(desk.attempt(draft, "o"))
        assert not lost.value.certain
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(draft, "o", 2))
        cloud.settle()
        await desk.deliver(draft, "o")
        await desk.deliver(draft, "o")
    assert [one.creation for one in cloud.orders.values()] == ["Success"]
    assert len(cloud.guests) == 1
    assert cloud.violations == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [("ProductNotFound", "product"), ("IikoFrontTooOldVersion", "too_old"), ("CreationTimeoutExpired", "till_late"),
     ("Common", "order_refused"), ("InvalidPhone", "no_phone")],
)  # fmt: skip
async def test_what_the_till_refuses_is_said(cloud: Iiko, open_desk: OpenDesk, code: str, reason: str) -> None:
    cloud.order_error = code
    async with open_desk(settings_of(cloud)) as desk:
        for _ in range(2):  # and again, when a person tries once more: it is the same order
            with pytest.raises(Rejected) as refused:
                await desk.order(order())
            assert refused.value.person == REASONS[reason]
            assert code in refused.value.detail
    assert len(cloud.orders) == 1


async def test_an_item_on_the_stop_list_is_refused_by_the_till(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.stop(SOUP)
    async with open_desk(settings_of(cloud)) as desk:
        with pytest.raises(Rejected) as refused:
            await desk.order(order())
        assert refused.value.person == REASONS["stopped"]
    async with open_desk(settings_of(cloud, check_stop_list=False)) as desk:
        await desk.order(order(id=order().contact))


async def test_while_the_till_is_away_the_order_waits_here(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.alive = False
    async with open_desk(settings_of(cloud)) as desk:
        (draft,) = desk.planned(order())
        with pytest.raises(NotYet) as waits:
            await desk.client.deliver(desk.attempt(draft, "o"))
        assert waits.value.person == REASONS["till"]
        assert not cloud.orders
        cloud.alive = True
        await desk.deliver(draft, "o")
    assert len(cloud.orders) == 1


async def test_a_command_that_is_forgotten_is_looked_up_by_the_order(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud)) as desk:
        (draft,) = desk.planned(order())
        with pytest.raises(NotYet):
            await desk.client.deliver(desk.attempt(draft, "o"))
        cloud.settle()
        cloud.forgets = True
        await desk.client.deliver(desk.attempt(draft, "o", 2))
    assert cloud.requests["/api/1/deliveries/by_id"] == 1


@pytest.mark.parametrize(
    ("wanted", "client", "reason"),
    [
        (order(lines=(Line("soup-of-the-day", "Суп", Decimal(1), Decimal(5)),)), person(), "foreign_items"),
        (order(), person(phone=""), "no_phone"),
        (order(), person(phone="112"), "no_phone"),
    ],
)
async def test_what_cannot_be_ordered_is_refused_before_anything_is_sent(
    cloud: Iiko, open_desk: OpenDesk, wanted: Any, client: Any, reason: str
) -> None:
    async with open_desk(settings_of(cloud)) as desk:
        with pytest.raises(Rejected) as refused:
            await desk.order(wanted, client=client)
        assert refused.value.person == REASONS[reason]
    assert not cloud.requests
    assert not cloud.guests


async def test_a_guest_who_was_deleted_there_is_made_anew_once(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud)) as desk:
        await desk.contact(person())
        cloud.guests.clear()
        await desk.order(order())
        await desk.order(order(id=order().contact))
    (guest,) = cloud.guests
    assert {one.fields["customer"]["id"] for one in cloud.orders.values()} == {guest["id"]}
    assert cloud.violations == []


async def test_an_order_needs_no_guest(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.loyalty = False
    async with open_desk(settings_of(cloud)) as desk:
        await desk.order(order())
        cloud.missing = {"guests"}
        await desk.order(order(id=order().contact), client=person(name=""))
    customers = [one.fields["customer"] for one in cloud.orders.values()]
    assert customers == [{"type": "one-time", "name": "Анна"}, {"type": "one-time", "name": CLIENT}]


async def test_a_change_is_written_into_the_comment_once(cloud: Iiko, open_desk: OpenDesk) -> None:
    first = order()
    more = order(lines=(Line(SOUP, "Борщ", Decimal(3), Decimal("12.50")),), version=2)
    async with open_desk(settings_of(cloud)) as desk:
        await desk.order(first)
        for version in (2, 3):
            await desk.order(replace(more, version=version), first)
        await desk.order(first)  # somebody presses "send again" for the first
    (made,) = cloud.orders.values()
    assert made.comments == ["ИЗМЕНЕНО, теперь: Борщ × 3; без лука"]
    assert cloud.violations == []


async def test_a_cancelled_order_is_cancelled_there_once(cloud: Iiko, open_desk: OpenDesk) -> None:
    made, gone = order(), order(status="cancelled", version=2)
    cause = "6fab19a5-203c-4bf5-94eb-f572aa8b117b"
    async with open_desk(settings_of(cloud, cancel_cause_id=cause)) as desk:
        await desk.order(made)
        cloud.fault, cloud.fault_count, cloud.faulty = Fault.DROP_AFTER, 1, "deliveries/cancel"
        (draft,) = desk.planned(gone, made)
        with pytest.raises(Unavailable):
            await desk.client.deliver(desk.attempt(draft, str(made.id)))
        cloud.settle()
        await desk.deliver(draft, str(made.id))
        await desk.deliver(draft, str(made.id))
    assert [one.status for one in cloud.orders.values()] == ["Cancelled"]
    assert cloud.violations == []


async def test_what_is_delivered_cannot_be_cancelled(cloud: Iiko, open_desk: OpenDesk) -> None:
    made, gone = order(), order(status="cancelled", version=2)
    async with open_desk(settings_of(cloud)) as desk:
        await desk.order(made)
        cloud.move(str(made.id), "Closed")
        with pytest.raises(Rejected) as refused:
            await desk.order(gone, made)
        assert refused.value.person == REASONS["cancel_refused"]


async def test_names_of_any_length_and_emoji(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(
        settings_of(cloud, mapping=[{"when": "order", "to": "comment", "from": "order.channel", "default": "из чата"}])
    ) as desk:
        await desk.order(order(comment="🌶" * 400 + "\n\x07" + "x" * 400), client=person(name="Я🍕" * 200))
    (made,) = cloud.orders.values()
    assert len(made.fields["comment"]) == 500
    assert made.fields["comment"].startswith("из чата; 🌶")
    assert len(cloud.guests[0]["name"]) <= 100


async def test_refusals_by_status(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud, pause_s=90)) as desk:
        cloud.missing = {"orders"}
        with pytest.raises(Rejected) as refused:
            await desk.order(order())
        assert refused.value.person == REASONS["right_orders"]
        cloud.missing, cloud.left = set(), {"orders": 0}
        with pytest.raises(RateLimited) as slowed:
            await desk.order(order(id=order().contact))
        assert (slowed.value.after_s, slowed.value.bucket) == (90, "orders")
    settings = settings_of(cloud, terminal_group_id="9fab19a5-203c-4bf5-94eb-f572aa8b117b")
    cloud.left = {}
    async with open_desk(settings) as desk:
        with pytest.raises(BadSettings) as attention:
            await desk.order(order(id=order().contact))
        assert attention.value.person == REASONS["terminal"]


async def test_a_login_that_is_not_taken_names_itself_to_nobody(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud, api_login="a-wrong-login-000111")) as desk:
        (draft,) = desk.planned(order())
        attempt = desk.attempt(draft, "o")
        with pytest.raises(BadCredentials) as refused:
            await desk.client.deliver(attempt)
    for text in (str(refused.value), refused.value.person, attempt.request, attempt.response):
        assert "a-wrong-login-000111" not in text
