"""Orders made, changed and agreed, within a transaction of the caller's: statements alone, nothing else is waited for.

    judged (catalog, hours, capacity) -> a number and its places -> stored with a line in the conversation -> audited

Whoever calls commits, then shows it to open pages (`Applied.subjects`). A client's own order counts once it was repeated to them in
full and they wrote again: `agree` looks for both in the conversation, so that no model can skip it. Locks are taken in the order
conversation, order, item, number. Read `ordering.py` for people and programs, `actors/ai/tools/orders.py` for the AI operator.
Over 400 lines: each change of an order goes through the same locks and judgements.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from gateway.domain import bookings
from gateway.domain.bookings import Bookable, Span, bookable, check_time, free_places
from gateway.domain.catalog import Item
from gateway.domain.configuration import Tenant
from gateway.domain.ids import TenantId
from gateway.domain.order_texts import repeats
from gateway.domain.orders import (
    CLOSED,
    NewOrder,
    Order,
    OrderChange,
    OrderRules,
    Priced,
    Wanted,
    check_move,
    client_may,
    price,
    quantity_text,
    total_of,
)
from gateway.domain.posts import Invalid
from gateway.domain.profile import Profile
from gateway.domain.secret import MASK
from gateway.domain.subjects import Subject
from gateway.domain.text import Bilingual
from gateway.store import booking_slots, conversations, messages
from gateway.store import orders as rows
from gateway.store.audit import difference, insert_audit
from gateway.store.business_profiles import select_profile
from gateway.store.catalog_items import select_items_by_id
from gateway.store.postgres.pool import Connection

SYSTEM = "system"
MOST_HINTS = 6
"""Free times that a refusal names."""
MOST_SAID = 500
"""Messages in which an order's repetition is looked for."""


class NotThere(Exception):
    """There is no such order, or it is another company's."""


class Stale(Exception):
    """Somebody has changed the order since: it is another version."""

    def __init__(self, order: Order) -> None:
        super().__init__("the order is another version")
        self.order = order


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who does it. `author` as of messages, `actor` as the audit has it; `said_after` is given for a client, who has to agree: the
    number of the conversation's last message."""

    author: str
    actor: str
    now: datetime
    said_after: int | None = None

    @property
    def client(self) -> bool:
        """Whether it is a client's own wish."""
        return self.said_after is not None


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of it."""

    order: Order
    corrected: tuple[tuple[str, str], ...] = ()
    """What differed from the catalog and was put right, by its path."""
    subjects: tuple[Subject, ...] = field(default=())
    """What pages that are open have to read again."""
    orders: tuple[tuple[Order | None, Order], ...] = ()
    """Every order that is another now, before (None: it was made) and after: for whoever plans what CRMs are sent of it."""


@dataclass(frozen=True, slots=True)
class Times:
    """The free times of an item on one day."""

    one: Bookable
    day: date
    zone: ZoneInfo
    free: tuple[datetime, ...]
    """In UTC."""


def subjects_of(order: Order) -> tuple[Subject, ...]:
    """What an order's change shows on."""
    mine = Subject("order", str(order.id))
    return (mine, Subject("chat", str(order.conversation))) if order.conversation is not None else (mine,)


async def make(conn: Connection, tenant: Tenant, new: NewOrder, by: By) -> Applied:
    """Stores a new order. The contact and the conversation are there. Raises Invalid with every problem."""
    number, ident = tenant.number, uuid4()
    profile = await select_profile(conn, number)
    priced = await _priced(conn, tenant, profile, new.kind, new.wanted)
    agreed = not by.client or new.kind == "request"
    starts_at, duration = None, None
    lapsed: list[UUID] = []
    place: Placed | None = None
    if new.kind == "booking":
        item = await _booked_item(conn, number, priced.lines[0].catalog_id)
        place, lapsed = await _place(
            conn, tenant, profile, item, new.starts_at, new.duration_min, new.party, by.now, but=None
        )
        starts_at, duration = place.span.start, place.duration_min
    else:
        _only_bookings(starts_at=new.starts_at, duration_min=new.duration_min, party=new.party)
    made = Order(
        id=ident, number=await rows.next_number(conn, number), kind=new.kind, status=new.status, contact=new.contact,
        conversation=new.conversation, lines=priced.lines, total=priced.total, currency=priced.currency, starts_at=starts_at,
        duration_min=duration, party=new.party, comment=new.comment, delivery=new.delivery, call_phone=new.call_phone,
        call_at=_call_at(tenant, new.call_at, by.now), created_by=by.author, created_at=by.now, updated_at=by.now, agreed_at=by.now if agreed else None,
        said_after=by.said_after or 0,
    )  # fmt: skip
    await rows.insert_order(conn, number, made)
    if place is not None:
        hold = OrderRules.of(tenant.options).hold_min if not agreed else None
        await _take(conn, number, made, place, hold)
    cancelled = await _cancel_lapsed(conn, tenant, lapsed, by.now)
    await _note(conn, tenant, made, "order_made", by.author)
    await insert_audit(conn, number, by.actor, "order.created", str(made.number), new=_audited(made, tenant.timezone))
    return Applied(made, priced.corrected, (*subjects_of(made), *_subjects(cancelled)), ((None, made), *cancelled))


async def change(
    conn: Connection, tenant: Tenant, ident: UUID, wish: OrderChange, by: By, *, expected_version: int | None = None,
    conversation: UUID | None = None,
) -> Applied:  # fmt: skip
    """Changes an order. With `conversation`, only one that was made there. Raises NotThere, Stale, Invalid."""
    number = tenant.number
    before = await rows.lock_order(conn, number, ident)
    if before is None or (conversation is not None and before.conversation != conversation):
        raise NotThere
    if expected_version is not None and expected_version != before.version:
        raise Stale(before)
    status = wish.status or before.status
    _check_client(tenant, before, wish, by)
    check_move(before.status, status)
    if wish.content and status in CLOSED:
        raise Invalid((("status", Bilingual(
            f"an order that is {status} does not change any more", f"заказ в статусе {status} уже не меняется"
        )),))  # fmt: skip
    profile = await select_profile(conn, number)
    priced: Priced | None = None
    if wish.wanted is not None:
        priced = await _priced(conn, tenant, profile, before.kind, wish.wanted, before)
    after = replace(
        before, status=status, lines=priced.lines if priced else before.lines, total=priced.total if priced else before.total,
        currency=priced.currency if priced else before.currency, party=wish.party or before.party,
        comment=before.comment if wish.comment is None else wish.comment,
        delivery=before.delivery if wish.delivery is None else wish.delivery or None,
    )  # fmt: skip
    after, place, lapsed = await _moved(conn, tenant, profile, before, after, wish, by)
    if after == before:
        return Applied(before)
    reopened = before.status == "cancelled" and status == "new"
    changed = _content(after) != _content(before)
    if by.client and (changed or reopened):
        after = replace(
            after, agreed_at=None, said_after=by.said_after or 0, status="new" if status == "confirmed" else status
        )
    elif not by.client and status not in ("new", "cancelled"):
        after = replace(after, agreed_at=after.agreed_at or by.now)
    after = replace(after, version=before.version + 1, updated_at=by.now)
    await rows.update_order(conn, number, after, lines=after.lines != before.lines)
    if place is not None or status == "cancelled":
        await booking_slots.delete_slots(conn, number, ident)
    if place is not None:
        # A client who had agreed once keeps the place while the change waits for their word.
        first = by.client and before.agreed_at is None
        await _take(conn, number, after, place, OrderRules.of(tenant.options).hold_min if first else None)
    elif after.agreed_at is not None and before.agreed_at is None:
        await booking_slots.keep_slots(conn, number, ident)
    cancelled = await _cancel_lapsed(conn, tenant, lapsed, by.now)
    await _note(
        conn, tenant, after, "order_cancelled" if status == "cancelled" != before.status else "order_changed", by.author
    )
    await _audit_change(conn, tenant, before, after, by.actor)
    return Applied(
        after, priced.corrected if priced else (), (*subjects_of(after), *_subjects(cancelled)), ((before, after), *cancelled),
    )  # fmt: skip


async def agree(conn: Connection, tenant: Tenant, ident: UUID, conversation: UUID, by: By) -> Applied:
    """The client of a conversation agrees to their order as it stands. Raises NotThere, and Invalid where it was not repeated to them
    in full since it was made or changed, or they have not written since."""
    before = await rows.lock_order(conn, tenant.number, ident)
    if before is None or before.conversation != conversation:
        raise NotThere
    if before.status == "cancelled":
        raise Invalid((("status", Bilingual("the order is cancelled", "заказ отменён")),))
    if before.agreed_at is not None:
        return Applied(before)
    said = await messages.select_messages(conn, tenant.number, conversation, MOST_SAID, after=before.said_after)
    repeated, texts = None, ""
    for one in said:  # a long order is repeated in several messages
        if one.direction == "out" and one.status != "failed" and repeated is None:
            texts += f"\n{one.text}"
            repeated = one.seq if repeats(texts, before, tenant.timezone) else None
    if repeated is None:
        raise Invalid((("order", Bilingual(
            "the client has not been told the whole order as it stands: repeat it word for word first, and wait for their answer",
            "заказ не повторён клиенту целиком в нынешнем виде: сначала повторите его дословно и дождитесь ответа",
        )),))  # fmt: skip
    if not any(one.direction == "in" and one.seq > repeated for one in said):
        raise Invalid((("order", Bilingual(
            "the client has not answered since the order was repeated to them: wait for their word",
            "клиент ещё не ответил на повторённый заказ: дождитесь его слова",
        )),))  # fmt: skip
    after = replace(
        before, status="confirmed" if before.status == "new" else before.status, agreed_at=by.now, version=before.version + 1,
        updated_at=by.now,
    )  # fmt: skip
    await rows.update_order(conn, tenant.number, after, lines=False)
    await booking_slots.keep_slots(conn, tenant.number, ident)
    await _note(conn, tenant, after, "order_agreed", by.author)
    await _audit_change(conn, tenant, before, after, by.actor)
    return Applied(after, (), subjects_of(after), ((before, after),))


async def times_of(
    conn: Connection, tenant: Tenant, item_id: str, day: date, now: datetime, party: int | None = None
) -> Times:
    """The free times of an item on a day. Raises Invalid where there is no such item, or it cannot be booked."""
    item = await _booked_item(conn, tenant.number, item_id, "item")
    one = bookable(item)
    profile = await select_profile(conn, tenant.number)
    return Times(one, day, tenant.timezone, tuple(await _free(conn, tenant, profile, one, day, now, party)))


def _only_bookings(**given: object) -> None:
    """Raises Invalid for what is given although it is no booking."""
    text = Bilingual("is for bookings alone", "бывает только у бронирований")
    if wrong := tuple((name, text) for name, value in given.items() if value is not None):
        raise Invalid(wrong)


# Times -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Placed:
    """A time that is free, and the places that are."""

    item_id: str
    span: Span
    duration_min: int
    places: Sequence[int]


def _moment(moment: datetime, zone: ZoneInfo, path: str) -> datetime:
    """A moment in UTC; one without an offset is the zone's. Raises Invalid."""
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    found = bookings.local_moment(moment, zone)
    if found is None:
        raise Invalid(((path, Bilingual(
            "this time does not exist: clocks are put forward then", "такого времени не будет: часы переводят вперёд"
        )),))  # fmt: skip
    return found


def _call_at(tenant: Tenant, wanted: datetime | None, now: datetime) -> datetime | None:
    if wanted is None:
        return None
    moment = _moment(wanted, tenant.timezone, "call.at")
    if not now - timedelta(minutes=1) <= moment <= now + bookings.FURTHEST:
        raise Invalid((("call.at", Bilingual("must be a time to come", "должно быть время в будущем")),))
    return moment


async def _booked_item(conn: Connection, number: TenantId, item_id: str, path: str = "items[0].catalog_id") -> Item:
    found = (await select_items_by_id(conn, number, [item_id])).get(item_id)
    if found is None or not found.available:
        raise Invalid(((path, Bilingual(
            "there is no such item in the catalog, or it is not available",
            "такой позиции в каталоге нет, или она недоступна",
        )),))  # fmt: skip
    return found


async def _free(
    conn: Connection, tenant: Tenant, profile: Profile, one: Bookable, day: date, now: datetime, party: int | None
) -> list[datetime]:
    whole = bookings.day_span(day, tenant.timezone)
    reach = Span(whole.start, whole.end + timedelta(minutes=one.duration_min))
    taken = await booking_slots.select_taken(conn, tenant.number, one.item.id, reach)
    return bookings.free_times(one, profile, tenant.timezone, day, taken, now, party)


async def _place(
    conn: Connection, tenant: Tenant, profile: Profile, item: Item, starts_at: datetime | None, duration_min: int | None,
    party: int | None, now: datetime, *, but: UUID | None,
) -> tuple[Placed, list[UUID]]:  # fmt: skip
    """A place for a booking, its item locked; and the orders whose places were given away for it. Raises Invalid."""
    one, number, zone = bookable(item), tenant.number, tenant.timezone
    if starts_at is None:
        raise Invalid((("starts_at", Bilingual("a booking needs its time", "для бронирования нужно время")),))
    starts_at = _moment(starts_at, zone, "starts_at")
    duration = duration_min or one.duration_min
    check_time(one, profile, zone, starts_at, duration, party, now)
    span = Span(starts_at, starts_at + timedelta(minutes=duration))
    if one.capacity is None:
        return Placed(item.id, span, duration, ()), []
    await booking_slots.lock_bookings(conn, number, item.id)
    taken = await booking_slots.select_taken(conn, number, item.id, span, but=but)
    places = free_places(one, taken, span.start, span.end, one.places(party))
    if places is None:
        raise await _occupied(conn, tenant, profile, one, starts_at, now, party)
    return Placed(item.id, span, duration, places), await booking_slots.release_lapsed(conn, number, item.id, span, but)


async def _occupied(
    conn: Connection, tenant: Tenant, profile: Profile, one: Bookable, start: datetime, now: datetime, party: int | None
) -> Invalid:
    day = start.astimezone(tenant.timezone).date()
    free = await _free(conn, tenant, profile, one, day, now, party)
    nearest = sorted(sorted(free, key=lambda moment: abs(moment - start))[:MOST_HINTS])
    times = ", ".join(f"{moment.astimezone(tenant.timezone):%H:%M}" for moment in nearest)
    return Invalid((("starts_at", Bilingual(
        f"is taken; free on that day: {times}" if times else "is taken, and nothing else is free on that day",
        f"это время занято; свободно в этот день: {times}" if times else "это время занято, и в этот день больше ничего не свободно",
    )),))  # fmt: skip


async def _take(conn: Connection, number: TenantId, order: Order, place: Placed, hold_min: int | None) -> None:
    if place.places and not await booking_slots.insert_slots(
        conn, number, order.id, place.item_id, place.places, place.span, hold_min
    ):
        raise Invalid((("starts_at", Bilingual("is taken", "это время занято")),))


async def _moved(
    conn: Connection, tenant: Tenant, profile: Profile, before: Order, after: Order, wish: OrderChange, by: By
) -> tuple[Order, Placed | None, list[UUID]]:  # fmt: skip
    """The order at its new time, where its time, item or party changes, or a cancelled one comes back."""
    if before.kind != "booking":
        _only_bookings(starts_at=wish.starts_at, duration_min=wish.duration_min, party=wish.party)
        return after, None, []
    same = after.lines[0].catalog_id == before.lines[0].catalog_id
    reopened = before.status == "cancelled" and after.status == "new"
    if same and wish.starts_at is None and wish.duration_min is None and after.party == before.party and not reopened:
        return after, None, []
    item = await _booked_item(conn, tenant.number, after.lines[0].catalog_id)
    start = wish.starts_at or before.starts_at
    duration = wish.duration_min or (before.duration_min if same else None)
    assert before.starts_at is not None
    # Whoever came with one more is not late for a time that has begun.
    now = min(by.now, before.starts_at) if same and wish.starts_at is None and not reopened else by.now
    place, lapsed = await _place(conn, tenant, profile, item, start, duration, after.party, now, but=before.id)
    return replace(after, starts_at=place.span.start, duration_min=place.duration_min), place, lapsed


async def _cancel_lapsed(
    conn: Connection, tenant: Tenant, lapsed: Sequence[UUID], now: datetime
) -> list[tuple[Order, Order]]:
    """Cancels the orders whose places were given away, for their clients did not agree in time. Returns them, before and after."""
    changed: list[tuple[Order, Order]] = []
    for ident in lapsed:
        before = await rows.lock_order(conn, tenant.number, ident)
        assert before is not None
        after = replace(before, status="cancelled", version=before.version + 1, updated_at=now)
        await rows.update_order(conn, tenant.number, after, lines=False)
        await _note(conn, tenant, after, "order_lapsed", SYSTEM)
        await _audit_change(conn, tenant, before, after, SYSTEM)
        changed.append((before, after))
    return changed


def _subjects(changed: Sequence[tuple[Order, Order]]) -> tuple[Subject, ...]:
    return tuple(subject for _, after in changed for subject in subjects_of(after))


# What is ordered ---------------------------------------------------------------------------------------------------------


async def _priced(
    conn: Connection, tenant: Tenant, profile: Profile, kind: str, wanted: Sequence[Wanted], before: Order | None = None
) -> Priced:
    if kind == "request":
        if wanted:
            raise Invalid((("items", Bilingual("a request has no items", "в заявке нет позиций")),))
        currency = profile.currency_in(tenant.country)
        return Priced((), total_of((), currency), currency)
    if kind == "booking" and len(wanted) != 1:
        raise Invalid((("items", Bilingual(
            "a booking has exactly one item of the catalog", "в бронировании ровно одна позиция каталога"
        )),))  # fmt: skip
    catalog = await select_items_by_id(conn, tenant.number, list({one.catalog_id for one in wanted}))
    known = before.lines if before is not None else ()
    return price(wanted, catalog, known, before.currency if before is not None else "")


def _check_client(tenant: Tenant, before: Order, wish: OrderChange, by: By) -> None:
    """Raises Invalid where a client may not do it any more, or at all."""
    if not by.client:
        return
    rules = OrderRules.of(tenant.options)
    if wish.status not in (None, "cancelled", before.status):
        raise Invalid((("status", Bilingual("only the company changes it", "его меняет только компания")),))
    cancels = wish.status == "cancelled" != before.status
    until = rules.cancel_until if cancels else rules.change_until
    if not client_may(until, before.status) and before.status != wish.status:
        raise Invalid((("status", Bilingual(
            f"the order is {before.status}: it cannot be {'cancelled' if cancels else 'changed'} here any more, a person has to do it",
            f"заказ уже в статусе {before.status}: {'отменить' if cancels else 'изменить'} его здесь больше нельзя, это сделает сотрудник",
        )),))  # fmt: skip


def _content(order: Order) -> tuple[Any, ...]:
    return (order.lines, order.starts_at, order.duration_min, order.party, order.delivery, order.comment)


# What people read of it --------------------------------------------------------------------------------------------------


async def _note(conn: Connection, tenant: Tenant, order: Order, kind: str, author: str) -> None:
    """A line in the conversation in which it was ordered: the order's number."""
    if order.conversation is not None:
        await conversations.insert_happening(conn, tenant.number, order.conversation, kind, author, str(order.number))


def _audited(order: Order, zone: ZoneInfo) -> dict[str, Any]:
    """What the audit compares. What a client wrote is theirs to have erased, so it does not stand there."""
    return {
        "kind": order.kind, "status": order.status,
        "items": "; ".join(f"{line.catalog_id} × {quantity_text(line.quantity)}" for line in order.lines),
        "total": f"{order.total:f} {order.currency}",
        "starts_at": order.starts_at.astimezone(zone).isoformat(timespec="minutes") if order.starts_at is not None else None,
        "duration_min": order.duration_min, "party": order.party, "agreed": order.agreed_at is not None,
    }  # fmt: skip


async def _audit_change(conn: Connection, tenant: Tenant, before: Order, after: Order, actor: str) -> None:
    old, new = difference(_audited(before, tenant.timezone), _audited(after, tenant.timezone))
    hidden = [name for name in ("comment", "delivery") if getattr(before, name) != getattr(after, name)]
    masked = dict.fromkeys(hidden, MASK)
    await insert_audit(
        conn, tenant.number, actor, "order.changed", str(after.number), old={**(old or {}), **masked}, new={**(new or {}), **masked}
    )  # fmt: skip
