"""What a CRM is told of clients, chats and orders beside calls: plain data that planners of adapters read. Pure.

    a client's phone or e-mail becomes known      ClientFacts    found there before it is made
    a conversation is closed or handed over       ChatFacts      a note of the client
    an order is made or changes                   OrderFacts     a deal or order of the client

Made by `actors/crm/plans.py` within the transaction that changes them. Read `crm_sources.py` for what field mapping reads of them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from gateway.domain.orders import Order

LineAuthor = Literal["client", "ai", "employee", "system"]
ChatCause = Literal["closed", "handed_over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """A person. Everything but `id` may be unknown."""

    id: str
    """The contact's, as our pages have it; one that was merged into another is that one."""
    name: str = ""
    phones: tuple[str, ...] = ()
    """E.164, those that a messenger confirmed first."""
    emails: tuple[str, ...] = ()
    link: str = ""
    """The client's page of ours; empty where our public address is not known."""

    @property
    def reachable(self) -> bool:
        """Whether a CRM can find the client by something."""
        return bool(self.phones or self.emails)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLine:
    """One message, its text cut."""

    at: datetime
    author: LineAuthor
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFacts:
    """A conversation that is closed, or that the AI has handed to a person."""

    id: str
    stretch: int
    """The number of its last message: a conversation that goes on is told of anew."""
    cause: ChatCause
    integration: str
    """The key of the messenger's integration."""
    channel: str
    """The messenger, as people call it."""
    username: str = ""
    """What the client is called there."""
    began_at: datetime
    ended_at: datetime
    """Of the last message."""
    messages: int
    employee: str = ""
    """Who closed it, by name; empty where nobody is known."""
    summary: str = ""
    """The AI's, where there is one."""
    lines: tuple[ChatLine, ...] = ()
    """The last ones, oldest first."""
    link: str = ""
    """The conversation in our inbox."""
    client: ClientFacts = field(default_factory=lambda: ClientFacts(id=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """An order as it stands, with whoever ordered it."""

    order: Order
    client: ClientFacts
    link: str = ""
    """The order's page of ours."""
    channel: str = ""
    """The messenger in which it was ordered, as people call it; empty for none."""
