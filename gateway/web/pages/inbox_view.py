"""What the inbox shows: its list, one conversation with what stands beside the messages, the person, and whether one can answer.

Reads inside one tenant's transaction; renders nothing. An agent sees what waits for somebody and their own conversations.
Read `inbox.py` for the addresses.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlencode
from uuid import UUID

from actors.chats.conversing import Conversing
from actors.chats.templates import known_templates
from adapters.channel import Capabilities, MessageTemplate
from gateway.domain.calls import Call
from gateway.domain.chats import AI, LONGEST_TEXT, Conversation, is_human
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.people import took_part
from gateway.store import contacts, conversations, messages
from gateway.store.ai_answers import Trace, select_traces
from gateway.store.client_calls import select_client_calls
from gateway.store.contacts import Contact
from gateway.store.conversations import Beside, Filters, OpenCounts, Seen
from gateway.store.messages import StoredMessage
from gateway.store.orders import OrderFilter, SeenOrder, select_orders
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import select_call_recordings, select_recorded
from gateway.web.pages.player import Player, players
from gateway.web.translations import Words

PAGE = 40
"""Conversations of one page of the list."""
THREAD = 60
"""Messages of one page of a conversation."""
CALLS = 8
"""Calls beside a conversation."""
ORDERS = 6
"""Orders beside a conversation."""
NEWEST = 2**31 - 1
"""Behind every message's number."""
CHANGES = ("edited", "deleted")
"""What stands at the message itself; everything else stands between the messages."""
PARTS = ("all", "mine", "queue", "unanswered")
STATES = ("open", "closed", "any")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person looks for in the list, as the address says it; anything that makes no sense is as if it were absent."""

    part: str = "all"
    state: str = "open"
    channel: str = ""
    unread: bool = False
    q: str = ""

    @property
    def query(self) -> str:
        """As an address, without a leading mark."""
        values = {
            "part": "" if self.part == "all" else self.part, "state": "" if self.state == "open" else self.state,
            "channel": self.channel, "unread": "1" if self.unread else "", "q": self.q,
        }  # fmt: skip
        return urlencode({name: value for name, value in values.items() if value})

    def with_part(self, part: str) -> str:
        """The same in another part of the inbox."""
        return Wanted(part=part, state=self.state, channel=self.channel, unread=self.unread, q=self.q).query

    @property
    def narrowed(self) -> bool:
        """Whether a filter hides conversations."""
        return self != Wanted(part=self.part)

    def filters(self, me: str, only: str | None, *, texts: bool) -> Filters:
        """For the store."""
        owner = {"mine": me, "queue": "nobody"}.get(self.part)
        return Filters(
            state=None if self.state == "any" else self.state, owner=owner, channel=self.channel or None,
            unread=True if self.unread else None, waiting=True if self.part == "unanswered" else None, q=self.q, only=only,
            texts=texts,
        )  # fmt: skip


def read_wanted(sent: Mapping[str, str]) -> Wanted:
    """From an address."""
    part, state = sent.get("part", ""), sent.get("state", "")
    return Wanted(
        part=part if part in PARTS else "all", state=state if state in STATES else "open",
        channel="".join(c for c in sent.get("channel", "")[:64] if c.isprintable()), unread=sent.get("unread") == "1",
        q="".join(c for c in sent.get("q", "").strip()[:200] if c.isprintable()),
    )  # fmt: skip


Place = tuple[datetime, UUID]


def read_place(text: str) -> Place | None:
    """The conversation behind which a page of the list begins, or the person, from its address."""
    moment, _, ident = text.partition("~")
    try:
        return (datetime.fromtimestamp(int(moment) / 1e6, UTC), UUID(ident)) if ident else None
    except (ValueError, OverflowError, OSError):
        return None


def write_place(moment: datetime, ident: UUID) -> str:
    """The inverse."""
    return f"{round(moment.timestamp() * 1e6)}~{ident}"


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of the list."""

    found: list[Seen]
    counts: OpenCounts
    older: str
    """Where the next page begins; empty on the last one."""


async def read_list(
    conn: Connection, number: TenantId, filters: Filters, me: str, before: Place | None
) -> Listed:  # fmt: skip
    """A page of the list."""
    found = await conversations.select_conversations(conn, number, filters, PAGE + 1, before)
    counts = await conversations.count_open(conn, number, me, filters.only)
    older = ""
    if len(found) > PAGE:
        last = found[PAGE - 1].conversation
        older = write_place(last.last_message_at or datetime.now(UTC), last.id)
    return Listed(found[:PAGE], counts, older)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry of a conversation: a message, or what happened between two."""

    at: datetime
    message: StoredMessage | None = None
    beside: Beside | None = None
    changes: tuple[Beside, ...] = ()
    """Edits and a deletion of the message, oldest first."""
    answers: StoredMessage | None = None
    """The message that this one answers."""
    trace: Trace | None = None
    """Where it comes from, of a message that the AI wrote."""

    @property
    def text(self) -> str:
        """The message as it reads now."""
        assert self.message is not None
        edits = [one.text for one in self.changes if one.kind == "edited"]
        return edits[-1] if edits else self.message.text

    @property
    def deleted(self) -> bool:
        """Whether it was taken back."""
        return any(one.kind == "deleted" for one in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A page of one conversation."""

    seen: Seen
    lines: list[Line]
    older: int | None
    """The number before which there are earlier messages."""
    newest: bool
    """Whether it is the last page."""


def interleave(
    found: Sequence[StoredMessage], beside: Sequence[Beside], *, known: Mapping[UUID, StoredMessage],
    traces: Mapping[UUID, Trace] = MappingProxyType({}),
) -> list[Line]:  # fmt: skip
    """Messages in their own order, with what happened beside them where its time falls."""
    changes: dict[UUID, list[Beside]] = {}
    between = list[Beside]()
    for one in beside:
        if one.kind in CHANGES and one.message is not None:
            changes.setdefault(one.message, []).append(one)
        else:
            between.append(one)
    lines, place = list[Line](), 0
    for message in found:
        while place < len(between) and between[place].at <= message.at:
            lines.append(Line(at=between[place].at, beside=between[place]))
            place += 1
        answers = known.get(message.reply_to) if message.reply_to is not None else None
        lines.append(
            Line(
                at=message.at, message=message, changes=tuple(changes.get(message.id, ())), answers=answers, trace=traces.get(message.id)
            )
        )  # fmt: skip
    return lines + [Line(at=one.at, beside=one) for one in between[place:]]


async def read_thread(conn: Connection, number: TenantId, seen: Seen, before: int | None = None) -> Thread:
    """A page of a conversation: the newest, or the one before a message's number."""
    chat = seen.conversation.id
    found = await messages.select_messages(conn, number, chat, THREAD + 1, before=before or NEWEST)
    older = found[1].seq if len(found) > THREAD else None
    found = found[-THREAD:]
    beside = await conversations.select_happenings(conn, number, chat)
    following = await messages.select_messages(conn, number, chat, 1, after=before - 1) if before is not None else []
    known = {one.id: one for one in found}
    for ident in {one.reply_to for one in found if one.reply_to is not None} - known.keys():
        if (other := await messages.select_message(conn, number, ident)) is not None:
            known[ident] = other
    begins = found[0].at if older is not None else None
    ends = following[0].at if following else None
    here = [
        one for one in beside
        if one.kind in CHANGES or ((begins is None or one.at >= begins) and (ends is None or one.at < ends))
    ]  # fmt: skip
    traces = await select_traces(conn, number, [one.id for one in found if one.author == AI])
    return Thread(
        seen=seen, lines=interleave(found, here, known=known, traces=traces), older=older, newest=not following
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Whether and how a client can be answered."""

    state: Literal["open", "window", "off"]
    """`window`: the messenger takes no free text now; `off`: nothing can be sent through the channel."""
    limit: int = 0
    """Characters of one message; 0: more than anybody writes."""
    until: datetime | None = None
    """When the messenger's window ends."""
    hours: int = 0
    templates: bool = False
    """Whether an approved template may be sent instead."""
    files: bool = False
    quotes: bool = False
    """Whether an answer can name the message that it answers."""


def reply_of(conversing: Conversing, tenant: Tenant, chat: Conversation) -> Reply:
    """By the channel's document and the client's last message."""
    channel = conversing.channel(tenant, chat.integration)
    if channel is None:
        return Reply(state="off")
    can: Capabilities = channel[0].capabilities
    hours = round((can.window_s or 0) / 3600)
    if not can.open_at(chat.client_wrote_at, conversing.now()):
        return Reply(state="window", hours=hours, templates=can.templates, until=can.window_until(chat.client_wrote_at))
    return Reply(
        state="open", limit=can.text_limit if can.text_limit < LONGEST_TEXT else 0, hours=hours,
        until=can.window_until(chat.client_wrote_at), files=bool(can.files), quotes=can.replies,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The templates of a channel, and the one that was chosen, with what stands in its fields."""

    all: Sequence[MessageTemplate] = ()
    chosen: MessageTemplate | None = None
    values: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @staticmethod
    def mark(one: MessageTemplate) -> str:
        """A template in an address."""
        return f"{one.language}:{one.name}"

    @staticmethod
    def brief(one: MessageTemplate) -> str:
        """A template in a list."""
        return _PLACE.sub("…", one.text)

    def shown(self) -> Sequence[tuple[str, bool]]:
        """The chosen text in pieces; True: a place to fill in, by its name."""
        pieces = _PLACE.split(self.chosen.text) if self.chosen is not None else []
        return [(piece, place % 2 == 1) for place, piece in enumerate(pieces)]


_PLACE = re.compile(r"\{\{([a-z]+\.[A-Za-z0-9_]+)\}\}")


async def read_templates(
    conn: Connection, number: TenantId, chat: Conversation, wanted: str, values: Mapping[str, str]
) -> Offered:  # fmt: skip
    """Those of a conversation's channel; `wanted` is a mark."""
    found = await known_templates(conn, number, chat.integration)
    return Offered(all=found, chosen=next((one for one in found if Offered.mark(one) == wanted), None), values=values)


@dataclass(frozen=True, slots=True)
class PersonalCall:
    """A call with a person, with its recordings where the viewer may listen to them."""

    call: Call
    players: Sequence[Player]


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a conversation is with."""

    contact: Contact
    chats: list[Seen]
    calls: list[PersonalCall]
    orders: list[SeenOrder]
    """The newest."""


async def read_person(
    conn: Connection, tenant: Tenant, contact: UUID, only: Sequence[str] | None, me: str | None, most: int = CALLS
) -> Person | None:
    """A person with their conversations and newest calls; None where an agent (`me`, with the internal numbers `only`) may not see
    any of it, or there is no such person."""
    number = tenant.number
    found = await contacts.select_contact(conn, number, contact)
    if found is None:
        return None
    chats = await conversations.select_conversations_of_contact(conn, number, found.id)
    if me is not None:
        chats = [one for one in chats if visible(one.conversation, me)]
        if not chats:
            return None
    calls = await select_client_calls(conn, number, [one.phone for one in found.phones], most, only=only)
    orders = await select_orders(conn, number, OrderFilter(contact=found.id, only=me), ORDERS)
    return Person(found, chats, await with_players(conn, tenant, calls, only), orders)


async def with_players(
    conn: Connection, tenant: Tenant, calls: Sequence[Call], only: Sequence[str] | None
) -> list[PersonalCall]:
    """Calls with their recordings; an agent hears those in which they took part."""
    audible = [call.call_id for call in calls if only is None or took_part(call, only)]
    recorded = await select_recorded(conn, tenant.number, audible)
    made = list[PersonalCall]()
    for call in calls:
        lines = await select_call_recordings(conn, tenant.number, call.call_id) if call.call_id in recorded else []
        made.append(PersonalCall(call, players(tenant, lines, call, ())))
    return made


def visible(chat: Conversation, only: str | None) -> bool:
    """Whether an agent (`only`) may see a conversation; anybody else may."""
    return only is None or chat.owner in ("queue", "none", only)


def named(t: Words, names: Mapping[str, str], author: str) -> str:
    """Who wrote or owns, in words; a client is named by the caller."""
    if (name := names.get(author)) is not None:
        return name
    if author.startswith("human:key:"):
        return t("inbox.by_key")
    return t("inbox.by_other") if is_human(author) else t.code("inbox.by", author)


def tenant_channels(conversing: Conversing, tenant: Tenant) -> list[IntegrationKey]:
    """The channels that people of this company write to."""
    return list(conversing.channels(tenant))
