"""Deliveries and look-ups of one account. Every step that makes something there is remembered before the next one.

    card      users of the internal numbers -> the notification
    finish    `calls.py`
    record    once the file is there and the call is finished: the link goes into the call's note
    task      for whoever is responsible for the client, else the first who rang
    summary   a note of whomever the call was given to
    contact, note, order    `records.py`

Never judges an answer (`codec.py`), never writes a request (`requests.py`). Read `calls.py` for how one call stays one record.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from adapters.abilities import CrmField, CrmUser, HeldExtensions, RegistrationPlace, Responsible
from adapters.amocrm import codec, requests
from adapters.amocrm.account import Account
from adapters.amocrm.calls import ENTITY, FINISHED, LINKED, NOT_EXIST, Calls
from adapters.amocrm.clients import ClientRecords
from adapters.amocrm.fields import fields_in
from adapters.amocrm.people import People, crm_user, numbers_of
from adapters.amocrm.plan import CALLS, CARD, FINISH, RECORD, SUMMARY, TASK
from adapters.amocrm.records import Records
from adapters.amocrm.requests import Entity
from adapters.amocrm.settings import AmoSettings
from adapters.amocrm.tested import probe_account
from adapters.base import Attempt, Delivered, Link, Tested
from gateway.domain.crm_sources import When
from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret

MADE_TASK = "task"
NO_CLIENT = "no_client"
NOTE_TRIES = 8
"""Attempts at finding a call's note, before its recording is given up."""


class AmoClient:
    """Notifies one account of calls; reads its users and who is responsible."""

    def __init__(self, link: Link, settings: AmoSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self.account = Account(link, settings, stack)
        self._people = People(self.account, settings)
        self._records = ClientRecords(self.account, link.tenant, settings)
        self._sales = Records(self.account, settings, self._records)
        self._calls = Calls(link, settings, self.account, self._people, self._records)

    def __repr__(self) -> str:
        return f"<AmoClient of {self._link.tenant.number}>"

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery."""
        if attempt.bucket == CALLS:
            attempt.paid = False  # for a share of a request: what it sends alone is charged as it leaves
        match attempt.kind:
            case kind if kind == CARD:
                return await self._card(attempt)
            case kind if kind == FINISH:
                return await self._calls.finish(attempt)
            case kind if kind == RECORD:
                return await self._record(attempt)
            case kind if kind == TASK:
                return await self._task(attempt)
            case kind if kind == SUMMARY:
                return await self._summary(attempt)
        return await self._sales.deliver(attempt)

    async def _card(self, attempt: Attempt) -> Delivered:
        users, unknown = await self._people.ids(attempt.body["people"], attempt)
        if users:
            payload = requests.notification(attempt.body["phone"], users)
            await self.account.call("POST", requests.NOTIFY, payload, attempt=attempt)
        return Delivered(note=NOT_EXIST, detail=", ".join(unknown)) if unknown else Delivered()

    async def _record(self, attempt: Attempt) -> Delivered:
        if await attempt.known(FINISHED) is None:
            raise NotYet("the call is not finished there yet")
        entity = Entity.read(await attempt.known(ENTITY))
        if await attempt.known(LINKED) is not None or self._settings.link_at_once or entity is None:
            return Delivered()
        link = str(attempt.body["link"])
        if self._link.recordings is not None:
            await self._link.recordings.content_type(link)
        note = await self._calls.note_of(entity, self._calls.uniq(attempt.body["call"]), attempt)
        if note is None or not codec.identifier(note.get("id")):
            if attempt.number < NOTE_TRIES:
                raise NotYet("the call's note is not there yet")
            raise Rejected("the call's note is not there any more")
        address = f"{requests.API}/{entity.type}/notes"
        await self.account.call("PATCH", address, [requests.with_link(note, link)], attempt=attempt)
        await attempt.remember(LINKED, "1")
        return Delivered()

    async def _task(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        if await attempt.known(MADE_TASK) is not None:
            return Delivered()
        entity = Entity.read(await attempt.known(ENTITY))
        responsible = await self._records.owner(entity, attempt) if entity is not None else ""
        if not responsible:
            found, _ = await self._people.ids(body["people"], attempt)
            responsible = next(iter(found), "") or self._settings.default_user
        uniq = self._calls.uniq(body["call"])
        if attempt.number > 1:
            listed = await self.account.call("GET", requests.tasks_of(entity), attempt=attempt)
            for one in codec.embedded(listed, "tasks"):
                if codec.text(one.get("text")) == codec.text(body["text"]):
                    await attempt.remember(MADE_TASK, codec.identifier(one.get("id")) or "1")
                    return Delivered()
        made = await self._tasked(attempt, responsible, entity, uniq)
        await attempt.remember(MADE_TASK, made or "1")
        return Delivered()

    async def _tasked(self, attempt: Attempt, responsible: str, entity: Entity | None, uniq: str) -> str:
        """The id of the task. Without the client, or the user, where that is what the account does not take."""
        for _ in range(3):
            one = requests.task(attempt.body, responsible, entity, uniq, self._settings)
            try:
                answer = await self.account.call("POST", requests.TASKS, [one], attempt=attempt)
            except codec.Refused as error:
                if entity is not None and error.about_entity():
                    entity = None
                elif responsible and error.about_user():
                    responsible = self._settings.default_user if responsible != self._settings.default_user else ""
                else:
                    raise
                continue
            except codec.Missing as error:
                # A missing right for tasks alone must not stop what the account does take.
                refused = Rejected(error.detail, person=error.person)
            else:
                return codec.identifier((codec.by_request(answer, "tasks", uniq) or {}).get("id"))
            raise refused
        raise Rejected("the task was refused whoever it is for")

    async def _summary(self, attempt: Attempt) -> Delivered:
        """A call's summary as a note of whomever the call was given to. Its text stands in no log."""
        body, name = attempt.body, attempt.key[-100:]
        if await attempt.known(name) is not None:
            return Delivered()
        if self._link.recordings is None:
            raise Rejected("summaries cannot be read here")
        if await attempt.known(FINISHED) is None:
            raise NotYet("the call is not finished there yet")
        summary = await self._link.recordings.summary(str(body["recording"]))
        hide = tuple(Secret(line) for line in summary.splitlines() if line.strip())
        entity = Entity.read(await attempt.known(ENTITY))
        if entity is None and (found := await self._records.find(str(body["phone"]), attempt)):
            entity = found[0].entity
        if entity is None:
            return Delivered(note=NO_CLIENT, usual=True)
        text = f"{body['title']}\n{summary}"
        made = await self._sales.noted(attempt, entity, text, look=attempt.number > 1, hide=hide)
        await attempt.remember(name, made)
        return Delivered()

    # Look-ups.

    async def test(self) -> Tested:
        """Whether the token or the connection works, and has the rights it needs."""
        return await probe_account(self.account, self._settings)

    async def users(self) -> Sequence[CrmUser]:
        """All users, page by page."""
        found = {user.user_id: user for one in await self._people.users() if (user := crm_user(one)) is not None}
        return tuple(found.values())

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The numbers in the users' profiles where ours are none yet; else ours, of the users whom the account knows."""
        ours = {
            user: number
            for user, number in self._link.tenant.user_extensions.get(IntegrationKey(self._link.name), {}).items()
            if number
        }
        if ours:
            return await self._held(ours, attempt)
        theirs = numbers_of(await self._people.users(attempt))
        return HeldExtensions(extensions={user: number for number, user in theirs.items()})

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """The account has no place for them: ours is the map. Says which users it does not know."""
        return await self._held(extensions, attempt)

    async def _held(self, extensions: Mapping[str, str], attempt: Attempt | None) -> HeldExtensions:
        try:
            users = {codec.identifier(one.get("id")) for one in await self._people.users(attempt)}
        except codec.Missing:
            return HeldExtensions(extensions=dict(extensions))  # only administrators may read them
        held = {user: number for user, number in extensions.items() if user in users}
        return HeldExtensions(extensions=held, unknown_users=tuple(user for user in extensions if user not in users))

    async def responsible(self, phone: str) -> Responsible | None:
        """Who is responsible for a number, as the account has it now."""
        for client in await self._records.find(phone):
            if client.owner:
                return Responsible(user_id=client.owner)
        return None

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """Of contacts and leads, with all stages."""
        pipelines = codec.embedded(await self.account.call("GET", requests.PIPELINES), "pipelines")
        found = {}
        for kind in (requests.CONTACTS, requests.LEADS):
            customs = await self.account.pages(
                lambda page, kind=kind: requests.path(
                    f"{requests.API}/{kind}/custom_fields", limit=codec.PAGE, page=page
                ),
                "custom_fields",
            )
            found[kind] = fields_in(kind, customs, pipelines)
        contacts, leads = found[requests.CONTACTS], found[requests.LEADS]
        made = contacts if self._settings.create == "contact" else leads
        return {"call": made, "contact": contacts, "chat": contacts, "order": leads}


@asynccontextmanager
async def connect(link: Link, settings: AmoSettings) -> AsyncIterator[AmoClient]:
    """A client of one tenant's account. Opens nothing before first use."""
    async with AsyncExitStack() as stack:
        yield AmoClient(link, settings, stack)
