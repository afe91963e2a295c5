"""A company, calls, clients, chats and orders, the same for every CRM."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from gateway.domain.configuration import Phone, Tenant
from gateway.domain.crm_facts import ChatFacts, ChatLine, ClientFacts, OrderFacts
from gateway.domain.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallTransferred,
    Direction,
    HungUpBy,
    Result,
)
from gateway.domain.ids import CallId, TenantId
from gateway.domain.orders import Line, Order

TENANT = Tenant(
    number=TenantId("0367"), name="June", timezone=ZoneInfo("Europe/Minsk"), country="BY", language="ru",
    phones=(Phone("150", "Анна"), Phone("151", "<Олег> & Ко"), Phone("152")),
)  # fmt: skip
BEGAN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OURS = "+375171234567"


def at(second: float) -> datetime:
    """A moment of the day."""
    return BEGAN + timedelta(seconds=second)


def incoming(
    call: str, phone: str, *, result: Result = Result.ANSWERED, rang: Sequence[str] = ("150", "151"), by: str = "150",
    then: str = "", uncertain: bool = False,
) -> list[CallEvent]:  # fmt: skip
    """A whole call of a client: who rang, who answered, to whom it was transferred, how it ended."""
    one, talked = CallId(call), result is Result.ANSWERED
    events: list[CallEvent] = [
        CallRinging(
            call_id=one, at=at(0), direction=Direction.INCOMING, caller=phone, called=OURS, trunk="t", extensions=tuple(rang)
        )
    ]  # fmt: skip
    if talked:
        events.append(CallAnswered(call_id=one, at=at(5), extension=by, wait_s=5.0))
    if then:
        events.append(CallTransferred(call_id=one, at=at(20), from_extension=by, to_extension=then))
    events.append(
        CallEnded(
            call_id=one, at=at(60), direction=Direction.INCOMING, caller=phone, called=OURS, trunk="t", result=result,
            wait_s=5.0 if talked else None, talk_s=55.0 if talked else None, extension=by if talked else None,
            last_extension=(then or by) if talked else None, rang=tuple(rang), hung_up_by=HungUpBy.CALLER, uncertain=uncertain,
        )
    )  # fmt: skip
    return events


def outgoing(call: str, phone: str, *, result: Result = Result.ANSWERED, by: str = "150") -> list[CallEvent]:
    """A whole call of an employee."""
    one, talked = CallId(call), result is Result.ANSWERED
    events: list[CallEvent] = [
        CallRinging(
            call_id=one, at=at(0), direction=Direction.OUTGOING, caller=by, called=phone, trunk="t", extensions=()
        )
    ]
    if talked:
        events.append(CallAnswered(call_id=one, at=at(5), extension=by, wait_s=5.0))
    events.append(
        CallEnded(
            call_id=one, at=at(60), direction=Direction.OUTGOING, caller=by, called=phone, trunk="t", result=result,
            wait_s=5.0 if talked else None, talk_s=55.0 if talked else None, extension=by if talked else None,
            last_extension=by if talked else None, rang=(), hung_up_by=HungUpBy.CALLEE,
        )
    )  # fmt: skip
    return events


def internal(call: str) -> list[CallEvent]:
    """Colleagues among themselves."""
    one = CallId(call)
    return [
        CallRinging(
            call_id=one, at=at(0), direction=Direction.INTERNAL, caller="150", called="151", trunk=None, extensions=("151",)
        ),
        CallAnswered(call_id=one, at=at(5), extension="151", wait_s=5.0),
        CallEnded(
            call_id=one, at=at(60), direction=Direction.INTERNAL, caller="150", called="151", trunk=None, result=Result.ANSWERED,
            wait_s=5.0, talk_s=55.0, extension="151", last_extension="151", rang=("151",), hung_up_by=HungUpBy.CALLER,
        ),
    ]  # fmt: skip


def client(number: int = 1, **more: Any) -> ClientFacts:
    """A client of a chat."""
    fields: dict[str, Any] = {
        "name": "Вера Лис", "phones": ("+375296254070",), "emails": (), "link": f"https://gw.example/t/0367/customers/{number}",
    }  # fmt: skip
    return ClientFacts(id=str(UUID(int=number)), **(fields | more))


def chat(of: ClientFacts, number: int = 1, **more: Any) -> ChatFacts:
    """Their chat, closed."""
    fields: dict[str, Any] = {
        "stretch": 7, "cause": "closed", "integration": "telegram", "channel": "Telegram", "username": "vera", "began_at": at(0),
        "ended_at": at(600), "messages": 7, "employee": "Анна Кузьмина", "link": f"https://gw.example/t/0367/inbox/{number}",
        "lines": (ChatLine(at=at(0), author="client", text="Есть ли [b]торт[/b]? 🎂"), ChatLine(at=at(600), author="employee", text="Есть.")),
    }  # fmt: skip
    return ChatFacts(id=str(UUID(int=1000 + number)), client=of, **(fields | more))


def order(of: ClientFacts, number: int = 1, **more: Any) -> OrderFacts:
    """Their order of two cakes and a candle."""
    fields: dict[str, Any] = {
        "kind": "order", "status": "new", "currency": "BYN", "total": Decimal("25.50"), "version": 1,
        "lines": (
            Line("cake", "Торт «Июнь»", Decimal(2), Decimal("12.00")), Line("candle", "Свеча", Decimal(1), Decimal("1.50")),
        ),
        "comment": "Без орехов", "created_by": "ai", "created_at": at(0), "updated_at": at(0),
    }  # fmt: skip
    made = Order(id=UUID(int=2000 + number), number=number, contact=UUID(of.id), **(fields | more))
    return OrderFacts(order=made, client=of, link=f"https://gw.example/t/0367/orders/{number}", channel="Telegram")
