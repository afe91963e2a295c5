"""Delivers clients of chats, notes, orders and summaries of calls to one account: found before they are made, and remembered at once.

    contact   known id | phones, then e-mails, in every form | made; one that we made is kept up to date
    note      at the customer; a repeat looks for its text first
    summary   the same of a call, where the customer is known; its text is read when it is delivered and not logged
    order     made once by its external id, then changed; its status by a rule of mapping, else new, complete or cancelled

One client is looked for by one attempt at a time: their deliveries share a lane. Read `records.py` for the requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from adapters.abilities import CrmField
from adapters.base import Attempt, Delivered, Recordings
from adapters.crm_drafts import CLIENT_ID, CONTACT, NOTE, ORDER, client_of, client_subject, is_overtaken, is_there
from adapters.http import Answer, Http
from adapters.retailcrm import records
from adapters.retailcrm.settings import RetailcrmSettings
from adapters.retailcrm.summaries import NO_CUSTOMER, SUMMARY, note_text
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.crm_sources import When
from gateway.domain.errors import Rejected

KINDS = frozenset({CONTACT, NOTE, ORDER, SUMMARY})
MADE, NOTED, STANDS = "made", "note", "stands"
FRESH_S = 600.0
"""For how long the account's statuses are believed."""


class Syncing:
    """Of one account."""

    def __init__(
        self, http: Http, tenant: Tenant, settings: RetailcrmSettings, recordings: Recordings | None = None
    ) -> None:
        self._http = http
        self._tenant = tenant
        self._settings = settings
        self._recordings = recordings
        self._statuses: Mapping[str, Any] = {}
        self._read_at = -FRESH_S

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery of `KINDS`."""
        match attempt.kind:
            case kind if kind == CONTACT:
                await self._contact(attempt)
            case kind if kind == NOTE:
                await self._note(attempt)
            case kind if kind == SUMMARY:
                return await self._summary(attempt)
            case _:
                await self._order(attempt)
        return Delivered()

    # Customers.

    async def _contact(self, attempt: Attempt) -> None:
        client, fields = client_of(attempt.body), attempt.body["fields"]
        known = await attempt.known(CLIENT_ID, client_subject(client))
        if known is None or await attempt.known(MADE, client_subject(client)) != known:
            await self._customer(attempt, client, fields)
        elif not await self._updated(attempt, known, client, fields):
            await self._customer(attempt, client, fields, but=known)

    async def _updated(self, attempt: Attempt, ident: str, client: ClientFacts, fields: Mapping[str, Any]) -> bool:
        """Brings a customer of ours up to date. False where they are not there any more."""
        form = records.form("customer", records.customer(client, fields), self._settings, by="id")
        try:
            await self._post(attempt, records.edit_path(records.CUSTOMERS, ident), form)
        except Rejected as error:
            if records.is_gone(error):
                return False
            raise
        return True

    async def _customer(
        self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any], *, but: str = ""
    ) -> str:
        """The client's id there; made where nobody is found. `but`: one that has turned out to be gone."""
        subject = client_subject(client)
        known = await attempt.known(CLIENT_ID, subject)
        if known is not None and known != but:
            return known
        for address in records.searches(client, self._tenant.country):
            found = records.best(await self._get(attempt, address), client, self._tenant.country)
            if found and found != but:
                await attempt.remember(CLIENT_ID, found, subject)
                return found
        external = records.origin("contact", client.id) + (f"-after-{but}" if but else "")
        made = await self._made(
            attempt,
            records.CUSTOMERS,
            "customer",
            {**records.customer(client, fields), "externalId": external},
            external,
        )
        await attempt.remember(CLIENT_ID, made, subject)
        await attempt.remember(MADE, made, subject)
        return made

    async def _made(self, attempt: Attempt, path: str, name: str, record: Mapping[str, Any], external: str) -> str:
        """The id of what is made; of what there is already under its external id."""
        try:
            answer = await self._post(attempt, f"{path}/create", records.form(name, record, self._settings))
            if made := records.identifier(answer.get("id")):
                return made
            raise Rejected(f"{path}/create named nothing that it made")
        except Rejected as error:
            if not records.is_there_already(error):
                raise
        known = await self._get(attempt, records.by_external(path, external))
        one = known.get(name)
        if ident := records.identifier(one.get("id") if isinstance(one, Mapping) else None):
            return ident
        raise Rejected(f"{path} has {external} and does not show it")

    # Notes.

    async def _note(self, attempt: Attempt) -> None:
        body, client = attempt.body, client_of(attempt.body)
        stretch = body["token"]
        if await attempt.known(NOTED) == stretch:
            return
        ident = await self._customer(attempt, client, body["client_fields"])
        try:
            await self._noted(attempt, ident, body["text"])
        except Rejected as error:
            if not records.is_gone(error):
                raise
            ident = await self._customer(attempt, client, body["client_fields"], but=ident)
            await self._noted(attempt, ident, body["text"])
        await attempt.remember(NOTED, stretch)
        if body["client_fields"] and await attempt.known(MADE, client_subject(client)) == ident:
            await self._updated(attempt, ident, client, body["client_fields"])

    async def _noted(self, attempt: Attempt, ident: str, text: str, hide: Sequence[str] = ()) -> None:
        if attempt.number > 1 and records.noted(await self._get(attempt, records.notes_path(ident), hide), text):
            return
        form = records.form("note", records.note(ident, text), self._settings)
        await self._post(attempt, f"{records.NOTES}/create", form, hide)

    async def _summary(self, attempt: Attempt) -> Delivered:
        """Of a call with nobody whom the account knows there is no note: the call is logged without one."""
        body = attempt.body
        if await attempt.known(attempt.key) is not None:
            return Delivered()
        if self._recordings is None:
            raise Rejected("summaries cannot be read here")
        summary = await self._recordings.summary(str(body["recording"]))
        client, ident = ClientFacts(id="", phones=(str(body["phone"]),)), ""
        for address in records.searches(client, self._tenant.country):
            if ident := records.best(await self._get(attempt, address), client, self._tenant.country):
                break
        if not ident:
            return Delivered(note=NO_CUSTOMER, usual=True)
        await self._noted(attempt, ident, note_text(attempt, summary), summary.splitlines())
        await attempt.remember(attempt.key, ident)
        return Delivered()

    # Orders.

    async def _order(self, attempt: Attempt) -> None:
        if await is_overtaken(attempt):
            return
        known, stands = await attempt.known(ORDER), attempt.body["order"]["status"]
        moved = stands != await attempt.known(STANDS)
        if known is None or not await self._changed(attempt, known, await self._status(attempt) if moved else ""):
            after = f"-{attempt.body['order']['version']}" if known is not None else ""
            status = await self._status(attempt)
            fresh = await self._made_order(attempt, status, after)
            await attempt.remember(ORDER, fresh)
            if attempt.number > 1:  # what there was under our id may be an earlier version's
                await self._changed(attempt, fresh, status)
        await attempt.remember(STANDS, stands)
        await is_there(attempt)

    async def _status(self, attempt: Attempt) -> str:
        """Where an order is moved without a rule; empty: it stays where it is."""
        if "status" in attempt.body["fields"]:
            return ""
        return records.status_of(await self._account_statuses(attempt), attempt.body["order"]["status"])

    async def _changed(self, attempt: Attempt, ident: str, status: str) -> bool:
        """Brings an order up to date. False where it is not there any more."""
        form = records.form("order", records.order(attempt.body, status), self._settings, by="id")
        try:
            await self._post(attempt, records.edit_path(records.ORDERS, ident), form)
        except Rejected as error:
            if records.is_gone(error):
                return False
            raise
        return True

    async def _made_order(self, attempt: Attempt, status: str, after: str) -> str:
        """A new order; `after` one that people have deleted there."""
        body, client = attempt.body, client_of(attempt.body)
        ident = await self._customer(attempt, client, body["client_fields"])
        for last in (False, True):
            record = records.order(body, status, customer_id=ident)
            record["externalId"] += after
            try:
                return await self._made(attempt, records.ORDERS, "order", record, record["externalId"])
            except Rejected as error:
                if last or not records.is_gone(error):
                    raise
            ident = await self._customer(attempt, client, body["client_fields"], but=ident)
        raise AssertionError

    async def _account_statuses(self, attempt: Attempt) -> Mapping[str, Any]:
        if trio.current_time() - self._read_at >= FRESH_S:
            self._statuses = await self._get(attempt, records.STATUSES)
            self._read_at = trio.current_time()
        return self._statuses

    # Fields.

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """The fields of customers and orders, with the values of lists."""
        found = [
            await self._get(None, path)
            for path in (
                records.custom_path("customer"), records.custom_path("order"), f"{records.DICTIONARIES}?limit=100", records.STATUSES,
            )
        ]  # fmt: skip
        return records.fields_of(self._tenant.language, *found)

    # Requests.

    async def _get(self, attempt: Attempt | None, path: str, hide: Sequence[str] = ()) -> Mapping[str, Any]:
        return await self._http.send("GET", path, headers=self._key(), attempt=attempt, hide=hide, read=_read)

    async def _post(
        self, attempt: Attempt, path: str, form: Mapping[str, str], hide: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        return await self._http.send(
            "POST", path, headers=self._key(), form=form, attempt=attempt, hide=hide, read=_read
        )

    def _key(self) -> dict[str, str]:
        return {"x-api-key": self._settings.api_key.reveal()}


def _read(answer: Answer) -> Mapping[str, Any]:
    return records.read(answer.status, answer.text)
