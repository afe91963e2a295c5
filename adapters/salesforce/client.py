"""Deliveries and look-ups of one organisation. Every step that makes something there is remembered before the next one.

    call     find the client -> remember -> upsert the task by `call_field` | look for it by CallObject, then create -> remember
    record   once the file is there and the task is: its link goes into a field, or to the end of the comments
    task     to call back, for the client's owner, else the first who rang

One call is one task: with `call_field` Salesforce itself sees to it; without it, or where the field is not there, a repeat looks
for the task by CallObject before it makes one. A user who may own nothing costs the ownership, a refused TaskSubtype the subtype.
Never judges an answer (`codec.py`), never writes a request (`requests.py`). Read `clients.py` for whose number it is.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from adapters.abilities import CrmField, CrmUser, HeldExtensions, RegistrationPlace, Responsible
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.salesforce import codec, requests
from adapters.salesforce.clients import Clients
from adapters.salesforce.org import Org
from adapters.salesforce.people import People, crm_user, extensions_of
from adapters.salesforce.plan import CALL, RECORD, TASK
from adapters.salesforce.records import CrmRecords
from adapters.salesforce.records_requests import crm_fields
from adapters.salesforce.refusals import right_text
from adapters.salesforce.requests import Client
from adapters.salesforce.settings import SalesforceSettings
from adapters.salesforce.tested import probe
from gateway.domain.crm_sources import When
from gateway.domain.errors import NotYet, Rejected

CLIENT, TASK_ID, BEGUN, MADE_TASK = "client", "task_id", "begun", "call_back"
"""Names under which ids of a call are remembered."""
NOT_EXIST, NO_CALL_FIELD, QUOTA_LOW = "not_exist_codes", "call_field_missing", "quota_low"
_BATCH = 200
_FIELDS_OF: Mapping[str, tuple[When, ...]] = {
    "Task": ("call",),
    "Contact": ("contact", "chat"),
    "Opportunity": ("order",),
}


class SalesforceClient:
    """Notifies one organisation of calls; reads its users and who is responsible."""

    def __init__(self, link: Link, settings: SalesforceSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        self.org = Org(link, settings, stack)
        self._people = People(self.org)
        self._clients = Clients(self.org, link.tenant, settings)
        self._records = CrmRecords(self.org, self._clients, link.tenant, settings, self._noted)
        self._statuses: tuple[str, str] | None = None
        self._subtype = settings.task_subtype

    def __repr__(self) -> str:
        return f"<SalesforceClient of {self._link.tenant.number}>"

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery."""
        match attempt.kind:
            case kind if kind == CALL:
                note = await self._call(attempt)
            case kind if kind == RECORD:
                note = await self._record(attempt)
            case kind if kind == TASK:
                note = await self._call_back(attempt)
            case kind if kind in CrmRecords.KINDS:
                note = await self._records.deliver(attempt)
            case _:
                raise Rejected(f"{attempt.kind} is nothing this system is sent")
        if not note.note and self.org.usage is not None and self.org.usage.is_low:
            return Delivered(note=QUOTA_LOW, detail=str(self.org.usage))
        return note

    # Calls.

    async def _call(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        if await attempt.known(TASK_ID) is not None:
            return Delivered()
        people, unknown = await self._people.first(body["people"], attempt)
        owner = next(iter(people), "") or self._settings.default_user
        client, note = Client.read(await attempt.known(CLIENT)), Delivered()
        if client is None and body["phone"]:
            async with self._clients.one_at_a_time(body["phone"]):
                client, note = await self._clients.find_or_make(attempt, body["phone"], owner)
                if client is not None:
                    await attempt.remember(CLIENT, str(client))
        closed, _ = await self._status(attempt)
        task_id, without = await self._made(
            attempt, str(body["id"]), owner,
            lambda person: requests.task(
                body, self._settings, status=closed, client=client, owner=person, subtype=self._subtype
            ),
        )  # fmt: skip
        await attempt.remember(TASK_ID, task_id)
        if not note.note and without:
            return Delivered(note=without)
        if not note.note and unknown and not people:
            return Delivered(note=NOT_EXIST, detail=", ".join(unknown))
        return note

    async def _noted(self, attempt: Attempt, our_id: str, fields: Callable[[str], dict[str, Any]]) -> str:
        """A task that is done, by an id of ours; `fields` takes its status."""
        closed, _ = await self._status(attempt)
        made, _ = await self._made(attempt, our_id, "", lambda _: fields(closed))
        return made

    async def _made(
        self, attempt: Attempt, value: str, owner: str, fields: Callable[[str], dict[str, Any]]
    ) -> tuple[str, str]:  # fmt: skip
        """The id of the task with an id of ours that is made, or was; and a note where it was made in another way than is set."""
        name = self._settings.call_field
        note = ""
        if name:
            try:
                return await self._upserted(attempt, name, value, owner, fields), ""
            except codec.NotThere:
                note = NO_CALL_FIELD
            except codec.Refused as error:
                if not error.names(name):
                    raise
                note = NO_CALL_FIELD
        if attempt.number > 1 or await attempt.known(BEGUN) is not None:
            found = requests.ids_of(await self.org.call("GET", requests.task_of(value), thing="Task", attempt=attempt))
            if found:
                return found[0], note
        await attempt.remember(BEGUN, "1")
        answer = await self._with_fields(
            owner, fields,
            lambda body: self._posted(body, attempt),
        )  # fmt: skip
        return _id(answer), note

    async def _posted(self, body: dict[str, Any], attempt: Attempt) -> Any:
        try:
            return await self.org.call("POST", "/sobjects/Task", body, thing="Task", attempt=attempt)
        except codec.NotThere as error:
            refused = error.detail
        raise codec.Missing(refused, person=right_text("Task"))  # what we may not see is not there for us

    async def _upserted(
        self, attempt: Attempt, name: str, value: str, owner: str, fields: Callable[[str], dict[str, Any]]
    ) -> str:  # fmt: skip
        path = requests.by_external_id("Task", name, value)
        try:
            answer = await self._with_fields(
                owner, fields,
                lambda body: self.org.call("PATCH", path, body, thing="Task", attempt=attempt),
            )  # fmt: skip
        except codec.Refused as error:
            if not error.has("DUPLICATE_VALUE") or not error.names(name):
                raise
            answer = None  # made meanwhile by an attempt that was under way beside this one
        if answer is None:  # without a body, as older versions answer
            answer = {"id": codec.mapping(await self.org.call("GET", path, thing="Task", attempt=attempt)).get("Id")}
        return _id(answer)

    async def _with_fields(
        self, owner: str, fields: Callable[[str], dict[str, Any]], send: Callable[[dict[str, Any]], Any]
    ) -> Any:
        """What a request answered; without the owner, and without the subtype, where those are refused."""
        for _ in range(3):
            try:
                return await send(fields(owner))
            except codec.Refused as error:
                if self._subtype and error.names("TaskSubtype"):
                    self._subtype = False
                elif owner and (error.names("OwnerId") or error.has("INACTIVE_OWNER_OR_USER")):
                    owner = ""
                else:
                    raise
        raise Rejected("Task: refused again and again")

    async def _status(self, attempt: Attempt) -> tuple[str, str]:
        """The status of a task that is done, and of one that is to be done."""
        settings = self._settings
        if settings.closed_status and settings.open_status:
            return settings.closed_status, settings.open_status
        if self._statuses is None:
            try:
                listed = await self.org.pages(requests.STATUSES, thing="TaskStatus", attempt=attempt)
            except (codec.Missing, Rejected):
                listed = []
            self._statuses = statuses_of(listed)
        return settings.closed_status or self._statuses[0], settings.open_status or self._statuses[1]

    async def _record(self, attempt: Attempt) -> Delivered:
        task_id = await attempt.known(TASK_ID)
        if task_id is None:
            raise NotYet("the call is not told yet")
        link = str(attempt.body["link"])
        if self._link.recordings is not None:
            await self._link.recordings.content_type(link)
        path = requests.record("Task", task_id)
        if name := self._settings.recording_field:
            fields = {name: link}
        else:
            # People write into the comments: what they wrote stays.
            known = codec.mapping(
                await self.org.call("GET", f"{path}?fields=Description", thing="Task", attempt=attempt)
            )
            before = str(known.get("Description") or "")
            text = requests.with_link(before, link, str(attempt.body["label"]))
            if text == before:
                return Delivered()
            fields = {"Description": text}
        await self.org.call("PATCH", path, fields, thing="Task", attempt=attempt)
        return Delivered()

    async def _call_back(self, attempt: Attempt) -> Delivered:
        if await attempt.known(MADE_TASK) is not None:
            return Delivered()
        client = Client.read(await attempt.known(CLIENT))
        owner = await self._owner(client, attempt)
        if not owner:
            people, _ = await self._people.first(attempt.body["people"], attempt)
            owner = next(iter(people), "") or self._settings.default_user
        _, status = await self._status(attempt)
        value = str(attempt.body["id"])
        found: Sequence[str] = ()
        if attempt.number > 1:
            answer = await self.org.call("GET", requests.task_of(value), thing="Task", attempt=attempt)
            found = requests.ids_of(answer)
        if not found:
            made = await self._with_fields(
                owner, lambda person: requests.call_back(attempt.body, status=status, client=client, owner=person),
                lambda body: self._posted(body, attempt),
            )  # fmt: skip
            found = [_id(made)]
        await attempt.remember(MADE_TASK, found[0])
        return Delivered()

    async def _owner(self, client: Client | None, attempt: Attempt) -> str:
        """The id of the user who owns a record; empty where nobody does, or it is gone."""
        if client is None:
            return ""
        path = f"{requests.record(client.type, client.id)}?fields=OwnerId"
        try:
            answer = await self.org.call("GET", path, thing=client.type, attempt=attempt)
        except (codec.Missing, Rejected):
            return ""
        return requests.user_of(codec.mapping(answer).get("OwnerId"))

    # Look-ups.

    async def test(self) -> Tested:
        """Whether we are let in, have the rights, and enough of the day's requests is left."""
        return await probe(self.org, self._settings)

    async def users(self) -> Sequence[CrmUser]:
        """All people, page by page."""
        found = {user.user_id: user for one in await self._people.users() if (user := crm_user(one)) is not None}
        return tuple(found.values())

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """The fields of tasks, contacts and opportunities, with the values of lists and the stages."""
        found = {}
        for thing, whens in _FIELDS_OF.items():
            listed = crm_fields(await self.org.call("GET", f"/sobjects/{thing}/describe", thing=thing))
            found.update(dict.fromkeys(whens, listed))
        return found

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The Extension of the users: of all where ours are none yet, else of those whom we name."""
        theirs = extensions_of(await self._people.users(attempt))
        ours = self._link.tenant.user_extensions.get(self._key, {})
        named = {user for user, number in ours.items() if number}
        return HeldExtensions(extensions={u: n for u, n in theirs.items() if not named or u in named})

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """Writes the numbers that differ into the users' records. Those of others stay as they are: an Extension is not ours
        alone."""
        users = {codec.identifier(one.get("Id")): one for one in await self._people.users(attempt)}
        unknown = tuple(user for user in extensions if user not in users)
        differing = {
            user: number for user, number in extensions.items()
            if user in users and codec.text(users[user].get("Extension")) != number
        }  # fmt: skip
        names = list(differing)
        for first in range(0, len(names), _BATCH):
            part = {user: differing[user] for user in names[first : first + _BATCH]}
            answer = await self.org.call(
                "PATCH", "/composite/sobjects", requests.extensions(part), thing="User", attempt=attempt
            )
            for one in codec.items(answer):
                if codec.mapping(one).get("success") is False:
                    raise codec.judge(400, one, "User")
        held = {user: number for user, number in extensions.items() if user not in unknown}
        return HeldExtensions(extensions=held, unknown_users=unknown)

    async def responsible(self, phone: str) -> Responsible | None:
        """Who is responsible for a number, as the organisation has it now."""
        found = await self._clients.find(phone)
        if found is None or not found.owner:
            return None
        return Responsible(extension=(await self._people.numbers()).get(found.owner), user_id=found.owner)

    @property
    def _key(self) -> Any:
        return self._link.name


def statuses_of(listed: Sequence[Any]) -> tuple[str, str]:
    """The first closed status, and the default one that is open; Salesforce's own where the organisation lists none."""
    rows = [codec.mapping(one) for one in listed]
    closed = [name for one in rows if one.get("IsClosed") is True and (name := codec.text(one.get("ApiName")))]
    opened = [one for one in rows if one.get("IsClosed") is False and codec.text(one.get("ApiName"))]
    first = sorted(opened, key=lambda one: one.get("IsDefault") is not True)
    return next(iter(closed), "Completed"), codec.text(first[0].get("ApiName")) if first else "Not Started"


def _id(answer: Any) -> str:
    if not (made := codec.identifier(codec.mapping(answer).get("id"))):
        raise Rejected("Task: the answer names nothing that was made")
    return made


@asynccontextmanager
async def connect(link: Link, settings: SalesforceSettings) -> AsyncIterator[SalesforceClient]:
    """A client of one tenant's organisation. Opens nothing before first use."""
    async with AsyncExitStack() as stack:
        yield SalesforceClient(link, settings, stack)
