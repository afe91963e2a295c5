"""`/conversations`, `/messages`: what is said with clients, and what people and programs do to it (contract 23).

An agent's session sees the conversations that wait for somebody and its own; an auditor's sees no texts. A key of scope `chat` writes,
one of `read` reads. Whatever changes a conversation goes through `actors/chats/conversing.py`.
"""

from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from actors.chats.conversing import LONGEST_NOTE, Conversing, NotThere, Passed
from gateway.domain.chats import LONGEST_TEXT, MOST_FILES, Conversation, human
from gateway.domain.ids import integration_key
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.store import conversations as store
from gateway.store import messages
from gateway.store.conversations import Beside, Filters, Seen
from gateway.store.messages import StoredFile, StoredMessage
from gateway.store.postgres.pool import Connection
from gateway.web.authors import author_of_person
from gateway.web.http.routes import Response, problem
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing, Model, Page, Shown

READS, WRITES = ("chat", "read"), ("chat",)
BESIDE = ("edited", "deleted")
_EXAMPLE: JsonDict = {
    "id": "5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20", "channel": "telegram", "contact": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
    "name": "Anna Kuzmina", "state": "open", "owner": "queue", "epoch": 3, "queue": "default", "unread": 1,
    "last_message_at": "2026-11-21T00:13:18.948Z", "waiting_since": "2026-11-21T00:13:18.948Z", "last_text": "hello",
    "window_until": None, "blocked": False,
}  # fmt: skip
_MESSAGE: JsonDict = {
    "id": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d", "conversation": "5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20", "direction": "out",
    "author": "human:7c9e6679-7425-40de-944b-e07fc1f90ae7", "text": "Good morning", "attachments": [], "reply_to": None,
    "provider_id": "18", "status": "delivered", "error": None, "client_id": "a-1", "at": "2026-11-21T00:13:25.110Z", "changes": [],
}  # fmt: skip


class ConversationItem(Shown):
    """One client in one channel."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    channel: str = Field(description="the integration's key")
    contact: str = Field(description="the person, as in `/contacts`")
    name: str
    state: Literal["open", "closed"]
    owner: str = Field(description="`ai`, `queue`, `none` or `human:ID`")
    epoch: int = Field(description="raised by every change of owner")
    queue: str | None = Field(description="the queue in which it waits for a person")
    unread: int
    last_message_at: datetime | None
    waiting_since: datetime | None = Field(description="since the first message of the client that is not answered")
    last_text: str | None
    window_until: datetime | None = Field(
        description="until when the messenger takes a free text; null where it always does, or no longer"
    )
    blocked: bool = Field(description="the client does not let us write")


class Note(Shown):
    """What colleagues wrote beside a conversation, or did to it."""

    kind: str
    author: str
    text: str
    at: datetime


class ConversationDetails(ConversationItem):
    """A conversation with what stands beside its messages."""

    notes: list[Note]


class ConversationsPage(Page[ConversationItem]):
    """Conversations, those with the newest message first."""


class ConversationsQuery(ListQuery):
    """Which conversations."""

    state: Literal["open", "closed"] | None = None
    owner: str | None = Field(
        None, max_length=90, description="`ai`, `queue`, `none`, `human` (any person) or `human:ID`"
    )
    channel: str | None = Field(None, max_length=64, description="an integration's key, or a kind: all of it")
    q: str = Field("", max_length=200, description="in names, addresses, phones and messages")
    unread: bool | None = None
    waiting: bool | None = Field(None, description="whether the client waits for an answer")


class Attachment(Shown):
    """A file of a message."""

    id: str
    kind: Literal["image", "voice", "audio", "video", "file", "sticker", "location", "contact", "other"]
    name: str
    content_type: str | None
    size: int | None
    url: str | None = Field(description="answers a key or session, as a download; null while or where there is no file")
    latitude: float | None = None
    longitude: float | None = None


class Change(Shown):
    """An edit or a deletion; the message itself never changes."""

    kind: Literal["edited", "deleted"]
    text: str
    at: datetime


class MessageItem(Shown):
    """One message."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_MESSAGE]})

    id: str
    conversation: str
    direction: Literal["in", "out"]
    author: str = Field(
        description="`client`, `ai`, `human:ID`, `system`, or `elsewhere`: the messenger's own application"
    )
    text: str
    attachments: list[Attachment]
    reply_to: str | None
    provider_id: str | None = Field(description="what the messenger calls it")
    status: Literal["queued", "sent", "delivered", "read", "failed", "unknown"] | None
    error: str | None
    client_id: str | None
    at: datetime
    changes: list[Change]


class MessagesPage(Page[MessageItem]):
    """Messages, oldest first."""


class NewMessageBody(Model):
    """A message to the client. Text or attachments, or both."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"text": "Good morning", "client_id": "a-1"}]}
    )

    text: str = Field("", max_length=LONGEST_TEXT)
    attachments: tuple[UUID, ...] = Field((), max_length=MOST_FILES, description="ids of files added by `POST /files`")
    client_id: str = Field(
        min_length=1, max_length=128, description="the sender's own id: the same again sends nothing"
    )
    reply_to: UUID | None = Field(None, description="the message it answers")
    expected_epoch: int | None = Field(None, ge=0, description="refused with 409 where the conversation's is another")


class FirstMessageBody(Model):
    """A message to somebody who need not have written."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"channel": "whatsapp", "to": "+375296254070", "text": "Your order is ready"}]},
    )  # fmt: skip

    channel: str = Field(min_length=1, max_length=64)
    to: str = Field(min_length=1, max_length=200, description="an address in that channel, or a contact's id")
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    client_id: str | None = Field(None, min_length=1, max_length=128)


class Epoch(Model):
    """Which state of the conversation the sender has seen."""

    expected_epoch: int | None = Field(None, ge=0, description="refused with 409 where the conversation's is another")


class ReleaseBody(Epoch):
    """To whom a conversation goes."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"to": "queue"}]})

    to: Literal["ai", "queue"]


class AssignBody(Epoch):
    """Whose a conversation is to be."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"user": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}]}
    )

    user: UUID = Field(description="a person, as in `/users`")


class NoteBody(Model):
    """What only colleagues see."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"text": "calls back at 5"}]}
    )

    text: str = Field(min_length=1, max_length=LONGEST_NOTE)


class Owned(Shown):
    """Whose a conversation is now."""

    model_config = ConfigDict(
        frozen=True, json_schema_extra={"examples": [{"owner": "queue", "epoch": 4, "state": "open"}]}
    )

    owner: str
    epoch: int
    state: Literal["open", "closed"]


def _queue(conversation: Conversation) -> str | None:
    return "default" if conversation.owner == "queue" else None


def conversation_values(conversing: Conversing, call: Call, seen: Seen) -> dict[str, Any]:
    """A conversation's fields as the API shows them."""
    one, whole = seen.conversation, call.caller.reads_messages
    channel = conversing.channel(call.tenant, one.integration)
    until = channel[0].capabilities.window_until(one.client_wrote_at) if channel is not None else None
    return {
        "id": str(one.id), "channel": one.integration, "contact": str(seen.root), "name": seen.contact_name, "state": one.state,
        "owner": one.owner, "epoch": one.epoch, "queue": _queue(one), "unread": one.unread,
        "last_message_at": one.last_message_at, "waiting_since": one.waiting_since,
        "last_text": seen.last_text[:300] if whole else MASK if seen.last_text else None,
        "window_until": until if until is not None and until > conversing.now() else None,
        "blocked": one.blocked_at is not None,
    }  # fmt: skip


def _attachment(one: StoredFile) -> Attachment:
    return Attachment.model_validate(
        {
            "id": str(one.id), "kind": one.kind, "name": one.name, "content_type": one.content_type or None, "size": one.size,
            "url": f"/api/v1/files/{one.id}" if one.state == "stored" else None, "latitude": one.latitude,
            "longitude": one.longitude,
        }
    )  # fmt: skip


def message_item(one: StoredMessage, changes: list[Beside], *, whole: bool) -> MessageItem:
    """A message as the API shows it; not `whole`: without its texts."""
    return MessageItem.model_validate(
        {
            "id": str(one.id), "conversation": str(one.conversation), "direction": one.direction, "author": one.author,
            "text": one.text if whole or not one.text else MASK, "attachments": [_attachment(file) for file in one.files] if whole else [],
            "reply_to": str(one.reply_to) if one.reply_to else None, "provider_id": one.provider_id, "status": one.status,
            "error": one.error or None, "client_id": one.client_id, "at": one.at,
            "changes": [
                {"kind": beside.kind, "text": beside.text if whole or not beside.text else MASK, "at": beside.at}
                for beside in changes if beside.message == one.id
            ],
        }
    )  # fmt: skip


def conversation_id(call: Call) -> UUID:
    """The id in the path. Raises Missing."""
    try:
        return UUID(call.param("id"))
    except ValueError:
        raise Missing("There is no such entry.") from None


async def author_of(deps: RestDeps, call: Call) -> str:
    """Who writes, as an author and owner."""
    caller = call.caller
    if caller.kind != "session":
        return human(f"key:{caller.key.key_id if caller.key is not None else quote(caller.actor, safe='')[:60]}")
    return await author_of_person(deps.db, None if caller.operator else call.tenant.number, caller.actor)


def _only(author: str, call: Call) -> str | None:
    return author if call.caller.only is not None else None


async def _visible(deps: RestDeps, call: Call, conversation: UUID) -> Seen:
    """A conversation that the caller may see. Raises Missing."""
    seen = await deps.db.tenant(call.tenant.number, store.select_conversation, call.tenant.number, conversation)
    only = _only(await author_of(deps, call), call)
    if seen is None or (only is not None and seen.conversation.owner not in ("queue", "none", only)):
        raise Missing("There is no such conversation.")
    return seen


def _passed(passed: Passed) -> Response:
    now = passed.conversation
    return problem(
        409, "CONFLICT", "Somebody was quicker: the conversation has another owner meanwhile.", owner=now.owner, epoch=now.epoch
    )  # fmt: skip


def chats(deps: RestDeps) -> list[Endpoint]:
    """The endpoints."""
    conversing = deps.conversing
    if conversing is None:
        return []

    async def listed(call: Call) -> ConversationsPage:
        query: ConversationsQuery = call.query
        number, limit = call.tenant.number, query.limit
        after = deps.cursors.wanted(number, "conversations", query.cursor)
        before = (datetime.fromisoformat(str(after[0])), UUID(str(after[1]))) if after else None
        filters = Filters(
            state=query.state, owner=query.owner, channel=query.channel, unread=query.unread, waiting=query.waiting,
            q=query.q if call.caller.reads_messages else "", only=_only(await author_of(deps, call), call),
        )  # fmt: skip
        found = await deps.db.tenant(number, store.select_conversations, number, filters, limit + 1, before)
        onward = None
        if len(found) > limit:
            last = found[limit - 1].conversation
            assert last.last_message_at is not None
            onward = deps.cursors.new(number, "conversations", [last.last_message_at.isoformat(), str(last.id)])
        items = [ConversationItem.model_validate(conversation_values(conversing, call, one)) for one in found[:limit]]
        return ConversationsPage(items=items, next=onward)

    async def one(call: Call) -> ConversationDetails:
        seen = await _visible(deps, call, conversation_id(call))
        number = call.tenant.number
        beside = await deps.db.tenant(number, store.select_happenings, number, seen.conversation.id)
        whole = call.caller.reads_messages
        notes = [
            {"kind": note.kind, "author": note.author, "text": note.text if whole or not note.text else MASK, "at": note.at}
            for note in beside if note.kind not in BESIDE
        ]  # fmt: skip
        return ConversationDetails.model_validate({**conversation_values(conversing, call, seen), "notes": notes})

    async def messages_of(call: Call) -> MessagesPage:
        seen = await _visible(deps, call, conversation_id(call))
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "messages", call.query.cursor)
        behind = int(after[0]) if after else 0

        async def read(conn: Connection) -> tuple[list[StoredMessage], list[Beside]]:
            found = await messages.select_messages(conn, number, seen.conversation.id, limit + 1, after=behind)
            return found, await store.select_happenings(conn, number, seen.conversation.id, BESIDE)

        found, changes = await deps.db.tenant(number, read)
        onward = deps.cursors.new(number, "messages", [found[limit - 1].seq]) if len(found) > limit else None
        whole = call.caller.reads_messages
        return MessagesPage(items=[message_item(each, changes, whole=whole) for each in found[:limit]], next=onward)

    async def send(call: Call) -> MessageItem | Response:
        body: NewMessageBody = call.body
        seen = await _visible(deps, call, conversation_id(call))
        try:
            sent = await conversing.send(
                call.tenant, seen.conversation.id, author=await author_of(deps, call), text=body.text, files=body.attachments,
                client_id=body.client_id, reply_to=body.reply_to, expected_epoch=body.expected_epoch,
            )  # fmt: skip
        except Passed as passed:
            return _passed(passed)
        except NotThere:
            raise Missing("There is no such conversation.") from None
        return message_item(sent.message, [], whole=True)

    async def first(call: Call) -> MessageItem:
        body: FirstMessageBody = call.body
        try:
            key = integration_key(body.channel)
        except ValueError as error:
            raise Invalid((("channel", str(error)),)) from None
        try:
            sent = await conversing.start(
                call.tenant, key, body.to, author=await author_of(deps, call), text=body.text, client_id=body.client_id
            )
        except NotThere:
            raise Missing("There is no such conversation.") from None
        return message_item(sent.message, [], whole=True)

    async def retry(call: Call) -> MessageItem:
        number = call.tenant.number
        found = await deps.db.tenant(number, messages.select_message, number, conversation_id(call))
        if found is None:
            raise Missing("There is no such message.")
        await _visible(deps, call, found.conversation)
        return message_item(await conversing.retry(call.tenant, found.id), [], whole=True)

    def changing(work: Any) -> Any:
        async def operation(call: Call) -> Owned | Response:
            seen = await _visible(deps, call, conversation_id(call))
            try:
                now: Conversation = await work(call, seen.conversation.id, await author_of(deps, call))
            except Passed as passed:
                return _passed(passed)
            except NotThere:
                raise Missing("There is no such conversation.") from None
            return Owned(owner=now.owner, epoch=now.epoch, state=now.state)

        return operation

    async def take(call: Call, conversation: UUID, who: str) -> Conversation:
        return await conversing.take(call.tenant, conversation, who, expected_epoch=call.body.expected_epoch)

    async def release(call: Call, conversation: UUID, who: str) -> Conversation:
        body: ReleaseBody = call.body
        return await conversing.release(call.tenant, conversation, who, body.to, expected_epoch=body.expected_epoch)

    async def assign(call: Call, conversation: UUID, who: str) -> Conversation:
        body: AssignBody = call.body
        return await conversing.assign(call.tenant, conversation, who, body.user, expected_epoch=body.expected_epoch)

    async def close(call: Call, conversation: UUID, who: str) -> Conversation:
        return await conversing.close(call.tenant, conversation, who, expected_epoch=call.body.expected_epoch)

    async def note(call: Call, conversation: UUID, who: str) -> Conversation:
        return await conversing.note(call.tenant, conversation, who, call.body.text)

    async def read_by(call: Call, conversation: UUID, who: str) -> Conversation:
        return await conversing.mark_read(call.tenant, conversation)

    quicker = {409: "Somebody was quicker: the conversation's epoch is another"}
    section = "Conversations"
    return [
        Endpoint(method="GET", path="/conversations", operation=listed, scopes=READS, summary="Conversations, newest first",
                 query=ConversationsQuery, answer=ConversationsPage, agents=True, section=section),
        Endpoint(method="GET", path="/conversations/{id}", operation=one, scopes=READS, summary="One conversation with its notes",
                 answer=ConversationDetails, agents=True, section=section),
        Endpoint(method="GET", path="/conversations/{id}/messages", operation=messages_of, scopes=READS, query=ListQuery,
                 summary="Its messages, oldest first", answer=MessagesPage, agents=True, section=section),
        Endpoint(method="POST", path="/conversations/{id}/messages", operation=send, scopes=WRITES, body=NewMessageBody, answer=MessageItem,
                 status=201, summary="Writes to the client and takes the conversation", problems=quicker, agents=True, section=section),
        *(
            Endpoint(method="POST", path=f"/conversations/{{id}}/{name}", operation=changing(work), scopes=WRITES, body=body, answer=Owned,
                     summary=summary, problems=quicker, agents=True, section=section)
            for name, work, body, summary in (
                ("take", take, Epoch, "Makes the caller its owner"),
                ("release", release, ReleaseBody, "Gives it back to the AI or the queue"),
                ("assign", assign, AssignBody, "Makes a person its owner"),
                ("close", close, Epoch, "Closes it; a message of the client opens it again"),
                ("note", note, NoteBody, "Leaves a note that only colleagues see"),
                ("read", read_by, Epoch, "Nothing of it is unread any more"),
            )
        ),
        Endpoint(method="POST", path="/messages", operation=first, scopes=WRITES, body=FirstMessageBody, answer=MessageItem, status=201,
                 makes=True, summary="Writes to an address of a channel or to a contact", agents=False, section=section),
        Endpoint(method="POST", path="/messages/{id}/retry", operation=retry, scopes=WRITES, answer=MessageItem, agents=True,
                 summary="Sends a message again that failed or whose outcome is unknown", section=section),
    ]  # fmt: skip
