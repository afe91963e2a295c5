"""Deliveries and look-ups of one account. Every step that makes something there is remembered before the next one.

    finish     find or make the contact -> write the call with its association and its owner
    record     once the file is there and the call is written: the link
    task       for the contact's owner, else the first who rang
    summary    a note of the contact
    contact, note, order   `clients.py`

One call is one record: told apart as `records.py` says. One caller who calls twice at once is one contact: `contacts.py`. HubSpot
shows new records in searches after seconds, so ids of ours are looked at first and a search never proves that something was
written. Never judges an answer (`codec.py`), never writes a request (`requests.py`).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from html import escape

from adapters.abilities import CrmField, CrmUser, HeldExtensions, RegistrationPlace, Responsible
from adapters.base import Attempt, Delivered, Link, Tested
from adapters.hubspot import clients, codec, requests
from adapters.hubspot.account import Account
from adapters.hubspot.contacts import CONTACT, LEFT_OUT, ContactRecords
from adapters.hubspot.fields import read_fields
from adapters.hubspot.people import People, owner_of
from adapters.hubspot.plan import FINISH, RECORD, SUMMARY, TASK
from adapters.hubspot.records import CALL, CallRecords
from adapters.hubspot.schema import SchemaReader
from adapters.hubspot.settings import HubSpotSettings
from adapters.hubspot.tested import probe_account
from adapters.hubspot.writing import Writer
from gateway.domain.crm_sources import When
from gateway.domain.errors import NotYet, Rejected
from gateway.domain.ids import IntegrationKey
from gateway.domain.secret import Secret

MADE_TASK, MAKING_TASK, RECORDED = "task", "task_making", "record"
"""Names under which a task, the moment at which it was about to be made, and the call that has its recording are remembered."""
NOT_EXIST, NO_CLIENT = "not_exist_codes", "no_client"
GONE = "-"
"""Remembered for a contact that is not there any more."""


class HubSpotClient:
    """Notifies one account of calls; reads its owners and who is responsible."""

    def __init__(self, link: Link, settings: HubSpotSettings, stack: AsyncExitStack) -> None:
        self._link = link
        self._settings = settings
        tenant = link.tenant
        self.account = Account(link, settings, stack)
        self.schema = SchemaReader(self.account, settings, tenant.language)
        self._writer = Writer(self.account, settings)
        self._people = People(self.account)
        self._contacts = ContactRecords(self.account, self.schema, self._writer, tenant, settings)
        self._records = CallRecords(self.account, self.schema, self._writer, tenant.number, settings)
        self._clients = clients.ClientDeliveries(self.account, self._contacts, self.schema, self._writer, settings)

    def __repr__(self) -> str:
        return f"<HubSpotClient of {self._link.tenant.number}>"

    async def deliver(self, attempt: Attempt) -> Delivered:
        """One attempt at one delivery."""
        match attempt.kind:
            case kind if kind == FINISH:
                return await self._finish(attempt)
            case kind if kind == RECORD:
                return await self._record(attempt)
            case kind if kind == TASK:
                return await self._task(attempt)
            case kind if kind == SUMMARY:
                return await self._summary(attempt)
            case kind if kind in clients.KINDS:
                return await self._clients.deliver(attempt)
        raise Rejected(f"{attempt.kind} is nothing this system is sent")

    # Calls.

    async def _finish(self, attempt: Attempt) -> Delivered:
        if await attempt.known(CALL):
            return Delivered()
        body, phone = attempt.body, str(attempt.body["phone"])
        found, unknown = owner_of(body["people"], attempt)
        owner = found or self._settings.default_owner
        async with self._contacts.one_at_a_time(phone):
            contact, note = await self._contacts.find_or_make(attempt, phone, owner, body["client_fields"])
        number = contact.id if contact is not None else ""
        try:
            _, left_out = await self._records.write(attempt, body, owner=owner, contact=number)
        except Rejected as error:
            if not number or not codec.about_contact(error):
                raise
            # Gone since it was found: the call is another's, or nobody's.
            self._contacts.forget(phone)
            await attempt.remember(CONTACT, GONE)
            async with self._contacts.one_at_a_time(phone):
                contact, note = await self._contacts.find_or_make(attempt, phone, owner, body["client_fields"])
            fresh = contact.id if contact is not None and contact.id != number else ""
            _, left_out = await self._records.write(attempt, body, owner=owner, contact=fresh)
        if note.note:
            return note
        if left_out:
            return Delivered(note=LEFT_OUT, detail=", ".join(left_out))
        return Delivered(note=NOT_EXIST, detail=", ".join(unknown)) if unknown else Delivered()

    async def _record(self, attempt: Attempt) -> Delivered:
        call, link = await attempt.known(CALL), str(attempt.body["link"])
        if not call:
            raise NotYet("the call is not written there yet")
        if await attempt.known(RECORDED):
            return Delivered()
        if self._link.recordings is not None:
            await self._link.recordings.content_type(link)
        path, hide = requests.path(requests.CALLS, call), (Secret(link), Secret(escape(link)))
        values = {"hs_call_recording_url": link}
        if self._settings.recordings == "notes":
            said = codec.properties(
                await self.account.call("GET", f"{path}?properties=hs_call_body", attempt=attempt, hide=hide)
            )
            notes = codec.text(said.get("hs_call_body"), requests.LONGEST_TEXT)
            values = {"hs_call_body": requests.with_link(notes, link, self._link.tenant.language)}
        await self.account.call("PATCH", path, {"properties": values}, attempt=attempt, hide=hide)
        await attempt.remember(RECORDED, call)
        return Delivered()

    async def _task(self, attempt: Attempt) -> Delivered:
        body = attempt.body
        if await attempt.known(MADE_TASK):
            return Delivered()
        if await attempt.known(CALL) is None:
            raise NotYet("the call is not written there yet")
        made, left_out = "", tuple[str, ...]()
        if await self._writer.in_doubt(attempt, MAKING_TASK):
            listed = await self.account.search(requests.TASKS, requests.tasks_titled(body["title"]), attempt=attempt)
            made = next((found for one in listed if (found := codec.identifier(codec.mapping(one).get("id")))), "")
        if not made:
            contact = codec.identifier(await attempt.known(CONTACT))
            owner = await self._contacts.owner(contact, attempt) if contact else ""
            owner = owner or owner_of(body["people"], attempt)[0] or self._settings.default_owner
            await self._writer.mark(attempt, MAKING_TASK)
            needed = (requests.START, "hs_task_subject")
            wanted = requests.task(body, owner, contact)
            try:
                made, left_out = await self._writer.make(attempt, requests.TASKS, wanted, needed=needed)
            except Rejected as error:
                if not contact or not codec.about_contact(error):
                    raise
                wanted = requests.task(body, owner, "")
                made, left_out = await self._writer.make(attempt, requests.TASKS, wanted, needed=needed)
        await attempt.remember(MADE_TASK, made)
        return Delivered(note=LEFT_OUT, detail=", ".join(left_out)) if left_out else Delivered()

    async def _summary(self, attempt: Attempt) -> Delivered:
        """A call's summary as a note of its contact. Its text stands in no log."""
        body = attempt.body
        if await attempt.known(attempt.key):
            return Delivered()
        if self._link.recordings is None:
            raise Rejected("summaries cannot be read here")
        if not await attempt.known(CALL):
            raise NotYet("the call is not written there yet")
        summary = await self._link.recordings.summary(str(body["recording"]))
        contact = codec.identifier(await attempt.known(CONTACT))
        if not contact:
            found = await self._contacts.find(str(body["phone"]), attempt)
            if found is None:
                return Delivered(note=NO_CLIENT, usual=True)
            contact = found.id
        hide = tuple(Secret(line) for line in summary.splitlines() if line.strip())
        owner = owner_of(body["people"], attempt)[0] or self._settings.default_owner
        wanted = (str(body["title"]), summary)
        await attempt.remember(
            attempt.key, await self._clients.note(attempt, wanted, owner=owner, contact=contact, hide=hide)
        )
        return Delivered()

    # Look-ups.

    async def test(self) -> Tested:
        """Whether the token or the connection works, what it may do, and what is in force of what HubSpot leaves open."""
        return await probe_account(self.account, self.schema, self._settings)

    async def users(self) -> Sequence[CrmUser]:
        """All owners, page by page."""
        return tuple(await self._people.users())

    async def extensions(self, *, attempt: Attempt | None = None) -> HeldExtensions | None:
        """The map is ours alone: HubSpot has no internal numbers. What it knows is whether the owners are there."""
        return await self._held(self._link.tenant.user_extensions.get(IntegrationKey(self._link.name), {}), attempt)

    async def save_extensions(
        self, place: RegistrationPlace, extensions: Mapping[str, str], *, attempt: Attempt | None = None
    ) -> HeldExtensions:
        """Looks whether the owners are there; writes nothing."""
        return await self._held(extensions, attempt)

    async def _held(self, extensions: Mapping[str, str | None], attempt: Attempt | None) -> HeldExtensions:
        wanted = {user: number for user, number in extensions.items() if number}
        known = {user.user_id for user in await self._people.users(attempt)} if wanted else set()
        return HeldExtensions(
            extensions={user: number for user, number in wanted.items() if user in known},
            unknown_users=tuple(user for user in wanted if user not in known),
        )

    async def fields(self) -> Mapping[When, Sequence[CrmField]]:
        """The properties of calls, contacts and deals that may be written, with their values; stages are values of `dealstage`."""
        return await read_fields(self.account, self.schema)

    async def responsible(self, phone: str) -> Responsible | None:
        """Whose contact a number is, as a search sees it now."""
        contact = await self._contacts.find(phone)
        return Responsible(user_id=contact.owner) if contact is not None and contact.owner else None


@asynccontextmanager
async def connect(link: Link, settings: HubSpotSettings) -> AsyncIterator[HubSpotClient]:
    """A client of one tenant's account. Opens nothing before first use."""
    async with AsyncExitStack() as stack:
        yield HubSpotClient(link, settings, stack)
