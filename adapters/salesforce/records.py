"""Clients of chats, notes and orders in one organisation: found before they are made, and what was made is remembered at once.

    contact   known id | phones, then e-mails, in every form | a contact is made; one that we made is kept up to date
    note      a task that is done, with the client's record
    order     an opportunity; moved by a rule of mapping, else open, won or lost by the organisation's own stages

An attempt whose answer was lost finds what it has made: by phone or e-mail among what was made lately, else by name since it began;
notes by our id. An order's lines stand in the opportunity's description, because products there need a price book of their own; the
description is written anew only when they change. A right that is missing costs the delivery and not the integration: telephony
goes on. Read `records_requests.py` for the requests.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from adapters.base import Attempt, Delivered
from adapters.crm_drafts import CLIENT_ID, CONTACT, NOTE, ORDER, client_of, client_subject, is_overtaken, is_there
from adapters.salesforce import codec, requests
from adapters.salesforce import records_requests as wanted
from adapters.salesforce.clients import Clients
from adapters.salesforce.org import Org
from adapters.salesforce.requests import Client
from adapters.salesforce.settings import SalesforceSettings
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.errors import Rejected

MADE, DEAL, ROWS, STAGED, NOTED, SINCE = "made", "opportunity", "rows", "stage", "note", "since"
"""Names under which what was done is remembered."""
FRESH_S = 600.0
"""For how long the organisation's stages are believed."""
_CLOCKS = timedelta(minutes=5)
"""How far clocks may be apart."""
MakeTask = Callable[[Attempt, str, Callable[[str], dict[str, Any]]], Awaitable[str]]
"""`make(attempt, our_id, fields)`: the id of the task with this id of ours; made where there is none."""


class CrmRecords:
    """Of one organisation."""

    KINDS = frozenset({CONTACT, NOTE, ORDER})

    def __init__(
        self, org: Org, clients: Clients, tenant: Tenant, settings: SalesforceSettings, make_task: MakeTask
    ) -> None:
        self._org = org
        self._clients = clients
        self._tenant = tenant
        self._settings = settings
        self._make_task = make_task
        self._stages: tuple[float, Mapping[str, str]] = (-FRESH_S, {})

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery of `KINDS`."""
        try:
            match attempt.kind:
                case kind if kind == CONTACT:
                    await self._contact(attempt)
                case kind if kind == NOTE:
                    await self._note(attempt)
                case _:
                    await self._order(attempt)
        except codec.Missing as error:
            raise Rejected(error.detail, person=error.person) from None
        return Delivered()

    # Clients.

    async def _contact(self, attempt: Attempt) -> None:
        client = client_of(attempt.body)
        known = await self._client(attempt, client, attempt.body["fields"])
        if await attempt.known(MADE, client_subject(client)) != known.id:
            return
        fields = wanted.contact(client, attempt.body["fields"])
        try:
            await self._org.call(
                "PATCH", requests.record(known.type, known.id), fields, thing=known.type, attempt=attempt
            )
        except codec.NotThere:
            await self._client(attempt, client, attempt.body["fields"], but=known)

    async def _client(
        self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any], *, but: Client | None = None
    ) -> Client:
        """Who it is there; made where nobody is found. `but`: one that has turned out to be gone."""
        subject = client_subject(client)
        known = Client.read(await attempt.known(CLIENT_ID, subject))
        if known is not None and (but is None or known.id != but.id):
            return known
        async with self._clients.one_at_a_time(client.phones[0] if client.phones else f"contact {client.id}"):
            found = await self._find(attempt, client)
            if found is not None and (but is None or found.id != but.id):
                await attempt.remember(CLIENT_ID, str(found), subject)
                return found
            made = await self._made(attempt, "Contact", wanted.contact(client, fields), _name_of(client), client)
            found = Client("Contact", made)
            await attempt.remember(CLIENT_ID, str(found), subject)
            await attempt.remember(MADE, made, subject)
            return found

    async def _find(self, attempt: Attempt, client: ClientFacts) -> Client | None:
        for phone in client.phones:
            if (found := await self._clients.find(phone, attempt)) is not None:
                return found
        for phone in client.phones:
            if (found := await self._clients.just_made(phone, attempt)) is not None:
                return found
        return await self._clients.by_email(client.emails, attempt) if client.emails else None

    async def _made(
        self, attempt: Attempt, kind: str, fields: Mapping[str, Any], name: tuple[str, str], client: ClientFacts | None
    ) -> str:
        """The id of what is made, or of what an earlier attempt has made since it began, whose answer was lost."""
        began = f"{SINCE} {kind}"
        if kind == "Opportunity" and self._settings.order_field:
            try:
                return await self._upserted(attempt, kind, fields)
            except codec.NotThere:
                pass  # there is no such field: by name, as without it
        since = await attempt.known(began)
        if since is not None:
            answer = await self._org.call("GET", wanted.named(kind, name, since), thing=kind, attempt=attempt)
            if found := requests.ids_of(answer):
                return found[0]
        await attempt.remember(began, (datetime.now(UTC) - _CLOCKS).strftime("%Y-%m-%dT%H:%M:%SZ"))
        try:
            answer = await self._org.call("POST", f"/sobjects/{kind}", fields, thing=kind, attempt=attempt)
        except codec.Refused as error:
            if client is not None and error.has(codec.DUPLICATES) and error.matches:
                found = [number for other, number in error.matches if other == kind]
                if found:
                    return found[0]
            if not error.names("ContactId") or "ContactId" not in fields:
                raise
            answer = await self._org.call(
                "POST", f"/sobjects/{kind}", _without_contact(fields), thing=kind, attempt=attempt
            )
        if not (made := codec.identifier(codec.mapping(answer).get("id"))):
            raise Rejected(f"{kind}: the answer names nothing that was made")
        return made

    async def _upserted(self, attempt: Attempt, kind: str, fields: Mapping[str, Any]) -> str:
        """The id of the opportunity with our order's id."""
        value = f"{self._tenant.number}-{attempt.body['order']['id']}"
        path = requests.by_external_id(kind, self._settings.order_field, value)
        try:
            answer = await self._org.call("PATCH", path, fields, thing=kind, attempt=attempt)
        except codec.Refused as error:
            if not error.names("ContactId") or "ContactId" not in fields:
                raise
            answer = await self._org.call("PATCH", path, _without_contact(fields), thing=kind, attempt=attempt)
        if answer is None:
            answer = {"id": codec.mapping(await self._org.call("GET", path, thing=kind, attempt=attempt)).get("Id")}
        if not (made := codec.identifier(codec.mapping(answer).get("id"))):
            raise Rejected(f"{kind}: the answer names nothing that was made")
        return made

    # Notes.

    async def _note(self, attempt: Attempt) -> None:
        body, client = attempt.body, client_of(attempt.body)
        if await attempt.known(NOTED) == body["token"]:
            return
        known = await self._client(attempt, client, body["client_fields"])
        our_id = f"{self._tenant.number}-{body['token']}"

        async def noted(who: Client) -> None:
            await self._make_task(attempt, our_id, lambda status: wanted.note(body, our_id, who, status))

        try:
            await noted(known)
        except codec.Refused as error:
            if not error.has("INVALID_CROSS_REFERENCE_KEY", "ENTITY_IS_DELETED"):
                raise
            await noted(await self._client(attempt, client, body["client_fields"], but=known))
        await attempt.remember(NOTED, body["token"])

    # Orders.

    async def _order(self, attempt: Attempt) -> None:
        body, order = attempt.body, attempt.body["order"]
        if await is_overtaken(attempt):
            return
        deal = await attempt.known(DEAL)
        stands, stage = await self._stage(attempt, order["status"], body["fields"])
        lines = wanted.order_text(order)
        digest = wanted.digest(lines)
        fresh = await attempt.known(ROWS) != digest
        if deal is not None:
            fields = wanted.order_changes(order, body["fields"], stage, lines if fresh else "")
            try:
                await self._org.call(
                    "PATCH", requests.record("Opportunity", deal), fields, thing="Opportunity", attempt=attempt
                )
            except codec.NotThere:
                deal = None  # somebody has deleted it: it is made anew
        if deal is None:
            client = client_of(body)
            known = await self._client(attempt, client, body["client_fields"])
            stage = stage or (await self._stages_of(attempt)).get("open", "Prospecting")
            fields = wanted.order(order, known, self._tenant, body["fields"], stage, lines)
            deal = await self._made(attempt, "Opportunity", fields, ("Name", fields["Name"]), None)
            await attempt.remember(DEAL, deal)
        if stage:
            await attempt.remember(STAGED, stands)
        await attempt.remember(ROWS, digest)
        await is_there(attempt)

    async def _stage(self, attempt: Attempt, status: str, fields: Mapping[str, Any]) -> tuple[str, str]:
        """How an opportunity stands then, and where it is moved without a rule: won and lost alone, and back. Empty: it stays."""
        before = await attempt.known(STAGED)
        now = {"done": "won", "cancelled": "lost"}.get(status, "open")
        if "StageName" in fields or now == before:
            return now, ""
        return now, (await self._stages_of(attempt)).get(now, "")

    async def _stages_of(self, attempt: Attempt) -> Mapping[str, str]:
        """The first stage that is open, the first that is won, and the first that is lost."""
        read_at, known = self._stages
        if trio.current_time() - read_at < FRESH_S:
            return known
        listed = await self._org.pages(wanted.STAGES, thing="Opportunity", attempt=attempt)
        self._stages = trio.current_time(), wanted.kinds_of_stages(listed)
        return self._stages[1]


def _without_contact(fields: Mapping[str, Any]) -> dict[str, Any]:
    """For who may not name one, and where it is there already: it is named only once."""
    return {name: value for name, value in fields.items() if name != "ContactId"}


def _name_of(client: ClientFacts) -> tuple[str, str]:
    return "LastName", str(wanted.contact(client, {})["LastName"])
