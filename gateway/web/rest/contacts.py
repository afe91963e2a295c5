"""`/contacts`: persons with their phones, e-mails, conversations and calls; merges of two that can be undone (contract 22, 23)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, field_validator
from pydantic.config import JsonDict

from gateway.domain.ids import IntegrationKey
from gateway.domain.numbers import outside
from gateway.domain.people import wrong_with_email
from gateway.domain.posts import Invalid
from gateway.domain.subjects import Subject
from gateway.domain.text import has_breaking
from gateway.store import contact_merges, contacts, conversations
from gateway.store.client_calls import select_client_calls
from gateway.store.contacts import Contact
from gateway.store.conversations import Seen
from gateway.store.personal_export import export_person
from gateway.store.postgres.pool import Connection
from gateway.web.http.routes import Response
from gateway.web.rest.calls import CallItem, call_values
from gateway.web.rest.chat_models import ConversationItem
from gateway.web.rest.chats import READS, WRITES, author_of, conversation_id, conversation_values
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown, reply

MOST_CALLS = 50
_EXAMPLE: JsonDict = {
    "id": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d", "name": "Anna Kuzmina", "phones": ["+375296254070"],
    "confirmed_phones": ["+375296254070"], "emails": ["anna@june.example"], "created_at": "2026-11-21T00:13:18.948Z",
    "updated_at": "2026-11-21T00:13:18.948Z", "merged": 0,
}  # fmt: skip


class ContactItem(Shown):
    """One person."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    phones: list[str]
    confirmed_phones: list[str] = Field(description="of these, the ones that a messenger confirmed")
    emails: list[str]
    created_at: datetime
    updated_at: datetime
    merged: int = Field(description="how many merges into this person can be undone")


class ContactDetails(ContactItem):
    """A person with everything that was said with them."""

    conversations: list[ConversationItem]
    calls: list[CallItem] = Field(description="the newest, by any of the phones")


class ContactsPage(Page[ContactItem]):
    """Persons, those changed last first."""


class ContactsQuery(ListQuery):
    """Which persons."""

    q: str = Field("", max_length=200, description="in names, phones, e-mails, addresses and messages")


class ContactBody(Model):
    """A person to be entered."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"name": "Anna Kuzmina", "phones": ["+375296254070"], "emails": ["anna@june.example"]}]},
    )  # fmt: skip

    name: str = Field("", max_length=200)
    phones: tuple[str, ...] = Field((), max_length=20)
    emails: tuple[str, ...] = Field((), max_length=20)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if has_breaking(value):
            raise ValueError("must be one line of text")
        return value.strip()


class ContactChange(Model):
    """What changes; what is absent stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"name": "Anna K."}]})

    name: str | None = Field(None, max_length=200)
    phones: tuple[str, ...] | None = Field(None, max_length=20)
    emails: tuple[str, ...] | None = Field(None, max_length=20)


class ExportedFile(Shown):
    """A file of a message."""

    id: UUID
    kind: str
    name: str
    content_type: str
    size: int | None
    latitude: float | None
    longitude: float | None
    url: str | None = Field(description="as in a message's attachments; null where it is not stored")


class ExportedMessage(Shown):
    """What was written."""

    id: UUID
    direction: Literal["in", "out"]
    author: str
    text: str
    status: str | None
    at: datetime
    files: list[ExportedFile]


class ExportedEvent(Shown):
    """What stands beside the messages: notes, changes of owner, edits, deletions."""

    kind: str
    author: str
    text: str
    message: UUID | None
    at: datetime


class ExportedConversation(Shown):
    """All of one conversation."""

    id: UUID
    channel: str
    address: str
    name: str
    username: str
    language: str
    messages: list[ExportedMessage]
    events: list[ExportedEvent]


class ExportedSpeech(Shown):
    """Some words of a call, between so many seconds of its recording."""

    channel: int
    start_s: float
    end_s: float
    text: str


class ExportedCall(Shown):
    """The text of a recorded call with a number that a messenger confirmed; `text` is null where it does not open any more."""

    call: str
    recording: UUID
    at: datetime
    language: str
    text: list[ExportedSpeech] | None
    summary: str | None


class PersonExport(Shown):
    """All that messengers brought of a person, and what they were answered; and the texts of calls with them."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [{
        **{name: value for name, value in _EXAMPLE.items() if name not in ("confirmed_phones", "merged")}, "conversations": [], "calls": [],
    }]})  # fmt: skip

    id: UUID
    name: str
    phones: list[str]
    emails: list[str]
    created_at: datetime
    updated_at: datetime
    conversations: list[ExportedConversation]
    calls: list[ExportedCall]


class MergeBody(Model):
    """Whom to merge into this person."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"other": "5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20"}]}
    )

    other: UUID


def read_phones(texts: Sequence[str], country: str, field: str = "phones") -> list[str]:
    """Numbers in E.164, without repeats. Raises Invalid for what is no number."""
    found: dict[str, None] = {}
    for place, text in enumerate(texts):
        number = outside(text, country)
        if not number.removeprefix("+").isdigit() or not 3 <= len(number) <= 20:
            raise Invalid(((f"{field}[{place}]", "is no telephone number: write it as +375296254070"),))
        found[number] = None
    return list(found)


def read_emails(texts: Sequence[str]) -> list[str]:
    """E-mail addresses, without repeats. Raises Invalid."""
    found: dict[str, None] = {}
    for place, text in enumerate(texts):
        if wrong_with_email(text.strip()):
            raise Invalid(((f"emails[{place}]", "is no e-mail address: write it as anna@june.example"),))
        found[text.strip().lower()] = None
    return list(found)


def contact_item(one: Contact) -> dict[str, Any]:
    """A person's fields as the API shows them."""
    return {
        "id": str(one.id), "name": one.name, "phones": [phone.phone for phone in one.phones],
        "confirmed_phones": [phone.phone for phone in one.phones if phone.confirmed], "emails": list(one.emails),
        "created_at": one.created_at, "updated_at": one.updated_at, "merged": one.merges,
    }  # fmt: skip


def contact_endpoints(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""
    conversing = deps.conversing
    if conversing is None:
        return []

    async def listed(call: Call) -> ContactsPage:
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "contacts", call.query.cursor)
        before = (datetime.fromisoformat(str(after[0])), UUID(str(after[1]))) if after else None
        found = await deps.db.tenant(number, contacts.search_contacts, number, call.query.q, limit + 1, before)
        last = found[limit - 1] if len(found) > limit else None
        onward = None
        if last is not None:
            onward = deps.cursors.new(number, "contacts", [last.updated_at.astimezone(UTC).isoformat(), str(last.id)])
        return ContactsPage(items=[ContactItem.model_validate(contact_item(one)) for one in found[:limit]], next=onward)

    async def details(call: Call, contact: UUID) -> ContactDetails:
        number = call.tenant.number

        async def read(conn: Connection) -> tuple[Contact, list[Seen], list[Any]] | None:
            found = await contacts.select_contact(conn, number, contact)
            if found is None:
                return None
            chats = await conversations.select_conversations_of_contact(conn, number, found.id)
            return (
                found,
                chats,
                await select_client_calls(
                    conn, number, [one.phone for one in found.phones], MOST_CALLS, only=call.caller.only
                ),
            )

        found = await deps.db.tenant(number, read)
        if found is None:
            raise Missing("There is no such contact.")
        person, chats, calls = found
        only = await author_of(deps, call) if call.caller.only is not None else None
        if only is not None:
            chats = [one for one in chats if one.conversation.owner in ("queue", "none", only)]
            if not chats:
                raise Missing("There is no such contact.")
        return ContactDetails.model_validate(
            {
                **contact_item(person),
                "conversations": [conversation_values(conversing, call, one) for one in chats],
                "calls": [call_values(one) for one in calls],
            }
        )

    async def one(call: Call) -> ContactDetails:
        return await details(call, conversation_id(call))

    async def make(call: Call) -> Response:
        body: ContactBody = call.body
        phones, emails = read_phones(body.phones, call.tenant.country), read_emails(body.emails)
        if not body.name and not phones and not emails:
            raise Invalid((("name", "a contact needs a name, a phone or an e-mail address"),))
        number = call.tenant.number
        made = await deps.db.tenant(number, contacts.insert_contact, number, body.name, phones, emails)
        return reply(await details(call, made), 201)

    async def change(call: Call) -> ContactDetails:
        body: ContactChange = call.body
        number, contact = call.tenant.number, conversation_id(call)
        phones = read_phones(body.phones, call.tenant.country) if body.phones is not None else None
        emails = read_emails(body.emails) if body.emails is not None else None

        async def work(conn: Connection) -> Sequence[IntegrationKey]:
            if not await contacts.update_contact(conn, number, contact, name=body.name, phones=phones, emails=emails):
                raise Missing("There is no such contact.")
            return await deps.crm.contact_of_chats(conn, call.tenant, contact)

        deps.crm.woken(call.tenant, await deps.db.tenant(number, work))
        return await details(call, contact)

    async def merge(call: Call) -> ContactDetails:
        number, contact, other = call.tenant.number, conversation_id(call), call.body.other

        async def work(conn: Connection) -> None:
            if await contacts.select_contact(conn, number, contact) is None:
                raise Missing("There is no such contact.")
            if await contacts.select_contact(conn, number, other) is None:
                raise Invalid((("other", "there is no such contact"),))
            if await contact_merges.merge_contacts(conn, number, contact, other, call.caller.actor) is None:
                raise Invalid((("other", "they are one person already"),))

        await deps.db.tenant(number, work)
        return await details(call, contact)

    async def unmerge(call: Call) -> ContactDetails:
        number, contact = call.tenant.number, conversation_id(call)
        if await deps.db.tenant(number, contact_merges.unmerge, number, contact) is None:
            raise Missing("Nothing was merged into this contact.")
        return await details(call, contact)

    async def export(call: Call) -> PersonExport:
        number, keys = call.tenant.number, None
        if deps.chat_files is not None:
            keys = deps.chat_files.keys(number)
        data = await deps.db.tenant(number, export_person, number, conversation_id(call), call.caller.actor, keys)
        if data is None:
            raise Missing("There is no such contact.")
        for one in data["conversations"]:
            for message in one["messages"]:
                for file in message["files"]:
                    file["url"] = f"/api/v1/files/{file['id']}" if file.pop("path") else None
        return PersonExport.model_validate(data)

    async def erase(call: Call) -> None:
        contact = conversation_id(call)
        assert deps.chat_files is not None
        if await deps.chat_files.erase(call.tenant.number, contact, call.caller.actor) is None:
            raise Missing("There is no such contact.")
        deps.feed.publish(call.tenant.number, Subject("contact", str(contact)))

    data_endpoints = [
        Endpoint(method="GET", path="/contacts/{id}/export", operation=export, scopes=("write",), answer=PersonExport, section="Contacts",
                 summary="All of a person's data, to be handed out to them"),
        Endpoint(method="DELETE", path="/contacts/{id}", operation=erase, scopes=("write",), section="Contacts",
                 summary="Erases a person for good, with all conversations and files; calls stay"),
    ]  # fmt: skip
    section = "Contacts"
    return [
        Endpoint(method="GET", path="/contacts", operation=listed, scopes=READS, summary="Persons, those changed last first",
                 query=ContactsQuery, answer=ContactsPage, section=section),
        Endpoint(method="POST", path="/contacts", operation=make, scopes=WRITES, body=ContactBody, answer=ContactDetails, status=201, makes=True,
                 summary="Enters a person", section=section),
        Endpoint(method="GET", path="/contacts/{id}", operation=one, scopes=READS, answer=ContactDetails, agents=True,
                 summary="One person with their conversations and calls", section=section),
        Endpoint(method="PATCH", path="/contacts/{id}", operation=change, scopes=WRITES, body=ContactChange, answer=ContactDetails,
                 summary="Changes a person", section=section),
        Endpoint(method="POST", path="/contacts/{id}/merge", operation=merge, scopes=WRITES, body=MergeBody, answer=ContactDetails,
                 summary="Makes one person of two", section=section),
        Endpoint(method="POST", path="/contacts/{id}/unmerge", operation=unmerge, scopes=WRITES, answer=ContactDetails,
                 summary="Undoes the last merge", section=section),
        *(data_endpoints if deps.chat_files is not None else ()),
    ]  # fmt: skip
