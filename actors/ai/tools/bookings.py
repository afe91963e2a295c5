"""Tools by which the model books times: what is free, and a booking that waits for the client's word."""

from datetime import date, datetime
from typing import Any

from pydantic import Field

from actors.ai.tool import Arguments, Bound, Outcome, Refused, Tool
from actors.ai.tools.orders import CatalogId, by_client, check_waiting, outcome, reasons
from actors.orders.making import make, times_of
from gateway.domain.orders import MOST_PARTY, Comment, NewOrder, Wanted
from gateway.domain.posts import Invalid
from gateway.store.postgres.pool import Connection

MOST_TIMES = 60


class FreeSlots(Arguments):
    """Where to look."""

    item: CatalogId = Field(
        description="the id of what is booked: a table, a doctor, a lesson, as search_catalog gave it"
    )
    day: date = Field(description="the day, such as 2026-12-04")
    party: int | None = Field(None, ge=1, le=MOST_PARTY, description="how many people come")


class CreateBooking(Arguments):
    """What is booked."""

    item: CatalogId = Field(description="the id of what is booked, as search_catalog gave it")
    starts_at: datetime = Field(
        description="when, in the company's time zone and without an offset, such as 2026-12-04T19:00"
    )
    party: int | None = Field(None, ge=1, le=MOST_PARTY, description="how many people come")
    comment: Comment = Field("", description="wishes of the client")


async def free_slots(conn: Connection, bound: Bound, arguments: FreeSlots) -> Outcome:
    """The times of a day that are free."""
    try:
        found = await times_of(conn, bound.tenant, arguments.item, arguments.day, bound.now, arguments.party)
    except Invalid as error:
        raise Refused(reasons(error)) from None
    times = [f"{moment.astimezone(found.zone):%H:%M}" for moment in found.free[:MOST_TIMES]]
    value: dict[str, Any] = {
        "item": arguments.item, "name": found.one.item.name, "day": arguments.day.isoformat(), "time_zone": found.zone.key,
        "duration_min": found.one.duration_min, "times": times,
    }  # fmt: skip
    if not times:
        value["why"] = "closed, past, or everything is taken: offer another day"
    return Outcome(value=value)


async def create_booking(conn: Connection, bound: Bound, arguments: CreateBooking) -> Outcome:
    """A booking, which waits for the client's word."""
    await check_waiting(conn, bound)
    new = NewOrder(
        kind="booking", contact=bound.conversation.contact, conversation=bound.conversation.id, wanted=(Wanted(arguments.item),),
        starts_at=arguments.starts_at, party=arguments.party, comment=arguments.comment,
    )  # fmt: skip
    try:
        applied = await make(conn, bound.tenant, new, by_client(bound))
    except Invalid as error:
        raise Refused(reasons(error)) from None
    return outcome(applied, bound)


TOOLS = (
    Tool(
        name="free_slots", arguments=FreeSlots, run=free_slots,
        description="The times of one day at which something of the catalog can still be booked. Offer no others.",
    ),
    Tool(
        name="create_booking", arguments=CreateBooking, run=create_booking, changes=True,
        description="Books something of the catalog at a time. It counts only after the client has agreed to its whole text: see `next` in the answer.",
    ),
)  # fmt: skip
