"""What the model may do: a tool, its typed arguments, and what a call of it gives. The registry is `actors/ai/tools/`.

    model names a tool --> arguments validated by its class --> one transaction: the conversation locked, still the AI's
        --> `run` within a savepoint --> what changed and the call's record, committed at once --> what to do afterwards

Company, conversation and person are `Bound` by the program and are no arguments, so no text can name another's. What `run` changes is
committed with the record of the call, or not at all: an answer that is begun again reads the record and does nothing twice.

A tool is one file in `actors/ai/tools/` with a tuple `TOOLS`; nothing else is edited for it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from gateway.domain.ai import AiBlock
from gateway.domain.chats import Conversation
from gateway.domain.configuration import Tenant
from gateway.domain.orders import Order
from gateway.domain.subjects import Subject
from gateway.store.postgres.pool import Connection

if TYPE_CHECKING:
    from actors.services import Services

LONGEST_OUTCOME = 8000
"""Characters of what the model reads of a call; what is longer is cut, so a tool gives less by itself."""


class Arguments(BaseModel):
    """What the model fills in. Fields are described with `Field(description=…)`: the model reads that."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Whom a call is for. Made by the program."""

    tenant: Tenant
    conversation: Conversation
    """Locked until the transaction ends; its owner is the AI."""
    person: UUID
    """The contact, or the one that it was merged into."""
    settings: AiBlock
    language: str
    """`ru` or `en`: the client's."""
    key: str
    """Of this call: unique, for whatever must not be made twice."""
    now: datetime


class Refused(Exception):
    """The call is not carried out; what it changed is undone. The text is for the model: what is wrong and what to do instead."""


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """The conversation goes to a person: why, in a word, and what they have to know."""

    reason: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call gives."""

    value: Mapping[str, Any]
    """What the model reads, as JSON: at most LONGEST_OUTCOME characters of it. Texts in it count as data."""
    note: str = ""
    """What people read beside the conversation, in the company's language; empty where there is nothing to tell them."""
    changed: tuple[Subject, ...] = ()
    """What pages that are open have to read again."""
    orders: tuple[tuple[Order | None, Order], ...] = ()
    """Orders that are made or others now, before and after: CRMs are sent them in the same commit."""
    contacts: tuple[UUID, ...] = ()
    """Persons of whom something has become known: the same."""
    after: "Callable[[Services], Awaitable[None]] | None" = None
    """Done once the call is committed, under Trio: for what is no row, such as dialling. It may be lost in a crash."""
    hand_over: HandOver | None = None


A = TypeVar("A", bound=Arguments)


def _always(tenant: Tenant, settings: AiBlock) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Tool(Generic[A]):
    """One of the model's tools."""

    name: str
    """As the contract has it: a to z and `_`."""
    description: str
    """When to use it, in English, for the model."""
    arguments: type[A]
    run: Callable[[Connection, Bound, A], Awaitable[Outcome]]
    """Works on the database alone, within the caller's transaction: it runs in the database's thread, where nothing else may be
    awaited. Raises Refused."""
    changes: bool = False
    """Whether it changes something: the same call again since the client's last message is answered from its record."""
    offered: Callable[[Tenant, AiBlock], bool] = field(default=_always)
    """Whether the model hears of it at all, by the company's settings."""
