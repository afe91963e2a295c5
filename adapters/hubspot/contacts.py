"""Contacts: whose a number is, what becomes of one that is nobody's, and the clients of chats and orders.

    remembered for this call -> it
    made by us in the last minutes -> it (a search does not see it yet)
    every spelling of the number, one search -> found -> it
                                             -> nobody -> by setting: a contact

One number is looked for by one attempt at a time, so that a caller who calls twice at once becomes one contact. A contact of ours
has its number in a property with unique values, so that nobody makes a second one, another process neither; where the app may not
make that property, what an attempt whose answer was lost may have made is looked for. A contact that HubSpot refuses costs the
contact and not the call: it is noted. Read `requests.py` for the requests.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import trio

from adapters.base import Attempt, Delivered
from adapters.crm_drafts import CLIENT_ID, client_subject
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.writing import Writer
from adapters.turns import Turns
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.errors import Rejected

CONTACT, MAKING = "contact", "contact_making"
"""Names under which a contact, and the moment at which one was about to be made, are remembered."""
NOT_MADE, LEFT_OUT = "client_not_made", "fields_refused"
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

    async def find_or_make(
        self, attempt: Attempt, phone: str, owner: str, fields: Mapping[str, Any]
    ) -> tuple[Contact | None, Delivered]:  # fmt: skip
        """Whose call it is; None for nobody. `fields` are a new contact's own. The second is what is to be noted. To be called in one's
        turn."""
        if known := codec.identifier(await attempt.known(CONTACT)):
            return Contact(known), Delivered()
        if (recent := self._recently(phone)) is not None:
            await attempt.remember(CONTACT, recent.id)
            return recent, Delivered()
        await self._writer.in_doubt(attempt, MAKING)
        found, note = await self.find(phone, attempt), Delivered()
        if found is None and self._settings.create == "contact":
            try:
                found, left_out = await self._make(
                    attempt, requests.contact(phone, owner, self._settings, fields), phone
                )
                note = Delivered(note=LEFT_OUT, detail=", ".join(left_out)) if left_out else note
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
            return codec.identifier(
                codec.properties(await self._account.call("GET", path, attempt=attempt)).get(requests.OWNER)
            )
        except Rejected:
            return ""

    def forget(self, phone: str) -> None:
        """It is looked for anew: it is gone over there."""
        self._recent.pop(phone, None)

    async def of_client(
        self, attempt: Attempt, client: ClientFacts, owner: str, fields: Mapping[str, Any]
    ) -> tuple[str, tuple[str, ...]]:  # fmt: skip
        """The id of a client of chats or orders: remembered, found by any phone or e-mail, or made; and the properties that were
        refused. What is known of them here and not there is filled in."""
        subject = client_subject(client)
        known = codec.identifier(await attempt.known(CLIENT_ID, subject))
        if known and (record := await self._read(known, attempt)) is not None:
            return known, await self._fill(attempt, record, client, fields)
        async with self.one_at_a_time(next(iter((*client.phones, *client.emails)), client.id)):
            made, left_out = await self._client_found_or_made(attempt, client, owner, fields)
        await attempt.remember(CLIENT_ID, made, subject)
        return made, left_out

    async def _client_found_or_made(
        self, attempt: Attempt, client: ClientFacts, owner: str, fields: Mapping[str, Any]
    ) -> tuple[str, tuple[str, ...]]:  # fmt: skip
        await self._writer.in_doubt(attempt, MAKING)
        for phone in client.phones:
            if (found := await self.find(phone, attempt)) is not None and (
                record := await self._read(found.id, attempt)
            ) is not None:
                return found.id, await self._fill(attempt, record, client, fields)
        for email in client.emails:
            listed = await self._account.search(requests.CONTACTS, requests.contacts_with(email), attempt=attempt)
            for record in map(codec.mapping, listed):
                if number := codec.identifier(record.get("id")):
                    return number, await self._fill(attempt, record, client, fields)
        contact, left_out = await self._make(
            attempt, requests.client(client, owner, self._settings, fields), next(iter(client.phones), "")
        )
        return contact.id, left_out

    async def _fill(
        self, attempt: Attempt, record: Mapping[str, Any], client: ClientFacts, fields: Mapping[str, Any]
    ) -> tuple[str, ...]:  # fmt: skip
        """Writes what is missing there, and the mapped fields. Nothing that people have entered is replaced."""
        wanted = requests.filled(codec.properties(record), client, fields)
        if not wanted:
            return ()
        try:
            return await self._writer.change(attempt, requests.CONTACTS, codec.identifier(record.get("id")), wanted)
        except codec.Conflict:  # the e-mail is another contact's
            wanted.pop("email", None)
            if not wanted:
                return ()
            return await self._writer.change(attempt, requests.CONTACTS, codec.identifier(record.get("id")), wanted)

    async def _read(self, number: str, attempt: Attempt) -> Mapping[str, Any] | None:
        """A contact as it is there; None where it is gone."""
        path = f"{requests.path(requests.CONTACTS, number)}?properties={','.join(requests.CONTACT_PROPERTIES)}"
        try:
            return await self._account.call("GET", path, attempt=attempt)
        except codec.NotFound:
            return None

    async def _make(
        self, attempt: Attempt, wanted: Mapping[str, Any], phone: str
    ) -> tuple[Contact, tuple[str, ...]]:  # fmt: skip
        """A new contact, or the one of ours that somebody has made meanwhile."""
        owner = str(wanted["properties"].get(requests.OWNER, ""))
        unique = (await self._schema.current(attempt)).contact_field if phone else ""
        if unique and (known := await self._of_ours(phone, unique, attempt)) is not None:
            return self._note(phone, known, MADE_FRESH_S), ()
        ours = {**wanted, "properties": {**wanted["properties"], **({unique: phone} if unique else {})}}
        if not unique:
            await self._writer.mark(attempt, MAKING)
        try:
            made, left_out = await self._writer.make(attempt, requests.CONTACTS, ours)
        except codec.Conflict as error:
            if unique and (known := await self._of_ours(phone, unique, attempt)) is not None:
                return self._note(phone, known, MADE_FRESH_S), ()
            if error.existing and await self._read(error.existing, attempt) is not None:
                return self._note(phone, Contact(error.existing), MADE_FRESH_S), ()
            if not unique:
                raise
            # Whoever had the number is in the recycle bin, and holds the value there.
            made, left_out = await self._writer.make(attempt, requests.CONTACTS, wanted)
        if unique and unique in left_out:
            self._schema.forget()
        return self._note(phone, Contact(made, owner), MADE_FRESH_S), left_out

    async def _of_ours(self, phone: str, unique: str, attempt: Attempt) -> Contact | None:
        """The contact that we made of a number: read by its unique value, which no search has to see first."""
        path = (
            f"{requests.path(requests.CONTACTS, quote(phone, safe=''))}?idProperty={unique}&properties={requests.OWNER}"
        )
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
        if phone:
            self._recent[phone] = contact, trio.current_time() + for_s
        return contact


def _contact(record: Any) -> Contact:
    if not (number := codec.identifier(codec.mapping(record).get("id"))):
        raise Rejected("a contact without an id")
    return Contact(number, codec.identifier(codec.properties(record).get(requests.OWNER)))
