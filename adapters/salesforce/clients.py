"""Whose number it is, and what becomes of a number that is nobody's.

    search in every spelling -> found -> it
                             -> nobody -> made within the last day? (the search is behind) -> it
                                                                                          -> by setting: a lead or contact

One number is looked for by one attempt at a time, so that a caller who calls twice at once becomes one record. What an attempt
whose answer was lost has made is among what was made lately. A record that Salesforce refuses, for a required field of its own or
a right, costs the record and not the call: it is noted. Read `requests.py` for the requests.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

from adapters.base import Attempt, Delivered
from adapters.salesforce import codec, requests
from adapters.salesforce.org import Org
from adapters.salesforce.requests import CONTACT, LEAD, Client
from adapters.salesforce.settings import SalesforceSettings
from adapters.turns import Turns
from gateway.domain.configuration import Tenant
from gateway.domain.errors import Rejected

LATELY = timedelta(days=1)
NOT_MADE = "client_not_made"
_SAVE = {"Sforce-Duplicate-Rule-Header": "allowSave=true"}


class Clients:
    """Of one organisation."""

    def __init__(self, org: Org, tenant: Tenant, settings: SalesforceSettings) -> None:
        self._org = org
        self._tenant = tenant
        self._settings = settings
        self._turns = Turns()

    def one_at_a_time(self, phone: str) -> AbstractAsyncContextManager[None]:
        """Within it nobody else looks for this number, or makes a record of it."""
        return self._turns.of(phone)

    async def find_or_make(self, attempt: Attempt, phone: str, owner: str) -> tuple[Client | None, Delivered]:
        """Who it is; None for nobody. The second is what is to be noted."""
        if (found := await self.find(phone, attempt)) is not None:
            return found, Delivered()
        if self._settings.create == "none":
            return None, Delivered()
        try:
            return await self.just_made(phone, attempt) or await self._make(phone, owner, attempt), Delivered()
        except (codec.Missing, Rejected) as error:
            return None, Delivered(note=NOT_MADE, detail=error.detail[:300])

    async def find(self, phone: str, attempt: Attempt | None = None) -> Client | None:
        """Who has this number."""
        path = requests.search(phone, self._tenant.country)
        answer = await self._org.call("GET", path, thing="search", attempt=attempt)
        records = codec.items(codec.mapping(answer).get("searchRecords"))
        return requests.best(records, phone, self._tenant.country)

    async def just_made(self, phone: str, attempt: Attempt) -> Client | None:
        """Who has this number among those whom the search does not find yet."""
        parts = requests.just_made(phone, self._tenant.country, datetime.now(UTC) - LATELY)
        answered = await self._org.together(parts, attempt=attempt)
        records = [one for name in parts for one in codec.items(codec.mapping(answered[name]).get("records"))]
        return requests.best(records, phone, self._tenant.country)

    async def by_email(self, emails: Sequence[str], attempt: Attempt) -> Client | None:
        """Who has one of these addresses, made lately or not."""
        answer = await self._org.call("GET", requests.search_email(emails), thing="search", attempt=attempt)
        found = requests.first_of(codec.items(codec.mapping(answer).get("searchRecords")), emails)
        if found is None:
            parts = requests.just_made_email(emails, datetime.now(UTC) - LATELY)
            answered = await self._org.together(parts, attempt=attempt)
            records = [one for name in parts for one in codec.items(codec.mapping(answered[name]).get("records"))]
            found = requests.first_of(records, emails)
        return found

    async def _make(self, phone: str, owner: str, attempt: Attempt) -> Client:
        kind = LEAD if self._settings.create == "lead" else CONTACT
        headers = _SAVE if self._settings.duplicates == "save" else None
        try:
            made = await self._post(kind, phone, owner, headers, attempt)
        except codec.Refused as error:
            if error.has(codec.DUPLICATES) and error.matches:
                found = next((Client(*one) for one in error.matches if one[0] in (CONTACT, LEAD)), None)
                if found is not None:
                    return found
            if not owner or not (error.names("OwnerId") or error.has(*codec.BAD_OWNER)):
                raise
            made, owner = await self._post(kind, phone, "", headers, attempt), ""
        return Client(kind, made, owner)

    async def _post(self, kind: str, phone: str, owner: str, headers: dict[str, str] | None, attempt: Attempt) -> str:
        fields = requests.new_client(kind, phone, owner, self._settings)
        answer = await self._org.call("POST", f"/sobjects/{kind}", fields, thing=kind, headers=headers, attempt=attempt)
        if not (made := codec.identifier(codec.mapping(answer).get("id"))):
            raise Rejected(f"{kind}: the answer names nothing that was made")
        return made
