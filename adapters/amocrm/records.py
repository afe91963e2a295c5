"""What an account has of clients, chats and orders.

    contact   every number, then every address -> found: mapped fields; one of ours also gets the numbers that it lacks
                                               -> nobody: made
    note      a note of the client's
    order     a lead of the client's with the sum, moved with the order's status; its items are a note, changed with the order

What was made is remembered before the next step; what an attempt whose answer was lost has made is found: a client by number or
address, a lead among the client's by its name, a note by its text. What its people have deleted is made anew, once. A right that is missing for these refuses the delivery and not
the integration: calls go on. Read `clients.py` for how a number is looked for, `adapters/crm_drafts.py` for what is planned.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.clients import ClientRecords
from adapters.amocrm.fields import LOST, WON, first_stage, written
from adapters.amocrm.requests import Entity
from adapters.amocrm.settings import AmoSettings
from adapters.base import Attempt, Delivered
from adapters.crm_drafts import CLIENT_ID, CONTACT, NOTE, ORDER, client_of, client_subject, is_overtaken, is_there
from gateway.domain.crm_facts import ClientFacts
from gateway.domain.errors import Rejected
from gateway.domain.secret import Secret

OURS, LEAD, NOTED, STAGED, OPEN = "made", "lead", "noted", "staged", "open"
"""Names under which a contact that we have made, an order's lead, the note of a chat or order, and the stage in which we have put a
lead are remembered."""
NOT_WRITTEN = "fields_not_written"
MOST_LEADS = 20
"""Of a client's, among which an order's is looked for."""
_STAGES = {"done": WON, "cancelled": LOST}
"""Where an order goes whose status no rule maps; otherwise it stays where people have put it."""


class Records:
    """Of one account."""

    def __init__(self, account: Account, settings: AmoSettings, clients: ClientRecords) -> None:
        self._account = account
        self._settings = settings
        self._clients = clients

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One of the three."""
        try:
            match attempt.kind:
                case kind if kind == CONTACT:
                    _, noted = await self._client(attempt, attempt.body["fields"])
                    return noted
                case kind if kind == NOTE:
                    return await self._note(attempt)
                case kind if kind == ORDER:
                    return await self._order(attempt)
        except codec.Missing as error:
            refused = Rejected(error.detail, person=error.person)
        else:
            raise Rejected(f"{attempt.kind} is nothing this system is sent")
        raise refused

    # Clients.

    async def _client(self, attempt: Attempt, fields: Mapping[str, Any]) -> tuple[Entity, Delivered]:
        """The client's record: found before it is made."""
        client = client_of(attempt.body)
        subject = client_subject(client)
        async with AsyncExitStack() as turns:
            for name in sorted({*client.phones, *client.emails}) or [client.id]:
                await turns.enter_async_context(self._clients.turns.of(name))
            known = Entity.read(await attempt.known(CLIENT_ID, subject))
            found = await self._stored(known, attempt) if known is not None else None
            if found is None:
                known, found = await self._found(client, attempt)
            if known is None or found is None:
                with self._clients.making(client.phones):
                    made, noted = await self._made(attempt, client, fields)
                await attempt.remember(CLIENT_ID, str(made), subject)
                await attempt.remember(OURS, str(made), subject)
                return made, noted
            await attempt.remember(CLIENT_ID, str(known), subject)
            ours = await attempt.known(OURS, subject) == str(known)
            lacking = requests.lacking(found, client, self._clients.country) if ours else []
            return known, await self._completed(attempt, known, lacking, fields)

    async def _stored(self, entity: Entity, attempt: Attempt) -> Mapping[str, Any] | None:
        """A record as it is; None where somebody has deleted it."""
        try:
            answer = await self._account.call(
                "GET", requests.path(f"{requests.API}/{entity.type}/{entity.id}", with_="leads"), attempt=attempt
            )
        except codec.Refused:
            return None
        return answer or None

    async def _found(
        self, client: ClientFacts, attempt: Attempt
    ) -> tuple[Entity | None, Mapping[str, Any] | None]:  # fmt: skip
        for phone in client.phones:
            entities = [one.entity for one in await self._clients.find(phone, attempt)]
            if not entities and (lately := await self._clients.contact_of(phone, attempt)) is not None:
                entities = [lately]
            for entity in entities:
                if stored := await self._stored(entity, attempt):
                    return entity, stored
        for email in client.emails:
            one = await self._searched(email, attempt, lambda each, wanted=email: wanted.lower() in emails_of(each))
            if one is not None:
                return one
        if not client.reachable and attempt.number > 1:
            # Nobody can be found by a name; but an attempt whose answer was lost has left somebody without any number.
            one = await self._searched(
                client.name, attempt,
                lambda each: codec.text(each.get("name")) == client.name and not requests.phones_of(each) and not emails_of(each),
            )  # fmt: skip
            if one is not None:
                return one
        return None, None

    async def _searched(self, query: str, attempt: Attempt, fits: Any) -> tuple[Entity, Mapping[str, Any]] | None:
        address = requests.path(f"{requests.API}/contacts", query=query, limit=codec.PAGE, with_="leads")
        answer = await self._account.call("GET", address, attempt=attempt)
        found = sorted(
            (one for one in codec.embedded(answer, requests.CONTACTS) if codec.identifier(one.get("id")) and fits(one)),
            key=lambda one: int(codec.identifier(one.get("id"))),
        )
        return (Entity(requests.CONTACTS, codec.identifier(found[0].get("id"))), found[0]) if found else None

    async def _made(self, attempt: Attempt, client: ClientFacts, fields: Mapping[str, Any]) -> tuple[Entity, Delivered]:
        address, noted = f"{requests.API}/contacts", Delivered()
        plain = requests.person(client, client.id)
        try:
            answer = await self._account.call("POST", address, [_with(plain, fields)], attempt=attempt)
        except codec.Refused as error:
            if not fields:
                raise
            answer = await self._account.call("POST", address, [plain], attempt=attempt)
            noted = Delivered(note=NOT_WRITTEN, detail=error.detail[:300])
        number = codec.identifier((codec.by_request(answer, requests.CONTACTS, client.id) or {}).get("id"))
        if not number:
            raise Rejected(f"POST {address} named nothing that it made")
        made = Entity(requests.CONTACTS, number)
        for phone in client.phones:
            self._clients.remember(phone, made)
        return made, noted

    async def _completed(
        self, attempt: Attempt, entity: Entity, lacking: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]
    ) -> Delivered:
        """Numbers and addresses that one of ours lacks, and the mapped fields. What its people have entered stays."""
        change = _with({"custom_fields_values": lacking} if lacking else {}, fields)
        if not change:
            return Delivered()
        address = f"{requests.API}/{entity.type}/{entity.id}"
        try:
            await self._account.call("PATCH", address, change, attempt=attempt)
        except codec.Refused as error:
            if lacking and fields:
                await self._account.call("PATCH", address, {"custom_fields_values": lacking}, attempt=attempt)
            return Delivered(note=NOT_WRITTEN, detail=error.detail[:300])
        return Delivered()

    # Notes.

    async def _note(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        name = f"{NOTED} {body['token']}"[:100]
        if await attempt.known(name) is not None:
            return Delivered()
        entity, noted = await self._client(attempt, body["client_fields"])
        number = await self.noted(attempt, entity, body["text"], look=attempt.number > 1)
        await attempt.remember(name, number)
        return noted

    async def noted(
        self, attempt: Attempt, entity: Entity, text: str, *, look: bool, hide: Sequence[Secret] = ()
    ) -> str:
        """The id of the note; of one that is there already, where an attempt may have made it. `hide` stands in no log."""
        if look:
            notes = await self._account.pages(
                lambda page: requests.plain_notes_of(entity, page), "notes", attempt=attempt, most=4, hide=hide
            )
            for one in notes:
                if _same_text(codec.mapping(one.get("params")).get("text"), text):
                    return codec.identifier(one.get("id")) or "1"
        address = f"{requests.API}/{entity.type}/notes"
        answer = await self._account.call(
            "POST", address, [requests.plain_note(entity, text)], attempt=attempt, hide=hide
        )
        return codec.identifier((codec.by_request(answer, "notes", entity.id) or {}).get("id")) or "1"

    # Orders.

    async def _order(self, attempt: Attempt) -> Delivered:
        if await is_overtaken(attempt):
            return Delivered()
        body, order = attempt.body, attempt.body["order"]
        entity, noted = await self._client(attempt, body["client_fields"])
        fields = {**await self._stage(attempt, order["status"]), **body["fields"]}
        known = Entity.read(await attempt.known(LEAD))
        refused, lead = "", known
        if lead is not None:
            refused, there = await self._moved(attempt, lead, requests.order(order, None, self._settings), fields)
            lead = lead if there else None
        if lead is None:
            lead, refused = await self._lead(attempt, entity, fields)
            await attempt.remember(LEAD, str(lead))
        await attempt.remember(STAGED, _STAGES.get(order["status"], OPEN))
        text = "\n".join(part for part in (order["text"], order["link"]) if part)
        number = await attempt.known(NOTED) if lead == known else None
        if number is None:
            await attempt.remember(NOTED, await self.noted(attempt, lead, text, look=attempt.number > 1))
        elif number != "1":
            change = requests.plain_note(lead, text, number)
            await self._account.call("PATCH", f"{requests.API}/leads/notes", [change], attempt=attempt)
        await is_there(attempt)
        return Delivered(note=NOT_WRITTEN, detail=refused) if refused else noted

    async def _stage(self, attempt: Attempt, status: str) -> dict[str, Any]:
        """Where an order goes without a rule: won, lost, and back to the first stage from there. Otherwise it stays."""
        stage = _STAGES.get(status, "")
        if not stage and (await attempt.known(STAGED) or OPEN) != OPEN:
            stage = await self._first_stage(attempt)
        return {"status_id": stage} if stage else {}

    async def _first_stage(self, attempt: Attempt) -> str:
        pipelines = codec.embedded(await self._account.call("GET", requests.PIPELINES, attempt=attempt), "pipelines")
        return first_stage(pipelines, self._settings.pipeline_id)

    async def _lead(self, attempt: Attempt, entity: Entity, fields: Mapping[str, Any]) -> tuple[Entity, str]:
        order = attempt.body["order"]
        plain = requests.order(order, entity, self._settings)
        one = _with(plain, fields)
        if attempt.number > 1:
            for number in await self._leads_of(entity, attempt):
                stored = await self._stored(Entity(requests.LEADS, number), attempt) or {}
                if codec.text(stored.get("name")) in (codec.text(one["name"]), codec.text(plain["name"])):
                    return Entity(requests.LEADS, number), ""
        address, refused = f"{requests.API}/leads", ""
        try:
            answer = await self._account.call("POST", address, [one], attempt=attempt)
        except codec.Refused as error:
            if not fields:
                raise
            answer = await self._account.call("POST", address, [plain], attempt=attempt)
            refused = error.detail[:300]
        number = codec.identifier((codec.by_request(answer, requests.LEADS, order["id"]) or {}).get("id"))
        if not number:
            raise Rejected(f"POST {address} named nothing that it made")
        return Entity(requests.LEADS, number), refused

    async def _leads_of(self, entity: Entity, attempt: Attempt) -> list[str]:
        """A client's leads, the latest first."""
        stored = await self._stored(entity, attempt) or {}
        numbers = [number for one in codec.embedded(stored, "leads") if (number := codec.identifier(one.get("id")))]
        return sorted(numbers, key=int, reverse=True)[:MOST_LEADS]

    async def _moved(
        self, attempt: Attempt, lead: Entity, plain: Mapping[str, Any], fields: Mapping[str, Any]
    ) -> tuple[str, bool]:
        """Why fields were not written, if they were not; and whether it is still there."""
        address = f"{requests.API}/leads/{lead.id}"
        change = {name: value for name, value in plain.items() if name == "price"}
        try:
            await self._account.call("PATCH", address, _with(change, fields), attempt=attempt)
        except codec.Refused as error:
            return error.detail[:300], await self._stored(lead, attempt) is not None
        return "", True


def _with(plain: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request's element with mapped fields in it."""
    return {**plain, **written(fields, codec.items(plain.get("custom_fields_values")))}


def emails_of(contact: Mapping[str, Any]) -> set[str]:
    """Its addresses, in small letters."""
    return {codec.text(value).lower() for value in requests.values_of(contact, "EMAIL")}


def _same_text(stored: Any, text: str) -> bool:
    """Whether a note says this, whatever became of its spaces."""
    return isinstance(stored, str) and stored.split() == text.split()
