"""What outside systems may be able to do beyond reporting or receiving calls: one small `Protocol` for each ability.

A page, an address or an actor checks `adapter.can(Registers)` and works with every adapter whose clients can. Nothing here
does anything. Read `adapters/base.py` for what every adapter must have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from adapters.base import Adapter, Attempt
from gateway.domain.crm_sources import When
from gateway.domain.secret import Secret

# What a CRM may be able to do beyond receiving calls -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CrmUser:
    """A person in the CRM."""

    user_id: str
    name: str
    email: str = ""
    groups: tuple[str, ...] = ()
    active: bool = True
    status: str = ""
    """One of the words that `SetsStatus.statuses` lists; empty where the CRM gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Responsible:
    """Who is responsible for a client, as the CRM has it."""

    extension: str | None = None
    user_id: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldExtensions:
    """The map of users to internal numbers as the CRM holds it."""

    extensions: Mapping[str, str] = field(default_factory=dict)
    """CRM user id -> internal number."""
    unknown_users: tuple[str, ...] = ()
    """Ids of ours that the CRM does not know, where it listed them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """How we stand in the CRM as one of its extensions, modules or apps."""

    active: bool
    held: HeldExtensions | None = None
    """The map of users, where it is part of a registration; None where it is apart or there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationPlace:
    """Where the CRM finds us: our public address, our picture, and the link that opens our pages for this tenant."""

    public_url: str
    logo_url: str
    """An SVG."""
    account_url: Secret
    """Whoever has it opens those pages; it must not stand in a log."""


Presence = Literal["free", "busy", "away"]
"""What a status comes to, whatever the CRM's word for it."""


@dataclass(frozen=True, slots=True)
class UserStatus:
    """One of the CRM's own words for what a user is doing."""

    word: str
    presence: Presence
    label: Mapping[str, str]
    """By language."""


@runtime_checkable
class ListsUsers(Protocol):
    """Knows its people."""

    async def users(self) -> Sequence[CrmUser]:
        """All of them, the inactive too. Raises what `gateway.domain.errors` lists."""
        ...


@runtime_checkable
class Registers(Protocol):
    """Registers us: lists us among its modules or apps, with the addresses it calls and the link to our pages.

    Requests and responses are written into `attempt`, masked, for the log of attempts.
    """

    async def registration(self, *, attempt: Attempt | None = None) -> Registration | None:
        """How it knows us now; None when it does not."""
        ...

    async def register(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> Registration:
        """Registers or updates us. Where the map is part of that, the whole map every time, and `held` says what is held
        now; else `extensions` is left alone and `held` is None."""
        ...

    async def deactivate(
        self,
        place: RegistrationPlace,
        extensions: Mapping[str, str],
        *,
        delete: bool = False,
        attempt: Attempt | None = None,
    ) -> None:
        """Switches us off there; `delete` marks us as gone for good. Harmless where it never knew us, and a second
        time. `place` and `extensions` are what it is to store."""
        ...


@runtime_checkable
class Withdraws(Protocol):
    """Has something of ours over there beside a registration, such as a webhook, and can take it back."""

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Takes it back. Harmless where there is nothing, and a second time. Raises what `gateway.domain.errors` lists."""
        ...


@runtime_checkable
class KeepsExtensions(Protocol):
    """Has internal numbers of its users: the map is stored here (`user_extensions`); theirs equals it.

    It works with or without `Registers`. The adapter defines what an id of its users is (`Adapter.user_id`).
    """

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The map as it holds it; None where it has no place for one yet."""
        ...

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """Stores the whole map there: users that are not named have no number. Returns what it holds now."""
        ...


@runtime_checkable
class NamesResponsible(Protocol):
    """Finds who is responsible for a client. Called while a phone rings: the caller sets the deadline."""

    async def responsible(self, phone: str) -> Responsible | None:
        """Who is responsible for this number (E.164); None when nobody is."""
        ...


@runtime_checkable
class SetsStatus(Protocol):
    """Accepts the status of a user, in its own words."""

    @staticmethod
    def statuses() -> Sequence[UserStatus]:
        """The words it knows, in the order in which people choose."""
        ...

    async def set_status(self, user_id: str, status: str, *, attempt: Attempt | None = None) -> None:
        """`status` is one of the words of `statuses`."""
        ...


FieldType = Literal["text", "number", "time", "flag", "choice", "other"]


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One value of a list that the CRM has, such as a stage."""

    value: str
    """As it is written."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CrmField:
    """A field of the CRM that field mapping can write into."""

    name: str
    """As it is written; `to` of a rule."""
    title: str
    """As its people call it."""
    type: FieldType = "text"
    required: bool = False
    values: tuple[FieldValue, ...] = ()
    """All of a choice, in its order; stages and statuses are choices too."""


@runtime_checkable
class ReadsFields(Protocol):
    """Lists the fields of its records, its own and those that its people have made, with the values of lists."""

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """By what a rule is for; what it takes no rules for is not there. Raises what `gateway.domain.errors` lists."""
        ...


def statuses_of(adapter: Adapter) -> Sequence[UserStatus]:
    """What a user of this kind of outside system can be; nothing where it has no statuses."""
    client = adapter.client
    return tuple(client.statuses()) if issubclass(client, SetsStatus) else ()


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
        """Returns when the PBX has taken the order, before any phone rings. Raises Rejected when it refused, Unavailable
        when it could not be reached, and Doubtful when its answer was lost: then the order must not be repeated."""
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
