"""`/conversations`, `/messages`: what is said with clients, and what people and programs do to it (contract 23).

An agent's session sees the conversations that wait for somebody and its own; an auditor's sees no texts. A key of scope `chat` writes,
one of `read` reads. Whatever changes a conversation goes through `actors/chats/conversing.py`.
"""

from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from actors.chats.conversing import Conversing, NotThere, Passed
from actors.chats.templates import known_templates
from gateway.domain.chats import AI, Conversation, human
from gateway.domain.ids import integration_key
from gateway.domain.posts import Invalid
from gateway.domain.secret import MASK
from gateway.domain.text import Bilingual
from gateway.store import conversations as store
from gateway.store import messages
from gateway.store.ai_answers import Trace, select_traces
from gateway.store.conversations import Beside, Filters, Seen
from gateway.store.messages import StoredFile, StoredMessage
from gateway.store.postgres.pool import Connection
from gateway.web.authors import author_of_person
from gateway.web.http.routes import Response, problem
from gateway.web.rest.chat_models import (
    AssignBody,
    Attachment,
    ConversationDetails,
    ConversationItem,
    ConversationsPage,
    ConversationsQuery,
    Epoch,
    FirstMessageBody,
    MessageItem,
    MessagesPage,
    NewMessageBody,
    NoteBody,
    Owned,
    ReleaseBody,
    TemplateItem,
    TemplatesAnswer,
    TemplatesQuery,
)
from gateway.web.rest.deps import RestDeps
from gateway.web.rest.endpoints import Call, Endpoint, ListQuery, Missing

READS, WRITES = ("chat", "read"), ("chat",)
BESIDE = ("edited", "deleted")


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
            "longitude": one.longitude, "state": one.state, "problem": one.problem or None,
        }
    )  # fmt: skip


def _trace(trace: Trace | None, *, whole: bool) -> dict[str, Any] | None:
    if trace is None:
        return None
    return {
        "prompt": trace.prompt_name, "prompt_version": trace.prompt_version, "model": trace.model,
        "prompt_tokens": trace.prompt_tokens, "completion_tokens": trace.completion_tokens, "first_token_ms": trace.first_token_ms,
        "took_ms": trace.took_ms, "tools": list(trace.tools), "removed": list(trace.removed) if whole else [MASK] * len(trace.removed),
    }  # fmt: skip


def message_item(one: StoredMessage, changes: list[Beside], *, whole: bool, trace: Trace | None = None) -> MessageItem:
    """A message as the API shows it; not `whole`: without its texts."""
    return MessageItem.model_validate(
        {
            "id": str(one.id), "conversation": str(one.conversation), "direction": one.direction, "author": one.author,
            "text": one.text if whole or not one.text else MASK, "attachments": [_attachment(file) for file in one.files] if whole else [],
            "reply_to": str(one.reply_to) if one.reply_to else None, "provider_id": one.provider_id, "status": one.status,
            "error": one.error or None, "client_id": one.client_id, "at": one.at,
            "ai": _trace(trace, whole=whole),
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


async def visible(deps: RestDeps, call: Call, conversation: UUID) -> Seen:
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
        seen = await visible(deps, call, conversation_id(call))
        number = call.tenant.number
        beside = await deps.db.tenant(number, store.select_happenings, number, seen.conversation.id)
        whole = call.caller.reads_messages
        notes = [
            {"kind": note.kind, "author": note.author, "text": note.text if whole or not note.text else MASK, "at": note.at}
            for note in beside if note.kind not in BESIDE
        ]  # fmt: skip
        return ConversationDetails.model_validate({**conversation_values(conversing, call, seen), "notes": notes})

    async def messages_of(call: Call) -> MessagesPage:
        seen = await visible(deps, call, conversation_id(call))
        number, limit = call.tenant.number, call.query.limit
        after = deps.cursors.wanted(number, "messages", call.query.cursor)
        behind = int(after[0]) if after else 0

        async def read(conn: Connection) -> tuple[list[StoredMessage], list[Beside], dict[UUID, Trace]]:
            found = await messages.select_messages(conn, number, seen.conversation.id, limit + 1, after=behind)
            traces = await select_traces(conn, number, [each.id for each in found if each.author == AI])
            return found, await store.select_happenings(conn, number, seen.conversation.id, BESIDE), traces

        found, changes, traces = await deps.db.tenant(number, read)
        onward = deps.cursors.new(number, "messages", [found[limit - 1].seq]) if len(found) > limit else None
        whole = call.caller.reads_messages
        items = [message_item(each, changes, whole=whole, trace=traces.get(each.id)) for each in found[:limit]]
        return MessagesPage(items=items, next=onward)

    async def send(call: Call) -> MessageItem | Response:
        body: NewMessageBody = call.body
        seen = await visible(deps, call, conversation_id(call))
        try:
            sent = await conversing.send(
                call.tenant, seen.conversation.id, author=await author_of(deps, call), text=body.text, files=body.attachments,
                client_id=body.client_id, reply_to=body.reply_to, expected_epoch=body.expected_epoch,
                template=body.template.use() if body.template is not None else None,
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
                call.tenant, key, body.to, author=await author_of(deps, call), text=body.text, client_id=body.client_id,
                template=body.template.use() if body.template is not None else None,
            )  # fmt: skip
        except NotThere:
            raise Missing("There is no such conversation.") from None
        return message_item(sent.message, [], whole=True)

    async def templates(call: Call) -> TemplatesAnswer:
        query: TemplatesQuery = call.query
        keys = [key for key, can in conversing.channels(call.tenant).items() if can.templates]
        if query.channel is not None and query.channel not in keys:
            raise Invalid((("channel", Bilingual(
                "there is no such channel with templates, or it is switched off", "такого канала с шаблонами нет, или он выключен",
            )),))  # fmt: skip
        found = [
            TemplateItem.model_validate({"channel": key, **one.stored()})
            for key in keys if query.channel in (None, key)
            for one in await deps.db.tenant(call.tenant.number, known_templates, call.tenant.number, key)
        ]  # fmt: skip
        return TemplatesAnswer(items=found)

    async def retry(call: Call) -> MessageItem:
        number = call.tenant.number
        found = await deps.db.tenant(number, messages.select_message, number, conversation_id(call))
        if found is None:
            raise Missing("There is no such message.")
        await visible(deps, call, found.conversation)
        return message_item(await conversing.retry(call.tenant, found.id), [], whole=True)

    def changing(work: Any) -> Any:
        async def operation(call: Call) -> Owned | Response:
            seen = await visible(deps, call, conversation_id(call))
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

    async def typing(call: Call) -> None:
        seen = await visible(deps, call, conversation_id(call))
        conversing.wrote(call.tenant, seen.conversation.id, await author_of(deps, call))

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
                ("read", read_by, Epoch, "Nothing of it is unread any more; the client's messenger shows it, where it can"),
            )
        ),
        Endpoint(method="POST", path="/conversations/{id}/typing", operation=typing, scopes=WRITES, agents=True,
                 summary="Shows the client for some seconds that somebody writes, where the messenger can", section=section),
        Endpoint(method="GET", path="/templates", operation=templates, scopes=READS, query=TemplatesQuery, answer=TemplatesAnswer, agents=True,
                 summary="Approved texts, for where a messenger takes no free one", section=section),
        Endpoint(method="POST", path="/messages", operation=first, scopes=WRITES, body=FirstMessageBody, answer=MessageItem, status=201,
                 makes=True, summary="Writes to an address of a channel or to a contact", agents=False, section=section),
        Endpoint(method="POST", path="/messages/{id}/retry", operation=retry, scopes=WRITES, answer=MessageItem, agents=True,
                 summary="Sends a message again that failed or whose outcome is unknown", section=section),
    ]  # fmt: skip
