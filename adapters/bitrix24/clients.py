"""The CRM's side of a call: whose number it is, and what becomes of a number that is nobody's.

    every spelling of the number, type by type, one request -> found -> it
                                                           -> nobody -> by setting: a lead (with the call), contact, contact and deal

One number is looked for by one attempt at a time, so that a caller who calls twice at once becomes one record. What an attempt
whose answer was lost may have made is found by its origin. A record that the CRM refuses, for a required field of its own,
costs the record and not the call: it is noted. Read `requests.py` for the requests.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from adapters.base import Attempt, Delivered
from adapters.bitrix24 import codec, requests
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.requests import Entity
from adapters.bitrix24.settings import Bitrix24Settings
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected
from gateway.domain.numbers import spellings

CONTACT, DEAL = "contact", "deal"
"""Names under which what we make is remembered."""
NOT_MADE = "client_not_made"


@dataclass(slots=True)
class _Turn:
    lock: trio.Lock = field(default_factory=trio.Lock)
    waiting: int = 0


class ClientRecords:
    """Of one portal."""

    def __init__(self, portal: Portal, tenant: Tenant, settings: Bitrix24Settings) -> None:
        self._portal = portal
        self._tenant = tenant
        self._settings = settings
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def one_at_a_time(self, phone: str) -> AsyncIterator[None]:
        """Within it nobody else looks for this number, or makes a record of it."""
        turn = self._turns.setdefault(phone, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(phone, None)

    async def find_or_make(self, attempt: Attempt, phone: str, owner: str) -> tuple[Entity | None, Delivered]:
        """Who it is; None for nobody, and then the call is registered without a client. The second is what is to be noted."""
        made = await attempt.known(CONTACT)
        found = Entity("CONTACT", made) if made else await self.find(attempt, phone)
        if found is not None and not made:
            return found, Delivered()
        if self._settings.create not in ("contact", "deal"):
            return None, Delivered()
        try:
            return await self._make(attempt, phone, owner, made), Delivered()
        except Rejected as error:
            return Entity("CONTACT", made) if made else None, Delivered(note=NOT_MADE, detail=error.detail[:300])

    async def find(self, attempt: Attempt, phone: str) -> Entity | None:
        """Who it is; None for nobody."""
        commands = requests.find(spellings(phone, self._tenant.country))
        answered = await self._portal.batch(commands, attempt=attempt)
        return requests.best({kind: answered.of(kind) for kind in commands})

    async def _make(self, attempt: Attempt, phone: str, owner: str, made: str | None) -> Entity:
        """A contact, and by setting a deal of it."""
        origin, settings = f"{self._tenant.number}-{attempt.body['call']}", self._settings
        contact = made or await self.made(
            attempt, "CONTACT", requests.contact(phone, owner, settings, origin, attempt.body.get("client_fields", {})),
            origin, again=attempt.number > 1,
        )  # fmt: skip
        await attempt.remember(CONTACT, contact)
        if settings.create == "deal" and await attempt.known(DEAL) is None:
            fields = requests.deal(phone, contact, owner, settings, origin)
            await attempt.remember(DEAL, await self.made(attempt, "DEAL", fields, origin, again=attempt.number > 1))
        return Entity("CONTACT", contact)

    async def made(self, attempt: Attempt, kind: str, fields: dict[str, object], origin: str, *, again: bool) -> str:
        """The id of what is made, or of what an earlier attempt has made, whose answer was lost (`again`)."""
        if again:
            listed = await self._portal.call(requests.LIST[kind], requests.by_origin(origin), attempt=attempt)
            for one in codec.items(listed):
                if found := codec.identifier(codec.mapping(one).get("ID")):
                    return found
        made = codec.identifier(await self._portal.call(requests.ADD[kind], fields, attempt=attempt))
        if not made:
            raise Rejected(f"{requests.ADD[kind]} named nothing that it made")
        return made

    async def owner(self, entity: Entity, attempt: Attempt) -> str:
        """The id of the user who is responsible for a client; empty where nobody is, or it is gone."""
        if entity.type not in requests.GET:
            return ""
        try:
            answer = await self._portal.call(requests.GET[entity.type], {"id": int(entity.id)}, attempt=attempt)
        except Rejected:
            return ""
        return codec.identifier(codec.mapping(answer).get("ASSIGNED_BY_ID"))
