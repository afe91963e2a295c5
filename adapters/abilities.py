"""What outside systems may be able to do beyond telling or being told of calls: one small `Protocol` for each ability.

A page, an address or an actor asks `adapter.can(Registers)` and works with every adapter whose clients can. Nothing here
does anything. Read `adapters/base.py` for what every adapter must have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from adapters.base import Attempt
from gateway.domain.secret import Secret

STATUSES = ("free", "busy", "dinner", "break")
"""What a user can be."""

# What a CRM may be able to do beyond being told ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CrmUser:
    """A person in the CRM."""

    user_id: str
    name: str
    email: str = ""
    groups: tuple[str, ...] = ()
    active: bool = True
    status: str = ""
    """One of STATUSES; empty where the CRM does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Responsible:
    """Who answers for a client, as the CRM sees it."""

    extension: str | None = None
    user_id: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """How we stand in the CRM as one of its modules."""

    active: bool
    extensions: Mapping[str, str] = field(default_factory=dict)
    """CRM user id -> internal number, as the CRM holds it."""
    unknown_users: tuple[str, ...] = ()
    """Ids of ours that the CRM does not know, where it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModulePlace:
    """Where the CRM finds us: our public address, our picture, and the link that opens our pages for this tenant."""

    public_url: str
    logo_url: str
    """An SVG."""
    account_url: Secret
    """Whoever has it opens the pages of the module; it must not stand in a log."""


@runtime_checkable
class ListsUsers(Protocol):
    """Knows its people."""

    async def users(self) -> Sequence[CrmUser]:
        """All of them, the inactive too. Raises what `gateway.domain.errors` lists."""
        ...


@runtime_checkable
class Registers(Protocol):
    """Can be told that we are one of its modules, and keeps the map of users to internal numbers as part of that.

    What is said and heard is written into `attempt`, masked, for the log of attempts.
    """

    async def module(self, *, attempt: Attempt | None = None) -> Module | None:
        """How it knows us now; None when it does not."""
        ...

    async def register(
        self, place: ModulePlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> Module:
        """Registers or updates us, with the whole map every time. Returns what it holds now."""
        ...

    async def deactivate(
        self, place: ModulePlace, extensions: Mapping[str, str], *, delete: bool = False, attempt: Attempt | None = None
    ) -> None:
        """Switches us off there; `delete` marks us as gone for good. Harmless where it never knew us, and a second
        time. `place` and `extensions` are what it is to remember."""
        ...


@runtime_checkable
class NamesResponsible(Protocol):
    """Says who is responsible for a client. Asked while a phone rings: the caller sets the deadline."""

    async def responsible(self, phone: str) -> Responsible | None:
        """Who answers for this number (E.164); None when nobody does."""
        ...


@runtime_checkable
class SetsStatus(Protocol):
    """Can be told that a user is free, busy or away."""

    async def set_status(self, user_id: str, status: str, *, attempt: Attempt | None = None) -> None:
        """`status` is one of STATUSES."""
        ...


# What a PBX may be able to do beyond streaming -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOrder:
    """A call to place: the employee's phone rings first, then the number is dialled. Validated before it comes here."""

    order_id: str
    """Unguessable; the call's channels bear it, so that the call is known from its first event."""
    extension: str
    number: str


@runtime_checkable
class PlacesCalls(Protocol):
    """Can dial for an employee."""

    def can_place(self) -> bool:
        """Whether its settings allow it."""
        ...

    async def place(self, order: CallOrder) -> None:
        """Returns when the PBX has taken the order, before any phone rings. Raises Rejected when it said no, Unavailable
        when it could not be asked, and Doubtful when its answer was lost: then it must not be asked again."""
        ...

    def call_of(self, order_id: str) -> str:
        """The id of the call that the order makes."""
        ...


@runtime_checkable
class RedirectsCalls(Protocol):
    """Can send a call that nobody has answered to another internal number."""

    async def redirect(self, unique_id: str, extension: str) -> bool:
        """False when there is no such call or it was answered meanwhile. Raises like `place`."""
        ...
