"""Contacts and companies of carried deals: found over there before they are made, and made once.

    known by a row -> verified over there        gone or merged -> by origin, phone, e-mail -> made anew
    not known      -> by origin, phone, e-mail -> made

Used by `carrier.py` alone, for one group of deals at a time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from adapters.deals import CarriesDeals, DealRead, PartyKind, PartyWanted
from gateway.domain.errors import GatewayError
from gateway.domain.ids import TenantId
from gateway.store.deal_runs import Pair, select_parties, upsert_parties
from gateway.store.postgres.pool import Database

KINDS: tuple[PartyKind, ...] = ("contact", "company")


class Parties:
    """Of one pair of one tenant."""

    def __init__(
        self, db: Database, tenant: TenantId, epoch: int, pair: Pair, source: CarriesDeals, target: CarriesDeals
    ) -> None:
        self._db = db
        self._tenant = tenant
        self._epoch = epoch
        self._pair = pair
        self._source = source
        self._target = target
        self._wanted: dict[PartyKind, dict[int, PartyWanted]] = {}
        self._stored: dict[PartyKind, Mapping[int, int]] = {}
        self._ids: dict[PartyKind, dict[int, int]] = {}
        """The source's ids to the target's, for the group in hand."""

    async def wanted(
        self, contacts: Collection[int], companies: Collection[int]
    ) -> tuple[list[PartyWanted], list[PartyWanted]]:
        """What the target is to be looked up for. One that the source does not have any more is left out."""
        self._ids = {kind: {} for kind in KINDS}
        for kind, ids in zip(KINDS, (contacts, companies), strict=True):
            stored = await self._db.engine(select_parties, self._tenant, self._pair, kind, list(ids)) if ids else {}
            self._stored[kind] = stored
            unknown = sorted(set(ids) - stored.keys())
            read = await self._source.read_parties(kind, unknown) if unknown else {}
            wanted = {
                one: PartyWanted(origin=self._origin(kind, one), known=there, fields={})
                for one, there in stored.items()
            }
            for one in unknown:
                if (fields := read.get(one)) is not None:
                    wanted[one] = PartyWanted(origin=self._origin(kind, one), known=None, fields=fields)
            self._wanted[kind] = wanted
        return list(self._wanted["contact"].values()), list(self._wanted["company"].values())

    async def lost(self, found: Mapping[str, int]) -> tuple[list[PartyWanted], list[PartyWanted]]:
        """Those that were known and are not there any more, with what they are known by in the source."""
        lists: list[list[PartyWanted]] = []
        for kind in KINDS:
            wanted = self._wanted[kind]
            lost = [one for one, party in wanted.items() if party.known is not None and party.origin not in found]
            read = await self._source.read_parties(kind, lost) if lost else {}
            for one in lost:
                if (fields := read.get(one)) is None:
                    del wanted[one]
                else:
                    wanted[one] = replace(wanted[one], known=None, fields=fields)
            lists.append([wanted[one] for one in lost if one in wanted])
        return lists[0], lists[1]

    async def make(self, found: Mapping[str, int]) -> Mapping[tuple[PartyKind, int], GatewayError]:
        """Makes those that are not there, and stores who is who. Returns what was refused."""
        refused: dict[tuple[PartyKind, int], GatewayError] = {}
        for kind in KINDS:
            wanted, ids = self._wanted[kind], self._ids[kind]
            ids |= {one: found[party.origin] for one, party in wanted.items() if party.origin in found}
            missing = {one: party for one, party in wanted.items() if one not in ids}
            if missing:
                answers = await self._target.make_parties(kind, list(missing.values()))
                for one, party in missing.items():
                    said = answers[party.origin]
                    if isinstance(said, GatewayError):
                        refused[kind, one] = said
                    else:
                        ids[one] = said
            fresh = {one: there for one, there in ids.items() if self._stored[kind].get(one) != there}
            if fresh:
                await self._db.engine(upsert_parties, self._tenant, self._epoch, self._pair, kind, fresh)
        return refused

    def refusal(
        self, refused: Mapping[tuple[PartyKind, int], GatewayError], read: DealRead, *, contacts: bool, company: bool
    ) -> GatewayError | None:
        """Why a deal cannot be written: one of its own could not be made."""
        own: Sequence[tuple[PartyKind, int]] = [("contact", one) for one in read.contacts] if contacts else []
        if company and read.company is not None:
            own = [*own, ("company", read.company)]
        return next((refused[one] for one in own if one in refused), None)

    def contacts_of(self, read: DealRead, there: DealRead | None) -> tuple[int, ...] | None:
        """All contacts that the target's deal is to have: its own stay. None where it has them, or there are none."""
        ours = list(dict.fromkeys(self._ids["contact"][one] for one in read.contacts if one in self._ids["contact"]))
        has = list(there.contacts) if there is not None else []
        if not set(ours) - set(has):
            return None
        return tuple(dict.fromkeys([*ours, *has]))

    def company_of(self, read: DealRead, there: DealRead | None) -> int | None:
        """The target's company, where it is another one than it has."""
        company = self._ids["company"].get(read.company) if read.company is not None else None
        return company if there is None or company != there.company else None

    def _origin(self, kind: PartyKind, number: int) -> str:
        return f"{self._tenant}:{self._pair[0]}:{kind}:{number}"
