"""Tools by which the model leaves tasks to people: a request in words, a call back, and the erasure of what is stored of the client.

Nobody is called to a number that the model made up: it is one of the client's, or stands in what they wrote here.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from pydantic import Field, StringConstraints

from actors.ai.calling_back import call_back
from actors.ai.tool import Arguments, Bound, Outcome, Refused, Tool
from actors.ai.tools.orders import by_client, reasons, shown
from actors.orders.making import make
from gateway.domain.numbers import outside
from gateway.domain.order_texts import order_text
from gateway.domain.orders import LONGEST_COMMENT, NewOrder, Order
from gateway.domain.posts import Invalid
from gateway.domain.text import Bilingual
from gateway.store import contacts, messages
from gateway.store.orders import select_orders_of_conversation
from gateway.store.postgres.pool import Connection

MOST_A_DAY = 10
"""Requests of one conversation within a day."""
MOST_READ = 500
"""Messages in which a number is looked for."""
_NO_DIGIT = re.compile(r"[^0-9]")
_NUMBER = re.compile(r"\+?[0-9][0-9 \u00a0().-]{4,30}")
"""A telephone number as people write it."""

CALLED = (
    "The request is left, and an employee who is free is called at this moment, then the client. Say that somebody calls them shortly; "
    "promise no minute."
)
ERASURE = Bilingual(
    'The client asks to erase what is stored about them: see "Erase" on their page among the customers',
    "Клиент просит удалить данные о нём: на его странице в разделе «Клиенты» есть «Стереть»",
)

Words = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_COMMENT)]


class CreateRequest(Arguments):
    """What somebody of the company shall do."""

    text: Words = Field(
        description="what the client wants, so that a colleague who has not read the conversation understands it"
    )


class CallMeBack(Arguments):
    """When and where to call."""

    when: datetime | None = Field(
        None,
        description="when the client wants the call, in the company's time zone; as soon as possible where it is left out",
    )
    phone: Annotated[str, StringConstraints(max_length=40)] = Field(
        "", description="the number that the client wrote here; their known number where it is left out"
    )
    text: Annotated[str, StringConstraints(max_length=LONGEST_COMMENT)] = Field(
        "", description="what the call is about"
    )


class RequestErasure(Arguments):
    """Nothing is to be said: it is about the client of this conversation."""


async def create_request(conn: Connection, bound: Bound, arguments: CreateRequest) -> Outcome:
    """A task for people."""
    new = NewOrder(
        kind="request", contact=bound.conversation.contact, conversation=bound.conversation.id, comment=arguments.text
    )
    return await _leave(conn, bound, new)


async def call_me_back(conn: Connection, bound: Bound, arguments: CallMeBack) -> Outcome:
    """A task for people to call the client."""
    person = await contacts.select_contact(conn, bound.tenant.number, bound.person)
    known = sorted(person.phones, key=lambda one: not one.confirmed) if person is not None else []
    if arguments.phone:
        phone = outside(arguments.phone, bound.tenant.country)
        if phone not in [one.phone for one in known] and not await _written(conn, bound, phone):
            raise Refused("The client has not given this number: ask them for the number to call.")
    elif known:
        phone = known[0].phone
    else:
        raise Refused("No number of the client is known: ask them for the number to call.")
    new = NewOrder(
        kind="request", contact=bound.conversation.contact, conversation=bound.conversation.id, comment=arguments.text,
        call_phone=phone, call_at=arguments.when,
    )  # fmt: skip
    left = await _leave(conn, bound, new)
    if bound.settings.call_back == "task" or arguments.when is not None:
        return left
    after = partial(call_back, number=bound.tenant.number, conversation=bound.conversation.id, phone=phone)
    return replace(left, after=after, value={**left.value, "next": CALLED})


async def request_erasure(conn: Connection, bound: Bound, arguments: RequestErasure) -> Outcome:
    """A task for people, who alone can erase: what is asked for in a chat may be somebody else's wish."""
    return await _leave(
        conn,
        bound,
        NewOrder(
            kind="request", contact=bound.conversation.contact, conversation=bound.conversation.id,
            comment=ERASURE.texts[bound.tenant.language],
        ),
    )  # fmt: skip


async def _written(conn: Connection, bound: Bound, phone: str) -> bool:
    """Whether the client wrote a number in this conversation, in whichever form."""
    if not phone.removeprefix("+").isdigit() or not 5 <= len(phone) <= 20:
        return False
    after = max(0, bound.conversation.last_seq - MOST_READ)
    said = await messages.select_messages(conn, bound.tenant.number, bound.conversation.id, MOST_READ, after=after)
    # A national form lacks the country's digits: the last nine are the same in all.
    end = phone.removeprefix("+")[-9:]
    numbers = [found for one in said if one.direction == "in" for found in _NUMBER.findall(one.text)]
    return any(_NO_DIGIT.sub("", number).endswith(end) for number in numbers)


async def _leave(conn: Connection, bound: Bound, new: NewOrder) -> Outcome:
    found = await select_orders_of_conversation(conn, bound.tenant.number, bound.conversation.id, MOST_A_DAY)
    today = [one for one in found if one.kind == "request" and one.created_at > bound.now - timedelta(days=1)]
    if len(today) >= MOST_A_DAY:
        raise Refused("Too many requests were left in this conversation today: use hand_over.")
    try:
        applied = await make(conn, bound.tenant, new, by_client(bound))
    except Invalid as error:
        raise Refused(reasons(error)) from None
    value = shown(applied.order, bound) | {
        "next": "The request is left: tell the client its number and that a colleague will see to it."
    }
    return Outcome(value=value, note=_note(applied.order, bound), changed=applied.subjects, orders=applied.orders)


def _note(order: Order, bound: Bound) -> str:
    """What people read of it beside the conversation."""
    return (
        order.comment if order.call_phone is None else order_text(order, bound.tenant.timezone, bound.tenant.language)
    )


TOOLS = (
    Tool(
        name="create_request", arguments=CreateRequest, run=create_request, changes=True,
        description="Leaves a task to the company's people: for whatever is neither an order of the catalog nor a booking.",
    ),
    Tool(
        name="call_me_back", arguments=CallMeBack, run=call_me_back, changes=True,
        description="Leaves people the task to call the client back, on a number that the client gave.",
    ),
    Tool(
        name="request_erasure", arguments=RequestErasure, run=request_erasure, changes=True,
        description="Leaves people the task to erase what is stored about this client, where the client asks for that.",
    ),
)  # fmt: skip
