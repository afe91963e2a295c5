"""What `/conversations` and `/messages` take and answer: the models of the API's document (contract 23). Read `chats.py` next."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from actors.chats.conversing import LONGEST_NOTE
from adapters.channel import TemplateUse
from gateway.domain.chats import LONGEST_TEXT, MOST_FILES
from gateway.web.rest.endpoints import ListQuery, Model, Page, Shown

_EXAMPLE: JsonDict = {
    "id": "5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20", "channel": "messenger:support", "contact": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
    "name": "Anna Kuzmina", "state": "open", "owner": "queue", "epoch": 3, "queue": "default", "unread": 1,
    "last_message_at": "2026-11-21T00:13:18.948Z", "waiting_since": "2026-11-21T00:13:18.948Z", "last_text": "hello",
    "window_until": None, "blocked": False,
}  # fmt: skip
_MESSAGE: JsonDict = {
    "id": "0b1c2d3e-5f60-4a7b-8c9d-0e1f2a3b4c5d", "conversation": "5f0d1c0e-3c2b-4f6e-9a51-8d8f6f3a1b20", "direction": "out",
    "author": "human:7c9e6679-7425-40de-944b-e07fc1f90ae7", "text": "Good morning", "attachments": [], "reply_to": None,
    "provider_id": "18", "status": "delivered", "error": None, "client_id": "a-1", "at": "2026-11-21T00:13:25.110Z", "changes": [],
}  # fmt: skip
_TEMPLATE: JsonDict = {
    "channel": "messenger:support", "name": "order_ready", "language": "ru", "category": "utility",
    "text": "Заказ {{body.1}} готов", "fields": ["body.1"],
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
    state: Literal["none", "expected", "stored", "failed"] = Field(
        "none", description="`expected`: it is being fetched; `none`: there is no file behind it"
    )
    problem: str | None = Field(None, description="why it is not here (yet), a code such as `too_large`")


class Change(Shown):
    """An edit or a deletion; the message itself never changes."""

    kind: Literal["edited", "deleted"]
    text: str
    at: datetime


class AnswerTrace(Shown):
    """What an answer of the AI was made from."""

    prompt: str = Field(description="the prompt's name")
    prompt_version: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    first_token_ms: int | None
    took_ms: int
    tools: list[str] = Field(description="the tools that were called for it, in order")
    removed: list[str] = Field(description="links and numbers that were cut from it")


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
    ai: AnswerTrace | None = Field(None, description="of the AI's answers: what they were made from")


class MessagesPage(Page[MessageItem]):
    """Messages, oldest first."""


class TemplateBody(Model):
    """An approved template of the channel, filled in."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"name": "order_ready", "language": "ru", "values": {"body.1": "15"}}]},
    )  # fmt: skip

    name: str = Field(min_length=1, max_length=512)
    language: str = Field(min_length=1, max_length=20)
    values: dict[str, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict, max_length=100, description="by the names in `fields`"
    )

    def use(self) -> TemplateUse:
        """As the channel takes it."""
        return TemplateUse(name=self.name, language=self.language, values=self.values)


class TemplateItem(Shown):
    """An approved template."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_TEMPLATE]})

    channel: str = Field(description="an integration's key")
    name: str
    language: str
    category: str
    text: str = Field(description="as the client will read it, with the fields as `{{body.1}}`")
    fields: list[str] = Field(description="what has to be filled in")


class TemplatesAnswer(Shown):
    """The templates of all channels, or of one."""

    items: list[TemplateItem]


class TemplatesQuery(Model):
    """Whose templates."""

    channel: str | None = Field(None, max_length=64, description="an integration's key")


class NewMessageBody(Model):
    """A message to the client. Text or attachments, or both; or a template."""

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
    template: TemplateBody | None = Field(
        None, description="instead of text and attachments; outside a messenger's hours nothing else is taken"
    )


class FirstMessageBody(Model):
    """A message to somebody who need not have written."""

    model_config = ConfigDict(
        extra="forbid", frozen=True,
        json_schema_extra={"examples": [{"channel": "messenger:support", "to": "+375296254070", "text": "Your order is ready"}]},
    )  # fmt: skip

    channel: str = Field(min_length=1, max_length=64)
    to: str = Field(min_length=1, max_length=200, description="an address in that channel, or a contact's id")
    text: str = Field("", max_length=LONGEST_TEXT)
    client_id: str | None = Field(None, min_length=1, max_length=128)
    template: TemplateBody | None = Field(
        None, description="instead of text, for messengers that take nothing else first"
    )


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
