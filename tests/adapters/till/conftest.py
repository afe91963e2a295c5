"""A strict restaurant cloud on loopback; calls, clients and orders told to it as the outbox would: planned, then delivered."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import trio

from adapters.base import Attempt, Delivered, Draft, Link
from adapters.crm_drafts import plan_chat, plan_contact
from adapters.iiko.settings import IikoSettings
from adapters.till.client import TillClient, connect
from adapters.till.plan import plan_call, plan_order
from adapters.till.settings import TillSettings
from gateway.domain.calls import Call, apply
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ChatFacts, ClientFacts, OrderFacts
from gateway.domain.errors import NotYet
from gateway.domain.events import CallEnded, CallEvent, CallRinging, Direction, HungUpBy, Result
from gateway.domain.ids import CallId
from gateway.domain.orders import Line, Order
from gateway.domain.subjects import Subject
from tests.adapters.conftest import at
from tests.sandbox.iiko import ORGANIZATION, PIZZA, SOUP, TERMINAL_GROUP, Iiko

CLIENT = "+375291112233"


@pytest.fixture
async def cloud(nursery: trio.Nursery) -> Iiko:
    """A cloud that lives as long as the test."""
    made = Iiko()
    await nursery.start(made.serve)
    return made


def settings_of(cloud: Iiko, model: type[TillSettings] = IikoSettings, **more: Any) -> TillSettings:
    """By its login, with its place."""
    given = {
        "api_login": cloud.API_LOGIN, "url": cloud.base, "organization_id": ORGANIZATION, "terminal_group_id": TERMINAL_GROUP,
        "webhook_token": "token-of-webhooks-0123456789",
    }  # fmt: skip
    return model.model_validate({**given, **more})


@dataclass
class Ids:
    """External ids that outlive an attempt."""

    stored: dict[tuple[Subject | None, str], str] = field(default_factory=dict)

    async def remember(self, name: str, external_id: str, of: Subject | None = None) -> None:
        self.stored[of, name] = external_id

    async def known(self, name: str, of: Subject | None = None) -> str | None:
        return self.stored.get((of, name))


@dataclass
class Desk:
    """One integration at work."""

    client: TillClient
    settings: TillSettings
    tenant: Tenant
    calls: dict[str, Call] = field(default_factory=dict)
    ids: dict[str, Ids] = field(default_factory=dict)
    people: dict[tuple[Subject | None, str], str] = field(default_factory=dict)

    def attempt(self, draft: Draft, subject: str, number: int = 1) -> Attempt:
        ids = self.ids.setdefault(subject, Ids())
        for key, value in self.people.items():
            ids.stored.setdefault(key, value)
        return Attempt(kind=draft.kind, key=draft.key, lane=draft.lane, body=draft.body, number=number, ids=ids)

    async def deliver(self, draft: Draft, subject: str) -> tuple[Delivered, int]:
        """As the worker does: again while it is not yet; and how often."""
        number = 0
        while True:
            number += 1
            assert number < 10
            attempt = self.attempt(draft, subject, number)
            try:
                done = await self.client.deliver(attempt)
            except NotYet:
                continue
            finally:
                self.people |= {key: value for key, value in self.ids[subject].stored.items() if key[0] is not None}
            return done, number

    async def tell(self, *events: CallEvent) -> list[Delivered]:
        """Every delivery of these events of calls."""
        made: list[tuple[Draft, str]] = []
        for event in events:
            before = self.calls.get(event.call_id)
            call = apply(before, event)
            assert call is not None
            self.calls[event.call_id] = call
            made += [(one, event.call_id) for one in plan_call(self.settings, self.tenant, before, call, event)]
        return [(await self.deliver(*one))[0] for one in made]

    def planned(self, order: Order, before: Order | None = None, client: ClientFacts | None = None) -> Sequence[Draft]:
        facts = OrderFacts(order=order, client=client or person())
        return plan_order(self.settings, self.tenant, before, facts)

    async def order(
        self, order: Order, before: Order | None = None, client: ClientFacts | None = None
    ) -> list[Delivered]:
        """Every delivery of an order's version."""
        drafts = self.planned(order, before, client)
        return [(await self.deliver(one, str(order.id)))[0] for one in drafts]

    async def contact(self, client: ClientFacts) -> None:
        for draft in plan_contact(self.settings, self.tenant, client):
            await self.deliver(draft, client.id)

    async def chat(self, chat: ChatFacts) -> list[Delivered]:
        return [(await self.deliver(draft, chat.id))[0] for draft in plan_chat(self.settings, self.tenant, chat)]


def person(phone: str = CLIENT, name: str = "Анна", **more: Any) -> ClientFacts:
    """A client of a chat."""
    return ClientFacts(id="c-1", name=name, phones=(phone,) if phone else (), **more)


def order(**more: Any) -> Order:
    """An order that its client agreed to."""
    lines = (Line(SOUP, "Борщ", Decimal(2), Decimal("12.50")), Line(PIZZA, "Маргарита", Decimal(1), Decimal("18.00")))
    fields: dict[str, Any] = {
        "id": UUID("0f3a2c9e-5f50-4c7e-9b7e-1c1c9b6f2a11"), "number": 42, "kind": "order", "status": "new", "contact": UUID(int=5),
        "lines": lines, "total": Decimal("43.00"), "currency": "BYN", "comment": "без лука", "created_by": "ai", "created_at": at(0),
        "updated_at": at(0), "agreed_at": at(1),
    }  # fmt: skip
    return Order(**{**fields, **more})


def ringing(call: str = "1", *extensions: str, phone: str = CLIENT, **more: Any) -> CallRinging:
    """A client rings at these."""
    fields: dict[str, Any] = {"direction": Direction.INCOMING, "caller": phone, "called": "+375171234567", **more}
    return CallRinging(call_id=CallId(call), at=at(0), trunk="t", extensions=extensions or ("150",), **fields)


def ended(call: str = "1", result: Result = Result.ANSWERED, *, phone: str = CLIENT, **more: Any) -> CallEnded:
    """The end, after a minute."""
    talked = result is Result.ANSWERED
    fields: dict[str, Any] = {
        "extension": "150" if talked else None, "last_extension": "150" if talked else None, "rang": ("150",),
        "hung_up_by": HungUpBy.CALLER, "direction": Direction.INCOMING, "caller": phone, "called": "+375171234567",
    }  # fmt: skip
    return CallEnded(
        call_id=CallId(call), at=at(60), trunk="t", result=result, wait_s=5.0 if talked else None,
        talk_s=55.0 if talked else None, **(fields | more),
    )  # fmt: skip


OpenDesk = Callable[..., Any]


@pytest.fixture
def open_desk(open_link: Link) -> OpenDesk:
    """`async with open_desk(settings, link_field=...) as desk`."""

    @asynccontextmanager
    async def opened(settings: TillSettings, **changes: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(connect(replace(open_link, **changes), settings))
            yield Desk(client, settings, open_link.tenant)

    return opened


def items_of(cloud: Iiko) -> Mapping[str, Any]:
    """The one order's items, by product."""
    (made,) = cloud.orders.values()
    return {one["productId"]: one for one in made.fields["items"]}
