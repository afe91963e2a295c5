"""Calls, clients and chats told to a strict cloud: who becomes a guest, and when the till is told."""

from typing import Any

import pytest
import trio

from adapters.till.refusals import REASONS
from gateway.domain.crm_facts import ChatFacts, ChatLine, ClientFacts
from gateway.domain.errors import Rejected, Unavailable
from gateway.domain.events import Direction, Result
from tests.adapters.conftest import at
from tests.adapters.till.conftest import CLIENT, OpenDesk, ended, person, ringing, settings_of
from tests.sandbox.iiko import Iiko
from tests.sandbox.web import Fault


def closed(client: ClientFacts, **more: Any) -> ChatFacts:
    fields: dict[str, Any] = {
        "id": "chat-1", "stretch": 3, "cause": "closed", "integration": "telegram", "channel": "Telegram", "began_at": at(0),
        "ended_at": at(60), "messages": 2, "lines": (ChatLine(at=at(5), author="client", text="Можно без лука?"),), "client": client,
    }  # fmt: skip
    return ChatFacts(**{**fields, **more})


async def test_calls_make_nobody_unless_it_is_set(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud)) as desk:
        assert await desk.tell(ringing(), ended()) == []
    assert not cloud.requests


async def test_an_unknown_caller_becomes_one_guest(cloud: Iiko, open_desk: OpenDesk) -> None:
    async with open_desk(settings_of(cloud, create="contact")) as desk, trio.open_nursery() as nursery:
        for call in "123":
            nursery.start_soon(desk.tell, ringing(call), ended(call, Result.MISSED))
    assert [one["phone"] for one in cloud.guests] == [CLIENT]
    assert cloud.requests["/api/1/loyalty/iiko/customer/create_or_update"] == 1
    assert cloud.violations == []


@pytest.mark.parametrize("stored", ["375291112233", "80291112233", "291112233", "+375 29 111-22-33", "8 029 111-22-33"])
async def test_a_guest_is_found_however_the_number_is_written(cloud: Iiko, open_desk: OpenDesk, stored: str) -> None:
    cloud.add_guest(stored)
    async with open_desk(settings_of(cloud, create="contact")) as desk:
        await desk.tell(ringing(), ended())
        await desk.contact(person())
    assert len(cloud.guests) == 1
    assert cloud.violations == []


@pytest.mark.parametrize(
    "more",
    [{"direction": Direction.INTERNAL, "caller": "150"}, {"phone": "anonymous"}, {"phone": ""}, {"phone": "112"},
     {"direction": Direction.OUTGOING, "caller": "150", "called": CLIENT}],
)  # fmt: skip
async def test_internal_hidden_and_outgoing_calls_are_not_told(
    cloud: Iiko, open_desk: OpenDesk, more: dict[str, Any]
) -> None:
    async with open_desk(settings_of(cloud, create="contact", attention="order_attention")) as desk:
        assert await desk.tell(ringing("1", **more), ended("1", **more)) == []
    assert not cloud.requests


async def test_the_till_is_told_once_of_a_call_about_an_open_order(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.add_order(CLIENT, "Closed")
    open_one = cloud.add_order(CLIENT, "OnWay")
    async with open_desk(settings_of(cloud, attention="delivery_attention")) as desk:
        await desk.tell(ringing("1", "150"), ringing("1", "150", "151"), ended())
        (nobody,) = await desk.tell(ringing("2", phone="+375299998877"))
    assert nobody.note == "no_open_order"
    (told,) = cloud.attentions
    assert (told["orderId"], told["messageType"], told["orderSource"]) == (open_one.id, "delivery_attention", "gateway")
    assert told["additionalInfo"].startswith(f"Звонит клиент {CLIENT} по этому заказу; звонит у: 150")


async def test_events_can_be_switched_off(cloud: Iiko, open_desk: OpenDesk) -> None:
    off = settings_of(cloud, create="contact", attention="order_attention", send_events={"in": False, "upload": False})
    async with open_desk(off) as desk:
        assert await desk.tell(ringing(), ended()) == []


async def test_a_client_of_a_chat_is_one_guest_with_mapped_fields(cloud: Iiko, open_desk: OpenDesk) -> None:
    rules = [
        {"when": "contact", "to": "comment", "from": "contact.link", "default": "из чата"},
        {"when": "contact", "to": "id", "from": "contact.name"},
    ]
    async with open_desk(settings_of(cloud, mapping=rules)) as desk:
        for _ in range(2):
            await desk.contact(person(emails=("anna@june.example",)))
        await desk.contact(person(phone="", emails=("x@june.example",)))
    (made,) = cloud.guests
    assert (made["phone"], made["name"], made["email"], made["comment"]) == (
        CLIENT,
        "Анна",
        "anna@june.example",
        "из чата",
    )


async def test_a_lost_answer_makes_no_second_guest(cloud: Iiko, open_desk: OpenDesk) -> None:
    cloud.fault, cloud.fault_count, cloud.faulty = Fault.DROP_AFTER, 1, "create_or_update"
    async with open_desk(settings_of(cloud)) as desk:
        with pytest.raises(Unavailable):
            await desk.contact(person())
        await desk.contact(person())
    assert len(cloud.guests) == 1


@pytest.mark.parametrize(
    ("loyalty", "missing", "reason"), [(False, set(), "loyalty"), (True, {"guests"}, "right_guests")]
)
async def test_where_guests_are_not_allowed_it_is_said_and_the_rest_goes_on(
    cloud: Iiko, open_desk: OpenDesk, loyalty: bool, missing: set[str], reason: str
) -> None:
    cloud.loyalty, cloud.missing = loyalty, missing
    async with open_desk(settings_of(cloud)) as desk:
        with pytest.raises(Rejected) as refused:
            await desk.contact(person())
    assert refused.value.person == REASONS[reason]


async def test_a_chat_is_added_to_the_open_orders_comment_once(cloud: Iiko, open_desk: OpenDesk) -> None:
    made = cloud.add_order(CLIENT, comment="острое")
    async with open_desk(settings_of(cloud)) as desk:
        for _ in range(2):
            await desk.chat(closed(person()))
        assert [one.note for one in await desk.chat(closed(person(phone="")))] == ["no_open_order"]
    (comment,) = made.comments
    assert comment.startswith("острое; Чат в Telegram закрыт")
    assert "Можно без лука?" in comment
    assert cloud.violations == []
