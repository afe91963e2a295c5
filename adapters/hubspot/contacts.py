"""The CRM's side of a call: whose number it is, and what becomes of a number that is nobody's.

    remembered for this call -> it
    made by us in the last minutes -> it (a search does not see it yet)
    every spelling of the number, one search -> found -> it
                                             -> nobody -> by setting: a contact

One number is looked for by one attempt at a time, so that a caller who calls twice at once becomes one contact. A contact of ours
has its number in a property with unique values, so that nobody makes a second one, another process neither; where the app may not
make that property, what an attempt whose answer was lost may have made is looked for. A contact that HubSpot refuses costs the
contact and not the call: it is noted. Read `requests.py` for the requests.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import trio

from adapters.base import Attempt, Delivered
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.writing import Writer
from adapters.turns import Turns
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected

CONTACT, MAKING = "contact", "contact_making"
"""Names under which a contact, and the moment at which one was about to be made, are remembered."""
NOT_MADE = "client_not_made"
FOUND_FRESH_S, MADE_FRESH_S = 30.0, 600.0
MOST_RECENT = 5000


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody in the CRM."""

    id: str
    owner: str = ""
    """The id of the owner; empty for nobody's, and where it is not known."""


class ContactRecords:
    """Of one account."""

    def __init__(
        self, account: Account, schema: SchemaReader, writer: Writer, tenant: Tenant, settings: HubSpotSettings
    ) -> None:
        self._account = account
        self._schema = schema
        self._writer = writer
        self._tenant = tenant
        self._settings = settings
        self._turns = Turns()
        self._recent: dict[str, tuple[Contact, float]] = {}
        """By number, each until when, by Trio's clock."""

    def one_at_a_time(self, phone: str) -> AbstractAsyncContextManager[None]:
        """Within it nobody else looks for this number, or makes a contact of it."""
        return self._turns.of(phone)

    async def find_or_make(self, attempt: Attempt, phone: str, owner: str) -> tuple[Contact | None, Delivered]:
        """Who it is; None for nobody. The second is what is to be noted. To be called in one's turn."""
        if known := await attempt.known(CONTACT):
            return Contact(known), Delivered()
        if (recent := self._recently(phone)) is not None:
            await attempt.remember(CONTACT, recent.id)
            return recent, Delivered()
        await self._writer.in_doubt(attempt, MAKING)
        found, note = await self.find(phone, attempt), Delivered()
        if found is None and self._settings.create == "contact":
            try:
                found = await self._make(attempt, phone, owner)
            except Rejected as error:
                note = Delivered(note=NOT_MADE, detail=error.detail[:300])
        if found is not None:
            await attempt.remember(CONTACT, found.id)
        return found, note

    async def find(self, phone: str, attempt: Attempt | None = None) -> Contact | None:
        """Whose number it is, as far as a search sees it."""
        if (recent := self._recently(phone)) is not None:
            return recent
        wanted = requests.contacts_of(phone, self._tenant.country)
        listed = await self._account.search(requests.CONTACTS, wanted, attempt=attempt)
        record = requests.best(listed, phone, self._tenant.country)
        return self._note(phone, _contact(record), FOUND_FRESH_S) if record is not None else None

    async def owner(self, contact: str, attempt: Attempt) -> str:
        """The id of a contact's owner; empty where it has none, or it is gone."""
        path = f"{requests.path(requests.CONTACTS, contact)}?properties={requests.OWNER}"
        try:
            return codec.identifier(codec.properties(await self._account.call("GET", path, attempt=attempt)).get(requests.OWNER))
        except Rejected:
            return ""

    def forget(self, phone: str) -> None:
        """It is looked for anew: it is gone over there."""
        self._recent.pop(phone, None)

    async def _make(self, attempt: Attempt, phone: str, owner: str) -> Contact:
        unique = (await self._schema.current(attempt)).contact_field
        wanted = requests.contact(phone, owner, self._settings)
        if not unique:
            await self._writer.mark(attempt, MAKING)
            made, _ = await self._writer.make(attempt, requests.CONTACTS, wanted)
            return self._note(phone, Contact(made, owner), MADE_FRESH_S)
        if (known := await self._of_ours(phone, unique, attempt)) is not None:
            return self._note(phone, known, MADE_FRESH_S)
        try:
            ours = {**wanted, "properties": {**wanted["properties"], unique: phone}}
            made, left_out = await self._writer.make(attempt, requests.CONTACTS, ours)
        except codec.Conflict:
            if (known := await self._of_ours(phone, unique, attempt)) is None:
                # Whoever had the number is in the recycle bin, and holds the value there.
                made, left_out = await self._writer.make(attempt, requests.CONTACTS, wanted)
            else:
                return self._note(phone, known, MADE_FRESH_S)
        if unique in left_out:
            self._schema.forget()
        return self._note(phone, Contact(made, owner), MADE_FRESH_S)

    async def _of_ours(self, phone: str, unique: str, attempt: Attempt) -> Contact | None:
        """The contact that we made of a number: read by its unique value, which no search has to see first."""
        path = f"{requests.path(requests.CONTACTS, quote(phone, safe=''))}?idProperty={unique}&properties={requests.OWNER}"
        try:
            return _contact(await self._account.call("GET", path, attempt=attempt))
        except codec.NotFound:
            return None

    def _recently(self, phone: str) -> Contact | None:
        contact, until = self._recent.get(phone, (None, 0.0))
        if contact is None or until < trio.current_time():
            self._recent.pop(phone, None)
            return None
        return contact

    def _note(self, phone: str, contact: Contact, for_s: float) -> Contact:
        while len(self._recent) >= MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[phone] = contact, trio.current_time() + for_s
        return contact


def _contact(record: Any) -> Contact:
    if not (number := codec.identifier(codec.mapping(record).get("id"))):
        raise Rejected("a contact without an id")
    return Contact(number, codec.identifier(codec.properties(record).get(requests.OWNER)))
