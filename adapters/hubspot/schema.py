"""What this account has: properties of ours, its words for outcomes and statuses, its time zone.

    property of calls with unique values     -> a repeat is refused by HubSpot itself          "unique"
    property of calls                        -> a repeat is looked for, after the search's lag "search"
    none, for the app may make none          -> looked for by time and numbers                 "time"

What HubSpot's documents leave open is read here, and a setting may say otherwise. Makes our properties where the app may; without
that right everything goes on the slower way. Read again every hour. Read `records.py` for how calls are told apart by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import ZoneInfo

import trio

from adapters.base import Attempt
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.refusals import REASONS
from adapters.hubspot.settings import HubSpotSettings
from gateway.domain.errors import BadSettings, Rejected

FRESH_S = 3600.0
Told = Literal["unique", "search", "time"]
"""How a repeated call is recognised."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What is there."""

    told: Told = "time"
    missed_status: str = "NO_ANSWER"
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """The ids of outcomes by their English name in lower case."""
    contact_field: str = ""
    """The property of contacts with unique values; empty where there is none."""
    deal_field: str = ""
    """The same of deals."""
    portal_id: str = ""
    currencies: tuple[str, ...] = ()
    """The account's own first."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a pipeline. `chance`: 1 where it is won, 0 where it is lost, None where HubSpot does not say."""

    id: str
    title: str
    closed: bool = False
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of deals, in order."""

    id: str
    title: str
    stages: tuple[Stage, ...]

    @property
    def first(self) -> str:
        """Where a new deal is."""
        return next((stage.id for stage in self.stages), "")

    @property
    def won(self) -> str:
        """Where a won one is."""
        return next((one.id for one in self.stages if one.closed and one.chance == 1), "")

    @property
    def lost(self) -> str:
        """Where a lost one is."""
        return next((one.id for one in self.stages if one.closed and one.chance == 0), "")


class SchemaReader:
    """Of one account."""

    def __init__(self, account: Account, settings: HubSpotSettings, language: str) -> None:
        self._account = account
        self._settings = settings
        self._language = language
        self._known: Schema | None = None
        self._read_at = self._pipelines_at = 0.0
        self._pipelines: Mapping[str, Pipeline] = {}
        self._turn = trio.Lock()

    def forget(self) -> None:
        """It is read again before it is used: HubSpot says that something is not as it was."""
        self._known, self._pipelines = None, {}

    async def current(self, attempt: Attempt | None = None, *, make: bool = True) -> Schema:
        """What is there. `make`: our properties are made where they are missing. Raises what `gateway.domain.errors` lists."""
        async with self._turn:
            if self._known is None or trio.current_time() - self._read_at >= FRESH_S:
                known = await self._read(attempt, make=make)
                if not make:
                    return known
                self._known, self._read_at = known, trio.current_time()
            return self._known

    async def pipelines(self, attempt: Attempt | None = None) -> Mapping[str, Pipeline]:
        """The pipelines of deals by id, in HubSpot's order. Raises what `gateway.domain.errors` lists."""
        async with self._turn:
            if not self._pipelines or trio.current_time() - self._pipelines_at >= FRESH_S:
                listed = requests.found(await self._account.call("GET", requests.PIPELINES, attempt=attempt))
                found = sorted((one for one in map(codec.mapping, listed) if codec.text(one.get("id"))), key=_place)
                self._pipelines = {codec.text(one.get("id")): _pipeline(one) for one in found}
                self._pipelines_at = trio.current_time()
            return self._pipelines

    async def _read(self, attempt: Attempt | None, *, make: bool) -> Schema:
        settings = self._settings
        details = await self._optional("GET", requests.DETAILS, attempt)
        self._account.zone = _zone(codec.text(details.get("timeZone")), self._account.zone)
        call = await self._own(requests.CALLS, settings.call_field, attempt, make=make)
        contact = await self._own(requests.CONTACTS, settings.contact_field, attempt, make=make)
        deal = await self._own(requests.DEALS, settings.deal_field if settings.sync_orders else "", attempt, make=make)
        missed = settings.missed_status
        if missed == "auto":
            status = await self._optional("GET", f"{requests.PROPERTIES}/{requests.CALLS}/hs_call_status", attempt)
            values = {codec.text(codec.mapping(one).get("value")) for one in codec.items(status.get("options"))}
            missed = "MISSED" if "MISSED" in values else "NO_ANSWER"
        return Schema(
            told=self._told(call), missed_status=missed, outcomes=await self._outcomes(attempt),
            contact_field=settings.contact_field if contact.get("hasUniqueValue") is True else "",
            deal_field=settings.deal_field if deal.get("hasUniqueValue") is True else "",
            portal_id=codec.identifier(details.get("portalId")),
            currencies=tuple(
                one for one in map(codec.text, (details.get("companyCurrency"), *codec.items(details.get("additionalCurrencies")))) if one
            ),
        )  # fmt: skip

    def _told(self, call: Mapping[str, Any]) -> Told:
        unique, wanted = call.get("hasUniqueValue") is True, self._settings.repeats
        if wanted == "unique" and not unique:
            raise BadSettings("the property of calls has no unique values", person=REASONS["no_unique"])
        if not call:
            return "time"
        return "unique" if unique and wanted != "search" else "search"

    async def _outcomes(self, attempt: Attempt | None) -> Mapping[str, str]:
        answer = await self._optional("GET", requests.OUTCOMES, attempt)
        found = (codec.mapping(one) for one in requests.found(answer))
        return {
            codec.text(one.get("label")).lower(): codec.text(one.get("id"))
            for one in found
            if one.get("deleted") is not True
        }

    async def _own(self, kind: str, name: str, attempt: Attempt | None, *, make: bool) -> Mapping[str, Any]:
        """A property of ours as it is there now; empty where it is not and cannot be made."""
        if not name:
            return {}
        path = f"{requests.PROPERTIES}/{kind}"
        try:
            return await self._account.call("GET", f"{path}/{name}", attempt=attempt)
        except codec.NotFound:
            pass
        except (codec.Missing, Rejected):
            return {}
        if not make:
            return {}
        try:
            await self._group(path, attempt)
            for unique in (True, False) if kind == requests.CALLS else (True,):
                wanted = requests.own_property(name, kind, self._language, unique=unique)
                try:
                    return await self._account.call("POST", path, wanted, attempt=attempt)
                except codec.Conflict:  # made meanwhile
                    return await self._account.call("GET", f"{path}/{name}", attempt=attempt)
                except Rejected:
                    continue  # this kind of objects may have none with unique values
        except (codec.Missing, Rejected):
            pass
        return {}

    async def _group(self, path: str, attempt: Attempt | None) -> None:
        try:
            await self._account.call("POST", f"{path}/groups", requests.group(self._language), attempt=attempt)
        except codec.Conflict:
            return

    async def _optional(self, method: str, path: str, attempt: Attempt | None) -> Mapping[str, Any]:
        """An answer that is of use and can be done without."""
        try:
            return await self._account.call(method, path, attempt=attempt)
        except (codec.Missing, Rejected):
            return {}


def _place(one: Mapping[str, Any]) -> int:
    place = one.get("displayOrder")
    return place if isinstance(place, int) else 0


def _pipeline(one: Mapping[str, Any]) -> Pipeline:
    stages = []
    for stage in sorted(map(codec.mapping, codec.items(one.get("stages"))), key=_place):
        said = codec.mapping(stage.get("metadata"))
        try:
            chance = float(said["probability"])
        except (KeyError, TypeError, ValueError):
            chance = None
        closed = codec.text(said.get("isClosed")).lower() == "true" or said.get("isClosed") is True
        if found := codec.text(stage.get("id")):
            stages.append(Stage(found, codec.text(stage.get("label")) or found, closed, chance))
    title = codec.text(one.get("label"))
    return Pipeline(codec.text(one.get("id")), title, tuple(stages))


def _zone(name: str, otherwise: ZoneInfo) -> ZoneInfo:
    try:
        return ZoneInfo(name) if name else otherwise
    except (KeyError, ValueError, OSError):
        return otherwise
