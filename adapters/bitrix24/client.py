"""Deliveries and look-ups of one portal. Every step that makes something there is remembered before the next one.

    cards      find the client -> register -> remember CALL_ID -> show to the others | hide from those who stopped
    finish     (the same where nothing was registered) -> remember that it is being finished -> finish
    record     once the file is there and the call is finished: attachRecord
    task       for whoever is responsible for the client, else the first who rang
    unused_call  a call requested in Bitrix24 that never began: finish, so that its card does not hang

One call is one record: `EXTERNAL_CALL_ID` brings the same CALL_ID back for 30 minutes, and after that ours is known here. A
finish whose answer was lost is told by "call is not found". One caller who calls twice at once is looked for by one attempt
at a time. Never judges an answer (`codec.py`), never writes a request (`requests.py`). Over 400 lines: what is
delivered shares what is remembered of a call. Read `clients.py` for the CRM's side.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from adapters.abilities import CrmField, CrmUser, HeldExtensions, RegistrationPlace, Responsible
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.bitrix24 import codec, requests
from adapters.bitrix24.bindings import unbind
from adapters.bitrix24.clients import CONTACT, DEAL, ClientRecords
from adapters.bitrix24.deals import PortalDeals
from adapters.bitrix24.fields import read_fields
from adapters.bitrix24.people import People, crm_user, extensions_of
from adapters.bitrix24.plan import CARDS, FINISH, RECORD, SUMMARY, TASK
from adapters.bitrix24.portal import Portal
from adapters.bitrix24.records import CrmRecords
from adapters.bitrix24.records_requests import UPDATE, plain, update
from adapters.bitrix24.refusals import REASONS
from adapters.bitrix24.requests import Entity, Person
from adapters.bitrix24.settings import Bitrix24Settings
from adapters.bitrix24.tested import probe_portal
from adapters.inbound import UNUSED_CALL
from gateway.domain.crm_sources import When
from gateway.domain.errors import GatewayError, NotYet, Rejected
from gateway.domain.secret import Secret

CALL, ENTITY, TYPE, BEGUN, FINISHING, FINISHED, MADE_TASK, MAKES, FILLED = (
    "call", "entity", "type", "begun", "finishing", "finished", "task", "makes", "filled",
)  # fmt: skip
"""Names under which ids of a call are remembered."""
MOST_UPLOADED = 10 << 20
"""Bytes of a recording that is uploaded: as Base64 in JSON it is in memory a few times."""
UNUSED_S = 180.0
"""Seconds after which a requested call that nobody has seen begin will not begin any more."""
NOT_EXIST, NOT_MADE, NOT_FILLED = "not_exist_codes", "client_not_made", "fields_not_written"
NO_CLIENT = "no_client"


class Bitrix24Client(PortalDeals):
    """Notifies one portal of calls; reads its users and who is responsible."""

    def __init__(self, link: Link, settings: Bitrix24Settings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self.portal = Portal(link, settings, stack)
        self._people = People(self.portal)
        self._records = ClientRecords(self.portal, link.tenant, settings)
        self._crm = CrmRecords(self.portal, self._records, link.tenant, settings)

    def __repr__(self) -> str:
        return f"<Bitrix24Client of {self._link.tenant.number}>"

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery."""
        match attempt.kind:
            case kind if kind == CARDS:
                return await self._cards(attempt)
            case kind if kind == FINISH:
                return await self._finish(attempt)
            case kind if kind == RECORD:
                return await self._record(attempt)
            case kind if kind == TASK:
                return await self._task(attempt)
            case kind if kind == SUMMARY:
                return await self._summary(attempt)
            case kind if kind == UNUSED_CALL:
                return await self._unused(attempt)
            case kind if kind in CrmRecords.KINDS:
                return await self._crm.deliver(attempt)
        raise Rejected(f"{attempt.kind} is nothing this system is sent")

    # Calls.

    async def _cards(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        show, hide = list(body.get("show", ())), list(body.get("hide", ()))
        if await attempt.known(BEGUN) is None and body["type"] == 1:
            await attempt.remember(BEGUN, "1")
        call_id, note = await attempt.known(CALL), Delivered()
        if call_id is None and (show or body.get("people")):
            call_id, shown, note = await self._register(attempt, [*show, *body.get("people", ())], show=bool(show))
            show = [number for number in show if number != shown]
        if call_id is None or not (show or hide):
            return note
        shown_ids, unknown = await self._people.ids(show, attempt)
        hidden_ids, _ = await self._people.ids(hide, attempt)
        await self._move(attempt, call_id, shown_ids, [user for user in hidden_ids if user not in shown_ids])
        return Delivered(note=NOT_EXIST, detail=", ".join(unknown)) if unknown and not note.note else note

    async def _move(self, attempt: Attempt, call_id: str, show: Sequence[str], hide: Sequence[str]) -> None:
        """Both as one request; false is the answer for a call that is over, and means nothing to be done."""
        commands = requests.cards(call_id, show, hide)
        if len(commands) == 1:
            (command,) = commands.values()
            await self.portal.call(command.method, command.params, attempt=attempt)
        elif commands:
            answered = await self.portal.batch(commands, attempt=attempt)
            for name in commands:
                answered.of(name)

    async def _register(
        self, attempt: Attempt, numbers: Sequence[str], *, show: bool
    ) -> tuple[str, str, Delivered]:  # fmt: skip
        """Registers the call under the first of these people whom the portal knows, else under the default user: the CALL_ID,
        the internal number that has the card, and what is to be noted."""
        body, tenant = attempt.body, self._link.tenant
        known = Entity.read(await attempt.known(ENTITY))
        async with self._records.one_at_a_time(body["phone"]):
            client, note = (known, Delivered()) if known is not None else await self._records.find_or_make(
                attempt, body["phone"], await self._owner(attempt, numbers)
            )  # fmt: skip
            type_ = await attempt.known(TYPE) or ""
            if client is None and self._settings.mapping:
                await attempt.remember(MAKES, "1")
            answer, shown = await self._with_person(
                attempt, numbers, requests.REGISTER,
                lambda person, real: requests.register(
                    body, person, client, self._settings, external_id=f"{tenant.number}-{body['call']}",
                    show=show and real, create=client is None and self._settings.create == "lead", type_=type_,
                ),
            )  # fmt: skip
            fields = codec.mapping(answer)
            call_id = codec.text(fields.get("CALL_ID"))
            if not call_id:
                raise Rejected("the answer to the registration names no call")
            await attempt.remember(CALL, call_id)
            client = requests.entity_of(fields) or client
            if client is not None and client != known:
                await attempt.remember(ENTITY, str(client))
        if failed := codec.text(fields.get("LEAD_CREATION_ERROR")):
            note = Delivered(note=NOT_MADE, detail=failed)
        missing = [number for number in numbers if number and number != shown] if not shown else []
        if missing and show and not note.note:
            note = Delivered(note=NOT_EXIST, detail=", ".join(dict.fromkeys(missing)))
        return call_id, shown, note

    async def _with_person(
        self, attempt: Attempt, numbers: Sequence[str], method: str, fields: Any
    ) -> tuple[Any, str]:  # fmt: skip
        """The answer to a method that names an employee: the first of these whom the portal knows. Then nobody's number is
        returned where it is the default user."""
        for number in dict.fromkeys(numbers):
            person = self._people.person(number, attempt)
            try:
                return await self.portal.call(method, fields(person, True), attempt=attempt), number
            except Rejected as error:
                if not codec.is_about(error, codec.UNKNOWN_USER):
                    raise
        user = self._settings.default_user or await self.portal.user()
        if not user:
            raise Rejected(
                "no employee of this call is known there, and no default user is set",
                person=REASONS["nobody"],
            )
        return await self.portal.call(method, fields(Person(user_id=user), False), attempt=attempt), ""

    async def _owner(self, attempt: Attempt, numbers: Sequence[str]) -> str:
        """The id of the user who gets a new record, as far as our own map knows it."""
        people = (self._people.person(number, attempt) for number in numbers)
        return next((person.user_id for person in people if person.user_id), self._settings.default_user)

    async def _finish(self, attempt: Attempt) -> Delivered:
        body, note = attempt.body, Delivered()
        first = [*body["first"], *body["people"]]
        call_id = await attempt.known(CALL)
        if call_id is None:
            call_id, _, note = await self._register(attempt, first, show=False)
        if await attempt.known(FINISHED) is not None:
            return await self._filled(attempt) or note
        again = await attempt.known(FINISHING) == call_id
        await attempt.remember(FINISHING, call_id)
        try:
            answer = await self._end(attempt, call_id)
        except Rejected as error:
            if not codec.is_about(error, codec.UNKNOWN_CALL):
                raise
            answer = None
        if answer is None and not again:
            # Known here and not there: a requested call that the portal has given up. Registered anew it is one record again.
            fresh, _, note = await self._register(attempt, first, show=False)
            if fresh != call_id:
                await attempt.remember(FINISHING, fresh)
                answer = await self._end(attempt, fresh)
        fields = codec.mapping(answer)
        if (made := requests.entity_of(fields)) is not None:
            await attempt.remember(ENTITY, str(made))
        await attempt.remember(FINISHED, codec.identifier(fields.get("ID")) or "1")
        return await self._filled(attempt) or note

    async def _filled(self, attempt: Attempt) -> Delivered | None:
        """Writes the mapped fields into the record that the call has made; one that was there before stays as it is. What is noted
        where the portal does not take them: the call is in it all the same."""
        fields = attempt.body.get("fields")
        if not fields or await attempt.known(FILLED) is not None:
            return None
        entity = Entity.read(await attempt.known(ENTITY))
        if (deal := await attempt.known(DEAL)) is not None:
            entity = Entity("DEAL", deal)
        elif (contact := await attempt.known(CONTACT)) is not None:
            entity = Entity("CONTACT", contact)
        elif await attempt.known(MAKES) is None:
            entity = None
        if entity is not None:
            try:
                await self.portal.call(UPDATE[entity.type], update(entity.id, fields), attempt=attempt)
            except (codec.Missing, Rejected) as error:
                return Delivered(note=NOT_FILLED, detail=error.detail[:300])
        await attempt.remember(FILLED, "1")
        return None

    async def _end(self, attempt: Attempt, call_id: str) -> Any:
        answer, _ = await self._with_person(
            attempt, attempt.body.get("people", ()), requests.FINISH,
            lambda person, real: requests.finish(call_id, attempt.body, person),
        )  # fmt: skip
        return answer

    async def _record(self, attempt: Attempt) -> Delivered:
        call_id = await attempt.known(CALL)
        if call_id is None or await attempt.known(FINISHED) is None:
            raise NotYet("the call is not finished there yet")
        link, content_type = str(attempt.body["link"]), "audio/wav"
        if self._link.recordings is not None:
            content_type = await self._link.recordings.content_type(link)
        name = requests.file_name(str(attempt.body["call"]), content_type)
        if name is None:
            raise Rejected(f"{REASONS['format']}: {content_type}", person=REASONS["format"])
        content: bytes | None = None
        if self._settings.recordings_by == "upload" and self._link.recordings is not None:
            content = await self._link.recordings.content(link, MOST_UPLOADED)
        try:
            if content is None:
                await self.portal.call(requests.ATTACH, requests.record(call_id, link, name), attempt=attempt)
            else:  # not as the attempt's: its log would hold the sound
                attempt.request = f"{requests.ATTACH} {name}, {len(content)} bytes"
                attempt.permit()
                await self.portal.call(requests.ATTACH, requests.uploaded(call_id, content, name))
        except Rejected as error:
            if codec.is_about(error, codec.TOO_EARLY) or codec.is_about(error, codec.NOT_FETCHED):
                raise NotYet(
                    error.detail,
                    person=REASONS["not_fetched"],
                ) from None
            raise
        return Delivered()

    async def _summary(self, attempt: Attempt) -> Delivered:
        """A call's summary as a comment to its client. One that an attempt made whose answer was lost is found by its text."""
        body = attempt.body
        if await attempt.known(attempt.key) is not None:
            return Delivered()
        if self._link.recordings is None:
            raise Rejected("summaries cannot be read here")
        if await attempt.known(FINISHED) is None:
            raise NotYet("the call is not finished there yet")
        summary = await self._link.recordings.summary(str(body["recording"]))
        entity = Entity.read(await attempt.known(ENTITY)) or await self._records.find(attempt, str(body["phone"]))
        if entity is None:
            return Delivered(note=NO_CLIENT, usual=True)
        lines = [line for one in summary.splitlines() for line in (one, plain(one))]
        text = plain(f"{body['title']}\n{summary}")
        await self._crm.comment(attempt, entity, text, [Secret(line) for line in lines])
        await attempt.remember(attempt.key, str(entity))
        return Delivered()

    async def _task(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        if await attempt.known(MADE_TASK) is not None:
            return Delivered()
        entity = Entity.read(await attempt.known(ENTITY))
        responsible = await self._records.owner(entity, attempt) if entity is not None else ""
        if not responsible:
            found, _ = await self._people.ids(body["people"], attempt)
            responsible = next(iter(found), "") or self._settings.default_user or await self.portal.user()
        if not responsible:
            raise Rejected("nobody is there for the task: set a default user")
        made = await self._tasked(attempt, responsible, entity)
        await attempt.remember(MADE_TASK, made or "1")
        return Delivered()

    async def _tasked(self, attempt: Attempt, responsible: str, entity: Entity | None) -> str:
        """The id of the task; of one that an earlier attempt has made, whose answer was lost."""
        try:
            if attempt.number > 1:
                listed = await self.portal.call(
                    requests.FIND_TASK, requests.tasks_titled(attempt.body["title"]), attempt=attempt
                )
                for one in codec.items(codec.mapping(listed).get("tasks")):
                    if found := codec.identifier(codec.mapping(one).get("id")):
                        return found
            answer = await self.portal.call(
                requests.ADD_TASK, requests.task(attempt.body, responsible, entity), attempt=attempt
            )
            return codec.identifier(codec.mapping(codec.mapping(answer).get("task")).get("id"))
        except (codec.Missing, Rejected) as error:
            refused: GatewayError = error
        missing = isinstance(refused, codec.Missing) or "method_not_found" in refused.detail.lower()
        if not missing or entity is None:
            # A missing right for tasks alone must not stop what the portal does take.
            raise Rejected(refused.detail, person=refused.person)
        try:
            answer = await self.portal.call(
                requests.ADD_TODO, requests.todo(attempt.body, responsible, entity), attempt=attempt
            )
        except codec.Missing as error:
            refused = error
        else:
            return codec.identifier(codec.mapping(answer).get("id"))
        raise Rejected(refused.detail, person=refused.person)

    async def _unused(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        if not body.get("call_id"):
            return Delivered()
        if not body.get("refused"):
            if await attempt.known(BEGUN) is not None or await attempt.known(FINISHING) is not None:
                return Delivered()
            age_s = datetime.now(UTC).timestamp() - float(body["at"])
            if age_s < UNUSED_S:
                raise NotYet("the call has not begun yet", after_s=min(max(UNUSED_S - age_s, 5.0), UNUSED_S))
        user = codec.identifier(body.get("user_id"))
        ended = {"status": "603-S", "reason": body.get("refused", "")}
        try:
            person = Person(user_id=user or self._settings.default_user or await self.portal.user())
            await self.portal.call(
                requests.FINISH, requests.finish(str(body["call_id"]), ended, person), attempt=attempt
            )
        except Rejected as error:
            if not codec.is_about(error, codec.UNKNOWN_CALL):
                raise
        return Delivered()

    # Look-ups.

    async def test(self) -> Tested:
        """Whether the webhook or the connection works, and has the rights it needs."""
        return await probe_portal(self.portal, self._settings)

    async def users(self) -> Sequence[CrmUser]:
        """All users, page by page."""
        found = {user.user_id: user for one in await self._people.users() if (user := crm_user(one)) is not None}
        return tuple(found.values())

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """The fields of contacts, deals, and of what a call makes, with the values of the portal's lists."""
        return await read_fields(self.portal, self._settings)

    async def withdraw(self, *, attempt: Attempt | None = None) -> None:
        """Takes back the events that are bound to our address; of a webhook there are none."""
        await unbind(self._link, self._settings, self.portal, attempt)

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The internal numbers in the users' profiles: of all where ours are none yet, else of those whom we name."""
        theirs = extensions_of(await self._people.users(attempt))
        ours = self._link.tenant.user_extensions.get(self._key, {})
        named = {user for user, number in ours.items() if number}
        return HeldExtensions(extensions={u: n for u, n in theirs.items() if not named or u in named})

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """Writes the numbers that differ into the users' profiles. Those of others stay as they are: a profile's number is not
        ours alone."""
        users = {codec.identifier(one.get("ID")): one for one in await self._people.users(attempt)}
        unknown = tuple(user for user in extensions if user not in users)
        differing = [
            user for user, number in extensions.items()
            if user in users and codec.text(users[user].get("UF_PHONE_INNER")) != number
        ]  # fmt: skip
        for first in range(0, len(differing), codec.BATCH):
            part = differing[first : first + codec.BATCH]
            commands = {
                f"u{user}": codec.Command(requests.SAVE_USER, {"ID": user, "UF_PHONE_INNER": extensions[user]})
                for user in part
            }
            answered = await self.portal.batch(commands, attempt=attempt)
            for name in commands:
                answered.of(name)
        held = {user: number for user, number in extensions.items() if user not in unknown}
        return HeldExtensions(extensions=held, unknown_users=unknown)

    async def responsible(self, phone: str) -> Responsible | None:
        """Who is responsible for a number, as the portal has it now."""
        for one in codec.items(await self.portal.call(requests.SEARCH, {"PHONE_NUMBER": phone})):
            person = codec.mapping(codec.mapping(one).get("ASSIGNED_BY"))
            if user := codec.identifier(person.get("ID")):
                return Responsible(extension=codec.text(person.get("USER_PHONE_INNER")) or None, user_id=user)
        return None

    @property
    def _key(self) -> Any:
        return self._link.name


@asynccontextmanager
async def connect(link: Link, settings: Bitrix24Settings) -> AsyncIterator[Bitrix24Client]:
    """A client of one tenant's portal. Opens nothing before first use."""
    async with AsyncExitStack() as stack:
        yield Bitrix24Client(link, settings, stack)
