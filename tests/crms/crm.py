"""What the suite needs of a CRM's sandbox, and which CRMs there are. A CRM is registered by a module `of_KIND.py` with a `CRM`."""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol, runtime_checkable

import trio

import tests.crms
from tests.sandbox.web import Fault

Outcome = Literal["answered", "missed", "busy", "failed", "cancelled", "uncertain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSeen:
    """A call as the CRM holds it."""

    key: str
    """Holds the call's id of ours."""
    phone: str
    answered: bool
    duration_s: int
    people: tuple[str, ...] = ()
    """Ids of its users there, whoever has it now first."""
    shown: tuple[str, ...] = ()
    """Those who had its card, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSeen:
    """A person as the CRM holds them: a contact, a lead, a customer, a guest."""

    id: str
    name: str
    phones: tuple[str, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Everything, as it is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSeen:
    """An order or deal as the CRM holds it."""

    id: str
    key: str
    """Holds our order's id."""
    client: str
    """The id of a ClientSeen."""
    stage: str
    total: float
    items: tuple[tuple[str, float, float], ...]
    """Name, quantity, price."""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSeen:
    """A note at a client."""

    client: str
    text: str


class Sandbox(Protocol):
    """A CRM before the suite: what it holds, and how it is made to misbehave."""

    @property
    def violations(self) -> Sequence[str]:
        """What a well-behaved client never does."""
        ...

    @property
    def people(self) -> Mapping[str, str]:
        """Internal number -> id of its user there; 150, 151 and 152 among them."""
        ...

    async def serve(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """What is entered to connect it, secrets in plain."""
        ...

    def disturb(self, fault: Fault, times: int = 1) -> None:
        """The next requests go wrong like this."""
        ...

    def add_client(self, phone: str, name: str) -> str:
        """Somebody who is there already, their number written as it is given; the id."""
        ...

    def calls(self) -> Sequence[CallSeen]:
        """All that are finished or logged."""
        ...

    def clients(self) -> Sequence[ClientSeen]:
        """All persons."""
        ...

    def orders(self) -> Sequence[OrderSeen]:
        """All orders."""
        ...

    def notes(self) -> Sequence[NoteSeen]:
        """All notes at persons."""
        ...


@runtime_checkable
class Deletes(Protocol):
    """A sandbox in which people delete what we have made."""

    def delete_client(self, ident: str) -> None:
        """Somebody is gone there."""
        ...

    def delete_order(self, ident: str) -> None:
        """An order is gone there."""
        ...


@runtime_checkable
class Denies(Protocol):
    """A sandbox whose key or user may lack the right for clients and orders alone."""

    def deny(self) -> None:
        """From now on they are refused; calls are not."""
        ...


@runtime_checkable
class Requires(Protocol):
    """A sandbox whose people may make a field of clients and orders required."""

    def require(self) -> str:
        """From now on nothing is made without it; its name."""
        ...


@dataclass(frozen=True, kw_only=True)
class Crm:
    """One CRM of the suite."""

    kind: str
    make: Callable[[], Sandbox]
    calls: bool = True
    """Whether it is told of calls."""
    makes_callers: bool = True
    """Whether we make a record of an unknown caller there; else the CRM does so by itself, or nobody."""
    cards: bool = True
    """Whether it shows cards."""
    faults: Sequence[Fault] = (
        Fault.DROP, Fault.DROP_AFTER, Fault.HTTP_500, Fault.HTML, Fault.EMPTY, Fault.SUCCESS_FALSE,
    )  # fmt: skip
    stages: Mapping[str, str] = field(default_factory=dict)
    """Our status of an order -> where its order stands there without any rule of mapping; what is missing is not judged."""
    stage_rule: Mapping[str, Any] = field(default_factory=dict)
    """A rule for orders that moves them, and of it..."""
    mapped_stages: Mapping[str, str] = field(default_factory=dict)
    """...our status -> the stage."""
    contact_rule: Mapping[str, Any] = field(default_factory=dict)
    """A rule for contacts that writes `contact.link`; empty where the CRM takes none."""
    every_phone: bool = False
    """Whether a client is looked for by each of their numbers, however many."""
    versions: bool = False
    """Whether an order's older version that is sent again late is told from a newer one (`crm_drafts.is_overtaken`)."""


def registered() -> Sequence[Crm]:
    """Every CRM with a module `of_KIND.py`, by name."""
    names = sorted(one.name for one in pkgutil.iter_modules(tests.crms.__path__) if one.name.startswith("of_"))
    return tuple(import_module(f"tests.crms.{name}").CRM for name in names)
