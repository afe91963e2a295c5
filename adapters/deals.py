"""What a CRM whose deals live in another one too must be able to do: read and write many at once. Nothing here does anything.

Everything is by batch, and each deal has its own answer: a refusal of one says nothing of the others. What is made bears an origin
of ours, by which an attempt whose answer was lost finds it again. Read `actors/deals/carrier.py` for who uses it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from adapters.base import Attempt
from gateway.domain.deal_mapping import DealSchema
from gateway.domain.errors import GatewayError

PartyKind = Literal["contact", "company"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DealRead:
    """A deal as it is. `contacts`: the first is the main one."""

    fields: Mapping[str, Any]
    contacts: tuple[int, ...] = ()
    company: int | None = None
    origin: str = ""
    """Of one that we made: `DealWrite.origin`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DealWrite:
    """A deal to be made, or changed where `target_id` is known."""

    key: int
    """The source's id, by which the answer is found."""
    target_id: int | None
    origin: str
    fields: Mapping[str, Any]
    contacts: tuple[int, ...] | None = None
    """All of them; None leaves them alone."""
    company: int | None = None
    pipeline: str = ""
    """Of one that is changed: where it has to be moved to; empty where it is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyWanted:
    """A contact or a company of the source that a deal of the target needs."""

    origin: str
    known: int | None
    """Its id over there as it was, to be verified: it may have been removed or merged."""
    fields: Mapping[str, Any]
    """As the source has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look-up of the target found."""

    deals: Mapping[int, DealRead | None] = field(default_factory=dict)
    """By the target's ids: None for one that is gone."""
    by_origin: Mapping[str, int] = field(default_factory=dict)
    """Deals that were made before, by their origins."""
    parties: Mapping[str, int] = field(default_factory=dict)
    """Contacts and companies that are there, by the origins of those wanted."""


@runtime_checkable
class CarriesDeals(Protocol):
    """Its deals can be read, found, made and changed, many at once. Every method raises what `gateway.domain.errors` lists where a
    request as a whole came to nothing."""

    async def read_deals(
        self, ids: Sequence[int], *, links: bool, attempt: Attempt | None = None
    ) -> Mapping[int, DealRead | GatewayError | None]:
        """None for a deal that is not there. `links`: with contacts and company."""
        ...

    async def read_parties(
        self, kind: PartyKind, ids: Sequence[int], *, attempt: Attempt | None = None
    ) -> Mapping[int, Mapping[str, Any] | None]:
        """Contacts or companies; None for one that is not there."""
        ...

    async def look_up(
        self, deals: Sequence[int], origins: Sequence[str], contacts: Sequence[PartyWanted], companies: Sequence[PartyWanted],
        *, links: bool = False, attempt: Attempt | None = None,
    ) -> Found:  # fmt: skip
        """Which of these are there: deals by id, with contacts where `links`, or by origin; contacts and companies by id, origin, phone
        or e-mail."""
        ...

    async def make_parties(
        self, kind: PartyKind, wanted: Sequence[PartyWanted], *, attempt: Attempt | None = None
    ) -> Mapping[str, int | GatewayError]:
        """Makes them, by origin."""
        ...

    async def write_deals(
        self, writes: Sequence[DealWrite], *, attempt: Attempt | None = None
    ) -> Mapping[int, int | GatewayError]:
        """The target's ids by `DealWrite.key`."""
        ...

    async def deal_schema(self, *, attempt: Attempt | None = None) -> DealSchema:
        """Fields, stages and currencies; what it does not tell is empty."""
        ...

    async def changed_deals(self, since: datetime, most: int, *, attempt: Attempt | None = None) -> list[int]:
        """The deals that were changed since, the oldest change first, at most so many."""
        ...


@runtime_checkable
class HasOrigin(Protocol):
    """The settings of a CRM whose deals are carried: they tell where it is."""

    @property
    def origin(self) -> str:
        """`https://name[:port]`."""
        ...
