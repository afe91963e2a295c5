"""Deliveries of chats and orders: clients, notes, deals.

    contact   found by any phone or e-mail before it is made; what is missing there is filled in, nothing that people entered replaced
    note      of the client, once for each stretch of a chat
    order     a deal of the client, made once and moved with the order

A deal's stage comes from field mapping (`order.status` to `dealstage`); without a rule a done order is in the pipeline's won stage, a
cancelled one in the lost one, any other in the first. A scope that is missing here stops these deliveries and no calls.
Read `contacts.py` for how clients are found.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.base import Attempt, Delivered
from adapters.crm_drafts import CONTACT, NOTE, ORDER, client_of
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.contacts import LEFT_OUT, ContactRecords
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.writing import Writer
from gateway.domain.errors import Rejected

DEAL, DEAL_MAKING = "deal", "deal_making"
"""Names under which an order's deal, and the moment at which it was about to be made, are remembered."""
KINDS = (CONTACT, NOTE, ORDER)
_SLACK_MS = 120_000
"""Milliseconds that our clock may be ahead of HubSpot's."""


class ClientDeliveries:
    """Of one account."""

    def __init__(
        self,
        account: Account,
        contacts: ContactRecords,
        schema: SchemaReader,
        writer: Writer,
        settings: HubSpotSettings,
    ) -> None:
        self._account = account
        self._contacts = contacts
        self._schema = schema
        self._writer = writer
        self._settings = settings

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery of these kinds."""
        try:
            left_out = await {CONTACT: self._contact, NOTE: self._note, ORDER: self._order}[attempt.kind](attempt)
        except codec.Missing as error:
            raise Rejected(error.detail, person=error.person) from None
        return Delivered(note=LEFT_OUT, detail=", ".join(left_out)) if left_out else Delivered()

    async def _contact(self, attempt: Attempt) -> tuple[str, ...]:
        body = attempt.body
        _, left_out = await self._contacts.of_client(
            attempt, client_of(body), self._settings.default_owner, body["fields"]
        )
        return left_out

    async def _client(self, attempt: Attempt) -> tuple[str, tuple[str, ...]]:
        body = attempt.body
        return await self._contacts.of_client(
            attempt, client_of(body), self._settings.default_owner, body["client_fields"]
        )

    async def _note(self, attempt: Attempt) -> tuple[str, ...]:
        body = attempt.body
        digest = hashlib.sha256(f"{body['token']} {body['text']}".encode("utf-8", "replace")).hexdigest()[:16]
        name, making = f"note {digest}", f"note_making {digest}"
        if await attempt.known(name):
            return ()
        contact, left_out = await self._client(attempt)
        made = ""
        if await self._writer.in_doubt(attempt, making):
            listed = await self._account.search(
                requests.NOTES, requests.notes_since(contact, await self._since(attempt, making)), attempt=attempt
            )
            title = requests.in_html(body["title"])
            made = next((
                number for one in listed
                if (number := codec.identifier(codec.mapping(one).get("id")))
                and codec.text(codec.properties(one).get("hs_note_body"), 8000).startswith(title)
            ), "")  # fmt: skip
        if not made:
            await self._writer.mark(attempt, making)
            moment = str(round(datetime.now(UTC).timestamp() * 1000))
            wanted = requests.note(body["text"], moment, self._settings.default_owner, contact)
            made, more = await self._writer.make(
                attempt, requests.NOTES, wanted, needed=(requests.START, "hs_note_body")
            )
            left_out = (*left_out, *more)
        await attempt.remember(name, made)
        return left_out

    async def _order(self, attempt: Attempt) -> tuple[str, ...]:
        body, order = attempt.body, attempt.body["order"]
        contact, left_out = await self._client(attempt)
        known = codec.identifier(await attempt.known(DEAL))
        values = await self._deal(attempt, order, body["fields"], made=bool(known))
        if not known and await self._writer.in_doubt(attempt, DEAL_MAKING):
            wanted = requests.deals_named(order["title"], await self._since(attempt, DEAL_MAKING))
            listed = await self._account.search(requests.DEALS, wanted, attempt=attempt)
            known = next((found for one in listed if (found := codec.identifier(codec.mapping(one).get("id")))), "")
            if known:
                await attempt.remember(DEAL, known)
        if known:
            try:
                return (
                    *left_out,
                    *await self._writer.change(attempt, requests.DEALS, known, values, needed=("dealstage",)),
                )
            except codec.NotFound:
                pass  # somebody has deleted it: it is made anew
        await self._writer.mark(attempt, DEAL_MAKING)
        values = await self._deal(attempt, order, body["fields"], made=False)
        whole = {
            "properties": {**values, **({requests.OWNER: owner} if (owner := self._settings.default_owner) else {})},
            "associations": requests.associated(requests.DEALS, contact),
        }
        made, more = await self._writer.make(attempt, requests.DEALS, whole, needed=("dealname", "dealstage"))
        await attempt.remember(DEAL, made)
        return (*left_out, *more)

    async def _deal(
        self, attempt: Attempt, order: Mapping[str, Any], fields: Mapping[str, Any], *, made: bool
    ) -> dict[str, str]:  # fmt: skip
        """The properties of the deal. One that is made already stays in the stage where people have moved it, unless the order is over."""
        pipelines = await self._schema.pipelines(attempt)
        pipeline = pipelines.get(self._settings.pipeline) or next(iter(pipelines.values()), None)
        stage = ""
        if pipeline is not None and "dealstage" not in fields:
            over = {"done": pipeline.won, "cancelled": pipeline.lost}
            stage = over.get(order["status"], "" if made else pipeline.first)
        currencies = (await self._schema.current(attempt)).currencies
        currency = order["currency"] if len(currencies) > 1 and order["currency"] in currencies else ""
        return requests.deal(
            order,
            stage=stage,
            pipeline=pipeline.id if pipeline is not None and not made else "",
            currency=currency,
            fields=fields,
        )

    async def _since(self, attempt: Attempt, name: str) -> str:
        """When it was about to be made, as HubSpot counts, with room for clocks that differ."""
        try:
            return str(round(float(await attempt.known(name) or 0) * 1000) - _SLACK_MS)
        except ValueError:
            return "0"
