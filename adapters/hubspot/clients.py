"""Deliveries of chats and orders: clients, notes, deals.

    contact   found by any phone or e-mail before it is made; what is missing there is filled in, nothing that people entered replaced
    note      of the client, once for each stretch of a chat
    order     a deal of the client with its positions, made once and moved with the order

A deal's stage comes from field mapping (`order.status` to `dealstage`); without a rule a done order is in the pipeline's won stage, a
cancelled one in the lost one, any other in the first. A scope that is missing here stops these deliveries and no calls.
Read `contacts.py` for how clients are found.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from adapters.base import Attempt, Delivered
from adapters.crm_drafts import CONTACT, NOTE, ORDER, client_of, is_overtaken, is_there
from adapters.hubspot import codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.contacts import LEFT_OUT, ContactRecords
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.writing import Writer
from gateway.domain.errors import Rejected
from gateway.domain.secret import Secret

DEAL, DEAL_MAKING, ITEMS = "deal", "deal_making", "deal_items"
"""Names under which an order's deal, the moment at which it was about to be made, and its positions are remembered."""
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
        if await attempt.known(f"note {digest}"):
            return ()
        contact, left_out = await self._client(attempt)
        title = str(body["title"])
        wanted = (title, str(body["text"]).removeprefix(title).lstrip("\n"))
        made = await self.note(attempt, wanted, owner=self._settings.default_owner, contact=contact, name=digest)
        await attempt.remember(f"note {digest}", made)
        return left_out

    async def note(
        self, attempt: Attempt, wanted: tuple[str, str], *, owner: str, contact: str, hide: tuple[Secret, ...] = (), name: str = "",
    ) -> str:  # fmt: skip
        """The id of a note with this title and text, made now or by an earlier attempt whose answer was lost. `hide` stands in no log."""
        making, (title, text) = f"note_making {name}".strip(), wanted
        if await self._writer.in_doubt(attempt, making):
            since = requests.notes_since(contact, await self._since(attempt, making))
            path = f"{requests.path(requests.NOTES)}/search"
            for one in requests.found(await self._account.call("POST", path, since, attempt=attempt, hide=hide)):
                said = codec.text(codec.properties(one).get("hs_note_body"), 8000)
                if (number := codec.identifier(codec.mapping(one).get("id"))) and said.startswith(
                    requests.in_html(title)
                ):
                    return number
        await self._writer.mark(attempt, making)
        moment = str(round(datetime.now(UTC).timestamp() * 1000))

        async def send(given: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self._account.call("POST", requests.path(requests.NOTES), given, attempt=attempt, hide=hide)

        made, _ = await self._writer.make(
            attempt, requests.NOTES, requests.note(f"{title}\n{text}", moment, owner, contact), send=send,
            needed=(requests.START, "hs_note_body"),
        )  # fmt: skip
        return made

    async def _order(self, attempt: Attempt) -> tuple[str, ...]:
        body, order = attempt.body, attempt.body["order"]
        if await is_overtaken(attempt):
            return ()
        contact, left_out = await self._client(attempt)
        unique = (await self._schema.current(attempt)).deal_field
        known = codec.identifier(await attempt.known(DEAL))
        if not known and (known := await self._before(attempt, order, unique)):
            await attempt.remember(DEAL, known)
        if known:
            values = await self._deal(attempt, order, body["fields"], made=True)
            try:
                more = await self._writer.change(attempt, requests.DEALS, known, values, needed=("dealstage",))
            except codec.NotFound:
                known = ""  # somebody has deleted it: it is made anew
        if not known:
            known, more = await self._make(attempt, order, unique, contact)
            await attempt.remember(DEAL, known)
        await self._items(attempt, known, order["lines"])
        await is_there(attempt)
        return (*left_out, *more)

    async def _before(self, attempt: Attempt, order: Mapping[str, Any], unique: str) -> str:
        """The deal that an earlier attempt made, whose answer was lost; empty where there is none."""
        if unique:
            return await self._of_order(attempt, order["id"], unique) if attempt.number > 1 else ""
        if not await self._writer.in_doubt(attempt, DEAL_MAKING):
            return ""
        wanted = requests.deals_named(order["title"], await self._since(attempt, DEAL_MAKING))
        listed = await self._account.search(requests.DEALS, wanted, attempt=attempt)
        return next((found for one in listed if (found := codec.identifier(codec.mapping(one).get("id")))), "")

    async def _of_order(self, attempt: Attempt, order: str, unique: str) -> str:
        path = f"{requests.path(requests.DEALS, quote(order, safe=''))}?idProperty={unique}"
        try:
            return codec.identifier((await self._account.call("GET", path, attempt=attempt)).get("id"))
        except codec.NotFound:
            return ""

    async def _make(
        self, attempt: Attempt, order: Mapping[str, Any], unique: str, contact: str
    ) -> tuple[str, tuple[str, ...]]:  # fmt: skip
        values = await self._deal(attempt, order, attempt.body["fields"], made=False)
        if owner := self._settings.default_owner:
            values.setdefault(requests.OWNER, owner)
        whole: dict[str, Any] = {"properties": values, "associations": requests.associated(requests.DEALS, contact)}
        needed = ("dealname", "dealstage")
        if not unique:
            await self._writer.mark(attempt, DEAL_MAKING)
            return await self._writer.make(attempt, requests.DEALS, whole, needed=needed)
        try:
            ours: dict[str, Any] = {**whole, "properties": {**values, unique: order["id"]}}
            return await self._writer.make(attempt, requests.DEALS, ours, needed=needed)
        except codec.Conflict:
            if found := await self._of_order(attempt, order["id"], unique):
                return found, ()
            # Whoever had the id is in the recycle bin, and holds it there.
            return await self._writer.make(attempt, requests.DEALS, whole, needed=needed)

    async def _deal(
        self, attempt: Attempt, order: Mapping[str, Any], fields: Mapping[str, Any], *, made: bool
    ) -> dict[str, str]:  # fmt: skip
        """The properties of the deal. One that is made already stays in the stage where people have moved it, unless the order is over."""
        pipelines = await self._schema.pipelines(attempt)
        pipeline = pipelines.get(self._settings.pipeline) or next(iter(pipelines.values()), None)
        stage = ""
        if pipeline is not None and "dealstage" not in fields:
            stays = made and not attempt.body["reopened"]
            stage = {"done": pipeline.won, "cancelled": pipeline.lost}.get(
                order["status"], "" if stays else pipeline.first
            )
        currencies = (await self._schema.current(attempt)).currencies
        currency = order["currency"] if len(currencies) > 1 and order["currency"] in currencies else ""
        return requests.deal(
            order,
            stage=stage,
            pipeline=pipeline.id if pipeline is not None and not made else "",
            currency=currency,
            fields=fields,
        )

    async def _items(self, attempt: Attempt, deal: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Makes the deal's positions those of the order; what people have added stays. Without the right to them the deal's
        description says it all."""
        wanted = [requests.item(line, deal) for line in lines]
        digest = hashlib.sha256(repr(wanted).encode("utf-8", "replace")).hexdigest()[:32]
        if await attempt.known(ITEMS) == digest:
            return
        try:
            await self._replace_items(attempt, deal, wanted)
        except codec.Missing:
            return
        await attempt.remember(ITEMS, digest)

    async def _replace_items(self, attempt: Attempt, deal: str, wanted: list[dict[str, Any]]) -> None:
        listed = requests.found(await self._account.call("GET", requests.items_of(deal), attempt=attempt))
        numbers = [found for one in listed if (found := codec.identifier(codec.mapping(one).get("toObjectId")))][
            : codec.BATCH
        ]
        there: list[Any] = []
        batch = f"{requests.path(requests.ITEMS)}/batch"
        if numbers:
            asked = {
                "inputs": [{"id": number} for number in numbers],
                "properties": ["name", "quantity", "price", "hs_sku"],
            }
            there = requests.found(await self._account.call("POST", f"{batch}/read", asked, attempt=attempt))
        missing = list(wanted)
        extra: list[str] = []
        for one in there:
            if (same := next((item for item in missing if requests.same_item(one, item)), None)) is not None:
                missing.remove(same)
            elif codec.text(codec.properties(one).get("hs_sku")).startswith(requests.OUR_SKU):
                extra.append(codec.identifier(codec.mapping(one).get("id")))
        if extra:
            archived = {"inputs": [{"id": number} for number in extra]}
            await self._account.call("POST", f"{batch}/archive", archived, attempt=attempt)
        for first in range(0, len(missing), codec.BATCH):
            made = {"inputs": missing[first : first + codec.BATCH]}
            await self._account.call("POST", f"{batch}/create", made, attempt=attempt)

    async def _since(self, attempt: Attempt, name: str) -> str:
        """When it was about to be made, as HubSpot counts, with room for clocks that differ."""
        try:
            return str(round(float(await attempt.known(name) or 0) * 1000) - _SLACK_MS)
        except ValueError:
            return "0"
