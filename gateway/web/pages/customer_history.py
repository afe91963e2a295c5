"""Everything that was said with one person, newest first: the messages of all their conversations and their calls, as one history.

Reads inside one tenant's transaction. A page ends behind a moment, never within it: messages of an album bear the same second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from gateway.domain.configuration import Tenant
from gateway.store import conversations, messages
from gateway.store.client_calls import select_client_calls
from gateway.store.conversations import Beside, Seen
from gateway.store.postgres.pool import Connection
from gateway.web.pages.inbox_view import CHANGES, Line, Person, PersonalCall, with_players

PAGE = 60
TIES = 100
"""Entries of the last moment of a page that may go beyond it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message with the conversation it belongs to, or a call."""

    at: datetime
    line: Line | None = None
    seen: Seen | None = None
    call: PersonalCall | None = None


@dataclass(frozen=True, slots=True)
class History:
    """One page."""

    entries: Sequence[Entry]
    older: str
    """Where the next page begins; empty on the last one."""


def read_moment(text: str) -> datetime | None:
    """The moment before which a page begins, from its address: microseconds."""
    try:
        return (
            datetime.fromtimestamp(int(text) / 1e6, UTC)
            if text.isascii() and text.isdigit() and len(text) < 18
            else None
        )
    except (ValueError, OverflowError, OSError):
        return None


async def read_history(
    conn: Connection, tenant: Tenant, person: Person, only: Sequence[str] | None, before: datetime | None
) -> History:
    """A page of a person's history, of the conversations that the viewer sees; `only` are an agent's internal numbers."""
    number = tenant.number
    chats: Mapping[UUID, Seen] = {one.conversation.id: one for one in person.chats}
    found = await messages.select_messages_of(conn, number, list(chats), PAGE + TIES, before)
    calls = await select_client_calls(
        conn, number, [one.phone for one in person.contact.phones], PAGE + TIES, before, only
    )
    moments = sorted([*(one.at for one in found), *(one.started_at for one in calls)], reverse=True)
    last = moments[PAGE - 1] if len(moments) > PAGE else None
    calls = [one for one in calls if last is None or one.started_at >= last]
    found = [one for one in found if last is None or one.at >= last]
    changes: dict[UUID, list[Beside]] = {}
    for chat in {one.conversation for one in found}:
        for beside in await conversations.select_happenings(conn, number, chat, CHANGES):
            if beside.message is not None:
                changes.setdefault(beside.message, []).append(beside)
    entries = [
        *(
            Entry(one.at, Line(at=one.at, message=one, changes=tuple(changes.get(one.id, ()))), chats[one.conversation])
            for one in found
        ),
        *(Entry(one.call.started_at, call=one) for one in await with_players(conn, tenant, calls, only)),
    ]
    more = last is not None and moments[-1] < last
    return History(
        sorted(entries, key=lambda one: one.at, reverse=True),
        str(round(last.timestamp() * 1e6)) if more and last is not None else "",
    )
