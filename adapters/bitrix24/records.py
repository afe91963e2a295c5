"""Clients of chats, notes and orders in one portal's CRM: found before they are made, and what was made is remembered at once.

    contact   known id | phones, then e-mails, in every form | made; one that we made is kept up to date
    note      a comment in the timeline of the client
    order     a deal with product rows; moved by a rule of mapping, else won or lost by the portal's own stages

An attempt whose answer was lost finds what it has made: contacts and deals by their origin, notes by their text. A right that is
missing costs the delivery and not the integration: telephony goes on. Read `records_requests.py` for the requests.
"""

import hashlib
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

import trio

from adapters.base import Attempt, Delivered
from adapters.bitrix24 import codec, requests
from adapters.bitrix24 import records_requests as wanted
from adapters.bitrix24.clients import ClientRecords
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.requests import Entity
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.crm_drafts import CLIENT_ID, CONTACT, NOTE, ORDER, client_of, client_subject, is_overtaken, is_there
from gateway.domain.configuration import Tenant
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.errors import Rejected
from gateway.domain.numbers import spellings
from gateway.domain.secret import Secret

MADE, SENT, DEAL, ROWS, COMMENT, STAGED = "made", "sent", "deal", "rows", "comment", "stage"
"""Names under which what was done is remembered."""
FRESH_S = 600.0
"""For how long the portal's stages are believed."""


class CrmRecords:
    """Of one portal."""

    KINDS = frozenset({CONTACT, NOTE, ORDER})

    def __init__(self, portal: Portal, records: ClientRecords, tenant: Tenant, settings: Bitrix24Settings) -> None:
        self._portal = portal
        self._records = records
        self._tenant = tenant
        self._settings = settings
        self._stages: dict[str, tuple[float, Mapping[str, str]]] = {}

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
        body, client = attempt.body, client_of(attempt.body)
        if await self._made_by_us(attempt, client):
            if await self._updated(attempt, client, body["fields"]):
                return
            await attempt.remember(CLIENT_ID, "gone", client_subject(client))
        await self._client(attempt, client, body["fields"])

    async def _made_by_us(self, attempt: Attempt, client: ClientFacts) -> bool:
        subject = client_subject(client)
        known = Entity.read(await attempt.known(CLIENT_ID, subject))
        return known is not None and await attempt.known(MADE, subject) == known.id

    async def _updated(self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any]) -> bool:
        """Brings a contact of ours up to date. False where it is not there any more."""
        subject = client_subject(client)
        known = Entity.read(await attempt.known(CLIENT_ID, subject))
        assert known is not None
        sent = set((await attempt.known(SENT, subject) or "").split())
        fresh = [one for one in (*client.phones, *client.emails) if _mark(one) not in sent]
        try:
            await self._portal.call(
                wanted.UPDATE["CONTACT"], wanted.update(known.id, wanted.contact_fields(client, fields, fresh)), attempt=attempt
            )  # fmt: skip
        except Rejected as error:
            if codec.is_about(error, wanted.GONE):
                return False
            raise
        await attempt.remember(SENT, _sent(client), subject)
        return True

    async def _client(
        self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any], *, but: Entity | None = None
    ) -> Entity:
        """Who it is in the CRM; made where nobody is found. `but`: one that has turned out to be gone."""
        subject = client_subject(client)
        known = Entity.read(await attempt.known(CLIENT_ID, subject))
        if known is not None and known != but:
            return known
        async with self._records.one_at_a_time(client.phones[0] if client.phones else f"contact {client.id}"):
            found = await self._find(attempt, client)
            if found is None or found == but:
                return await self._make(attempt, client, fields)
        await attempt.remember(CLIENT_ID, str(found), subject)
        return found

    async def _client_there(self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any]) -> Entity:
        """The same, and that they are still there: a deal of somebody who is gone is taken without a word."""
        entity = await self._client(attempt, client, fields)
        try:
            await self._portal.call(requests.GET[entity.type], {"id": int(entity.id)}, attempt=attempt)
        except Rejected as error:
            if not codec.is_about(error, wanted.GONE):
                raise
            entity = await self._client(attempt, client, fields, but=entity)
        return entity

    async def _find(self, attempt: Attempt, client: ClientFacts) -> Entity | None:
        numbers = list(dict.fromkeys(form for one in client.phones for form in spellings(one, self._tenant.country)))
        for type_, values in (("PHONE", numbers), ("EMAIL", list(client.emails))):
            for first in range(0, len(values), requests.MOST_NUMBERS):
                commands = requests.find(values[first : first + requests.MOST_NUMBERS], type_)
                answered = await self._portal.batch(commands, attempt=attempt)
                if (found := requests.best({kind: answered.of(kind) for kind in commands})) is not None:
                    return found
        return None

    async def _make(self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any]) -> Entity:
        subject = client_subject(client)
        origin = f"{self._tenant.number}-contact-{client.id}"
        values = wanted.contact_fields(client, fields, (*client.phones, *client.emails))
        made = await self._records.made(
            attempt, "CONTACT", wanted.added(values, self._settings, origin), origin, again=attempt.number > 1
        )
        await attempt.remember(CLIENT_ID, str(Entity("CONTACT", made)), subject)
        await attempt.remember(MADE, made, subject)
        await attempt.remember(SENT, _sent(client), subject)
        return Entity("CONTACT", made)

    # Notes.

    async def _note(self, attempt: Attempt) -> None:
        body, client = attempt.body, client_of(attempt.body)
        if await attempt.known(COMMENT) == body["token"]:
            return
        entity = await self._client(attempt, client, body["client_fields"])
        text = wanted.plain(body["text"])
        try:
            await self.comment(attempt, entity, text)
        except Rejected as error:
            if not codec.is_about(error, wanted.GONE):
                raise
            entity = await self._client(attempt, client, body["client_fields"], but=entity)
            await self.comment(attempt, entity, text)
        await attempt.remember(COMMENT, body["token"])
        if body["client_fields"] and await self._made_by_us(attempt, client):
            await self._updated(attempt, client, body["client_fields"])

    async def comment(self, attempt: Attempt, entity: Entity, text: str, hide: Sequence[Secret] = ()) -> None:
        """A comment in a record's timeline; a repeat looks for its text first. `hide` is not shown in the log."""
        if attempt.number > 1:
            listed = await self._portal.call(wanted.COMMENTS, wanted.comments(entity), attempt=attempt, hide=hide)
            if any(_same(codec.mapping(one).get("COMMENT"), text) for one in codec.items(listed)):
                return
        await self._portal.call(wanted.ADD_COMMENT, wanted.comment(entity, text), attempt=attempt, hide=hide)

    # Orders.

    async def _order(self, attempt: Attempt) -> None:
        body, order = attempt.body, attempt.body["order"]
        if await is_overtaken(attempt):
            return
        deal = await attempt.known(DEAL)
        stands, stage = await self._stage(attempt, order["status"], body["fields"])
        if deal is not None:
            try:
                fields = wanted.deal_changes(order, body["fields"], stage)
                await self._portal.call(wanted.UPDATE["DEAL"], wanted.update(deal, fields), attempt=attempt)
            except Rejected as error:
                if not codec.is_about(error, wanted.GONE):
                    raise
                deal = None  # somebody has deleted it: it is made anew
                stands, stage = await self._stage(attempt, order["status"], body["fields"], anew=True)
        if deal is None:
            entity = await self._client_there(attempt, client_of(body), body["client_fields"])
            deal = await self._made_deal(attempt, entity, stage)
        if stage:
            await attempt.remember(STAGED, stands)
        await self._rows(attempt, deal)
        await is_there(attempt)

    async def _made_deal(self, attempt: Attempt, entity: Entity, stage: str) -> str:
        body, order = attempt.body, attempt.body["order"]
        gone = await attempt.known(DEAL)
        origin = f"{self._tenant.number}-order-{order['id']}" + (f"-{order['version']}" if gone else "")
        values = wanted.deal_fields(order, entity, body["client"]["name"], body["fields"], stage)
        fields = wanted.added(values, self._settings, origin)
        deal = await self._records.made(attempt, "DEAL", fields, origin, again=attempt.number > 1)
        await attempt.remember(DEAL, deal)
        return deal

    async def _rows(self, attempt: Attempt, deal: str) -> None:
        rows = wanted.rows(attempt.body["order"])
        digest = f"{deal} {wanted.digest(rows)}"
        if (rows or await attempt.known(ROWS) is not None) and await attempt.known(ROWS) != digest:
            await self._portal.call(wanted.SET_ROWS, {"id": int(deal), "rows": rows}, attempt=attempt)
            await attempt.remember(ROWS, digest)

    async def _stage(
        self, attempt: Attempt, status: str, fields: Mapping[str, Any], *, anew: bool = False
    ) -> tuple[str, str]:
        """How a deal stands then, and where it is moved without a rule: won and lost alone, and back. Empty: it stays where it is."""
        before = "open" if anew else await attempt.known(STAGED) or "open"
        now = {"done": "S", "cancelled": "F"}.get(status, "open")
        if "STAGE_ID" in fields or now == before:
            return now, ""
        category = codec.identifier(fields.get("CATEGORY_ID"))
        return now, (await self._stages_of(attempt, category)).get("first" if now == "open" else now, "")

    async def _stages_of(self, attempt: Attempt, category: str) -> Mapping[str, str]:
        """The first stage that a pipeline has, the one of success (S) and the one of failure (F)."""
        read_at, known = self._stages.get(category, (-FRESH_S, {}))
        if trio.current_time() - read_at < FRESH_S:
            return known
        answer = await self._portal.call(wanted.STATUSES, wanted.stages(category), attempt=attempt)
        found = wanted.kinds_of_stages(codec.items(answer))
        self._stages[category] = (trio.current_time(), found)
        return found


def _sent(client: ClientFacts) -> str:
    """What a contact of ours has been given: a digest of each number and address, so that all of them fit."""
    return " ".join(("-", *(_mark(one) for one in (*client.phones, *client.emails)[:50])))


def _mark(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:8]


def _same(stored: Any, text: str) -> bool:
    return isinstance(stored, str) and " ".join(unescape(stored).split()) == " ".join(unescape(text).split())
