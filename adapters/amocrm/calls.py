"""One call is one record in the account, whatever is repeated.

    POST /calls, shared by up to 50 calls -> added to a client's lead, contact or company
                                          -> nobody has the number -> looked for in every spelling -> a note of theirs
                                                                                     nobody -> made by setting, with the call
    a repeat: first looked for among the latest notes of calls and the incoming leads, by `uniq`

An element is matched by its `request_id`. One that is refused costs the others nothing but a request of their own. A batch that
was too heavy (504) is halved until requests pass again. Read `clients.py` for who it is with, `client.py` for the other deliveries.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.clients import ClientRecords
from adapters.amocrm.people import People
from adapters.amocrm.requests import Employee, Entity
from adapters.amocrm.settings import AmoSettings
from adapters.base import Attempt, Delivered, Link
from adapters.batching import Batches
from gateway.domain.errors import GatewayError, RateLimited, Rejected

ENTITY, NOTE, FINISHED, LINKED = "entity", "note", "finished", "linked"
"""Names under which ids of a call are remembered."""
NOT_EXIST, NOT_MADE, NOT_WRITTEN = "not_exist_codes", "client_not_made", "fields_not_written"
LOOKERS, PATIENCE_S = 6, 4.0
"""How many look for clients together, and the seconds until one of the others gives up for now."""
MOST_PAGES = 4
"""Of notes among which a call in doubt is looked for."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """A call on its way."""

    element: Mapping[str, Any]
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a call is."""

    entity: Entity | None
    waits: bool = False
    """In an incoming lead, which cannot be changed later."""


class NotAdded(Exception):
    """Nobody in the account has the number."""


class Calls:
    """The calls of one account."""

    def __init__(
        self, link: Link, settings: AmoSettings, account: Account, people: People, records: ClientRecords
    ) -> None:
        self._link = link
        self._settings = settings
        self._account = account
        self._people = people
        self._records = records
        self._lookups: Batches[tuple[str, int], _Place | None] = Batches(
            self._look, trio.lowlevel.checkpoint, codec.PAGE
        )
        self._lookers = trio.Semaphore(LOOKERS)
        self._batches: Batches[_Sent, Mapping[str, Any] | None] = Batches(self._send, account.take, codec.BATCH)

    def uniq(self, call: Any) -> str:
        """What a call is called there."""
        return f"{self._link.tenant.number}-{call}"[:200]

    async def finish(self, attempt: Attempt) -> Delivered:
        """A call that is over."""
        if await attempt.known(FINISHED) is not None:
            return Delivered()
        body, uniq = attempt.body, self.uniq(attempt.body["call"])
        employee, unknown = await self._people.employee(body, attempt)
        noted = Delivered(note=NOT_EXIST, detail=unknown) if unknown else Delivered()
        if attempt.number > 1 and self._settings.repeats == "look" and await self._there(attempt, uniq):
            return noted
        if not self._records.is_nobody_s(body["phone"]):
            try:
                await self._added(attempt, body, uniq, employee)
                return noted
            except NotAdded:
                self._records.note_nobody_s(body["phone"])
        async with self._records.turns.of(body["phone"]), self._looking():
            return await self._given(attempt, uniq, employee) or noted

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator[None]:
        """One of the few who look for clients together: more would only wait for the account's budget, and too long. Raises
        RateLimited: it is tried again a little later, and what needs no looking goes on."""
        taken = False
        with trio.move_on_after(PATIENCE_S):
            await self._lookers.acquire()
            taken = True
        if not taken:
            raise RateLimited("many unknown numbers at once", after_s=PATIENCE_S).of("clients")
        try:
            yield
        finally:
            self._lookers.release()

    # To whom the account gives it.

    async def _added(self, attempt: Attempt, body: Mapping[str, Any], uniq: str, employee: Employee) -> None:
        """Raises NotAdded."""
        element = requests.call(body, uniq, employee, self._settings)
        try:
            found = await self._batches.one(_Sent(element, attempt))
        except codec.Refused as error:
            if error.about_repeat():
                await attempt.remember(FINISHED, "1")
                return
            if not error.about_user():
                raise
            nameless = Employee("", str(body.get("name", "")))
            found = await self._batches.one(_Sent(requests.call(body, uniq, nameless, self._settings), attempt))
        if found is None:
            raise NotAdded
        if (entity := requests.entity_of(found)) is not None:
            await attempt.remember(ENTITY, str(entity))
        await attempt.remember(FINISHED, codec.identifier(found.get("id")) or "1")

    async def _send(self, sent: Sequence[_Sent]) -> Sequence[Mapping[str, Any] | GatewayError | None]:
        """One request. An outcome for each: what was added, None for nobody's number, or its refusal."""
        log = sent[0].attempt
        try:
            answer = await self._account.call(
                "POST", requests.CALLS, [one.element for one in sent], attempt=log, paid=True
            )
        except codec.TooHeavy:
            self._batches.most = max(1, len(sent) // 2)
            raise
        except codec.Refused as error:
            return await self._apart(sent, error)
        self._batches.most = min(codec.BATCH, self._batches.most * 2)
        outcomes = [self._outcome(answer, str(one.element["request_id"])) for one in sent]
        for one, outcome in zip(sent[1:], outcomes[1:], strict=True):
            await self._write(one, len(sent), outcome)
        return outcomes

    def _outcome(self, answer: Mapping[str, Any], number: str) -> Mapping[str, Any] | None:
        found = codec.by_request(answer, "calls", number)
        return found if found is not None and requests.entity_of(found) is not None else None

    async def _apart(
        self, sent: Sequence[_Sent], error: codec.Refused
    ) -> Sequence[Mapping[str, Any] | GatewayError | None]:
        """A request was refused: those at fault by their faults, the others each by itself."""
        if len(sent) == 1:
            # A call of nobody's number may be refused as a whole, and names no field then.
            faults = [fault for found in error.faults.values() for fault in found]
            return [error if any(fault.path for fault in faults) else None]
        outcomes: list[Mapping[str, Any] | GatewayError | None] = []
        for one in sent:
            refusal = codec.part(error, str(one.element["request_id"]))
            if refusal is not None and any(fault.path for fault in next(iter(refusal.faults.values()))):
                refusal.detail = await self._account.shown(refusal.detail)
                outcomes.append(refusal)
                continue
            try:
                await self._account.take()
                outcomes += await self._send([one])
            except GatewayError as again:
                outcomes.append(again)
        return outcomes

    async def _write(self, one: _Sent, others: int, outcome: Any) -> None:
        """What a delivery's log says of a request that was another's too."""
        text = json.dumps(one.element, ensure_ascii=False)
        shown = await self._account.shown(f"POST {requests.CALLS} ({others} calls in one request)\n{text}")
        one.attempt.request = f"{one.attempt.request}\n\n{shown}" if one.attempt.request else shown
        one.attempt.response = await self._account.shown(json.dumps(outcome, ensure_ascii=False))
        one.attempt.status = 200

    # To whom we give it.

    async def _given(self, attempt: Attempt, uniq: str, employee: Employee) -> Delivered | None:
        """A note of whoever has the number, or of what becomes of it. Returns what is to be noted."""
        body = attempt.body
        entity = Entity.read(await attempt.known(ENTITY)) or self._records.made_lately(body["phone"])
        if entity is None and (found := await self._records.find(body["phone"], attempt, missed=True)):
            entity = found[0].entity
        if entity is not None and await self._noted(attempt, uniq, employee, entity):
            return None
        self._records.forget(body["phone"])
        here, noted = False, None
        # A mapped field that is not taken costs the field; one that is required of contacts or leads, what was to be made: not the call.
        create, fields = self._settings.create, body.get("fields") or {}
        for making, values in ((create, fields), (create, {}), ("unsorted", {})):
            if noted is not None and (making, values) == (create, fields):
                continue
            try:
                entity, here = await self._records.make(attempt, body, uniq, employee, making, values)
            except codec.Refused as error:
                here = error.about_repeat()
                if not here:
                    noted = Delivered(note=NOT_WRITTEN if values else NOT_MADE, detail=error.detail[:300])
                    continue
            break
        else:
            raise Rejected(noted.detail if noted is not None else "nothing could be made of an unknown number")
        if entity is not None:
            await attempt.remember(ENTITY, str(entity))
        if here:
            await attempt.remember(LINKED, "1")
            await attempt.remember(FINISHED, "1")
        elif entity is None:
            await attempt.remember(FINISHED, "1")  # nothing is to become of it
        elif not await self._noted(attempt, uniq, employee, entity):
            raise Rejected(f"{entity} takes no note")
        return noted

    async def _noted(self, attempt: Attempt, uniq: str, employee: Employee, entity: Entity) -> bool:
        """Whether it took the call; False where it is not there any more."""
        address = f"{requests.API}/{entity.type}/notes"
        try:
            try:
                note = requests.note(attempt.body, uniq, employee, entity, self._settings)
                answer = await self._account.call("POST", address, [note], attempt=attempt)
            except codec.Refused as error:
                if not error.about_user():
                    raise
                nameless = Employee("", str(attempt.body.get("name", "")))
                note = requests.note(attempt.body, uniq, nameless, entity, self._settings)
                answer = await self._account.call("POST", address, [note], attempt=attempt)
        except codec.Refused as error:
            if error.about_entity() or not error.faults:
                return False
            raise
        await attempt.remember(ENTITY, str(entity))
        found = codec.by_request(answer, "notes", uniq) or {}
        if number := codec.identifier(found.get("id")):
            await attempt.remember(NOTE, number)
        await attempt.remember(FINISHED, number or "1")
        return True

    # Where it is.

    async def _there(self, attempt: Attempt, uniq: str) -> bool:
        """Whether an earlier attempt has made it, whose answer was lost."""
        found = await self._lookups.one((uniq, int(attempt.body["started"])))
        if found is None:
            return False
        if found.entity is not None:
            await attempt.remember(ENTITY, str(found.entity))
        if found.waits:
            await attempt.remember(LINKED, "1")
        await attempt.remember(FINISHED, "1")
        return True

    async def _look(self, wanted: Sequence[tuple[str, int]]) -> Sequence["_Place | None"]:
        """Where these calls are, by the latest notes of calls and incoming leads: some requests for all that are in doubt."""
        since = min(started for _, started in wanted)
        names, places = {uniq for uniq, _ in wanted}, dict[str, _Place]()
        for kind in (requests.CONTACTS, requests.LEADS, requests.COMPANIES):
            for page in range(1, MOST_PAGES + 1):
                answer = await self._account.call("GET", requests.latest_calls(kind, since, page))
                notes = codec.embedded(answer, "notes")
                for note in notes:
                    uniq = codec.text(codec.mapping(note.get("params")).get("uniq"))
                    if uniq in names and (number := codec.identifier(note.get("entity_id"))):
                        places[uniq] = _Place(Entity(kind, number))
                if len(notes) < codec.PAGE or len(places) == len(names):
                    break
        if self._settings.create == "unsorted" and len(places) < len(names):
            for waiting in await self._records.waiting():
                uniq = codec.text(codec.mapping(waiting.get("metadata")).get("uniq"))
                if uniq in names:
                    places[uniq] = _Place(requests.entity_in(waiting), waits=True)
        return [places.get(uniq) for uniq, _ in wanted]

    async def note_of(self, entity: Entity, uniq: str, attempt: Attempt) -> Mapping[str, Any] | None:
        """A call's note, wherever in the list it is; None where there is none."""
        try:
            for one in await self._account.pages(
                lambda page: requests.notes_of(entity, page), "notes", attempt=attempt, most=4
            ):
                if codec.text(codec.mapping(one.get("params")).get("uniq")) == uniq:
                    return one
        except Rejected:
            pass  # the client is gone, and its notes with it
        return None
